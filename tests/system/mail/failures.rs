//! What is tried again, for how long, and what becomes of a code that nobody got.

use tally_tests::smtp::Tls;

use super::*;
use crate::support::person;

/// A wrong password is tried three times. Then the code is dead, and nobody waits for another.
#[tokio::test]
async fn a_wrong_password_frees_the_minute() {
    let behaviour = Behaviour {
        tls: Tls::Starttls,
        credentials: Some(["tally", "the right one"]),
        ..Behaviour::default()
    };
    let mail = MailServer::start(behaviour).await;
    let log_in =
        [("SMTP_USERNAME", "tally"), ("SMTP_PASSWORD", "the wrong one"), ("SMTP_TLS_INSECURE", "true")];
    let server = mailing_by(&mail, &log_in).await;
    let (client, email) = (server.client(), address("password"));
    let request_id = asked(&client, &email).await;
    must_wait(&client, &email).await;
    let declared = undeliverable(&request_id).await;
    assert_eq!(declared["actor"], "server");
    assert_eq!(declared["payload"], json!({ "code_id": declared["code"], "user_id": null }));
    assert_eq!((mail.times("log-in wrong encrypted"), mail.mails().len()), (3, 0));
    assert!(causes(&server).iter().all(|cause| cause == "logging in failed: the server answered 535"));
    let line = end_of(&server, &request_id, "a mail was given up").await;
    assert_eq!((&line["level"], &line["attempts"]), (&json!("ERROR"), &json!(3)));
    may_ask_again(&client, &email).await;
    assert!(!server.log().contains("the wrong one"));
}

/// More than five codes an hour: those that nobody got do not count.
#[tokio::test]
async fn undeliverable_codes_do_not_count_in_the_hour() {
    let mail = MailServer::start(Behaviour { refuses: Some("550 5.1.1"), ..Behaviour::default() }).await;
    let server = mailing_by(&mail, &[]).await;
    let (client, email) = (server.client(), account("hour").await);
    for _ in 0..7 {
        let declared = undeliverable(&asked(&client, &email).await).await;
        assert_eq!(declared["payload"]["code_id"], declared["code"]);
        assert!(declared["payload"]["user_id"].is_string(), "the account is named");
    }
}

/// A server that refuses the recipient is asked once. It quotes the address in its refusal; the log does not.
#[tokio::test]
async fn a_refused_recipient_is_not_tried_again() {
    let mail = MailServer::start(Behaviour { refuses: Some("550 5.1.1"), ..Behaviour::default() }).await;
    let server = mailing_by(&mail, &[]).await;
    let (client, email) = (server.client(), address("nobody"));
    let request_id = asked(&client, &email).await;
    undeliverable(&request_id).await;
    let line = end_of(&server, &request_id, "a mail was refused").await;
    assert_eq!((&line["level"], &line["attempts"]), (&json!("WARN"), &json!(1)));
    assert_eq!((mail.times("recipient"), mail.mails().len()), (1, 0));
    assert_eq!(causes(&server), ["the recipient was not taken: the server answered 550"]);
    assert!(!server.log().contains(&email) && !server.log().contains("is nobody here"));
    may_ask_again(&client, &email).await;
}

/// Away when the code is asked for, back within the deadline: the code arrives, once.
#[tokio::test]
async fn a_mail_server_that_comes_back_gets_the_mail() {
    let mut mail = MailServer::start(Behaviour::default()).await;
    mail.down();
    let server = mailing_by(&mail, &[]).await;
    let (client, email) = (server.client(), address("back"));
    let request_id = asked(&client, &email).await;
    eventually("a failed attempt", async || (!causes(&server).is_empty()).then_some(())).await;
    mail.up().await;
    let code = mail.mail_to(&email).await.code().expect("a code");
    expect(200, verify(&client, &email, &code)).await;
    let line = end_of(&server, &request_id, "a mail was handed over").await;
    assert!(line["attempts"].as_u64() > Some(1), "{line}");
    assert!(causes(&server)[0].starts_with("connecting failed: Connection error: Connection refused"));
    assert_eq!(mail.mails().len(), 1);
    assert!(!is_declared(&request_id).await);
}

/// The server took the text and did not say so: the mail may have arrived. It is not sent twice, its
/// code is good, and the minute counts.
#[tokio::test]
async fn a_mail_in_doubt_is_not_sent_twice() {
    let mail = MailServer::start(Behaviour { vanishes: true, ..Behaviour::default() }).await;
    let server = mailing_by(&mail, &[]).await;
    let (client, email) = (server.client(), address("doubt"));
    let request_id = asked(&client, &email).await;
    let line = end_of(&server, &request_id, "a mail was given up, and may have arrived all the same").await;
    assert_eq!((&line["level"], &line["attempts"]), (&json!("WARN"), &json!(1)));
    must_wait(&client, &email).await;
    assert_eq!(mail.mails().len(), 1);
    assert!(!is_declared(&request_id).await);
    let code = mail.mail_to(&email).await.code().expect("a code");
    expect(200, verify(&client, &email, &code)).await;
}

/// The audit trail of the person tells it, as something that the server did.
#[tokio::test]
async fn the_trail_tells_what_was_not_mailed() {
    let login = person("trail").await;
    let email = login.user["email"].as_str().expect("an address");
    let request_id = uuid::Uuid::now_v7();
    let past = Past::shifted(TimeDelta::minutes(2)).await;
    past.issue_code(email, "123456").await;
    past.declare_undeliverable(email, request_id).await;
    let client = crate::support::client().await;
    let entry = eventually("the trail", async || {
        let trail = expect(200, client.get("/v1/audit").bearer_auth(&login.token)).await.json();
        let entries = trail["events"].as_array().expect("a list").clone();
        entries.into_iter().find(|entry| entry["name"] == "login.code_undeliverable")
    })
    .await;
    assert_eq!((&entry["actor"]["kind"], &entry["request_id"]), (&json!("server"), &json!(request_id)));
    assert_eq!(crate::support::fields(&entry["data"]), ["code_id"]);
}
