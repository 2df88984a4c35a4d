//! Every route and every command, in use and in misuse, and then every place that anything of it
//! could have got to.

use std::{collections::BTreeSet, fs, io};

use regex::Regex;
use reqwest::{Method, header::HeaderValue};
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection};
use tally_tests::{Login, marks::Mark};

use super::{
    console::use_a_console,
    issuer::come_from_an_issuer,
    oauth::ask_as_a_service,
    stage::{Person, Stage, core, dump, files, output},
    team::work_together,
};
use crate::support::{by_cookie, codes_in, connection_to, delete, document};

/// Every route, and what is below those that proxies ask.
fn routes() -> impl Iterator<Item = &'static str> {
    document::paths().chain(["/auth/verify/{original}", "/auth/verify-only/{kinds}/{original}"])
}

/// Every command; the test holds the list against what `--help` lists.
const COMMANDS: [&str; 31] = [
    "serve",
    "migrate",
    "projections status",
    "replicas",
    "usage",
    "projections verify",
    "projections rebuild",
    "user suspend",
    "user reinstate",
    "verifier key",
    "config check",
    "config reference",
    "openapi",
    "login",
    "auth status",
    "auth logout",
    "session list",
    "session end",
    "token create",
    "token list",
    "token revoke",
    "workspace list",
    "workspace create",
    "workspace switch",
    "workspace members",
    "workspace invite",
    "workspace leave",
    "invitation list",
    "invitation accept",
    "invitation decline",
    "audit",
];

/// What Ada holds.
pub struct Ada {
    pub person: Person,
    pub login: Login,
    token: String,
    token_id: String,
    /// Sent with a request, and nobody's to see again.
    sent: Sent,
}

/// What a client may send where it does not belong.
struct Sent {
    key: String,
    stray: String,
}

#[tokio::test]
async fn nothing_secret_or_personal_is_anywhere_it_should_not_be() {
    let mut stage = Stage::new().await;
    let mut ada = settle(&mut stage, "Ada", "203.0.113.77").await;
    let eve = settle(&mut stage, "Eve", "2001:db8:c0ff:ee00:feed:face:cafe:1").await;
    use_everything(&mut stage, &ada, &eve).await;
    use_a_console(&mut stage).await;
    ask_as_a_service(&mut stage, &ada.login).await;
    let team = work_together(&mut stage, &ada, &eve).await;
    // Her own trail shows her what she has done: what she said of the workspace, and whom she invited.
    ada.person.marks.extend(team.into_iter().chain(eve.person.marks[..2].iter().copied()));
    come_from_an_issuer(&mut stage, &ada.person).await;
    refuse_everything(&mut stage, &ada).await;
    stage_raw(&mut stage, &ada).await;
    break_the_database(&mut stage, &ada).await;
    commands(&mut stage, &ada).await;

    let id = stage.server.process().id();
    let cmdline = fs::read(format!("/proc/{id}/cmdline")).expect("the server runs");
    stage.heard("/proc/…/cmdline", cmdline, &[]);
    let metrics = stage.server.metrics_url().await;
    let answer = stage.exchange("/metrics", reqwest::Client::new().get(metrics), &[]).await;
    assert!(answer.text.contains("tally_http_request_seconds_count"), "{}", answer.text);
    crash(&mut stage).await;

    let mut found = stage.findings();
    found.extend(everywhere(&stage));
    assert!(found.is_empty(), "{} findings:\n{}", found.len(), found.join("\n"));
    assert_a_leak_would_be_found(&mut stage, &ada.person).await;
}

/// The log, the dump, and every file in the data directory but for the keys and the WAL.
fn everywhere(stage: &Stage) -> Vec<String> {
    let mut found = Vec::new();
    let log = stage.server.log();
    // The named exception. Each such line holds a code, and nothing else is forgiven it.
    let mut parts = log.split("login code ");
    let mut rest = parts.next().unwrap_or_default().to_owned();
    let codes = parts.map(|part| rest.push_str(&part[6..])).count();
    assert!(codes >= 3, "{codes} codes were printed");
    assert!(log.contains("sqlx::query") && log.contains("TRACE"), "the log says much");
    found.extend(stage.findings_in("the log", rest.as_bytes()));
    found.extend(stage.findings_in("the dump", &dump(&stage.server)));
    let data = stage.server.data_dir();
    let (keys, wal) = (data.join("keys"), data.join("postgres/pg_wal"));
    for path in files(&data, &|path| path != keys && path != wal) {
        // Pages of tables hold versions of rows that a dump does not show. Digits among the bytes of
        // hashes and pages mean nothing.
        let bytes = match fs::read(&path) {
            // PostgreSQL goes on working.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            read => read.expect("a file of the server's"),
        };
        let marks = stage.marks.find(&bytes);
        found.extend(marks.iter().map(|finding| format!("{} holds {finding}", path.display())));
    }
    found
}

