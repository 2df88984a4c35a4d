//! What is revoked: each kind is made anew, asked for, and revoked in its own way.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tally_tests::client::with_form;
use uuid::Uuid;

use super::{ask::Question, race::Racer};
use crate::{
    faults::site::{CODE, Door},
    support::{address, past::claims},
};

/// A way to revoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A token, by its owner.
    Token,
    /// A token, at `/oauth/revoke` by whoever holds it.
    TokenShown,
    /// A session, by another one of the same person.
    Session,
    /// A session, by itself.
    Logout,
    MemberRemoved,
    MemberDemoted,
    WorkspaceDeleted,
    /// An account, by the operator's command.
    Suspended,
}

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::Token,
        Self::TokenShown,
        Self::Session,
        Self::Logout,
        Self::MemberRemoved,
        Self::MemberDemoted,
        Self::WorkspaceDeleted,
        Self::Suspended,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "a token is revoked",
            Self::TokenShown => "a token is shown at `/oauth/revoke`",
            Self::Session => "a session is ended by another",
            Self::Logout => "logout",
            Self::MemberRemoved => "a member is removed",
            Self::MemberDemoted => "an admin becomes a member",
            Self::WorkspaceDeleted => "a workspace is deleted",
            Self::Suspended => "`tally user suspend`",
        }
    }

    /// How often it comes up among others: commands of the operator wait for leases and start a process.
    pub const fn weight(self) -> usize {
        match self {
            Self::Token => 3,
            Self::TokenShown
            | Self::Session
            | Self::Logout
            | Self::MemberRemoved
            | Self::MemberDemoted
            | Self::WorkspaceDeleted => 2,
            Self::Suspended => 1,
        }
    }

    /// Whether a repeated call finds nothing any more, and so does not say that it is effective.
    pub const fn vanishes(self) -> bool {
        matches!(self, Self::MemberRemoved | Self::WorkspaceDeleted)
    }
}

/// Something that can be revoked.
pub struct Subject {
    pub kind: Kind,
    /// Names it in findings.
    pub id: String,
    pub question: Question,
    /// A workspace that can be followed with a credential until it is revoked.
    pub followed: Option<Followed>,
    pub call: Call,
}

#[derive(Clone)]
pub struct Followed {
    pub workspace: String,
    pub credential: String,
}

/// What revokes it.
pub enum Call {
    Http { method: Method, path: String, credential: Option<String>, body: Body, success: u16 },
    Suspend { user: String },
}

pub enum Body {
    None,
    Json(Value),
    Form(&'static str, String),
}

/// A person with a workspace of their own, into which a link lets others.
#[derive(Clone)]
pub struct Host {
    pub session: String,
    pub home: String,
    pub link: String,
}

/// Somebody who has come in by the link.
struct Guest {
    user: String,
    session: String,
    /// The path of their membership.
    member: String,
}

impl Call {
    /// The request to one replica; none: it is no request.
    pub fn request(&self, door: &Door) -> Option<RequestBuilder> {
        let Self::Http { method, path, credential, body, .. } = self else { return None };
        let mut request = door.client().request(method.clone(), path);
        if let Some(credential) = credential {
            request = request.bearer_auth(credential);
        }
        Some(match body {
            Body::None => request,
            Body::Json(body) => request.json(body),
            Body::Form(name, value) => with_form(request, &[(name, value)]),
        })
    }
}

impl Racer {
    /// Something new of this kind; none: it could not be made just now.
    pub async fn make(&mut self, kind: Kind) -> Option<Subject> {
        match kind {
            Kind::Token | Kind::TokenShown => self.token(kind).await,
            Kind::Session | Kind::Logout => self.session(kind).await,
            Kind::MemberRemoved => {
                let Guest { session, member, .. } = self.guest().await?;
                let call = self.as_host(Method::DELETE, &member, Body::None, 204);
                Some(self.in_home(kind, member, session, 404, call))
            }
            Kind::MemberDemoted => {
                let Guest { session, member, .. } = self.guest().await?;
                let role = |name: &str| json!({ "role": name });
                let host = self.host.session.clone();
                self.call(Method::PATCH, &member, Some(&host), role("admin")).await?;
                let call = self.as_host(Method::PATCH, &member, Body::Json(role("member")), 200);
                let invitations = format!("/api/workspaces/{}/invitations", self.host.home);
                let question = Question::new(&invitations, &session, 403);
                Some(Subject { kind, id: member, question, followed: None, call })
            }
            Kind::WorkspaceDeleted => {
                let host = self.host.session.clone();
                let home = open_workspace();
                let workspace = self.call(Method::POST, "/api/workspaces", Some(&host), home).await?;
                let id = text(&workspace, "id");
                let path = format!("/api/workspaces/{id}");
                let call = self.as_host(Method::DELETE, &path, Body::None, 204);
                let question = Question::new(&path, &host, 404);
                let followed = Some(Followed { workspace: id.clone(), credential: host });
                Some(Subject { kind, id, question, followed, call })
            }
            Kind::Suspended => {
                let Guest { user, session, .. } = self.guest().await?;
                let question = Question::new("/auth/verify", &session, 403);
                let followed = Some(self.home_with(session));
                Some(Subject { kind, id: user.clone(), question, followed, call: Call::Suspend { user } })
            }
        }
    }

