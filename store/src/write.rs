//! The statements of one committer transaction, from the head's lock to just before COMMIT.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tally_events::{Position, Recorded, Version};
use uuid::Uuid;

use crate::{
    acceptance::Facts,
    committer::{Batch, Commit, CommitError, Committed, Inline, Verdicts},
    idempotency::Earlier,
    projection::Projection,
};

/// Why a transaction did not become part of the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// It was rolled back or never began: trying again is safe.
    #[error("the database did not take the batch")]
    NotWritten(#[source] sqlx::Error),
    #[error("a newer release writes this database")]
    Outdated,
    #[error("the database refused the rows")]
    Poison(#[source] sqlx::Error),
    #[error("the database went away before it said whether the batch was written")]
    Unknown,
}

impl WriteError {
    /// Rows that were refused leave a healthy connection; anything else is not worth trusting.
    pub(crate) const fn leaves_connection_usable(&self) -> bool {
        matches!(self, Self::Poison(_) | Self::Outdated)
    }

    fn from_statement(error: sqlx::Error) -> Self {
        let refused =
            error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| {
                // Data exceptions and integrity violations are the rows' own fault (SQLSTATE classes
                // 22 and 23), as is a payload json cannot hold; everything else is the moment's.
                code.starts_with("22") || code.starts_with("23") || code.starts_with("P0")
            });
        if refused { Self::Poison(error) } else { Self::NotWritten(error) }
    }
}

/// A transaction that wants only its COMMIT.
pub(crate) struct Attempt {
    pub verdicts: Verdicts,
    /// None when every commit was refused.
    pub batch: Option<Arc<Batch>>,
    transaction: String,
    timeline: String,
}

struct Head {
    log_id: Uuid,
    before: Position,
    recorded_at: DateTime<Utc>,
    transaction: String,
    timeline: String,
}

/// Runs everything but COMMIT. On an error the transaction is rolled back with its connection,
/// or here, when the connection can be kept.
pub(crate) async fn write(
    connection: &mut PgConnection,
    commits: &[&Commit],
    inline: &Inline,
) -> Result<Attempt, WriteError> {
    sqlx::query("begin").execute(&mut *connection).await.map_err(WriteError::NotWritten)?;
    let outcome = write_rows(connection, commits, inline).await;
    if outcome.as_ref().is_err_and(WriteError::leaves_connection_usable) {
        sqlx::query("rollback").execute(connection).await.map_err(WriteError::NotWritten)?;
    }
    outcome
}

async fn write_rows(
    connection: &mut PgConnection,
    commits: &[&Commit],
    inline: &Inline,
) -> Result<Attempt, WriteError> {
    let offered: usize = commits.iter().map(|commit| commit.events.len()).sum();
    let head = lock_head(connection, offered, inline.version).await?;
    let mut facts = read_facts(connection, commits).await.map_err(WriteError::from_statement)?;

    let mut position = head.before;
    let mut verdicts = Verdicts::with_capacity(commits.len());
    let mut accepted: Vec<&Commit> = Vec::with_capacity(commits.len());
    for commit in commits {
        let last = Position(position.0 + count(commit.events.len()));
        match facts.judge(commit, last) {
            Ok(()) => {
                position = last;
                accepted.push(commit);
                verdicts.push(Ok(Committed { position, recorded_at: head.recorded_at }));
            }
            Err(refused) => verdicts.push(Err(CommitError::from(refused))),
        }
    }
    let batch = append(connection, &head, &accepted, position, offered, &inline.projections)
        .await
        .map_err(WriteError::from_statement)?;
    Ok(Attempt { verdicts, batch, transaction: head.transaction, timeline: head.timeline })
}

/// Takes the head's lock and reserves positions for all that was offered; what is refused later
/// gives its positions back before anybody can see them.
async fn lock_head(
    connection: &mut PgConnection,
    offered: usize,
    inline_version: i32,
) -> Result<Head, WriteError> {
    let row = sqlx::query!(
        r#"update log_head
              set position = position + $1, recorded_at = greatest(clock_timestamp(), recorded_at)
            where inline_version <= $2
           returning log_id, position, recorded_at,
                     pg_current_xact_id()::text as "transaction!",
                     substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) as "timeline!""#,
        count(offered),
        inline_version,
    )
    .fetch_optional(connection)
    .await
    .map_err(WriteError::from_statement)?
    .ok_or(WriteError::Outdated)?;
    Ok(Head {
        log_id: row.log_id,
        before: Position(row.position - count(offered)),
        recorded_at: row.recorded_at,
        transaction: row.transaction,
        timeline: row.timeline,
    })
}

