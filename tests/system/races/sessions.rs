//! Refreshes of one session, and its end.

use std::collections::BTreeMap;

use reqwest::Method;
use tally_tests::{Console, client::answer};

use super::{at_once, count, server, somebody, turn};
use crate::support::{address, connection_to};

/// How often each event stands in the stream of a session.
async fn events_of_session(id: &str) -> BTreeMap<String, i64> {
    let counts: Vec<(String, i64)> =
        sqlx::query_as("select name, count(*) from event where stream_id = $1::uuid group by name")
            .bind(id)
            .fetch_all(&mut connection_to(server().await).await)
            .await
            .expect("the log is there");
    counts.into_iter().collect()
}

/// One of them is the refresh, the others repeat it; and of all that were answered one goes on.
#[tokio::test(flavor = "multi_thread")]
async fn of_refreshes_at_once_one_rotates_and_one_answer_goes_on() {
    let _turn = turn().await;
    let client = server().await.client();
    for requests in [2, 12] {
        let console = client.open_console(&address("tabs")).await;
        let answers = at_once((0..requests).map(|_| client.refresh(&console)).collect()).await;
        assert_eq!(count(&answers), BTreeMap::from([(200, requests)]));
        let events = events_of_session(&console.id).await;
        assert_eq!(events.get("session.refreshed"), Some(&1), "{events:?}");
        let repeated = i64::try_from(requests).expect("few") - 1;
        assert_eq!(events.get("session.refresh_repeated"), Some(&repeated), "{events:?}");
        assert_eq!(events.get("session.ended"), None, "nobody was taken for a thief");
        let given: Vec<Console> = answers.iter().map(Console::of).collect();
        let distinct: std::collections::BTreeSet<&String> = given.iter().map(|one| &one.refresh).collect();
        assert_eq!(distinct.len(), requests);

        // Each of them is used by somebody else now: there is one successor, and no second family.
        let answers = at_once(given.iter().map(|one| client.refresh(one)).collect()).await;
        let counts = count(&answers);
        assert_eq!(counts, BTreeMap::from([(200, 1), (401, requests - 1)]));
        let went_on =
            answers.iter().find(|answer| answer.status == 200).map(Console::of).expect("one went on");
        assert_eq!(answer(client.refresh(&went_on)).await.status, 401, "the others have ended it");
        assert!(!client.accepts(&went_on.access).await);
        let events = events_of_session(&console.id).await;
        assert_eq!((events["session.refreshed"], events["session.ended"]), (2, 1), "{events:?}");
    }
}

/// More than a browser has tabs: the rest are told to come back, and nothing ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_refreshes_is_answered_so_often_and_no_more() {
    let _turn = turn().await;
    let client = server().await.client();
    let console = client.open_console(&address("crowd")).await;
    let answers = at_once((0..40).map(|_| client.refresh(&console)).collect()).await;
    let counts = count(&answers);
    // One that met conflicts again and again is told so, too.
    let told = counts.get(&503).copied().unwrap_or_default();
    assert_eq!((counts[&200], counts[&429] + told), (17, 23), "{counts:?}");
    let events = events_of_session(&console.id).await;
    assert_eq!(events["session.refresh_repeated"], 16, "{events:?}");
    assert!(!events.contains_key("session.ended"), "{events:?}");
    let last =
        answers.iter().filter(|answer| answer.status == 200).map(Console::of).next_back().expect("some");
    assert_eq!(answer(client.refresh(&last)).await.status, 200);
}

/// Whichever comes first, the session is over, and so is everything that was given for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_races_an_end_revives_nothing() {
    let _turn = turn().await;
    let client = server().await.client();
    let (mut refreshed, mut rounds) = (0, 0);
    // The end has the shorter way, and is mostly first.
    while rounds < 20 || (refreshed == 0 && rounds < 200) {
        rounds += 1;
        let console = client.open_console(&address("leaver")).await;
        let refresh = client.refresh(&console);
        let end = client.by_console(Method::DELETE, "/v1/sessions/current", &console);
        let answers = at_once(vec![refresh, end]).await;
        assert_eq!(answers[1].status, 204, "{}", answers[1].text);
        match answers[0].status {
            200 => {
                refreshed += 1;
                let given = Console::of(&answers[0]);
                assert!(!client.accepts(&given.access).await, "an access token of an ended session works");
                assert_eq!(answer(client.refresh(&given)).await.status, 401);
            }
            status => assert_eq!(status, 401, "{}", answers[0].text),
        }
        assert!(!client.accepts(&console.access).await);
        let events = events_of_session(&console.id).await;
        assert_eq!(events["session.ended"], 1, "{events:?}");
    }
    assert!(refreshed > 0, "the refresh was never first");
}

/// A session for the command line that starts while its parent ends has ended with it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_starts_below_a_session_that_has_ended() {
    let _turn = turn().await;
    let mut started_first = 0;
    for how in ["/auth/logout", "/v1/sessions/end-others"] {
        for _ in 0..10 {
            let (client, login) = somebody("parent").await;
            let (_, token) = client.mint(&login.token, "laptop").await;
            let start = || client.request(Method::POST, "/api/cli-token").bearer_auth(&login.token);
            // A token is no session, so by it all of them are others.
            let by = if how == "/auth/logout" { &login.token } else { &token };
            let end = client.request(Method::POST, how).bearer_auth(by);
            let answers = at_once((0..6).map(|_| start()).chain([end]).collect()).await;
            assert_eq!(answers[6].status, 200, "{}", answers[6].text);
            for started in answers[..6].iter().filter(|answer| answer.status == 200) {
                started_first += 1;
                let jwt = started.json()["token"].as_str().expect("a token").to_owned();
                assert!(!client.accepts(&jwt).await, "{how}: a session outlived the one that started it");
            }
            assert!(client.accepts(&token).await);
        }
    }
    assert!(started_first > 0, "no session was started before its parent ended");
}
