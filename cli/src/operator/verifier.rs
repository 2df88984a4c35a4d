//! `tally verifier`: what a service is given that verifies in its own process.

use clap::Subcommand;
use serde_json::json;
use tally_fanout::BusKey;
use tally_store::Rotation;

use super::{Failure, session::Session};
use crate::config::Secrets;

#[derive(Subcommand)]
pub enum Command {
    /// Print the key that a verifier needs to hear of revocations by NATS
    ///
    /// It opens nothing that is stored and makes no token. But whoever holds it, and may publish on the
    /// NATS subject, can say in any replica's name that it has applied a revocation, or of a commit that
    /// it revoked nothing: give it to services that you trust to verify at all.
    Key,
}

pub async fn run(command: Command, json: bool) -> Result<(), Failure> {
    let Command::Key = command;
    let session = Session::open().await?;
    let key = key(&session).await;
    let text = session.close(key).await?.expose();
    if json {
        println!("{}", json!({ "bus_key": text.as_str() }));
    } else {
        println!("{}", text.as_str());
    }
    eprintln!("Keep it secret: whoever holds it can speak on the bus as a replica.");
    Ok(())
}

/// The database knows whether the master key is its own; a key of another installation would be heard
/// by nobody.
async fn key(session: &Session) -> Result<BusKey, Failure> {
    let secrets = Secrets::load(&session.config)?;
    let keys = secrets.unlock(session.pool.clone(), Rotation::Follow).await?;
    Ok(BusKey::of(keys.bus().clone()))
}
