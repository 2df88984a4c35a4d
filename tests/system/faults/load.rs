//! Mixed load over HTTP, and a client's record of what it was told.

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
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tally_tests::{Answer, Console, client::answer, eventually};
use uuid::Uuid;

use super::{
    REQUEST_TIMEOUT, SLACK,
    site::{CODE, Door},
};

const CLIENTS: u64 = 16;
/// Among so many things that people do they work together once.
const TEAMWORK_EVERY: usize = 25;
/// And whoever holds a console session refreshes it once among so many.
const REFRESH_EVERY: usize = 8;
/// Later than the server may be: no answer by then is a broken promise.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(REQUEST_TIMEOUT.as_secs() + SLACK.as_secs());

/// What one client was told, over all lives of the server.
#[derive(Default)]
pub struct Told {
    /// Tokens whose minting was acknowledged, by id.
    pub minted: BTreeMap<Uuid, String>,
    /// Revocations that were acknowledged.
    pub revoked: BTreeSet<Uuid>,
    /// Revocations that were asked for: what they did is unknown until somebody looks.
    pub maybe_revoked: BTreeSet<Uuid>,
    /// Sessions whose end was acknowledged.
    pub ended: Vec<String>,
    /// Mints without an answer.
    pub unanswered: Vec<Mint>,
    /// Idempotency keys of mints whose first answer came, or whose retry did.
    pub keys: BTreeSet<String>,
    pub answers: BTreeMap<u16, usize>,
    /// Writes that were acknowledged.
    pub written: Vec<Written>,
    /// The answer that took longest.
    pub slowest: Duration,
}

/// A mint, as it was and will be sent.
#[derive(Clone)]
pub struct Mint {
    key: String,
    name: String,
    credential: String,
    /// Whose it is: the how manieth person of this client.
    person: usize,
}

/// An acknowledged write: the request, and the position its answer named.
#[derive(Clone, Copy)]
pub struct Written {
    pub request: Uuid,
    pub position: i64,
    /// Whether it cannot have been there before, so that an event must bear the request's id.
    pub appended: bool,
}

/// One person after another, doing what people do.
pub struct Person {
    door: Door,
    rng: StdRng,
    session: String,
    /// Where the session is one of the web console: its cookies.
    console: Option<Console>,
    /// The how manieth this is.
    number: usize,
    /// What they have done so far.
    acts: usize,
    /// The tokens of the person who is logged in: a stranger's are left alone.
    mine: BTreeSet<Uuid>,
    pub told: Told,
}

/// Nothing came back.
pub struct NoAnswer;

impl Person {
    /// A client whose dice fall as the seed says.
    fn new(door: Door, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self {
            door,
            rng,
            session: String::new(),
            console: None,
            number: 0,
            acts: 0,
            mine: BTreeSet::new(),
            told: Told::default(),
        }
    }

