//! What a handshake says: from where, with which credential, and about which workspace.

use axum::http::{HeaderMap, Method, Uri, header};
use tally_domain::claim::Namespace;
use tally_events::WorkspaceId;

use crate::{
    error::ApiError,
    guard::{self, Shown},
    state::App,
};

/// A browser sends the cookie from anywhere, so where it is sent from decides (RFC 6455 section 10.2):
/// no origin, our own host, or one that is allowed.
pub fn check_origin(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(()) };
    let origin = origin.to_str().ok().filter(|_| origins.next().is_none());
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let allowed = origin.is_some_and(|origin| {
        let place = origin.split_once("://").map(|(_, place)| place);
        app.settings.allowed_origins.iter().any(|known| known == origin)
            || place.is_some_and(|place| host.is_some_and(|host| host.eq_ignore_ascii_case(place)))
    });
    if allowed { Ok(()) } else { Err(ApiError::forbidden("origin not allowed")) }
}

/// The credential of the handshake; none: the first frame has it.
pub fn credential(uri: &Uri, headers: &HeaderMap) -> Result<Option<Shown>, ApiError> {
    match guard::credential_of(&Method::GET, uri.path(), headers) {
        Ok(shown) => Ok(Some(shown)),
        Err(error) if error.code == crate::error::Code::MissingAuthorization => Ok(None),
        Err(error) => Err(error),
    }
}

/// The workspace that a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    Slug(String),
    Id(WorkspaceId),
}

impl Wanted {
    /// By slug before id, and in the header before the query.
    pub fn of(headers: &HeaderMap, uri: &Uri) -> Result<Self, ApiError> {
        let header = |name: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
            value.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let query = |name: &str| {
            let mut pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
            pairs.find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.into_owned())
        };
        if let Some(slug) = header("x-workspace-slug").or_else(|| query("workspace_slug")) {
            return Ok(Self::Slug(slug));
        }
        let id = header("x-workspace-id").or_else(|| query("workspace_id"));
        let id = id.ok_or_else(|| ApiError::bad_request("workspace_id or workspace_slug is required"))?;
        id.parse().map(Self::Id).map_err(|_| ApiError::bad_request("invalid workspace_id"))
    }

    /// None: no workspace has this slug.
    pub async fn find(&self, app: &App) -> Result<Option<WorkspaceId>, ApiError> {
        match self {
            Self::Id(id) => Ok(Some(*id)),
            Self::Slug(slug) => {
                let holder = app.store.holder(Namespace::WorkspaceSlug, slug).await?;
                Ok(holder.map(WorkspaceId))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const ID: &str = "01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e5f";

    #[rstest]
    #[case::slug_in_the_header("/ws?workspace_slug=b&workspace_id=x", &[("x-workspace-slug", "a"), ("x-workspace-id", "y")], "a")]
    #[case::slug_in_the_query("/ws?workspace_slug=b", &[("x-workspace-id", ID)], "b")]
    fn a_slug_wins(
        #[case] uri: &'static str,
        #[case] sent: &[(&'static str, &'static str)],
        #[case] slug: &str,
    ) {
        assert_eq!(wanted(uri, sent), Ok(Wanted::Slug(slug.to_owned())));
    }

    #[rstest]
    #[case::header("/ws?workspace_id=x", &[("x-workspace-id", ID)])]
    #[case::query("/ws?workspace_id=01990B7E-7A51-7CC2-9F0E-5A1D2C3B4E5F", &[("x-workspace-id", " ")])]
    fn an_id_is_read(#[case] uri: &'static str, #[case] sent: &[(&'static str, &'static str)]) {
        assert_eq!(wanted(uri, sent), Ok(Wanted::Id(ID.parse().unwrap())));
    }

    #[rstest]
    #[case("/ws", "workspace_id or workspace_slug is required")]
    #[case("/ws?workspace_id=&workspace_slug=", "workspace_id or workspace_slug is required")]
    #[case("/ws?workspace_id=nonsense", "invalid workspace_id")]
    fn what_names_none_is_refused(#[case] uri: &'static str, #[case] words: &str) {
        assert_eq!(wanted(uri, &[]), Err(words.to_owned()));
    }

    fn wanted(uri: &'static str, sent: &[(&'static str, &'static str)]) -> Result<Wanted, String> {
        let headers = sent.iter().map(|(name, value)| {
            (axum::http::HeaderName::from_static(name), axum::http::HeaderValue::from_static(value))
        });
        let headers: HeaderMap = headers.collect();
        Wanted::of(&headers, &Uri::from_static(uri)).map_err(|error| error.message.into_owned())
    }
}
