//! A log of a test's own with people in it, and the projections that follow it.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, postgres::PgConnectOptions};
use tally_domain::{
    Action, Command, Context, Decision, PersonCredential, Principal, World, authorize,
    credential::CredentialHash, policy::Act,
};
use tally_events::{
    CodeId, CredentialId, Event, InvitationId, LoginId, MemberId, Personal, Position, Role, SessionId,
    ShareLinkId, StreamId, TokenId, UserId, WorkspaceId,
    invitation::{InvitationCreated, InvitationDeclined},
    login::{LoginCodeIssued, LoginCodeRefused, LoginCodeUndeliverable, LoginCodeVerified, RefusalReason},
    member::{Admission, MemberJoined, MemberRemoved, MemberRoleChanged, RemovalReason},
    seal::Key,
    session::{
        ConsoleStarted, SessionEndReason, SessionEnded, SessionMethod, SessionRefreshRepeated,
        SessionRefreshed, SessionStarted,
    },
    share_link::{ShareLinkCreated, ShareLinkUsed},
    token::{RevocationReason, TokenKind, TokenMinted, TokenRenewed, TokenRevoked},
    user::{UserProfileChanged, UserRegistered, UserReinstated, UserSuspended},
    workspace::{WorkspaceChanged, WorkspaceCreated},
};
use tally_projections::{
    credentials::{Found, find_sessions, find_tokens},
    rebuild::{Progress, rebuild},
    runner::FoldError,
};
use tally_store::{Clock, ConnectionLimits, KeyRing, Projection, RequestContext, Store, StoreOptions};
use tally_tests::{TempPostgres, eventually};
use tokio::{
    sync::{OnceCell, watch},
    task::JoinHandle,
};

pub const EXPIRY: DateTime<Utc> = DateTime::from_timestamp(4_000_000_000, 0).unwrap();

async fn postgres() -> &'static TempPostgres {
    static POSTGRES: OnceCell<TempPostgres> = OnceCell::const_new();
    POSTGRES.get_or_init(TempPostgres::start).await
}

pub struct Log {
    pub options: PgConnectOptions,
    pub pool: PgPool,
    pub store: Arc<Store>,
}

/// A store as a release with these inline projections starts it.
pub async fn store(
    options: &PgConnectOptions,
    pool: &PgPool,
    inline: Vec<Arc<dyn Projection>>,
    inline_version: i32,
) -> Arc<Store> {
    let (master, secret) = (Key::from_bytes([1; 32]), Key::from_bytes([2; 32]));
    let (store, _) = Store::start(StoreOptions {
        database: options.clone(),
        pool: pool.clone(),
        keys: KeyRing::unlock(pool.clone(), &master, &secret).await.unwrap(),
        clock: Clock::default(),
        inline,
        inline_version,
    });
    Arc::new(store)
}

/// One token, as authentication finds it.
pub async fn find_token(pool: &PgPool, hash: CredentialHash) -> Found {
    find_tokens(pool, &[hash]).await.unwrap().remove(0)
}

/// One session, as authentication finds it.
pub async fn find_session(pool: &PgPool, session: SessionId) -> Found {
    find_sessions(pool, &[session]).await.unwrap().remove(0)
}

/// Somebody, with a session and a token that last.
#[derive(Clone, Copy, Debug)]
pub struct Person {
    pub user: UserId,
    pub session: SessionId,
    /// Of the web console.
    pub console: SessionId,
    pub token: TokenId,
    pub hash: CredentialHash,
}

impl Log {
    pub async fn new() -> Self {
        let options = postgres().await.database().await;
        tally_store::migrate(&options).await.unwrap();
        let pool = tally_store::connect(options.clone(), ConnectionLimits { min: 0, max: 12 });
        tally_projections::runner::register(&pool).await.unwrap();
        let store =
            store(&options, &pool, tally_projections::inline(), tally_projections::INLINE_VERSION).await;
        Self { options, pool, store }
    }

    pub async fn connection(&self) -> PgConnection {
        PgConnection::connect_with(&self.options).await.unwrap()
    }

