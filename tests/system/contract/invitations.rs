//! *Workspaces, members, invitations*: invitations.

use futures::future::join_all;
use reqwest::{Method, RequestBuilder};
use rstest::rstest;
use serde_json::{Value, json};
use tally_tests::{Login, client::answer};

use crate::support::{
    address, client, expect, fields, near, now, person, refused,
    team::{Team, email, id, team},
    timestamp,
};

const INVITATION: [&str; 13] = [
    "created_at",
    "expires_at",
    "id",
    "invitee_email",
    "invitee_user_id",
    "inviter_email",
    "inviter_id",
    "inviter_name",
    "role",
    "status",
    "updated_at",
    "workspace_id",
    "workspace_name",
];

async fn answer_it(invitation: &Value, word: &str, by: &Login) -> RequestBuilder {
    let path = format!("/api/invitations/{}/{word}", invitation["id"].as_str().unwrap());
    client().await.request(Method::POST, &path).bearer_auth(&by.token)
}

async fn own(by: &Login) -> Vec<Value> {
    let answer = expect(200, client().await.get("/api/invitations").bearer_auth(&by.token)).await;
    answer.json().as_array().unwrap().clone()
}

async fn pending(team: &Team) -> Vec<Value> {
    expect(200, team.get("/invitations", &team.owner)).await.json().as_array().unwrap().clone()
}

/// 201 with the invitation, for seven days; also for an address without an account.
#[tokio::test]
async fn an_invitation_has_its_fields() {
    let team = team().await;
    let guest = person("guest").await;
    let invitation = team.invite(email(&guest), "admin").await;
    assert_eq!(fields(&invitation), INVITATION);
    assert_eq!(invitation["workspace_id"], team.workspace["id"]);
    assert_eq!(
        (&invitation["inviter_id"], &invitation["invitee_user_id"]),
        (&team.owner.user["id"], &guest.user["id"])
    );
    assert_eq!((&invitation["invitee_email"], &invitation["role"]), (&guest.user["email"], &json!("admin")));
    assert_eq!((&invitation["status"], &invitation["workspace_name"]), (&json!("pending"), &json!("Team")));
    assert_eq!(invitation["inviter_email"], team.owner.user["email"]);
    let lifetime = timestamp(&invitation["expires_at"]) - timestamp(&invitation["created_at"]);
    assert!((lifetime - chrono::TimeDelta::days(7)).abs() < chrono::TimeDelta::seconds(5), "{lifetime}");
    assert!(near(timestamp(&invitation["created_at"]), now()));

    let stranger = address("stranger");
    let without =
        expect(201, team.post("/members", &team.owner, &json!({ "email": stranger.to_uppercase() })))
            .await
            .json();
    assert_eq!((&without["invitee_user_id"], &without["role"]), (&Value::Null, &json!("member")));
    assert_eq!(without["invitee_email"], stranger);
    // They find it when they have an account.
    let login = client().await.login(&stranger).await;
    assert_eq!(own(&login).await, std::slice::from_ref(&without));
    assert_eq!(pending(&team).await, [without, invitation]);
}

#[rstest]
#[case(json!({}), "email is required")]
#[case(json!({ "email": "nonsense" }), "invalid email address")]
#[case(json!({ "email": "a@example.org", "role": "owner" }), "cannot invite as owner")]
#[case(json!({ "email": "a@example.org", "role": "king" }), "invalid member role")]
#[tokio::test]
async fn what_is_not_valid_is_refused(#[case] body: Value, #[case] words: &str) {
    let team = team().await;
    refused(400, words, team.post("/members", &team.owner, &body)).await;
}

/// 409 for members, and for an address that has a pending one.
#[tokio::test]
async fn nobody_is_invited_twice() {
    let team = team().await;
    let (member, guest) = (team.member("member").await, address("guest"));
    let invite = |email: &str| team.post("/members", &team.owner, &json!({ "email": email }));
    refused(409, "user is already a member", invite(email(&member))).await;
    refused(409, "user is already a member", invite(email(&team.owner))).await;
    expect(201, invite(&guest)).await;
    refused(409, "invitation already pending for this email", invite(&guest.to_uppercase())).await;
}

