//! What is asked of each route: a good request, so that nothing but who asks decides the answer.

use serde_json::{Value, json};

use super::world::World;
use crate::support::{
    UNKNOWN_TOKEN, address,
    issuers::{GOOGLE_REDIRECT, account, google_code, site},
    past::claims,
    team::slug,
};

/// A request but for who sends it.
#[derive(Default)]
pub struct Asked {
    /// What stands for the braces of the path, in their order.
    pub open: Vec<String>,
    /// A parameter of the query.
    pub query: Option<(&'static str, String)>,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: Option<Value>,
    /// In place of a body: a form.
    pub form: Option<Vec<(&'static str, &'static str)>>,
}

impl Asked {
    fn with(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }
}

fn plain() -> Asked {
    Asked::default()
}

fn body(body: Value) -> Asked {
    plain().with(body)
}

/// In the workspace, and of this thing in it.
async fn within(world: &World, thing: Option<String>) -> Asked {
    let workspace = world.team().await.id.clone();
    Asked { open: [Some(workspace), thing].into_iter().flatten().collect(), ..plain() }
}

/// What a route is asked for that has more than one answer to it; most have one.
pub fn variants(route: &str) -> &'static [&'static str] {
    match route {
        "PATCH /api/workspaces/{id}/members/{member_id}" => &["of a member", "of an owner", "to owner"],
        "DELETE /api/workspaces/{id}/members/{member_id}" => &["of a member", "of an owner"],
        "GET /v1/audit" => &["of one's own", "of the workspace"],
        _ => &[""],
    }
}

/// The request of a route; none where there is none yet.
pub async fn request(route: &str, variant: &str, world: &World) -> Option<Asked> {
    let target = if variant == "of an owner" { "owner" } else { "member" };
    Some(match route {
        "GET /api/config"
        | "GET /api/invitations"
        | "GET /api/me"
        | "GET /api/tokens"
        | "GET /api/workspaces"
        | "GET /auth/oidc"
        | "GET /health"
        | "GET /healthz"
        | "GET /openapi.json"
        | "GET /readyz"
        | "GET /v1/me"
        | "GET /v1/sessions"
        | "POST /v1/sessions/refresh"
        | "POST /v1/sessions/end-others"
        | "DELETE /v1/sessions/current"
        | "POST /api/cli-token"
        | "POST /api/tokens/current/renew"
        | "POST /auth/logout" => plain(),
        "GET /v1/audit" if variant == "of the workspace" => {
            Asked { query: Some(("workspace", world.team().await.id.clone())), ..plain() }
        }
        "GET /v1/audit" => plain(),
        "GET /auth/verify-only/{kinds}" => Asked {
            open: vec!["personal_access_token".to_owned()],
            headers: vec![("x-original-method", "GET")],
            ..plain()
        },
        "POST /oauth/introspect" | "POST /oauth/revoke" => {
            Asked { form: Some(vec![("token", UNKNOWN_TOKEN)]), ..plain() }
        }
        "GET /ws" => Asked {
            query: Some(("workspace_id", world.team().await.id.clone())),
            // The key is the one of RFC 6455 section 1.3.
            headers: vec![
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ],
            ..plain()
        },
        "GET /auth/verify" => Asked { headers: vec![("x-original-method", "GET")], ..plain() },
        "PATCH /api/me" => body(json!({ "name": "Changed" })),
        "POST /api/tokens" => body(json!({ "name": "made" })),
        "DELETE /api/tokens/{id}" => Asked { open: vec![world.token().await.0.clone()], ..plain() },
        "POST /auth/send-code" => body(json!({ "email": address("sent") })),
        "DELETE /v1/sessions/{id}" => Asked { open: vec![owners_session(world).await], ..plain() },
        "POST /auth/verify-code" | "POST /v1/sessions" => {
            let email = address("verified");
            let code = world.client.code(&email).await;
            body(json!({ "email": email, "code": code }))
        }
        "POST /auth/google" => {
            let site = site().await;
            let code = google_code(&site.issuer, &account(&address("google"))).await;
            body(json!({ "code": code, "redirect_uri": GOOGLE_REDIRECT }))
        }
        // Who comes back without having been sent is sent to the login page.
        "GET /auth/oidc/{name}" | "GET /auth/oidc/{name}/callback" => {
            Asked { open: vec!["google".to_owned()], ..plain() }
        }
        "POST /api/workspaces" => body(json!({ "name": "Made", "slug": slug() })),
        "GET /api/workspaces/{id}"
        | "DELETE /api/workspaces/{id}"
        | "GET /api/workspaces/{id}/members"
        | "GET /api/workspaces/{id}/invitations"
        | "GET /api/workspaces/{id}/share-links"
        | "POST /api/workspaces/{id}/leave" => within(world, None).await,
        "PUT /api/workspaces/{id}" | "PATCH /api/workspaces/{id}" => {
            within(world, None).await.with(json!({ "name": "Changed" }))
        }
        "POST /api/workspaces/{id}/members" => {
            within(world, None).await.with(json!({ "email": address("invited"), "role": "admin" }))
        }
        "PATCH /api/workspaces/{id}/members/{member_id}" => {
            let role = if variant == "to owner" { "owner" } else { "admin" };
            within(world, Some(world.target(target).await)).await.with(json!({ "role": role }))
        }
        "DELETE /api/workspaces/{id}/members/{member_id}" => {
            within(world, Some(world.target(target).await)).await
        }
        "DELETE /api/workspaces/{id}/invitations/{invitation_id}" => {
            within(world, Some(world.invitation().await)).await
        }
        "POST /api/workspaces/{id}/share-links" => within(world, None).await.with(json!({})),
        "DELETE /api/workspaces/{id}/share-links" => {
            world.share_link().await;
            within(world, None).await
        }
        "DELETE /api/workspaces/{id}/share-links/{link_id}" => {
            within(world, Some(world.share_link().await.0)).await
        }
        "GET /api/invitations/{id}"
        | "POST /api/invitations/{id}/accept"
        | "POST /api/invitations/{id}/decline" => Asked { open: vec![world.invitation().await], ..plain() },
        "GET /api/share-links/{code}" => Asked { open: vec![world.share_link().await.1], ..plain() },
        "POST /api/share-links/join" => body(json!({ "code": world.share_link().await.1 })),
        _ => return None,
    })
}

/// The id of the session of the workspace's owner.
async fn owners_session(world: &World) -> String {
    claims(&world.team().await.owner.token)["sid"].as_str().expect("an id").to_owned()
}

/// What came of it, where the answer is the same for those who may and those who may not.
pub async fn effect(route: &str, world: &World) -> Option<&'static str> {
    match route {
        "DELETE /api/tokens/{id}" => {
            Some(if world.client.accepts(&world.token().await.1).await { "kept" } else { "gone" })
        }
        "DELETE /v1/sessions/{id}" | "DELETE /v1/sessions/current" | "POST /v1/sessions/end-others" => {
            let owner = &world.team().await.owner.token;
            Some(if world.client.accepts(owner).await { "the owner's kept" } else { "the owner's gone" })
        }
        _ => None,
    }
}
