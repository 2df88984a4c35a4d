//! Recording that a code was not mailed: its address may then ask for another at once.

use std::time::Duration;

use futures::future::BoxFuture;
use tally_domain::{
    Principal, authorize,
    login::{DeclareUndeliverable, IssuedCode},
};
use tally_events::RequestId;
use tally_fanout::Replica;
use tally_store::RequestContext;
use tokio::time::sleep;

/// Seconds between attempts. Later ones would come after the minute that they are to shorten.
const PAUSES_SECONDS: [u64; 4] = [1, 2, 4, 8];

/// Records that a code was not mailed; ends when that is done or given up.
pub type Undeliverable = Box<dyn Fn(IssuedCode, Option<RequestId>) -> BoxFuture<'static, ()> + Send + Sync>;

/// Records it through this replica.
pub fn declare_by(replica: Replica) -> Undeliverable {
    Box::new(move |issued, request| Box::pin(declare(replica.clone(), issued, request)))
}

async fn declare(replica: Replica, issued: IssuedCode, request: Option<RequestId>) {
    let request_id = request.map(|id| id.to_string()).unwrap_or_default();
    let command = match authorize(Principal::Server, DeclareUndeliverable(issued)) {
        Ok(command) => command,
        Err(denied) => {
            tracing::error!(
                request.id = request_id,
                error = &denied as &dyn std::error::Error,
                "policy forbids what the server does"
            );
            return;
        }
    };
    let context = RequestContext { request, idempotency: None };
    let mut pauses = PAUSES_SECONDS.into_iter();
    loop {
        let Err(error) = replica.execute(&command, context).await else { return };
        let Some(pause) = pauses.next() else {
            tracing::warn!(
                request.id = request_id,
                error = &error as &dyn std::error::Error,
                "that a code was not mailed could not be recorded: its address has to wait for another"
            );
            return;
        };
        sleep(Duration::from_secs(pause)).await;
    }
}
