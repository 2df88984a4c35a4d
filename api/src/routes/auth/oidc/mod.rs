//! `/auth/oidc`: login by way of an OpenID Connect issuer, the whole of it on the server.
//!
//! A browser goes to `/auth/oidc/{name}`, from there to the issuer, and comes back to
//! `/auth/oidc/{name}/callback`, which sends it on to the frontend: logged in, or to the login page
//! with a code that says why not (docs/oidc.md lists them).

pub mod begin;
pub mod callback;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use url::Url;
use utoipa::ToSchema;

use crate::{error::ApiError, state::App};

/// A provider as the login page shows it.
#[derive(Serialize, ToSchema)]
pub struct LoginProvider {
    /// In `/auth/oidc/{name}`.
    name: String,
    /// On the button.
    label: String,
}

/// List the login providers
///
/// Issuers that people may come from.
#[utoipa::path(
    get,
    path = "/auth/oidc",
    security(()),
    responses((status = 200, description = "In the order of the settings", body = [LoginProvider]))
)]
pub async fn list_providers(State(app): State<App>) -> Json<Vec<LoginProvider>> {
    let listed = app.settings.providers.iter();
    Json(
        listed
            .map(|one| LoginProvider { name: one.name().to_owned(), label: one.label().to_owned() })
            .collect(),
    )
}

fn unknown() -> ApiError {
    ApiError::missing("there is no login provider of this name")
}

/// Sends a browser somewhere else.
fn send_to(place: &Url) -> Response {
    match HeaderValue::from_str(place.as_str()) {
        Ok(place) => (StatusCode::FOUND, HeaderMap::from_iter([(header::LOCATION, place)])).into_response(),
        Err(error) => ApiError::internal(&error).into_response(),
    }
}

/// Sends a browser to the frontend's login page with what went wrong: a word, and no more. A link
/// token goes behind the `#`, where neither servers nor their logs see it.
fn send_to_login(app: &App, word: &str, link_token: Option<&str>) -> Response {
    let mut place = app.settings.frontend.clone();
    place.set_path("/login");
    place.query_pairs_mut().append_pair("error", word);
    place.set_fragment(link_token.map(|token| format!("link_token={token}")).as_deref());
    send_to(&place)
}
