//! What the machine around the client says: its environment, its clock and its name.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::failure::Failure;
use super::settings::Key;

/// The variables the client knows, as they were when it started. Empty ones count as absent.
pub(super) struct Environment(HashMap<&'static str, OsString>);

impl Environment {
    #[expect(clippy::disallowed_methods, reason = "the one place where the client reads its environment")]
    pub(super) fn read() -> Self {
        let names = Key::ALL.iter().flat_map(|key| key.variables()).chain(["XDG_CONFIG_HOME", "HOME"]);
        Self::of(names.filter_map(|name| Some((name, std::env::var_os(name)?))))
    }

    pub(super) fn of(variables: impl IntoIterator<Item = (&'static str, OsString)>) -> Self {
        Self(variables.into_iter().filter(|(_, value)| !value.is_empty()).collect())
    }

    /// The setting's value, and the variable it is in: this project's name goes before Multica's.
    pub(super) fn setting(&self, key: Key) -> Result<Option<(&'static str, &str)>, Failure> {
        let found = key.variables().into_iter().find_map(|name| Some((name, self.0.get(name)?)));
        let Some((name, value)) = found else { return Ok(None) };
        match value.to_str() {
            Some(value) => Ok(Some((name, value.trim()))),
            None => Err(Failure::Input(format!("{name} is not UTF-8"))),
        }
    }

    /// Where profiles are. A relative `XDG_CONFIG_HOME` is ignored, as its specification says.
    pub(super) fn config_directory(&self) -> Result<PathBuf, Failure> {
        let absolute = |name| self.0.get(name).map(Path::new).filter(|path| path.is_absolute());
        let home = absolute("XDG_CONFIG_HOME")
            .map(Path::to_path_buf)
            .or_else(|| absolute("HOME").map(|home| home.join(".config")));
        match home {
            Some(home) => Ok(home.join("tally")),
            None => Err(Failure::Input(
                "there is no place for the profile; set HOME, or XDG_CONFIG_HOME, to an absolute path"
                    .to_owned(),
            )),
        }
    }
}

/// The present, as this machine sees it: good enough for "two hours ago" and for saying what has expired.
#[expect(clippy::disallowed_methods, reason = "a client has no store whose clock it could ask")]
pub(super) fn now() -> DateTime<Utc> {
    Utc::now()
}

/// The name of this machine, for the name of its token.
pub(super) fn host_name() -> String {
    let name = ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .into_iter()
        .find_map(|path| std::fs::read_to_string(path).ok().map(|name| name.trim().to_owned()))
        .filter(|name| !name.is_empty());
    name.unwrap_or_else(|| "unnamed machine".to_owned())
}
