//! *Credentials*, as far as sessions and personal access tokens go.

use chrono::TimeDelta;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Row};
use tally_domain::credential::Plaintext;
use tally_tests::{client::answer, eventually};

use crate::support::{
    UNKNOWN_TOKEN, by_cookie, client, connection, delete, expect, key,
    past::{Past, claims},
    person, refused, shared, timestamp,
};

/// A session is an HS256 JWT with a session id, 30 days long, good as cookie and as Bearer.
#[tokio::test]
async fn a_session_is_a_jwt_that_works_as_cookie_and_as_bearer() {
    let client = client().await;
    let login = person("session").await;
    let header = jsonwebtoken::decode_header(&login.token).expect("a JWT");
    assert_eq!(header.alg, Algorithm::HS256);
    let claims = claims(&login.token);
    assert_eq!(claims["sub"], login.user["id"]);
    assert!(claims["sid"].as_str().is_some_and(|id| id.parse::<uuid::Uuid>().is_ok()), "{claims}");
    let lifetime = claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(exp, iat)| exp - iat);
    assert_eq!(lifetime, Some(30 * 24 * 60 * 60));
    assert_eq!(login.auth_cookie, login.token);
    for request in [
        client.get("/api/me").bearer_auth(&login.token),
        by_cookie(&client, Method::GET, "/api/me", &login, None),
    ] {
        assert_eq!(expect(200, request).await.json()["id"], login.user["id"]);
    }
}

/// Only what this server signed, with its own algorithm, for the session's own person, is a session.
#[tokio::test]
async fn a_session_is_not_what_somebody_else_signed() {
    let client = client().await;
    let (login, other) = (person("signed").await, person("forger").await);
    let secret = key(&shared().await.data_dir(), "jwt.secret");
    let sign = |algorithm, secret: &[u8], claims: &Value| {
        jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret))
            .expect("a JWT")
    };
    let good = claims(&login.token);
    // The test signs as the server does, or the refusals below would prove nothing.
    assert!(client.accepts(&sign(Algorithm::HS256, secret.as_bytes(), &good)).await);
    let mut foreign = good.clone();
    foreign["sub"] = other.user["id"].clone();
    let mut unknown = good.clone();
    unknown["sid"] = json!(uuid::Uuid::now_v7());
    let mut over = good.clone();
    over["exp"] = json!(good["iat"].as_i64().expect("a time") - 60);
    let body = login.token.split('.').nth(1).expect("three parts");
    let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{body}.");
    for forged in [
        sign(Algorithm::HS256, b"another secret of at least 32 characters", &good),
        sign(Algorithm::HS512, secret.as_bytes(), &good),
        sign(Algorithm::HS256, secret.as_bytes(), &foreign),
        sign(Algorithm::HS256, secret.as_bytes(), &unknown),
        sign(Algorithm::HS256, secret.as_bytes(), &over),
        none,
    ] {
        refused(401, "invalid token", client.get("/api/me").bearer_auth(forged)).await;
    }
}

/// A personal access token reaches everything the person may do.
#[tokio::test]
async fn a_personal_access_token_does_what_its_person_may() {
    let client = client().await;
    let login = person("reach").await;
    let (_, token) = client.mint(&login.token, "laptop").await;
    for path in ["/api/me", "/api/tokens", "/v1/me", "/v1/audit"] {
        expect(200, client.get(path).bearer_auth(&token)).await;
    }
    let (id, _) = client.mint(&token, "second").await;
    let change = client.request(Method::PATCH, "/api/me").json(&json!({ "name": "Ada" }));
    expect(200, change.bearer_auth(&token)).await;
    expect(204, delete(&client, &format!("/api/tokens/{id}"), &token)).await;
    let who = expect(200, client.get("/v1/me").bearer_auth(&token)).await.json();
    assert_eq!((&who["kind"], &who["expires_at"]), (&json!("personal_access_token"), &Value::Null));
    assert_eq!(who["user"]["email"], login.user["email"]);
}

/// 30 base62 characters, then 6 of their CRC-32, left-padded.
#[tokio::test]
async fn token_format_is_30_base62_characters_and_their_crc32() {
    const ALPHABET: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let client = client().await;
    let login = person("format").await;
    let mut tokens = Vec::new();
    for _ in 0..8 {
        let (_, token) = client.mint(&login.token, "format").await;
        let body = token.strip_prefix("mul_").expect("the prefix");
        assert!(body.len() == 36 && body.bytes().all(|byte| ALPHABET.contains(&byte)), "{token}");
        let (random, checksum) = body.split_at(30);
        let mut rest = crc32fast::hash(random.as_bytes());
        let mut expected = [0; 6];
        for place in expected.iter_mut().rev() {
            *place = ALPHABET[(rest % 62) as usize];
            rest /= 62;
        }
        assert_eq!(checksum.as_bytes(), expected, "{token}");
        tokens.push(token);
    }
    tokens.dedup();
    assert_eq!(tokens.len(), 8);
}