/// Two at once for one address: one is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_invitations_at_once_one_stands() {
    let team = team().await;
    let body = json!({ "email": address("guest") });
    let sent = || answer(team.post("/members", &team.owner, &body));
    let (one, two) = tokio::join!(sent(), sent());
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "{} {}", one.text, two.text);
    assert_eq!(pending(&team).await.len(), 1);
}

/// Accept answers 200 with the member; then it is not pending any more.
#[tokio::test]
async fn accept_answers_the_member() {
    let team = team().await;
    let guest = person("guest").await;
    let invitation = team.invite(email(&guest), "admin").await;
    let member = expect(200, answer_it(&invitation, "accept", &guest).await).await.json();
    assert_eq!((&member["user_id"], &member["role"]), (&json!(id(&guest)), &json!("admin")));
    assert_eq!(team.members().await[1], member);
    for word in ["accept", "decline"] {
        refused(400, "invitation is not pending", answer_it(&invitation, word, &guest).await).await;
    }
    assert!(own(&guest).await.is_empty() && pending(&team).await.is_empty());
    let read = client().await.get(&format!("/api/invitations/{}", invitation["id"].as_str().unwrap()));
    assert_eq!(expect(200, read.bearer_auth(&guest.token)).await.json()["status"], "accepted");
}

/// Fifty accepts at once: one of them lets the person in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_accepts_one_counts() {
    let team = team().await;
    let guest = person("guest").await;
    let invitation = team.invite(email(&guest), "member").await;
    let mut requests = Vec::new();
    for _ in 0..50 {
        requests.push(answer(answer_it(&invitation, "accept", &guest).await));
    }
    let answers = join_all(requests).await;
    let accepted = answers.iter().filter(|answer| answer.status == 200).count();
    let others = answers.iter().filter(|answer| answer.status != 200).map(|answer| answer.status);
    assert_eq!((accepted, others.filter(|status| ![400, 503].contains(status)).count()), (1, 0));
    assert_eq!(team.members().await.len(), 2);
}

/// Decline answers 204; the address may be invited again.
#[tokio::test]
async fn decline_leaves_things_as_they_were() {
    let team = team().await;
    let guest = person("guest").await;
    let invitation = team.invite(email(&guest), "member").await;
    expect(204, answer_it(&invitation, "decline", &guest).await).await;
    refused(400, "invitation is not pending", answer_it(&invitation, "accept", &guest).await).await;
    assert_eq!(team.members().await.len(), 1);
    let again = team.invite(email(&guest), "admin").await;
    assert_ne!(again["id"], invitation["id"]);
    expect(200, answer_it(&again, "accept", &guest).await).await;
}

/// 403 for whoever it is not for, 404 where there is none, 400 for what is no id.
#[tokio::test]
async fn an_invitation_is_for_one_person() {
    let team = team().await;
    let (guest, stranger) = (person("guest").await, person("stranger").await);
    let invitation = team.invite(email(&guest), "member").await;
    let words = "invitation does not belong to you";
    for by in [&stranger, &team.owner] {
        refused(403, words, answer_it(&invitation, "accept", by).await).await;
        refused(403, words, answer_it(&invitation, "decline", by).await).await;
    }
    let client = client().await;
    let path = format!("/api/invitations/{}", invitation["id"].as_str().unwrap());
    refused(403, words, client.get(&path).bearer_auth(&stranger.token)).await;
    let unknown = format!("/api/invitations/{}", uuid::Uuid::now_v7());
    refused(404, "invitation not found", client.get(&unknown).bearer_auth(&guest.token)).await;
    refused(400, "invalid invitation id", client.get("/api/invitations/x").bearer_auth(&guest.token)).await;
    assert!(own(&stranger).await.is_empty());
}

