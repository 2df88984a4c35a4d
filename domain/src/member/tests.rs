use rstest::rstest;
use uuid::Uuid;

use super::*;
use crate::testing::{
    ADA, BOB, EVE, Fact, Given, WORKSPACE, acting, by, deleted, given, joined, logged_in, logged_out, opened,
    removed, role_changed,
};

/// A second owner.
const ZOE: UserId = UserId(Uuid::from_u128(0x20E));

/// Ada and Zoe own the workspace, Bob administers it, Eve is a member.
fn team(then: impl IntoIterator<Item = Fact>) -> Given {
    let people = [ADA, ZOE, BOB, EVE].into_iter().flat_map(logged_in);
    let roles = [(ADA, Role::Owner), (ZOE, Role::Owner), (BOB, Role::Admin), (EVE, Role::Member)];
    given(people.chain([opened()]).chain(roles.map(|(user, role)| joined(user, role))).chain(then))
}

fn fact(event: (StreamId, Event)) -> Fact {
    event.into()
}

fn change(actor: UserId, user: UserId, role: Role, witness: Option<UserId>) -> ChangeRole {
    ChangeRole { insider: acting(actor).within(WORKSPACE), target: Target { user, witness }, role }
}

fn remove(actor: UserId, user: UserId, witness: Option<UserId>) -> RemoveMember {
    RemoveMember { insider: acting(actor).within(WORKSPACE), target: Target { user, witness } }
}

fn leave(user: UserId, witness: Option<UserId>) -> LeaveWorkspace {
    LeaveWorkspace { insider: acting(user).within(WORKSPACE), witness }
}

/// owner > admin > member, and only an owner has to do with owners.
#[rstest]
#[case(ADA, EVE, Role::Admin, true)]
#[case(ADA, EVE, Role::Owner, true)]
#[case(ADA, ZOE, Role::Member, true)]
#[case(BOB, EVE, Role::Admin, true)]
#[case(BOB, BOB, Role::Member, true)]
#[case(BOB, EVE, Role::Owner, false)]
#[case(BOB, ZOE, Role::Admin, false)]
#[case(EVE, BOB, Role::Member, false)]
#[case(EVE, EVE, Role::Admin, false)]
fn who_may_change_a_role(
    #[case] actor: UserId,
    #[case] user: UserId,
    #[case] role: Role,
    #[case] allowed: bool,
) {
    let then = team([]).by(by(actor)).when(&change(actor, user, role, Some(ADA)));
    if allowed {
        then.then((), [role_changed(user, role)]);
    } else {
        then.refused(WorkspaceRefusal::RoleTooLow);
    }
}

#[test]
fn the_role_somebody_has_is_no_change() {
    team([]).by(by(ADA)).when(&change(ADA, EVE, Role::Member, None)).unchanged(());
}

#[rstest]
#[case::no_other_owner_is_known(None, WorkspaceRefusal::LastOwner)]
#[case::an_owner_is_no_witness_of_their_own(Some(ADA), WorkspaceRefusal::LastOwner)]
#[case::the_witness_is_no_owner(Some(BOB), WorkspaceRefusal::WitnessGone)]
#[case::the_witness_is_not_in(Some(UserId(Uuid::from_u128(9))), WorkspaceRefusal::WitnessGone)]
fn without_another_owner_none_goes(#[case] witness: Option<UserId>, #[case] refusal: WorkspaceRefusal) {
    let story = team([]).by(by(ADA));
    let refusals = [
        story.when(&change(ADA, ADA, Role::Admin, witness)).refusal(),
        story.when(&remove(ADA, ADA, witness)).refusal(),
        story.when(&leave(ADA, witness)).refusal(),
    ];
    assert!(refusals.iter().all(|found| *found == refusal), "{refusals:?}");
}

/// Two owners who demote each other: whoever comes second finds the witness gone.
#[test]
fn a_witness_who_was_demoted_meanwhile_shows_nothing() {
    let story = team([fact(role_changed(ZOE, Role::Member))]).by(by(ADA));
    story.when(&leave(ADA, Some(ZOE))).refused(WorkspaceRefusal::WitnessGone);
    let story = team([fact(removed(ZOE, RemovalReason::Left))]).by(by(ADA));
    story.when(&leave(ADA, Some(ZOE))).refused(WorkspaceRefusal::WitnessGone);
}

#[rstest]
#[case(ADA, ZOE, true)]
#[case(ADA, BOB, true)]
#[case(BOB, EVE, true)]
#[case(BOB, BOB, true)]
#[case(BOB, ADA, false)]
#[case(EVE, BOB, false)]
#[case(EVE, EVE, false)]
fn who_may_remove_a_member(#[case] actor: UserId, #[case] user: UserId, #[case] allowed: bool) {
    let then = team([]).by(by(actor)).when(&remove(actor, user, Some(ADA)));
    if allowed {
        then.then((), [removed(user, RemovalReason::Removed)]);
    } else {
        then.refused(WorkspaceRefusal::RoleTooLow);
    }
}

#[test]
fn whoever_is_not_in_is_not_found() {
    let story = team([fact(removed(EVE, RemovalReason::Left))]).by(by(ADA));
    story.when(&remove(ADA, EVE, None)).refused(WorkspaceRefusal::MemberNotFound);
    story.when(&change(ADA, EVE, Role::Admin, None)).refused(WorkspaceRefusal::MemberNotFound);
}

#[rstest]
#[case(EVE, None)]
#[case(BOB, None)]
#[case(ADA, Some(ZOE))]
fn anybody_may_leave_while_an_owner_remains(#[case] user: UserId, #[case] witness: Option<UserId>) {
    team([]).by(by(user)).when(&leave(user, witness)).then((), [removed(user, RemovalReason::Left)]);
}

#[rstest]
#[case::left(vec![fact(removed(BOB, RemovalReason::Left))], WorkspaceRefusal::NotFound)]
#[case::deleted(vec![deleted()], WorkspaceRefusal::NotFound)]
#[case::logged_out(vec![logged_out(BOB)], WorkspaceRefusal::CredentialEnded)]
fn what_happened_meanwhile_counts(#[case] then: Vec<Fact>, #[case] refusal: WorkspaceRefusal) {
    let story = team(then).by(by(BOB));
    assert_eq!(story.when(&remove(BOB, EVE, None)).refusal(), refusal);
    assert_eq!(story.when(&leave(BOB, None)).refusal(), refusal);
}

#[test]
fn who_comes_back_is_a_new_member_in_the_old_place() {
    let facts =
        [joined(EVE, Role::Admin), fact(removed(EVE, RemovalReason::Left)), joined(EVE, Role::Member)];
    let mut state = Member::INITIAL;
    for recorded in crate::testing::log(facts) {
        state.evolve(&recorded);
    }
    let joined = state.joined.unwrap();
    assert_eq!((joined.role, joined.position), (Role::Member, Position(3)));
}

/// The store waits for every replica, also when it was already so.
#[test]
fn success_asserts_a_revocation() {
    const { assert!(ChangeRole::REVOKES && RemoveMember::REVOKES && LeaveWorkspace::REVOKES) };
}
