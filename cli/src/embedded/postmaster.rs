//! One postmaster, the first process of a running PostgreSQL: spawned, or found running; watched; stopped.

use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::{oneshot, watch};

use super::child::die_with_parent;
use super::error::EmbeddedError;
use super::home::{Lock, PORT};
use super::{BETWEEN_LOOKS, Home};

/// What is not left to `postgresql.conf`.
const SETTINGS: [&str; 16] = [
    // Only through the socket, and only for its owner (and root).
    "listen_addresses=",
    "unix_socket_permissions=0700",
    // A commit that was acknowledged is on disk.
    "fsync=on",
    "full_page_writes=on",
    "synchronous_commit=on",
    // Modest beside the server it serves.
    "max_connections=100",
    "shared_buffers=64MB",
    "timezone=UTC",
    // The log goes to standard error. It tells of trouble, and never the values that people store: no statements, no
    // parameters, and no "Key (email)=(...) already exists", which is a detail.
    "logging_collector=off",
    "log_timezone=UTC",
    "log_min_messages=warning",
    "log_min_error_statement=panic",
    "log_error_verbosity=terse",
    "log_parameter_max_length=0",
    "log_parameter_max_length_on_error=0",
    "log_checkpoints=off",
];

/// How long a fast shutdown may take, which writes everything in memory to disk.
const FAST_SHUTDOWN_MAX: Duration = Duration::from_secs(30);

/// How long an immediate shutdown may take: after 5 s PostgreSQL kills what is left of it.
const IMMEDIATE_SHUTDOWN_MAX: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Postmaster {
    pid: Pid,
    /// Refers to this very process even when its pid has become another's.
    process: OwnedFd,
    /// Closed when the process has ended, after its status if it was our child.
    ended: watch::Receiver<Option<ExitStatus>>,
    /// Whether it is ours to stop: spawned here, or adopted.
    ours: bool,
}

impl Postmaster {
    /// Starts PostgreSQL. It is not ready yet.
    pub async fn spawn(home: &Home) -> Result<Self, EmbeddedError> {
        forget_our_own_pid(home);
        let command = command(home)?;
        let (program, account) = (home.binaries.postgres(), home.account.name.clone());
        let lock = Arc::clone(&home.lock);
        let (started, starting) = oneshot::channel();
        // A thread of its own, for the kernel takes the thread for the parent: it lives until the child has ended.
        let thread = std::thread::Builder::new().name("postmaster".to_owned());
        let spawned = thread.spawn(move || look_after(command, started, lock));
        let started = match spawned {
            Ok(_) => starting.await.unwrap_or_else(|_| Err(std::io::Error::other("its thread ended"))),
            Err(error) => Err(error),
        };
        let (pid, process, ended) =
            started.map_err(|source| EmbeddedError::Run { program, account, source })?;
        tracing::debug!(postmaster.pid = pid.as_raw_nonzero().get(), "PostgreSQL was started");
        Ok(Self { pid, process, ended, ours: true })
    }

