//! The portal's router against a real Postgres: each test has a database of its own.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that panics has failed, and says what it drew")]

mod admin_gateways;
mod authz_coverage;
mod billing;
mod catalog;
mod catalog_pages;
mod control_leases;
mod control_policy;
mod control_usage;
mod invitations;
mod jobs;
mod late_usage;
mod lease_recovery;
mod listener;
mod mail;
mod openapi;
mod partitions;
mod purchase;
mod reconciliation;
mod routes;
mod sign_up;
mod slow_bodies;
mod support;
mod tenants;
mod tokens;
mod usage_pages;
mod usage_sums;
mod world;
