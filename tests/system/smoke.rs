use crate::support::{address, client};

#[tokio::test]
async fn a_token_works_until_it_is_revoked() {
    let client = client().await;
    let login = client.login(&address("smoke")).await;
    let (id, token) = client.mint(&login.token, "laptop").await;
    assert!(client.accepts(&token).await);
    let path = format!("/api/tokens/{id}");
    let answer =
        tally_tests::client::answer(client.request(reqwest::Method::DELETE, &path).bearer_auth(&login.token))
            .await;
    assert_eq!(answer.status, 204);
    assert!(!client.accepts(&token).await);
}
