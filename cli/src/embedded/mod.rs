//! A private PostgreSQL, for a tally that was given no `DATABASE_URL`.
//!
//! It runs from the machine's own binaries, in tally's data directory, and is reached through a socket that nobody
//! else may open. It never listens on TCP. One process owns it at a time, by a lock on the data directory; it stops
//! with that process however that ends, and starts again if it dies by itself. What is where: `home.rs`.
//!
//! Nothing here reads the environment, but for what sqlx takes from `PGAPPNAME` and `PGOPTIONS` by itself. Linux only:
//! pidfds, the parent-death signal and /proc are what makes it robust.

mod account;
mod binaries;
mod child;
mod cluster;
mod connection;
mod error;
mod home;
mod log;
mod postmaster;
mod supervisor;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use account::Account;
use binaries::Binaries;
pub use error::EmbeddedError;
use home::{DataDir, Holder, Lock, Purpose};

/// How long to wait for a command that holds the data directory, and for another tally's PostgreSQL to answer.
const OTHERS_MAX: Duration = Duration::from_mins(1);
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// All that is known before PostgreSQL runs.
struct Home {
    data_dir: DataDir,
    account: Account,
    binaries: Binaries,
    options: PgConnectOptions,
    lock: Arc<Lock>,
}

/// A running PostgreSQL of this process. Dropping it stops PostgreSQL too, without waiting for it.
#[must_use = "PostgreSQL stops when this is dropped"]
pub struct Embedded {
    options: PgConnectOptions,
    stop: oneshot::Sender<()>,
    supervisor: JoinHandle<Result<(), EmbeddedError>>,
}

impl Embedded {
    /// Starts PostgreSQL in `data_dir`, which is made if it is missing, and waits until its database `tally` answers.
    /// A PostgreSQL that already runs there without an owner is adopted; one that crashed recovers.
    ///
    /// `binaries` is the setting `TALLY_POSTGRES_BIN` and alone counts where it is given; `search_path` is the value
    /// of PATH.
    ///
    /// # Errors
    /// Whatever keeps it from running, told with its cure; among them a data directory in use by another tally.
    pub async fn start(
        data_dir: &Path,
        binaries: Option<&Path>,
        search_path: Option<&OsStr>,
    ) -> Result<Self, EmbeddedError> {
        let data_dir = DataDir::create(data_dir)?;
        let began = Instant::now();
        loop {
            match data_dir.try_lock(Purpose::Serve)? {
                Ok(lock) => return Self::run(data_dir, lock, binaries, search_path).await,
                // A command ends by itself, and is no reason for the server not to start.
                Err(holder) if holder.purpose != Some(Purpose::Serve) && began.elapsed() < OTHERS_MAX => {
                    tokio::time::sleep(BETWEEN_LOOKS).await;
                }
                Err(holder) => return Err(in_use(&data_dir, holder)),
            }
        }
    }

    /// For commands beside the server: uses the PostgreSQL of the tally that holds `data_dir`; if none does, starts
    /// one and owns it until [`Attached::stop`]. The arguments are those of [`Embedded::start`].
    ///
    /// # Errors
    /// Those of [`Embedded::start`], and a holder of the data directory whose PostgreSQL does not answer.
    pub async fn attach(
        data_dir: &Path,
        binaries: Option<&Path>,
        search_path: Option<&OsStr>,
    ) -> Result<Attached, EmbeddedError> {
        let data_dir = DataDir::create(data_dir)?;
        let options = connection::options(&data_dir.socket_dir());
        let began = Instant::now();
        loop {
            let holder = match data_dir.try_lock(Purpose::Command)? {
                Ok(lock) => {
                    let own = Self::run(data_dir, lock, binaries, search_path).await?;
                    return Ok(Attached { options, own: Some(own) });
                }
                Err(holder) => holder,
            };
            // Another command's PostgreSQL would stop under our feet, so that one is waited for.
            if holder.purpose == Some(Purpose::Serve) && connection::probe(&options).await.is_ok() {
                return Ok(Attached { options, own: None });
            }
            if began.elapsed() > OTHERS_MAX {
                return Err(in_use(&data_dir, holder));
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// How to connect to the database `tally`. The options hold no secret, and stay true when PostgreSQL restarts.
    pub fn connect_options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// Stops PostgreSQL in order and waits until it is gone: close the pools first, since it disconnects its clients.
    ///
    /// # Errors
    /// If it is still there when its time is up.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        let _ = self.stop.send(()); // a supervisor that is gone says so below
        match self.supervisor.await {
            Ok(stopped) => stopped,
            Err(source) => Err(EmbeddedError::Supervisor { source }),
        }
    }

    async fn run(
        data_dir: DataDir,
        lock: Arc<Lock>,
        binaries: Option<&Path>,
        search_path: Option<&OsStr>,
    ) -> Result<Self, EmbeddedError> {
        let (given, search_path) = (binaries.map(Path::to_owned), search_path.map(OsStr::to_owned));
        let prepare = move || Home::prepare(data_dir, lock, given.as_deref(), search_path.as_deref());
        let prepared = tokio::task::spawn_blocking(prepare).await;
        let home = prepared.map_err(|source| EmbeddedError::Supervisor { source })??;
        let mut slot = None;
        if let Err(error) = supervisor::bring_up(&home, &mut slot).await {
            supervisor::tidy_up(&home, &mut slot).await;
            return Err(error);
        }
        let options = home.options.clone();
        let (stop, stopped) = oneshot::channel();
        let supervisor = tokio::spawn(supervisor::supervise(home, slot, stopped));
        Ok(Self { options, stop, supervisor })
    }
}

/// A PostgreSQL in use by a command: its own, or that of a tally which runs beside it.
#[must_use = "PostgreSQL may stop when this is dropped"]
pub struct Attached {
    options: PgConnectOptions,
    own: Option<Embedded>,
}

impl Attached {
    /// As [`Embedded::connect_options`].
    pub fn connect_options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// Stops PostgreSQL if it was started for this command.
    ///
    /// # Errors
    /// As [`Embedded::stop`].
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        match self.own {
            Some(own) => own.stop().await,
            None => Ok(()),
        }
    }
}

impl Home {
    /// Everything up to the first start: who, with what, in which directories; and the cluster, if there is none yet.
    fn prepare(
        data_dir: DataDir,
        lock: Arc<Lock>,
        given: Option<&Path>,
        search_path: Option<&OsStr>,
    ) -> Result<Self, EmbeddedError> {
        let cluster = data_dir.cluster();
        let account = Account::choose(&cluster)?;
        data_dir.open_to(&account)?;
        let existing = cluster::major_version(&cluster)?;
        let cluster = existing.map(|major| (cluster.as_path(), major));
        let binaries = Binaries::find(given, search_path, &account, cluster)?;
        if existing.is_none() {
            cluster::create(&data_dir, &account, &binaries)?;
        }
        let options = connection::options(&data_dir.socket_dir());
        Ok(Self { data_dir, account, binaries, options, lock })
    }
}

// The options' own Debug would show what sqlx found in PGPASSWORD.
impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("socket", &self.options.get_socket()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = self.options.get_socket();
        f.debug_struct("Attached").field("socket", &socket).field("own", &self.own.is_some()).finish()
    }
}

fn in_use(data_dir: &DataDir, holder: Holder) -> EmbeddedError {
    EmbeddedError::InUse { directory: data_dir.path().to_owned(), holder: holder.pid }
}
