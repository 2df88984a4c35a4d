//! The product in this process, put together as `tally serve` does it, without the door.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use rand::{TryRng, rngs::SysRng};
use sha2::{Digest, Sha256};
use sqlx::{PgPool, postgres::PgConnectOptions};
use tally_domain::{
    Command, EmailAddress, PersonCredential, Principal, authorize,
    credential::{CredentialKind, Plaintext, mint},
    login::{Digits, IssueCode, Verification, VerifyCode},
    session::{Opens, Origin},
    token::{MintToken, TokenRequest},
};
use tally_events::{CredentialId, LoginId, Position, SessionId, TokenId, UserId, seal::Key};
use tally_fanout::{Replica, ReplicaSettings};
use tally_projections::status::status;
use tally_store::{Clock, ConnectionLimits, KeyRing, RequestContext, Store, StoreOptions};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use uuid::Uuid;

use crate::{Result, bench::POOL};

/// Secrets of a database that lives for minutes, the same for a store in this process and a server
/// beside it.
const MASTER_KEY: [u8; 32] = [0x5A; 32];
const JWT_SECRET: &str = "of a database that lives for minutes";
/// How long projections may take to fold all of a run.
const CATCH_UP_TIMEOUT: Duration = Duration::from_mins(20);

/// `TALLY_MASTER_KEY` and `JWT_SECRET` for a server on the same database.
pub fn secrets() -> [(&'static str, String); 2] {
    [("TALLY_MASTER_KEY", hex::encode(MASTER_KEY)), ("JWT_SECRET", JWT_SECRET.to_owned())]
}

/// A store without projections.
/// Its committer ends when the last clone of the store is dropped.
pub async fn bare_store(database: &PgConnectOptions) -> Result<(Arc<Store>, JoinHandle<()>)> {
    store(database, false).await
}

async fn store(database: &PgConnectOptions, projections: bool) -> Result<(Arc<Store>, JoinHandle<()>)> {
    let pool = tally_store::connect(database.clone(), ConnectionLimits { min: 5, max: POOL });
    let signing = Key::from_bytes(Sha256::digest(JWT_SECRET.as_bytes()).into());
    let keys = KeyRing::unlock(pool.clone(), &Key::from_bytes(MASTER_KEY), &signing).await?;
    let (store, committer) = Store::start(StoreOptions {
        database: database.clone(),
        pool,
        keys,
        clock: Clock::default(),
        inline: if projections { tally_projections::inline() } else { Vec::new() },
        inline_version: tally_projections::INLINE_VERSION,
    });
    Ok((Arc::new(store), committer))
}

/// A replica with everything that runs beside it.
pub struct Product {
    pub replica: Replica,
    pool: PgPool,
    runners: Vec<JoinHandle<()>>,
    committer: JoinHandle<()>,
}

/// Somebody who has logged in.
#[derive(Clone, Copy, Debug)]
pub struct Person {
    pub user: UserId,
    pub session: SessionId,
    pub principal: Principal,
}

/// A token, and its plaintext.
#[derive(Clone, Debug)]
pub struct Token {
    pub id: TokenId,
    pub secret: Plaintext,
}

impl Product {
    pub async fn start(database: &PgConnectOptions) -> Result<Self> {
        let (store, committer) = store(database, true).await?;
        let pool = store.pool().clone();
        tally_projections::runner::register(&pool).await?;
        let replica = Replica::join(store.clone(), ReplicaSettings::default(), None);
        let runners = tally_projections::following().into_iter().map(|projection| {
            let (tell, _) = watch::channel(Position::ZERO);
            tokio::spawn(tally_projections::runner::follow(pool.clone(), projection, store.subscribe(), tell))
        });
        let runners = runners.collect();
        Ok(Self { replica, pool, runners, committer })
    }

    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Signs somebody up by an e-mailed code.
    pub async fn log_in(&self, address: &str) -> Result<Person> {
        let email = EmailAddress::parse(address)?;
        let (login, digits) = (LoginId::new(), Digits::from_number(123_456));
        let key = self.replica.store().keys().login_code().clone();
        let salt = hex::encode(Uuid::new_v4().as_bytes());
        let issue = IssueCode::new(login, None, email.clone(), &digits, salt, &key, Origin::default());
        execute(&self.replica, Principal::Anonymous, issue).await?;
        let verify = VerifyCode {
            login,
            email,
            typed: digits,
            development: None,
            key,
            user: UserId::new(),
            known: false,
            may_sign_up: true,
            link: None,
            session: SessionId::new(),
            opens: Opens::Session { lifetime: TimeDelta::days(1) },
            origin: Origin::default(),
        };
        match execute(&self.replica, Principal::Anonymous, verify).await? {
            Verification::Verified { user, session, expires_at } => {
                let credential = PersonCredential::Session { id: session, expires_at };
                Ok(Person { user, session, principal: Principal::Person { user, credential } })
            }
            other => Err(format!("a login ended in {other:?}").into()),
        }
    }

    /// Waits until every projection stands at the head.
    pub async fn catch_up(&self) -> Result<()> {
        catch_up(&self.pool).await
    }

    /// Takes everything apart in order.
    pub async fn stop(self) -> Result<()> {
        self.replica.leave().await;
        drop(self.replica);
        for runner in self.runners {
            runner.abort();
            // Aborted: that it says so is no news, and then it holds the store no longer.
            drop(runner.await);
        }
        timeout(Duration::from_secs(10), self.committer).await??;
        self.pool.close().await;
        Ok(())
    }
}

/// Draws a token and mints it, as the door does.
pub async fn mint_token(replica: &Replica, person: &Person, by: CredentialId) -> Result<Token> {
    let principal = match by {
        CredentialId::Session(_) => person.principal,
        CredentialId::Token(id) => Principal::Person {
            user: person.user,
            credential: PersonCredential::PersonalAccessToken { id, expires_at: None },
        },
    };
    let secret = mint(CredentialKind::PersonalAccessToken, |bytes| {
        SysRng.try_fill_bytes(bytes).expect("the operating system gives random bytes");
    });
    let request = TokenRequest::new("laptop", Some(30))?;
    let command = MintToken::new(person.user, by, request, &secret);
    let id = command.token;
    execute(replica, principal, command).await?;
    Ok(Token { id, secret })
}

pub async fn execute<C: Command>(replica: &Replica, principal: Principal, command: C) -> Result<C::Outcome> {
    let command = authorize(principal, command)?;
    Ok(replica.execute(&command, RequestContext::default()).await?.executed.outcome)
}

/// Events that the slowest projection has yet to fold.
pub async fn lag(pool: &PgPool) -> Result<i64> {
    let all = status(pool).await?;
    if let Some(halted) = all.iter().find(|status| status.halted.is_some()) {
        return Err(format!("the projection {} halted", halted.name).into());
    }
    Ok(all.iter().map(|status| status.lag).max().unwrap_or_default())
}

/// Waits until every projection stands at the head.
pub async fn catch_up(pool: &PgPool) -> Result<()> {
    let deadline = Instant::now() + CATCH_UP_TIMEOUT;
    loop {
        let behind = lag(pool).await?;
        if behind == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("the projections are {behind} events behind and do not catch up").into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
