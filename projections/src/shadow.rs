//! Tables of the live ones' names and shape in another schema, for a rebuild or a verification.
//!
//! They are made almost without indexes: filling a table and indexing it then costs a fraction of
//! keeping its indexes through every row.

use sqlx::{AssertSqlSafe, PgConnection};
use tally_store::Projection;

/// Makes a projection's tables in `schema`, empty, with no index but those that folding needs.
pub(crate) async fn create(
    connection: &mut PgConnection,
    projection: &dyn Projection,
    schema: &str,
) -> Result<(), sqlx::Error> {
    for table in projection.tables() {
        let shape = format!("(like public.{table} including all excluding indexes)");
        execute(connection, &format!("create table {schema}.{table} {shape}")).await?;
        for (name, statement) in constraints(connection, table, schema).await? {
            if projection.keys().contains(&name.as_str()) {
                execute(connection, &statement).await?;
            }
        }
    }
    Ok(())
}

/// A statement for the next constraint or index that the live tables have and those in `schema`
/// lack; none when they lack nothing.
pub(crate) async fn next_missing(
    connection: &mut PgConnection,
    projection: &dyn Projection,
    schema: &str,
) -> Result<Option<String>, sqlx::Error> {
    for table in projection.tables() {
        let mut missing = constraints(connection, table, schema).await?;
        missing.extend(indexes(connection, table, schema).await?);
        if let Some((_, statement)) = missing.into_iter().next() {
            return Ok(Some(statement));
        }
    }
    Ok(None)
}

/// Statements for the missing constraints, with their names.
async fn constraints(
    connection: &mut PgConnection,
    table: &str,
    schema: &str,
) -> Result<Vec<(String, String)>, sqlx::Error> {
    sqlx::query_as(
        "select live.conname::text,
                format('alter table %s add constraint %I %s', $2, live.conname, pg_get_constraintdef(live.oid))
           from pg_constraint live
          where live.conrelid = $1::text::regclass and live.contype in ('p', 'u', 'x')
            and not exists (select from pg_constraint here
                             where here.conrelid = $2::text::regclass and here.conname = live.conname)
          order by live.conname",
    )
    .bind(format!("public.{table}"))
    .bind(format!("{schema}.{table}"))
    .fetch_all(connection)
    .await
}

/// Statements for the missing indexes, with their names: `like … including indexes` would make up
/// others.
async fn indexes(
    connection: &mut PgConnection,
    table: &str,
    schema: &str,
) -> Result<Vec<(String, String)>, sqlx::Error> {
    let (live, new) = (format!("public.{table}"), format!("{schema}.{table}"));
    let indexes: Vec<(String, String)> = sqlx::query_as(
        "select name.relname::text, pg_get_indexdef(live.indexrelid)
           from pg_index live
           join pg_class name on name.oid = live.indexrelid
          where live.indrelid = $1::text::regclass
            and not exists (select from pg_constraint where conindid = live.indexrelid)
            and not exists (select from pg_index here
                              join pg_class same on same.oid = here.indexrelid
                             where here.indrelid = $2::text::regclass and same.relname = name.relname)
          order by live.indexrelid",
    )
    .bind(&live)
    .bind(&new)
    .fetch_all(connection)
    .await?;
    indexes
        .into_iter()
        .map(|(name, index)| {
            let definition = index.replacen(&format!(" ON {live} "), &format!(" ON {new} "), 1);
            if definition == index {
                let words = format!("an index of {live} is defined in words unknown here: {index}");
                return Err(sqlx::Error::Protocol(words));
            }
            Ok((name, definition))
        })
        .collect()
}

/// Runs a statement made of names that this crate and the database itself list.
pub(crate) async fn execute(connection: &mut PgConnection, statement: &str) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}
