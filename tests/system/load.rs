//! Mixed load over HTTP, and what must be true after it: whatever was killed meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use reqwest::Method;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tally_tests::{Client, Server, eventually};
use uuid::Uuid;

use crate::{oracle, support::BINARY};

const CLIENTS: u64 = 16;
/// The code that always fits, so that no login has to read the server's log.
const CODE: &str = "424242";
/// Answers that come later count as none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

async fn start() -> Server {
    Server::start(BINARY, &[("MULTICA_DEV_VERIFICATION_CODE", CODE)]).await
}

/// A connection to the server's private database.
pub async fn connect(server: &Server) -> PgConnection {
    let options = PgConnectOptions::new_without_pgpass()
        .socket(server.data_dir().join("socket"))
        .username("tally")
        .database("tally");
    eventually("the private database to answer", async || PgConnection::connect_with(&options).await.ok())
        .await
}

/// A number that another run repeats: printed, and taken from `TALLY_SEED` if that is set.
fn seed() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test is told its seed by the environment")]
    let given = std::env::var("TALLY_SEED").ok().map(|text| text.parse().expect("a number"));
    let seed = given.unwrap_or_else(rand::random);
    println!("TALLY_SEED={seed}");
    seed
}

/// What one client was told, over all lives of the server.
#[derive(Default)]
struct Told {
    /// Tokens whose minting was acknowledged, by id.
    minted: BTreeMap<Uuid, String>,
    /// Revocations that were acknowledged.
    revoked: BTreeSet<Uuid>,
    /// Revocations that were asked for: what they did is unknown until somebody looks.
    maybe_revoked: BTreeSet<Uuid>,
    /// Sessions whose end was acknowledged.
    ended: Vec<String>,
    /// Mints without an answer: the key, the name, and the credential.
    unanswered: Vec<(String, String, String)>,
    /// Idempotency keys of mints whose first answer came, or whose retry did.
    keys: BTreeSet<String>,
    answers: BTreeMap<u16, usize>,
}

/// One person after another, doing what people do.
struct Person {
    client: Client,
    rng: StdRng,
    session: String,
    /// The tokens of the person who is logged in: a stranger's are left alone.
    mine: BTreeSet<Uuid>,
    told: Told,
}

/// Nothing came back.
struct NoAnswer;

impl Person {
    /// A client whose dice fall as the seed says.
    fn new(client: Client, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { client, rng, session: String::new(), mine: BTreeSet::new(), told: Told::default() }
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        credential: Option<&str>,
        key: Option<&str>,
        body: Option<Value>,
    ) -> Result<(u16, Value), NoAnswer> {
        let mut request = self.client.request(method, path).timeout(ANSWER_TIMEOUT);
        if let Some(credential) = credential {
            request = request.bearer_auth(credential);
        }
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.map_err(|_| NoAnswer)?;
        let status = response.status().as_u16();
        let text = response.text().await.map_err(|_| NoAnswer)?;
        *self.told.answers.entry(status).or_default() += 1;
        // 503 is an honest "I cannot know"; any other server error is a bug.
        assert!(status < 500 || status == 503, "{path}: {status} {text}");
        Ok((status, serde_json::from_str(&text).unwrap_or_default()))
    }

    /// Becomes somebody new, after some wrong codes.
    async fn arrive(&mut self) -> Result<(), NoAnswer> {
        self.session.clear();
        self.mine.clear();
        let email = format!("person-{}@example.org", Uuid::now_v7().simple());
        self.send(Method::POST, "/auth/send-code", None, None, Some(json!({ "email": email }))).await?;
        for _ in 0..self.rng.random_range(0..3) {
            let wrong = json!({ "email": email, "code": "111111" });
            self.send(Method::POST, "/auth/verify-code", None, None, Some(wrong)).await?;
        }
        let right = json!({ "email": email, "code": CODE });
        let (status, body) = self.send(Method::POST, "/auth/verify-code", None, None, Some(right)).await?;
        if status == 200 {
            self.session = body["token"].as_str().expect("a token").to_owned();
        }
        Ok(())
    }

    /// The tokens that should work, as far as this client was told.
    fn live(&self) -> Vec<(Uuid, String)> {
        let told = &self.told;
        told.minted
            .iter()
            .filter(|(id, _)| !told.maybe_revoked.contains(*id))
            .map(|(id, token)| (*id, token.clone()))
            .collect()
    }

    async fn mint(&mut self, credential: &str) -> Result<(), NoAnswer> {
        let key = Uuid::now_v7().to_string();
        let name =
            ["laptop", "server \u{1F511}", "\"quoted\\\"", "daemon"].choose(&mut self.rng).expect("names");
        self.mint_with(key, (*name).to_owned(), credential.to_owned()).await
    }

