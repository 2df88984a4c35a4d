//! Mail, from the request for a code to what a real mail server was given.

mod codes;
mod failures;
mod invitations;
mod resend;
mod settings;
mod signup;
mod stopping;
mod tls;

use chrono::TimeDelta;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use sqlx::Row;
use tally_tests::{
    Client, Server, eventually,
    smtp::{Behaviour, MailServer},
};

use crate::support::{address, codes_in, connection, expect, log_lines, past::Past, refused, replica};

const SENDER: (&str, &str) = ("SMTP_FROM_EMAIL", "Tally <tally@example.org>");
const COOLDOWN: &str = "please wait before requesting another code";

/// A replica that mails by this server, and that has other settings beside.
async fn mailing_by(mail: &MailServer, settings: &[(&str, &str)]) -> Server {
    let port = mail.port();
    let mut all = vec![("SMTP_HOST", "localhost"), ("SMTP_PORT", port.as_str()), SENDER];
    all.extend(settings);
    replica(&all).await
}

/// The address of an account that no code was ever made for.
async fn account(name: &str) -> String {
    let email = address(name);
    Past::shifted(TimeDelta::zero()).await.open_account(&email).await;
    email
}

fn send(client: &Client, email: &str) -> RequestBuilder {
    client.post("/auth/send-code", &json!({ "email": email }))
}

fn verify(client: &Client, email: &str, code: &str) -> RequestBuilder {
    client.post("/auth/verify-code", &json!({ "email": email, "code": code }))
}

/// Asks for a code; the request's id.
async fn asked(client: &Client, email: &str) -> String {
    let answer = expect(200, send(client, email)).await;
    answer.header("x-request-id").expect("a request id").to_owned()
}

/// Waits until a code is declared undeliverable: the event, as far as it is not personal.
async fn undeliverable(request_id: &str) -> Value {
    let mut database = connection().await;
    eventually("a code to be declared undeliverable", async || {
        let row = sqlx::query(
            "select jsonb_build_object('actor', e.actor_kind, 'payload', e.payload::jsonb, 'code', i.payload->>'code_id')
               from event e join event i on i.stream_id = e.stream_id and i.name = 'login.code_issued'
              where e.name = 'login.code_undeliverable' and e.request_id = $1::uuid and i.request_id = $1::uuid",
        );
        let row = row.bind(request_id).fetch_optional(&mut database).await.expect("the log");
        row.map(|row| row.get::<Value, _>(0))
    })
    .await
}

/// Whether the log says that the code of a request was not mailed.
async fn is_declared(request_id: &str) -> bool {
    let found =
        sqlx::query("select 1 from event where name = 'login.code_undeliverable' and request_id = $1::uuid");
    found.bind(request_id).fetch_optional(&mut connection().await).await.expect("the log").is_some()
}

/// Waits for the line that tells the end of a request's mail.
async fn end_of(server: &Server, request_id: &str, message: &str) -> Value {
    eventually(message, async || {
        let lines = log_lines(server);
        lines.into_iter().find(|line| line["message"] == message && line["request.id"] == request_id)
    })
    .await
}

/// Why attempts of this server failed, in order.
fn causes(server: &Server) -> Vec<String> {
    let lines = log_lines(server);
    let failed = lines.iter().filter(|line| line["message"] == "an attempt to hand a mail over failed");
    failed.map(|line| line["cause"].as_str().expect("a cause").to_owned()).collect()
}

/// The next code may be asked for at once.
async fn may_ask_again(client: &Client, email: &str) {
    expect(200, send(client, email)).await;
}

/// The minute after a code counts.
async fn must_wait(client: &Client, email: &str) {
    refused(429, COOLDOWN, send(client, email)).await;
}
