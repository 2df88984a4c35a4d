//! The parameters of a request to `/oauth`: a form, as RFC 6749 section 3.2 asks for.

use std::borrow::Cow;

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::HeaderMap,
};
use form_urlencoded::parse;

use crate::{
    error::{ApiError, Code},
    request_body,
};

const FORM: &str = "application/x-www-form-urlencoded";

/// The parameters of a form. Those that nobody asks for are ignored.
pub struct RequestForm(Bytes);

impl<S: Send + Sync> FromRequest<S> for RequestForm {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if !is_form(request.headers()) {
            return Err(ApiError::new(Code::UnsupportedMediaType, format!("content type must be {FORM}")));
        }
        Ok(Self(request_body::read(request.into_body()).await?))
    }
}

impl RequestForm {
    /// A parameter. One without a value is none, and of one that stands twice two readers could take one
    /// or the other (RFC 6749 section 3.2).
    pub fn get(&self, name: &str) -> Result<Option<Cow<'_, str>>, ApiError> {
        let mut values = self
            .0
            .split(|byte| *byte == b'&')
            .filter(|pair| may_be(pair, name))
            .flat_map(parse)
            .filter(|(other, _)| other == name)
            .map(|(_, value)| value);
        let first = values.next();
        if values.next().is_some() {
            return Err(ApiError::bad_request(format!("{name} stands twice")));
        }
        Ok(first.filter(|value| !value.is_empty()))
    }

    pub fn require(&self, name: &str) -> Result<Cow<'_, str>, ApiError> {
        self.get(name)?.ok_or_else(|| ApiError::bad_request(format!("{name} is required")))
    }
}

/// Whether a parameter, as it was sent, can be the one of this name: so the others need not be decoded.
fn may_be(pair: &[u8], name: &str) -> bool {
    let sent = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
    sent == name.as_bytes() || sent.iter().any(|byte| matches!(byte, b'%' | b'+'))
}

/// Whether a request brings a form.
pub fn is_form(headers: &HeaderMap) -> bool {
    request_body::media_type(headers).eq_ignore_ascii_case(FORM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> RequestForm {
        RequestForm(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn parameters_are_decoded_and_an_empty_one_is_none() {
        let form = form("token=a%2Bb+c&token_type_hint=&else=1&else=2");
        assert_eq!(form.require("token").expect("it is there"), "a+b c");
        for missing in ["token_type_hint", "line"] {
            assert_eq!(form.get(missing).expect("it is none"), None);
            let refused = form.require(missing).unwrap_err();
            assert_eq!(refused.message, format!("{missing} is required"));
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for twice in
            ["token=a&token=b", "token=a&t%6fken=b", "t%6Fken=a&&token=b", "token=&token=a", "token&token=a"]
        {
            assert_eq!(form(twice).get("token").unwrap_err().message, "token stands twice");
        }
    }
}
