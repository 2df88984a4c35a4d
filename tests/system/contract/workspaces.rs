//! *Workspaces, members, invitations*: workspaces themselves.

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use tally_tests::Login;

use crate::support::{
    client, expect, fields, near, now, person, refused, replica,
    team::{slug, team},
    timestamp,
};

const WORKSPACE: [&str; 11] = [
    "avatar_url",
    "context",
    "created_at",
    "description",
    "id",
    "issue_prefix",
    "name",
    "repos",
    "settings",
    "slug",
    "updated_at",
];

async fn create(login: &Login, body: &Value) -> reqwest::RequestBuilder {
    client().await.post("/api/workspaces", body).bearer_auth(&login.token)
}

/// Create answers 201 with these eleven fields; the creator is owner.
#[tokio::test]
async fn create_answers_the_workspace() {
    let login = person("creator").await;
    let slug = slug();
    let sent = json!({
        "name": " Analytical Engine ", "slug": slug, "description": "What it does", "context": "Why",
        "settings": { "theme": "dark", "n": 1 }, "repos": [{ "url": "https://example.org/r.git" }],
        "avatar_url": "https://example.org/a.png", "id": "x", "else": [],
    });
    let answer = expect(201, create(&login, &sent).await).await;
    assert!(answer.header("x-log-position").is_some());
    let workspace = answer.json();
    assert_eq!(fields(&workspace), WORKSPACE);
    for field in ["slug", "description", "context", "settings", "repos", "avatar_url"] {
        assert_eq!(workspace[field], sent[field], "{field}");
    }
    assert_eq!(
        (&workspace["name"], &workspace["issue_prefix"]),
        (&json!("Analytical Engine"), &json!("ANAL"))
    );
    assert!(near(timestamp(&workspace["created_at"]), now()));
    assert_eq!(workspace["created_at"], workspace["updated_at"]);
    let id = workspace["id"].as_str().unwrap();
    let client = client().await;
    let read = client.get(&format!("/api/workspaces/{id}")).bearer_auth(&login.token);
    assert_eq!(expect(200, read).await.json(), workspace);
    let members = client.get(&format!("/api/workspaces/{id}/members")).bearer_auth(&login.token);
    assert_eq!(expect(200, members).await.json()[0]["role"], "owner");
}

/// What was not said is null, an empty object, an empty list.
#[tokio::test]
async fn create_needs_only_name_and_slug() {
    let login = person("bare").await;
    let workspace = expect(201, create(&login, &json!({ "name": "B", "slug": slug() })).await).await.json();
    for empty in ["description", "context", "avatar_url"] {
        assert_eq!(workspace[empty], Value::Null, "{empty}");
    }
    assert_eq!((&workspace["settings"], &workspace["repos"]), (&json!({}), &json!([])));
}

#[rstest]
#[case(json!({}), "name and slug are required")]
#[case(json!({ "name": "Team" }), "name and slug are required")]
#[case(json!({ "slug": "team" }), "name and slug are required")]
#[case(json!({ "name": " ", "slug": "team" }), "name and slug are required")]
#[case(json!({ "name": "Team", "slug": "api" }), "slug is reserved")]
#[case(json!({ "name": "Team", "slug": "team-prefix", "issue_prefix": "abc" }), "issue_prefix must be 1 to 10 upper-case letters and digits")]
#[case(json!({ "name": "Team", "slug": "team-prefix", "issue_prefix": "ABCDEFGHIJK" }), "issue_prefix must be 1 to 10 upper-case letters and digits")]
#[case(json!({ "name": "Team", "slug": "team-settings", "settings": [] }), "settings must be a JSON object of at most 65536 bytes")]
#[case(json!({ "name": "Team", "slug": "team-repos", "repos": {} }), "repos must be a JSON array of at most 65536 bytes")]
#[tokio::test]
async fn create_refuses_what_is_not_valid(#[case] body: Value, #[case] words: &str) {
    let login = person("refused").await;
    refused(400, words, create(&login, &body).await).await;
}

