//! What an empty installation starts with: an operator, and the demo.

use portal::{
    App,
    identity::{
        Actor,
        user::{self, NewUser},
    },
};

/// The first operator's address.
pub const OPERATOR: &str = "admin@demo.tollkeeper.local";

/// What to start with.
#[derive(Debug, Clone)]
pub struct SeedOptions {
    /// Whether to fill the installation with the demo.
    pub demo: bool,
    /// Where the demo upstreams are, such as `http://127.0.0.1:8083`.
    pub demo_api: String,
    /// The password of the accounts that are made.
    pub password: String,
}

/// What the installation starts with.
#[derive(Debug, Clone)]
pub struct SeedReport {
    /// Whether anything was written now.
    pub created: bool,
    /// Who can sign in with the password.
    pub logins: Vec<Login>,
    /// A live key of the demo tenant, for the `curl` that is printed.
    pub key: Option<String>,
}

/// An account that the seed made.
#[derive(Debug, Clone)]
pub struct Login {
    /// What it is for: `Operator`, `Developer`.
    pub role: &'static str,
    /// Its address.
    pub email: String,
}

/// Writes what is missing. Safe to run at every start.
pub async fn run(app: &App, options: &SeedOptions) -> anyhow::Result<SeedReport> {
    let mut tx = app.begin().await?;
    let created = user::by_email(&mut tx, OPERATOR).await?.is_none();
    if created {
        let input =
            NewUser { email: OPERATOR.to_owned(), name: "Operator".to_owned(), password: options.password.clone(), is_operator: true };
        user::create(&mut tx, &Actor::system(), input, app.now()).await?;
        app.commit(tx).await?;
    }
    Ok(SeedReport { created, logins: vec![Login { role: "Operator", email: OPERATOR.to_owned() }], key: None })
}
