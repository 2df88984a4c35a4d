//! A workspace with people in it.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tally_tests::{Client, Login};

use super::{client, expect, person};

/// A workspace of a test's own, and its owner.
pub struct Team {
    pub client: Client,
    pub owner: Login,
    pub id: String,
    pub workspace: Value,
}

/// A slug nobody else uses.
pub fn slug() -> String {
    format!("team-{}", uuid::Uuid::now_v7().simple())
}

/// The e-mail address of somebody.
pub fn email(login: &Login) -> &str {
    login.user["email"].as_str().expect("an address")
}

/// The id of somebody.
pub fn id(login: &Login) -> &str {
    login.user["id"].as_str().expect("an id")
}

/// A new workspace with a new owner.
pub async fn team() -> Team {
    let (client, owner) = (client().await, person("owner").await);
    let request = client.post("/api/workspaces", &json!({ "name": "Team", "slug": slug() }));
    let workspace = expect(201, request.bearer_auth(&owner.token)).await.json();
    let id = workspace["id"].as_str().expect("an id").to_owned();
    Team { client, owner, id, workspace }
}

impl Team {
    /// A request about this workspace.
    pub fn request(&self, method: Method, path: &str, by: &Login) -> RequestBuilder {
        self.client.request(method, &format!("/api/workspaces/{}{path}", self.id)).bearer_auth(&by.token)
    }

    pub fn get(&self, path: &str, by: &Login) -> RequestBuilder {
        self.request(Method::GET, path, by)
    }

    pub fn post(&self, path: &str, by: &Login, body: &Value) -> RequestBuilder {
        self.request(Method::POST, path, by).json(body)
    }

    pub fn patch(&self, path: &str, by: &Login, body: &Value) -> RequestBuilder {
        self.request(Method::PATCH, path, by).json(body)
    }

    pub fn delete(&self, path: &str, by: &Login) -> RequestBuilder {
        self.request(Method::DELETE, path, by)
    }

    /// Invites an address, as the owner: the invitation.
    pub async fn invite(&self, email: &str, role: &str) -> Value {
        let body = json!({ "email": email, "role": role });
        expect(201, self.post("/members", &self.owner, &body)).await.json()
    }

    /// Somebody new who has come in by invitation.
    pub async fn member(&self, role: &str) -> Login {
        let login = person(role).await;
        self.join(&login, role).await;
        login
    }

    /// Lets somebody in by invitation: who they are in the workspace.
    pub async fn join(&self, login: &Login, role: &str) -> Value {
        // Owners are made of members.
        let invited = if role == "owner" { "member" } else { role };
        let invitation = self.invite(email(login), invited).await;
        let path = format!("/api/invitations/{}/accept", invitation["id"].as_str().expect("an id"));
        let accept = self.client.request(Method::POST, &path).bearer_auth(&login.token);
        let member = expect(200, accept).await.json();
        if role == "owner" {
            let path = format!("/members/{}", member["id"].as_str().expect("an id"));
            return expect(200, self.patch(&path, &self.owner, &json!({ "role": "owner" }))).await.json();
        }
        member
    }

    /// Everybody in it, as the owner sees them.
    pub async fn members(&self) -> Vec<Value> {
        let answer = expect(200, self.get("/members", &self.owner)).await;
        answer.json().as_array().expect("a list").clone()
    }

    /// The path of somebody's membership.
    pub async fn path_of(&self, login: &Login) -> String {
        let members = self.members().await;
        let member = members.iter().find(|member| member["user_id"] == login.user["id"]).expect("a member");
        format!("/members/{}", member["id"].as_str().expect("an id"))
    }
}