    async fn token(&mut self, kind: Kind) -> Option<Subject> {
        let host = self.host.session.clone();
        let body = json!({ "name": "laptop" });
        let minted = self.call(Method::POST, "/api/tokens", Some(&host), body).await?;
        let (id, token) = (text(&minted, "id"), text(&minted, "token"));
        let call = if kind == Kind::Token {
            self.as_host(Method::DELETE, &format!("/api/tokens/{id}"), Body::None, 204)
        } else {
            Call::Http {
                method: Method::POST,
                path: "/oauth/revoke".to_owned(),
                credential: None,
                body: Body::Form("token", token.clone()),
                success: 200,
            }
        };
        let question = Question::of_credential(&token);
        Some(Subject { kind, id, question, followed: Some(self.home_with(token)), call })
    }

    async fn session(&mut self, kind: Kind) -> Option<Subject> {
        let host = self.host.session.clone();
        let started = self.call(Method::POST, "/api/cli-token", Some(&host), json!({})).await?;
        let session = text(&started, "token");
        let id = text(&claims(&session), "sid");
        let call = if kind == Kind::Session {
            self.as_host(Method::DELETE, &format!("/v1/sessions/{id}"), Body::None, 204)
        } else {
            Call::Http {
                method: Method::POST,
                path: "/auth/logout".to_owned(),
                credential: Some(session.clone()),
                body: Body::None,
                success: 200,
            }
        };
        let question = Question::of_credential(&session);
        Some(Subject { kind, id, question, followed: Some(self.home_with(session)), call })
    }

    /// Somebody new logs in and comes in by the link.
    async fn guest(&mut self) -> Option<Guest> {
        let email = address("guest");
        self.call(Method::POST, "/auth/send-code", None, json!({ "email": email })).await?;
        let right = json!({ "email": email, "code": CODE });
        let login = self.call(Method::POST, "/auth/verify-code", None, right).await?;
        let session = text(&login, "token");
        let link = json!({ "code": self.host.link });
        let joined = self.call(Method::POST, "/api/share-links/join", Some(&session), link).await?;
        let member = format!("/api/workspaces/{}/members/{}", self.host.home, text(&joined, "id"));
        Some(Guest { user: text(&login["user"], "id"), session, member })
    }

    /// What is asked about the home workspace.
    fn in_home(&self, kind: Kind, id: String, credential: String, no: u16, call: Call) -> Subject {
        let question = Question::new(&format!("/api/workspaces/{}", self.host.home), &credential, no);
        Subject { kind, id, question, followed: Some(self.home_with(credential)), call }
    }

    fn home_with(&self, credential: String) -> Followed {
        Followed { workspace: self.host.home.clone(), credential }
    }

    fn as_host(&self, method: Method, path: &str, body: Body, success: u16) -> Call {
        let credential = Some(self.host.session.clone());
        Call::Http { method, path: path.to_owned(), credential, body, success }
    }
}

/// What opens a workspace that nobody else has.
pub fn open_workspace() -> Value {
    json!({ "name": "Team", "slug": format!("team-{}", Uuid::now_v7().simple()) })
}

pub fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("{field} of {value} is a text")).to_owned()
}
