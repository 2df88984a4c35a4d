//! Forged session JWTs (RFC 7519, RFC 8725). The signing key is read from the data directory, so
//! that even a well-signed one proves no more than the session it names.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header, decode_header, encode};
use serde_json::{Value, json};
use tally_tests::{Client, Login, client::answer};

use super::{assert_calm, assert_error, server, somebody};

/// The parts of a real session's JWT, and the key it was signed with.
struct Forge {
    header: Header,
    claims: Value,
    key: EncodingKey,
    secret: Vec<u8>,
}

impl Forge {
    async fn of(login: &Login) -> Self {
        Self::of_jwt(&login.token).await
    }

    async fn of_jwt(jwt: &str) -> Self {
        let path = server().await.data_dir().join("keys/jwt.secret");
        let secret = std::fs::read_to_string(path).expect("the generated secret").trim().as_bytes().to_vec();
        let claims = jwt.split('.').nth(1).expect("claims");
        let claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64")).expect("JSON");
        let header = decode_header(jwt).expect("a header");
        Self { header, claims, key: EncodingKey::from_secret(&secret), secret }
    }

    fn sign(&self, claims: &Value) -> String {
        encode(&self.header, claims, &self.key).expect("JSON is signed")
    }

    fn with(&self, claim: &str, value: Value) -> String {
        let mut claims = self.claims.clone();
        claims[claim] = value;
        self.sign(&claims)
    }

    fn without(&self, claim: &str) -> String {
        let mut claims = self.claims.clone();
        claims.as_object_mut().expect("an object").remove(claim);
        self.sign(&claims)
    }

    /// Any header before the real claims, with an HMAC-SHA-256 of the real key behind them.
    fn under(&self, header: &str) -> String {
        use hmac::{Hmac, KeyInit, Mac};
        let text =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(self.claims.to_string()));
        let mut mac =
            Hmac::<sha2::Sha256>::new_from_slice(&self.secret).expect("HMAC takes a key of any length");
        mac.update(text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }
}

async fn assert_refused(client: &Client, forged: &str, about: &str) {
    let bearer = answer(client.get("/api/me").bearer_auth(forged)).await;
    assert_error(&bearer, 401, "invalid token", about);
    let cookie = answer(client.get("/api/me").header("cookie", format!("multica_auth={forged}"))).await;
    assert_error(&cookie, 401, "invalid token", about);
}

