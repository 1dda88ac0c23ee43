//! The certificates that callers are shown, chosen by the host they ask for (SNI) and read anew while the gateway runs.
//!
//! Each pair of files stands for itself: one that cannot be used keeps what was read of it before, is told as an alert until it is mended, and
//! keeps no other from being renewed. Only new connections see a change.

use std::{
    collections::HashMap,
    fs, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use calendar::Timestamp;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::{
    settings::{CertificateFiles, ListenerConfig},
    sources,
};

/// The largest file that is read as a certificate or key.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Why a pair of files cannot be used; a sentence for operators.
type Reason = String;

/// The certificates in force.
#[derive(Debug)]
pub struct Certificates {
    config: ListenerConfig,
    provider: Arc<CryptoProvider>,
    in_force: ArcSwap<Names>,
    read: Mutex<Read>,
    /// Times that changed certificates came into force.
    pub reloads: AtomicU64,
    /// Times that changed files could not be used.
    pub failures: AtomicU64,
}

/// What was read of the files so far.
#[derive(Debug, Default)]
struct Read {
    pairs: HashMap<PathBuf, Pair>,
    faults: Vec<String>,
}

/// The last usable state of a pair of files, and the digest of what the files held when they were last looked at.
#[derive(Debug)]
struct Pair {
    digest: [u8; 32],
    loaded: Option<Arc<Loaded>>,
    fault: Option<Reason>,
}

/// A usable certificate.
#[derive(Debug)]
struct Loaded {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
    /// When it, or what it is signed by, is no longer valid.
    expires_at: Timestamp,
}

/// A pair of files, for operators.
#[derive(Debug, Clone, Serialize)]
pub struct CertificateSeen {
    /// The file of the certificate.
    pub file: PathBuf,
    /// The hosts that it is for.
    pub names: Vec<String>,
    /// When it, or what it is signed by, is no longer valid; none where nothing usable was ever read of it.
    pub expires_at: Option<Timestamp>,
    /// Why the files cannot be used as they are now.
    pub fault: Option<String>,
}

/// Certificates by name.
#[derive(Debug)]
struct Names {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
    count: usize,
}

impl Certificates {
    /// Reads the certificates that the settings name.
    ///
    /// # Errors
    /// When the default certificate cannot be used. Others that cannot be used are told as alerts.
    pub fn load(config: &ListenerConfig) -> anyhow::Result<Arc<Self>> {
        let provider = Arc::new(ring::default_provider());
        let pairs = sources::pairs(config).map_err(|error| anyhow::anyhow!("cannot read GATEWAY_TLS_CERT_DIR: {error}"))?;
        let mut read = Read::default();
        read.take(&pairs, &provider);
        let default =
            pairs.first().ok_or_else(|| anyhow::anyhow!("GATEWAY_TLS_CERT_DIR holds no certificate (NAME.crt beside NAME.key)"))?;
        if let Some(fault) = read.pairs.get(&default.chain).and_then(|pair| pair.fault.as_ref()) {
            anyhow::bail!("the default certificate cannot be used: {fault}");
        }
        let names = read.names(&pairs).ok_or_else(|| anyhow::anyhow!("no certificate can be used"))?;
        let (reloads, failures) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Arc::new(Self {
            config: config.clone(),
            provider,
            in_force: ArcSwap::from_pointee(names),
            read: Mutex::new(read),
            reloads,
            failures,
        }))
    }

    /// How connections of callers are secured: TLS 1.2 and 1.3, HTTP/2 before HTTP/1.1, tickets that any core takes.
    ///
    /// # Errors
    /// When there is no randomness for the tickets' key.
    pub fn server_config(self: &Arc<Self>) -> anyhow::Result<Arc<ServerConfig>> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = ring::Ticketer::new()?;
        Ok(Arc::new(config))
    }

    /// Looks at the files, at intervals, until told to stop.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.config.tls_reload_interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => (),
            }
            let looking = self.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || looking.look()).await {
                tracing::error!(%error, "looking at the certificates failed");
            }
        }
    }

    /// Reads what has changed.
    pub fn look(&self) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs = match sources::pairs(&self.config) {
            Ok(pairs) => pairs,
            Err(error) => return self.keep(&mut read, format!("the folder of certificates cannot be read: {error}")),
        };
        let changed = read.take(&pairs, &self.provider);
        let failed = changed.iter().filter(|path| read.pairs.get(*path).is_some_and(|pair| pair.fault.is_some())).count();
        self.failures.fetch_add(failed as u64, Relaxed);
        if changed.is_empty() {
            return;
        }
        match read.names(&pairs) {
            Some(names) => {
                tracing::info!(certificates = names.count, "certificates were read anew");
                self.in_force.store(Arc::new(names));
                self.reloads.fetch_add(u64::from(failed < changed.len()), Relaxed);
            }
            None => self.keep(&mut read, "no certificate is left; those read before stay in force".to_owned()),
        }
    }

    fn keep(&self, read: &mut Read, fault: String) {
        if !read.faults.contains(&fault) {
            tracing::error!(fault, "an operator must look at this");
            self.failures.fetch_add(1, Relaxed);
            read.faults = vec![fault];
        }
    }

    /// What cannot be used now, a sentence each.
    pub fn faults(&self) -> Vec<String> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.faults.iter().cloned().chain(read.pairs.values().filter_map(|pair| pair.fault.clone())).collect()
    }

    /// Each pair of files, those that end first first.
    pub fn seen(&self) -> Vec<CertificateSeen> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = |(file, pair): (&PathBuf, &Pair)| CertificateSeen {
            file: file.clone(),
            names: pair.loaded.as_ref().map_or_else(Vec::new, |loaded| loaded.names.clone()),
            expires_at: pair.loaded.as_ref().map(|loaded| loaded.expires_at),
            fault: pair.fault.clone(),
        };
        let mut all: Vec<CertificateSeen> = read.pairs.iter().map(seen).collect();
        all.sort_by(|a, b| (a.expires_at, &a.file).cmp(&(b.expires_at, &b.file)));
        all
    }

    /// How many certificates are in force.
    pub fn count(&self) -> usize {
        self.in_force.load().count
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.in_force.load().find(hello.server_name().unwrap_or_default()))
    }
}

