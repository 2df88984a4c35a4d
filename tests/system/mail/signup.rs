//! Who may not sign up is told so by mail, and by nothing else.

use super::*;
use crate::support::same;

#[tokio::test]
async fn a_refused_signup_is_said_in_the_mail_which_carries_no_code() {
    let mail = MailServer::start(Behaviour::default()).await;
    let server = mailing_by(&mail, &[("ALLOWED_EMAIL_DOMAINS", "allowed.example")]).await;
    let (client, stranger) = (server.client(), address("stranger"));
    let listed = address("listed").replace("example.org", "allowed.example");

    let answered = expect(200, send(&client, &stranger)).await;
    same(&answered, &expect(200, send(&client, &listed)).await);
    must_wait(&client, &stranger).await;
    must_wait(&client, &listed).await;

    let refusal = mail.mail_to(&stranger).await;
    assert_eq!(refusal.header("Subject"), "You cannot sign up at localhost:3000");
    assert!(refusal.text().contains("it may not open one") && refusal.html().contains("it may not open one"));
    let digits = |text: &str| text.as_bytes().windows(6).any(|six| six.iter().all(u8::is_ascii_digit));
    assert!(refusal.code().is_none() && !digits(refusal.text()));
    let code = mail.mail_to(&listed).await.code().expect("a code");
    expect(200, verify(&client, &listed, &code)).await;
}

/// An account that exists logs in as ever.
#[tokio::test]
async fn closed_signup_mails_codes_to_accounts() {
    let known = account("member").await;
    let mail = MailServer::start(Behaviour::default()).await;
    let server = mailing_by(&mail, &[("ALLOW_SIGNUP", "false")]).await;
    let client = server.client();
    asked(&client, &known).await;
    let code = mail.mail_to(&known).await.code().expect("a code");
    expect(200, verify(&client, &known, &code)).await;
}

/// That mail counts as any other: if it cannot be delivered, its address need not wait.
#[tokio::test]
async fn a_refused_signup_that_cannot_be_mailed_frees_the_minute_too() {
    let mail = MailServer::start(Behaviour { refuses: Some("550 5.1.1"), ..Behaviour::default() }).await;
    let server = mailing_by(&mail, &[("ALLOW_SIGNUP", "false")]).await;
    let (client, stranger) = (server.client(), address("unreachable"));
    undeliverable(&asked(&client, &stranger).await).await;
    may_ask_again(&client, &stranger).await;
}
