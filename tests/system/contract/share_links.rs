//! *Workspaces, members, invitations*: share links.

use futures::future::join_all;
use reqwest::{Method, RequestBuilder};
use rstest::rstest;
use serde_json::{Value, json};
use tally_tests::{Login, client::answer};

use crate::support::{
    client, expect, fields, person, refused,
    team::{Team, id, team},
    timestamp,
};

async fn create(team: &Team, body: Value) -> Value {
    expect(201, team.post("/share-links", &team.owner, &body)).await.json()
}

async fn join(link: &Value, by: &Login) -> RequestBuilder {
    client().await.post("/api/share-links/join", &json!({ "code": link["code"] })).bearer_auth(&by.token)
}

async fn look(link: &Value) -> RequestBuilder {
    client().await.get(&format!("/api/share-links/{}", link["code"].as_str().unwrap()))
}

/// 201 with the link; whoever knows the code sees where it leads, and joins by it.
#[tokio::test]
async fn a_link_lets_in_whoever_knows_it() {
    let team = team().await;
    let link = create(&team, json!({ "role": "admin", "expires_in": 24, "max_uses": 5 })).await;
    let names = [
        "code",
        "created_at",
        "created_by",
        "expires_at",
        "id",
        "max_uses",
        "role",
        "use_count",
        "workspace_id",
    ];
    assert_eq!(fields(&link), names);
    assert_eq!(
        (&link["role"], &link["max_uses"], &link["use_count"]),
        (&json!("admin"), &json!(5), &json!(0))
    );
    assert_eq!(link["created_by"], team.owner.user["id"]);
    let lifetime = timestamp(&link["expires_at"]) - timestamp(&link["created_at"]);
    assert!((lifetime - chrono::TimeDelta::hours(24)).abs() < chrono::TimeDelta::seconds(5));
    // Without a credential: no more than a name to recognise it by.
    let seen = expect(200, look(&link).await).await.json();
    assert_eq!(fields(&seen), ["expires_at", "role", "workspace_avatar_url", "workspace_name"]);
    assert_eq!(seen["workspace_name"], "Team");
    let guest = person("guest").await;
    let member = expect(200, join(&link, &guest).await).await.json();
    assert_eq!((&member["user_id"], &member["role"]), (&json!(id(&guest)), &json!("admin")));
    refused(409, "user is already a member", join(&link, &guest).await).await;
    let listed = expect(200, team.get("/share-links", &team.owner)).await.json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["use_count"]), (1, &json!(1)));
}

#[rstest]
#[case(json!({ "role": "owner" }), "a share link cannot make owners")]
#[case(json!({ "role": "king" }), "invalid member role")]
#[case(json!({ "expires_in": 0 }), "expires_in must be between 1 and 8760 hours")]
#[case(json!({ "max_uses": 0 }), "max_uses must be between 1 and 100000")]
#[case(json!({ "max_uses": 100_001 }), "max_uses must be between 1 and 100000")]
#[tokio::test]
async fn what_is_not_valid_is_refused(#[case] body: Value, #[case] words: &str) {
    let team = team().await;
    refused(400, words, team.post("/share-links", &team.owner, &body)).await;
}

/// One active per workspace: a new one is the end of the one before.
#[tokio::test]
async fn a_new_link_ends_the_one_before() {
    let team = team().await;
    let (one, two) = (create(&team, json!({})).await, create(&team, json!({})).await);
    assert_ne!(one["code"], two["code"]);
    let guest = person("guest").await;
    refused(404, "share link not found", join(&one, &guest).await).await;
    refused(404, "share link not found", look(&one).await).await;
    let listed = expect(200, team.get("/share-links", &team.owner)).await.json();
    assert_eq!(listed, json!([two]));
    expect(200, join(&two, &guest).await).await;
}

