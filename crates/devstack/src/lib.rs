//! The whole product on one machine: Postgres, portal, gateway and demo APIs, started together. `tollkeeper up` and the stories in `tests/` run
//! the same code.
//!
//! Portal and gateway run as processes of their own, from the binaries beside the current one, as they do in production. The demo upstreams run
//! inside the caller's process.

pub mod data_dir;
pub mod demo_api;
pub mod gateway_credential;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod seed;
pub mod stack;

use anyhow::Context;

/// Applies the migrations to a database.
pub async fn migrate(database_url: &str) -> anyhow::Result<()> {
    let pool = portal::db::connect(database_url, 1).await.context("cannot reach the database")?;
    portal::db::migrate(&pool).await.context("cannot apply the migrations")?;
    pool.close().await;
    Ok(())
}
