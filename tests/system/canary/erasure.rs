//! Deleting a person's key erases them everywhere at once (P9). A command that does it comes with the
//! work on erasure; here the key's row is deleted by hand.

use std::process::Stdio;

use serde_json::{Value, json};
use tally_tests::{eventually, log::assert_sound};

use super::stage::Stage;
use crate::support::{connection_to, expect};

#[tokio::test]
async fn after_an_erasure_no_process_reads_anything_of_a_person_and_every_proof_verifies() {
    let mut stage = Stage::new().await;
    let ada = stage.person("Ada", "203.0.113.77");
    let eve = stage.person("Eve", "198.51.100.42");
    let (hers, _) = stage.log_in(&ada).await;
    let (others, _) = stage.log_in(&eve).await;
    let client = stage.server.client();
    // From where she always is: the first use of her session is written down at any time.
    let minting = client.post("/api/tokens", &json!({ "name": ada.token_name })).bearer_auth(&hers.token);
    let minted = expect(201, stage.from(&ada, minting)).await.json();
    let token = minted["token"].as_str().expect("a token").to_owned();
    let (_, other) = client.mint(&others.token, &eve.token_name).await;
    // Whatever could be remembered is: each answer is asked for while she is readable.
    let asked = async || {
        let mut texts = Vec::new();
        for path in ["/api/me", "/v1/me", "/api/tokens", "/v1/audit", "/v1/sessions"] {
            for credential in [&token, &hers.token] {
                let request = stage.from(&ada, client.get(path).bearer_auth(credential));
                let answer = tally_tests::client::answer(request.header("x-min-position", "1")).await;
                texts.push(format!("{:?} {}", answer.headers, answer.text));
            }
        }
        texts.join("\n")
    };
    // Where her session was used from is written down too.
    let seen_from = async || {
        let sessions = expect(200, client.get("/v1/sessions").bearer_auth(&token)).await.json();
        sessions["sessions"][0]["last_seen_address"].as_str().map(str::to_owned)
    };
    asked().await;
    assert_eq!(eventually("a use to be written down", seen_from).await, ada.address);
    let before = asked().await;
    for mark in [&ada.email, &ada.token_name, &ada.address] {
        assert!(before.contains(mark.as_str()), "{mark} is readable before");
    }

    let mut connection = connection_to(&stage.server).await;
    let id: uuid::Uuid = hers.user["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    let erase = "delete from keys.subject where id = $1 or (kind = 'code' and id in
                 (select (payload ->> 'code_id')::uuid from event
                   where name = 'login.code_verified' and payload ->> 'user_id' = $1::text))";
    let erased = sqlx::query(erase).bind(id).execute(&mut connection).await.expect("the database answers");
    assert_eq!(erased.rows_affected(), 2, "her key, and that of her login");

    // The very next answers, by the process that has just read her.
    let after = asked().await;
    let found: Vec<String> = stage.marks.find(after.as_bytes()).iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{found:#?}");
    expect(401, client.get("/api/me").bearer_auth(&token)).await;
    // Somebody else is as readable as ever.
    let me = expect(200, client.get("/api/me").bearer_auth(&other)).await;
    assert_eq!(me.json()["email"], Value::from(eve.email));

    // The log is whole, and every table is still what the log makes of it.
    assert_sound(&mut connection).await;
    let mut verify = stage.server.command(&["projections", "verify"]);
    let verified = verify.stdin(Stdio::null()).output().expect("the command runs");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}
