//! Rolled up = used of quotas, and accepted = proven of leases: what the ledger was moved by, as segments were taken, beside the sums that were made of
//! their rows, and beside the rows.

use std::time::Duration;

use calendar::Timestamp;
use ids::{JournalId, MeterId, NamespaceId, SubscriptionId};
use rust_decimal::Decimal;

use super::{
    compare_usage::floor_day,
    finding::{Finding, Kind, Place, Scope},
    ledger_store::{self as store, DifferingProof, DifferingUse},
};
use crate::{db::Tx, error::Result, usage::partitions};

/// Leases that ended longer ago were compared while they lived: nothing is spent of them any more.
const ENDED_SINCE: Duration = Duration::from_secs(86_400);

/// Compares the quotas of a subscription, of all periods, and its leases.
pub(super) async fn compare(tx: &mut Tx, of: (NamespaceId, SubscriptionId), now: Timestamp) -> Result<(Scope, Vec<Finding>)> {
    let rows_from = partitions::rows_from(tx).await?;
    let mut findings: Vec<Finding> = wrong_use(tx, of, rows_from).await?.iter().map(|quota| use_differs(of, quota)).collect();
    let proofs = store::differing_proofs(tx, of, now.minus(ENDED_SINCE), rows_from).await?;
    findings.extend(proofs.iter().map(|proof| proof_differs(of, proof)));
    Ok((Scope::whole(format!("ledger {} {}", of.0, of.1)), findings))
}

/// Quotas whose ledger is not what was rolled up. If that is because a sum is lost or wrong, the comparison of sums names it, once: then the ledger is what
/// was accepted, as far as rows are there.
async fn wrong_use(tx: &mut Tx, of: (NamespaceId, SubscriptionId), rows_from: Option<Timestamp>) -> Result<Vec<DifferingUse>> {
    let differing = store::differing(tx, of.0, of.1).await?;
    let Some(first) = differing.iter().map(|quota| quota.period_start).min() else { return Ok(differing) };
    let from = rows_from.map_or(floor_day(first), |rows_from| floor_day(first).max(rows_from));
    let periods: Vec<Timestamp> = differing.iter().map(|quota| quota.period_start).collect();
    store::differing_from_rows(tx, of, &periods, from).await
}

fn finding(
    of: (NamespaceId, SubscriptionId),
    kind: Kind,
    quota: (MeterId, Timestamp),
    sides: (Decimal, Decimal),
    detail: String,
) -> Finding {
    let place = Place { namespace: Some(of.0), subscription: Some(of.1), ..Place::default() };
    let (subject, at) = (format!("{} {}", quota.0, quota.1), Some(quota.1));
    Finding { kind, subject, at, place, expected: sides.0, found: sides.1, detail }
}

fn use_differs(of: (NamespaceId, SubscriptionId), quota: &DifferingUse) -> Finding {
    let meter = MeterId::from_uuid(quota.meter_id);
    let detail = format!(
        "Subscription {}, period from {}, meter {} ({meter}): {} billable units were accepted, with corrections, and the quota's ledger has {}.",
        of.1,
        quota.period_start,
        quota.meter_name,
        quota.accepted.normalize(),
        quota.used.normalize()
    );
    finding(of, Kind::LedgerUsed, (meter, quota.period_start), (quota.accepted, quota.used), detail)
}

fn proof_differs(of: (NamespaceId, SubscriptionId), proof: &DifferingProof) -> Finding {
    let (meter, journal) = (MeterId::from_uuid(proof.meter_id), JournalId::from_uuid(proof.journal_id));
    let detail = format!(
        "Subscription {}, period from {}, meter {} ({meter}): the ledger takes {} units of the lease of journal {journal} for proven, and {} were accepted of it \
         since its gateway started.",
        of.1,
        proof.period_start,
        proof.meter_name,
        proof.proven.normalize(),
        proof.accepted.normalize()
    );
    let found = finding(of, Kind::LeaseProven, (meter, proof.period_start), (proof.accepted, proof.proven), detail);
    Finding { subject: format!("{} {journal}", found.subject), place: Place { journal: Some(journal), ..found.place }, ..found }
}
