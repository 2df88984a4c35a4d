//! What replicas tell each other, as bytes: a MAC, and after it JSON.
//!
//! Whoever may publish on the bus could otherwise say of a batch that it overthrows nothing, or in
//! another's name that it was applied. What an eavesdropper sees is which positions the log has, and
//! random ids: nothing secret and nothing of a person.

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tally_domain::{Dependency, Invalidation};
use tally_events::{MemberId, Position, SessionId, TokenId, UserId, WorkspaceId, seal::Key};
use uuid::Uuid;

use crate::protocol::{Acknowledgement, Leaf, Message, ReplicaId, Tag};

/// Of this form. A release that says something else counts on.
const VERSION: u8 = 1;
const MAC_BYTES: usize = 32;
/// A batch that overthrows more is read from the log: a frame stays far below the 1 MiB that a NATS
/// server takes.
const OVERTHROWN_MAX: usize = 2048;

/// Something that a replica said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Batch(Message),
    Acknowledgement(Acknowledgement),
    /// One of us said something that only the log tells: a batch that overthrows too much to be told,
    /// or whatever a newer release has to say.
    ReadTheLog,
}

/// It was not made by any of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message on the bus does not carry the MAC of this installation")]
pub struct Forged;

#[derive(Serialize, Deserialize)]
struct Body {
    version: u8,
    log_id: Uuid,
    timeline: String,
    /// Hex; none at position 0.
    leaf: Option<String>,
    #[serde(flatten)]
    said: Said,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Said {
    Batch {
        from: Position,
        to: Position,
        /// None: too many.
        overthrown: Option<Vec<(Position, Overthrown)>>,
    },
    Acknowledgement {
        replica: Uuid,
        applied: Position,
    },
}

/// An [`Invalidation`] that is not nothing.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Overthrown {
    User(UserId),
    Session(SessionId),
    Token(TokenId),
    Member(MemberId),
    Workspace(WorkspaceId),
    Everything,
}

impl Overthrown {
    const fn of(invalidation: Invalidation) -> Option<Self> {
        Some(match invalidation {
            Invalidation::Nothing => return None,
            Invalidation::Everything => Self::Everything,
            Invalidation::Of(dependency) => match dependency {
                Dependency::User(id) => Self::User(id),
                Dependency::Session(id) => Self::Session(id),
                Dependency::Token(id) => Self::Token(id),
                Dependency::Member(id) => Self::Member(id),
                Dependency::Workspace(id) => Self::Workspace(id),
            },
        })
    }
}

impl From<Overthrown> for Invalidation {
    fn from(overthrown: Overthrown) -> Self {
        Self::Of(match overthrown {
            Overthrown::Everything => return Self::Everything,
            Overthrown::User(id) => Dependency::User(id),
            Overthrown::Session(id) => Dependency::Session(id),
            Overthrown::Token(id) => Dependency::Token(id),
            Overthrown::Member(id) => Dependency::Member(id),
            Overthrown::Workspace(id) => Dependency::Workspace(id),
        })
    }
}

/// A batch that was committed.
pub fn batch(key: &Key, message: &Message) -> Vec<u8> {
    let told = message.overthrown.iter().filter_map(|(at, what)| Some((*at, Overthrown::of(*what)?)));
    let overthrown: Vec<_> = told.take(OVERTHROWN_MAX + 1).collect();
    let overthrown = (overthrown.len() <= OVERTHROWN_MAX).then_some(overthrown);
    let said = Said::Batch { from: message.from, to: message.to, overthrown };
    sealed(key, &message.tag, message.leaf, said)
}

/// How far a replica has come.
pub fn acknowledgement(key: &Key, told: &Acknowledgement) -> Vec<u8> {
    let said = Said::Acknowledgement { replica: told.replica.0, applied: told.applied };
    sealed(key, &told.tag, told.leaf, said)
}

fn sealed(key: &Key, tag: &Tag, leaf: Leaf, said: Said) -> Vec<u8> {
    let Tag { log_id, timeline } = tag.clone();
    let body = Body { version: VERSION, log_id, timeline, leaf: leaf.map(hex::encode), said };
    let body = serde_json::to_vec(&body).expect("ids, numbers and hashes are JSON");
    [&key.mac(&[&body])[..], &body].concat()
}

/// Reads what came.
///
/// # Errors
/// When none of us made it.
pub fn read(key: &Key, bytes: &[u8]) -> Result<Frame, Forged> {
    let (mac, body) = bytes.split_at_checked(MAC_BYTES).ok_or(Forged)?;
    if !bool::from(key.mac(&[body]).ct_eq(mac)) {
        return Err(Forged);
    }
    Ok(understood(body).unwrap_or(Frame::ReadTheLog))
}

