//! The OpenAPI document: what the annotations beside the handlers say, completed by what is the same
//! for all routes of a kind.
//!
//! An annotation says what is the route's own: path, parameters, bodies, its successes, and the
//! refusals that need words of their own. Everything else follows from that ([`complete`]): the
//! refusals of whoever is guarded, takes a body or an idempotency key, their bodies in the words of
//! the family, and the headers of every answer.

mod complete;
mod components;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use utoipa::openapi::{
    Components, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Paths, RefOr, Schema, ServerBuilder,
};

use crate::routes::{self, Route};

const DESCRIPTION: &str = "\
A token and identity authority: it mints, verifies and revokes credentials, and keeps every change as \
an event in an append-only log.

Bodies are JSON by content type, at most 1 MiB; unknown fields are ignored. Timestamps are RFC 3339 in \
UTC. Ids are UUIDs in any letter case. Every path answers with and without a trailing slash.

Errors on `/auth` and `/api` are `{\"error\": \"sentence\"}`; on `/v1` they are problem documents \
(RFC 9457) with a stable `code`; on `/oauth` they are those of RFC 6749. A `503` means that the server cannot know at the moment: it never \
guesses yes.

A request that creates may carry an `Idempotency-Key`: sent again within 24 hours by the same person to \
the same route it acts once. The retry is answered `409` with the `id` of what the first one made, never \
with its secret; the same key with another request is answered `422`.";

/// The document of every route.
#[must_use]
pub fn document() -> OpenApi {
    let mut paths = Paths::new();
    let mut components = Components::new();
    for (schemas, of_route, _) in all() {
        paths.merge(of_route);
        components.schemas.extend(schemas);
    }
    components::add(&mut components);
    let info = InfoBuilder::new()
        .title("Tallystick")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()));
    let servers = [ServerBuilder::new().url("/").build()];
    let mut document = OpenApiBuilder::new()
        .info(info)
        .servers(Some(servers))
        .paths(paths)
        .components(Some(components))
        .build();
    complete::complete(&mut document);
    document
}

/// The document as text: what is served, and what is committed as `docs/openapi.json`.
#[must_use]
pub fn page() -> &'static str {
    static PAGE: LazyLock<String> = LazyLock::new(|| {
        let text = document().to_pretty_json().expect("the document has text for keys and no float");
        text + "\n"
    });
    &PAGE
}

/// Every route with its annotation.
fn all() -> impl Iterator<Item = Route> {
    routes::listed().into_iter().chain(routes::asked_by_proxies())
}

/// A schema by its name.
type Named = (String, RefOr<Schema>);
