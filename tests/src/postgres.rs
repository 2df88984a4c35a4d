//! A PostgreSQL cluster of the test's own: unix socket only, in a scratch directory.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};

use crate::{
    FakeClock, eventually,
    scratch::{Guarded, Scratch},
};

pub struct TempPostgres {
    scratch: Scratch,
    process: Guarded,
    binaries: PathBuf,
    settings: Vec<String>,
    environment: Vec<(String, String)>,
    databases: AtomicU32,
}

impl TempPostgres {
    /// Makes a cluster and starts it. It flushes to disk like a production one.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start.
    pub async fn start() -> Self {
        Self::start_in(Scratch::new(), &[]).await
    }

    /// The same in a directory that is there, on its volume if it has one, and with `settings` for
    /// the server's command line, such as `max_connections=20`.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start.
    pub async fn start_in(scratch: Scratch, settings: &[&str]) -> Self {
        Self::make(scratch, settings, Vec::new()).await
    }

    /// One that goes by this clock.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start.
    pub async fn start_by(clock: &FakeClock) -> Self {
        let environment = clock.settings().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self::make(Scratch::new(), &[], environment).await
    }

    async fn make(scratch: Scratch, settings: &[&str], environment: Vec<(String, String)>) -> Self {
        let binaries = binaries();
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let home = home(&scratch);
        std::fs::create_dir(&home).expect("our own directory");
        if is_root() {
            let given = Command::new("chown").arg("postgres").arg(&home).status().expect("chown");
            assert!(given.success(), "PostgreSQL's user owns its directory");
        }
        let made = unprivileged(&binaries.join("initdb"))
            .args(["--username=tally", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "-D"])
            .arg(home.join("data"))
            .stdout(Stdio::null())
            .status()
            .expect("initdb runs");
        assert!(made.success(), "initdb makes a cluster");
        let process = start(&scratch, &binaries, &settings, &environment);
        let databases = AtomicU32::new(0);
        let postgres = Self { scratch, process, binaries, settings, environment, databases };
        postgres.answers().await;
        postgres
    }

    /// A new, empty database.
    ///
    /// # Panics
    /// When the cluster does not answer.
    pub async fn database(&self) -> PgConnectOptions {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut connection =
            PgConnection::connect_with(&self.options("postgres")).await.expect("the cluster answers");
        sqlx::query(AssertSqlSafe(format!("create database {name}")))
            .execute(&mut connection)
            .await
            .expect("a new name");
        connection.close().await.expect("the cluster answers");
        self.options(&name)
    }

    /// The postmaster, for those who stop, continue or kill it.
    #[must_use]
    pub fn process(&mut self) -> &mut Guarded {
        &mut self.process
    }

    /// Stops the postmaster and all it started where they stand, until the answer is dropped: a
    /// database that hangs.
    ///
    /// # Panics
    /// When the postmaster does not run.
    #[must_use]
    pub fn freeze(&self) -> Frozen {
        let postmaster = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).expect("a process id");
        // First the parent, so that no child comes to be that is not in its list.
        kill_process(postmaster, Signal::STOP).expect("the postmaster runs");
        wait_until_stopped(&[postmaster]);
        let children = children(postmaster);
        for child in &children {
            // One that ended meanwhile waits for its parent, so its id is nobody else's.
            let _ = kill_process(*child, Signal::STOP);
        }
        wait_until_stopped(&children);
        Frozen(children.into_iter().chain([postmaster]).collect())
    }

    /// Kills the postmaster, and waits until all it had started have noticed and are gone.
    ///
    /// # Panics
    /// When it does not run, or they do not go.
    pub async fn crash(&mut self) {
        let postmaster = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).expect("a process id");
        let children = children(postmaster);
        self.process.signal(Signal::KILL);
        self.process.wait();
        eventually("the backends to notice", async || {
            let gone = |child: &Pid| !Path::new(&format!("/proc/{}", child.as_raw_nonzero())).exists();
            children.iter().all(gone).then_some(())
        })
        .await;
    }

    /// The file of the socket it listens on.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        home(&self.scratch).join(".s.PGSQL.5432")
    }

    /// The directory that goes with the cluster.
    #[must_use]
    pub const fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Starts the postmaster again after it ended.
    pub async fn restart(&mut self) {
        self.process = start(&self.scratch, &self.binaries, &self.settings, &self.environment);
        self.answers().await;
    }

    /// A URL for a database of this cluster, as `DATABASE_URL` takes it.
    #[must_use]
    pub fn url(&self, options: &PgConnectOptions) -> String {
        let socket = home(&self.scratch).display().to_string().replace('/', "%2F");
        format!("postgres://tally@{socket}/{}", options.get_database().unwrap_or("postgres"))
    }

    /// A database of this cluster by its name, such as `postgres`, which every cluster has.
    #[must_use]
    pub fn options(&self, database: &str) -> PgConnectOptions {
        let socket = home(&self.scratch);
        PgConnectOptions::new_without_pgpass().socket(socket).username("tally").database(database)
    }

    async fn answers(&self) {
        let options = self.options("postgres");
        eventually("PostgreSQL to answer", async || {
            let connection = PgConnection::connect_with(&options).await.ok()?;
            connection.close().await.ok()
        })
        .await;
    }
}

