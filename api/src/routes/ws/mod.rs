//! `/ws`: what happens in a workspace, as it happens.
//!
//! A browser shows its cookie with the handshake; whoever cannot sends the token in the first frame. The
//! socket is told of every event of the workspace, with what of it holds nothing personal, and it ends
//! at once when its credential, its person, the membership or the workspace does.

mod feed;
mod handshake;
mod places;

use std::time::Duration;

use axum::{
    extract::{
        State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, close_code, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, Uri},
    response::Response,
};
use serde_json::{Value, json};
use tally_domain::{
    Action, Membership, Principal, authorize_within, credential::Plaintext, policy::Act,
    workspace::WorkspaceRefusal,
};
use tally_events::WorkspaceId;
use tally_fanout::Presented;
use tally_projections::members::find_membership;
use tokio::time::timeout;

use crate::{
    client_address::ClientAddress,
    error::ApiError,
    guard::{Shown, check, present},
    in_workspace::refused,
    serve::Connection,
    state::App,
};
use handshake::Wanted;
pub use places::Places;
use places::{Place, SOCKETS_PER_PERSON_MAX};

/// Bytes of a frame, and of a message, at most.
const FRAME_BYTES_MAX: usize = 64 * 1024;
/// How long the first frame may take, where the handshake showed no credential.
const AUTH_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that takes nothing for so long is cut off.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Following what happens in a workspace, for policy.
#[derive(Clone, Copy, Debug)]
struct FollowWorkspace;

impl Act for FollowWorkspace {
    const ACTION: Action = Action::FollowWorkspace;
}

/// Follow what happens in a workspace
///
/// A WebSocket (RFC 6455). Without a credential in the handshake the first frame is
/// `{"type":"auth","payload":{"token":"…"}}`, within 10 seconds, and is answered `{"type":"auth_ack"}`.
#[utoipa::path(
    get,
    path = "/ws",
    params(
        ("workspace_id" = Option<String>, Query, description = "The workspace; or `X-Workspace-ID`"),
        ("workspace_slug" = Option<String>, Query, description = "The workspace, which wins; or `X-Workspace-Slug`")
    ),
    security((), ("bearer" = []), ("cookie" = [])),
    responses((status = 101, description = "The socket is open"), (status = 401), (status = 403), (status = 404), (status = 429))
)]
pub async fn open_socket(
    State(app): State<App>,
    connection: Connection,
    address: ClientAddress,
    headers: HeaderMap,
    uri: Uri,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    handshake::check_origin(&app, &headers)?;
    let wanted = Wanted::of(&headers, &uri)?;
    let seated = match handshake::credential(&uri, &headers)? {
        Some(shown) => Some(Seated::find(&app, &shown, &wanted, address).await?),
        None => None,
    };
    let upgrade = upgrade.map_err(|_| ApiError::bad_request("a WebSocket handshake is required"))?;
    let upgrade = upgrade.max_frame_size(FRAME_BYTES_MAX).max_message_size(FRAME_BYTES_MAX);
    Ok(upgrade.on_upgrade(async move |mut socket| {
        let seated = match seated {
            Some(seated) => seated,
            None => match authenticate(&app, &mut socket, &wanted, address).await {
                Ok(seated) => seated,
                Err(error) => return refuse(&mut socket, &error).await,
            },
        };
        let reason = feed::run(&app, &mut socket, seated.member, &connection).await;
        close(&mut socket, reason).await;
        drop((connection, seated.place));
    }))
}

/// A member, and the place their socket takes.
struct Seated {
    member: Member,
    place: Place,
}

impl Seated {
    async fn find(
        app: &App,
        shown: &Shown,
        wanted: &Wanted,
        address: ClientAddress,
    ) -> Result<Self, ApiError> {
        let member = Member::find(app, shown, wanted, address).await?;
        let place = app.sockets.take(member.membership.user).ok_or_else(|| {
            let words = format!("at most {SOCKETS_PER_PERSON_MAX} sockets for one person: close another");
            ApiError::too_many(words, Duration::from_secs(1))
        })?;
        Ok(Self { member, place })
    }
}