/// DELETE answers 204, for owner and admin; nobody accepts it then.
#[tokio::test]
async fn a_revoked_invitation_lets_nobody_in() {
    let team = team().await;
    let (admin, member, guest) =
        (team.member("admin").await, team.member("member").await, person("guest").await);
    let invitation = team.invite(email(&guest), "member").await;
    let path = format!("/invitations/{}", invitation["id"].as_str().unwrap());
    refused(403, "insufficient permissions", team.delete(&path, &member)).await;
    refused(403, "insufficient permissions", team.get("/invitations", &member)).await;
    expect(204, team.delete(&path, &admin)).await;
    expect(204, team.delete(&path, &admin)).await;
    refused(400, "invitation is not pending", answer_it(&invitation, "accept", &guest).await).await;
    assert!(own(&guest).await.is_empty());
    let other = crate::support::team::team().await;
    refused(404, "invitation not found", other.delete(&path, &other.owner)).await;
}

/// 410 after seven days; the address may then be invited again.
#[tokio::test]
async fn an_expired_invitation_is_gone() {
    let team = team().await;
    let guest = person("guest").await;
    let past = crate::support::past::Past::shifted(-chrono::TimeDelta::days(7)).await;
    let expired = past.invited(&team, &guest).await;
    let invitation = json!({ "id": expired });
    for word in ["accept", "decline"] {
        refused(410, "invitation has expired", answer_it(&invitation, word, &guest).await).await;
    }
    assert!(own(&guest).await.is_empty() && pending(&team).await.is_empty());
    let again = team.invite(email(&guest), "member").await;
    expect(200, answer_it(&again, "accept", &guest).await).await;
}

/// An actor invites at most ten in ten minutes.
#[tokio::test]
async fn an_actor_invites_ten_in_ten_minutes() {
    let team = team().await;
    // One of the ten.
    let admin = team.member("admin").await;
    for _ in 0..9 {
        team.invite(&address("guest"), "member").await;
    }
    limited(team.post("/members", &team.owner, &json!({ "email": address("guest") }))).await;
    assert_eq!(pending(&team).await.len(), 9);
    // Another admin goes on, in the same workspace.
    expect(201, team.post("/members", &admin, &json!({ "email": address("guest") }))).await;
}

/// A workspace invites at most fifty in a day, by whomever.
#[tokio::test]
async fn a_workspace_invites_fifty_a_day() {
    let team = team().await;
    let mut admins = Vec::new();
    for _ in 0..5 {
        admins.push(team.member("admin").await);
    }
    for admin in &admins {
        for _ in 0..9 {
            let guest = json!({ "email": address("guest") });
            expect(201, team.post("/members", admin, &guest)).await;
        }
    }
    // Each of them has one left of their own ten.
    limited(team.post("/members", &admins[0], &json!({ "email": address("guest") }))).await;
    assert_eq!(pending(&team).await.len(), 45);
}

/// An address is invited at most six times in a day, by whomever.
#[tokio::test]
async fn an_address_is_invited_six_times_a_day() {
    let guest = address("guest");
    let mut others = Vec::new();
    for _ in 0..7 {
        others.push(team().await);
    }
    for team in &others[..6] {
        team.invite(&guest, "member").await;
    }
    limited(others[6].post("/members", &others[6].owner, &json!({ "email": guest }))).await;
}

async fn limited(request: RequestBuilder) {
    let answer = expect(429, request).await;
    let body = answer.json();
    assert_eq!(fields(&body), ["code", "error", "retry_after_seconds"]);
    assert_eq!(body["code"], "invitation_rate_limited");
    let wait = body["retry_after_seconds"].as_u64().unwrap();
    assert!(wait >= 1 && answer.header("retry-after") == Some(&*wait.to_string()), "{body}");
}
