//! A profile: one JSON file with a server, a token for it, and whatever else other tools keep there.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::{Map, Value};
use tally_domain::credential::Plaintext;

use super::failure::Failure;
use super::output;
use super::settings::Key;

const NAME_CHARACTERS_MAX: usize = 64;

/// A profile's name: part of a file name, so nothing that means something in a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProfileName(String);

impl FromStr for ProfileName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if text.is_empty() || text.len() > NAME_CHARACTERS_MAX || !text.bytes().all(fine) {
            return Err(format!("a profile is named with 1 to {NAME_CHARACTERS_MAX} of A-Z a-z 0-9 _ -"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A profile as it was read, absent ones as empty.
pub(super) struct Profile {
    name: ProfileName,
    path: PathBuf,
    values: Map<String, Value>,
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Profile {
    pub(super) fn load(directory: &Path, name: &ProfileName) -> Result<Self, Failure> {
        let path = directory.join(format!("{name}.json"));
        let values = read(&path)?;
        Ok(Self { name: name.clone(), path, values })
    }

    pub(super) const fn name(&self) -> &ProfileName {
        &self.name
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn get(&self, key: Key) -> Option<&str> {
        self.values.get(key.name()).and_then(Value::as_str).filter(|value| !value.is_empty())
    }

    /// Warns of a token that other users of the machine can read.
    pub(super) fn warn_if_open(&self) {
        let open = |path: &Path| fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o077 != 0);
        if self.get(Key::Token).is_some() && open(&self.path) && self.path.parent().is_some_and(open) {
            let path = self.path.display();
            output::warn(&format!(
                "other users can read the token in {path}; close it with `chmod 600 {path}`"
            ));
        }
    }

    /// Changes keys of the file, to a value or to nothing. All others are kept, also those that another tool wrote
    /// since this one read the file.
    pub(super) fn update(&mut self, changes: &[(Key, Option<&str>)]) -> Result<(), Failure> {
        let mut values = read(&self.path)?;
        for (key, value) in changes {
            match value {
                Some(value) => values.insert(key.name().to_owned(), Value::from(*value)),
                None => values.remove(key.name()),
            };
        }
        let failed = |source| Failure::File { action: "write", path: self.path.clone(), source };
        let text = serde_json::to_string_pretty(&values).map_err(|error| failed(error.into()))?;
        let text = Plaintext::new(text + "\n");
        self.in_place_of(|file| file.write_all(text.expose().as_bytes()), |new| fs::rename(new, &self.path))
            .map_err(failed)?;
        self.values = values;
        Ok(())
    }

    /// Finds out that the profile cannot be written before anything is done that would have to be undone.
    pub(super) fn check_writable(&self) -> Result<(), Failure> {
        self.in_place_of(|_| Ok(()), |new| fs::remove_file(new)).map_err(|source| Failure::File {
            action: "write",
            path: self.path.clone(),
            source,
        })
    }

    /// Fills a new file beside the profile's, for nobody else to read, and hands it over once it is durable. So a
    /// reader finds the old profile or the new one, whole, whenever the machine goes down.
    pub(super) fn in_place_of(
        &self,
        write: impl FnOnce(&mut File) -> io::Result<()>,
        then: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let directory = self.path.parent().ok_or(io::ErrorKind::NotFound)?;
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        if fs::metadata(directory)?.permissions().mode() & 0o777 != 0o700 {
            fs::set_permissions(directory, Permissions::from_mode(0o700))?;
        }
        let new = directory.join(format!(".{}.json.{:016x}", self.name, rand::random::<u64>()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        let done = write(&mut file).and_then(|()| file.sync_all()).and_then(|()| then(&new));
        if done.is_err() {
            // The first failure is the one to tell; the leftover holds at worst what the profile would have held.
            let _ = fs::remove_file(&new);
        }
        done?;
        File::open(directory)?.sync_all()
    }
}

fn read(path: &Path) -> Result<Map<String, Value>, Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => Plaintext::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(Failure::Profile { path: path.to_owned(), reason: "not UTF-8".to_owned() });
        }
        Err(source) => return Err(Failure::File { action: "read", path: path.to_owned(), source }),
    };
    let wrong = |reason: String| Failure::Profile { path: path.to_owned(), reason };
    // serde_json's own message may quote what it found, and that may be the token.
    let values: Map<String, Value> = serde_json::from_str(text.expose()).map_err(|error| {
        wrong(format!("no JSON object: see line {}, column {}", error.line(), error.column()))
    })?;
    for key in Key::ALL {
        if !matches!(values.get(key.name()), None | Some(Value::Null | Value::String(_))) {
            return Err(wrong(format!("`{}` is not a string", key.name())));
        }
    }
    Ok(values)
}
