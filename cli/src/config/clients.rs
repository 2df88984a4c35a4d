//! The services that may introspect credentials.

use tally_domain::credential::Plaintext;

use super::{secrets::SECRET_BYTES_MIN, settings::Reader};

const LIST: &str = "TALLY_OAUTH_CLIENTS";
const ID_BYTES_MAX: usize = 64;

/// All of them, each id once. What is said of the list quotes no secret.
pub fn read(reader: &mut Reader<'_>, production: bool) -> Vec<(String, Plaintext)> {
    let clients = reader.list(LIST, |text| parse(text, production)).unwrap_or_default();
    for (index, (id, _)) in clients.iter().enumerate() {
        if clients[..index].iter().any(|(other, _)| other == id) {
            reader.problem(LIST, &format!("holds `{id}` a second time"), "give it another id");
        }
    }
    clients
}

fn parse(text: &str, production: bool) -> Result<(String, Plaintext), String> {
    let (id, secret) =
        text.split_once(':').ok_or_else(|| "holds an entry that is not id:secret".to_owned())?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(is_name) {
        return Err(format!(
            "holds an entry whose id is not of letters, digits, `-`, `_` and `.`, {ID_BYTES_MAX} at most"
        ));
    }
    if secret.is_empty() {
        return Err(format!("holds `{id}` without a secret"));
    }
    if production && secret.len() < SECRET_BYTES_MIN {
        return Err(format!("holds `{id}`, whose secret is shorter than {SECRET_BYTES_MIN} characters"));
    }
    Ok((id.to_owned(), Plaintext::new(secret)))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use crate::config::tests::{load, problem};

    const LONG: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_list_has_any_number_of_clients() {
        let list = format!("gateway:{LONG}, other.one:a:b+c/d==");
        let config = load(&[("TALLY_OAUTH_CLIENTS", &list)]);
        let clients: Vec<(&str, &str)> =
            config.clients.iter().map(|(id, secret)| (id.as_str(), secret.expose())).collect();
        assert_eq!(clients, [("gateway", LONG), ("other.one", "a:b+c/d==")]);
        assert!(load(&[]).clients.is_empty());
    }

    #[rstest]
    #[case("hunter2", "holds an entry that is not id:secret")]
    #[case(":hunter2", "holds an entry whose id is not of letters, digits, `-`, `_` and `.`, 64 at most")]
    #[case("a b:hunter2", "holds an entry whose id is not of letters, digits, `-`, `_` and `.`, 64 at most")]
    #[case("gateway:", "holds `gateway` without a secret")]
    #[case("gateway:hunter2,gateway:hunter3", "holds `gateway` a second time")]
    fn an_entry_that_is_wrong_is_named_and_its_secret_is_not_shown(#[case] list: &str, #[case] wrong: &str) {
        let words = problem(&[("TALLY_OAUTH_CLIENTS", list)]);
        assert!(
            words.starts_with(&format!("TALLY_OAUTH_CLIENTS {wrong}")) && !words.contains("hunter"),
            "{words}"
        );
    }

    #[test]
    fn in_production_a_secret_is_long() {
        let production = [("APP_ENV", "production"), ("JWT_SECRET", LONG)];
        let words = problem(&[production[0], production[1], ("TALLY_OAUTH_CLIENTS", "gateway:hunter2")]);
        assert!(words.contains("`gateway`, whose secret is shorter than 32 characters"), "{words}");
        let list = format!("gateway:{LONG}");
        assert_eq!(load(&[production[0], production[1], ("TALLY_OAUTH_CLIENTS", &list)]).clients.len(), 1);
    }
}
