//! The README's tour, typed as it stands there, answers as it stands there.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use regex::Regex;
use tally_tests::{Server, eventually};

use crate::support::BINARY;

const README: &str = include_str!("../../README.md");
/// Where the README's reader finds the server.
const ADDRESS: &str = "127.0.0.1:8080";

struct Step {
    command: String,
    expected: String,
}

/// The commands of every `console` block, each with what it prints.
fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for block in README.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        for line in block.lines() {
            match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step { command: command.to_owned(), expected: String::new() }),
                None => {
                    let step = steps.last_mut().expect("a block begins with a command");
                    step.expected.push_str(line);
                    step.expected.push('\n');
                }
            }
        }
    }
    steps
}

/// What differs from run to run, made the same; columns one blank apart.
fn normalised(text: &str) -> String {
    let rules = [
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "ID"),
        (r"mul_[0-9A-Za-z]+", "TOKEN"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
        (r"\d{4}-\d\d-\d\d", "DATE"),
        (r"in \d+ ms", "in N ms"),
        (r"Code: \d{6}", "Code:"),
        (r"CLI \([^)]*\)", "CLI (HOST)"),
        (r"[ \t]+", " "),
        (r"(?m) $", ""),
    ];
    rules.iter().fold(text.trim().to_owned(), |text, (pattern, name)| {
        Regex::new(pattern).expect("a pattern").replace_all(&text, *name).into_owned()
    })
}

/// A shell as the reader's: what one command sets, the next one knows.
fn shell(server: &Server, home: &Path, command: &str) -> Command {
    let address = server.url().trim_start_matches("http://");
    let script = format!(
        ". ./variables 2>/dev/null; {}\nstatus=$?; declare -p TOKEN ID > variables 2>/dev/null; exit $status",
        command.replace(ADDRESS, address)
    );
    let binaries = Path::new(BINARY).parent().expect("the binary is in a directory").display();
    #[expect(clippy::disallowed_methods, reason = "the reader has a PATH too")]
    let path = format!("{binaries}:{}", std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("bash");
    shell
        .args(["-c", &script])
        .current_dir(home)
        .env_clear()
        .env("PATH", path)
        .env("HOME", home)
        .env("TALLY_SERVER_URL", server.url())
        .env("TALLY_DATA_DIR", server.data_dir());
    shell
}

/// Types the command, and the code from the server's log when it is asked for: that of this login, counted
/// from one.
async fn typed(server: &Server, home: &Path, command: &str, logins: usize) -> String {
    let output = home.join("output");
    let file = std::fs::File::create(&output).expect("a file");
    let mut child = shell(server, home, command)
        .stdin(Stdio::piped())
        .stdout(file.try_clone().expect("a file"))
        .stderr(file)
        .spawn()
        .expect("bash");
    let mut keyboard = child.stdin.take().expect("a pipe");
    if command.starts_with("tally login") {
        let code = eventually("the code in the server's log", async || {
            let log = server.log();
            log.split("login code ").nth(logins)?.get(..6).map(str::to_owned)
        })
        .await;
        writeln!(keyboard, "{code}").expect("the command reads");
    }
    drop(keyboard);
    let status = child.wait().expect("a child of ours");
    let text = std::fs::read_to_string(&output).expect("a file");
    assert!(status.success(), "`{command}` failed: {text}");
    text
}

#[tokio::test]
async fn the_tour_runs_as_printed() {
    let steps = steps();
    assert!(steps.len() >= 10, "the tour has its steps");
    let server = Server::start(BINARY, &[]).await;
    let home = server.scratch().join("home");
    std::fs::create_dir(&home).expect("a directory");
    let mut logins = 0;
    for Step { command, expected } in steps {
        logins += usize::from(command.starts_with("tally login"));
        let printed = typed(&server, &home, &command, logins).await;
        assert_eq!(normalised(&printed), normalised(&expected), "`{command}` printed:\n{printed}");
    }
}
