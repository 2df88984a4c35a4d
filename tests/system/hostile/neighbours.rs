//! Other people's things: nothing leaks, nothing happens.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use tally_tests::{Answer, Client, Login, client::answer};

use super::{assert_calm, somebody};
use crate::support::address;

/// What a client can tell two answers apart by, positions and ids of requests aside.
fn shape(answer: &Answer) -> (u16, String, BTreeSet<String>, Option<String>) {
    let headers = answer.headers.keys().map(|name| name.as_str().to_owned()).collect();
    (answer.status, answer.text.clone(), headers, answer.header("x-revocation").map(str::to_owned))
}

async fn revoke(client: &Client, login: &Login, id: &str, query: &str) -> Answer {
    let path = format!("/api/tokens/{id}{query}");
    answer(client.request(Method::DELETE, &path).bearer_auth(&login.token)).await
}

async fn listed(client: &Client, login: &Login) -> Vec<Value> {
    let answer = answer(client.get("/api/tokens").bearer_auth(&login.token)).await;
    answer.json().as_array().expect("a list").clone()
}

#[tokio::test]
async fn another_persons_token_is_as_unknown_as_none() {
    let (client, owner) = somebody().await;
    let stranger = client.login(&address("stranger")).await;
    let (parent_id, parent) = client.mint(&owner.token, "parent").await;
    let (child_id, child) = client.mint(&parent, "child").await;
    let session_id =
        answer(client.get("/v1/me").bearer_auth(&owner.token)).await.json()["credential_id"].clone();
    let session_id = session_id.as_str().expect("an id").to_owned();
    let user_id = owner.user["id"].as_str().expect("an id").to_owned();
    let unknown = uuid::Uuid::now_v7().to_string();
    for query in ["", "?line=true", "?line=false"] {
        let nothing = shape(&revoke(&client, &stranger, &unknown, query).await);
        assert_eq!(nothing.0, 204);
        for id in [&parent_id, &child_id, &session_id, &user_id, &parent_id.to_uppercase()] {
            assert_eq!(shape(&revoke(&client, &stranger, id, query).await), nothing, "{query}");
        }
    }
    for token in [&parent, &child, &owner.token] {
        assert!(client.accepts(token).await, "a stranger revoked it");
    }
    assert_eq!(listed(&client, &owner).await.len(), 2);
    assert!(listed(&client, &stranger).await.is_empty(), "a stranger's list holds nothing of theirs");
    // A session's id among the owner's own tokens is none either.
    assert_eq!(revoke(&client, &owner, &session_id, "?line=true").await.status, 204);
    assert!(client.accepts(&owner.token).await && client.accepts(&parent).await);
    assert_calm().await;
}

#[tokio::test]
async fn the_audit_trail_tells_nobody_of_others() {
    let (client, owner) = somebody().await;
    let stranger = client.login(&address("curious")).await;
    let (id, token) = client.mint(&owner.token, "audited").await;
    client.mint(&token, "below").await;
    let user = owner.user["id"].as_str().expect("an id");
    let unknown = uuid::Uuid::now_v7().to_string();
    let page = async |login: &Login, query: &str| {
        let answer = answer(client.get(&format!("/v1/audit?{query}")).bearer_auth(&login.token)).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text);
        answer.json()
    };
    for (name, of_owner) in [("credential", id.as_str()), ("actor", user), ("subject", user)] {
        let known = page(&owner, &format!("{name}={of_owner}")).await;
        assert!(!known["events"].as_array().expect("a page").is_empty(), "{name} finds it for its owner");
        let nothing = page(&stranger, &format!("{name}={unknown}")).await;
        assert_eq!(page(&stranger, &format!("{name}={of_owner}")).await, nothing, "{name}");
        assert_eq!(nothing, json!({ "events": [], "next_cursor": null }));
    }
    let line = page(&stranger, &format!("credential={id}&line=true")).await;
    assert_eq!(line, json!({ "events": [], "next_cursor": null }));
    let whole = page(&stranger, "limit=200").await.to_string();
    for secret in [user, &id, owner.user["email"].as_str().expect("an address")] {
        assert!(!whole.contains(secret), "{secret} is in a stranger's trail");
    }
    assert_calm().await;
}

