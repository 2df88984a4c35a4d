//! *User and tokens*, and what every answer has in common.

use chrono::TimeDelta;
use futures::future::join_all;
use reqwest::{Method, RequestBuilder};
use rstest::rstest;
use serde_json::{Value, json};
use tally_tests::{Client, Login, client::answer};

use crate::support::{
    UNKNOWN_TOKEN, client, delete, expect, fields, near, now, past::Past, person, refused, replica, timestamp,
};

const USER: [&str; 12] = [
    "avatar_url",
    "created_at",
    "email",
    "id",
    "language",
    "name",
    "onboarded_at",
    "onboarding_questionnaire",
    "profile_description",
    "starter_content_state",
    "timezone",
    "updated_at",
];
const TOKEN: [&str; 6] = ["created_at", "expires_at", "id", "last_used_at", "name", "token_prefix"];

fn change(client: &Client, login: &Login, body: &Value) -> RequestBuilder {
    client.request(Method::PATCH, "/api/me").bearer_auth(&login.token).json(body)
}

fn create(client: &Client, credential: &str, body: &Value) -> RequestBuilder {
    client.post("/api/tokens", body).bearer_auth(credential)
}

fn renew(client: &Client, credential: &str) -> RequestBuilder {
    client.request(Method::POST, "/api/tokens/current/renew").bearer_auth(credential)
}

async fn list(client: &Client, login: &Login) -> Vec<Value> {
    let answer = expect(200, client.get("/api/tokens").bearer_auth(&login.token)).await;
    answer.json().as_array().expect("a list").clone()
}

/// A user has these twelve fields, timestamps in RFC 3339 UTC.
#[tokio::test]
async fn user_has_its_fields() {
    let client = client().await;
    let login = person("fields").await;
    let user = expect(200, client.get("/api/me").bearer_auth(&login.token)).await.json();
    assert_eq!(fields(&user), USER);
    assert_eq!(user, login.user);
    assert!(user["id"].as_str().is_some_and(|id| id.parse::<uuid::Uuid>().is_ok()));
    assert!(near(timestamp(&user["created_at"]), now()) && near(timestamp(&user["updated_at"]), now()));
    for empty in ["avatar_url", "language", "timezone", "onboarded_at", "starter_content_state"] {
        assert_eq!(user[empty], Value::Null, "{empty}");
    }
    assert_eq!((&user["onboarding_questionnaire"], &user["profile_description"]), (&json!({}), &json!("")));
}

/// PATCH takes five fields, ignores what it does not know, and changes nothing else.
#[tokio::test]
async fn user_changes_what_patch_takes() {
    let client = client().await;
    let login = person("patch").await;
    let sent = json!({
        "name": "Ada", "avatar_url": "https://example.org/ada.png", "language": "zh-Hans", "timezone": "Europe/Berlin",
        "profile_description": "First.\nSecond.", "email": "eve@example.org", "id": "x", "onboarded_at": "now", "else": [1],
    });
    let user = expect(200, change(&client, &login, &sent)).await.json();
    assert_eq!(fields(&user), USER);
    for field in ["name", "avatar_url", "language", "timezone", "profile_description"] {
        assert_eq!(user[field], sent[field], "{field}");
    }
    for field in ["id", "email", "onboarded_at", "created_at"] {
        assert_eq!(user[field], login.user[field], "{field}");
    }
    assert!(timestamp(&user["updated_at"]) > timestamp(&login.user["updated_at"]));
    let read = expect(200, client.get("/api/me").bearer_auth(&login.token)).await.json();
    assert_eq!(read, user);
    let one = expect(200, change(&client, &login, &json!({ "language": "ko" }))).await.json();
    assert_eq!((&one["language"], &one["name"]), (&json!("ko"), &json!("Ada")));
    let none = expect(200, change(&client, &login, &json!({}))).await.json();
    assert_eq!(none, one);
}

