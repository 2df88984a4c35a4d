//! The `/oauth` family: what other services ask about credentials, in the words of OAuth.

pub mod introspect;
pub mod revoke;
