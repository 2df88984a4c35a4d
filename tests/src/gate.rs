//! A real reverse proxy in front of a service, with the committed configuration for it.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{
    eventually,
    program::program,
    scratch::{Guarded, Scratch},
};

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    Caddy,
}

/// A proxy that asks an authority before it lets anybody through to a service.
pub struct Gate {
    scratch: Scratch,
    _process: Guarded,
}

impl Gate {
    /// Starts one and waits until it listens, on a socket in a directory of its own. `authority` and
    /// `service` are addresses, such as `127.0.0.1:8080`.
    pub async fn start(kind: Kind, authority: &str, service: &str) -> Self {
        let scratch = Scratch::new();
        let home = scratch.path().to_owned();
        let socket = home.join("gate.sock");
        let mut command = match kind {
            Kind::Nginx => {
                let part = include_str!("../../docs/forward-auth/nginx.conf");
                let whole = format!(
                    "daemon off; pid {home}/pid; worker_processes 1; error_log stderr; events {{}}
                     http {{
                       access_log off;
                       client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;
                       fastcgi_temp_path {home}/fastcgi; uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
                       upstream tally {{ server {authority}; keepalive 4; }}
                       upstream app {{ server {service}; keepalive 4; }}
                       server {{ listen unix:{socket}; {part} }}
                     }}",
                    home = home.display(),
                    socket = socket.display(),
                );
                fs::write(home.join("nginx.conf"), whole).expect("our own directory");
                let mut command = Command::new(program("nginx"));
                command.args(["-e", "stderr", "-c"]).arg(home.join("nginx.conf")).arg("-p").arg(&home);
                command
            }
            Kind::Caddy => {
                let part = include_str!("../../docs/forward-auth/Caddyfile");
                let site = format!("http:// {{\n\tbind unix/{}", socket.display());
                let part = part.replace("app.example.org {", &site);
                let part = part.replace("127.0.0.1:8080", authority).replace("127.0.0.1:3000", service);
                let whole = format!("{{\n\tadmin off\n}}\n{part}");
                fs::write(home.join("Caddyfile"), whole).expect("our own directory");
                let mut command = Command::new(program("caddy"));
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(home.join("Caddyfile"));
                command.env("HOME", &home).env("XDG_DATA_HOME", &home).env("XDG_CONFIG_HOME", &home);
                command
            }
        };
        let log = fs::File::create(home.join("log")).expect("our own directory");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut process = scratch.spawn(&mut command).expect("the proxy runs");
        eventually("the proxy to listen", async || {
            let log = || fs::read_to_string(home.join("log")).unwrap_or_default();
            assert!(process.is_running(), "{}", log());
            std::os::unix::net::UnixStream::connect(&socket).ok().map(drop)
        })
        .await;
        Self { scratch, _process: process }
    }

    fn socket(&self) -> PathBuf {
        self.scratch.path().join("gate.sock")
    }

    /// A client of what is behind it. The address is `http://app.example.org/…`.
    pub fn client(&self) -> reqwest::Client {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        client.no_proxy().unix_socket(self.socket()).build().expect("a plain client")
    }
}