/// What the batch will be judged against. Under the head's lock nobody else can change it.
async fn read_facts(connection: &mut PgConnection, commits: &[&Commit]) -> Result<Facts, sqlx::Error> {
    let mut facts = Facts::default();
    let streams: Vec<Uuid> = commits
        .iter()
        .flat_map(|commit| {
            let expected = commit.expected.iter().map(|(stream, _)| stream.uuid());
            expected.chain(commit.events.iter().map(|draft| draft.stream.uuid()))
        })
        .collect();
    let versions = sqlx::query!("select id, version from stream where id = any($1)", &streams);
    for row in versions.fetch_all(&mut *connection).await? {
        facts.versions.insert(row.id, Version(row.version));
    }

    let claims: Vec<_> = commits.iter().flat_map(|commit| &commit.claims).collect();
    if !claims.is_empty() {
        let namespaces: Vec<String> =
            claims.iter().map(|claim| claim.namespace.as_str().to_owned()).collect();
        let values: Vec<Vec<u8>> = claims.iter().map(|claim| claim.value.to_vec()).collect();
        let held = sqlx::query!(
            r#"select c.namespace, c.value, c.stream_id
                 from unnest($1::text[], $2::bytea[]) as wanted(namespace, value)
                 join claim c on c.namespace = wanted.namespace and c.value = wanted.value"#,
            &namespaces,
            &values,
        );
        for row in held.fetch_all(&mut *connection).await? {
            let same = |claim: &&&crate::committer::Claim| {
                claim.namespace.as_str() == row.namespace && claim.value[..] == row.value[..]
            };
            if let Some(claim) = claims.iter().find(same) {
                facts.claims.insert((claim.namespace, claim.value), row.stream_id);
            }
        }
    }

    let keys: Vec<Vec<u8>> =
        commits.iter().filter_map(|commit| Some(commit.idempotency?.key.to_vec())).collect();
    if !keys.is_empty() {
        let used = sqlx::query!(
            "select key, fingerprint, receipt, position from idempotency where key = any($1)",
            &keys
        );
        for row in used.fetch_all(connection).await? {
            let earlier = Earlier {
                fingerprint: row.fingerprint.try_into().unwrap_or_default(),
                receipt: row.receipt,
                position: Position(row.position),
            };
            facts.idempotency.insert(row.key.try_into().unwrap_or_default(), earlier);
        }
    }
    Ok(facts)
}

/// Writes what was accepted: keys, claims, streams, events, idempotency keys, inline projections.
async fn append(
    connection: &mut PgConnection,
    head: &Head,
    accepted: &[&Commit],
    last: Position,
    offered: usize,
    inline: &[Arc<dyn Projection>],
) -> Result<Option<Arc<Batch>>, sqlx::Error> {
    if last.0 < head.before.0 + count(offered) {
        sqlx::query!("update log_head set position = $1", last.0).execute(&mut *connection).await?;
    }
    if accepted.is_empty() {
        return Ok(None);
    }
    let mut position = head.before;
    let mut events = Vec::with_capacity(offered);
    let mut rows = EventColumns::default();
    let mut leaf_hash = [0; 32];
    for commit in accepted {
        for draft in &commit.events {
            position = position.next();
            let recorded = Recorded {
                position,
                stream: draft.stream,
                version: draft.version,
                event: draft.event.clone(),
                workspace: draft.event.workspace(draft.stream),
                actor: commit.envelope.actor,
                credential_id: commit.envelope.credential.map(tally_events::CredentialId::uuid),
                request_id: commit.envelope.request,
                causation: commit.envelope.causation,
                recorded_at: head.recorded_at,
            };
            leaf_hash = rows.push(&recorded, draft.payload.clone());
            events.push(recorded);
        }
    }
    write_keys(connection, accepted).await?;
    write_claims(connection, accepted).await?;
    write_indexed(connection, accepted).await?;
    write_streams(connection, &events).await?;
    rows.insert(connection).await?;
    write_idempotency(connection, accepted, head).await?;
    for projection in inline {
        projection.apply(connection, &events).await?;
    }
    let (log_id, timeline) = (head.log_id, head.timeline.clone());
    Ok(Some(Arc::new(Batch { log_id, timeline, events, leaf_hash })))
}

