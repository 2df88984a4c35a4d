//! *Login* with Google. What stands for Google is a certified issuer, in a process of its own.

use chrono::TimeDelta;
use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};
use tally_tests::{Server, client::answer};

use crate::support::{
    BINARY, address, client, connection, expect, fields,
    issuers::{
        FRONTEND, GOOGLE_REDIRECT, Link, account, at, events, google, google_code, issuer_for, link_of,
        must_prove, prove, replica_with, site, with, with_google,
    },
    now,
    past::{Past, claims},
    refused,
};

/// `/auth/google` answers as verify-code: token, user and both cookies. The session is a login's.
#[tokio::test]
async fn google_answers_as_verify_code() {
    let (site, email) = (site().await, address("google"));
    let client = site.client();
    let ada = account(&email);
    let answer = expect(200, with_google(&client, &site.issuer, &ada).await).await;
    let body = answer.json();
    assert_eq!(fields(&body), ["token", "user"]);
    assert_eq!((&body["user"]["email"], &body["user"]["name"]), (&json!(email), &json!("Ada Lovelace")));
    assert_eq!(json!(answer.cookie("multica_auth").expect("the cookie").0), body["token"]);
    assert!(answer.cookie("multica_csrf").is_some() && answer.header("x-log-position").is_some());
    let token = body["token"].as_str().expect("a token");
    let me = expect(200, client.get("/api/me").bearer_auth(token)).await;
    assert_eq!(me.json(), body["user"]);
    expect(200, client.post("/api/cli-token", &json!({})).bearer_auth(token)).await;
    let expected = (site.issuer.url().to_owned(), "registration".to_owned());
    assert_eq!(link_of(&body["user"]["id"]).await, expected);
    let method: String = sqlx::query_scalar("select method from sessions where id = $1::uuid")
        .bind(claims(token)["sid"].as_str())
        .fetch_one(&mut connection().await)
        .await
        .expect("the session");
    assert_eq!(method, "identity");
}

/// 400 for what is missing, not allowed or no code; a code is good once.
#[tokio::test]
async fn google_refuses_what_is_missing_or_wrong() {
    let site = site().await;
    let client = site.client();
    let post = |body: &Value| client.post("/auth/google", body);
    for missing in
        [json!({}), json!({ "code": null }), json!({ "code": " ", "redirect_uri": GOOGLE_REDIRECT })]
    {
        refused(400, "code is required", post(&missing)).await;
    }
    let code = google_code(&site.issuer, &account(&address("redirect"))).await;
    for other in [
        "https://evil.example/auth/callback",
        "https://app.example.org/auth/callback/",
        "https://app.example.org/auth/callback?x=1",
        "https://app.example.org/auth/Callback",
        "https://app.example.org",
        FRONTEND,
    ] {
        let body = json!({ "code": code, "redirect_uri": other });
        refused(400, "redirect_uri is not allowed", post(&body)).await;
    }
    // None of them cost the code. Without a redirect it is the first of the list.
    expect(200, post(&json!({ "code": code }))).await;
    for spent in [code.as_str(), "nonsense"] {
        let body = json!({ "code": spent, "redirect_uri": GOOGLE_REDIRECT });
        refused(400, "invalid or expired code", post(&body)).await;
    }
}

/// 503 where it is not configured.
#[tokio::test]
async fn google_is_503_where_it_is_not_configured() {
    let body = json!({ "code": "x", "redirect_uri": GOOGLE_REDIRECT });
    let client = client().await;
    let answer = refused(503, "Google login is not configured", client.post("/auth/google", &body)).await;
    assert!(answer.header("retry-after").is_some());
}

/// 502 while Google is away, and nobody is logged in. When it is back, with other keys, it works
/// without a restart.
#[tokio::test]
async fn google_is_502_while_it_is_away_and_its_new_keys_count() {
    let mut issuer = issuer_for(&["google"], false).await;
    let server = replica_with(&[google(issuer.url())], &[]).await;
    let (client, ada) = (server.client(), account(&address("away")));
    let body = expect(200, with_google(&client, &issuer, &ada).await).await.json();
    let user = &body["user"]["id"];
    let request = with_google(&client, &issuer, &ada).await;
    issuer.stop();
    let answer = refused(502, "Google does not answer", request).await;
    assert!(answer.cookie("multica_auth").is_none());
    let sessions = async || {
        sqlx::query_scalar::<_, i64>("select count(*) from sessions where user_id = $1::uuid")
            .bind(user.as_str())
            .fetch_one(&mut connection().await)
            .await
            .expect("the sessions")
    };
    assert_eq!(sessions().await, 1);
    issuer.restart().await;
    let again = expect(200, with_google(&client, &issuer, &ada).await).await.json();
    assert_eq!((&again["user"]["id"], sessions().await), (user, 2));
    // And where it was never reached at all.
    let unreached = replica_with(&[google(issuer.url())], &[]).await;
    let code = google_code(&issuer, &ada).await;
    issuer.stop();
    let body = json!({ "code": code, "redirect_uri": GOOGLE_REDIRECT });
    refused(502, "Google does not answer", unreached.client().post("/auth/google", &body)).await;
    assert_eq!(sessions().await, 2);
}

