//! What does happen: the same commands, by the real deciders, on a real log.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tally_domain::{
    EmailAddress, PersonCredential, Principal, authorize,
    claim::Namespace,
    credential::{CredentialKind, Plaintext, mint},
    login::{Digits, IssueCode, LoginRefusal, Verification, VerifyCode},
    profile::ProfileChange,
    session::{EndSession, Opens, Origin, SessionRefusal, StartCommandLineSession},
    token::{MintToken, RenewToken, RevokeTokens, TokenRefusal, TokenRequest},
    user::{ChangeProfile, ReinstateUser, SuspendUser, UserRefusal},
};
use tally_events::{CredentialId, LoginId, Position, SessionId, TokenId, UserId, seal::Key};
use tally_fanout::{Presented, Replica, ReplicaSettings, VerifyError};
use tally_projections::{credentials, runner, users::find_profile, verify};
use tally_store::{
    Clock, CommitError, ConnectionLimits, ExecuteError, Idempotency, KeyRing, RequestContext, Store,
    StoreOptions,
};
use tally_tests::{TempPostgres, eventually};
use tokio::sync::{OnceCell, watch};
use uuid::Uuid;

use crate::reference::{Command, Credential, Handle, Outcome, SESSION_DAYS, Shown, Standing, Stream};

const MASTER: Key = Key::from_bytes([1; 32]);
const SIGNING: Key = Key::from_bytes([2; 32]);

/// How long a process may go on sealing with a key that it has read.
const SEALING_KEY_LIFETIME: Duration = Duration::from_millis(1_010);
/// How far a process may run ahead of a frozen clock.
const TIME_HELD_MAX: Duration = Duration::from_secs(40);
/// What no command of the model writes.
const UNTOUCHED: [&str; 4] = ["workspaces", "members", "invitations", "share_links"];

/// Replaces the clock of a database for whoever looks here first: it stands still until it is moved.
const FROZEN: &str = "
    create schema frozen;
    create table frozen.moment (at timestamptz not null);
    insert into frozen.moment values (pg_catalog.clock_timestamp());
    create function frozen.clock_timestamp() returns timestamptz volatile language sql
        as 'select at from frozen.moment';";

/// A database of some histories' own, and the processes that share it.
pub struct World {
    options: PgConnectOptions,
    pub replicas: Vec<Replica>,
    followers: Vec<tokio::task::JoinHandle<()>>,
}

async fn postgres() -> &'static TempPostgres {
    static POSTGRES: OnceCell<TempPostgres> = OnceCell::const_new();
    POSTGRES
        .get_or_init(async || {
            let postgres = TempPostgres::start().await;
            // What survives a crash is not what these histories are about.
            let mut connection = connection(&postgres.database().await).await;
            for statement in ["alter system set fsync = off", "select pg_reload_conf()"] {
                sqlx::query(statement).execute(&mut connection).await.expect("a superuser may");
            }
            postgres
        })
        .await
}

async fn connection(options: &PgConnectOptions) -> PgConnection {
    PgConnection::connect_with(options).await.expect("the cluster answers")
}

impl World {
    /// One process that remembers nothing, and a clock that stands still.
    pub async fn frozen() -> Self {
        let plain = postgres().await.database().await;
        tally_store::migrate(&plain).await.expect("an empty database migrates");
        sqlx::raw_sql(FROZEN).execute(&mut connection(&plain).await).await.expect("a new schema");
        let options = plain.options([("search_path", "frozen,pg_catalog,public")]);
        Self::with(options, 1, |store| Replica::observer(store, ReplicaSettings::default())).await
    }

    /// Several replicas that answer from memory.
    pub async fn replicated(count: usize) -> Self {
        let options = postgres().await.database().await;
        tally_store::migrate(&options).await.expect("an empty database migrates");
        let settings = ReplicaSettings { lease: Duration::from_millis(300), ..ReplicaSettings::default() };
        let world = Self::with(options, count, |store| Replica::join(store, settings, None)).await;
        for replica in &world.replicas {
            eventually("a lease", async || replica.status().lease_valid.then_some(())).await;
        }
        world
    }

