//! The rows of a command, written without the product: what the baselines do.
//!
//! They are copies of a row that the product wrote, each with ids of its own, so that both sides
//! give PostgreSQL the same columns, the same bytes and the same indexes.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use tally_store::Clock;
use uuid::Uuid;

use crate::Result;

/// A row of `event` that the product wrote, and the kind of its stream.
#[derive(Clone, sqlx::FromRow)]
pub struct Template {
    pub stream_kind: String,
    pub name: String,
    pub schema_version: i16,
    pub actor_kind: String,
    pub actor_id: Option<Uuid>,
    pub credential_id: Option<Uuid>,
    pub request_id: Option<Uuid>,
    pub payload: String,
}

impl Template {
    /// The last event of a log.
    pub async fn last(pool: &PgPool) -> Result<Self> {
        let template = sqlx::query_as(
            "select s.kind as stream_kind, e.name, e.schema_version, e.actor_kind, e.actor_id, e.credential_id,
                    e.request_id, e.payload::text as payload
               from event e join stream s on s.id = e.stream_id order by e.position desc limit 1",
        )
        .fetch_one(pool)
        .await?;
        Ok(template)
    }
}

/// Events on streams of their own, each with its place in the log.
pub struct Rows<'a> {
    template: &'a Template,
    pub positions: Vec<i64>,
    pub streams: Vec<Uuid>,
    pub recorded_at: DateTime<Utc>,
}

impl<'a> Rows<'a> {
    pub fn new(template: &'a Template, after: i64, count: usize, clock: &Clock) -> Self {
        let positions = (after + 1..).take(count).collect();
        let streams = (0..count).map(|_| Uuid::now_v7()).collect();
        Self { template, positions, streams, recorded_at: clock.now() }
    }

    pub fn len(&self) -> usize {
        self.positions.len()
    }

    pub fn all<T: Clone>(&self, value: T) -> Vec<T> {
        vec![value; self.len()]
    }

    /// Writes the rows of `stream` and `event`.
    pub async fn insert(&self, connection: &mut PgConnection) -> Result<()> {
        sqlx::query("insert into stream (id, kind, version) select * from unnest($1::uuid[], $2::text[], $3::bigint[])")
            .bind(&self.streams)
            .bind(self.all(self.template.stream_kind.as_str()))
            .bind(self.all(1_i64))
            .execute(&mut *connection)
            .await?;
        let template = self.template;
        let leaf_hashes: Vec<Vec<u8>> =
            self.streams.iter().map(|stream| [*stream.as_bytes(); 2].concat()).collect();
        sqlx::query(
            "insert into event (position, stream_id, stream_version, name, schema_version, workspace_id,
                                actor_kind, actor_id, credential_id, request_id, causation, recorded_at,
                                payload, leaf_hash)
             select e.position, e.stream_id, e.stream_version, e.name, e.schema_version, e.workspace_id,
                    e.actor_kind, e.actor_id, e.credential_id, e.request_id, e.causation, e.recorded_at,
                    e.payload::json, e.leaf_hash
               from unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::text[], $5::smallint[], $6::uuid[],
                           $7::text[], $8::uuid[], $9::uuid[], $10::uuid[], $11::uuid[], $12::timestamptz[],
                           $13::text[], $14::bytea[])
                 as e(position, stream_id, stream_version, name, schema_version, workspace_id, actor_kind,
                      actor_id, credential_id, request_id, causation, recorded_at, payload, leaf_hash)",
        )
        .bind(&self.positions)
        .bind(&self.streams)
        .bind(self.all(1_i64))
        .bind(self.all(template.name.as_str()))
        .bind(self.all(template.schema_version))
        .bind(self.all(None::<Uuid>))
        .bind(self.all(template.actor_kind.as_str()))
        .bind(self.all(template.actor_id))
        .bind(self.all(template.credential_id))
        .bind(self.all(template.request_id))
        .bind(&self.streams)
        .bind(self.all(self.recorded_at))
        .bind(self.all(template.payload.as_str()))
        .bind(leaf_hashes)
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// What the projections made of the last mint.
#[derive(Clone)]
pub struct MintTemplate {
    pub event: Template,
    credential: Credential,
    entry: Entry,
    scopes: Vec<Scope>,
    /// Credentials that the mint was done with, beside the one it made.
    done_with: Vec<Uuid>,
}

#[derive(Clone, sqlx::FromRow)]
struct Credential {
    kind: String,
    user_id: Uuid,
    minted_by: Uuid,
    minted_by_kind: String,
    expires_at: Option<DateTime<Utc>>,
}

#[derive(Clone, sqlx::FromRow)]
struct Entry {
    name: String,
    prefix: String,
}

#[derive(Clone, sqlx::FromRow)]
struct Scope {
    scope_id: Uuid,
    name: String,
    actor_id: Option<Uuid>,
    subject_id: Option<Uuid>,
}

impl MintTemplate {
    /// Of the last event of a log, a mint that every projection has folded.
    pub async fn last(pool: &PgPool) -> Result<Self> {
        let credential = sqlx::query_as(
            "select kind, user_id, minted_by, minted_by_kind, expires_at from credentials order by position desc limit 1",
        );
        let entry = sqlx::query_as("select name, prefix from token_list order by position desc limit 1");
        let scopes = sqlx::query_as(
            "select scope_id, name, actor_id, subject_id from audit_scope where position = (select position from log_head)",
        );
        let done_with = sqlx::query_scalar(
            "select c.credential_id from audit_credential c join event e using (position)
              where position = (select position from log_head) and c.credential_id <> e.stream_id",
        );
        Ok(Self {
            event: Template::last(pool).await?,
            credential: credential.fetch_one(pool).await?,
            entry: entry.fetch_one(pool).await?,
            scopes: scopes.fetch_all(pool).await?,
            done_with: done_with.fetch_all(pool).await?,
        })
    }