/// Somebody new logs in, says who they are, and mints a token.
async fn settle(stage: &mut Stage, name: &str, address: &str) -> Ada {
    let person = stage.person(name, address);
    let (login, _) = stage.log_in(&person).await;
    let profile = json!({
        "name": person.name,
        "avatar_url": person.avatar,
        "profile_description": person.description,
        "timezone": "Europe/Berlin",
        "language": "en",
    });
    let request = stage.client.request(Method::PATCH, "/api/me").json(&profile).bearer_auth(&login.token);
    let changed = stage.exchange("PATCH me", stage.from(&person, request), &person.marks).await;
    assert_eq!(changed.status, 200, "{}", changed.text);

    let sent = Sent { key: core(), stray: core() };
    stage.marks.add("an idempotency key", &sent.key);
    stage.marks.add("something sent where it does not belong", &sent.stray);
    let mint = |stage: &Stage, days: i64| {
        let body = json!({ "name": person.token_name, "expires_in_days": days });
        let request = stage.client.post("/api/tokens", &body).bearer_auth(&login.token);
        stage.from(&person, request).header("idempotency-key", &sent.key)
    };
    let minted = tally_tests::client::answer(mint(stage, 5)).await;
    assert_eq!(minted.status, 201, "{}", minted.text);
    let token = minted.json()["token"].as_str().expect("a token").to_owned();
    let token_id = minted.json()["id"].as_str().expect("an id").to_owned();
    let mark = stage.token(&token);
    stage.heard("mint", minted.text, &[&person.marks[..], &[mark]].concat());
    for (days, status) in [(5, 409), (6, 422)] {
        let again = stage.exchange("mint again", mint(stage, days), &person.marks).await;
        assert_eq!(again.status, status, "{}", again.text);
    }
    Ada { person, login, token, token_id, sent }
}