    async fn with(options: PgConnectOptions, count: usize, replica: impl Fn(Arc<Store>) -> Replica) -> Self {
        let mut replicas = Vec::new();
        for _ in 0..count {
            let pool = tally_store::connect(options.clone(), ConnectionLimits { min: 0, max: 8 });
            let keys =
                KeyRing::unlock(pool.clone(), &MASTER, &SIGNING).await.expect("the keys of this database");
            let (store, _committer) = Store::start(StoreOptions {
                database: options.clone(),
                pool,
                keys,
                clock: Clock::default(),
                inline: tally_projections::inline(),
                inline_version: tally_projections::INLINE_VERSION,
            });
            replicas.push(replica(Arc::new(store)));
        }
        let store = replicas[0].store();
        runner::register(store.pool()).await.expect("a migrated database");
        let followers = tally_projections::following().into_iter().map(|projection| {
            let tell = watch::Sender::new(Position::ZERO);
            tokio::spawn(runner::follow(store.pool().clone(), projection, store.subscribe(), tell))
        });
        let followers = followers.collect();
        Self { options, replicas, followers }
    }

    pub async fn head(&self) -> i64 {
        tally_store::head(self.replicas[0].store().pool()).await.expect("the head can be read").position.0
    }

    /// Tells the processes the frozen time once more, when theirs has run too far ahead of it.
    pub async fn hold_time(&self, history: &History) {
        if history.told_time.lock().elapsed() > TIME_HELD_MAX {
            self.wait(0).await;
            *history.told_time.lock() = Instant::now();
        }
    }

    /// Moves a frozen clock, and tells the processes as their next renewal would.
    pub async fn wait(&self, seconds: i64) {
        let pool = self.replicas[0].store().pool();
        let now: DateTime<Utc> =
            sqlx::query_scalar("update frozen.moment set at = at + make_interval(secs => $1) returning at")
                .bind(seconds as f64)
                .fetch_one(pool)
                .await
                .expect("the clock moves");
        for replica in &self.replicas {
            replica.store().clock().observe(now, Duration::ZERO);
        }
    }

    /// The log is sound and every table is the fold of it. Nothing more happens here afterwards.
    pub async fn assert_holds(&self) {
        let store = self.replicas[0].store();
        let mut connection = connection(&self.options).await;
        tally_tests::log::assert_sound(&mut connection).await;
        eventually("the projections to catch up", async || {
            let all = tally_projections::status::status(store.pool()).await.expect("a status");
            all.iter().all(|one| one.lag == 0 && one.halted.is_none()).then_some(())
        })
        .await;
        for projection in tally_projections::inline().into_iter().chain(tally_projections::following()) {
            let found = verify::verify(&self.options, projection.as_ref(), |_, _| {}).await.expect("a fold");
            let has_rows = found.rows > 0 || UNTOUCHED.contains(&projection.name());
            assert!(found.holds() && has_rows, "{found:?}");
        }
        for follower in &self.followers {
            follower.abort();
        }
        for replica in &self.replicas {
            replica.leave().await;
            replica.store().pool().close().await;
        }
    }
}

/// What the numbers of one history stand for.
pub struct History {
    /// Addresses and idempotency keys are this history's alone.
    number: u64,
    pub began: DateTime<Utc>,
    pub before: i64,
    known: Mutex<Known>,
    told_time: Mutex<Instant>,
    wall: Instant,
}

#[derive(Default)]
struct Known {
    users: BTreeMap<Handle, UserId>,
    logins: BTreeMap<Handle, LoginId>,
    sessions: BTreeMap<Handle, (SessionId, DateTime<Utc>)>,
    /// Whose a session is that has started: its JWT names them.
    owners: BTreeMap<Handle, UserId>,
    tokens: BTreeMap<Handle, (TokenId, Plaintext, Option<DateTime<Utc>>)>,
}

/// What came of a command: what the caller was told, and the last position it stands for.
#[derive(Clone, Debug)]
pub struct Answer {
    pub outcome: Outcome,
    pub position: Option<i64>,
    pub appended: bool,
}

