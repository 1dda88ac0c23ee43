//! Settings, from flags or the environment. Each flag's variable carries the prefix `GATEWAY_`.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Parser, ValueEnum};
use gateway_control::credential::{Credential, CredentialKind};
use url::Url;

use crate::{listener::ListenerConfig, upstream::UpstreamConfig};

/// All settings of a gateway.
#[derive(Debug, Clone, Parser)]
#[command(name = "metering-gateway", version, about = "Authenticates, admits, forwards and meters calls to APIs")]
pub struct Config {
    /// The address for callers.
    #[arg(long, env = "GATEWAY_LISTEN", default_value = "127.0.0.1:8081")]
    pub listen: SocketAddr,
    /// The address for operators: health, metrics and status. It carries no secrets, but keep it private.
    #[arg(long, env = "GATEWAY_ADMIN_LISTEN", default_value = "127.0.0.1:8082")]
    pub admin_listen: SocketAddr,
    /// Where the portal is.
    #[arg(long, env = "GATEWAY_PORTAL_URL", default_value = "http://127.0.0.1:8080")]
    pub portal_url: Url,
    /// The gateway's own credential, `tk_gway_…`, as the portal issued it.
    #[arg(long, env = "GATEWAY_CREDENTIAL", hide_env_values = true, value_parser = gateway_credential)]
    pub credential: Credential,
    /// The folder of the journal and of the cached policy. It must outlive restarts.
    #[arg(long, env = "GATEWAY_DATA_DIR", default_value = "gateway-data")]
    pub data_dir: PathBuf,
    /// How many cores serve calls; each has a runtime, listeners, connections and a journal stream of its own. Default: all.
    #[arg(long, env = "GATEWAY_CORES")]
    pub cores: Option<u16>,
    /// How long calls are taken as before after a stop was asked for, while the gateway is not ready any more: the time that balancers need to notice.
    /// It is part of the drain timeout.
    #[arg(long, env = "GATEWAY_DRAIN_DELAY", default_value = "5s", value_parser = duration)]
    pub drain_delay: Duration,
    /// How long open calls may go on after a stop was asked for, such as `30s`.
    #[arg(long, env = "GATEWAY_DRAIN_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub drain_timeout: Duration,
    /// How long the last good policy is served from while the portal is away.
    #[arg(long, env = "GATEWAY_MAX_POLICY_AGE", default_value = "24h", value_parser = duration)]
    pub max_policy_age: Duration,
    /// How long a call waits for the lease exchange that it needs.
    #[arg(long, env = "GATEWAY_LEASE_WAIT", default_value = "50ms", value_parser = duration)]
    pub lease_wait: Duration,
    /// How long a lease that no call uses is kept, so that the next call need not wait. The portal recalls it sooner where another gateway needs it.
    #[arg(long, env = "GATEWAY_LEASE_IDLE", default_value = "30s", value_parser = duration)]
    pub lease_idle: Duration,
    /// A PEM file with certificate authorities that are trusted for https:// upstreams, beside those that the system trusts.
    #[arg(long, env = "GATEWAY_UPSTREAM_CA_FILE")]
    pub upstream_ca_file: Option<PathBuf>,
    /// The largest body of a request, in bytes.
    #[arg(long, env = "GATEWAY_MAX_REQUEST_BODY_BYTES", default_value_t = 64 * 1024 * 1024)]
    pub max_request_body_bytes: u64,
    /// How many proxies in front append to `X-Forwarded-For`. With 0, what callers send there is removed.
    #[arg(long, env = "GATEWAY_TRUSTED_PROXY_HOPS", default_value_t = 0)]
    pub trusted_proxy_hops: u8,
    /// The most connections of callers that are open at once, over all cores.
    #[arg(long, env = "GATEWAY_MAX_CONNECTIONS", default_value_t = 50_000)]
    pub max_connections: usize,
    /// The most connections that one address may have open at once; 0 for no bound. Leave it off behind a load balancer.
    #[arg(long, env = "GATEWAY_MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 0)]
    pub max_connections_per_address: usize,
    /// The most calls that are open at once, WebSockets and streams included; each core has its part. Further ones are answered with 503.
    #[arg(long, env = "GATEWAY_MAX_OPEN_CALLS", default_value_t = 50_000)]
    pub max_open_calls: usize,
    /// How much of the open calls and of the connections one namespace may have, in percent, so that the others are always served. Calls beyond it are
    /// answered with 503; connections beyond it are closed after each answer.
    #[arg(long, env = "GATEWAY_NAMESPACE_SHARE_PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub namespace_share_percent: u8,
    /// How long a connection may take to send the head of a request.
    #[arg(long, env = "GATEWAY_HEAD_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub head_timeout: Duration,
    /// How long a caller may take for each next 16 KiB of a request's body, until the answer begins.
    #[arg(long, env = "GATEWAY_BODY_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub body_timeout: Duration,
    /// How long a caller may read nothing of its answer before its connection is closed.
    #[arg(long, env = "GATEWAY_READ_TIMEOUT", default_value = "60s", value_parser = duration)]
    pub read_timeout: Duration,
    /// How long an open call may stand still, with nothing passing either way, before it is ended.
    #[arg(long, env = "GATEWAY_IDLE_TIMEOUT", default_value = "5m", value_parser = duration)]
    pub idle_timeout: Duration,
    /// How long a connection without a call stays open.
    #[arg(long, env = "GATEWAY_KEEP_ALIVE_TIMEOUT", default_value = "5m", value_parser = duration)]
    pub keep_alive_timeout: Duration,
    /// How often a long exchange writes an interim record, and so how much of it a crash may lose.
    #[arg(long, env = "GATEWAY_INTERIM_INTERVAL", default_value = "5s", value_parser = duration)]
    pub interim_interval: Duration,
    /// Connections to upstreams.
    #[command(flatten)]
    pub upstream: UpstreamConfig,
    /// TLS and the PROXY protocol.
    #[command(flatten)]
    pub listener: ListenerConfig,
    /// The access log and traces.
    #[command(flatten)]
    pub observe: crate::observe::ObserveConfig,
    /// The journal.
    #[command(flatten)]
    pub journal: JournalConfig,
    /// How lines of the log look: `text` or `json`.
    #[arg(long, env = "GATEWAY_LOG_FORMAT", default_value = "text")]
    pub log_format: telemetry::log::LogFormat,
    /// What is logged, as a `tracing` filter.
    #[arg(long, env = "GATEWAY_LOG", default_value = "info")]
    pub log: String,
}

