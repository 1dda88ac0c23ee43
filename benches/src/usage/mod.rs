//! What the portal does with usage: how fast it takes it, how fast its pages are, how long a backlog takes.

pub mod backlog;
pub mod ingest;
pub mod pages;
pub mod report;
pub mod stand;
pub mod tenants;

use std::{fs, path::Path, time::Duration};

use anyhow::Context as _;
use local_postgres::data_dir;
use serde::Serialize;

use crate::runs::say;

/// Measures ingest and keeps what it found.
///
/// # Errors
/// When something does not start or is not exact.
pub fn ingest(results: &Path, data: Option<&Path>, shape: ingest::Shape, duration: Duration) -> anyhow::Result<()> {
    let temporary = data_dir::temporary("loadtest-")?;
    let folder = data.unwrap_or(temporary.path());
    let found = runtime()?.block_on(ingest::run(folder, shape, duration))?;
    say(&format!("{found:#?}"));
    keep(results, "ingest", &found)
}

/// Measures the usage page and keeps what it found.
///
/// # Errors
/// When something does not start or a page is not what it should be.
pub fn pages(results: &Path, data: Option<&Path>, rows: (u64, u32), requests: usize) -> anyhow::Result<()> {
    let temporary = data_dir::temporary("loadtest-")?;
    let found = runtime()?.block_on(pages::run(data.unwrap_or(temporary.path()), rows, requests))?;
    say(&format!("{found:#?}"));
    keep(results, "usage-pages", &found)
}

/// Measures how long a backlog takes and keeps what it found.
///
/// # Errors
/// When something does not start or records are missing.
pub fn backlog(results: &Path, data: Option<&Path>, records: u64) -> anyhow::Result<()> {
    let temporary = data_dir::temporary("loadtest-")?;
    let found = runtime()?.block_on(backlog::run(data.unwrap_or(temporary.path()), records))?;
    say(&format!("{found:#?}"));
    keep(results, "backlog", &found)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn keep(results: &Path, name: &str, found: &impl Serialize) -> anyhow::Result<()> {
    fs::create_dir_all(results)?;
    let path = results.join(name).with_extension("json");
    fs::write(&path, serde_json::to_string_pretty(found)?).with_context(|| format!("cannot write {}", path.display()))
}
