//! The whole product on one machine: Postgres, portal, gateway and demo APIs, started together. `tollkeeper up` and the stories in `tests/` run
//! the same code.
//!
//! Portal and gateway run as processes of their own, from the binaries beside the current one, as they do in production. The demo upstreams run
//! inside the caller's process.

pub mod demo_api;
pub mod gateway_credential;
pub mod replica;
pub mod seed;
pub mod stack;

pub use local_postgres::{data_dir, ports, postgres, process};