/// `email_verified` is required, also of somebody who is known.
#[tokio::test]
async fn google_must_have_verified_the_address() {
    let site = site().await;
    let client = site.client();
    let known = account(&at("gmail.com"));
    expect(200, with_google(&client, &site.issuer, &known).await).await;
    let unknown = account(&at("gmail.com"));
    for ada in [known, unknown] {
        for doubtful in [
            json!({ "email_verified": false }),
            json!({ "email_verified": "false" }),
            json!({ "email_verified": null }),
            json!({ "email": "not an address" }),
        ] {
            let request = with_google(&client, &site.issuer, &with(&ada, doubtful)).await;
            refused(400, "Google has not verified an email address of this account", request).await;
        }
    }
}

/// Linked by subject: with another address there it is the same account here, and an address that
/// somebody else has here changes nothing.
#[tokio::test]
async fn google_is_linked_by_subject() {
    let site = site().await;
    let client = site.client();
    let (ada, eve) = (account(&address("ada")), account(&address("eve")));
    let logged_in = async |account: &Value| {
        expect(200, with_google(&client, &site.issuer, account).await).await.json()["user"].clone()
    };
    let (first, other) = (logged_in(&ada).await, logged_in(&eve).await);
    for email in [json!(address("moved")), eve["email"].clone()] {
        assert_eq!(logged_in(&with(&ada, json!({ "email": email }))).await, first);
    }
    assert_eq!(logged_in(&eve).await, other);
    assert_eq!(events(&first["id"], "user.identity_linked").await, 1);
}

/// An account of that address is linked where Google is authoritative for it: gmail.com,
/// googlemail.com, or an `hd` that matches.
#[rstest]
#[case::gmail("gmail.com", None, true)]
#[case::googlemail("googlemail.com", None, true)]
#[case::hosted("hosted.example", Some("hosted.example"), true)]
#[case::another_domain("hosted.example", None, false)]
#[case::hosted_elsewhere("hosted.example", Some("hosted.example.net"), false)]
#[case::below_gmail("evil.gmail.com", None, false)]
#[case::like_gmail("notgmail.com", None, false)]
#[tokio::test]
async fn google_links_an_account_where_it_is_authoritative(
    #[case] domain: &str,
    #[case] hd: Option<&str>,
    #[case] authoritative: bool,
) {
    let (site, email) = (site().await, at(domain));
    let client = site.client();
    let user = client.login(&email).await.user;
    let ada = with(&account(&email), json!({ "hd": hd }));
    if authoritative {
        let body = expect(200, with_google(&client, &site.issuer, &ada).await).await.json();
        assert_eq!(body["user"], user);
        assert_eq!(link_of(&user["id"]).await, (site.issuer.url().to_owned(), "authority".to_owned()));
    } else {
        must_prove(&client, &ada).await;
        assert_eq!(events(&user["id"], "user.identity_linked").await, 0);
    }
}

/// Else after an e-mailed code, in one commit with it; then Google alone suffices.
#[tokio::test]
async fn google_links_an_account_after_a_mailed_code() {
    let (site, email) = (site().await, address("prove"));
    let client = site.client();
    let user = client.login(&email).await.user;
    let ada = account(&email);
    let link = must_prove(&client, &ada).await;
    let answer = prove(&client, &email, &link).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["user"], user);
    assert_eq!(link_of(&user["id"]).await, (site.issuer.url().to_owned(), "email_code".to_owned()));
    let commits: i64 =
        sqlx::query_scalar("select count(distinct causation) from event where request_id = $1::uuid")
            .bind(answer.header("x-request-id"))
            .fetch_one(&mut connection().await)
            .await
            .expect("the log");
    assert_eq!(commits, 1);
    let body = expect(200, with_google(&client, &site.issuer, &ada).await).await.json();
    assert_eq!(body["user"], user);
}

