//! What of the golden events may leave the building.

use serde_json::Value;
use tally_events::{Personal, Sealed};

use crate::file;

/// Personal fields that are kept back from `public()` on purpose, as (event, field).
const WITHHELD: &[(&str, &str)] = &[("share_link.created", "code")];

/// Hex of at least 16 bytes: a hash, a salt or a MAC, whatever its field is called.
fn looks_secret(text: &str) -> bool {
    text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Every text in `value`, with the key it stands under.
fn texts<'a>(key: &'a str, value: &'a Value, found: &mut Vec<(&'a str, &'a str)>) {
    match value {
        Value::String(text) => found.push((key, text)),
        Value::Array(items) => items.iter().for_each(|item| texts(key, item, found)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| texts(key, value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[test]
fn no_hash_salt_or_mac_leaves() {
    let mut secrets_seen = 0;
    for golden in file::all() {
        let payload: Value = serde_json::from_str(golden.payload.get()).unwrap();
        let mut written = Vec::new();
        texts("", &payload, &mut written);
        let public = serde_json::to_string(&golden.decode().public().data).unwrap();
        for (key, text) in written {
            if ["hash", "salt", "mac"].contains(&key) || looks_secret(text) {
                secrets_seen += 1;
                assert!(!public.contains(text), "{}: {key} is public", golden.file);
            }
        }
    }
    assert!(secrets_seen >= 3, "the golden files hold hash, salt and mac");
}

#[test]
fn no_personal_text_leaves_unsealed() {
    for golden in file::all() {
        let data = golden.decode().public().data;
        let ciphertexts: Value = serde_json::from_str(golden.payload.get()).unwrap();
        for (field, clear) in &golden.clear {
            assert!(!data.contains_key(field), "{}: {field} is in the data", golden.file);
            let ciphertext = ciphertexts[field].as_str().unwrap();
            let mut found = Vec::new();
            let data = Value::Object(data.clone());
            texts("", &data, &mut found);
            for (_, text) in found {
                assert!(text != ciphertext, "{}: the ciphertext of {field} is in the data", golden.file);
                assert!(clear.is_empty() || !text.contains(clear.as_str()), "{}: {field} leaks", golden.file);
            }
        }
    }
}

#[test]
fn every_personal_field_is_handed_on_sealed_or_withheld_on_purpose() {
    for golden in file::all() {
        let mut event = golden.decode();
        let public = event.public().sealed;
        let name = event.name();
        let due: Vec<(&str, Sealed)> = event
            .personal_mut()
            .into_iter()
            .filter(|(field, _)| !WITHHELD.contains(&(name, field)))
            .map(|(field, personal)| (field, personal.sealed().unwrap().clone()))
            .collect();
        assert_eq!(public, due, "{}", golden.file);
    }
}

/// Projections keep sealed fields as text; a field missing from the table of events reads as malformed.
#[test]
fn every_sealed_field_reads_back_from_its_text() {
    for golden in file::all() {
        for (field, sealed) in golden.decode().public().sealed {
            assert_eq!(sealed.to_string().parse(), Ok(sealed), "{}: {field}", golden.file);
        }
    }
}

#[test]
fn a_clear_field_is_not_handed_on() {
    for golden in file::all() {
        let mut event = golden.decode();
        for (_, personal) in event.personal_mut() {
            *personal = Personal::clear("opened");
        }
        assert_eq!(event.public().sealed, [], "{}", golden.file);
    }
}
