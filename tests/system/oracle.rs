//! An independent judge of the projections: plain SQL over `event`, none of our code.

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgTransaction};

pub const TABLES: [&str; 10] = [
    "users",
    "sessions",
    "credentials",
    "workspaces",
    "members",
    "invitations",
    "share_links",
    "token_list",
    "audit_scope",
    "audit_credential",
];

/// Those that whoever logs in and mints a token leaves something in.
const NEVER_EMPTY: [&str; 6] =
    ["users", "sessions", "credentials", "token_list", "audit_scope", "audit_credential"];

/// Where the tables and the oracle differ, a line each; empty when they agree. No writer may be at
/// work, and what follows the log must have caught up.
pub async fn disagreements(connection: &mut PgConnection) -> Vec<String> {
    let mut transaction = ask(connection).await;
    let mut found = Vec::new();
    for table in TABLES {
        for (what, left, right) in [
            ("only in the table", format!("public.{table}"), format!("oracle_{table}")),
            ("only by the oracle", format!("oracle_{table}"), format!("public.{table}")),
        ] {
            // As documents, in which the order of a document's fields says nothing.
            let statement = format!(
                "select d::text from (select to_jsonb(l) from {left} l except all select to_jsonb(r) from {right} r) as d"
            );
            let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(statement))
                .fetch_all(&mut *transaction)
                .await
                .expect("both have the same columns");
            if let Some(first) = rows.first() {
                found.push(format!("{table}: {} rows {what}, such as {first}", rows.len()));
            }
        }
    }
    transaction.rollback().await.expect("the database answers");
    found
}

/// A transaction that has the oracle's views.
async fn ask(connection: &mut PgConnection) -> PgTransaction<'_> {
    let mut transaction = connection.begin().await.expect("the database answers");
    transaction
        .execute("set transaction isolation level repeatable read")
        .await
        .expect("a fresh transaction");
    // The settings of serving connections are for short statements.
    transaction.execute("set local statement_timeout = 0").await.expect("a setting");
    transaction.execute(include_str!("oracle.sql")).await.expect("the oracle reads the log");
    transaction
}

/// Compares events as `/v1/audit` shows them to somebody who was not erased.
///
/// # Panics
/// When one is shown with more or less than an auditor may see of it.
pub async fn assert_shown(connection: &mut PgConnection, events: &[Value]) {
    let mut transaction = ask(connection).await;
    for event in events {
        let (mut expected, personal): (Value, Vec<String>) = sqlx::query_as(
            "select jsonb_build_object(
                        'position', position, 'name', name, 'stream', jsonb_build_object('kind', stream_kind, 'id', stream_id),
                        'actor', jsonb_build_object('kind', actor_kind, 'id', actor_id), 'credential_id', credential_id,
                        'workspace_id', workspace_id, 'subject_id', subject_id, 'request_id', request_id, 'data', data),
                    personal
               from oracle_trail where position = ($1::jsonb->>'position')::bigint",
        )
        .bind(event)
        .fetch_one(&mut *transaction)
        .await
        .expect("the event is in the log");
        // Only the server can open these: that they are there, and readable, is all there is to say.
        for field in personal {
            let shown = &event["data"][&field];
            assert!(shown.as_str().is_some_and(|text| !text.contains("v1.")), "{field} of {event}");
            expected["data"][&field] = shown.clone();
        }
        expected["recorded_at"] = event["recorded_at"].clone();
        assert_eq!(*event, expected);
    }
    transaction.rollback().await.expect("the database answers");
}

/// # Panics
/// When the tables are not what the log makes them, or a table is empty: that would prove nothing.
pub async fn assert_agrees(connection: &mut PgConnection) {
    let found = disagreements(connection).await;
    assert!(found.is_empty(), "{}", found.join("\n"));
    for table in NEVER_EMPTY {
        let statement = format!("select exists (select from {table})");
        let some: bool = sqlx::query_scalar(AssertSqlSafe(statement))
            .fetch_one(&mut *connection)
            .await
            .expect("the table is there");
        assert!(some, "{table} is empty");
    }
}
