//! From an exchange to a record in its core's journal stream.

use std::time::Duration;

use calendar::Timestamp;
use gateway_control::usage::Mode;
use journal::{AnsweredBy, Dimensions, KeyMode, MeterItem, Meters, Outcome, Usage};

use crate::{
    config::Durability,
    core::Core,
    pipeline::{admit::Permit, units::MeterUnits},
};

/// What one record says beside its permit.
#[derive(Debug)]
pub struct Part<'a> {
    /// The status of the answer.
    pub status: u16,
    /// Who gave its head.
    pub answered_by: AnsweredBy,
    /// How the exchange ended.
    pub outcome: Outcome,
    /// Since admission.
    pub elapsed: Duration,
    /// The start of the quota period.
    pub period_start: Timestamp,
    /// Micro-units by the place of the meter in the route.
    pub meters: &'a MeterUnits,
}

/// Which flush an answer's end waits for: that of the first so many records of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Commit {
    /// The stream.
    pub stream: u32,
    /// How many records had been appended to it.
    pub records: u64,
}

/// Appends the final record. An exchange that was admitted without a receipt, because the journal was full, has none. Says what the answer's end must wait for.
pub fn finish(core: &Core, permit: &mut Permit, part: &Part<'_>) -> Option<Commit> {
    let receipt = permit.receipt.take()?;
    let usage = usage(permit, part);
    let mut writer = core.writer.borrow_mut();
    let Some(writer) = writer.as_mut() else {
        tracing::error!(receipt = receipt.number(), "an exchange outlived its journal stream and counts as broken");
        return None;
    };
    if let Err(error) = writer.append(receipt, &usage) {
        tracing::error!(%error, "a record was not appended");
        core.metrics.lost_record();
        return None;
    }
    let waits = core.shared.config.journal.durability == Durability::Power;
    waits.then(|| Commit { stream: writer.stream(), records: writer.appended() })
}

/// Appends an interim record. False if there was no room.
pub fn interim(core: &Core, permit: &mut Permit, part: &Part<'_>) -> bool {
    let usage = usage(permit, part);
    let mut writer = core.writer.borrow_mut();
    match (writer.as_mut(), permit.receipt.as_mut()) {
        (Some(writer), Some(receipt)) => writer.append_interim(receipt, &usage).is_ok(),
        // Without a receipt nothing is billed, so nothing is kept for later.
        (_, None) => true,
        (None, Some(_)) => false,
    }
}

fn usage(permit: &Permit, part: &Part<'_>) -> Usage {
    let grant = &permit.grant;
    let mut meters = Meters::new();
    for (meter, micro_units) in grant.route.meters.iter().zip(part.meters) {
        let item = MeterItem { meter: meter.meter.bytes(), micro_units: *micro_units, unique_hash: 0 };
        // A route has at most as many meters as a record; `CompiledRoute::compile` sees to it.
        let _ = meters.push(item);
    }
    Usage {
        admitted_at: permit.admitted_at.micros(),
        duration_micros: u64::try_from(part.elapsed.as_micros()).unwrap_or(u64::MAX),
        namespace: grant.key.namespace.bytes(),
        subscription: grant.subscription.id.bytes(),
        plan_version: grant.plan.id.bytes(),
        period_start: part.period_start.micros(),
        application: grant.key.application.bytes(),
        api_key: grant.key.id.bytes(),
        route: grant.route.id.bytes(),
        status: part.status,
        answered_by: part.answered_by,
        key_mode: match grant.key.mode {
            Mode::Live => KeyMode::Live,
            Mode::Test => KeyMode::Test,
        },
        outcome: part.outcome,
        meters,
        dimensions: Dimensions::default(),
    }
}
