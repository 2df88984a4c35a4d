use tally_domain::credential::Plaintext;

use super::{Canned, Reply, client};
use crate::client::ExitCode;
use crate::client::auth::revoke;

const ME: &str = r#"{"kind":"personal_access_token","credential_id":"t-1",
    "user":{"id":"u-1","email":"ada@example.org","name":"Ada"},
    "org":null,"role":null,"scopes":null,"expires_at":"2027-01-05T00:00:00Z"}"#;

/// What `auth logout --revoke` does on the server, with this token in the profile.
async fn end(token: &str, replies: Vec<Reply>) -> (Result<Option<String>, ExitCode>, Vec<String>) {
    let home = tempfile::tempdir().expect("a directory");
    let server = Canned::start(replies).await;
    let client = client(home.path(), &server.url, "{}");
    let outcome = revoke(&client, &Plaintext::new(token)).await;
    (
        outcome.map(|done| done.map(|done| done.to_string())).map_err(|failure| failure.exit_code()),
        server.lines(),
    )
}

#[tokio::test]
async fn contract_logout_revoke_finds_the_credential_and_ends_it() {
    let gone = Reply::new(204, "").header("X-Revocation", "effective");
    let (outcome, lines) = end("mul_x", vec![Reply::new(200, ME), gone]).await;
    let told = outcome.expect("revoked").expect("told");
    assert!(told.starts_with("Revoked t-1; effective everywhere in "), "{told}");
    assert_eq!(lines, ["GET /v1/me", "DELETE /api/tokens/t-1"]);
}

#[tokio::test]
async fn a_token_that_ended_before_needs_no_revoking() {
    let (outcome, lines) = end("mul_x", vec![Reply::new(401, r#"{"title":"Unauthorized"}"#)]).await;
    assert_eq!((outcome, lines), (Ok(None), vec!["GET /v1/me".to_owned()]));
}

#[tokio::test]
async fn a_server_that_cannot_tell_is_not_taken_for_a_yes() {
    let (outcome, _) = end("mul_x", vec![Reply::new(503, "")]).await;
    assert_eq!(outcome, Err(ExitCode::Other));
    let (outcome, _) = end("mul_x", vec![Reply::new(200, ME), Reply::new(500, "")]).await;
    assert_eq!(outcome, Err(ExitCode::Other));
    let anonymous = ME.replace(r#""t-1""#, "null");
    let (outcome, _) = end("mul_x", vec![Reply::new(200, &anonymous)]).await;
    assert_eq!(outcome, Err(ExitCode::Other));
}

#[tokio::test]
async fn only_a_personal_access_token_is_revoked_this_way() {
    let (outcome, lines) = end("mcn_x", vec![]).await;
    assert_eq!((outcome, lines), (Err(ExitCode::BadInput), vec![]));
}
