//! Rebuild: makes projections' tables anew, beside the live ones, and flips.
//!
//! The new tables stand in the schema `rebuild`, which is first in the search path of the
//! connection that fills them, so the projection's own statements write there. Readers go on with
//! the live tables until the flip: under the head's lock the last events are folded and the tables
//! change schema, in one transaction. A rebuild that was stopped goes on where it was.
//!
//! Several projections are rebuilt side by side: the log is read and decoded once for all of them,
//! each is written through its own connection, and the indexes come after the rows.
//!
//! Every transaction that writes there holds the lock of the rebuild's progress, and so two
//! rebuilds of one projection take turns at the same tables. Without it the slower one would find
//! the schema empty after the flip, and fold into the live tables behind it.

use std::{sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, Connection, PgConnection, PgTransaction, postgres::PgConnectOptions};
use tally_events::{Position, Recorded};
use tally_store::{Projection, head};
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    fold::{FoldError, fold, read},
    is_inline,
    pages::{Pages, read_ahead},
    shadow::{self, execute},
};

const SCHEMA: &str = "rebuild";
/// When this few events remain, they are folded under the head's lock.
const FLIP_EVENTS: i64 = 200;
/// How long the flip, with every commit waiting behind it, waits for the readers of a table. Less
/// than the second after which PostgreSQL looks for a deadlock, so that no reader is its victim.
const READERS_TIMEOUT: &str = "400ms";
/// How long it waits for those who vacuum one, with nobody behind it. Longer than the second after which
/// PostgreSQL ends its own vacuum of a table that somebody waits for.
const VACUUM_TIMEOUT: &str = "5s";
/// Between two tries: commits go on.
const FLIP_PAUSE: Duration = Duration::from_secs(1);
/// How long a reader that stays is waited for.
const FLIP_PATIENCE: Duration = Duration::from_mins(2);
/// Makes those who begin a rebuild take turns.
const PREPARE_LOCK: i64 = 0x7A11_0001;
/// What sorting the rows of one index may take in memory.
const SORT_MEMORY: &str = "256MB";

/// How far the rebuild of one projection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Folding: the position reached, and the head.
    Folding { position: Position, end: Position },
    /// The rows are there, and the indexes are made.
    Indexing,
    /// Readers see the new tables, which are at this position. So long they had to wait for them.
    Flipped { position: Position, readers_waited: Duration },
}

