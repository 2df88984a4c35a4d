//! Whatever is tried at the login door, in whatever order, its limits hold.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::{collection::vec, prelude::*};
use tally_domain::{
    Command, Context, EmailAddress, Principal, World,
    login::{DeclareUndeliverable, Digits, IssueCode, IssuedCode, Login, VerifyCode},
    session::{Opens, Origin},
    user::{ReinstateUser, SuspendUser},
    world::State,
};
use tally_events::{
    CodeId, Event, Hidden, LoginEvent, LoginId, SessionId, StreamId, UserEvent, UserId, Version,
    login::RefusalReason, seal::Key,
};
use uuid::Uuid;

use crate::{START, recorded, through_a_snapshot};

const LOGIN: LoginId = LoginId(Uuid::from_u128(1));
const USER: UserId = UserId(Uuid::from_u128(2));
const KEY: Key = Key::from_bytes([7; 32]);
const DEVELOPMENT: &str = "888888";

#[derive(Clone, Copy, Debug)]
enum Attempt {
    Issue,
    /// The digits of the newest code.
    Right,
    /// The digits of the one before it.
    Superseded,
    Wrong,
    Development,
    Uninvited,
    /// The mail with the newest code comes back.
    Undeliverable,
    Suspend,
    Reinstate,
}

fn attempt() -> impl Strategy<Value = Attempt> {
    prop_oneof![
        8 => Just(Attempt::Issue),
        2 => Just(Attempt::Right),
        2 => Just(Attempt::Superseded),
        16 => Just(Attempt::Wrong),
        1 => Just(Attempt::Development),
        1 => Just(Attempt::Uninvited),
        2 => Just(Attempt::Undeliverable),
        1 => Just(Attempt::Suspend),
        1 => Just(Attempt::Reinstate),
    ]
}

/// Seconds between two attempts: at once, around the cooldown, around the code's end, around the hour.
fn pause() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 0_i64..3, 4 => 55_i64..65, 1 => 595_i64..605, 1 => 0_i64..3700]
}

/// The door of one address, with all that was recorded at it.
struct Door {
    now: DateTime<Utc>,
    login: State,
    user: State,
    codes: u32,
    log: Vec<(DateTime<Utc>, Event)>,
}

/// Code `number` and its digits.
fn code(number: u32) -> (CodeId, Digits) {
    (CodeId(Uuid::from_u128(u128::from(number))), Digits::from_number(100_000 + number))
}

impl Door {
    fn new() -> Self {
        let (login, user) = (State::initial(LOGIN.into()), State::initial(USER.into()));
        Self { now: START, login, user, codes: 0, log: Vec::new() }
    }

    fn attempt(&mut self, attempt: Attempt) {
        match attempt {
            Attempt::Issue => self.issue(),
            Attempt::Right => self.verify(&self.typed(code(self.codes).1)),
            Attempt::Superseded => self.verify(&self.typed(code(self.codes.saturating_sub(1)).1)),
            Attempt::Wrong => self.verify(&self.typed(Digits::new("000000"))),
            Attempt::Development => self.verify(&self.typed(Digits::new(DEVELOPMENT))),
            Attempt::Uninvited => {
                self.verify(&VerifyCode { may_sign_up: false, ..self.typed(code(self.codes).1) });
            }
            Attempt::Undeliverable => {
                self.run(&DeclareUndeliverable(IssuedCode {
                    login: LOGIN,
                    code: code(self.codes).0,
                    user: None,
                }));
            }
            Attempt::Suspend => self.run(&SuspendUser { user: USER }),
            Attempt::Reinstate => self.run(&ReinstateUser { user: USER }),
        }
    }

    fn issue(&mut self) {
        let (id, digits) = code(self.codes + 1);
        let command = IssueCode {
            login: LOGIN,
            code: id,
            user: None,
            email: email(),
            salt: Hidden::new("salt"),
            mac: digits.mac(&KEY, id, "salt"),
            origin: Origin::default(),
        };
        let before = self.log.len();
        self.run(&command);
        self.codes += u32::from(self.log.len() > before);
    }

    fn verify(&mut self, command: &VerifyCode) {
        self.run(command);
    }

    fn typed(&self, typed: Digits) -> VerifyCode {
        VerifyCode {
            login: LOGIN,
            email: email(),
            typed,
            development: Some(Digits::new(DEVELOPMENT)),
            key: KEY,
            user: USER,
            known: false,
            may_sign_up: true,
            link: None,
            session: SessionId(Uuid::from_u128(1000 + self.log.len() as u128)),
            opens: Opens::Session { lifetime: TimeDelta::days(30) },
            origin: Origin::default(),
        }
    }

