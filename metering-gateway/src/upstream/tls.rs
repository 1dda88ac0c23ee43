//! TLS to upstreams, by rustls: the certificates that the system trusts, and those of a file for private authorities; what is spoken is agreed by ALPN.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, bail};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// What every core's connections are secured with, by what may be spoken on them.
#[derive(Debug, Clone)]
pub struct TlsConfigs {
    /// HTTP/2 or HTTP/1.1, as the upstream prefers.
    pub either: Arc<ClientConfig>,
    /// HTTP/1.1 only.
    pub http1: Arc<ClientConfig>,
    /// HTTP/2 only.
    pub http2: Arc<ClientConfig>,
}

/// How many TLS sessions are remembered for quick reconnects.
const SESSIONS: usize = 256;
const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// Whether ALPN has agreed on HTTP/2.
pub fn is_http2(agreed: Option<&[u8]>) -> bool {
    agreed == Some(HTTP2)
}

/// Reads what is trusted.
///
/// # Errors
/// When the file of private authorities cannot be read, or holds none.
pub fn configs(private_authorities: Option<&Path>) -> anyhow::Result<TlsConfigs> {
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
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let speaking = |protocols: &[&[u8]]| {
        let mut config = config.clone();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        // A resumed session must not answer for another choice of protocols.
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Arc::new(config)
    };
    Ok(TlsConfigs { either: speaking(&[HTTP2, HTTP1]), http1: speaking(&[HTTP1]), http2: speaking(&[HTTP2]) })
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
