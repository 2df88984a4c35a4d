//! A server that talks as much as it can, people made of marks, and a record of all that was said.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use reqwest::RequestBuilder;
use serde_json::json;
use tally_tests::{
    Answer, Client, Issuer, Login, Marks, Server,
    client::answer,
    marks::{Finding, Mark},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    BINARY, codes_in,
    issuers::{CLIENT_SECRET, FRONTEND, GOOGLE_REDIRECT, google, issuer_for},
};

/// A service that may introspect.
pub const CLIENT: &str = "gateway";

/// As talkative as an operator can make it, statements of the database included.
const LOG_LEVEL: &str = "trace,sqlx::query=trace,sqlx=trace";

/// Characters nobody else has in a row. Letters of both cases, so that base64 of it is no hex.
pub fn core() -> String {
    format!("Canary{}Q", uuid::Uuid::new_v4().simple())
}

/// Somebody all of whose data is marked.
pub struct Person {
    pub email: String,
    pub name: String,
    pub description: String,
    pub avatar: String,
    pub token_name: String,
    pub user_agent: String,
    pub address: String,
    /// What only answers to them may hold.
    pub marks: Vec<Mark>,
}

/// Something that was said, to whom, and what of it was theirs to know.
struct Said {
    what: String,
    text: Vec<u8>,
    may_hold: Vec<Mark>,
}

pub struct Stage {
    pub server: Server,
    /// What the server knows as Google.
    pub issuer: Issuer,
    pub client: Client,
    /// Of the service that may introspect.
    pub client_secret: String,
    pub marks: Marks,
    /// Everything that may stand where it is looked for only inside one line of the log.
    pub codes: Vec<String>,
    said: Vec<Said>,
}

impl Stage {
    pub async fn new() -> Self {
        let mut marks = Marks::default();
        let secret = core();
        let master: [u8; 32] = core().as_bytes()[..32].try_into().expect("it is longer");
        let hex: String = master.iter().map(|byte| format!("{byte:02x}")).collect();
        marks.add("JWT_SECRET", &secret);
        marks.add("the master key", master);
        marks.add("the client's secret", CLIENT_SECRET);
        let client_secret = core();
        marks.add("a service's secret", &client_secret);
        let clients = format!("{CLIENT}:{client_secret}");
        let issuer = issuer_for(&["google"], false).await;
        let providers = json!([google(issuer.url())]).to_string();
        let settings = [
            ("LOG_LEVEL", LOG_LEVEL),
            ("JWT_SECRET", &secret),
            ("TALLY_MASTER_KEY", &hex),
            ("APP_ENV", "development"),
            ("MULTICA_DEV_VERIFICATION_CODE", "739182"),
            ("RATE_LIMIT_TRUSTED_PROXIES", "127.0.0.1/32,::1/128"),
            ("RUST_BACKTRACE", "full"),
            ("METRICS_ADDR", "127.0.0.1:0"),
            ("TALLY_OIDC_PROVIDERS", &providers),
            ("FRONTEND_ORIGIN", FRONTEND),
            ("GOOGLE_REDIRECT_URI", GOOGLE_REDIRECT),
            ("TALLY_USAGE_INTERVAL_MS", "100"),
            ("TALLY_OAUTH_CLIENTS", &clients),
        ];
        let server = Server::start(BINARY, &settings).await;
        let client = server.client();
        Self {
            server,
            issuer,
            client,
            client_secret,
            marks,
            codes: vec!["739182".to_owned()],
            said: Vec::new(),
        }
    }

    /// A person who has never been here.
    pub fn person(&mut self, name: &str, address: &str) -> Person {
        let [shown, description, avatar, token, agent] = std::array::from_fn(|_| core());
        // Addresses are kept in lower case.
        let [email, host] = std::array::from_fn(|_| core().to_lowercase());
        let mut marks = Vec::new();
        for (what, core) in [
            ("e-mail address", &email),
            ("e-mail domain", &host),
            ("name", &shown),
            ("description", &description),
            ("avatar", &avatar),
            ("token's name", &token),
            ("user agent", &agent),
        ] {
            marks.push(self.marks.add(format!("{name}'s {what}"), core));
        }
        marks.push(self.marks.add(format!("{name}'s IP address"), address));
        Person {
            email: format!("{email}@{host}.example"),
            name: format!("Zoë “{shown}” O'Neil"),
            description: format!("100 % <{description}> & \\more\\"),
            avatar: format!("https://pictures.example/{avatar}.png"),
            token_name: format!("laptop '{token}'"),
            user_agent: format!("Browser/1.0 ({agent})"),
            address: address.to_owned(),
            marks,
        }
    }

    /// Sends a request and keeps its answer, in which `may_hold` may stand.
    pub async fn exchange(&mut self, what: &str, request: RequestBuilder, may_hold: &[Mark]) -> Answer {
        let answer = answer(request).await;
        let text = format!("{} {:?}\n{}", answer.status, answer.headers, answer.text);
        self.heard(what, text, may_hold);
        answer
    }

    /// Keeps what was said somewhere.
    pub fn heard(&mut self, what: &str, text: impl Into<Vec<u8>>, may_hold: &[Mark]) {
        self.said.push(Said { what: what.to_owned(), text: text.into(), may_hold: may_hold.to_vec() });
    }

