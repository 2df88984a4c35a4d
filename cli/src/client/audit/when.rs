//! Times on the command line: when something was, or how long ago.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, TimeDelta, Utc};

use crate::client::failure::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    At(DateTime<Utc>),
    Ago(TimeDelta),
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::At(time.to_utc()));
        }
        if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            return Ok(Self::At(day.and_time(NaiveTime::MIN).and_utc()));
        }
        let ago = text.strip_suffix("ago").unwrap_or(text).trim_end();
        humantime::parse_duration(ago)
            .ok()
            .and_then(|ago| TimeDelta::from_std(ago).ok())
            .map(Self::Ago)
            .ok_or_else(|| "give a time as 2026-10-07T14:03:00Z, 2026-10-07, 30m, 2h or 7d".to_owned())
    }
}

impl When {
    pub(super) fn rfc3339(self, now: DateTime<Utc>) -> Result<String, Failure> {
        let time = match self {
            Self::At(time) => Some(time),
            Self::Ago(ago) => now.checked_sub_signed(ago),
        };
        time.map(|time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
            .ok_or_else(|| Failure::Input("this is longer ago than time itself".to_owned()))
    }
}
