//! `sessions`: who is logged in. Inline: every request by session reads it.

use async_trait::async_trait;
use sqlx::PgConnection;
use tally_events::{Event, Recorded, session::SessionMethod};
use tally_store::Projection;

use crate::users::sealed;

pub struct Sessions;

#[async_trait]
impl Projection for Sessions {
    fn name(&self) -> &'static str {
        "sessions"
    }

    fn version(&self) -> i32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["sessions"]
    }

    async fn apply(&self, connection: &mut PgConnection, events: &[Recorded]) -> Result<(), sqlx::Error> {
        let mut started = Started::default();
        let (mut ended, mut ended_at) = (Vec::new(), Vec::new());
        for recorded in events {
            match &recorded.event {
                Event::SessionStarted(event) => {
                    started.ids.push(recorded.stream.uuid());
                    started.users.push(event.user_id.0);
                    started.methods.push(method(event.method).to_owned());
                    started.minted_by.push(event.minted_by.map(tally_events::CredentialId::uuid));
                    started.started_at.push(recorded.recorded_at);
                    started.expires_at.push(event.expires_at);
                    started.addresses.push(event.address.as_ref().and_then(sealed));
                    started.user_agents.push(event.user_agent.as_ref().and_then(sealed));
                    started.positions.push(recorded.position.0);
                }
                Event::SessionEnded(_) => {
                    ended.push(recorded.stream.uuid());
                    ended_at.push(recorded.recorded_at);
                }
                Event::UserRegistered(_)
                | Event::UserProfileChanged(_)
                | Event::UserSuspended(_)
                | Event::UserReinstated(_)
                | Event::LoginCodeIssued(_)
                | Event::LoginCodeRefused(_)
                | Event::LoginCodeVerified(_)
                | Event::TokenMinted(_)
                | Event::TokenRenewed(_)
                | Event::TokenRevoked(_) => {}
            }
        }
        // A session ends after it started and ends once, so all starts may come before all ends.
        if !started.ids.is_empty() {
            started.insert(connection).await?;
        }
        if !ended.is_empty() {
            sqlx::query!(
                r#"update sessions s set ended_at = e.at
                     from unnest($1::uuid[], $2::timestamptz[]) as e(id, at) where s.id = e.id"#,
                &ended,
                &ended_at,
            )
            .execute(connection)
            .await?;
        }
        Ok(())
    }
}

const fn method(method: SessionMethod) -> &'static str {
    match method {
        SessionMethod::EmailCode => "email_code",
        SessionMethod::CommandLine => "command_line",
    }
}

#[derive(Default)]
struct Started {
    ids: Vec<uuid::Uuid>,
    users: Vec<uuid::Uuid>,
    methods: Vec<String>,
    minted_by: Vec<Option<uuid::Uuid>>,
    started_at: Vec<chrono::DateTime<chrono::Utc>>,
    expires_at: Vec<chrono::DateTime<chrono::Utc>>,
    addresses: Vec<Option<String>>,
    user_agents: Vec<Option<String>>,
    positions: Vec<i64>,
}

impl Started {
    async fn insert(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query!(
            r#"insert into sessions (id, user_id, method, minted_by, started_at, expires_at, address, user_agent, position)
               select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::timestamptz[],
                                    $6::timestamptz[], $7::text[], $8::text[], $9::bigint[])"#,
            &self.ids,
            &self.users,
            &self.methods,
            &self.minted_by as &[Option<uuid::Uuid>],
            &self.started_at,
            &self.expires_at,
            &self.addresses as &[Option<String>],
            &self.user_agents as &[Option<String>],
            &self.positions,
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}
