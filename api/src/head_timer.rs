//! A timer that is set once and put off, instead of being set and taken back with every request.
//!
//! hyper asks for an alarm whenever it begins to read a request's head and drops it when the head is
//! there, nearly always at once. Registering each with the runtime costs more than the verdict that is
//! asked for. So a connection has one alarm, which is let ring early and then set to what is due.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::rt::{Sleep, Timer};
use parking_lot::Mutex;

type Alarm = Pin<Box<tokio::time::Sleep>>;

/// The timer of one connection.
#[derive(Clone, Default)]
pub struct HeadTimer {
    /// The alarm, while nobody waits for it.
    idle: Arc<Mutex<Option<Alarm>>>,
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let alarm = match self.idle.lock().take() {
            Some(mut alarm) => {
                if alarm.deadline() > deadline.into() {
                    alarm.as_mut().reset(deadline.into());
                }
                alarm
            }
            None => Box::pin(tokio::time::sleep_until(deadline.into())),
        };
        Box::pin(Waiting { deadline, alarm: Some(alarm), timer: self.clone() })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }
}

struct Waiting {
    deadline: Instant,
    /// None once it was given back.
    alarm: Option<Alarm>,
    timer: HeadTimer,
}

impl Sleep for Waiting {}

impl Future for Waiting {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let (deadline, now) = (self.deadline, self.timer.now());
        let Some(alarm) = &mut self.alarm else { return Poll::Ready(()) };
        // It was set for an earlier request.
        while alarm.as_mut().poll(context).is_ready() {
            if now >= deadline {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(deadline.into());
        }
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        *self.timer.idle.lock() = self.alarm.take();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    /// Whether it ends within an hour, and after how long.
    async fn rings(sleep: Pin<Box<dyn Sleep>>) -> Option<Duration> {
        let began = tokio::time::Instant::now();
        timeout(HOUR, sleep).await.ok()?;
        Some(began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_that_was_put_off_rings_when_it_is_due_and_not_before() {
        let timer = HeadTimer::default();
        let mut first = timer.sleep(Duration::from_secs(10));
        assert!(timeout(Duration::from_secs(7), &mut first).await.is_err());
        drop(first);
        assert_eq!(rings(timer.sleep(Duration::from_secs(10))).await, Some(Duration::from_secs(10)));
        // One that has rung serves again.
        assert_eq!(rings(timer.sleep(Duration::from_secs(3))).await, Some(Duration::from_secs(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_that_was_set_for_later_rings_no_later_than_due() {
        let timer = HeadTimer::default();
        let mut long = timer.sleep(HOUR / 2);
        assert!(timeout(Duration::from_secs(1), &mut long).await.is_err());
        drop(long);
        assert_eq!(rings(timer.sleep(Duration::from_secs(5))).await, Some(Duration::from_secs(5)));
    }
}
