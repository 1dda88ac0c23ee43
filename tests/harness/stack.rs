//! A whole stack of its own for a story, in a temporary folder and on free ports.

use std::{fs, path::Path, time::Duration};

use anyhow::Context;
use devstack::{
    data_dir,
    ports::KeptPorts,
    stack::{Options, Silent, Stack},
};
use sqlx::PgPool;
use tempfile::TempDir;

use crate::visitor::Visitor;

/// The password of the demo accounts in stories.
pub const PASSWORD: &str = "a-password-of-the-stories";
/// A story that has come to no end by then never will. It ends before the runner of tests would end it, which shows no logs.
const LONGEST_STORY: Duration = Duration::from_secs(540);
/// How many lines of each log a failure shows.
const LOG_LINES: usize = 25;

/// A running stack and its folder. The folder is removed when this is dropped.
#[derive(Debug)]
pub struct Story {
    /// The stack.
    pub stack: Stack,
    folder: TempDir,
    _ports: KeptPorts,
}

/// A folder for a stack of a story.
pub fn folder() -> anyhow::Result<TempDir> {
    data_dir::temporary("tollkeeper-story-")
}

impl Story {
    /// Starts a stack with the demo, lets the story happen, and stops the stack, which must go well. A failure shows the ends of the logs.
    pub async fn tell(happening: impl AsyncFnOnce(&mut Self) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let (folder, ports) = (folder()?, KeptPorts::free()?);
        let options = Options {
            data_dir: folder.path().to_owned(),
            database_url: None,
            ports: ports.numbers(),
            demo: true,
            password: PASSWORD.to_owned(),
            fresh: false,
            // Stories kill processes and pull no plugs; the disks of busy machines would be measured instead of the product.
            postgres_settings: &["fsync=off", "full_page_writes=off"],
        };
        let stack = Stack::start(&options, &mut Silent).await.with_context(|| logs(folder.path()))?;
        let mut story = Self { stack, folder, _ports: ports };
        let outcome = tokio::time::timeout(LONGEST_STORY, happening(&mut story)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("the story came to no end within {LONGEST_STORY:?}")));
        let stopped = story.stack.stop().await;
        outcome.and(stopped).with_context(|| logs(story.folder.path()))
    }

    /// The portal's address.
    pub fn portal(&self) -> String {
        self.stack.portal_url()
    }

    /// The gateway's address.
    pub fn gateway(&self) -> String {
        self.stack.gateway_url()
    }

    /// Somebody new, with a verified address.
    pub async fn newcomer(&self, name: &str, email: &str) -> anyhow::Result<Visitor> {
        Visitor::sign_up(&self.portal(), name, email, PASSWORD).await
    }

    /// The operator of the installation.
    pub async fn operator(&self) -> anyhow::Result<Visitor> {
        Visitor::signed_in(&self.portal(), devstack::seed::OPERATOR, PASSWORD).await
    }

    /// The database, to compare what people see with what is stored.
    pub async fn database(&self) -> anyhow::Result<PgPool> {
        Ok(PgPool::connect(&self.stack.database_url).await?)
    }
}

/// The ends of all logs below a data folder.
pub fn logs(data: &Path) -> String {
    let mut text = String::new();
    let entries = fs::read_dir(data.join("logs")).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let log = fs::read(&path).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let shown = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n    ");
        text.push_str(&format!("the end of {}:\n    {shown}\n", path.display()));
    }
    text
}
