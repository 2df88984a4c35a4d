//! The life of a workspace, from its opening to its end: every kind of event there is in one.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    load::{NoAnswer, Person},
    site::CODE,
};

impl Person {
    /// Opens a workspace, lets people in by every way and puts them out again, and deletes it now and
    /// then. What is not answered well ends it where it is.
    pub async fn work_together(&mut self, delete: bool) -> Result<(), NoAnswer> {
        let owner = self.session().to_owned();
        match self.live_together(&owner, delete).await {
            Some(Err(NoAnswer)) => Err(NoAnswer),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// None: something was refused or could not be known.
    async fn live_together(&mut self, owner: &str, delete: bool) -> Option<Result<(), NoAnswer>> {
        macro_rules! done {
            ($sent:expr) => {
                match $sent.await {
                    Ok((200..300, body)) => body,
                    Ok(_) => return None,
                    Err(NoAnswer) => return Some(Err(NoAnswer)),
                }
            };
        }
        let slug = format!("team-{}", Uuid::now_v7().simple());
        let workspace =
            done!(self.ask(owner, Method::POST, "/api/workspaces", json!({ "name": "Team", "slug": slug })));
        let home = format!("/api/workspaces/{}", text(&workspace, "id"));
        let change =
            json!({ "description": "What we do", "settings": { "theme": "dark" }, "avatar_url": "" });
        done!(self.ask(owner, Method::PATCH, &home, change));
        let link =
            done!(self.ask(owner, Method::POST, &format!("{home}/share-links"), json!({ "max_uses": 2 })));

        let (_, first) = done!(self.guest());
        let joined = json!({ "code": link["code"] });
        let member = done!(self.ask(&first, Method::POST, "/api/share-links/join", joined));
        let place = format!("{home}/members/{}", text(&member, "id"));
        done!(self.ask(owner, Method::PATCH, &place, json!({ "role": "admin" })));
        done!(self.ask(owner, Method::PATCH, &place, json!({ "role": "member" })));
        done!(self.ask(&first, Method::POST, &format!("{home}/leave"), Value::Null));

        let (address, second) = done!(self.guest());
        let members = format!("{home}/members");
        for word in ["decline", "accept"] {
            let invitation = done!(self.ask(owner, Method::POST, &members, json!({ "email": address })));
            let answer = format!("/api/invitations/{}/{word}", text(&invitation, "id"));
            done!(self.ask(&second, Method::POST, &answer, Value::Null));
        }
        let list = done!(self.ask(owner, Method::GET, &members, Value::Null));
        let place = format!("{members}/{}", text(&list[1], "id"));
        done!(self.ask(owner, Method::DELETE, &place, Value::Null));

        let stranger = json!({ "email": format!("stranger-{}@example.org", Uuid::now_v7().simple()) });
        let invitation = done!(self.ask(owner, Method::POST, &members, stranger));
        let taken_back = format!("{home}/invitations/{}", text(&invitation, "id"));
        done!(self.ask(owner, Method::DELETE, &taken_back, Value::Null));
        done!(self.ask(owner, Method::POST, &format!("{home}/share-links"), json!({ "expires_in": 1 })));
        if delete {
            done!(self.ask(owner, Method::DELETE, &home, Value::Null));
        }
        Some(Ok(()))
    }

    async fn ask(
        &mut self,
        credential: &str,
        method: Method,
        path: &str,
        body: Value,
    ) -> Result<(u16, Value), NoAnswer> {
        let body = Some(body).filter(|body| !body.is_null());
        self.send(method, path, Some(credential), None, body).await
    }

    /// Somebody new beside this client's own person: their address and their session.
    async fn guest(&mut self) -> Result<(u16, (String, String)), NoAnswer> {
        let email = format!("guest-{}@example.org", Uuid::now_v7().simple());
        self.send(Method::POST, "/auth/send-code", None, None, Some(json!({ "email": email }))).await?;
        let right = json!({ "email": email, "code": CODE });
        let (status, body) = self.send(Method::POST, "/auth/verify-code", None, None, Some(right)).await?;
        let session = body["token"].as_str().unwrap_or_default().to_owned();
        Ok((status, (email, session)))
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
