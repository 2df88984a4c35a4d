//! Verify sees every row that the log does not make.

use crate::support::{Log, all};

/// In each table: one row changed, one missing, one too many.
#[tokio::test]
async fn one_wrong_row_in_any_table_is_found() {
    let log = Log::new().await;
    log.people(3).await;
    let followers = log.follow();
    log.all_caught_up().await;
    for follower in followers {
        follower.abort();
    }
    log.assert_all_hold().await;
    let changes = [
        ("users", "credentials_after = credentials_after + 1", "id = gen_random_uuid()"),
        ("sessions", "ended_at = clock_timestamp()", "id = gen_random_uuid()"),
        ("credentials", "revoked_at = null", "id = gen_random_uuid(), hash = uuid_send(gen_random_uuid())"),
        ("workspaces", "deleted_at = clock_timestamp()", "id = gen_random_uuid()"),
        ("members", "role = 'x'", "id = gen_random_uuid()"),
        ("invitations", "status = 'x'", "id = gen_random_uuid()"),
        ("share_links", "uses = uses + 1", "id = gen_random_uuid()"),
        ("token_list", "name = name || 'x'", "id = gen_random_uuid()"),
        ("audit_scope", "actor_id = null", "position = position + 1000"),
        ("audit_credential", "credential_id = gen_random_uuid()", "position = position + 1000"),
    ];
    for projection in all() {
        for table in projection.tables() {
            let (_, wrong, other) =
                changes.iter().find(|(name, ..)| name == table).expect("each table is here");
            let row = match *table {
                "credentials" => {
                    "(select ctid from credentials where revoked_at is not null limit 1)".to_owned()
                }
                "audit_scope" => {
                    "(select ctid from audit_scope where actor_id is not null limit 1)".to_owned()
                }
                table => format!("(select ctid from {table} limit 1)"),
            };
            let extra = format!(
                "create temporary table extra as select * from {table} limit 1; update extra set {other};
                 insert into {table} select * from extra"
            );
            for (damage, unexpected, missing) in [
                (format!("update {table} set {wrong} where ctid = {row}"), 1, 1),
                (format!("delete from {table} where ctid = {row}"), 0, 1),
                (extra, 1, 0),
            ] {
                log.run(format!("create table kept as select * from {table}")).await;
                for statement in damage.split(';') {
                    // One connection, for the temporary table.
                    if !damage.contains("temporary") {
                        log.run(statement).await;
                    }
                }
                if damage.contains("temporary") {
                    use sqlx::Executor;
                    log.connection().await.execute(sqlx::AssertSqlSafe(damage.clone())).await.unwrap();
                }
                let verified = log.verified(projection.as_ref()).await;
                let told = |list: &[(String, i64)]| list.iter().map(|(_, rows)| rows).sum::<i64>();
                assert_eq!(
                    (told(&verified.unexpected), told(&verified.missing)),
                    (unexpected, missing),
                    "{damage}"
                );
                let named =
                    verified.unexpected.iter().chain(&verified.missing).all(|(name, _)| name == table);
                assert!(!verified.holds() && named, "{damage}: {verified:?}");
                log.run(format!("truncate {table}")).await;
                log.run(format!("insert into {table} select * from kept")).await;
                log.run("drop table kept").await;
            }
        }
    }
    log.assert_all_hold().await;
}

/// A projection that follows is compared at its own checkpoint, however far behind.
#[tokio::test]
async fn a_projection_that_lags_is_compared_at_its_checkpoint() {
    let log = Log::new().await;
    log.people(2).await;
    let followers = log.follow();
    log.all_caught_up().await;
    for follower in followers {
        follower.abort();
        drop(follower.await);
    }
    let behind = log.head().await;
    log.people(2).await;
    for projection in tally_projections::following() {
        let verified = log.verified(projection.as_ref()).await;
        assert!(verified.holds() && verified.position.0 == behind, "{verified:?}");
    }
    for projection in tally_projections::inline() {
        let verified = log.verified(projection.as_ref()).await;
        assert!(verified.holds() && verified.position.0 == 2 * behind, "{verified:?}");
    }
}
