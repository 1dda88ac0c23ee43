//! The peers' configurations for one job: find an API key among many, hold it to its own limit, count the call for it, say upstream who calls, and
//! forward over kept connections.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    process::{Cores, Process, Start, free_address},
    world::World,
};

/// The body of every answer.
pub const ANSWER_BYTES: usize = 1_024;
/// How many callers HAProxy lets connect: twice as many files must be allowed, and some more.
pub const MAX_CONNECTIONS: usize = 9_900;

/// Starts the upstream, nginx, on its own core. Without a master process nothing is left of it when it is killed.
///
/// # Errors
/// When it does not start.
pub fn upstream(folder: &Path, cores: &Cores) -> anyhow::Result<Process> {
    let address = free_address()?;
    let body = "x".repeat(ANSWER_BYTES);
    let root = folder.display();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {root}/upstream.pid;\nerror_log {root}/upstream.err crit;\n\
         events {{ worker_connections 16384; }}\n\
         http {{\n  access_log off;\n  keepalive_timeout 1h;\n  keepalive_requests 2000000000;\n\
         \x20 server {{\n    listen {address} backlog=4096;\n\
         \x20   location / {{ default_type application/json; return 200 '{body}'; }}\n  }}\n}}\n"
    );
    let file = write(folder, "upstream.conf", &text)?;
    let start = Start { name: "upstream", address, cores: &[cores.upstream], folder };
    Process::start(&start, Path::new("nginx"), &["-c", &file])
}

/// Starts the relay of this package.
///
/// # Errors
/// When it does not start.
pub fn relay(folder: &Path, cores: &Cores, upstream: SocketAddr) -> anyhow::Result<Process> {
    let address = free_address()?;
    let start = Start { name: "relay", address, cores: &[cores.proxy], folder };
    let (listen, upstream) = (address.to_string(), upstream.to_string());
    Process::start(&start, &std::env::current_exe()?, &["relay", &listen, &upstream])
}

