//! A call's place in a trace (W3C Trace Context).
//!
//! A span stands for the call where spans are exported and the trace is recorded: the caller's flag decides that, and for traces that begin here the
//! ratio, by the last 56 bits of the trace's id, so that everyone who decides by the id decides alike. The upstream then hears of the span that stands
//! for the gateway's own request to it. Without spans a caller's context passes as it came: a span id that nobody exports would tear the trace.

use std::cell::Cell;

use http::{HeaderMap, HeaderName, HeaderValue};
use telemetry::trace_context::{RANDOM, SAMPLED, TraceContext, is_valid_tracestate};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A core's source of ids: SplitMix64 from a random beginning. They must differ, not be hard to guess.
#[derive(Debug)]
pub struct TraceIds(Cell<u64>);

impl TraceIds {
    /// Begins at a random number.
    pub fn new(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn span_id(&self) -> [u8; 8] {
        // Zero is no id.
        self.next().max(1).to_be_bytes()
    }

    fn trace_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.next().to_be_bytes());
        id[8..].copy_from_slice(&self.next().max(1).to_be_bytes());
        id
    }

    /// True in so many of all cases.
    pub fn chance(&self, ratio: f64) -> bool {
        below(self.next(), ratio)
    }
}

/// Whether the last 56 bits are among the highest `ratio` of all.
fn below(bits: u64, ratio: f64) -> bool {
    const ALL: f64 = (1_u64 << 56) as f64;
    (bits & ((1 << 56) - 1)) as f64 >= ALL - ratio * ALL
}

/// What a caller says of its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// Nothing.
    Absent,
    /// What is no context, or more than one.
    Invalid,
    /// A context; and whether there is a `tracestate` that must not pass.
    Valid(TraceContext, bool),
}

impl Incoming {
    /// Reads a call's headers.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(TRACEPARENT).iter();
        // A state without a context has no meaning to anyone, so it is not looked for.
        let Some(first) = values.next() else { return Self::Absent };
        match TraceContext::parse(first.as_bytes()) {
            Some(context) if values.next().is_none() => {
                Self::Valid(context, !is_valid_tracestate(headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes)))
            }
            _ => Self::Invalid,
        }
    }
}

/// What becomes of the headers on the way to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forward {
    /// They pass.
    Pass,
    /// They are removed.
    Remove,
    /// This context goes; what the caller sent as its state stays where it is a part of the same trace.
    Put { context: TraceContext, with_state: bool },
    /// The context passes without its state.
    DropState,
}

/// The ids of the spans of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanIds {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The caller's span.
    pub parent: Option<[u8; 8]>,
    /// The call.
    pub server: [u8; 8],
    /// The gateway's request to the upstream.
    pub client: [u8; 8],
    /// The flags.
    pub flags: u8,
}

/// A call's place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// The trace that the call is a part of, recorded or not.
    pub trace_id: Option<[u8; 16]>,
    /// The spans that stand for it, where they are exported.
    pub span: Option<SpanIds>,
    forward: Forward,
}

impl Trace {
    /// No trace.
    pub const NONE: Self = Self { trace_id: None, span: None, forward: Forward::Pass };

    /// The place of a call that has come. `ratio` is absent where no trace begins here.
    pub fn begin(ids: &TraceIds, incoming: Incoming, ratio: Option<f64>, exported: bool) -> Self {
        match incoming {
            Incoming::Valid(context, bad_state) if !exported => {
                let forward = if bad_state { Forward::DropState } else { Forward::Pass };
                Self { trace_id: Some(context.trace_id), span: None, forward }
            }
            Incoming::Valid(context, bad_state) => Self::go_on(ids, context, Some(context.span_id), !bad_state),
            Incoming::Absent | Incoming::Invalid => {
                let Some(ratio) = ratio else {
                    let forward = if incoming == Incoming::Absent { Forward::Pass } else { Forward::Remove };
                    return Self { trace_id: None, span: None, forward };
                };
                let (trace_id, span_id) = (ids.trace_id(), ids.span_id());
                let [.., last] = *trace_id.as_chunks::<8>().0 else { return Self { trace_id: None, span: None, forward: Forward::Remove } };
                let flags = if below(u64::from_be_bytes(last), ratio) { SAMPLED } else { 0 };
                let context = TraceContext { trace_id, span_id, flags };
                if exported {
                    return Self::go_on(ids, context, None, false);
                }
                Self { trace_id: Some(trace_id), span: None, forward: Forward::Put { context, with_state: false } }
            }
        }
    }

    /// Another span of a trace.
    fn go_on(ids: &TraceIds, context: TraceContext, parent: Option<[u8; 8]>, with_state: bool) -> Self {
        let trace_id = context.trace_id;
        // Flags that are not known must be zero in what goes on (W3C Trace Context, 3.2.2.5): what they would say of the gateway nobody knows.
        let flags = context.flags & (SAMPLED | RANDOM);
        let client = ids.span_id();
        let span = context.is_sampled().then(|| SpanIds { trace_id, parent, server: ids.span_id(), client, flags });
        let context = TraceContext { trace_id, span_id: client, flags };
        Self { trace_id: Some(trace_id), span, forward: Forward::Put { context, with_state } }
    }

