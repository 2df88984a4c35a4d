//! OAuth clients (RFC 6749 section 2): services that the operator lets introspect credentials. They
//! are configuration, and act for nobody.

use axum::http::{HeaderMap, header};
use base64::{Engine, engine::general_purpose::STANDARD};
use form_urlencoded::parse;
use subtle::ConstantTimeEq;
use tally_domain::credential::Plaintext;
use zeroize::Zeroizing;

use crate::{error::ApiError, request_form::RequestForm};

/// Every client there is.
#[derive(Clone, Debug, Default)]
pub struct Clients(Vec<Client>);

#[derive(Clone, Debug)]
struct Client {
    id: String,
    /// SHA-256 of the secret, which is compared and forgotten.
    secret_hash: [u8; 32],
}

impl Clients {
    /// Clients by their ids, each with its secret.
    #[must_use]
    pub fn new<'a>(clients: impl IntoIterator<Item = &'a (String, Plaintext)>) -> Self {
        let client =
            |(id, secret): &(String, Plaintext)| Client { id: id.clone(), secret_hash: secret.hash().0 };
        Self(clients.into_iter().map(client).collect())
    }

    /// RFC 6749 section 2.3.1: whether a client proves itself by the header; false: it did not try.
    pub(crate) fn prove_by_header(&self, headers: &HeaderMap) -> Result<bool, ApiError> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Ok(false) };
        let sole = if values.next().is_none() { value.to_str().ok() } else { None };
        let shown = sole.and_then(basic).ok_or_else(ApiError::invalid_client)?;
        let (id, secret) = shown.split_once(':').ok_or_else(ApiError::invalid_client)?;
        // The two are form-encoded before they are joined. Many clients leave that out, and then a `+`
        // or a `%` in a secret is that.
        if self.know(id, secret) || self.know(&decoded(id), &decoded(secret)) {
            Ok(true)
        } else {
            Err(ApiError::invalid_client())
        }
    }

    /// RFC 6749 section 2.3.1: the same by parameters of the form, for those that cannot set a header.
    pub(crate) fn prove_by_form(&self, form: &RequestForm) -> Result<bool, ApiError> {
        match (form.get("client_id")?, form.get("client_secret")?.map(Plaintext::new)) {
            (_, None) => Ok(false),
            (Some(id), Some(secret)) if self.know(&id, secret.expose()) => Ok(true),
            (_, Some(_)) => Err(ApiError::invalid_client()),
        }
    }

    fn know(&self, id: &str, secret: &str) -> bool {
        let shown = Plaintext::new(secret).hash();
        let client = self.0.iter().find(|client| client.id == id);
        client.is_some_and(|client| bool::from(client.secret_hash.ct_eq(&shown.0)))
    }
}

/// What stands behind `Basic` (RFC 7617 section 2), the scheme in any letter case.
fn basic(value: &str) -> Option<Zeroizing<String>> {
    let (scheme, encoded) = value.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = STANDARD.decode(encoded.trim()).ok()?;
    String::from_utf8(bytes).ok().map(Zeroizing::new)
}

fn decoded(text: &str) -> Zeroizing<String> {
    // Nothing separates parameters here, so it is one name without a value.
    let escaped = text.replace('&', "%26").replace('=', "%3D");
    let name = parse(escaped.as_bytes()).next().map(|(name, _)| name.into_owned());
    Zeroizing::new(name.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use rstest::rstest;

    use super::*;

    fn clients() -> Clients {
        let client = |id: &str, secret: &str| (id.to_owned(), Plaintext::new(secret));
        Clients::new(&[client("gateway", "a+b/c=&%20 secret"), client("other", "plain")])
    }

    fn by(value: &[u8]) -> Result<bool, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_bytes(value).expect("a header"));
        clients().prove_by_header(&headers)
    }

    fn shown(scheme: &str, pair: &str) -> Vec<u8> {
        format!("{scheme} {}", STANDARD.encode(pair)).into_bytes()
    }

    #[rstest]
    #[case::as_it_is("gateway:a+b/c=&%20 secret")]
    #[case::form_encoded("gateway:a%2Bb%2Fc%3D%26%2520+secret")]
    #[case::another("other:plain")]
    fn a_secret_is_taken_as_it_is_and_form_encoded(#[case] pair: &str) {
        for scheme in ["Basic", "basic", "BASIC"] {
            assert!(by(&shown(scheme, pair)).expect("it is known"), "{scheme} {pair}");
        }
    }

    #[rstest]
    #[case::of_another(shown("Basic", "other:a+b/c=&%20 secret"))]
    #[case::wrong(shown("Basic", "other:plainer"))]
    #[case::unknown(shown("Basic", "nobody:plain"))]
    #[case::empty(shown("Basic", "other:"))]
    #[case::no_pair(shown("Basic", "other"))]
    #[case::another_scheme(shown("Bearer", "other:plain"))]
    #[case::no_base64(b"Basic other:plain".to_vec())]
    #[case::nothing(b"Basic".to_vec())]
    #[case::no_text(b"Basic \xff".to_vec())]
    fn whoever_shows_something_else_is_refused(#[case] value: Vec<u8>) {
        assert_eq!(by(&value).expect_err("it is refused").message, "client authentication is required");
    }

    #[test]
    fn two_headers_are_none_of_them() {
        let mut headers = HeaderMap::new();
        for _ in 0..2 {
            let value = HeaderValue::from_bytes(&shown("Basic", "other:plain")).expect("a header");
            headers.append(header::AUTHORIZATION, value);
        }
        assert!(clients().prove_by_header(&headers).is_err());
        assert!(!clients().prove_by_header(&HeaderMap::new()).expect("nobody tried"));
    }
}
