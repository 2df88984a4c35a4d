//! `GET /auth/oidc/{name}`: sends a browser to the issuer.

use axum::{
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    response::Response,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{send_to, send_to_login, unknown};
use crate::{
    error::ApiError,
    oidc::{FLOW_LIFETIME, Flow, ReturnTo},
    routes::auth::{fill_random, identity::report},
    state::App,
};

const STATE_BYTES: usize = 32;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct BeginParameters {
    /// Where in the frontend to go afterwards; absent: its front page.
    #[param(nullable = false)]
    return_to: Option<String>,
}

/// Begin a login by a provider
///
/// For a browser: it is sent to the issuer, with one cookie that only the callback reads. Where the
/// issuer is away, it is sent to the frontend's login page with the error `provider_unavailable`.
#[utoipa::path(
    get,
    path = "/auth/oidc/{name}",
    security(()),
    params(("name" = String, Path, description = "Of a login provider"), BeginParameters),
    responses(
        (status = 302, description = "On to the issuer", headers(("Location"), ("Set-Cookie"))),
        (status = 404)
    )
)]
pub async fn begin_login(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
    parameters: Result<Query<BeginParameters>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(|_| unknown())?;
    let provider = app.settings.providers.named(&name).ok_or_else(unknown)?;
    let not_local =
        || ApiError::bad_request("return_to must be a path of the frontend, such as /settings?tab=profile");
    let Query(BeginParameters { return_to }) = parameters.map_err(|_| not_local())?;
    let return_to = match return_to {
        Some(text) => ReturnTo::parse(&text).ok_or_else(not_local)?,
        None => ReturnTo::default(),
    };
    let state = draw_state();
    match provider.authorization_url(state.clone()).await {
        Ok((place, secrets)) => {
            let flow = Flow::new(provider.name(), state, &secrets, return_to, app.store.clock().now());
            let cookie = flow.seal(app.keys()).map_err(|error| ApiError::internal(&error))?;
            let mut response = send_to(&place);
            app.settings.cookies.set_flow(response.headers_mut(), &cookie, FLOW_LIFETIME);
            Ok(response)
        }
        Err(error) => {
            report(provider, &error);
            Ok(send_to_login(&app, "provider_unavailable", None))
        }
    }
}

fn draw_state() -> String {
    let mut bytes = [0; STATE_BYTES];
    fill_random(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}
