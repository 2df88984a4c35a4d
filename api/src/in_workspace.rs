//! Requests in a workspace: the caller's place in it, found before anything else is done.

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};
use tally_domain::{
    Command, Insider, Membership, Person, authorize_within, policy::Act, workspace::WorkspaceRefusal,
};
use tally_events::WorkspaceId;
use tally_fanout::Done;
use tally_projections::members::find_membership;
use tally_store::{ExecuteError, RequestContext};

use crate::{
    error::{ApiError, Code},
    execute::failure,
    guard::Caller,
    state::App,
};

/// The parameter of a route that names its workspace.
const WORKSPACE: &str = "id";

/// The caller, as a member of the workspace that the path names.
#[derive(Clone, Copy, Debug)]
pub struct InWorkspace {
    pub caller: Caller,
    pub membership: Membership,
    pub insider: Insider,
}

impl FromRequestParts<App> for InWorkspace {
    type Rejection = ApiError;

    /// Whoever is not in a workspace is told what they would be told if it did not exist.
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, app).await?;
        // Whoever is no person is told that, whatever the path names.
        person(&caller)?;
        let parameters = RawPathParams::from_request_parts(parts, app).await;
        let named = parameters.ok().and_then(|named| {
            named
                .iter()
                .find(|(name, _)| *name == WORKSPACE)
                .and_then(|(_, id)| id.parse::<WorkspaceId>().ok())
        });
        let workspace = named.ok_or_else(|| ApiError::bad_request("invalid workspace_id"))?;
        Self::of(app, caller, workspace).await
    }
}

/// The person behind a request; workspaces are for people.
pub fn person(caller: &Caller) -> Result<Person, ApiError> {
    Person::of(&caller.principal).ok_or_else(|| {
        ApiError::insufficient_scope("a person's session or personal access token is required")
    })
}

impl InWorkspace {
    /// The caller in this workspace.
    pub async fn of(app: &App, caller: Caller, workspace: WorkspaceId) -> Result<Self, ApiError> {
        let person = person(&caller)?;
        let membership = find_membership(app.pool(), workspace, person.user).await?;
        let membership = membership.ok_or_else(|| refused(WorkspaceRefusal::NotFound))?;
        Ok(Self { caller, membership, insider: person.within(workspace) })
    }

    /// Policy for a query about the workspace.
    pub fn may<T: Act>(&self, query: T) -> Result<tally_domain::Authorized<T>, ApiError> {
        Ok(authorize_within(self.caller.principal, self.membership, query)?)
    }

    /// Executes a command as this member.
    pub async fn execute<C: Command<Refusal = WorkspaceRefusal>>(
        &self,
        app: &App,
        command: C,
    ) -> Result<Done<C::Outcome>, ApiError> {
        self.attempt(app, command, self.caller.context).await?.map_err(|error| failure(error, refused))
    }

    /// The same, for who knows what to do about some refusals.
    pub async fn attempt<C: Command<Refusal = WorkspaceRefusal>>(
        &self,
        app: &App,
        command: C,
        context: RequestContext,
    ) -> Result<Result<Done<C::Outcome>, ExecuteError<WorkspaceRefusal>>, ApiError> {
        let command = self.may(command)?;
        Ok(app.replica.execute(&command, context).await)
    }
}

/// The words of what is refused in a workspace.
pub fn refused(refusal: WorkspaceRefusal) -> ApiError {
    use WorkspaceRefusal as R;
    let words = refusal.to_string();
    match refusal {
        R::CredentialEnded => ApiError::invalid_token(),
        R::NotFound | R::MemberNotFound | R::InvitationNotFound | R::ShareLinkNotFound => {
            ApiError::missing(words)
        }
        R::RoleTooLow => ApiError::forbidden(words),
        R::SlugTaken | R::AlreadyMember | R::AlreadyInvited => ApiError::conflict(words),
        R::LastOwner | R::InvitationNotPending => ApiError::bad_request(words),
        R::InvitationExpired => ApiError::new(Code::Expired, words),
        // Others were quicker each time.
        R::WitnessGone | R::ShareLinkChanged => ApiError::unavailable(),
    }
}
