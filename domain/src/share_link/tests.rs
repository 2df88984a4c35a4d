use rstest::rstest;
use tally_events::{UserId, member::RemovalReason};
use uuid::Uuid;

use super::*;
use crate::testing::{
    self, ADA, BOB, EVE, Fact, Given, WORKSPACE, acting, after, by, deleted, given, joined, logged_in,
    logged_out, member, opened, removed, role_changed,
};

const FIRST: ShareLinkId = ShareLinkId(Uuid::from_u128(0x5111));
const SECOND: ShareLinkId = ShareLinkId(Uuid::from_u128(0x5112));
const DAY: TimeDelta = TimeDelta::hours(24);

/// Ada owns the workspace, Bob is a member; Eve has an account.
fn team(then: impl IntoIterator<Item = Fact>) -> Given {
    let people = [ADA, BOB, EVE].into_iter().flat_map(logged_in);
    let roles = [joined(ADA, Role::Owner), joined(BOB, Role::Member)];
    given(people.chain([opened()]).chain(roles).chain(then))
}

fn created(max_uses: Option<u32>, replaces: Option<ShareLinkId>) -> ShareLinkCreated {
    ShareLinkCreated {
        workspace_id: WORKSPACE,
        code: Personal::clear("c0de"),
        role: Role::Member,
        expires_at: Some(after(DAY)),
        max_uses,
        replaces,
    }
}

fn link(max_uses: Option<u32>) -> Fact {
    testing::fact(FIRST, created(max_uses, None))
}

fn used(user_id: UserId) -> ShareLinkUsed {
    ShareLinkUsed { workspace_id: WORKSPACE, user_id }
}

fn revoked() -> ShareLinkRevoked {
    ShareLinkRevoked { workspace_id: WORKSPACE }
}

fn create(actor: UserId, role: Role, holder: Option<ShareLinkId>) -> CreateShareLink {
    let request = ShareLinkRequest::new(Some(24), Some(3)).unwrap();
    let link = if holder.is_some() { SECOND } else { FIRST };
    CreateShareLink {
        insider: acting(actor).within(WORKSPACE),
        link,
        code: Plaintext::new("c0de"),
        role,
        request,
        holder,
    }
}

const JOIN: JoinByShareLink = JoinByShareLink { insider: acting(EVE).within(WORKSPACE), link: FIRST };

fn came_in() -> [(StreamId, Event); 2] {
    let admission = Admission::ShareLink(FIRST);
    let joined = MemberJoined { workspace_id: WORKSPACE, user_id: EVE, role: Role::Member, admission };
    [(FIRST.into(), used(EVE).into()), (member(EVE).into(), joined.into())]
}

#[test]
fn an_admin_makes_a_link() {
    let story = team([]).by(by(ADA));
    let event = created(Some(3), None);
    story.when(&create(ADA, Role::Member, None)).then(Some(after(DAY)), [(FIRST.into(), event.into())]);
}

#[test]
fn a_new_link_revokes_the_one_before() {
    let story = team([link(None)]).by(by(ADA));
    let events = [(FIRST.into(), revoked().into()), (SECOND.into(), created(Some(3), Some(FIRST)).into())];
    story.when(&create(ADA, Role::Member, Some(FIRST))).then(Some(after(DAY)), events);
    let story = team([link(None), testing::fact(FIRST, revoked())]).by(by(ADA));
    let events = [(SECOND.into(), created(Some(3), Some(FIRST)).into())];
    story.when(&create(ADA, Role::Member, Some(FIRST))).then(Some(after(DAY)), events);
}

#[test]
fn a_member_makes_none_and_nobody_makes_one_for_owners() {
    let story = team([]).by(by(BOB));
    story.when(&create(BOB, Role::Member, None)).refused(WorkspaceRefusal::RoleTooLow);
    let story = team([]).by(by(ADA));
    story.when(&create(ADA, Role::Owner, None)).refused(WorkspaceRefusal::RoleTooLow);
}

#[test]
fn whoever_knows_the_code_comes_in() {
    let last = DAY - TimeDelta::microseconds(1);
    team([link(None)]).by(by(EVE)).at(last).when(&JOIN).then((), came_in());
}

