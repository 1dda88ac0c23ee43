//! The access log: a JSON object a line, for each call that the settings want, written by a thread of its own.
//!
//! It holds the id of a key and never the key, no header that could carry a credential, and no body; target and user agent are redacted.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use calendar::Timestamp;
use gateway_control::usage::Mode;
use ids::{ApiKeyId, ApplicationId, NamespaceId, RouteId, SubscriptionId};
use journal::{AnsweredBy, Outcome};
use serde::Serialize;

use super::{observation::Call, redact};

/// The most calls that wait to be written.
const QUEUE: usize = 8_192;

/// The log's queue and its thread.
#[derive(Debug)]
pub struct AccessLog {
    queue: SyncSender<Option<Arc<Call>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// Opens the log: a file that is appended to, or standard output.
    ///
    /// # Errors
    /// When the file cannot be opened, or the thread not be started.
    pub fn start(file: Option<&Path>) -> io::Result<Self> {
        let out: Box<dyn Write + Send> = match file {
            Some(path) => Box::new(open(path)?),
            None => Box::new(io::stdout()),
        };
        let (queue, calls) = sync_channel(QUEUE);
        let dropped = Arc::<AtomicU64>::default();
        let counter = dropped.clone();
        let thread = std::thread::Builder::new().name("access-log".to_owned()).spawn(move || write(&calls, out, &counter))?;
        Ok(Self { queue, thread: Mutex::new(Some(thread)), dropped })
    }

    /// Hands a call over. Dropped and counted if too many wait.
    pub fn offer(&self, call: Arc<Call>) {
        if self.queue.try_send(Some(call)).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Calls that were dropped, or could not be written.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Writes what waits and ends the thread.
    pub fn close(&self) {
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        // A thread that has ended already has nothing left to write.
        if self.queue.send(None).is_ok() && thread.join().is_err() {
            tracing::error!("the access log's thread panicked");
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("the access log {} cannot be written: {error}", path.display()));
    OpenOptions::new().create(true).append(true).open(path).map_err(named)
}

fn write(calls: &Receiver<Option<Arc<Call>>>, out: Box<dyn Write + Send>, dropped: &AtomicU64) {
    let mut out = BufWriter::with_capacity(64 * 1024, out);
    let mut unflushed = 0;
    let mut failing = false;
    loop {
        let call = match calls.try_recv() {
            Ok(call) => call,
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {
                failing = told(out.flush(), failing, std::mem::take(&mut unflushed), dropped);
                match calls.recv() {
                    Ok(call) => call,
                    Err(_) => return,
                }
            }
        };
        let Some(call) = call else {
            told(out.flush(), failing, unflushed, dropped);
            return;
        };
        unflushed += 1;
        let mut line = serde_json::to_vec(&Line::of(&call)).unwrap_or_default();
        line.push(b'\n');
        if let Err(error) = out.write_all(&line) {
            failing = told(Err(error), failing, std::mem::take(&mut unflushed), dropped);
        }
    }
}

/// Says once that the log cannot be written, and once that it can again; counts what may be lost meanwhile. Returns whether it is failing.
fn told(result: io::Result<()>, failing: bool, unflushed: u64, dropped: &AtomicU64) -> bool {
    match result {
        Ok(()) if failing => tracing::info!("the access log can be written again"),
        Ok(()) => (),
        Err(error) => {
            dropped.fetch_add(unflushed, Relaxed);
            if !failing {
                tracing::error!(%error, "the access log cannot be written");
            }
            return true;
        }
    }
    false
}

/// A line. Absent is what was not known when the call ended.
#[derive(Serialize)]
struct Line<'a> {
    time: Timestamp,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<String>,
    client: IpAddr,
    protocol: String,
    scheme: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    method: &'a str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<RouteId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<NamespaceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<ApplicationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription: Option<SubscriptionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<ApiKeyId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_address: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_tries: Option<u32>,
    status: u16,
    answered_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'static str>,
    outcome: &'static str,
    duration_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_seconds: Option<f64>,
    answer_bytes: u64,
}

/// The status that stands for a caller who left before there was an answer, here as in the records.
pub const CLIENT_CLOSED: u16 = 499;

impl<'a> Line<'a> {
    fn of(call: &'a Call) -> Self {
        let seen = &call.seen;
        let key = seen.key.as_ref();
        let upstream_time = |sent: Duration| seen.head_after.map(|head| seconds(head.saturating_sub(sent)));
        Self {
            time: call.begun_at,
            request_id: call.request_id.to_str().unwrap_or_default(),
            trace_id: call.trace_id.map(hex::encode),
            span_id: call.span.map(|span| hex::encode(span.server)),
            client: call.client,
            protocol: format!("{:?}", call.version),
            scheme: call.scheme,
            host: call.host().map(|host| redact::text(&host).into_owned()),
            method: call.method.as_str(),
            path: redact::path(call.target.path()).into_owned(),
            query: call.target.query().map(redact::query),
            user_agent: call.user_agent(),
            route: seen.route.as_ref().map(|route| route.id),
            namespace: key.map(|key| key.namespace),
            application: key.map(|key| key.application),
            subscription: seen.subscription,
            key: key.map(|key| key.id),
            mode: key.map(|key| match key.mode {
                Mode::Live => "live",
                Mode::Test => "test",
            }),
            upstream: seen.upstream.as_ref().map(|upstream| upstream.authority.as_str()),
            upstream_address: seen.way.address,
            upstream_tries: Some(seen.way.tries).filter(|tries| *tries > 0),
            status: seen.status.unwrap_or(CLIENT_CLOSED),
            answered_by: match seen.answered_by {
                AnsweredBy::Gateway => "gateway",
                AnsweredBy::Upstream => "upstream",
            },
            problem: seen.problem,
            outcome: match seen.outcome {
                Outcome::Complete => "complete",
                Outcome::Aborted => "aborted",
                Outcome::Broken => "broken",
            },
            duration_seconds: seconds(seen.ended_after.unwrap_or_default()),
            upstream_seconds: seen.sent_after.and_then(upstream_time),
            answer_bytes: seen.answer_bytes,
        }
    }
}

/// In whole microseconds.
fn seconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e6
}

impl Call {
    /// The host that was called: the header, or the target's.
    pub fn host(&self) -> Option<String> {
        let header = self.host.as_ref().map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
        header.or_else(|| self.target.authority().map(|authority| authority.as_str().rsplit('@').next().unwrap_or_default().to_owned()))
    }

    /// What the caller says that it is, redacted.
    pub fn user_agent(&self) -> Option<String> {
        self.user_agent.as_ref().map(|agent| redact::text(&String::from_utf8_lossy(agent.as_bytes())).into_owned())
    }
}
