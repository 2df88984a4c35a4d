//! An e-mail address, trimmed and lower-cased.

use std::fmt;

/// RFC 5321 section 4.5.3.1.3, less the angle brackets.
const ADDRESS_BYTES_MAX: usize = 254;

/// An address that could exist. Personal: its `Debug` is empty.
#[derive(Clone, PartialEq, Eq)]
pub struct EmailAddress(String);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EmailError {
    #[error("email is required")]
    Missing,
    #[error("invalid email address")]
    Malformed,
}

impl EmailAddress {
    /// # Errors
    /// When nothing is left after trimming, or no mail server would take the address.
    pub fn parse(text: &str) -> Result<Self, EmailError> {
        let address = text.trim().to_lowercase();
        if address.is_empty() {
            return Err(EmailError::Missing);
        }
        let (local, domain) = address.rsplit_once('@').ok_or(EmailError::Malformed)?;
        let plain = |text: &str| {
            !text.chars().any(|c| c.is_whitespace() || c.is_control() || "<>,;\"\\()[]".contains(c))
        };
        let well_formed = address.len() <= ADDRESS_BYTES_MAX
            && (1..=64).contains(&local.len())
            && !local.contains('@')
            && plain(&address)
            && domain
                .split('.')
                .all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
        if well_formed { Ok(Self(address)) } else { Err(EmailError::Malformed) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the `@`: a first name for a new account.
    #[must_use]
    pub fn local_part(&self) -> &str {
        self.0.rsplit_once('@').map_or(&self.0, |(local, _)| local)
    }

    #[must_use]
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailAddress")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_trimmed_and_lower_cased() {
        let address = EmailAddress::parse("  Ada.Lovelace@Example.ORG\n").unwrap();
        assert_eq!(address.as_str(), "ada.lovelace@example.org");
        assert_eq!(address.local_part(), "ada.lovelace");
        assert_eq!(address.domain(), "example.org");
    }

    #[test]
    fn nothing_is_not_an_address() {
        assert_eq!(EmailAddress::parse(" \t "), Err(EmailError::Missing));
    }

    #[test]
    fn what_no_server_would_take_is_refused() {
        let long = format!("{}@example.org", "a".repeat(65));
        for text in [
            "ada",
            "@example.org",
            "ada@",
            "a b@example.org",
            "a@b@example.org",
            "ada@example..org",
            "ada\0@example.org",
            "<ada@example.org>",
            "ada@-example.org",
            &long,
        ] {
            assert_eq!(EmailAddress::parse(text), Err(EmailError::Malformed), "{text}");
        }
    }
}
