//! What can go wrong, told to the person at the terminal, and the exit code a script sees.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use super::output;

/// How a command ended. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    Ok = 0,
    Other = 1,
    /// The server cannot be reached.
    Network = 2,
    /// No token, or one that does not reach this far.
    Auth = 3,
    NotFound = 4,
    BadInput = 5,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// A command line that clap did not take: clap itself would exit with 2, which is the network here.
impl From<&clap::Error> for ExitCode {
    fn from(error: &clap::Error) -> Self {
        if error.use_stderr() { Self::BadInput } else { Self::Ok }
    }
}

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(
        "cannot reach {server}: {reason}; is the server running, and is this its URL? (--server, TALLY_SERVER_URL, \
         MULTICA_SERVER_URL, then the profile)"
    )]
    Unreachable { server: String, reason: String },

    #[error("lost {server} before it answered: {reason}; what was asked may or may not have been done")]
    Unknown { server: String, reason: String },

    #[error("{server} does not answer as a Tallystick server does ({what}); check the URL")]
    Foreign { server: String, what: String },

    /// What was named is not among what the server shows.
    #[error("{0}")]
    Absent(String),

    #[error("{0}")]
    Refused(Box<Refusal>),

    #[error("not logged in to {server}; run `tally login`")]
    LoggedOut { server: String },

    #[error(
        "the saved token is for {saved} and is not sent to {server}; run `tally login` for this server (with another \
         --profile to keep both), or give a token in TALLY_TOKEN"
    )]
    OtherServer { saved: String, server: String },

    #[error("{server} does not accept this token; nothing was saved")]
    TokenRejected { server: String },

    /// Something on the command line, at a prompt or in the environment.
    #[error("{0}")]
    Input(String),

    #[error("{} is not a profile ({reason}); correct it, or move it away and run `tally login`", path.display())]
    Profile { path: PathBuf, reason: String },

    #[error("could not {action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },

    #[error("could not read standard input")]
    Prompt(#[source] io::Error),

    #[error("interrupted")]
    Interrupted,

    #[error("could not write the output")]
    Output(#[source] io::Error),

    /// The reader of the output went away.
    #[error("the output was closed")]
    OutputClosed,

    #[error("could not set up the HTTP client")]
    Http(#[source] reqwest::Error),
}

impl Failure {
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unreachable { .. } | Self::Unknown { .. } => ExitCode::Network,
            Self::LoggedOut { .. } | Self::OtherServer { .. } | Self::TokenRejected { .. } => ExitCode::Auth,
            Self::Absent(_) => ExitCode::NotFound,
            Self::Input(_) | Self::Profile { .. } => ExitCode::BadInput,
            Self::Refused(refusal) => refusal.exit_code(),
            Self::Foreign { .. }
            | Self::File { .. }
            | Self::Prompt(_)
            | Self::Interrupted
            | Self::Output(_)
            | Self::Http(_) => ExitCode::Other,
            Self::OutputClosed => ExitCode::Ok,
        }
    }

    /// Prints the failure and its causes as one line on standard error.
    pub fn print(&self) {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        output::labelled("\x1b[1;31m", "error", &text);
    }

    /// The status of a refusal.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            _ => None,
        }
    }

    /// Whether the same question may well be answered a moment later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Unknown { .. } => true,
            Self::Refused(refusal) => matches!(refusal.status, 408 | 429 | 500..),
            _ => false,
        }
    }

    /// How long the server asked to wait.
    pub(super) fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::Refused(refusal) => refusal.retry_after_seconds,
            _ => None,
        }
    }
}

/// What the server said instead of yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub(super) status: u16,
    pub(super) message: String,
    pub(super) request_id: Option<String>,
    pub(super) retry_after_seconds: Option<u64>,
    /// Whether a token was shown: then another one may help.
    pub(super) with_token: bool,
}

impl Refusal {
    fn exit_code(&self) -> ExitCode {
        match self.status {
            401 | 403 => ExitCode::Auth,
            404 | 410 => ExitCode::NotFound,
            400 | 422 => ExitCode::BadInput,
            _ => ExitCode::Other,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.status {
            401 if self.with_token => f.write_str("; run `tally login`")?,
            403 if self.with_token => f.write_str("; to act as somebody else, run `tally login`")?,
            _ => {}
        }
        if let Some(seconds) = self.retry_after_seconds {
            let wait = humantime::format_duration(std::time::Duration::from_secs(seconds));
            write!(f, "; try again in {wait}")?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " (request {id})")?;
        }
        Ok(())
    }
}
