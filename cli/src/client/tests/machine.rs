use super::environment;
use crate::client::{ExitCode, machine};

#[test]
fn profiles_are_where_xdg_says() {
    let place = |variables| environment(variables).config_directory().expect("a place").display().to_string();
    assert_eq!(place(&[("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")]), "/x/tally");
    assert_eq!(place(&[("XDG_CONFIG_HOME", ""), ("HOME", "/h")]), "/h/.config/tally");
    assert_eq!(place(&[("XDG_CONFIG_HOME", "relative"), ("HOME", "/h")]), "/h/.config/tally");
    let failure = environment(&[("HOME", "relative")]).config_directory().expect_err("no place");
    assert_eq!(failure.exit_code(), ExitCode::BadInput);
}

#[test]
fn this_machine_has_a_name() {
    let name = machine::host_name();
    assert!(!name.is_empty() && !name.contains('\n'), "{name:?}");
}
