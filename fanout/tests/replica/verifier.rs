//! A verifier beside a replica of the same log: another process, as far as the two can tell.

use std::{convert::Infallible, time::Duration};

use axum::body::Body;
use http::{Request, Response};
use tally_domain::authorize;
use tally_fanout::{
    CredentialId, CredentialKind, Unverified, Verified, Verifier, VerifierLayer, VerifierSettings,
};
use tally_store::RequestContext;
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    Alone, BOUND, alone,
    cluster::Cluster,
    eventually, list,
    people::{mint_token, revoke},
};

async fn connected(cluster: &Cluster) -> Verifier {
    let settings = VerifierSettings { warm_start: false, ..VerifierSettings::new(cluster.url()) };
    let verifier = Verifier::connect(settings).await.unwrap();
    eventually("a lease", Duration::from_secs(10), async || verifier.status().lease_valid).await;
    verifier
}

#[tokio::test(flavor = "multi_thread")]
async fn it_remembers_a_yes_until_it_is_revoked() {
    let Alone { replica, store, cluster, ada, token } = alone().await;
    let verifier = connected(&cluster).await;
    assert_eq!(list(store.pool()).await.0, 2, "revocations wait for both");
    let text = token.secret.expose();
    assert_eq!(verifier.remembered(text), None);
    let verified = verifier.verify(text).await.unwrap();
    assert_eq!((verified.user, verified.credential), (ada.user, CredentialId::Token(token.id)));
    assert_eq!(verified.kind, CredentialKind::PersonalAccessToken);
    assert!(verified.expires_at.is_some());
    assert_eq!(verifier.remembered(text), Some(verified));

    let command = authorize(ada.principal, revoke(&token)).unwrap();
    let done = replica.execute(&command, RequestContext::default()).await.unwrap();
    assert!(done.effective.unwrap().waited >= BOUND, "{:?}", done.effective);
    assert_eq!(verifier.remembered(text), None);
    assert_eq!(verifier.verify(text).await, Err(Unverified::Invalid));

    // Sessions and nonsense are known by their form, also while nobody can be asked.
    cluster.freeze();
    let began = Instant::now();
    assert_eq!(verifier.verify("e30.e30.c2ln").await, Err(Unverified::Session));
    assert_eq!(verifier.verify("mul_nonsense").await, Err(Unverified::Invalid));
    assert!(began.elapsed() < crate::COLD.verify_deadline, "{:?}", began.elapsed());
    cluster.thaw();
}

/// Told to stop, it is off the list when that is done; dropped, soon after.
#[tokio::test(flavor = "multi_thread")]
async fn it_leaves_the_list_when_it_stops_or_is_dropped() {
    let Alone { replica, store, cluster, ada, token } = alone().await;
    let verifier = connected(&cluster).await;
    verifier.verify(token.secret.expose()).await.unwrap();
    verifier.shutdown().await;
    assert_eq!(list(store.pool()).await.0, 1);
    assert_eq!((verifier.status().lease_valid, verifier.remembered(token.secret.expose())), (false, None));
    verifier.verify(token.secret.expose()).await.unwrap();

    let other = connected(&cluster).await;
    assert_eq!(list(store.pool()).await.0, 2);
    drop(other);
    eventually("it is off the list", Duration::from_secs(5), async || list(store.pool()).await.0 == 1).await;
    let token = mint_token(&store, &ada).await;
    let command = authorize(ada.principal, revoke(&token)).unwrap();
    // By now the replica knows its history for long enough: nobody else is waited for.
    eventually("no wait", Duration::from_secs(5), async || {
        let done = replica.execute(&command, RequestContext::default()).await.unwrap();
        done.effective.unwrap().waited < BOUND / 2
    })
    .await;
}

/// What a client says of who it is reaches nobody; what the token says does.
#[tokio::test(flavor = "multi_thread")]
async fn the_layer_puts_its_own_word_in_the_place_of_the_clients() {
    let Alone { cluster, ada, token, replica: _replica, store: _store } = alone().await;
    let verifier = connected(&cluster).await;
    let echo = service_fn(async |request: Request<Body>| {
        let verified = request.extensions().get::<Verified>().expect("it came through the layer");
        let names: Vec<&str> = request.headers().keys().map(http::HeaderName::as_str).collect();
        let said = format!("{} {}", verified.user, names.join(" "));
        Ok::<_, Infallible>(Response::new(Body::from(said)))
    });
    let service = VerifierLayer::new(verifier).layer(echo);
    // The first is looked up, the second remembered.
    for _ in 0..2 {
        let request = Request::get("/")
            .header("authorization", format!("Bearer {}", token.secret.expose()))
            .header("x-user-id", "somebody else")
            .header("x_user_id", "somebody else")
            .header("x-actor-source", "service_token")
            .header("x-request-id", "kept");
        let answer = service.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let body = axum::body::to_bytes(answer.into_body(), 4096).await.unwrap();
        assert_eq!(body, format!("{} authorization x-request-id", ada.user));
    }
}
