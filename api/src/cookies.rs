//! The cookies. A session has two: `multica_auth`, which JavaScript cannot read, and `multica_csrf`,
//! which it must. A console session has the same two under other names, with its access token in the
//! first, and `remoco_refresh`, which is sent to the routes of sessions alone.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue, header};
use axum_extra::extract::cookie::{Cookie, Expiration, SameSite};
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tally_domain::credential::Plaintext;

use crate::oidc::LINK_LIFETIME;

pub const AUTH: &str = "multica_auth";
pub const CSRF: &str = "multica_csrf";
/// A login at an issuer that is under way.
pub const FLOW: &str = "tally_oidc";
const FLOW_PATH: &str = "/auth/oidc";
pub const CONSOLE_AUTH: &str = "remoco_auth";
pub const CONSOLE_CSRF: &str = "remoco_csrf";
pub const CONSOLE_REFRESH: &str = "remoco_refresh";
/// Where refresh tokens are sent.
const REFRESH_PATH: &str = "/v1/sessions";
const NONCE_BYTES: usize = 16;

/// Where cookies are good.
#[derive(Clone, Debug)]
pub struct CookieSettings {
    /// Sent only over https.
    pub secure: bool,
    pub domain: Option<String>,
}

impl CookieSettings {
    /// `Secure` iff the frontend is https. A domain that is an IP literal is no cookie domain
    /// (RFC 6265 section 5.1.3): it is ignored, with one warning.
    #[must_use]
    pub fn new(frontend_origin: &str, domain: Option<&str>) -> Self {
        let domain =
            domain.map(|domain| domain.trim().trim_start_matches('.')).filter(|domain| !domain.is_empty());
        let is_address = |domain: &&str| domain.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        if let Some(address) = domain.filter(is_address) {
            tracing::warn!(
                COOKIE_DOMAIN = address,
                "COOKIE_DOMAIN is an IP address and is ignored: cookies stay with the host that set them"
            );
        }
        Self {
            secure: frontend_origin.starts_with("https://"),
            domain: domain.filter(|domain| !is_address(domain)).map(str::to_owned),
        }
    }

    /// Both cookies for a session: `Max-Age` and `Expires` from one lifetime and one reading of the clock.
    pub(crate) fn set(
        &self,
        headers: &mut HeaderMap,
        auth: &Plaintext,
        nonce: [u8; NONCE_BYTES],
        now: DateTime<Utc>,
        lifetime: TimeDelta,
    ) {
        let csrf = csrf_token(auth.expose(), nonce);
        self.append(headers, hidden(AUTH, auth.expose()), now, lifetime);
        self.append(headers, readable(CSRF, &csrf), now, lifetime);
    }

    /// The three cookies for a console session, all with the lifetime of its refresh token: the access
    /// token ends by itself, and until the next one its cookie is what the CSRF token belongs to.
    pub(crate) fn set_console(
        &self,
        headers: &mut HeaderMap,
        access: &Plaintext,
        refresh: &Plaintext,
        nonce: [u8; NONCE_BYTES],
        now: DateTime<Utc>,
        lifetime: TimeDelta,
    ) {
        let csrf = csrf_token(access.expose(), nonce);
        self.append(headers, hidden(CONSOLE_AUTH, access.expose()), now, lifetime);
        self.append(headers, for_refreshing(refresh.expose()), now, lifetime);
        self.append(headers, readable(CONSOLE_CSRF, &csrf), now, lifetime);
    }

    /// Tells the browser to forget those of a session.
    pub(crate) fn clear(&self, headers: &mut HeaderMap) {
        self.forget(headers, [hidden(AUTH, ""), readable(CSRF, "")]);
    }

    /// Tells the browser to forget those of a console session.
    pub(crate) fn clear_console(&self, headers: &mut HeaderMap) {
        self.forget(headers, [hidden(CONSOLE_AUTH, ""), for_refreshing(""), readable(CONSOLE_CSRF, "")]);
    }

    fn forget<const N: usize>(&self, headers: &mut HeaderMap, cookies: [NewCookie<'_>; N]) {
        for cookie in cookies {
            self.append(headers, cookie, DateTime::UNIX_EPOCH, TimeDelta::zero());
        }
    }

    /// The cookie of a login at an issuer. It comes back from there, so it is `Lax`: a browser sends
    /// it along when another site sends the person here, and with nothing else from elsewhere.
    pub(crate) fn set_flow(&self, headers: &mut HeaderMap, value: &str, lifetime: TimeDelta) {
        let cookie = Cookie::build((FLOW, value))
            .path(FLOW_PATH)
            .same_site(SameSite::Lax)
            .http_only(true)
            .secure(self.secure)
            .max_age(time::Duration::seconds(lifetime.num_seconds()));
        // The value is base64url or nothing.
        if let Ok(value) = HeaderValue::from_str(&cookie.build().to_string()) {
            headers.append(header::SET_COOKIE, value);
        }
    }

    /// Tells the browser to forget it.
    pub(crate) fn clear_flow(&self, headers: &mut HeaderMap) {
        self.set_flow(headers, "", TimeDelta::zero());
    }

    /// The cookie without which a link token links nothing.
    pub(crate) fn set_link(&self, headers: &mut HeaderMap, value: &str, now: DateTime<Utc>) {
        let cookie = NewCookie { shared: false, ..hidden(self.link(), value) };
        self.append(headers, cookie, now, LINK_LIFETIME);
    }

    /// Its name. RFC 6265bis section 4.1.3.2: no neighbouring host can set one of the first form.
    pub(crate) const fn link(&self) -> &'static str {
        if self.secure { "__Host-tally_link" } else { "tally_link" }
    }

