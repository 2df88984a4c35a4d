//! Mail by the service Resend, of which a stand-in is asked.

use tally_tests::resend::{Asked, MailService, Reply};

use super::*;

const KEY: &str = "re_3kQhT7vXo1ZbYw9";

fn taken() -> Reply {
    Reply::Answer(200, json!({ "id": "49a3999c" }).to_string())
}

fn fails(status: u16, name: &str, message: &str) -> Reply {
    Reply::Answer(status, json!({ "statusCode": status, "name": name, "message": message }).to_string())
}

async fn mailing(service: &MailService, settings: &[(&str, &str)]) -> Server {
    let mut all = vec![("RESEND_API_KEY", KEY), ("RESEND_FROM_EMAIL", "Tally <tally@example.org>")];
    all.push(("TALLY_RESEND_URL", service.url()));
    all.extend(settings);
    replica(&all).await
}

async fn asked_once(service: &MailService) -> Asked {
    eventually("the service to be asked", async || service.asked().into_iter().next()).await
}

/// The code that stands alone on a line of the text.
fn code(asked: &Asked) -> String {
    let is_code = |line: &&str| line.len() == 6 && line.bytes().all(|byte| byte.is_ascii_digit());
    asked.body["text"].as_str().and_then(|text| text.lines().find(is_code)).expect("a code").to_owned()
}

#[tokio::test]
async fn somebody_logs_in_by_a_code_that_resend_was_given() {
    let service = MailService::start([taken()]).await;
    let server = mailing(&service, &[("LOG_LEVEL", "trace")]).await;
    let (client, email) = (server.client(), address("resend"));
    let request_id = asked(&client, &email).await;
    let sent = asked_once(&service).await;
    assert_eq!(sent.line, "POST /emails HTTP/1.1");
    assert_eq!(sent.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert!(sent.header("user-agent").is_some_and(|agent| agent.starts_with("tallystick/")));
    let id = sent.header("idempotency-key").expect("a key");
    let body = &sent.body;
    assert_eq!(crate::support::fields(body), ["from", "headers", "html", "subject", "text", "to"]);
    assert_eq!((&body["from"], &body["to"]), (&json!("Tally <tally@example.org>"), &json!([email])));
    assert_eq!(body["headers"]["Auto-Submitted"], "auto-generated");
    assert_eq!(body["headers"]["Message-ID"], format!("<{id}@example.org>"));
    let code = code(&sent);
    assert!(body["html"].as_str().is_some_and(|html| html.contains(&code)));
    expect(200, verify(&client, &email, &code)).await;
    end_of(&server, &request_id, "a mail was handed over").await;
    assert_eq!(service.asked().len(), 1);
    for secret in [KEY, &email] {
        assert!(!server.log().contains(secret), "the log tells {secret}");
    }
    assert!(codes_in(&[code], server.log().as_bytes()).is_empty(), "the log tells the code");
}

/// Busy, and then gone with the request in its hands: asked again with the same key, it is one mail.
#[tokio::test]
async fn a_busy_service_is_asked_again_for_the_same_mail() {
    let busy = fails(429, "rate_limit_exceeded", "Too many requests");
    let service = MailService::start([busy, Reply::Silence, fails(503, "x y", "away"), taken()]).await;
    let server = mailing(&service, &[]).await;
    let (client, email) = (server.client(), address("busy"));
    let request_id = asked(&client, &email).await;
    let line = end_of(&server, &request_id, "a mail was handed over").await;
    assert_eq!(line["attempts"], 4);
    let sent = service.asked();
    let keys: std::collections::HashSet<_> =
        sent.iter().map(|asked| asked.header("idempotency-key")).collect();
    assert_eq!((sent.len(), keys.len()), (4, 1), "one mail, four times");
    assert!(sent.iter().all(|asked| asked.body == sent[0].body));
    assert_eq!(
        causes(&server),
        [
            "the service answered 429 rate_limit_exceeded",
            "the service did not answer",
            "the service answered 503"
        ]
    );
    expect(200, verify(&client, &email, &code(&sent[0]))).await;
}

#[tokio::test]
async fn a_wrong_key_frees_the_minute() {
    let service = MailService::start([fails(401, "invalid_api_key", "API key is invalid")]).await;
    let server = mailing(&service, &[]).await;
    let (client, email) = (server.client(), address("key"));
    undeliverable(&asked(&client, &email).await).await;
    assert_eq!(service.asked().len(), 3);
    may_ask_again(&client, &email).await;
}

/// The service's own words quote the address; the log has its number and the error's name.
#[tokio::test]
async fn a_refused_mail_is_not_tried_again() {
    let email = address("invalid");
    let service =
        MailService::start([fails(422, "validation_error", &format!("Invalid `to`: {email}"))]).await;
    let server = mailing(&service, &[]).await;
    let client = server.client();
    undeliverable(&asked(&client, &email).await).await;
    assert_eq!(service.asked().len(), 1);
    assert_eq!(causes(&server), ["the service answered 422 validation_error"]);
    assert!(!server.log().contains(&email));
    may_ask_again(&client, &email).await;
}

/// It is never followed elsewhere: the key would go along.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = MailService::start([taken()]).await;
    let service = MailService::start([Reply::Elsewhere(format!("{}/emails", elsewhere.url()))]).await;
    let server = mailing(&service, &[]).await;
    let (client, email) = (server.client(), address("moved"));
    let request_id = asked(&client, &email).await;
    eventually("another attempt", async || (causes(&server).len() > 1).then_some(())).await;
    assert_eq!(causes(&server)[0], "the service answered 307");
    assert_eq!(elsewhere.asked().len(), 0);
    assert!(!is_declared(&request_id).await);
}

/// Where both are set, the mail server is used, and the log says so.
#[tokio::test]
async fn smtp_goes_before_resend() {
    let (mail, service) =
        (MailServer::start(Behaviour::default()).await, MailService::start([taken()]).await);
    let port = mail.port();
    let server = mailing(&service, &[("SMTP_HOST", "localhost"), ("SMTP_PORT", &port)]).await;
    let (client, email) = (server.client(), address("both"));
    asked(&client, &email).await;
    // Without a sender of its own, SMTP takes that of Resend.
    assert_eq!(mail.mail_to(&email).await.header("From"), "Tally <tally@example.org>");
    assert_eq!(service.asked().len(), 0);
    assert!(server.log().contains("RESEND_API_KEY is set and has no effect beside SMTP_HOST"));
}
