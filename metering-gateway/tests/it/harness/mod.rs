//! A gateway with all that it needs around it.

pub mod http2;
pub mod member;
pub mod peer;
pub mod policy;
pub mod portal;
pub mod process;
pub mod upstream;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use calendar::SystemClock;
use gateway_control::credential::{Credential, CredentialKind};
use metering_gateway::{Addresses, Config, Listeners};
use policy::World;
use portal::MockPortal;
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Long enough for anything that should happen at once; who waits so long has failed.
pub const SOON: Duration = Duration::from_secs(10);

/// A gateway, its portal and its upstream.
pub struct Stage {
    pub portal: MockPortal,
    pub world: World,
    pub gateway: RunningGateway,
    pub client: reqwest::Client,
    folder: Option<TempDir>,
}

/// A gateway that runs in this process.
pub struct RunningGateway {
    pub addresses: Addresses,
    stop: CancellationToken,
    ended: JoinHandle<anyhow::Result<()>>,
}

impl RunningGateway {
    /// Starts a gateway on free ports and, unless told otherwise, waits until it is ready.
    pub async fn start(portal: &MockPortal, folder: &Path, adjust: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(&portal.url(), &portal.credential, folder).expect("valid settings");
        config.cores = Some(2);
        config.drain_delay = Duration::ZERO;
        config.drain_timeout = Duration::from_secs(5);
        config.lease_idle = Duration::from_secs(2);
        config.journal.segment_size_bytes = 64 * 1024;
        config.journal.max_age = Duration::from_millis(100);
        config.journal.flush_interval = Duration::from_millis(20);
        adjust(&mut config);
        let bind = || std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let listeners = Listeners { data: Some(bind()), tls: Some(bind()), admin: Some(bind()) };
        let stop = CancellationToken::new();
        let (ready, became_ready) = oneshot::channel();
        let run = metering_gateway::run(config, Arc::new(SystemClock), listeners, stop.clone(), Some(ready));
        let ended = tokio::spawn(run);
        let Ok(addresses) = tokio::time::timeout(SOON, became_ready).await.expect("ready soon") else {
            panic!("the gateway does not start: {:?}", ended.await);
        };
        Self { addresses, stop, ended }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addresses.data)
    }

    pub fn admin(&self, path: &str) -> String {
        format!("http://{}{path}", self.addresses.admin)
    }

    /// Asks it to stop.
    pub fn ask_to_stop(&self) {
        self.stop.cancel();
    }

    /// Stops it and waits until it has ended in order.
    pub async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(SOON * 2, self.ended).await.expect("ends in time").expect("no panic").expect("ends in order");
    }
}

impl Stage {
    /// The usual stage: one product on one upstream, one subscription, one live and one test key.
    pub async fn new() -> Self {
        Self::with(|_| (), |_| ()).await
    }

    /// A stage with another world or other settings.
    pub async fn with(world: impl FnOnce(&mut World), adjust: impl FnOnce(&mut Config)) -> Self {
        let upstream = upstream::start().await;
        let mut made = World::new(upstream);
        world(&mut made);
        let portal = MockPortal::start(&made).await;
        let folder = tempfile::tempdir().expect("a folder");
        let gateway = RunningGateway::start(&portal, folder.path(), adjust).await;
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { portal, world: made, gateway, client, folder: Some(folder) }
    }

    /// A call with the live key.
    pub fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.get(self.gateway.url(path)).header("x-api-key", self.world.live.reveal())
    }

    /// Stops the gateway, keeps its folder, and starts another one from it.
    pub async fn restart(mut self, adjust: impl FnOnce(&mut Config)) -> Self {
        self.gateway.stop().await;
        let folder = self.folder.take().expect("a folder");
        self.gateway = RunningGateway::start(&self.portal, folder.path(), adjust).await;
        self.folder = Some(folder);
        self
    }
}

/// A new credential.
pub fn credential(kind: CredentialKind) -> Credential {
    Credential::generate(kind, getrandom::fill).expect("randomness")
}

/// Waits for a condition that something else makes true.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}: not within {SOON:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs a program of the machine to its end, and returns what it printed.
pub async fn program(name: &str, arguments: &[&str]) -> String {
    let run = tokio::process::Command::new(name).args(arguments).kill_on_drop(true).output();
    let output = tokio::time::timeout(SOON * 3, run).await.expect("it ends in time");
    let output = output.unwrap_or_else(|error| panic!("{name} cannot be run ({error}); `scripts/setup test` installs it"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} {arguments:?} failed: {err}{out}");
    out.into_owned()
}

/// Why a gateway with these settings does not start.
pub async fn refused(adjust: impl FnOnce(&mut Config)) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let portal = "http://127.0.0.1:9/".parse().expect("a URL");
    let mut config = Config::new(&portal, &credential(CredentialKind::Gateway), folder.path()).expect("valid settings");
    adjust(&mut config);
    let run = metering_gateway::run(config, Arc::new(SystemClock), Listeners::default(), CancellationToken::new(), None);
    let ended = tokio::time::timeout(SOON, run).await.expect("it ends at once");
    format!("{:#}", ended.expect_err("it does not start"))
}

/// Binds a server to a free port and runs it until the test ends.
pub async fn serve(router: axum::Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}