#[rstest]
#[tokio::test]
async fn create_refuses_what_is_no_slug(
    #[values("Team", "a--b", "-a", "a-", "a_b", "a b", "ä")] slug: &str
) {
    let login = person("slug").await;
    let answer = expect(400, create(&login, &json!({ "name": "Team", "slug": slug })).await).await;
    assert!(
        answer.json()["error"].as_str().unwrap().starts_with("slug must be lower-case"),
        "{}",
        answer.text
    );
}

/// 409, also when two come at once: one of them has it.
#[tokio::test]
async fn a_slug_has_one_workspace() {
    let (login, slug) = (person("first").await, slug());
    let body = json!({ "name": "Team", "slug": slug });
    let other = person("second").await;
    let (one, two) = tokio::join!(
        tally_tests::client::answer(create(&login, &body).await),
        tally_tests::client::answer(create(&other, &body).await)
    );
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "{} {}", one.text, two.text);
    refused(409, "workspace slug already exists", create(&other, &body).await).await;
}

/// The slug of a deleted workspace may be had again.
#[tokio::test]
async fn a_deleted_workspace_gives_its_slug_back() {
    let team = team().await;
    expect(204, team.delete("", &team.owner)).await;
    let other = person("next").await;
    let body = json!({ "name": "Next", "slug": team.workspace["slug"] });
    let next = expect(201, create(&other, &body).await).await.json();
    assert_ne!(next["id"], team.workspace["id"]);
    refused(409, "workspace slug already exists", create(&team.owner, &body).await).await;
}

/// `DISABLE_WORKSPACE_CREATION`: 403 with these words.
#[tokio::test]
async fn creation_can_be_disabled() {
    let server = replica(&[("DISABLE_WORKSPACE_CREATION", "true")]).await;
    let login = person("disabled").await;
    let request = server.client().post("/api/workspaces", &json!({ "name": "T", "slug": slug() }));
    let words = "workspace creation is disabled for this instance";
    refused(403, words, request.bearer_auth(&login.token)).await;
}

/// PUT and PATCH change what was sent and nothing else; an empty text clears.
#[rstest]
#[tokio::test]
async fn change_takes_what_was_sent(#[values(Method::PUT, Method::PATCH)] method: Method) {
    let team = team().await;
    let change = |body: Value| team.request(method.clone(), "", &team.owner).json(&body);
    let sent =
        json!({ "name": "Renamed", "description": "D", "settings": { "a": [1] }, "issue_prefix": "REN" });
    let changed = expect(200, change(sent.clone())).await.json();
    for field in ["name", "description", "settings", "issue_prefix"] {
        assert_eq!(changed[field], sent[field], "{field}");
    }
    for field in ["id", "slug", "repos", "created_at"] {
        assert_eq!(changed[field], team.workspace[field], "{field}");
    }
    assert!(timestamp(&changed["updated_at"]) > timestamp(&team.workspace["updated_at"]));
    let cleared = expect(200, change(json!({ "description": "" }))).await.json();
    assert_eq!((&cleared["description"], &cleared["name"]), (&Value::Null, &json!("Renamed")));
    assert_eq!(expect(200, change(json!({}))).await.json(), cleared);
    assert_eq!(expect(200, change(cleared.clone())).await.json()["slug"], team.workspace["slug"]);
    refused(400, "slug cannot be changed", change(json!({ "slug": slug() }))).await;
    refused(400, "name is required", change(json!({ "name": "" }))).await;
}

/// Owner and admin update; a member may not.
#[tokio::test]
async fn change_is_for_owner_and_admin() {
    let team = team().await;
    let (admin, member) = (team.member("admin").await, team.member("member").await);
    let body = json!({ "name": "Changed" });
    expect(200, team.patch("", &admin, &body)).await;
    refused(403, "insufficient permissions", team.patch("", &member, &body)).await;
}

