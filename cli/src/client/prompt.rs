//! Questions to the person, or to the script that feeds standard input. They are asked on standard error.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use inquire::{InquireError, Password, PasswordDisplayMode, Text};
use tally_domain::credential::Plaintext;

use super::failure::Failure;

const LINE_BYTES_MAX: u64 = 4096;

/// Whether a person sits there, who can be asked again.
pub(super) fn is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Asks for a line.
pub(super) fn line(question: &str) -> Result<String, Failure> {
    let answer = if is_terminal() {
        Text::new(question).prompt().map_err(refused)?
    } else {
        read_line(question)?.expose().to_owned()
    };
    Ok(answer.trim().to_owned())
}

/// Asks for a line that is not shown.
pub(super) fn secret(question: &str) -> Result<Plaintext, Failure> {
    if !is_terminal() {
        return read_line(question);
    }
    Password::new(question)
        .without_confirmation()
        .with_display_mode(PasswordDisplayMode::Hidden)
        .prompt()
        .map(|answer| trimmed(&Plaintext::new(answer)))
        .map_err(refused)
}

/// All of standard input.
pub(super) fn all() -> Result<Plaintext, Failure> {
    let mut text = String::with_capacity(256);
    io::stdin().lock().take(LINE_BYTES_MAX).read_to_string(&mut text).map_err(Failure::Prompt)?;
    Ok(trimmed(&Plaintext::new(text)))
}

fn read_line(question: &str) -> Result<Plaintext, Failure> {
    let mut err = io::stderr();
    write!(err, "{question} ").and_then(|()| err.flush()).map_err(Failure::Prompt)?;
    let mut text = String::with_capacity(256);
    let read = io::stdin().lock().take(LINE_BYTES_MAX).read_line(&mut text).map_err(Failure::Prompt)?;
    let answer = Plaintext::new(text);
    // Nothing echoes what a script writes, its newline included.
    writeln!(err).map_err(Failure::Prompt)?;
    if read == 0 {
        return Err(Failure::Input(format!("standard input ended before `{question}` was answered")));
    }
    Ok(trimmed(&answer))
}

fn trimmed(text: &Plaintext) -> Plaintext {
    Plaintext::new(text.expose().trim())
}

fn refused(error: InquireError) -> Failure {
    match error {
        InquireError::OperationCanceled | InquireError::OperationInterrupted => Failure::Interrupted,
        InquireError::IO(error) => Failure::Prompt(error),
        error => Failure::Prompt(io::Error::other(error.to_string())),
    }
}
