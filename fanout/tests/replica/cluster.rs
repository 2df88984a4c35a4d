//! A private Postgres: made for one test, gone with it.

#![expect(clippy::disallowed_methods, reason = "a test finds the machine's PostgreSQL as an operator does")]

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use sqlx::{Connection, postgres::PgConnectOptions};
use tempfile::TempDir;

pub struct Cluster {
    directory: TempDir,
    postmaster: Child,
}

impl Cluster {
    pub async fn start() -> Self {
        let binaries = binaries();
        let directory = TempDir::with_prefix("tally-fanout-").unwrap();
        let owner = geteuid().is_root().then(|| postgres_user().expect("root needs a user postgres"));
        if let Some((user, group)) = owner {
            chown(directory.path(), Some(user), Some(group)).unwrap();
        }
        let data = directory.path().join("data");
        let run = |binary: &str| {
            let mut command = Command::new(binaries.join(binary));
            command.current_dir(directory.path()).stdin(Stdio::null()).stdout(Stdio::null());
            if let Some((user, group)) = owner {
                command.uid(user).gid(group);
            }
            command
        };
        let made = run("initdb")
            .args(["--auth=trust", "--username=tally", "--encoding=UTF8", "--no-locale", "--no-sync", "-D"])
            .arg(&data)
            .status()
            .unwrap();
        assert!(made.success(), "initdb");
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let postmaster = run("postgres")
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(directory.path())
            // What survives a crash of the machine is not what these tests are about.
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=16MB"])
            .stderr(log)
            .spawn()
            .unwrap();
        let cluster = Self { directory, postmaster };
        let options = cluster.options();
        super::eventually("PostgreSQL starts", Duration::from_secs(30), async || {
            match sqlx::PgConnection::connect_with(&options).await {
                Ok(connection) => connection.close().await.is_ok(),
                Err(_) => false,
            }
        })
        .await;
        cluster
    }

    pub fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(self.directory.path())
            .username("tally")
            .database("postgres")
    }

    /// The same as a URL, as a stranger is told it.
    pub fn url(&self) -> String {
        let socket = self.directory.path().display().to_string().replace('/', "%2F");
        format!("postgres://tally@{socket}/postgres")
    }

    /// Stops every process of it where it stands, as a machine that hangs would.
    pub fn freeze(&self) {
        self.signal_all(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal_all(Signal::CONT);
    }

    fn signal_all(&self, signal: Signal) {
        let postmaster = self.postmaster.id();
        // The postmaster first, so that it makes no child that is missed.
        for process in std::iter::once(postmaster).chain(children(postmaster)) {
            if let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) {
                // A child may have ended since it was listed.
                let _ = kill_process(pid, signal);
            }
        }
    }
}

impl Drop for Cluster {
    /// Also when a test has failed: nothing is left running, and nothing on the disk.
    fn drop(&mut self) {
        self.thaw();
        if let Some(pid) = i32::try_from(self.postmaster.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::QUIT);
        }
        drop(self.postmaster.wait());
    }
}

/// The processes whose parent is `parent`.
fn children(parent: u32) -> Vec<u32> {
    let parent_of = |process: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name is in parentheses and may hold anything; state and parent follow it.
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|process| parent_of(*process) == Some(parent))
        .collect()
}

fn postgres_user() -> Option<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Where initdb and postgres are: on the path, or where Debian puts them.
fn binaries() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = debian.map(|entry| entry.path().join("bin"));
    let has_both = |directory: &Path| ["initdb", "postgres"].iter().all(|name| directory.join(name).exists());
    std::env::split_paths(&path)
        .chain(debian)
        .find(|directory| has_both(directory))
        .expect("PostgreSQL's initdb and postgres, on the PATH or under /usr/lib/postgresql")
}
