//! Makes sure that the folder of built assets exists, because embedding a missing folder does not compile.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/dist");
    std::fs::create_dir_all(&dist)?;
    if !dist.join("manifest.json").exists() {
        println!("cargo::warning=portal/assets/dist is empty: run `make assets`, or pages will have no styles and scripts");
    }
    // Rebuilds when an asset changes: names carry hashes, so the folder's listing changes with them.
    println!("cargo::rerun-if-changed=assets/dist");
    Ok(())
}
