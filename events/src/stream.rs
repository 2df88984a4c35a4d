//! Streams: what each is the history of.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use crate::ids::{
    InvitationId, LoginId, MemberId, SessionId, ShareLinkId, TokenId, UserId, WorkspaceId, parse_hyphenated,
};

/// The table of stream kinds: the kind, its id, its facts, and its word, which is stored in
/// `stream.kind` and begins the name of each of its events. A new kind is one row here, and one file
/// with its facts.
macro_rules! for_each_kind {
    ($then:ident) => {
        $then! {
            User(UserId, UserEvent) "user";
            Login(LoginId, LoginEvent) "login";
            Session(SessionId, SessionEvent) "session";
            Token(TokenId, TokenEvent) "token";
            Workspace(WorkspaceId, WorkspaceEvent) "workspace";
            Member(MemberId, MemberEvent) "member";
            Invitation(InvitationId, InvitationEvent) "invitation";
            ShareLink(ShareLinkId, ShareLinkEvent) "share_link";
        }
    };
}
pub(crate) use for_each_kind;

macro_rules! streams {
    ($($kind:ident($id:ident, $facts:ident) $word:literal;)*) => {
        /// A stream, named by what it is the history of.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum StreamId {
            $($kind($id),)*
        }

        /// The kinds of stream, as stored in `stream.kind` and as the first word of every event name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum StreamKind {
            $($kind,)*
        }

        impl StreamKind {
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)*
                }
            }

            #[must_use]
            pub const fn stream(self, id: Uuid) -> StreamId {
                match self {
                    $(Self::$kind => StreamId::$kind($id(id)),)*
                }
            }
        }

        impl StreamId {
            #[must_use]
            pub const fn kind(self) -> StreamKind {
                match self {
                    $(Self::$kind(_) => StreamKind::$kind,)*
                }
            }

            #[must_use]
            pub const fn uuid(self) -> Uuid {
                match self {
                    $(Self::$kind(id) => id.0,)*
                }
            }
        }

        $(impl From<$id> for StreamId {
            fn from(id: $id) -> Self {
                Self::$kind(id)
            }
        })*

        impl FromStr for StreamKind {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$kind),)*
                    other => Err(format!("unknown stream kind `{other}`")),
                }
            }
        }
    };
}
for_each_kind!(streams);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind().as_str(), self.uuid())
    }
}

impl FromStr for StreamId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, id) = text.split_once(':').ok_or("a stream is written `kind:uuid`")?;
        let id = parse_hyphenated(id).map_err(|error| error.to_string())?;
        Ok(kind.parse::<StreamKind>()?.stream(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_prints_and_reads_back() {
        let stream = StreamId::Token(TokenId::new());
        assert_eq!(stream.to_string().parse(), Ok(stream));
    }
}
