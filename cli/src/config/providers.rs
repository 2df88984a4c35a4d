//! Who people may come from: Google, by the settings it has always had, and a list of any others.
//!
//! The list holds secrets, so what is said of it quotes names, issuers and domains, and nothing else.

use std::net::IpAddr;

use serde_json::{Map, Value};
use tally_api::ProviderSettings;
use tally_domain::{EmailAddress, credential::Plaintext, identity::Authority};
use url::{Host, Url};

use super::settings::Reader;

const LIST: &str = "TALLY_OIDC_PROVIDERS";
const FIELDS: [&str; 7] =
    ["name", "label", "issuer", "client_id", "client_secret", "authoritative_domains", "hosted_domains"];
const GOOGLE: &str = "google";
const NAME_BYTES_MAX: usize = 32;
const LABEL_CHARACTERS_MAX: usize = 64;

/// All of them, each name once.
pub fn read(reader: &mut Reader<'_>, production: bool) -> Vec<ProviderSettings> {
    let mut providers: Vec<ProviderSettings> = read_google(reader).into_iter().collect();
    for (index, entry) in read_list(reader).into_iter().enumerate() {
        let named = entry.get("name").and_then(Value::as_str).filter(|name| is_name(name));
        let entry_is = named.map_or_else(|| format!("entry {}", index + 1), |name| format!("`{name}`"));
        match parse(&entry, production) {
            Err(wrong) => reader.problem(LIST, &format!("holds {entry_is}, {wrong}"), "correct the entry"),
            Ok(provider) if providers.iter().any(|other| other.name == provider.name) => {
                reader.problem(LIST, &format!("holds {entry_is} a second time"), "give it another name");
            }
            Ok(provider) => providers.push(provider),
        }
    }
    let google = providers.iter().any(|provider| provider.name == GOOGLE);
    if !google && reader.text("GOOGLE_CLIENT_ID").is_some() {
        reader.warn(
            "GOOGLE_CLIENT_ID is set without GOOGLE_CLIENT_SECRET: nobody can log in with Google".to_owned(),
        );
    }
    providers
}

/// Where the clients of `/auth/google` may have their codes sent to.
pub fn read_google_redirects(reader: &mut Reader<'_>, frontend_origin: &str) -> Vec<String> {
    let redirect = |text: &str| match Url::parse(text) {
        Ok(url) if is_web(&url) && url.fragment().is_none() => Ok(text.to_owned()),
        _ => Err(format!("holds `{text}`, which is not a URL such as https://app.example.org/auth/callback")),
    };
    reader
        .list("GOOGLE_REDIRECT_URI", redirect)
        .unwrap_or_else(|| vec![format!("{frontend_origin}/auth/callback")])
}

/// Google decides who has an address at its own domains and at those of its Workspace customers, which
/// it names in `hd`. Of other addresses it knows that somebody could once read them.
fn read_google(reader: &mut Reader<'_>) -> Option<ProviderSettings> {
    let (id, secret) = (reader.text("GOOGLE_CLIENT_ID"), reader.text("GOOGLE_CLIENT_SECRET"));
    if id.is_none() && secret.is_some() {
        reader.problem(
            "GOOGLE_CLIENT_SECRET",
            "is set without GOOGLE_CLIENT_ID",
            "set both, or neither for no login with Google",
        );
    }
    Some(ProviderSettings {
        name: GOOGLE.to_owned(),
        label: "Google".to_owned(),
        issuer: "https://accounts.google.com".to_owned(),
        client_id: id?,
        client_secret: Plaintext::new(secret?),
        authority: Authority {
            domains: ["gmail.com", "googlemail.com"].map(str::to_owned).into(),
            hosted_domains: true,
        },
    })
}

fn read_list(reader: &mut Reader<'_>) -> Vec<Map<String, Value>> {
    let list = |text: &str| match serde_json::from_str(text) {
        Ok(Value::Array(entries)) => entries
            .into_iter()
            .enumerate()
            .map(|(index, entry)| match entry {
                Value::Object(entry) => Ok(entry),
                _ => Err(format!("holds entry {}, which is not an object", index + 1)),
            })
            .collect(),
        Ok(_) => {
            Err("is not an array of objects, each with name, issuer, client_id and client_secret".to_owned())
        }
        // The parser's own words may quote what it read.
        Err(error) => Err(format!("is not JSON from line {} column {} on", error.line(), error.column())),
    };
    reader.mapped(LIST, list).unwrap_or_default()
}

