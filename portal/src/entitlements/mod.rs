//! What a subscription may use: the quota ledger and its leases (SEMANTICS Q2 to Q6). See `README.md` for the invariants.

mod exchange;
mod recall;
mod recount;
mod recount_store;
mod status;
mod store;
mod write_off;

use calendar::Timestamp;
use gateway_control::units::Micros;
use ids::Uuid;

pub use exchange::{Exchanged, exchange};
pub use recall::{Recalls, announce_recalls, follow_recalls};
pub use status::{QuotaStatus, quota_status};
pub use write_off::{GrantUnits, JournalLeases, WriteOff, WrittenOff, grant_units, leases_of, write_off};

use crate::{db::Tx, error::Result};

/// The ledger's epoch. It changes when the database was restored.
pub async fn ledger_epoch(tx: &mut Tx) -> Result<Uuid> {
    recount_store::ledger_epoch(tx).await
}

/// Units over all quotas that are presumed spent, because only a journal that has not arrived can prove them.
pub async fn presumed_spent(tx: &mut Tx, now: Timestamp) -> Result<Micros> {
    recount_store::presumed_spent(tx, now).await
}
