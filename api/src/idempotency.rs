//! `Idempotency-Key`: a request that creates acts once, however often it is sent.
//!
//! A key is good for 24 hours, for who sent it and where. *Who* is the actor and not the credential:
//! a person who retries with a new session, or with a token in place of the cookie, means the same
//! act, and to act twice is the worse mistake. Nothing is given away by it: the answer to a retry
//! names what is the person's own, and never a secret. A machine that acts for a person is an actor
//! of its own, so it meets none of the person's keys. *Where* is the method and the whole path, so a
//! key sent to one workspace is not used up in another.

use axum::{
    extract::{FromRequestParts, OriginalUri},
    http::{HeaderMap, Method, Uri, request::Parts},
};
use sha2::{Digest, Sha256};
use tally_events::Actor;
use tally_store::{Idempotency, RequestContext};
use uuid::Uuid;

use crate::{error::ApiError, guard::Caller, state::App};

/// The header, in lower case.
pub const HEADER: &str = "idempotency-key";
const CHARACTERS_MAX: usize = 255;
/// What says, beside the path, the query and the body, what a request is about.
const TARGETS: [&str; 2] = ["x-workspace-id", "x-workspace-slug"];

/// The key that a client sent with its request, if it sent one.
#[derive(Debug)]
pub struct IdempotencyKey(Option<Sent>);

#[derive(Debug)]
struct Sent {
    key: String,
    /// Method and path.
    route: String,
    /// SHA-256 of what else the request is about.
    target: [u8; 32],
}

impl FromRequestParts<App> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        // A router within a router would see a path without its beginning.
        let whole = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |OriginalUri(uri)| uri);
        Self::read(&parts.method, whole, &parts.headers)
    }
}

impl IdempotencyKey {
    fn read(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut values = headers.get_all(HEADER).iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        if values.next().is_some() {
            return Err(ApiError::bad_request("Idempotency-Key is given twice"));
        }
        let key = value.to_str().ok().filter(|key| is_key(key)).ok_or_else(|| {
            ApiError::bad_request("Idempotency-Key must be 1 to 255 printable ASCII characters")
        })?;
        let mut target = Sha256::new();
        add(&mut target, uri.query().map(str::as_bytes));
        for name in TARGETS {
            for value in headers.get_all(name) {
                add(&mut target, Some(value.as_bytes()));
            }
            add(&mut target, None);
        }
        let route = format!("{method} {}", uri.path());
        Ok(Self(Some(Sent { key: key.to_owned(), route, target: target.finalize().into() })))
    }

    /// Binds the key to the caller, and gives the context to execute the command in. `body` is the
    /// fingerprint of the request's body ([`NO_BODY`] where there is none), `makes` the id that a
    /// retry is told.
    #[must_use]
    pub fn bind(self, caller: &Caller, body: [u8; 32], makes: impl Into<Uuid>) -> RequestContext {
        let idempotency = self.bound(caller.principal.actor(), body, makes.into());
        RequestContext { idempotency, ..caller.context }
    }

    fn bound(self, actor: Actor, body: [u8; 32], receipt: Uuid) -> Option<Idempotency> {
        let Sent { key, route, target } = self.0?;
        // Those who have no identity cannot be told apart, so nothing is remembered of them.
        let id = actor.id?;
        let who = Sha256::new()
            .chain_update(actor.kind.as_str())
            .chain_update([0])
            .chain_update(id.as_bytes())
            .chain_update(route.len().to_be_bytes())
            .chain_update(route)
            .chain_update(key);
        let what = Sha256::new().chain_update(body).chain_update(target);
        Some(Idempotency { key: who.finalize().into(), fingerprint: what.finalize().into(), receipt })
    }
}