    async fn mint_with(&mut self, key: String, name: String, credential: String) -> Result<(), NoAnswer> {
        let days: Option<i64> = if name == "daemon" { Some(3) } else { None };
        let body = json!({ "name": name, "expires_in_days": days });
        let sent = self.send(Method::POST, "/api/tokens", Some(&credential), Some(&key), Some(body)).await;
        match &sent {
            Ok((201, body)) => {
                let id = body["id"].as_str().expect("an id").parse().expect("a UUID");
                self.told.minted.insert(id, body["token"].as_str().expect("a token").to_owned());
                self.mine.insert(id);
                self.told.keys.insert(key);
            }
            // The first attempt had acted, and its secret is lost.
            Ok((409, _)) => drop(self.told.keys.insert(key)),
            Ok((401 | 403, _)) => {}
            Ok((503, _)) | Err(NoAnswer) => self.told.unanswered.push((key, name, credential)),
            Ok((status, body)) => panic!("a mint: {status} {body}"),
        }
        sent.map(drop)
    }

    async fn revoke(&mut self, id: Uuid, line: bool) -> Result<(), NoAnswer> {
        let credential = self.session.clone();
        if line {
            // Whatever hangs below it goes too: all of this person's tokens may be gone.
            self.told.maybe_revoked.extend(&self.mine);
        }
        self.told.maybe_revoked.insert(id);
        let path = format!("/api/tokens/{id}{}", if line { "?line=true" } else { "" });
        if let (204, _) = self.send(Method::DELETE, &path, Some(&credential), None, None).await? {
            self.told.revoked.insert(id);
        }
        Ok(())
    }

    async fn act(&mut self) -> Result<(), NoAnswer> {
        if self.session.is_empty() {
            return self.arrive().await;
        }
        let session = self.session.clone();
        let live: Vec<_> = self.live().into_iter().filter(|(id, _)| self.mine.contains(id)).collect();
        let some = live.choose(&mut self.rng).cloned();
        match (self.rng.random_range(0..100), some) {
            (0..25, _) => self.mint(&session).await,
            (25..35, Some((_, token))) => self.mint(&token).await,
            (35..50, Some((_, token))) => {
                self.send(Method::GET, "/v1/me", Some(&token), None, None).await.map(drop)
            }
            (50..58, Some((_, token))) => {
                self.send(Method::POST, "/api/tokens/current/renew", Some(&token), None, None).await.map(drop)
            }
            (58..75, Some((id, _))) => self.revoke(id, false).await,
            (75..78, Some((id, _))) => self.revoke(id, true).await,
            (78..88, _) => {
                let change = match self.rng.random_range(0..4) {
                    0 => json!({ "name": "Ada" }),
                    1 => json!({ "language": "ja", "timezone": "Europe/Berlin" }),
                    2 => json!({ "profile_description": "", "avatar_url": "https://example.org/a.png" }),
                    _ => json!({ "name": "Eve", "avatar_url": "", "timezone": "" }),
                };
                self.send(Method::PATCH, "/api/me", Some(&session), None, Some(change)).await.map(drop)
            }
            (88..91, _) => {
                self.send(Method::POST, "/api/cli-token", Some(&session), None, None).await.map(drop)
            }
            (91..95, _) => {
                let (status, _) = self.send(Method::POST, "/auth/logout", Some(&session), None, None).await?;
                if status == 200 {
                    self.told.ended.push(session);
                }
                self.arrive().await
            }
            _ => self.send(Method::GET, "/api/tokens", Some(&session), None, None).await.map(drop),
        }
    }
}

/// Lets everybody act until told to stop; someone without an answer waits for the next life.
async fn act_all(people: Vec<Person>, stop: Arc<AtomicBool>, acts: Arc<AtomicUsize>) -> Vec<Person> {
    let tasks = people.into_iter().map(|mut person| {
        let (stop, acts) = (stop.clone(), acts.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                if person.act().await.is_err() {
                    // Who had no answer to a login starts over.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                acts.fetch_add(1, Ordering::SeqCst);
            }
            person
        })
    });
    join_all(tasks).await.into_iter().map(|person| person.expect("no client panics")).collect()
}

fn people(server: &Server, seed: u64) -> Vec<Person> {
    (0..CLIENTS).map(|number| Person::new(server.client(), seed.wrapping_add(number))).collect()
}

