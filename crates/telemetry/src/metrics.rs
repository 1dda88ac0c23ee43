//! Metrics for Prometheus.

use std::collections::HashSet;

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{encoding::text::encode, registry::Registry};

/// The type of the OpenMetrics text that a registry is rendered to.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The type of the older text of Prometheus, which everything else reads.
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The answer to a scrape: OpenMetrics for those who say that they read it, as Prometheus does, else its older text.
pub fn render(registry: &Registry, request: &HeaderMap) -> Response {
    let mut text = String::new();
    if let Err(error) = encode(&mut text, registry) {
        tracing::error!(%error, "a metric cannot be rendered");
        return (StatusCode::INTERNAL_SERVER_ERROR, "a metric cannot be rendered\n").into_response();
    }
    let mut accepted = request.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    if accepted.any(|accept| accept.contains("application/openmetrics-text")) {
        return ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response();
    }
    ([(header::CONTENT_TYPE, PLAIN)], plain(&text)).into_response()
}

/// OpenMetrics text as the older text. There a counter's name has its `_total` in HELP and TYPE as well, and nothing marks units or the end.
fn plain(open_metrics: &str) -> String {
    let counters: HashSet<&str> = open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("UNIT" | "EOF"), ..) => continue,
            (Some("#"), Some(what @ ("HELP" | "TYPE")), Some(name), Some(rest)) if counters.contains(name) => {
                text.extend(["# ", what, " ", name, "_total ", rest]);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

    use super::*;

    fn registry() -> Registry {
        let mut registry = Registry::with_prefix("demo");
        let calls = Counter::<u64>::default();
        calls.inc_by(3);
        registry.register("calls", "Calls", calls);
        registry.register("open", "Open calls", Gauge::<i64>::default());
        registry
    }

    async fn scrape(accept: &str) -> (String, String) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().expect("a value"));
        let answer = render(&registry(), &headers);
        let kind = answer.headers()[header::CONTENT_TYPE].to_str().expect("text").to_owned();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
        (kind, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn speaks_open_metrics_to_those_who_read_it() {
        let (kind, text) = scrape("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1").await;
        assert_eq!(kind, OPEN_METRICS);
        assert!(text.contains("# TYPE demo_calls counter\ndemo_calls_total 3\n") && text.ends_with("# EOF\n"), "{text}");
    }

    #[tokio::test]
    async fn speaks_the_older_text_to_all_others() {
        let (kind, text) = scrape("*/*").await;
        assert_eq!(kind, PLAIN);
        assert!(text.contains("# HELP demo_calls_total Calls.\n# TYPE demo_calls_total counter\ndemo_calls_total 3\n"), "{text}");
        assert!(text.contains("# TYPE demo_open gauge\ndemo_open 0\n") && !text.contains("EOF"), "{text}");
    }
}