impl Names {
    fn find(&self, host: &str) -> Arc<CertifiedKey> {
        let host = host.to_ascii_lowercase();
        let parent = || host.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
        self.exact.get(&host).or_else(parent).unwrap_or(&self.default).clone()
    }
}

impl Read {
    /// Reads the pairs whose files have changed, forgets those that are gone, and says which changed.
    fn take(&mut self, pairs: &[CertificateFiles], provider: &CryptoProvider) -> Vec<PathBuf> {
        self.faults.clear();
        let mut changed: Vec<PathBuf> = Vec::new();
        self.pairs.retain(|path, _| {
            let stays = pairs.iter().any(|pair| pair.chain == *path);
            if !stays {
                changed.push(path.clone());
            }
            stays
        });
        for files in pairs {
            let before = self.pairs.get(&files.chain);
            let (digest, bytes) = match read_files(files) {
                Ok((digest, chain, key)) => (digest, Ok((chain, key))),
                Err(reason) => (Sha256::digest(&reason).into(), Err(reason)),
            };
            if before.is_some_and(|before| before.digest == digest) {
                continue;
            }
            let loaded = bytes.and_then(|(chain, key)| load(&chain, &key, provider));
            let (loaded, fault) = match loaded {
                Ok(loaded) => (Some(Arc::new(loaded)), None),
                Err(reason) => {
                    let fault =
                        format!("the certificate {} with the key {} cannot be used: {reason}", files.chain.display(), files.key.display());
                    tracing::error!(fault, "an operator must look at this");
                    (before.and_then(|before| before.loaded.clone()), Some(fault))
                }
            };
            self.pairs.insert(files.chain.clone(), Pair { digest, loaded, fault });
            changed.push(files.chain.clone());
        }
        changed
    }

    /// The usable ones by name; where several hold a name, the first counts.
    fn names(&self, pairs: &[CertificateFiles]) -> Option<Names> {
        let usable: Vec<&Arc<Loaded>> = pairs.iter().filter_map(|files| self.pairs.get(&files.chain)?.loaded.as_ref()).collect();
        let default = usable.first()?.key.clone();
        let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
        for loaded in &usable {
            for name in &loaded.names {
                match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.to_owned()).or_insert_with(|| loaded.key.clone()),
                    None => exact.entry(name.clone()).or_insert_with(|| loaded.key.clone()),
                };
            }
        }
        Some(Names { exact, wildcard, default, count: usable.len() })
    }
}

type Files = ([u8; 32], Vec<u8>, Vec<u8>);

fn read_files(files: &CertificateFiles) -> Result<Files, Reason> {
    let read = |path: &PathBuf| -> io::Result<Vec<u8>> {
        if fs::metadata(path)?.len() > MAX_FILE_BYTES {
            return Err(io::Error::other("it is too large for a certificate or key"));
        }
        fs::read(path)
    };
    let named = |path: &PathBuf| read(path).map_err(|error| format!("{}: {error}", path.display()));
    let (chain, key) = (named(&files.chain)?, named(&files.key)?);
    let mut digest = Sha256::new();
    digest.update((chain.len() as u64).to_be_bytes());
    digest.update(&chain);
    digest.update(&key);
    Ok((digest.finalize().into(), chain, key))
}

fn load(chain: &[u8], key: &[u8], provider: &CryptoProvider) -> Result<Loaded, Reason> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(|error| format!("the certificate is not PEM: {error}"))?;
    let first = chain.first().ok_or("it holds no certificate in PEM form")?;
    let names = webpki::EndEntityCert::try_from(first).map_err(|error| format!("the certificate cannot be read: {error}"))?;
    let names = names.valid_dns_names().map(str::to_ascii_lowercase).collect();
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the key is not PEM: {error}"))?;
    let expires_at = expiry(&chain)?;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| format!("certificate and key do not fit: {error}"))?;
    Ok(Loaded { key: Arc::new(key), names, expires_at })
}

/// When the first of a chain ends.
fn expiry(chain: &[CertificateDer<'static>]) -> Result<Timestamp, Reason> {
    let end = |certificate: &CertificateDer<'static>| {
        let (_, certificate) =
            x509_parser::parse_x509_certificate(certificate).map_err(|error| format!("its validity cannot be read: {error}"))?;
        Ok(Timestamp::from_seconds(certificate.validity().not_after.timestamp()))
    };
    let ends: Vec<Timestamp> = chain.iter().map(end).collect::<Result<_, Reason>>()?;
    ends.into_iter().min().ok_or_else(|| "it holds no certificate in PEM form".to_owned())
}
