//! Whether a process lives, and whether it can serve.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::registry::Registry;

/// Named conditions that must all hold before a process is ready. Clones share them.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, Option<String>>>>);

impl Readiness {
    /// Names all conditions. None of them holds until [`Self::hold`] says so.
    pub fn new(conditions: &[&'static str]) -> Self {
        let pending = conditions.iter().map(|name| (*name, Some("not yet".to_owned())));
        Self(Arc::new(Mutex::new(pending.collect())))
    }

    /// The condition holds. Returns whether it did not before.
    pub fn hold(&self, condition: &'static str) -> bool {
        self.set(condition, None)
    }

    /// The condition does not hold, and why. Returns whether it did before.
    pub fn fail(&self, condition: &'static str, reason: impl Into<String>) -> bool {
        self.set(condition, Some(reason.into()))
    }

    /// The conditions that do not hold, with the reasons; empty when the process is ready.
    pub fn missing(&self) -> Vec<(&'static str, String)> {
        let conditions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        conditions.iter().filter_map(|(name, reason)| reason.clone().map(|reason| (*name, reason))).collect()
    }

    /// Whether every condition holds.
    pub fn is_ready(&self) -> bool {
        self.missing().is_empty()
    }

    fn set(&self, condition: &'static str, state: Option<String>) -> bool {
        let mut conditions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = state.is_none();
        conditions.insert(condition, state).is_none_or(|before| before.is_none() != held)
    }

    fn answer(&self) -> Response {
        let missing = self.missing();
        if missing.is_empty() {
            return (StatusCode::OK, "ready\n").into_response();
        }
        let lines = missing.iter().fold(String::new(), |mut text, (name, reason)| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}: {reason}");
            text
        });
        (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
    }
}

/// `/healthz`, `/readyz` and `/metrics`, for any router.
pub fn routes<S: Clone + Send + Sync + 'static>(readiness: Readiness, registry: Arc<Registry>) -> Router<S> {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async move || readiness.answer()))
        .route("/metrics", get(async move |headers: HeaderMap| crate::metrics::render(&registry, &headers)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_ready_when_every_condition_holds() {
        let readiness = Readiness::new(&["policy", "journal"]);
        assert!(readiness.hold("policy"), "it did not hold before");
        assert!(!readiness.hold("policy"), "it held already");
        assert_eq!(readiness.missing(), [("journal", "not yet".to_owned())]);
        readiness.hold("journal");
        assert!(readiness.is_ready());
        assert!(readiness.fail("journal", "a flush failed"));
        let answer = readiness.answer();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
