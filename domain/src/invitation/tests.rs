use rstest::rstest;
use tally_events::member::RemovalReason;
use uuid::Uuid;

use super::*;
use crate::testing::{
    self, ADA, BOB, EVE, Fact, Given, WORKSPACE, acting, after, by, deleted, given, joined, logged_in,
    logged_out, member, opened, removed,
};

const FIRST: InvitationId = InvitationId(Uuid::from_u128(0x1171));
const SECOND: InvitationId = InvitationId(Uuid::from_u128(0x1172));

/// Ada owns the workspace, Bob administers it; Eve has an account.
fn team(then: impl IntoIterator<Item = Fact>) -> Given {
    let people = [ADA, BOB, EVE].into_iter().flat_map(logged_in);
    let roles = [joined(ADA, Role::Owner), joined(BOB, Role::Admin)];
    given(people.chain([opened()]).chain(roles).chain(then))
}

fn created(replaces: Option<InvitationId>) -> InvitationCreated {
    InvitationCreated {
        workspace_id: WORKSPACE,
        inviter_id: ADA,
        email: Personal::clear("eve@example.org"),
        invitee_user_id: Some(EVE),
        role: Role::Admin,
        expires_at: after(INVITATION_LIFETIME),
        replaces,
    }
}

fn invited() -> Fact {
    testing::fact(FIRST, created(None))
}

fn answered(event: impl Into<Event>) -> Fact {
    testing::fact(FIRST, event)
}

fn accepted() -> InvitationAccepted {
    InvitationAccepted { workspace_id: WORKSPACE, user_id: EVE }
}

fn declined() -> InvitationDeclined {
    InvitationDeclined { workspace_id: WORKSPACE, user_id: EVE }
}

fn revoked() -> InvitationRevoked {
    InvitationRevoked { workspace_id: WORKSPACE }
}

fn invite(actor: UserId, role: Role, holder: Option<InvitationId>) -> Invite {
    let email = EmailAddress::parse("eve@example.org").unwrap();
    let invitation = if holder.is_some() { SECOND } else { FIRST };
    Invite { insider: acting(actor).within(WORKSPACE), invitation, email, role, invitee: Some(EVE), holder }
}

const ACCEPT: AcceptInvitation =
    AcceptInvitation { insider: acting(EVE).within(WORKSPACE), invitation: FIRST };
const DECLINE: DeclineInvitation = DeclineInvitation { person: acting(EVE), invitation: FIRST };

fn revoke(actor: UserId) -> RevokeInvitation {
    RevokeInvitation { insider: acting(actor).within(WORKSPACE), invitation: FIRST }
}

#[test]
fn an_admin_invites_for_a_week() {
    let story = team([]).by(by(ADA));
    let event = created(None);
    story
        .when(&invite(ADA, Role::Admin, None))
        .then(after(INVITATION_LIFETIME), [(FIRST.into(), event.into())]);
}

#[test]
fn a_member_invites_nobody_and_nobody_invites_an_owner() {
    let story = team([joined(EVE, Role::Member)]).by(by(EVE));
    story.when(&invite(EVE, Role::Member, None)).refused(WorkspaceRefusal::RoleTooLow);
    let story = team([]).by(by(ADA));
    story.when(&invite(ADA, Role::Owner, None)).refused(WorkspaceRefusal::RoleTooLow);
}

#[test]
fn a_member_is_not_invited_again() {
    let story = team([joined(EVE, Role::Member)]).by(by(ADA));
    story.when(&invite(ADA, Role::Admin, None)).refused(WorkspaceRefusal::AlreadyMember);
}

#[test]
fn nobody_invites_themselves() {
    let own = Invite { invitee: Some(ADA), ..invite(ADA, Role::Admin, None) };
    team([]).by(by(ADA)).when(&own).refused(WorkspaceRefusal::AlreadyMember);
}

#[test]
fn an_address_has_one_pending_invitation() {
    let story = team([invited()]).by(by(ADA));
    story.when(&invite(ADA, Role::Admin, Some(FIRST))).refused(WorkspaceRefusal::AlreadyInvited);
}

/// Eve, who came in by a link while she was invited, is put out: she is not in by the invitation from
/// before, and may be invited again.
#[test]
fn an_invitation_from_before_lets_nobody_back_in() {
    let put_out = [joined(EVE, Role::Member), removed(EVE, RemovalReason::Removed).into()];
    let story = team([invited()].into_iter().chain(put_out));
    story.by(by(EVE)).when(&ACCEPT).refused(WorkspaceRefusal::InvitationNotPending);
    let put_out = [joined(EVE, Role::Member), removed(EVE, RemovalReason::Removed).into()];
    let story = team([invited()].into_iter().chain(put_out));
    let event = created(Some(FIRST));
    story
        .by(by(ADA))
        .when(&invite(ADA, Role::Admin, Some(FIRST)))
        .then(after(INVITATION_LIFETIME), [(SECOND.into(), event.into())]);
}

