//! What a comparison finds, and the names of differences.

use calendar::{Period, Timestamp};
use ids::{InvoiceId, JournalId, NamespaceId, SubscriptionId};
use rust_decimal::Decimal;

use crate::error::{Error, Result};

/// What does not agree with what. REST shows it as [`portal_api::DifferenceKind`], which is the contract with clients and stays as it is when comparisons
/// change; `api::reconciliation` converts, and knows every kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A gateway's receipt numbers are not its finished, open and broken calls.
    Receipts,
    /// A gateway that is at rest has finished other calls than are recorded.
    Recorded,
    /// The portal had taken a segment, and does not have it any more.
    SegmentMissing,
    /// A gateway holds the ack of a segment that was never taken.
    AckWithoutCommit,
    /// A gateway has sealed a segment that neither side has.
    SegmentLost,
    /// A segment holds other records than its gateway counted.
    SegmentDiffers,
    /// A segment's rows are not those that were accepted with it.
    RowsDiffer,
    /// Accepted usage has no sum.
    RollupLost,
    /// A sum is a multiple of the usage behind it.
    RollupDoubled,
    /// A sum is not that of the usage behind it.
    RollupDiffers,
    /// A largest or a last value is not that of the usage behind it.
    RollupLevels,
    /// A quota's ledger holds other use than was rolled up.
    LedgerUsed,
    /// What the ledger takes for proven of a lease is not what was accepted of its journal.
    LeaseProven,
    /// An invoice is not the sum of its lines.
    InvoiceSum,
    /// An invoice bills other units than were rolled up in time for it.
    InvoiceUnits,
    /// An invoice's lines are not what their units cost.
    InvoiceRate,
}

impl Kind {
    /// All of them, in the order of the chain from the call to the invoice.
    pub const ALL: [Self; 16] = [
        Self::Receipts,
        Self::Recorded,
        Self::SegmentMissing,
        Self::AckWithoutCommit,
        Self::SegmentLost,
        Self::SegmentDiffers,
        Self::RowsDiffer,
        Self::RollupLost,
        Self::RollupDoubled,
        Self::RollupDiffers,
        Self::RollupLevels,
        Self::LedgerUsed,
        Self::LeaseProven,
        Self::InvoiceSum,
        Self::InvoiceUnits,
        Self::InvoiceRate,
    ];

    /// The name in JSON, in metrics and in Postgres.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Receipts => "receipts",
            Self::Recorded => "recorded",
            Self::SegmentMissing => "segment_missing",
            Self::AckWithoutCommit => "ack_without_commit",
            Self::SegmentLost => "segment_lost",
            Self::SegmentDiffers => "segment_differs",
            Self::RowsDiffer => "rows_differ",
            Self::RollupLost => "rollup_lost",
            Self::RollupDoubled => "rollup_doubled",
            Self::RollupDiffers => "rollup_differs",
            Self::RollupLevels => "rollup_levels",
            Self::LedgerUsed => "ledger_used",
            Self::LeaseProven => "lease_proven",
            Self::InvoiceSum => "invoice_sum",
            Self::InvoiceUnits => "invoice_units",
            Self::InvoiceRate => "invoice_rate",
        }
    }

    /// For people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Receipts => "Receipt numbers do not add up",
            Self::Recorded => "Finished is not recorded",
            Self::SegmentMissing => "Segment missing",
            Self::AckWithoutCommit => "Ack without commit",
            Self::SegmentLost => "Segment lost",
            Self::SegmentDiffers => "Segment differs",
            Self::RowsDiffer => "Rows differ",
            Self::RollupLost => "Rollup lost",
            Self::RollupDoubled => "Rollup doubled",
            Self::RollupDiffers => "Rollup differs",
            Self::RollupLevels => "Largest or last value differs",
            Self::LedgerUsed => "Quota ledger differs",
            Self::LeaseProven => "Proof of a lease differs",
            Self::InvoiceSum => "Invoice does not add up",
            Self::InvoiceUnits => "Invoiced units differ",
            Self::InvoiceRate => "Invoiced amount differs",
        }
    }

    /// Reads [`Self::as_str`].
    pub(super) fn parse(text: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| Error::internal(anyhow::anyhow!("`{text}` is no kind of difference")))
    }
}

/// What a difference is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Whose usage.
    pub namespace: Option<NamespaceId>,
    /// The subscription.
    pub subscription: Option<SubscriptionId>,
    /// The invoice.
    pub invoice: Option<InvoiceId>,
    /// The journal.
    pub journal: Option<JournalId>,
    /// Its stream.
    pub stream: Option<u16>,
    /// The segment.
    pub seq: Option<u64>,
}

/// A difference as a comparison sees it.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub kind: Kind,
    /// Names it inside its scope.
    pub subject: String,
    /// Where in the scope's time, if that has any.
    pub at: Option<Timestamp>,
    pub place: Place,
    pub expected: Decimal,
    pub found: Decimal,
    /// A sentence.
    pub detail: String,
}

/// What was looked at, whole: differences in it that were not found again are resolved.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub name: String,
    /// Of a scope that is looked at in stretches, which one.
    pub stretch: Option<Period>,
}

impl Scope {
    pub fn whole(name: String) -> Self {
        Self { name, stretch: None }
    }

    pub fn stretch(name: String, from: Timestamp, to: Timestamp) -> Self {
        Self { name, stretch: Some(Period { from, to }) }
    }
}

/// `1 to 4, 7`.
pub(super) fn ranges_text(ranges: &[(i64, i64)]) -> String {
    let texts: Vec<String> =
        ranges.iter().map(|(first, last)| if first == last { first.to_string() } else { format!("{first} to {last}") }).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()).ok(), Some(kind));
        }
        assert_eq!(ranges_text(&[(1, 4), (7, 7)]), "1 to 4, 7");
    }
}
