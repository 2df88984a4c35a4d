//! Rebuild: makes a projection's tables anew, beside the live ones, and flips.
//!
//! The new tables stand in the schema `rebuild`, which is first in the search path of the
//! connection that fills them, so the projection's own statements write there. Readers go on with
//! the live tables until the flip: under the head's lock the last events are folded and the tables
//! change schema, in one transaction. A rebuild that was stopped goes on where it was.
//!
//! Every transaction that writes there holds the lock of the rebuild's progress, and so two
//! rebuilds of one projection take turns at the same tables. Without it the slower one would find
//! the schema empty after the flip, and fold into the live tables behind it.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, PgTransaction, postgres::PgConnectOptions};
use tally_events::Position;
use tally_store::{Projection, head};
use tokio::time::{Instant, sleep};

use crate::{
    is_inline,
    runner::{FoldError, fold_next},
};

/// When this few events remain, they are folded under the head's lock.
const FLIP_EVENTS: i64 = 500;
/// How long the flip, with every commit waiting behind it, waits for the readers of a table. Less
/// than the second after which PostgreSQL looks for a deadlock, so that no reader is its victim.
const READERS_TIMEOUT: &str = "400ms";
/// Between two tries: commits go on.
const FLIP_PAUSE: Duration = Duration::from_secs(1);
/// How long a reader that stays is waited for.
const FLIP_PATIENCE: Duration = Duration::from_mins(2);
/// Makes those who begin a rebuild take turns.
const PREPARE_LOCK: i64 = 0x7A11_0001;

/// Rebuilds one projection, telling `progress` each position reached and the head.
///
/// # Errors
/// When the database does not answer, an event cannot be folded, or somebody reads the live tables
/// without end. The live tables are as before, and the next rebuild goes on where this one stopped.
pub async fn rebuild(
    options: &PgConnectOptions,
    projection: &dyn Projection,
    mut progress: impl FnMut(Position, Position),
) -> Result<Position, FoldError> {
    // Pages are short transactions; only the flip may wait for readers to finish.
    let options = options.clone().options([("search_path", "rebuild,public"), ("statement_timeout", "60s")]);
    let mut connection = PgConnection::connect_with(&options).await?;
    prepare(&mut connection, projection).await?;
    let mut patience = None;
    let position = loop {
        let end = head(&mut connection).await?.position;
        let mut transaction = connection.begin().await?;
        let Some(position) = lock_progress(&mut transaction, projection).await? else {
            // Somebody else rebuilt it meanwhile, from the same log.
            transaction.rollback().await?;
            break end;
        };
        progress(position, end);
        if end.0 - position.0 > FLIP_EVENTS {
            let (reached, _) = fold_next(&mut transaction, projection, position, None).await?;
            save(&mut transaction, projection, reached).await?;
            transaction.commit().await?;
            continue;
        }
        match flip(transaction, projection, position).await {
            Err(FoldError::Database(error)) if is_lock_timeout(&error) => {
                let patience = *patience.get_or_insert_with(|| Instant::now() + FLIP_PATIENCE);
                if Instant::now() > patience {
                    return Err(error.into());
                }
                tracing::info!(projection.name = projection.name(), "waiting for readers of the live tables");
                sleep(FLIP_PAUSE).await;
            }
            flipped => break flipped?,
        }
    };
    progress(position, position);
    connection.close().await?;
    Ok(position)
}

/// Makes empty tables of the live ones' shape, or finds those of a rebuild that was stopped.
async fn prepare(connection: &mut PgConnection, projection: &dyn Projection) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query("select pg_advisory_xact_lock($1)").bind(PREPARE_LOCK).execute(&mut *transaction).await?;
    execute(&mut transaction, "create schema if not exists rebuild").await?;
    execute(
        &mut transaction,
        "create table if not exists rebuild.progress (name text primary key, version integer not null, position bigint not null)",
    )
    .await?;
    if lock_progress(&mut transaction, projection).await?.is_none() {
        for table in projection.tables() {
            execute(&mut transaction, &format!("drop table if exists rebuild.{table}")).await?;
            copy_shape(&mut transaction, table).await?;
        }
        save(&mut transaction, projection, Position::ZERO).await?;
    }
    transaction.commit().await
}

