//! What a request over HTTP shows, and what of it nobody believes: the same at every door.

use http::{HeaderMap, HeaderName, header};

/// Identity headers. Only a server sets them, outbound; whoever sends one in is not believed.
const IDENTITY: [&str; 12] = [
    "x-user-id",
    "x-user-email",
    "x-user-name",
    "x-agent-id",
    "x-task-id",
    "x-actor-source",
    "x-actor-kind",
    "x-credential-id",
    "x-daemon-id",
    "x-workspace-role",
    "x-scopes",
    "x-principal",
];

/// Something begins like a Bearer credential and is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Authorization header is malformed, or there are two")]
pub struct MalformedAuthorization;

/// RFC 6750 section 2.1, the scheme in any letter case (RFC 9110 section 11.1).
///
/// Whatever begins like a Bearer was meant as one: malformed, it is invalid and not absent, or the
/// cookie would be used in its place. So are two headers, of which one reader takes the first and
/// another the last.
///
/// # Errors
/// When it is malformed.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, MalformedAuthorization> {
    const SCHEME: &str = "bearer";
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(MalformedAuthorization);
    }
    let text = value.to_str().map_err(|_| MalformedAuthorization)?.trim();
    let Some((scheme, rest)) = text.split_at_checked(SCHEME.len()) else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Ok(None);
    }
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(MalformedAuthorization);
    }
    Ok(Some(rest.trim()))
}

/// Removes client-sent identity headers, in the underscore forms too that some servers fold in.
pub fn strip_identity(headers: &mut HeaderMap) {
    let is_forged = |name: &&HeaderName| {
        let name = name.as_str().as_bytes();
        name.first() == Some(&b'x') && IDENTITY.iter().any(|known| folds_into(name, known.as_bytes()))
    };
    // Nearly always there is none.
    let forged: Vec<HeaderName> = headers.keys().filter(is_forged).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
}

fn folds_into(name: &[u8], known: &[u8]) -> bool {
    let same = |(name, known): (&u8, &u8)| name == known || (*name == b'_' && *known == b'-');
    name.len() == known.len() && name.iter().zip(known).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the server does not believe, no proxy of ours hands on.
    #[test]
    fn every_example_of_a_proxy_knows_every_identity_header() {
        for (example, text) in [
            ("nginx.conf", include_str!("../../docs/forward-auth/nginx.conf")),
            ("Caddyfile", include_str!("../../docs/forward-auth/Caddyfile")),
            ("traefik.yaml", include_str!("../../docs/forward-auth/traefik.yaml")),
            ("envoy.yaml", include_str!("../../docs/forward-auth/envoy.yaml")),
            ("forward-auth.md", include_str!("../../docs/forward-auth.md")),
        ] {
            let text = text.to_lowercase();
            for name in IDENTITY {
                assert!(text.contains(name), "{example} says nothing of {name}");
            }
        }
    }
}
