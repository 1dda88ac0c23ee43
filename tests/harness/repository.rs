//! The files of the repository, as the house rules read them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// A tracked or new text file.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Its path from the root.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// All text files below the root that are the project's own: built, installed and hidden folders are left out.
pub fn files() -> anyhow::Result<Vec<SourceFile>> {
    let mut found = Vec::new();
    collect(&root(), &root(), &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<SourceFile>) -> anyhow::Result<()> {
    const NOT_OURS: [&str; 8] = ["target", "node_modules", "dist", ".git", "test-output", ".sqlx", "golden", "snapshots"];
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        if NOT_OURS.iter().any(|skip| name == *skip) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            collect(root, &path, found)?;
        } else if let Ok(text) = fs::read_to_string(&path) {
            found.push(SourceFile { path: path.strip_prefix(root)?.to_string_lossy().into_owned(), text });
        }
    }
    Ok(())
}

impl SourceFile {
    /// Whether it is Rust.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The lines before the file's first unit-test module, numbered from 1.
    pub fn production_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test = self.path.contains("/tests/") || self.path.starts_with("tests/") || self.path.ends_with("tests.rs");
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
            .take_while(move |(_, line)| !is_test && !line.starts_with("#[cfg(test)]"))
    }
}
