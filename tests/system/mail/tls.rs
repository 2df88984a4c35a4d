//! No password without TLS, and no TLS with a stranger.

use tally_tests::smtp::Tls;

use super::*;

const CREDENTIALS: [&str; 2] = ["tally", "a password of the mail server"];
const LOG_IN: [(&str, &str); 2] = [("SMTP_USERNAME", CREDENTIALS[0]), ("SMTP_PASSWORD", CREDENTIALS[1])];

fn behaviour(tls: Tls) -> Behaviour {
    Behaviour { tls, credentials: Some(CREDENTIALS), ..Behaviour::default() }
}

/// A server that logs in, and trusts the authority of this mail server's certificate.
async fn trusting(mail: &MailServer, settings: &[(&str, &str)]) -> Server {
    let authority = mail.authority().display().to_string();
    mailing_by(mail, &[&LOG_IN[..], &[("SSL_CERT_FILE", &authority)], settings].concat()).await
}

/// The mail arrived over TLS, from somebody who had logged in.
async fn arrives(mail: &MailServer, server: &Server) {
    let (client, email) = (server.client(), address("tls"));
    asked(&client, &email).await;
    let letter = mail.mail_to(&email).await;
    assert_eq!((letter.is_encrypted(), letter.user()), (true, CREDENTIALS[0]));
    assert_eq!((mail.times("log-in right encrypted"), mail.times("log-in")), (1, 1));
    let code = letter.code().expect("a code");
    expect(200, verify(&client, &email, &code)).await;
    assert!(!server.log().contains(CREDENTIALS[1]));
}

/// Nothing was given away, the code was declared undeliverable, and every attempt failed for `cause`.
async fn refuses(mail: &MailServer, server: &Server, cause: &str) {
    let (client, email) = (server.client(), address("tls"));
    undeliverable(&asked(&client, &email).await).await;
    assert_eq!((mail.mails().len(), mail.times("log-in"), mail.times("recipient")), (0, 0, 0));
    let causes = causes(server);
    assert_eq!(causes.len(), 3, "{causes:?}");
    assert!(causes.iter().all(|told| told.contains(cause)), "{causes:?}");
    may_ask_again(&client, &email).await;
}

#[tokio::test]
async fn starttls_with_a_certificate_that_somebody_vouches_for() {
    let mail = MailServer::start(behaviour(Tls::Starttls)).await;
    arrives(&mail, &trusting(&mail, &[]).await).await;
}

#[tokio::test]
async fn tls_from_the_first_byte() {
    for word in ["implicit", "smtps"] {
        let mail = MailServer::start(behaviour(Tls::Implicit)).await;
        arrives(&mail, &trusting(&mail, &[("SMTP_TLS", word)]).await).await;
    }
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_is_refused() {
    for (tls, word) in [(Tls::Starttls, "starttls"), (Tls::Implicit, "implicit")] {
        let mail = MailServer::start(behaviour(tls)).await;
        let server = mailing_by(&mail, &[&LOG_IN[..], &[("SMTP_TLS", word)]].concat()).await;
        refuses(&mail, &server, "invalid peer certificate: UnknownIssuer").await;
    }
}

#[tokio::test]
async fn a_certificate_of_another_name_is_refused() {
    let elsewhere = Behaviour { name: "elsewhere.example", ..behaviour(Tls::Starttls) };
    let mail = MailServer::start(elsewhere).await;
    refuses(&mail, &trusting(&mail, &[]).await, "certificate not valid for name").await;
}

#[tokio::test]
async fn any_certificate_will_do_when_told_so() {
    let insecure = [&LOG_IN[..], &[("SMTP_TLS_INSECURE", "true")]].concat();
    for (tls, word) in [(Tls::Starttls, "starttls"), (Tls::Implicit, "implicit")] {
        let mail = MailServer::start(Behaviour { name: "elsewhere.example", ..behaviour(tls) }).await;
        let server = mailing_by(&mail, &[&insecure[..], &[("SMTP_TLS", word)]].concat()).await;
        arrives(&mail, &server).await;
        assert!(server.log().contains("SMTP_TLS_INSECURE is set: any certificate is accepted"));
    }
}

/// A password, or the word `required`: then a server without STARTTLS gets nothing.
#[tokio::test]
async fn where_tls_is_required_a_server_without_it_gets_nothing() {
    for settings in [&LOG_IN[..], &[("SMTP_TLS", "required")]] {
        let credentials = (settings.len() == 2).then_some(CREDENTIALS);
        let mail = MailServer::start(Behaviour { credentials, ..behaviour(Tls::None) }).await;
        let server = mailing_by(&mail, settings).await;
        refuses(
            &mail,
            &server,
            "STARTTLS failed: internal client error: STARTTLS is not supported on this server",
        )
        .await;
    }
}

/// Without a password STARTTLS is used where it is offered, and what fails at it gets nothing.
#[tokio::test]
async fn without_a_password_starttls_is_used_where_it_is_offered() {
    let open = Behaviour { credentials: None, ..behaviour(Tls::Starttls) };
    let mail = MailServer::start(open.clone()).await;
    let authority = mail.authority().display().to_string();
    let server = mailing_by(&mail, &[("SSL_CERT_FILE", &authority)]).await;
    let email = address("opportune");
    asked(&server.client(), &email).await;
    assert!(mail.mail_to(&email).await.is_encrypted());

    let mail = MailServer::start(open).await;
    refuses(&mail, &mailing_by(&mail, &[]).await, "invalid peer certificate: UnknownIssuer").await;
}

/// In the clear to this machine, password and all, only when told so.
#[tokio::test]
async fn a_relay_on_this_machine_may_be_told_everything_in_the_clear() {
    let mail = MailServer::start(behaviour(Tls::None)).await;
    let server = mailing_by(&mail, &[&LOG_IN[..], &[("SMTP_TLS", "none")]].concat()).await;
    let email = address("clear");
    asked(&server.client(), &email).await;
    let letter = mail.mail_to(&email).await;
    assert_eq!((letter.is_encrypted(), letter.user()), (false, CREDENTIALS[0]));
}
