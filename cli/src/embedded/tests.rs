//! Real PostgreSQL in real directories. When the tests run as root, PostgreSQL runs as somebody else; one test then
//! runs itself again as an ordinary user.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Row};
use tempfile::TempDir;

use super::account::{Account, effective_uid};
use super::{Attached, Embedded, EmbeddedError};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A directory that every user can reach, which a data directory is made in.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let everybody = Permissions::from_mode(0o755);
        let directory = tempfile::Builder::new().permissions(everybody).tempdir_in("/tmp");
        Self(directory.expect("a temporary directory"))
    }

    fn data_dir(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn postmaster(&self) -> Pid {
        postmaster_of(&self.data_dir()).expect("PostgreSQL runs here")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.data_dir().join("postgres.log")).expect("PostgreSQL has written a log")
    }
}

fn postmaster_of(data_dir: &Path) -> Option<Pid> {
    let file = fs::read_to_string(data_dir.join("postgres/postmaster.pid")).ok()?;
    Pid::from_raw(file.lines().next()?.trim().parse().ok()?)
}

#[expect(clippy::disallowed_methods, reason = "the caller reads the environment, and here that is the test")]
fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

async fn start(data_dir: &Path) -> Result<Embedded, EmbeddedError> {
    Embedded::start(data_dir, None, Some(&search_path())).await
}

async fn attach(data_dir: &Path) -> Result<Attached, EmbeddedError> {
    Embedded::attach(data_dir, None, Some(&search_path())).await
}

async fn refusal(data_dir: &Path) -> String {
    start(data_dir).await.expect_err("must be refused").to_string()
}

async fn execute(options: &PgConnectOptions, statement: &'static str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    sqlx::query(statement).execute(&mut connection).await?;
    connection.close().await
}

async fn count_notes(options: &PgConnectOptions) -> Result<i64, sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    sqlx::query("select count(*) from note").fetch_one(&mut connection).await?.try_get(0)
}

async fn write_note(options: &PgConnectOptions) {
    execute(options, "create table if not exists note (body text primary key)").await.expect("a table");
    execute(options, "insert into note values ('the-secret-of-the-note')").await.expect("a row");
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").mode() & 0o7777
}

/// The whole story of one server: made, used, stopped, started again; closed to others all along.
async fn live_twice() {
    let place = Place::new();
    let data_dir = place.data_dir();
    let unfinished = data_dir.join("postgres.unfinished");
    fs::create_dir_all(unfinished.join("base")).expect("what a killed initdb leaves");
    fs::set_permissions(&data_dir, Permissions::from_mode(0o700)).expect("it is ours");

    let embedded = start(&data_dir).await.expect("first start");
    assert!(!unfinished.exists(), "what a killed initdb left is cleared away");
    write_note(&embedded.connect_options()).await;
    let postmaster = place.postmaster();
    let owner = fs::metadata(data_dir.join("postgres")).expect("a cluster").uid();
    if effective_uid() == 0 {
        assert_ne!(owner, 0, "PostgreSQL does not run as root");
        assert_eq!(mode(&data_dir), 0o710);
        let account = Account::choose(&data_dir.join("postgres")).expect("the cluster's owner");
        let sees = |path: &Path| {
            account.command(Path::new("/bin/ls")).arg(path).output().expect("ls runs").status.success()
        };
        fs::DirBuilder::new().mode(0o700).create(data_dir.join("keys")).expect("a directory");
        assert!(sees(&data_dir.join("postgres")), "PostgreSQL reaches what is its own");
        assert!(!sees(&data_dir) && !sees(&data_dir.join("keys")), "and nothing else");
    } else {
        assert_eq!(owner, effective_uid());
        assert_eq!(mode(&data_dir), 0o700);
    }
    assert_eq!(mode(&data_dir.join("socket")), 0o700);
    assert_eq!(mode(&data_dir.join("postgres.log")), 0o600);
    embedded.stop().await.expect("first stop");
    assert!(test_kill_process(postmaster).is_err(), "the postmaster is gone");
    assert!(place.log().contains("database system is shut down"), "and went in order");

    // After a crash its pid may be anybody's, such as a thread of ours: no reason to refuse.
    let this_thread = fs::read_link("/proc/thread-self").expect("a thread");
    let this_thread = this_thread.file_name().and_then(OsStr::to_str).expect("its id");
    let stale = format!("{this_thread}\n{}\n", data_dir.join("postgres").display());
    fs::write(data_dir.join("postgres/postmaster.pid"), stale).expect("what a crash leaves");
    let embedded = start(&data_dir).await.expect("second start");
    assert_eq!(count_notes(&embedded.connect_options()).await.expect("a count"), 1);
    embedded.stop().await.expect("second stop");
}