    /// A request as a person's browser sends it, through a proxy.
    pub fn from(&self, person: &Person, request: RequestBuilder) -> RequestBuilder {
        request.header("x-forwarded-for", &person.address).header("user-agent", &person.user_agent)
    }

    /// Logs in. What it gives is marked: the session, the cookie's counterpart, the code.
    pub async fn log_in(&mut self, person: &Person) -> (Login, Mark) {
        let body = json!({ "email": format!("  {} ", person.email.to_uppercase()) });
        let request = self.from(person, self.client.post("/auth/send-code", &body));
        let sent = self.exchange("send-code", request, &[]).await;
        assert_eq!(sent.status, 200, "{}", sent.text);
        let code = self.client.code_of(sent.header("x-request-id").expect("a request id")).await;
        self.codes.push(code.clone());
        let body = json!({ "email": person.email, "code": code });
        let request = self.from(person, self.client.post("/auth/verify-code", &body));
        // Nobody can have marked the session before it is there.
        let answer = answer(request).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let login = Login {
            token: answer.json()["token"].as_str().expect("a token").to_owned(),
            user: answer.json()["user"].clone(),
            auth_cookie: answer.cookie("multica_auth").expect("the auth cookie").0,
            csrf_cookie: answer.cookie("multica_csrf").expect("the CSRF cookie").0,
        };
        let session = self.session(&login.token);
        let csrf = self.marks.add("a CSRF token", login.csrf_cookie.split_once('.').expect("two parts").1);
        let text = format!("{:?}\n{}", answer.headers, answer.text);
        self.heard("verify-code", text, &[&person.marks[..], &[session, csrf]].concat());
        (login, session)
    }

    /// Marks a session by the part that nobody can make but the server.
    pub fn session(&mut self, jwt: &str) -> Mark {
        self.marks.add("a session's JWT", jwt.rsplit_once('.').expect("three parts").1)
    }

    /// Marks a token by what follows the display prefix.
    pub fn token(&mut self, token: &str) -> Mark {
        self.marks.add("a token", &token[12..])
    }

    /// Runs a command of the binary, with a home of its own, and keeps what it printed.
    pub fn run(&mut self, arguments: &[&str], input: &str, may_hold: &[Mark]) -> (Option<i32>, String) {
        self.run_with(arguments, &[], input, may_hold)
    }

    pub fn run_with(
        &mut self,
        arguments: &[&str],
        settings: &[(&str, &str)],
        input: &str,
        may_hold: &[Mark],
    ) -> (Option<i32>, String) {
        let mut command = self.server.command(arguments);
        command.env("HOME", self.home()).env("TALLY_SERVER_URL", self.server.url());
        command.envs(settings.iter().copied());
        let printed = output(command, input);
        self.heard(&format!("tally {}", arguments.join(" ")), printed.1.clone(), may_hold);
        printed
    }

    pub fn home(&self) -> PathBuf {
        let home = self.server.scratch().join("home");
        std::fs::create_dir_all(&home).expect("our own directory");
        home
    }

    /// What was said last showed this secret for the one time that it may be shown.
    pub fn forgive_last(&mut self, mark: Mark) {
        self.said.last_mut().expect("something was said").may_hold.push(mark);
    }

    /// Sends bytes that no client library would, and keeps what comes back.
    pub async fn raw(&mut self, bytes: &[u8]) {
        let address = self.server.url().trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await.expect("the server listens");
        // It may have hung up before it has read everything.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        self.heard(&String::from_utf8_lossy(&bytes[..bytes.len().min(40)]), answer, &[]);
    }

    /// Everything that stands where it must not, in what was said until now.
    pub fn findings(&self) -> Vec<String> {
        let mut found = Vec::new();
        for Said { what, text, may_hold } in &self.said {
            let strangers = self.marks.find(text).into_iter().filter(|f| !may_hold.contains(&f.mark));
            found.extend(strangers.map(|finding| format!("the answer to {what} holds {finding}")));
        }
        found
    }

    /// Everything that stands where it must not, in some place.
    pub fn findings_in(&self, place: &str, text: &[u8]) -> Vec<String> {
        let marks: Vec<Finding> = self.marks.find(text);
        let marks = marks.into_iter().map(|finding| format!("{place} holds {finding}"));
        let codes =
            codes_in(&self.codes, text).into_iter().map(|code| format!("{place} holds the code {code}"));
        marks.chain(codes).collect()
    }
}

/// Exit code and everything printed.
pub fn output(mut command: Command, input: &str) -> (Option<i32>, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // A command that wants no input may have ended.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("a child of ours");
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&printed).into_owned())
}

/// Every table of every schema of every database of a server's cluster, roles and settings too.
pub fn dump(server: &Server) -> Vec<u8> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed")
        .map(|entry| entry.expect("an entry").path().join("bin/pg_dumpall"))
        .filter(|path| path.exists())
        .collect();
    versions.sort();
    let mut command = Command::new(versions.pop().expect("PostgreSQL's programs"));
    let socket = server.data_dir().join("socket");
    command.args(["--no-password", "--username=tally", "--host"]).arg(socket).env("PGDATABASE", "tally");
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Every file below a directory, but for what `passes` leaves out.
pub fn files(directory: &Path, passes: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if !passes(&path) {
            continue;
        }
        if kind.is_dir() {
            found.extend(files(&path, passes));
        } else if kind.is_file() {
            found.push(path);
        }
    }
    found
}
