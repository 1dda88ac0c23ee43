//! Tenants as operators see them: what they use, what they were invoiced, what is open.

use calendar::Timestamp;
use ids::TenantId;
use rating::Money;

use super::{account_store, store};
use crate::{
    db::Tx,
    error::{Error, Result},
    identity::{Actor, Permission},
};

/// Over how many days [`Account::calls`] and [`Account::invoiced`] are summed.
pub const RECENT_DAYS: u64 = 30;

/// A tenant with its sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub tenant: TenantId,
    /// Its name.
    pub name: String,
    /// Its namespace's name.
    pub namespace: String,
    /// Where invoices go.
    pub billing_email: String,
    /// Where its days start.
    pub time_zone: String,
    /// Whether its usage was generated.
    pub is_demo: bool,
    /// When it signed up.
    pub created_at: Timestamp,
    /// Its members.
    pub members: i64,
    /// Its subscriptions that are not canceled.
    pub subscriptions: i64,
    /// Calls of the last [`RECENT_DAYS`] days.
    pub calls: i64,
    /// What was invoiced in the last [`RECENT_DAYS`] days, per currency.
    pub invoiced: Vec<Money>,
    /// What is open, per currency.
    pub open: Vec<Money>,
}

/// A page of tenants, those with the most calls first, and how many there are. `search` is a part of a name, a namespace or a mail address.
pub async fn accounts(tx: &mut Tx, actor: &Actor, search: &str, limit: i64, offset: i64, now: Timestamp) -> Result<(Vec<Account>, i64)> {
    actor.require(Permission::Operate)?;
    let since = since(now);
    let (mut accounts, total) = account_store::accounts(tx, None, search.trim(), since, limit.clamp(1, 200), offset.max(0)).await?;
    for account in &mut accounts {
        add_money(tx, account, since).await?;
    }
    Ok((accounts, total))
}

/// One tenant.
pub async fn account(tx: &mut Tx, actor: &Actor, tenant: TenantId, now: Timestamp) -> Result<Account> {
    actor.require(Permission::Operate)?;
    let since = since(now);
    let (accounts, _) = account_store::accounts(tx, Some(tenant), "", since, 1, 0).await?;
    let mut account = accounts.into_iter().next().ok_or_else(|| Error::not_found("This tenant"))?;
    add_money(tx, &mut account, since).await?;
    Ok(account)
}

fn since(now: Timestamp) -> Timestamp {
    now.minus(std::time::Duration::from_secs(RECENT_DAYS * 86_400))
}

async fn add_money(tx: &mut Tx, account: &mut Account, since: Timestamp) -> Result<()> {
    account.invoiced = account_store::invoiced_since(tx, account.tenant, since).await?;
    account.open = store::open_totals(tx, Some(account.tenant)).await?.into_iter().map(|(_, money)| money).collect();
    Ok(())
}
