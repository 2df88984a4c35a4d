//! Which versions a command may write.

use tally_domain::Decision;
use tally_events::{
    Event, StreamId, UserId,
    user::{UserReinstated, UserSuspended},
};
use tally_store::ExecuteError;

use crate::support::{Do, Log};

/// Two events for one stream in one command are two versions, in the order they were decided.
#[tokio::test]
async fn a_command_may_append_several_events_to_one_stream() {
    let log = Log::new().await;
    let store = log.store().await;
    let user = UserId::new();
    let twice = Do::new([user.into()], move |_, _| {
        let events: [Event; 2] = [UserSuspended {}.into(), UserReinstated {}.into()];
        Ok(Decision::of((), events.map(|event| (user.into(), event))))
    });
    twice.by(&store).await.unwrap();
    assert_eq!(log.names().await, ["user.suspended", "user.reinstated"]);
    log.assert_sound().await;
}

/// A stream that the decision did not read must be new: otherwise the decision rested on nothing.
#[tokio::test]
async fn a_stream_that_was_not_read_must_be_new() {
    let log = Log::new().await;
    let store = log.store().await;
    let user = UserId::new();
    let unread = |events: usize| {
        Do::new([], move |_, _| {
            let event = || (StreamId::from(user), Event::from(UserSuspended {}));
            Ok(Decision::of((), std::iter::repeat_with(event).take(events)))
        })
    };
    unread(2).by(&store).await.unwrap();
    let refused = unread(1).by(&store).await.unwrap_err();
    assert!(matches!(refused, ExecuteError::Contended), "{refused:?}");
    log.assert_sound().await;
}
