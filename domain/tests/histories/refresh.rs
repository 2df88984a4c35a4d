//! Whatever two holders of one refresh token do, and whenever, they do not both go on.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::{collection::vec, prelude::*, sample::Index};
use tally_domain::{
    Command, Context, Principal, World,
    refresh_token::RefreshToken,
    session::{Origin, REFRESH_LIFETIME, RefreshRefusal, RefreshSession, RevokeRefreshToken, Session},
};
use tally_events::{
    Event, Recorded, SessionEvent, SessionId, StreamId, UserId,
    seal::Key,
    session::{ConsoleStarted, SessionMethod, SessionStarted},
    user::UserRegistered,
};
use uuid::Uuid;

use crate::{START, recorded};

const USER: UserId = UserId(Uuid::from_u128(1));
const SESSION: SessionId = SessionId(Uuid::from_u128(2));

/// The one who was given the session, and the one who copied its refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Owner,
    Thief,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    who: Who,
    /// Since the attempt before.
    wait: TimeDelta,
    /// Which of the tokens that were given to them they show; none: the latest.
    shows: Option<Index>,
    /// The answer does not arrive.
    lost: bool,
}

fn attempt() -> impl Strategy<Value = Attempt> {
    let who = prop_oneof![Just(Who::Owner), Just(Who::Thief)];
    let wait = prop::sample::select(vec![0, 1, 3, 9, 10, 11, 840]).prop_map(TimeDelta::seconds);
    let shows = prop::option::weighted(0.3, any::<Index>());
    (who, wait, shows, prop::bool::weighted(0.3)).prop_map(|(who, wait, shows, lost)| Attempt {
        who,
        wait,
        shows,
        lost,
    })
}

/// A session and the log it is folded from.
struct Log {
    history: Vec<Recorded>,
    now: DateTime<Utc>,
    drawn: u32,
}

impl Log {
    fn new() -> (Self, RefreshToken) {
        let mut log = Self { history: Vec::new(), now: START, drawn: 0 };
        let first = log.draw();
        let registered = UserRegistered {
            email: tally_events::Personal::clear("ada@example.org"),
            name: tally_events::Personal::clear("ada"),
        };
        let ends_at = START + TimeDelta::days(90);
        let started = SessionStarted {
            user_id: USER,
            method: SessionMethod::EmailCode,
            minted_by: None,
            expires_at: START + REFRESH_LIFETIME,
            address: None,
            user_agent: None,
            console: Some(ConsoleStarted { refresh_hash: first.hash().clone(), ends_at }),
        };
        log.append([(USER.into(), registered.into()), (SESSION.into(), started.into())]);
        (log, first)
    }

    fn draw(&mut self) -> RefreshToken {
        self.drawn += 1;
        let number = self.drawn.to_be_bytes();
        RefreshToken::draw(SESSION, &Key::from_bytes([3; 32]), |bytes| bytes[..4].copy_from_slice(&number)).1
    }

    fn append(&mut self, events: impl IntoIterator<Item = (StreamId, Event)>) {
        let now = self.now;
        self.history.extend(events.into_iter().map(|(stream, event)| recorded(stream, event, now)));
    }

    fn decide<C: Command>(&mut self, command: &C) -> Result<C::Outcome, C::Refusal> {
        let world = World::given(&command.reads(), &self.history);
        let context = Context { now: self.now, principal: Principal::Anonymous };
        let decision = command.decide(&world, &context)?;
        self.append(decision.events);
        Ok(decision.outcome)
    }

    /// As the door does: the next token, or none and perhaps the end of the session.
    fn refresh(&mut self, shown: &RefreshToken) -> Option<RefreshToken> {
        let next = self.draw();
        let command = RefreshSession {
            user: USER,
            shown: shown.clone(),
            next: next.clone(),
            origin: Origin::default(),
        };
        match self.decide(&command) {
            Ok(_) => Some(next),
            Err(RefreshRefusal::Reused) => {
                self.decide(&RevokeRefreshToken { shown: shown.clone() }).unwrap();
                None
            }
            Err(_) => None,
        }
    }

    fn session(&self) -> Session {
        World::given(&[SESSION.into()], &self.history).session(SESSION).clone()
    }
}

/// Someone who holds refresh tokens, and forgets none.
struct Holder {
    /// The first is held by both, every other by this one alone.
    tokens: Vec<RefreshToken>,
    /// Refreshes that worked with a token of this holder's own.
    own: usize,
}

proptest! {
    #[test]
    fn two_holders_of_one_token_do_not_both_go_on(attempts in vec(attempt(), 1..40)) {
        let (mut log, stolen) = Log::new();
        let holder = || Holder { tokens: vec![stolen.clone()], own: 0 };
        let (mut owner, mut thief) = (holder(), holder());
        for Attempt { who, wait, shows, lost } in attempts {
            log.now += wait;
            let before = log.session();
            let holder = if who == Who::Owner { &mut owner } else { &mut thief };
            let count = holder.tokens.len();
            let at = shows.map_or(count - 1, |shows| shows.index(count));
            let answer = log.refresh(&holder.tokens[at]);
            prop_assert!(answer.is_none() || !before.ended, "an ended session was refreshed");
            if let Some(next) = answer {
                holder.own += usize::from(at > 0);
                if !lost {
                    holder.tokens.push(next);
                }
            }
            prop_assert!(owner.own == 0 || thief.own == 0, "both went on");
            let usable = log.session().started.and_then(|started| started.console).map(|console| console.usable.len());
            prop_assert!(usable.is_some_and(|usable| usable <= 17));
        }
    }

    /// However many answers are lost, whoever asks again within moments of the first goes on.
    #[test]
    fn one_holder_whose_answers_are_lost_goes_on(rounds in vec(0..=8_i64, 1..20)) {
        let (mut log, mut token) = Log::new();
        for lost in rounds {
            log.now += TimeDelta::minutes(14);
            for _ in 0..lost {
                prop_assert!(log.refresh(&token).is_some());
                log.now += TimeDelta::seconds(1);
            }
            token = log.refresh(&token).expect("an answer");
        }
        prop_assert!(!log.session().ended);
        let ends = log.history.iter().filter(|r| matches!(r.event, Event::Session(SessionEvent::Ended(_))));
        prop_assert_eq!(ends.count(), 0);
    }
}
