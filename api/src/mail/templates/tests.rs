use rstest::rstest;
use tempfile::TempDir;

use super::*;

fn site() -> Site {
    Site::of_origin("https://app.example.org:8443")
}

fn built_in() -> Templates {
    Templates::load(None).unwrap()
}

fn login_code(digits: &str) -> Mail {
    let issued = IssuedCode { login: LoginId(Uuid::nil()), code: CodeId(Uuid::nil()), user: None };
    Mail::LoginCode { digits: Digits::new(digits), issued }
}

fn invitation(workspace: &str, inviter: &str) -> Mail {
    Mail::Invitation(Invitation {
        workspace: workspace.to_owned(),
        inviter: inviter.to_owned(),
        id: InvitationId(Uuid::from_u128(7)),
        role: Role::Admin,
        expires_at: DateTime::from_timestamp(1_767_323_045, 0).unwrap(),
    })
}

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

/// What loading these files says, without the directory's name.
fn wrong(files: &[(&str, &str)]) -> String {
    let directory = directory(files);
    let error = Templates::load(Some(directory.path())).unwrap_err().to_string();
    error.replace(&format!("{}/", directory.path().display()), "")
}

#[test]
fn a_login_code_is_in_both_texts_and_not_in_the_subject() {
    let Rendered { subject, text, html } = built_in().render(&login_code("048213"), &site()).unwrap();
    assert_eq!(subject, "Your login code for app.example.org:8443");
    for body in [&text, &html] {
        assert!(body.contains("048213") && body.contains("10 minutes"), "{}", **body);
    }
    assert!(html.contains("href=\"https:&#x2f;&#x2f;app.example.org:8443\""), "{}", *html);
}

#[test]
fn a_refused_signup_says_so_and_holds_no_code() {
    let issued = IssuedCode { login: LoginId(Uuid::nil()), code: CodeId(Uuid::nil()), user: None };
    let Rendered { subject, text, html } =
        built_in().render(&Mail::SignupRefused { issued }, &site()).unwrap();
    assert_eq!(subject, "You cannot sign up at app.example.org:8443");
    assert!(text.contains("may not open one") && html.contains("may not open one"));
    let six_digits = |text: &str| text.as_bytes().windows(6).any(|six| six.iter().all(u8::is_ascii_digit));
    assert!(!six_digits(&text));
}

#[test]
fn an_invitation_says_who_where_as_what_and_until_when() {
    let Rendered { subject, text, html } = built_in().render(&invitation("Engines", "Ada"), &site()).unwrap();
    assert_eq!(subject, "Ada invites you to Engines");
    for part in ["Ada", "Engines", "admin", "2 January 2026 at 03:04 UTC"] {
        assert!(text.contains(part) && html.contains(part), "{part}");
    }
    assert!(text.contains("\nhttps://app.example.org:8443/invite/00000000-0000-0000-0000-000000000007\n"));
}

#[test]
fn what_people_call_themselves_is_text_in_html() {
    let mail = invitation("<img src=x onerror=alert(1)>", "\"><script>");
    let Rendered { html, text, .. } = built_in().render(&mail, &site()).unwrap();
    assert!(!html.contains("<img") && !html.contains("<script"), "{}", *html);
    assert!(html.contains("&lt;img"));
    assert!(text.contains("<img src=x"), "there is nothing to escape in a text");
}

#[rstest]
#[case("Engines\r\nBcc: eve@example.org", "Engines Bcc: eve@example.org")]
#[case("a\u{2028}b\u{85}c\0d\te", "a b c d e")]
#[case("\u{202e}gro.elpmaxe\u{202c} \u{200b}x\u{feff}", "gro.elpmaxe x")]
#[case("  Ünïcode 🪵  ", "Ünïcode 🪵")]
#[case(&"x".repeat(81), &format!("{}…", "x".repeat(79)))]
#[case(&"ü".repeat(80), &"ü".repeat(80))]
fn a_name_is_one_line_that_is_what_it_looks_like(#[case] name: &str, #[case] shown: &str) {
    let Rendered { subject, text, .. } = built_in().render(&invitation(name, "Ada"), &site()).unwrap();
    assert_eq!(subject, format!("Ada invites you to {shown}"));
    assert!(text.contains(&format!("the workspace {shown} at")), "{}", *text);
}

#[test]
fn a_file_replaces_the_template_of_its_name() {
    let files = [
        ("login_code.subject", "Hello\nfrom {{ site }}\n"),
        ("layout.html", "<main>{% block body %}{% endblock %}</main>"),
        (".login_code.txt.swp", "{{ nonsense"),
    ];
    let directory = directory(&files);
    fs::create_dir(directory.path().join("..data")).unwrap();
    let templates = Templates::load(Some(directory.path())).unwrap();
    let Rendered { subject, text, html } = templates.render(&login_code("123456"), &site()).unwrap();
    assert_eq!(subject, "Hello from app.example.org:8443");
    assert!(html.starts_with("<main>") && html.contains("123456"), "{}", *html);
    assert!(text.starts_with("Your login code"));
}

#[rstest]
#[case(
    "login_code.txt",
    "Hello\n\n{{ code ",
    "holds login_code.txt, which is wrong at line 3: syntax error: unexpected end of input, expected end of variable block"
)]
#[case(
    "login_code.html",
    "{{ code }}\n{{ kode }}",
    "holds login_code.html, which is wrong at line 2: undefined value: `kode` is undefined"
)]
#[case(
    "login_code.subject",
    "{{ code }}",
    "holds login_code.subject, which is wrong at line 1: undefined value: `code` is undefined"
)]
#[case(
    "invitation.subject",
    "{{ link }}",
    "holds invitation.subject, which is wrong at line 1: undefined value: `link` is undefined"
)]
#[case(
    "layout.html",
    "<p>\n{{ code }}\n",
    "holds layout.html, which is wrong at line 2: undefined value: `code` is undefined"
)]
#[case(
    "signup_refused.txt",
    "{% include 'other.txt' %}",
    "holds signup_refused.txt, which is wrong at line 1: template not found: tried to include non-existing template 'other.txt'"
)]
#[case(
    "login-code.txt",
    "x",
    "holds login-code.txt, which is wrong: no mail asks for it; the names are layout.html, login_code.subject, login_code.txt, login_code.html, signup_refused.subject, signup_refused.txt, signup_refused.html, invitation.subject, invitation.txt, invitation.html"
)]
#[case("login_code.txt", &"x".repeat(300_000), "holds login_code.txt, which is wrong: it has 300000 bytes, and 262144 are the most")]
fn a_wrong_file_is_named_with_its_line(#[case] file: &str, #[case] text: &str, #[case] words: &str) {
    assert_eq!(wrong(&[(file, text)]), words);
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let missing = tempfile::tempdir().unwrap().path().join("templates");
    let error = Templates::load(Some(&missing)).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("holds {}, which is wrong: No such file or directory (os error 2)", missing.display())
    );
}

/// A template may fail for a value it was not tried with. What is logged then tells no value.
#[test]
fn a_template_that_fails_later_tells_no_value() {
    let directory = directory(&[(
        "login_code.txt",
        "{{ code }}\n{% if code != '123456' %}{{ code + 1 - code.x.y }}{% endif %}",
    )]);
    let templates = Templates::load(Some(directory.path())).unwrap();
    let error = templates.render(&login_code("048213"), &site()).map(|_| ()).unwrap_err();
    assert!(error.to_string().starts_with("the template login_code.txt is wrong at line 2: "), "{error}");
    assert!(!format!("{error} {error:?}").contains("048213"), "{error:?}");
}