/// A load that goes on until `until` has come to its end.
async fn under_load<T>(people: Vec<Person>, until: impl AsyncFnOnce(&AtomicUsize) -> T) -> (Vec<Person>, T) {
    let (stop, acts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = tokio::spawn(act_all(people, stop.clone(), acts.clone()));
    let value = until(&acts).await;
    stop.store(true, Ordering::SeqCst);
    (load.await.expect("the load ends"), value)
}

async fn acted(acts: &AtomicUsize, count: usize) {
    let from = acts.load(Ordering::SeqCst);
    eventually("the load to go on", async || (acts.load(Ordering::SeqCst) >= from + count).then_some(()))
        .await;
}

/// Everything that must be true of the log and its projections at rest.
async fn assert_whole(server: &Server) {
    let mut connection = connect(server).await;
    eventually("the projections to catch up", async || {
        sqlx::query(
            "select from log_head h where not exists (
                 select from projection p where p.position < h.position or p.halted is not null)",
        )
        .fetch_optional(&mut connection)
        .await
        .expect("the database answers")
    })
    .await;
    tally_tests::log::assert_sound(&mut connection).await;
    let verified = server.command(&["projections", "verify", "--json"]).output().expect("the command runs");
    let text = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.success(), "{text}{}", String::from_utf8_lossy(&verified.stderr));
    let verified: Value = serde_json::from_str(text.trim()).expect("JSON");
    let all = verified["verified"].as_array().expect("a list");
    assert!(all.len() == 5 && all.iter().all(|projection| projection["holds"] == true), "{verified}");
    // Last, so that its word alone says: the folds agree with themselves and are wrong.
    oracle::assert_agrees(&mut connection).await;
    connection.close().await.expect("the database answers");
}

async fn streams_with(connection: &mut PgConnection, name: &str) -> BTreeSet<Uuid> {
    sqlx::query_scalar("select stream_id from event where name = $1")
        .bind(name)
        .fetch_all(connection)
        .await
        .expect("the log can be read")
        .into_iter()
        .collect()
}

/// What was acknowledged stands, what was revoked is refused, and nothing was done twice.
async fn assert_kept(server: &Server, people: &[Person]) {
    let mut connection = connect(server).await;
    let minted = streams_with(&mut connection, "token.minted").await;
    let revoked = streams_with(&mut connection, "token.revoked").await;
    for person in people.iter() {
        for id in person.told.minted.keys() {
            assert!(minted.contains(id), "the mint of {id} was acknowledged and is lost");
        }
        for id in &person.told.revoked {
            assert!(revoked.contains(id), "the revocation of {id} was acknowledged and is lost");
        }
    }
    let twice: Vec<String> = sqlx::query_scalar(
        "select format('%s of %s: %s times', name, stream_id, count(*)) from event
          where name in ('user.registered', 'session.started', 'session.ended', 'token.minted', 'token.revoked')
          group by name, stream_id having count(*) > 1
         union all
         select format('code %s: verified %s times', payload->>'code_id', count(*)) from event
          where name = 'login.code_verified' group by payload->>'code_id' having count(*) > 1
         union all
         select format('command %s: two transactions', causation) from event
          group by causation having count(distinct xmin::text) > 1",
    )
    .fetch_all(&mut connection)
    .await
    .expect("the log can be read");
    assert_eq!(twice, Vec::<String>::new());
    // Every mint of this load came with a key: one token each, no matter how often it was tried.
    let keys: BTreeSet<&String> = people.iter().flat_map(|person| &person.told.keys).collect();
    let unanswered: BTreeSet<&String> =
        people.iter().flat_map(|person| person.told.unanswered.iter().map(|(key, _, _)| key)).collect();
    let open = unanswered.difference(&keys).count();
    assert!(
        (keys.len()..=keys.len() + open).contains(&minted.len()),
        "{} tokens by {} keys that were answered and {open} that were not",
        minted.len(),
        keys.len()
    );
    connection.close().await.expect("the database answers");

    let checks = people.iter().map(|person| async {
        for id in person.told.revoked.iter() {
            if let Some(token) = person.told.minted.get(id) {
                assert!(!person.client.accepts(token).await, "a revoked token is accepted: {id}");
            }
        }
        for session in person.told.ended.iter().rev().take(20) {
            assert!(!person.client.accepts(session).await, "an ended session is accepted");
        }
        for (id, token) in person.live().iter().rev().take(5) {
            assert!(person.client.accepts(token).await, "a live token is refused: {id}");
        }
    });
    join_all(checks).await;
}

/// Sends again what had no answer, with the same keys.
async fn retry(people: Vec<Person>) -> Vec<Person> {
    join_all(people.into_iter().map(|mut person| async move {
        for (key, name, credential) in std::mem::take(&mut person.told.unanswered) {
            assert!(person.mint_with(key, name, credential).await.is_ok(), "the server is back");
        }
        assert!(person.told.unanswered.is_empty(), "the server is back");
        person
    }))
    .await
}