#[tokio::test]
async fn a_body_cannot_say_whose_it_is() {
    let (client, owner) = somebody().await;
    let stranger = client.login(&address("pretender")).await;
    let before = answer(client.get("/api/me").bearer_auth(&owner.token)).await.json();
    let change = json!({
        "id": owner.user["id"], "user_id": owner.user["id"], "sub": owner.user["id"], "email": owner.user["email"],
        "name": "Mallory", "role": "owner", "suspended": false, "created_at": "2000-01-01T00:00:00Z",
    });
    let changed =
        answer(client.request(Method::PATCH, "/api/me").bearer_auth(&stranger.token).json(&change)).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    let changed = changed.json();
    assert_eq!(changed["name"], "Mallory");
    for field in ["id", "email", "created_at"] {
        assert_eq!(changed[field], stranger.user[field], "{field}");
    }
    assert_eq!(answer(client.get("/api/me").bearer_auth(&owner.token)).await.json(), before);
    let wish = json!({
        "name": "wish", "user_id": owner.user["id"], "id": owner.user["id"], "token": "mul_x", "token_prefix": "mul_",
        "minted_by": owner.user["id"], "expires_at": "2999-01-01T00:00:00Z", "expires_in_days": 1, "kind": "pak",
    });
    let minted = answer(client.post("/api/tokens", &wish).bearer_auth(&stranger.token)).await.json();
    assert_ne!(minted["id"], owner.user["id"]);
    assert!(minted["token"].as_str().is_some_and(|token| token.len() == 40), "{minted}");
    assert!(!minted["expires_at"].as_str().expect("a time").starts_with("2999"), "{minted}");
    let me =
        answer(client.get("/api/me").bearer_auth(minted["token"].as_str().expect("a token"))).await.json();
    assert_eq!(me["id"], stranger.user["id"]);
    assert_calm().await;
}

/// The server alone says who a request is from; what clients say of it is removed before anything runs.
#[tokio::test]
async fn an_identity_header_of_the_clients_own_is_not_believed() {
    let (client, owner) = somebody().await;
    let victim = client.login(&address("victim")).await;
    let (of_victim, of_owner) = (&victim.user["id"], &owner.user["id"]);
    let names = [
        "X-User-ID",
        "x_user_id",
        "X_User_Id",
        "x-USER_id",
        "X-User-Email",
        "x_user_email",
        "X-Agent-ID",
        "X_AGENT_ID",
        "X-Task-ID",
        "x_task_id",
        "X-Actor-Source",
        "x_actor_source",
        "X-Actor-Kind",
        "X-Credential-ID",
        "X-Principal",
        "X-Scopes",
        "X-Workspace-Role",
        "X-Daemon-ID",
    ];
    for name in names {
        for value in [of_victim.as_str(), victim.user["email"].as_str()].map(|text| text.expect("a text")) {
            let alone = answer(client.get("/api/me").header(name, value)).await;
            super::assert_error(&alone, 401, "missing authorization", name);
            let me = answer(client.get("/api/me").bearer_auth(&owner.token).header(name, value)).await;
            assert_eq!(&me.json()["id"], of_owner, "{name}");
        }
    }
    let forged =
        names.iter().fold(client.post("/api/tokens", &json!({ "name": "forged" })), |request, name| {
            request.header(*name, of_victim.as_str().expect("an id"))
        });
    let minted = answer(forged.bearer_auth(&owner.token)).await;
    assert_eq!(minted.status, 201, "{}", minted.text);
    let trail = answer(client.get("/v1/audit?name=token.minted").bearer_auth(&owner.token)).await.json();
    assert_eq!(&trail["events"][0]["actor"]["id"], of_owner);
    assert_eq!(trail["events"][0]["actor"]["kind"], "person");
    assert_eq!(&trail["events"][0]["subject_id"], of_owner);
    assert!(listed(&client, &victim).await.is_empty());
    assert_calm().await;
}
