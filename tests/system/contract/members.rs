//! *Workspaces, members, invitations*: members and their roles.

use futures::future::join_all;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use tally_tests::client::answer;

use crate::support::{
    client, expect, fields, near, now, person, refused,
    team::{email, team},
    timestamp,
};

const MEMBER: [&str; 8] =
    ["avatar_url", "created_at", "email", "id", "name", "role", "user_id", "workspace_id"];

/// GET answers a list of members with these eight fields.
#[tokio::test]
async fn list_has_everybody() {
    let team = team().await;
    let member = team.member("member").await;
    let listed = expect(200, team.get("/members", &member)).await.json();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 2);
    for (row, login, role) in [(&listed[0], &team.owner, "owner"), (&listed[1], &member, "member")] {
        assert_eq!(fields(row), MEMBER);
        assert_eq!(row["workspace_id"], team.workspace["id"]);
        assert_eq!((&row["user_id"], &row["email"]), (&login.user["id"], &login.user["email"]));
        assert_eq!((&row["name"], &row["role"]), (&login.user["name"], &json!(role)));
        assert!(near(timestamp(&row["created_at"]), now()));
    }
}

/// PATCH answers 200 with the member in the new role.
#[tokio::test]
async fn a_role_is_changed() {
    let team = team().await;
    let member = team.member("member").await;
    let path = team.path_of(&member).await;
    let answer = expect(200, team.patch(&path, &team.owner, &json!({ "role": "admin" }))).await;
    assert_eq!(answer.header("x-revocation"), Some("effective"));
    let changed = answer.json();
    assert_eq!((fields(&changed), &changed["role"]), (MEMBER.to_vec(), &json!("admin")));
    assert_eq!(changed["user_id"], member.user["id"]);
    // They may what admins may from then on, and no longer when they are none.
    expect(200, team.patch("", &member, &json!({ "name": "By an admin" }))).await;
    expect(200, team.patch(&path, &team.owner, &json!({ "role": "member" }))).await;
    refused(403, "insufficient permissions", team.patch("", &member, &json!({ "name": "No" }))).await;
}

#[rstest]
#[case(json!({}), "role is required")]
#[case(json!({ "role": "" }), "role is required")]
#[case(json!({ "role": "king" }), "invalid member role")]
#[case(json!({ "role": "Owner" }), "invalid member role")]
#[tokio::test]
async fn a_role_that_is_none_is_refused(#[case] body: Value, #[case] words: &str) {
    let team = team().await;
    let path = team.path_of(&team.owner).await;
    refused(400, words, team.patch(&path, &team.owner, &body)).await;
}

/// Owner only: grant, change or remove an owner.
#[tokio::test]
async fn only_owners_have_to_do_with_owners() {
    let team = team().await;
    let (admin, member, second) =
        (team.member("admin").await, team.member("member").await, team.member("owner").await);
    let (of_member, of_second) = (team.path_of(&member).await, team.path_of(&second).await);
    let words = "insufficient permissions";
    refused(403, words, team.patch(&of_member, &admin, &json!({ "role": "owner" }))).await;
    refused(403, words, team.patch(&of_second, &admin, &json!({ "role": "member" }))).await;
    refused(403, words, team.delete(&of_second, &admin)).await;
    refused(403, words, team.delete(&of_second, &member)).await;
    expect(200, team.patch(&of_second, &team.owner, &json!({ "role": "admin" }))).await;
    expect(204, team.delete(&of_second, &admin)).await;
}

/// DELETE answers 204; from then on nothing of theirs reaches in, whatever they hold.
#[tokio::test]
async fn a_removed_member_reaches_nothing() {
    let team = team().await;
    let member = team.member("member").await;
    let (_, token) = team.client.mint(&member.token, "laptop").await;
    let path = team.path_of(&member).await;
    let answer = expect(204, team.delete(&path, &team.owner)).await;
    assert_eq!(answer.header("x-revocation"), Some("effective"));
    for credential in [&member.token, &token] {
        let request = team.client.get(&format!("/api/workspaces/{}", team.id)).bearer_auth(credential);
        refused(404, "workspace not found", request).await;
    }
    // What is theirs alone stays theirs.
    expect(200, team.client.get("/api/me").bearer_auth(&token)).await;
    refused(404, "member not found", team.delete(&path, &team.owner)).await;
    assert_eq!(team.members().await.len(), 1);
}

/// Who was removed may be invited again, and is who they were then, in the role they get now.
#[tokio::test]
async fn a_removed_member_comes_back_in_the_new_role() {
    let team = team().await;
    let member = team.member("admin").await;
    let path = team.path_of(&member).await;
    expect(204, team.delete(&path, &team.owner)).await;
    let back = team.join(&member, "member").await;
    assert_eq!((path, &back["role"]), (team.path_of(&member).await, &json!("member")));
    refused(403, "insufficient permissions", team.patch("", &member, &json!({ "name": "No" }))).await;
}

