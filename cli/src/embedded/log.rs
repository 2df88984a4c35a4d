//! The file that PostgreSQL's standard error goes to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::EmbeddedError;

/// Past this size the log is moved aside at the next start.
const BYTES_MAX: u64 = 8 << 20;

/// How much of the end of the log an error shows.
const TAIL_BYTES_MAX: u64 = 4 << 10;

pub(super) struct Log(PathBuf);

impl Log {
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Opens it to write at its end. It stays tally's own: PostgreSQL inherits the open file.
    pub fn open(&self) -> Result<File, EmbeddedError> {
        if self.length() > BYTES_MAX {
            let old = self.0.with_extension("log.old");
            fs::rename(&self.0, old).map_err(EmbeddedError::file("rename", &self.0))?;
        }
        let open = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.0);
        open.map_err(EmbeddedError::file("open", &self.0))
    }

    /// How long it is now, for [`Log::since`].
    pub fn length(&self) -> u64 {
        fs::metadata(&self.0).map_or(0, |metadata| metadata.len())
    }

    /// What was written since it was `start` bytes long; only the end of it, if that is a lot.
    pub fn since(&self, start: u64) -> String {
        match self.read(start) {
            Ok(tail) => String::from_utf8_lossy(&tail).trim().to_owned(),
            Err(error) => format!("(it could not be read: {error})"),
        }
    }

    fn read(&self, start: u64) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.0)?;
        let length = file.metadata()?.len();
        let start = if start > length { 0 } else { start }; // it was moved aside in between
        file.seek(SeekFrom::Start(start.max(length.saturating_sub(TAIL_BYTES_MAX))))?;
        let mut tail = Vec::new();
        file.take(TAIL_BYTES_MAX).read_to_end(&mut tail)?;
        Ok(tail)
    }
}