/// Makes `rebuild.{table}` like the live one, its constraints and indexes under the same names:
/// `like … including indexes` would make up others.
async fn copy_shape(connection: &mut PgConnection, table: &str) -> Result<(), sqlx::Error> {
    let (live, new) = (format!("public.{table}"), format!("rebuild.{table}"));
    execute(connection, &format!("create table {new} (like {live} including all excluding indexes)")).await?;
    let constraints: Vec<String> = sqlx::query_scalar(
        "select format('add constraint %I %s', conname, pg_get_constraintdef(oid)) from pg_constraint
          where conrelid = $1::text::regclass and contype in ('p', 'u', 'x') order by conname",
    )
    .bind(&live)
    .fetch_all(&mut *connection)
    .await?;
    for constraint in constraints {
        execute(connection, &format!("alter table {new} {constraint}")).await?;
    }
    let indexes: Vec<String> = sqlx::query_scalar(
        "select pg_get_indexdef(indexrelid) from pg_index
          where indrelid = $1::text::regclass and not exists (select from pg_constraint where conindid = indexrelid)
          order by indexrelid",
    )
    .bind(&live)
    .fetch_all(&mut *connection)
    .await?;
    for index in indexes {
        let definition = index.replacen(&format!(" ON {live} "), &format!(" ON {new} "), 1);
        if definition == index {
            return Err(sqlx::Error::Protocol(format!(
                "an index of {live} is defined in words unknown here: {index}"
            )));
        }
        execute(connection, &definition).await?;
    }
    Ok(())
}

/// How far the rebuild has come; whoever holds this lock, until its transaction ends, is the only
/// one to write its tables. None: there is no rebuild.
async fn lock_progress(
    connection: &mut PgConnection,
    projection: &dyn Projection,
) -> Result<Option<Position>, sqlx::Error> {
    let position: Option<i64> = sqlx::query_scalar(
        "select position from rebuild.progress where name = $1 and version = $2 for update",
    )
    .bind(projection.name())
    .bind(projection.version())
    .fetch_optional(connection)
    .await?;
    Ok(position.map(Position))
}

async fn save(
    connection: &mut PgConnection,
    projection: &dyn Projection,
    position: Position,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into rebuild.progress (name, version, position) values ($1, $2, $3)
         on conflict (name) do update set version = excluded.version, position = excluded.position",
    )
    .bind(projection.name())
    .bind(projection.version())
    .bind(position.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Folds what is left under the head's lock and puts the new tables in the old ones' place.
async fn flip(
    mut transaction: PgTransaction<'_>,
    projection: &dyn Projection,
    mut position: Position,
) -> Result<Position, FoldError> {
    // The same first lock as every commit's, so no event can come in between.
    let end: i64 =
        sqlx::query_scalar("select position from log_head for update").fetch_one(&mut *transaction).await?;
    sqlx::query("select 1 from projection where name = $1 for update")
        .bind(projection.name())
        .execute(&mut *transaction)
        .await?;
    while position.0 < end {
        position = fold_next(&mut transaction, projection, position, Some(Position(end))).await?.0;
    }
    execute(&mut transaction, &format!("set local lock_timeout = '{READERS_TIMEOUT}'")).await?;
    for table in projection.tables() {
        execute(&mut transaction, &format!("lock table public.{table} in access exclusive mode")).await?;
        for grant in grants(&mut transaction, table).await? {
            execute(&mut transaction, &grant).await?;
        }
    }
    for table in projection.tables() {
        execute(&mut transaction, &format!("drop table public.{table}")).await?;
        execute(&mut transaction, &format!("alter table rebuild.{table} set schema public")).await?;
    }
    sqlx::query("update projection set version = $2, position = $3, halted = null where name = $1")
        .bind(projection.name())
        .bind(projection.version())
        .bind((!is_inline(projection.name())).then_some(position.0))
        .execute(&mut *transaction)
        .await?;
    sqlx::query("delete from rebuild.progress where name = $1")
        .bind(projection.name())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(position)
}

/// Who may do what with the live table, as statements for the new one. Without them the serving
/// role, where it is not the owner, would lose its tables.
async fn grants(connection: &mut PgConnection, table: &str) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select format('grant %s on rebuild.%I to %s%s', a.privilege_type, c.relname,
                       case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
                       case when a.is_grantable then ' with grant option' else '' end)
           from pg_class c cross join lateral aclexplode(c.relacl) as a
          where c.oid = $1::text::regclass and a.grantee <> c.relowner
         union all
         select format('alter table rebuild.%I owner to %I', c.relname, pg_get_userbyid(c.relowner))
           from pg_class c where c.oid = $1::text::regclass",
    )
    .bind(format!("public.{table}"))
    .fetch_all(connection)
    .await
}

/// Lock timeouts and deadlocks: the readers go first, and the flip is tried again.
fn is_lock_timeout(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "55P03" || code == "40P01")
}

/// Runs a statement made of table names that this crate itself lists.
async fn execute(connection: &mut PgConnection, statement: &str) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}
