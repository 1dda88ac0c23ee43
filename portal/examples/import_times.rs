//! Prints how long each OpenAPI document of a folder takes to be read: `cargo run --release -p portal --example import_times -- ../shared/data/openapi`.

use std::{path::PathBuf, time::Instant};

#[allow(clippy::print_stdout, reason = "this program's purpose")]
fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("../shared/data/openapi"), PathBuf::from);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.sort();
    for file in files {
        let bytes = std::fs::read(&file)?;
        let start = Instant::now();
        let outcome = portal::catalog::spec::read(&bytes, None);
        let elapsed = start.elapsed();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        match outcome {
            Ok(document) => {
                println!(
                    "{name}: {} bytes, {} routes, {elapsed:.1?}, upstream {:?}",
                    bytes.len(),
                    document.operations.len(),
                    document.upstream
                );
                println!("    {} | {}", document.title, document.summary);
                document.warnings.iter().for_each(|warning| println!("    warning: {warning}"));
            }
            Err(refused) => refused.0.iter().take(5).for_each(|refusal| println!("{name}: refused after {elapsed:.1?}: {refusal}")),
        }
    }
    Ok(())
}
