//! Somebody comes from an issuer, by each of the two ways, and somebody who has to prove an address.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use tally_tests::{client::answer, marks::Mark};

use super::stage::{Person, Stage, core};
use crate::support::issuers::{
    CLIENT_SECRET, FLOW, FRONTEND, Flow, GOOGLE_REDIRECT, LINK, account, google_code, location, query, with,
};

/// `known` has an account, and comes from where that says nothing.
pub async fn come_from_an_issuer(stage: &mut Stage, known: &Person) {
    let ida = stage.person("Ida", "198.51.100.99");
    let subject = core();
    stage.marks.add("Ida's subject", &subject);
    // As it goes to the token endpoint: the id, a colon and the secret.
    let basic = STANDARD.encode(format!("tally-at-google:{CLIENT_SECRET}"));
    stage.marks.add("the client's credentials", &basic[24..]);
    let claims = json!({ "sub": subject, "name": ida.name });
    let hers = with(&account(&ida.email), claims);
    by_redirect(stage, &ida, &hers).await;
    by_code(stage, &ida, &hers).await;
    have_to_prove(stage, known).await;
}

async fn by_redirect(stage: &mut Stage, ida: &Person, account: &serde_json::Value) {
    let begun = answer(stage.from(ida, stage.client.get("/auth/oidc/google"))).await;
    let place = location(&begun).to_owned();
    let cookie = begun.cookie(FLOW).expect("the cookie").0;
    let parameter = |name| query(&place, name).unwrap_or_else(|| panic!("{name} in {place}"));
    let begins: Vec<Mark> = [
        ("a state", parameter("state")),
        ("a nonce", parameter("nonce")),
        ("a challenge", parameter("code_challenge")),
        ("the cookie of a flow", cookie.clone()),
    ]
    .into_iter()
    .map(|(what, value)| stage.marks.add(what, value))
    .collect();
    stage.heard("begin", format!("{:?}", begun.headers), &begins);

    let came_back = stage.issuer.visit(&place, account).await;
    stage.marks.add("a code of the issuer", query(&came_back, "code").expect("a code"));
    let callback = came_back.strip_prefix(FRONTEND).expect("this server").to_owned();
    let flow = Flow { cookie, callback };
    let returned = answer(stage.from(ida, flow.come_back(&stage.client))).await;
    let (session, csrf) = ("multica_auth", "multica_csrf");
    let jwt = returned.cookie(session).unwrap_or_else(|| panic!("{}", location(&returned))).0;
    let csrf = returned.cookie(csrf).expect("the cookie").0;
    let marks =
        [stage.session(&jwt), stage.marks.add("a CSRF token", csrf.split_once('.').expect("two parts").1)];
    stage.heard("callback", format!("{:?}", returned.headers), &marks);
    // It comes once.
    let again = stage.from(ida, flow.come_back(&stage.client));
    assert_eq!(stage.exchange("callback again", again, &[]).await.status, 302);
}

async fn by_code(stage: &mut Stage, ida: &Person, account: &serde_json::Value) {
    let code = google_code(&stage.issuer, account).await;
    stage.marks.add("a code of the issuer", &code);
    let body = json!({ "code": code, "redirect_uri": GOOGLE_REDIRECT });
    let post = |stage: &Stage| stage.from(ida, stage.client.post("/auth/google", &body));
    let entered = answer(post(stage)).await;
    assert_eq!(entered.status, 200, "{}", entered.text);
    let session = stage.session(entered.json()["token"].as_str().expect("a token"));
    let csrf = entered.cookie("multica_csrf").expect("the cookie").0;
    let csrf = stage.marks.add("a CSRF token", csrf.split_once('.').expect("two parts").1);
    let text = format!("{:?}\n{}", entered.headers, entered.text);
    stage.heard("google", text, &[&ida.marks[..], &[session, csrf]].concat());
    assert_eq!(stage.exchange("google again", post(stage), &[]).await.status, 400);
}

/// The issuer is not who decides whose the address is.
async fn have_to_prove(stage: &mut Stage, known: &Person) {
    let code = google_code(&stage.issuer, &account(&known.email)).await;
    let body = json!({ "code": code, "redirect_uri": GOOGLE_REDIRECT });
    let refused = answer(stage.from(known, stage.client.post("/auth/google", &body))).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    let link_token = refused.json()["link_token"].as_str().expect("a token").to_owned();
    let browser = refused.cookie(LINK).expect("the cookie").0;
    let marks = [("a link token", &link_token), ("a link cookie", &browser)]
        .map(|(what, core)| stage.marks.add(what, core));
    stage.heard("google", format!("{:?}\n{}", refused.headers, refused.text), &marks);
    let body = json!({ "email": known.email, "code": "000000", "link_token": link_token });
    let request = stage.client.post("/auth/verify-code", &body).header("cookie", format!("{LINK}={browser}"));
    let request = stage.from(known, request);
    assert!(stage.exchange("a link without a code", request, &[]).await.status >= 400);
}
