//! Database time, as this process knows it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

/// A clock that follows the database: all replicas then agree on what has expired.
///
/// Cloned, it is still the same clock.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Microseconds the database is ahead of this machine.
    ahead_micros: Arc<AtomicI64>,
    /// A fixed shift on top, for those who act at another time.
    shift: TimeDelta,
}

impl Clock {
    /// The same clock, always `shift` ahead.
    #[must_use]
    pub fn shifted(&self, shift: TimeDelta) -> Self {
        Self { ahead_micros: self.ahead_micros.clone(), shift }
    }

    /// Now, in whole microseconds as the database keeps them.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        let ahead = TimeDelta::microseconds(self.ahead_micros.load(Ordering::Relaxed));
        let now = machine_time() + ahead + self.shift;
        DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
    }

    /// Learns from a reading of `clock_timestamp()` that was answered just now after `round_trip`.
    pub fn observe(&self, database: DateTime<Utc>, round_trip: Duration) {
        let half = TimeDelta::from_std(round_trip / 2).unwrap_or_default();
        let ahead = (database + half) - machine_time();
        self.ahead_micros.store(ahead.num_microseconds().unwrap_or_default(), Ordering::Relaxed);
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
fn machine_time() -> DateTime<Utc> {
    Utc::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_database() {
        let clock = Clock::default();
        let database = machine_time() + TimeDelta::hours(1);
        clock.observe(database, Duration::ZERO);
        assert!((clock.now() - database).abs() < TimeDelta::seconds(5));
        assert!(
            (clock.shifted(TimeDelta::days(-1)).now() - database + TimeDelta::days(1)).abs()
                < TimeDelta::seconds(5)
        );
    }
}
