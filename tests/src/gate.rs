//! A real reverse proxy in front of a service, with the committed configuration for it.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use reqwest::{Client, Method, RequestBuilder, redirect::Policy};

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
    Traefik,
    Envoy,
}

/// A proxy that asks an authority before it lets anybody through to a service.
pub struct Gate {
    entrance: Entrance,
    _process: Guarded,
    _scratch: Scratch,
}

/// Where a proxy listens.
enum Entrance {
    Socket(PathBuf),
    Address(SocketAddr),
}

impl Gate {
    /// Starts one and waits until it serves, on a socket in a directory of its own where it can.
    /// `authority` and `service` are addresses, such as `127.0.0.1:8080`.
    pub async fn start(kind: Kind, authority: &str, service: &str) -> Self {
        let scratch = Scratch::new();
        let home = scratch.path();
        let (mut command, entrance) = match kind {
            Kind::Nginx => nginx(home, authority, service),
            Kind::Caddy => caddy(home, authority, service),
            Kind::Traefik => traefik(home, authority, service),
            Kind::Envoy => envoy(home, authority, service),
        };
        let log = fs::File::create(home.join("log")).expect("our own directory");
        command.stdout(log.try_clone().expect("a file of ours")).stderr(log);
        let mut process = scratch.spawn(&mut command).expect("the proxy runs");
        eventually("the proxy to serve", async || {
            let log = || fs::read_to_string(home.join("log")).unwrap_or_default();
            assert!(process.is_running(), "{}", log());
            // Before it has read what to do with a request, it knows of no path.
            let answer = entrance.request(Method::GET, "/").send().await.ok()?;
            (answer.status() != 404).then_some(())
        })
        .await;
        Self { entrance, _process: process, _scratch: scratch }
    }

    /// A request to what is behind it.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.entrance.request(method, path)
    }
}

impl Entrance {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let client = Client::builder().redirect(Policy::none()).no_proxy();
        let (client, origin) = match self {
            Self::Socket(socket) => (client.unix_socket(socket.clone()), "app.example.org".to_owned()),
            Self::Address(address) => (client, address.to_string()),
        };
        client.build().expect("a plain client").request(method, format!("http://{origin}{path}"))
    }
}

/// A file of a proxy's own.
fn written(home: &Path, name: &str, content: &str) -> PathBuf {
    let file = home.join(name);
    fs::write(&file, content).expect("our own directory");
    file
}

fn quiet(name: &str) -> Command {
    let mut command = Command::new(program(name));
    command.stdin(Stdio::null());
    command
}

fn nginx(home: &Path, authority: &str, service: &str) -> (Command, Entrance) {
    let socket = home.join("gate.sock");
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
    let mut command = quiet("nginx");
    command.args(["-e", "stderr", "-c"]).arg(written(home, "nginx.conf", &whole)).arg("-p").arg(home);
    (command, Entrance::Socket(socket))
}

fn caddy(home: &Path, authority: &str, service: &str) -> (Command, Entrance) {
    let socket = home.join("gate.sock");
    let part = include_str!("../../docs/forward-auth/Caddyfile");
    let site = format!("http:// {{\n\tbind unix/{}", socket.display());
    let part = part.replace("app.example.org {", &site);
    let part = part.replace("127.0.0.1:8080", authority).replace("127.0.0.1:3000", service);
    let whole = format!("{{\n\tadmin off\n}}\n{part}");
    let mut command = quiet("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(written(home, "Caddyfile", &whole));
    command.env("HOME", home).env("XDG_DATA_HOME", home).env("XDG_CONFIG_HOME", home);
    (command, Entrance::Socket(socket))
}

/// It takes a socket that is open already, as from systemd, so that no port need be chosen for it.
fn traefik(home: &Path, authority: &str, service: &str) -> (Command, Entrance) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let part = include_str!("../../docs/forward-auth/traefik.yaml").replace("127.0.0.1:8080", authority);
    let route = format!(
        "http:
           routers: {{ app: {{ rule: 'PathPrefix(`/`)', service: app, middlewares: [blank, tally, keep] }} }}
           services: {{ app: {{ loadBalancer: {{ servers: [{{ url: 'http://{service}' }}] }} }} }}",
    );
    let dynamic = home.join("dynamic");
    fs::create_dir(&dynamic).expect("our own directory");
    written(&dynamic, "traefik.yaml", &part);
    written(&dynamic, "route.yaml", &route);
    let mut command = Command::new("sh");
    command.args(["-c", "exec 3<&0; export LISTEN_PID=$$; exec \"$@\" </dev/null", "sh"]);
    command.arg(program("traefik")).args([
        "--entrypoints.gate.address=127.0.0.1:0",
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
        "--log.level=ERROR",
    ]);
    command.arg(format!("--providers.file.directory={}", dynamic.display()));
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "gate").stdin(OwnedFd::from(listener));
    (command, Entrance::Address(address))
}

fn envoy(home: &Path, authority: &str, service: &str) -> (Command, Entrance) {
    let socket = home.join("gate.sock");
    let part = include_str!("../../docs/forward-auth/envoy.yaml");
    let part: Vec<String> = part.lines().map(|line| format!("          {line}")).collect();
    let cluster = |name: &str, address: &str| {
        let (host, port) = address.split_once(':').expect("an address");
        format!(
            "  - name: {name}
    load_assignment:
      cluster_name: {name}
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address:
        {{ address: {host}, port_value: {port} }} }} }} }}] }}]\n"
        )
    };
    let whole = format!(
        "static_resources:
  listeners:
  - address: {{ pipe: {{ path: {socket} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: gate
          route_config:
            virtual_hosts: [{{ name: app, domains: ['*'], routes: [{{ match: {{ prefix: / }}, route: {{ cluster: app }} }}] }}]
{}
  clusters:
{}{}",
        part.join("\n"),
        cluster("tally", authority),
        cluster("app", service),
        socket = socket.display(),
    );
    let mut command = quiet("envoy");
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "-c"]);
    command.arg(written(home, "envoy.yaml", &whole));
    (command, Entrance::Socket(socket))
}
