//! Rolled up = used of quotas: what the ledger was moved by, as segments were taken, beside the sums that were made of their rows.

use ids::{MeterId, NamespaceId, SubscriptionId};

use super::{
    finding::{Finding, Kind, Place, Scope},
    ledger_store::{self as store, DifferingUse},
};
use crate::{db::Tx, error::Result};

/// Compares the quotas of a subscription, of all periods.
pub(super) async fn compare(tx: &mut Tx, of: (NamespaceId, SubscriptionId)) -> Result<(Scope, Vec<Finding>)> {
    let findings = store::differing(tx, of.0, of.1).await?.iter().map(|quota| differs(of, quota)).collect();
    Ok((Scope::whole(format!("ledger {} {}", of.0, of.1)), findings))
}

fn differs(of: (NamespaceId, SubscriptionId), quota: &DifferingUse) -> Finding {
    let meter = MeterId::from_uuid(quota.meter_id);
    Finding {
        kind: Kind::LedgerUsed,
        subject: format!("{meter} {}", quota.period_start),
        at: Some(quota.period_start),
        place: Place { namespace: Some(of.0), subscription: Some(of.1), ..Place::default() },
        expected: quota.rolled,
        found: quota.used,
        detail: format!(
            "Subscription {}, period from {}, meter {} ({meter}): {} billable units are rolled up or about to be, with corrections, and the quota's ledger has {}.",
            of.1,
            quota.period_start,
            quota.meter_name,
            quota.rolled.normalize(),
            quota.used.normalize()
        ),
    }
}