    /// People with a past.
    pub async fn people(&self, count: usize) -> Vec<Person> {
        let people = futures::stream::iter((0..count).map(|_| live(&self.store)));
        people.buffered(16).try_collect().await.unwrap()
    }

    /// Starts to follow the log.
    pub fn follow(&self) -> Vec<JoinHandle<()>> {
        self.follow_with(&self.store, tally_projections::following())
    }

    /// Starts to follow the log as the release does that has this store and these projections.
    pub fn follow_with(&self, store: &Store, following: Vec<Arc<dyn Projection>>) -> Vec<JoinHandle<()>> {
        let follow = |projection| {
            let (tell, _) = watch::channel(Position::ZERO);
            let (pool, feed) = (self.pool.clone(), store.subscribe());
            tokio::spawn(tally_projections::runner::follow(pool, projection, feed, tell))
        };
        following.into_iter().map(follow).collect()
    }

    /// Waits until a projection stands at the head.
    pub async fn caught_up(&self, name: &str) {
        eventually("the projection to catch up", async || {
            let status = self.status(name).await;
            (status.lag == 0 && status.halted.is_none()).then_some(())
        })
        .await;
    }

    pub async fn all_caught_up(&self) {
        for projection in tally_projections::following() {
            self.caught_up(projection.name()).await;
        }
    }

    pub async fn status(&self, name: &str) -> tally_projections::status::Status {
        let all = tally_projections::status::status(&self.pool).await.unwrap();
        all.into_iter().find(|status| status.name == name).expect("a registered projection")
    }

    pub async fn head(&self) -> i64 {
        tally_store::head(&self.pool).await.unwrap().position.0
    }

    pub async fn run(&self, statement: impl Into<String>) {
        sqlx::query(AssertSqlSafe(statement.into())).execute(&mut self.connection().await).await.unwrap();
    }

    pub async fn texts(&self, statement: impl Into<String>) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(statement.into()))
            .fetch_all(&mut self.connection().await)
            .await
            .unwrap()
    }

    pub async fn verified(&self, projection: &dyn Projection) -> tally_projections::verify::Verified {
        tally_projections::verify::verify(&self.options, projection, |_, _| {}).await.unwrap()
    }

    /// Rebuilds one projection.
    pub async fn rebuild(&self, projection: &Arc<dyn Projection>) -> Result<Position, FoldError> {
        self.rebuild_telling(projection, |_| {}).await
    }

    /// Rebuilds one projection and tells how far it is.
    pub async fn rebuild_telling(
        &self,
        projection: &Arc<dyn Projection>,
        tell: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<Position, FoldError> {
        let one = std::slice::from_ref(projection);
        let mut outcomes = rebuild(&self.options, one, move |_, progress| tell(progress)).await;
        assert_eq!(outcomes.len(), 1);
        outcomes.remove(0).1
    }

    pub async fn assert_all_hold(&self) {
        for projection in all() {
            let verified = self.verified(projection.as_ref()).await;
            assert!(verified.holds() && verified.rows > 0, "{verified:?}");
        }
    }
}

pub fn all() -> Vec<Arc<dyn Projection>> {
    tally_projections::inline().into_iter().chain(tally_projections::following()).collect()
}

/// One command that appends what the test says.
struct Tell(Vec<(StreamId, Event)>);

impl Act for Tell {
    const ACTION: Action = Action::ChangeProfile;
}

#[derive(Debug, thiserror::Error)]
#[error("never")]
pub struct Never;

impl Command for Tell {
    type Outcome = ();
    type Refusal = Never;

    fn reads(&self) -> Vec<StreamId> {
        self.0.iter().map(|(stream, _)| *stream).collect()
    }

    fn decide(&self, _: &World, _: &Context) -> Result<Decision<()>, Never> {
        Ok(Decision::of((), self.0.clone()))
    }
}

pub async fn tell(
    store: &Store,
    person: &Person,
    events: Vec<(StreamId, Event)>,
) -> Result<Position, tally_store::ExecuteError<Never>> {
    let credential = PersonCredential::Session { id: person.session, expires_at: EXPIRY };
    let principal = Principal::Person { user: person.user, credential };
    let command = authorize(principal, Tell(events)).expect("a person may");
    Ok(store.execute(&command, RequestContext::default()).await?.position)
}

