//! What SQL could not read does not get in.

use tally_events::{
    CredentialId, Personal, SessionId, StreamId, TokenId, UserId,
    token::{TokenKind, TokenMinted},
};
use tally_store::ExecuteError;

use crate::support::{Log, append, register};

/// Type json would store it, and `->>` would fail on it for ever.
#[tokio::test]
async fn a_nul_does_not_reach_the_log() {
    let log = Log::new().await;
    let store = log.store().await;
    let user = UserId::new();
    register(user, "ada@example.org").by(&store).await.unwrap();
    let minted = |prefix: &str| TokenMinted {
        kind: TokenKind::PersonalAccessToken,
        user_id: user,
        name: Personal::clear("sealed, so a NUL \0 here is nobody's trouble"),
        hash: tally_events::Hidden::new("00".repeat(32)),
        prefix: prefix.to_owned(),
        minted_by: CredentialId::Session(SessionId(uuid::Uuid::nil())),
        expires_at: None,
    };
    let mint = |prefix: &str| append([(StreamId::from(TokenId::new()), minted(prefix).into())]);
    for nul in ["\0", "a\0b", "\\\0", "\\\\\0"] {
        let refused = mint(nul).by(&store).await.unwrap_err();
        assert!(matches!(refused, ExecuteError::Encode(_)), "{nul:?}: {refused:?}");
    }
    // These only look like one.
    for harmless in ["\\u0000", "\\\\u0000", "u0000", "\u{1}"] {
        mint(harmless).by(&store).await.unwrap();
        let read: String =
            sqlx::query_scalar("select payload->>'prefix' from event order by position desc limit 1")
                .fetch_one(store.pool())
                .await
                .unwrap();
        assert_eq!(read, harmless);
    }
    assert_eq!(log.head().await, 5, "nothing of the refused stands");
    log.assert_sound().await;
}
