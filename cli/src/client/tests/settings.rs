use std::fs;

use rstest::rstest;

use super::{environment, name};
use crate::client::profile::Profile;
use crate::client::settings::{ServerUrl, Settings, Source};
use crate::client::{ExitCode, Failure};

fn resolve(
    flag: Option<&str>,
    variables: &[(&'static str, &str)],
    profile: &str,
) -> Result<Settings, Failure> {
    let home = tempfile::tempdir().expect("a directory");
    fs::write(home.path().join("default.json"), profile).expect("written");
    let profile = Profile::load(home.path(), &name("default"))?;
    let flag = flag.map(|url| url.parse().expect("a URL"));
    Settings::resolve(flag.as_ref(), &environment(variables), &profile)
}

const TALLY: (&str, &str) = ("TALLY_SERVER_URL", "http://tally:1");
const MULTICA: (&str, &str) = ("MULTICA_SERVER_URL", "http://multica:1");
const SAVED: &str = r#"{"server_url":"http://saved:1"}"#;

#[rstest]
#[case(Some("http://flag:1"), &[TALLY, MULTICA], SAVED, "http://flag:1", Source::Flag)]
#[case(None, &[MULTICA, TALLY], SAVED, "http://tally:1", Source::Variable("TALLY_SERVER_URL"))]
#[case(None, &[MULTICA], SAVED, "http://multica:1", Source::Variable("MULTICA_SERVER_URL"))]
#[case(None, &[("TALLY_SERVER_URL", ""), MULTICA], SAVED, "http://multica:1", Source::Variable("MULTICA_SERVER_URL"))]
#[case(None, &[], SAVED, "http://saved:1", Source::Profile)]
#[case(None, &[], "{}", "http://127.0.0.1:8080", Source::Default)]
fn contract_flag_then_environment_then_profile_then_default(
    #[case] flag: Option<&str>,
    #[case] variables: &[(&'static str, &str)],
    #[case] profile: &str,
    #[case] url: &str,
    #[case] source: Source,
) {
    let server = resolve(flag, variables, profile).expect("settings").server;
    assert_eq!((server.value.to_string().as_str(), server.source), (url, source));
}

#[test]
fn contract_the_other_settings_have_the_same_order() {
    let saved = r#"{"app_url":"saved-app","token":"mul_saved","workspace_id":"saved-w"}"#;
    let told = |variables: &[(&'static str, &str)]| {
        let settings = resolve(None, variables, saved).expect("settings");
        let token = settings.token.expect("a token").value.expose().to_owned();
        [settings.app_url.expect("a URL"), token, settings.workspace_id.expect("an id")]
    };
    let multica = [("MULTICA_APP_URL", "m-app"), ("MULTICA_TOKEN", "mul_m"), ("MULTICA_WORKSPACE_ID", "m-w")];
    let tally = [("TALLY_APP_URL", "t-app"), ("TALLY_TOKEN", " mul_t\n"), ("TALLY_WORKSPACE_ID", "t-w")];
    assert_eq!(told(&[]), ["saved-app", "mul_saved", "saved-w"]);
    assert_eq!(told(&multica), ["m-app", "mul_m", "m-w"]);
    assert_eq!(told(&[multica, tally].concat()), ["t-app", "mul_t", "t-w"]);
}

#[rstest]
#[case("ftp://x")]
#[case("x:80")]
#[case("not a url")]
#[case("http://user:hunter2@x")]
#[case("https://x/?q=1")]
#[case("https://x/#f")]
#[case("file:///etc/passwd")]
fn urls_that_name_no_server_are_bad_input_told_with_their_place(#[case] url: &str) {
    assert!(url.parse::<ServerUrl>().is_err());
    let failure = resolve(None, &[("MULTICA_SERVER_URL", url)], "{}").expect_err("refused");
    assert_eq!(failure.exit_code(), ExitCode::BadInput);
    let text = failure.to_string();
    assert!(text.contains("MULTICA_SERVER_URL") && !text.contains("hunter2"), "{text}");
    let profile = format!(r#"{{"server_url":"{url}"}}"#);
    assert!(resolve(None, &[], &profile).expect_err("refused").to_string().contains("default.json"));
}

#[test]
fn a_server_may_live_under_a_path() {
    let url: ServerUrl = "https://x.example/tally/".parse().expect("a URL");
    assert_eq!(url.to_string(), "https://x.example/tally");
    let joined = url.join("/v1/audit", &[("since", "2026-10-07T14:03:00+02:00".to_owned())]);
    assert_eq!(joined.as_str(), "https://x.example/tally/v1/audit?since=2026-10-07T14%3A03%3A00%2B02%3A00");
}

#[rstest]
#[case("https://a.example", "https://a.example", true)]
#[case("https://a.example", "https://a.example:8443", true)]
#[case("http://127.0.0.1:8080", "http://localhost:9090", true)]
#[case("http://127.0.0.1:8080", "http://[::1]:9090", true)]
#[case("http://a.example", "https://a.example", true)]
#[case("https://a.example", "http://a.example", false)]
#[case("https://a.example", "https://b.example", false)]
#[case("https://a.example", "http://127.0.0.1:8080", false)]
#[case("http://127.0.0.1:8080", "https://a.example", false)]
#[case("https://a.example", "https://a.example.evil.example", false)]
fn a_saved_token_stays_with_its_host(#[case] saved: &str, #[case] server: &str, #[case] sent: bool) {
    let profile = format!(r#"{{"server_url":"{saved}","token":"mul_saved"}}"#);
    let settings = resolve(Some(server), &[], &profile).expect("settings");
    match settings.token_for_server() {
        Ok(token) => assert!(sent && token.value.expose() == "mul_saved"),
        Err(failure) => {
            assert!(!sent, "{failure}");
            assert_eq!(failure.exit_code(), ExitCode::Auth);
        }
    }
    // One of the environment is the caller's own business.
    let settings = resolve(Some(server), &[("TALLY_TOKEN", "mul_env")], &profile).expect("settings");
    assert_eq!(settings.token_for_server().expect("a token").value.expose(), "mul_env");
}

#[test]
fn plain_http_is_fine_on_this_machine_only() {
    let clear = |url: &str| url.parse::<ServerUrl>().expect("a URL").is_in_the_clear();
    assert!(clear("http://10.0.0.7") && clear("http://a.example"));
    assert!(!clear("http://127.0.0.1") && !clear("http://localhost:1") && !clear("https://a.example"));
    // A name that only looks like this machine.
    assert!(clear("http://localhost.example") && clear("http://127.0.0.1.example"));
}

#[test]
fn settings_do_not_format_the_token() {
    let settings = resolve(None, &[("TALLY_TOKEN", "mul_secret")], "{}").expect("settings");
    assert!(!format!("{settings:?}").contains("mul_secret"));
}
