//! The keys: unlocked with the master key, never written in the clear.
//!
//! Root keys stay in memory. What is sealed is opened only with a key that was just read, so that
//! deleting its row is all there is to an erasure, in every process at once. Sealing may use a key
//! that was read a moment ago: what is sealed with one that is deleted meanwhile nobody can open,
//! and no write brings a deleted key back.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use quick_cache::sync::Cache;
use rand::{TryRng, rngs::SysRng};
use sqlx::{PgExecutor, PgPool};
use tally_domain::claim::{Index, Namespace};
use tally_events::{
    Personal, Sealed, Subject,
    seal::{KEY_BYTES, Key, SealError},
};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Keys kept for sealing at once, and how long each.
const SEALING_KEYS_MAX: usize = 4096;
const SEALING_KEY_LIFETIME: Duration = Duration::from_secs(1);

const KEY_ENCRYPTION: &str = "key-encryption";
const BLIND_INDEX: &str = "blind-index";
const LOGIN_CODE: &str = "login-code";
const CARRIED: &str = "carried";
/// Random bytes that begin what a client carries, so that no two are alike.
const CARRIED_ID_BYTES: usize = 16;
const REFRESH_TOKEN: &str = "refresh-token";

const SIGNING_SECRET: &str = "JWT_SECRET";

/// Why the keys could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyRingError {
    #[error("the database did not answer")]
    Database(#[from] sqlx::Error),
    #[error(
        "the {what} of this process is not the one this database was set up with (fingerprint {found}, \
         expected {expected}): give it the original, or another database{}",
        rotation(what)
    )]
    Fingerprint { what: &'static str, found: String, expected: String },
    #[error("a stored key does not open")]
    Seal(#[from] SealError),
}

/// What else would be right, where a secret can be replaced.
fn rotation(what: &str) -> &'static str {
    if what == SIGNING_SECRET {
        "; to replace it, name the original in TALLY_JWT_SECRET_PREVIOUS"
    } else {
        ""
    }
}

/// What a process makes of a database that knows another signing secret than it signs with, and one that
/// it verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// A server: from now on the database knows the one that signs.
    Lead,
    /// A command, which may be run with yesterday's settings: the database is left as it is.
    Follow,
}

/// The unlocked keys of this installation.
#[derive(Clone)]
pub struct KeyRing {
    pool: PgPool,
    key_encryption: Key,
    blind_index: Key,
    login_code: Key,
    carried: Key,
    refresh_token: Key,
    bus: Key,
    /// Keys that were just read, and when.
    sealing: Arc<Cache<Subject, (Key, Instant)>>,
}

impl KeyRing {
    /// Unlocks the stored keys, or makes them if this database is new.
    ///
    /// # Errors
    /// When the master key or the signing secret is not the one this database was set up with.
    pub async fn unlock(pool: PgPool, master: &Key, signing_secret: &Key) -> Result<Self, KeyRingError> {
        Self::unlock_rotated(pool, master, signing_secret, &[], Rotation::Follow).await
    }

    /// The same, for a process that also verifies what other signing secrets have signed. If this
    /// database knows one of those, it may be told the one that signs from now on.
    ///
    /// # Errors
    /// When the master key, or every one of the signing secrets, is another than this database knows.
    pub async fn unlock_rotated(
        pool: PgPool,
        master: &Key,
        signing_secret: &Key,
        verifying: &[Key],
        rotation: Rotation,
    ) -> Result<Self, KeyRingError> {
        check_fingerprint(&pool, "master key", &master.fingerprint(), &[], Rotation::Follow).await?;
        let verifying: Vec<String> = verifying.iter().map(Key::fingerprint).collect();
        let secret = signing_secret.fingerprint();
        check_fingerprint(&pool, SIGNING_SECRET, &secret, &verifying, rotation).await?;
        let wrapping = master.derive("wrap root keys");
        let bus = master.derive("messages between replicas");
        Ok(Self {
            key_encryption: root_key(&pool, &wrapping, KEY_ENCRYPTION).await?,
            blind_index: root_key(&pool, &wrapping, BLIND_INDEX).await?,
            login_code: root_key(&pool, &wrapping, LOGIN_CODE).await?,
            carried: root_key(&pool, &wrapping, CARRIED).await?,
            refresh_token: root_key(&pool, &wrapping, REFRESH_TOKEN).await?,
            bus,
            sealing: Arc::new(Cache::new(SEALING_KEYS_MAX)),
            pool,
        })
    }

    /// The key that login codes are stored under.
    #[must_use]
    pub const fn login_code(&self) -> &Key {
        &self.login_code
    }

    /// The key that tells refresh tokens of this installation from others.
    #[must_use]
    pub const fn refresh_token(&self) -> &Key {
        &self.refresh_token
    }

