//! Programs that are not ours: the machine's own, or what `scripts/install` unpacked.

use std::path::{Path, PathBuf};

/// Where a program is.
#[expect(clippy::disallowed_methods, reason = "a test finds the machine's programs as an operator does")]
pub(crate) fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(name);
    let directories = std::env::split_paths(&path).chain([
        PathBuf::from("/usr/sbin"),
        unpacked.join("usr/sbin"),
        unpacked.join("usr/bin"),
        unpacked.join("bin"),
    ]);
    let found = directories.map(|directory| directory.join(name)).find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: run `scripts/install {name}`"))
}
