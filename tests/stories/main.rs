//! Stories on the real stack: real Postgres, portal and gateway processes, real sockets, and a real browser.
#![allow(clippy::print_stdout, reason = "what a story measures is part of the tests' output")]

mod admin;
mod browser;
mod isolation;
mod leases;
mod main_job;
mod outage;
mod reconciliation;
mod up;

/// Fails the story with a message unless something holds.
macro_rules! check {
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            anyhow::bail!($($message)+);
        }
    };
}
use check;
