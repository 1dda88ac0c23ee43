//! Spans of calls, exported by OTLP over HTTP on the control thread.
//!
//! A call makes a span of kind SERVER and, where it was sent on, one of kind CLIENT inside it for the request to the upstream, whose id the upstream
//! gets as its parent. Names and attributes are those of OpenTelemetry's semantic conventions for HTTP; what is ours is under `tollkeeper.`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use http::Version;
use journal::Outcome;
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{access_log::CLIENT_CLOSED, collector::CollectorClient, observation::Call, redact, trace::SpanIds};
use crate::{pipeline::path, policy::services::Upstream, shared::Shared};

/// The most calls that wait to be exported.
const QUEUE: usize = 4_096;
/// The most calls of one export.
const MAX_BATCH: usize = 512;
/// How long a batch is waited for once it has begun.
const BATCH_AFTER: Duration = Duration::from_millis(500);
/// How long a collector may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of a method that the conventions do not know is told.
const MAX_METHOD_CHARS: usize = 64;

/// The queue of calls that become spans.
#[derive(Debug)]
pub struct SpanQueue {
    queue: mpsc::Sender<Arc<Call>>,
    dropped: AtomicU64,
    exported: AtomicU64,
    failed: AtomicU64,
}

impl SpanQueue {
    /// The queue and its end.
    pub fn new() -> (Self, mpsc::Receiver<Arc<Call>>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        (Self { queue, dropped: AtomicU64::new(0), exported: AtomicU64::new(0), failed: AtomicU64::new(0) }, receiver)
    }

    /// Hands a call over. Dropped and counted if too many wait.
    pub fn offer(&self, call: Arc<Call>) {
        if self.queue.try_send(call).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Calls whose spans were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Spans that a collector took.
    pub fn exported(&self) -> u64 {
        self.exported.load(Relaxed)
    }

    /// Spans that no collector took.
    pub fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }
}

/// Where spans are sent.
#[derive(Debug)]
pub struct Exporter {
    shared: Arc<Shared>,
    calls: mpsc::Receiver<Arc<Call>>,
    exporter: opentelemetry_otlp::SpanExporter,
    client: CollectorClient,
    scope: InstrumentationScope,
}

