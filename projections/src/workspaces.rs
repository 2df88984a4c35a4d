//! `workspaces`: what is said of each. Inline, because nobody is in a deleted one.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use tally_domain::{Action, Authorized, policy::Act};
use tally_events::{
    Event, Personal, Recorded, WorkspaceEvent, WorkspaceId,
    workspace::{WorkspaceChanged, WorkspaceCreated},
};
use tally_store::{KeyRing, Projection};
use uuid::Uuid;

use crate::{
    by_id::ById,
    open::{Opened, open_rows, sealed},
    rows::Rows,
    users::QueryError,
};

/// Workspaces in one answer: the contract's list has no pages.
const WORKSPACES_MAX: i64 = 1000;

pub struct Workspaces;

#[async_trait]
impl Projection for Workspaces {
    fn name(&self) -> &'static str {
        "workspaces"
    }

    fn version(&self) -> i32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["workspaces"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["workspaces_pkey"]
    }

    async fn apply(&self, connection: &mut PgConnection, events: &[Recorded]) -> Result<(), sqlx::Error> {
        let mut workspaces = ById::<Workspace>::new();
        for recorded in events {
            let id = recorded.stream.uuid();
            let Event::Workspace(event) = &recorded.event else { continue };
            match event {
                WorkspaceEvent::Created(event) => {
                    workspaces.create(id).created = Some((event, recorded.recorded_at));
                }
                WorkspaceEvent::Changed(event) => workspaces.change(id).change(event, recorded.recorded_at),
                WorkspaceEvent::Deleted(_) => workspaces.change(id).deleted_at = Some(recorded.recorded_at),
            }
        }
        let mut created = Rows::new(
            "copy workspaces (id, slug, name, issue_prefix, description, context, settings, repos, avatar_url,
                              created_at, updated_at, deleted_at) from stdin (format binary)",
        );
        let mut changed = Changed::default();
        for (id, workspace) in workspaces.into_rows() {
            let Some((event, at)) = workspace.created else {
                changed.push(id, &workspace);
                continue;
            };
            created.push(&[
                &id,
                &event.slug,
                &workspace.name.unwrap_or(&event.name),
                &workspace.issue_prefix.unwrap_or(&event.issue_prefix),
                &workspace.description.or(event.description.as_ref()),
                &workspace.context.or(event.context.as_ref()),
                &workspace.settings.or(event.settings.as_ref()),
                &workspace.repos.or(event.repos.as_ref()),
                &workspace.avatar_url.or(event.avatar_url.as_ref()),
                &at,
                &workspace.updated_at.unwrap_or(at),
                &workspace.deleted_at,
            ]);
        }
        created.append(connection).await?;
        changed.update(connection).await
    }
}

/// What a run of events says of one workspace.
#[derive(Default)]
struct Workspace<'a> {
    created: Option<(&'a WorkspaceCreated, DateTime<Utc>)>,
    name: Option<&'a Personal>,
    issue_prefix: Option<&'a Personal>,
    description: Option<&'a Personal>,
    context: Option<&'a Personal>,
    settings: Option<&'a Personal>,
    repos: Option<&'a Personal>,
    avatar_url: Option<&'a Personal>,
    updated_at: Option<DateTime<Utc>>,
    deleted_at: Option<DateTime<Utc>>,
}

impl<'a> Workspace<'a> {
    fn change(&mut self, event: &'a WorkspaceChanged, at: DateTime<Utc>) {
        self.name = event.name.as_ref().or(self.name);
        self.issue_prefix = event.issue_prefix.as_ref().or(self.issue_prefix);
        self.description = event.description.as_ref().or(self.description);
        self.context = event.context.as_ref().or(self.context);
        self.settings = event.settings.as_ref().or(self.settings);
        self.repos = event.repos.as_ref().or(self.repos);
        self.avatar_url = event.avatar_url.as_ref().or(self.avatar_url);
        self.updated_at = Some(at);
    }
}

/// Changes to workspaces that were there before; what an absent value says nothing of stays.
#[derive(Default)]
struct Changed {
    ids: Vec<Uuid>,
    names: Vec<Option<String>>,
    issue_prefixes: Vec<Option<String>>,
    descriptions: Vec<Option<String>>,
    contexts: Vec<Option<String>>,
    settings: Vec<Option<String>>,
    repos: Vec<Option<String>>,
    avatar_urls: Vec<Option<String>>,
    updated_at: Vec<Option<DateTime<Utc>>>,
    deleted_at: Vec<Option<DateTime<Utc>>>,
}

impl Changed {
    fn push(&mut self, id: Uuid, workspace: &Workspace) {
        self.ids.push(id);
        self.names.push(workspace.name.and_then(sealed));
        self.issue_prefixes.push(workspace.issue_prefix.and_then(sealed));
        self.descriptions.push(workspace.description.and_then(sealed));
        self.contexts.push(workspace.context.and_then(sealed));
        self.settings.push(workspace.settings.and_then(sealed));
        self.repos.push(workspace.repos.and_then(sealed));
        self.avatar_urls.push(workspace.avatar_url.and_then(sealed));
        self.updated_at.push(workspace.updated_at);
        self.deleted_at.push(workspace.deleted_at);
    }

