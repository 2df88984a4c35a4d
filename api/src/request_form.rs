//! The parameters of a request to `/oauth`: a form, as RFC 6749 section 3.2 asks for.

use axum::{
    extract::{FromRequest, Request},
    http::{HeaderMap, header::CONTENT_TYPE},
};
use form_urlencoded::parse;
use zeroize::Zeroizing;

use crate::{
    error::{ApiError, Code},
    request_body,
};

pub const FORM: &str = "application/x-www-form-urlencoded";

/// The parameters of a form. Those that nobody asks for are ignored.
pub struct RequestForm(Vec<(String, Zeroizing<String>)>);

impl<S: Send + Sync> FromRequest<S> for RequestForm {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if request_body::media_type(request.headers()) != FORM {
            return Err(ApiError::new(Code::UnsupportedMediaType, format!("content type must be {FORM}")));
        }
        Self::decode(&request_body::read(request, state).await?)
    }
}

impl RequestForm {
    fn decode(bytes: &[u8]) -> Result<Self, ApiError> {
        let mut parameters: Vec<(String, Zeroizing<String>)> = Vec::new();
        for (name, value) in parse(bytes) {
            // Two readers could take one or the other (RFC 6749 section 3.2).
            if parameters.iter().any(|(other, _)| *other == name) {
                return Err(ApiError::bad_request("a parameter stands twice"));
            }
            if parameters.len() == PARAMETERS_MAX {
                return Err(ApiError::bad_request(format!("more than {PARAMETERS_MAX} parameters")));
            }
            parameters.push((name.into_owned(), Zeroizing::new(value.into_owned())));
        }
        Ok(Self(parameters))
    }

    /// A parameter. One without a value is none (RFC 6749 section 3.2).
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(other, _)| other == name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    pub fn require(&self, name: &str) -> Result<&str, ApiError> {
        self.get(name).ok_or_else(|| ApiError::bad_request(format!("{name} is required")))
    }
}

/// Parameters in a form at most; each is compared with those before it.
const PARAMETERS_MAX: usize = 16;

/// Whether a request brings a form.
pub fn is_form(headers: &HeaderMap) -> bool {
    headers.contains_key(CONTENT_TYPE) && request_body::media_type(headers) == FORM
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> RequestForm {
        RequestForm::decode(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {}", error.message))
    }

    #[test]
    fn parameters_are_decoded_and_an_empty_one_is_none() {
        let form = form("token=a%2Bb+c&token_type_hint=&else=1");
        assert_eq!(
            (form.get("token"), form.get("token_type_hint"), form.get("line")),
            (Some("a+b c"), None, None)
        );
        let missing = form.require("token_type_hint").unwrap_err();
        assert_eq!(missing.message, "token_type_hint is required");
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for twice in ["token=a&token=b", "token=a&t%6fken=b", "token=&token=a"] {
            let refused = RequestForm::decode(twice.as_bytes()).err().expect(twice);
            assert_eq!(refused.message, "a parameter stands twice");
        }
    }

    #[test]
    fn parameters_have_an_end() {
        let many = "abcdefghijklmnopq".chars().map(|name| format!("{name}=")).collect::<Vec<_>>().join("&");
        assert_eq!(
            RequestForm::decode(many.as_bytes()).err().expect("too many").message,
            "more than 16 parameters"
        );
    }
}
