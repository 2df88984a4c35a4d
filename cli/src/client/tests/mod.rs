//! The client on its own: what it reads, writes, sends, and makes of the answers. The real server is met in `tests/`.

mod answers;
mod arguments;
mod auth;
mod login;
mod machine;
mod output;
mod profile;
mod server;
mod session;
mod settings;
mod workspace;

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use clap::Parser;

use super::profile::{Profile, ProfileName};
use super::{Client, Command, Environment, Global};

pub(super) use server::{Canned, Reply};

/// The command line, as `main` takes it.
#[derive(Debug, Parser)]
#[command(name = "tally")]
pub(super) struct Line {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

pub(super) fn parse(words: &[&str]) -> Result<Line, clap::Error> {
    Line::try_parse_from([&["tally"], words].concat())
}

pub(super) fn environment(variables: &[(&'static str, &str)]) -> Environment {
    Environment::of(variables.iter().map(|(name, value)| (*name, OsString::from(value))))
}

pub(super) fn name(text: &str) -> ProfileName {
    text.parse().expect("a profile name")
}

/// A client with this profile file, pointed at a server.
pub(super) fn client(home: &Path, server: &str, profile: &str) -> Client {
    let directory = home.join("tally");
    DirBuilder::new().mode(0o700).create(&directory).expect("a directory");
    std::fs::write(directory.join("default.json"), profile).expect("a profile");
    let home = home.to_str().expect("UTF-8");
    let environment = environment(&[("XDG_CONFIG_HOME", home), ("TALLY_SERVER_URL", server)]);
    let global = parse(&["token", "list"]).expect("a command").global;
    Client::open(&global, &environment).expect("a client")
}

pub(super) fn saved(home: &Path) -> Profile {
    Profile::load(&home.join("tally"), &name("default")).expect("a profile")
}