/// Rebuilds projections, telling `progress` of each by its name. One that fails does not stop the
/// others: there is an outcome for each, in the order they were given.
///
/// An outcome is an error when the database does not answer, an event cannot be folded, or somebody
/// reads the live tables without end. The live tables are then as before, and the next rebuild goes
/// on where this one stopped.
pub async fn rebuild(
    options: &PgConnectOptions,
    projections: &[Arc<dyn Projection>],
    progress: impl Fn(&'static str, Progress) + Send + Sync + 'static,
) -> Vec<(&'static str, Result<Position, FoldError>)> {
    // Pages are short transactions whose end nobody waits for: a crash takes back the rows together
    // with the progress.
    let options = options.clone().options([
        ("search_path", "rebuild,public"),
        ("synchronous_commit", "off"),
        ("maintenance_work_mem", SORT_MEMORY),
        // One index for each projection at a time keeps a small machine busy; workers would hand each
        // other their rows through files.
        ("max_parallel_maintenance_workers", "0"),
        ("statement_timeout", "60s"),
    ]);
    let progress = Arc::new(progress);
    // One flip after the other: commits and readers that waited for one go on before the next.
    let flips = Arc::new(Mutex::new(()));
    let mut outcomes = Vec::new();
    let mut begun = Vec::new();
    for projection in projections {
        match Rebuild::begin(&options, projection.clone()).await {
            Ok(rebuild) => begun.push(rebuild),
            Err(error) => outcomes.push((projection.name(), Err(error))),
        }
    }
    let from: Vec<Position> = begun.iter().map(|rebuild| rebuild.position).collect();
    let mut tasks = JoinSet::new();
    for (rebuild, pages) in begun.into_iter().zip(read_ahead(&options, &from)) {
        let (progress, flips) = (progress.clone(), flips.clone());
        tasks.spawn(async move {
            let name = rebuild.projection.name();
            (name, rebuild.run(pages, &flips, |step| progress(name, step)).await)
        });
    }
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(outcome) => outcomes.push(outcome),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
    let place = |name: &str| projections.iter().position(|projection| projection.name() == name);
    outcomes.sort_by_key(|(name, _)| place(name));
    outcomes
}

struct Rebuild {
    projection: Arc<dyn Projection>,
    connection: PgConnection,
    /// The last position in the new tables.
    position: Position,
}

impl Rebuild {
    /// Makes empty tables of the live ones' shape, or finds those of a rebuild that was stopped.
    async fn begin(options: &PgConnectOptions, projection: Arc<dyn Projection>) -> Result<Self, FoldError> {
        let mut connection = PgConnection::connect_with(options).await?;
        let mut transaction = connection.begin().await?;
        sqlx::query("select pg_advisory_xact_lock($1)").bind(PREPARE_LOCK).execute(&mut *transaction).await?;
        execute(&mut transaction, "create schema if not exists rebuild").await?;
        execute(
            &mut transaction,
            "create table if not exists rebuild.progress (name text primary key, version integer not null, position bigint not null)",
        )
        .await?;
        let position = if let Some(position) = lock_progress(&mut transaction, projection.as_ref()).await? {
            position
        } else {
            for table in projection.tables() {
                execute(&mut transaction, &format!("drop table if exists rebuild.{table}")).await?;
            }
            shadow::create(&mut transaction, projection.as_ref(), SCHEMA).await?;
            save(&mut transaction, projection.as_ref(), Position::ZERO).await?;
            Position::ZERO
        };
        transaction.commit().await?;
        Ok(Self { projection, connection, position })
    }

    async fn run(
        mut self,
        mut pages: Pages,
        flips: &Mutex<()>,
        progress: impl Fn(Progress),
    ) -> Result<Position, FoldError> {
        let mut patience = None;
        // Set when the flip met an event that the tables refuse: which one is then found out.
        let mut careful = false;
        let mut readers_waited = Duration::ZERO;
        let position = loop {
            let end = head(&mut self.connection).await?.position;
            progress(Progress::Folding { position: self.position, end });
            if end.0 - self.position.0 > FLIP_EVENTS || careful && end > self.position {
                let events = pages.after(&mut self.connection, self.position).await?;
                if !self.fold_page(events).await? {
                    break end;
                }
                continue;
            }
            if self.make_indexes(&progress).await? {
                continue;
            }
            self.flush().await?;
            let turn = flips.lock().await;
            if head(&mut self.connection).await?.position.0 - self.position.0 > FLIP_EVENTS {
                // While others had their turn.
                continue;
            }
            let mut transaction = self.connection.begin().await?;
            let Some(position) = lock_progress(&mut transaction, self.projection.as_ref()).await? else {
                transaction.rollback().await?;
                // Somebody else rebuilt it meanwhile, from the same log.
                break end;
            };
            match flip(transaction, self.projection.as_ref(), position).await {
                Ok((position, waited)) => {
                    readers_waited = waited;
                    break position;
                }
                Err(FoldError::Database(error)) if is_lock_timeout(&error) => {
                    let patience = *patience.get_or_insert_with(|| Instant::now() + FLIP_PATIENCE);
                    if Instant::now() > patience {
                        return Err(error.into());
                    }
                    tracing::info!(
                        projection.name = self.projection.name(),
                        "waiting for readers of the live tables"
                    );
                    drop(turn);
                    sleep(FLIP_PAUSE).await;
                }
                Err(FoldError::Poison { .. }) if !careful => careful = true,
                Err(error) => return Err(error),
            }
        };
        progress(Progress::Flipped { position, readers_waited });
        self.connection.close().await?;
        Ok(position)
    }

    /// Folds events that begin right after the position, or as many of them as can be folded. False:
    /// there is no rebuild any more.
    async fn fold_page(&mut self, mut events: &[Recorded]) -> Result<bool, FoldError> {
        let mut limit = events.len();
        while let Some(last) = events[..limit].last() {
            let mut transaction = self.connection.begin().await?;
            match lock_progress(&mut transaction, self.projection.as_ref()).await? {
                None => return Ok(false),
                // Another rebuild folded it: both go on from there.
                Some(position) if position != self.position => {
                    self.position = position;
                    break;
                }
                Some(_) => {}
            }
            match fold(&mut transaction, self.projection.as_ref(), &events[..limit]).await {
                Ok(()) => {
                    save(&mut transaction, self.projection.as_ref(), last.position).await?;
                    transaction.commit().await?;
                    self.position = last.position;
                    events = &events[limit..];
                    limit = events.len();
                }
                // Among these is one that the tables refuse: as far as the one before it, then.
                Err(FoldError::Poison { .. }) if limit > 1 => {
                    transaction.rollback().await?;
                    limit /= 2;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Brings what was written so far to disk, before anybody has to wait for that.
    async fn flush(&mut self) -> Result<(), sqlx::Error> {
        let mut transaction = self.connection.begin().await?;
        execute(&mut transaction, "set local synchronous_commit = on").await?;
        // A commit flushes what came before it, if it changed anything itself.
        sqlx::query("update rebuild.progress set position = position where name = $1")
            .bind(self.projection.name())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }

    /// Makes the indexes that the new tables lack, one in each transaction. False: they lack nothing.
    async fn make_indexes(&mut self, progress: &impl Fn(Progress)) -> Result<bool, FoldError> {
        let mut made = false;
        loop {
            let mut transaction = self.connection.begin().await?;
            if lock_progress(&mut transaction, self.projection.as_ref()).await?.is_none() {
                return Ok(false);
            }
            let Some(statement) =
                shadow::next_missing(&mut transaction, self.projection.as_ref(), SCHEMA).await?
            else {
                break;
            };
            progress(Progress::Indexing);
            execute(&mut transaction, "set local statement_timeout = 0").await?;
            execute(&mut transaction, &statement).await?;
            transaction.commit().await?;
            made = true;
        }
        if made {
            let mut transaction = self.connection.begin().await?;
            if lock_progress(&mut transaction, self.projection.as_ref()).await?.is_none() {
                return Ok(false);
            }
            // The new tables bring no statistics, and nobody makes them for a while. Rough ones do:
            // what reads them walks their indexes.
            execute(&mut transaction, "set local default_statistics_target = 10").await?;
            for table in self.projection.tables() {
                execute(&mut transaction, &format!("analyze rebuild.{table}")).await?;
            }
            transaction.commit().await?;
        }
        Ok(made)
    }
}

/// How far the rebuild has come; whoever holds this lock, until its transaction ends, is the only
/// one to write its tables. None: there is no rebuild.
async fn lock_progress(
    connection: &mut PgConnection,
    projection: &dyn Projection,
) -> Result<Option<Position>, sqlx::Error> {
    let position: Option<i64> = sqlx::query_scalar(
        "select position from rebuild.progress where name = $1 and version = $2 for update",
    )
    .bind(projection.name())
    .bind(projection.version())
    .fetch_optional(connection)
    .await?;
    Ok(position.map(Position))
}

async fn save(
    connection: &mut PgConnection,
    projection: &dyn Projection,
    position: Position,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into rebuild.progress (name, version, position) values ($1, $2, $3)
         on conflict (name) do update set version = excluded.version, position = excluded.position",
    )
    .bind(projection.name())
    .bind(projection.version())
    .bind(position.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Folds what is left under the head's lock and puts the new tables in the old ones' place. Every
/// commit waits for it, and at the end every reader, and so it asks the database as few things as it
/// can there. Tells how long the readers waited.
async fn flip(
    mut transaction: PgTransaction<'_>,
    projection: &dyn Projection,
    mut position: Position,
) -> Result<(Position, Duration), FoldError> {
    let mut exchange = Vec::new();
    for table in projection.tables() {
        exchange.extend(grants(&mut transaction, table).await?);
    }
    for table in projection.tables() {
        exchange.push(format!("drop table public.{table}"));
        exchange.push(format!("alter table rebuild.{table} set schema public"));
    }
    // Whoever vacuums a table holds a lock that the exchange needs, and may be at it for long. This
    // waits for them before anybody waits for this, as long as PostgreSQL needs to call off a worker of
    // its own that stands in somebody's way, and then keeps the next one out.
    let both: Vec<String> = projection
        .tables()
        .iter()
        .flat_map(|table| [format!("public.{table}"), format!("rebuild.{table}")])
        .collect();
    execute(&mut transaction, &format!("set local lock_timeout = '{VACUUM_TIMEOUT}'")).await?;
    execute(&mut transaction, &format!("lock table {} in share update exclusive mode", both.join(", ")))
        .await?;
    // Everybody's answers rest on it from here on.
    execute(&mut transaction, "set local synchronous_commit = on").await?;
    // The same first lock as every commit's, so no event can come in between.
    let end: i64 =
        sqlx::query_scalar("select position from log_head for update").fetch_one(&mut *transaction).await?;
    // The same first lock as that of those who follow the log.
    sqlx::query("select 1 from projection where name = $1 for update")
        .bind(projection.name())
        .execute(&mut *transaction)
        .await?;
    while position.0 < end {
        let events = read(&mut transaction, position, end - position.0).await?;
        let Some(last) = events.last() else { break };
        fold(&mut transaction, projection, &events).await?;
        position = last.position;
    }
    sqlx::query("update projection set version = $2, position = $3, halted = null where name = $1")
        .bind(projection.name())
        .bind(projection.version())
        .bind((!is_inline(projection.name())).then_some(position.0))
        .execute(&mut *transaction)
        .await?;
    sqlx::query("delete from rebuild.progress where name = $1")
        .bind(projection.name())
        .execute(&mut *transaction)
        .await?;
    if projection.makes_verdicts() {
        // No event tells that the rows are others. Whoever remembers a verdict is refused at its next
        // renewal, forgets all, and registers anew; until then it stays listed, so that it is waited for.
        execute(&mut transaction, "update replica set leaving = true").await?;
        execute(&mut transaction, "update log_head set registry_epoch = registry_epoch + 1").await?;
    }
    let live: Vec<String> = projection.tables().iter().map(|table| format!("public.{table}")).collect();
    exchange.insert(0, format!("set local lock_timeout = '{READERS_TIMEOUT}'"));
    exchange.insert(1, format!("lock table {} in access exclusive mode", live.join(", ")));
    let began = Instant::now();
    sqlx::raw_sql(AssertSqlSafe(exchange.join(";"))).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok((position, began.elapsed()))
}

/// Who may do what with the live table and its columns, as statements for the new one. Without them the
/// serving role, where it is not the owner, would lose its tables, and verifiers what they read.
async fn grants(connection: &mut PgConnection, table: &str) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select format('grant %s on rebuild.%I to %s%s', a.privilege_type, c.relname,
                       case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
                       case when a.is_grantable then ' with grant option' else '' end)
           from pg_class c cross join lateral aclexplode(c.relacl) as a
          where c.oid = $1::text::regclass and a.grantee <> c.relowner
         union all
         select format('grant %s (%I) on rebuild.%I to %s%s', a.privilege_type, f.attname, c.relname,
                       case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
                       case when a.is_grantable then ' with grant option' else '' end)
           from pg_class c join pg_attribute f on f.attrelid = c.oid cross join lateral aclexplode(f.attacl) as a
          where c.oid = $1::text::regclass
         union all
         select format('alter table rebuild.%I owner to %I', c.relname, pg_get_userbyid(c.relowner))
           from pg_class c where c.oid = $1::text::regclass",
    )
    .bind(format!("public.{table}"))
    .fetch_all(connection)
    .await
}

/// Lock timeouts and deadlocks: the readers go first, and the flip is tried again.
fn is_lock_timeout(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "55P03" || code == "40P01")
}
