//! One mail, composed: its headers, and its text in two forms.

use std::{str::FromStr, time::SystemTime};

use chrono::{DateTime, Utc};
use lettre::{
    Address,
    address::Envelope,
    message::{
        Mailbox, MultiPart, SinglePart,
        header::{HeaderName, HeaderValue},
    },
};
use tally_domain::EmailAddress;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::templates::{RenderError, Rendered};

/// Who the mails are from: an address, or a name and an address.
#[derive(Clone)]
pub struct Sender(Mailbox);

impl FromStr for Sender {
    type Err = String;

    /// The error is worded to stand behind a setting's name.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = "is neither an address such as tally@example.org nor one with a name such as \
                     Tally <tally@example.org>";
        if text.chars().any(char::is_control) {
            return Err(wrong.to_owned());
        }
        text.parse().map(Self).map_err(|_| wrong.to_owned())
    }
}

/// A message that is ready to leave.
pub struct Message {
    /// The same at every attempt, so that whoever gets it twice can tell.
    pub id: Uuid,
    pub from: Mailbox,
    pub to: Address,
    /// One line.
    pub subject: String,
    pub text: Zeroizing<String>,
    pub html: Zeroizing<String>,
    pub date: DateTime<Utc>,
}

/// Why a message could not be composed.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    #[error(transparent)]
    Template(#[from] RenderError),
    #[error("the address is none that mail can be sent to")]
    Recipient,
    #[error("the message cannot be encoded")]
    Encoding(#[source] lettre::error::Error),
}

impl Message {
    pub fn new(
        sender: &Sender,
        to: &EmailAddress,
        rendered: Rendered,
        date: DateTime<Utc>,
    ) -> Result<Self, ComposeError> {
        let Rendered { subject, text, html } = rendered;
        Ok(Self { id: Uuid::now_v7(), from: sender.0.clone(), to: recipient(to)?, subject, text, html, date })
    }

    /// RFC 5322 section 3.6.4.
    pub fn message_id(&self) -> String {
        format!("<{}@{}>", self.id, self.from.email.domain())
    }

    /// Headers that tell machines that a machine wrote this: RFC 3834 section 5, and the one that
    /// keeps Exchange from answering that somebody is away.
    pub const AUTOMATIC: [(&str, &str); 2] =
        [("Auto-Submitted", "auto-generated"), ("X-Auto-Response-Suppress", "All")];

    /// The message as it travels over SMTP, and between whom.
    pub fn to_wire(&self) -> Result<(Envelope, Zeroizing<Vec<u8>>), ComposeError> {
        let builder = lettre::Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, self.to.clone()))
            .subject(self.subject.as_str())
            .date(SystemTime::from(self.date))
            .message_id(Some(self.message_id()));
        let automatic = Self::AUTOMATIC
            .map(|(name, value)| HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned()));
        let message = automatic
            .into_iter()
            .fold(builder, lettre::message::MessageBuilder::raw_header)
            .multipart(
                MultiPart::alternative()
                    .singlepart(SinglePart::plain(self.text.to_string()))
                    .singlepart(SinglePart::html(self.html.to_string())),
            )
            .map_err(ComposeError::Encoding)?;
        Ok((message.envelope().clone(), Zeroizing::new(message.formatted())))
    }
}

/// The address as it was typed. One in another script is not rewritten in ASCII: several spellings
/// would then reach one mailbox, each with limits of its own.
fn recipient(to: &EmailAddress) -> Result<Address, ComposeError> {
    Address::new(to.local_part(), to.domain()).map_err(|_| ComposeError::Recipient)
}

#[cfg(test)]
mod tests;
