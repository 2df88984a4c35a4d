//! Who may do what: every route of the OpenAPI document, asked by everybody there is, as a table that
//! is committed. A change of who may do what changes the table, and is seen.
//!
//! Every cell has a world of its own, so what one does to it no other sees. A route without a request
//! in [`requests`] is red here. To write the table anew: `make golden`, and read what has changed.

mod requests;
mod world;

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use serde_json::Value;
use tally_tests::{
    Answer, Server,
    client::{answer, with_form},
};

use crate::support::{document, issuers::site};
use requests::{Asked, effect, request, variants};
use world::{Role, World};

/// What nobody in particular may ask, and why. Only what a person needs before there is a credential,
/// and what a machine asks that has none, belongs here; a line that is no longer needed is red.
const OPEN: [(&str, &str); 17] = [
    ("GET /api/config", "clients read it before anybody logs in"),
    ("GET /api/share-links/{code}", "the code is what one has to know"),
    ("POST /auth/google", "the door"),
    ("GET /auth/oidc", "the login page shows it"),
    ("GET /auth/oidc/{name}", "the door"),
    ("GET /auth/oidc/{name}/callback", "the door, from the other side"),
    ("POST /auth/logout", "forgets cookies, also those of a session that is over"),
    ("POST /auth/send-code", "the door"),
    ("POST /auth/verify-code", "the door"),
    ("GET /health", "asked by supervisors"),
    ("GET /healthz", "asked by supervisors"),
    ("GET /openapi.json", "read by whoever writes a client"),
    ("GET /readyz", "asked by load balancers"),
    ("GET /ws", "the first frame may show the credential"),
    ("POST /oauth/revoke", "whoever holds a credential may end it"),
    ("POST /v1/sessions", "the door"),
    ("POST /v1/sessions/refresh", "a refresh token is asked for, which is none of these credentials"),
];

/// What nobody of these may ask, because those are asked that the operator has configured.
const BY_CLIENTS: [&str; 1] = ["POST /oauth/introspect"];

/// Cells under way at once: most of the time a cell waits for a commit.
const CELLS_AT_ONCE: usize = 16;

/// One operation of the document.
struct Route {
    method: String,
    path: &'static str,
    told: &'static Value,
}

impl Route {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

fn routes() -> Vec<Route> {
    let each = document::paths()
        .flat_map(|path| document::operations(path).map(move |(method, told)| Route { method, path, told }));
    each.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_do_what() {
    let server = &site().await.server;
    let routes = routes();
    let rows: Vec<(&Route, &str)> = routes
        .iter()
        .flat_map(|route| variants(&route.name()).iter().map(move |variant| (route, *variant)))
        .collect();
    let cells = rows.iter().flat_map(|row| Role::ALL.map(|role| (row, role)));
    let cells: Vec<String> = stream::iter(cells)
        .map(|((route, variant), role)| cell(server, route, variant, role))
        .buffered(CELLS_AT_ONCE)
        .collect()
        .await;
    let rows = rows.iter().zip(cells.chunks(Role::ALL.len()));
    let table: Vec<String> = rows
        .map(|((route, variant), cells)| row(format!("{} {variant}", route.name()).trim(), cells))
        .collect();
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "role_matrix", omit_expression => true }, {
        insta::assert_snapshot!("table", table.join("\n"));
    });
}

/// What one role is answered by one route.
async fn cell(server: &Server, route: &Route, variant: &str, role: Role) -> String {
    let name = route.name();
    let world = World::new(server, role, route.path).await;
    let asked = request(&name, variant, &world).await;
    let asked =
        asked.unwrap_or_else(|| panic!("{name} has no request in tests/system/role_matrix/requests.rs"));
    let answer = answer(send(&world, route, asked)).await;
    let about = format!("{name} {variant} as {}", role.name());
    let said = format!("{} {}", answer.status, words(&answer, route, &about));
    hold_the_door(&name, role, &said);
    let effect = effect(&name, &world).await.map(|effect| format!(", {effect}")).unwrap_or_default();
    said.trim().to_owned() + &effect
}

fn send(world: &World, route: &Route, asked: Asked) -> reqwest::RequestBuilder {
    let mut open = asked.open.into_iter();
    let parts = route.path.split('/').map(|part| {
        let is_open = part.starts_with('{');
        if is_open { open.next().expect("what stands for it") } else { part.to_owned() }
    });
    let mut path = parts.collect::<Vec<_>>().join("/");
    assert_eq!(open.next(), None, "{path} has a place for everything");
    if let Some((name, value)) = asked.query {
        path += &format!("?{name}={value}");
    }
    let request = world.client.request(route.method.parse().expect("a method"), &path);
    let request = asked.headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = match &world.credential {
        Some(credential) => request.bearer_auth(credential),
        None => request,
    };
    match (asked.body, asked.form) {
        (Some(body), _) => request.json(&body),
        (None, Some(form)) => with_form(request, &form),
        (None, None) => request,
    }
}

/// The sentence of a refusal, which is one that the document tells of in the form that it tells.
fn words(answer: &Answer, route: &Route, about: &str) -> String {
    assert!(answer.status < 500, "{about}: {} {}", answer.status, answer.text);
    let told = &route.told["responses"][answer.status.to_string()];
    assert!(told.is_object(), "{about}: the document does not tell of {} {}", answer.status, answer.text);
    if answer.status < 400 {
        return String::new();
    }
    let (content_type, field) = match route.path.split('/').nth(1) {
        Some("v1") => ("application/problem+json", "detail"),
        Some("oauth") => ("application/json", "error_description"),
        _ => ("application/json", "error"),
    };
    assert_eq!(answer.header("content-type"), Some(content_type), "{about}");
    let sentence = &answer.json()[field];
    sentence.as_str().unwrap_or_else(|| panic!("{about}: {}", answer.text)).to_owned()
}

/// What no table can make right: whoever has no credential, or a dead one, stays outside.
fn hold_the_door(route: &str, role: Role, said: &str) {
    if OPEN.iter().any(|(open, _)| *open == route) {
        return;
    }
    if BY_CLIENTS.contains(&route) {
        assert_eq!(said, "401 client authentication is required", "{route} as {}", role.name());
        return;
    }
    let expected = match role {
        Role::Nobody => "401 missing authorization",
        Role::EndedSession | Role::RevokedToken => "401 invalid token",
        Role::SuspendedUser => "403 account disabled",
        Role::Stranger | Role::Member | Role::Admin | Role::Owner | Role::OwnerByToken => return,
    };
    assert_eq!(said, expected, "{route} as {}", role.name());
}

/// A row of the table: each answer with who gets it.
fn row(route: &str, cells: &[String]) -> String {
    let mut row = format!("{route}\n");
    let mut told = BTreeSet::new();
    for cell in cells {
        if told.insert(cell) {
            let same = Role::ALL.into_iter().zip(cells).filter(|(_, other)| *other == cell);
            let names: Vec<&str> = same.map(|(role, _)| role.name()).collect();
            row += &format!("  {cell}: {}\n", names.join(", "));
        }
    }
    row
}

/// The document and the list of what is open say the same.
#[test]
fn what_is_open_is_listed() {
    let open: BTreeSet<String> = routes()
        .iter()
        .filter(|route| {
            let ways = route.told["security"].as_array().expect("every route says who may come");
            ways.iter().any(|way| way.as_object().is_some_and(serde_json::Map::is_empty))
        })
        .map(Route::name)
        .collect();
    let listed: BTreeSet<String> = OPEN.iter().map(|(route, _)| (*route).to_owned()).collect();
    assert_eq!(open, listed);
}