#[rstest]
#[case::expired(vec![], INVITATION_LIFETIME)]
#[case::declined(vec![answered(declined())], TimeDelta::zero())]
#[case::revoked(vec![answered(revoked())], TimeDelta::zero())]
#[case::accepted_and_gone(vec![answered(accepted())], TimeDelta::zero())]
fn one_that_is_over_is_replaced(#[case] then: Vec<Fact>, #[case] at: TimeDelta) {
    let story = team([vec![invited()], then].concat()).by(by(ADA)).at(at);
    let expires_at = after(at + INVITATION_LIFETIME);
    let event = InvitationCreated { expires_at, ..created(Some(FIRST)) };
    story.when(&invite(ADA, Role::Admin, Some(FIRST))).then(expires_at, [(SECOND.into(), event.into())]);
}

#[test]
fn whoever_accepts_is_in_with_the_role_that_was_offered() {
    let admission = Admission::Invitation(FIRST);
    let joined = MemberJoined { workspace_id: WORKSPACE, user_id: EVE, role: Role::Admin, admission };
    let events = [(FIRST.into(), accepted().into()), (member(EVE).into(), joined.into())];
    let last = INVITATION_LIFETIME - TimeDelta::microseconds(1);
    team([invited()]).by(by(EVE)).at(last).when(&ACCEPT).then((), events);
}

#[test]
fn whoever_came_in_by_another_way_keeps_their_role() {
    let story = team([invited(), joined(EVE, Role::Member)]).by(by(EVE));
    story.when(&ACCEPT).then((), [(FIRST.into(), accepted().into())]);
}

#[test]
fn whoever_declines_stays_out() {
    team([invited()]).by(by(EVE)).when(&DECLINE).then((), [(FIRST.into(), declined().into())]);
}

#[rstest]
#[case::accepted(vec![answered(accepted())], TimeDelta::zero(), WorkspaceRefusal::InvitationNotPending)]
#[case::declined(vec![answered(declined())], TimeDelta::zero(), WorkspaceRefusal::InvitationNotPending)]
#[case::revoked(vec![answered(revoked())], TimeDelta::zero(), WorkspaceRefusal::InvitationNotPending)]
#[case::expired(vec![], INVITATION_LIFETIME, WorkspaceRefusal::InvitationExpired)]
#[case::revoked_and_expired(vec![answered(revoked())], INVITATION_LIFETIME, WorkspaceRefusal::InvitationNotPending)]
#[case::logged_out(vec![logged_out(EVE)], TimeDelta::zero(), WorkspaceRefusal::CredentialEnded)]
fn what_is_over_is_answered_no_more(
    #[case] then: Vec<Fact>,
    #[case] at: TimeDelta,
    #[case] refusal: WorkspaceRefusal,
) {
    let story = team([vec![invited()], then].concat()).by(by(EVE)).at(at);
    assert_eq!(story.when(&ACCEPT).refusal(), refusal);
    assert_eq!(story.when(&DECLINE).refusal(), refusal);
}

#[test]
fn nobody_comes_into_a_deleted_workspace_or_by_an_invitation_into_another() {
    let story = team([invited(), deleted()]).by(by(EVE));
    story.when(&ACCEPT).refused(WorkspaceRefusal::InvitationNotFound);
    let elsewhere = acting(EVE).within(WorkspaceId(Uuid::from_u128(1)));
    let story = team([invited()]).by(by(EVE));
    story
        .when(&AcceptInvitation { insider: elsewhere, ..ACCEPT })
        .refused(WorkspaceRefusal::InvitationNotFound);
}

#[test]
fn nobody_accepts_in_anothers_name() {
    team([invited()]).by(by(BOB)).when(&ACCEPT).refused(WorkspaceRefusal::CredentialEnded);
}

#[test]
fn an_admin_takes_an_invitation_back_once() {
    team([invited()]).by(by(BOB)).when(&revoke(BOB)).then((), [(FIRST.into(), revoked().into())]);
    team([invited(), answered(revoked())]).by(by(BOB)).when(&revoke(BOB)).unchanged(());
    let story = team([invited(), answered(accepted())]).by(by(BOB));
    story.when(&revoke(BOB)).refused(WorkspaceRefusal::InvitationNotPending);
}

#[test]
fn an_invitation_of_another_workspace_is_not_found() {
    let other = WorkspaceId(Uuid::from_u128(1));
    let elsewhere = testing::fact(FIRST, InvitationCreated { workspace_id: other, ..created(None) });
    team([elsewhere]).by(by(ADA)).when(&revoke(ADA)).refused(WorkspaceRefusal::InvitationNotFound);
    team([]).by(by(ADA)).when(&revoke(ADA)).refused(WorkspaceRefusal::InvitationNotFound);
}
