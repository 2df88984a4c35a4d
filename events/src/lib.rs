//! Facts: what happened, how it is stored, and how personal data inside it is sealed.
//!
//! A fact is a value, its stored form is a function of it, and nothing here waits. There is one
//! exception to purity: `new()` of an [id](ids) reads the clock and draws dice. The constructors of
//! commands call it, at the edge and before any decision; deciders and folds never do.

pub mod actor;
mod event;
mod facts;
pub mod hidden;
pub mod ids;
pub mod invitation;
pub mod leaf;
pub mod login;
pub mod member;
pub mod personal;
pub mod position;
pub mod public;
pub mod recorded;
pub mod seal;
pub mod session;
pub mod share_link;
pub mod stream;
pub mod token;
pub mod upcast;
pub mod user;
pub mod workspace;

pub use actor::{Actor, ActorKind, CredentialId};
pub use event::{DecodeError, Event};
pub use hidden::Hidden;
pub use ids::{
    CodeId, CommandId, InvitationId, LoginId, MemberId, RequestId, SessionId, ShareLinkId, TokenId, UserId,
    WorkspaceId,
};
pub use invitation::InvitationEvent;
pub use login::LoginEvent;
pub use member::{MemberEvent, Role};
pub use personal::Personal;
pub use position::{Position, Version};
pub use recorded::{Envelope, Recorded, Stored};
pub use seal::{Place, Sealed, Subject};
pub use session::SessionEvent;
pub use share_link::ShareLinkEvent;
pub use stream::{StreamId, StreamKind};
pub use token::TokenEvent;
pub use user::UserEvent;
pub use workspace::WorkspaceEvent;
