//! How mail leaves: by SMTP, by Resend, or not at all.

use std::{net::IpAddr, num::NonZeroU16, path::Path};

use tally_api::mail::{
    Carrier, MailSettings, ResendSettings, Sender, Site, SmtpCredentials, SmtpSecurity, SmtpSettings,
    Templates,
};
use url::{Host, Url};
use zeroize::Zeroizing;

use super::settings::Reader;

/// RFC 5321 section 4.5.4.2; relays inside a network listen here.
const SMTP_PORT: u16 = 25;
/// RFC 8314 section 7.3: here TLS begins with the first byte.
const SUBMISSIONS_PORT: u16 = 465;
const RESEND_URL: &str = "https://api.resend.com";
/// RFC 5321 section 4.1.3: what a client without a name says.
const NAMELESS: &str = "[127.0.0.1]";
const ADDRESS_NEEDED: &str = "set the address that mails are from, such as Tally <tally@example.org>";

/// Everything about mail; none where no transport is configured.
pub fn read(reader: &mut Reader<'_>, frontend_origin: &str, production: bool) -> Option<MailSettings> {
    let templates = read_templates(reader);
    let smtp = read_smtp(reader);
    let resend = read_resend(reader);
    let own = reader.mapped("SMTP_FROM_EMAIL", str::parse::<Sender>);
    let shared = reader.mapped("RESEND_FROM_EMAIL", str::parse::<Sender>);
    let (carrier, sender, setting, needed_by) = match (smtp, resend) {
        (Some(smtp), resend) => {
            if resend.is_some() {
                reader.warn("RESEND_API_KEY is set and has no effect beside SMTP_HOST".to_owned());
            }
            (Carrier::Smtp(smtp), own.or(shared), "SMTP_FROM_EMAIL", "SMTP_HOST")
        }
        (None, Some(resend)) => (Carrier::Resend(resend), shared, "RESEND_FROM_EMAIL", "RESEND_API_KEY"),
        (None, None) => {
            if production {
                let warning =
                    "neither SMTP_HOST nor RESEND_API_KEY is set: login codes are printed to this log";
                reader.warn(warning.to_owned());
            }
            return None;
        }
    };
    if sender.is_none() && reader.environment.get(setting).is_none() {
        reader.problem(setting, &format!("is required with {needed_by}"), ADDRESS_NEEDED);
    }
    Some(MailSettings {
        carrier,
        sender: sender?,
        site: Site::of_origin(frontend_origin),
        templates: templates?,
    })
}

/// Parsed and tried now: a slip in a file is told by `config check`.
fn read_templates(reader: &mut Reader<'_>) -> Option<Templates> {
    if reader.text("TALLY_MAIL_TEMPLATES").is_none() {
        return Some(Templates::load(None).expect("a test renders the built-in templates"));
    }
    reader.mapped("TALLY_MAIL_TEMPLATES", |text| {
        Templates::load(Some(Path::new(text))).map_err(|error| error.to_string())
    })
}

fn read_smtp(reader: &mut Reader<'_>) -> Option<SmtpSettings> {
    if reader.environment.get("SMTP_HOST").is_none() {
        for secret in ["SMTP_USERNAME", "SMTP_PASSWORD"] {
            if reader.text(secret).is_some() {
                reader.problem(secret, "is set without SMTP_HOST", "set SMTP_HOST, or unset it");
            }
        }
        return None;
    }
    let host = reader.mapped("SMTP_HOST", parse_host);
    let port = reader.parse::<NonZeroU16>("SMTP_PORT", "a port number from 1 to 65535");
    let port = port.map_or(SMTP_PORT, NonZeroU16::get);
    let credentials = read_credentials(reader);
    let security = read_security(reader, port, host.as_deref().is_none_or(is_loopback));
    let accepts_any_certificate = reader.flag("SMTP_TLS_INSECURE");
    if accepts_any_certificate {
        if security == SmtpSecurity::None {
            let cure = "unset it: without TLS there is no certificate";
            reader.problem("SMTP_TLS_INSECURE", "is set with SMTP_TLS `none`", cure);
        } else {
            let warning = "SMTP_TLS_INSECURE is set: any certificate is accepted, and whoever stands between can read the mails";
            reader.warn(warning.to_owned());
        }
    }
    let hello = reader.mapped("SMTP_EHLO_NAME", parse_hello).unwrap_or_else(host_name);
    Some(SmtpSettings { host: host?, port, credentials, security, accepts_any_certificate, hello })
}

