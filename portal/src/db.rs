//! The pool, transactions, and constraint violations.

use std::time::Duration;

use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::error::{Error, Result};

/// A transaction, as every domain operation takes it.
pub type Tx = sqlx::PgTransaction<'static>;

/// The migrations that this version was built with.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// Opens a pool and waits at most ten seconds for the first connection.
pub async fn connect(url: &str, max_connections: u32) -> Result<PgPool> {
    let pool = PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(Duration::from_secs(10))
        .after_connect(|connection, _| {
            Box::pin(async move {
                // A request that hangs on a lock must not hold its connection for ever.
                sqlx::query("SET statement_timeout = '60s'; ").execute(&mut *connection).await?;
                // Statements are short: compiling one costs more than it can save.
                sqlx::query("SET jit = off").execute(&mut *connection).await?;
                sqlx::query("SET idle_in_transaction_session_timeout = '60s'").execute(connection).await?;
                Ok(())
            })
        })
        .connect(url)
        .await?;
    Ok(pool)
}

/// Applies the migrations that the database lacks.
pub async fn migrate(pool: &PgPool) -> Result<()> {
    MIGRATIONS.run(pool).await.map_err(Error::internal)
}

/// Turns the violation of one named constraint into an error for people; every other failure stays what it is.
pub fn on_constraint(constraint: &'static str, otherwise: impl FnOnce() -> Error) -> impl FnOnce(sqlx::Error) -> Error {
    move |error| match error.as_database_error().and_then(|database| database.constraint()) {
        Some(violated) if violated == constraint => otherwise(),
        _ => error.into(),
    }
}
