//! What a new tenant has done of what it takes to make a first call.

use ids::TenantId;

use super::store;
use crate::{
    db::Tx,
    error::Result,
    identity::{Actor, Permission},
};

/// The steps to the first call, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checklist {
    /// An application is registered.
    pub application: bool,
    /// A subscription was made.
    pub subscription: bool,
    /// An API key was made.
    pub api_key: bool,
    /// A call was counted.
    pub first_call: bool,
}

impl Checklist {
    /// Whether nothing is left to do, so that pages need not show it.
    pub fn is_done(self) -> bool {
        self.application && self.subscription && self.api_key && self.first_call
    }
}

/// The tenant's steps.
pub async fn getting_started(tx: &mut Tx, actor: &Actor, tenant: TenantId) -> Result<Checklist> {
    actor.require(Permission::View(tenant))?;
    store::checklist(tx, tenant).await
}
