//! What stories and house rules share.

pub mod auditor;
pub mod browser;
pub mod caller;
pub mod page;
pub mod repository;
pub mod stack;
pub mod steps;
pub mod visitor;
pub mod wait;

use std::path::PathBuf;

/// Whether `TOLLKEEPER_SKIP` names this part of the tests; says so where it does.
pub fn skipped(part: &str) -> bool {
    let skip = variable("TOLLKEEPER_SKIP").unwrap_or_default();
    let skipped = skip.split(',').any(|name| name.trim() == part);
    if skipped {
        #[allow(clippy::print_stdout, reason = "a skipped test says so")]
        {
            println!("skipped: TOLLKEEPER_SKIP names `{part}`");
        }
    }
    skipped
}

/// The Python of the tests' virtual environment.
pub fn python() -> PathBuf {
    variable("TOLLKEEPER_TEST_PYTHON").map_or_else(|| repository::root().join("test-output/python/bin/python"), PathBuf::from)
}

/// A variable of the tests' environment.
pub fn variable(name: &str) -> Option<String> {
    #[allow(clippy::disallowed_methods, reason = "the tests' settings are read here and nowhere else")]
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A program of the workspace, which lies beside the tests' folder.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let current = std::env::current_exe()?;
    let found = current.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| anyhow::anyhow!("`{name}` is not built; run `cargo build --bins` first"))
}
