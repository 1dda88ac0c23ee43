//! What every process has: a log, metrics, health and readiness, and an orderly end.
//!
//! - [`log`]: tracing to standard error, as text or JSON lines.
//! - [`metrics`]: renders a registry for Prometheus.
//! - [`Readiness`]: named conditions that must all hold; [`health::routes`] serves `/healthz`, `/readyz` and `/metrics` from them.
//! - [`shutdown`]: a token that is cancelled by SIGTERM or Ctrl-C.
//! - [`trace_context`]: W3C Trace Context.

pub mod health;
pub mod log;
pub mod metrics;
pub mod shutdown;
pub mod trace_context;

pub use health::Readiness;