fn parse(entry: &Map<String, Value>, production: bool) -> Result<ProviderSettings, String> {
    if let Some(unknown) = entry.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        let unknown: String = unknown.chars().filter(|c| !c.is_control()).take(40).collect();
        return Err(format!("which has a field `{unknown}`; known are {}", FIELDS.join(", ")));
    }
    let text = |field: &str| match entry.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.trim().to_owned())),
        Some(_) => Err(format!("whose {field} is not a text")),
    };
    let required = |field: &str| text(field)?.ok_or_else(|| format!("which has no {field}"));
    let name = required("name")?;
    if !is_name(&name) {
        return Err(format!(
            "whose name is not of lower case letters, digits and single hyphens, {NAME_BYTES_MAX} at most"
        ));
    }
    let label = text("label")?.unwrap_or_else(|| name.clone());
    if label.chars().count() > LABEL_CHARACTERS_MAX || label.chars().any(char::is_control) {
        return Err(format!("whose label is longer than {LABEL_CHARACTERS_MAX} characters, or not one line"));
    }
    let issuer = required("issuer")?;
    check_issuer(&issuer, production)?;
    Ok(ProviderSettings {
        name,
        label,
        issuer,
        client_id: required("client_id")?,
        client_secret: Plaintext::new(required("client_secret")?),
        authority: Authority {
            domains: domains(entry.get("authoritative_domains"))?,
            hosted_domains: match entry.get("hosted_domains") {
                None | Some(Value::Null) => false,
                Some(Value::Bool(trusted)) => *trusted,
                Some(_) => return Err("whose hosted_domains is neither true nor false".to_owned()),
            },
        },
    })
}

fn is_name(text: &str) -> bool {
    let part =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.len() <= NAME_BYTES_MAX && text.split('-').all(part)
}

fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
}

/// OpenID Connect Core 1.0 section 2: https, without query and fragment. A server for development may
/// ask one on its own machine without https.
fn check_issuer(text: &str, production: bool) -> Result<(), String> {
    let wrong = || "whose issuer is not a URL such as https://login.example.org".to_owned();
    let url = Url::parse(text).map_err(|_| wrong())?;
    if !is_web(&url) || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong());
    }
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    };
    if url.scheme() == "https" || loopback && !production {
        Ok(())
    } else {
        Err("whose issuer is not reached by https".to_owned())
    }
}