/// A cluster that hangs for as long as this lives.
pub struct Frozen(Vec<Pid>);

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in &self.0 {
            let _ = kill_process(*process, Signal::CONT);
        }
    }
}

/// Where the cluster is, and the socket.
fn home(scratch: &Scratch) -> PathBuf {
    scratch.volume().map_or_else(|| scratch.path().join("cluster"), |volume| volume.join("cluster"))
}

/// The processes that a postmaster has started and that are still there.
fn children(postmaster: Pid) -> Vec<Pid> {
    let path = format!("/proc/{0}/task/{0}/children", postmaster.as_raw_nonzero());
    let children = std::fs::read_to_string(path).expect("Linux lists children");
    children.split_whitespace().filter_map(|id| id.parse().ok()).filter_map(Pid::from_raw).collect()
}

/// A signal returns before whom it stops has stopped. Some may have ended instead.
fn wait_until_stopped(processes: &[Pid]) {
    let began = Instant::now();
    while !processes.iter().copied().all(is_stopped) {
        assert!(began.elapsed() < Duration::from_secs(10), "SIGSTOP stops {processes:?}");
        std::thread::yield_now();
    }
}

fn is_stopped(process: Pid) -> bool {
    match std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())) {
        // proc_pid_stat(5): the state is what follows the name, which stands in brackets.
        Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 'Z'])),
        Err(_) => test_kill_process(process).is_err(),
    }
}

fn start(
    scratch: &Scratch,
    binaries: &Path,
    settings: &[String],
    environment: &[(String, String)],
) -> Guarded {
    let home = home(scratch);
    let log = std::fs::OpenOptions::new().create(true).append(true).open(scratch.path().join("postgres.log"));
    // Not before the user has changed: what libfaketime leaves in shared memory would be root's. Like
    // `setpriv`, `env` replaces itself.
    let mut command = unprivileged(Path::new("env"));
    command
        .args(environment.iter().map(|(name, value)| format!("{name}={value}")))
        .arg(binaries.join("postgres"))
        .arg("-D")
        .arg(home.join("data"))
        .arg("-k")
        .arg(&home)
        .args(["-c", "listen_addresses=", "-c", "max_connections=200", "-c", "shared_buffers=64MB"])
        // The last word on a setting counts.
        .args(settings.iter().flat_map(|setting| ["-c", setting]))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.expect("a log file"));
    scratch.spawn(&mut command).expect("postgres runs")
}

/// A command as a user that PostgreSQL accepts: `setpriv` replaces itself, so the process id is
/// PostgreSQL's own.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program).current_dir("/");
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The newest PostgreSQL of the machine.
fn binaries() -> PathBuf {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, path)| path.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().expect("PostgreSQL is installed: sudo apt-get install --yes postgresql").1
}
