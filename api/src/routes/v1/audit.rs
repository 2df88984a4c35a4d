//! `GET /v1/audit`: who did what, when, with which credential. Newest first.
//!
//! A caller sees what concerns them. The page is found by one index: at most one of the filters
//! beside the range, and no scan is ever possible.

use axum::{
    Json,
    extract::{RawQuery, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use tally_domain::authorize;
use tally_events::{Event, Position, WorkspaceId};
use tally_projections::audit_log::{
    AuditEntry, AuditFilter, PAGE_MAX, ReadAuditTrail, ReadWorkspaceAuditTrail, read_audit_trail,
    read_workspace_audit_trail,
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    error::ApiError, freshness::MinPosition, guard::Caller, in_workspace::InWorkspace, routes::LOG_POSITION,
    state::App,
};

const PAGE_DEFAULT: i64 = 50;
/// What a query string may name.
const PARAMETERS: [&str; 12] = [
    "actor",
    "credential",
    "line",
    "workspace",
    "name",
    "subject",
    "since",
    "until",
    "from_position",
    "to_position",
    "limit",
    "cursor",
];

#[derive(Serialize, ToSchema)]
struct AuditPage {
    events: Vec<AuditEvent>,
    /// Where the next, older page begins; none on the last.
    next_cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct AuditEvent {
    #[schema(value_type = i64)]
    position: Position,
    recorded_at: DateTime<Utc>,
    name: &'static str,
    stream: AuditStream,
    actor: AuditActor,
    credential_id: Option<Uuid>,
    workspace_id: Option<Uuid>,
    subject_id: Option<Uuid>,
    request_id: Option<Uuid>,
    /// What the event says, by its name.
    #[schema(value_type = Object)]
    data: Map<String, Value>,
}

#[derive(Serialize, ToSchema)]
struct AuditStream {
    kind: &'static str,
    id: Uuid,
}

#[derive(Serialize, ToSchema)]
struct AuditActor {
    kind: &'static str,
    id: Option<Uuid>,
}

impl From<AuditEntry> for AuditEvent {
    fn from(entry: AuditEntry) -> Self {
        Self {
            position: entry.position,
            recorded_at: entry.recorded_at,
            name: entry.name,
            stream: AuditStream { kind: entry.stream_kind, id: entry.stream_id },
            actor: AuditActor { kind: entry.actor_kind, id: entry.actor_id },
            credential_id: entry.credential_id,
            workspace_id: entry.workspace_id,
            subject_id: entry.subject_id,
            request_id: entry.request_id,
            data: entry.data,
        }
    }
}

/// Read the audit trail, newest first
///
/// A caller sees what concerns them. At most one of `name`, `actor`, `subject` and `credential` can be
/// given, beside the range: each has its index, combinations have none.
#[utoipa::path(
    get,
    path = "/v1/audit",
    params(
        ("actor" = Option<Uuid>, Query, description = "Who did it"),
        ("credential" = Option<Uuid>, Query, description = "What it was done with, or to"),
        ("line" = Option<bool>, Query, description = "With `credential`: and every one below it in its line"),
        ("workspace" = Option<Uuid>, Query, description = "Where"),
        ("name" = Option<String>, Query, description = "The event's name, such as `token.revoked`"),
        ("subject" = Option<Uuid>, Query, description = "To whom"),
        ("since" = Option<DateTime<Utc>>, Query, description = "From this moment on"),
        ("until" = Option<DateTime<Utc>>, Query, description = "Up to this moment"),
        ("from_position" = Option<i64>, Query, minimum = 0, description = "From this position on"),
        ("to_position" = Option<i64>, Query, minimum = 0, description = "Up to this position"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 200, description = "Events on a page; 50 if not given"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
        MinPosition
    ),
    responses(
        (status = 200, description = "A page of events", body = AuditPage, headers(("X-Log-Position"))),
        (status = 404)
    )
)]
pub async fn read_audit(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let parameters = Parameters::parse(query.as_deref().unwrap_or_default())?;
    let workspace = parameters.id("workspace")?.map(WorkspaceId);
    let trail = parameters.trail(&app).await?;
    let limit = trail.limit;
    let (checkpoint, entries) = match workspace {
        None => {
            let query = authorize(caller.principal, trail)?;
            let checkpoint = app.freshness.wait(app.pool(), &headers, "audit_log").await?;
            (checkpoint, read_audit_trail(app.pool(), app.keys(), &query).await?)
        }
        Some(workspace) => {
            let member = InWorkspace::of(&app, caller, workspace).await?;
            let query = member.may(ReadWorkspaceAuditTrail(trail))?;
            let checkpoint = app.freshness.wait(app.pool(), &headers, "audit_log").await?;
            (checkpoint, read_workspace_audit_trail(app.pool(), app.keys(), &query).await?)
        }
    };
    let full = i64::try_from(entries.len()).is_ok_and(|count| count == limit);
    let next_cursor = entries.last().filter(|_| full).map(|last| last.position.to_string());
    let page = AuditPage { events: entries.into_iter().map(AuditEvent::from).collect(), next_cursor };
    Ok(([(LOG_POSITION, checkpoint.0)], Json(page)).into_response())
}

/// A query string, each name at most once.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn parse(query: &str) -> Result<Self, ApiError> {
        let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        for (index, (name, _)) in pairs.iter().enumerate() {
            if !PARAMETERS.contains(&name.as_str()) {
                return Err(ApiError::bad_request(format!(
                    "unknown parameter `{}`: known are {}",
                    name.chars().filter(|c| !c.is_control()).take(40).collect::<String>(),
                    PARAMETERS.join(", ")
                )));
            }
            if pairs[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(ApiError::bad_request(format!("`{name}` is given twice")));
            }
        }
        Ok(Self(pairs))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn id(&self, name: &'static str) -> Result<Option<Uuid>, ApiError> {
        let parse = |text: &str| text.parse::<tally_events::RequestId>().map(Uuid::from);
        self.get(name)
            .map(parse)
            .transpose()
            .map_err(|_| ApiError::bad_request(format!("invalid {name}: not a UUID")))
    }

    fn time(&self, name: &'static str) -> Result<Option<DateTime<Utc>>, ApiError> {
        let parse = |text: &str| DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
        self.get(name).map(parse).transpose().map_err(|_| {
            ApiError::bad_request(format!(
                "invalid {name}: not an RFC 3339 time such as 2026-01-31T12:00:00Z"
            ))
        })
    }

    fn position(&self, name: &'static str) -> Result<Option<Position>, ApiError> {
        let number = self.get(name).map(|text| text.parse::<i64>().ok().filter(|number| *number >= 0));
        match number {
            None => Ok(None),
            Some(Some(number)) => Ok(Some(Position(number))),
            Some(None) => Err(ApiError::bad_request(format!("invalid {name}: not a log position"))),
        }
    }

    fn filter(&self) -> Result<AuditFilter, ApiError> {
        let line = match self.get("line") {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(ApiError::bad_request("line must be true or false")),
        };
        let credential = self.id("credential")?;
        if line && credential.is_none() {
            return Err(ApiError::bad_request("line needs a credential"));
        }
        let name = self.get("name").map(str::to_owned);
        if let Some(name) = &name
            && !Event::names().any(|(known, _)| known == name)
        {
            let known: Vec<&str> = Event::names().map(|(known, _)| known).collect();
            return Err(ApiError::bad_request(format!("unknown event name: known are {}", known.join(", "))));
        }
        let given = [
            name.map(AuditFilter::Name),
            self.id("actor")?.map(AuditFilter::Actor),
            self.id("subject")?.map(AuditFilter::Subject),
            credential.map(if line { AuditFilter::Line } else { AuditFilter::Credential }),
        ];
        let mut given = given.into_iter().flatten();
        let filter = given.next().unwrap_or_default();
        if given.next().is_some() {
            return Err(ApiError::bad_request(
                "only one of name, actor, subject and credential can be given: each has its index, combinations have none",
            ));
        }
        Ok(filter)
    }

    async fn trail(&self, app: &App) -> Result<ReadAuditTrail, ApiError> {
        let limit = match self.get("limit").map(str::parse::<i64>) {
            None => PAGE_DEFAULT,
            Some(Ok(limit)) if (1..=PAGE_MAX).contains(&limit) => limit,
            Some(_) => return Err(ApiError::bad_request(format!("limit must be between 1 and {PAGE_MAX}"))),
        };
        let (mut from, mut to) = (
            self.position("from_position")?.unwrap_or_default(),
            self.position("to_position")?.unwrap_or(Position(i64::MAX - 1)),
        );
        // Time never runs backwards along the log, so a range of times is a range of positions.
        if let Some(since) = self.time("since")? {
            from = from.max(tally_store::position_at_time(app.pool(), since).await?.next());
        }
        if let Some(until) = self.time("until")? {
            to = to.min(tally_store::position_at_time(app.pool(), until).await?);
        }
        Ok(ReadAuditTrail { filter: self.filter()?, below: self.position("cursor")?, from, to, limit })
    }
}

#[cfg(test)]
mod tests {
    use utoipa::{
        Path,
        openapi::{RefOr, path::ParameterIn},
    };

    use super::*;

    #[test]
    fn the_document_tells_of_every_parameter() {
        let told = __path_read_audit::operation().parameters.expect("parameters");
        let queries = told.iter().filter_map(|parameter| match parameter {
            RefOr::T(own) if own.parameter_in == ParameterIn::Query => Some(own.name.as_str()),
            _ => None,
        });
        assert_eq!(queries.collect::<Vec<_>>(), PARAMETERS);
    }
}