#[tokio::test]
async fn a_signature_that_is_not_ours_is_refused() {
    let (client, login) = somebody().await;
    let forge = Forge::of(&login).await;
    assert!(client.accepts(&forge.sign(&forge.claims)).await, "the forge works");
    assert!(client.accepts(&forge.under(r#"{"alg":"HS256"}"#)).await, "the forge works");
    let [header, claims, signature] = login.token.split('.').collect::<Vec<_>>()[..] else {
        panic!("three parts")
    };
    for alg in ["none", "None", "NONE", "nOnE", "", "null", "HS256 "] {
        let header = URL_SAFE_NO_PAD.encode(json!({ "alg": alg, "typ": "JWT" }).to_string());
        for signature in ["", signature, "e30"] {
            assert_refused(&client, &format!("{header}.{claims}.{signature}"), &format!("alg `{alg}`")).await;
        }
    }
    let other = EncodingKey::from_secret(b"another secret of thirty-two bytes");
    for (about, key) in [("another key", other), ("an empty key", EncodingKey::from_secret(b""))] {
        assert_refused(&client, &encode(&forge.header, &forge.claims, &key).expect("signed"), about).await;
    }
    // The key's file holds base64: what it decodes to is another key.
    let decoded = base64::engine::general_purpose::STANDARD.decode(&forge.secret).expect("base64");
    let decoded = EncodingKey::from_secret(&decoded);
    assert_refused(
        &client,
        &encode(&forge.header, &forge.claims, &decoded).expect("signed"),
        "the decoded key",
    )
    .await;
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let header = Header { alg: algorithm, ..forge.header.clone() };
        let forged = encode(&header, &forge.claims, &forge.key).expect("signed");
        assert_refused(&client, &forged, &format!("{algorithm:?} with the right key")).await;
    }
    for alg in ["RS256", "ES256", "PS256", "EdDSA", "HS384", "HS512", "none", "hs256", "dir"] {
        let forged = forge.under(&json!({ "alg": alg, "typ": "JWT" }).to_string());
        assert_refused(&client, &forged, &format!("{alg} over an HMAC with the right key")).await;
    }
    for kid in ["x", "", "../../../../dev/null", "' union select 'x"] {
        let forged = forge.under(&json!({ "alg": "HS256", "kid": kid }).to_string());
        assert_refused(&client, &forged, &format!("kid `{kid}`")).await;
    }
    let forged = [
        ("cut", login.token[..login.token.len() - 2].to_owned()),
        ("padded", format!("{}=", login.token)),
        ("lengthened", format!("{}A", login.token)),
        ("four parts", format!("{}.e30", login.token)),
        ("an empty header", format!(".{claims}.{signature}")),
        ("empty claims", format!("{header}..{signature}")),
        ("swapped parts", format!("{claims}.{header}.{signature}")),
        ("JSON in the clear", format!("{{\"alg\":\"none\"}}.{claims}.{signature}")),
        (
            "a deep header",
            forge.under(&format!("{{\"alg\":\"HS256\",\"x\":{}1{}}}", "[".repeat(2000), "]".repeat(2000))),
        ),
        ("an array as header", forge.under("[]")),
        ("two algorithms", forge.under(r#"{"alg":"none","alg":"HS256"}"#)),
    ];
    for (about, forged) in &forged {
        assert_refused(&client, forged, about).await;
    }
    assert_calm().await;
}

#[tokio::test]
async fn well_signed_claims_that_fit_no_session_are_refused() {
    let (client, login) = somebody().await;
    let other = client.login(&crate::support::address("other")).await;
    let (token_id, _) = client.mint(&login.token, "not a session").await;
    let (forge, of_other) = (Forge::of(&login).await, Forge::of(&other).await);
    let forged = [
        ("an unknown session", forge.with("sid", json!(uuid::Uuid::now_v7()))),
        ("another person's session", forge.with("sid", of_other.claims["sid"].clone())),
        ("another person", forge.with("sub", of_other.claims["sub"].clone())),
        ("an unknown person", forge.with("sub", json!(uuid::Uuid::now_v7()))),
        ("a token's id as session", forge.with("sid", json!(token_id))),
        ("no session", forge.without("sid")),
        ("no person", forge.without("sub")),
        ("no expiry", forge.without("exp")),
        ("no issuer", forge.without("iss")),
        ("another issuer", forge.with("iss", json!("multica"))),
        ("a list of issuers", forge.with("iss", json!(["tallystick"]))),
        ("expired", forge.with("exp", json!(Utc::now_seconds() - 1))),
        ("expired long ago", forge.with("exp", json!(0))),
        ("expired before time", forge.with("exp", json!(-1))),
        ("an expiry beyond time", forge.with("exp", json!(i64::MAX))),
        ("an expiry before all time", forge.with("exp", json!(i64::MIN))),
        ("an expiry as text", forge.with("exp", json!("9999999999"))),
        ("an expiry as null", forge.with("exp", Value::Null)),
        ("a session of another type", forge.with("sid", json!(7))),
        ("a session in braces", forge.with("sid", json!([forge.claims["sid"]]))),
        ("claims that are an array", forge.sign(&json!([]))),
    ];
    for (about, forged) in &forged {
        assert_refused(&client, forged, about).await;
    }
    assert!(client.accepts(&login.token).await && client.accepts(&other.token).await);
    assert_calm().await;
}

trait NowSeconds {
    fn now_seconds() -> i64;
}

impl NowSeconds for Utc {
    #[expect(clippy::disallowed_methods, reason = "a forger has no other clock")]
    fn now_seconds() -> i64 {
        Self::now().timestamp()
    }
}

/// The session's own end stands in the log; a JWT may show less of it, never more.
#[tokio::test]
async fn a_jwt_that_claims_a_longer_life_ends_with_its_session() {
    let (client, login) = somebody().await;
    let forge = Forge::of(&login).await;
    let claimed = Utc::now_seconds() + 100 * 365 * 86_400;
    let longer = forge.with("exp", json!(claimed));
    let expiry = async |token: &str| {
        let text = answer(client.get("/v1/me").bearer_auth(token)).await.json()["expires_at"].clone();
        DateTime::parse_from_rfc3339(text.as_str().expect("a time")).expect("a time").timestamp()
    };
    let own = forge.claims["exp"].as_i64().expect("seconds");
    assert_eq!(expiry(&login.token).await, own);
    assert!((expiry(&longer).await - own).abs() <= 1, "a century was not granted");
    let shorter = forge.with("exp", json!(Utc::now_seconds() + 600));
    assert!(expiry(&shorter).await <= Utc::now_seconds() + 600);
    let logout =
        answer(client.request(reqwest::Method::POST, "/auth/logout").bearer_auth(&login.token)).await;
    assert_eq!(logout.status, 200);
    for ended in [&login.token, &longer, &shorter] {
        assert_refused(&client, ended, "after the session ended").await;
    }
    assert_calm().await;
}

/// An access token of the web console is forged no better than another session's JWT.
#[tokio::test]
async fn an_access_token_that_is_not_ours_is_refused() {
    let (client, login) = somebody().await;
    let console = client.open_console(&crate::support::address("forged")).await;
    let forge = Forge::of_jwt(&console.access).await;
    assert!(client.accepts(&forge.sign(&forge.claims)).await, "the forge works");
    let kid = decode_header(&login.token).expect("a header").kid;
    assert_eq!(forge.header.kid, kid, "one key signs both kinds");
    let signed = |header: Header, key: &EncodingKey| encode(&header, &forge.claims, key).expect("signed");
    let of_kid = |kid: &str| Header { kid: Some(kid.to_owned()), ..forge.header.clone() };
    let other = EncodingKey::from_secret(b"another secret of thirty-two bytes");
    let typed = |alg: &str| forge.under(&json!({ "alg": alg, "typ": "console-access+jwt" }).to_string());
    let claims = URL_SAFE_NO_PAD.encode(forge.claims.to_string());
    let none = URL_SAFE_NO_PAD.encode(json!({ "alg": "none", "typ": "console-access+jwt" }).to_string());
    let forged = [
        ("none", format!("{none}.{claims}.")),
        ("another key", signed(forge.header.clone(), &other)),
        ("an unknown kid", signed(of_kid("0123456789abcdef"), &forge.key)),
        ("an empty kid", signed(of_kid(""), &forge.key)),
        ("another algorithm", signed(Header { alg: Algorithm::HS512, ..forge.header.clone() }, &forge.key)),
        ("another algorithm over the right HMAC", typed("RS256")),
        ("expired", forge.with("exp", json!(Utc::now_seconds() - 1))),
        ("no expiry", forge.without("exp")),
        ("an unknown session", forge.with("sid", json!(uuid::Uuid::now_v7()))),
        ("another person", forge.with("sub", login.user["id"].clone())),
        ("another issuer", forge.with("iss", json!("remoco"))),
    ];
    for (about, forged) in &forged {
        let bearer = answer(client.get("/api/me").bearer_auth(forged)).await;
        assert_error(&bearer, 401, "invalid token", about);
        let cookie = answer(client.get("/api/me").header("cookie", format!("remoco_auth={forged}"))).await;
        assert_error(&cookie, 401, "invalid token", about);
    }
    assert!(client.accepts(&console.access).await);
    assert_calm().await;
}

/// Signature, session and person are right; it is the kind that is not.
#[tokio::test]
async fn a_jwt_of_one_kind_never_passes_for_the_other() {
    let (client, login) = somebody().await;
    let console = client.open_console(&crate::support::address("kinds")).await;
    let (session, access) = (Forge::of(&login).await, Forge::of_jwt(&console.access).await);
    let typed = |forge: &Forge, typ: Option<&str>, kind: Option<&str>| {
        let mut claims = forge.claims.clone();
        claims.as_object_mut().expect("an object").remove("kind");
        if let Some(kind) = kind {
            claims["kind"] = json!(kind);
        }
        let header = Header { typ: typ.map(str::to_owned), ..forge.header.clone() };
        encode(&header, &claims, &forge.key).expect("signed")
    };
    let (ours, of_console) = (Some("JWT"), Some("console-access+jwt"));
    let named = Some("console_session");
    assert!(client.accepts(&typed(&session, ours, None)).await, "the forge works");
    assert!(client.accepts(&typed(&access, of_console, named)).await, "the forge works");
    for (about, forged) in [
        ("an ordinary session as a console session", typed(&session, of_console, named)),
        ("a console session as an ordinary one", typed(&access, ours, None)),
        ("a console session without a type", typed(&access, None, None)),
        ("an ordinary session by the other's type", typed(&session, of_console, None)),
        ("an ordinary session by the other's claim", typed(&session, ours, named)),
        ("an ordinary session that says so", typed(&session, ours, Some("session"))),
        ("a console session by its type alone", typed(&access, of_console, None)),
        ("a console session by its claim alone", typed(&access, ours, named)),
        ("a console session that says it is ordinary", typed(&access, of_console, Some("session"))),
        ("another type", typed(&access, Some("at+jwt"), named)),
    ] {
        assert_refused(&client, &forged, about).await;
        let cookie = client.get("/v1/me").header("cookie", format!("remoco_auth={forged}"));
        let cookie = answer(cookie).await;
        super::assert_problem(&cookie, 401, "invalid_token", "invalid token", about);
    }
    // Whole and good, each in the other's cookie.
    for (path, cookie) in [
        ("/api/me", format!("multica_auth={}", console.access)),
        ("/api/me", format!("remoco_auth={}", login.token)),
    ] {
        let crossed = answer(client.get(path).header("cookie", &cookie)).await;
        assert_error(&crossed, 401, "invalid token", "crossed cookies");
    }
    assert!(client.accepts(&login.token).await && client.accepts(&console.access).await);
    assert_calm().await;
}
