//! The whole gateway: brings its parts together, runs them, and stops them in order.
//!
//! Threads: one for each core (calls), one for control work (policy, shipping, leases, status, the admin port), one for the journal's keeper.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, OnceLock},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use calendar::Clock;
use journal::{Journal, Keeper, Opened, StreamWriter};
use rustls::ServerConfig;
use telemetry::Readiness;
use tokio::{runtime, sync::oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, admin,
    config::Durability,
    core::Core,
    limits::exchange::LeaseExchanger,
    listener::{certificates::Certificates, spread::Spread},
    metrics::Metrics,
    observe::{Observer, spans::Exporter},
    policy::{PolicyInForce, sync::PolicySync},
    portal::Portal,
    server::{self, Doors},
    shared::{READY_CLOCK, READY_JOURNAL, READY_POLICY, READY_SERVING, Shared},
    status::Reporter,
    turn,
    upstream::{Upstreams, tls},
    usage::{
        shipper::{Alerts, Shipper},
        told::Told,
    },
};

/// How long the last shipping and the giving back of leases may take at the end.
const FINISH_WITHIN: Duration = Duration::from_secs(10);
/// How often readiness is looked at until it is first reached.
const READY_INTERVAL: Duration = Duration::from_millis(10);

/// Listeners that are bound already; what is absent is bound as the settings say.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For callers. All cores accept from it.
    pub data: Option<TcpListener>,
    /// For callers over TLS; used only where certificates are set.
    pub tls: Option<TcpListener>,
    /// For operators.
    pub admin: Option<TcpListener>,
}

/// Where a gateway listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// For callers.
    pub data: SocketAddr,
    /// For callers over TLS.
    pub tls: Option<SocketAddr>,
    /// For operators.
    pub admin: SocketAddr,
}

/// Runs a gateway until `shutdown` is cancelled and everything is drained. `ready` is told once, when the gateway first is ready to serve: it listens,
/// has a policy, its journal takes records, and its clock is right.
///
/// # Errors
/// When the gateway cannot start, or a part of it failed.
pub async fn run(
    config: Config,
    clock: Arc<dyn Clock>,
    listeners: Listeners,
    shutdown: CancellationToken,
    ready: Option<oneshot::Sender<Addresses>>,
) -> anyhow::Result<()> {
    let gateway = Gateway::start(config, clock, listeners, &shutdown)?;
    let became_ready = gateway.became_ready(ready);
    tokio::select! {
        () = gateway.stop_cores.cancelled() => (),
        () = became_ready => gateway.stop_cores.cancelled().await,
    }
    // Joining threads blocks; the caller's runtime must go on, because the portal may run on it.
    tokio::task::spawn_blocking(move || gateway.finish()).await.context("stopping the gateway")?
}

/// A running gateway.
struct Gateway {
    shared: Arc<Shared>,
    addresses: Addresses,
    stop_cores: CancellationToken,
    stop_control: CancellationToken,
    cores: Vec<JoinHandle<io::Result<()>>>,
    control: JoinHandle<anyhow::Result<()>>,
    keeper: Keeper,
}

