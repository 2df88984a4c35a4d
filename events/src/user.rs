//! What happens to a person's account.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    facts::{Facts, facts},
    ids::UserId,
    personal::Personal,
    seal::Subject,
};

facts! {
    /// The facts of an account.
    UserEvent {
        "user.registered" v 1 => Registered(UserRegistered) { email, name };
        "user.profile_changed" v 1 => ProfileChanged(UserProfileChanged) {
            name, avatar_url, language, timezone, profile_description
        };
        "user.suspended" v 1 => Suspended(UserSuspended) {};
        "user.reinstated" v 1 => Reinstated(UserReinstated) {};
        "user.identity_linked" v 1 => IdentityLinked(UserIdentityLinked) { subject };
    }
}

impl Facts for UserEvent {
    type Id = UserId;

    fn subject(&self, user: UserId) -> Option<Subject> {
        Some(Subject::User(user))
    }

    fn concerns(&self, user: UserId) -> Option<UserId> {
        Some(user)
    }

    fn public_data(&self) -> Value {
        match self {
            Self::Registered(_) | Self::ProfileChanged(_) | Self::Suspended(_) | Self::Reinstated(_) => {
                json!({})
            }
            Self::IdentityLinked(fact) => json!({ "issuer": fact.issuer, "proof": fact.proof }),
        }
    }
}

/// The address proved itself for the first time: the account exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRegistered {
    pub email: Personal,
    pub name: Personal,
}

/// Only the fields that were sent; an empty text clears the field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserProfileChanged {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Personal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<Personal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Personal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<Personal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_description: Option<Personal>,
}

/// An operator closed the account: no credential of it is live until it is reinstated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSuspended {}

/// An operator opened the account again. Credentials from before the suspension stay dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserReinstated {}

/// Why an account elsewhere may open this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityProof {
    /// This account was opened with it.
    Registration,
    /// Its issuer is authoritative for this account's address.
    Authority,
    /// A code that was mailed to this account's address came back with it.
    EmailCode,
}

/// An account at an OpenID Connect issuer lets the person in from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserIdentityLinked {
    /// The issuer's URL, as it names itself.
    pub issuer: String,
    /// The issuer's name for the person, which is not their address and never changes.
    pub subject: Personal,
    pub proof: IdentityProof,
}