    /// The key that replicas authenticate each other's messages with.
    #[must_use]
    pub const fn bus(&self) -> &Key {
        &self.bus
    }

    /// What a unique thing is found by: a keyed hash that reveals nothing of it.
    #[must_use]
    pub fn blind(&self, namespace: Namespace, value: &str) -> [u8; 32] {
        self.blind_index.mac(&[namespace.as_str().as_bytes(), value.as_bytes()])
    }

    /// What streams are found by that have something in common: a keyed hash that reveals nothing of it.
    #[must_use]
    pub fn blind_index(&self, index: Index, value: &str) -> [u8; 32] {
        self.blind_index.mac(&[b"index", index.as_str().as_bytes(), value.as_bytes()])
    }

    /// What a limit is counted under: a keyed hash of rule and caller.
    #[must_use]
    pub fn blind_limit(&self, rule: &str, caller: &str) -> [u8; 32] {
        self.blind_index.mac(&[b"limit", rule.as_bytes(), caller.as_bytes()])
    }

    /// Encrypts what a client carries from one request to another and may neither read nor change.
    /// It opens under the same `purpose` alone, on every replica. The text is of base64url.
    ///
    /// # Panics
    /// When the operating system has no randomness to give: no two may then be told apart.
    #[must_use]
    pub fn seal_carried(&self, purpose: &str, content: &[u8]) -> String {
        let mut carried = vec![0; CARRIED_ID_BYTES];
        SysRng.try_fill_bytes(&mut carried).expect("the operating system gives random bytes");
        let encrypted = self.carried.encrypt(&carried_name(purpose, &carried), content);
        carried.extend(encrypted);
        URL_SAFE_NO_PAD.encode(carried)
    }

    /// What was sealed for this purpose; none for anything else.
    #[must_use]
    pub fn open_carried(&self, purpose: &str, text: &str) -> Option<Zeroizing<Vec<u8>>> {
        let carried = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (id, encrypted) = carried.split_at_checked(CARRIED_ID_BYTES)?;
        self.carried.decrypt(&carried_name(purpose, id), encrypted).ok()
    }

    /// A new key for a new subject, and its wrapped form to store with the subject's first event.
    pub(crate) fn introduce(&self, subject: Subject) -> (Key, Vec<u8>) {
        let key = random_key();
        let wrapped = self.key_encryption.wrap(&subject.to_string(), &key);
        (key, wrapped)
    }

    /// The key to seal with; none once the subject was erased, or a moment later.
    pub(crate) async fn for_sealing(&self, subject: Subject) -> Result<Option<Key>, KeyRingError> {
        let now = Instant::now();
        if let Some((key, read_at)) = self.sealing.get(&subject) {
            if now.duration_since(read_at) < SEALING_KEY_LIFETIME {
                return Ok(Some(key));
            }
            self.sealing.remove(&subject);
        }
        let key = self.subjects([subject]).await?.remove(&subject);
        if let Some(key) = &key {
            self.sealing.insert(subject, (key.clone(), now));
        }
        Ok(key)
    }

    /// The keys of several subjects, erased ones left out, in one statement.
    async fn subjects(
        &self,
        subjects: impl IntoIterator<Item = Subject>,
    ) -> Result<HashMap<Subject, Key>, KeyRingError> {
        self.subjects_by(&self.pool, subjects).await
    }

    /// The same by a connection that is at hand.
    pub(crate) async fn subjects_by(
        &self,
        executor: impl PgExecutor<'_>,
        subjects: impl IntoIterator<Item = Subject>,
    ) -> Result<HashMap<Subject, Key>, KeyRingError> {
        let wanted: BTreeSet<Subject> = subjects.into_iter().collect();
        if wanted.is_empty() {
            return Ok(HashMap::new());
        }
        let kinds: Vec<String> = wanted.iter().map(|subject| subject.kind().to_owned()).collect();
        let ids: Vec<uuid::Uuid> = wanted.iter().map(|subject| subject.uuid()).collect();
        let rows = sqlx::query!(
            r#"select s.kind, s.id, s.wrapped
                 from unnest($1::text[], $2::uuid[]) as wanted(kind, id)
                 join keys.subject s on s.kind = wanted.kind and s.id = wanted.id"#,
            &kinds,
            &ids,
        )
        .fetch_all(executor)
        .await?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in rows {
            let subject: Subject = format!("{}:{}", row.kind, row.id).parse()?;
            found.insert(subject, self.unwrap(subject, &row.wrapped)?);
        }
        Ok(found)
    }

    /// The key in a row of `keys.subject`.
    pub(crate) fn unwrap(&self, subject: Subject, wrapped: &[u8]) -> Result<Key, KeyRingError> {
        Ok(self.key_encryption.unwrap(&subject.to_string(), wrapped)?)
    }

