//! The first operator, and the demo: three API products, three plans, and one organization with a past.
//!
//! Everything is written through the portal's own operations, as people and gateways would have done it, in one transaction: after a kill nothing is
//! there, and a second start finds all of it. Only the history is made up ([`history`]), and its organization says so on every page.

mod catalog;
pub mod history;
mod tenant;

use std::time::Duration;

use calendar::Timestamp;
use portal::{
    App,
    identity::{
        Actor,
        user::{self, NewUser, User},
    },
};

/// How long ago the demo's catalog was written.
const CATALOG_AGE: Duration = Duration::from_secs(100 * 86_400);
/// The operator's address.
pub const OPERATOR: &str = "admin@demo.tollkeeper.local";
/// The address of the developer of the demo's organization.
pub const DEVELOPER: &str = "dev@demo.tollkeeper.local";

/// What to write.
#[derive(Debug, Clone)]
pub struct SeedOptions {
    /// Whether to write the demo; without it there is only an operator.
    pub demo: bool,
    /// Where the demo upstreams are, without a slash at the end.
    pub demo_api: String,
    /// The password of whoever is made.
    pub password: String,
}

/// What is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedReport {
    /// Whether the demo or the operator was written now.
    pub created: bool,
    /// Who may sign in.
    pub logins: Vec<Login>,
    /// A key for the printed call. It is new at every start and replaces the one of the start before.
    pub key: Option<String>,
}

/// Who may sign in with the password of the options of the first start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// What the person is.
    pub role: &'static str,
    /// The address.
    pub email: String,
}

/// Writes what is missing.
pub async fn run(app: &App, options: &SeedOptions) -> anyhow::Result<SeedReport> {
    let now = app.now();
    let actor = Actor::system();
    let mut tx = app.begin().await?;
    let mut report = SeedReport { created: false, logins: vec![Login { role: "Operator", email: OPERATOR.to_owned() }], key: None };
    if user::by_email(&mut tx, OPERATOR).await?.is_none() {
        person(&mut tx, &actor, options, (OPERATOR, "Olivia Operator", true), now.minus(CATALOG_AGE)).await?;
        report.created = true;
    }
    if options.demo {
        let developer = user::by_email(&mut tx, DEVELOPER).await?;
        if let Some(developer) = developer {
            catalog::point_to(&mut tx, &actor, &options.demo_api, now).await?;
            report.key = Some(tenant::print_key(&mut tx, &actor, &developer, now).await?);
        } else {
            let catalog =
                catalog::write(&mut tx, &actor, &options.demo_api, app.config.gateway_url.authority(), now.minus(CATALOG_AGE)).await?;
            let developer = person(&mut tx, &actor, options, (DEVELOPER, "Nora Developer", false), now.minus(CATALOG_AGE)).await?;
            tenant::write(&mut tx, &actor, &developer, &catalog, now).await?;
            report.key = Some(tenant::print_key(&mut tx, &actor, &developer, now).await?);
            report.created = true;
        }
        report.logins.push(Login { role: "Developer", email: DEVELOPER.to_owned() });
    }
    app.commit(tx).await?;
    Ok(report)
}

async fn person(
    tx: &mut portal::db::Tx,
    actor: &Actor,
    options: &SeedOptions,
    (email, name, is_operator): (&str, &str, bool),
    now: Timestamp,
) -> anyhow::Result<User> {
    let input = NewUser { email: email.to_owned(), name: name.to_owned(), password: options.password.clone(), is_operator };
    Ok(user::create(tx, actor, input, now).await?)
}