    /// Tells the upstream: what is added, and which of the caller's fields pass.
    pub fn to_upstream(&self, added: &mut Vec<(HeaderName, HeaderValue)>) -> TracePasses {
        let (context, with_state) = match self.forward {
            Forward::Pass => return TracePasses { parent: true, state: true },
            Forward::DropState => return TracePasses { parent: true, state: false },
            Forward::Remove => return TracePasses { parent: false, state: false },
            Forward::Put { context, with_state } => (context, with_state),
        };
        if let Ok(value) = HeaderValue::from_bytes(&context.to_traceparent()) {
            added.push((TRACEPARENT, value));
        }
        TracePasses { parent: false, state: with_state }
    }
}

/// Which of a caller's fields about its trace pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TracePasses {
    parent: bool,
    state: bool,
}

impl TracePasses {
    /// Whether a field passes. One that is not about traces does.
    pub fn passes(self, name: &HeaderName) -> bool {
        (self.parent || *name != TRACEPARENT) && (self.state || *name != TRACESTATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        fields.iter().for_each(|(name, value)| _ = map.append(*name, HeaderValue::from_str(value).expect("a value")));
        map
    }

    /// What the upstream gets of what the caller sent.
    fn forwarded(fields: &[(&'static str, &str)], ratio: Option<f64>, exported: bool) -> (Trace, Option<String>, Option<String>) {
        let mut headers = headers(fields);
        let trace = Trace::begin(&TraceIds::new(7), Incoming::of(&headers), ratio, exported);
        let mut added = Vec::new();
        let passes = trace.to_upstream(&mut added);
        let dropped: Vec<HeaderName> = headers.keys().filter(|name| !passes.passes(name)).cloned().collect();
        dropped.into_iter().for_each(|name| _ = headers.remove(name));
        added.into_iter().for_each(|(name, value)| _ = headers.insert(name, value));
        let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().expect("text").to_owned());
        (trace, text("traceparent"), text("tracestate"))
    }

    #[test]
    fn without_spans_a_context_passes_as_it_came() {
        let (trace, parent, state) = forwarded(&[("traceparent", PARENT), ("tracestate", "a=1")], None, false);
        assert_eq!((parent.as_deref(), state.as_deref(), trace.span), (Some(PARENT), Some("a=1"), None));
        let (.., state) = forwarded(&[("traceparent", PARENT), ("tracestate", "A=1")], None, false);
        assert_eq!(state, None, "a state that is not valid stays here");
        assert_eq!(forwarded(&[], None, false).1, None);
        assert_eq!(forwarded(&[("traceparent", "nonsense")], None, false).1, None);
    }

    #[test]
    fn with_spans_the_upstream_hears_of_the_gateways_own() {
        let (trace, parent, state) = forwarded(&[("traceparent", PARENT), ("tracestate", "a=1")], Some(0.0), true);
        let span = trace.span.expect("the caller's flag decides");
        let context = TraceContext::parse(parent.expect("a context").as_bytes()).expect("valid");
        assert_eq!((context.trace_id, context.span_id, context.flags), (span.trace_id, span.client, SAMPLED));
        assert_eq!(span.parent.map(hex::encode).as_deref(), Some("00f067aa0ba902b7"));
        assert_ne!(span.server, span.client);
        assert_eq!(state.as_deref(), Some("a=1"));
        let unsampled = PARENT.replace("-01", "-00");
        let (trace, parent, _) = forwarded(&[("traceparent", &unsampled)], Some(1.0), true);
        assert_eq!(trace.span, None, "a caller that does not record is followed");
        let parent = parent.expect("a context");
        assert!(parent.starts_with(&PARENT[..36]) && parent.ends_with("-00") && parent != unsampled, "{parent}");
    }

    #[test]
    fn flags_that_are_not_known_end_here() {
        for (came, goes) in [("-01", 0x01), ("-ff", 0x03), ("-03", 0x03), ("-05", 0x01), ("-fe", 0x02), ("-80", 0x00)] {
            let (trace, parent, _) = forwarded(&[("traceparent", &PARENT.replace("-01", came))], None, true);
            let context = TraceContext::parse(parent.expect("a context").as_bytes()).expect("valid");
            assert_eq!(context.flags, goes, "{came}");
            assert_eq!(trace.span.map(|span| span.flags), Some(goes).filter(|flags| flags & SAMPLED != 0), "{came}");
        }
    }

    #[test]
    fn what_is_no_context_begins_a_trace() {
        for fields in
            [&[][..], &[("traceparent", "00-1-2-3")], &[("traceparent", PARENT), ("traceparent", PARENT)], &[("tracestate", "a=1")]]
        {
            let (trace, parent, state) = forwarded(fields, Some(1.0), true);
            let context = TraceContext::parse(parent.expect("a context").as_bytes()).expect("valid");
            assert!(context.is_sampled() && trace.span.is_some_and(|span| span.parent.is_none() && span.trace_id == context.trace_id));
            assert_eq!(state, None);
        }
        let (trace, parent, _) = forwarded(&[], Some(0.0), false);
        assert!(trace.span.is_none() && parent.is_some_and(|parent| parent.ends_with("-00")));
    }

    #[test]
    fn the_ratio_is_kept() {
        let ids = TraceIds::new(1);
        let recorded = (0..10_000).filter(|_| Trace::begin(&ids, Incoming::Absent, Some(0.25), true).span.is_some()).count();
        assert!((2_300..2_700).contains(&recorded), "{recorded}");
        assert!((0..1_000).all(|_| ids.chance(1.0)) && !(0..1_000).any(|_| ids.chance(0.0)));
    }
}