impl Gateway {
    fn start(config: Config, clock: Arc<dyn Clock>, listeners: Listeners, shutdown: &CancellationToken) -> anyhow::Result<Self> {
        config.listener.check()?;
        config.observe.check()?;
        let certificates = Some(&config.listener).filter(|listener| listener.is_secured()).map(Certificates::load).transpose()?;
        let Opened { journal, writers, report } = open_journal(&config, &*clock)?;
        let data = bind(listeners.data, config.listen, writers.len())?;
        let secured = match (config.listener.tls_listen, listeners.tls) {
            (None, None) => None,
            (address, bound) => Some(bind(bound, address.unwrap_or(config.listen), writers.len())?).filter(|_| certificates.is_some()),
        };
        let admin = match listeners.admin {
            Some(listener) => listener,
            None => TcpListener::bind(config.admin_listen).with_context(|| format!("cannot listen on {}", config.admin_listen))?,
        };
        let first =
            |listeners: &Vec<TcpListener>| listeners.first().context("no core to serve calls").and_then(|first| Ok(first.local_addr()?));
        let addresses = Addresses { data: first(&data)?, tls: secured.as_ref().map(first).transpose()?, admin: admin.local_addr()? };
        let tls_in = certificates.as_ref().map(Certificates::server_config).transpose()?;
        let doors = doors(data, secured.unwrap_or_default(), tls_in.as_ref());
        let portal = Portal::new(&config.portal_url, &config.credential)?;
        let (observer, spans) = Observer::new(&config.observe)?;
        let upstreams = Upstreams::new(config.upstream.clone(), tls::configs(config.upstream_ca_file.as_deref())?);
        let shared = Arc::new(Shared {
            config,
            upstreams,
            origin: Instant::now(),
            policy: PolicyInForce::default(),
            rate_limits: Default::default(),
            quotas: Default::default(),
            journal: journal.clone(),
            addresses: Default::default(),
            readiness: Readiness::new(&[READY_POLICY, READY_JOURNAL, READY_CLOCK, READY_SERVING]),
            metrics: Arc::<Metrics>::default(),
            draining_since: OnceLock::new(),
            observer: Arc::new(observer),
            clock: clock.clone(),
            certificates,
        });
        // The cached policy is in force before the first connection is accepted.
        let policy = PolicySync::start(shared.clone(), portal.clone(), &shared.config.data_dir)?;
        // An answer that waits for the disk waits for the keeper.
        let keeper_begins = if shared.config.journal.durability == Durability::Power { || () } else { give_way };
        let keeper = Keeper::start(journal, keeper_begins, move || clock.now().micros())?;
        let stop_cores = shutdown.child_token();
        let stop_control = CancellationToken::new();
        let spans = spans.map(|calls| Exporter::new(shared.clone(), calls)).transpose()?;
        let alerts = Arc::<Alerts>::default();
        report.alerts().into_iter().for_each(|alert| alerts.raise(alert));
        let control = start_control(&shared, portal, policy, admin, spans, alerts, &stop_control)?;
        let cores = start_cores(&shared, writers, doors, &stop_cores)?;
        shared.readiness.hold(READY_SERVING);
        tracing::info!(data = %addresses.data, tls = ?addresses.tls, admin = %addresses.admin, cores = cores.len(), journal = %shared.journal_id(), "the gateway serves");
        Ok(Self { shared, addresses, stop_cores, stop_control, cores, control, keeper })
    }

    /// Tells `ready` when the gateway first is.
    async fn became_ready(&self, ready: Option<oneshot::Sender<Addresses>>) {
        let Some(ready) = ready else { return };
        while !self.shared.readiness.is_ready() {
            tokio::time::sleep(READY_INTERVAL).await;
        }
        // Who no longer waits need not be told.
        let _ = ready.send(self.addresses);
    }

    /// Waits for the cores to drain, seals the journal, ships it, gives leases back, and ends the control thread.
    fn finish(self) -> anyhow::Result<()> {
        self.shared.readiness.fail(READY_SERVING, "the gateway is stopping");
        self.shared.draining_since.get_or_init(|| self.shared.clock.now());
        let mut failed = Vec::new();
        for core in self.cores {
            match core.join() {
                Ok(Ok(())) => (),
                Ok(Err(error)) => failed.push(anyhow!(error).context("a core failed")),
                Err(_) => failed.push(anyhow!("a core panicked")),
            }
        }
        // The keeper's last round seals what the cores closed.
        drop(self.keeper);
        if let Err(error) = self.shared.journal.close(self.shared.clock.now().micros()) {
            failed.push(anyhow!(error).context("the journal could not be closed in order"));
        }
        self.stop_control.cancel();
        match self.control.join() {
            Ok(Ok(())) => (),
            Ok(Err(error)) => failed.push(error),
            Err(_) => failed.push(anyhow!("the control thread panicked")),
        }
        self.shared.observer.close();
        tracing::info!("the gateway has stopped");
        failed.into_iter().next().map_or(Ok(()), Err)
    }
}

/// A listener for each core: the given one for all, or one each on an address.
fn bind(given: Option<TcpListener>, address: SocketAddr, cores: usize) -> io::Result<Vec<TcpListener>> {
    match given {
        Some(listener) => (0..cores).map(|_| listener.try_clone()).collect(),
        None => server::bind(address, u16::try_from(cores).unwrap_or(u16::MAX)),
    }
}

fn doors(plain: Vec<TcpListener>, secured: Vec<TcpListener>, tls: Option<&Arc<ServerConfig>>) -> Vec<Doors> {
    let mut secured = secured.into_iter();
    let parts = Spread::over(plain.len());
    plain.into_iter().zip(parts).map(|(plain, part)| Doors { plain, tls: secured.next().zip(tls.cloned()), part }).collect()
}

