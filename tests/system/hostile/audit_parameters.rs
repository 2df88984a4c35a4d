//! Questions to the audit trail that make no sense: each gets a sentence that names the parameter.

use tally_tests::client::answer;

use super::{assert_calm, assert_problem, somebody};

const TIME: &str = "not an RFC 3339 time such as 2026-01-31T12:00:00Z";
const ONE_FILTER: &str = "only one of name, actor, subject and credential can be given: each has its index, combinations have none";

#[tokio::test]
async fn a_malformed_parameter_is_named() {
    let (client, login) = somebody().await;
    let id = "018f0000-0000-7000-8000-000000000000";
    let mut cases: Vec<(String, String)> = Vec::new();
    for limit in ["0", "201", "-1", "abc", "", "1.5", "1e2", "0x10", "99999999999999999999", "%00", "%2050"] {
        cases.push((format!("limit={limit}"), "limit must be between 1 and 200".to_owned()));
    }
    for name in ["cursor", "from_position", "to_position"] {
        for value in ["abc", "-1", "", "1.5", "9223372036854775808", "%00", "1%20", "0x1", "%ff"] {
            cases.push((format!("{name}={value}"), format!("invalid {name}: not a log position")));
        }
    }
    for name in ["since", "until"] {
        for value in [
            "yesterday",
            "",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "1700000000",
            "2026-13-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "12026-01-01T00:00:00Z",
            "-2026-01-01T00:00:00Z",
            "2026-01-31T12:00:00Z%00",
            "infinity",
        ] {
            cases.push((format!("{name}={value}"), format!("invalid {name}: {TIME}")));
        }
    }
    for name in ["actor", "subject", "credential", "workspace"] {
        for value in
            ["x", "", "1", "018f00000000700080000000000000000", "%7b018f0000-0000-7000-8000-000000000000%7d"]
        {
            cases.push((format!("{name}={value}"), format!("invalid {name}: not a UUID")));
        }
    }
    for (query, sentence) in [
        ("line=1".to_owned(), "line must be true or false"),
        ("line=true".to_owned(), "line needs a credential"),
        (format!("actor={id}&subject={id}"), ONE_FILTER),
        (format!("name=token.minted&credential={id}"), ONE_FILTER),
        (format!("actor={id}&credential={id}&line=true"), ONE_FILTER),
        ("limit=1&limit=1".to_owned(), "`limit` is given twice"),
        ("limit=1&limi%74=2".to_owned(), "`limit` is given twice"),
        (format!("actor={id}&actor={id}"), "`actor` is given twice"),
    ] {
        cases.push((query, sentence.to_owned()));
    }
    for (query, sentence) in cases {
        let answer = answer(client.get(&format!("/v1/audit?{query}")).bearer_auth(&login.token)).await;
        assert_problem(&answer, 400, "bad_request", &sentence, &query);
    }
    assert_calm().await;
}

#[tokio::test]
async fn an_unknown_parameter_or_event_name_is_told_what_is_known() {
    let (client, login) = somebody().await;
    let known = "actor, credential, line, workspace, name, subject, since, until, from_position, to_position, limit, cursor";
    for (query, shown) in
        [("access_token=x", "access_token"), ("Limit=1", "Limit"), ("limit[]=1", "limit[]"), ("%00%0a=1", "")]
    {
        let answer = answer(client.get(&format!("/v1/audit?{query}")).bearer_auth(&login.token)).await;
        let sentence = format!("unknown parameter `{shown}`: known are {known}");
        assert_problem(&answer, 400, "bad_request", &sentence, query);
    }
    for name in ["token", "token.", "TOKEN.MINTED", "token.minted%00", "%25", "", "'"] {
        let answer = answer(client.get(&format!("/v1/audit?name={name}")).bearer_auth(&login.token)).await;
        assert_eq!(answer.status, 400, "{name}");
        let detail = answer.json()["detail"].as_str().expect("a sentence").to_owned();
        assert!(
            detail.starts_with("unknown event name: known are ") && detail.contains("token.minted"),
            "{detail}"
        );
    }
    let elsewhere = "/v1/audit?workspace=018f0000-0000-7000-8000-000000000000";
    let answer = answer(client.get(elsewhere).bearer_auth(&login.token)).await;
    assert_problem(&answer, 404, "not_found", "workspace not found", elsewhere);
    assert_calm().await;
}

/// What is well-formed and absurd is an empty page, or the whole.
#[tokio::test]
async fn extreme_values_are_answered() {
    let (client, login) = somebody().await;
    let last = i64::MAX;
    for (query, is_empty) in [
        (format!("cursor={last}"), false),
        ("cursor=0".to_owned(), true),
        (format!("from_position={last}"), true),
        (format!("to_position={last}"), false),
        (format!("from_position={last}&to_position=0"), true),
        ("since=9999-12-31T23:59:59Z".to_owned(), true),
        ("since=9999-12-31T23:59:60.999999999-23:59".to_owned(), true),
        ("until=9999-12-31T23:59:59Z".to_owned(), false),
        ("until=0000-01-01T00:00:00Z".to_owned(), true),
        ("since=0000-01-01T00:00:00%2B23:59".to_owned(), false),
        ("limit=200".to_owned(), false),
        ("limit=1".to_owned(), false),
    ] {
        let answer = answer(client.get(&format!("/v1/audit?{query}")).bearer_auth(&login.token)).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text);
        let events = answer.json()["events"].as_array().expect("a page").len();
        assert_eq!(events == 0, is_empty, "{query}: {events} events");
    }
    assert_calm().await;
}
