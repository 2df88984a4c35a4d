//! A server under test and its database, embedded or beside it.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tally_tests::{Client, Scratch, Server, TempPostgres, eventually};
use uuid::Uuid;

use super::{REQUEST_TIMEOUT, SLACK};
use crate::support::{BINARY, database};

/// The code that always fits, so that no login has to read the server's log.
pub const CODE: &str = "424242";
const MASTER_KEY: &str = "6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d";
const SECRET: &str = "a secret of more than thirty-two characters";

pub struct Site {
    pub server: Server,
    pub postgres: Option<TempPostgres>,
    options: PgConnectOptions,
    door: Door,
}

/// Where the server is at the moment: it moves when it is started again.
#[derive(Clone)]
pub struct Door(Arc<Mutex<Client>>);

impl Door {
    pub fn new(client: Client) -> Self {
        Self(Arc::new(Mutex::new(client)))
    }

    pub fn client(&self) -> Client {
        self.0.lock().unwrap().clone()
    }

    /// It has moved.
    pub fn lead_to(&self, client: Client) {
        *self.0.lock().unwrap() = client;
    }
}

/// The settings of a server beside a database.
pub fn external_settings(url: &str) -> [(&str, &str); 6] {
    [
        ("DATABASE_URL", url),
        ("APP_ENV", "test"),
        ("TALLY_BIND", "127.0.0.1"),
        ("JWT_SECRET", SECRET),
        ("TALLY_MASTER_KEY", MASTER_KEY),
        ("MULTICA_DEV_VERIFICATION_CODE", CODE),
    ]
}

impl Site {
    pub async fn embedded() -> Self {
        Self::embedded_in(Scratch::new()).await
    }

    pub async fn embedded_in(scratch: Scratch) -> Self {
        let server = Server::start_in(scratch, BINARY, &[("MULTICA_DEV_VERIFICATION_CODE", CODE)]).await;
        let (options, door) = (database(&server), Door::new(server.client()));
        Self { server, postgres: None, options, door }
    }

    pub async fn external() -> Self {
        Self::beside(TempPostgres::start().await, &[]).await
    }

    /// A server with `settings` beside a database.
    pub async fn beside(postgres: TempPostgres, settings: &[(&str, &str)]) -> Self {
        let options = postgres.database().await;
        let url = postgres.url(&options);
        let all: Vec<_> = external_settings(&url).into_iter().chain(settings.iter().copied()).collect();
        let server = Server::start(BINARY, &all).await;
        let door = Door::new(server.client());
        Self { server, postgres: Some(postgres), options, door }
    }

    pub fn door(&self) -> Door {
        self.door.clone()
    }

    pub fn client(&self) -> Client {
        self.door.client()
    }

    /// A connection to the database, as soon as it answers.
    pub async fn connect(&self) -> PgConnection {
        eventually("the database to answer", async || PgConnection::connect_with(&self.options).await.ok())
            .await
    }

    pub const fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    pub fn kill_server(&mut self) {
        self.server.process().signal(Signal::KILL);
        self.server.process().wait();
    }

    /// Kills the first process of the database. One beside the server has lost all its others too
    /// when this returns, so that it can be started again.
    pub async fn kill_postmaster(&mut self) {
        match &mut self.postgres {
            Some(postgres) => postgres.crash().await,
            None => kill_process(self.own_postmaster(), Signal::KILL).expect("it runs"),
        }
    }

    /// Kills both before either can have noticed the other's end.
    pub async fn kill_both(&mut self) {
        if self.postgres.is_some() {
            self.server.process().signal(Signal::KILL);
            self.kill_postmaster().await;
        } else {
            let postmaster = self.own_postmaster();
            self.server.process().signal(Signal::KILL);
            kill_process(postmaster, Signal::KILL).expect("it runs");
        }
        self.server.process().wait();
    }

    fn own_postmaster(&self) -> Pid {
        let file = self.server.data_dir().join("postgres/postmaster.pid");
        let text = std::fs::read_to_string(file).expect("a postmaster runs");
        let id = text.lines().next().and_then(|line| line.trim().parse().ok());
        id.and_then(Pid::from_raw).expect("an id")
    }

    /// Starts again what ended: the database, unless the server looks after it, and the server.
    pub async fn start_again(&mut self) {
        if let Some(postgres) = &mut self.postgres
            && !postgres.process().is_running()
        {
            postgres.restart().await;
        }
        if !self.server.process().is_running() {
            self.server.restart().await;
            self.door.lead_to(self.server.client());
        }
    }

    /// Waits until a command succeeds, a write that needs no earlier one; how long that took.
    pub async fn back(&self) -> Duration {
        let began = Instant::now();
        eventually("a command to succeed again", async || {
            // Each time somebody else: an attempt without an answer may have acted, and codes are few.
            let body = json!({ "email": format!("after-{}@example.org", Uuid::now_v7().simple()) });
            let request = self.client().request(Method::POST, "/auth/send-code").json(&body);
            let answer = request.timeout(REQUEST_TIMEOUT + SLACK).send().await.ok()?;
            (answer.status() == 200).then_some(())
        })
        .await;
        began.elapsed()
    }

    /// What the server process holds at the moment.
    pub fn held(&mut self) -> Held {
        Held::of(self.server.process().id())
    }
}

impl Drop for Site {
    /// Whoever reads a failure wants to know what the server said last.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.server.log();
            let said: Vec<&str> =
                log.lines().rev().filter(|line| !line.contains("\"request\"")).take(40).collect();
            eprintln!("the server's last words:");
            said.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// What a process holds: what must not pile up.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub resident_kib: u64,
    pub descriptors: usize,
}

impl Held {
    /// Of each the larger.
    pub fn most(self, other: Self) -> Self {
        Self {
            resident_kib: self.resident_kib.max(other.resident_kib),
            descriptors: self.descriptors.max(other.descriptors),
        }
    }

    fn of(process: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells");
        let resident_kib = resident.trim().trim_end_matches(" kB").parse().expect("a number");
        let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).expect("it runs").count();
        Self { resident_kib, descriptors }
    }
}
