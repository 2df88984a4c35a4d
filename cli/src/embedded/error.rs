//! What can keep the embedded PostgreSQL from running, told to the operator: what was wrong, and what would be right.

use std::io;
use std::path::PathBuf;

/// Why the embedded PostgreSQL could not be started, used or stopped.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error("could not {action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },

    #[error(
        "the data directory {} is in use by {}; stop that one first, or give this one another directory in \
         TALLY_DATA_DIR",
        directory.display(),
        holder.map_or_else(|| "another tally".to_owned(), |pid| format!("the tally of pid {pid}"))
    )]
    InUse { directory: PathBuf, holder: Option<u32> },

    #[error(
        "{} belongs to {owner}, but must belong to {expected}; run tally as {owner}, or name another directory in \
         TALLY_DATA_DIR",
        path.display()
    )]
    Owner { path: PathBuf, owner: String, expected: String },

    #[error(
        "the database cluster {} belongs to {owner}, but PostgreSQL would run as {account}; run tally as its owner, or \
         give it away with `chown --recursive {uid}:{gid} {}`",
        path.display(), path.display()
    )]
    ClusterOwner { path: PathBuf, owner: String, account: String, uid: u32, gid: u32 },

    #[error(
        "{} is open to other users and holds files that are not Tallystick's, so it is left as it is; name a \
         directory of its own in TALLY_DATA_DIR, or close this one with `chmod 0700`",
        path.display()
    )]
    Shared { path: PathBuf },

    #[error(
        "PostgreSQL refuses to run as root and runs as {account} instead, who may not pass through {} on the way to \
         {}; name a directory that every user can reach, as in TALLY_DATA_DIR=/var/lib/tallystick",
        directory.display(),
        data_dir.display()
    )]
    Unreachable { directory: PathBuf, data_dir: PathBuf, account: String },

    #[error(
        "PostgreSQL refuses to run as root, and /etc/passwd knows neither `postgres` nor `nobody` to run it as; run \
         tally as an ordinary user, or name a running server in DATABASE_URL"
    )]
    NoAccount,

    #[error(
        "no PostgreSQL 15 or newer was found{passed_over}; install it with\n\n    {install}\n\nor name the directory \
         of its `initdb` and `postgres` in TALLY_POSTGRES_BIN, or a running server in DATABASE_URL"
    )]
    NoBinaries { passed_over: String, install: String },

    #[error(
        "TALLY_POSTGRES_BIN={} is of no use: {reason}; it must name a directory that holds `initdb` and `postgres` \
         of PostgreSQL 15 or newer, as /usr/lib/postgresql/15/bin does",
        directory.display()
    )]
    GivenBinaries { directory: PathBuf, reason: String },

    #[error(
        "the data in {} was written by PostgreSQL {cluster}, but the binaries here are of {found}; install those of \
         {cluster} with `{install}` or name them in TALLY_POSTGRES_BIN, and to change to another version dump the \
         data with the old one and restore it with the new one",
        path.display()
    )]
    Version { path: PathBuf, cluster: u32, found: String, install: String },

    #[error(
        "{} exists but holds no PostgreSQL data (its PG_VERSION is missing or no number); move it away to begin \
         anew, or restore it from a backup",
        path.display()
    )]
    NotACluster { path: PathBuf },

    #[error("{} could not be run as {account}", program.display())]
    Run { program: PathBuf, account: String, source: io::Error },

    #[error("initdb could not make a database cluster in {} ({status}): {output}", path.display())]
    Initdb { path: PathBuf, status: String, output: String },

    #[error("PostgreSQL ended before it was ready ({status}); its log {} says:\n{tail}", log.display())]
    Ended { status: String, log: PathBuf, tail: String },

    #[error(
        "PostgreSQL (pid {pid}) did not answer on its socket within {seconds} s, its last word being: {refusal}; its \
         log is {}",
        log.display()
    )]
    NotReady { pid: i32, seconds: u64, refusal: String, log: PathBuf },

    #[error("the database `tally` could not be made in the embedded PostgreSQL")]
    CreateDatabase { source: sqlx::Error },

    #[error("PostgreSQL (pid {pid}) is still running {seconds} s after it was told to stop")]
    Stuck { pid: i32, seconds: u64 },

    #[error("the task that looks after the embedded PostgreSQL ended before it was told to")]
    Supervisor { source: tokio::task::JoinError },
}

impl EmbeddedError {
    /// For `map_err`: `action` is a verb that reads well before a path, such as "create".
    pub(super) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> EmbeddedError {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
