use rstest::rstest;

use super::{Canned, Reply, client, parse, saved};
use crate::client::settings::Key;
use crate::client::workspace::{self, slug_of};
use crate::client::{Client, Command, ExitCode, Failure, invitation};

const PROFILE: &str = r#"{"token":"mul_secret","workspace_id":"01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e01"}"#;
const TWO: &str = r#"[
    {"id":"01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e01","name":"One","slug":"one","created_at":"2026-01-02T00:00:00Z"},
    {"id":"01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e02","name":"Two","slug":"two","created_at":"2026-01-03T00:00:00Z"}]"#;

/// Runs a command with this profile against prepared answers: how it ended, and what was asked.
async fn run(
    profile: &str,
    words: &[&str],
    replies: &[Reply],
) -> (Result<(), Failure>, Vec<String>, Option<String>) {
    let home = tempfile::tempdir().expect("a directory");
    let server = Canned::start(replies.to_vec()).await;
    let client: Client = client(home.path(), &server.url, profile);
    let outcome = match parse(words).expect("a command").command {
        Command::Workspace(command) => workspace::run(client, command).await,
        Command::Invitation(command) => invitation::run(&client, command).await,
        other => panic!("{other:?}"),
    };
    (outcome, server.lines(), saved(home.path()).get(Key::WorkspaceId).map(str::to_owned))
}

#[rstest]
#[case("Analytical Engine", "analytical-engine")]
#[case("  7 of 9! ", "7-of-9")]
#[case("日本語", "")]
fn a_slug_is_made_of_a_name(#[case] name: &str, #[case] slug: &str) {
    assert_eq!(slug_of(name), slug);
}

#[tokio::test]
async fn a_new_workspace_becomes_the_current_one() {
    let made = r#"{"id":"01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e09","name":"Nine","slug":"nine","created_at":"2026-01-02T00:00:00Z"}"#;
    let (outcome, asked, current) =
        run(PROFILE, &["workspace", "create", "Nine"], &[Reply::new(201, made)]).await;
    outcome.expect("it is made");
    assert_eq!(asked, ["POST /api/workspaces"]);
    assert_eq!(current.as_deref(), Some("01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e09"));
}

#[rstest]
#[case::by_slug("two")]
#[case::by_id("01990B7E-7A51-7CC2-9F0E-5A1D2C3B4E02")]
#[tokio::test]
async fn switching_takes_a_slug_or_an_id(#[case] named: &str) {
    let (outcome, _, current) = run(PROFILE, &["workspace", "switch", named], &[Reply::new(200, TWO)]).await;
    outcome.expect("it is one of theirs");
    assert_eq!(current.as_deref(), Some("01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e02"));
}

#[tokio::test]
async fn a_workspace_one_is_not_in_is_not_found_and_nothing_changes() {
    let (outcome, _, current) =
        run(PROFILE, &["workspace", "switch", "three"], &[Reply::new(200, TWO)]).await;
    assert_eq!(outcome.expect_err("not found").exit_code(), ExitCode::NotFound);
    assert_eq!(current.as_deref(), Some("01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e01"));
}

#[tokio::test]
async fn the_current_workspace_is_meant_unless_another_is_named() {
    let replies = [Reply::new(200, TWO), Reply::new(200, "[]")];
    let (outcome, asked, _) = run(PROFILE, &["workspace", "members"], &replies).await;
    outcome.expect("a list");
    assert_eq!(asked[1], "GET /api/workspaces/01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e01/members");
    let (outcome, asked, _) = run(PROFILE, &["workspace", "members", "--workspace", "two"], &replies).await;
    outcome.expect("a list");
    assert_eq!(asked[1], "GET /api/workspaces/01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e02/members");
}

#[tokio::test]
async fn of_several_one_must_be_chosen() {
    let (outcome, ..) =
        run(r#"{"token":"mul_secret"}"#, &["workspace", "leave"], &[Reply::new(200, TWO)]).await;
    let failure = outcome.expect_err("which?");
    assert_eq!(failure.exit_code(), ExitCode::BadInput);
    assert!(failure.to_string().contains("tally workspace switch"), "{failure}");
}

#[tokio::test]
async fn what_was_left_is_not_current_any_more() {
    let replies = [Reply::new(200, TWO), Reply::new(204, "")];
    let (outcome, asked, current) = run(PROFILE, &["workspace", "leave"], &replies).await;
    outcome.expect("it is left");
    assert_eq!(
        (asked[1].as_str(), current),
        ("POST /api/workspaces/01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e01/leave", None)
    );
}

#[tokio::test]
async fn the_only_invitation_need_not_be_named() {
    let one = r#"[{"id":"01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e05","workspace_name":"One","role":"member","expires_at":"2026-01-09T00:00:00Z"}]"#;
    let replies = [Reply::new(200, one), Reply::new(200, r#"{"role":"member"}"#)];
    let (outcome, asked, _) = run(PROFILE, &["invitation", "accept"], &replies).await;
    outcome.expect("accepted");
    assert_eq!(asked[1], "POST /api/invitations/01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e05/accept");
    let (outcome, ..) = run(PROFILE, &["invitation", "decline"], &[Reply::new(200, "[]")]).await;
    assert_eq!(outcome.expect_err("there is none").exit_code(), ExitCode::NotFound);
}