/// Everything as it is meant to be used.
async fn use_everything(stage: &mut Stage, ada: &Ada, eve: &Ada) {
    let hers = ada.person.marks.clone();
    for path in routes() {
        for credential in [&ada.token, &ada.login.token] {
            if !path.contains("{id}") {
                let request =
                    stage.client.get(path).bearer_auth(credential).header("x-original-method", "GET");
                stage.exchange(path, stage.from(&ada.person, request), &hers).await;
            }
        }
    }
    for query in ["", "credential=", "subject=", "actor=", "line=true&credential="] {
        let id =
            if query.starts_with(['s', 'a']) { ada.login.user["id"].as_str() } else { Some(&*ada.token_id) };
        let id = if query.is_empty() { "" } else { id.expect("an id") };
        let path = format!("/v1/audit?{query}{id}");
        let request = stage.client.get(&path).bearer_auth(&ada.token).header("x-min-position", "1");
        let page = stage.exchange(&path, request, &hers).await;
        assert_eq!(page.status, 200, "{}", page.text);
        // Somebody else asks for the same, and learns nothing of her.
        let request = stage.client.get(&path).bearer_auth(&eve.token);
        stage.exchange(&path, request, &eve.person.marks).await;
    }
    let request = stage.client.request(Method::POST, "/api/tokens/current/renew").bearer_auth(&ada.token);
    let renewed = stage.exchange("renew", request, &hers).await;
    assert_eq!(renewed.json()["renewed"], true, "{}", renewed.text);
    // A session for the command line, by cookie and CSRF token; then it is ended.
    let request =
        by_cookie(&stage.client, Method::POST, "/api/cli-token", &ada.login, Some(&ada.login.csrf_cookie));
    let made = tally_tests::client::answer(stage.from(&ada.person, request)).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let jwt = made.json()["token"].as_str().expect("a token").to_owned();
    let mark = stage.session(&jwt);
    stage.heard("cli-token", made.text, &[&hers[..], &[mark]].concat());
    for _ in 0..2 {
        let request = stage.client.request(Method::POST, "/auth/logout").bearer_auth(&jwt);
        stage.exchange("logout", stage.from(&ada.person, request), &hers).await;
    }
    // Eve knows the id of Ada's token.
    let request = delete(&stage.client, &format!("/api/tokens/{}", ada.token_id), &eve.token);
    stage.exchange("DELETE of another's token", request, &eve.person.marks).await;
    let (id, token) = {
        let request = stage.client.post("/api/tokens", &json!({ "name": ada.person.token_name }));
        let minted = tally_tests::client::answer(request.bearer_auth(&ada.token)).await;
        let field = |name: &str| minted.json()[name].as_str().expect("a text").to_owned();
        let (id, token) = (field("id"), field("token"));
        let mark = stage.token(&token);
        stage.heard("mint", minted.text, &[&hers[..], &[mark]].concat());
        (id, token)
    };
    for _ in 0..2 {
        stage
            .exchange("DELETE", delete(&stage.client, &format!("/api/tokens/{id}"), &ada.token), &hers)
            .await;
    }
    let request = stage.client.get("/v1/me").bearer_auth(&token);
    assert_eq!(stage.exchange("a revoked token", request, &[]).await.status, 401);
    // Wrong codes, until there is none left to guess.
    let email = &ada.person.email;
    for code in ["000000", "not a code", &ada.sent.stray, "", &ada.token] {
        let body = json!({ "email": email, "code": code });
        let request = stage.from(&ada.person, stage.client.post("/auth/verify-code", &body));
        stage.exchange("a wrong code", request, &[]).await;
    }
    // Twice: on a slow machine the first may be no more too soon.
    let mut status = 0;
    for _ in 0..2 {
        let request = stage.client.post("/auth/send-code", &json!({ "email": email }));
        status = stage.exchange("a code too soon", stage.from(&ada.person, request), &[]).await.status;
    }
    assert_eq!(status, 429);
}

/// Every route by every method, with what belongs to it in every place it does not belong to.
async fn refuse_everything(stage: &mut Stage, ada: &Ada) {
    let Ada { person, login, token, sent: Sent { stray, key }, .. } = ada;
    let bodies = [
        String::new(),
        format!("{{\"email\": \"{}\", \"code\": \"{stray}\", \"name\": \"{}", person.email, person.token_name),
        json!({ "email": [person.email], "code": { stray: 1 }, "name": { stray: stray }, "expires_in_days": stray })
            .to_string(),
        json!({ "email": stray, "code": stray, "expires_in_days": -7, "language": stray, "timezone": stray })
            .to_string(),
        json!({ "avatar_url": format!("javascript:{stray}"), "name": "" }).to_string(),
        json!({ "email": format!("{stray}\u{0}@{}", person.email), "name": format!("{stray}\u{0}") }).to_string(),
        format!("[\"{stray}\", \"{}\"]", person.email),
    ];
    let methods = ["GET", "POST", "PATCH", "DELETE", "OPTIONS"];
    let hers = person.marks.clone();
    let mut refused = 0;
    let named = Regex::new(r"\{[a-z_]+\}").expect("a pattern");
    for route in routes().chain(["/", "/nowhere/{id}"]) {
        for (index, method) in methods.iter().enumerate() {
            let path = named.replace_all(route, if index % 2 == 0 { stray } else { token });
            let path = format!("{path}?token={token}&email={}&name={stray}", person.email);
            let body = &bodies[(index + refused) % bodies.len()];
            let method: Method = method.parse().expect("a method");
            let new = || {
                let request = stage.client.request(method.clone(), &path).body(body.clone());
                let request =
                    request.header("content-type", "application/json").header("x-request-id", stray);
                let request = request.header("x-user-email", &person.email).header("x-user-id", stray);
                let request = request.header("idempotency-key", key).header("x-min-position", stray);
                stage.from(person, request).header("referer", format!("https://{stray}.example/?{token}"))
            };
            let latin: HeaderValue =
                HeaderValue::from_bytes(format!("{stray}\u{e9}").as_bytes()).expect("opaque bytes");
            let cookies = format!("multica_auth={}; multica_csrf={}", login.auth_cookie, login.csrf_cookie);
            let tampered = format!("{}x", login.token);
            let requests = [
                new(),
                new().bearer_auth(format!("mul_{stray}")),
                new().bearer_auth(&tampered).header("origin", format!("https://{stray}.example")),
                new().basic_auth(&person.email, Some(token)),
                new().header("authorization", latin),
                new().header("cookie", format!("multica_auth={stray}; multica_csrf={stray}")),
                new().header("cookie", cookies).header("x-csrf-token", stray),
            ];
            for request in requests {
                let answer = stage.exchange(&format!("{method} {route}"), request, &hers).await;
                refused += usize::from(answer.status >= 400);
                assert!(answer.status < 500, "{method} {path} {body}: {}", answer.text);
            }
        }
    }
    assert!(refused > 300, "{refused} were refused");
}

