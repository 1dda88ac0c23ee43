//! Settings of the connections to upstreams.

use std::{sync::Arc, time::Duration};

use clap::Args;

use super::resolver::{Resolve, SystemResolver};
use crate::config::duration;

/// Settings of the connections to upstreams. What a service says in its options comes first.
#[derive(Debug, Clone, Args)]
pub struct UpstreamConfig {
    /// The most connections to one address of a service at once, over all cores. Of sixteen or more, one namespace has never all.
    #[arg(id = "upstream-max-connections", long, env = "GATEWAY_UPSTREAM_MAX_CONNECTIONS", default_value_t = 4096)]
    pub max_connections: u32,
    /// The most calls of a service that may wait for a connection, over all cores. More are answered 503, but for a few of namespaces that have few waiting:
    /// no other can take all places before them.
    #[arg(id = "upstream-max-waiting", long, env = "GATEWAY_UPSTREAM_MAX_WAITING", default_value_t = 1024)]
    pub max_waiting: u32,
    /// The most retries of one call.
    #[arg(id = "upstream-max-retries", long, env = "GATEWAY_UPSTREAM_MAX_RETRIES", default_value_t = 2)]
    pub max_retries: u8,
    /// After how many failures in a row an address of a service is left out for a while; 0 for never.
    #[arg(id = "upstream-eject-after-failures", long, env = "GATEWAY_UPSTREAM_EJECT_AFTER_FAILURES", default_value_t = 5)]
    pub eject_after_failures: u32,
    /// For how long an address is left out at first; each time in a row it is twice as long, up to five minutes or this.
    #[arg(id = "upstream-ejection-time", long, env = "GATEWAY_UPSTREAM_EJECTION_TIME", default_value = "10s", value_parser = duration)]
    pub ejection_time: Duration,
    /// How often names of upstreams are resolved again.
    #[arg(id = "upstream-resolve-interval", long, env = "GATEWAY_UPSTREAM_RESOLVE_INTERVAL", default_value = "5s", value_parser = duration)]
    pub resolve_interval: Duration,
    /// How long a connection to an upstream may be idle before it is closed.
    #[arg(id = "upstream-idle-timeout", long, env = "GATEWAY_UPSTREAM_IDLE_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub idle_timeout: Duration,
    /// How old a connection to an upstream may become; then it ends with its last exchange, so that new addresses behind a balancer are found.
    #[arg(id = "upstream-max-age", long, env = "GATEWAY_UPSTREAM_MAX_AGE", default_value = "10m", value_parser = duration)]
    pub max_age: Duration,
    /// Who resolves names: the system, unless a program that embeds the gateway says otherwise.
    #[arg(skip = Arc::new(SystemResolver) as Arc<dyn Resolve>)]
    pub resolver: Arc<dyn Resolve>,
}
