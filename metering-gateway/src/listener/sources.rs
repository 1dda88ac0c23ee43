//! Where certificates lie: pairs that the settings name, and those of a folder.

use std::{collections::BTreeSet, fs, io, path::Path};

use super::settings::{CertificateFiles, ListenerConfig};

/// The pairs that the settings name, then those of the folder; the default certificate first.
///
/// # Errors
/// When the folder cannot be read.
pub fn pairs(config: &ListenerConfig) -> io::Result<Vec<CertificateFiles>> {
    let mut pairs = config.tls_certs.clone();
    if let Some(folder) = &config.tls_cert_dir {
        let mut found = in_folder(folder)?;
        found.sort_by_key(|pair| !is_default(pair));
        pairs.extend(found);
    }
    Ok(pairs)
}

fn is_default(pair: &CertificateFiles) -> bool {
    let is = |path: Option<&Path>| path.and_then(Path::file_stem).is_some_and(|stem| stem == "default");
    is(Some(&pair.chain)) || is(pair.chain.parent())
}

/// By name. Hidden entries are passed over: Kubernetes keeps the versions of a mounted secret in them.
fn in_folder(folder: &Path) -> io::Result<Vec<CertificateFiles>> {
    let mut paths = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.insert(entry.path());
        }
    }
    let mut pairs = Vec::new();
    for path in paths {
        let chain = if path.is_dir() { path.join("tls.crt") } else { path };
        let is_chain = chain.extension().is_some_and(|extension| extension == "crt" || extension == "pem");
        if is_chain && chain.is_file() {
            pairs.push(CertificateFiles { key: chain.with_extension("key"), chain });
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_holds_pairs_and_folders_of_pairs() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["b.crt", "b.key", "a.pem", "a.key", "default.crt", "default.key", "notes.txt"] {
            fs::write(folder.path().join(name), "").expect("a file");
        }
        fs::create_dir_all(folder.path().join("mounted")).expect("a folder");
        fs::write(folder.path().join("mounted/tls.crt"), "").expect("a file");
        fs::create_dir_all(folder.path().join("..data")).expect("a folder");
        fs::write(folder.path().join("..data/tls.crt"), "").expect("a file");
        let mut pairs = in_folder(folder.path()).expect("a folder");
        pairs.sort_by_key(|pair| !is_default(pair));
        let chains: Vec<_> = pairs.iter().map(|pair| pair.chain.strip_prefix(folder.path()).expect("inside").to_owned()).collect();
        assert_eq!(chains, ["default.crt", "a.pem", "b.crt", "mounted/tls.crt"].map(std::path::PathBuf::from));
        assert_eq!(pairs[3].key, folder.path().join("mounted/tls.key"));
    }
}
