//! A service asks what credentials are good for, and ends what it takes for one.

use serde_json::json;
use tally_tests::Login;

use super::stage::{CLIENT, Stage, core};

/// With its secret and without, about what is good and what is not, in every form.
pub async fn ask_as_a_service(stage: &mut Stage, login: &Login) {
    let secret = stage.client_secret.clone();
    let stray = core();
    stage.marks.add("what a service took for a token", &stray);
    for (token, is_active) in [(login.token.as_str(), true), (&stray, false)] {
        let asked = stage.client.form("/oauth/introspect", &[("token", token)]);
        let told = stage.exchange("introspect", asked.basic_auth(CLIENT, Some(&secret)), &[]).await;
        assert_eq!((told.status, &told.json()["active"]), (200, &json!(is_active)), "{}", told.text);
        let form = [("token", token), ("client_id", CLIENT), ("client_secret", secret.as_str())];
        assert_eq!(
            stage.exchange("by form", stage.client.form("/oauth/introspect", &form), &[]).await.status,
            200
        );
        let asked = stage.client.form("/oauth/introspect", &[("token", token)]);
        let refused = stage.exchange("wrong", asked.basic_auth(&secret, Some(token)), &[]).await;
        assert_eq!(refused.status, 401, "{}", refused.text);
        let both = [("token", token), ("token", &secret)];
        assert_eq!(stage.exchange("twice", stage.client.form("/oauth/revoke", &both), &[]).await.status, 400);
    }
    let asked = stage.client.post("/oauth/introspect", &json!([login.token, stray, secret]));
    let told = stage.exchange("an array", asked.basic_auth(CLIENT, Some(&secret)), &[]).await;
    assert_eq!(told.json()[0]["active"], true, "{}", told.text);
    let ended = stage.exchange("revoke", stage.client.form("/oauth/revoke", &[("token", &stray)]), &[]).await;
    assert_eq!(ended.status, 200, "{}", ended.text);
}
