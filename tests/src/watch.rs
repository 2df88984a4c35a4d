//! No log line of any test's server may hold a token, a session or somebody's address.
//!
//! A [`Client`](crate::Client) looks at what is new in its server's log with every request, and the
//! server looks once more when it is dropped. So whatever leaks turns the test that is running red,
//! wherever it leaks.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// What the plaintext of a token begins with.
const PREFIXES: [&str; 5] = ["mul_", "mdt_", "mat_", "mcn_", "pak_"];
/// A display prefix has 12 characters; one more is too many.
const TOKEN_CHARACTERS_MAX: usize = 12;

/// A log, and how far it was looked at.
pub(crate) struct Watch {
    path: PathBuf,
    seen: Mutex<u64>,
}

impl Watch {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, seen: Mutex::new(0) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the lines that came since.
    ///
    /// # Panics
    /// At a line that tells too much.
    pub(crate) fn look(&self) {
        let lines = self.new_lines();
        for line in lines.lines() {
            assert!(
                leak(line).is_none(),
                "the server's log tells {}: {line}",
                leak(line).unwrap_or_default()
            );
        }
    }

    /// Whole lines only: the last one may still be written.
    fn new_lines(&self) -> String {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(*seen))?;
            file.read_to_end(&mut bytes)
        });
        // Before the first line there is no log.
        if read.is_err() {
            return String::new();
        }
        bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        *seen += bytes.len() as u64;
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// What a line should not tell.
fn leak(line: &str) -> Option<&'static str> {
    let is_token_like = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let runs_on = |rest: &str, least: usize| rest.chars().take_while(|c| is_token_like(*c)).count() >= least;
    for prefix in PREFIXES {
        let mut after = line.match_indices(prefix).map(|(at, _)| &line[at..]);
        if after.any(|rest| runs_on(rest, TOKEN_CHARACTERS_MAX + 1)) {
            return Some("a token");
        }
    }
    // `{"` in base64, which every header and every set of claims begins with.
    if line.match_indices("eyJ").any(|(at, _)| runs_on(&line[at..], 20)) {
        return Some("a JWT");
    }
    // An address has characters before the @ and a dot somewhere after it; a database URL's host
    // here is an encoded path.
    let is_address = |(at, _): (usize, &str)| {
        let before = line[..at].chars().next_back().is_some_and(char::is_alphanumeric);
        let host: String =
            line[at + 1..].chars().take_while(|c| c.is_ascii_alphanumeric() || ".-".contains(*c)).collect();
        before && host.trim_end_matches('.').contains('.')
    };
    line.match_indices('@').any(is_address).then_some("somebody's address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tells_too_much_is_seen() {
        for (line, what) in [
            ("minted mul_0123456789ABCDEFGHIJKLMNOPQRST4PMbyp", "a token"),
            ("token=\"mul_012345678\"", "a token"),
            ("pak_0123456789ABC", "a token"),
            ("cookie eyJhbGciOiJIUzI1NiJ9eyJhbGciOiJI.x", "a JWT"),
            ("user ada@example.org logged in", "somebody's address"),
            ("for ada-1@history.example.", "somebody's address"),
        ] {
            assert_eq!(leak(line), Some(what), "{line}");
        }
    }

    #[test]
    fn what_is_for_everybody_is_left_alone() {
        for line in [
            "minted mul_01234567 for somebody",
            "postgres://tally@%2Ftmp%2Fdata.d%2Fsocket/tally",
            "the simul_tation of formul_0123 eyJ",
            "a…@… (no mailer is configured)",
            "@example.org",
        ] {
            assert_eq!(leak(line), None, "{line}");
        }
    }

    #[test]
    fn only_whole_new_lines_are_looked_at() {
        let directory = tempfile::tempdir().expect("a directory");
        let watch = Watch::new(directory.path().join("log"));
        assert_eq!(watch.new_lines(), "");
        std::fs::write(watch.path(), "one\ntwo\nthr").expect("a file");
        assert_eq!(watch.new_lines(), "one\ntwo\n");
        std::fs::write(watch.path(), "one\ntwo\nthree\n").expect("a file");
        assert_eq!((watch.new_lines().as_str(), watch.new_lines().as_str()), ("three\n", ""));
    }
}
