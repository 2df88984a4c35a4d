//! *Login* by way of any OpenID Connect issuer, the whole of it on the server.

use chrono::TimeDelta;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use tally_tests::client::answer;

use crate::support::{
    address, by_cookie, client, expect,
    issuers::{
        FRONTEND, Flow, GOOGLE_REDIRECT, Link, account, at, google, google_code, issuer_for, location, prove,
        query, replica_with, sent_to_login, site, through, under_way, with, with_google,
    },
    near, now,
    past::{Past, claims},
    refused, timestamp,
};

/// `GET /auth/oidc` lists names and labels, and nothing of how the server is known there.
#[tokio::test]
async fn oidc_lists_its_providers() {
    let listed = expect(200, site().await.client().get("/auth/oidc")).await;
    let expected = json!([
        { "name": "google", "label": "Google" }, { "name": "acme", "label": "Acme staff" },
        { "name": "thin", "label": "thin" },
    ]);
    assert_eq!(listed.json(), expected);
    assert_eq!(expect(200, client().await.get("/auth/oidc/")).await.json(), json!([]));
}

/// A browser is sent to the issuer with state, nonce and PKCE; what must come back is in one
/// cookie that no script reads and no other path sees.
#[tokio::test]
async fn oidc_begins_with_state_nonce_and_pkce() {
    let site = site().await;
    let client = site.client();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..2 {
        let answer = expect(302, client.get("/auth/oidc/acme")).await;
        let place = location(&answer);
        assert!(place.starts_with(&format!("{}/auth?", site.issuer.url())), "{place}");
        let parameter = |name| query(place, name).unwrap_or_else(|| panic!("{name} in {place}"));
        assert_eq!(parameter("response_type"), "code");
        assert_eq!(parameter("client_id"), "tally-at-acme");
        assert_eq!(parameter("redirect_uri"), format!("{FRONTEND}/auth/oidc/acme/callback"));
        assert_eq!(parameter("code_challenge_method"), "S256");
        assert!(parameter("scope").split(' ').any(|scope| scope == "openid"));
        let (value, attributes) = answer.cookie("tally_oidc").expect("the cookie");
        for attribute in ["HttpOnly", "SameSite=Lax", "Secure", "Path=/auth/oidc", "Max-Age=600"] {
            assert!(attributes.iter().any(|text| text == attribute), "{attribute} in {attributes:?}");
        }
        assert!(!attributes.iter().any(|text| text.starts_with("Domain=")));
        for secret in [parameter("state"), parameter("nonce"), parameter("code_challenge"), value] {
            assert!(secret.len() >= 22 && seen.insert(secret));
        }
    }
    refused(404, "there is no login provider of this name", client.get("/auth/oidc/nobody")).await;
    refused(404, "there is no login provider of this name", client.get("/auth/oidc/%ff")).await;
}

/// The whole way: a session, both cookies, and on to the place that was asked for.
#[tokio::test]
async fn oidc_logs_in_and_goes_on() {
    let (site, email) = (site().await, address("browser"));
    let client = site.client();
    let ada = account(&email);
    let answer = through(&client, &site.issuer, "acme", &ada).await;
    assert_eq!((answer.status, location(&answer)), (302, "https://app.example.org/acme/issues?page=2"));
    let (auth, attributes) = answer.cookie("multica_auth").expect("the cookie");
    assert!(attributes.iter().any(|text| text == "SameSite=Strict"), "{attributes:?}");
    let csrf = answer.cookie("multica_csrf").expect("the cookie").0;
    assert_eq!(answer.cookie("tally_oidc").expect("a cleared cookie").0, "");
    let login =
        tally_tests::Login { token: auth.clone(), user: json!({}), auth_cookie: auth, csrf_cookie: csrf };
    let me = by_cookie(&client, Method::PATCH, "/api/me", &login, Some(&login.csrf_cookie));
    let me = expect(200, me.json(&json!({ "language": "en" }))).await.json();
    assert_eq!((&me["email"], &me["name"]), (&json!(email), &json!("Ada Lovelace")));
    // Known by now; and by the same subject of the same issuer at the other door.
    let answer = through(&client, &site.issuer, "acme", &ada).await;
    let again = answer.cookie("multica_auth").expect("the cookie").0;
    assert_eq!(claims(&again)["sub"], me["id"]);
    let body = expect(200, with_google(&client, &site.issuer, &ada).await).await.json();
    assert_eq!(body["user"]["id"], me["id"]);
}

