//! A change of role over HTTP, in a workspace of ten thousand and in one of ten.

use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use tally_domain::{
    Person as Acting,
    membership::Membership,
    share_link::{CreateShareLink, JoinByShareLink, ShareLinkRequest},
    workspace::{CreateWorkspace, fields::WorkspaceFields},
};
use tally_events::{CredentialId, MemberId, Role, ShareLinkId, WorkspaceId};
use tally_store::RequestContext;

use crate::{
    Result,
    bench::{Bench, Side, check_rows},
    cpu::Meter,
    drive::{Caller, drive},
    http::Connection,
    product::{Person, Product, execute, mint_token},
    report::{Figure, Sample},
};

/// Members beside the owner.
const MANY: usize = 10_000;
const FEW: usize = 10;
const CALLERS: usize = 4;
/// People who come in at once.
const JOINING: usize = 16;

/// Measures the figure.
pub async fn measure(bench: &Bench) -> Result<Figure> {
    let sides: Vec<Box<dyn Side>> =
        vec![Box::new(Team::of(bench, MANY).await?), Box::new(Team::of(bench, FEW).await?)];
    let rows = bench.take_turns("a change of role", sides).await?;
    Ok(Figure {
        name: "roles".to_owned(),
        title: "A change of role, by the size of the workspace".to_owned(),
        command: bench.options.command("roles"),
        machine: String::new(),
        notes: vec![
            format!(
                "`PATCH /api/workspaces/…/members/…` by the owner, {CALLERS} callers who each change the roles of members of their own, member to admin and back. It asserts a revocation, so its time has the barrier in it. Each side has a server and a database of its own."
            ),
            format!(
                "The baseline is the same in a workspace of {FEW}; the target is less than twice its time."
            ),
            "Checked: an event for every acknowledged change.".to_owned(),
        ],
        rows,
    })
}

/// A workspace with so many people in it.
struct Team {
    size: usize,
    server: tally_tests::Server,
    database: PgConnectOptions,
    owners: Vec<Owner>,
    acknowledged: u64,
}

impl Team {
    async fn of(bench: &Bench, size: usize) -> Result<Self> {
        let database = bench.database().await?;
        let product = Product::start(&database).await?;
        let owner = product.log_in("owner@example.org").await?;
        let workspace = WorkspaceId::new();
        let fields = WorkspaceFields { name: Some("Team".to_owned()), ..WorkspaceFields::default() };
        let (slug, fields) = fields.of_new(Some("team"))?;
        let person = acting(&owner);
        let create = CreateWorkspace { person, workspace, slug, fields, holder: None };
        execute(&product.replica, owner.principal, create).await?;
        let link = ShareLinkId::new();
        let membership = Membership { workspace, user: owner.user, role: Role::Owner };
        let create = CreateShareLink {
            insider: person.within(workspace),
            link,
            code: tally_domain::credential::Plaintext::new("c0de"),
            role: Role::Member,
            request: ShareLinkRequest::new(None, None)?,
            holder: None,
        };
        let create = tally_domain::authorize_within(owner.principal, membership, create)?;
        product.replica.execute(&create, RequestContext::default()).await?;
        let members: Vec<MemberId> = stream::iter(0..size)
            .map(|number| join(&product, workspace, link, number))
            .buffer_unordered(JOINING)
            .try_collect()
            .await?;
        let token = mint_token(&product.replica, &owner, CredentialId::Session(owner.session)).await?;
        product.catch_up().await?;
        product.stop().await?;
        let server = bench.serve(&database).await?;
        let token = token.secret.expose().to_owned();
        let mut owners = Vec::new();
        for part in members.chunks(size.div_ceil(CALLERS)) {
            let (connection, token) = (Connection::open(server.url()).await?, token.clone());
            owners.push(Owner { connection, token, workspace, members: part.to_vec(), calls: 0 });
        }
        Ok(Self { size, server, database, owners, acknowledged: 0 })
    }
}

fn acting(person: &Person) -> Acting {
    Acting { user: person.user, credential: CredentialId::Session(person.session) }
}

/// Somebody new comes in by the link. Many do at once, and so it may take a few attempts.
async fn join(
    product: &Product,
    workspace: WorkspaceId,
    link: ShareLinkId,
    number: usize,
) -> Result<MemberId> {
    let person = product.log_in(&format!("member-{number}@example.org")).await?;
    let insider = acting(&person).within(workspace);
    loop {
        match execute(&product.replica, person.principal, JoinByShareLink { insider, link }).await {
            Ok(()) => return Ok(MemberId::of(workspace, person.user)),
            Err(error) if error.to_string().contains("conflicts") => {}
            Err(error) => return Err(error),
        }
    }
}

struct Owner {
    connection: Connection,
    token: String,
    workspace: WorkspaceId,
    members: Vec<MemberId>,
    calls: usize,
}

#[async_trait]
impl Caller for Owner {
    async fn call(&mut self) -> Result<u64> {
        let member = self.members[self.calls % self.members.len()];
        // Each time all of them have had their turn, the other role.
        let role = if (self.calls / self.members.len()).is_multiple_of(2) { "admin" } else { "member" };
        self.calls += 1;
        let path = format!("/api/workspaces/{}/members/{member}", self.workspace);
        let body = json!({ "role": role }).to_string();
        self.connection.patch(&path, &self.token, &body).await?.expect(200)?;
        Ok(1)
    }
}

#[async_trait]
impl Side for Team {
    fn name(&self) -> String {
        format!("a workspace of {}", self.size)
    }

    fn is_baseline(&self) -> bool {
        self.size == FEW
    }

    async fn round(&mut self, bench: &Bench, length: Duration) -> Result<Sample> {
        // They go on where they were: every call is a change.
        let mut owners = std::mem::take(&mut self.owners);
        for owner in &mut owners {
            // The server hangs up on who was idle while the other side had its turn.
            owner.connection = Connection::open(self.server.url()).await?;
        }
        let meter = bench.measure(Meter::CalledFromHere { server: self.server.process().id() })?;
        let (load, owners) = drive(owners, length).await?;
        self.owners = owners;
        self.acknowledged += load.operations;
        Ok(load.sample(meter.stop()?))
    }

    async fn finish(self: Box<Self>, bench: &Bench) -> Result<()> {
        let changes = "select count(*) from event where name = 'member.role_changed'";
        check_rows(&self.database, changes, self.acknowledged).await?;
        drop(self.server);
        bench.drop_database(&self.database).await
    }
}