/// What is hardly HTTP.
async fn stage_raw(stage: &mut Stage, ada: &Ada) {
    let (stray, token, email) = (&ada.sent.stray, &ada.token, &ada.person.email);
    for text in [
        format!("GET /v1/me?{token} HTTP/9.9\r\n\r\n"),
        format!("{stray} {email}\r\n\r\n"),
        format!("GET /v1/me HTTP/1.1\r\nauthorization: Bearer {token}\r\n{stray}\r\n\r\n"),
        format!("GET /{token}/{email} HTTP/1.1\r\nhost: {stray}\r\nconnection: close\r\n\r\n"),
        format!(
            "POST /auth/verify-code HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{{\"email\":\"{email}\""
        ),
        format!(
            "POST /api/tokens HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ntransfer-encoding: chunked\r\n\r\n{stray}"
        ),
    ] {
        stage.raw(text.as_bytes()).await;
    }
}

/// Failures of the database in the middle of requests: their errors go to the log.
async fn break_the_database(stage: &mut Stage, ada: &Ada) {
    let mut connection = connection_to(&stage.server).await;
    let hers = ada.person.marks.clone();
    for (breaks, mends) in [
        ("alter table users rename to elsewhere", "alter table elsewhere rename to users"),
        ("alter table sessions rename to elsewhere", "alter table elsewhere rename to sessions"),
        ("alter table event rename to elsewhere", "alter table elsewhere rename to event"),
        ("alter table stream rename to elsewhere", "alter table elsewhere rename to stream"),
        ("alter table keys.subject rename to elsewhere", "alter table keys.elsewhere rename to subject"),
        ("alter table token_list rename to elsewhere", "alter table elsewhere rename to token_list"),
        // What a constraint refuses is shown by PostgreSQL, with the values.
        (
            "alter table credentials add constraint broken check (user_id is null) not valid",
            "alter table credentials drop constraint broken",
        ),
        (
            "alter table users add constraint broken check (name = '') not valid",
            "alter table users drop constraint broken",
        ),
        // Sealed fields that do not open.
        ("update users set email = 'x' || email", "update users set email = substr(email, 2)"),
        (
            "update keys.subject set wrapped = wrapped || '\\x00'",
            "update keys.subject set wrapped = substr(wrapped, 1, length(wrapped) - 1)",
        ),
    ] {
        run(&mut connection, breaks).await;
        let person = &ada.person;
        let token = json!({ "name": person.token_name });
        let profile = json!({ "name": person.name, "profile_description": person.description });
        let login = json!({ "email": format!("x{}", person.email), "code": ada.sent.stray });
        let client = &stage.client;
        let requests = [
            client.get("/api/me").bearer_auth(&ada.token),
            client.get("/v1/me").bearer_auth(&ada.login.token),
            client.get("/v1/audit").bearer_auth(&ada.token),
            client.get("/api/tokens").bearer_auth(&ada.token),
            client
                .post("/api/tokens", &token)
                .bearer_auth(&ada.token)
                .header("idempotency-key", format!("{} {breaks}", ada.sent.stray)),
            client.request(Method::PATCH, "/api/me").json(&profile).bearer_auth(&ada.login.token),
            client.post("/auth/send-code", &login),
            client.post("/auth/verify-code", &login),
            client.request(Method::POST, "/api/cli-token").bearer_auth(&ada.login.token),
            client.request(Method::POST, "/auth/logout").bearer_auth(&ada.token),
        ];
        let mut worst = 0;
        for request in requests {
            let answer = stage.exchange(breaks, stage.from(person, request), &hers).await;
            // What did not rest on the broken thing went on, and had its one chance to show a secret.
            let body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
            if let Some(secret) = body["token"].as_str() {
                let mark = if secret.contains('.') { stage.session(secret) } else { stage.token(secret) };
                stage.forgive_last(mark);
            }
            worst = worst.max(answer.status);
        }
        assert!(worst >= 500, "{breaks} broke nothing");
        run(&mut connection, mends).await;
    }
}

