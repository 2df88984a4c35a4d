//! The wire contract, line by line: one file per section of `CONTRACT.md`, one test per line.

mod console_logout;
mod console_sessions;
mod cookies_and_csrf;
mod credentials;
mod forward_auth;
mod google;
mod guard;
mod idempotency;
mod introspection;
mod invitations;
mod login;
mod members;
mod oidc;
mod operations;
mod proxies;
mod revocation;
mod secret_rotation;
mod sessions;
mod share_links;
mod user_and_tokens;
mod web_socket;
mod workspaces;
