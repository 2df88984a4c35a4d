//! What many routes share, each said once: headers, parameters, refusals, ways to show who one is.

use axum::http::StatusCode;
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{
        Components, ContentBuilder, Header, HeaderBuilder, KnownFormat, ObjectBuilder, Ref, RefOr, Response,
        ResponseBuilder, Schema, SchemaFormat, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::Named;
use crate::{
    cookies,
    error::{CODES, Family, OAuthError, PROBLEM_JSON, Problem, Refusal},
    freshness::MinPosition,
    idempotency::IdempotencyKey,
};

/// `Authorization: Bearer …`.
pub const BEARER: &str = "bearer";
/// The cookie of a session.
pub const COOKIE: &str = "cookie";
/// The cookie of a console session.
pub const CONSOLE_COOKIE: &str = "console_cookie";
/// The cookie of a console session's refresh token.
const REFRESH: &str = "refresh";
/// What a change needs beside the cookie.
pub const CSRF: &str = "csrf";
/// A client's id and secret.
const CLIENT: &str = "client";

pub const REQUEST_ID: &str = "X-Request-ID";
pub const REVOCATION: &str = "X-Revocation";
pub const ACKNOWLEDGED: &str = "X-Revocation-Acknowledged";
pub const RETRY_AFTER: &str = "Retry-After";
pub const CHALLENGE: &str = "WWW-Authenticate";

impl Family {
    const ALL: [Self; 3] = [Self::Refusal, Self::Problem, Self::OAuth];

    fn schema(self) -> (&'static str, &'static str) {
        match self {
            Self::Refusal => ("Refusal", "application/json"),
            Self::Problem => ("Problem", PROBLEM_JSON),
            Self::OAuth => ("OAuthError", "application/json"),
        }
    }

    /// The shared response of a status.
    pub fn response(self, status: StatusCode) -> Ref {
        Ref::from_response_name(self.response_name(status))
    }

    fn response_name(self, status: StatusCode) -> String {
        format!("{}{}", self.schema().0, status.as_u16())
    }

    /// Gives a refusal the body of the family, and the header that its status has. One with a body of
    /// its own stays as its annotation says.
    pub fn fill(self, status: StatusCode, response: &mut Response) {
        if !response.content.is_empty() {
            return;
        }
        let (schema, content_type) = self.schema();
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build();
        response.content.insert(content_type.to_owned(), RefOr::T(content));
        let header = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => CHALLENGE,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => RETRY_AFTER,
            _ => return,
        };
        response.headers.insert(header.to_owned(), header_ref(header));
    }
}

/// The codes of a status, each with its meaning.
pub fn meaning(status: StatusCode) -> String {
    let rows = CODES.iter().filter(|row| row.status == status);
    rows.map(|row| format!("`{}`: {}.", row.name, row.meaning)).collect::<Vec<_>>().join("\n\n")
}

pub fn header_ref(name: &str) -> RefOr<Header> {
    RefOr::Ref(Ref::new(format!("#/components/headers/{name}")))
}

pub fn parameter_ref(name: &str) -> RefOr<Parameter> {
    RefOr::Ref(Ref::new(format!("#/components/parameters/{name}")))
}

/// Adds everything that is shared.
pub fn add(components: &mut Components) {
    let errors: [Named; 3] = [
        (Refusal::name().into_owned(), Refusal::schema()),
        (Problem::name().into_owned(), Problem::schema()),
        (OAuthError::name().into_owned(), OAuthError::schema()),
    ];
    components.schemas.extend(errors);
    for (name, header) in headers() {
        components.headers.insert(name.to_owned(), RefOr::T(header));
    }
    for parameter in parameters() {
        components.parameters.insert(parameter.name.clone(), RefOr::T(parameter));
    }
    for (name, scheme) in security_schemes() {
        components.security_schemes.insert(name.to_owned(), RefOr::T(scheme));
    }
    for family in Family::ALL {
        for row in &CODES {
            let mut response = ResponseBuilder::new().description(meaning(row.status)).build();
            family.fill(row.status, &mut response);
            response.headers.insert(REQUEST_ID.to_owned(), header_ref(REQUEST_ID));
            components.responses.insert(family.response_name(row.status), RefOr::T(response));
        }
    }
}

