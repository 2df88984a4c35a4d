//! Mail: what is said, by whom it leaves, and what becomes of it.
//!
//! A handler asks for a [`Place`], does its work, and posts a [`Letter`] once that is durable. It
//! does not wait: the [`outbox`] composes the mail from the [`templates`], hands it to a
//! [`transport`], tries again for a while, and declares a code that could not be mailed
//! undeliverable. Without a mailer, codes go to the server's log.

mod message;
mod outbox;
mod resend;
mod smtp;
mod templates;
mod transport;
mod undeliverable;

use chrono::{DateTime, Utc};
use tally_domain::{
    EmailAddress,
    login::{Digits, IssuedCode},
};
use tally_events::{InvitationId, RequestId, Role};

pub use message::Sender;
pub use outbox::{MailError, Outbox, Place};
pub use resend::ResendSettings;
pub use smtp::{SmtpCredentials, SmtpSecurity, SmtpSettings};
pub use templates::{Site, TemplateError, Templates};

/// Everything that is mailed.
pub enum Mail {
    /// The code somebody asked for.
    LoginCode {
        digits: Digits,
        issued: IssuedCode,
    },
    /// In place of the code, where the address may not sign up: the answer to the request does not say so.
    SignupRefused {
        issued: IssuedCode,
    },
    Invitation(Invitation),
}

/// An invitation to a workspace. The mail leads to its page in the web client.
pub struct Invitation {
    pub id: InvitationId,
    /// The workspace's name.
    pub workspace: String,
    /// The name of who invites.
    pub inviter: String,
    pub role: Role,
    pub expires_at: DateTime<Utc>,
}

impl Mail {
    /// How logs and template files name it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::LoginCode { .. } => "login_code",
            Self::SignupRefused { .. } => "signup_refused",
            Self::Invitation(_) => "invitation",
        }
    }

    /// The code that is worth nothing if this mail does not arrive.
    #[must_use]
    pub const fn code(&self) -> Option<IssuedCode> {
        match self {
            Self::LoginCode { issued, .. } | Self::SignupRefused { issued } => Some(*issued),
            Self::Invitation(_) => None,
        }
    }
}

/// One mail on its way.
pub struct Letter {
    pub to: EmailAddress,
    pub mail: Mail,
    /// The request it answers: log lines name it in place of the address.
    pub request: Option<RequestId>,
}

/// Who carries the mail, decided once by the binary.
#[derive(Clone)]
pub struct MailSettings {
    pub carrier: Carrier,
    pub sender: Sender,
    pub site: Site,
    pub templates: Templates,
}

/// The ways out of the house.
#[derive(Clone)]
pub enum Carrier {
    Smtp(SmtpSettings),
    Resend(ResendSettings),
}

/// What handlers post letters to.
#[derive(Clone)]
pub enum Mailer {
    /// Nothing leaves: codes are printed to the server's log.
    Log,
    Outbox(Outbox),
}

/// As many mails are under way as may be.
#[derive(Debug, thiserror::Error)]
#[error("too many mails are under way")]
pub struct Full;

impl Mailer {
    /// A place for one letter. Asked for before the letter's cause is recorded, so that nobody is
    /// told to wait for a mail that nobody will send.
    ///
    /// # Errors
    /// When as many mails are under way as may be.
    pub fn place(&self) -> Result<Place, Full> {
        match self {
            Self::Log => Ok(Place::unlimited()),
            Self::Outbox(outbox) => outbox.place(),
        }
    }

    /// Sends a letter on its way, without waiting for anything.
    pub fn post(&self, place: Place, letter: Letter) {
        match self {
            Self::Log => print(&letter),
            Self::Outbox(outbox) => outbox.post(place, letter),
        }
    }

    /// Letters that are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        match self {
            Self::Log => 0,
            Self::Outbox(outbox) => outbox.under_way(),
        }
    }

    /// Whether what is posted leaves as mail.
    #[must_use]
    pub const fn sends(&self) -> bool {
        matches!(self, Self::Outbox(_))
    }
}

/// Without a mailer the code goes to the server's log: the named exception to the rule that no
/// secret is printed. Of the address it has one letter, to tell two people apart: a domain may name
/// its one owner, and lines of a log outlive an erasure.
fn print(letter: &Letter) {
    let request_id = letter.request.map(|id| id.to_string()).unwrap_or_default();
    match &letter.mail {
        Mail::LoginCode { digits, .. } => {
            let first = letter.to.local_part().chars().next().unwrap_or('?');
            let digits = digits.expose();
            tracing::info!(
                request.id = request_id,
                "login code {digits} for {first}… (no mailer is configured)"
            );
        }
        Mail::SignupRefused { .. } | Mail::Invitation(_) => {
            let kind = letter.mail.kind();
            tracing::info!(
                request.id = request_id,
                mail.kind = kind,
                "a mail was not sent: no mailer is configured"
            );
        }
    }
}