/// Whoever has an account with the victim's address at Google gets nowhere: a code without the
/// token links nothing, and the token is for one address, in one browser, for ten minutes, and good for
/// nothing without the code.
#[tokio::test]
async fn google_links_nothing_without_token_and_code_of_one_address() {
    let (site, victim) = (site().await, address("victim"));
    let client = site.client();
    let user = client.login(&victim).await.user;
    let attacker = account(&victim);
    let link = must_prove(&client, &attacker).await;
    let links = async || events(&user["id"], "user.identity_linked").await;

    // The victim logs in meanwhile, as ever.
    let past = Past::shifted(TimeDelta::minutes(2)).await;
    past.issue_code(&victim, "123456").await;
    let verify = |email: &str, code: &str, token: &str| {
        Link { token: token.to_owned(), ..link.clone() }.verify(&client, email, code)
    };
    let without = json!({ "email": victim, "code": "123456" });
    expect(200, client.post("/auth/verify-code", &without)).await;
    must_prove(&client, &attacker).await;

    // A wrong code with the right token.
    past.issue_code(&victim, "123456").await;
    refused(400, "invalid or expired code", link.verify(&client, &victim, "654321")).await;
    assert_eq!(links().await, 0);

    // The attacker's own address, whose code they have, with the token of the victim's; and the
    // victim's with the token of theirs, or of the right one in another browser.
    let own = address("attacker");
    client.login(&own).await;
    let own_link = must_prove(&client, &account(&own)).await;
    past.issue_code(&own, "123456").await;
    let mut altered = link.token.clone().into_bytes();
    altered[40] = if altered[40] == b'A' { b'B' } else { b'A' };
    let altered = String::from_utf8(altered).expect("ASCII");
    let content = |seconds: i64| {
        let expires_at = now() + TimeDelta::seconds(seconds);
        json!({
            "issuer": site.issuer.url(), "subject": "1", "email": victim, "browser": link.browser,
            "expires_at": expires_at,
        })
    };
    let seal = |purpose: &str, content: Value| {
        past.store().keys().seal_carried(purpose, content.to_string().as_bytes())
    };
    let expired = seal("identity link", content(-1));
    let of_another_purpose = seal("oidc flow", content(60));
    for (email, token) in [
        (&own, link.token.as_str()),
        (&victim, own_link.token.as_str()),
        (&victim, &altered),
        (&victim, &expired),
        (&victim, &of_another_purpose),
        (&victim, ""),
        (&victim, "nonsense"),
    ] {
        refused(400, "invalid or expired link_token", verify(email, "123456", token)).await;
    }
    for browser in ["", &link.browser[1..], &own_link.browser] {
        let elsewhere = Link { browser: browser.to_owned(), ..link.clone() };
        refused(400, "invalid or expired link_token", elsewhere.verify(&client, &victim, "123456")).await;
    }
    let cookieless = json!({ "email": victim, "code": "123456", "link_token": link.token });
    refused(400, "invalid or expired link_token", client.post("/auth/verify-code", &cookieless)).await;
    assert_eq!(links().await, 0);
    // None of that cost the victim an attempt, and a good token of this form does link.
    expect(200, verify(&victim, "123456", &seal("identity link", content(60)))).await;
    assert_eq!(links().await, 1);
}

/// A token that is replayed needs a code again, and links nothing anew; one of an identity that
/// opens another account by now is refused and moves nothing.
#[tokio::test]
async fn google_link_token_links_once() {
    let (site, email) = (site().await, address("replay"));
    let client = site.client();
    let user = client.login(&email).await.user;
    let ada = account(&email);
    let link = must_prove(&client, &ada).await;
    assert_eq!(prove(&client, &email, &link).await.status, 200);
    refused(400, "invalid or expired code", link.verify(&client, &email, "123456")).await;
    assert_eq!(prove(&client, &email, &link).await.status, 200);
    assert_eq!(events(&user["id"], "user.identity_linked").await, 1);

    let other = address("other");
    let their = client.login(&other).await.user;
    let same_person = with(&ada, json!({ "email": other }));
    // The issuer knows them by one subject: they come in as the first account.
    let entered = expect(200, with_google(&client, &site.issuer, &same_person).await).await.json();
    assert_eq!(entered["user"], user);
    let expires_at = now() + TimeDelta::minutes(1);
    let content = json!({
        "issuer": site.issuer.url(), "subject": ada["sub"], "email": other, "browser": link.browser,
        "expires_at": expires_at,
    });
    let past = Past::shifted(TimeDelta::minutes(2)).await;
    let stolen = past.store().keys().seal_carried("identity link", content.to_string().as_bytes());
    let stolen = Link { token: stolen, ..link };
    let answer = prove(&client, &other, &stolen).await;
    assert_eq!(
        (answer.status, answer.json()),
        (409, json!({ "error": "this identity opens another account already" }))
    );
    assert_eq!(events(&their["id"], "user.identity_linked").await, 0);
}