/// An issuer whose ID tokens name no address is asked for it.
#[tokio::test]
async fn oidc_asks_the_userinfo_endpoint_where_the_id_token_is_thin() {
    let (site, email) = (site().await, address("thin"));
    let client = site.client();
    let ada = account(&email);
    let answer = through(&client, &site.thin, "thin", &ada).await;
    let token = answer.cookie("multica_auth").unwrap_or_else(|| panic!("{}", location(&answer))).0;
    let me = expect(200, client.get("/api/me").bearer_auth(&token)).await.json();
    assert_eq!((&me["email"], &me["name"]), (&json!(email), &json!("Ada Lovelace")));
    let doubtful = with(&account(&address("thin")), json!({ "email_verified": false }));
    sent_to_login(&through(&client, &site.thin, "thin", &doubtful).await, "email_not_verified");
}

/// Only ever a path of the frontend.
#[tokio::test]
async fn oidc_returns_to_the_frontend_alone() {
    let client = site().await.client();
    let words = "return_to must be a path of the frontend, such as /settings?tab=profile";
    for elsewhere in [
        "https://evil.example",
        "//evil.example",
        "/%5Cevil.example",
        "%5C%5Cevil.example",
        "/%09/evil.example",
        "/%0d%0aSet-Cookie:%20x",
        "javascript:alert(1)",
        "acme",
        "",
        "/a&return_to=/b",
    ] {
        refused(400, words, client.get(&format!("/auth/oidc/acme?return_to={elsewhere}"))).await;
    }
}

/// The same rule as Google's: authoritative for its domain, else after a code. The token for that
/// is behind the `#`, where no server sees it.
#[tokio::test]
async fn oidc_links_by_authority_or_by_a_mailed_code() {
    let site = site().await;
    let client = site.client();
    let (staff, guest) = (at("acme.example"), at("guest.example"));
    let (staff_user, guest_user) = (client.login(&staff).await.user, client.login(&guest).await.user);
    let answer = through(&client, &site.issuer, "acme", &account(&staff)).await;
    let token = answer.cookie("multica_auth").unwrap_or_else(|| panic!("{}", location(&answer))).0;
    assert_eq!(claims(&token)["sub"], staff_user["id"]);

    let ada = account(&guest);
    let answer = through(&client, &site.issuer, "acme", &ada).await;
    let fragment = sent_to_login(&answer, "email_verification_required").expect("a fragment");
    assert!(!location(&answer).contains(&guest[..10]));
    let link = Link::of(&answer, fragment.strip_prefix("link_token=").expect("the token"));
    assert_eq!(prove(&client, &guest, &link).await.json()["user"], guest_user);
    let answer = through(&client, &site.issuer, "acme", &ada).await;
    assert_eq!(claims(&answer.cookie("multica_auth").expect("the cookie").0)["sub"], guest_user["id"]);
    // A hosted domain says nothing at an issuer that was not given that word.
    let hosted = at("hosted.example");
    client.login(&hosted).await;
    let eve = with(&account(&hosted), json!({ "hd": "hosted.example" }));
    sent_to_login(&through(&client, &site.issuer, "acme", &eve).await, "email_verification_required");
}

/// The callback is the answer to a login that this browser began, here, at this provider, within
/// ten minutes, and it comes once.
#[tokio::test]
async fn oidc_takes_back_only_the_browser_it_sent() {
    let site = site().await;
    let client = site.client();
    let begun = async || under_way(&client, &site.issuer, "acme", &account(&address("state"))).await;
    let (flow, other) = (begun().await, begun().await);
    let foreign_cookie = Flow { cookie: other.cookie.clone(), callback: flow.callback.clone() };
    let elsewhere =
        Flow { cookie: flow.cookie.clone(), callback: flow.callback.replace("/oidc/acme/", "/oidc/google/") };
    let altered = Flow { cookie: format!("{}A", flow.cookie), callback: flow.callback.clone() };
    let twice = Flow { callback: format!("{}&state=x", flow.callback), ..flow.but("x", None) };
    let ambiguous = client
        .get(&flow.callback)
        .header("cookie", format!("tally_oidc={}; tally_oidc={}", flow.cookie, other.cookie));
    for request in [
        flow.but("state", Some("another")).come_back(&client),
        flow.but("state", Some("")).come_back(&client),
        flow.but("state", None).come_back(&client),
        twice.come_back(&client),
        foreign_cookie.come_back(&client),
        elsewhere.come_back(&client),
        altered.come_back(&client),
        client.get(&flow.callback),
        ambiguous,
        client.get("/auth/oidc/acme/callback"),
    ] {
        let answer = answer(request).await;
        assert_eq!(sent_to_login(&answer, "invalid_state"), None);
        assert_eq!(answer.cookie("tally_oidc").expect("a cleared cookie").0, "");
    }
    // It was not touched by any of them; and it is at an end, on every replica, once it was taken.
    assert!(answer(flow.come_back(&client)).await.cookie("multica_auth").is_some());
    let replica = site.replica(&[]).await;
    for client in [&client, &replica.client()] {
        sent_to_login(&answer(flow.come_back(client)).await, "invalid_state");
    }
}