/// Imported bodies of 40 lowercase hex digits are accepted too.
#[tokio::test]
async fn token_format_of_imported_tokens_is_40_hex_digits() {
    let client = client().await;
    let login = person("legacy").await;
    let legacy = format!("mul_{}{}", uuid::Uuid::new_v4().simple(), "0badcafe");
    let past = Past::shifted(TimeDelta::zero()).await;
    past.mint_as(&login.token, None, Plaintext::new(legacy.clone())).await;
    assert!(client.accepts(&legacy).await);
    assert!(!client.accepts(&legacy.to_uppercase().replace("MUL", "mul")).await);
}

/// Stored are the SHA-256 of the whole string and the first 12 characters.
#[tokio::test]
async fn stored_are_a_hash_and_12_characters() {
    let client = client().await;
    let login = person("stored").await;
    let (id, token) = client.mint(&login.token, "stored").await;
    let row = sqlx::query("select hash from credentials where id = $1::uuid")
        .bind(&id)
        .fetch_one(&mut connection().await)
        .await
        .expect("the credential");
    assert_eq!(row.get::<Vec<u8>, _>(0), Sha256::digest(token.as_bytes()).to_vec());
    let list = expect(200, client.get("/api/tokens").bearer_auth(&token)).await.json();
    assert_eq!(list[0]["token_prefix"], token[..12]);
}

/// Plaintext appears once, in the minting response, and nowhere else: not in any table, not in a log.
#[tokio::test]
async fn plaintext_is_in_the_minting_response_and_nowhere_else() {
    let client = client().await;
    let login = person("plaintext").await;
    let (_, token) = client.mint(&login.token, "secret").await;
    let listed = expect(200, client.get("/api/tokens").bearer_auth(&token)).await;
    // Presented, refused, and altered by a character: paths that log.
    expect(400, client.post("/api/tokens", &json!({ "name": "" })).bearer_auth(&token)).await;
    expect(401, client.get("/api/me").bearer_auth(format!("{token}x"))).await;
    expect(404, client.get(&format!("/api/unknown?token={token}")).bearer_auth(&token)).await;

    let mut places = vec![("the list", listed.text), ("the log", shared().await.log())];
    let postgres = std::fs::read_to_string(shared().await.data_dir().join("postgres.log"));
    places.push(("PostgreSQL's log", postgres.unwrap_or_default()));
    let mut database = connection().await;
    let tables = sqlx::query(
        "select format('%I.%I', schemaname, tablename) from pg_tables
          where schemaname not in ('pg_catalog', 'information_schema')",
    );
    let mut dump = String::new();
    for table in tables.fetch_all(&mut database).await.expect("the catalog") {
        let table: String = table.get(0);
        let rows = sqlx::query(AssertSqlSafe(format!("select t::text from {table} t")));
        for row in rows.fetch_all(&mut database).await.expect("a table") {
            dump.push_str(&row.get::<String, _>(0));
            dump.push('\n');
        }
    }
    // The dump is of the right database: what may be known of the token is in it.
    assert!(dump.contains(&hex::encode(Sha256::digest(token.as_bytes()))));
    assert!(dump.contains(&token[..12]));
    places.push(("the database", dump));
    for (place, text) in places {
        for secret in [&token, &login.token, &login.csrf_cookie] {
            assert!(!text.contains(secret.as_str()), "{place} holds a secret");
            assert!(!text.contains(&hex::encode(secret)), "{place} holds a secret as hex");
        }
        assert!(!text.contains(&token[13..]), "{place} holds a part of a token");
    }
}

/// Every credential records the credential that minted it.
#[tokio::test]
async fn lineage_records_who_minted() {
    let client = client().await;
    let login = person("lineage").await;
    let (parent, token) = client.mint(&login.token, "parent").await;
    let (child, _) = client.mint(&token, "child").await;
    let mut database = connection().await;
    for (id, minted_by, kind) in
        [(&parent, claims(&login.token)["sid"].clone(), "session"), (&child, json!(parent), "token")]
    {
        let row = sqlx::query("select minted_by::text, minted_by_kind from credentials where id = $1::uuid")
            .bind(id)
            .fetch_one(&mut database)
            .await
            .expect("the credential");
        assert_eq!(json!(row.get::<String, _>(0)), minted_by);
        assert_eq!(row.get::<String, _>(1), kind);
    }
}

