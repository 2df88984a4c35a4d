//! `sessions`: who is logged in. Inline: every request by session reads it.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tally_events::{
    CredentialId, Event, Recorded, SessionEvent,
    session::{SessionMethod, SessionStarted},
};
use tally_store::Projection;

use crate::{by_id::ById, rows::Rows};

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

    fn keys(&self) -> &'static [&'static str] {
        &["sessions_pkey"]
    }

    async fn apply(&self, connection: &mut PgConnection, events: &[Recorded]) -> Result<(), sqlx::Error> {
        let mut sessions = ById::<Session>::new();
        for recorded in events {
            let id = recorded.stream.uuid();
            let Event::Session(event) = &recorded.event else { continue };
            match event {
                SessionEvent::Started(event) => sessions.create(id).started = Some((event, recorded)),
                SessionEvent::Ended(_) => sessions.change(id).ended_at = Some(recorded.recorded_at),
            }
        }
        let mut started = Rows::new(
            "copy sessions (id, user_id, method, minted_by, started_at, expires_at, ended_at, address, user_agent,
                            position) from stdin (format binary)",
        );
        let (mut ended, mut ended_at) = (Vec::new(), Vec::new());
        for (id, session) in sessions.into_rows() {
            if let Some((event, recorded)) = session.started {
                started.push(&[
                    &id,
                    &event.user_id.0,
                    &method(event.method),
                    &event.minted_by.map(CredentialId::uuid),
                    &recorded.recorded_at,
                    &event.expires_at,
                    &session.ended_at,
                    &event.address,
                    &event.user_agent,
                    &recorded.position,
                ]);
            } else {
                ended.push(id);
                ended_at.push(session.ended_at);
            }
        }
        started.append(connection).await?;
        if !ended.is_empty() {
            sqlx::query!(
                r#"update sessions s set ended_at = e.at
                     from unnest($1::uuid[], $2::timestamptz[]) as e(id, at) where s.id = e.id"#,
                &ended,
                &ended_at as &[Option<DateTime<Utc>>],
            )
            .execute(connection)
            .await?;
        }
        Ok(())
    }
}

/// What a run of events says of one session.
#[derive(Default)]
struct Session<'a> {
    started: Option<(&'a SessionStarted, &'a Recorded)>,
    ended_at: Option<DateTime<Utc>>,
}

const fn method(method: SessionMethod) -> &'static str {
    match method {
        SessionMethod::EmailCode => "email_code",
        SessionMethod::CommandLine => "command_line",
        SessionMethod::Identity => "identity",
    }
}
