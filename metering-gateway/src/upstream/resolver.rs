//! Names to addresses, in the background: no call waits for a resolution but the first to a new name.
//!
//! One task on the control thread resolves every name that a core uses, at an interval. A resolution that fails changes nothing, so that the last good
//! addresses stay in use for as long as the name's servers are away.

use std::{
    collections::HashMap,
    fmt::Debug,
    future::Future,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// How long one resolution may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many names are resolved at once.
const PARALLEL: usize = 16;
/// The most addresses that are used of a name.
pub const MAX_ADDRESSES: usize = 64;

/// What a resolution yields, sooner or later.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// Finds the addresses of a name.
pub trait Resolve: Debug + Send + Sync {
    /// Resolves a name.
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a>;
}

/// Asks the system, which reads its hosts file and asks its name servers.
#[derive(Debug, Clone, Copy)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a> {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect()) })
    }
}

/// What is known of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// The last good addresses, sorted. Empty: none were ever found.
    pub addresses: Arc<[IpAddr]>,
    /// Why the last resolution failed.
    pub failure: Option<Arc<str>>,
}

impl Resolved {
    /// Whether nothing is known, not even that the name cannot be resolved.
    pub fn is_pending(&self) -> bool {
        self.addresses.is_empty() && self.failure.is_none()
    }
}

/// The names that are in use.
#[derive(Debug, Default)]
pub struct Names {
    known: Mutex<HashMap<Arc<str>, watch::Sender<Resolved>>>,
    added: Notify,
}

impl Names {
    /// Follows a name. It is resolved until nobody follows it any more.
    pub fn follow(&self, name: &Arc<str>) -> watch::Receiver<Resolved> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = known.get(name) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(Resolved::default());
        known.insert(name.clone(), sender);
        self.added.notify_one();
        receiver
    }

    fn in_use(&self, only_new: bool) -> Vec<(Arc<str>, watch::Sender<Resolved>)> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, sender| sender.receiver_count() > 0);
        known
            .iter()
            .filter(|(_, sender)| !only_new || sender.borrow().addresses.is_empty())
            .map(|(name, sender)| (name.clone(), sender.clone()))
            .collect()
    }

    /// Resolves all names at an interval, and new ones at once, until it is told to stop.
    pub async fn run(&self, resolver: Arc<dyn Resolve>, interval: Duration, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(10)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let only_new = tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => false,
                () = self.added.notified() => true,
            };
            let resolving = stream::iter(self.in_use(only_new)).for_each_concurrent(PARALLEL, |(name, sender)| {
                let resolver = resolver.clone();
                async move { publish(&name, &sender, resolve(&*resolver, &name).await) }
            });
            tokio::select! {
                () = stop.cancelled() => return,
                () = resolving => (),
            }
        }
    }
}

async fn resolve(resolver: &dyn Resolve, name: &str) -> io::Result<Arc<[IpAddr]>> {
    let found = timeout(RESOLVE_TIMEOUT, resolver.resolve(name)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let mut found: Vec<IpAddr> = found.into_iter().map(|address| address.to_canonical()).collect();
    found.sort_unstable();
    found.dedup();
    found.truncate(MAX_ADDRESSES);
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no addresses"));
    }
    Ok(found.into())
}

fn publish(name: &str, sender: &watch::Sender<Resolved>, found: io::Result<Arc<[IpAddr]>>) {
    sender.send_if_modified(|known| {
        let before = known.clone();
        match found {
            Ok(addresses) => *known = Resolved { addresses, failure: None },
            Err(error) => known.failure = Some(error.to_string().into()),
        }
        if let Some(failure) = known.failure.as_ref().filter(|_| before.failure.is_none()) {
            tracing::warn!(name, %failure, kept = known.addresses.len(), "the name of an upstream cannot be resolved");
        }
        if before.addresses != known.addresses {
            tracing::info!(name, addresses = ?known.addresses, "an upstream's addresses are known");
        }
        *known != before
    });
}
