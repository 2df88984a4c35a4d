//! How long the login door takes tells nobody whether an address has an account.
//!
//! Welch's t over interleaved samples, as in leakage assessment of cryptographic code: beyond 4.5 the two
//! would be told apart. `TALLY_TIMING_SAMPLES` asks for more of them; `make timing` takes 10,000.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use futures::{StreamExt, stream};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tally_events::UserId;
use tally_tests::{Client, Server, client::answer};

use crate::support::{BINARY, address, connection_to, past::Past};

/// Beyond it the two are told apart.
const T_MAX: f64 = 4.5;
const SAMPLES: usize = 1000;
/// The slowest of all are the machine's doing: they hide differences in everything else, and are left out
/// in a second look.
const KEPT: f64 = 0.9;

#[expect(clippy::disallowed_methods, reason = "a test is told by the environment what to do")]
fn told(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn samples() -> usize {
    told("TALLY_TIMING_SAMPLES").map_or(SAMPLES, |text| text.parse().expect("a number"))
}

/// What answers: among many samples a build as operators run it, else the one that tests are made with.
fn server() -> String {
    told("TALLY_TIMING_SERVER").unwrap_or_else(|| BINARY.to_owned())
}

/// Welch's t of two samples.
fn welch(one: &[f64], other: &[f64]) -> f64 {
    let moments = |values: &[f64]| {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    };
    let ((mean, error), (other_mean, other_error)) = (moments(one), moments(other));
    (mean - other_mean) / (error + other_error).sqrt()
}

/// The same without what is slower than nearly all.
fn welch_of_the_quick(one: &[f64], other: &[f64]) -> f64 {
    let mut all: Vec<f64> = one.iter().chain(other).copied().collect();
    all.sort_by(f64::total_cmp);
    let limit = all[(all.len() as f64 * KEPT) as usize];
    let quick = |values: &[f64]| values.iter().copied().filter(|value| *value < limit).collect::<Vec<_>>();
    welch(&quick(one), &quick(other))
}

async fn timed(client: &Client, path: &str, body: &Value) -> (f64, u16) {
    let request = client.post(path, body);
    let began = Instant::now();
    let answer = answer(request).await;
    (began.elapsed().as_secs_f64(), answer.status)
}

/// Asks the door about known and unknown addresses in turn, in an order that dice decide.
async fn assert_alike(client: &Client, path: &str, status: u16, known: &[Value], unknown: &[Value]) {
    let mut dice = StdRng::seed_from_u64(7);
    let (mut of_known, mut of_unknown, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for (known, unknown) in known.iter().zip(unknown) {
        let mut both = [(known, &mut of_known), (unknown, &mut of_unknown)];
        if dice.random::<bool>() {
            both.reverse();
        }
        for (body, times) in both {
            let (took, answered) = timed(client, path, body).await;
            times.push(took);
            others.extend(Some(answered).filter(|answered| *answered != status));
        }
    }
    // Of a million guesses one is right.
    assert!(others.is_empty() || (status, &others[..]) == (400, &[200]), "{others:?}");
    let (t, quick) = (welch(&of_known, &of_unknown), welch_of_the_quick(&of_known, &of_unknown));
    let middle = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Duration::from_secs_f64(sorted[sorted.len() / 2])
    };
    println!(
        "{path}: {} samples, medians {:?} known, {:?} unknown; t = {t:.2}, of the quick {quick:.2}",
        of_known.len() * 2,
        middle(&of_known),
        middle(&of_unknown)
    );
    assert!(
        t.abs() < T_MAX && quick.abs() < T_MAX,
        "{path} tells who has an account: t = {t:.2}, {quick:.2}"
    );
}

#[tokio::test]
async fn the_login_door_takes_as_long_for_whoever_is_unknown() {
    let server = Server::start(&server(), &[]).await;
    let client = server.client();
    let pairs = samples() / 2;
    // Both kinds have asked for a code before, hours ago; one kind has an account.
    let past = &Past::of(&server, TimeDelta::zero()).await;
    let addresses = |name: &'static str| (0..pairs).map(move |_| address(name)).collect::<Vec<_>>();
    let (known, unknown) = (addresses("known"), addresses("unknown"));
    let log_in = |email: &'static str| async move {
        past.log_in(email, UserId::new(), TimeDelta::days(1)).await;
    };
    let knock = |email: &'static str| async move { past.issue_code(email, "135791").await };
    let lasting = |email: &String| -> &'static str { email.clone().leak() };
    stream::iter(known.iter().map(|email| log_in(lasting(email))))
        .buffer_unordered(8)
        .collect::<Vec<_>>()
        .await;
    stream::iter(unknown.iter().map(|email| knock(lasting(email))))
        .buffer_unordered(8)
        .collect::<Vec<_>>()
        .await;
    // What was recorded a moment ago happened hours ago: a second code may be asked for.
    let mut connection = connection_to(&server).await;
    for statement in [
        "alter table event disable trigger all",
        "update event set recorded_at = recorded_at - interval '3 hours'",
        "alter table event enable trigger all",
    ] {
        sqlx::query(statement).execute(&mut connection).await.expect(statement);
    }

    let asking = |emails: &[String]| emails.iter().map(|email| json!({ "email": email })).collect::<Vec<_>>();
    assert_alike(&client, "/auth/send-code", 200, &asking(&known), &asking(&unknown)).await;
    let wrong = |email: &String| json!({ "email": email, "code": "000000" });
    let guessing = |emails: &[String]| emails.iter().map(wrong).collect::<Vec<_>>();
    assert_alike(&client, "/auth/verify-code", 400, &guessing(&known), &guessing(&unknown)).await;
}

/// The judge is not blind: a difference of a tenth is seen among as many samples.
#[test]
fn a_difference_is_seen() {
    let mut dice = StdRng::seed_from_u64(7);
    let mut draw =
        |mean: f64| (0..500).map(|_| mean * (0.8 + 0.4 * dice.random::<f64>())).collect::<Vec<_>>();
    let (one, same, other) = (draw(1.0), draw(1.0), draw(1.1));
    assert!(welch(&one, &same).abs() < T_MAX && welch(&one, &other).abs() > T_MAX);
    assert!(welch_of_the_quick(&one, &same).abs() < T_MAX && welch_of_the_quick(&one, &other).abs() > T_MAX);
}
