//! A private Postgres cluster in a data folder, and what it takes to run processes beside it. It knows nothing of the product, so that it can be
//! built where the product cannot: `make sqlx-prepare` checks the product's queries against a database that it starts.

pub mod data_dir;
pub mod ports;
pub mod postgres;
pub mod process;
