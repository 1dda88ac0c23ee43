//! TLS to upstreams, by rustls: the certificates that the system trusts, and those of a file for private authorities.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, bail};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// What every core's connections are secured with.
///
/// # Errors
/// When the file of private authorities cannot be read, or holds none.
pub fn config(private_authorities: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "a certificate that the system trusts cannot be read");
    }
    let (trusted, _) = roots.add_parsable_certificates(system.certs);
    if let Some(path) = private_authorities {
        add_authorities(&mut roots, path).with_context(|| format!("cannot use the certificates in {}", path.display()))?;
    }
    if trusted == 0 && private_authorities.is_none() {
        tracing::warn!("the system trusts no certificate authority, so no https:// upstream can be reached; install ca-certificates");
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn add_authorities(roots: &mut RootCertStore, path: &Path) -> anyhow::Result<()> {
    let mut found = 0;
    for certificate in CertificateDer::pem_file_iter(path)? {
        roots.add(certificate?)?;
        found += 1;
    }
    if found == 0 {
        bail!("it holds no certificate in PEM form");
    }
    Ok(())
}
