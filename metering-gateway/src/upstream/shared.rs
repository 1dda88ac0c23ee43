//! What the cores share of the upstreams: settings, names, bounds, and what each core has seen.

use std::sync::{Arc, Mutex, PoisonError, atomic::AtomicU64};

use tokio_util::sync::CancellationToken;

use super::{
    limits::AllLimits,
    resolver::Names,
    seen::{AddressSeen, add_up},
    settings::UpstreamConfig,
    tls::TlsConfigs,
};

/// What went wrong with all upstreams, since the start. Unlike what is told of each address these never go back, whatever upstreams come and go.
#[derive(Debug, Default)]
pub struct Troubles {
    /// Calls that failed, or were answered 502, 503 or 504.
    pub failures: AtomicU64,
    /// Times that a core left an address out.
    pub ejections: AtomicU64,
    /// Calls that were sent again after their connection broke; told once a second.
    pub retries: AtomicU64,
    /// Calls that were not sent again because too many were; told once a second.
    pub retries_refused: AtomicU64,
}

/// What the cores share of the upstreams.
#[derive(Debug)]
pub struct Upstreams {
    /// Settings.
    pub config: UpstreamConfig,
    /// How connections to https:// upstreams are secured.
    pub tls: TlsConfigs,
    /// Names of upstreams.
    pub names: Names,
    /// How many connections there may be, and how many calls may wait for one.
    pub limits: AllLimits,
    /// What went wrong.
    pub troubles: Troubles,
    seen: Mutex<Vec<Vec<AddressSeen>>>,
}

impl Upstreams {
    /// Knows nothing yet.
    pub fn new(config: UpstreamConfig, tls: TlsConfigs) -> Arc<Self> {
        Arc::new(Self {
            config,
            tls,
            names: Names::default(),
            limits: AllLimits::default(),
            troubles: Troubles::default(),
            seen: Mutex::default(),
        })
    }

    /// Resolves names until it is told to stop.
    pub async fn run(&self, stop: CancellationToken) {
        self.names.run(self.config.resolver.clone(), self.config.resolve_interval, stop).await;
    }

    /// One more core, which publishes under the number that it gets.
    pub fn add_core(&self) -> usize {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(Vec::new());
        seen.len() - 1
    }

    /// What a core has seen, once a second.
    pub fn publish(&self, core: usize, addresses: Vec<AddressSeen>) {
        if let Some(place) = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get_mut(core) {
            *place = addresses;
        }
    }

    /// How each address does, over all cores, sorted by upstream and address. At most a second old.
    pub fn health(&self) -> Vec<AddressSeen> {
        add_up(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
