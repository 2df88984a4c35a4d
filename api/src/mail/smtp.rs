//! Mail over SMTP (RFC 5321), one connection a message.
//!
//! Connections are not kept: a code is mailed when somebody waits for it, and a connection that was
//! given up in the middle of a command must never carry another message.

use std::{io, time::Duration};

use async_trait::async_trait;
use lettre::{
    address::Envelope,
    transport::smtp::{
        self,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, TlsParameters},
        commands::{Data, Mail, Rcpt},
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
    },
};
use tokio::time::{Instant, timeout, timeout_at};
use zeroize::Zeroizing;

use super::{
    message::{ComposeError, Message},
    transport::{Failure, FailureKind, Transport},
};

/// Connecting to one address of the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The answer to a message that was given away. It is waited for even where time is up: without it
/// nobody knows whether the message arrived.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);
/// RFC 5321 section 4.2.1: go on and send the text.
const START_MAIL_INPUT: u16 = 354;

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpSecurity {
    /// In the clear: for a relay on this machine.
    None,
    /// STARTTLS (RFC 3207) where the server offers it, else in the clear; with a password the same as
    /// [`Required`](Self::Required).
    Starttls,
    /// STARTTLS, or nothing is said.
    Required,
    /// TLS from the first byte (RFC 8314).
    Implicit,
}

#[derive(Clone)]
pub struct SmtpCredentials {
    pub username: String,
    pub password: Zeroizing<String>,
}

#[derive(Clone)]
pub struct SmtpSettings {
    pub host: String,
    pub port: u16,
    pub credentials: Option<SmtpCredentials>,
    pub security: SmtpSecurity,
    /// Any certificate will do.
    pub accepts_any_certificate: bool,
    /// What the server is greeted with.
    pub hello: String,
}

pub struct Smtp {
    host: String,
    port: u16,
    hello: ClientId,
    credentials: Option<Credentials>,
    security: SmtpSecurity,
    tls: TlsParameters,
}

impl Smtp {
    /// # Errors
    /// When this machine has no certificates to check the server's against.
    pub fn new(settings: &SmtpSettings) -> Result<Self, smtp::Error> {
        let tls = TlsParameters::builder(settings.host.clone())
            .dangerous_accept_invalid_certs(settings.accepts_any_certificate)
            .dangerous_accept_invalid_hostnames(settings.accepts_any_certificate)
            .build()?;
        let credentials = settings.credentials.as_ref();
        let security = match settings.security {
            SmtpSecurity::Starttls if credentials.is_some() => SmtpSecurity::Required,
            security => security,
        };
        Ok(Self {
            host: settings.host.clone(),
            port: settings.port,
            hello: ClientId::Domain(settings.hello.clone()),
            credentials: credentials
                .map(|known| Credentials::new(known.username.clone(), known.password.to_string())),
            security,
            tls,
        })
    }

    /// A connection that is ready for a message.
    async fn session(&self) -> Result<AsyncSmtpConnection, Failure> {
        let implicit = (self.security == SmtpSecurity::Implicit).then(|| self.tls.clone());
        let server = (self.host.as_str(), self.port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, Some(CONNECT_TIMEOUT), &self.hello, implicit, None)
                .await
                .map_err(|error| no_session("connecting", &error))?;
        let upgrade = match self.security {
            SmtpSecurity::Required => true,
            SmtpSecurity::Starttls => connection.can_starttls(),
            SmtpSecurity::None | SmtpSecurity::Implicit => false,
        };
        if upgrade {
            let upgraded = connection.starttls(self.tls.clone(), &self.hello).await;
            upgraded.map_err(|error| no_session("STARTTLS", &error))?;
        }
        if let Some(credentials) = &self.credentials {
            let accepted = connection.auth(DEFAULT_MECHANISMS, credentials).await;
            accepted.map_err(|error| no_session("logging in", &error))?;
        }
        Ok(connection)
    }

    /// Everything up to the message itself.
    async fn prepare(&self, envelope: &Envelope) -> Result<AsyncSmtpConnection, Failure> {
        let mut connection = self.session().await?;
        let mut parameters = Vec::new();
        if !is_ascii(envelope) {
            // RFC 6531 section 3.2: a server that does not offer it is not asked.
            if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                let cause = "the server takes no address outside ASCII (SMTPUTF8)";
                return Err(Failure::new(FailureKind::Rejected, cause));
            }
            parameters.push(MailParameter::SmtpUtfEight);
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let sender = Mail::new(envelope.from().cloned(), parameters);
        connection.command(sender).await.map_err(|error| no_message("the sender", &error))?;
        for recipient in envelope.to() {
            let recipient = Rcpt::new(recipient.clone(), Vec::new());
            connection.command(recipient).await.map_err(|error| no_message("the recipient", &error))?;
        }
        let go_on = connection.command(Data).await.map_err(|error| no_message("a message", &error))?;
        // Any other yes is the answer to another question: then nothing it says can be believed.
        if !go_on.has_code(START_MAIL_INPUT) {
            return Err(Failure::new(FailureKind::Unreachable, "the server's answers are out of step"));
        }
        Ok(connection)
    }
}

#[async_trait]
impl Transport for Smtp {
    async fn deliver(&self, message: &Message, until: Instant) -> Result<(), Failure> {
        let (envelope, text) = message.to_wire()?;
        let mut connection = timeout_at(until, self.prepare(&envelope))
            .await
            .map_err(|_| Failure::new(FailureKind::Unreachable, "the server was too slow"))??;
        match timeout(ANSWER_TIMEOUT, connection.message(&text)).await {
            Ok(Ok(_)) => {
                // The message is theirs: how they part is no news.
                drop(timeout(QUIT_TIMEOUT, connection.quit()).await);
                Ok(())
            }
            Ok(Err(error)) if error.status().is_some() => Err(no_message("the message", &error)),
            // Another attempt could be a second mail.
            Ok(Err(_)) | Err(_) => Err(Failure::in_doubt(
                FailureKind::Rejected,
                "the server did not say whether it took the message",
            )),
        }
    }
}

fn is_ascii(envelope: &Envelope) -> bool {
    envelope.from().into_iter().chain(envelope.to()).all(|address| AsRef::<str>::as_ref(address).is_ascii())
}

/// What went wrong before the server was asked to take anything.
fn no_session(step: &str, error: &smtp::Error) -> Failure {
    let permanent = error.is_permanent() || error.is_client() || is_certificate_refusal(error);
    let kind = if permanent { FailureKind::Unwelcome } else { FailureKind::Unreachable };
    Failure::new(kind, format!("{step} failed: {}", describe(error)))
}

/// What went wrong with this message.
fn no_message(what: &str, error: &smtp::Error) -> Failure {
    let kind = if error.is_permanent() { FailureKind::Rejected } else { FailureKind::Unreachable };
    Failure::new(kind, format!("{what} was not taken: {}", describe(error)))
}

/// An error without anything the server said but its number: its words like to quote addresses.
fn describe(error: &smtp::Error) -> String {
    if let Some(code) = error.status() {
        format!("the server answered {code}")
    } else if error.is_response() {
        "the server did not speak SMTP".to_owned()
    } else {
        error.to_string()
    }
}

/// rustls wraps what it finds wrong with the other side into an I/O error of this kind.
fn is_certificate_refusal(error: &smtp::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return io.kind() == io::ErrorKind::InvalidData;
        }
        source = inner.source();
    }
    false
}

impl From<ComposeError> for Failure {
    fn from(error: ComposeError) -> Self {
        Self::new(FailureKind::Rejected, error.to_string())
    }
}
