//! `X-Min-Position`: a position of the log, or 400.

use tally_tests::client::answer;

use super::{assert_calm, assert_error, assert_problem, somebody};

const MALFORMED: &str = "X-Min-Position must be a log position: a whole number, as X-Log-Position gives it";
const BEYOND: &str = "X-Min-Position is beyond the head of the log";

#[tokio::test]
async fn a_position_that_is_none_or_not_there_yet_is_400() {
    let (client, login) = somebody().await;
    let malformed = [
        "abc",
        "-1",
        "",
        "1.5",
        "1 2",
        "0x1",
        "9223372036854775808",
        "99999999999999999999999",
        "null",
        "\u{e9}",
    ];
    let beyond = ["9223372036854775807", "1000000000000"];
    let all = malformed.map(|text| (text, MALFORMED)).into_iter().chain(beyond.map(|text| (text, BEYOND)));
    for (text, sentence) in all {
        let ask = async |path: &str| {
            let request = client.get(path).bearer_auth(&login.token);
            answer(request.header("x-min-position", text.as_bytes())).await
        };
        for path in ["/api/me", "/api/tokens"] {
            assert_error(&ask(path).await, 400, sentence, &format!("{path} at {text}"));
        }
        assert_problem(
            &ask("/v1/audit").await,
            400,
            "bad_request",
            sentence,
            &format!("/v1/audit at {text}"),
        );
    }
    assert_calm().await;
}

#[tokio::test]
async fn a_position_that_was_answered_is_there() {
    let (client, login) = somebody().await;
    let minted =
        answer(client.post("/api/tokens", &serde_json::json!({ "name": "x" })).bearer_auth(&login.token))
            .await;
    let position = minted.header("x-log-position").expect("a position").to_owned();
    for path in ["/api/me", "/api/tokens", "/v1/audit"] {
        for asked in ["0", &position] {
            let request = client.get(path).bearer_auth(&login.token).header("x-min-position", asked);
            assert_eq!(answer(request).await.status, 200, "{path} at {asked}");
        }
    }
    assert_calm().await;
}