impl History {
    pub async fn begin(world: &World) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let began = world.replicas[0].store().clock().now();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            number,
            began,
            before: world.head().await,
            known: Mutex::default(),
            told_time: Mutex::new(Instant::now()),
            wall: Instant::now(),
        }
    }

    fn seconds(&self, at: DateTime<Utc>) -> i64 {
        (at - self.began).num_seconds()
    }

    pub fn address(&self, address: Handle) -> EmailAddress {
        EmailAddress::parse(&format!("person{address}@history{}.example", self.number)).expect("an address")
    }

    /// The digits of a code: no two codes of a history have the same.
    fn digits(code: Option<Handle>) -> Digits {
        code.map_or_else(|| Digits::new("999999"), Digits::from_number)
    }

    fn user(&self, user: Handle) -> UserId {
        *self.known.lock().users.entry(user).or_insert_with(UserId::new)
    }

    fn login(&self, login: Handle) -> LoginId {
        *self.known.lock().logins.entry(login).or_insert_with(LoginId::new)
    }

    /// A session's id; its end is the epoch until it has started.
    fn session(&self, session: Handle) -> (SessionId, DateTime<Utc>) {
        let new = || (SessionId::new(), DateTime::UNIX_EPOCH);
        *self.known.lock().sessions.entry(session).or_insert_with(new)
    }

    fn token(&self, token: Handle) -> TokenId {
        self.known.lock().tokens[&token].0
    }

    fn handle_of(&self, token: TokenId) -> Handle {
        let known = self.known.lock();
        *known.tokens.iter().find(|(_, (id, ..))| *id == token).expect("a token of this history").0
    }

    fn started(&self, session: Handle, user: UserId, expires: DateTime<Utc>) -> i64 {
        let mut known = self.known.lock();
        known.owners.insert(session, user);
        known.sessions.entry(session).and_modify(|(_, at)| *at = expires);
        drop(known);
        self.seconds(expires)
    }

    /// The account that holds an address, as routes ask for it.
    pub async fn holder(&self, replica: &Replica, namespace: Namespace, address: Handle) -> Option<Uuid> {
        let address = self.address(address);
        replica.store().holder(namespace, address.as_str()).await.expect("the database answers")
    }

    /// Which number a stream has, if it is of this history.
    pub fn login_handle(&self, id: Uuid) -> Handle {
        let known = self.known.lock();
        *known.logins.iter().find(|(_, login)| login.0 == id).expect("a login of this history").0
    }

    pub fn user_handle(&self, id: Uuid) -> Handle {
        let known = self.known.lock();
        *known.users.iter().find(|(_, user)| user.0 == id).expect("a user of this history").0
    }

    fn credential(&self, credential: Credential) -> PersonCredential {
        match credential {
            Credential::Session(session) => {
                let (id, expires_at) = self.session(session);
                PersonCredential::Session { id, expires_at }
            }
            Credential::Token(token) => {
                let known = self.known.lock();
                let (id, _, expires_at) = &known.tokens[&token];
                PersonCredential::PersonalAccessToken { id: *id, expires_at: *expires_at }
            }
        }
    }

    fn principal(&self, shown: Shown) -> Principal {
        let user = self.user(shown.user);
        Principal::Person { user, credential: self.credential(shown.credential) }
    }

    /// The tokens below one, as the route that revokes lines asks for them.
    pub async fn line_below(&self, replica: &Replica, owner: Handle, root: Handle) -> Vec<Handle> {
        let (owner, root) = (self.user(owner), CredentialId::Token(self.token(root)));
        let line = credentials::line_below(replica.store().pool(), owner, root, 1000).await;
        let mut line: Vec<Handle> =
            line.expect("the database answers").into_iter().map(|token| self.handle_of(token)).collect();
        line.sort_unstable();
        line
    }

    /// Whether a credential is good, by the way every request goes.
    pub async fn standing(&self, replica: &Replica, credential: Credential) -> Standing {
        let presented = {
            let known = self.known.lock();
            match credential {
                Credential::Session(session) => {
                    let (id, expires_at) = known.sessions[&session];
                    let hash = Plaintext::new(id.to_string()).hash();
                    let user = known.owners.get(&session).copied().unwrap_or(UserId(Uuid::nil()));
                    Presented::Session { hash, id, user, kind: CredentialKind::Session, expires_at }
                }
                Credential::Token(token) => Presented::Token(known.tokens[&token].1.hash()),
            }
        };
        match replica.verify(&presented).await {
            Ok(verdict) => {
                assert_eq!(verdict.principal.credential(), Some(self.credential(credential).id()));
                Standing::Live
            }
            Err(VerifyError::Suspended) => Standing::Suspended,
            // Not known at the moment is not a yes.
            Err(VerifyError::Invalid | VerifyError::Unavailable) => Standing::Invalid,
        }
    }

    /// The name a person goes by, if anything of them can be read.
    pub async fn name(&self, replica: &Replica, user: Handle) -> Option<String> {
        let store = replica.store();
        let profile = find_profile(store.pool(), store.keys(), self.user(user)).await;
        profile.expect("the database answers").map(|profile| profile.name)
    }

    /// Every event of this history's streams: stream, version, name.
    pub async fn recorded(&self, world: &World) -> Vec<(Stream, i64, String)> {
        let handles: BTreeMap<Uuid, Stream> = {
            let known = self.known.lock();
            let users = known.users.iter().map(|(handle, id)| (id.0, Stream::User(*handle)));
            let logins = known.logins.iter().map(|(handle, id)| (id.0, Stream::Login(*handle)));
            let sessions = known.sessions.iter().map(|(handle, (id, _))| (id.0, Stream::Session(*handle)));
            let tokens = known.tokens.iter().map(|(handle, (id, ..))| (id.0, Stream::Token(*handle)));
            users.chain(logins).chain(sessions).chain(tokens).collect()
        };
        let rows: Vec<(Uuid, i64, String)> = sqlx::query_as(
            "select stream_id, stream_version, name from event where position > $1 order by position",
        )
        .bind(self.before)
        .fetch_all(world.replicas[0].store().pool())
        .await
        .expect("the log can be read");
        let stream = |id| handles[&id];
        rows.into_iter().map(|(id, version, name)| (stream(id), version, name)).collect()
    }

    /// Executes a command, and again for as long as it is told to try again: a machine that has much
    /// to do may keep a committer from its deadline.
    pub async fn execute_patiently(&self, world: &World, command: &Command) -> Answer {
        eventually("an answer", async || {
            world.hold_time(self).await;
            let answer = self.execute(world, &world.replicas[0], command).await;
            (answer.outcome != Outcome::TryAgain).then_some(answer)
        })
        .await
    }

    /// Seconds since the history began, by the clock on the wall.
    pub fn lasted(&self) -> i64 {
        i64::try_from(self.wall.elapsed().as_secs()).expect("a test ends")
    }

    /// Executes a command.
    pub async fn execute(&self, world: &World, replica: &Replica, command: &Command) -> Answer {
        match command {
            Command::Issue { address, login, code } => self.issue(replica, *address, *login, *code).await,
            Command::Verify { .. } => self.verify(replica, command).await,
            Command::StartCli { by, session } => {
                let (id, _) = self.session(*session);
                let CredentialId::Session(parent) = self.credential(by.credential).id() else {
                    unreachable!("a session is shown")
                };
                let command = StartCommandLineSession {
                    user: self.user(by.user),
                    parent,
                    session: id,
                    lifetime: TimeDelta::days(SESSION_DAYS),
                    origin: origin(),
                };
                let user = self.user(by.user);
                let told = |expires| Outcome::Started { expires: self.started(*session, user, expires) };
                self.run(replica, self.principal(*by), command, None, told, |refusal| match refusal {
                    SessionRefusal::Ended => Outcome::Ended,
                    SessionRefusal::NotFromALogin => Outcome::NotFromALogin,
                    SessionRefusal::NotASession => panic!("{refusal}"),
                })
                .await
            }
            Command::Mint { .. } => self.mint(replica, command).await,
            Command::Renew { user, token } => {
                let id = self.token(*token);
                let parent = credentials::parent_of(replica.store().pool(), id).await.expect("an answer");
                let shown = Shown { user: *user, credential: Credential::Token(*token) };
                let command = RenewToken { user: self.user(*user), token: id, parent };
                let told = |renewal: tally_domain::token::Renewal| Outcome::Renewal {
                    expires: renewal.expires_at.map(|at| self.seconds(at)),
                    renewed: renewal.renewed,
                };
                self.run(replica, self.principal(shown), command, None, told, token_refusal).await
            }
            Command::Revoke { by, root, line } => {
                let line = line.iter().map(|token| self.token(*token)).collect();
                let command = RevokeTokens { root: CredentialId::Token(self.token(*root)), line };
                let told = |revoked: Vec<TokenId>| {
                    let mut revoked: Vec<_> = revoked.into_iter().map(|id| self.handle_of(id)).collect();
                    revoked.sort_unstable();
                    Outcome::Revoked(revoked)
                };
                self.run(replica, self.principal(*by), command, None, told, token_refusal).await
            }
            Command::End { by, session } => {
                let command = EndSession { session: self.session(*session).0, below: Vec::new() };
                let refused = |refusal| panic!("{refusal}");
                self.run(replica, self.principal(*by), command, None, |_| Outcome::Done, refused).await
            }
            Command::Suspend { user } => {
                let command = SuspendUser { user: self.user(*user) };
                self.run(replica, Principal::Operator, command, None, |()| Outcome::Done, unknown).await
            }
            Command::Reinstate { user } => {
                let command = ReinstateUser { user: self.user(*user) };
                self.run(replica, Principal::Operator, command, None, |()| Outcome::Done, unknown).await
            }
            Command::Rename { by, name } => {
                let change = ProfileChange { name: name.map(name_text), ..ProfileChange::default() };
                let credential = self.credential(by.credential).id();
                let command = ChangeProfile { user: self.user(by.user), credential, change };
                self.run(replica, self.principal(*by), command, None, |()| Outcome::Done, unknown).await
            }
            Command::Erase { user } => {
                let erase = sqlx::query("delete from keys.subject where kind = 'user' and id = $1");
                erase.bind(self.user(*user).0).execute(replica.store().pool()).await.expect("an answer");
                // Nothing of them opens from now on; sealed may be with the old key until this has passed.
                tokio::time::sleep(SEALING_KEY_LIFETIME).await;
                done()
            }
            Command::Purge => {
                tally_store::purge(replica.store().pool(), 90).await.expect("the database answers");
                done()
            }
            Command::Wait { seconds } => {
                world.wait(*seconds).await;
                *self.told_time.lock() = Instant::now();
                done()
            }
        }
    }

    async fn issue(&self, replica: &Replica, address: Handle, login: Handle, code: Handle) -> Answer {
        let user = self.holder(replica, Namespace::UserEmail, address).await.map(UserId);
        let key = replica.store().keys().login_code();
        let digits = Self::digits(Some(code));
        let salt = format!("{code:032x}");
        let command =
            IssueCode::new(self.login(login), user, self.address(address), &digits, salt, key, origin());
        self.run(replica, Principal::Anonymous, command, None, |()| Outcome::Done, login_refusal).await
    }

    async fn verify(&self, replica: &Replica, command: &Command) -> Answer {
        let Command::Verify { address, login, typed, user, session, may_sign_up } = command else {
            unreachable!("only called for it")
        };
        let command = VerifyCode {
            login: self.login(*login),
            email: self.address(*address),
            typed: Self::digits(*typed),
            development: None,
            key: replica.store().keys().login_code().clone(),
            user: self.user(*user),
            known: false,
            may_sign_up: *may_sign_up,
            link: None,
            session: self.session(*session).0,
            opens: Opens::Session { lifetime: TimeDelta::days(SESSION_DAYS) },
            origin: origin(),
        };
        let told = |verification| match verification {
            Verification::NoLiveCode => Outcome::NoLiveCode,
            Verification::Wrong => Outcome::Wrong,
            Verification::SignupProhibited => Outcome::SignupProhibited,
            Verification::AccountSuspended => Outcome::AccountSuspended,
            Verification::Verified { user, expires_at, .. } => {
                Outcome::Verified { expires: self.started(*session, user, expires_at) }
            }
        };
        self.run(replica, Principal::Anonymous, command, None, told, login_refusal).await
    }

    async fn mint(&self, replica: &Replica, command: &Command) -> Answer {
        let Command::Mint { by, token, days, once } = command else { unreachable!("only called for it") };
        let secret = mint(CredentialKind::PersonalAccessToken, |bytes| {
            // Two version 4 UUIDs are as random as a token must be.
            let drawn = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
            for (byte, drawn) in bytes.iter_mut().zip(drawn.iter().cycle()) {
                *byte = *drawn;
            }
        });
        let request = TokenRequest::new("laptop", *days).expect("a name and a lifetime");
        let minted_by = self.credential(by.credential).id();
        let command = MintToken::new(self.user(by.user), minted_by, request, &secret);
        let id = command.token;
        self.known.lock().tokens.insert(*token, (id, secret, None));
        let idempotency = once.map(|once| {
            let mut key = [once.key; 32];
            key[..8].copy_from_slice(&self.number.to_be_bytes());
            Idempotency { key, fingerprint: [once.body; 32], receipt: id.0 }
        });
        let told = |expires: Option<DateTime<Utc>>| {
            self.known.lock().tokens.entry(*token).and_modify(|(_, _, at)| *at = expires);
            Outcome::Minted { expires: expires.map(|at| self.seconds(at)) }
        };
        self.run(replica, self.principal(*by), command, idempotency, told, token_refusal).await
    }

    async fn run<C: tally_domain::Command>(
        &self,
        replica: &Replica,
        principal: Principal,
        command: C,
        idempotency: Option<Idempotency>,
        told: impl FnOnce(C::Outcome) -> Outcome,
        refused: impl FnOnce(C::Refusal) -> Outcome,
    ) -> Answer {
        let command = authorize(principal, command).expect("policy is not what these histories try");
        let context = RequestContext { request: None, idempotency };
        let (outcome, position, appended) = match replica.execute(&command, context).await {
            Ok(done) => {
                let executed = done.executed;
                assert_eq!(done.effective.is_some(), C::REVOKES);
                (told(executed.outcome), Some(executed.position.0), executed.appended)
            }
            Err(ExecuteError::Refused(refusal)) => (refused(refusal), None, false),
            Err(ExecuteError::ClaimTaken(_)) => (Outcome::ClaimTaken, None, false),
            Err(ExecuteError::Replayed { receipt, position }) => {
                let receipt = self.handle_of(TokenId(receipt));
                (Outcome::Replayed { receipt }, Some(position.0), false)
            }
            Err(ExecuteError::KeyReused) => (Outcome::KeyReused, None, false),
            Err(ExecuteError::Erased) => (Outcome::Erased, None, false),
            Err(ExecuteError::Contended | ExecuteError::Commit(CommitError::Unavailable)) => {
                (Outcome::TryAgain, None, false)
            }
            Err(error) => panic!("{error}: {error:?}"),
        };
        Answer { outcome, position, appended }
    }
}

const fn done() -> Answer {
    Answer { outcome: Outcome::Done, position: None, appended: false }
}

/// Personal data, so that every event of a login has something to seal.
fn origin() -> Origin {
    Origin { address: Some("192.0.2.7".to_owned()), user_agent: Some("a browser".to_owned()) }
}

pub fn name_text(name: u8) -> String {
    format!("Name {name}")
}

fn login_refusal(refusal: LoginRefusal) -> Outcome {
    match refusal {
        LoginRefusal::TooManyCodes { .. } => Outcome::TooManyCodes,
        LoginRefusal::TooManyGuesses { .. } => Outcome::TooManyGuesses,
    }
}

fn token_refusal(refusal: TokenRefusal) -> Outcome {
    match refusal {
        TokenRefusal::CredentialEnded => Outcome::Ended,
        TokenRefusal::NotAPerson | TokenRefusal::NotRenewable | TokenRefusal::LineChanged => {
            panic!("{refusal}")
        }
    }
}

fn unknown(UserRefusal::Unknown: UserRefusal) -> Outcome {
    Outcome::Unknown
}