    /// The postmaster that runs in this data directory already, if any: a survivor of a tally that was killed, most
    /// often on its way down.
    ///
    /// `postmaster.pid` alone proves nothing, since its pid may be another process by now: this one must run as the
    /// cluster's account and name the cluster on its command line.
    pub fn survivor(home: &Home) -> Option<Self> {
        let cluster = home.data_dir.cluster();
        let file = fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
        let pid = Pid::from_raw(file.lines().next()?.trim().parse().ok()?)?;
        // First the handle, then the question who it is: the answer then is about the process in hand.
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let uid = home.account.uid;
        if !runs_cluster(pid, uid, &cluster) {
            return None;
        }
        let (end, ended) = watch::channel(None);
        let lock = Arc::clone(&home.lock);
        // It is not our child, so nobody tells us of its end.
        tokio::spawn(async move {
            while runs_cluster(pid, uid, &cluster) {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
            drop((lock, end));
        });
        Some(Self { pid, process, ended, ours: false })
    }

    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Makes a survivor ours to stop.
    pub fn adopt(&mut self) {
        if !self.ours {
            tracing::info!(postmaster.pid = self.pid(), "adopted the PostgreSQL that was running already");
        }
        self.ours = true;
    }

    pub fn is_survivor(&self) -> bool {
        !self.ours
    }

    /// Waits until the process has ended and says how.
    pub async fn ended(&mut self) -> String {
        while self.ended.changed().await.is_ok() {}
        self.ended.borrow().map_or_else(|| "status unknown".to_owned(), |status| status.to_string())
    }

    /// Stops PostgreSQL if it is ours: at once but in order, disconnecting its clients; and without order if that
    /// takes too long.
    pub async fn shut_down(&mut self) -> Result<(), EmbeddedError> {
        if !self.ours {
            return Ok(());
        }
        for (signal, max) in [(Signal::INT, FAST_SHUTDOWN_MAX), (Signal::QUIT, IMMEDIATE_SHUTDOWN_MAX)] {
            self.signal(signal);
            if let Ok(status) = tokio::time::timeout(max, self.ended()).await {
                tracing::debug!(postmaster.pid = self.pid(), %status, "PostgreSQL was stopped");
                return Ok(());
            }
            tracing::warn!(postmaster.pid = self.pid(), ?signal, "PostgreSQL is slow to stop");
        }
        let seconds = (FAST_SHUTDOWN_MAX + IMMEDIATE_SHUTDOWN_MAX).as_secs();
        Err(EmbeddedError::Stuck { pid: self.pid(), seconds })
    }

    fn signal(&self, signal: Signal) {
        // The one way to fail is that it has ended, which is what the signal is for.
        let _ = pidfd_send_signal(&self.process, signal);
    }
}

impl Drop for Postmaster {
    /// Nobody is left to wait for it, so it is only told. Its thread keeps the lock until it is gone.
    fn drop(&mut self) {
        if self.ours {
            self.signal(Signal::INT);
        }
    }
}

type Started = (Pid, OwnedFd, watch::Receiver<Option<ExitStatus>>);

/// Body of the postmaster's thread: spawns, reports, waits, and at last lets go of the lock.
fn look_after(mut command: Command, started: oneshot::Sender<std::io::Result<Started>>, lock: Arc<Lock>) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return drop(started.send(Err(error))),
    };
    let pid = Pid::from_child(&child);
    let (end, ended) = watch::channel(None);
    let reply = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => started.send(Ok((pid, process, ended))),
        Err(error) => {
            let _ = child.kill(); // nobody could stop it later; it has hardly begun
            started.send(Err(error.into()))
        }
    };
    if let Err(Ok((_, process, _))) = reply {
        // Whoever asked for it has gone away meanwhile.
        let _ = pidfd_send_signal(&process, Signal::INT);
    }
    let status = child.wait().ok();
    drop(lock);
    end.send_replace(status);
}

fn command(home: &Home) -> Result<Command, EmbeddedError> {
    let log = home.data_dir.log();
    let stderr = log.open()?;
    let stdout = stderr.try_clone().map_err(EmbeddedError::file("open", log.path()))?;
    let mut command = home.account.command(&home.binaries.postgres());
    command.arg("-D").arg(home.data_dir.cluster()).arg("-p").arg(PORT.to_string());
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    command.arg("-c").arg(socket_setting(&home.data_dir.socket_dir())).stdout(stdout).stderr(stderr);
    // SIGINT is PostgreSQL's fast shutdown: orderly, and without waiting for clients.
    die_with_parent(&mut command, Signal::INT);
    Ok(command)
}

/// The setting is a list, whose separators a path may contain: hence the quotes.
fn socket_setting(socket_dir: &Path) -> OsString {
    let quoted = socket_dir.to_string_lossy().replace('"', "\"\"");
    format!("unix_socket_directories=\"{quoted}\"").into()
}

/// Whether this pid is a live postmaster of the cluster; a dead one that nobody has reaped has no command line.
fn runs_cluster(pid: Pid, uid: u32, cluster: &Path) -> bool {
    let about = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
    let arguments = fs::read(about.join("cmdline")).unwrap_or_default();
    fs::metadata(&about).is_ok_and(|metadata| metadata.uid() == uid)
        && arguments.split(|byte| *byte == 0).any(|argument| argument == cluster.as_os_str().as_bytes())
}

/// Removes lock files of a PostgreSQL that died if their pid is one of our own threads by now, as it easily becomes
/// when a container starts again and counts from 1. PostgreSQL would take that thread for its rival and refuse.
fn forget_our_own_pid(home: &Home) {
    let socket_lock = home.data_dir.socket_dir().join(format!(".s.PGSQL.{PORT}.lock"));
    for path in [home.data_dir.cluster().join("postmaster.pid"), socket_lock] {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let pid: Option<u32> = text.lines().next().and_then(|pid| pid.trim().parse().ok());
        if pid.is_some_and(|pid| Path::new("/proc/self/task").join(pid.to_string()).exists()) {
            tracing::warn!(path = %path.display(), "removing the lock file of a PostgreSQL that is gone");
            let _ = fs::remove_file(&path); // if it stays, PostgreSQL will say so
        }
    }
}
