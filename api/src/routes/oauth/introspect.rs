//! `POST /oauth/introspect`: a service asks what a credential is good for (RFC 7662).

use axum::{
    Json,
    extract::{FromRequest, Request, State},
    http::HeaderMap,
};
use futures::future::try_join_all;
use serde::Serialize;
use tally_domain::{PersonCredential, Principal, credential::Plaintext};
use tally_events::UserId;
use tally_fanout::VerifyError;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    client_address::ClientAddress,
    error::{ApiError, Code},
    guard::{check_origin, judge},
    request_body,
    request_form::{RequestForm, is_form},
    request_json::{decode_array, is_json},
    state::App,
};

/// Credentials in one request at most.
const CREDENTIALS_MAX: usize = 100;

/// What is asked about.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a form is read parameter by parameter; this tells the document of them")]
struct IntrospectionForm {
    /// A session's JWT or a token.
    #[schema(min_length = 1)]
    token: String,
    /// Where the client cannot set the header.
    #[schema(nullable = false)]
    client_id: Option<String>,
    #[schema(nullable = false)]
    client_secret: Option<String>,
}

/// What a credential is good for (RFC 7662 section 2.2). Of one that is not good only that is said.
#[derive(Default, Serialize, ToSchema)]
pub struct Introspection {
    /// Whether it is good at this moment.
    active: bool,
    /// The person.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    sub: Option<Uuid>,
    /// What the person showed: the id of the session or of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    jti: Option<Uuid>,
    /// `Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    token_type: Option<&'static str>,
    /// When it ends by itself, in seconds since 1970; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    exp: Option<i64>,
    /// The kind of credential, such as `personal_access_token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    kind: Option<&'static str>,
}

impl Introspection {
    fn of(user: UserId, credential: &PersonCredential) -> Self {
        Self {
            active: true,
            sub: Some(user.0),
            jti: Some(credential.id().uuid()),
            token_type: Some("Bearer"),
            exp: credential.expires_at().map(|at| at.timestamp()),
            kind: Some(credential.kind().row().name),
        }
    }
}

/// One answer, or one for each that was asked about, in order.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum Introspected {
    One(Introspection),
    Each(Vec<Introspection>),
}

/// Ask what a credential is good for
///
/// For clients that the operator has configured (`TALLY_OAUTH_CLIENTS`), by HTTP Basic or by
/// `client_id` and `client_secret` in the form. A form asks about one `token`, a JSON array of texts about
/// as many as 100. Malformed, unknown, expired and revoked credentials and those of suspended accounts are
/// all `{"active":false}`. `token_type_hint` is not needed.
#[utoipa::path(
    post,
    path = "/oauth/introspect",
    request_body(content(
        (IntrospectionForm = "application/x-www-form-urlencoded"),
        (Vec<String> = "application/json")
    )),
    security(("client" = [])),
    responses((status = 200, description = "What it is good for", body = Introspected))
)]
pub async fn introspect(
    State(app): State<App>,
    address: ClientAddress,
    request: Request,
) -> Result<Json<Introspected>, ApiError> {
    check_origin(&app, &request)?;
    let clients = &app.settings.clients;
    let proven = clients.prove_by_header(request.headers())?;
    if is_form(request.headers()) {
        let form = RequestForm::from_request(request, &app).await?;
        match (proven, clients.prove_by_form(&form)?) {
            (true, true) => return Err(ApiError::bad_request("the client is named in two ways")),
            (false, false) => return Err(ApiError::invalid_client()),
            (true, false) | (false, true) => {}
        }
        let credential = Plaintext::new(form.require("token")?);
        return Ok(Json(Introspected::One(introspection(&app, address, &credential).await?)));
    }
    if !proven {
        return Err(ApiError::invalid_client());
    }
    check_array(request.headers())?;
    let credentials: Vec<String> = decode_array(&request_body::read(request.into_body()).await?)?;
    if credentials.len() > CREDENTIALS_MAX {
        return Err(ApiError::bad_request(format!("more than {CREDENTIALS_MAX} tokens in one request")));
    }
    let credentials: Vec<Plaintext> = credentials.into_iter().map(Plaintext::new).collect();
    let each = credentials.iter().map(|credential| introspection(&app, address, credential));
    Ok(Json(Introspected::Each(try_join_all(each).await?)))
}

fn check_array(headers: &HeaderMap) -> Result<(), ApiError> {
    if is_json(headers) {
        return Ok(());
    }
    Err(ApiError::new(
        Code::UnsupportedMediaType,
        "content type must be application/x-www-form-urlencoded, or application/json for an array",
    ))
}

/// A yes is a use of the credential, from where the service is that asks: where its client is, only the
/// service knows.
async fn introspection(
    app: &App,
    ClientAddress(address): ClientAddress,
    credential: &Plaintext,
) -> Result<Introspection, ApiError> {
    match judge(app, credential).await {
        Ok(principal @ Principal::Person { user, credential }) => {
            app.usage.note(&principal, address);
            Ok(Introspection::of(user, &credential))
        }
        Ok(Principal::Anonymous | Principal::Operator | Principal::Server)
        | Err(VerifyError::Invalid | VerifyError::Suspended) => Ok(Introspection::default()),
        Err(VerifyError::Unavailable) => Err(ApiError::unavailable()),
    }
}