fn domains(listed: Option<&Value>) -> Result<Vec<String>, String> {
    let listed = match listed {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(listed)) => listed,
        Some(_) => return Err("whose authoritative_domains is not an array of domains".to_owned()),
    };
    let domain = |item: &Value| {
        let text = item.as_str().unwrap_or_default().trim().to_lowercase();
        match EmailAddress::parse(&format!("somebody@{text}")) {
            Ok(address) if address.domain() == text => Ok(text),
            _ => Err("whose authoritative_domains holds something that is not a domain such as example.org"
                .to_owned()),
        }
    };
    listed.iter().map(domain).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::config::tests::{load, problem};

    fn entry(changes: &[(&str, Value)]) -> Value {
        let mut entry = json!({
            "name": "acme", "issuer": "https://login.acme.example", "client_id": "tally", "client_secret": "hunter2"
        });
        for (field, value) in changes {
            entry[field] = value.clone();
        }
        entry
    }

    #[test]
    fn google_is_a_provider_with_id_and_secret() {
        let google = [("GOOGLE_CLIENT_ID", "id"), ("GOOGLE_CLIENT_SECRET", "secret")];
        let config = load(&google);
        let [provider] = &config.providers[..] else { panic!("one provider") };
        assert_eq!((provider.name.as_str(), provider.client_id.as_str()), ("google", "id"));
        assert_eq!(provider.authority.domains, ["gmail.com", "googlemail.com"]);
        assert!(provider.authority.hosted_domains && config.warnings.is_empty());
        assert_eq!(config.google_redirects, ["http://localhost:3000/auth/callback"]);
        let config = load(&google[..1]);
        assert!(config.providers.is_empty());
        assert!(config.warnings[0].contains("GOOGLE_CLIENT_SECRET"));
    }

    #[test]
    fn a_list_has_any_number_of_others() {
        let changes = [
            ("name", json!("other-2")),
            ("label", json!("The other one")),
            ("authoritative_domains", json!(["Example.org", "example.net"])),
            ("hosted_domains", json!(true)),
        ];
        let list = json!([entry(&[]), entry(&changes)]).to_string();
        let config =
            load(&[("TALLY_OIDC_PROVIDERS", &list), ("TALLY_PUBLIC_ORIGIN", "https://api.example.org")]);
        let [one, other] = &config.providers[..] else { panic!("two providers") };
        assert_eq!((one.label.as_str(), &one.authority), ("acme", &Authority::default()));
        assert_eq!(other.label, "The other one");
        assert_eq!(other.authority.domains, ["example.org", "example.net"]);
        assert_eq!(config.public_origin, "https://api.example.org");
        assert!(!format!("{one:?}").contains("hunter2"));
    }

    #[rstest]
    #[case(json!([entry(&[("name", json!("Acme"))])]), "holds entry 1, whose name is not of lower case letters, digits and single hyphens, 32 at most: correct the entry")]
    #[case(json!([entry(&[("client_secret", json!(null))])]), "holds `acme`, which has no client_secret: correct the entry")]
    #[case(json!([entry(&[("client_id", json!(7))])]), "holds `acme`, whose client_id is not a text: correct the entry")]
    #[case(json!([entry(&[("secret", json!("hunter2"))])]), "holds `acme`, which has a field `secret`; known are name, label, issuer, client_id, client_secret, authoritative_domains, hosted_domains: correct the entry")]
    #[case(json!([entry(&[("issuer", json!("login.acme.example"))])]), "holds `acme`, whose issuer is not a URL such as https://login.example.org: correct the entry")]
    #[case(json!([entry(&[("issuer", json!("https://u:p@login.acme.example"))])]), "holds `acme`, whose issuer is not a URL such as https://login.example.org: correct the entry")]
    #[case(json!([entry(&[("issuer", json!("http://login.acme.example"))])]), "holds `acme`, whose issuer is not reached by https: correct the entry")]
    #[case(json!([entry(&[("authoritative_domains", json!(["@example.org"]))])]), "holds `acme`, whose authoritative_domains holds something that is not a domain such as example.org: correct the entry")]
    #[case(json!([entry(&[("authoritative_domains", json!("example.org"))])]), "holds `acme`, whose authoritative_domains is not an array of domains: correct the entry")]
    #[case(json!([entry(&[("hosted_domains", json!("yes"))])]), "holds `acme`, whose hosted_domains is neither true nor false: correct the entry")]
    #[case(json!([entry(&[("label", json!("a\nb"))])]), "holds `acme`, whose label is longer than 64 characters, or not one line: correct the entry")]
    #[case(json!([entry(&[]), entry(&[])]), "holds `acme` a second time: give it another name")]
    #[case(json!(["acme"]), "holds entry 1, which is not an object: correct it, or unset it for the default")]
    #[case(json!({ "acme": entry(&[]) }), "is not an array of objects, each with name, issuer, client_id and client_secret: correct it, or unset it for the default")]
    fn an_entry_that_is_wrong_is_named_and_its_secret_is_not_shown(#[case] list: Value, #[case] words: &str) {
        assert_eq!(
            problem(&[("TALLY_OIDC_PROVIDERS", &list.to_string())]),
            format!("TALLY_OIDC_PROVIDERS {words}")
        );
    }

    #[test]
    fn what_is_not_json_is_told_by_its_place_alone() {
        let words = problem(&[("TALLY_OIDC_PROVIDERS", "[{\"client_secret\": \"hunter2\", hunter2}]")]);
        assert_eq!(
            words,
            "TALLY_OIDC_PROVIDERS is not JSON from line 1 column 31 on: correct it, or unset it for the default"
        );
    }

    #[test]
    fn one_google_is_enough() {
        let list = json!([entry(&[("name", json!("google"))])]).to_string();
        let google = [("GOOGLE_CLIENT_ID", "id"), ("GOOGLE_CLIENT_SECRET", "secret")];
        assert!(load(&[("TALLY_OIDC_PROVIDERS", &list), google[0]]).warnings.is_empty());
        let words = problem(&[("TALLY_OIDC_PROVIDERS", &list), google[0], google[1]]);
        assert!(words.contains("`google` a second time"), "{words}");
    }

    #[test]
    fn a_secret_without_an_id_and_a_redirect_that_is_no_url_are_told() {
        let words =
            problem(&[("GOOGLE_CLIENT_SECRET", "hunter2"), ("GOOGLE_REDIRECT_URI", "/auth/callback")]);
        assert_eq!(words.lines().count(), 2, "{words}");
        assert!(words.contains("GOOGLE_CLIENT_SECRET is set without GOOGLE_CLIENT_ID"));
        assert!(words.contains("GOOGLE_REDIRECT_URI holds `/auth/callback`"));
        assert!(!words.contains("hunter2"));
    }

    #[rstest]
    #[case("http://127.0.0.1:9000")]
    #[case("http://[::1]:9000/realm")]
    #[case("http://localhost")]
    fn only_a_development_server_asks_its_own_machine_without_https(#[case] issuer: &str) {
        let list = json!([entry(&[("issuer", json!(issuer))])]).to_string();
        assert_eq!(load(&[("TALLY_OIDC_PROVIDERS", &list)]).providers[0].issuer, issuer);
        let secret = ("JWT_SECRET", "0123456789abcdef0123456789abcdef");
        let words = problem(&[("TALLY_OIDC_PROVIDERS", &list), ("APP_ENV", "production"), secret]);
        assert!(words.contains("https"), "{words}");
    }
}
