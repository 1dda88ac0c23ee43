//! What is told of single calls: the access log and spans.
//!
//! A call that neither will want costs a look at its `traceparent` and nothing else. Of the others an [`Observation`] is kept, which every stage adds
//! to; when the last of those who hold it lets go, the call is over and it is handed to a bounded queue. A thread writes the access log and the control
//! thread exports the spans; what does not fit into a queue is dropped and counted, and no call ever waits.

pub mod access_log;
pub mod collector;
pub mod observation;
pub mod redact;
pub mod settings;
pub mod spans;
pub mod trace;

use std::{io, sync::Arc, time::Duration};

use http::{HeaderValue, Request};
use tokio::sync::mpsc;

pub use observation::Observation;
pub use settings::ObserveConfig;

use self::{
    access_log::AccessLog,
    observation::{Call, Seen},
    settings::AccessLogMode,
    spans::SpanQueue,
    trace::{Incoming as IncomingTrace, Trace, TraceIds},
};
use crate::{listener::Peer, pipeline::caller::CallerStream};

/// How long the end of the access log may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Where observations go.
#[derive(Debug)]
pub struct Observer {
    mode: AccessLogMode,
    log_ratio: f64,
    log: Option<AccessLog>,
    spans: Option<SpanQueue>,
    trace_ratio: Option<f64>,
}

impl Observer {
    /// Sets it up as the settings say. The receiver is for [`spans::export`].
    ///
    /// # Errors
    /// When the access log's file cannot be opened.
    pub fn new(config: &ObserveConfig) -> io::Result<(Self, Option<mpsc::Receiver<Arc<Call>>>)> {
        let log = (config.access_log != AccessLogMode::Off).then(|| AccessLog::start(config.access_log_file.as_deref())).transpose()?;
        let (spans, receiver) = config.otlp_endpoint.as_ref().map(|_| SpanQueue::new()).unzip();
        let observer = Self { mode: config.access_log, log_ratio: config.access_log_ratio, log, spans, trace_ratio: config.trace_ratio() };
        Ok((observer, receiver))
    }

    /// A call has come: its place in a trace, and what will be told of it, if anything will.
    pub fn begin(
        self: &Arc<Self>,
        ids: &TraceIds,
        request: &Request<CallerStream>,
        request_id: &HeaderValue,
        peer: &Peer,
        now: calendar::Timestamp,
    ) -> (Trace, Option<Observation>) {
        let incoming = IncomingTrace::of(request.headers());
        let trace = Trace::begin(ids, incoming, self.trace_ratio, self.spans.is_some());
        let logged = self.logs(ids);
        let observation = (logged || trace.span.is_some()).then(|| {
            let call = Call::begin(request, request_id, peer, now, &trace, logged);
            Observation::new(self.clone(), call)
        });
        (trace, observation)
    }

    /// What came is no request, and is answered with a problem. It has a line in the access log, and no span: nothing is known of its trace.
    pub fn refused(
        self: &Arc<Self>,
        ids: &TraceIds,
        request_id: &HeaderValue,
        peer: &Peer,
        now: calendar::Timestamp,
    ) -> Option<Observation> {
        if !self.logs(ids) {
            return None;
        }
        let call = Call::begin(&Request::new(()), request_id, peer, now, &Trace::NONE, true);
        Some(Observation::new(self.clone(), Call { has_head: false, ..call }))
    }

    /// Whether the access log may want a call.
    fn logs(&self, ids: &TraceIds) -> bool {
        match self.mode {
            AccessLogMode::Off => false,
            AccessLogMode::Sampled => ids.chance(self.log_ratio),
            AccessLogMode::Errors | AccessLogMode::All => true,
        }
    }

    /// A call is over.
    fn over(&self, call: Call) {
        let wanted = call.logged && (self.mode != AccessLogMode::Errors || call.seen.is_error());
        let spanned = call.span.is_some();
        let call = Arc::new(call);
        if let (true, Some(log)) = (wanted, &self.log) {
            log.offer(call.clone());
        }
        if let (true, Some(spans)) = (spanned, &self.spans) {
            spans.offer(call);
        }
    }

    /// Writes what is in the access log's queue and closes it. Blocks, but no longer than whoever reads the log may take at the end.
    pub fn close(&self) {
        if let Some(log) = &self.log {
            log.close(CLOSE_WITHIN);
        }
    }

    /// Lines of the access log that were dropped or could not be written.
    pub fn lines_dropped(&self) -> u64 {
        self.log.as_ref().map_or(0, AccessLog::dropped)
    }

    /// Spans' queue, where spans are exported.
    pub fn spans(&self) -> Option<&SpanQueue> {
        self.spans.as_ref()
    }
}

impl Seen {
    /// Whether the log of errors has it: it failed, was denied, or did not arrive whole.
    fn is_error(&self) -> bool {
        // A gRPC call is denied with the status 200.
        self.status.is_none_or(|status| status >= 400) || self.problem.is_some() || self.outcome != journal::Outcome::Complete
    }
}
