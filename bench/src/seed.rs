//! A database that has lived: people, and as many live tokens as asked for, all by the product's own
//! commands. Made once, and used by every figure of a run that needs it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rand::seq::SliceRandom;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tally_events::CredentialId;
use tally_fanout::Replica;
use tally_tests::Scratch;

use crate::{
    Result,
    bench::Bench,
    drive::{Caller, drive},
    product::{Person, Product, Token, mint_token},
};

/// Tokens of one person, but for the first, who has a tenth of all.
const TOKENS_EACH: u64 = 1000;
/// Commands under way at once.
const CALLERS: usize = 1024;
/// Tokens in the line of the first person's first token, beside it.
pub const LINE: usize = 20;

pub struct Seed {
    pub database: PgConnectOptions,
    /// Every live token, in no order.
    pub tokens: Vec<Token>,
    /// Who has a tenth of them.
    pub first: Person,
    /// The first person's first token, which minted the next [`LINE`].
    pub root: Token,
    pub events: u64,
    directory: Scratch,
}

impl Seed {
    pub async fn grow(bench: &Bench) -> Result<Self> {
        let wanted = bench.options.events;
        let database = bench.database().await?;
        let product = Product::start(&database).await?;
        let started = Instant::now();

        let others = (wanted / TOKENS_EACH).max(1);
        let mut people = Vec::new();
        for number in 0..=others {
            people.push(product.log_in(&format!("person-{number}@example.org")).await?);
        }
        let first = people[0];
        let root = mint_token(&product.replica, &first, CredentialId::Session(first.session)).await?;
        let mut tokens = vec![root.clone()];
        for _ in 0..LINE {
            tokens.push(mint_token(&product.replica, &first, CredentialId::Token(root.id)).await?);
        }

        let left = Arc::new(Left { wanted, next: AtomicU64::new(tokens.len() as u64), started });
        let callers = if bench.options.quick { 64 } else { CALLERS };
        let callers = (0..callers).map(|_| Minter {
            replica: product.replica.clone(),
            people: people.clone(),
            left: left.clone(),
            minted: Vec::new(),
        });
        // They end by themselves, when nothing is left.
        let (_, callers) = drive(callers.collect(), Duration::from_hours(2)).await?;
        tokens.extend(callers.into_iter().flat_map(|caller| caller.minted));
        tokens.shuffle(&mut rand::rng());
        eprintln!(
            "  {} tokens minted in {:.0} s; the projections follow",
            tokens.len(),
            started.elapsed().as_secs_f64()
        );
        product.catch_up().await?;
        let events = tally_store::head(product.pool()).await?.position.0.unsigned_abs();
        product.stop().await?;
        // What autovacuum would have done by the time a log is this long.
        let mut connection = PgConnection::connect_with(&database).await?;
        sqlx::query("vacuum analyze").execute(&mut connection).await?;
        connection.close().await?;
        let seed = Self { database, tokens, first, root, events, directory: Scratch::new() };
        seed.check().await?;
        eprintln!("  seeded in {:.0} s", started.elapsed().as_secs_f64());
        Ok(seed)
    }

    /// A directory that goes with it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes some of the tokens, a line each, for wrk to read.
    pub fn write_tokens(&self, name: &str, tokens: &[Token]) -> Result<PathBuf> {
        let path = self.directory().join(name);
        let mut text = String::with_capacity(tokens.len() * 41);
        for token in tokens {
            text.push_str(token.secret.expose());
            text.push('\n');
        }
        fs::write(&path, text)?;
        Ok(path)
    }

    async fn check(&self) -> Result<()> {
        let live = "select count(*) from credentials where revoked_at is null";
        crate::bench::check_rows(&self.database, live, self.tokens.len() as u64).await
    }
}

/// What is left to mint.
struct Left {
    wanted: u64,
    next: AtomicU64,
    started: Instant,
}

struct Minter {
    replica: Replica,
    people: Vec<Person>,
    left: Arc<Left>,
    minted: Vec<Token>,
}

#[async_trait]
impl Caller for Minter {
    async fn call(&mut self) -> Result<u64> {
        let number = self.left.next.fetch_add(1, Ordering::Relaxed);
        if number >= self.left.wanted {
            return Ok(0);
        }
        if number.is_multiple_of(20_000) {
            let elapsed = self.left.started.elapsed().as_secs();
            eprintln!("  seeding: {number} of {} tokens, {}/s", self.left.wanted, number / elapsed.max(1));
        }
        let person = if number.is_multiple_of(10) {
            self.people[0]
        } else {
            let others = self.people.len() as u64 - 1;
            self.people[1 + usize::try_from(number % others)?]
        };
        let token = mint_token(&self.replica, &person, CredentialId::Session(person.session)).await?;
        self.minted.push(token);
        Ok(1)
    }
}