/// Starts nginx: keys in a map, a limit a key, a line of the log a call.
///
/// # Errors
/// When it does not start.
pub fn nginx(folder: &Path, cores: &Cores, world: &World) -> anyhow::Result<Process> {
    let address = free_address()?;
    let (root, upstream) = (folder.display(), world.upstream);
    let map: String = world.keys().enumerate().map(|(number, key)| format!("    {key} consumer-{number};\n")).collect();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {root}/nginx.pid;\nerror_log {root}/nginx.err crit;\n\
         events {{ worker_connections 16384; }}\n\
         http {{\n  keepalive_timeout 1h;\n  keepalive_requests 2000000000;\n\
         \x20 map_hash_bucket_size 128;\n  map_hash_max_size 524288;\n\
         \x20 map $http_x_api_key $consumer {{\n    default '';\n{map}  }}\n\
         \x20 limit_req_zone $consumer zone=keys:64m rate=1000000r/s;\n\
         \x20 log_format calls '$msec $consumer $status $bytes_sent';\n\
         \x20 access_log {root}/nginx.calls calls buffer=64k flush=1s;\n\
         \x20 upstream api {{ server {upstream}; keepalive 1024; keepalive_timeout 1h; keepalive_requests 2000000000; }}\n\
         \x20 server {{\n    listen {address} backlog=4096;\n    location / {{\n\
         \x20     if ($consumer = '') {{ return 401; }}\n\
         \x20     limit_req zone=keys burst=100000 nodelay;\n\
         \x20     proxy_http_version 1.1;\n      proxy_set_header Connection '';\n      proxy_set_header Host $host;\n\
         \x20     proxy_set_header X-Consumer $consumer;\n      proxy_pass http://api;\n    }}\n  }}\n}}\n"
    );
    let file = write(folder, "nginx.conf", &text)?;
    let start = Start { name: "nginx", address, cores: &[cores.proxy], folder };
    Process::start(&start, Path::new("nginx"), &["-c", &file])
}

/// Starts HAProxy: keys in a map, counters and a limit a key in a stick table.
///
/// # Errors
/// When it does not start.
pub fn haproxy(folder: &Path, cores: &Cores, world: &World) -> anyhow::Result<Process> {
    let address = free_address()?;
    let upstream = world.upstream;
    let map: String = world.keys().enumerate().map(|(number, key)| format!("{key} consumer-{number}\n")).collect();
    let map = write(folder, "haproxy.map", &map)?;
    let text = format!(
        "global\n  nbthread 1\n  maxconn {MAX_CONNECTIONS}\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n  timeout http-keep-alive 1h\n\
         \x20 option http-keep-alive\n  http-reuse always\n\
         backend calls\n  stick-table type string len 32 size 2m expire 10m store http_req_cnt,http_req_rate(1s),bytes_out_cnt\n\
         frontend callers\n  bind {address} backlog 4096\n\
         \x20 http-request set-var(txn.consumer) req.hdr(x-api-key),map_str({map})\n\
         \x20 http-request deny deny_status 401 unless {{ var(txn.consumer) -m found }}\n\
         \x20 http-request track-sc0 var(txn.consumer) table calls\n\
         \x20 http-request deny deny_status 429 if {{ sc_http_req_rate(0,calls) gt 1000000 }}\n\
         \x20 http-request set-header x-consumer %[var(txn.consumer)]\n\
         \x20 default_backend api\n\
         backend api\n  server one {upstream} pool-max-conn 1024\n"
    );
    let file = write(folder, "haproxy.cfg", &text)?;
    let start = Start { name: "haproxy", address, cores: &[cores.proxy], folder };
    Process::start(&start, Path::new("haproxy"), &["-db", "-f", &file])
}

/// Starts Envoy, whose binary is named by `ENVOY`: `api_key_auth`, a local limit a consumer, an access log.
///
/// # Errors
/// When it does not start.
pub fn envoy(binary: &Path, folder: &Path, cores: &Cores, world: &World) -> anyhow::Result<Process> {
    let address = free_address()?;
    let socket = |at: SocketAddr| serde_json::json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}});
    let typed = |name: &str, kind: &str, mut config: serde_json::Value| {
        config["@type"] = format!("type.googleapis.com/envoy.extensions.{kind}").into();
        serde_json::json!({"name": name, "typed_config": config})
    };
    let bucket = serde_json::json!({"max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s"});
    let keys: Vec<_> = world
        .keys()
        .enumerate()
        .map(|(number, key)| serde_json::json!({"key": {"inline_string": key}, "client": format!("consumer-{number}")}))
        .collect();
    let everybody = serde_json::json!({"default_value": {"numerator": 100, "denominator": "HUNDRED"}});
    let filters = serde_json::json!([
        typed(
            "auth",
            "filters.http.api_key_auth.v3.ApiKeyAuth",
            serde_json::json!({
            "key_sources": [{"header": "x-api-key"}], "forwarding": {"header": "x-consumer"}, "credentials": keys})
        ),
        typed(
            "limit",
            "filters.http.local_ratelimit.v3.LocalRateLimit",
            serde_json::json!({
            "stat_prefix": "limit", "token_bucket": bucket, "filter_enabled": everybody, "filter_enforced": everybody,
            "rate_limits": [{"actions": [{"request_headers": {"header_name": "x-consumer", "descriptor_key": "consumer"}}]}],
            "descriptors": [{"entries": [{"key": "consumer"}], "token_bucket": bucket}], "max_dynamic_descriptors": 20_000})
        ),
        typed("router", "filters.http.router.v3.Router", serde_json::json!({"suppress_envoy_headers": true})),
    ]);
    let log = typed(
        "log",
        "access_loggers.file.v3.FileAccessLog",
        serde_json::json!({
        "path": folder.join("envoy.calls"),
        "log_format": {"text_format_source": {"inline_string": "%START_TIME(%s)% %REQ(X-CONSUMER)% %RESPONSE_CODE% %BYTES_SENT%\n"}}}),
    );
    let routes = serde_json::json!({"name": "all", "virtual_hosts": [{"name": "all", "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "api", "timeout": "0s"}}]}]});
    let manager = typed(
        "http",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        serde_json::json!({
        "stat_prefix": "in", "codec_type": "HTTP1", "generate_request_id": false, "access_log": [log], "route_config": routes, "http_filters": filters}),
    );
    let config = serde_json::json!({"static_resources": {
        "listeners": [{"name": "in", "address": socket(address), "filter_chains": [{"filters": [manager]}]}],
        "clusters": [{"name": "api", "type": "STATIC", "connect_timeout": "5s", "load_assignment": {"cluster_name": "api",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(world.upstream)}}]}]}}]}});
    let file = write(folder, "envoy.json", &config.to_string())?;
    let start = Start { name: "envoy", address, cores: &[cores.proxy], folder };
    Process::start(&start, binary, &["-c", &file, "--concurrency", "1", "--log-level", "error", "--disable-hot-restart"])
}

fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<String> {
    let path: PathBuf = folder.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path.display().to_string())
}
