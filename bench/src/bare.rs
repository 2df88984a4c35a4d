//! What HTTP costs by itself: an axum handler on the same hyper, a process of its own, that gives
//! the same bytes as the product and does nothing else; or that and one statement; or that and one
//! durable row.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Command, Stdio},
    sync::Arc,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header::AUTHORIZATION},
    response::Response,
};
use clap::Args;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection, PgPool, postgres::PgConnectOptions};
use tally_tests::{Scratch, scratch::Guarded};
use tokio::net::TcpListener;
use tower::ServiceExt;

use crate::{
    Result,
    bench::{self, Bench},
    http::Answer,
    verify,
};

/// What the handler does before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Before {
    Nothing,
    /// Looks the bearer's hash up, as the product does for one it has not seen.
    Select,
    /// For a POST: commits one small row.
    Commit,
}

#[derive(Args, Clone, Debug)]
pub struct Bare {
    /// What to answer, as JSON
    #[arg(long)]
    answer: String,
    #[arg(long, value_enum)]
    before: Before,
    /// Needed for a statement
    #[arg(long)]
    database: Option<String>,
}

/// What is answered, each time.
#[derive(Clone, Serialize, Deserialize)]
struct Fixed {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

struct Handler {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: String,
    before: Before,
    pool: Option<PgPool>,
}

/// Serves until the process is told to end. The first line on standard output is the address.
pub async fn serve(bare: Bare) -> Result<()> {
    let fixed: Fixed = serde_json::from_str(&bare.answer)?;
    let headers = fixed.headers.iter().map(|(name, value)| Ok((name.parse()?, value.parse()?)));
    let pool = match &bare.database {
        Some(url) => Some(bench::pool(&url.parse::<PgConnectOptions>()?).await?),
        None => None,
    };
    let handler = Handler {
        status: StatusCode::from_u16(fixed.status)?,
        headers: headers.collect::<Result<_>>()?,
        body: fixed.body,
        before: bare.before,
        pool,
    };
    let router = Router::new().fallback(answer).with_state(Arc::new(handler));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let router = router.clone();
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            router.clone().oneshot(request.map(Body::new))
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new());
        tokio::spawn(async move {
            // wrk hangs up in the middle when its time is over.
            drop(http.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn answer(State(handler): State<Arc<Handler>>, method: Method, headers: HeaderMap) -> Response {
    let status = match handler.act(&method, &headers).await {
        Ok(()) => handler.status,
        Err(error) => {
            eprintln!("error: {error}");
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    let mut response = Response::new(Body::from(handler.body.clone()));
    *response.status_mut() = status;
    response.headers_mut().extend(handler.headers.iter().cloned());
    response
}

impl Handler {
    async fn act(&self, method: &Method, headers: &HeaderMap) -> Result<()> {
        match (self.before, &self.pool) {
            (Before::Nothing, _) => Ok(()),
            (Before::Select, Some(pool)) => {
                let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
                let bearer = bearer.and_then(|value| value.strip_prefix("Bearer ")).ok_or("no bearer")?;
                let found = verify::select(pool, &Sha256::digest(bearer.as_bytes()).into()).await?;
                if found { Ok(()) } else { Err("the credential is not there".into()) }
            }
            (Before::Commit, Some(pool)) => {
                if method == Method::POST {
                    sqlx::query("insert into bare_commit default values").execute(pool).await?;
                }
                Ok(())
            }
            (_, None) => Err("a statement needs a database".into()),
        }
    }
}

/// The handler, running.
pub struct Process {
    url: String,
    process: Guarded,
    // After the process in the order of dropping: its guard ends the process.
    _scratch: Scratch,
}

impl Process {
    /// Starts this very program as the handler, to answer as the product did.
    pub fn start(like: &Answer, before: Before, database: Option<&str>) -> Result<Self> {
        let fixed = Fixed { status: like.status, headers: like.headers(), body: like.body.clone() };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bare", "--answer", &serde_json::to_string(&fixed)?, "--before"]);
        command.arg(format!("{before:?}").to_lowercase());
        if let Some(database) = database {
            command.args(["--database", database]);
        }
        let scratch = Scratch::new();
        let (reader, writer) = std::io::pipe()?;
        let process = scratch.spawn(command.stdin(Stdio::null()).stdout(writer))?;
        drop(command);
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line)?;
        let address: SocketAddr = line.trim().parse().map_err(|_| "the bare handler did not start")?;
        Ok(Self { url: format!("http://{address}"), process, _scratch: scratch })
    }

    /// Starts it with a database of its own, in which it commits a row of `bare_commit` for each POST.
    pub async fn committing(bench: &Bench, like: &Answer) -> Result<(Self, PgConnectOptions)> {
        let database = bench.database().await?;
        let mut connection = PgConnection::connect_with(&database).await?;
        sqlx::query("create table bare_commit (id bigint generated always as identity primary key, at timestamptz not null default now())")
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        Ok((Self::start(like, Before::Commit, Some(&bench.url(&database)))?, database))
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }
}