    /// Opens sealed fields. A field whose subject was erased is none.
    ///
    /// # Errors
    /// When the database does not answer, or a field was altered or moved.
    pub async fn open(&self, fields: &[Sealed]) -> Result<Vec<Option<Zeroizing<String>>>, KeyRingError> {
        let keys = self.subjects(fields.iter().map(|sealed| sealed.place.subject)).await?;
        fields
            .iter()
            .map(|sealed| match keys.get(&sealed.place.subject) {
                Some(key) => Ok(Some(sealed.open(key)?)),
                None => Ok(None),
            })
            .collect()
    }

    /// Opens one subject's sealed fields, in their text form, with the key that was read beside them:
    /// the row of `keys.subject`, none if there is none any more.
    ///
    /// # Errors
    /// When a text is not a sealed field of the subject, or was altered or moved.
    pub fn open_texts_with(
        &self,
        subject: Subject,
        wrapped: Option<&[u8]>,
        texts: &[&str],
    ) -> Result<Vec<Option<Zeroizing<String>>>, KeyRingError> {
        let Some(wrapped) = wrapped else { return Ok(texts.iter().map(|_| None).collect()) };
        let key = self.unwrap(subject, wrapped)?;
        let open = |text: &&str| Ok(Some(text.parse::<Sealed>()?.open(&key)?));
        texts.iter().map(open).collect()
    }

    /// Opens sealed fields given in their text form, such as columns of a projection.
    ///
    /// # Errors
    /// As [`KeyRing::open`], and when a text is not a sealed field.
    pub async fn open_texts(&self, texts: &[&str]) -> Result<Vec<Option<Zeroizing<String>>>, KeyRingError> {
        let sealed = texts.iter().map(|text| text.parse()).collect::<Result<Vec<Sealed>, _>>()?;
        self.open(&sealed).await
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyRing")
    }
}

/// Purposes are of our own making and hold no slash.
fn carried_name(purpose: &str, id: &[u8]) -> Vec<u8> {
    [purpose.as_bytes(), b"/", id].concat()
}

/// Seals every clear field of an event with its subject's key.
pub(crate) fn seal_fields(
    event: &mut tally_events::Event,
    stream: tally_events::StreamId,
    version: tally_events::Version,
    key: &Key,
) {
    let (name, Some(subject)) = (event.name(), event.subject(stream)) else { return };
    for (field, personal) in event.personal_mut() {
        if let Some(text) = personal.as_clear() {
            let place = tally_events::Place { stream, version, event: name, field, subject };
            *personal = Personal::Sealed(place.seal(key, text));
        }
    }
}

/// 32 bytes from the operating system's random source.
///
/// # Panics
/// When the operating system has no randomness to give: no key may then be made.
fn random_key() -> Key {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    SysRng.try_fill_bytes(bytes.as_mut_slice()).expect("the operating system gives random bytes");
    Key::from_bytes(*bytes)
}

async fn root_key(pool: &PgPool, wrapping: &Key, name: &str) -> Result<Key, KeyRingError> {
    // Whoever inserts first wins, and everyone uses what then stands there.
    let wrapped = wrapping.wrap(name, &random_key());
    sqlx::query!(
        "insert into keys.root (name, wrapped) values ($1, $2) on conflict do nothing",
        name,
        wrapped
    )
    .execute(pool)
    .await?;
    let stored =
        sqlx::query_scalar!("select wrapped from keys.root where name = $1", name).fetch_one(pool).await?;
    Ok(wrapping.unwrap(name, &stored)?)
}

/// Compares what the database knows with what this process has. Where it knows one of `replaced`, a
/// process that leads tells it `found` in its place.
async fn check_fingerprint(
    pool: &PgPool,
    what: &'static str,
    found: &str,
    replaced: &[String],
    rotation: Rotation,
) -> Result<(), KeyRingError> {
    sqlx::query!(
        "insert into keys.fingerprint (name, value) values ($1, $2) on conflict do nothing",
        what,
        found
    )
    .execute(pool)
    .await?;
    // Most starts replace nothing, and then nothing is written.
    let known = known_fingerprint(pool, what).await?;
    if known == found {
        return Ok(());
    }
    if replaced.contains(&known) && rotation == Rotation::Lead {
        sqlx::query!(
            "update keys.fingerprint set value = $3 where name = $1 and value = $2",
            what,
            known,
            found
        )
        .execute(pool)
        .await?;
    }
    // Another replica may have been faster, with the same secrets or with others.
    let expected = known_fingerprint(pool, what).await?;
    if expected == found || replaced.contains(&expected) {
        Ok(())
    } else {
        Err(KeyRingError::Fingerprint { what, found: found.to_owned(), expected })
    }
}

async fn known_fingerprint(pool: &PgPool, what: &str) -> Result<String, sqlx::Error> {
    sqlx::query_scalar!("select value from keys.fingerprint where name = $1", what).fetch_one(pool).await
}
