//! `tally login`: a code sent by e-mail becomes a session, the session mints a token, the token is kept, the session ends.

use clap::Args;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use tally_domain::credential::{CredentialKind, Plaintext};

use super::Client;
use super::failure::Failure;
use super::http::{Call, Server};
use super::settings::Key;
use super::{machine, output, prompt};

/// How long the minted token lives.
const LIFETIME_DAYS: u32 = 90;
/// How often a person may mistype the code; the server allows no more than five.
const ATTEMPTS_MAX: u32 = 3;

/// Log in, and keep a personal access token in the profile
///
/// A code is sent to your e-mail address; type it at the prompt. With it, a token that lives 90 days is minted for this
/// machine, unless the profile holds a valid one already. The login session itself is ended again.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  tally login
  tally login --email ada@example.org --server https://tally.example.org
  tally login --token                      asks for a token, without showing it
  pass show tally | tally login --with-token
  printf 'ada@example.org\\n123456\\n' | tally login")]
pub struct LoginArgs {
    /// Your e-mail address, instead of asking for it
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["token", "with_token"])]
    email: Option<String>,

    /// Keep this token; without a value, or with an empty one, ask for it
    ///
    /// Other users of this machine can see a value given here; prefer the prompt or --with-token.
    #[arg(
        long, value_name = "TOKEN", num_args = 0..=1, default_missing_value = "", value_parser = secret,
        conflicts_with = "with_token",
    )]
    token: Option<Plaintext>,

    /// Keep the token that standard input holds
    #[arg(long)]
    with_token: bool,

    /// What follows a token that was broken by a space. It is caught here so that nothing prints it.
    #[arg(hide = true, value_parser = secret)]
    extra: Vec<Plaintext>,
}

#[expect(clippy::unnecessary_wraps, reason = "the shape clap asks of a parser")]
pub(super) fn secret(text: &str) -> Result<Plaintext, std::convert::Infallible> {
    Ok(Plaintext::new(text))
}

/// How somebody wants to log in.
#[derive(Debug)]
pub(super) enum Way {
    Code { email: Option<String> },
    Token(Plaintext),
    AskToken,
    ReadToken,
}

impl LoginArgs {
    pub(super) fn way(self) -> Result<Way, Failure> {
        if !self.extra.is_empty() {
            return Err(Failure::Input(match self.token {
                Some(_) => {
                    "there is more after the value of --token; a token is one word without spaces".to_owned()
                }
                None => "`tally login` takes no bare arguments; a token goes behind --token".to_owned(),
            }));
        }
        Ok(match self.token {
            _ if self.with_token => Way::ReadToken,
            None => Way::Code { email: self.email },
            Some(token) if token.expose().trim().is_empty() => Way::AskToken,
            Some(token) => Way::Token(Plaintext::new(token.expose().trim())),
        })
    }
}

/// Who somebody is, as far as the client tells it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(super) struct User {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) email: String,
}

/// What a right code is good for.
#[derive(Deserialize)]
pub(super) struct Session {
    #[serde(deserialize_with = "plaintext")]
    pub(super) token: Plaintext,
    pub(super) user: User,
}

#[derive(Deserialize)]
struct Minted {
    id: String,
    #[serde(deserialize_with = "plaintext")]
    token: Plaintext,
}

pub(super) fn plaintext<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Plaintext, D::Error> {
    String::deserialize(deserializer).map(Plaintext::new)
}

pub(super) async fn run(mut client: Client, args: LoginArgs) -> Result<(), Failure> {
    let way = args.way()?;
    client.profile.check_writable()?;
    if client.server.url().is_in_the_clear() {
        output::warn(&format!(
            "{} is not encrypted; who is on the way there can read your token",
            client.server.url()
        ));
    }
    let user = match way {
        Way::Code { email } => with_code(&mut client, email).await?,
        Way::Token(token) => with_token(&mut client, token).await?,
        Way::AskToken => {
            let token = prompt::secret("Token:")?;
            with_token(&mut client, token).await?
        }
        Way::ReadToken => with_token(&mut client, prompt::all()?).await?,
    };
    report(&client, &user)
}

fn report(client: &Client, user: &User) -> Result<(), Failure> {
    if client.json {
        output::json(&json!({
            "profile": client.profile.name().to_string(),
            "server_url": client.server.url().to_string(),
            "user": user,
        }))?;
    } else {
        let (name, email) = (output::clean(&user.name), output::clean(&user.email));
        output::line(format_args!("Authenticated as {name} ({email})"))?;
        output::line("Token saved to config.")?;
    }
    client.warn_if_overridden();
    Ok(())
}