#[test]
fn the_last_use_is_the_last() {
    let once_used = [link(Some(2)), testing::fact(FIRST, used(BOB))];
    team(once_used.clone()).by(by(EVE)).when(&JOIN).then((), came_in());
    let twice_used = once_used.into_iter().chain([testing::fact(FIRST, used(ADA))]);
    team(twice_used).by(by(EVE)).when(&JOIN).refused(WorkspaceRefusal::ShareLinkNotFound);
}

#[rstest]
#[case::expired(vec![link(None)], DAY, WorkspaceRefusal::ShareLinkNotFound)]
#[case::revoked(vec![link(None), testing::fact(FIRST, revoked())], TimeDelta::zero(), WorkspaceRefusal::ShareLinkNotFound)]
#[case::unknown(vec![], TimeDelta::zero(), WorkspaceRefusal::ShareLinkNotFound)]
#[case::deleted(vec![link(None), deleted()], TimeDelta::zero(), WorkspaceRefusal::ShareLinkNotFound)]
#[case::in_already(vec![link(None), joined(EVE, Role::Member)], TimeDelta::zero(), WorkspaceRefusal::AlreadyMember)]
#[case::logged_out(vec![link(None), logged_out(EVE)], TimeDelta::zero(), WorkspaceRefusal::CredentialEnded)]
fn otherwise_nobody_comes_in(
    #[case] then: Vec<Fact>,
    #[case] at: TimeDelta,
    #[case] refusal: WorkspaceRefusal,
) {
    team(then).by(by(EVE)).at(at).when(&JOIN).refused(refusal);
}

/// Whoever was put out, or given less, does not come back by what they knew before.
#[rstest]
#[case::removed(vec![joined(EVE, Role::Member), removed(EVE, RemovalReason::Removed).into()])]
#[case::demoted(vec![
    joined(EVE, Role::Admin), role_changed(EVE, Role::Member).into(), removed(EVE, RemovalReason::Left).into(),
])]
fn a_link_from_before_lets_nobody_back_in(#[case] then: Vec<Fact>) {
    let story = team([link(None)].into_iter().chain(then.clone())).by(by(EVE));
    story.when(&JOIN).refused(WorkspaceRefusal::ShareLinkNotFound);
    team(then.into_iter().chain([link(None)])).by(by(EVE)).when(&JOIN).then((), came_in());
}

#[rstest]
#[case::left(vec![joined(EVE, Role::Member), removed(EVE, RemovalReason::Left).into()])]
#[case::promoted(vec![
    joined(EVE, Role::Member), role_changed(EVE, Role::Admin).into(), removed(EVE, RemovalReason::Left).into(),
])]
fn whoever_left_may_come_back(#[case] then: Vec<Fact>) {
    team([link(None)].into_iter().chain(then)).by(by(EVE)).when(&JOIN).then((), came_in());
}

#[test]
fn a_link_is_revoked_once_and_only_in_its_workspace() {
    let revoke = RevokeShareLink { insider: acting(ADA).within(WORKSPACE), link: FIRST };
    team([link(None)]).by(by(ADA)).when(&revoke).then((), [(FIRST.into(), revoked().into())]);
    team([link(None), testing::fact(FIRST, revoked())]).by(by(ADA)).when(&revoke).unchanged(());
    let elsewhere = ShareLinkCreated { workspace_id: WorkspaceId(Uuid::from_u128(1)), ..created(None, None) };
    let story = team([testing::fact(FIRST, elsewhere)]).by(by(ADA));
    story.when(&revoke).refused(WorkspaceRefusal::ShareLinkNotFound);
}

#[rstest]
#[case(Some(0), None, ShareLinkRequestError::LifetimeOutOfRange)]
#[case(Some(LIFETIME_HOURS_MAX + 1), None, ShareLinkRequestError::LifetimeOutOfRange)]
#[case(None, Some(0), ShareLinkRequestError::UsesOutOfRange)]
#[case(None, Some(USES_MAX + 1), ShareLinkRequestError::UsesOutOfRange)]
fn what_is_out_of_range_is_refused(
    #[case] hours: Option<i64>,
    #[case] uses: Option<i64>,
    #[case] error: ShareLinkRequestError,
) {
    assert_eq!(ShareLinkRequest::new(hours, uses), Err(error));
}