    async fn update(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.ids.is_empty() {
            return Ok(());
        }
        sqlx::query!(
            r#"update workspaces w
                  set name = coalesce(e.name, w.name),
                      issue_prefix = coalesce(e.issue_prefix, w.issue_prefix),
                      description = coalesce(e.description, w.description),
                      context = coalesce(e.context, w.context),
                      settings = coalesce(e.settings, w.settings),
                      repos = coalesce(e.repos, w.repos),
                      avatar_url = coalesce(e.avatar_url, w.avatar_url),
                      updated_at = coalesce(e.updated_at, w.updated_at),
                      deleted_at = coalesce(e.deleted_at, w.deleted_at)
                 from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                             $8::text[], $9::timestamptz[], $10::timestamptz[])
                   as e(id, name, issue_prefix, description, context, settings, repos, avatar_url, updated_at,
                        deleted_at)
                where w.id = e.id"#,
            &self.ids,
            &self.names as &[Option<String>],
            &self.issue_prefixes as &[Option<String>],
            &self.descriptions as &[Option<String>],
            &self.contexts as &[Option<String>],
            &self.settings as &[Option<String>],
            &self.repos as &[Option<String>],
            &self.avatar_urls as &[Option<String>],
            &self.updated_at as &[Option<DateTime<Utc>>],
            &self.deleted_at as &[Option<DateTime<Utc>>],
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// A workspace, opened for somebody who is in it.
#[derive(Clone)]
pub struct WorkspaceEntry {
    pub id: WorkspaceId,
    pub slug: String,
    pub name: String,
    pub issue_prefix: String,
    pub description: Option<String>,
    pub context: Option<String>,
    /// JSON text.
    pub settings: Option<String>,
    /// JSON text.
    pub repos: Option<String>,
    pub avatar_url: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// A row as it is read.
struct Row {
    id: Uuid,
    slug: String,
    name: String,
    issue_prefix: String,
    description: Option<String>,
    context: Option<String>,
    settings: Option<String>,
    repos: Option<String>,
    avatar_url: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl Row {
    fn sealed(&self) -> [Option<&str>; 8] {
        [
            Some(&self.slug),
            Some(&self.name),
            Some(&self.issue_prefix),
            self.description.as_deref(),
            self.context.as_deref(),
            self.settings.as_deref(),
            self.repos.as_deref(),
            self.avatar_url.as_deref(),
        ]
    }

    fn opened(&self, columns: Opened<8>) -> WorkspaceEntry {
        let [slug, name, issue_prefix, description, context, settings, repos, avatar_url] = columns;
        WorkspaceEntry {
            id: WorkspaceId(self.id),
            slug: slug.unwrap_or_default(),
            name: name.unwrap_or_default(),
            issue_prefix: issue_prefix.unwrap_or_default(),
            description,
            context,
            settings,
            repos,
            avatar_url,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

async fn open(keys: &KeyRing, rows: &[Row]) -> Result<Vec<WorkspaceEntry>, QueryError> {
    let sealed: Vec<_> = rows.iter().map(Row::sealed).collect();
    let opened = open_rows(keys, &sealed).await?;
    Ok(rows.iter().zip(opened).map(|(row, columns)| row.opened(columns)).collect())
}

/// The workspaces the one who asks is in, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct ListWorkspaces;

impl Act for ListWorkspaces {
    const ACTION: Action = Action::ListWorkspaces;
}

/// Lists the asking person's workspaces.
///
/// # Errors
/// When the database does not answer or a field does not open.
pub async fn list_workspaces(
    pool: &PgPool,
    keys: &KeyRing,
    query: &Authorized<ListWorkspaces>,
) -> Result<Vec<WorkspaceEntry>, QueryError> {
    let Some(user) = query.principal().user() else { return Ok(Vec::new()) };
    let rows = sqlx::query_as!(
        Row,
        r#"select w.id, w.slug, w.name, w.issue_prefix, w.description, w.context, w.settings, w.repos, w.avatar_url,
                  w.created_at, w.updated_at
             from members m join workspaces w on w.id = m.workspace_id
            where m.user_id = $1 and w.deleted_at is null
            order by w.created_at, w.id
            limit $2"#,
        user.0,
        WORKSPACES_MAX,
    )
    .fetch_all(pool)
    .await?;
    open(keys, &rows).await
}

/// The workspace of a membership.
#[derive(Clone, Copy, Debug)]
pub struct ReadWorkspace;

impl Act for ReadWorkspace {
    const ACTION: Action = Action::ReadWorkspace;
}

/// Reads a workspace for one of its members; none when they are in it no more.
///
/// # Errors
/// When the database does not answer or a field does not open.
pub async fn read_workspace(
    pool: &PgPool,
    keys: &KeyRing,
    query: &Authorized<ReadWorkspace>,
) -> Result<Option<WorkspaceEntry>, QueryError> {
    let Some(membership) = query.membership() else { return Ok(None) };
    let rows = sqlx::query_as!(
        Row,
        r#"select w.id, w.slug, w.name, w.issue_prefix, w.description, w.context, w.settings, w.repos, w.avatar_url,
                  w.created_at, w.updated_at
             from workspaces w join members m on m.workspace_id = w.id and m.user_id = $2
            where w.id = $1 and w.deleted_at is null"#,
        membership.workspace.0,
        membership.user.0,
    )
    .fetch_all(pool)
    .await?;
    Ok(open(keys, &rows).await?.pop())
}
