//! Rebuilds beside the server while 64 clients read and write: killed midway, started again, and
//! nobody notices.

use std::{
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tally_tests::{
    Client,
    client::{Answer, answer},
};
use uuid::Uuid;

use super::{
    judge::{assert_whole, judge},
    load::{Person, acted, answers, crowd, under_load},
    report::Report,
    rounds, seed,
    site::{CODE, Site},
};

/// 64 clients together. The writers do one thing after another, the readers pause, or two processors
/// that run clients, server and database would be measured instead of the rebuild.
const WRITERS: u64 = 16;
const READERS: usize = 48;
const READER_PAUSE: Duration = Duration::from_millis(200);
/// How long a round may wait for a rebuild to be caught midway.
const PATIENCE: Duration = Duration::from_mins(1);

/// Somebody who reads what each projection answers, and must always get it.
struct Reader {
    client: Client,
    session: String,
    token: String,
    id: String,
    reads: Arc<AtomicUsize>,
}

impl Reader {
    async fn arrive(client: Client, reads: Arc<AtomicUsize>) -> Self {
        let email = format!("reader-{}@example.org", Uuid::now_v7().simple());
        let sent = answer(client.post("/auth/send-code", &json!({ "email": email }))).await;
        assert_eq!(sent.status, 200, "{}", sent.text);
        let verified = json!({ "email": email, "code": CODE });
        let verified = answer(client.post("/auth/verify-code", &verified)).await;
        assert_eq!(verified.status, 200, "{}", verified.text);
        let session = verified.json()["token"].as_str().expect("a token").to_owned();
        // With a key, as everybody here: the log is judged by them.
        let mint = client.post("/api/tokens", &json!({ "name": "reader" })).bearer_auth(&session);
        let minted = answer(mint.header("Idempotency-Key", Uuid::now_v7().to_string())).await;
        assert_eq!(minted.status, 201, "{}", minted.text);
        let field = |name: &str| minted.json()[name].as_str().expect("a text").to_owned();
        Self { client, session, token: field("token"), id: field("id"), reads }
    }

    async fn get(&self, path: &str, credential: &str) -> Answer {
        let answer = answer(self.client.get(path).bearer_auth(credential)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        self.reads.fetch_add(1, Ordering::SeqCst);
        answer
    }

    async fn read(&self) {
        // `users` and `sessions`, `credentials`, `token_list`, `audit_log`.
        self.get("/api/me", &self.session).await;
        self.get("/v1/me", &self.token).await;
        let listed = self.get("/api/tokens", &self.session).await.json();
        assert!(listed.as_array().is_some_and(|all| all.len() == 1 && all[0]["id"] == *self.id), "{listed}");
        let path = format!("/v1/audit?credential={}", self.id);
        let audited = self.get(&path, &self.session).await;
        assert!(audited.text.contains("token.minted"), "{}", audited.text);
    }
}

/// Rebuilds everything in a process of its own.
struct Rebuild(Child);

impl Rebuild {
    fn start(site: &Site) -> Self {
        let mut command: Command = site.server.command(&["projections", "rebuild", "--all", "--json"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self(child.expect("the binary runs"))
    }

    /// Kills it when some projection is folded in part; false when it came to its end first.
    async fn kill_midway(mut self, connection: &mut PgConnection) -> bool {
        loop {
            if let Some(status) = self.0.try_wait().expect("a child of ours") {
                assert!(status.success(), "{status}");
                return false;
            }
            if positions(connection).await.iter().any(|position| *position > 0) {
                break;
            }
        }
        self.0.kill().expect("a child of ours");
        let ended = self.0.wait().expect("a child of ours");
        !ended.success() && positions(connection).await.iter().any(|position| *position > 0)
    }

    async fn end(self) -> Value {
        let ended = tokio::task::spawn_blocking(|| self.0.wait_with_output()).await;
        let output = ended.expect("it is waited for").expect("a child of ours");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

/// How far the rebuilds have come that are under way, or were stopped.
async fn positions(connection: &mut PgConnection) -> Vec<i64> {
    let there: bool = sqlx::query_scalar("select to_regclass('rebuild.progress') is not null")
        .fetch_one(&mut *connection)
        .await
        .expect("the database answers");
    if !there {
        return Vec::new();
    }
    sqlx::query_scalar("select position from rebuild.progress")
        .fetch_all(connection)
        .await
        .expect("the database answers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rebuilds_of_everything_are_killed_and_ended_and_no_read_fails() {
    let seed = seed();
    let site = Site::embedded().await;
    let mut report = Report::new("a rebuild of every projection is killed midway, and ended");
    let mut people = crowd(&site.door(), seed, WRITERS);
    let reads = Arc::new(AtomicUsize::new(0));
    let readers = (0..READERS).map(|_| Reader::arrive(site.client(), reads.clone()));
    let readers = Arc::new(join_all(readers).await);
    let mut connection = site.connect().await;
    for _ in 0..rounds() {
        let stop = Arc::new(AtomicBool::new(false));
        let reading: Vec<_> = (0..READERS)
            .map(|number| {
                let (readers, stop) = (readers.clone(), stop.clone());
                tokio::spawn(async move {
                    while !stop.load(Ordering::SeqCst) {
                        readers[number].read().await;
                        tokio::time::sleep(READER_PAUSE).await;
                    }
                })
            })
            .collect();
        let rebuilding;
        (people, rebuilding) = under_load(people, async |acts| {
            let deadline = Instant::now() + PATIENCE;
            // More than the flip folds at once, or there would be no midway.
            acted(acts, 400).await;
            while !Rebuild::start(&site).kill_midway(&mut connection).await {
                assert!(Instant::now() < deadline, "no rebuild was caught midway");
            }
            acted(acts, 50).await;
            let before = reads.load(Ordering::SeqCst);
            let began = Instant::now();
            let rebuilt = Rebuild::start(&site).end().await;
            let rebuilding = began.elapsed();
            let projections = tally_projections::inline().len() + tally_projections::following().len();
            assert_eq!(rebuilt["rebuilt"].as_array().map(Vec::len), Some(projections), "{rebuilt}");
            assert_eq!(positions(&mut connection).await, [0_i64; 0]);
            assert!(reads.load(Ordering::SeqCst) > before, "somebody read meanwhile");
            acted(acts, 50).await;
            rebuilding
        })
        .await;
        stop.store(true, Ordering::SeqCst);
        for reader in reading {
            reader.await.expect("no read fails");
        }
        assert_none_failed(&people);
        people = judge(&site, people, &mut report).await;
        report.round(rebuilding);
    }
    println!("{} reads", reads.load(Ordering::SeqCst));
    connection.close().await.expect("the database answers");
    assert_whole(&site, &people).await;
    report.conclude();
}

/// What a client may meet while nothing is wrong: yes, or the 400 of a wrong code.
fn assert_none_failed(people: &[Person]) {
    let answers = answers(people);
    assert!(answers.keys().all(|status| [200, 201, 204, 400].contains(status)), "{answers:?}");
    let unanswered: usize = people.iter().map(|person| person.told.unanswered.len()).sum();
    assert_eq!(unanswered, 0);
}