/// Settings of the journal.
#[derive(Debug, Clone, clap::Args)]
pub struct JournalConfig {
    /// Bytes that a segment of the journal is preallocated with; a multiple of 4096.
    #[arg(long, env = "GATEWAY_JOURNAL_SEGMENT_BYTES", default_value_t = 8 * 1024 * 1024)]
    pub segment_size_bytes: u64,
    /// A segment of the journal is sealed and shipped when its first record is this old.
    #[arg(long, env = "GATEWAY_JOURNAL_MAX_AGE", default_value = "1s", value_parser = duration)]
    pub max_age: Duration,
    /// The most bytes the journal may take.
    #[arg(long, env = "GATEWAY_JOURNAL_DISK_BOUND_BYTES", default_value_t = 8 * 1024 * 1024 * 1024)]
    pub disk_bound_bytes: u64,
    /// How often the journal's records are flushed to the disk: the most that a power loss may cost.
    #[arg(long, env = "GATEWAY_JOURNAL_FLUSH_INTERVAL", default_value = "100ms", value_parser = duration)]
    pub flush_interval: Duration,
    /// How long a segment of the journal is kept after the portal took it, should the portal need it again.
    #[arg(long, env = "GATEWAY_JOURNAL_RETAIN_ACKED", default_value = "24h", value_parser = duration)]
    pub retain_acked: Duration,
    /// What of the journal the end of an answer waits for: with `process` its record survives a kill of the gateway, with `power` it is flushed, and survives
    /// a loss of power.
    #[arg(long, env = "GATEWAY_JOURNAL_DURABILITY", value_enum, default_value_t = Durability::Process)]
    pub durability: Durability,
    /// What happens to calls when the journal has no room for their records.
    #[arg(long, env = "GATEWAY_JOURNAL_ON_FULL", value_enum, default_value_t = OnFull::Refuse)]
    pub on_full: OnFull,
}

/// What happens to calls when the journal has no room for their records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnFull {
    /// They are refused with 503.
    Refuse,
    /// They are served and never billed; each is counted.
    #[value(name = "serve_unbilled")]
    ServeUnbilled,
}

/// What the end of an answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    /// Nothing: the record outlives the process the moment it is appended, and a loss of power costs at most one flush interval.
    Process,
    /// The flush of its record, which answers that end at the same time share.
    Power,
}

impl Config {
    /// Reads the process's arguments and environment; ends the process with a usage message when they are wrong.
    pub fn from_args() -> Self {
        Self::parse()
    }

    /// Defaults for everything but what has no sensible default. Tests and the development stack start from it.
    ///
    /// # Errors
    /// When the portal's URL cannot be used.
    pub fn new(portal_url: &Url, credential: &Credential, data_dir: &std::path::Path) -> Result<Self, clap::Error> {
        let data_dir = data_dir.as_os_str().to_owned();
        let arguments: [std::ffi::OsString; 7] = [
            "metering-gateway".into(),
            "--portal-url".into(),
            portal_url.as_str().into(),
            "--credential".into(),
            credential.reveal().into(),
            "--data-dir".into(),
            data_dir,
        ];
        Self::try_parse_from(arguments)
    }

    /// How many cores serve calls.
    pub fn core_count(&self) -> u16 {
        let available = std::thread::available_parallelism().map_or(1, |cores| u16::try_from(cores.get()).unwrap_or(u16::MAX));
        self.cores.unwrap_or(available).clamp(1, 256)
    }
}

fn gateway_credential(text: &str) -> Result<Credential, String> {
    Credential::parse(text)
        .filter(|credential| credential.kind() == CredentialKind::Gateway)
        .ok_or_else(|| "is not a gateway's credential; the portal shows one, `tk_gway_…`, when a gateway is added".to_owned())
}

/// Reads a number with a unit: `250ms`, `30s`, `5m`, `24h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number = u64::from_str(number).map_err(|_| format!("`{text}` is not a duration like 250ms, 30s, 5m or 24h"))?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        "h" => Ok(Duration::from_secs(number.saturating_mul(3600))),
        _ => Err(format!("`{text}` needs a unit: ms, s, m or h")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        assert!(duration("30").is_err());
        assert!(duration("s").is_err());
        assert!(duration("-1s").is_err());
    }
}
