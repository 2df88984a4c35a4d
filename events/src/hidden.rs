//! Texts that are stored but never formatted.

use std::{fmt, ops::Deref};

use serde::{Deserialize, Serialize};

/// A hash, a salt or a MAC: stored as the text it is, and absent from every log line, because its
/// `Debug` is empty and it has no `Display`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl Hidden {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl Deref for Hidden {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_stored_as_the_text_it_is_and_formats_as_nothing() {
        let hidden = Hidden::new("5ca1ab1e");
        assert_eq!(serde_json::to_string(&hidden).unwrap(), r#""5ca1ab1e""#);
        assert_eq!(serde_json::from_str::<Hidden>(r#""5ca1ab1e""#).unwrap(), hidden);
        assert_eq!(format!("{hidden:?}"), "Hidden");
    }
}
