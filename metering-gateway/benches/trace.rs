//! What a call's trace costs on the path: nothing there, a context that passes, one that is answered by a span of the gateway's own.

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue};
use metering_gateway::observe::trace::{Incoming, Trace, TraceIds};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// The headers of a usual call.
fn headers(parent: Option<&'static str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [("host", "api.example.com"), ("user-agent", "bench/1"), ("accept", "*/*"), ("x-api-key", "tk_live_0")] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    parent.into_iter().for_each(|parent| _ = headers.insert("traceparent", HeaderValue::from_static(parent)));
    headers
}

fn trace(criterion: &mut Criterion) {
    let ids = TraceIds::new(1);
    let cases = [
        ("absent, no trace begins", None, None, false),
        ("absent, begins unrecorded", None, Some(0.0), true),
        ("present, passes", Some(PARENT), None, false),
        ("present, unrecorded, own span id", Some(PARENT), Some(0.01), true),
    ];
    for (name, parent, ratio, exported) in cases {
        let headers = headers(parent);
        criterion.bench_function(&format!("trace/{name}"), |bench| {
            bench.iter(|| {
                let trace = Trace::begin(&ids, Incoming::of(&headers), ratio, exported);
                let mut added = Vec::new();
                (trace.to_upstream(&mut added), added.len())
            });
        });
    }
}

criterion_group!(benches, trace);
criterion_main!(benches);