/// Two new ones at once: one of them is active.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_new_links_at_once_one_is_active() {
    let team = team().await;
    let sent = || answer(team.post("/share-links", &team.owner, &json!({})));
    let answers = join_all([sent(), sent(), sent()]).await;
    assert!(answers.iter().any(|answer| answer.status == 201));
    assert!(answers.iter().all(|answer| [201, 503].contains(&answer.status)), "{answers:?}");
    let mut active = 0;
    for answer in answers.iter().filter(|answer| answer.status == 201) {
        active += usize::from(tally_tests::client::answer(look(&answer.json()).await).await.status == 200);
    }
    assert_eq!(active, 1);
}

/// The last use of a link: one of all who come at once has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uses_are_never_exceeded() {
    let team = team().await;
    let link = create(&team, json!({ "max_uses": 2 })).await;
    let people = join_all((0..8).map(|_| person("guest"))).await;
    let mut requests = Vec::new();
    for login in &people {
        requests.push(answer(join(&link, login).await));
    }
    let answers = join_all(requests).await;
    let joined = answers.iter().filter(|answer| answer.status == 200).count();
    assert!(answers.iter().all(|answer| [200, 404, 503].contains(&answer.status)), "{answers:?}");
    assert_eq!((joined, team.members().await.len()), (2, 3));
}

/// DELETE answers 204, with the link's id and without; nobody joins then.
#[tokio::test]
async fn a_revoked_link_lets_nobody_in() {
    let team = team().await;
    let guest = person("guest").await;
    let link = create(&team, json!({})).await;
    let path = format!("/share-links/{}", link["id"].as_str().unwrap());
    let answer = expect(204, team.delete(&path, &team.owner)).await;
    assert_eq!(answer.header("x-revocation"), Some("effective"));
    expect(204, team.delete(&path, &team.owner)).await;
    refused(404, "share link not found", join(&link, &guest).await).await;
    let link = create(&team, json!({})).await;
    expect(204, team.delete("/share-links", &team.owner)).await;
    refused(404, "share link not found", join(&link, &guest).await).await;
    assert_eq!(expect(200, team.get("/share-links", &team.owner)).await.json(), json!([]));
}

/// Whoever was removed does not come back by the link they came by, and whoever left may.
#[tokio::test]
async fn a_link_lets_nobody_back_in_who_was_removed() {
    let team = team().await;
    let guest = person("guest").await;
    let link = create(&team, json!({})).await;
    expect(200, join(&link, &guest).await).await;
    expect(204, team.request(Method::POST, "/leave", &guest)).await;
    expect(200, join(&link, &guest).await).await;
    expect(204, team.delete(&team.path_of(&guest).await, &team.owner)).await;
    refused(404, "share link not found", join(&link, &guest).await).await;
    expect(200, join(&link, &person("other").await).await).await;
    let link = create(&team, json!({})).await;
    expect(200, join(&link, &guest).await).await;
}

/// Owner and admin alone make, see and revoke links; a deleted workspace has none.
#[tokio::test]
async fn links_are_for_those_who_manage() {
    let team = team().await;
    let (admin, member) = (team.member("admin").await, team.member("member").await);
    let words = "insufficient permissions";
    refused(403, words, team.post("/share-links", &member, &json!({}))).await;
    refused(403, words, team.get("/share-links", &member)).await;
    refused(403, words, team.delete("/share-links", &member)).await;
    let link = expect(201, team.post("/share-links", &admin, &json!({}))).await.json();
    expect(204, team.delete("", &team.owner)).await;
    refused(404, "share link not found", look(&link).await).await;
    refused(404, "share link not found", join(&link, &person("late").await).await).await;
}

#[tokio::test]
async fn a_code_that_is_none_is_not_found() {
    let guest = person("guest").await;
    for code in ["nonsense", "00000000000000000000000000000000"] {
        refused(404, "share link not found", join(&json!({ "code": code }), &guest).await).await;
        refused(404, "share link not found", look(&json!({ "code": code })).await).await;
    }
    let request = client().await.post("/api/share-links/join", &json!({})).bearer_auth(&guest.token);
    refused(400, "code is required", request).await;
}
