//! The wire contract, line by line: one file per section of `CONTRACT.md`, one test per line.

mod cookies_and_csrf;
mod credentials;
mod forward_auth;
mod guard;
mod idempotency;
mod login;
mod operations;
mod user_and_tokens;
