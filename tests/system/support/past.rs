//! Acting at another time: the rooms themselves, on the server's own database and keys, with a
//! clock that is shifted. What they record is real; only the moment of the decision is not now.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use chrono::{DateTime, TimeDelta, Utc};
use rand::{TryRng, rngs::SysRng};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tally_domain::{
    EmailAddress, Membership, Person, PersonCredential, Principal, authorize, authorize_within,
    claim::Namespace,
    credential::{self, CredentialKind, Plaintext},
    identity::{Account, Assertion, Identity, LogInByIdentity},
    invitation::Invite,
    login::{DeclareUndeliverable, Digits, IssueCode, IssuedCode, Verification, VerifyCode},
    session::{Opens, Origin},
    token::{MintToken, TokenRequest},
};
use tally_events::{CodeId, InvitationId, LoginId, RequestId, Role, SessionId, TokenId, UserId, seal::Key};
use tally_store::{Clock, ConnectionLimits, KeyRing, RequestContext, Store, StoreOptions};
use tally_tests::{Login, Server};
use uuid::Uuid;

use super::{
    database, key, shared,
    team::{self, Team},
};

/// A store of the shared server's log whose clock runs `shift` beside everybody else's.
pub struct Past {
    store: Store,
}

impl Past {
    pub async fn shifted(shift: TimeDelta) -> Self {
        Self::of(shared().await, shift).await
    }

    /// The same on the log of another server, one with a database of its own.
    pub async fn of(server: &Server, shift: TimeDelta) -> Self {
        let options = database(server);
        let pool = tally_store::connect(options.clone(), ConnectionLimits { min: 0, max: 2 });
        let master: [u8; 32] = STANDARD
            .decode(key(&server.data_dir(), "master.key"))
            .expect("base64")
            .try_into()
            .expect("32 bytes");
        let signing = Sha256::digest(key(&server.data_dir(), "jwt.secret").as_bytes());
        let (master, signing) = (Key::from_bytes(master), Key::from_bytes(signing.into()));
        let keys = KeyRing::unlock(pool.clone(), &master, &signing).await.expect("the server's own keys");
        let (store, _) = Store::start(StoreOptions {
            database: options,
            pool,
            keys,
            clock: Clock::default().shifted(shift),
            inline: tally_projections::inline(),
            inline_version: tally_projections::INLINE_VERSION,
        });
        Self { store }
    }

    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Makes a code for an address, as `/auth/send-code` does.
    pub async fn issue_code(&self, email: &str, digits: &str) {
        let email = EmailAddress::parse(email).expect("an address");
        let login = self.store.holder(Namespace::LoginAddress, email.as_str()).await.expect("the database");
        let user = self.store.holder(Namespace::UserEmail, email.as_str()).await.expect("the database");
        let login = login.map_or_else(LoginId::new, LoginId);
        let mut salt = [0; 16];
        fill(&mut salt);
        let (digits, salt) = (Digits::new(digits), hex::encode(salt));
        let key = self.store.keys().login_code();
        let command = IssueCode::new(login, user.map(UserId), email, &digits, salt, key, Origin::default());
        let command = authorize(Principal::Anonymous, command).expect("anyone may");
        self.store.execute(&command, RequestContext::default()).await.expect("a code");
    }

    /// Records that the mail with the latest code did not leave.
    pub async fn declare_undeliverable(&self, email: &str, request: Uuid) {
        let login = self.store.holder(Namespace::LoginAddress, email).await.expect("the database");
        let user = self.store.holder(Namespace::UserEmail, email).await.expect("the database");
        let login = LoginId(login.expect("a code was made"));
        let code = sqlx::query_scalar(
            "select (payload->>'code_id')::uuid from event where stream_id = $1 and name = 'login.code_issued'
              order by position desc limit 1",
        );
        let code = code.bind(login.0).fetch_one(self.store.pool()).await.expect("the log");
        let issued = IssuedCode { login, code: CodeId(code), user: user.map(UserId) };
        let command = authorize(Principal::Server, DeclareUndeliverable(issued)).expect("the server may");
        let context = RequestContext { request: Some(RequestId(request)), idempotency: None };
        self.store.execute(&command, context).await.expect("it is recorded");
    }

    /// Logs a person in by a code made for it: the principal of a session that started then.
    pub async fn log_in(&self, email: &str, user: UserId, lifetime: TimeDelta) -> (SessionId, DateTime<Utc>) {
        self.issue_code(email, "246810").await;
        self.use_code(email, email, user, lifetime).await
    }