    pub fn session(&self) -> &str {
        &self.session
    }

    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        credential: Option<&str>,
        key: Option<&str>,
        body: Option<Value>,
    ) -> Result<(u16, Value), NoAnswer> {
        let mut request = self.door.client().request(method.clone(), path);
        if let Some(credential) = credential {
            request = request.bearer_auth(credential);
        }
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let Answer { status, text, .. } = self.exchange(&method, path, request).await?;
        Ok((status, serde_json::from_str(&text).unwrap_or_default()))
    }

    /// Sends a request, and keeps in mind what its answer says that was written.
    async fn exchange(
        &mut self,
        method: &Method,
        path: &str,
        request: RequestBuilder,
    ) -> Result<Answer, NoAnswer> {
        let id = Uuid::now_v7();
        let request = request.timeout(ANSWER_TIMEOUT).header("X-Request-ID", id.to_string());
        let sent = Instant::now();
        let answer = async {
            let response = request.send().await?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            Ok((status, headers, response.text().await?))
        };
        let (status, headers, text) = answer.await.map_err(|error: reqwest::Error| {
            // A server that died has hung up. One that is up and says nothing breaks its word.
            assert!(!error.is_timeout(), "{path}: no answer within {ANSWER_TIMEOUT:?}");
            NoAnswer
        })?;
        self.told.slowest = self.told.slowest.max(sent.elapsed());
        *self.told.answers.entry(status).or_default() += 1;
        // 503 is an honest "I cannot know"; any other server error is a bug.
        assert!(status < 500 || status == 503, "{path}: {status} {text}");
        assert!(status != 503 || headers.contains_key("retry-after"), "{path}: a 503 says when to come back");
        if *method != Method::GET
            && let Some(position) = headers.get("x-log-position").filter(|_| status < 300)
        {
            let position = position.to_str().ok().and_then(|text| text.parse().ok()).expect("a position");
            let appended = status == 201 || path == "/auth/verify-code";
            self.told.written.push(Written { request: id, position, appended });
        }
        Ok(Answer { status, headers, text })
    }

    /// Becomes somebody new, after some wrong codes.
    async fn arrive(&mut self) -> Result<(), NoAnswer> {
        self.session.clear();
        self.console = None;
        self.mine.clear();
        self.number += 1;
        let email = format!("person-{}@example.org", Uuid::now_v7().simple());
        self.send(Method::POST, "/auth/send-code", None, None, Some(json!({ "email": email }))).await?;
        for _ in 0..self.rng.random_range(0..3) {
            let wrong = json!({ "email": email, "code": "111111" });
            self.send(Method::POST, "/auth/verify-code", None, None, Some(wrong)).await?;
        }
        let right = json!({ "email": email, "code": CODE });
        if self.rng.random_bool(0.4) {
            let request = self.door.client().post("/v1/sessions", &right);
            let answer = self.exchange(&Method::POST, "/v1/sessions", request).await?;
            if answer.status == 201 {
                self.keep(Console::of(&answer));
            }
            return Ok(());
        }
        let (status, body) = self.send(Method::POST, "/auth/verify-code", None, None, Some(right)).await?;
        if status == 200 {
            self.session = body["token"].as_str().expect("a token").to_owned();
        }
        Ok(())
    }

    fn keep(&mut self, console: Console) {
        self.session.clone_from(&console.access);
        self.console = Some(console);
    }

    /// Refreshes a console session, sometimes twice with one token. Who has lost an answer for long is
    /// logged out by it, and comes again as somebody else; so does who was suspended.
    async fn refresh(&mut self) -> Result<(), NoAnswer> {
        let Some(console) = self.console.clone() else { return Ok(()) };
        for _ in 0..self.rng.random_range(1..3) {
            let request = self.door.client().refresh(&console);
            let answer = self.exchange(&Method::POST, "/v1/sessions/refresh", request).await?;
            match answer.status {
                200 => self.keep(Console::of(&answer)),
                401 | 403 => return self.arrive().await,
                // Sixty a minute are enough for one session.
                429 | 503 => {}
                status => panic!("a refresh: {status} {}", answer.text),
            }
        }
        Ok(())
    }

    /// The tokens that should work, as far as this client was told.
    pub fn live(&self) -> Vec<(Uuid, String)> {
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
        let (name, credential) = ((*name).to_owned(), credential.to_owned());
        self.try_mint(Mint { key, name, credential, person: self.number }).await
    }

    /// One attempt at a mint; the same key again is the same mint.
    async fn try_mint(&mut self, mint: Mint) -> Result<(), NoAnswer> {
        let days: Option<i64> = if mint.name == "daemon" { Some(3) } else { None };
        let body = json!({ "name": mint.name, "expires_in_days": days });
        let (credential, key) = (Some(mint.credential.as_str()), Some(mint.key.as_str()));
        let sent = self.send(Method::POST, "/api/tokens", credential, key, Some(body)).await;
        match &sent {
            Ok((201, body)) => {
                let id = body["id"].as_str().expect("an id").parse().expect("a UUID");
                self.told.minted.insert(id, body["token"].as_str().expect("a token").to_owned());
                // Somebody else's cannot be revoked: that answers as if it were, and does nothing.
                if mint.person == self.number {
                    self.mine.insert(id);
                }
                self.told.keys.insert(mint.key);
            }
            // The first attempt had acted, and its secret is lost.
            Ok((409, _)) => drop(self.told.keys.insert(mint.key)),
            Ok((401 | 403, _)) => {}
            Ok((503, _)) | Err(NoAnswer) => self.told.unanswered.push(mint),
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

    /// Whether the server accepts a credential, asked until it knows: 503 is neither yes nor no.
    pub async fn accepts(&self, credential: &str) -> bool {
        eventually("a verdict", async || {
            let answer = answer(self.door.client().get("/v1/me").bearer_auth(credential)).await;
            match answer.status {
                200 => Some(true),
                401 | 403 => Some(false),
                503 => None,
                status => panic!("{status}: {}", answer.text),
            }
        })
        .await
    }

    async fn act(&mut self) -> Result<(), NoAnswer> {
        if self.session.is_empty() {
            return self.arrive().await;
        }
        self.acts += 1;
        if self.acts % TEAMWORK_EVERY == 3 {
            // Of those who work together, some stay together.
            return self.work_together(self.acts.is_multiple_of(2)).await;
        }
        if self.console.is_some() && self.acts % REFRESH_EVERY == 2 {
            return self.refresh().await;
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
            // A session of the console starts none for the command line.
            (88..91, _) if self.console.is_none() => {
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
                    // Nobody is there. People would wait longer.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                acts.fetch_add(1, Ordering::SeqCst);
            }
            person
        })
    });
    join_all(tasks).await.into_iter().map(|person| person.expect("no client panics")).collect()
}

