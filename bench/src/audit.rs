//! A page of the audit trail over HTTP: the newest, and pages by name, actor, line and time.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, Utc};
use rand::RngExt;
use sqlx::{PgPool, Row as _};
use uuid::Uuid;

use crate::{
    Result,
    bench::{Bench, Side, pool},
    cpu::Meter,
    drive::{Caller, drive},
    http::Connection,
    report::{Figure, Sample},
    seed::{LINE, Seed},
};

/// Rows of a page.
const PAGE: usize = 50;
const CALLERS: usize = 8;
/// Moments that a range of time may end at.
const MOMENTS: i64 = 1000;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
enum Page {
    Newest,
    Name,
    Actor,
    Line,
    Time,
}

const PAGES: [(Page, &str); 5] = [
    (Page::Newest, "newest"),
    (Page::Name, "by name"),
    (Page::Actor, "by actor"),
    (Page::Line, "by line of a credential"),
    (Page::Time, "by time"),
];

/// Measures the figure.
pub async fn measure(bench: &Bench, seed: &Seed) -> Result<Figure> {
    let mut server = bench.serve(&seed.database).await?;
    let process = server.process().id();
    let pool = pool(&seed.database).await?;
    let question = Arc::new(Question::of(seed, &pool).await?);
    let mut rows = Vec::new();
    for (page, case) in PAGES {
        let sides: Vec<Box<dyn Side>> = vec![
            Box::new(OverHttp {
                page,
                question: question.clone(),
                url: server.url().to_owned(),
                server: process,
            }),
            Box::new(Select { page, question: question.clone(), pool: pool.clone() }),
        ];
        rows.extend(bench.take_turns(case, sides).await?);
    }
    pool.close().await;
    Ok(Figure {
        name: "audit".to_owned(),
        title: format!("A page of the audit trail, {} events", seed.events),
        command: bench.options.command("audit"),
        machine: String::new(),
        notes: vec![
            format!("A page is {PAGE} events of a person who may see a tenth of the log, asked for by {CALLERS} callers in this process, whose CPU time is the generator's. All but the newest and the line's begin at a random place; the line is a token and the {LINE} it minted."),
            "tally: `GET /v1/audit`, with authentication, decoding, opened personal fields and JSON.".to_owned(),
            "bare SELECT: the same rows by one prepared statement from this process, over a pool of 25 connections.".to_owned(),
            format!("Checked: every page has its {PAGE} rows, the line's its {}.", LINE + 1),
        ],
        rows,
    })
}

/// What both sides ask with.
struct Question {
    bearer: String,
    person: Uuid,
    root: Uuid,
    line: Vec<Uuid>,
    events: i64,
    moments: Vec<DateTime<Utc>>,
    /// Whether the log is too short for whole pages.
    may_be_short: bool,
}

/// One of them: where the page begins, or when it ends.
struct Place {
    below: i64,
    until: DateTime<Utc>,
}

impl Question {
    async fn of(seed: &Seed, pool: &PgPool) -> Result<Self> {
        let events = i64::try_from(seed.events)?;
        let moments =
            sqlx::query_scalar("select recorded_at from event where position % $1 = 0 and position > $2")
                .bind((events / MOMENTS).max(1))
                .bind(events / 2)
                .fetch_all(pool)
                .await?;
        let line = sqlx::query_scalar("select id from credentials where minted_by = $1 or id = $1")
            .bind(seed.root.id.0)
            .fetch_all(pool)
            .await?;
        Ok(Self {
            bearer: seed.root.secret.expose().to_owned(),
            person: seed.first.user.0,
            root: seed.root.id.0,
            line,
            events,
            moments,
            // A tenth of the second half must hold many pages.
            may_be_short: events < 100_000,
        })
    }

    fn place(&self) -> Place {
        let mut dice = rand::rng();
        let below = dice.random_range(self.events / 2..=self.events);
        let until = self.moments[dice.random_range(0..self.moments.len())];
        Place { below, until }
    }

    /// Fails unless the page is whole.
    fn check(&self, page: Page, rows: usize) -> Result<u64> {
        let expected = match page {
            Page::Line => LINE + 1,
            Page::Newest | Page::Name | Page::Actor | Page::Time => PAGE,
        };
        let whole = rows == expected || self.may_be_short && rows > 0 && rows < expected;
        if whole { Ok(1) } else { Err(format!("a page has {rows} rows instead of {expected}").into()) }
    }

    fn path(&self, page: Page) -> String {
        let Place { below, until } = self.place();
        let path = format!("/v1/audit?limit={PAGE}");
        match page {
            Page::Newest => path,
            Page::Name => format!("{path}&name=token.minted&cursor={below}"),
            Page::Actor => format!("{path}&actor={}&cursor={below}", self.person),
            Page::Line => format!("{path}&credential={}&line=true", self.root),
            Page::Time => format!("{path}&until={}", until.to_rfc3339_opts(SecondsFormat::Micros, true)),
        }
    }

