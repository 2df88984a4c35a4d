use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rstest::rstest;

use super::name;
use crate::client::profile::{Profile, ProfileName};
use crate::client::settings::Key;
use crate::client::{ExitCode, Failure};

fn load(directory: &Path) -> Result<Profile, Failure> {
    Profile::load(directory, &name("default"))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it exists").permissions().mode() & 0o777
}

#[test]
fn a_new_profile_is_for_its_owner_alone() {
    let home = tempfile::tempdir().expect("a directory");
    let directory = home.path().join("config/tally");
    load(&directory).expect("empty").update(&[(Key::Token, Some("mul_x"))]).expect("written");
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("default.json")), 0o600);
    assert_eq!(load(&directory).expect("read").get(Key::Token), Some("mul_x"));
}

#[test]
fn an_open_profile_is_closed_when_it_is_written() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("default.json");
    fs::write(&file, "{}").expect("written");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("opened");
    fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).expect("opened");
    load(home.path()).expect("read").update(&[(Key::Token, Some("mul_x"))]).expect("written");
    assert_eq!((mode(home.path()), mode(&file)), (0o700, 0o600));
}

#[test]
fn unknown_keys_are_kept_also_those_written_meanwhile() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("default.json");
    fs::write(&file, r#"{"token":"mul_old","watched_workspaces":[{"id":1}],"workspace_id":"w"}"#)
        .expect("written");
    let mut profile = load(home.path()).expect("read");
    fs::write(&file, r#"{"token":"mul_old","watched_workspaces":[{"id":2}],"workspace_id":"w","late":1.50}"#)
        .expect("written");
    profile.update(&[(Key::Token, Some("mul_new")), (Key::WorkspaceId, None)]).expect("written");
    let text = fs::read_to_string(&file).expect("read");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value, serde_json::json!({"token":"mul_new","watched_workspaces":[{"id":2}],"late":1.5}));
}

/// A reader that opened the old file goes on reading the old file: it was replaced, not written over.
#[test]
fn a_profile_is_replaced_whole_and_leaves_nothing_behind() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("default.json");
    fs::write(&file, r#"{"token":"mul_old"}"#).expect("written");
    let mut reader = fs::File::open(&file).expect("opened");
    load(home.path()).expect("read").update(&[(Key::Token, Some("mul_new"))]).expect("written");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut reader, &mut text).expect("read");
    assert_eq!(text, r#"{"token":"mul_old"}"#);
    load(home.path()).expect("read").check_writable().expect("writable");
    let left: Vec<_> = fs::read_dir(home.path()).expect("listed").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_failed_write_leaves_the_old_profile_and_nothing_else() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("default.json");
    fs::write(&file, r#"{"token":"mul_old"}"#).expect("written");
    let profile = load(home.path()).expect("read");
    profile.in_place_of(|_| Err(io::ErrorKind::StorageFull.into()), |_| Ok(())).expect_err("no room");
    profile.in_place_of(|_| Ok(()), |_| Err(io::ErrorKind::Other.into())).expect_err("no renaming");
    assert_eq!(fs::read_dir(home.path()).expect("listed").count(), 1);
    assert_eq!(fs::read_to_string(&file).expect("kept"), r#"{"token":"mul_old"}"#);
}

#[test]
fn a_place_without_room_for_a_profile_is_told() {
    let home = tempfile::tempdir().expect("a directory");
    let profile = load(&home.path().join("tally")).expect("empty");
    fs::write(home.path().join("tally"), "").expect("a file where the directory should be");
    assert_eq!(profile.check_writable().expect_err("refused").exit_code(), ExitCode::Other);
    assert_eq!(load(&home.path().join("tally")).expect_err("refused").exit_code(), ExitCode::Other);
}

#[rstest]
#[case("")]
#[case("{")]
#[case("[]")]
#[case(r#""mul_secret""#)]
#[case(r#"{"token":"mul_secret"} x"#)]
#[case(r#"{"token":["mul_secret"]}"#)]
#[case(r#"{"server_url":17,"token":"mul_secret"}"#)]
fn a_corrupted_profile_is_bad_input_and_is_not_quoted(#[case] text: &str) {
    let home = tempfile::tempdir().expect("a directory");
    fs::write(home.path().join("default.json"), text).expect("written");
    let failure = load(home.path()).expect_err("refused");
    assert_eq!(failure.exit_code(), ExitCode::BadInput);
    let shown = format!("{failure} {failure:?}");
    assert!(shown.contains("default.json is not a profile"), "{shown}");
    assert!(!shown.contains("mul_secret"), "{shown}");
    assert_eq!(fs::read_to_string(home.path().join("default.json")).expect("kept"), text);
}

#[test]
fn bytes_that_are_no_text_are_a_corrupted_profile() {
    let home = tempfile::tempdir().expect("a directory");
    fs::write(home.path().join("default.json"), [0xff, 0xfe]).expect("written");
    assert_eq!(load(home.path()).expect_err("refused").exit_code(), ExitCode::BadInput);
}

#[test]
fn null_and_empty_values_are_absent() {
    let home = tempfile::tempdir().expect("a directory");
    fs::write(home.path().join("default.json"), r#"{"token":"","app_url":null}"#).expect("written");
    let profile = load(home.path()).expect("read");
    assert_eq!((profile.get(Key::Token), profile.get(Key::AppUrl)), (None, None));
}

#[rstest]
#[case("")]
#[case(".")]
#[case("..")]
#[case("../x")]
#[case("a/b")]
#[case("/etc/passwd")]
#[case("a\\b")]
#[case("a b")]
#[case("a.json")]
#[case("a\0")]
#[case("ä")]
#[case("a\n")]
fn hostile_profile_names_are_refused(#[case] text: &str) {
    assert!(text.parse::<ProfileName>().is_err());
}

#[test]
fn profile_names_have_1_to_64_characters() {
    assert!("a".repeat(64).parse::<ProfileName>().is_ok());
    assert!("a".repeat(65).parse::<ProfileName>().is_err());
    assert!("Work_2-b".parse::<ProfileName>().is_ok());
}

#[test]
fn a_profile_does_not_format_its_token() {
    let home = tempfile::tempdir().expect("a directory");
    fs::write(home.path().join("default.json"), r#"{"token":"mul_secret"}"#).expect("written");
    assert!(!format!("{:?}", load(home.path()).expect("read")).contains("mul_secret"));
}
