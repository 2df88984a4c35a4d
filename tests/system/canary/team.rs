//! A workspace made of marks: its members see what is said of it, and nobody else sees anything.

use reqwest::Method;
use serde_json::{Value, json};
use tally_tests::marks::Mark;

use super::{
    everywhere::Ada,
    stage::{Stage, core},
};

/// Ada opens a workspace and Eve comes in, sees it, and is put out again. What was said of the workspace
/// has these marks.
pub async fn work_together(stage: &mut Stage, ada: &Ada, eve: &Ada) -> Vec<Mark> {
    let [name, description, context, setting, repository, avatar] = std::array::from_fn(|_| core());
    let slug = format!("team-{}", core().to_lowercase());
    let marks: Vec<Mark> = [
        ("name", &name),
        ("description", &description),
        ("context", &context),
        ("setting", &setting),
        ("repository", &repository),
        ("avatar", &avatar),
        ("slug", &slug),
    ]
    .map(|(what, core)| stage.marks.add(format!("the workspace's {what}"), core))
    .to_vec();
    // Whoever is in knows the others.
    let members = [&marks[..], &ada.person.marks, &eve.person.marks].concat();
    let said = json!({
        "name": format!("Team “{name}”"), "slug": slug, "description": description, "context": context,
        "settings": { "theme": setting }, "repos": [{ "url": format!("https://{repository}.example/r.git") }],
        "avatar_url": format!("https://pictures.example/{avatar}.png"),
    });
    let workspace = ask(stage, ada, Method::POST, "/api/workspaces", &said, 201, &members).await;
    let home = format!("/api/workspaces/{}", workspace["id"].as_str().expect("an id"));
    for path in ["", "/members", "/invitations", "/share-links"] {
        // One who is not in learns nothing.
        ask(stage, eve, Method::GET, &format!("{home}{path}"), &Value::Null, 404, &eve.person.marks).await;
    }
    // Nor does one who sends what is none.
    let wrong =
        json!({ "email": [name], "role": context, "expires_in": setting, "name": "", "slug": [slug] });
    let places = [
        (Method::POST, "/api/workspaces".to_owned()),
        (Method::PATCH, home.clone()),
        (Method::PUT, home.clone()),
        (Method::POST, format!("{home}/members")),
        (Method::POST, format!("{home}/share-links")),
    ];
    for (method, path) in places {
        ask(stage, ada, method, &path, &wrong, 400, &ada.person.marks).await;
    }
    ask(stage, ada, Method::PATCH, &home, &json!({ "description": description }), 200, &members).await;
    ask(stage, eve, Method::POST, "/api/workspaces", &said, 409, &eve.person.marks).await;

    let invited = json!({ "email": eve.person.email, "role": "admin" });
    for (word, status) in [("decline", 204), ("accept", 200)] {
        let path = format!("{home}/members");
        let invitation = ask(stage, ada, Method::POST, &path, &invited, 201, &members).await;
        ask(stage, ada, Method::POST, &path, &invited, 409, &ada.person.marks).await;
        let own = format!("/api/invitations/{}", invitation["id"].as_str().expect("an id"));
        ask(stage, ada, Method::GET, &own, &Value::Null, 403, &[]).await;
        for path in ["/api/invitations", &own] {
            ask(stage, eve, Method::GET, path, &Value::Null, 200, &members).await;
        }
        ask(stage, eve, Method::POST, &format!("{own}/{word}"), &Value::Null, status, &members).await;
    }
    let listed = ask(stage, eve, Method::GET, &format!("{home}/members"), &Value::Null, 200, &members).await;
    let place = format!("{home}/members/{}", listed[1]["id"].as_str().expect("an id"));
    ask(stage, ada, Method::PATCH, &place, &json!({ "role": "member" }), 200, &members).await;
    ask(stage, ada, Method::DELETE, &place, &Value::Null, 204, &[]).await;

    // The code of a link is shown to those who manage, and to nobody else: not in the trail either.
    let link = json!({ "role": "member", "max_uses": 1 });
    let made = {
        let request = stage.client.post(&format!("{home}/share-links"), &link).bearer_auth(&ada.login.token);
        tally_tests::client::answer(stage.from(&ada.person, request)).await
    };
    assert_eq!(made.status, 201, "{}", made.text);
    let code = made.json()["code"].as_str().expect("a code").to_owned();
    let link = made.json()["id"].as_str().expect("an id").to_owned();
    let mark = stage.marks.add("a share link's code", &code);
    stage.heard("a share link", made.text, &[&members[..], &[mark]].concat());
    let managers = [&members[..], &[mark]].concat();
    ask(stage, ada, Method::GET, &format!("{home}/share-links"), &Value::Null, 200, &managers).await;
    // Whoever has the code sees where it leads.
    let look = format!("/api/share-links/{code}");
    ask(stage, eve, Method::GET, &look, &Value::Null, 200, &[marks[0], marks[5]]).await;
    ask(stage, eve, Method::POST, "/api/share-links/join", &json!({ "code": code }), 200, &members).await;
    ask(stage, eve, Method::POST, "/api/share-links/join", &json!({ "code": code }), 404, &[]).await;
    ask(stage, eve, Method::POST, &format!("{home}/leave"), &Value::Null, 204, &[]).await;
    let path = format!("{home}/share-links/{link}");
    ask(stage, ada, Method::DELETE, &path, &Value::Null, 204, &[]).await;
    ask(stage, ada, Method::GET, "/api/workspaces", &Value::Null, 200, &members).await;
    ask(stage, ada, Method::DELETE, &home, &Value::Null, 204, &[]).await;
    ask(stage, ada, Method::GET, &home, &Value::Null, 404, &[]).await;
    marks
}

/// Asks as somebody and expects this status.
async fn ask(
    stage: &mut Stage,
    by: &Ada,
    method: Method,
    path: &str,
    body: &Value,
    status: u16,
    may_hold: &[Mark],
) -> Value {
    let mut request = stage.client.request(method.clone(), path).bearer_auth(&by.login.token);
    if !body.is_null() {
        request = request.json(body);
    }
    let request = stage.from(&by.person, request);
    let answer = stage.exchange(&format!("{method} {path}"), request, may_hold).await;
    assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
    serde_json::from_str(&answer.text).unwrap_or_default()
}
