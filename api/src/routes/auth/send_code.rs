//! `POST /auth/send-code`: makes a login code for an address.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use tally_domain::{
    EmailAddress, Principal,
    claim::Namespace,
    login::{Digits, IssueCode, IssuedCode, LoginRefusal},
};
use tally_events::{LoginId, UserId};
use tally_store::ExecuteError;
use utoipa::ToSchema;

use crate::{
    error::ApiError,
    execute::{CLAIM_ATTEMPTS_MAX, failure},
    mail::{Letter, Mail},
    request_json::RequestJson,
    routes::auth::{Visitor, fill_random, may_sign_up},
    state::App,
};

/// Salt bytes of a code.
const SALT_BYTES: usize = 16;

#[derive(Deserialize, ToSchema)]
pub struct CodeRequest {
    #[schema(value_type = String, format = Email)]
    email: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct CodeSent {
    message: &'static str,
}

/// Send a login code to an address
///
/// The answer is the same whether or not the address has an account or may open one.
#[utoipa::path(
    post,
    path = "/auth/send-code",
    security(()),
    request_body = CodeRequest,
    responses((status = 200, description = "The code is on its way", body = CodeSent), (status = 429))
)]
pub async fn send_code(
    State(app): State<App>,
    visitor: Visitor,
    request: Result<RequestJson<CodeRequest>, ApiError>,
) -> Result<Json<CodeSent>, ApiError> {
    visitor.count(&app, "send-code", app.settings.limits.send).await?;
    let email = EmailAddress::parse(request?.body.email.as_deref().unwrap_or_default())
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    // Before a code is made: one that cannot be mailed would kill the one before, for nothing.
    let place = app.mailer.place().map_err(|_| ApiError::unavailable())?;
    let may_sign_up = may_sign_up(&app, &email).await?;
    let digits = draw_digits();
    let issued = issue(&app, &visitor, &email, &digits).await?;
    let mail = mail(&app, digits, issued, may_sign_up);
    // Nobody waits for it: how long this answer takes tells no more than what it says.
    app.mailer.post(place, Letter { to: email, mail, request: visitor.context.request });
    Ok(Json(CodeSent { message: "Verification code sent" }))
}

async fn issue(
    app: &App,
    visitor: &Visitor,
    email: &EmailAddress,
    digits: &Digits,
) -> Result<IssuedCode, ApiError> {
    // Two first codes of one address at once race for its login history: the loser finds the winner's.
    for _ in 0..CLAIM_ATTEMPTS_MAX {
        let things =
            [Namespace::LoginAddress, Namespace::UserEmail].map(|namespace| (namespace, email.as_str()));
        let [login, user] = app.store.holders(things).await?;
        let (login, user) = (login.map_or_else(LoginId::new, LoginId), user.map(UserId));
        let mut salt = [0; SALT_BYTES];
        fill_random(&mut salt);
        let key = app.keys().login_code();
        let origin = visitor.origin.clone();
        let command = IssueCode::new(login, user, email.clone(), digits, hex::encode(salt), key, origin);
        let issued = IssuedCode { login, code: command.code, user };
        let command = tally_domain::authorize(Principal::Anonymous, command)?;
        match app.replica.execute(&command, visitor.context).await {
            Ok(_) => return Ok(issued),
            Err(ExecuteError::ClaimTaken(_)) => {}
            Err(error) => return Err(failure(error, |refusal| refused(app, &refusal))),
        }
    }
    Err(ApiError::unavailable())
}

/// What the address is told. One that may not sign up gets no code, so that nobody types one in vain.
/// Without a mailer there is nobody to tell, and the code is printed as any other.
fn mail(app: &App, digits: Digits, issued: IssuedCode, may_sign_up: bool) -> Mail {
    if issued.user.is_some() || may_sign_up || !app.mailer.sends() {
        Mail::LoginCode { digits, issued }
    } else {
        Mail::SignupRefused { issued }
    }
}

pub(super) fn refused(app: &App, refusal: &LoginRefusal) -> ApiError {
    let (LoginRefusal::TooManyCodes { until } | LoginRefusal::TooManyGuesses { until }) = refusal;
    let wait = (*until - app.store.clock().now()).to_std().unwrap_or_default();
    ApiError::too_many(refusal.to_string(), wait)
}

/// Six digits, every code equally likely: numbers that would bias the draw are thrown away.
fn draw_digits() -> Digits {
    const CODES: u32 = 1_000_000;
    const UNBIASED: u32 = u32::MAX - u32::MAX % CODES;
    loop {
        let mut bytes = [0; 4];
        fill_random(&mut bytes);
        let number = u32::from_le_bytes(bytes);
        if number < UNBIASED {
            return Digits::from_number(number % CODES);
        }
    }
}
