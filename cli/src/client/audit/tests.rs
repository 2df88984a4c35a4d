use chrono::{DateTime, Utc};
use clap::Parser;
use rstest::rstest;

use super::follow::Follower;
use super::table::Layout;
use super::when::When;
use super::{AuditArgs, Event};
use crate::client::ExitCode;
use crate::client::tests::{Canned, Reply, client};

fn now() -> DateTime<Utc> {
    "2026-10-07T14:03:00Z".parse().expect("a time")
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: AuditArgs,
}

fn args(words: &[&str]) -> AuditArgs {
    Line::try_parse_from([&["audit"], words].concat()).expect("it parses").args
}

#[rstest]
#[case("2h", "2026-10-07T12:03:00Z")]
#[case("30m", "2026-10-07T13:33:00Z")]
#[case("7d", "2026-09-30T14:03:00Z")]
#[case("1h 30m ago", "2026-10-07T12:33:00Z")]
#[case("2026-10-07", "2026-10-07T00:00:00Z")]
#[case("2026-10-07T14:03:00+02:00", "2026-10-07T12:03:00Z")]
#[case("2026-10-07T14:03:00.25Z", "2026-10-07T14:03:00.250Z")]
fn times_become_rfc_3339(#[case] text: &str, #[case] time: &str) {
    assert_eq!(text.parse::<When>().expect("a time").rfc3339(now()).expect("in range"), time);
}

#[rstest]
#[case("")]
#[case("soon")]
#[case("2")]
#[case("-2h")]
#[case("2026-13-01")]
#[case("2026-10-07 14:03")]
#[case("99999999999999999999d")]
fn what_is_no_time_is_refused(#[case] text: &str) {
    assert!(text.parse::<When>().is_err());
}

#[test]
fn before_all_time_is_bad_input() {
    let when: When = "290000000y".parse().expect("a span");
    assert_eq!(when.rfc3339(now()).expect_err("refused").exit_code(), ExitCode::BadInput);
}

#[test]
fn contract_flags_mirror_the_filters() {
    let words = "--actor a --credential c --line --workspace w --name token.minted --subject s --since 2h \
                 --until 2026-10-07T14:00:00Z --from-position 3 --to-position 9 --limit 7";
    let query = args(&words.split_whitespace().collect::<Vec<_>>()).query(now()).expect("a query");
    let pairs: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        pairs.join(" "),
        "actor=a credential=c line=true workspace=w name=token.minted subject=s since=2026-10-07T12:03:00Z \
         until=2026-10-07T14:00:00Z from_position=3 to_position=9 limit=7"
    );
    assert_eq!(args(&[]).query(now()).expect("a query"), [("limit", "50".to_owned())]);
    assert_eq!(args(&["--all"]).query(now()).expect("a query"), [("limit", "200".to_owned())]);
}

fn raw(position: u64) -> String {
    format!(
        r#"{{"position":{position},"recorded_at":"2026-10-07T14:03:22.123456Z","name":"token.revoked","stream":
        {{"kind":"token","id":"01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e5f"}},"actor":{{"kind":"user","id":
        "01990b7e-7a51-7cc2-9f0e-aaaaaaaaaaaa"}},"credential_id":null,"workspace_id":null,"subject_id":null,
        "request_id":null,"data":{{"reason":"requested","empty":"","none":null,"name":"my ci\u001b[2J",
        "n":3,"by":{{"line":"x"}}}}}}"#
    )
}

fn event(position: u64) -> Event {
    serde_json::from_str(&raw(position)).expect("an event")
}

