//! The body of a request: JSON, by content type, without tricks.

use std::{collections::HashSet, fmt};

use axum::{
    extract::{FromRequest, Request},
    http::HeaderMap,
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::Number;
use sha2::{Digest, Sha256};

use crate::{
    error::{ApiError, Code},
    request_body,
};

/// A decoded body and what recognises it again.
pub struct RequestJson<T> {
    pub body: T,
    /// SHA-256 of the bytes as they came.
    pub fingerprint: [u8; 32],
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for RequestJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::new(Code::UnsupportedMediaType, "content type must be application/json"));
        }
        let bytes = request_body::read(request.into_body()).await?;
        let body = decode(&bytes)?;
        Ok(Self { body, fingerprint: Sha256::digest(&bytes).into() })
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // A derived reader would also take the fields from an array, in their order in the source.
    decode_opened(b'{', bytes)
}

/// Reads a body that is an array.
pub fn decode_array<T: DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>, ApiError> {
    decode_opened(b'[', bytes)
}

fn decode_opened<T: DeserializeOwned>(bracket: u8, bytes: &[u8]) -> Result<T, ApiError> {
    let invalid = |error: serde_json::Error| match error.to_string().strip_prefix(STRICT) {
        Some(reason) => {
            let reason = reason.split(" at line").next().unwrap_or(reason).to_owned();
            ApiError::bad_request(format!("invalid request body: {reason}"))
        }
        None => ApiError::bad_request("invalid request body"),
    };
    serde_json::from_slice::<Strict>(bytes).map_err(invalid)?;
    if !bytes.trim_ascii_start().starts_with(&[bracket]) {
        return Err(ApiError::bad_request("invalid request body"));
    }
    serde_json::from_slice(bytes).map_err(invalid)
}

/// `application/json`, or another type with the suffix (RFC 6839 section 3.1).
pub fn is_json(headers: &HeaderMap) -> bool {
    let media_type = request_body::media_type(headers).to_ascii_lowercase();
    media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

/// Reads a whole number, also one that is written with a fraction of nothing: some languages write
/// `30.0` for 30, and a schema's `integer` is either (JSON Schema Core section 4.2.2).
pub fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let Some(number) = Option::<Number>::deserialize(deserializer)? else { return Ok(None) };
    let whole = number.as_i64().or_else(|| {
        let number = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() <= EXACT_MAX)?;
        format!("{number:.0}").parse().ok()
    });
    whole.map(Some).ok_or_else(|| D::Error::custom("not a whole number"))
}

/// Up to here a double tells every whole number from the next.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Marks an error of [`Strict`], whose words may go to the client: they hold nothing it did not send.
const STRICT: &str = "strict: ";

/// Any JSON value without a repeated key, on which two readers could disagree, and without a NUL,
/// which the log could store and never read again.
struct Strict;

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Strict, E> {
        if text.contains('\0') {
            return Err(E::custom(format!("{STRICT}a text contains a NUL character")));
        }
        Ok(Strict)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
        while items.next_element::<Strict>()?.is_some() {}
        Ok(Strict)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Strict, A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            StrictVisitor.visit_str::<A::Error>(&key)?;
            if !keys.insert(key) {
                return Err(A::Error::custom(format!("{STRICT}a key stands twice in one object")));
            }
            entries.next_value::<Strict>()?;
        }
        Ok(Strict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Body {
        name: Option<String>,
    }

    #[derive(Debug, Deserialize)]
    struct Counted {
        #[serde(default, deserialize_with = "whole_number")]
        days: Option<i64>,
    }

    #[test]
    fn a_whole_number_may_have_a_fraction_of_nothing() {
        let days = |text: &str| decode::<Counted>(format!("{{{text}}}").as_bytes()).map(|body| body.days);
        for (text, number) in [
            ("", None),
            ("\"days\":null", None),
            ("\"days\":30", Some(30)),
            ("\"days\":30.0", Some(30)),
            ("\"days\":3e1", Some(30)),
            ("\"days\":-1.0", Some(-1)),
            ("\"days\":9223372036854775807", Some(i64::MAX)),
        ] {
            assert_eq!(days(text).unwrap(), number, "{text}");
        }
        for text in ["30.5", "1e300", "9223372036854775808", "18014398509481985.0", "\"30\"", "true", "[]"] {
            assert!(days(&format!("\"days\":{text}")).is_err(), "{text}");
        }
    }

    fn refusal(text: &[u8]) -> String {
        decode::<Body>(text).unwrap_err().message.into_owned()
    }

    #[test]
    fn unknown_fields_are_ignored() {
        assert_eq!(
            decode::<Body>(br#"{"name":"a","else":[1,{"x":null}]}"#).unwrap().name.as_deref(),
            Some("a")
        );
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        let twice = "invalid request body: a key stands twice in one object";
        assert_eq!(refusal(br#"{"name":"a","name":"b"}"#), twice);
        assert_eq!(refusal(br#"{"else":{"x":1,"\u0078":2}}"#), twice);
    }

    #[test]
    fn a_nul_is_refused_wherever_it_stands() {
        let nul = "invalid request body: a text contains a NUL character";
        assert_eq!(refusal(br#"{"name":"a\u0000b"}"#), nul);
        assert_eq!(refusal(br#"{"a\u0000":1}"#), nul);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let deep = format!("{{\"else\":{}{}}}", "[".repeat(200), "]".repeat(200));
        for text in [
            &b""[..],
            b"{",
            b"[]",
            b"[\"a\"]",
            b"null",
            b"\"name\"",
            b"{\"name\":1}",
            b"{\"name\":\"\xff\"}",
            b"{} {}",
            deep.as_bytes(),
        ] {
            assert_eq!(refusal(text), "invalid request body");
        }
    }
}
