use rstest::rstest;
use tally_events::UserId;
use uuid::Uuid;

use super::*;
use crate::testing::{
    ADA, BOB, EVE, Fact, Given, WORKSPACE, acting, by, deleted, given, joined, logged_in, logged_out, member,
    opened, suspended,
};

const OTHER: WorkspaceId = WorkspaceId(Uuid::from_u128(0x3038));

/// Ada owns the workspace, Bob administers it, Eve is a member.
fn team(then: impl IntoIterator<Item = Fact>) -> Given {
    let people = [ADA, BOB, EVE].into_iter().flat_map(logged_in);
    let roles = [(ADA, Role::Owner), (BOB, Role::Admin), (EVE, Role::Member)];
    given(people.chain([opened()]).chain(roles.map(|(user, role)| joined(user, role))).chain(then))
}

fn create(holder: Option<WorkspaceId>) -> CreateWorkspace {
    let fields = WorkspaceFields {
        name: Some("Other".to_owned()),
        issue_prefix: Some("OTHE".to_owned()),
        description: Some(String::new()),
        settings: Some("{}".to_owned()),
        ..WorkspaceFields::default()
    };
    let slug = Slug::parse("other").unwrap();
    CreateWorkspace { person: acting(ADA), workspace: OTHER, slug, fields, holder }
}

fn created(replaces: Option<WorkspaceId>) -> [(StreamId, Event); 2] {
    let workspace = WorkspaceCreated {
        slug: Personal::clear("other"),
        name: Personal::clear("Other"),
        issue_prefix: Personal::clear("OTHE"),
        description: None,
        context: None,
        settings: Some(Personal::clear("{}")),
        repos: None,
        avatar_url: None,
        replaces,
    };
    let admission = Admission::Creation;
    let owner = MemberJoined { workspace_id: OTHER, user_id: ADA, role: Role::Owner, admission };
    [(OTHER.into(), workspace.into()), (MemberId::of(OTHER, ADA).into(), owner.into())]
}

#[test]
fn who_opens_a_workspace_owns_it() {
    given(logged_in(ADA)).by(by(ADA)).when(&create(None)).then((), created(None));
}

#[test]
fn a_slug_in_use_is_taken() {
    team([]).by(by(ADA)).when(&create(Some(WORKSPACE))).refused(WorkspaceRefusal::SlugTaken);
}

#[test]
fn the_slug_of_a_deleted_workspace_may_be_had_again() {
    team([deleted()]).by(by(ADA)).when(&create(Some(WORKSPACE))).then((), created(Some(WORKSPACE)));
}

#[rstest]
#[case::ended(vec![logged_out(ADA)])]
#[case::suspended(vec![suspended()])]
fn a_credential_that_is_not_good_opens_none(#[case] then: Vec<Fact>) {
    let story = given(logged_in(ADA).into_iter().chain(then)).by(by(ADA));
    story.when(&create(None)).refused(WorkspaceRefusal::CredentialEnded);
}

#[test]
fn nobody_opens_one_in_anothers_name() {
    given([ADA, EVE].into_iter().flat_map(logged_in))
        .by(by(EVE))
        .when(&create(None))
        .refused(WorkspaceRefusal::CredentialEnded);
}

fn rename(user: UserId) -> ChangeWorkspace {
    let fields = WorkspaceFields { name: Some("New".to_owned()), ..WorkspaceFields::default() };
    ChangeWorkspace { insider: acting(user).within(WORKSPACE), fields }
}

#[rstest]
#[case(ADA)]
#[case(BOB)]
fn owner_and_admin_change_a_workspace(#[case] user: UserId) {
    let changed = WorkspaceChanged { name: Some(Personal::clear("New")), ..WorkspaceChanged::default() };
    team([]).by(by(user)).when(&rename(user)).then((), [(WORKSPACE.into(), changed.into())]);
}

#[test]
fn a_change_of_nothing_is_none() {
    let fields = WorkspaceFields::default();
    let nothing = ChangeWorkspace { insider: acting(ADA).within(WORKSPACE), fields };
    team([]).by(by(ADA)).when(&nothing).unchanged(());
}

#[rstest]
#[case::a_member(EVE, vec![], WorkspaceRefusal::RoleTooLow)]
#[case::demoted_meanwhile(BOB, vec![crate::testing::role_changed(BOB, Role::Member).into()], WorkspaceRefusal::RoleTooLow)]
#[case::removed_meanwhile(BOB, vec![crate::testing::removed(BOB, tally_events::member::RemovalReason::Removed).into()], WorkspaceRefusal::NotFound)]
#[case::deleted_meanwhile(ADA, vec![deleted()], WorkspaceRefusal::NotFound)]
#[case::logged_out_meanwhile(ADA, vec![logged_out(ADA)], WorkspaceRefusal::CredentialEnded)]
fn others_change_nothing(#[case] user: UserId, #[case] then: Vec<Fact>, #[case] refusal: WorkspaceRefusal) {
    team(then).by(by(user)).when(&rename(user)).refused(refusal);
}

#[test]
fn a_stranger_finds_no_workspace() {
    let stranger = UserId(Uuid::from_u128(7));
    let story = team(logged_in(stranger)).by(by(stranger));
    story.when(&rename(stranger)).refused(WorkspaceRefusal::NotFound);
}

#[rstest]
#[case(ADA, None)]
#[case(BOB, Some(WorkspaceRefusal::RoleTooLow))]
#[case(EVE, Some(WorkspaceRefusal::RoleTooLow))]
fn only_an_owner_deletes_it(#[case] user: UserId, #[case] refusal: Option<WorkspaceRefusal>) {
    let delete = DeleteWorkspace { insider: acting(user).within(WORKSPACE) };
    let then = team([]).by(by(user)).when(&delete);
    match refusal {
        Some(refusal) => then.refused(refusal),
        None => then.then((), [(WORKSPACE.into(), WorkspaceDeleted {}.into())]),
    }
}

#[test]
fn nobody_is_in_a_deleted_workspace() {
    let mut reads: Vec<StreamId> = [ADA, BOB, EVE].map(|user| member(user).into()).to_vec();
    reads.push(WORKSPACE.into());
    let facts = [opened(), joined(ADA, Role::Owner), deleted()];
    let world = World::given(&reads, &crate::testing::log(facts));
    assert_eq!(world.role_in(WORKSPACE, ADA), None);
}
