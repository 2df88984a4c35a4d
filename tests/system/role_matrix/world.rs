//! A world of one cell: a workspace, its owner, and somebody who asks.

use reqwest::Method;
use tally_tests::{Client, Login, Server};
use tokio::sync::OnceCell;

use crate::support::{
    delete, expect, person,
    team::{Team, email, team},
};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Nobody,
    /// Somebody who has nothing to do with the workspace; if anybody is invited, it is they.
    Stranger,
    Member,
    Admin,
    Owner,
    /// The owner, by a personal access token in place of the session.
    OwnerByToken,
    // Owners too, once.
    EndedSession,
    RevokedToken,
    SuspendedUser,
}

impl Role {
    pub const ALL: [Self; 9] = [
        Self::Nobody,
        Self::Stranger,
        Self::Member,
        Self::Admin,
        Self::Owner,
        Self::OwnerByToken,
        Self::EndedSession,
        Self::RevokedToken,
        Self::SuspendedUser,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Stranger => "stranger",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
            Self::OwnerByToken => "owner by token",
            Self::EndedSession => "ended session",
            Self::RevokedToken => "revoked token",
            Self::SuspendedUser => "suspended user",
        }
    }

    /// As what the caller comes into the workspace, if they are not the one who made it.
    const fn joins_as(self) -> Option<&'static str> {
        match self {
            Self::Nobody | Self::Stranger | Self::Owner | Self::OwnerByToken => None,
            Self::Member => Some("member"),
            Self::Admin => Some("admin"),
            Self::EndedSession | Self::RevokedToken | Self::SuspendedUser => Some("owner"),
        }
    }
}

pub struct World {
    pub client: Client,
    /// What the caller shows.
    pub credential: Option<String>,
    stranger: Option<Login>,
    team: OnceCell<Team>,
    token: OnceCell<(String, String)>,
}

impl World {
    /// `path` is what will be asked: few paths need a workspace, so only those have one.
    pub async fn new(server: &Server, role: Role, path: &str) -> Self {
        let (team, token) = (OnceCell::new(), OnceCell::new());
        let mut world = Self { client: server.client(), credential: None, stranger: None, team, token };
        let caller = match role {
            Role::Nobody => return world,
            Role::Owner | Role::OwnerByToken => world.team().await.owner.clone(),
            _ => person(&role.name().replace(' ', "-")).await,
        };
        let shared = ["/api/workspaces", "/api/invitations", "/api/share-links", "/v1/audit", "/ws"];
        if let Some(joins_as) = role.joins_as()
            && shared.iter().any(|shared| path.starts_with(shared))
        {
            world.team().await.join(&caller, joins_as).await;
        }
        world.credential = Some(world.credential(server, role, &caller).await);
        world.stranger = (role == Role::Stranger).then_some(caller);
        world
    }

    async fn credential(&self, server: &Server, role: Role, caller: &Login) -> String {
        let client = &self.client;
        let session = &caller.token;
        match role {
            Role::OwnerByToken => return client.mint(session, "asks").await.1,
            Role::RevokedToken => {
                let (id, revoked) = client.mint(session, "revoked").await;
                expect(204, delete(client, &format!("/api/tokens/{id}"), session)).await;
                return revoked;
            }
            Role::EndedSession => {
                expect(200, client.request(Method::POST, "/auth/logout").bearer_auth(session)).await;
            }
            Role::SuspendedUser => suspend(server, caller).await,
            Role::Nobody | Role::Stranger | Role::Member | Role::Admin | Role::Owner => {}
        }
        session.clone()
    }

    /// The workspace, with its owner.
    pub async fn team(&self) -> &Team {
        self.team.get_or_init(team).await
    }

    /// A personal access token of the owner's: its id, and the token.
    pub async fn token(&self) -> &(String, String) {
        let mint = async || self.client.mint(&self.team().await.owner.token, "owned").await;
        self.token.get_or_init(mint).await
    }

    /// Somebody else in the workspace, to whom things are done: the id of their membership.
    pub async fn target(&self, role: &str) -> String {
        let target = person("target").await;
        let member = self.team().await.join(&target, role).await;
        member["id"].as_str().expect("an id").to_owned()
    }

    /// The id of an invitation that nobody has answered, for the stranger if they ask.
    pub async fn invitation(&self) -> String {
        let invitee = match &self.stranger {
            Some(stranger) => stranger,
            None => &person("guest").await,
        };
        let invitation = self.team().await.invite(email(invitee), "member").await;
        invitation["id"].as_str().expect("an id").to_owned()
    }

    /// The active share link: its id and its code.
    pub async fn share_link(&self) -> (String, String) {
        let team = self.team().await;
        let made = expect(201, team.post("/share-links", &team.owner, &serde_json::json!({}))).await.json();
        let text = |name: &str| made[name].as_str().expect("a text").to_owned();
        (text("id"), text("code"))
    }
}

async fn suspend(server: &Server, whom: &Login) {
    let mut command = server.command(&["user", "suspend", email(whom)]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("a task ends");
    let output = output.expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
