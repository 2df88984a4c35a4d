//! `GET /openapi.json`: the document of all routes, for whoever writes a client.

use axum::http::{HeaderName, header};

use crate::openapi::page;

/// The OpenAPI document of this server
#[utoipa::path(
    get,
    path = "/openapi.json",
    security(()),
    responses((status = 200, description = "An OpenAPI 3.1 document", body = serde_json::Value))
)]
pub async fn read_openapi() -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(header::CONTENT_TYPE, "application/json")], page())
}
