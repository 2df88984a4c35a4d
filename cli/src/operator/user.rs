//! `tally user`: an operator closes an account, or opens it again.

use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;
use tally_domain::{
    Command as DomainCommand, EmailAddress, Principal, authorize,
    claim::Namespace,
    user::{ReinstateUser, SuspendUser, UserRefusal},
};
use tally_events::UserId;
use tally_fanout::{Replica, ReplicaSettings};
use tally_store::{Clock, ExecuteError, RequestContext, Rotation, Store, StoreOptions};

use super::{Failure, session::Session};
use crate::config::Secrets;

#[derive(Subcommand)]
pub enum Command {
    /// Close an account: no credential of it works any more when this command returns
    Suspend(Whom),
    /// Open an account again: the person logs in anew, earlier credentials stay dead
    Reinstate(Whom),
}

#[derive(Args)]
pub struct Whom {
    /// The person's e-mail address or id
    #[arg(value_name = "EMAIL|ID")]
    user: String,
}

pub async fn run(command: Command, json: bool) -> Result<(), Failure> {
    let session = Session::open().await?;
    let outcome = run_in(&session, command, json).await;
    session.close(outcome).await
}

async fn run_in(session: &Session, command: Command, json: bool) -> Result<(), Failure> {
    let secrets = Secrets::load(&session.config)?;
    let keys = secrets.unlock(session.pool.clone(), Rotation::Follow).await?;
    let (store, committer) = Store::start(StoreOptions {
        database: session.serving().clone(),
        pool: session.pool.clone(),
        keys,
        clock: Clock::default(),
        inline: tally_projections::inline(),
        inline_version: tally_projections::INLINE_VERSION,
    });
    let store = Arc::new(store);
    let settings = ReplicaSettings { lease: session.config.lease, ..ReplicaSettings::default() };
    let outcome = act(&store, settings, command, json).await;
    drop(store);
    // The committer ends with its store; a panic in it was told by the panic itself.
    drop(committer.await);
    outcome
}

async fn act(
    store: &Arc<Store>,
    settings: ReplicaSettings,
    command: Command,
    json: bool,
) -> Result<(), Failure> {
    let replica = Replica::observer(store.clone(), settings);
    let (word, user) = match command {
        Command::Suspend(whom) => {
            let user = find(store, &whom.user).await?;
            execute(&replica, SuspendUser { user }).await?;
            ("suspended", user)
        }
        Command::Reinstate(whom) => {
            let user = find(store, &whom.user).await?;
            execute(&replica, ReinstateUser { user }).await?;
            ("reinstated", user)
        }
    };
    if json {
        println!("{}", json!({ "user": user, "state": word }));
    } else {
        println!("User {user} is {word}.");
    }
    Ok(())
}

async fn find(store: &Store, text: &str) -> Result<UserId, Failure> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let email = EmailAddress::parse(text)
        .map_err(|_| Failure::BadInput(format!("`{text}` is neither an e-mail address nor a user id")))?;
    let holder = store.holder(Namespace::UserEmail, email.as_str()).await.map_err(Failure::Database)?;
    holder.map(UserId).ok_or_else(|| Failure::NotFound("no account has this address".to_owned()))
}

async fn execute<C>(replica: &Replica, command: C) -> Result<(), Failure>
where
    C: DomainCommand<Refusal = UserRefusal>,
{
    let denied = |error: tally_domain::Denied| Failure::Command(error.to_string());
    let command = authorize(Principal::Operator, command).map_err(denied)?;
    match replica.execute(&command, RequestContext::default()).await {
        Ok(_) => Ok(()),
        Err(ExecuteError::Refused(UserRefusal::Unknown)) => {
            Err(Failure::NotFound("user not found".to_owned()))
        }
        Err(error) => Err(Failure::Command(error.to_string())),
    }
}
