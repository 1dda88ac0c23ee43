//! The control plane of Tollkeeper.
//!
//! # Code map
//!
//! - [`app`]: what every part shares ([`App`]), and the router.
//! - Domains, each with its types and operations in `mod.rs`, all its SQL in `store.rs` and its invariants in `README.md`: [`identity`], [`tenants`],
//!   [`catalog`], [`gateways`], [`applications`], [`subscriptions`], [`entitlements`], [`usage`], [`policy`], [`billing`], [`reconciliation`], [`mail`].
//! - Edges: [`web`] (pages), [`api`] (REST), [`control`] (gateways), [`worker`] (jobs).
//!
//! Imports go downward only: `web | api | control | worker` -> `reconciliation` -> `policy billing` -> `entitlements usage` -> `subscriptions applications` ->
//! `tenants catalog gateways` -> `identity` -> `mail jobs audit db error`.

pub mod api;
pub mod app;
pub mod applications;
pub mod audit;
pub mod billing;
pub mod catalog;
pub mod config;
pub mod control;
pub mod db;
pub mod entitlements;
pub mod error;
pub mod gateways;
pub mod identity;
pub mod jobs;
pub mod listener;
pub mod mail;
pub mod metrics;
pub mod monitor;
pub mod policy;
pub mod random;
mod receive;
pub mod reconciliation;
pub mod server;
pub mod subscriptions;
pub mod tenants;
pub mod text;
pub mod usage;
pub mod web;
pub mod worker;

pub use app::App;
pub use config::Config;
