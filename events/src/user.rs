//! What happens to a person's account.

use serde::{Deserialize, Serialize};

use crate::personal::Personal;

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