fn sum(people: &[Person]) -> String {
    let mut answers: BTreeMap<u16, usize> = BTreeMap::new();
    for (status, count) in people.iter().flat_map(|person| &person.told.answers) {
        *answers.entry(*status).or_default() += count;
    }
    let minted: usize = people.iter().map(|person| person.told.minted.len()).sum();
    let revoked: usize = people.iter().map(|person| person.told.revoked.len()).sum();
    format!("answers {answers:?}, {minted} minted, {revoked} revoked")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_mixed_load_every_projection_is_what_the_log_says() {
    let seed = seed();
    let server = start().await;
    let (people, emails) = under_load(people(&server, seed), async |acts| {
        // An operator closes and opens accounts meanwhile.
        acted(acts, 200).await;
        let mut connection = connect(&server).await;
        let users: Vec<Uuid> = sqlx::query_scalar("select id from users order by id limit 2")
            .fetch_all(&mut connection)
            .await
            .expect("the database answers");
        for (word, user) in [("suspend", users[0]), ("suspend", users[1]), ("reinstate", users[1])] {
            let done = server.command(&["user", word, &user.to_string()]).output().expect("the command runs");
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        let deadline = Instant::now() + Duration::from_secs(4);
        while Instant::now() < deadline {
            acted(acts, 100).await;
        }
        users.len()
    })
    .await;
    assert_eq!(emails, 2);
    println!("{}", sum(&people));
    assert_whole(&server).await;
    // Each kind of event has come: the oracle was asked about all of them.
    let mut connection = connect(&server).await;
    let kinds: i64 = sqlx::query_scalar("select count(distinct name) from event")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(kinds, 12);

    // And the oracle can disagree: a row changed behind its back in each table is found.
    for (table, column) in [
        ("users", "language"),
        ("sessions", "address"),
        ("credentials", "kind"),
        ("token_list", "name"),
        ("audit_log", "name"),
        ("audit_scope", "name"),
    ] {
        let tamper =
            format!("update {table} set {column} = 'x' where ctid = (select min(ctid) from {table})");
        sqlx::query(sqlx::AssertSqlSafe(tamper)).execute(&mut connection).await.unwrap();
    }
    sqlx::query("delete from audit_credential where ctid = (select min(ctid) from audit_credential)")
        .execute(&mut connection)
        .await
        .unwrap();
    let found = oracle::disagreements(&mut connection).await.join("\n");
    for table in
        ["users", "sessions", "credentials", "token_list", "audit_log", "audit_scope", "audit_credential"]
    {
        assert!(found.contains(&format!("{table}: 1 rows")), "{table} is not named: {found}");
    }
    connection.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_load_loses_nothing_it_acknowledged() {
    let seed = seed();
    let mut server = start().await;
    let mut people = people(&server, seed);
    for life in 0..3 {
        let process = server.process().id();
        (people, _) = under_load(people, async |acts| {
            acted(acts, 250).await;
            let process = Pid::from_raw(i32::try_from(process).expect("an id")).expect("an id");
            rustix::process::kill_process(process, Signal::KILL).expect("a process of ours");
            // Everybody meets the dead server.
            acted(acts, 50).await;
        })
        .await;
        server.process().wait();
        server.restart().await;
        for person in &mut people {
            person.client = server.client();
        }
        people = retry(people).await;
        println!("life {life}: {}", sum(&people));
        assert_kept(&server, &people).await;
    }
    assert!(people.iter().any(|person| !person.told.revoked.is_empty()), "something was revoked");
    assert_whole(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_database_killed_under_load_comes_back_by_itself_and_has_lost_nothing() {
    let seed = seed();
    let server = start().await;
    let (people, ()) = under_load(people(&server, seed), async |acts| {
        acted(acts, 250).await;
        let file = server.data_dir().join("postgres/postmaster.pid");
        let postmaster = std::fs::read_to_string(file).expect("a postmaster runs");
        let postmaster = postmaster.lines().next().and_then(|line| line.trim().parse().ok()).expect("an id");
        rustix::process::kill_process(Pid::from_raw(postmaster).expect("an id"), Signal::KILL)
            .expect("it runs");
        let client = server.client();
        let address = format!("after-{}@example.org", Uuid::now_v7().simple());
        eventually("a command to succeed again", async || {
            let body = json!({ "email": address });
            let response = client.post("/auth/send-code", &body).timeout(ANSWER_TIMEOUT).send().await.ok()?;
            (response.status() == 200).then_some(())
        })
        .await;
        acted(acts, 200).await;
    })
    .await;
    let people = retry(people).await;
    println!("{}", sum(&people));
    assert_kept(&server, &people).await;
    assert_whole(&server).await;
}