fn open_journal(config: &Config, clock: &dyn Clock) -> anyhow::Result<Opened> {
    fs::create_dir_all(&config.data_dir).with_context(|| format!("cannot make the folder {}", config.data_dir.display()))?;
    let settings = journal::Config {
        streams: config.core_count().into(),
        segment_size_bytes: config.journal.segment_size_bytes,
        max_age: config.journal.max_age,
        disk_bound_bytes: config.journal.disk_bound_bytes,
        flush_interval: config.journal.flush_interval,
        retain_acked: config.journal.retain_acked,
        ..journal::Config::default()
    };
    let folder = config.data_dir.join("journal");
    let opened = Journal::open(&folder, settings, clock.now().micros())?;
    report(&folder, &opened);
    Ok(opened)
}

fn report(folder: &Path, opened: &Opened) {
    let report = &opened.report;
    if report.created {
        tracing::info!(folder = %folder.display(), "a new journal was made");
    } else {
        tracing::info!(folder = %folder.display(), ?report, "the journal was opened");
    }
}

fn start_cores(
    shared: &Arc<Shared>,
    writers: Vec<StreamWriter>,
    doors: Vec<Doors>,
    stop: &CancellationToken,
) -> anyhow::Result<Vec<JoinHandle<io::Result<()>>>> {
    let mut cores = Vec::new();
    for (writer, doors) in writers.into_iter().zip(doors) {
        let metrics = shared.metrics.add_core();
        let (shared, stop) = (shared.clone(), stop.clone());
        let mut id_base = [0; 8];
        getrandom::fill(&mut id_base).map_err(|error| anyhow!("no randomness for the ids of calls: {error}"))?;
        let name = format!("core-{}", writer.stream());
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            // A core that ends takes the others with it: a gateway that serves on fewer cores than it should is hard to notice.
            let _stops_the_others = stop.clone().drop_guard();
            turn::begin();
            let mut runtime = runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().on_thread_unpark(turn::begin).build_local(runtime::LocalOptions::default())?;
            runtime.block_on(async move {
                let core = Core::new(shared, metrics, writer, u64::from_le_bytes(id_base));
                server::run(core, doors, stop).await
            })
        })?;
        cores.push(thread);
    }
    Ok(cores)
}

/// Has the calling thread give way to those that serve, where they must share a processor: what it does takes milliseconds, and can wait as long, while
/// a call would wait for all of it. It keeps a quarter of a processor that is wanted whole.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(5) {
        tracing::debug!(%error, "threads that work in the background have the priority of those that serve");
    }
}

fn start_control(
    shared: &Arc<Shared>,
    portal: Portal,
    policy: PolicySync,
    admin: TcpListener,
    spans: Option<Exporter>,
    alerts: Arc<Alerts>,
    stop: &CancellationToken,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let told = Arc::<Told>::default();
    let shipper = Shipper::new(shared.clone(), portal.clone(), alerts.clone(), told.clone())?;
    let leases = LeaseExchanger::new(shared.clone(), portal.clone())?;
    let reporter = Arc::new(Reporter::new(shared.clone(), alerts, told));
    reporter.check_journal();
    let admin_router = admin::router(shared.clone(), reporter.clone());
    let stop = stop.clone();
    let shared = shared.clone();
    let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        let mut runtime = runtime::Builder::new_current_thread();
        // What blocks or takes milliseconds has threads of its own.
        let runtime = runtime.enable_all().on_thread_start(give_way).build()?;
        let ended = runtime.block_on(async move {
            admin.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(admin)?;
            if shared.policy.confirmed_at().is_some() {
                // From the cache: the clock cannot be compared before the portal is heard.
                shared.readiness.hold(READY_CLOCK);
            }
            let end = stop.clone();
            // The admin port answers until everything else has ended.
            let admin = tokio::spawn(async move { axum::serve(listener, admin_router).await });
            let watch_certificates = async {
                if let Some(certificates) = &shared.certificates {
                    certificates.clone().watch(stop.clone()).await;
                }
            };
            let export_spans = async {
                if let Some(spans) = spans {
                    spans.run(stop.clone(), FINISH_WITHIN).await;
                }
            };
            tokio::join!(
                export_spans,
                policy.run(stop.clone()),
                shipper.run(stop.clone(), FINISH_WITHIN),
                leases.run(stop.clone(), FINISH_WITHIN),
                reporter.run(portal, stop.clone()),
                watch_certificates,
                shared.upstreams.run(stop.clone()),
            );
            debug_assert!(end.is_cancelled(), "control work ends only when it is told to");
            admin.abort();
            Ok(())
        });
        // A resolution of a name that the system does not answer is not waited for.
        runtime.shutdown_background();
        ended
    })?;
    Ok(thread)
}