/// POST leave answers 204.
#[tokio::test]
async fn a_member_leaves() {
    let team = team().await;
    let member = team.member("member").await;
    let answer = expect(204, team.request(Method::POST, "/leave", &member)).await;
    assert_eq!(answer.header("x-revocation"), Some("effective"));
    refused(404, "workspace not found", team.get("", &member)).await;
    refused(404, "workspace not found", team.request(Method::POST, "/leave", &member)).await;
}

/// The last owner can never go, by any way.
#[tokio::test]
async fn the_last_owner_stays() {
    let team = team().await;
    team.member("admin").await;
    let path = team.path_of(&team.owner).await;
    let words = "workspace must have at least one owner";
    refused(400, words, team.patch(&path, &team.owner, &json!({ "role": "admin" }))).await;
    refused(400, words, team.delete(&path, &team.owner)).await;
    refused(400, words, team.request(Method::POST, "/leave", &team.owner)).await;
    let second = team.member("owner").await;
    expect(204, team.request(Method::POST, "/leave", &team.owner)).await;
    refused(400, words, team.request(Method::POST, "/leave", &second)).await;
}

/// Also under concurrent demotions: of any number of owners who all step down, one stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_owners_who_all_go_at_once_one_stays() {
    for _ in 0..5 {
        let team = team().await;
        let others = [team.member("owner").await, team.member("owner").await, team.member("owner").await];
        let everybody: Vec<_> = others.iter().chain([&team.owner]).collect();
        let mut paths = Vec::new();
        for login in &everybody {
            paths.push(team.path_of(login).await);
        }
        // Each demotes themselves, or leaves.
        let step_down = |index: usize| match index % 2 {
            0 => answer(team.patch(&paths[index], everybody[index], &json!({ "role": "member" }))),
            _ => answer(team.request(Method::POST, "/leave", everybody[index])),
        };
        let answers = join_all((0..everybody.len()).map(step_down)).await;
        let count =
            |statuses: &[u16]| answers.iter().filter(|answer| statuses.contains(&answer.status)).count();
        // 503: others were quicker each time.
        let (gone, last, contended) = (count(&[200, 204]), count(&[400]), count(&[503]));
        assert_eq!(gone + last + contended, 4, "{answers:?}");
        assert!(gone == 3 || contended > 0, "{answers:?}");
        let pool = &mut crate::support::connection().await;
        let owners: i64 = sqlx::query_scalar(
            "select count(*) from members where workspace_id = $1::uuid and role = 'owner'",
        )
        .bind(uuid::Uuid::parse_str(&team.id).unwrap())
        .fetch_one(pool)
        .await
        .unwrap();
        assert!(owners >= 1, "nobody owns the workspace: {answers:?}");
        assert_eq!(usize::try_from(owners), Ok(4 - gone), "{answers:?}");
    }
}

/// Two owners demote each other: exactly one wins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_owners_who_demote_each_other_one_wins() {
    for _ in 0..10 {
        let team = team().await;
        let second = team.member("owner").await;
        let (one, two) = (team.path_of(&team.owner).await, team.path_of(&second).await);
        let body = json!({ "role": "member" });
        let (a, b) = tokio::join!(
            answer(team.patch(&two, &team.owner, &body)),
            answer(team.patch(&one, &second, &body))
        );
        let mut statuses = [a.status, b.status];
        statuses.sort_unstable();
        assert!(matches!(statuses, [200, 400 | 403]), "{} {}", a.text, b.text);
    }
}

/// Ids that are none, and members of other workspaces.
#[tokio::test]
async fn members_are_found_in_their_workspace_only() {
    let (team, other) = (team().await, team().await);
    let foreign = other.path_of(&other.owner).await;
    refused(404, "member not found", team.delete(&foreign, &team.owner)).await;
    refused(404, "member not found", team.patch(&foreign, &team.owner, &json!({ "role": "member" }))).await;
    refused(400, "invalid member id", team.delete("/members/nonsense", &team.owner)).await;
    assert_eq!(other.members().await.len(), 1);
}

/// POST members invites; nobody becomes a member unasked.
#[tokio::test]
async fn posting_a_member_invites() {
    let team = team().await;
    let guest = person("guest").await;
    let invitation = team.invite(email(&guest), "admin").await;
    assert_eq!(invitation["status"], "pending");
    assert_eq!(team.members().await.len(), 1);
    let list = client().await.get("/api/workspaces").bearer_auth(&guest.token);
    assert_eq!(expect(200, list).await.json(), json!([]));
}
