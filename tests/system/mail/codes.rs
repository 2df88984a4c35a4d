//! A login by a mailed code.

use std::time::Duration;

use tokio::{net::TcpListener, time::timeout};

use super::*;

/// The whole way: the code comes by mail, to its address, once, and nowhere else.
#[tokio::test]
async fn somebody_logs_in_by_a_mailed_code() {
    let mail = MailServer::start(Behaviour::default()).await;
    // Everything that can be logged is.
    let settings = [
        ("LOG_LEVEL", "trace"),
        ("FRONTEND_ORIGIN", "https://app.example.org"),
        ("SMTP_EHLO_NAME", "tally.example.org"),
    ];
    let server = mailing_by(&mail, &settings).await;
    let (client, email) = (server.client(), address("mailed"));
    let request_id = asked(&client, &email).await;
    let letter = mail.mail_to(&email).await;
    let code = letter.code().expect("a code");

    assert_eq!(
        (letter.from(), letter.hello(), letter.is_encrypted()),
        ("tally@example.org", "tally.example.org", false)
    );
    assert_eq!(letter.header("From"), "Tally <tally@example.org>");
    assert_eq!(
        (letter.header("To"), letter.header("Subject")),
        (&*email, "Your login code for app.example.org")
    );
    assert_eq!(
        (letter.header("Auto-Submitted"), letter.content_type()),
        ("auto-generated", "multipart/alternative")
    );
    assert!(
        letter.header("Message-ID").ends_with("@example.org>") && letter.header("Date").ends_with("+0000")
    );
    assert!(letter.html().contains(&code) && letter.text().contains("good for 10 minutes"));

    let login = expect(200, verify(&client, &email, &code)).await;
    assert_eq!(login.json()["user"]["email"], email);
    let line = end_of(&server, &request_id, "a mail was handed over").await;
    assert_eq!((&line["mail.kind"], &line["attempts"]), (&json!("login_code"), &json!(1)));
    assert_eq!(mail.mails_to(&email).len(), 1);
    assert!(!server.log().contains(&email), "the log tells {email}");
    assert!(codes_in(&[code], server.log().as_bytes()).is_empty(), "the log tells the code");
}

/// At most one mail per request, however many ask at once; each address gets its own code.
#[tokio::test]
async fn each_request_is_one_mail_at_most() {
    let mail = MailServer::start(Behaviour::default()).await;
    let server = mailing_by(&mail, &[]).await;
    let client = server.client();
    let emails: Vec<String> = (0..20).map(|_| address("many")).collect();
    for email in &emails {
        expect(200, send(&client, email)).await;
        must_wait(&client, email).await;
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    for email in &emails {
        let letter = mail.mail_to(email).await;
        assert_eq!(letter.hello(), host, "this machine's name, unless told otherwise");
        let code = letter.code().expect("a code");
        expect(200, verify(&client, email, &code)).await;
    }
    assert_eq!(mail.mails().len(), emails.len());
}

/// A mail server that accepts connections and says nothing holds nobody up, whoever asks.
#[tokio::test]
async fn the_answer_does_not_wait_for_the_mail() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("its address").port().to_string();
    let known = account("known").await;
    let server = replica(&[("SMTP_HOST", "127.0.0.1"), ("SMTP_PORT", &port), SENDER]).await;
    let client = server.client();
    let answers = async {
        // More than there are attempts at once.
        for _ in 0..12 {
            expect(200, send(&client, &address("unknown"))).await;
        }
        expect(200, send(&client, &known)).await;
    };
    // An attempt alone would take 15 seconds.
    timeout(Duration::from_secs(10), answers).await.expect("nobody waits for the mail server");
    drop(silent);
}
