//! Lifetimes as settings write them: Go-style durations (`8760h`, `1h30m`) or whole seconds.

use std::num::IntErrorKind;

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
        Ok(seconds) => seconds.checked_mul(1_000_000_000).ok_or(Uncounted::TooLong),
        Err(error) => match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => Err(Uncounted::TooLong),
            _ => go_duration(trimmed),
        },
    };
    match nanoseconds.and_then(|total| i64::try_from(total).map_err(|_| Uncounted::TooLong)) {
        Ok(nanoseconds) if nanoseconds > 0 => Ok(TimeDelta::nanoseconds(nanoseconds)),
        Ok(_) => Err(LifetimeError::NotPositive(text.to_owned())),
        Err(Uncounted::NoDuration) => Err(LifetimeError::Malformed(text.to_owned())),
        Err(Uncounted::TooLong) => Err(LifetimeError::Overflow(text.to_owned())),
    }
}

/// Why a text has no count of nanoseconds.
enum Uncounted {
    NoDuration,
    TooLong,
}

/// Nanoseconds of a Go duration.
fn go_duration(text: &str) -> Result<i128, Uncounted> {
    let (sign, mut rest) = match text.as_bytes() {
        [b'-', ..] => (-1, &text[1..]),
        [b'+', ..] => (1, &text[1..]),
        _ => (1, text),
    };
    if rest.is_empty() {
        return Err(Uncounted::NoDuration);
    }
    let mut total = 0_i128;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(Uncounted::NoDuration)?;
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
            _ => return Err(Uncounted::NoDuration),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(Uncounted::NoDuration);
        }
        let more = nanoseconds(whole, fraction, unit_nanoseconds).ok_or(Uncounted::TooLong)?;
        total = total.checked_add(more).ok_or(Uncounted::TooLong)?;
        rest = tail;
    }
    Ok(sign * total)
}

/// `whole.fraction` units, both of them digits; none: too long to count.
fn nanoseconds(whole: &str, fraction: &str, unit: i128) -> Option<i128> {
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i128>().ok() };
    // Beyond 18 digits no unit has a nanosecond left to tell.
    let fraction = &fraction[..fraction.len().min(18)];
    let scale = fraction.bytes().fold(1, |scale, _| scale * 10);
    let part = digits(fraction)? * unit / scale;
    digits(whole)?.checked_mul(unit)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("8760h", TimeDelta::hours(8760))]
    #[case("1h30m", TimeDelta::minutes(90))]
    #[case("1.5h", TimeDelta::minutes(90))]
    #[case(".5h", TimeDelta::minutes(30))]
    #[case("0.1234567899s", TimeDelta::nanoseconds(123_456_789))]
    #[case("1.0000000000000000000000000001h", TimeDelta::hours(1))]
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
    #[case("-9999999999h")]
    #[case("99999999999999999999999999")]
    #[case("99999999999999999999999999999999999999999999999")]
    #[case("-99999999999999999999999999999999999999999999999")]
    #[case("99999999999999999999999999999999999999999999999h")]
    #[case("1h99999999999999999999999999999999999999999999999.5ms")]
    #[case("9223372037s")]
    fn overflow_is_refused(#[case] text: &str) {
        assert_eq!(parse(text), Err(LifetimeError::Overflow(text.to_owned())));
    }

    #[test]
    fn the_longest_lifetime_is_what_64_bits_of_nanoseconds_hold() {
        assert_eq!(parse("9223372036854775807ns"), Ok(TimeDelta::nanoseconds(i64::MAX)));
        assert_eq!(parse("9223372036"), Ok(TimeDelta::seconds(9_223_372_036)));
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
