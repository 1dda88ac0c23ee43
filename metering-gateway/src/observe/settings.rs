//! Settings of the access log and of traces.

use std::path::PathBuf;

use clap::ValueEnum;
use url::Url;

/// Which part of the traces that begin here is recorded, where an endpoint is set and no ratio is.
const DEFAULT_TRACE_RATIO: f64 = 0.01;

/// Settings of what is told of single calls.
#[derive(Debug, Clone, clap::Args)]
pub struct ObserveConfig {
    /// Which calls the access log has.
    #[arg(long, env = "GATEWAY_ACCESS_LOG", value_enum, default_value_t = AccessLogMode::Off)]
    pub access_log: AccessLogMode,
    /// Where the access log is written, one JSON object a line; without it, standard output.
    #[arg(long, env = "GATEWAY_ACCESS_LOG_FILE")]
    pub access_log_file: Option<PathBuf>,
    /// Which part of all calls a sampled access log has, from 0 to 1.
    #[arg(long, env = "GATEWAY_ACCESS_LOG_SAMPLE_RATIO", default_value_t = 0.01, value_parser = ratio)]
    pub access_log_ratio: f64,
    /// Where spans go: the base URL of an OpenTelemetry collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`. Without it, none are made.
    /// Headers for it, such as of authorization, are taken from the variable `OTEL_EXPORTER_OTLP_HEADERS`: `name=value`, parted by commas.
    #[arg(long, env = "GATEWAY_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<Url>,
    /// Which part of the traces that begin here is recorded, from 0 to 1; a caller's own choice is kept. With an endpoint the default is 0.01. Without
    /// either, calls that come without a trace go on without one, so that upstreams decide for themselves.
    #[arg(long, env = "GATEWAY_TRACE_SAMPLE_RATIO", value_parser = ratio)]
    pub trace_sample_ratio: Option<f64>,
}

/// Which calls the access log has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AccessLogMode {
    /// None.
    Off,
    /// A part of them, by `GATEWAY_ACCESS_LOG_SAMPLE_RATIO`.
    Sampled,
    /// Those that were answered with 400 or more, with a problem, or not whole.
    Errors,
    /// All.
    All,
}

impl ObserveConfig {
    /// Whether the settings can be used.
    ///
    /// # Errors
    /// With the setting and the fix. The URL is not told: what makes it wrong may be a password.
    pub fn check(&self) -> anyhow::Result<()> {
        let Some(endpoint) = &self.otlp_endpoint else { return Ok(()) };
        anyhow::ensure!(
            matches!(endpoint.scheme(), "http" | "https"),
            "GATEWAY_OTLP_ENDPOINT must start with http:// or https://, not {}:",
            endpoint.scheme()
        );
        anyhow::ensure!(
            endpoint.username().is_empty() && endpoint.password().is_none(),
            "GATEWAY_OTLP_ENDPOINT must hold no user and no password: put them into OTEL_EXPORTER_OTLP_HEADERS, as `authorization=Basic%20…`"
        );
        anyhow::ensure!(
            endpoint.query().is_none() && endpoint.fragment().is_none(),
            "GATEWAY_OTLP_ENDPOINT must be a base URL, without `?` and `#`, such as http://127.0.0.1:4318"
        );
        Ok(())
    }

    /// Which part of the traces that begin here is recorded; `None`: none begins here.
    pub fn trace_ratio(&self) -> Option<f64> {
        self.trace_sample_ratio.or_else(|| self.otlp_endpoint.as_ref().map(|_| DEFAULT_TRACE_RATIO))
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| format!("`{text}` is not a number from 0 to 1"))
}