/// Checks a token somebody gave, and keeps it.
pub(super) async fn with_token(client: &mut Client, token: Plaintext) -> Result<User, Failure> {
    // A cloud node's token acts for its owner, and so may stand where a personal one does.
    let kinds = [CredentialKind::PersonalAccessToken, CredentialKind::CloudNodeToken];
    if !kinds.into_iter().filter_map(CredentialKind::prefix).any(|prefix| token.expose().starts_with(prefix))
    {
        return Err(Failure::Input("invalid token format: must start with mul_ or mcn_".to_owned()));
    }
    let user = match me(&client.server, &token).await {
        Err(failure) if failure.status() == Some(401) => {
            return Err(Failure::TokenRejected { server: client.server.url().to_string() });
        }
        answer => answer?,
    };
    client.keep(&token)?;
    Ok(user)
}

async fn with_code(client: &mut Client, email: Option<String>) -> Result<User, Failure> {
    let email = match email {
        Some(email) => email.trim().to_owned(),
        None => prompt::line("E-mail:")?,
    };
    match client.server.send(Call::post("/auth/send-code").json(json!({ "email": email }))).await {
        // The code that was sent a moment ago still works, so this is no reason to send anybody away.
        Err(failure) if failure.status() == Some(429) => {
            output::note(&format!(
                "No other code was sent ({failure}); the last one to {email} may still be good."
            ));
        }
        sent => {
            sent?;
            output::note(&format!(
                "A code is on its way to {email}, good for 10 minutes. A server without a mailer writes it to its log."
            ));
        }
    }
    let session = verify_code(&client.server, &email).await?;
    let kept = keep_one(client, &session).await;
    end_session(&client.server, &session).await;
    kept?;
    Ok(session.user)
}

async fn verify_code(server: &Server, email: &str) -> Result<Session, Failure> {
    let mut attempt = 1;
    loop {
        let code: String = prompt::line("Code:")?.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
        let call = Call::post("/auth/verify-code").json(json!({ "email": email, "code": code }));
        match server.send(call).await {
            Err(failure)
                if failure.status() == Some(400) && prompt::is_terminal() && attempt < ATTEMPTS_MAX =>
            {
                failure.print();
                attempt += 1;
            }
            answer => return answer?.json(),
        }
    }
}

/// Leaves the profile with a valid token of the session's user: the one it has, or a new one.
pub(super) async fn keep_one(client: &mut Client, session: &Session) -> Result<(), Failure> {
    if let Some(token) = client.saved_token() {
        match me(&client.server, &token).await {
            Ok(user) if user.id == session.user.id => return client.keep(&token),
            Ok(_) => {}
            Err(failure) if failure.status() == Some(401) => {}
            Err(failure) => return Err(failure),
        }
    }
    let name = format!("CLI ({})", machine::host_name());
    let body = json!({ "name": name, "expires_in_days": LIFETIME_DAYS });
    let call = Call::post("/api/tokens").token(&session.token).json(body);
    let minted: Minted = client.server.send(call).await?.json()?;
    let kept = match me(&client.server, &minted.token).await {
        Ok(_) => client.keep(&minted.token),
        Err(failure) => Err(failure),
    };
    if kept.is_err() {
        // Nobody will ever hold this token: it must not stay valid.
        let call = Call::delete(format!("/api/tokens/{}", minted.id)).token(&session.token);
        if client.server.send(call).await.is_err() {
            output::warn(&format!("the token {} was minted but neither kept nor revoked", minted.id));
        }
    }
    kept
}

/// Only the token is kept. A session that could not be ended expires by itself; the login has succeeded all the same.
async fn end_session(server: &Server, session: &Session) {
    if let Err(failure) = server.send(Call::post("/auth/logout").token(&session.token)).await {
        output::warn(&format!("the login session could not be ended and stays until it expires: {failure}"));
    }
}

async fn me(server: &Server, token: &Plaintext) -> Result<User, Failure> {
    server.send(Call::get("/api/me").token(token)).await?.json()
}

impl Client {
    /// The profile's own token, unless it is for another server.
    fn saved_token(&self) -> Option<Plaintext> {
        let token = self.profile.get(Key::Token).filter(|_| self.settings.server_may_have_saved_token())?;
        Some(Plaintext::new(token))
    }

    /// Keeps a token and the server it is for. A workspace chosen before may be unknown to them.
    fn keep(&mut self, token: &Plaintext) -> Result<(), Failure> {
        self.profile.update(&[
            (Key::ServerUrl, Some(&self.server.url().to_string())),
            (Key::Token, Some(token.expose())),
            (Key::WorkspaceId, None),
        ])
    }

    /// Says so if a token of the environment hides the profile's.
    pub(super) fn warn_if_overridden(&self) {
        if let Some(variable) = self.settings.token_variable() {
            output::warn(&format!("{variable} is set, and goes before the profile's token"));
        }
    }
}
