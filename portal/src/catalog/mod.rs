//! What is listed and sold: API products with their documents, services and routes; meters; plans with their rate cards.
//!
//! Reading what is published needs no sign-in. Everything else needs [`crate::identity::Permission::Operate`]. Invariants: `README.md`.

pub mod api_product;
mod check;
pub mod import;
mod markdown;
pub mod meter;
pub mod plan;
pub mod rate_card;
pub mod route;
pub mod service;
pub mod spec;
mod store;

pub use api_product::{ApiProduct, ListedProduct};
pub use meter::{Aggregation, Meter, NewMeter};
pub use plan::{NewPlan, Plan, PlanVersion, VersionTerms};
pub use rate_card::{NewRateCard, RateCard};