    /// Opens an account for an address that no code was ever made for: it may have one at once.
    pub async fn open_account(&self, email: &str) {
        let other = super::address("door");
        self.issue_code(&other, "246810").await;
        self.use_code(&other, email, UserId::new(), TimeDelta::days(1)).await;
    }

    /// Uses the code that was made for `coded` to log in as `email`.
    async fn use_code(
        &self,
        coded: &str,
        email: &str,
        user: UserId,
        lifetime: TimeDelta,
    ) -> (SessionId, DateTime<Utc>) {
        let login = self.store.holder(Namespace::LoginAddress, coded).await.expect("the database");
        let command = VerifyCode {
            login: LoginId(login.expect("a code was made")),
            email: EmailAddress::parse(email).expect("an address"),
            typed: Digits::new("246810"),
            development: None,
            key: self.store.keys().login_code().clone(),
            user,
            known: false,
            may_sign_up: true,
            link: None,
            session: SessionId::new(),
            opens: Opens::Session { lifetime },
            origin: Origin::default(),
        };
        let command = authorize(Principal::Anonymous, command).expect("anyone may");
        let done = self.store.execute(&command, RequestContext::default()).await.expect("a verdict");
        match done.outcome {
            Verification::Verified { session, expires_at, .. } => (session, expires_at),
            other => panic!("{other:?}"),
        }
    }

    /// Opens an account by an identity whose issuer speaks for the address.
    pub async fn log_in_by_identity(&self, email: &str) {
        let identity = Identity::new("https://issuer.example", email).expect("an identity");
        let email = EmailAddress::parse(email).expect("an address");
        let command = LogInByIdentity {
            assertion: Assertion::new(identity, email, None, None),
            account: Account::of(None, None),
            authoritative: true,
            may_sign_up: true,
            signup_rests_on_address: false,
            session: SessionId::new(),
            lifetime: TimeDelta::days(1),
            origin: Origin::default(),
        };
        let command = authorize(Principal::Anonymous, command).expect("anyone may");
        self.store.execute(&command, RequestContext::default()).await.expect("an account");
    }

    /// Mints a personal access token by a session's JWT: its id and the token.
    pub async fn mint(&self, session: &str, days: Option<i64>) -> (TokenId, String) {
        self.mint_as(session, days, credential::mint(CredentialKind::PersonalAccessToken, fill)).await
    }

    /// Mints this very token.
    pub async fn mint_as(&self, session: &str, days: Option<i64>, secret: Plaintext) -> (TokenId, String) {
        let principal = principal(session);
        let (user, minted_by) = principal.user().zip(principal.credential()).expect("a person");
        let request = TokenRequest::new("from another time", days).expect("a name and a lifetime");
        let command = MintToken::new(user, minted_by, request, &secret);
        let id = command.token;
        let command = authorize(principal, command).expect("a person may");
        self.store.execute(&command, RequestContext::default()).await.expect("a token");
        (id, secret.expose().to_owned())
    }
}

impl Past {
    /// Invites somebody into a team, as its owner did then: the invitation's id.
    pub async fn invited(&self, team: &Team, guest: &Login) -> InvitationId {
        let principal = principal(&team.owner.token);
        let person = Person::of(&principal).expect("a person");
        let workspace = team.id.parse().expect("a UUID");
        let command = Invite {
            insider: person.within(workspace),
            invitation: InvitationId::new(),
            email: EmailAddress::parse(team::email(guest)).expect("an address"),
            role: Role::Member,
            invitee: team::id(guest).parse().ok(),
            holder: None,
        };
        let invitation = command.invitation;
        let membership = Membership { workspace, user: person.user, role: Role::Owner };
        let command = authorize_within(principal, membership, command).expect("an owner may");
        self.store.execute(&command, RequestContext::default()).await.expect("an invitation");
        invitation
    }
}

/// The claims of a session's JWT.
pub fn claims(jwt: &str) -> Value {
    let claims = jwt.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64url")).expect("JSON")
}

fn principal(jwt: &str) -> Principal {
    let claims = claims(jwt);
    let id = |name: &str| claims[name].as_str().and_then(|id| id.parse().ok()).expect("a UUID");
    let expires_at = DateTime::from_timestamp(claims["exp"].as_i64().expect("a time"), 0).expect("a time");
    let credential = PersonCredential::Session { id: SessionId(id("sid")), expires_at };
    Principal::Person { user: UserId(id("sub")), credential }
}

fn fill(bytes: &mut [u8]) {
    SysRng.try_fill_bytes(bytes).expect("random bytes");
}
