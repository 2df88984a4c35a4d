//! The secrets of an installation: the master key, and the signing secret with those it replaces.
//!
//! Both come from a setting or from a file in the data directory, generated on the first start,
//! readable by the server's user alone.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rand::{TryRng, rngs::SysRng};
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use tally_api::Signer;
use tally_events::seal::{KEY_BYTES, Key};
use tally_store::{KeyRing, KeyRingError, Rotation};
use zeroize::Zeroizing;

use super::Config;

/// Of a secret that an operator chooses, in production.
pub const SECRET_BYTES_MIN: usize = 32;

/// Secrets that stand in somebody's documentation.
const KNOWN_DEFAULTS: [&str; 6] = [
    "multica-dev-secret-change-in-production",
    "change-me-in-production",
    "change_me_in_production",
    "your-secret-key-change-in-production",
    "your-256-bit-secret",
    "a-string-secret-at-least-256-bits-long",
];

/// A secret text. It wipes itself and formats as nothing.
#[derive(Clone)]
pub struct Text(Zeroizing<String>);

impl Text {
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Text")
    }
}

pub fn is_known_default(secret: &str) -> bool {
    KNOWN_DEFAULTS.contains(&secret.to_lowercase().as_str())
}

/// 32 bytes in base64 or hex.
pub fn parse_master_key(text: &str) -> Result<Key, String> {
    let bytes = hex::decode(text).or_else(|_| STANDARD.decode(text)).map(Zeroizing::new);
    bytes
        .ok()
        .and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).ok())
        .map(Key::from_bytes)
        .ok_or_else(|| {
            "is not 32 bytes in base64 or hex, such as `openssl rand -base64 32` prints".to_owned()
        })
}

/// The secrets, ready to use.
pub struct Secrets {
    pub master: Key,
    pub jwt: Text,
    /// What it signed before, or will sign with next: verified, and signed with no more or not yet.
    pub jwt_previous: Vec<Text>,
}

/// Why a secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    #[error("the key file {} could not be read or made", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the key file {} {wrong}", path.display())]
    Content { path: PathBuf, wrong: String },
}

impl Secrets {
    /// From the settings, else from `<data dir>/keys`, made there on the first start.
    pub fn load(config: &Config) -> Result<Self, SecretsError> {
        let directory = config.data_dir.join("keys");
        let master = if let Some(key) = &config.master_key {
            key.clone()
        } else {
            let path = directory.join("master.key");
            let text = read_or_generate(&path)?;
            parse_master_key(text.expose()).map_err(|wrong| SecretsError::Content { path, wrong })?
        };
        let jwt = match &config.jwt_secret {
            Some(secret) => secret.clone(),
            None => read_or_generate(&directory.join("jwt.secret"))?,
        };
        Ok(Self { master, jwt, jwt_previous: config.jwt_secrets_previous.clone() })
    }

    /// Unlocks the keys of a database that knows these secrets.
    pub async fn unlock(&self, pool: PgPool, rotation: Rotation) -> Result<KeyRing, KeyRingError> {
        let verifying: Vec<Key> = self.jwt_previous.iter().map(fingerprint).collect();
        KeyRing::unlock_rotated(pool, &self.master, &fingerprint(&self.jwt), &verifying, rotation).await
    }

    /// What signs and checks the JWTs of sessions.
    pub fn signer(&self) -> Signer {
        let signer = Signer::new(self.jwt.expose().as_bytes(), &fingerprint(&self.jwt));
        self.jwt_previous
            .iter()
            .fold(signer, |signer, secret| signer.verifying(secret.expose().as_bytes(), &fingerprint(secret)))
    }
}

/// What recognises a signing secret, and derives nothing else from it.
fn fingerprint(secret: &Text) -> Key {
    Key::from_bytes(Sha256::digest(secret.expose().as_bytes()).into())
}

fn read_or_generate(path: &Path) -> Result<Text, SecretsError> {
    let failed = |source| SecretsError::File { path: path.to_owned(), source };
    match fs::read_to_string(path) {
        Ok(text) => {
            let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
            if mode & 0o077 != 0 {
                let wrong = format!("can be read by others (mode {:03o}): chmod 600 it", mode & 0o777);
                return Err(SecretsError::Content { path: path.to_owned(), wrong });
            }
            Ok(Text::new(text.trim().to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => generate(path).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

/// Writes a new secret beside its name and links it there: a crash leaves all of it or nothing,
/// and of two that start at once both use the first's.
fn generate(path: &Path) -> io::Result<Text> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    SysRng.try_fill_bytes(bytes.as_mut_slice()).map_err(io::Error::other)?;
    let text = Text::new(STANDARD.encode(bytes.as_slice()));
    let temporary = directory.join(format!(".{}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text.expose().as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    File::open(directory)?.sync_all()?;
    match linked {
        Ok(()) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok(Text::new(fs::read_to_string(path)?.trim().to_owned()))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_secret_is_read_again_and_is_nobody_elses() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys/master.key");
        let first = read_or_generate(&path).unwrap();
        assert_eq!(read_or_generate(&path).unwrap().expose(), first.expose());
        assert!(parse_master_key(first.expose()).is_ok());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_or_generate(&path).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn a_master_key_is_32_bytes_in_base64_or_hex() {
        assert!(parse_master_key(&"ab".repeat(32)).is_ok());
        assert!(parse_master_key(&STANDARD.encode([7; 32])).is_ok());
        for wrong in ["", "short", &"ab".repeat(31), &STANDARD.encode([7; 33])] {
            assert!(parse_master_key(wrong).is_err(), "{wrong}");
        }
    }
}
