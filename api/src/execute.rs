//! From a principal and a command to its outcome: policy, the replica's door, the failure's words.

use std::convert::Infallible;

use tally_domain::{Command, Principal, authorize};
use tally_fanout::Done;
use tally_store::{CommitError, ExecuteError, KeyRingError, ReadError, RequestContext};

use crate::{
    error::{ApiError, Code},
    state::App,
};

/// Decisions on a claim that others race for: whoever loses finds the winner there, and decides on that.
pub(crate) const CLAIM_ATTEMPTS_MAX: usize = 3;

impl App {
    /// Executes a command for a principal. `refused` words the command's own rules.
    pub(crate) async fn execute<C: Command>(
        &self,
        principal: Principal,
        command: C,
        context: RequestContext,
        refused: impl FnOnce(C::Refusal) -> ApiError,
    ) -> Result<Done<C::Outcome>, ApiError> {
        let command = authorize(principal, command)?;
        self.replica.execute(&command, context).await.map_err(|error| failure(error, refused))
    }
}

/// The words for the refusal of a command that refuses nothing.
pub(crate) fn never(refusal: Infallible) -> ApiError {
    match refusal {}
}

/// The client's words for a command without success.
pub(crate) fn failure<R: std::error::Error + 'static>(
    error: ExecuteError<R>,
    refused: impl FnOnce(R) -> ApiError,
) -> ApiError {
    match error {
        ExecuteError::Refused(refusal) => refused(refusal),
        ExecuteError::Replayed { receipt, .. } => ApiError {
            existing: Some(receipt.to_string()),
            ..ApiError::new(
                Code::AlreadyExecuted,
                "this idempotency key was used before; what it made is shown by id, its secret never again",
            )
        },
        ExecuteError::KeyReused => {
            ApiError::new(Code::IdempotencyKeyReused, "this idempotency key was used with another body")
        }
        ExecuteError::Erased => ApiError::invalid_token(),
        // That this release may no longer write, the committer has told the operator once.
        ExecuteError::Contended
        | ExecuteError::ClaimTaken(_)
        | ExecuteError::Commit(CommitError::Outdated) => ApiError::unavailable(),
        ExecuteError::Commit(CommitError::Unavailable | CommitError::Unknown)
        | ExecuteError::Read(ReadError::Database(_))
        | ExecuteError::Keys(KeyRingError::Database(_)) => ApiError::database(&error),
        ExecuteError::Commit(_) | ExecuteError::Read(_) | ExecuteError::Keys(_) | ExecuteError::Encode(_) => {
            ApiError::internal(&error)
        }
    }
}
