//! What is secret or personal is marked, brought through every door there is, and looked for
//! everywhere afterwards (P9, P10).

mod console;
mod erasure;
mod everywhere;
mod issuer;
mod oauth;
mod stage;
mod team;
