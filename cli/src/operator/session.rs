//! What an operator's command works with: the database, opened and closed in order.

use sqlx::{PgPool, postgres::PgConnectOptions};
use tally_store::ConnectionLimits;

use super::Failure;
use crate::{
    config::{Config, Environment},
    database::Opened,
};

/// Few connections: the server needs the rest.
const CONNECTIONS: ConnectionLimits = ConnectionLimits { min: 0, max: 4 };

pub struct Session {
    pub config: Config,
    pub pool: PgPool,
    database: Opened,
}

impl Session {
    /// Opens the database of the environment's configuration and brings it to this release.
    pub async fn open() -> Result<Self, Failure> {
        let config = Config::load(&Environment::of_process()).map_err(Failure::Config)?;
        let database = Opened::for_command(&config).await?;
        let prepared = Self::prepare(&database).await;
        match prepared {
            Ok(pool) => Ok(Self { config, pool, database }),
            Err(failure) => {
                database.close().await?;
                Err(failure)
            }
        }
    }

    async fn prepare(database: &Opened) -> Result<PgPool, Failure> {
        database.migrate().await?;
        let pool = tally_store::connect(database.serving.clone(), CONNECTIONS);
        tally_projections::runner::register(&pool).await.map_err(Failure::Database)?;
        Ok(pool)
    }

    /// How to connect for work that owns tables.
    pub const fn owner(&self) -> &PgConnectOptions {
        &self.database.migrating
    }

    /// How to connect for serving.
    pub const fn serving(&self) -> &PgConnectOptions {
        &self.database.serving
    }

    /// Closes what was opened, whatever came of the command.
    pub async fn close<T>(self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        self.pool.close().await;
        let closed = self.database.close().await;
        let value = outcome?;
        closed?;
        Ok(value)
    }
}