fn page(positions: &[u64], next_cursor: Option<&str>) -> Reply {
    let events: Vec<String> = positions.iter().map(|position| raw(*position)).collect();
    let cursor = serde_json::to_string(&next_cursor).expect("JSON");
    Reply::new(200, &format!(r#"{{"events":[{}],"next_cursor":{cursor}}}"#, events.join(",")))
}

#[test]
fn details_are_words_of_what_is_there() {
    assert_eq!(
        event(1).detail(|id| id.chars().rev().take(3).collect()),
        r#"token=f5e by={"line":"x"} n=3 name="my ci\u{1b}[2J" reason=requested"#
    );
}

#[rstest]
#[case(80)]
#[case(99)]
#[case(100)]
#[case(199)]
#[case(200)]
#[case(250)]
fn rows_fit_the_terminal_on_every_page(#[case] width: u16) {
    let mut layout = Layout::new(Some(width));
    let mut lines = layout.lines(&[event(1_234_567), event(9)]);
    assert!(lines[0].contains("POSITION") && lines[0].contains("DETAIL"), "{lines:?}");
    lines[0] = lines[0].replace("\x1b[1m", "").replace("\x1b[0m", "");
    let more = layout.lines(&[event(8)]);
    assert_eq!(more.len(), 1, "the heads are printed once");
    lines.extend(more);
    for line in &lines {
        assert!(line.chars().count() <= usize::from(width), "{line}");
    }
    let column = |line: &str| line.find("token.revoked").expect("the event's name");
    assert!(column(&lines[1]) == column(&lines[2]) && column(&lines[2]) == column(&lines[3]), "{lines:?}");
}

#[test]
fn a_pipe_gets_everything() {
    let lines = Layout::new(None).lines(&[event(1)]);
    assert!(lines[1].contains("2026-10-07T14:03:22Z  token.revoked"), "{lines:?}");
    assert!(lines[1].contains("user 01990b7e-7a51-7cc2-9f0e-aaaaaaaaaaaa  -"), "{lines:?}");
    assert!(
        lines[1].ends_with(
            "token=01990b7e-7a51-7cc2-9f0e-5a1d2c3b4e5f by={\"line\":\"x\"} n=3 \
        name=\"my ci\\u{1b}[2J\" reason=requested"
        ),
        "{lines:?}"
    );
    assert!(Layout::new(None).lines(&[]).is_empty());
}

async fn positions(follower: &mut Follower<'_>) -> Result<Vec<u64>, crate::client::Failure> {
    Ok(follower.poll().await?.iter().map(|(event, _)| event.position).collect())
}

#[tokio::test]
async fn following_shows_every_event_once_and_in_order() {
    let server = Canned::start([
        page(&[12, 11, 9], Some("older")),
        page(&[], None),
        // Three pages at once; the second begins where the first ended.
        page(&[20, 19], Some("a")),
        page(&[19, 17], Some("b")),
        page(&[14], None),
        // An outage in the middle of a question: nothing of it was shown, so it is asked again.
        page(&[23], Some("c")),
        Reply::new(503, ""),
        page(&[24, 23], Some("d")),
        page(&[21], None),
        // A server that gives more than was asked for.
        page(&[25, 24, 3], None),
    ])
    .await;
    let home = tempfile::tempdir().expect("a directory");
    let client = client(home.path(), &server.url, r#"{"token":"mul_x"}"#);
    let mut follower = Follower::new(&client, &args(&["--follow", "--name", "n"]), now()).expect("a query");
    assert_eq!(positions(&mut follower).await.expect("a page"), [9, 11, 12]);
    assert_eq!(positions(&mut follower).await.expect("nothing"), [0_u64; 0]);
    assert_eq!(positions(&mut follower).await.expect("pages"), [14, 17, 19, 20]);
    assert!(positions(&mut follower).await.expect_err("away").is_passing());
    assert_eq!(positions(&mut follower).await.expect("pages"), [21, 23, 24]);
    assert_eq!(positions(&mut follower).await.expect("a page"), [25]);
    let asked = |rest: &str| format!("GET /v1/audit?name=n&{rest}");
    assert_eq!(
        server.lines(),
        [
            asked("limit=50"),
            asked("from_position=13&limit=200"),
            asked("from_position=13&limit=200"),
            asked("from_position=13&limit=200&cursor=a"),
            asked("from_position=13&limit=200&cursor=b"),
            asked("from_position=21&limit=200"),
            asked("from_position=21&limit=200&cursor=c"),
            asked("from_position=21&limit=200"),
            asked("from_position=21&limit=200&cursor=d"),
            asked("from_position=25&limit=200"),
        ]
    );
}

#[tokio::test]
async fn following_from_a_place_begins_there_and_leaves_nothing_out() {
    let server = Canned::start([page(&[8, 7], Some("a")), page(&[5], None)]).await;
    let home = tempfile::tempdir().expect("a directory");
    let client = client(home.path(), &server.url, r#"{"token":"mul_x"}"#);
    let mut follower =
        Follower::new(&client, &args(&["--follow", "--from-position", "5"]), now()).expect("a query");
    assert_eq!(positions(&mut follower).await.expect("pages"), [5, 7, 8]);
}

/// Nothing has happened yet: whatever comes, comes complete.
#[tokio::test]
async fn following_an_empty_trail_misses_nothing_either() {
    let server = Canned::start([page(&[], None), page(&[2], Some("a")), page(&[1], None)]).await;
    let home = tempfile::tempdir().expect("a directory");
    let client = client(home.path(), &server.url, r#"{"token":"mul_x"}"#);
    let mut follower = Follower::new(&client, &args(&["--follow"]), now()).expect("a query");
    assert_eq!(positions(&mut follower).await.expect("nothing"), [0_u64; 0]);
    assert_eq!(positions(&mut follower).await.expect("pages"), [1, 2]);
}
