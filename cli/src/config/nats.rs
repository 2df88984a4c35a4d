//! The NATS server that replicas hear each other by, if there is one.

use std::{fs, path::Path};

use tally_fanout::{NatsLogin, NatsServer, NatsSettings};
use zeroize::Zeroizing;

use super::settings::Reader;

/// The settings that say who this is; one of them at most.
const LOGINS: [&str; 3] = ["NATS_USER", "NATS_NKEY", "NATS_CREDS"];

/// Everything about NATS; none where no server is named.
pub fn read(reader: &mut Reader<'_>) -> Option<NatsSettings> {
    if reader.text("NATS_URL").is_none() {
        for name in LOGINS.into_iter().chain(["NATS_PASSWORD", "NATS_CA"]) {
            if reader.text(name).is_some() {
                reader.problem(name, "is set without NATS_URL", "set NATS_URL, or unset it");
            }
        }
        return None;
    }
    // Not repeated: it may hold a password.
    let servers = reader.list("NATS_URL", |text| {
        text.parse::<NatsServer>()
            .map_err(|_| "is no address such as nats://nats.example.org:4222, nor one with tls://".to_owned())
    });
    let login = read_login(reader);
    let authorities = reader.mapped("NATS_CA", |text| {
        let content = file(text)?;
        if content.contains("-----BEGIN CERTIFICATE-----") {
            Ok(text.into())
        } else {
            Err(format!("is `{text}`, which holds no certificate in PEM"))
        }
    });
    Some(NatsSettings { servers: servers?, login: login?, authorities })
}

fn read_login(reader: &mut Reader<'_>) -> Option<NatsLogin> {
    let told: Vec<&'static str> =
        LOGINS.into_iter().filter(|name| reader.environment.get(name).is_some()).collect();
    if let [first, second, ..] = told[..] {
        reader.problem(second, &format!("is set beside {first}"), "set one of them");
    }
    match (reader.text("NATS_USER"), reader.text("NATS_PASSWORD").map(Zeroizing::new)) {
        (Some(user), Some(password)) => return Some(NatsLogin::UserAndPassword { user, password }),
        (Some(_), None) => {
            reader.problem("NATS_USER", "is set without NATS_PASSWORD", "set both, or neither");
            return None;
        }
        (None, Some(_)) => {
            reader.problem("NATS_PASSWORD", "is set without NATS_USER", "set both, or neither");
            return None;
        }
        (None, None) => {}
    }
    if reader.text("NATS_NKEY").is_some() {
        return reader.mapped("NATS_NKEY", |text| seed(&file(text)?, text)).map(NatsLogin::Nkey);
    }
    if reader.text("NATS_CREDS").is_some() {
        return reader
            .mapped("NATS_CREDS", |text| credentials(file(text)?, text))
            .map(NatsLogin::Credentials);
    }
    Some(NatsLogin::Open)
}

fn file(path: &str) -> Result<Zeroizing<String>, String> {
    let text = fs::read_to_string(Path::new(path));
    text.map(Zeroizing::new).map_err(|error| format!("is `{path}`, which cannot be read: {error}"))
}

/// A user's seed begins with these letters and has 58 of them.
fn seed(content: &str, path: &str) -> Result<Zeroizing<String>, String> {
    let line = content.lines().map(str::trim).find(|line| line.starts_with("SU") && line.len() == 58);
    let line = line.ok_or_else(|| format!("is `{path}`, which holds no seed of a user's key (SU…)"))?;
    Ok(Zeroizing::new(line.to_owned()))
}

fn credentials(content: Zeroizing<String>, path: &str) -> Result<Zeroizing<String>, String> {
    let whole = ["BEGIN NATS USER JWT", "BEGIN USER NKEY SEED"].iter().all(|part| content.contains(part));
    if whole { Ok(content) } else { Err(format!("is `{path}`, which is no creds file of NATS")) }
}
