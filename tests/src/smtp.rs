//! A real mail server in a process of its own, and what it was given.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    Port,
    certificate::certify,
    eventually,
    scratch::{Guarded, Scratch},
};

const PROGRAM: &str = include_str!("smtp.py");
/// Debian's own, which finds Debian's packages.
const PYTHON: &str = "/usr/bin/python3";

/// How a connection to it is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// It offers no TLS.
    None,
    Starttls,
    Implicit,
}

/// How it behaves.
#[derive(Clone, Debug)]
pub struct Behaviour {
    pub tls: Tls,
    /// User and password, without which it takes no mail.
    pub credentials: Option<[&'static str; 2]>,
    /// The name in its certificate.
    pub name: &'static str,
    /// What it answers to every recipient, such as `550 5.1.1`; the address is quoted behind it.
    pub refuses: Option<&'static str>,
    /// It takes every mail and hangs up instead of saying so.
    pub vanishes: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { tls: Tls::None, credentials: None, name: "localhost", refuses: None, vanishes: false }
    }
}

/// A mail server on a port of its own.
pub struct MailServer {
    scratch: Scratch,
    process: Option<Guarded>,
    options: Value,
    port: Port,
}

/// A mail it was given.
#[derive(Clone, Debug)]
pub struct Mail(Value);

impl MailServer {
    /// Starts one and waits until it listens.
    ///
    /// # Panics
    /// When it does not: `scripts/install python3-aiosmtpd` and `scripts/install openssl` install
    /// what it needs.
    pub async fn start(behaviour: Behaviour) -> Self {
        let scratch = Scratch::new();
        certify(scratch.path(), behaviour.name);
        let tls = match behaviour.tls {
            Tls::None => "none",
            Tls::Starttls => "starttls",
            Tls::Implicit => "implicit",
        };
        let port = Port::new();
        let options = json!({
            "tls": tls,
            "credentials": behaviour.credentials,
            "certificate": scratch.path().join("server.pem"),
            "key": scratch.path().join("server.key"),
            "refuses": behaviour.refuses,
            "vanishes": behaviour.vanishes,
            "port": port.number(),
        });
        let mut server = Self { scratch, process: None, options, port };
        server.up().await;
        server
    }

    /// Starts it again after [`down`](Self::down), on the port it had.
    ///
    /// # Panics
    /// When it does not listen.
    pub async fn up(&mut self) {
        let directory = self.scratch.path();
        fs::write(directory.join("options.json"), self.options.to_string()).expect("our own directory");
        let log = fs::File::create(directory.join("log")).expect("our own directory");
        let mut command = Command::new(PYTHON);
        command.args(["-c", PROGRAM]).arg(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut process = self.scratch.spawn(&mut command).expect("Python runs");
        eventually("the mail server to listen", async || {
            assert!(
                process.is_running(),
                "{}",
                fs::read_to_string(directory.join("log")).unwrap_or_default()
            );
            directory.join("listens").exists().then_some(())
        })
        .await;
        self.process = Some(process);
    }

    /// Ends it: nobody listens on its port.
    pub fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(rustix::process::Signal::KILL);
            process.wait();
        }
        drop(fs::remove_file(self.scratch.path().join("listens")));
    }

    #[must_use]
    pub fn port(&self) -> String {
        self.port.number().to_string()
    }

    /// The authority that vouches for its certificate, as a file.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.scratch.path().join("authority.pem")
    }

    /// Every mail it was given.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        let read =
            |number: usize| fs::read_to_string(self.scratch.path().join(format!("mail-{number}.json"))).ok();
        (0..).map_while(read).map(|text| Mail(serde_json::from_str(&text).expect("JSON"))).collect()
    }

    /// The mails to an address.
    #[must_use]
    pub fn mails_to(&self, address: &str) -> Vec<Mail> {
        self.mails().into_iter().filter(|mail| mail.0["to"] == json!([address])).collect()
    }

    /// Waits for a mail to an address.
    pub async fn mail_to(&self, address: &str) -> Mail {
        eventually("a mail", async || self.mails_to(address).into_iter().next()).await
    }

    /// How often this happened: `connection`, `recipient`, `log-in wrong encrypted`, …
    #[must_use]
    pub fn times(&self, what: &str) -> usize {
        let journal = fs::read_to_string(self.scratch.path().join("journal")).unwrap_or_default();
        journal.lines().filter(|line| line.starts_with(what)).count()
    }
}

impl Mail {
    /// # Panics
    /// When it has none, or several.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let headers = self.0["headers"].as_array().expect("a list");
        let mut values =
            headers.iter().filter(|header| header[0] == name).filter_map(|header| header[1].as_str());
        let value = values.next().unwrap_or_else(|| panic!("no {name} in {headers:?}"));
        assert!(values.next().is_none(), "two {name} in {headers:?}");
        value
    }

    fn field(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    #[must_use]
    pub fn text(&self) -> &str {
        self.field("text")
    }

    #[must_use]
    pub fn html(&self) -> &str {
        self.field("html")
    }

    #[must_use]
    pub fn content_type(&self) -> &str {
        self.field("content_type")
    }

    /// Who the server was told it is from.
    #[must_use]
    pub fn from(&self) -> &str {
        self.field("from")
    }

    /// What the client called itself.
    #[must_use]
    pub fn hello(&self) -> &str {
        self.field("hello")
    }

    /// Who had logged in; empty: nobody.
    #[must_use]
    pub fn user(&self) -> &str {
        self.field("user")
    }

    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.0["encrypted"] == true
    }

    /// The six digits that stand alone on a line of the text.
    #[must_use]
    pub fn code(&self) -> Option<String> {
        let is_code = |line: &&str| line.len() == 6 && line.bytes().all(|byte| byte.is_ascii_digit());
        self.text().lines().find(is_code).map(str::to_owned)
    }
}
