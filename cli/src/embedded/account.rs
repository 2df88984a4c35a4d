//! Who runs PostgreSQL. It refuses to be root, so a tally that is root runs it as somebody else.
//!
//! Root keeps the data directory itself and lets that somebody pass through it (mode 0710, his group): he reaches the
//! cluster and the socket, which are his, and neither lists the directory nor opens the `keys/` next to them.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::error::EmbeddedError;

/// The operating system's user that owns the cluster and runs its processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub uid: u32,
    pub gid: u32,
    /// As messages call it: the user's name where /etc/passwd knows one.
    pub name: String,
    /// Whether tally is root and this account is not.
    pub drops_root: bool,
}

impl Account {
    /// An ordinary user runs PostgreSQL himself. For root it is the owner of the cluster that is there already, else
    /// `postgres` (the packages of most distributions make it), else `nobody`.
    pub fn choose(cluster: &Path) -> Result<Self, EmbeddedError> {
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let owner = match fs::symlink_metadata(cluster) {
            Ok(metadata) => Some((metadata.uid(), metadata.gid())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(EmbeddedError::file("inspect", cluster)(error)),
        };
        let (uid, gid) = (effective_uid(), rustix::process::getegid().as_raw());
        let account = if uid == 0 {
            match owner {
                Some((uid, gid)) if uid != 0 => Self::new(&users, uid, gid, true),
                _ => Self::for_root(&users).ok_or(EmbeddedError::NoAccount)?,
            }
        } else {
            Self::new(&users, uid, gid, false)
        };
        match owner {
            Some((owner, _)) if owner != account.uid => Err(EmbeddedError::ClusterOwner {
                path: cluster.to_owned(),
                owner: name_of(&users, owner),
                account: account.name,
                uid: account.uid,
                gid: account.gid,
            }),
            _ => Ok(account),
        }
    }

    fn new(users: &str, uid: u32, gid: u32, drops_root: bool) -> Self {
        Self { uid, gid, name: name_of(users, uid), drops_root }
    }

    fn for_root(users: &str) -> Option<Self> {
        ["postgres", "nobody"].into_iter().find_map(|name| {
            let (_, uid, gid) = entries(users).find(|entry| entry.0 == name && entry.1 != 0)?;
            Some(Self { uid, gid, name: name.to_owned(), drops_root: true })
        })
    }

    /// A command that runs as this account, apart from the terminal and from tally's environment.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            // tally's environment may hold secrets, and PGDATA, PGPORT and their like would lead PostgreSQL astray.
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/bin:/bin")
            // Where tally was started may be out of the account's reach, which PostgreSQL complains of.
            .current_dir("/")
            // Ctrl-C goes to the terminal's process group: tally drains first, and stops PostgreSQL after.
            .process_group(0)
            .stdin(Stdio::null());
        if self.drops_root {
            command.uid(self.uid).gid(self.gid); // which also leaves root's supplementary groups behind
        }
        command
    }

    /// Makes the account the owner of `path`.
    pub fn give(&self, path: &Path) -> Result<(), EmbeddedError> {
        if self.drops_root {
            chown(path, Some(self.uid), Some(self.gid))
                .map_err(EmbeddedError::file("change the owner of", path))?;
        }
        Ok(())
    }

    /// Refuses a data directory that the account cannot reach, naming the directory in the way.
    pub fn check_reach(&self, data_dir: &Path) -> Result<(), EmbeddedError> {
        if !self.drops_root {
            return Ok(());
        }
        for directory in data_dir.ancestors().skip(1) {
            let metadata = fs::metadata(directory).map_err(EmbeddedError::file("inspect", directory))?;
            if !self.may_pass(&metadata) {
                return Err(EmbeddedError::Unreachable {
                    directory: directory.to_owned(),
                    data_dir: data_dir.to_owned(),
                    account: self.name.clone(),
                });
            }
        }
        Ok(())
    }

    /// The x bit that applies: the owner's, else the group's, else the others'. Access lists are not looked at.
    fn may_pass(&self, directory: &Metadata) -> bool {
        let bit = match (directory.uid() == self.uid, directory.gid() == self.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        directory.mode() & bit != 0
    }
}

pub(super) fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A user's name for a message, which is its number where /etc/passwd has no name for it.
pub(super) fn user_name(uid: u32) -> String {
    name_of(&fs::read_to_string("/etc/passwd").unwrap_or_default(), uid)
}

fn name_of(users: &str, uid: u32) -> String {
    entries(users)
        .find(|entry| entry.1 == uid)
        .map_or_else(|| format!("uid {uid}"), |entry| entry.0.to_owned())
}

/// The lines of passwd(5) as (name, uid, gid), passing over those that are not of its form.
fn entries(users: &str) -> impl Iterator<Item = (&str, u32, u32)> {
    users.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        Some((name, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0::/root:/bin/sh\n# not an entry\nnobody:x:65534:65533::/:/bin/false\n";

    #[test]
    fn root_runs_it_as_postgres_before_nobody() {
        let with_postgres = format!("{USERS}postgres:x:101:104::/:/bin/sh\n");
        let chosen = |users| Account::for_root(users).map(|account| (account.name, account.uid, account.gid));
        assert_eq!(chosen(&with_postgres), Some(("postgres".to_owned(), 101, 104)));
        assert_eq!(chosen(USERS), Some(("nobody".to_owned(), 65534, 65533)));
        assert_eq!(chosen("root:x:0:0::/root:/bin/sh\npostgres:x:0:0::/:/bin/sh\n"), None);
    }

    #[test]
    fn a_user_without_a_name_is_called_by_its_number() {
        assert_eq!(name_of(USERS, 65534), "nobody");
        assert_eq!(name_of(USERS, 4242), "uid 4242");
    }
}