/// Somebody comes, does a little of everything, and stays.
pub async fn live(store: &Store) -> Result<Person, tally_store::ExecuteError<Never>> {
    let (user, session, token) = (UserId::new(), SessionId::new(), TokenId::new());
    let console = SessionId::new();
    let person = Person { user, session, console, token, hash: CredentialHash(hash_of(token)) };
    let (login, code, other, left) = (LoginId::new(), CodeId::new(), TokenId::new(), SessionId::new());
    let personal = |text: &str| Some(Personal::clear(text));
    let email = format!("{user}@example.org");
    let started = || SessionStarted {
        user_id: user,
        method: SessionMethod::EmailCode,
        minted_by: None,
        expires_at: EXPIRY,
        address: personal("192.0.2.1"),
        user_agent: None,
        console: None,
    };
    let minted = |token: TokenId, minted_by: CredentialId| TokenMinted {
        kind: TokenKind::PersonalAccessToken,
        user_id: user,
        name: Personal::clear("laptop"),
        hash: tally_events::Hidden::new(hex::encode(hash_of(token))),
        prefix: "mul_".to_owned(),
        minted_by,
        expires_at: Some(EXPIRY - TimeDelta::days(1)),
    };
    let renamed = |name: &str| UserProfileChanged {
        name: personal(name),
        language: personal("ja"),
        ..UserProfileChanged::default()
    };
    let issued = LoginCodeIssued {
        code_id: code,
        user_id: None,
        salt: tally_events::Hidden::new(""),
        mac: tally_events::Hidden::new(""),
        expires_at: EXPIRY,
        email: Personal::clear(&email),
        address: None,
        user_agent: personal("curl"),
    };
    let refused = LoginCodeRefused {
        code_id: code,
        user_id: None,
        reason: RefusalReason::WrongCode,
        address: None,
        user_agent: None,
    };
    let registered = UserRegistered { email: Personal::clear(&email), name: Personal::clear("Ada") };
    let revoked = TokenRevoked { user_id: user, reason: RevocationReason::Line(token) };
    let ended = SessionEnded { user_id: user, reason: SessionEndReason::LoggedOut };
    let mut events: Vec<(StreamId, Event)> = vec![
        (login.into(), issued.into()),
        (login.into(), refused.into()),
        (login.into(), LoginCodeVerified { code_id: code, user_id: user, session_id: session }.into()),
        (user.into(), registered.into()),
        (user.into(), UserSuspended {}.into()),
        (user.into(), UserReinstated {}.into()),
        (session.into(), started().into()),
        (token.into(), minted(token, CredentialId::Session(session)).into()),
        (other.into(), minted(other, CredentialId::Token(token)).into()),
        (token.into(), TokenRenewed { user_id: user, expires_at: EXPIRY }.into()),
        (user.into(), renamed("Eve").into()),
        (left.into(), started().into()),
        (left.into(), ended.into()),
        (other.into(), revoked.into()),
        (user.into(), renamed("Ada").into()),
        (
            login.into(),
            LoginCodeRefused { reason: RefusalReason::AccountSuspended, ..refused_again(code, user) }.into(),
        ),
        (login.into(), LoginCodeUndeliverable { code_id: code, user_id: Some(user) }.into()),
    ];
    events.extend(live_together(user, UserId::new()));
    tell(store, &person, events).await?;
    refresh(store, &person, started()).await?;
    Ok(person)
}

