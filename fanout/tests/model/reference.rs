//! What should happen: the rules once more, written from the promises and not from the product.
//!
//! It shares no code with the deciders. Ids are small numbers, time is seconds since the history
//! began, and a position is how many events there are.

use std::collections::BTreeMap;

pub type Handle = u32;

/// Boundaries of time are not tried from nearer than this: the product decides a little later than
/// the frozen time of its database says, and on a busy machine the little adds up.
pub const SLACK: i64 = 58;
pub const MINUTE: i64 = 60;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;
/// How long a session lasts here.
pub const SESSION_DAYS: i64 = 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Credential {
    Session(Handle),
    Token(Handle),
}

/// A person and what they show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    pub user: Handle,
    pub credential: Credential,
}

/// A client's idempotency key and the body it came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Once {
    pub key: u8,
    pub body: u8,
}

/// A wish, with everything the caller brings to it, names of new things included.
#[derive(Clone, Debug)]
pub enum Command {
    Issue {
        address: Handle,
        login: Handle,
        code: Handle,
    },
    /// `typed` is the code whose digits are typed; none: digits that no code has.
    Verify {
        address: Handle,
        login: Handle,
        typed: Option<Handle>,
        user: Handle,
        session: Handle,
        may_sign_up: bool,
    },
    StartCli {
        by: Shown,
        session: Handle,
    },
    Mint {
        by: Shown,
        token: Handle,
        days: Option<i64>,
        once: Option<Once>,
    },
    Renew {
        user: Handle,
        token: Handle,
    },
    /// `line` is what the caller was told is below the token.
    Revoke {
        by: Shown,
        root: Handle,
        line: Vec<Handle>,
    },
    End {
        by: Shown,
        session: Handle,
    },
    Suspend {
        user: Handle,
    },
    Reinstate {
        user: Handle,
    },
    Rename {
        by: Shown,
        name: Option<u8>,
    },
    /// Not a command of the product yet: the key's row is deleted.
    Erase {
        user: Handle,
    },
    Purge,
    Wait {
        seconds: i64,
    },
}

/// What the caller is told. Moments are seconds since the history began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    TooManyCodes,
    TooManyGuesses,
    ClaimTaken,
    NoLiveCode,
    Wrong,
    SignupProhibited,
    AccountSuspended,
    Verified {
        expires: i64,
    },
    /// The credential that is shown is not good.
    Ended,
    NotFromALogin,
    Started {
        expires: i64,
    },
    Minted {
        expires: Option<i64>,
    },
    Replayed {
        receipt: Handle,
    },
    KeyReused,
    Erased,
    Renewal {
        expires: Option<i64>,
        renewed: bool,
    },
    Revoked(Vec<Handle>),
    Unknown,
    /// Too many conflicts, or a database that was too busy: only without effect.
    TryAgain,
}

impl Outcome {
    /// Whether both say the same; moments may be `slack` seconds apart.
    pub fn agrees(&self, other: &Self, slack: i64) -> bool {
        let near = |a: Option<i64>, b: Option<i64>| match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() < slack,
            (a, b) => a == b,
        };
        match (self, other) {
            (Self::Verified { expires: a }, Self::Verified { expires: b })
            | (Self::Started { expires: a }, Self::Started { expires: b }) => near(Some(*a), Some(*b)),
            (Self::Minted { expires: a }, Self::Minted { expires: b }) => near(*a, *b),
            (Self::Renewal { expires: a, renewed: one }, Self::Renewal { expires: b, renewed: other }) => {
                one == other && near(*a, *b)
            }
            (a, b) => a == b,
        }
    }
}

/// What a verification should say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Live,
    Invalid,
    Suspended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    User(Handle),
    Login(Handle),
    Session(Handle),
    Token(Handle),
}

#[derive(Clone, Debug, Default)]
pub struct Login {
    /// The code that works, with its end and the wrong guesses it has seen.
    pub live: Option<(Handle, i64, u32)>,
    issued: Vec<i64>,
    guessed: Vec<i64>,
}

#[derive(Clone, Debug, Default)]
pub struct User {
    pub suspended: bool,
    pub erased: bool,
    pub name: Option<u8>,
    /// Credentials from up to this position are dead.
    dead_until: usize,
}