async fn run(connection: &mut PgConnection, statement: &'static str) {
    sqlx::query(AssertSqlSafe(statement)).execute(connection).await.expect(statement);
}

/// Every command, rightly and wrongly used.
async fn commands(stage: &mut Stage, ada: &Ada) {
    let Person { email, token_name, .. } = &ada.person;
    let hers = ada.person.marks.clone();
    let (token, stray) = (&ada.token, &ada.sent.stray);
    let mut ran = BTreeSet::new();
    let mut run = |stage: &mut Stage, arguments: &[&str], input: &str, may_hold: &[Mark]| {
        let named = COMMANDS.iter().filter(|name| arguments.join(" ").starts_with(**name));
        ran.extend(named.copied());
        stage.run(arguments, input, may_hold)
    };
    // The token is typed, piped and misspelt.
    let (code, printed) = run(stage, &["login", "--with-token"], token, &hers);
    assert_eq!(code, Some(0), "{printed}");
    run(stage, &["login", "--token", token, stray], "", &[]);
    run(stage, &["login", "--token", &token[..30]], "", &[]);
    run(stage, &["login", "--with-token"], &format!("{token} {stray}"), &[]);
    run(stage, &["login", token], "", &[]);
    run(stage, &["login", "--email", email], "000000\n000000\n000000\n", &hers);
    run(stage, &["auth", "status"], "", &hers);
    run(stage, &["auth", "status", "--json"], "", &hers);
    let (code, printed) = stage.run(&["token", "create", token_name, "--json"], "", &hers);
    assert_eq!(code, Some(0), "{printed}");
    let mut documents = serde_json::Deserializer::from_str(&printed).into_iter::<Value>();
    let minted = documents.next().expect("a document").expect("JSON");
    let minted = minted["token"].as_str().expect("a token").to_owned();
    let mark = stage.token(&minted);
    stage.forgive_last(mark);
    run(stage, &["token", "create"], "", &[]);
    run(stage, &["token", "create", token_name, "--expires-in-days", "soon"], "", &hers);
    run(stage, &["token", "list"], "", &hers);
    run(stage, &["token", "list", "--json"], "", &hers);
    run(stage, &["token", "revoke", &minted], "", &[]);
    run(stage, &["token", "revoke", stray], "", &[]);
    run(stage, &["session", "list"], "", &hers);
    run(stage, &["session", "list", "--json"], "", &hers);
    run(stage, &["session", "end", token], "", &[]);
    run(stage, &["session", "end", stray], "", &[]);
    run(stage, &["session", "end", &ada.token_id], "", &hers);
    run(stage, &["session", "end", "--others"], "", &hers);
    run(stage, &["audit"], "", &hers);
    run(stage, &["audit", "--json"], "", &hers);
    let shown = &ada.person.name;
    run(stage, &["workspace", "create", shown, "--slug", "canary"], "", &hers);
    run(stage, &["workspace", "create", shown, "--slug", stray], "", &hers);
    run(stage, &["workspace", "list"], "", &hers);
    run(stage, &["workspace", "switch", stray], "", &[]);
    run(stage, &["workspace", "members"], "", &hers);
    run(stage, &["workspace", "invite", email], "", &hers);
    run(stage, &["workspace", "leave"], "", &hers);
    run(stage, &["invitation", "list"], "", &hers);
    run(stage, &["invitation", "accept"], "", &hers);
    run(stage, &["invitation", "decline", stray], "", &[]);
    run(stage, &["token", "revoke", &ada.token_id], "", &hers);
    run(stage, &["auth", "logout", "--revoke"], "", &hers);
    run(stage, &["auth", "status"], "", &[]);
    let id = ada.login.user["id"].as_str().expect("an id").to_owned();
    for (command, whom) in [("suspend", email), ("reinstate", &id), ("suspend", &format!("nobody{email}"))] {
        run(stage, &["user", command, whom], "", &[]);
    }
    run(stage, &["usage", &ada.token_id], "", &hers);
    for arguments in [
        &["projections", "status"][..],
        &["replicas"],
        &["usage", token],
        &["verifier", "key"],
        &["projections", "verify"],
        &["projections", "rebuild", "users"],
        &["projections", "rebuild", "nothing"],
        &["config", "check"],
        &["config", "reference"],
        &["openapi"],
        &["migrate"],
        &["serve"],
        &["frobnicate", stray],
    ] {
        run(stage, arguments, "", &[]);
    }
    for (name, value) in [
        ("DATABASE_URL", format!("postgres://tally:{stray}@127.0.0.1:1/tally")),
        ("DATABASE_URL", format!("postgres://tally:{stray}@[bad/tally")),
        ("DATABASE_URL", format!("mysql://tally:{stray}@db/tally")),
        ("JWT_SECRET", stray[..20].to_owned()),
        ("TALLY_JWT_SECRET_PREVIOUS", format!("{stray},{token}")),
        ("TALLY_MASTER_KEY", stray.clone()),
        ("TALLY_MASTER_KEY", "ab".repeat(32)),
        ("MULTICA_DEV_VERIFICATION_CODE", stray.clone()),
    ] {
        stage.run_with(&["config", "check"], &[(name, &value)], "", &[]);
        let (code, printed) = stage.run_with(&["serve"], &[(name, &value)], "", &[]);
        assert_ne!(code, Some(0), "{printed}");
    }
    let known: BTreeSet<&str> = COMMANDS.into_iter().collect();
    assert_eq!(ran.union(&["token create"].into()).copied().collect::<BTreeSet<_>>(), known);
}

