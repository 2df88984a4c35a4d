//! Lifetimes as settings write them: Go-style durations (`8760h`, `1h30m`) or whole seconds.

use chrono::TimeDelta;

/// How long a session lives when nobody said otherwise.
pub const SESSION_LIFETIME: TimeDelta = TimeDelta::days(30);
/// Longer than this is taken, with a warning.
pub const LIFETIME_WARNING: TimeDelta = TimeDelta::days(3650);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LifetimeError {
    #[error("`{0}` is neither a duration such as `720h` or `1h30m` nor a whole number of seconds")]
    Malformed(String),
    #[error("`{0}` is longer than can be counted")]
    Overflow(String),
    #[error("`{0}` is not longer than zero")]
    NotPositive(String),
}

/// Reads a lifetime.
///
/// # Errors
/// Garbage, overflow, zero and negative values; each names the text it was given.
pub fn parse(text: &str) -> Result<TimeDelta, LifetimeError> {
    let trimmed = text.trim();
    let nanoseconds = match trimmed.parse::<i128>() {
        Ok(seconds) => seconds.checked_mul(1_000_000_000),
        Err(_) => go_duration(trimmed).ok_or_else(|| LifetimeError::Malformed(text.to_owned()))?,
    };
    let nanoseconds = nanoseconds
        .and_then(|total| i64::try_from(total).ok())
        .ok_or_else(|| LifetimeError::Overflow(text.to_owned()))?;
    if nanoseconds <= 0 {
        return Err(LifetimeError::NotPositive(text.to_owned()));
    }
    Ok(TimeDelta::nanoseconds(nanoseconds))
}

/// Nanoseconds of a Go duration. Outer none: not a duration. Inner none: too long to count.
fn go_duration(text: &str) -> Option<Option<i128>> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest.is_empty() {
        return None;
    }
    let mut total = Some(0_i128);
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit_nanoseconds: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i128>().ok() };
        let whole = digits(whole).and_then(|n| n.checked_mul(unit_nanoseconds));
        let fraction = &fraction[..fraction.len().min(18)];
        let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        let part = digits(fraction).map(|n| n * unit_nanoseconds / scale);
        total = total.zip(whole.zip(part)).and_then(|(sum, (a, b))| sum.checked_add(a)?.checked_add(b));
        rest = tail;
    }
    Some(total.map(|total| if negative { -total } else { total }))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("8760h", TimeDelta::hours(8760))]
    #[case("1h30m", TimeDelta::minutes(90))]
    #[case("1.5h", TimeDelta::minutes(90))]
    #[case("3600", TimeDelta::hours(1))]
    #[case(" 250ms ", TimeDelta::milliseconds(250))]
    #[case("+1s", TimeDelta::seconds(1))]
    fn a_lifetime_reads(#[case] text: &str, #[case] expected: TimeDelta) {
        assert_eq!(parse(text), Ok(expected));
    }

    #[rstest]
    #[case("")]
    #[case("soon")]
    #[case("1d")]
    #[case("h")]
    #[case(".h")]
    #[case("1h30")]
    #[case("1.2.3h")]
    #[case("--1h")]
    fn garbage_is_refused(#[case] text: &str) {
        assert_eq!(parse(text), Err(LifetimeError::Malformed(text.to_owned())));
    }

    #[rstest]
    #[case("9999999999h")]
    #[case("99999999999999999999999999")]
    #[case("99999999999999999999999999999999999999999999999h")]
    fn overflow_is_refused(#[case] text: &str) {
        assert!(
            matches!(parse(text), Err(LifetimeError::Overflow(_) | LifetimeError::Malformed(_))),
            "{text}"
        );
    }

    #[rstest]
    #[case("0")]
    #[case("0s")]
    #[case("-5")]
    #[case("-1h")]
    fn zero_and_negative_are_refused(#[case] text: &str) {
        assert_eq!(parse(text), Err(LifetimeError::NotPositive(text.to_owned())));
    }
}
