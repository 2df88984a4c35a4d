//! The data directory: what lies where, whose it is, and who may use it now.
//!
//! ```text
//! <data_dir>/              0700, or 0710 with the group of PostgreSQL's account when tally is root
//!   lock                   held for as long as the postmaster lives; says by whom
//!   keys/                  tally's own secrets, none of this module's business
//!   postgres/              the cluster, owned by the account that runs it
//!   postgres.log           what PostgreSQL says, opened by tally
//!   socket/                0700, the only way in
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::account::{Account, effective_uid, user_name};
use super::error::EmbeddedError;
use super::log::Log;

/// The port names the socket's file; nothing listens on TCP.
pub(super) const PORT: u16 = 5432;

/// The longest path that fits into `sockaddr_un`, without its final zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// What a process holds the data directory for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// As long as the server runs.
    Serve,
    /// For a command that ends by itself, and is worth waiting for.
    Command,
}

/// The data directory, made and found to be ours, by its canonical path.
#[derive(Debug, Clone)]
pub(super) struct DataDir(PathBuf);

impl DataDir {
    pub fn create(path: &Path) -> Result<Self, EmbeddedError> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(EmbeddedError::file("create", parent))?;
        }
        create_private(path)?;
        let path = path.canonicalize().map_err(EmbeddedError::file("find", path))?;
        check_owner(&path, effective_uid())?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn cluster(&self) -> PathBuf {
        self.0.join("postgres")
    }

    pub fn log(&self) -> Log {
        Log::new(self.0.join("postgres.log"))
    }

    /// Where the socket is: in the data directory, or under /tmp where that makes the path too long for a socket (or
    /// unspeakable for sqlx, which wants UTF-8). The name there depends on the data directory alone, so that every
    /// tally finds the same.
    pub fn socket_dir(&self) -> PathBuf {
        let inside = self.0.join("socket");
        let file = inside.join(format!(".s.PGSQL.{PORT}"));
        if file.to_str().is_some_and(|file| file.len() <= SOCKET_PATH_BYTES_MAX) {
            return inside;
        }
        PathBuf::from(format!("/tmp/tally-{:016x}", fnv1a(self.0.as_os_str().as_encoded_bytes())))
    }

    /// Takes the data directory for this process, or says who has it.
    pub fn try_lock(&self, purpose: Purpose) -> Result<Result<Arc<Lock>, Holder>, EmbeddedError> {
        let path = self.0.join("lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(EmbeddedError::file("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Err(Holder::read(&mut file))),
            Err(TryLockError::Error(error)) => return Err(EmbeddedError::file("lock", path)(error)),
        }
        let word = match purpose {
            Purpose::Serve => "serve",
            Purpose::Command => "command",
        };
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{} {word}", std::process::id()))
            .map_err(EmbeddedError::file("write", path))?;
        Ok(Ok(Arc::new(Lock { _file: file })))
    }

    /// Gives the directory the modes that let `account` run PostgreSQL in it, and nobody else look into it.
    pub fn open_to(&self, account: &Account) -> Result<(), EmbeddedError> {
        account.check_reach(&self.0)?;
        let mode = if account.drops_root { 0o710 } else { 0o700 };
        let metadata = fs::metadata(&self.0).map_err(EmbeddedError::file("inspect", &self.0))?;
        // Closing a directory must take nothing from others; it keeps TALLY_DATA_DIR=/tmp from closing /tmp.
        let (is_open, is_sticky) = (metadata.mode() & 0o077 & !mode != 0, metadata.mode() & 0o1000 != 0);
        if is_sticky || (is_open && !self.is_tallys()?) {
            return Err(EmbeddedError::Shared { path: self.0.clone() });
        }
        if account.drops_root {
            std::os::unix::fs::chown(&self.0, None, Some(account.gid))
                .map_err(EmbeddedError::file("change the group of", &self.0))?;
        }
        set_mode(&self.0, mode)?;

        let socket_dir = self.socket_dir();
        create_private(&socket_dir)?;
        // One under /tmp may be another user's trap; what is in our own directory cannot.
        if !socket_dir.starts_with(&self.0) && check_owner(&socket_dir, effective_uid()).is_err() {
            check_owner(&socket_dir, account.uid)?;
        }
        account.give(&socket_dir)?;
        set_mode(&socket_dir, 0o700)
    }

    /// Takes away what must not outlive PostgreSQL: a socket directory elsewhere than in the data directory.
    pub fn remove_socket_dir(&self) {
        let socket_dir = self.socket_dir();
        if !socket_dir.starts_with(&self.0)
            && let Err(error) = fs::remove_dir(&socket_dir)
        {
            tracing::warn!(%error, path = %socket_dir.display(), "could not remove the socket directory");
        }
    }

    /// Whether it holds what tally makes, or nothing but the lock file just made.
    fn is_tallys(&self) -> Result<bool, EmbeddedError> {
        let mut entries = fs::read_dir(&self.0).map_err(EmbeddedError::file("list", &self.0))?;
        let tallys = ["keys", "postgres"].into_iter().any(|name| self.0.join(name).exists());
        Ok(tallys || entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "lock")))
    }
}

/// The data directory held for this process. It is free again when the last clone of the `Arc` is gone, and in any
/// case when the process is.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Who has the data directory, as far as its lock file says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holder {
    pub pid: Option<u32>,
    pub purpose: Option<Purpose>,
}

impl Holder {
    fn read(file: &mut File) -> Self {
        let mut text = String::new();
        // Empty for the moment between locking and writing: then nobody is named.
        let _ = file.take(64).read_to_string(&mut text);
        let mut words = text.split_whitespace();
        Self {
            pid: words.next().and_then(|pid| pid.parse().ok()),
            purpose: match words.next() {
                Some("serve") => Some(Purpose::Serve),
                Some("command") => Some(Purpose::Command),
                _ => None,
            },
        }
    }
}

/// Makes a directory of mode 0700, unless it is there.
pub(super) fn create_private(path: &Path) -> Result<(), EmbeddedError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(EmbeddedError::file("create", path)(error))
        }
        _ => Ok(()),
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), EmbeddedError> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(EmbeddedError::file("change the mode of", path))
}

fn check_owner(path: &Path, uid: u32) -> Result<(), EmbeddedError> {
    let metadata = fs::symlink_metadata(path).map_err(EmbeddedError::file("inspect", path))?;
    if !metadata.is_dir() {
        return Err(EmbeddedError::file("use", path)(ErrorKind::NotADirectory.into()));
    }
    if metadata.uid() == uid {
        return Ok(());
    }
    let (owner, expected) = (user_name(metadata.uid()), user_name(uid));
    Err(EmbeddedError::Owner { path: path.to_owned(), owner, expected })
}

/// FNV-1a, because a name must be the same in every build; std's hasher promises no such thing.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
