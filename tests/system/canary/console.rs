//! Somebody uses the web console.

use reqwest::Method;
use serde_json::json;
use tally_tests::{Answer, Console, client::answer};

use super::stage::{Person, Stage, core};

/// A console session from its opening to its end, which a used refresh token brings about.
pub async fn use_a_console(stage: &mut Stage) {
    let cleo = stage.person("Cleo", "198.51.100.23");
    let request = stage.client.post("/auth/send-code", &json!({ "email": cleo.email }));
    let sent = stage.exchange("send-code", stage.from(&cleo, request), &[]).await;
    let code = stage.client.code_of(sent.header("x-request-id").expect("a request id")).await;
    stage.codes.push(code.clone());
    let request = stage.client.post("/v1/sessions", &json!({ "email": cleo.email, "code": code }));
    let opened = answer(stage.from(&cleo, request)).await;
    assert_eq!(opened.status, 201, "{}", opened.text);
    let mut consoles = vec![marked(stage, "open", &opened, &cleo)];
    // The second refresh repeats the first, and the third shows that both of them were answered.
    for shown in [0, 0, 1] {
        let request = stage.client.refresh(&consoles[shown]);
        let refreshed = answer(stage.from(&cleo, request)).await;
        assert_eq!(refreshed.status, 200, "{}", refreshed.text);
        consoles.push(marked(stage, "refresh", &refreshed, &cleo));
    }
    let latest = &consoles[3];
    for (method, path, status) in
        [(Method::GET, "/v1/sessions", 200), (Method::GET, "/v1/me", 200), (Method::GET, "/v1/audit", 200)]
    {
        let request = stage.from(&cleo, stage.client.by_console(method, path, latest));
        assert_eq!(stage.exchange(path, request, &cleo.marks).await.status, status);
    }
    let stray = Console { refresh: core(), ..latest.clone() };
    for (about, console) in
        [("a stray refresh token", &stray), ("a used one", &consoles[2]), ("an ended one", latest)]
    {
        let request = stage.from(&cleo, stage.client.refresh(console));
        assert_eq!(stage.exchange(about, request, &[]).await.status, 401, "{about}");
    }
    let request = stage.client.by_console(Method::DELETE, "/v1/sessions/current", latest);
    assert_eq!(stage.exchange("log out", stage.from(&cleo, request), &[]).await.status, 204);
}

/// Keeps an answer that sets the cookies of a console session, in which they and nobody's else may stand.
fn marked(stage: &mut Stage, what: &str, answer: &Answer, person: &Person) -> Console {
    let console = Console::of(answer);
    let access = stage.session(&console.access);
    // What follows the session's id.
    let refresh = stage.marks.add("a refresh token", &console.refresh[22..]);
    let csrf = stage.marks.add("a CSRF token", console.csrf.split_once('.').expect("two parts").1);
    let may_hold = [&person.marks[..], &[access, refresh, csrf]].concat();
    stage.heard(what, format!("{:?}\n{}", answer.headers, answer.text), &may_hold);
    console
}
