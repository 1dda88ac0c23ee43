//! A whole stack of its own for a story, in a temporary folder and on free ports.

use std::path::PathBuf;

use anyhow::Context;
use devstack::{
    ports::Ports,
    stack::{Options, Silent, Stack},
};
use tempfile::TempDir;

/// The password of the demo accounts in stories.
pub const PASSWORD: &str = "a-password-of-the-stories";

/// A running stack and its folder. The folder is removed when this is dropped.
#[derive(Debug)]
pub struct Story {
    /// The stack.
    pub stack: Stack,
    folder: TempDir,
}

/// A folder that the account of a Postgres started by root may pass through.
pub fn folder() -> anyhow::Result<TempDir> {
    tempfile::Builder::new().prefix("tollkeeper-story-").tempdir_in("/tmp").context("cannot create a temporary folder")
}

fn options(data_dir: PathBuf, demo: bool) -> Options {
    Options { data_dir, database_url: None, ports: Ports::FREE, demo, password: PASSWORD.to_owned(), fresh: false }
}

impl Story {
    /// Starts a stack with the demo.
    pub async fn with_demo() -> anyhow::Result<Self> {
        let folder = folder()?;
        let stack = Stack::start(&options(folder.path().to_owned(), true), &mut Silent).await?;
        Ok(Self { stack, folder })
    }

    /// Stops the stack and starts it again on the same folder, as a second `tollkeeper up` does.
    pub async fn restart(self) -> anyhow::Result<Self> {
        self.stack.stop().await?;
        let stack = Stack::start(&options(self.folder.path().to_owned(), true), &mut Silent).await?;
        Ok(Self { stack, folder: self.folder })
    }

    /// Stops everything, which must go well.
    pub async fn end(self) -> anyhow::Result<()> {
        self.stack.stop().await
    }
}