/// An empty time zone clears it.
#[tokio::test]
async fn user_timezone_is_cleared_by_an_empty_text() {
    let client = client().await;
    let login = person("zone").await;
    let set = expect(200, change(&client, &login, &json!({ "timezone": "Asia/Tokyo" }))).await.json();
    assert_eq!(set["timezone"], "Asia/Tokyo");
    let cleared = expect(200, change(&client, &login, &json!({ "timezone": "" }))).await.json();
    assert_eq!(cleared["timezone"], Value::Null);
}

/// Languages are en, zh-Hans, ko and ja; time zones IANA's; a description has 2000 characters at most.
#[tokio::test]
async fn user_refuses_what_is_out_of_range() {
    let client = client().await;
    let login = person("range").await;
    for language in ["en", "zh-Hans", "ko", "ja"] {
        expect(200, change(&client, &login, &json!({ "language": language }))).await;
    }
    let most = "é".repeat(2000);
    let user = expect(200, change(&client, &login, &json!({ "profile_description": most }))).await.json();
    assert_eq!(user["profile_description"], most);
    for wrong in [
        json!({ "language": "de" }),
        json!({ "language": "EN" }),
        json!({ "timezone": "Mars/Olympus" }),
        json!({ "timezone": "+02:00" }),
        json!({ "profile_description": format!("{most}é") }),
        json!({ "name": " " }),
        json!({ "name": 1 }),
        json!([]),
    ] {
        let answer = expect(400, change(&client, &login, &wrong)).await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(fields(&answer.json()), ["error"]);
    }
    let unchanged = expect(200, client.get("/api/me").bearer_auth(&login.token)).await.json();
    assert_eq!(unchanged, user);
}

/// A mint answers 201 with the listed fields and the token; the list has the same without it.
#[tokio::test]
async fn tokens_are_minted_and_listed_with_their_fields() {
    let client = client().await;
    let login = person("tokens").await;
    assert_eq!(list(&client, &login).await, [] as [Value; 0]);
    let body = json!({ "name": " laptop ", "expires_in_days": 30, "scopes": ["x"] });
    let mut minted = expect(201, create(&client, &login.token, &body)).await.json();
    let token = minted.as_object_mut().expect("an object").remove("token").expect("the token");
    assert_eq!(fields(&minted), TOKEN);
    assert_eq!(minted["name"], "laptop");
    assert_eq!(minted["last_used_at"], Value::Null);
    assert_eq!(minted["token_prefix"], token.as_str().expect("a text")[..12]);
    assert!(near(timestamp(&minted["expires_at"]), now() + TimeDelta::days(30)));
    assert!(near(timestamp(&minted["created_at"]), now()));
    let endless =
        expect(201, create(&client, &login.token, &json!({ "name": "x", "expires_in_days": null }))).await;
    assert_eq!(endless.json()["expires_at"], Value::Null);
    let listed = list(&client, &login).await;
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[1], minted);
}

