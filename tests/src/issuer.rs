//! A real OpenID Connect issuer as a process of its own, and a browser that goes there.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use reqwest::header::LOCATION;
use serde_json::{Value, json};

use crate::{
    Port, eventually,
    scratch::{Guarded, Scratch},
};

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/issuer");

/// `oidc-provider` on Node, as `tests/issuer/issuer.mjs` starts it.
pub struct Issuer {
    scratch: Scratch,
    options: Value,
    process: Guarded,
    url: String,
    starts: usize,
    // It comes and goes.
    _port: Port,
}

/// A client's registration.
#[must_use]
pub fn registration(id: &str, secret: &str, redirect_uri: &str) -> Value {
    json!({ "client_id": id, "client_secret": secret, "redirect_uris": [redirect_uri] })
}

impl Issuer {
    /// Starts one for these clients. A thin one tells of people at its UserInfo endpoint alone.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(clients: &[Value], thin: bool) -> Self {
        assert!(
            Path::new(DIRECTORY).join("node_modules").exists(),
            "the issuer of these tests is not here: run scripts/issuer"
        );
        let scratch = Scratch::new();
        let port = Port::new();
        let options = json!({ "port": port.number(), "thin": thin, "clients": clients });
        let process = spawn(&scratch, &options);
        let mut issuer = Self { scratch, options, process, url: String::new(), starts: 1, _port: port };
        issuer.url = issuer.listening().await;
        issuer
    }

    /// As it names itself.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends it, and nothing listens where it was.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) {
        self.process.signal(rustix::process::Signal::KILL);
        self.process.wait();
    }

    /// Starts it again at the same place, with other keys.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        self.process = spawn(&self.scratch, &self.options);
        self.starts += 1;
        self.listening().await;
    }

    /// Goes to the issuer as a browser does, says there who comes, and gives back where the browser is
    /// sent then: it does not go there.
    ///
    /// # Panics
    /// When the issuer does not do its part.
    pub async fn visit(&self, authorization_url: &str, account: &Value) -> String {
        let browser = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .cookie_store(true)
            .timeout(Duration::from_secs(30))
            .build()
            .expect("a plain client");
        let mut place = authorization_url.to_owned();
        while place.starts_with(&self.url) {
            let request = browser.get(&place).header("x-account", account.to_string());
            let answer = request.send().await.expect("the issuer answers");
            let next = answer.headers().get(LOCATION).and_then(|next| next.to_str().ok()).map(str::to_owned);
            let Some(next) = next else {
                panic!("{}: {}", answer.status(), answer.text().await.unwrap_or_default())
            };
            place = if next.starts_with('/') { format!("{}{next}", self.url) } else { next };
        }
        place
    }

    async fn listening(&mut self) -> String {
        let (starts, path) = (self.starts, output_path(&self.scratch));
        let process = &mut self.process;
        eventually("the issuer to listen", async || {
            let output = fs::read_to_string(&path).unwrap_or_default();
            assert!(process.is_running(), "the issuer ended: {output}");
            let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.filter_map(|line| line["issuer"].as_str().map(str::to_owned)).nth(starts - 1)
        })
        .await
    }
}

fn output_path(scratch: &Scratch) -> PathBuf {
    scratch.path().join("issuer.log")
}

fn spawn(scratch: &Scratch, options: &Value) -> Guarded {
    let output = OpenOptions::new()
        .create(true)
        .append(true)
        .open(output_path(scratch))
        .expect("a file for its output");
    let errors = output.try_clone().expect("the same file");
    let mut command = Command::new("node");
    command.arg(Path::new(DIRECTORY).join("issuer.mjs")).arg(options.to_string());
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    scratch.spawn(&mut command).expect("node runs: see scripts/install")
}
