//! Runs a story's script in real Chromium: Node.js with `playwright-core` drives the browser that the machine has.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context, bail};

use crate::{repository, variable};

/// Where screenshots are kept as output of the tests.
pub fn screenshots() -> PathBuf {
    repository::root().join("test-output/screenshots")
}

/// Runs `tests/stories/browser/<script>.mjs` with the given variables; its output is part of the error when it fails.
pub async fn run(script: &str, variables: &[(&str, String)]) -> anyhow::Result<()> {
    let folder = screenshots().join(script);
    std::fs::create_dir_all(&folder)?;
    let chromium = variable("CHROMIUM").unwrap_or_else(|| "/usr/bin/chromium".to_owned());
    if !PathBuf::from(&chromium).exists() {
        bail!(
            "{chromium} is missing: install Debian's `chromium`, name another with CHROMIUM, or leave browser stories out with TOLLKEEPER_SKIP=browser"
        );
    }
    let output = tokio::process::Command::new("node")
        .arg(repository::root().join("tests/stories/browser").join(format!("{script}.mjs")))
        .current_dir(repository::root())
        .env("CHROMIUM", chromium)
        .env("SCREENSHOTS", &folder)
        .envs(variables.iter().map(|(name, value)| (*name, value.as_str())))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot run node")?;
    if !output.status.success() {
        bail!(
            "{script} failed ({}):\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    #[allow(clippy::print_stdout, reason = "what the story measured is part of the tests' output")]
    {
        println!("{}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}
