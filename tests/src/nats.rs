//! A real NATS server in a process of its own.

use std::{
    fs,
    process::{Command, Stdio},
};

use crate::{
    Port, eventually,
    program::program,
    scratch::{Guarded, Scratch},
};

/// A NATS server on a port of its own, on loopback.
pub struct NatsServer {
    scratch: Scratch,
    arguments: Vec<String>,
    process: Option<Guarded>,
    port: Port,
}

impl NatsServer {
    /// Starts one and waits until it listens. `arguments` are those of `nats-server`.
    ///
    /// # Panics
    /// When it does not: `scripts/install nats-server` gets it.
    pub async fn start(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut server = Self { scratch: Scratch::new(), arguments, process: None, port: Port::new() };
        server.up().await;
        server
    }

    /// Starts it again after [`down`](Self::down), on the port it had.
    ///
    /// # Panics
    /// When it does not listen.
    pub async fn up(&mut self) {
        let directory = self.scratch.path();
        let mut command = Command::new(program("nats-server"));
        command
            .args(["--addr", "127.0.0.1", "--port", &self.port.number().to_string(), "--ports_file_dir"])
            .arg(directory)
            .arg("--log")
            .arg(directory.join("log"))
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut process = self.scratch.spawn(&mut command).expect("nats-server runs");
        let ports = directory.join(format!("nats-server_{}.ports", process.id()));
        eventually("the NATS server to listen", async || {
            let log = || fs::read_to_string(directory.join("log")).unwrap_or_default();
            assert!(process.is_running(), "{}", log());
            ports.exists().then_some(())
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
    }

    /// The process, for those who stop and continue it.
    ///
    /// # Panics
    /// When it is down.
    #[must_use]
    pub fn process(&self) -> &Guarded {
        self.process.as_ref().expect("it is up")
    }

    /// Its address, `127.0.0.1:…`.
    #[must_use]
    pub fn address(&self) -> String {
        self.port.address().to_string()
    }
}