/// An account that is suspended: 403, linked or not, once whose it is was proven.
#[tokio::test]
async fn google_does_not_open_a_suspended_account() {
    let site = site().await;
    let client = site.client();
    let (linked, gmail, foreign) =
        (account(&address("linked")), account(&at("gmail.com")), address("foreign"));
    expect(200, with_google(&client, &site.issuer, &linked).await).await;
    client.login(gmail["email"].as_str().expect("an address")).await;
    client.login(&foreign).await;
    for email in [&linked["email"], &gmail["email"], &json!(foreign)] {
        let command = site.server.command(&["user", "suspend", email.as_str().expect("an address")]).output();
        assert!(command.expect("the binary runs").status.success());
    }
    for ada in [&linked, &gmail] {
        refused(403, "account disabled", with_google(&client, &site.issuer, ada).await).await;
    }
    let link = must_prove(&client, &account(&foreign)).await;
    let answer = prove(&client, &foreign, &link).await;
    assert_eq!((answer.status, answer.json()), (403, json!({ "error": "account disabled" })));
}

/// ALLOW_SIGNUP and the lists hold here too; who has an account comes in.
#[tokio::test]
async fn google_opens_no_account_where_signup_is_closed() {
    let site = site().await;
    let known = account(&address("known"));
    // The list lets in whose the address is, and no others: a code goes there where Google cannot say.
    let listed = with(&account(&at("listed.example")), json!({ "hd": "listed.example" }));
    let perhaps = account(&at("listed.example"));
    expect(200, with_google(&site.client(), &site.issuer, &known).await).await;
    let lists = [("ALLOW_SIGNUP", "false"), ("ALLOWED_EMAIL_DOMAINS", "listed.example")];
    for settings in [&lists[..1], &[("ALLOW_SIGNUP", "invited")], &lists] {
        let server = site.replica(settings).await;
        let client = server.client();
        let stranger = account(&at("gmail.com"));
        let answer =
            refused(403, "signup prohibited", with_google(&client, &site.issuer, &stranger).await).await;
        assert!(answer.cookie("multica_auth").is_none());
        expect(200, with_google(&client, &site.issuer, &known).await).await;
        if settings.len() == 2 {
            expect(200, with_google(&client, &site.issuer, &listed).await).await;
            let link = must_prove(&client, &perhaps).await;
            let email = perhaps["email"].as_str().expect("an address");
            assert_eq!(prove(&client, email, &link).await.status, 200);
            expect(200, with_google(&client, &site.issuer, &perhaps).await).await;
        }
    }
}

/// Per IP: 5 a minute, counted apart from send-code.
#[tokio::test]
async fn google_is_limited_per_address_of_the_network() {
    let server = Server::start(BINARY, &[("RATE_LIMIT_AUTH", "5")]).await;
    let client = server.client();
    let ask = || client.post("/auth/google", &json!({ "code": "x" }));
    for _ in 0..5 {
        expect(503, ask()).await;
    }
    let answer = refused(429, "too many requests", ask()).await;
    assert!(answer.header("retry-after").is_some());
    expect(200, client.post("/auth/send-code", &json!({ "email": address("limit") }))).await;
}

/// Two first logins of one identity at once, on two replicas: one account, opened once.
#[tokio::test]
async fn google_opens_one_account_for_logins_at_once() {
    let site = site().await;
    let other = site.replica(&[]).await;
    let (here, there) = (site.client(), other.client());
    for domain in ["example.org", "gmail.com"] {
        let ada = account(&at(domain));
        let mut requests = Vec::new();
        for number in 0..6 {
            let client = if number % 2 == 0 { &here } else { &there };
            requests.push(answer(with_google(client, &site.issuer, &ada).await));
        }
        let answers = join_all(requests).await;
        let users: std::collections::BTreeSet<String> = answers
            .iter()
            .map(|answer| {
                assert_eq!(answer.status, 200, "{}", answer.text);
                answer.json()["user"]["id"].to_string()
            })
            .collect();
        assert_eq!(users.len(), 1, "{users:?}");
        let user = answers[0].json()["user"]["id"].clone();
        assert_eq!(events(&user, "user.registered").await, 1);
        assert_eq!(events(&user, "user.identity_linked").await, 1);
    }
}
