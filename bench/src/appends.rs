//! Bare appends: one event of some 200 bytes to a stream of its own, without projections.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::postgres::PgConnectOptions;
use tally_domain::{
    Action, Authorized, Command, Context, Decision, Principal, World, authorize, policy::Act,
};
use tally_events::{
    CredentialId, Event, SessionId, StreamId, UserId,
    session::{SessionMethod, SessionStarted},
};
use tally_store::{RequestContext, Store};
use tokio::task::JoinHandle;

use crate::{
    Result,
    baselines::{Batched, PerTransaction},
    bench::{Bench, Side, check_rows},
    cpu::Meter,
    drive::{Caller, drive},
    product::bare_store,
    report::{Figure, Sample},
    rows::{Template, Work},
};

/// Measures the figure.
pub async fn measure(bench: &Bench) -> Result<Figure> {
    let template = template(bench).await?;
    let bytes = template.payload.len();
    let work = Work::Append(template);

    let mut rows = Vec::new();
    for &callers in bench.options.callers() {
        let case = format!("{callers} callers");
        let sides: Vec<Box<dyn Side>> = vec![
            Box::new(Product::start(bench, callers).await?),
            Box::new(PerTransaction::start(bench, callers, &work).await?),
            Box::new(Batched::start(bench, callers, &work).await?),
        ];
        rows.extend(bench.take_turns(&case, sides).await?);
    }
    Ok(Figure {
        name: "appends".to_owned(),
        title: "Bare appends".to_owned(),
        command: bench.options.command("appends"),
        machine: String::new(),
        notes: vec![
            format!("An append is one `session.started` of {bytes} bytes to a stream of its own, committed durably."),
            "tally: `Store::execute` in this process, so its CPU time holds the callers': load, decide, hash, group commit. No projections.".to_owned(),
            "one transaction each: the head's lock, the version, the rows of `stream` and `event`, commit; over a pool of 25 connections.".to_owned(),
            "batched SQL: the same rows by one connection, as many in a transaction as there are callers, without loading, checking or hashing. Its latency is a batch's.".to_owned(),
            "Each side has a database of its own. Checked: every acknowledged append is there, once.".to_owned(),
        ],
        rows,
    })
}

/// A command of the smallest kind: it reads one stream, and one thing happens in it.
struct Append {
    session: SessionId,
    user: UserId,
    /// Whether the stream must be there, or must not.
    exists: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the stream is there and should not be, or the other way round")]
struct NotAsExpected;

impl Act for Append {
    const ACTION: Action = Action::SuspendUser;
}

impl Command for Append {
    type Outcome = ();
    type Refusal = NotAsExpected;

    fn reads(&self) -> Vec<StreamId> {
        vec![self.session.into()]
    }

    fn begins(&self) -> Vec<StreamId> {
        if self.exists { Vec::new() } else { vec![self.session.into()] }
    }

    fn decide(&self, world: &World, context: &Context) -> std::result::Result<Decision<()>, NotAsExpected> {
        if world.session(self.session).started.is_some() != self.exists {
            return Err(NotAsExpected);
        }
        let event: Event = SessionStarted {
            user_id: self.user,
            method: SessionMethod::CommandLine,
            minted_by: Some(CredentialId::Session(SessionId(self.user.0))),
            expires_at: context.now,
            address: None,
            user_agent: None,
            console: None,
        }
        .into();
        Ok(Decision::of((), [(self.session.into(), event)]))
    }
}

/// Appends to a new stream, and says to which.
pub async fn append(store: &Store) -> Result<SessionId> {
    let session = SessionId::new();
    execute(store, Append { session, user: UserId::new(), exists: false }).await?;
    Ok(session)
}

/// Appends to a stream that is there.
pub async fn append_to(store: &Store, session: SessionId) -> Result<()> {
    execute(store, Append { session, user: UserId::new(), exists: true }).await
}

async fn execute(store: &Store, append: Append) -> Result<()> {
    let command: Authorized<Append> = authorize(Principal::Operator, append)?;
    store.execute(&command, RequestContext::default()).await?;
    Ok(())
}

/// An event as it is stored, for others to write.
pub async fn template(bench: &Bench) -> Result<Template> {
    let database = bench.database().await?;
    let (store, committer) = bare_store(&database).await?;
    append(&store).await?;
    let template = Template::last(store.pool()).await?;
    stop(store, committer).await?;
    bench.drop_database(&database).await?;
    Ok(template)
}

struct Product {
    store: Arc<Store>,
    committer: JoinHandle<()>,
    database: PgConnectOptions,
    callers: usize,
    acknowledged: u64,
}

struct ProductCaller(Arc<Store>);

#[async_trait]
impl Caller for ProductCaller {
    async fn call(&mut self) -> Result<u64> {
        append(&self.0).await?;
        Ok(1)
    }
}

impl Product {
    async fn start(bench: &Bench, callers: usize) -> Result<Self> {
        let database = bench.database().await?;
        let (store, committer) = bare_store(&database).await?;
        Ok(Self { store, committer, database, callers, acknowledged: 0 })
    }
}

#[async_trait]
impl Side for Product {
    fn name(&self) -> String {
        "tally".to_owned()
    }

    fn is_baseline(&self) -> bool {
        false
    }

    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample> {
        let callers = (0..self.callers).map(|_| ProductCaller(self.store.clone())).collect();
        let meter = bench.measure(Meter::InProcess)?;
        let (load, _) = drive(callers, length).await?;
        self.acknowledged += load.operations;
        Ok(load.sample(meter.stop()?))
    }

    async fn finish(self: Box<Self>, bench: &Bench) -> Result<()> {
        check_rows(&self.database, Work::EVENTS, self.acknowledged).await?;
        stop(self.store, self.committer).await?;
        bench.drop_database(&self.database).await
    }
}

/// Ends a store that nobody else holds.
pub async fn stop(store: Arc<Store>, committer: JoinHandle<()>) -> Result<()> {
    let pool = store.pool().clone();
    drop(store);
    committer.await?;
    pool.close().await;
    Ok(())
}