    /// Writes the rows of `credentials`.
    pub async fn insert_credentials(&self, rows: &Rows<'_>, connection: &mut PgConnection) -> Result<()> {
        let hashes: Vec<Vec<u8>> = rows.streams.iter().map(|_| rand::random::<[u8; 32]>().to_vec()).collect();
        let credential = &self.credential;
        sqlx::query(
            "insert into credentials (hash, id, kind, user_id, minted_by, minted_by_kind, expires_at, position)
             select * from unnest($1::bytea[], $2::uuid[], $3::text[], $4::uuid[], $5::uuid[], $6::text[],
                                  $7::timestamptz[], $8::bigint[])",
        )
        .bind(hashes)
        .bind(&rows.streams)
        .bind(rows.all(credential.kind.as_str()))
        .bind(rows.all(credential.user_id))
        .bind(rows.all(credential.minted_by))
        .bind(rows.all(credential.minted_by_kind.as_str()))
        .bind(rows.all(credential.expires_at))
        .bind(&rows.positions)
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Writes the rows of what follows the log: `token_list`, `audit_scope`, `audit_credential`.
    pub async fn insert_following(&self, rows: &Rows<'_>, connection: &mut PgConnection) -> Result<()> {
        let credential = &self.credential;
        sqlx::query(
            "insert into token_list (id, user_id, name, prefix, minted_by, created_at, expires_at, position)
             select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::timestamptz[],
                                  $7::timestamptz[], $8::bigint[])",
        )
        .bind(&rows.streams)
        .bind(rows.all(credential.user_id))
        .bind(rows.all(self.entry.name.as_str()))
        .bind(rows.all(self.entry.prefix.as_str()))
        .bind(rows.all(credential.minted_by))
        .bind(rows.all(rows.recorded_at))
        .bind(rows.all(credential.expires_at))
        .bind(&rows.positions)
        .execute(&mut *connection)
        .await?;
        for scope in &self.scopes {
            sqlx::query(
                "insert into audit_scope (scope_id, position, name, actor_id, subject_id)
                 select * from unnest($1::uuid[], $2::bigint[], $3::text[], $4::uuid[], $5::uuid[])",
            )
            .bind(rows.all(scope.scope_id))
            .bind(&rows.positions)
            .bind(rows.all(scope.name.as_str()))
            .bind(rows.all(scope.actor_id))
            .bind(rows.all(scope.subject_id))
            .execute(&mut *connection)
            .await?;
        }
        let (mut credentials, mut positions) = (rows.streams.clone(), rows.positions.clone());
        for credential in &self.done_with {
            credentials.extend(rows.all(*credential));
            positions.extend(&rows.positions);
        }
        sqlx::query(
            "insert into audit_credential (credential_id, position) select * from unnest($1::uuid[], $2::bigint[])",
        )
        .bind(credentials)
        .bind(positions)
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// What a baseline writes for each operation.
#[derive(Clone)]
pub enum Work {
    /// The rows of `stream` and `event`.
    Append(Template),
    /// Those and the row of `credentials`.
    Mint(MintTemplate),
    /// Those and the rows of what follows the log.
    MintAndFollowing(MintTemplate),
}

impl Work {
    /// Finds an event and its stream for each operation, or -1 where they are not as many.
    pub const EVENTS: &str =
        "select case when (select count(*) from stream) = count(*) then count(*) else -1 end from event";
    /// The same with the rows of `credentials`.
    pub const CREDENTIALS: &str = "select case when (select count(*) from stream) = count(*)
         and (select count(*) from credentials) = count(*) then count(*) else -1 end from event";
    /// The same with the rows of what follows the log, two of `audit_credential` for each mint.
    pub const FOLLOWING: &str = "select case when (select count(*) from stream) = count(*)
         and (select count(*) from credentials) = count(*) and (select count(*) from token_list) = count(*)
         and (select count(*) from audit_scope) = count(*)
         and (select count(*) from audit_credential) = 2 * count(*) then count(*) else -1 end from event";

    pub fn template(&self) -> &Template {
        match self {
            Self::Append(template) => template,
            Self::Mint(mint) | Self::MintAndFollowing(mint) => &mint.event,
        }
    }

    /// Counts the operations whose rows are all there.
    pub fn count(&self) -> &'static str {
        match self {
            Self::Append(_) => Self::EVENTS,
            Self::Mint(_) => Self::CREDENTIALS,
            Self::MintAndFollowing(_) => Self::FOLLOWING,
        }
    }

    /// Writes all rows of so many operations, in the transaction of the connection.
    pub async fn write(&self, rows: &Rows<'_>, connection: &mut PgConnection) -> Result<()> {
        rows.insert(connection).await?;
        match self {
            Self::Append(_) => {}
            Self::Mint(mint) => mint.insert_credentials(rows, connection).await?,
            Self::MintAndFollowing(mint) => {
                mint.insert_credentials(rows, connection).await?;
                mint.insert_following(rows, connection).await?;
            }
        }
        Ok(())
    }
}
