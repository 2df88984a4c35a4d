//! The database cluster on disk: made once, whole or not at all.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use rustix::process::Signal;

use super::account::Account;
use super::binaries::Binaries;
use super::child::die_with_parent;
use super::error::EmbeddedError;
use super::home::{DataDir, create_private};

/// The major version that wrote the cluster, or nothing where there is none yet.
pub(super) fn major_version(cluster: &Path) -> Result<Option<u32>, EmbeddedError> {
    match fs::symlink_metadata(cluster) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(EmbeddedError::file("inspect", cluster)(error)),
        Ok(_) => {}
    }
    let file = cluster.join("PG_VERSION");
    let version = match fs::read_to_string(&file) {
        Ok(text) => text.trim().parse().ok(),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(EmbeddedError::file("read", file)(error)),
    };
    version.map(Some).ok_or_else(|| EmbeddedError::NotACluster { path: cluster.to_owned() })
}

/// Makes the cluster. `initdb` works in a directory of another name, renamed when all of it is on disk: one that was
/// killed half-way leaves nothing that could be taken for a cluster.
pub(super) fn create(home: &DataDir, account: &Account, binaries: &Binaries) -> Result<(), EmbeddedError> {
    let cluster = home.cluster();
    let unfinished = cluster.with_extension("unfinished");
    tracing::info!(path = %cluster.display(), postgres.version = binaries.major, "making a database cluster");
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(EmbeddedError::file("remove", unfinished)(error));
        }
        _ => create_private(&unfinished)?,
    }
    account.give(&unfinished)?;

    let mut command = account.command(&binaries.initdb());
    command
        .args(["--username=tally", "--encoding=UTF8", "--locale-provider=libc", "--locale=C.UTF-8"])
        .args(["--data-checksums", "--no-instructions"])
        // Who reaches the socket is tally: its directory is closed to everybody else. There is no TCP to come by.
        .args(["--auth-local=trust", "--auth-host=reject", "--pgdata"])
        .arg(&unfinished);
    die_with_parent(&mut command, Signal::KILL);
    let output = command.output().map_err(|source| EmbeddedError::Run {
        program: binaries.initdb(),
        account: account.name.clone(),
        source,
    })?;
    if !output.status.success() {
        let _ = fs::remove_dir_all(&unfinished); // the failure to tell is initdb's
        return Err(EmbeddedError::Initdb {
            path: unfinished,
            status: output.status.to_string(),
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    fs::rename(&unfinished, &cluster).map_err(EmbeddedError::file("rename", unfinished))?;
    File::open(home.path())
        .and_then(|directory| directory.sync_all())
        .map_err(EmbeddedError::file("sync", home.path()))
}