/// One minted with a PAT never outlives that PAT's expiry, asked or not, nor further down the line.
#[tokio::test]
async fn lineage_never_outlives_the_token_above() {
    let client = client().await;
    let login = person("outlive").await;
    let mint = async |credential: &str, body: &Value| {
        expect(201, client.post("/api/tokens", body).bearer_auth(credential)).await.json()
    };
    let parent = mint(&login.token, &json!({ "name": "parent", "expires_in_days": 10 })).await;
    let above = parent["token"].as_str().expect("a token");
    let longer = mint(above, &json!({ "name": "longer", "expires_in_days": 30 })).await;
    let endless = mint(above, &json!({ "name": "endless" })).await;
    let below = mint(endless["token"].as_str().expect("a token"), &json!({ "name": "grandchild" })).await;
    for child in [longer, endless, below] {
        assert_eq!(child["expires_at"], parent["expires_at"], "{child}");
    }
    let shorter = mint(above, &json!({ "name": "shorter", "expires_in_days": 3 })).await;
    assert!(timestamp(&shorter["expires_at"]) < timestamp(&parent["expires_at"]));
}

/// Revoking offers to revoke the whole line below: `?line=true`. Without it, the line lives on.
#[tokio::test]
async fn lineage_below_goes_with_a_revocation_that_asks_for_it() {
    let client = client().await;
    let login = person("line").await;
    let (root, top) = client.mint(&login.token, "top").await;
    let (_, middle) = client.mint(&top, "middle").await;
    let (_, bottom) = client.mint(&middle, "bottom").await;
    let (alone, sibling) = client.mint(&login.token, "sibling").await;
    let (_, nephew) = client.mint(&sibling, "nephew").await;
    expect(204, delete(&client, &format!("/api/tokens/{root}?line=true"), &login.token)).await;
    for token in [&top, &middle, &bottom] {
        refused(401, "invalid token", client.get("/api/me").bearer_auth(token)).await;
    }
    assert!(client.accepts(&sibling).await && client.accepts(&nephew).await);
    expect(204, delete(&client, &format!("/api/tokens/{alone}"), &login.token)).await;
    assert!(!client.accepts(&sibling).await && client.accepts(&nephew).await);
}

/// An invalid Bearer never falls back to a valid cookie.
#[tokio::test]
async fn an_invalid_bearer_never_falls_back_to_the_cookie() {
    let client = client().await;
    let login = person("fallback").await;
    let (id, revoked) = client.mint(&login.token, "revoked").await;
    expect(204, delete(&client, &format!("/api/tokens/{id}"), &login.token)).await;
    for wrong in ["", "nonsense", UNKNOWN_TOKEN, &revoked] {
        let request = by_cookie(&client, Method::GET, "/api/me", &login, None);
        refused(401, "invalid token", request.header("authorization", format!("Bearer {wrong}"))).await;
    }
    let ended = person("ended").await;
    expect(200, client.post("/auth/logout", &json!({})).bearer_auth(&ended.token)).await;
    let request = by_cookie(&client, Method::GET, "/api/me", &login, None).bearer_auth(&ended.token);
    refused(401, "invalid token", request).await;
}

/// The Bearer is looked at first, its scheme in any letter case; then the cookie.
#[tokio::test]
async fn the_bearer_goes_before_the_cookie_in_any_letter_case() {
    let client = client().await;
    let (one, other) = (person("bearer").await, person("cookie").await);
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let request = by_cookie(&client, Method::GET, "/api/me", &other, None);
        let request = request.header("authorization", format!("{scheme} {}", one.token));
        assert_eq!(expect(200, request).await.json()["id"], one.user["id"], "{scheme}");
    }
}

/// Client-sent identity headers are removed before anything runs.
#[tokio::test]
async fn client_sent_identity_headers_have_no_effect() {
    let client = client().await;
    let (login, other) = (person("self").await, person("other").await);
    let forge = |mut request: reqwest::RequestBuilder| {
        for name in ["X-User-ID", "X-Agent-ID", "X-Task-ID", "X_User_ID", "X-Daemon-ID", "X-Principal"] {
            request = request.header(name, other.user["id"].as_str().expect("an id"));
        }
        request
            .header("X-User-Email", other.user["email"].as_str().expect("an address"))
            .header("X-Actor-Source", "operator")
    };
    refused(401, "missing authorization", forge(client.get("/api/me"))).await;
    let mine = expect(200, forge(client.get("/api/me").bearer_auth(&login.token))).await;
    assert_eq!(mine.json()["id"], login.user["id"]);
    let minted = forge(client.post("/api/tokens", &json!({ "name": "mine" })).bearer_auth(&login.token));
    let id = expect(201, minted).await.json()["id"].clone();
    let theirs = expect(200, client.get("/api/tokens").bearer_auth(&other.token)).await;
    assert_eq!(theirs.json(), json!([]));
    let events = eventually("the mint in the audit trail", async || {
        let events = answer(client.get("/v1/audit").bearer_auth(&login.token)).await.text;
        events.contains(id.as_str()?).then_some(events)
    })
    .await;
    assert!(!events.contains(other.user["id"].as_str().expect("an id")), "{events}");
}
