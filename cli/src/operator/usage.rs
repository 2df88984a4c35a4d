//! `tally usage`: when a credential was used, and from where, also long after it was revoked.

use std::net::IpAddr;

use comfy_table::{Table, presets};
use serde_json::json;
use tally_store::{ADDRESSES_MAX, CredentialUsage, Rotation, UsedHour, usage_of};
use uuid::Uuid;

use super::{Failure, session::Session};
use crate::config::Secrets;

#[derive(clap::Args)]
pub struct Args {
    /// The id of a token or a session
    #[arg(value_name = "CREDENTIAL_ID")]
    credential: String,
}

pub async fn run(args: &Args, json: bool) -> Result<(), Failure> {
    // What is no id may be a token, pasted by mistake: it is not repeated.
    let credential = Uuid::parse_str(args.credential.trim()).map_err(|_| {
        Failure::BadInput(
            "invalid credential id: give the id of a token or a session, not the token".to_owned(),
        )
    })?;
    let session = Session::open().await?;
    let outcome = find(&session, credential).await;
    let Some(usage) = session.close(outcome).await? else {
        return Err(Failure::NotFound(
            "no use of this credential is written down: it is unknown, or was never used".to_owned(),
        ));
    };
    if json {
        println!("{}", document(credential, &usage));
    } else {
        let CredentialUsage { user, uses, last_used_at, hours } = &usage;
        println!("User {user}, {uses} uses, the last at {}.", last_used_at.format("%Y-%m-%dT%H:%M:%SZ"));
        if !hours.is_empty() {
            println!("{}", table(hours));
        }
    }
    Ok(())
}

async fn find(session: &Session, credential: Uuid) -> Result<Option<CredentialUsage>, Failure> {
    let secrets = Secrets::load(&session.config)?;
    let keys = secrets.unlock(session.pool.clone(), Rotation::Follow).await?;
    Ok(usage_of(&session.pool, &keys, credential).await?)
}

fn document(credential: Uuid, usage: &CredentialUsage) -> serde_json::Value {
    let hours = usage.hours.iter().map(|hour| {
        json!({
            "hour": hour.begins,
            "uses": hour.uses,
            "first_used_at": hour.first_used_at,
            "last_used_at": hour.last_used_at,
            "addresses": hour.addresses,
        })
    });
    json!({
        "credential_id": credential,
        "user_id": usage.user,
        "uses": usage.uses,
        "last_used_at": usage.last_used_at,
        "hours": hours.collect::<Vec<_>>(),
    })
}

fn table(hours: &[UsedHour]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["HOUR", "USES", "FIRST", "LAST", "ADDRESSES"]);
    for hour in hours {
        table.add_row([
            hour.begins.format("%Y-%m-%dT%H:00Z").to_string(),
            hour.uses.to_string(),
            hour.first_used_at.format("%M:%S%.3f").to_string(),
            hour.last_used_at.format("%M:%S%.3f").to_string(),
            addresses(&hour.addresses),
        ]);
    }
    table
}

/// The last first. Where as many stand as are kept, there may have been more.
fn addresses(addresses: &[IpAddr]) -> String {
    if addresses.is_empty() {
        return "-".to_owned();
    }
    let more = if addresses.len() < ADDRESSES_MAX { "" } else { ", …" };
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    format!("{}{more}", texts.join(", "))
}
