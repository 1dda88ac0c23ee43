//! What is kept of one call while it is under way.

use std::{
    cell::RefCell,
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use calendar::Timestamp;
use http::{HeaderValue, Method, Request, Uri, Version, header};
use ids::SubscriptionId;
use journal::{AnsweredBy, Outcome};

use super::{
    Observer,
    trace::{SpanIds, Trace},
};
use crate::{
    listener::Peer,
    pipeline::grant::Grant,
    policy::{
        entries::{CompiledKey, CompiledRoute},
        services::Upstream,
    },
    upstream::body::Way,
};

/// One call, as its request said, and what was seen of it. Nothing in it is redacted yet: it may hold a credential in its target.
#[derive(Debug)]
pub struct Call {
    /// The call's id.
    pub request_id: HeaderValue,
    /// The method.
    pub method: Method,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// What the caller called, path and query included.
    pub target: Uri,
    /// The host that it called.
    pub host: Option<HeaderValue>,
    /// The protocol.
    pub version: Version,
    /// The caller's address.
    pub client: IpAddr,
    /// What the caller says that it is.
    pub user_agent: Option<HeaderValue>,
    /// When it came.
    pub begun_at: Timestamp,
    /// The trace that it is a part of.
    pub trace_id: Option<[u8; 16]>,
    /// The spans that stand for it.
    pub span: Option<SpanIds>,
    /// Whether the access log may want it.
    pub logged: bool,
    /// Whether its head could be read. Without it method, target, host and user agent are not known.
    pub has_head: bool,
    /// What was seen.
    pub seen: Seen,
}

/// What the stages saw of a call. Times are since it came.
#[derive(Debug)]
pub struct Seen {
    /// Its route.
    pub route: Option<Arc<CompiledRoute>>,
    /// The key it came with.
    pub key: Option<CompiledKey>,
    /// The subscription that pays.
    pub subscription: Option<SubscriptionId>,
    /// Where it was sent.
    pub upstream: Option<Arc<Upstream>>,
    /// Which of its addresses that was in the end, and in how many tries.
    pub way: Way,
    /// When it was sent.
    pub sent_after: Option<Duration>,
    /// When the head of the upstream's answer, or the word that there is none, was there.
    pub head_after: Option<Duration>,
    /// The upstream's status.
    pub upstream_status: Option<u16>,
    /// The status of the answer; none if the caller left before there was one.
    pub status: Option<u16>,
    /// Who gave the answer's head.
    pub answered_by: AnsweredBy,
    /// Why the gateway answered itself.
    pub problem: Option<&'static str>,
    /// How it ended.
    pub outcome: Outcome,
    /// Bytes of the answer's body that were handed on.
    pub answer_bytes: u64,
    /// When it ended.
    pub ended_after: Option<Duration>,
}

impl Call {
    /// A call that has just come.
    pub fn begin<B>(request: &Request<B>, request_id: &HeaderValue, peer: &Peer, now: Timestamp, trace: &Trace, logged: bool) -> Self {
        Self {
            request_id: request_id.clone(),
            method: request.method().clone(),
            scheme: peer.scheme(),
            target: request.uri().clone(),
            host: request.headers().get(header::HOST).cloned(),
            version: request.version(),
            client: peer.ip,
            user_agent: request.headers().get(header::USER_AGENT).cloned(),
            begun_at: now,
            trace_id: trace.trace_id,
            span: trace.span,
            logged,
            has_head: true,
            seen: Seen {
                route: None,
                key: None,
                subscription: None,
                upstream: None,
                way: Way::default(),
                sent_after: None,
                head_after: None,
                upstream_status: None,
                status: None,
                answered_by: AnsweredBy::Gateway,
                problem: None,
                outcome: Outcome::Aborted,
                answer_bytes: 0,
                ended_after: None,
            },
        }
    }
}

/// A call under way. Clones share it; when the last is dropped the call is over.
#[derive(Debug, Clone)]
pub struct Observation(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    observer: Arc<Observer>,
    begun: Instant,
    call: RefCell<Option<Call>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(mut call) = self.call.take() {
            call.seen.ended_after.get_or_insert_with(|| self.begun.elapsed());
            self.observer.over(call);
        }
    }
}

impl Observation {
    /// Begins to observe a call.
    pub fn new(observer: Arc<Observer>, call: Call) -> Self {
        Self(Rc::new(Inner { observer, begun: Instant::now(), call: RefCell::new(Some(call)) }))
    }

    fn see(&self, see: impl FnOnce(&mut Seen, Duration)) {
        if let Some(call) = self.0.call.borrow_mut().as_mut() {
            see(&mut call.seen, self.0.begun.elapsed());
        }
    }

    /// Its route was found.
    pub fn route(&self, route: &Arc<CompiledRoute>) {
        self.see(|seen, _| seen.route = Some(route.clone()));
    }

    /// Its key was found.
    pub fn key(&self, key: &CompiledKey) {
        self.see(|seen, _| seen.key = Some(key.clone()));
    }

    /// It is sent to the upstream.
    pub fn sent(&self, grant: &Grant) {
        self.see(|seen, at| {
            seen.subscription = Some(grant.subscription.id);
            seen.upstream = Some(grant.upstream.clone());
            seen.sent_after = Some(at);
        });
    }

    /// It went to an address of the upstream.
    pub fn went(&self, way: Way) {
        self.see(|seen, _| seen.way = way);
    }

    /// The head of the upstream's answer is there.
    pub fn head(&self, status: u16) {
        self.see(|seen, at| (seen.upstream_status, seen.head_after) = (Some(status), Some(at)));
    }

    /// The gateway answers itself.
    pub fn problem(&self, slug: &'static str) {
        self.see(|seen, at| {
            seen.problem = Some(slug);
            if seen.sent_after.is_some() {
                seen.head_after.get_or_insert(at);
            }
        });
    }

    /// The status that the caller gets. An answer of the gateway's own is whole with it, unless the exchange says otherwise.
    pub fn answered(&self, status: u16) {
        self.see(|seen, _| {
            let own = seen.ended_after.is_none() && seen.upstream_status.is_none();
            seen.status.get_or_insert(status);
            if own {
                seen.outcome = Outcome::Complete;
            }
        });
    }

    /// Bytes of the answer's body were handed on.
    pub fn body_bytes(&self, count: usize) {
        if let Some(call) = self.0.call.borrow_mut().as_mut() {
            call.seen.answer_bytes += count as u64;
        }
    }

    /// The exchange has ended.
    pub fn ended(&self, status: u16, answered_by: AnsweredBy, outcome: Outcome) {
        self.see(|seen, at| {
            seen.status = Some(status);
            seen.answered_by = answered_by;
            seen.outcome = outcome;
            seen.ended_after = Some(at);
        });
    }
}