/// Only the owner deletes: 204, effective, and it is gone for everybody at once.
#[tokio::test]
async fn delete_is_for_the_owner_and_ends_every_reach() {
    let team = team().await;
    let (admin, member) = (team.member("admin").await, team.member("member").await);
    refused(403, "insufficient permissions", team.delete("", &admin)).await;
    let answer = expect(204, team.delete("", &team.owner)).await;
    assert_eq!(answer.header("x-revocation"), Some("effective"));
    for login in [&team.owner, &admin, &member] {
        for path in ["", "/members"] {
            refused(404, "workspace not found", team.get(path, login)).await;
        }
        let list = client().await.get("/api/workspaces").bearer_auth(&login.token);
        assert_eq!(expect(200, list).await.json(), json!([]));
    }
}

/// Unknown, or not a member: 404 with the same words. Not a UUID: 400. Ids in any letter case.
#[tokio::test]
async fn a_workspace_one_is_not_in_is_not_found() {
    let team = team().await;
    let stranger = person("stranger").await;
    let client = client().await;
    for path in ["", "/members", "/invitations", "/share-links"] {
        refused(404, "workspace not found", team.get(path, &stranger)).await;
    }
    let unknown =
        client.get(&format!("/api/workspaces/{}", uuid::Uuid::now_v7())).bearer_auth(&stranger.token);
    refused(404, "workspace not found", unknown).await;
    for id in ["nonsense", "0198e3c00000700080000000000000ab", "%00"] {
        let request = client.get(&format!("/api/workspaces/{id}")).bearer_auth(&stranger.token);
        refused(400, "invalid workspace_id", request).await;
    }
    let upper = format!("/api/workspaces/{}", team.id.to_uppercase());
    expect(200, client.get(&upper).bearer_auth(&team.owner.token)).await;
}

/// The list has the workspaces one is in, and answers with a trailing slash too.
#[tokio::test]
async fn list_has_the_callers_workspaces() {
    let (one, two) = (team().await, team().await);
    two.join(&one.owner, "member").await;
    let list = async |path: &str| {
        let request = client().await.get(path).bearer_auth(&one.owner.token);
        expect(200, request).await.json()
    };
    let listed = list("/api/workspaces").await;
    let ids: Vec<&Value> = listed.as_array().unwrap().iter().map(|workspace| &workspace["id"]).collect();
    assert_eq!(ids, [&one.workspace["id"], &two.workspace["id"]]);
    assert_eq!(listed[0], one.workspace);
    assert_eq!(list("/api/workspaces/").await, listed);
}

/// Everything here is for people with a credential.
#[tokio::test]
async fn nobody_is_told_anything_without_a_credential() {
    let team = team().await;
    let client = client().await;
    for path in ["/api/workspaces", &format!("/api/workspaces/{}", team.id), "/api/invitations"] {
        refused(401, "missing authorization", client.get(path)).await;
    }
}

/// Those who manage a workspace read what happened in it; others do not, and see what concerns them.
#[tokio::test]
async fn the_trail_of_a_workspace_is_for_those_who_manage_it() {
    let team = team().await;
    let (admin, member) = (team.member("admin").await, team.member("member").await);
    expect(200, team.patch("", &admin, &json!({ "description": "Changed" }))).await;
    let trail = async |by: &Login, status: u16| {
        let path = format!("/v1/audit?workspace={}", team.id);
        expect(status, client().await.get(&path).bearer_auth(&by.token)).await.json()
    };
    for by in [&team.owner, &admin] {
        let page = trail(by, 200).await;
        let names: Vec<&str> =
            page["events"].as_array().unwrap().iter().map(|event| event["name"].as_str().unwrap()).collect();
        assert_eq!(names[0], "workspace.changed");
        assert_eq!(names.last(), Some(&"workspace.created"));
        assert!(names.contains(&"member.joined") && names.contains(&"invitation.created"));
        assert_eq!(page["events"][0]["data"]["description"], "Changed");
        assert_eq!(page["events"][0]["workspace_id"], team.workspace["id"]);
    }
    assert_eq!(trail(&member, 403).await["detail"], "insufficient permissions");
    assert_eq!(trail(&person("stranger").await, 404).await["detail"], "workspace not found");
}