/// A browser that comes back too late.
#[tokio::test]
async fn oidc_waits_ten_minutes() {
    let site = site().await;
    let client = site.client();
    let flow = under_way(&client, &site.issuer, "acme", &account(&address("late"))).await;
    let past = Past::shifted(TimeDelta::minutes(2)).await;
    let keys = past.store().keys();
    let content = keys.open_carried("oidc flow", &flow.cookie).expect("the cookie of the flow");
    let mut content: Value = serde_json::from_slice(&content).expect("JSON");
    let expires_at = timestamp(&content["expires_at"]);
    assert!(near(expires_at, now() + TimeDelta::minutes(10)));
    content["expires_at"] = json!(now() - TimeDelta::seconds(1));
    let cookie = keys.seal_carried("oidc flow", content.to_string().as_bytes());
    let late = Flow { cookie, callback: flow.callback.clone() };
    sent_to_login(&answer(late.come_back(&client)).await, "invalid_state");
    assert!(answer(flow.come_back(&client)).await.cookie("multica_auth").is_some());
}

/// The ID token is the issuer's, for this server, of this login and of this moment, or nobody is
/// logged in.
#[rstest]
#[case::as_it_is(json!({}), true)]
#[case::without_a_hash_of_the_access_token(json!({ "claims": { "at_hash": null } }), true)]
#[case::another_nonce(json!({ "claims": { "nonce": "another" } }), false)]
#[case::no_nonce(json!({ "claims": { "nonce": null } }), false)]
#[case::another_audience(json!({ "claims": { "aud": "somebody-else" } }), false)]
#[case::one_audience_more(json!({ "claims": { "aud": ["tally-at-acme", "somebody-else"] } }), false)]
#[case::another_party(json!({ "claims": { "azp": "somebody-else" } }), false)]
#[case::its_own_party(json!({ "claims": { "azp": "tally-at-acme" } }), true)]
#[case::another_issuer(json!({ "claims": { "iss": "https://issuer.example" } }), false)]
#[case::expired(json!({ "claims": { "exp": 1_700_000_000 } }), false)]
#[case::from_the_future(json!({ "claims": { "iat": 4_000_000_000_u64, "exp": 4_000_000_600_u64 } }), false)]
#[case::another_access_token(json!({ "claims": { "at_hash": "AAAAAAAAAAAAAAAAAAAAAA" } }), false)]
#[case::no_subject(json!({ "claims": { "sub": "" } }), false)]
#[case::unsigned(json!({ "sign": "none", "claims": { "at_hash": null } }), false)]
#[case::signed_by_the_client_secret(json!({ "sign": "secret", "claims": { "at_hash": null } }), false)]
#[case::signed_by_a_stranger(json!({ "sign": "stranger", "claims": { "at_hash": null } }), false)]
#[tokio::test]
async fn oidc_believes_only_a_good_id_token(#[case] twist: Value, #[case] good: bool) {
    let site = site().await;
    let client = site.client();
    let ada = with(&account(&address("twist")), json!({ "twist": twist }));
    let answer = through(&client, &site.issuer, "acme", &ada).await;
    if good {
        assert!(answer.cookie("multica_auth").is_some(), "{}", location(&answer));
    } else {
        assert_eq!(sent_to_login(&answer, "provider_error"), None);
    }
}

/// RFC 9207: an answer that names another issuer, or none where this one always does, is a mix-up.
#[tokio::test]
async fn oidc_refuses_the_answer_of_another_issuer() {
    let site = site().await;
    let client = site.client();
    for iss in [Some("https://issuer.example"), Some(site.thin.url()), Some(""), None] {
        let flow = under_way(&client, &site.issuer, "acme", &account(&address("mixed"))).await;
        sent_to_login(&answer(flow.but("iss", iss).come_back(&client)).await, "provider_error");
    }
}

