//! Fault tests on the real processes: what is killed, cut off, filled up, stepped, restored and corrupted here must not lose or double one answered call.
//!
//! An auditor ([`e2e::auditor`]) calls through real gateways and answers as their upstream, and so knows what clients were answered. What was recorded is
//! read from the journals on the disk, what was accepted and what is billed from the portal's REST API. After each fault the equations of M1 must hold:
//! answered whole <= recorded <= admitted, recorded = accepted, billed = the billable rule over what was recorded, and each record beyond the answers
//! belongs to an exchange that the auditor saw break. [`world`] holds them.
#![allow(clippy::print_stdout, reason = "what a run counts is part of the tests' output")]

mod clock;
mod disks;
mod drain;
mod full;
mod gateway;
mod meddler;
mod portal;
mod power;
mod replay;
mod segments;
mod world;

/// Fails the test with a message unless something holds.
macro_rules! check {
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            anyhow::bail!($($message)+);
        }
    };
}
use check;
