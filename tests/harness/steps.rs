//! What developers do on the pages, step by step.

use anyhow::Context;
use reqwest::Method;
use rust_decimal::Decimal;

use crate::{page::Page, visitor::Visitor};

/// An application as its owner sees it.
#[derive(Debug, Clone)]
pub struct Application {
    /// Its id.
    pub id: String,
    /// Where its page is.
    pub path: String,
}

impl Visitor {
    /// Creates an organization and is its owner.
    pub async fn create_organization(&self, name: &str) -> anyhow::Result<Page> {
        let form = self.open("/tenants/new").await?.form("Create organization")?.set("name", name)?;
        self.send(form).await
    }

    /// Registers an application.
    pub async fn create_application(&self, name: &str) -> anyhow::Result<Application> {
        let form = self.open("/applications/new").await?.form("Create application")?.set("name", name)?;
        let path = self.send(form).await?.url.path().to_owned();
        let id = path.strip_prefix("/applications/").with_context(|| format!("registering {name} leads to {path}"))?.to_owned();
        Ok(Application { id, path })
    }

    /// Subscribes an application to a plan.
    pub async fn subscribe(&self, application: &Application, plan: &str) -> anyhow::Result<Page> {
        let form = self.open(&format!("/subscribe?plan={plan}&application={}", application.id)).await?.form("Subscribe")?;
        self.send(form).await
    }

    /// Creates a key and reads its text, which is shown this once.
    pub async fn create_key(&self, application: &Application, name: &str, mode: &str) -> anyhow::Result<String> {
        let form = self.open(&application.path).await?.form("Create key")?.set("name", name)?.set("mode", mode)?;
        let page = self.send(form).await?;
        page.texts("[data-secret]").into_iter().next().with_context(|| format!("the new key is not shown: {page}"))
    }

    /// Revokes the application's only key.
    pub async fn revoke_key(&self, application: &Application) -> anyhow::Result<()> {
        let form = self.open(&application.path).await?.form("Revoke key")?.set("confirm", "yes")?;
        self.send(form).await?;
        Ok(())
    }

    /// An application with a subscription and a live key, as one needs to call.
    pub async fn ready_to_call(&self, name: &str, plan: &str) -> anyhow::Result<(Application, String)> {
        let application = self.create_application(name).await?;
        self.subscribe(&application, plan).await?;
        let key = self.create_key(&application, "Story", "live").await?;
        Ok((application, key))
    }

    /// Creates a token for the REST API that may do what the person may.
    pub async fn create_token(&self) -> anyhow::Result<String> {
        let page = self.send(self.open("/settings/tokens").await?.form("Create token")?.set("name", "Story")?).await?;
        page.texts("[data-secret]").into_iter().next().with_context(|| format!("the new token is not shown: {page}"))
    }

    /// What the usage page says now.
    pub async fn usage(&self) -> anyhow::Result<Usage> {
        Ok(Usage(self.open("/usage").await?))
    }

    /// A JSON answer of the REST API, with the person's cookies.
    pub async fn json(&self, path: &str) -> anyhow::Result<serde_json::Value> {
        let answer = self.request(Method::GET, path)?.send().await?.error_for_status()?;
        Ok(answer.json().await?)
    }
}

/// The usage page.
#[derive(Debug)]
pub struct Usage(pub Page);

impl Usage {
    /// How many calls there are in the range; 0 while the page waits for the first.
    pub fn calls(&self) -> u64 {
        self.0.stat("Calls").and_then(|calls| calls.parse().ok()).unwrap_or(0)
    }

    /// How many units of a meter were counted, and how many of them are billable.
    pub fn units(&self, meter: &str) -> Option<(Decimal, Decimal)> {
        let row = self.cells("Units by meter").into_iter().find(|row| row.first().is_some_and(|name| name == meter))?;
        let number = |index: usize| row.get(index)?.split(' ').next()?.parse().ok();
        Some((number(1)?, number(2)?))
    }

    /// How many answers had a status, such as `200`.
    pub fn answers(&self, status: &str) -> u64 {
        let rows = self.cells("Calls by status");
        let row = rows.iter().find(|row| row.first().is_some_and(|label| label.split(' ').next() == Some(status)));
        row.and_then(|row| row.get(1)?.parse().ok()).unwrap_or(0)
    }

    /// What an application's period costs so far.
    pub fn cost(&self, application: &str) -> Option<Decimal> {
        let total = format!("[aria-label=\"Cost so far of {application}\"] .cost-total .stat-value data");
        self.0.attributes(&total, "value").first()?.parse().ok()
    }

    /// The rows of a table, cell by cell.
    fn cells(&self, table: &str) -> Vec<Vec<String>> {
        let rows = self.0.texts(&format!("[aria-label=\"{table}\"] tbody tr")).len();
        let cells = |row: usize| self.0.texts(&format!("[aria-label=\"{table}\"] tbody tr:nth-child({}) > *", row + 1));
        (0..rows).map(cells).collect()
    }
}
