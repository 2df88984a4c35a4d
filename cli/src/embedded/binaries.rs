//! Which PostgreSQL of this machine to run.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::account::{Account, effective_uid};
use super::error::EmbeddedError;

/// The floor of everything Tallystick says in SQL.
const MAJOR_MIN: u32 = 15;

/// Where Debian and Ubuntu keep each major version apart, outside PATH.
const DEBIAN: &str = "/usr/lib/postgresql";

/// A directory that holds `initdb` and `postgres` of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    pub directory: PathBuf,
    pub major: u32,
}

impl Binaries {
    /// The first that fits, of: the directory `given` by the operator, which then is the only one that counts; the
    /// directories of `search_path` (the value of PATH); Debian's own, highest version first. An existing cluster
    /// needs its very `major` version, because no other can read it.
    pub fn find(
        given: Option<&Path>,
        search_path: Option<&OsStr>,
        account: &Account,
        cluster: Option<(&Path, u32)>,
    ) -> Result<Self, EmbeddedError> {
        if let Some(directory) = given {
            let binaries = Self::inspect(directory, account)
                .map_err(|reason| EmbeddedError::GivenBinaries { directory: directory.to_owned(), reason })?;
            return Self::choose([Ok(binaries)], cluster);
        }
        let candidates = places(search_path).into_iter().map(|place| {
            Self::inspect(&place, account).map_err(|reason| format!("{}: {reason}", place.display()))
        });
        Self::choose(candidates, cluster)
    }

    /// The first that fits, of binaries and of reasons why some are none.
    fn choose(
        candidates: impl IntoIterator<Item = Result<Self, String>>,
        cluster: Option<(&Path, u32)>,
    ) -> Result<Self, EmbeddedError> {
        let (mut found, mut passed_over) = (Vec::new(), Vec::new());
        for candidate in candidates {
            match candidate {
                Ok(binaries) if cluster.is_none_or(|(_, major)| major == binaries.major) => {
                    return Ok(binaries);
                }
                Ok(binaries) => found.push(binaries.major.to_string()),
                Err(reason) => passed_over.push(reason),
            }
        }
        let install = install_command(cluster.map(|(_, major)| major));
        match cluster {
            Some((path, cluster)) if !found.is_empty() => {
                found.dedup();
                let (path, found) = (path.to_owned(), found.join(" and "));
                Err(EmbeddedError::Version { path, cluster, found, install })
            }
            _ => {
                let reasons = passed_over.join("; ");
                let passed_over =
                    if reasons.is_empty() { reasons } else { format!(" (passed over {reasons})") };
                Err(EmbeddedError::NoBinaries { passed_over, install })
            }
        }
    }

    pub fn initdb(&self) -> PathBuf {
        self.directory.join("initdb")
    }

    pub fn postgres(&self) -> PathBuf {
        self.directory.join("postgres")
    }

    /// The binaries of one directory, or why it does not do.
    fn inspect(directory: &Path, account: &Account) -> Result<Self, String> {
        let directory =
            side_by_side(directory).ok_or("`initdb` and `postgres` are not side by side in it")?;
        let program = directory.join("postgres");
        let output = account.command(&program).arg("--version").output().map_err(|error| {
            format!("{} could not be run as {}: {error}", program.display(), account.name)
        })?;
        let answer = String::from_utf8_lossy(&output.stdout);
        match major_version(&answer) {
            Some(major) if major >= MAJOR_MIN => Ok(Self { directory, major }),
            Some(major) => Err(format!("its version is {major}, older than {MAJOR_MIN}")),
            None => Err(format!("`{} --version` names no version", program.display())),
        }
    }
}

/// Every directory worth a look: those of PATH with a `postgres` in them (a relative one would depend on where tally
/// was started), then Debian's.
fn places(search_path: Option<&OsStr>) -> Vec<PathBuf> {
    let on_path = search_path.into_iter().flat_map(std::env::split_paths).filter(|path| path.is_absolute());
    let entries = fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let mut versions: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable_by_key(|version| Reverse(*version));
    let of_debian =
        versions.into_iter().map(|version| Path::new(DEBIAN).join(version.to_string()).join("bin"));
    on_path.chain(of_debian).filter(|directory| directory.join("postgres").exists()).collect()
}

/// Where `postgres` has `initdb` for a neighbour: behind its link, as /usr/local/bin may hold one, or right there.
fn side_by_side(directory: &Path) -> Option<PathBuf> {
    let postgres = directory.join("postgres").canonicalize().ok()?;
    let homes = [postgres.parent()?.to_owned(), directory.canonicalize().ok()?];
    homes.into_iter().find(|home| home.join("initdb").is_file() && home.join("postgres").is_file())
}

/// Reads "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", and "17beta1" as 17.
fn major_version(answer: &str) -> Option<u32> {
    let version = answer.split_once("(PostgreSQL)")?.1.trim_start();
    let digits = version.find(|character: char| !character.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

/// What installs PostgreSQL on Debian and Ubuntu, of that major version where only that one does.
fn install_command(major: Option<u32>) -> String {
    let sudo = if effective_uid() == 0 { "" } else { "sudo " };
    let version = major.map(|major| format!("-{major}")).unwrap_or_default();
    format!("{sudo}apt-get install --yes postgresql{version}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_postgres_says() {
        let check = |answer, major| assert_eq!(major_version(answer), major, "{answer}");
        check("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some(15));
        check("postgres (PostgreSQL) 17beta1\n", Some(17));
        check("postgres (PostgreSQL) 19devel\n", Some(19));
        check("postgres (EnterpriseDB) something\n", None);
        check("", None);
    }

    #[test]
    fn without_binaries_the_error_says_what_to_type() {
        let old = Err("/opt/pg/bin: its version is 14, older than 15".to_owned());
        let message = Binaries::choose([old], None).map_err(|error| error.to_string());
        let message = message.expect_err("there are no binaries");
        assert!(
            message.contains("\n    ") && message.contains("apt-get install --yes postgresql\n"),
            "{message}"
        );
        for words in ["its version is 14", "TALLY_POSTGRES_BIN", "DATABASE_URL"] {
            assert!(message.contains(words), "{message}");
        }
        assert_eq!(message.contains("sudo"), effective_uid() != 0, "{message}");
    }

    #[test]
    fn the_first_that_fits_is_taken_and_a_cluster_fits_its_own_version_alone() {
        let of =
            |major| Binaries { directory: PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")), major };
        let choose = |cluster| Binaries::choose([Err("broken".to_owned()), Ok(of(17)), Ok(of(15))], cluster);
        let cluster = Path::new("/data/postgres");
        assert_eq!(choose(None).expect("17 is there"), of(17));
        assert_eq!(choose(Some((cluster, 15))).expect("15 is there"), of(15));
        let message = choose(Some((cluster, 16))).expect_err("16 is not there").to_string();
        for words in ["/data/postgres", "PostgreSQL 16", "17 and 15", "apt-get install --yes postgresql-16"] {
            assert!(message.contains(words), "{message}");
        }
    }
}