/// A tab may stand in a header, and is not printable.
fn is_key(text: &str) -> bool {
    (1..=CHARACTERS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

/// The fingerprint of a request without a body.
pub const NO_BODY: [u8; 32] = [0; 32];

/// Adds a part, or that there is none, so that no two requests make the same bytes.
fn add(target: &mut Sha256, part: Option<&[u8]>) {
    match part {
        None => target.update([0]),
        Some(part) => {
            target.update([1]);
            target.update(part.len().to_be_bytes());
            target.update(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use rstest::rstest;
    use tally_events::{ActorKind, UserId};

    use super::*;

    /// A request, as far as a key is bound to it.
    #[derive(Clone)]
    struct Asked {
        actor: Actor,
        method: Method,
        uri: &'static str,
        headers: Vec<(&'static str, &'static str)>,
        body: [u8; 32],
    }

    fn ada() -> Actor {
        Actor::person(UserId(Uuid::from_u128(1)))
    }

    fn usual() -> Asked {
        let headers = vec![(HEADER, "k-1"), ("x-workspace-id", "w")];
        Asked { actor: ada(), method: Method::POST, uri: "/api/tokens?x=1", headers, body: [1; 32] }
    }

    fn read(asked: &Asked) -> Result<IdempotencyKey, ApiError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &asked.headers {
            headers.append(*name, HeaderValue::from_str(value).expect("a header's value"));
        }
        IdempotencyKey::read(&asked.method, &Uri::from_static(asked.uri), &headers)
    }

    fn bound(asked: &Asked) -> Option<Idempotency> {
        read(asked).expect("a good key").bound(asked.actor, asked.body, Uuid::nil())
    }

    #[test]
    fn the_same_request_again_is_known() {
        assert_eq!(bound(&usual()), bound(&usual()));
        let receipts = [1, 2].map(|id| {
            read(&usual()).expect("a good key").bound(ada(), [1; 32], Uuid::from_u128(id)).expect("a key")
        });
        assert_eq!(receipts[0].key, receipts[1].key, "a retry does not know what the first attempt made");
        assert_eq!(receipts[0].fingerprint, receipts[1].fingerprint);
    }

    /// Keys of two people, two kinds of actor, two routes and two things of one route never meet.
    #[rstest]
    #[case::another_person(Asked { actor: Actor::person(UserId(Uuid::from_u128(2))), ..usual() })]
    #[case::another_kind_of_actor(Asked { actor: Actor { kind: ActorKind::Operator, ..ada() }, ..usual() })]
    #[case::another_route(Asked { uri: "/api/cli-token?x=1", ..usual() })]
    #[case::another_thing(Asked { uri: "/api/tokens/a?x=1", ..usual() })]
    #[case::another_method(Asked { method: Method::PUT, ..usual() })]
    #[case::another_key(Asked { headers: vec![(HEADER, "k-2"), ("x-workspace-id", "w")], ..usual() })]
    // The route ends where it ends: its end is no beginning of a key.
    #[case::split_elsewhere(Asked {
        uri: "/api/token?x=1",
        headers: vec![(HEADER, "sk-1"), ("x-workspace-id", "w")],
        ..usual()
    })]
    fn keys_do_not_meet(#[case] other: Asked) {
        let (one, other) = (bound(&usual()).expect("a key"), bound(&other).expect("a key"));
        assert_ne!(one.key, other.key);
    }

    /// The same key for something else is a mistake that is told, not another act.
    #[rstest]
    #[case::another_body(Asked { body: [2; 32], ..usual() })]
    #[case::another_query(Asked { uri: "/api/tokens?x=2", ..usual() })]
    #[case::no_query(Asked { uri: "/api/tokens", ..usual() })]
    #[case::another_workspace(Asked { headers: vec![(HEADER, "k-1"), ("x-workspace-id", "v")], ..usual() })]
    #[case::by_slug(Asked { headers: vec![(HEADER, "k-1"), ("x-workspace-slug", "w")], ..usual() })]
    #[case::no_workspace(Asked { headers: vec![(HEADER, "k-1")], ..usual() })]
    fn another_request_is_told_apart(#[case] other: Asked) {
        let (one, other) = (bound(&usual()).expect("a key"), bound(&other).expect("a key"));
        assert_eq!(one.key, other.key);
        assert_ne!(one.fingerprint, other.fingerprint);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let refusal = |headers: Vec<(&'static str, &'static str)>| {
            read(&Asked { headers, ..usual() }).expect_err("no good key").message
        };
        let long: &'static str = "k".repeat(CHARACTERS_MAX + 1).leak();
        for wrong in ["", long, "é", "a\tb"] {
            let words = "Idempotency-Key must be 1 to 255 printable ASCII characters";
            assert_eq!(refusal(vec![(HEADER, wrong)]), words, "{wrong:?}");
        }
        assert_eq!(refusal(vec![(HEADER, "a"), (HEADER, "a")]), "Idempotency-Key is given twice");
        assert!(read(&Asked { headers: vec![(HEADER, &long[1..])], ..usual() }).is_ok());
    }

    #[test]
    fn without_a_key_or_an_identity_nothing_is_remembered() {
        assert_eq!(bound(&Asked { headers: vec![], ..usual() }), None);
        assert_eq!(bound(&Asked { actor: Actor::ANONYMOUS, ..usual() }), None);
    }
}