impl Exporter {
    /// Sets it up for the collector of the settings. Further headers, for instance of authorization, are taken from `OTEL_EXPORTER_OTLP_HEADERS`.
    ///
    /// # Errors
    /// When the URL cannot be used.
    pub fn new(shared: Arc<Shared>, calls: mpsc::Receiver<Arc<Call>>) -> anyhow::Result<Self> {
        let endpoint = shared.config.observe.otlp_endpoint.as_ref().context("GATEWAY_OTLP_ENDPOINT is not set")?;
        let base = endpoint.as_str().trim_end_matches('/');
        let url = if base.ends_with("/v1/traces") { base.to_owned() } else { format!("{base}/v1/traces") };
        let client = CollectorClient::new(EXPORT_TIMEOUT)?;
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client.clone())
            .with_endpoint(url)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .context("GATEWAY_OTLP_ENDPOINT")?;
        exporter.set_resource(
            &Resource::builder()
                .with_service_name("tollkeeper-gateway")
                .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
                .with_attribute(KeyValue::new("service.instance.id", shared.journal_id().to_string()))
                .build(),
        );
        let scope = InstrumentationScope::builder("metering-gateway").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Self { shared, calls, exporter, client, scope })
    }

    /// Exports until it is told to stop, then what waits, for as long as `finish_within`.
    pub async fn run(mut self, stop: CancellationToken, finish_within: Duration) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                received = self.calls.recv_many(&mut batch, MAX_BATCH) => if received == 0 { return },
            }
            if batch.len() < MAX_BATCH {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(BATCH_AFTER) => (),
                }
                while batch.len() < MAX_BATCH
                    && let Ok(call) = self.calls.try_recv()
                {
                    batch.push(call);
                }
            }
            self.export(&mut batch).await;
        }
        let rest = async {
            loop {
                while batch.len() < MAX_BATCH
                    && let Ok(call) = self.calls.try_recv()
                {
                    batch.push(call);
                }
                if batch.is_empty() {
                    return;
                }
                self.export(&mut batch).await;
            }
        };
        if timeout(finish_within, rest).await.is_err() {
            tracing::warn!("not all spans could be exported in time");
        }
    }

    async fn export(&self, batch: &mut Vec<Arc<Call>>) {
        let spans: Vec<SpanData> = batch.drain(..).flat_map(|call| self.spans_of(&call)).collect();
        let Some(queue) = self.shared.observer.spans() else { return };
        let count = spans.len() as u64;
        let exported = self.exporter.export(spans).await;
        let heard = self.client.take();
        let failed = match exported {
            Ok(()) if heard.rejected == 0 => 0,
            Ok(()) => {
                let rejected = heard.rejected.min(count);
                tracing::warn!(rejected, count, reason = heard.reason, "the collector rejected spans");
                rejected
            }
            Err(error) => {
                let error = heard.error.unwrap_or_else(|| error.to_string());
                tracing::warn!(error, count, "spans were not exported");
                count
            }
        };
        queue.failed.fetch_add(failed, Relaxed);
        queue.exported.fetch_add(count - failed, Relaxed);
    }

    fn spans_of(&self, call: &Call) -> Vec<SpanData> {
        let Some(ids) = call.span else { return Vec::new() };
        let mut spans = vec![self.server(call, &ids)];
        spans.extend(self.client(call, &ids));
        spans
    }

    fn server(&self, call: &Call, ids: &SpanIds) -> SpanData {
        let seen = &call.seen;
        let status = seen.status.unwrap_or(CLIENT_CLOSED);
        let (method, original) = method(call);
        let host = call.host();
        let route = seen.route.as_ref().map(|route| route.template.to_string());
        let mut attributes = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("url.scheme", call.scheme),
            KeyValue::new("url.path", redact::path(call.target.path()).into_owned()),
            KeyValue::new("http.response.status_code", i64::from(status)),
            KeyValue::new("network.protocol.version", protocol(call.version)),
            KeyValue::new("client.address", call.client.to_string()),
            KeyValue::new("tollkeeper.request.id", call.request_id.to_str().unwrap_or_default().to_owned()),
        ];
        let mut put = |name: &'static str, value: Option<String>| attributes.extend(value.map(|value| KeyValue::new(name, value)));
        put("http.request.method_original", original);
        put("url.query", call.target.query().map(redact::query));
        put("http.route", route.clone());
        put("server.address", host.as_deref().map(|host| host_of(host).0.to_owned()));
        put("user_agent.original", call.user_agent());
        put("tollkeeper.route.id", seen.route.as_ref().map(|route| route.id.to_string()));
        put("tollkeeper.key.id", seen.key.as_ref().map(|key| key.id.to_string()));
        put("tollkeeper.namespace.id", seen.key.as_ref().map(|key| key.namespace.to_string()));
        put("tollkeeper.subscription.id", seen.subscription.map(|subscription| subscription.to_string()));
        // The caller's own faults are no error of the server's span.
        let failed = status >= 500 || seen.outcome == Outcome::Broken;
        put("error.type", failed.then(|| seen.problem.map_or_else(|| status.to_string(), str::to_owned)));
        let port = host.as_deref().and_then(|host| host_of(host).1);
        attributes.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
        let verb = verb(method);
        let name = route.map_or_else(|| verb.to_owned(), |route| format!("{verb} {route}"));
        let ended = seen.ended_after.unwrap_or_default();
        SpanData {
            parent_span_id: ids.parent.map_or(SpanId::INVALID, SpanId::from_bytes),
            parent_span_is_remote: ids.parent.is_some(),
            status: if failed { Status::error("") } else { Status::Unset },
            ..self.span(call, ids, Made { id: ids.server, kind: SpanKind::Server, name, attributes, from: Duration::ZERO, to: ended })
        }
    }

    /// The request to the upstream, up to the head of its answer.
    fn client(&self, call: &Call, ids: &SpanIds) -> Option<SpanData> {
        let seen = &call.seen;
        let (upstream, from) = (seen.upstream.as_ref()?, seen.sent_after?);
        let (method, original) = method(call);
        let mut attributes = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("server.address", upstream.authority.host().to_owned()),
            KeyValue::new("server.port", i64::from(upstream.port())),
            KeyValue::new("url.scheme", scheme(upstream)),
        ];
        attributes.extend(original.map(|original| KeyValue::new("http.request.method_original", original)));
        attributes.extend(url(call, upstream).map(|url| KeyValue::new("url.full", url)));
        if let Some(address) = seen.way.address {
            attributes.push(KeyValue::new("network.peer.address", address.ip().to_string()));
            attributes.push(KeyValue::new("network.peer.port", i64::from(address.port())));
        }
        if seen.way.tries > 1 {
            attributes.push(KeyValue::new("http.request.resend_count", i64::from(seen.way.tries - 1)));
        }
        attributes.extend(seen.upstream_status.map(|status| KeyValue::new("http.response.status_code", i64::from(status))));
        let fault = seen
            .upstream_status
            .map_or_else(|| Some(seen.problem.unwrap_or("canceled").to_owned()), |status| (status >= 400).then(|| status.to_string()));
        let status = if fault.is_some() { Status::error("") } else { Status::Unset };
        attributes.extend(fault.map(|fault| KeyValue::new("error.type", fault)));
        let to = seen.head_after.or(seen.ended_after).unwrap_or(from);
        let made = Made { id: ids.client, kind: SpanKind::Client, name: verb(method).to_owned(), attributes, from, to };
        Some(SpanData { parent_span_id: SpanId::from_bytes(ids.server), status, ..self.span(call, ids, made) })
    }

    fn span(&self, call: &Call, ids: &SpanIds, made: Made) -> SpanData {
        let begun = SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(call.begun_at.micros()).unwrap_or(0));
        let (trace_id, flags) = (TraceId::from_bytes(ids.trace_id), TraceFlags::new(ids.flags));
        SpanData {
            span_context: SpanContext::new(trace_id, SpanId::from_bytes(made.id), flags, false, TraceState::NONE),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: made.kind,
            name: made.name.into(),
            start_time: begun + made.from,
            end_time: begun + made.to,
            attributes: made.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

/// What differs between the spans of a call. Times are since it came.
struct Made {
    id: [u8; 8],
    kind: SpanKind,
    name: String,
    attributes: Vec<KeyValue>,
    from: Duration,
    to: Duration,
}

/// What stands for a method that the conventions do not know.
const OTHER: &str = "_OTHER";

/// The method as the conventions have it, and as it came where they do not know it.
fn method(call: &Call) -> (&'static str, Option<String>) {
    const KNOWN: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
    let came = call.method.as_str();
    match KNOWN.into_iter().find(|known| *known == came) {
        Some(known) => (known, None),
        None => (OTHER, Some(redact::escaped(came).chars().take(MAX_METHOD_CHARS).collect())),
    }
}

/// The method as names of spans have it.
fn verb(method: &'static str) -> &'static str {
    if method == OTHER { "HTTP" } else { method }
}

fn scheme(upstream: &Upstream) -> &'static str {
    if upstream.group.tls.is_some() { "https" } else { "http" }
}

/// What was called at the upstream, redacted.
fn url(call: &Call, upstream: &Upstream) -> Option<String> {
    let path = path::normalize(call.target.path()).ok()?;
    let target = call.seen.route.as_ref()?.target(&upstream.base_path, &path, call.target.query());
    let (path, query) = target.split_once('?').map_or((target.as_str(), None), |(path, query)| (path, Some(redact::query(query))));
    let host = upstream.authority.as_str().rsplit('@').next().unwrap_or_default();
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    Some(format!("{}://{host}{}{query}", scheme(upstream), redact::path(path)))
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

/// The name, and the port where there is one.
fn host_of(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port.parse().ok()),
        _ => (host, None),
    }
}
