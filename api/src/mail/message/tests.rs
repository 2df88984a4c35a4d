use std::collections::BTreeSet;

use rstest::rstest;
use tally_domain::login::{Digits, IssuedCode};
use tally_events::{CodeId, InvitationId, LoginId, Role};

use super::*;
use crate::mail::{Invitation, Mail, Site, Templates};

fn sender() -> Sender {
    "Tally Ü <tally@example.org>".parse().unwrap()
}

fn wire(mail: &Mail, to: &str) -> (Envelope, String) {
    let rendered =
        Templates::load(None).unwrap().render(mail, &Site::of_origin("https://app.example.org")).unwrap();
    let date = DateTime::from_timestamp(1_767_323_045, 0).unwrap();
    let message = Message::new(&sender(), &EmailAddress::parse(to).unwrap(), rendered, date).unwrap();
    let (envelope, text) = message.to_wire().unwrap();
    (envelope, String::from_utf8(text.to_vec()).unwrap())
}

fn login_code() -> Mail {
    let issued = IssuedCode { login: LoginId(Uuid::nil()), code: CodeId(Uuid::nil()), user: None };
    Mail::LoginCode { digits: Digits::new("048213"), issued }
}

/// The lines of the header, those that go on in the next one joined.
fn header(text: &str) -> Vec<String> {
    let (header, _) = text.split_once("\r\n\r\n").unwrap();
    header.replace("\r\n ", " ").split("\r\n").map(str::to_owned).collect()
}

#[test]
fn a_message_is_one_text_in_two_forms_between_two_addresses() {
    let (envelope, text) = wire(&login_code(), "Ada@example.org");
    assert_eq!(envelope.from().unwrap().to_string(), "tally@example.org");
    assert_eq!(envelope.to().iter().map(ToString::to_string).collect::<Vec<_>>(), ["ada@example.org"]);
    let header = header(&text);
    for line in [
        "To: ada@example.org",
        "Subject: Your login code for app.example.org",
        "Date: Fri, 02 Jan 2026 03:04:05 +0000",
        "MIME-Version: 1.0",
        "Auto-Submitted: auto-generated",
        "X-Auto-Response-Suppress: All",
    ] {
        assert!(header.iter().any(|there| there == line), "{line} is not in {header:#?}");
    }
    let starts = |what: &str| header.iter().any(|line| line.starts_with(what));
    assert!(starts("From: =?utf-8?") && starts("Content-Type: multipart/alternative;"));
    let id = header.iter().find_map(|line| line.strip_prefix("Message-ID: ")).unwrap();
    assert!(id.starts_with('<') && id.ends_with("@example.org>"), "{id}");
    let (plain, html) =
        (text.find("Content-Type: text/plain").unwrap(), text.find("Content-Type: text/html").unwrap());
    assert!(plain < html, "the last form is the one that is preferred (RFC 2046 section 5.1.4)");
    assert!(text.is_ascii() && !text.replace("\r\n", "").contains(['\r', '\n']));
}

/// Whatever somebody calls themselves or a workspace, the header has the lines it has without them.
#[rstest]
#[case("Engines\r\nBcc: eve@example.org")]
#[case("Engines\nBcc: eve@example.org\n\nHello")]
#[case("Engines\rBcc: eve@example.org")]
#[case("Engines\u{0}\u{b}\u{c}\u{85}\u{2028}Bcc: eve@example.org")]
#[case("=?utf-8?Q?Engines=0D=0ABcc:_eve@example.org?=")]
#[case("ünï\r\n\r\n<html>")]
#[case(&format!("{}\r\nBcc: eve@example.org", "x".repeat(79)))]
fn nobody_adds_a_header(#[case] hostile: &str) {
    let mail = Mail::Invitation(Invitation {
        workspace: hostile.to_owned(),
        inviter: hostile.to_owned(),
        id: InvitationId(Uuid::nil()),
        role: Role::Member,
        expires_at: DateTime::UNIX_EPOCH,
    });
    let (envelope, text) = wire(&mail, "ada@example.org");
    assert_eq!(envelope.to().len(), 1);
    let names = |text: &str| -> BTreeSet<String> {
        header(text).iter().map(|line| line.split_once(": ").unwrap().0.to_owned()).collect()
    };
    assert_eq!(names(&text), names(&wire(&login_code(), "ada@example.org").1));
    assert_eq!(text.matches("Content-Type:").count(), 3, "one message of two parts");
}

#[rstest]
#[case("tally@example.org")]
#[case("Tally <tally@example.org>")]
#[case("\"Tally, Inc.\" <tally@example.org>")]
fn a_sender_is_an_address_with_or_without_a_name(#[case] text: &str) {
    assert!(text.parse::<Sender>().is_ok());
}

#[rstest]
#[case("tally")]
#[case("Tally")]
#[case("tally@")]
#[case("tally@example.org, eve@example.org")]
#[case("Tally\r\nBcc: eve@example.org <tally@example.org>")]
fn anything_else_is_no_sender(#[case] text: &str) {
    let error = text.parse::<Sender>().map(|_| ()).unwrap_err();
    assert!(error.starts_with("is neither an address such as"), "{error}");
}

#[test]
fn an_address_no_mail_can_be_sent_to_is_told_without_it() {
    let rendered =
        Rendered { subject: String::new(), text: String::new().into(), html: String::new().into() };
    let to = EmailAddress::parse("a..b@example.org").unwrap();
    let error = Message::new(&sender(), &to, rendered, DateTime::UNIX_EPOCH).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "the address is none that mail can be sent to");
}
