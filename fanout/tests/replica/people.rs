//! People and their credentials, made as everybody makes them: by commands.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use chrono::TimeDelta;
use tally_domain::{
    Command, EmailAddress, PersonCredential, Principal, authorize,
    credential::{CredentialKind, Plaintext, mint},
    login::{Digits, IssueCode, Verification, VerifyCode},
    session::{Opens, Origin},
    token::{MintToken, RevokeTokens, TokenRequest},
};
use tally_events::{CredentialId, LoginId, SessionId, TokenId, UserId, seal::Key};
use tally_fanout::Presented;
use tally_store::{Clock, ConnectionLimits, KeyRing, RequestContext, Store, StoreOptions, connect, migrate};

use crate::cluster::Cluster;

/// A store of its own on a cluster, as another process would have.
pub async fn store(cluster: &Cluster) -> Arc<Store> {
    migrate(&cluster.options()).await.unwrap();
    let pool = connect(cluster.options(), ConnectionLimits { min: 0, max: 8 });
    let keys = KeyRing::unlock(pool.clone(), &Key::from_bytes([1; 32]), &Key::from_bytes([2; 32])).await;
    let (store, _committer) = Store::start(StoreOptions {
        database: cluster.options(),
        pool,
        keys: keys.unwrap(),
        clock: Clock::default(),
        inline: tally_projections::inline(),
        inline_version: tally_projections::INLINE_VERSION,
    });
    Arc::new(store)
}

/// Somebody who has just logged in.
#[derive(Clone, Copy)]
pub struct Person {
    pub user: UserId,
    pub session: SessionId,
    pub principal: Principal,
}

pub struct Token {
    pub id: TokenId,
    pub secret: Plaintext,
}

impl Token {
    pub fn presented(&self) -> Presented {
        Presented::Token(self.secret.hash())
    }
}

async fn execute<C: Command>(store: &Store, principal: Principal, command: C) -> C::Outcome {
    let command = authorize(principal, command).unwrap();
    store.execute(&command, RequestContext::default()).await.unwrap().outcome
}

pub async fn log_in(store: &Store, address: &str) -> Person {
    let email = EmailAddress::parse(address).unwrap();
    let (login, digits, key) = (LoginId::new(), Digits::from_number(123_456), store.keys().login_code());
    let salt = "00".repeat(16);
    let issue = IssueCode::new(login, None, email.clone(), &digits, salt, key, Origin::default());
    execute(store, Principal::Anonymous, issue).await;
    let verify = VerifyCode {
        login,
        email,
        typed: digits,
        development: None,
        key: key.clone(),
        user: UserId::new(),
        known: false,
        may_sign_up: true,
        link: None,
        session: SessionId::new(),
        opens: Opens::Session { lifetime: TimeDelta::days(1) },
        origin: Origin::default(),
    };
    match execute(store, Principal::Anonymous, verify).await {
        Verification::Verified { user, session, expires_at } => {
            let credential = PersonCredential::Session { id: session, expires_at };
            Person { user, session, principal: Principal::Person { user, credential } }
        }
        other => panic!("{other:?}"),
    }
}

pub async fn mint_token(store: &Store, person: &Person) -> Token {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let secret = mint(CredentialKind::PersonalAccessToken, |bytes| {
        bytes.fill(u8::try_from(number % 62).unwrap());
        bytes[0] = u8::try_from(number / 62 % 62).unwrap();
    });
    let request = TokenRequest::new("laptop", Some(30)).unwrap();
    let command = MintToken::new(person.user, CredentialId::Session(person.session), request, &secret);
    let id = command.token;
    execute(store, person.principal, command).await;
    Token { id, secret }
}

pub fn revoke(token: &Token) -> RevokeTokens {
    RevokeTokens { root: CredentialId::Token(token.id), line: Vec::new() }
}