    fn append(&self, headers: &mut HeaderMap, new: NewCookie<'_>, now: DateTime<Utc>, lifetime: TimeDelta) {
        let expires_at = now + lifetime;
        let mut cookie = Cookie::build((new.name.to_owned(), new.value.to_owned()))
            .path(new.path)
            .same_site(SameSite::Strict)
            .http_only(new.http_only)
            .secure(self.secure)
            .max_age(time::Duration::seconds(lifetime.num_seconds()));
        if let Ok(expires) = time::OffsetDateTime::from_unix_timestamp(expires_at.timestamp()) {
            cookie = cookie.expires(Expiration::DateTime(expires));
        }
        if let Some(domain) = self.domain.as_ref().filter(|_| new.shared) {
            cookie = cookie.domain(domain.clone());
        }
        // Names and values here are ASCII without separators: JWTs, base64url, hex and nothing.
        if let Ok(value) = HeaderValue::from_str(&cookie.build().to_string()) {
            headers.append(header::SET_COOKIE, value);
        }
    }
}

/// A cookie on its way out, but for how long it lives.
#[derive(Clone, Copy)]
struct NewCookie<'a> {
    name: &'static str,
    value: &'a str,
    path: &'static str,
    http_only: bool,
    /// Whether neighbouring hosts get it where the settings name a domain.
    shared: bool,
}

const fn hidden<'a>(name: &'static str, value: &'a str) -> NewCookie<'a> {
    NewCookie { name, value, path: "/", http_only: true, shared: true }
}

const fn readable<'a>(name: &'static str, value: &'a str) -> NewCookie<'a> {
    NewCookie { name, value, path: "/", http_only: false, shared: true }
}

const fn for_refreshing(value: &str) -> NewCookie<'_> {
    NewCookie { name: CONSOLE_REFRESH, value, path: REFRESH_PATH, http_only: true, shared: false }
}

/// The value of a cookie. Two of one name that differ are nobody's: a neighbouring host may have
/// planted one.
pub(crate) fn read(headers: &HeaderMap, name: &str) -> Option<Result<String, Ambiguous>> {
    let mut values = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|header| header.to_str().ok())
        .flat_map(Cookie::split_parse)
        .filter_map(Result::ok)
        .filter(|cookie| cookie.name() == name)
        .map(|cookie| cookie.value().to_owned());
    let first = values.next()?;
    Some(if values.all(|other| other == first) { Ok(first) } else { Err(Ambiguous) })
}

/// Several cookies of one name with different values.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ambiguous;

/// `hex(nonce) "." hex(HMAC-SHA-256(key = the auth cookie's value, nonce))`.
pub(crate) fn csrf_token(auth: &str, nonce: [u8; NONCE_BYTES]) -> String {
    format!("{}.{}", hex::encode(nonce), hex::encode(csrf_mac(auth, &nonce)))
}

/// Whether a CSRF token belongs to this auth cookie.
pub(crate) fn csrf_matches(auth: &str, token: &str) -> bool {
    let parts = token
        .split_once('.')
        .and_then(|(nonce, mac)| Some((hex::decode(nonce).ok()?, hex::decode(mac).ok()?)));
    parts.is_some_and(|(nonce, mac)| {
        nonce.len() == NONCE_BYTES && bool::from(csrf_mac(auth, &nonce)[..].ct_eq(&mac))
    })
}

fn csrf_mac(auth: &str, nonce: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(auth.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(nonce);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_csrf_token_belongs_to_one_auth_cookie() {
        let token = csrf_token("cookie", [7; 16]);
        assert_eq!(token.len(), 32 + 1 + 64);
        assert!(csrf_matches("cookie", &token));
        assert!(!csrf_matches("another", &token));
        for wrong in
            ["", ".", "zz.zz", &token[1..], &token[..token.len() - 2], &csrf_token("cookie", [8; 16])[..40]]
        {
            assert!(!csrf_matches("cookie", wrong), "{wrong}");
        }
    }

    #[test]
    fn an_ip_literal_is_no_cookie_domain() {
        for address in ["127.0.0.1", "::1", "[::1]"] {
            assert_eq!(CookieSettings::new("http://localhost:3000", Some(address)).domain, None, "{address}");
        }
        let settings = CookieSettings::new("https://app.example.org", Some(".example.org"));
        assert_eq!((settings.secure, settings.domain.as_deref()), (true, Some("example.org")));
    }

    #[test]
    fn two_different_cookies_of_one_name_are_ambiguous() {
        let mut headers = HeaderMap::new();
        assert_eq!(read(&headers, AUTH), None);
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; multica_auth=x"));
        assert_eq!(read(&headers, AUTH), Some(Ok("x".to_owned())));
        headers.append(header::COOKIE, HeaderValue::from_static("multica_auth=y"));
        assert_eq!(read(&headers, AUTH), Some(Err(Ambiguous)));
    }
}
