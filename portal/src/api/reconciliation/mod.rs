//! `/api/v1/reconciliation`, and a subscription's own part of it.

use portal_api::DifferenceKind;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    reconciliation::{Difference, Kind, MeterAccount, StreamAccount},
};

mod get;
mod of_subscription;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get::get_reconciliation)).routes(routes!(of_subscription::get_reconciliation_of_subscription))
}

/// The one conversion of kinds; it does not compile while one of them is missing.
const fn shown_kind(kind: Kind) -> DifferenceKind {
    match kind {
        Kind::Receipts => DifferenceKind::Receipts,
        Kind::Recorded => DifferenceKind::Recorded,
        Kind::SegmentMissing => DifferenceKind::SegmentMissing,
        Kind::AckWithoutCommit => DifferenceKind::AckWithoutCommit,
        Kind::SegmentLost => DifferenceKind::SegmentLost,
        Kind::SegmentDiffers => DifferenceKind::SegmentDiffers,
        Kind::RowsDiffer => DifferenceKind::RowsDiffer,
        Kind::RollupLost => DifferenceKind::RollupLost,
        Kind::RollupDoubled => DifferenceKind::RollupDoubled,
        Kind::RollupDiffers => DifferenceKind::RollupDiffers,
        Kind::RollupLevels => DifferenceKind::RollupLevels,
        Kind::LedgerUsed => DifferenceKind::LedgerUsed,
        Kind::LeaseProven => DifferenceKind::LeaseProven,
        Kind::InvoiceSum => DifferenceKind::InvoiceSum,
        Kind::InvoiceUnits => DifferenceKind::InvoiceUnits,
        Kind::InvoiceRate => DifferenceKind::InvoiceRate,
    }
}

fn shown(difference: Difference) -> portal_api::Difference {
    let place = difference.place;
    portal_api::Difference {
        id: difference.id,
        kind: shown_kind(difference.kind),
        at: difference.at,
        namespace: place.namespace,
        subscription: place.subscription,
        invoice: place.invoice,
        gateway: difference.gateway,
        journal: place.journal,
        stream: place.stream,
        seq: place.seq,
        expected: difference.expected.to_string(),
        found: difference.found.to_string(),
        detail: difference.detail,
        first_seen_at: difference.first_seen_at,
        last_seen_at: difference.last_seen_at,
        resolved_at: difference.resolved_at,
    }
}

fn shown_stream(stream: StreamAccount) -> portal_api::StreamAccount {
    portal_api::StreamAccount {
        on_the_way: stream.on_the_way().to_string(),
        gateway: stream.gateway,
        journal: stream.journal,
        stream: stream.stream,
        admitted: stream.admitted,
        recorded: stream.recorded,
        open: stream.open,
        broken: stream.broken.map(|broken| broken.to_string()),
        broken_numbers: stream.broken_numbers,
        pending_segments: stream.pending_segments,
        reported_at: stream.reported_at,
    }
}

fn shown_meter(meter: MeterAccount) -> portal_api::MeterAccount {
    portal_api::MeterAccount {
        is_equal: meter.is_equal(),
        period_start: meter.period_start,
        meter: meter.meter,
        name: meter.name,
        unit: meter.unit,
        accepted: meter.accepted.to_string(),
        rolled_up: meter.rolled_up.to_string(),
        billable: meter.billable.to_string(),
        corrected: meter.corrected.to_string(),
        invoiced: meter.invoiced.map(|units| units.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_one_name_in_json_in_metrics_and_in_postgres() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(shown_kind(kind)).ok(), Some(kind.as_str().into()));
        }
    }
}
