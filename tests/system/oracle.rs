//! An independent judge of the projections: plain SQL over `event`, none of our code.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

const TABLES: [&str; 7] =
    ["users", "sessions", "credentials", "token_list", "audit_log", "audit_scope", "audit_credential"];

/// Where the tables and the oracle differ, a line each; empty when they agree. No writer may be at
/// work, and what follows the log must have caught up.
pub async fn disagreements(connection: &mut PgConnection) -> Vec<String> {
    let mut transaction = connection.begin().await.expect("the database answers");
    transaction
        .execute("set transaction isolation level repeatable read")
        .await
        .expect("a fresh transaction");
    // The settings of serving connections are for short statements.
    transaction.execute("set local statement_timeout = 0").await.expect("a setting");
    transaction.execute(include_str!("oracle.sql")).await.expect("the oracle reads the log");
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

/// # Panics
/// When the tables are not what the log makes them, or a table is empty: that would prove nothing.
pub async fn assert_agrees(connection: &mut PgConnection) {
    let found = disagreements(connection).await;
    assert!(found.is_empty(), "{}", found.join("\n"));
    for table in TABLES {
        let statement = format!("select exists (select from {table})");
        let some: bool = sqlx::query_scalar(AssertSqlSafe(statement))
            .fetch_one(&mut *connection)
            .await
            .expect("the table is there");
        assert!(some, "{table} is empty");
    }
}
