//! Rebuild: makes a projection's tables anew, beside the live ones, and flips.
//!
//! The new tables stand in the schema `rebuild`, which is first in the search path of the
//! connection that fills them, so the projection's own statements write there. Readers go on with
//! the live tables until the flip: under the head's lock the last events are folded and the tables
//! change schema, in one transaction. A rebuild that was stopped goes on where it was.

use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};
use tally_events::Position;
use tally_store::{Projection, head};

use crate::{
    is_inline,
    runner::{FoldError, fold_next},
};

/// When this few events remain, they are folded under the head's lock.
const FLIP_EVENTS: i64 = 500;

/// Rebuilds one projection, telling `progress` each position reached and the head.
///
/// # Errors
/// When the database does not answer or an event cannot be folded. The live tables are as before,
/// and the next rebuild goes on where this one stopped.
pub async fn rebuild(
    options: &PgConnectOptions,
    projection: &dyn Projection,
    mut progress: impl FnMut(Position, Position),
) -> Result<Position, FoldError> {
    // Pages are short transactions; only the flip may wait for readers to finish.
    let options = options.clone().options([("search_path", "rebuild,public"), ("statement_timeout", "60s")]);
    let mut connection = PgConnection::connect_with(&options).await?;
    let mut position = prepare(&mut connection, projection).await?;
    loop {
        let end = head(&mut connection).await?.position;
        progress(position, end);
        if end.0 - position.0 <= FLIP_EVENTS {
            break;
        }
        let mut transaction = connection.begin().await?;
        let (reached, _) = fold_next(&mut transaction, projection, position, None).await?;
        save(&mut transaction, projection, reached).await?;
        transaction.commit().await?;
        position = reached;
    }
    let position = flip(&mut connection, projection, position).await?;
    progress(position, position);
    connection.close().await?;
    Ok(position)
}

/// Makes empty tables of the live ones' shape, or finds those of a rebuild that was stopped.
async fn prepare(
    connection: &mut PgConnection,
    projection: &dyn Projection,
) -> Result<Position, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    execute(&mut transaction, "create schema if not exists rebuild").await?;
    execute(
        &mut transaction,
        "create table if not exists rebuild.progress (name text primary key, version integer not null, position bigint not null)",
    )
    .await?;
    let begun: Option<i64> = sqlx::query_scalar(
        "select position from rebuild.progress where name = $1 and version = $2 for update",
    )
    .bind(projection.name())
    .bind(projection.version())
    .fetch_optional(&mut *transaction)
    .await?;
    let position = if let Some(position) = begun {
        Position(position)
    } else {
        for table in projection.tables() {
            execute(&mut transaction, &format!("drop table if exists rebuild.{table}")).await?;
            execute(
                &mut transaction,
                &format!("create table rebuild.{table} (like public.{table} including all)"),
            )
            .await?;
        }
        save(&mut transaction, projection, Position::ZERO).await?;
        Position::ZERO
    };
    transaction.commit().await?;
    Ok(position)
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
    connection: &mut PgConnection,
    projection: &dyn Projection,
    mut position: Position,
) -> Result<Position, FoldError> {
    let mut transaction = connection.begin().await?;
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

/// Runs a statement made of table names that this crate itself lists.
async fn execute(connection: &mut PgConnection, statement: &str) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}