async fn write_keys(connection: &mut PgConnection, accepted: &[&Commit]) -> Result<(), sqlx::Error> {
    let keys: Vec<_> = accepted.iter().flat_map(|commit| &commit.keys).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let kinds: Vec<String> = keys.iter().map(|key| key.subject.kind().to_owned()).collect();
    let ids: Vec<Uuid> = keys.iter().map(|key| key.subject.uuid()).collect();
    let wrapped: Vec<Vec<u8>> = keys.iter().map(|key| key.wrapped.clone()).collect();
    let delete_after: Vec<Option<DateTime<Utc>>> = keys.iter().map(|key| key.delete_after).collect();
    sqlx::query!(
        r#"insert into keys.subject (kind, id, wrapped, delete_after)
           select * from unnest($1::text[], $2::uuid[], $3::bytea[], $4::timestamptz[])"#,
        &kinds,
        &ids,
        &wrapped,
        &delete_after as &[Option<DateTime<Utc>>],
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_claims(connection: &mut PgConnection, accepted: &[&Commit]) -> Result<(), sqlx::Error> {
    // In order, so that of several the last one stands.
    let claims = accepted.iter().flat_map(|commit| &commit.claims);
    let claims: BTreeMap<_, _> = claims.map(|claim| ((claim.namespace, claim.value), claim)).collect();
    if claims.is_empty() {
        return Ok(());
    }
    let claims: Vec<_> = claims.into_values().collect();
    let namespaces: Vec<String> = claims.iter().map(|claim| claim.namespace.as_str().to_owned()).collect();
    let values: Vec<Vec<u8>> = claims.iter().map(|claim| claim.value.to_vec()).collect();
    let streams: Vec<Uuid> = claims.iter().map(|claim| claim.stream.uuid()).collect();
    // One this stream holds already stays as it is; one whose holder is over passes.
    sqlx::query!(
        r#"insert into claim (namespace, value, stream_id)
           select * from unnest($1::text[], $2::bytea[], $3::uuid[])
           on conflict (namespace, value) do update set stream_id = excluded.stream_id
            where claim.stream_id <> excluded.stream_id"#,
        &namespaces,
        &values,
        &streams,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_indexed(connection: &mut PgConnection, accepted: &[&Commit]) -> Result<(), sqlx::Error> {
    let indexed: Vec<_> = accepted.iter().flat_map(|commit| &commit.indexed).collect();
    if indexed.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = indexed.iter().map(|indexed| indexed.index.as_str().to_owned()).collect();
    let values: Vec<Vec<u8>> = indexed.iter().map(|indexed| indexed.value.to_vec()).collect();
    let streams: Vec<Uuid> = indexed.iter().map(|indexed| indexed.stream.uuid()).collect();
    sqlx::query!(
        r#"insert into blind_index (name, value, stream_id)
           select * from unnest($1::text[], $2::bytea[], $3::uuid[])
           on conflict (name, value, stream_id) do nothing"#,
        &names,
        &values,
        &streams,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_streams(connection: &mut PgConnection, events: &[Recorded]) -> Result<(), sqlx::Error> {
    let mut latest = BTreeMap::new();
    for event in events {
        latest.insert(event.stream, event.version);
    }
    let ids: Vec<Uuid> = latest.keys().map(|stream| stream.uuid()).collect();
    let kinds: Vec<String> = latest.keys().map(|stream| stream.kind().as_str().to_owned()).collect();
    let versions: Vec<i64> = latest.values().map(|version| version.0).collect();
    sqlx::query!(
        r#"insert into stream (id, kind, version)
           select * from unnest($1::uuid[], $2::text[], $3::bigint[])
           on conflict (id) do update set version = excluded.version"#,
        &ids,
        &kinds,
        &versions,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_idempotency(
    connection: &mut PgConnection,
    accepted: &[&Commit],
    head: &Head,
) -> Result<(), sqlx::Error> {
    let mut position = head.before;
    let (mut keys, mut fingerprints, mut receipts, mut positions) = (vec![], vec![], vec![], vec![]);
    for commit in accepted {
        position = Position(position.0 + count(commit.events.len()));
        if let Some(idempotency) = &commit.idempotency {
            keys.push(idempotency.key.to_vec());
            fingerprints.push(idempotency.fingerprint.to_vec());
            receipts.push(idempotency.receipt);
            positions.push(position.0);
        }
    }
    if keys.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"insert into idempotency (key, fingerprint, receipt, position, recorded_at)
           select k.key, k.fingerprint, k.receipt, k.position, $5
             from unnest($1::bytea[], $2::bytea[], $3::uuid[], $4::bigint[])
               as k(key, fingerprint, receipt, position)"#,
        &keys,
        &fingerprints,
        &receipts,
        &positions,
        head.recorded_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The columns of `event`, one array each.
#[derive(Default)]
struct EventColumns {
    positions: Vec<i64>,
    stream_ids: Vec<Uuid>,
    stream_versions: Vec<i64>,
    names: Vec<String>,
    schema_versions: Vec<i16>,
    workspace_ids: Vec<Option<Uuid>>,
    actor_kinds: Vec<String>,
    actor_ids: Vec<Option<Uuid>>,
    credential_ids: Vec<Option<Uuid>>,
    request_ids: Vec<Option<Uuid>>,
    causations: Vec<Uuid>,
    recorded_at: Vec<DateTime<Utc>>,
    payloads: Vec<String>,
    leaf_hashes: Vec<Vec<u8>>,
}

impl EventColumns {
    fn push(&mut self, recorded: &Recorded, payload: String) -> [u8; 32] {
        let row = recorded.to_stored(payload);
        let leaf_hash = row.leaf_hash();
        self.positions.push(row.position.0);
        self.stream_ids.push(row.stream_id);
        self.stream_versions.push(row.stream_version.0);
        self.names.push(row.name);
        self.schema_versions.push(row.schema_version.cast_signed());
        self.workspace_ids.push(row.workspace_id);
        self.actor_kinds.push(row.actor_kind);
        self.actor_ids.push(row.actor_id);
        self.credential_ids.push(row.credential_id);
        self.request_ids.push(row.request_id);
        self.causations.push(row.causation);
        self.recorded_at.push(row.recorded_at);
        self.payloads.push(row.payload);
        self.leaf_hashes.push(leaf_hash.to_vec());
        leaf_hash
    }

    async fn insert(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query!(
            r#"insert into event (position, stream_id, stream_version, name, schema_version, workspace_id,
                                  actor_kind, actor_id, credential_id, request_id, causation, recorded_at,
                                  payload, leaf_hash)
               select e.position, e.stream_id, e.stream_version, e.name, e.schema_version, e.workspace_id,
                      e.actor_kind, e.actor_id, e.credential_id, e.request_id, e.causation, e.recorded_at,
                      e.payload::json, e.leaf_hash
                 from unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::text[], $5::smallint[], $6::uuid[],
                             $7::text[], $8::uuid[], $9::uuid[], $10::uuid[], $11::uuid[], $12::timestamptz[],
                             $13::text[], $14::bytea[])
                   as e(position, stream_id, stream_version, name, schema_version, workspace_id, actor_kind,
                        actor_id, credential_id, request_id, causation, recorded_at, payload, leaf_hash)"#,
            &self.positions,
            &self.stream_ids,
            &self.stream_versions,
            &self.names,
            &self.schema_versions,
            &self.workspace_ids as &[Option<Uuid>],
            &self.actor_kinds,
            &self.actor_ids as &[Option<Uuid>],
            &self.credential_ids as &[Option<Uuid>],
            &self.request_ids as &[Option<Uuid>],
            &self.causations,
            &self.recorded_at,
            &self.payloads,
            &self.leaf_hashes,
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// What became of a transaction whose COMMIT went unanswered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Committed,
    Aborted,
    /// Its backend is still at work: it may yet commit.
    InProgress,
    /// The database was failed over.
    Unknown,
}

/// Asks a fresh connection what became of the attempt's transaction.
///
/// The transaction's id says only whether it still runs. That it committed is read off its last
/// event: a crash forgets ids that were handed out and not yet flushed, and hands them out again,
/// so "committed" may be said of a stranger.
pub(crate) async fn outcome(
    options: &PgConnectOptions,
    attempt: &Attempt,
    batch: &Batch,
) -> Result<Outcome, sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    let outcome = outcome_seen_by(&mut connection, attempt, batch).await;
    drop(connection.close().await);
    outcome
}

async fn outcome_seen_by(
    connection: &mut PgConnection,
    attempt: &Attempt,
    batch: &Batch,
) -> Result<Outcome, sqlx::Error> {
    let row = sqlx::query!(
        r#"select pg_xact_status($1::text::xid8) as status,
                  substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) as "timeline!""#,
        attempt.transaction,
    )
    .fetch_one(&mut *connection)
    .await;
    let otherwise = match row {
        // On another timeline what was lost may have been acknowledged on the old one.
        Ok(row) if row.timeline != attempt.timeline => Outcome::Unknown,
        Ok(row) if row.status.as_deref() == Some("in progress") => Outcome::InProgress,
        Ok(_) => Outcome::Aborted,
        // After a crash the id may never have been handed out: "transaction ID … is in the future".
        Err(error) if has_code(&error, "22023") => Outcome::Aborted,
        Err(error) => return Err(error),
    };
    // A statement of its own, and so a snapshot from after the transaction was seen to have ended.
    let stands = sqlx::query_scalar!(
        r#"select exists (select from event where position = $1 and leaf_hash = $2) as "stands!""#,
        batch.to().0,
        &batch.leaf_hash[..],
    )
    .fetch_one(connection)
    .await?;
    Ok(if stands { Outcome::Committed } else { otherwise })
}

fn has_code(error: &sqlx::Error, code: &str) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|found| found == code)
}

/// A length as the database counts.
fn count(length: usize) -> i64 {
    i64::try_from(length).expect("a batch holds thousands of events, not 2^63")
}
