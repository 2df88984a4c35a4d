//! Old versions of events, brought to the latest one step at a time, once, at the door.
//!
//! A changed payload is a new version: raise it in the table of `event.rs`, add the step here, and
//! add a golden file of the new version beside the old ones, which stay for ever.
//!
//! A step may never rename an event that has sealed fields, nor a sealed field, nor move its text to
//! another field. The seal's associated data names both (see [`crate::Place`]), so under another
//! name nothing opens. A better word is a new field or event beside the old one.

use std::ops::Range;

use serde_json::Value;

/// One step: from `from` to `from + 1`.
pub struct Step {
    pub name: &'static str,
    pub from: u16,
    pub apply: fn(Value) -> Value,
}

/// Every step there is. Empty until the first payload changes.
pub const STEPS: &[Step] = &[];

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{name}` has no step from version {from} to the next")]
pub struct UpcastError {
    pub name: String,
    pub from: u16,
}

/// Applies the step of each version in `versions`: from the one that was written up to the latest.
pub(crate) fn to_latest(
    steps: &[Step],
    name: &str,
    versions: Range<u16>,
    mut value: Value,
) -> Result<Value, UpcastError> {
    for from in versions {
        let step = steps.iter().find(|step| step.name == name && step.from == from);
        let step = step.ok_or_else(|| UpcastError { name: name.to_owned(), from })?;
        value = (step.apply)(value);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HISTORY: &[Step] = &[
        Step { name: "thing.made", from: 2, apply: |v| json!({ "size": v["length"], "unit": "cm" }) },
        Step { name: "thing.made", from: 1, apply: |v| json!({ "length": v["len"] }) },
        Step { name: "other.made", from: 1, apply: |_| json!(null) },
    ];

    #[test]
    fn an_event_of_the_first_version_passes_through_every_step_of_its_name() {
        let latest = to_latest(HISTORY, "thing.made", 1..3, json!({ "len": 3 }));
        assert_eq!(latest, Ok(json!({ "size": 3, "unit": "cm" })));
    }

    #[test]
    fn an_event_of_a_later_version_skips_the_steps_before_it() {
        let latest = to_latest(HISTORY, "thing.made", 2..3, json!({ "length": 3 }));
        assert_eq!(latest, Ok(json!({ "size": 3, "unit": "cm" })));
    }

    #[test]
    fn an_event_of_the_latest_version_is_left_alone() {
        let value = json!({ "size": 3, "unit": "m" });
        assert_eq!(to_latest(HISTORY, "thing.made", 3..3, value.clone()), Ok(value));
    }

    #[test]
    fn a_missing_step_is_an_error() {
        let gap = &HISTORY[..1];
        let error = UpcastError { name: "thing.made".to_owned(), from: 1 };
        assert_eq!(to_latest(gap, "thing.made", 1..3, json!({ "len": 3 })), Err(error));
    }

    #[test]
    fn a_missing_last_step_is_an_error() {
        let gap = &HISTORY[1..];
        let error = UpcastError { name: "thing.made".to_owned(), from: 2 };
        assert_eq!(to_latest(gap, "thing.made", 1..3, json!({ "len": 3 })), Err(error));
    }

    #[test]
    fn a_version_before_the_first_is_an_error() {
        let error = UpcastError { name: "thing.made".to_owned(), from: 0 };
        assert_eq!(to_latest(HISTORY, "thing.made", 0..3, json!({})), Err(error));
    }
}