#[tokio::test]
async fn data_outlives_a_restart() {
    live_twice().await;
}

#[tokio::test]
async fn an_ordinary_user_runs_it_himself() {
    if effective_uid() != 0 {
        return live_twice().await;
    }
    let place = Place::new();
    // The build directory may be out of the ordinary user's reach.
    let program = place.0.path().join("tests");
    fs::copy(std::env::current_exe().expect("a path"), &program).expect("a copy");
    let nobody = Account { uid: 65534, gid: 65534, name: "nobody".to_owned(), drops_root: true };
    let mut command = nobody.command(&program);
    command.args(["--exact", &this_module("an_ordinary_user_runs_it_himself")]);
    let output =
        tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// The name by which the test binary knows a test of this module.
fn this_module(test: &str) -> String {
    let (_crate, module) = module_path!().split_once("::").expect("a module inside a crate");
    format!("{module}::{test}")
}

#[tokio::test]
async fn it_comes_back_by_itself_with_its_data_when_it_is_killed() {
    let place = Place::new();
    let embedded = start(&place.data_dir()).await.expect("a start");
    let options = embedded.connect_options();
    write_note(&options).await;
    let killed = place.postmaster();
    kill_process(killed, Signal::KILL).expect("it was running");
    until("it has another postmaster", async || {
        postmaster_of(&place.data_dir()).is_some_and(|pid| pid != killed)
    })
    .await;
    until("it answers again", async || count_notes(&options).await.is_ok_and(|count| count == 1)).await;
    embedded.stop().await.expect("a stop");
}

/// This test has two roles: run again with the argument `owner-of=<data_dir>` it owns a PostgreSQL until it is killed.
#[tokio::test]
async fn a_killed_owner_leaves_no_postmaster_and_its_heir_finds_the_data() {
    if let Some(data_dir) = std::env::args().find_map(|word| Some(word.strip_prefix("owner-of=")?.to_owned()))
    {
        let _embedded = start(Path::new(&data_dir)).await.expect("a start");
        println!("owning");
        return std::future::pending().await;
    }
    let place = Place::new();
    let data_dir = place.data_dir();
    let name = this_module("a_killed_owner_leaves_no_postmaster_and_its_heir_finds_the_data");
    let run_owner = || {
        // To the harness the argument is one more test to look for, which there is not.
        let argument = format!("owner-of={}", data_dir.display());
        let mut command = Command::new(std::env::current_exe().expect("a path"));
        command.args(["--nocapture", "--exact", &name, &argument]).stdout(Stdio::piped());
        let mut owner = command.spawn().expect("it runs");
        let lines = BufReader::new(owner.stdout.take().expect("it was piped")).lines();
        let owning = lines.map_while(Result::ok).any(|line| line.contains("owning"));
        assert!(owning, "the owner could not start");
        owner
    };

    let mut owner = run_owner();
    let postmaster = place.postmaster();
    let attached = attach(&data_dir).await.expect("its PostgreSQL can be used");
    write_note(&attached.connect_options()).await;
    let message = refusal(&data_dir).await;
    assert!(message.contains("in use") && message.contains(&format!("pid {}", owner.id())), "{message}");
    owner.kill().expect("SIGKILL");
    until("the postmaster is gone", async || test_kill_process(postmaster).is_err()).await;
    assert!(place.log().contains("database system is shut down"), "and went in order");
    owner.wait().expect("it is dead");

    // The next one comes at once, while the postmaster of the killed one is still on its way down.
    let mut owner = run_owner();
    owner.kill().expect("SIGKILL");
    owner.wait().expect("it is dead");
    let embedded = start(&data_dir).await.expect("an heir");
    assert_eq!(count_notes(&embedded.connect_options()).await.expect("a count"), 1);
    embedded.stop().await.expect("a stop");
}

#[tokio::test]
async fn commands_use_the_servers_postgres_or_their_own_and_the_server_waits_for_them() {
    let place = Place::new();
    let data_dir = place.data_dir();
    let command = attach(&data_dir).await.expect("its own");
    assert!(command.own.is_some());
    let (server, ()) = tokio::join!(start(&data_dir), async {
        write_note(&command.connect_options()).await;
        command.stop().await.expect("its own is stopped");
    });
    let server = server.expect("a server, after the command");
    let postmaster = place.postmaster();

    let command = attach(&data_dir).await.expect("the server's");
    assert!(command.own.is_none());
    assert_eq!(count_notes(&command.connect_options()).await.expect("a count"), 1);
    command.stop().await.expect("nothing to stop");
    assert_eq!(place.postmaster(), postmaster, "the server's PostgreSQL runs on");
    server.stop().await.expect("a stop");
}

#[tokio::test]
async fn one_that_runs_without_an_owner_is_adopted() {
    let place = Place::new();
    let data_dir = place.data_dir();
    start(&data_dir).await.expect("a start").stop().await.expect("a stop");
    let cluster = data_dir.join("postgres");
    let account = Account::choose(&cluster).expect("an account");
    let binaries =
        super::Binaries::find(None, Some(&search_path()), &account, None).expect("they were found above");
    let mut command = account.command(&binaries.postgres());
    let sockets = format!("unix_socket_directories={}", data_dir.join("socket").display());
    command.arg("-D").arg(&cluster).args(["-c", "listen_addresses=", "-c", &sockets]).stderr(Stdio::null());
    let mut orphan = command.spawn().expect("it runs");
    until("it is there", async || postmaster_of(&data_dir) == Some(Pid::from_child(&orphan))).await;

    let embedded = start(&data_dir).await.expect("an adoption");
    assert_eq!(place.postmaster(), Pid::from_child(&orphan));
    execute(&embedded.connect_options(), "select 1").await.expect("it answers");
    embedded.stop().await.expect("a stop");
    assert!(orphan.wait().expect("it is our child").success(), "it was stopped in order");
}

#[tokio::test]
async fn values_stay_out_of_the_log() {
    let place = Place::new();
    let embedded = start(&place.data_dir()).await.expect("a start");
    write_note(&embedded.connect_options()).await;
    let again =
        execute(&embedded.connect_options(), "insert into note values ('the-secret-of-the-note')").await;
    again.expect_err("the note is there already");
    embedded.stop().await.expect("a stop");
    assert!(place.log().contains("duplicate key"), "{}", place.log());
    assert!(!place.log().contains("the-secret-of-the-note"), "{}", place.log());
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_works() {
    let place = Place::new();
    let data_dir = place.0.path().join("long".repeat(40));
    let embedded = start(&data_dir).await.expect("a start");
    let sockets = embedded.connect_options().get_socket().cloned().expect("it is reached by socket");
    assert_eq!((sockets.parent(), mode(&sockets)), (Some(Path::new("/tmp")), 0o700));
    execute(&embedded.connect_options(), "select 1").await.expect("it answers");
    embedded.stop().await.expect("a stop");
    assert!(!sockets.exists(), "nothing stays outside the data directory");
}

#[tokio::test]
async fn what_is_no_cluster_of_ours_is_refused() {
    let place = Place::new();
    let cluster = place.data_dir().join("postgres");
    fs::create_dir_all(&cluster).expect("a directory");
    if effective_uid() == 0 {
        let message = refusal(&place.data_dir()).await;
        assert!(message.contains("belongs to root") && message.contains("chown --recursive"), "{message}");
        std::os::unix::fs::chown(&cluster, Some(65534), Some(65534)).expect("root may");
    }
    let message = refusal(&place.data_dir()).await;
    assert!(message.contains("holds no PostgreSQL data"), "{message}");

    fs::write(cluster.join("PG_VERSION"), "9\n").expect("a file");
    let message = refusal(&place.data_dir()).await;
    assert!(message.contains("written by PostgreSQL 9,") && message.contains("postgresql-9"), "{message}");

    let given = Embedded::start(&place.data_dir(), Some(place.0.path()), None).await;
    let message = given.expect_err("there is nothing in it").to_string();
    assert!(message.contains("TALLY_POSTGRES_BIN=") && message.contains("side by side"), "{message}");
}

#[tokio::test]
async fn a_directory_shared_with_others_is_left_as_it_is() {
    let place = Place::new();
    fs::write(place.0.path().join("letter"), "dear").expect("a file");
    let message = refusal(place.0.path()).await;
    assert!(message.contains("not Tallystick's"), "{message}");
    assert_eq!(mode(place.0.path()), 0o755);
}

#[test]
fn a_directory_in_the_way_is_named() {
    let place = Place::new();
    let (closed, data_dir) = (place.0.path().join("closed"), place.0.path().join("closed/data"));
    fs::create_dir_all(&data_dir).expect("a directory");
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).expect("it is ours");
    let somebody = Account { uid: 4242, gid: 4242, name: "somebody".to_owned(), drops_root: true };
    let message = somebody.check_reach(&data_dir).expect_err("it is out of reach").to_string();
    let way = format!("somebody instead, who may not pass through {} on", closed.display());
    assert!(message.contains(&way) && message.contains("TALLY_DATA_DIR=/var/lib/tallystick"), "{message}");
    fs::set_permissions(&closed, Permissions::from_mode(0o711)).expect("it is ours");
    somebody.check_reach(&data_dir).expect("now it is within reach");
}
