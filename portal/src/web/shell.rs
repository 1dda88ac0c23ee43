//! What `templates/base.html` shows around every page.

use ids::TenantId;

use super::assets;
use crate::identity::{
    Role,
    session::{Flash, Session},
};

/// The frame of a page: who is signed in, which tenant, which entry of the navigation is current.
#[derive(Debug, Clone)]
pub struct Shell {
    /// The page's title, without the product's name.
    pub title: String,
    /// The current entry of the navigation: `overview`, `catalog`, `applications`, `subscriptions`, `usage`, `invoices`, `settings`, `admin-products`,
    /// `admin-plans`, `admin-tenants`, `admin-gateways`, `admin-invoices`, or empty.
    pub active: &'static str,
    /// The form token; empty where nobody is signed in.
    pub csrf: String,
    /// Who is signed in.
    pub user: Option<ShellUser>,
    /// The tenant whose pages are shown.
    pub tenant: Option<ShellTenant>,
    /// The tenants that the person may switch to.
    pub tenants: Vec<ShellTenant>,
    /// A message from the page before.
    pub flash: Option<Flash>,
    /// Whether buttons are shown that change applications, keys and subscriptions: not to viewers. Whoever is in no organization yet is led to one by them.
    pub may_develop: bool,
    /// Whether the development mailbox is there, to be linked.
    pub dev_mailbox: bool,
}

/// Who is signed in.
#[derive(Debug, Clone)]
pub struct ShellUser {
    /// Name.
    pub name: String,
    /// Address.
    pub email: String,
    /// Whether the admin pages are shown.
    pub is_operator: bool,
}

/// A tenant in the switcher.
#[derive(Debug, Clone)]
pub struct ShellTenant {
    /// Its id.
    pub id: TenantId,
    /// Its name.
    pub name: String,
    /// Whether its usage was generated, which pages then say.
    pub is_demo: bool,
}

impl Shell {
    /// The frame for a session, or for a visitor.
    pub fn new(title: impl Into<String>, active: &'static str, session: Option<&Session>, flash: Option<Flash>, dev_mailbox: bool) -> Self {
        let tenant_of = |tenant: &crate::identity::session::SessionTenant| ShellTenant {
            id: tenant.id,
            name: tenant.name.clone(),
            is_demo: tenant.is_demo,
        };
        Self {
            title: title.into(),
            active,
            csrf: session.map(Session::csrf_token).unwrap_or_default(),
            user: session.map(|session| ShellUser {
                name: session.user_name.clone(),
                email: session.user_email.clone(),
                is_operator: session.is_operator,
            }),
            tenant: session.and_then(Session::tenant).map(tenant_of),
            tenants: session.map(|session| session.tenants.iter().map(tenant_of).collect()).unwrap_or_default(),
            may_develop: session.and_then(Session::tenant).is_none_or(|tenant| tenant.role >= Role::Developer),
            flash,
            dev_mailbox,
        }
    }

    /// The address of an asset by its plain name, such as `app.css`.
    pub fn asset(&self, name: &str) -> String {
        assets::asset_url(name)
    }

    /// Whether a navigation entry is the current one.
    pub fn is_active(&self, entry: &str) -> bool {
        self.active == entry
    }
}