/// The list is newest first, hides revoked tokens and shows expired ones.
#[tokio::test]
async fn tokens_are_listed_newest_first_without_the_revoked() {
    let client = client().await;
    let login = person("list").await;
    let past = Past::shifted(TimeDelta::days(-2)).await;
    let (expired, token) = past.mint(&login.token, Some(1)).await;
    let (revoked, _) = client.mint(&login.token, "revoked").await;
    let (second, _) = client.mint(&login.token, "second").await;
    let (third, _) = client.mint(&login.token, "third").await;
    expect(204, delete(&client, &format!("/api/tokens/{revoked}"), &login.token)).await;
    assert!(!client.accepts(&token).await);
    let ids: Vec<String> = list(&client, &login)
        .await
        .iter()
        .map(|token| token["id"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(ids, [third, second, expired.to_string()]);
}

/// A name is required, and not blank; a lifetime is 1 to 3650 days.
#[tokio::test]
async fn tokens_need_a_name_and_a_lifetime_in_range() {
    let client = client().await;
    let login = person("required").await;
    for missing in [json!({}), json!({ "name": "" }), json!({ "name": " \t" }), json!({ "name": null })] {
        refused(400, "name is required", create(&client, &login.token, &missing)).await;
    }
    for days in [0, -1, 3651, i64::MAX, i64::MIN] {
        let body = json!({ "name": "x", "expires_in_days": days });
        let words = "expires_in_days must be between 1 and 3650";
        refused(400, words, create(&client, &login.token, &body)).await;
    }
    for days in [1, 3650] {
        let body = json!({ "name": "x", "expires_in_days": days });
        let minted = expect(201, create(&client, &login.token, &body)).await.json();
        assert!(near(timestamp(&minted["expires_at"]), now() + TimeDelta::days(days)));
    }
    assert_eq!(list(&client, &login).await.len(), 2);
}

/// DELETE is 204, also for unknown and foreign tokens, to which nothing happens; an id in any letter
/// case; 400 for what is no id.
#[tokio::test]
async fn tokens_are_deleted_by_their_owner_alone() {
    let client = client().await;
    let (login, other) = (person("owner").await, person("stranger").await);
    let (id, token) = client.mint(&login.token, "kept").await;
    let path = format!("/api/tokens/{id}");
    for (path, credential) in
        [(path.as_str(), &other.token), ("/api/tokens/018f0000-0000-7000-8000-000000000000", &login.token)]
    {
        let answer = expect(204, delete(&client, path, credential)).await;
        assert_eq!(answer.text, "");
        assert!(client.accepts(&token).await);
    }
    for wrong in [
        "x",
        "018f0000",
        "{018f0000-0000-7000-8000-000000000000}",
        "pak-018f0000-0000-7000-8000-000000000000",
    ] {
        refused(400, "invalid token id", delete(&client, &format!("/api/tokens/{wrong}"), &login.token))
            .await;
    }
    for _ in 0..2 {
        expect(204, delete(&client, &format!("/api/tokens/{}", id.to_uppercase()), &login.token)).await;
        refused(401, "invalid token", client.get("/api/me").bearer_auth(&token)).await;
    }
}

/// A revocation takes effect on the next request on every replica.
#[tokio::test]
async fn tokens_are_dead_on_every_replica_with_the_answer() {
    let (here, other) = (client().await, replica(&[]).await);
    let there = other.client();
    let login = person("everywhere").await;
    for _ in 0..3 {
        let (id, token) = here.mint(&login.token, "everywhere").await;
        // Both remember it now.
        for _ in 0..2 {
            assert!(here.accepts(&token).await && there.accepts(&token).await);
        }
        expect(204, delete(&here, &format!("/api/tokens/{id}"), &login.token)).await;
        assert!(!there.accepts(&token).await && !here.accepts(&token).await);
    }
    assert!(there.accepts(&login.token).await);
    expect(200, here.post("/auth/logout", &json!({})).bearer_auth(&login.token)).await;
    assert!(!there.accepts(&login.token).await);
}

/// Renewal: to 90 days from now when 7 or fewer remain, else as it was.
#[rstest]
#[case::five_days_remain(-85, true)]
#[case::nearly_seven_remain(-83, true)]
#[case::eight_remain(-82, false)]
#[case::fresh(0, false)]
#[tokio::test]
async fn renewal_is_for_the_last_7_days(#[case] minted_days: i64, #[case] renewed: bool) {
    let client = client().await;
    let login = person("renewal").await;
    let past = Past::shifted(TimeDelta::days(minted_days)).await;
    let (_, token) = past.mint(&login.token, Some(90)).await;
    let answer = expect(200, renew(&client, &token)).await.json();
    assert_eq!(fields(&answer), ["expires_at", "renewed"]);
    assert_eq!(answer["renewed"], renewed);
    let remaining = TimeDelta::days(if renewed { 90 } else { 90 + minted_days });
    assert!(near(timestamp(&answer["expires_at"]), now() + remaining), "{answer}");
    let listed = list(&client, &login).await;
    assert_eq!(timestamp(&listed[0]["expires_at"]), timestamp(&answer["expires_at"]));
}

/// A token without expiry answers `"", false`; sessions are refused; bad tokens are 401.
#[tokio::test]
async fn renewal_is_for_personal_access_tokens_that_expire() {
    let client = client().await;
    let login = person("endless").await;
    let (_, token) = client.mint(&login.token, "endless").await;
    let answer = expect(200, renew(&client, &token)).await.json();
    assert_eq!(answer, json!({ "expires_at": "", "renewed": false }));
    refused(400, "only personal access tokens can be renewed", renew(&client, &login.token)).await;
    refused(401, "invalid token", renew(&client, UNKNOWN_TOKEN)).await;
    refused(401, "missing authorization", client.request(Method::POST, "/api/tokens/current/renew")).await;
    let past = Past::shifted(TimeDelta::days(-2)).await;
    let (_, expired) = past.mint(&login.token, Some(1)).await;
    refused(401, "invalid token", renew(&client, &expired)).await;
}

/// A renewal never outlives the token above.
#[tokio::test]
async fn renewal_never_outlives_the_token_above() {
    let client = client().await;
    let login = person("ceiling").await;
    let body = json!({ "name": "parent", "expires_in_days": 20 });
    let parent = expect(201, create(&client, &login.token, &body)).await.json();
    let above = parent["token"].as_str().expect("a token");
    let body = json!({ "name": "child", "expires_in_days": 5 });
    let child = expect(201, create(&client, above, &body)).await.json();
    let answer = expect(200, renew(&client, child["token"].as_str().expect("a token"))).await.json();
    assert_eq!(answer["renewed"], true);
    assert_eq!(timestamp(&answer["expires_at"]), timestamp(&parent["expires_at"]));
}

/// Concurrent renewals extend once.
#[tokio::test]
async fn renewal_extends_once_under_concurrency() {
    let client = client().await;
    let login = person("renewals").await;
    let (_, token) = Past::shifted(TimeDelta::days(-85)).await.mint(&login.token, Some(90)).await;
    let answers = join_all((0..8).map(|_| answer(renew(&client, &token)))).await;
    let bodies: Vec<Value> = answers.iter().map(|answer| answer.json()).collect();
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(bodies.iter().filter(|body| body["renewed"] == true).count(), 1, "{bodies:?}");
    assert!(bodies.iter().all(|body| body["expires_at"] == bodies[0]["expires_at"]), "{bodies:?}");
}

/// Collections answer with and without a trailing slash.
#[tokio::test]
async fn collections_answer_with_and_without_a_trailing_slash() {
    let client = client().await;
    let login = person("slash").await;
    for path in ["/api/tokens", "/api/tokens/"] {
        expect(201, client.post(path, &json!({ "name": "x" })).bearer_auth(&login.token)).await;
        expect(200, client.get(path).bearer_auth(&login.token)).await;
    }
    for path in ["/api/me/", "/v1/me/", "/v1/audit/", "/api/tokens/?x=1"] {
        expect(200, client.get(path).bearer_auth(&login.token)).await;
    }
    refused(401, "missing authorization", client.get("/api/tokens/")).await;
}

/// Bodies are JSON by content type, at most 1 MiB.
#[tokio::test]
async fn bodies_are_json_of_1_mib_at_most() {
    let client = client().await;
    let login = person("bodies").await;
    let send = |content_type: &str, body: String| {
        let request = client.request(Method::POST, "/api/tokens").bearer_auth(&login.token);
        request.header("content-type", content_type.to_owned()).body(body)
    };
    let body = json!({ "name": "x" }).to_string();
    for content_type in ["application/json", "application/json; charset=utf-8", "Application/JSON"] {
        expect(201, send(content_type, body.clone())).await;
    }
    expect(415, send("text/plain", body.clone())).await;
    refused(400, "invalid request body", send("application/json", "{".to_owned())).await;
    let padded = |bytes: usize| format!("{body}{}", " ".repeat(bytes - body.len()));
    expect(201, send("application/json", padded(1024 * 1024))).await;
    let words = "request body is larger than 1 MiB";
    refused(413, words, send("application/json", padded(1024 * 1024 + 1))).await;
}
