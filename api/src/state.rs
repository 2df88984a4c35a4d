//! What every handler shares.

use std::sync::Arc;

use sqlx::PgPool;
use tally_fanout::{Replica, Usage};
use tally_store::{KeyRing, Store};

use crate::{freshness::Freshness, mail::Mailer, routes::ws::Places, settings::ApiSettings};

/// The application: cheap to clone, one per process.
#[derive(Clone)]
pub struct App(Arc<Inner>);

pub struct Inner {
    pub settings: ApiSettings,
    pub store: Arc<Store>,
    pub replica: Replica,
    pub usage: Usage,
    pub freshness: Freshness,
    pub mailer: Mailer,
    pub sockets: Places,
}

impl App {
    #[must_use]
    pub fn new(
        settings: ApiSettings,
        store: Arc<Store>,
        replica: Replica,
        usage: Usage,
        freshness: Freshness,
        mailer: Mailer,
    ) -> Self {
        Self(Arc::new(Inner {
            settings,
            store,
            replica,
            usage,
            freshness,
            mailer,
            sockets: Places::default(),
        }))
    }

    pub(crate) fn pool(&self) -> &PgPool {
        self.store.pool()
    }

    pub(crate) fn keys(&self) -> &KeyRing {
        self.store.keys()
    }
}

impl std::ops::Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}
