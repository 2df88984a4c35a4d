//! Replicas of one database that hear each other by NATS, each behind lines of its own to both.

use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use tally_tests::{
    Answer, Client, FakeClock, Line, NatsServer, Server, TempPostgres, client::answer, eventually, line,
};

use crate::{
    faults::{
        given,
        site::{CODE, Door, external_settings},
    },
    support::{BINARY, address},
};

/// Whoever waits for leases waits longer than this.
const FAST: Duration = Duration::from_millis(900);

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

/// Who goes by a clock that jumps.
#[derive(Default)]
pub struct Clocks {
    /// The first replica.
    pub replica: Option<FakeClock>,
    pub postgres: Option<FakeClock>,
}

impl Cluster {
    pub async fn start(count: u64, seed: u64, clocks: Clocks) -> Self {
        let nats = NatsServer::start(&[]).await;
        let postgres = match &clocks.postgres {
            Some(clock) => TempPostgres::start_by(clock).await,
            None => TempPostgres::start().await,
        };
        let options = postgres.database().await;
        let database = options.get_database().expect("it has a name").to_owned();
        // The first one migrates.
        let one = async |number: u64| {
            let seed = seed.wrapping_add(number << 32);
            let to_nats = Line::to(line::Server::Nats(nats.address()), seed).await;
            let to_postgres =
                Line::to(line::Server::Postgres(postgres.socket()), seed.wrapping_add(1 << 31)).await;
            let database = format!("postgres://tally@{}/{database}?sslmode=disable", to_postgres.address());
            let url = format!("nats://{}", to_nats.address());
            let mut settings: Vec<_> = external_settings(&database).into_iter().collect();
            settings.extend([
                ("NATS_URL", url.as_str()),
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

    pub fn doors(&self) -> Vec<Door> {
        self.replicas.iter().map(|replica| replica.door.clone()).collect()
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

/// Somebody new logs in, at once: their session.
pub async fn log_in(client: &Client) -> String {
    let email = address("racer");
    let sent = answer(client.post("/auth/send-code", &json!({ "email": email }))).await;
    assert_eq!(sent.status, 200, "{}", sent.text);
    let Answer { status, text, .. } =
        answer(client.post("/auth/verify-code", &json!({ "email": email, "code": CODE }))).await;
    assert_eq!(status, 200, "{text}");
    let body: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    body["token"].as_str().expect("a token").to_owned()
}
