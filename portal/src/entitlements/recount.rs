//! Counting again after a restore (SEMANTICS M4): a ledger whose epoch has changed grants nothing until every gateway that may hold leases which the backup
//! does not know has declared them, and until leases of gateways that it does not know at all have ended.

use gateway_control::lease::LeaseExchange;
use ids::{JournalId, Uuid};

use super::{exchange::LEASE_LASTS, recount_store as store};
use crate::{db::Tx, error::Result};

/// How the ledger stands towards an exchange.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub epoch: Uuid,
    /// Whether it grants.
    pub may_grant: bool,
    /// The exchange is of a ledger that is gone: it changes nothing, and its gateway declares everything next.
    pub is_stale: bool,
}

/// How the ledger stands. Notes what this exchange declares.
pub(super) async fn stand(tx: &mut Tx, input: &LeaseExchange) -> Result<Standing> {
    let state = store::ledger_state(tx, LEASE_LASTS.as_secs_f64()).await?;
    let is_stale = input.ledger_epoch.is_some_and(|epoch| epoch != state.epoch);
    if !state.is_recounting {
        return Ok(Standing { epoch: state.epoch, may_grant: !state.is_fresh, is_stale });
    }
    // A gateway of a version that declares nothing is taken at its word by its first exchange.
    if input.run.is_none() || input.ledger_epoch == Some(state.epoch) {
        store::note_declared(tx, input.journal_id).await?;
    }
    let may_grant = !is_open(tx).await? && !state.is_fresh;
    Ok(Standing { epoch: state.epoch, may_grant, is_stale })
}

/// Whether journals are still waited for. Those that have declared, and whose earlier runs are settled, are not.
async fn is_open(tx: &mut Tx) -> Result<bool> {
    let waiting = store::recounts(tx).await?;
    let declared: Vec<JournalId> = waiting.iter().filter(|(_, declared)| *declared).map(|(journal, _)| *journal).collect();
    let runs = store::runs(tx, &declared).await?;
    let done: Vec<JournalId> =
        declared.into_iter().filter(|journal| runs.get(journal).is_some_and(super::recount_store::Run::is_settled)).collect();
    let open = done.len() < waiting.len();
    store::end_recounts(tx, open.then_some(&done)).await?;
    Ok(open)
}
