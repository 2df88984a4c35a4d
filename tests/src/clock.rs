//! A clock that jumps, for a process that asks the C library for the time.
//!
//! libfaketime stands before it, and shifts the time of day that it tells by what a file says. Rust's
//! standard library asks it, chrono by that, and PostgreSQL. The clocks that only run forward are left
//! alone: the standard library would reckon with a shifted one and wait by the kernel's, and the one that
//! measures leases cannot be shifted, because `rustix` asks the kernel itself.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use crate::Scratch;

/// Where `scripts/install libfaketime` unpacks it: below, a directory with the name of the machine's kind.
const UNPACKED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/libfaketime/usr/lib");

pub struct FakeClock {
    scratch: Scratch,
    settings: Vec<(String, String)>,
}

impl FakeClock {
    /// A clock that is right.
    ///
    /// # Panics
    /// When there is no libfaketime: `scripts/install libfaketime` gets it.
    #[must_use]
    pub fn new() -> Self {
        let scratch = Scratch::new();
        // PostgreSQL's user may not pass through the checkout.
        let (library, file) = (scratch.path().join("libfaketime.so"), scratch.path().join("shift"));
        fs::copy(unpacked(), &library).expect("libfaketime is unpacked");
        let path = |path: PathBuf| path.to_str().expect("a temporary path is UTF-8").to_owned();
        let settings = vec![
            ("LD_PRELOAD".to_owned(), path(library)),
            ("FAKETIME_TIMESTAMP_FILE".to_owned(), path(file)),
            // Each question reads the file anew.
            ("FAKETIME_NO_CACHE".to_owned(), "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
        ];
        let clock = Self { scratch, settings };
        clock.shift(0);
        clock
    }

    /// The environment of a process that goes by this clock.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// It jumps so far ahead of the time, or behind it.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn shift(&self, seconds: i64) {
        let (new, file) = (self.scratch.path().join("new"), self.scratch.path().join("shift"));
        fs::write(&new, format!("{seconds:+}")).expect("our own directory");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).expect("our own file");
        fs::rename(new, file).expect("our own directory");
    }
}

impl Default for FakeClock {
    fn default() -> Self {
        Self::new()
    }
}

fn unpacked() -> PathBuf {
    let kinds = fs::read_dir(UNPACKED).into_iter().flatten().flatten();
    let found = kinds.map(|kind| kind.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    found.expect("libfaketime is there: scripts/install libfaketime")
}