/// None: it is of a newer release, or a batch that tells too little.
fn understood(body: &[u8]) -> Option<Frame> {
    let body: Body = serde_json::from_slice(body).ok()?;
    let leaf = match body.leaf {
        None => None,
        Some(text) => Some(hex::decode(text).ok()?.try_into().ok()?),
    };
    let tag = Tag { log_id: body.log_id, timeline: body.timeline };
    (body.version == VERSION).then_some(())?;
    Some(match body.said {
        Said::Acknowledgement { replica, applied } => {
            Frame::Acknowledgement(Acknowledgement { replica: ReplicaId(replica), tag, applied, leaf })
        }
        Said::Batch { from, to, overthrown } => {
            let overthrown = overthrown?.into_iter().map(|(at, what)| (at, what.into())).collect();
            Frame::Batch(Message { tag, from, to, leaf, overthrown })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key::from_bytes([3; 32]);

    fn tag() -> Tag {
        Tag { log_id: Uuid::from_u128(7), timeline: "00000002".to_owned() }
    }

    /// One that overthrows one of each kind.
    fn message() -> Message {
        let of = |dependency| Invalidation::Of(dependency);
        let overthrown = [
            of(Dependency::User(UserId::new())),
            of(Dependency::Session(SessionId::new())),
            of(Dependency::Token(TokenId::new())),
            of(Dependency::Member(MemberId::of(WorkspaceId::new(), UserId::new()))),
            of(Dependency::Workspace(WorkspaceId::new())),
            Invalidation::Everything,
        ];
        let overthrown = overthrown.into_iter().zip(4..).map(|(what, at)| (Position(at), what)).collect();
        Message { tag: tag(), from: Position(4), to: Position(9), leaf: Some([9; 32]), overthrown }
    }

    fn acknowledgement() -> Acknowledgement {
        let replica = ReplicaId(Uuid::from_u128(1));
        Acknowledgement { replica, tag: tag(), applied: Position(9), leaf: None }
    }

    #[test]
    fn what_is_said_is_heard() {
        let message = message();
        assert_eq!(read(&KEY, &batch(&KEY, &message)), Ok(Frame::Batch(message)));
        let told = acknowledgement();
        assert_eq!(read(&KEY, &super::acknowledgement(&KEY, &told)), Ok(Frame::Acknowledgement(told)));
    }

    #[test]
    fn what_overthrows_nothing_moves_the_position_all_the_same() {
        let empty = Message { overthrown: vec![(Position(5), Invalidation::Nothing)], ..message() };
        let heard = Message { overthrown: vec![], ..empty.clone() };
        assert_eq!(read(&KEY, &batch(&KEY, &empty)), Ok(Frame::Batch(heard)));
    }

    #[test]
    fn what_was_altered_anywhere_or_made_with_another_key_is_forged() {
        let bytes = batch(&KEY, &message());
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert_eq!(read(&KEY, &altered), Err(Forged), "byte {at}");
        }
        for cut in [0, 1, MAC_BYTES - 1, MAC_BYTES, bytes.len() - 1] {
            assert_eq!(read(&KEY, &bytes[..cut]), Err(Forged), "{cut} bytes");
        }
        assert_eq!(read(&KEY, &batch(&Key::from_bytes([4; 32]), &message())), Err(Forged));
    }

    #[test]
    fn a_batch_that_overthrows_too_much_is_read_from_the_log_and_small() {
        let many = |count: usize| {
            let one = |at: i64| (Position(at), Invalidation::Of(Dependency::Token(TokenId::new())));
            Message { overthrown: (4..).map(one).take(count).collect(), ..message() }
        };
        let most = many(OVERTHROWN_MAX);
        let bytes = batch(&KEY, &most);
        assert!(bytes.len() < 256 * 1024, "{} bytes", bytes.len());
        assert_eq!(read(&KEY, &bytes), Ok(Frame::Batch(most)));
        let bytes = batch(&KEY, &many(OVERTHROWN_MAX + 1));
        assert!(bytes.len() < 1024, "{} bytes", bytes.len());
        assert_eq!(read(&KEY, &bytes), Ok(Frame::ReadTheLog));
    }

    #[test]
    fn what_a_newer_release_says_is_read_from_the_log() {
        let said = |body: serde_json::Value| {
            let body = serde_json::to_vec(&body).unwrap();
            read(&KEY, &[&KEY.mac(&[&body])[..], &body].concat())
        };
        let known = |version: u8, kind: &str, what: &str| {
            serde_json::json!({
                "version": version, "log_id": Uuid::nil(), "timeline": "00000001", "leaf": null,
                "kind": kind, "from": 1, "to": 1, "overthrown": [[1, { what: Uuid::nil() }]],
            })
        };
        assert!(matches!(said(known(1, "batch", "token")), Ok(Frame::Batch(_))));
        for body in [known(2, "batch", "token"), known(1, "whatever", "token"), known(1, "batch", "agent")] {
            assert_eq!(said(body), Ok(Frame::ReadTheLog));
        }
    }
}
