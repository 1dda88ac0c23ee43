//! The access log: a JSON object a line, for each call that the settings want, written by a thread of its own.
//!
//! It holds the id of a key and never the key, no header that could carry a credential, and no body; target and user agent are redacted.

use std::{
    borrow::Cow,
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
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
    thread: Mutex<Option<Writing>>,
    counts: Arc<Counts>,
}

/// The log's thread.
#[derive(Debug)]
struct Writing {
    thread: JoinHandle<()>,
    /// Nothing comes by it; it ends with the thread.
    ended: Receiver<()>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Calls that the queue took.
    taken: AtomicU64,
    /// Of those, calls that were written, or of which it is known that they could not be.
    settled: AtomicU64,
    /// Calls that the queue did not take, or that could not be written.
    dropped: AtomicU64,
    /// The thread shall end once nothing waits.
    closing: AtomicBool,
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
        let (end, ended) = sync_channel(1);
        let counts = Arc::<Counts>::default();
        let counting = counts.clone();
        let thread = std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            let _ends_with_the_thread = end;
            write(&calls, out, &counting);
        })?;
        Ok(Self { queue, thread: Mutex::new(Some(Writing { thread, ended })), counts })
    }

    /// Hands a call over. Dropped and counted if too many wait.
    pub fn offer(&self, call: Arc<Call>) {
        let counter = if self.queue.try_send(Some(call)).is_ok() { &self.counts.taken } else { &self.counts.dropped };
        counter.fetch_add(1, Relaxed);
    }

    /// Calls that were dropped, or could not be written.
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Relaxed)
    }

    /// Writes what waits and ends the thread. One that whoever reads the log keeps waiting for longer than `within` is left behind, and what it has not
    /// written is counted as dropped.
    pub fn close(&self, within: Duration) {
        let Some(Writing { thread, ended }) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        // Before the word that wakes it: in a full queue there is no room for that, and the thread looks here once it has emptied it.
        self.counts.closing.store(true, SeqCst);
        let _ = self.queue.try_send(None);
        if ended.recv_timeout(within) == Err(RecvTimeoutError::Timeout) {
            let Counts { taken, settled, dropped, .. } = &*self.counts;
            let left = taken.load(Relaxed).saturating_sub(settled.load(Relaxed));
            dropped.fetch_add(left, Relaxed);
            tracing::warn!(lines = left, ?within, "the end of the access log was not written: whoever reads it does not");
            return;
        }
        if thread.join().is_err() {
            tracing::error!("the access log's thread panicked");
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("the access log {} cannot be written: {error}", path.display()));
    OpenOptions::new().create(true).append(true).open(path).map_err(named)
}

fn write(calls: &Receiver<Option<Arc<Call>>>, out: Box<dyn Write + Send>, counts: &Counts) {
    let mut out = BufWriter::with_capacity(64 * 1024, out);
    let mut unflushed = 0;
    let mut failing = false;
    loop {
        let call = match calls.try_recv() {
            Ok(call) => call,
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {
                failing = told(out.flush(), failing, std::mem::take(&mut unflushed), counts);
                if counts.closing.load(SeqCst) {
                    return;
                }
                match calls.recv() {
                    Ok(call) => call,
                    Err(_) => return,
                }
            }
        };
        // The word that it shall end: what came before it is written first.
        let Some(call) = call else { continue };
        unflushed += 1;
        let mut line = serde_json::to_vec(&Line::of(&call)).unwrap_or_default();
        line.push(b'\n');
        if let Err(error) = out.write_all(&line) {
            failing = told(Err(error), failing, std::mem::take(&mut unflushed), counts);
        }
    }
}

/// Says once that the log cannot be written, and once that it can again; counts what may be lost meanwhile. Returns whether it is failing.
fn told(result: io::Result<()>, failing: bool, unflushed: u64, counts: &Counts) -> bool {
    counts.settled.fetch_add(unflushed, Relaxed);
    match result {
        Ok(()) if failing => tracing::info!("the access log can be written again"),
        Ok(()) => (),
        Err(error) => {
            counts.dropped.fetch_add(unflushed, Relaxed);
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
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Cow<'a, str>>,
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
            host: call.host(),
            method: call.has_head.then(|| redact::escaped(call.method.as_str())),
            path: call.has_head.then(|| redact::path(call.target.path())),
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
    /// The host that was called: the header, or the target's. Redacted, and without what stands before an `@`, which is a name and a password.
    pub fn host(&self) -> Option<String> {
        let header = self.host.as_ref().map(|host| String::from_utf8_lossy(host.as_bytes()));
        let called = header.or_else(|| self.target.authority().map(|authority| authority.as_str().into()))?;
        let host = called.rsplit('@').next().unwrap_or_default();
        Some(redact::escaped(host).into_owned())
    }

    /// What the caller says that it is, redacted.
    pub fn user_agent(&self) -> Option<String> {
        self.user_agent.as_ref().map(|agent| redact::escaped(&String::from_utf8_lossy(agent.as_bytes())).into_owned())
    }
}