    /// The rows of the same page, by the shortest statement that gives them.
    async fn select(&self, page: Page, pool: &PgPool) -> Result<usize> {
        let Place { below, until } = self.place();
        let limit = i64::try_from(PAGE)?;
        let (newest, end) = (
            i64::MAX,
            "order by s.position desc limit $3) as page join event a using (position) order by position desc",
        );
        let columns = "select a.position, a.recorded_at, a.name, a.stream_id, a.workspace_id, a.actor_kind, a.actor_id, a.credential_id, a.request_id, a.payload from (";
        // One text for each page, so that each is prepared once.
        let rows = match page {
            Page::Newest => {
                let text = format!(
                    "{columns} select s.position from audit_scope s where s.scope_id = $1 and s.position < $2 {end}"
                );
                sqlx::query(sqlx::AssertSqlSafe(text))
                    .bind(self.person)
                    .bind(newest)
                    .bind(limit)
                    .fetch_all(pool)
                    .await?
            }
            Page::Name => {
                let text = format!(
                    "{columns} select s.position from audit_scope s where s.scope_id = $1 and s.name = $4 and s.position < $2 {end}"
                );
                sqlx::query(sqlx::AssertSqlSafe(text))
                    .bind(self.person)
                    .bind(below)
                    .bind(limit)
                    .bind("token.minted")
                    .fetch_all(pool)
                    .await?
            }
            Page::Actor => {
                let text = format!(
                    "{columns} select s.position from audit_scope s where s.scope_id = $1 and s.actor_id = $4 and s.position < $2 {end}"
                );
                sqlx::query(sqlx::AssertSqlSafe(text))
                    .bind(self.person)
                    .bind(below)
                    .bind(limit)
                    .bind(self.person)
                    .fetch_all(pool)
                    .await?
            }
            Page::Line => {
                let text = format!(
                    "{columns} select distinct s.position from audit_credential s where s.credential_id = any($1) and s.position < $2 {end}"
                );
                sqlx::query(sqlx::AssertSqlSafe(text))
                    .bind(&self.line)
                    .bind(newest)
                    .bind(limit)
                    .fetch_all(pool)
                    .await?
            }
            Page::Time => {
                let text = format!(
                    "{columns} select s.position from audit_scope s where s.scope_id = $1 and s.position <= (select l.position from event l where l.recorded_at < $2 order by l.recorded_at desc, l.position desc limit 1) {end}"
                );
                sqlx::query(sqlx::AssertSqlSafe(text))
                    .bind(self.person)
                    .bind(until)
                    .bind(limit)
                    .fetch_all(pool)
                    .await?
            }
        };
        // Read as far as a column that is large.
        for row in &rows {
            let _: serde_json::Value = row.try_get("payload")?;
        }
        Ok(rows.len())
    }
}

struct OverHttp {
    page: Page,
    question: Arc<Question>,
    url: String,
    server: u32,
}

struct Reader {
    page: Page,
    question: Arc<Question>,
    connection: Connection,
}

#[async_trait]
impl Caller for Reader {
    async fn call(&mut self) -> Result<u64> {
        let path = self.question.path(self.page);
        let answer = self.connection.get(&path, &self.question.bearer).await?.expect(200)?;
        // Counted without reading the page: that would be the generator's time, not the server's.
        let events = answer.body.matches("\"recorded_at\":").count();
        self.question.check(self.page, events)
    }
}

#[async_trait]
impl Side for OverHttp {
    fn name(&self) -> String {
        "tally".to_owned()
    }

    fn is_baseline(&self) -> bool {
        false
    }

    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample> {
        let mut readers = Vec::new();
        for _ in 0..CALLERS {
            let connection = Connection::open(&self.url).await?;
            readers.push(Reader { page: self.page, question: self.question.clone(), connection });
        }
        let meter = bench.measure(Meter::CalledFromHere { server: self.server })?;
        let (load, _) = drive(readers, length).await?;
        Ok(load.sample(meter.stop()?))
    }

    async fn finish(self: Box<Self>, _: &Bench) -> Result<()> {
        Ok(())
    }
}

struct Select {
    page: Page,
    question: Arc<Question>,
    pool: PgPool,
}

struct Selecter {
    page: Page,
    question: Arc<Question>,
    pool: PgPool,
}

#[async_trait]
impl Caller for Selecter {
    async fn call(&mut self) -> Result<u64> {
        let rows = self.question.select(self.page, &self.pool).await?;
        self.question.check(self.page, rows)
    }
}

#[async_trait]
impl Side for Select {
    fn name(&self) -> String {
        "bare SELECT".to_owned()
    }

    fn is_baseline(&self) -> bool {
        true
    }

    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample> {
        let caller =
            |_| Selecter { page: self.page, question: self.question.clone(), pool: self.pool.clone() };
        let callers = (0..CALLERS).map(caller).collect();
        let meter = bench.measure(Meter::InProcess)?;
        let (load, _) = drive(callers, length).await?;
        Ok(load.sample(meter.stop()?))
    }

    async fn finish(self: Box<Self>, _: &Bench) -> Result<()> {
        Ok(())
    }
}