/// Ends without warning, and does not start with another's key.
async fn crash(stage: &mut Stage) {
    stage.server.process().signal(Signal::KILL);
    stage.server.process().wait();
    let (code, printed) = stage.run_with(&["serve"], &[("TALLY_MASTER_KEY", &"ab".repeat(32))], "", &[]);
    assert_ne!(code, Some(0), "{printed}");
    stage.server.restart().await;
    stage.client = stage.server.client();
    let answer = stage.exchange("readyz", stage.client.get("/readyz"), &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// The search is not blind: what is put where it must not be is found there.
async fn assert_a_leak_would_be_found(stage: &mut Stage, person: &Person) {
    let mut connection = connection_to(&stage.server).await;
    run(&mut connection, "create table planted (plain text, bytes bytea, document json)").await;
    sqlx::query("insert into planted values ($1, convert_to($2, 'UTF8'), json_build_object('x', $3::text))")
        .bind(format!("to {}", person.email))
        .bind(&person.user_agent)
        .bind(&person.name)
        .execute(&mut connection)
        .await
        .expect("a row");
    let code = stage.codes.last().expect("a code").clone();
    let leaks = format!("{{\"to\":\"{}\",\"code\":\"{code}\"}}", person.address);
    fs::write(stage.server.data_dir().join("planted.txt"), &leaks).expect("a file");
    stage.heard("a planted answer", person.description.clone(), &[]);
    let found = [everywhere(stage), stage.findings()].concat().join("\n");
    for expected in [
        "the dump holds Ada's e-mail address as text",
        "the dump holds Ada's user agent as hex",
        "the dump holds Ada's name as text",
        "planted.txt holds Ada's IP address as text",
        "the answer to a planted answer holds Ada's description as text",
    ] {
        assert!(found.contains(expected), "{expected} is not among\n{found}");
    }
    assert_eq!(codes_in(&stage.codes, leaks.as_bytes()), [code]);
}

/// A new command is either tried here, or this is red.
#[test]
fn every_command_is_tried() {
    fn leaves(path: &[String]) -> Vec<String> {
        let mut command = std::process::Command::new(crate::support::BINARY);
        command.env_clear().args(path).arg("--help");
        let (_, help) = output(command, "");
        let Some((_, list)) = help.split_once("Commands:\n") else { return vec![path.join(" ")] };
        let names = list.lines().take_while(|line| line.starts_with("  "));
        let names = names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
        names.flat_map(|name| leaves(&[path, &[name.to_owned()]].concat())).collect()
    }
    let mut found = leaves(&[]);
    found.sort();
    let mut known = COMMANDS.map(str::to_owned).to_vec();
    known.sort();
    assert_eq!(found, known);
}