#[derive(Clone, Debug)]
pub struct Session {
    pub user: Handle,
    pub expires: i64,
    by_login: bool,
    ended: bool,
    position: usize,
}

#[derive(Clone, Debug)]
pub struct Token {
    pub user: Handle,
    pub expires: Option<i64>,
    minted_by: Credential,
    revoked: bool,
    position: usize,
}

#[derive(Clone, Debug)]
struct Used {
    body: u8,
    receipt: Handle,
    at: i64,
}

/// Everything that was decided.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub now: i64,
    /// Every event, in the order of positions.
    pub log: Vec<(Stream, &'static str)>,
    pub logins: BTreeMap<Handle, Login>,
    pub users: BTreeMap<Handle, User>,
    pub sessions: BTreeMap<Handle, Session>,
    pub tokens: BTreeMap<Handle, Token>,
    /// Which login and which account hold an address.
    pub doors: BTreeMap<Handle, Handle>,
    pub accounts: BTreeMap<Handle, Handle>,
    used: BTreeMap<u8, Used>,
}

impl Model {
    /// What happens, and what the caller is told.
    pub fn execute(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Issue { address, login, code } => self.issue(*address, *login, *code),
            Command::Verify { .. } => self.verify(command),
            Command::StartCli { by, session } => self.start_cli(*by, *session),
            Command::Mint { by, token, days, once } => self.mint(*by, *token, *days, *once),
            Command::Renew { user, token } => self.renew(*user, *token),
            Command::Revoke { by, root, line } => self.revoke(by.user, *root, line),
            Command::End { by, session } => {
                if let Some(found) = self.sessions.get_mut(session)
                    && found.user == by.user
                    && !found.ended
                {
                    found.ended = true;
                    self.append(Stream::Session(*session), "session.ended");
                }
                Outcome::Done
            }
            Command::Suspend { user } => self.suspend(*user, true),
            Command::Reinstate { user } => self.suspend(*user, false),
            Command::Rename { by, name } => self.rename(*by, *name),
            Command::Erase { user } => {
                if let Some(user) = self.users.get_mut(user) {
                    user.erased = true;
                }
                Outcome::Done
            }
            Command::Purge => {
                let now = self.now;
                self.used.retain(|_, used| used.at > now - DAY);
                Outcome::Done
            }
            Command::Wait { seconds } => {
                self.now += seconds;
                Outcome::Done
            }
        }
    }

    fn append(&mut self, stream: Stream, name: &'static str) {
        self.log.push((stream, name));
    }

    fn issue(&mut self, address: Handle, login: Handle, code: Handle) -> Outcome {
        let now = self.now;
        let door = self.logins.get(&login).cloned().unwrap_or_default();
        let minute = door.issued.last().map(|last| last + MINUTE);
        let hour = (door.issued.len() >= 5).then(|| door.issued[door.issued.len() - 5] + HOUR);
        if [minute, hour, door.shut_until()].into_iter().flatten().any(|until| until > now) {
            return Outcome::TooManyCodes;
        }
        if self.doors.get(&address).is_some_and(|holder| *holder != login) {
            return Outcome::ClaimTaken;
        }
        self.doors.insert(address, login);
        let door = self.logins.entry(login).or_default();
        door.issued.push(now);
        door.live = Some((code, now + 10 * MINUTE, 0));
        self.append(Stream::Login(login), "login.code_issued");
        Outcome::Done
    }

    fn verify(&mut self, command: &Command) -> Outcome {
        let Command::Verify { address, login, typed, user, session, may_sign_up } = command else {
            unreachable!("only called for it")
        };
        let now = self.now;
        let mut door = self.logins.get(login).cloned().unwrap_or_default();
        if door.shut_until().is_some_and(|until| until > now) {
            return Outcome::TooManyGuesses;
        }
        let Some((code, _, wrong)) = door.live.filter(|(_, expires, _)| now < *expires) else {
            return Outcome::NoLiveCode;
        };
        let account = self.users.get(user).cloned();
        let refused = if *typed != Some(code) {
            door.guessed.push(now);
            door.live = (wrong + 1 < 5).then_some((code, door.live.map_or(now, |live| live.1), wrong + 1));
            Some(Outcome::Wrong)
        } else if account.as_ref().is_some_and(|account| account.suspended) {
            door.live = None;
            Some(Outcome::AccountSuspended)
        } else if account.is_none() && !may_sign_up {
            door.live = None;
            Some(Outcome::SignupProhibited)
        } else {
            None
        };
        if let Some(refused) = refused {
            self.logins.insert(*login, door);
            self.append(Stream::Login(*login), "login.code_refused");
            return refused;
        }
        if account.as_ref().is_some_and(|account| account.erased) {
            return Outcome::Erased;
        }
        if account.is_none() && self.accounts.contains_key(address) {
            return Outcome::ClaimTaken;
        }
        door.live = None;
        self.logins.insert(*login, door);
        self.append(Stream::Login(*login), "login.code_verified");
        if account.is_none() {
            self.accounts.insert(*address, *user);
            self.users.insert(*user, User::default());
            self.append(Stream::User(*user), "user.registered");
        }
        let expires = self.start(*user, *session, true);
        Outcome::Verified { expires }
    }

    fn start(&mut self, user: Handle, session: Handle, by_login: bool) -> i64 {
        self.append(Stream::Session(session), "session.started");
        let expires = self.now + SESSION_DAYS * DAY;
        let position = self.log.len();
        self.sessions.insert(session, Session { user, expires, by_login, ended: false, position });
        expires
    }

    fn start_cli(&mut self, by: Shown, session: Handle) -> Outcome {
        let Credential::Session(parent) = by.credential else { unreachable!("a session is shown") };
        if !self.good(by) {
            return Outcome::Ended;
        }
        if !self.sessions[&parent].by_login {
            return Outcome::NotFromALogin;
        }
        if self.users[&by.user].erased {
            return Outcome::Erased;
        }
        Outcome::Started { expires: self.start(by.user, session, false) }
    }

    fn mint(&mut self, by: Shown, token: Handle, days: Option<i64>, once: Option<Once>) -> Outcome {
        if let Some(once) = once
            && let Some(used) = self.used.get(&once.key)
        {
            let same = used.body == once.body;
            return if same { Outcome::Replayed { receipt: used.receipt } } else { Outcome::KeyReused };
        }
        if !self.good(by) {
            return Outcome::Ended;
        }
        if self.users[&by.user].erased {
            return Outcome::Erased;
        }
        let ceiling = match by.credential {
            Credential::Session(_) => None,
            Credential::Token(above) => self.tokens[&above].expires,
        };
        let wanted = days.map(|days| self.now + days * DAY);
        let expires = [wanted, ceiling].into_iter().flatten().min();
        self.append(Stream::Token(token), "token.minted");
        let position = self.log.len();
        let minted = Token { user: by.user, expires, minted_by: by.credential, revoked: false, position };
        self.tokens.insert(token, minted);
        if let Some(Once { key, body }) = once {
            self.used.insert(key, Used { body, receipt: token, at: self.now });
        }
        Outcome::Minted { expires }
    }

    fn renew(&mut self, user: Handle, token: Handle) -> Outcome {
        let good = |model: &Self, token| model.good(Shown { user, credential: Credential::Token(token) });
        if !good(self, token) {
            return Outcome::Ended;
        }
        let Token { expires, minted_by, .. } = self.tokens[&token];
        let unchanged = Outcome::Renewal { expires, renewed: false };
        let Some(expiry) = expires.filter(|expiry| expiry - self.now <= 7 * DAY) else { return unchanged };
        let ceiling = match minted_by {
            Credential::Session(_) => None,
            Credential::Token(above) if good(self, above) => self.tokens[&above].expires,
            Credential::Token(_) => return unchanged,
        };
        let renewed = ceiling.map_or(self.now + 90 * DAY, |ceiling| ceiling.min(self.now + 90 * DAY));
        if renewed <= expiry {
            return unchanged;
        }
        self.append(Stream::Token(token), "token.renewed");
        self.tokens.entry(token).and_modify(|token| token.expires = Some(renewed));
        Outcome::Renewal { expires: Some(renewed), renewed: true }
    }

    fn revoke(&mut self, owner: Handle, root: Handle, line: &[Handle]) -> Outcome {
        let mut revoked = Vec::new();
        for token in std::iter::once(root).chain(line.iter().copied()) {
            let Some(found) = self.tokens.get_mut(&token) else { continue };
            if found.user == owner && !found.revoked {
                found.revoked = true;
                self.append(Stream::Token(token), "token.revoked");
                revoked.push(token);
            }
        }
        revoked.sort_unstable();
        Outcome::Revoked(revoked)
    }

    fn suspend(&mut self, user: Handle, suspend: bool) -> Outcome {
        let position = self.log.len() + 1;
        let Some(account) = self.users.get_mut(&user) else { return Outcome::Unknown };
        if account.suspended != suspend {
            account.suspended = suspend;
            account.dead_until = position;
            self.append(Stream::User(user), if suspend { "user.suspended" } else { "user.reinstated" });
        }
        Outcome::Done
    }

    fn rename(&mut self, by: Shown, name: Option<u8>) -> Outcome {
        if !self.good(by) {
            return Outcome::Unknown;
        }
        if name.is_none() {
            return Outcome::Done;
        }
        let Some(account) = self.users.get_mut(&by.user) else { return Outcome::Unknown };
        if account.erased {
            return Outcome::Erased;
        }
        account.name = name;
        self.append(Stream::User(by.user), "user.profile_changed");
        Outcome::Done
    }

    /// Whether a credential lets its person in.
    pub fn good(&self, shown: Shown) -> bool {
        self.standing(shown.credential) == Standing::Live
    }

    pub fn standing(&self, credential: Credential) -> Standing {
        let (user, position, over, expires) = match credential {
            Credential::Session(id) => match self.sessions.get(&id) {
                Some(session) => (session.user, session.position, session.ended, Some(session.expires)),
                None => return Standing::Invalid,
            },
            Credential::Token(id) => match self.tokens.get(&id) {
                Some(token) => (token.user, token.position, token.revoked, token.expires),
                None => return Standing::Invalid,
            },
        };
        let account = &self.users[&user];
        if over {
            Standing::Invalid
        } else if account.suspended {
            Standing::Suspended
        } else if position <= account.dead_until || expires.is_some_and(|expires| expires <= self.now) {
            Standing::Invalid
        } else {
            Standing::Live
        }
    }

    /// Every event as the log should have it: stream, version, name.
    pub fn recorded(&self) -> Vec<(Stream, i64, String)> {
        let mut versions = BTreeMap::new();
        let record = |(stream, name): &(Stream, &str)| {
            let version = versions.entry(*stream).or_insert(0);
            *version += 1;
            (*stream, *version, (*name).to_owned())
        };
        self.log.iter().map(record).collect()
    }

    /// Tokens below a token in its line that were not revoked.
    pub fn line_below(&self, root: Handle) -> Vec<Handle> {
        let mut below: Vec<Handle> = Vec::new();
        // A token is younger than the one that minted it, and handles only grow.
        for (token, minted) in &self.tokens {
            if let Credential::Token(above) = minted.minted_by
                && (above == root || below.contains(&above))
            {
                below.push(*token);
            }
        }
        below.retain(|token| !self.tokens[token].revoked);
        below
    }

    /// Whether some end in time is so near that the product may already be past it, or not yet.
    pub fn is_near_a_boundary(&self) -> bool {
        let doors = self.logins.values().flat_map(|door| {
            let hour = (door.issued.len() >= 5).then(|| door.issued[door.issued.len() - 5] + HOUR);
            [
                door.issued.last().map(|last| last + MINUTE),
                hour,
                door.shut_until(),
                door.live.map(|live| live.1),
            ]
        });
        let sessions = self.sessions.values().map(|session| Some(session.expires));
        let tokens =
            self.tokens.values().flat_map(|token| [token.expires, token.expires.map(|at| at - 7 * DAY)]);
        let keys = self.used.values().map(|used| Some(used.at + DAY));
        doors.chain(sessions).chain(tokens).chain(keys).flatten().any(|at| (at - self.now).abs() <= SLACK)
    }
}

impl Token {
    /// How many events there were when it had been minted.
    pub fn position(&self) -> i64 {
        i64::try_from(self.position).unwrap_or(i64::MAX)
    }
}

impl Login {
    /// When its newest code was made.
    pub fn issued_at(&self) -> Option<i64> {
        self.issued.last().copied()
    }

    /// Until when nobody may guess: the thirtieth wrong guess within a day shuts the door.
    fn shut_until(&self) -> Option<i64> {
        (self.guessed.len() >= 30).then(|| self.guessed[self.guessed.len() - 30] + DAY)
    }
}
