//! An event that this release cannot read: people go on, and `projections status` says what stopped.

use serde_json::Value;
use tally_tests::{Server, eventually};

use crate::support::{BINARY, address, connection_to};

/// Appends an event that no release can read; its position.
pub async fn poison(server: &Server) -> i64 {
    let mut connection = connection_to(server).await;
    sqlx::query_scalar(
        "with head as (update log_head set position = position + 1 returning position, recorded_at)
         insert into event (position, stream_id, stream_version, name, schema_version, actor_kind, causation,
                            recorded_at, payload, leaf_hash)
         select position, gen_random_uuid(), 1, 'token.exploded', 1, 'operator', gen_random_uuid(), recorded_at,
                '{}', '' from head
         returning position",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap()
}

#[tokio::test]
async fn an_event_that_cannot_be_read_stops_the_lists_and_nobody_who_works() {
    let server = Server::start(BINARY, &[]).await;
    let client = server.client();
    let login = client.login(&address("before")).await;
    let (_, token) = client.mint(&login.token, "laptop").await;
    let poison = poison(&server).await;
    let halted = eventually("the projections to halt", async || {
        let output = server.command(&["projections", "status", "--json"]).output().expect("the command runs");
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        let all = status["projections"].as_array()?.clone();
        let halted: Vec<Value> =
            all.into_iter().filter(|projection| projection["halted"].is_string()).collect();
        (halted.len() == 2).then_some(halted)
    })
    .await;
    for projection in &halted {
        assert_eq!(projection["position"], poison - 1, "{projection}");
        let reason = projection["halted"].as_str().unwrap();
        assert!(reason.contains(&format!("the event at position {poison} cannot be read")), "{reason}");
    }
    // Credentials from before work, new ones are made, and a revocation still is one.
    assert!(client.accepts(&token).await);
    let login = client.login(&address("after")).await;
    let (id, token) = client.mint(&login.token, "laptop").await;
    assert!(client.accepts(&token).await);
    let path = format!("/api/tokens/{id}");
    let revoked = client.request(reqwest::Method::DELETE, &path).bearer_auth(&login.token);
    assert_eq!(tally_tests::client::answer(revoked).await.status, 204);
    assert!(!client.accepts(&token).await);
}