/// What an issuer says instead of a code reaches the login page as a word of ours.
#[tokio::test]
async fn oidc_tells_the_login_page_a_word_and_no_more() {
    let site = site().await;
    let client = site.client();
    let denied = under_way(&client, &site.issuer, "acme", &json!("nobody")).await;
    assert_eq!(sent_to_login(&answer(denied.come_back(&client)).await, "access_denied"), None);
    let ada = account(&address("words"));
    for (parameter, value) in [("error", Some("<script>")), ("code", None), ("code", Some("made-up"))] {
        let flow = under_way(&client, &site.issuer, "acme", &ada).await.but(parameter, value);
        assert_eq!(sent_to_login(&answer(flow.come_back(&client)).await, "provider_error"), None);
    }
    let doubtful = with(&ada, json!({ "email_verified": false }));
    sent_to_login(&through(&client, &site.issuer, "acme", &doubtful).await, "email_not_verified");
    assert!(through(&client, &site.issuer, "acme", &ada).await.cookie("multica_auth").is_some());
    let email = ada["email"].as_str().expect("an address");
    assert!(
        site.server.command(&["user", "suspend", email]).output().expect("the binary runs").status.success()
    );
    sent_to_login(&through(&client, &site.issuer, "acme", &ada).await, "account_disabled");
    let closed = site.replica(&[("ALLOW_SIGNUP", "false")]).await;
    let stranger = account(&address("stranger"));
    // Of an address that was not proven it is told neither that it may not, nor that it might.
    let unproven = through(&closed.client(), &site.issuer, "acme", &stranger).await;
    sent_to_login(&unproven, "email_verification_required");
    let stranger = account(&at("acme.example"));
    sent_to_login(&through(&closed.client(), &site.issuer, "acme", &stranger).await, "signup_prohibited");
    let busy =
        site.replica(&[("RATE_LIMIT_AUTH_VERIFY", "1"), ("RATE_LIMIT_TRUSTED_PROXIES", "127.0.0.1")]).await;
    let client = busy.client();
    let from = |request: reqwest::RequestBuilder| request.header("x-forwarded-for", "203.0.113.77");
    sent_to_login(&answer(from(client.get("/auth/oidc/acme/callback"))).await, "invalid_state");
    sent_to_login(&answer(from(client.get("/auth/oidc/acme/callback"))).await, "rate_limited");
}

/// An issuer that is away lets nobody in, at the beginning and at the end; then it is back, with
/// other keys.
#[tokio::test]
async fn oidc_lets_nobody_in_while_the_issuer_is_away() {
    let mut issuer = issuer_for(&["google"], false).await;
    let providers = [google(issuer.url())];
    let (early, late) = (replica_with(&providers, &[]).await, replica_with(&providers, &[]).await);
    let (early, late) = (early.client(), late.client());
    let ada = account(&address("outage"));
    let flow = under_way(&early, &issuer, "google", &ada).await;
    issuer.stop();
    sent_to_login(&answer(flow.come_back(&early)).await, "provider_unavailable");
    sent_to_login(&answer(late.get("/auth/oidc/google")).await, "provider_unavailable");
    issuer.restart().await;
    assert!(through(&early, &issuer, "google", &ada).await.cookie("multica_auth").is_some());
    tally_tests::eventually("the issuer to be asked again", async || {
        let begun = answer(late.get("/auth/oidc/google")).await;
        location(&begun).starts_with(issuer.url()).then_some(())
    })
    .await;
    assert!(through(&late, &issuer, "google", &ada).await.cookie("multica_auth").is_some());
}

/// Neither secrets nor people are in the log, however closely somebody listens.
#[tokio::test]
async fn login_by_an_issuer_tells_the_log_no_secret() {
    let site = site().await;
    let server = site.replica(&[("LOG_LEVEL", "trace")]).await;
    let client = server.client();
    let ada = account(&address("trace"));
    let flow = under_way(&client, &site.issuer, "acme", &ada).await;
    assert!(answer(flow.come_back(&client)).await.cookie("multica_auth").is_some());
    let code = google_code(&site.issuer, &ada).await;
    let body = json!({ "code": code, "redirect_uri": GOOGLE_REDIRECT });
    expect(200, client.post("/auth/google", &body)).await;
    let place = format!("{FRONTEND}{}", flow.callback);
    let parameter = |name| query(&place, name).expect("a parameter");
    let log = server.log();
    assert!(log.contains("\"TRACE\""));
    for secret in [
        "hunter2",
        &code,
        &parameter("code"),
        &parameter("state"),
        &flow.cookie,
        ada["sub"].as_str().expect("a text"),
        ada["email"].as_str().expect("an address"),
        "Lovelace",
    ] {
        assert!(!log.contains(secret), "{secret}");
    }
    // Its secret goes there in base64, behind the id.
    assert!(!log.contains("dGFsbHktYXQt"));
}
