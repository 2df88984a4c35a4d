//! What becomes of mail when the server stops.

use rustix::process::Signal;

use super::*;

/// A mail under way is still sent by a server that was told to stop.
#[tokio::test]
async fn a_stop_waits_for_mail_under_way() {
    let mut mail = MailServer::start(Behaviour::default()).await;
    mail.down();
    let mut server = mailing_by(&mail, &[]).await;
    let (client, email) = (server.client(), address("parting"));
    let request_id = asked(&client, &email).await;
    eventually("a failed attempt", async || causes(&server).into_iter().next()).await;
    server.process().signal(Signal::TERM);
    mail.up().await;
    let code = mail.mail_to(&email).await.code().expect("a code");
    assert!(server.process().wait().success());
    assert!(!is_declared(&request_id).await);
    // The code is as good at every other replica.
    expect(200, verify(&crate::support::client().await, &email, &code)).await;
}

/// One that cannot be sent is recorded before the server is gone: elsewhere nobody waits.
#[tokio::test]
async fn a_stop_records_what_it_cannot_mail() {
    let mut mail = MailServer::start(Behaviour::default()).await;
    mail.down();
    let mut server = mailing_by(&mail, &[]).await;
    let email = address("lost");
    let request_id = asked(&server.client(), &email).await;
    eventually("a failed attempt", async || causes(&server).into_iter().next()).await;
    server.process().signal(Signal::TERM);
    assert!(server.process().wait().success());
    assert!(is_declared(&request_id).await);
    may_ask_again(&crate::support::client().await, &email).await;
}