/// Somebody opens a workspace, where another comes and goes.
fn live_together(user: UserId, other: UserId) -> Vec<(StreamId, Event)> {
    let workspace_id = WorkspaceId::new();
    let (open, declined, link) = (InvitationId::new(), InvitationId::new(), ShareLinkId::new());
    let personal = |text: &str| Some(Personal::clear(text));
    let created = WorkspaceCreated {
        slug: Personal::clear(workspace_id.to_string()),
        name: Personal::clear("Team"),
        issue_prefix: Personal::clear("TEAM"),
        description: personal("What we do"),
        context: None,
        settings: personal("{}"),
        repos: None,
        avatar_url: None,
        replaces: None,
    };
    let changed = WorkspaceChanged { name: personal("Crew"), ..WorkspaceChanged::default() };
    let joined = |user_id, role, admission| MemberJoined { workspace_id, user_id, role, admission };
    let invited = |email: &str| InvitationCreated {
        workspace_id,
        inviter_id: user,
        email: Personal::clear(email),
        invitee_user_id: None,
        role: Role::Member,
        expires_at: EXPIRY,
        replaces: None,
    };
    let linked = ShareLinkCreated {
        workspace_id,
        code: Personal::clear(link.to_string()),
        role: Role::Member,
        expires_at: None,
        max_uses: Some(3),
        replaces: None,
    };
    let member = |user_id| StreamId::from(MemberId::of(workspace_id, user_id));
    let left = MemberRemoved { workspace_id, user_id: other, reason: RemovalReason::Left };
    let promoted = MemberRoleChanged { workspace_id, user_id: other, role: Role::Admin };
    vec![
        (workspace_id.into(), created.into()),
        (member(user), joined(user, Role::Owner, Admission::Creation).into()),
        (workspace_id.into(), changed.into()),
        (link.into(), linked.into()),
        (link.into(), ShareLinkUsed { workspace_id, user_id: other }.into()),
        (member(other), joined(other, Role::Member, Admission::ShareLink(link)).into()),
        (member(other), promoted.into()),
        (member(other), left.into()),
        (open.into(), invited("open@example.org").into()),
        (declined.into(), invited("declined@example.org").into()),
        (declined.into(), InvitationDeclined { workspace_id, user_id: other }.into()),
    ]
}

/// A console session that is refreshed, in the commit that starts it and in a later one; and a session
/// that another one started and takes with it.
async fn refresh(
    store: &Store,
    person: &Person,
    like: SessionStarted,
) -> Result<(), tally_store::ExecuteError<Never>> {
    let (user_id, console, below) = (person.user, person.console, SessionId::new());
    let hash = |text: &str| tally_events::Hidden::new(text);
    let ends_at = EXPIRY + TimeDelta::days(90);
    let opened =
        SessionStarted { console: Some(ConsoleStarted { refresh_hash: hash("0"), ends_at }), ..like.clone() };
    let minted_by = Some(CredentialId::Session(person.session));
    let started = SessionStarted { method: SessionMethod::CommandLine, minted_by, ..like };
    let refreshed = |used: &str, next: &str, days| SessionRefreshed {
        user_id,
        used_hash: hash(used),
        refresh_hash: hash(next),
        expires_at: EXPIRY + TimeDelta::days(days),
        address: None,
        user_agent: Some(Personal::clear("curl")),
    };
    let repeated = SessionRefreshRepeated {
        user_id,
        refresh_hash: hash("2"),
        address: Some(Personal::clear("192.0.2.1")),
        user_agent: None,
    };
    let ended = SessionEnded { user_id, reason: SessionEndReason::ParentEnded };
    let first: Vec<(StreamId, Event)> = vec![
        (console.into(), opened.into()),
        (console.into(), refreshed("0", "1", 1).into()),
        (below.into(), started.into()),
    ];
    let then: Vec<(StreamId, Event)> = vec![
        (console.into(), repeated.into()),
        (console.into(), refreshed("1", "3", 2).into()),
        (below.into(), ended.into()),
    ];
    tell(store, person, first).await?;
    tell(store, person, then).await?;
    Ok(())
}

fn refused_again(code_id: CodeId, user: UserId) -> LoginCodeRefused {
    let reason = RefusalReason::WrongCode;
    LoginCodeRefused { code_id, user_id: Some(user), reason, address: None, user_agent: None }
}

fn hash_of(token: TokenId) -> [u8; 32] {
    let mut hash = [7; 32];
    hash[..16].copy_from_slice(token.0.as_bytes());
    hash
}