    /// Decides on states that went through a snapshot, and folds what was decided both ways.
    fn run<C: Command>(&mut self, command: &C) {
        let mut world = World::default();
        let streams: [(StreamId, &State); 2] = [(LOGIN.into(), &self.login), (USER.into(), &self.user)];
        for (stream, state) in streams {
            world.insert(stream, Version(1), through_a_snapshot(state));
        }
        let context = Context { now: self.now, principal: Principal::Anonymous };
        let Ok(decision) = command.decide(&world, &context) else { return };
        for (stream, event) in decision.events {
            let recorded = recorded(stream, event, self.now);
            for state in [&mut self.login, &mut self.user] {
                let mut resumed = through_a_snapshot(state);
                resumed.evolve(&recorded);
                state.evolve(&recorded);
                assert_eq!(&resumed, state, "a snapshot resumes as if there had been none");
            }
            self.log.push((self.now, recorded.event));
        }
    }

    fn login(&self) -> &Login {
        match &self.login {
            State::Login(login) => login,
            _ => unreachable!("a login stays one"),
        }
    }

    fn times(&self, of: impl Fn(&Event) -> bool) -> Vec<DateTime<Utc>> {
        self.log.iter().filter(|(_, event)| of(event)).map(|(at, _)| *at).collect()
    }

    /// The codes that nobody was mailed.
    fn undeliverable(&self) -> Vec<CodeId> {
        let lost = |(_, event): &(_, Event)| match event {
            Event::Login(LoginEvent::CodeUndeliverable(e)) => Some(e.code_id),
            _ => None,
        };
        self.log.iter().filter_map(lost).collect()
    }

    /// Every answer to a code was about the newest, while it could be used, and ended it if it had to.
    fn assert_one_live_code(&self) {
        let mut live: Option<(CodeId, DateTime<Utc>, u32)> = None;
        for (at, event) in &self.log {
            let answered = match event {
                Event::Login(LoginEvent::CodeIssued(e)) => {
                    live = Some((e.code_id, e.expires_at, 0));
                    continue;
                }
                Event::Login(LoginEvent::CodeRefused(e)) => e.code_id,
                Event::Login(LoginEvent::CodeVerified(e)) => e.code_id,
                Event::Login(LoginEvent::CodeUndeliverable(e)) => e.code_id,
                _ => continue,
            };
            let (id, expires_at, wrong) = live.expect("a code that is answered is live");
            assert_eq!(answered, id, "only the newest code is answered");
            assert!(*at < expires_at, "an expired code was answered");
            live = (is_wrong_guess(event) && wrong < 4).then_some((id, expires_at, wrong + 1));
        }
    }
}

fn is_wrong_guess(event: &Event) -> bool {
    matches!(event, Event::Login(LoginEvent::CodeRefused(e)) if e.reason == RefusalReason::WrongCode)
}

fn email() -> EmailAddress {
    EmailAddress::parse("ada@example.org").unwrap()
}

/// Any `count` + 1 of `times` take longer than `window`.
fn at_most(count: usize, window: TimeDelta, times: &[DateTime<Utc>]) -> bool {
    times.windows(count + 1).all(|some| some[count] - some[0] >= window)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_limits_of_a_login_door_hold(attempts in vec((pause(), attempt()), 0..300)) {
        let mut door = Door::new();
        for (seconds, attempt) in attempts {
            door.now += TimeDelta::seconds(seconds);
            door.attempt(attempt);
            let login = door.login();
            prop_assert!(login.live.as_ref().is_none_or(|code| code.attempts < 5));
            prop_assert!(login.issued.len() <= 5 && login.issued.is_sorted());
            prop_assert!(login.guessed.len() <= 30 && login.guessed.is_sorted());
        }
        let lost = door.undeliverable();
        let codes = door.times(
            |event| matches!(event, Event::Login(LoginEvent::CodeIssued(e)) if !lost.contains(&e.code_id)),
        );
        prop_assert!(at_most(1, TimeDelta::seconds(60), &codes), "two codes within a minute");
        prop_assert!(at_most(5, TimeDelta::hours(1), &codes), "six codes within an hour");
        let guesses = door.times(is_wrong_guess);
        prop_assert!(at_most(30, TimeDelta::days(1), &guesses), "31 wrong guesses within a day");
        let registrations = door.times(|event| matches!(event, Event::User(UserEvent::Registered(_))));
        prop_assert!(registrations.len() <= 1, "one account per address");
        door.assert_one_live_code();
    }
}