fn read_credentials(reader: &mut Reader<'_>) -> Option<SmtpCredentials> {
    match (reader.text("SMTP_USERNAME"), reader.text("SMTP_PASSWORD").map(Zeroizing::new)) {
        (Some(username), Some(password)) => Some(SmtpCredentials { username, password }),
        (None, None) => None,
        (Some(_), None) => {
            let cure = "set both, or neither for a relay that asks for none";
            reader.problem("SMTP_USERNAME", "is set without SMTP_PASSWORD", cure);
            None
        }
        (None, Some(_)) => {
            let cure = "set both, or neither for a relay that asks for none";
            reader.problem("SMTP_PASSWORD", "is set without SMTP_USERNAME", cure);
            None
        }
    }
}

/// In the clear only to this machine itself, and only when told so.
fn read_security(reader: &mut Reader<'_>, port: u16, loopback: bool) -> SmtpSecurity {
    let known = ["starttls", "required", "implicit", "smtps", "ssl", "none"];
    let told = reader.one_of("SMTP_TLS", &known);
    let security = match told.as_deref() {
        Some("implicit" | "smtps" | "ssl") => SmtpSecurity::Implicit,
        Some("required") => SmtpSecurity::Required,
        Some("none") => SmtpSecurity::None,
        None if port == SUBMISSIONS_PORT => SmtpSecurity::Implicit,
        Some(_) | None => SmtpSecurity::Starttls,
    };
    if security == SmtpSecurity::None && !loopback {
        let cure = "set it only for a relay on this machine; a relay elsewhere may go without STARTTLS where no password is set";
        reader.problem("SMTP_TLS", "is `none` and SMTP_HOST is another machine", cure);
    } else if port == SUBMISSIONS_PORT && security != SmtpSecurity::Implicit {
        let wrong = format!("is `{}` with SMTP_PORT 465", told.as_deref().unwrap_or_default());
        reader.problem(
            "SMTP_TLS",
            &wrong,
            "set implicit, or another port: 465 speaks TLS from the first byte",
        );
    }
    security
}

fn read_resend(reader: &mut Reader<'_>) -> Option<ResendSettings> {
    let base = reader.mapped("TALLY_RESEND_URL", parse_resend_url);
    let base = base.or_else(|| Url::parse(RESEND_URL).ok());
    let api_key = Zeroizing::new(reader.text("RESEND_API_KEY")?);
    if !api_key.bytes().all(|byte| byte.is_ascii_graphic()) {
        reader.problem("RESEND_API_KEY", "holds blanks or characters no key has", "copy the key again");
        return None;
    }
    Some(ResendSettings { api_key, base: base? })
}

/// The key goes there with every mail.
fn parse_resend_url(text: &str) -> Result<Url, String> {
    let wrong = || format!("is neither an https URL such as {RESEND_URL} nor one of this machine");
    let url = Url::parse(text).map_err(|_| wrong())?;
    let local = url.scheme() == "http" && url.host_str().is_some_and(is_loopback);
    let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if plain && (url.scheme() == "https" || local) { Ok(url) } else { Err(wrong()) }
}

fn parse_host(text: &str) -> Result<String, String> {
    if text.parse::<IpAddr>().is_ok() || matches!(Host::parse(text), Ok(Host::Domain(_))) {
        return Ok(text.to_owned());
    }
    Err(format!("is `{text}`, which is neither a host name nor an address; a port goes into SMTP_PORT"))
}

/// RFC 5321 section 4.1.1.1: a domain, or an address in brackets.
fn parse_hello(text: &str) -> Result<String, String> {
    let may_stand = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    if text.len() <= 255 && text.chars().all(may_stand) {
        return Ok(text.to_owned());
    }
    Err(format!("is `{text}`, which is no host name such as mail.example.org"))
}

/// The name of this machine, if a mail server may be told it.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    parse_hello(&name).ok().filter(|name| !name.is_empty()).unwrap_or_else(|| NAMELESS.to_owned())
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address
        .map_or_else(|_| host == "localhost" || host.ends_with(".localhost"), |address| address.is_loopback())
}