/// Whose socket it is.
#[derive(Clone, Copy)]
pub(super) struct Member {
    presented: Presented,
    principal: Principal,
    membership: Membership,
}

impl Member {
    async fn find(
        app: &App,
        shown: &Shown,
        wanted: &Wanted,
        ClientAddress(address): ClientAddress,
    ) -> Result<Self, ApiError> {
        let presented = present(app, &shown.credential)?;
        let principal = shown.admits(check(app, &presented).await?)?;
        // The one use of it: that it is asked again while the socket is open is not its owner's doing.
        app.usage.note(&principal, address);
        Self::of(app, presented, principal, wanted.find(app).await?).await
    }

    async fn of(
        app: &App,
        presented: Presented,
        principal: Principal,
        workspace: Option<WorkspaceId>,
    ) -> Result<Self, ApiError> {
        let found = match (workspace, principal.user()) {
            (Some(workspace), Some(user)) => find_membership(app.pool(), workspace, user).await?,
            (None, _) | (_, None) => None,
        };
        let membership = found.ok_or_else(|| refused(WorkspaceRefusal::NotFound))?;
        authorize_within(principal, membership, FollowWorkspace)?;
        Ok(Self { presented, principal, membership })
    }

    /// The same member as of now: asked when anything of them may have changed. None: it has ended, or
    /// that cannot be known.
    async fn now(&self, app: &App) -> Option<Self> {
        let principal = check(app, &self.presented).await.ok()?;
        Self::of(app, self.presented, principal, Some(self.membership.workspace)).await.ok()
    }
}

/// The first frame.
async fn authenticate(
    app: &App,
    socket: &mut WebSocket,
    wanted: &Wanted,
    address: ClientAddress,
) -> Result<Seated, ApiError> {
    let first = timeout(AUTH_TIMEOUT, first_text(socket)).await.ok().flatten();
    let token = first.as_deref().and_then(token_of).ok_or_else(ApiError::missing_authorization)?;
    let seated = Seated::find(app, &Shown::bearer(token), wanted, address).await?;
    send(socket, json!({ "type": "auth_ack" })).await.ok_or_else(ApiError::unavailable)?;
    Ok(seated)
}

async fn first_text(socket: &mut WebSocket) -> Option<String> {
    loop {
        match socket.recv().await?.ok()? {
            Message::Text(text) => return Some(text.as_str().to_owned()),
            // The library answers pings by itself.
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Binary(_) | Message::Close(_) => return None,
        }
    }
}

fn token_of(text: &str) -> Option<Plaintext> {
    let frame: Value = serde_json::from_str(text).ok()?;
    (frame["type"] == "auth").then_some(())?;
    frame["payload"]["token"].as_str().map(Plaintext::new)
}

/// None: the client takes nothing, or is gone.
async fn send(socket: &mut WebSocket, frame: Value) -> Option<()> {
    let sent = socket.send(Message::Text(frame.to_string().into()));
    timeout(SEND_TIMEOUT, sent).await.ok()?.ok()
}

async fn refuse(socket: &mut WebSocket, error: &ApiError) {
    if send(socket, json!({ "error": error.message })).await.is_some() {
        close(socket, Reason::Refused).await;
    }
}

/// Why a socket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The first frame showed nothing good.
    Refused,
    /// What it rests on has ended.
    Ended,
    /// The client takes nothing.
    Slow,
    /// There is something that it was not told, and will not be.
    Missed,
    /// The client is gone.
    Gone,
    /// The server stops.
    Stopping,
}

async fn close(socket: &mut WebSocket, reason: Reason) {
    let (code, words) = match reason {
        Reason::Gone => return,
        Reason::Refused => (close_code::POLICY, "not authenticated"),
        Reason::Ended => (close_code::POLICY, "the credential or the membership has ended"),
        Reason::Slow => (close_code::AGAIN, "too slow: connect again and read what was missed"),
        Reason::Missed => (close_code::AGAIN, "connect again and read what was missed"),
        Reason::Stopping => (close_code::AWAY, "the server stops"),
    };
    let frame = CloseFrame { code, reason: words.into() };
    // Whoever is gone need not be told.
    drop(timeout(SEND_TIMEOUT, socket.send(Message::Close(Some(frame)))).await);
}
