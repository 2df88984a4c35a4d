//! Replicas of one database that hear each other by NATS, each behind lines of its own to both.

use std::{
    ffi::OsString,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use tally_tests::{
    Client, FakeClock, Line, NatsServer, Server, TempPostgres, client::answer, eventually, line,
};
use tokio::{process::Command, time::timeout};

use super::subject::{Host, open_workspace, text};
use crate::{
    faults::{
        given,
        site::{CODE, Door, external_settings},
    },
    support::{BINARY, address, expect},
};

/// Δ of replicas, in turns: nothing is answered from memory for longer after the database was last heard.
const LEASES: [Duration; 3] = [Duration::from_secs(1), Duration::from_millis(1500), Duration::from_secs(2)];
/// Whoever waits for leases waits longer than this.
const FAST: Duration = Duration::from_millis(900);
/// The operator gives up a command after this.
const OPERATOR_TIMEOUT: Duration = Duration::from_secs(8);

/// Δ of the replica with this number: not everybody was told the same.
pub fn lease_of(replica: usize) -> Duration {
    LEASES[replica % LEASES.len()]
}

pub struct Cluster {
    pub replicas: Vec<Replica>,
    pub nats: NatsServer,
    pub postgres: TempPostgres,
    pub clocks: Clocks,
}

pub struct Replica {
    pub server: Server,
    pub door: Door,
    pub nats: Line,
    pub postgres: Line,
}

/// Who commands at one replica: its binary, with its settings.
#[derive(Clone)]
pub struct Operator(Arc<(OsString, Vec<(OsString, OsString)>)>);

/// Who goes by a clock that jumps.
#[derive(Default)]
pub struct Clocks {
    /// The first replica.
    pub replica: Option<FakeClock>,
    pub postgres: Option<FakeClock>,
}

impl Cluster {
    pub async fn start(count: usize, seed: u64, clocks: Clocks) -> Self {
        let nats = NatsServer::start(&[]).await;
        let postgres = match &clocks.postgres {
            Some(clock) => TempPostgres::start_by(clock).await,
            None => TempPostgres::start().await,
        };
        let options = postgres.database().await;
        let database = options.get_database().expect("it has a name").to_owned();
        // The first one migrates.
        let one = async |number: usize| {
            let seed = seed.wrapping_add((number as u64) << 32);
            let to_nats = Line::to(line::Server::Nats(nats.address()), seed).await;
            let to_postgres =
                Line::to(line::Server::Postgres(postgres.socket()), seed.wrapping_add(1 << 31)).await;
            let database = format!("postgres://tally@{}/{database}?sslmode=disable", to_postgres.address());
            let url = format!("nats://{}", to_nats.address());
            let lease_ms = lease_of(number).as_millis().to_string();
            let mut settings: Vec<_> = external_settings(&database).into_iter().collect();
            settings.extend([
                ("NATS_URL", url.as_str()),
                ("TALLY_LEASE_MS", lease_ms.as_str()),
                ("DATABASE_MAX_CONNS", "8"),
                ("DATABASE_MIN_CONNS", "0"),
            ]);
            settings.extend(clocks.replica.iter().filter(|_| number == 0).flat_map(FakeClock::settings));
            let binary = given("TALLY_FAULT_SERVER").unwrap_or_else(|| BINARY.to_owned());
            let server = Server::start(&binary, &settings).await;
            let door = Door::new(server.client());
            Replica { server, door, nats: to_nats, postgres: to_postgres }
        };
        let mut replicas = vec![one(0).await];
        replicas.extend(join_all((1..count).map(one)).await);
        Self { replicas, nats, postgres, clocks }
    }

    pub fn doors(&self) -> Vec<(Door, Operator)> {
        let operator = |replica: &Replica| Operator::of(&replica.server);
        self.replicas.iter().map(|replica| (replica.door.clone(), operator(replica))).collect()
    }

    /// Waits until a revocation no longer waits for leases: everybody hears everybody.
    pub async fn is_fast(&self, session: &str) -> Duration {
        let began = Instant::now();
        for replica in &self.replicas {
            let client = replica.door.client();
            eventually("revocations to be fast", async || {
                let (id, _) = client.mint(session, "fast").await;
                let request =
                    client.request(Method::DELETE, &format!("/api/tokens/{id}")).bearer_auth(session);
                let asked = Instant::now();
                assert_eq!(answer(request).await.status, 204);
                (asked.elapsed() < FAST).then_some(())
            })
            .await;
        }
        began.elapsed()
    }
}

impl Replica {
    /// Starts it again after it ended.
    pub async fn restart(&mut self) {
        self.server.restart().await;
        self.door.lead_to(self.server.client());
    }
}

impl Operator {
    fn of(server: &Server) -> Self {
        let command = server.command(&[]);
        let settings = command.get_envs().filter_map(|(name, value)| Some((name.into(), value?.into())));
        Self(Arc::new((command.get_program().into(), settings.collect())))
    }

    /// Closes an account; whether the command said that no credential of it works any more.
    pub async fn suspends(&self, user: &str) -> bool {
        let (binary, settings) = &*self.0;
        let mut command = Command::new(binary);
        command.env_clear().envs(settings.iter().cloned()).args(["user", "suspend", user]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        matches!(timeout(OPERATOR_TIMEOUT, command.status()).await, Ok(Ok(status)) if status.success())
    }
}

/// Somebody new logs in, at once: their session.
pub async fn log_in(client: &Client) -> String {
    let email = address("racer");
    expect(200, client.post("/auth/send-code", &json!({ "email": email }))).await;
    let login = client.post("/auth/verify-code", &json!({ "email": email, "code": CODE }));
    text(&expect(200, login).await.json(), "token")
}

/// Somebody new, with a workspace.
pub async fn settle(client: &Client) -> Host {
    let session = log_in(client).await;
    let open = client.post("/api/workspaces", &open_workspace()).bearer_auth(&session);
    let home = text(&expect(201, open).await.json(), "id");
    let share = client.post(&format!("/api/workspaces/{home}/share-links"), &json!({}));
    let link = text(&expect(201, share.bearer_auth(&session)).await.json(), "code");
    Host { session, home, link }
}