fn headers() -> [(&'static str, Header); 12] {
    let header = |schema: ObjectBuilder, words: &str| {
        HeaderBuilder::new().schema(Some(schema)).description(Some(words)).build()
    };
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let id = || text().format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)));
    [
        (
            REQUEST_ID,
            header(id(), "The name of the request, in its answer, in its events and in the server's log."),
        ),
        ("X-Log-Position", header(position(), "Where in the log this answer stands.")),
        (
            REVOCATION,
            header(
                text().enum_values(Some(["effective"])),
                "`effective`: no replica accepts it any more, anywhere.",
            ),
        ),
        (
            ACKNOWLEDGED,
            header(
                text().pattern(Some("^[0-9]+/[0-9]+$")),
                "How many replicas had acknowledged it by then, and of how many, such as `2/3`: where not \
                 all had, the leases are over by which the others could have accepted it. Absent where \
                 the list of replicas could not be read.",
            ),
        ),
        (
            RETRY_AFTER,
            header(
                ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)),
                "Seconds to wait before the next attempt.",
            ),
        ),
        (
            CHALLENGE,
            header(
                text(),
                "What is missing, in the words of RFC 6750 section 3; on `/oauth` in those of RFC 7617.",
            ),
        ),
        (
            "Set-Cookie",
            header(
                text(),
                "`multica_auth` and `multica_csrf`, in a header each; of a console session `remoco_auth`, \
                 `remoco_refresh` and `remoco_csrf`; `tally_oidc` while somebody is at a login provider.",
            ),
        ),
        ("Location", header(text(), "Where the browser goes next.")),
        ("X-User-ID", header(id(), "The person.")),
        ("X-Credential-ID", header(id(), "What the person showed.")),
        ("X-Actor-Kind", header(text(), "`person`.")),
        ("X-Actor-Source", header(text(), "The kind of credential, such as `session`.")),
    ]
}

fn parameters() -> impl Iterator<Item = Parameter> {
    let request_id = header_parameter(
        REQUEST_ID,
        ObjectBuilder::new().schema_type(Type::String),
        "A UUID that names the request. Without one, or with anything else, the server makes one.",
    );
    let of_types = [MinPosition::into_params(|| None), IdempotencyKey::into_params(|| None)];
    let original_method = header_parameter(
        "X-Original-Method",
        // RFC 9110 section 9.1: a method is a token.
        ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[-!#$%&'*+.^_`|~0-9A-Za-z]+$")),
        "The original request's method; or `X-Forwarded-Method`, as Caddy and Traefik say it.",
    );
    of_types.into_iter().flatten().chain([request_id, original_method])
}

fn header_parameter(name: &str, schema: impl Into<Schema>, words: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .schema(Some(schema.into()))
        .description(Some(words))
        .build()
}

/// A position in the log.
fn position() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(0))
}

impl IntoParams for MinPosition {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![header_parameter(
            "X-Min-Position",
            position(),
            "Reads one's own writes: the `X-Log-Position` of an earlier answer. The answer shows the log up \
             to there at least, or is `503` when that takes too long.",
        )]
    }
}

impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![header_parameter(
            "Idempotency-Key",
            ObjectBuilder::new()
                .schema_type(Type::String)
                .min_length(Some(1))
                .max_length(Some(255))
                .pattern(Some("^[!-~]([ -~]*[!-~])?$")),
            "Sent again with the same key within 24 hours, by the same person to the same route, the request \
             acts once: the retry is `409` with the `id` of what was made. Another request under the same \
             key is `422`.",
        )]
    }
}

fn security_schemes() -> [(&'static str, SecurityScheme); 6] {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A session's JWT or a token. Where one is sent, cookies are not looked at."));
    let cookie = ApiKeyValue::with_description(cookies::AUTH, "A session's JWT, as a login set it.");
    let console = ApiKeyValue::with_description(
        cookies::CONSOLE_AUTH,
        "A console session's access token. Beside the cookie of a session it counts on `/v1`, and the other \
         one everywhere else.",
    );
    let refresh = ApiKeyValue::with_description(
        cookies::CONSOLE_REFRESH,
        "A console session's refresh token, which is sent to `/v1/sessions` alone.",
    );
    let csrf = ApiKeyValue::with_description(
        "X-CSRF-Token",
        "The value of the cookie `multica_csrf`, or `remoco_csrf` for a console session. A change by cookie \
         needs it.",
    );
    let client = HttpBuilder::new()
        .scheme(HttpAuthScheme::Basic)
        .description(Some("A client that the operator has configured: its id and its secret."));
    [
        (BEARER, SecurityScheme::Http(bearer.build())),
        (COOKIE, SecurityScheme::ApiKey(ApiKey::Cookie(cookie))),
        (CONSOLE_COOKIE, SecurityScheme::ApiKey(ApiKey::Cookie(console))),
        (REFRESH, SecurityScheme::ApiKey(ApiKey::Cookie(refresh))),
        (CSRF, SecurityScheme::ApiKey(ApiKey::Header(csrf))),
        (CLIENT, SecurityScheme::Http(client.build())),
    ]
}