/// Everybody who takes part, on the seed's dice.
pub fn people(door: &Door, seed: u64) -> Vec<Person> {
    crowd(door, seed, CLIENTS)
}

/// So many people, on the seed's dice.
pub fn crowd(door: &Door, seed: u64, count: u64) -> Vec<Person> {
    (0..count).map(|number| Person::new(door.clone(), seed.wrapping_add(number))).collect()
}

/// A load that goes on until `until` has come to its end.
pub async fn under_load<T>(
    people: Vec<Person>,
    until: impl AsyncFnOnce(&AtomicUsize) -> T,
) -> (Vec<Person>, T) {
    let (stop, acts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = tokio::spawn(act_all(people, stop.clone(), acts.clone()));
    let value = until(&acts).await;
    stop.store(true, Ordering::SeqCst);
    (load.await.expect("the load ends"), value)
}

pub async fn acted(acts: &AtomicUsize, count: usize) {
    let from = acts.load(Ordering::SeqCst);
    let enough = async || (acts.load(Ordering::SeqCst) >= from + count).then_some(());
    eventually("the load to go on", enough).await;
}

/// Sends again what had no answer, with the same keys, until there is one: a 503 is none.
pub async fn retry(people: Vec<Person>) -> Vec<Person> {
    join_all(people.into_iter().map(|mut person| async move {
        eventually("every mint to have its answer", async || {
            for mint in std::mem::take(&mut person.told.unanswered) {
                assert!(person.try_mint(mint).await.is_ok(), "the server is up and hangs up");
            }
            person.told.unanswered.is_empty().then_some(())
        })
        .await;
        person
    }))
    .await
}

/// How often each status came.
pub fn answers(people: &[Person]) -> BTreeMap<u16, usize> {
    let mut answers: BTreeMap<u16, usize> = BTreeMap::new();
    for (status, count) in people.iter().flat_map(|person| &person.told.answers) {
        *answers.entry(*status).or_default() += count;
    }
    answers
}
