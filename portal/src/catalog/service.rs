//! Backends: where the gateway sends a product's calls.

use gateway_control::{options::ServiceOptions, rules};
use ids::ServiceId;
use serde_json::{Value, json};
use url::Url;

use super::check::Problems;

/// The longest address.
const MAX_URL_CHARS: usize = 2_000;

/// A backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// Its name for people.
    pub name: String,
    /// Where its calls go.
    pub settings: ServiceSettings,
}

/// Where calls go, and for how long the gateway waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSettings {
    /// Where live calls go: `http://host[:port][/base]`. It may be a private address: upstreams usually are.
    pub upstream_url: String,
    /// Where test calls go; without it, test keys are refused.
    pub sandbox_url: Option<String>,
    /// How long the gateway waits for a connection: 1 to 600,000 milliseconds.
    pub connect_timeout_ms: i32,
    /// How long it waits for the head of the answer: 1 to 3,600,000 milliseconds.
    pub first_byte_timeout_ms: i32,
    /// How calls are spread over addresses, and what is done when one of them fails.
    pub options: ServiceOptions,
}

impl ServiceSettings {
    /// As the audit log holds them.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "upstream_url": self.upstream_url, "sandbox_url": self.sandbox_url, "connect_timeout_ms": self.connect_timeout_ms,
            "first_byte_timeout_ms": self.first_byte_timeout_ms, "options": self.options,
        })
    }

    /// With the times that suit most backends.
    pub fn new(upstream_url: impl Into<String>) -> Self {
        Self {
            upstream_url: upstream_url.into(),
            sandbox_url: None,
            connect_timeout_ms: 5_000,
            first_byte_timeout_ms: 60_000,
            options: ServiceOptions::default(),
        }
    }
}

/// Adds what makes no sense, and returns the settings in the form in which they are stored.
pub(super) fn check(settings: ServiceSettings, problems: &mut Problems) -> ServiceSettings {
    let upstream_url = address("upstream_url", &settings.upstream_url, problems);
    let sandbox_url = settings.sandbox_url.filter(|url| !url.trim().is_empty()).map(|url| address("sandbox_url", &url, problems));
    if !(1..=600_000).contains(&settings.connect_timeout_ms) {
        problems.add("connect_timeout_ms", "Use 1 to 600000 milliseconds.");
    }
    if !(1..=3_600_000).contains(&settings.first_byte_timeout_ms) {
        problems.add("first_byte_timeout_ms", "Use 1 to 3600000 milliseconds.");
    }
    problems.faults(rules::service_faults(&settings.options));
    ServiceSettings { upstream_url, sandbox_url, ..settings }
}

/// An upstream's address as the gateway takes it: http or https, a host, perhaps a port and a base path; nothing else. A bad one is refused here, so
/// that a gateway never meets it.
pub fn parse_upstream(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    if text.is_empty() {
        return Err("Enter the address to which the gateway sends the calls, like https://internal.example.com/v1.");
    }
    if text.chars().count() > MAX_URL_CHARS {
        return Err("Use at most 2000 characters.");
    }
    let url = Url::parse(text).map_err(|_| "Enter a whole address, like https://internal.example.com/v1.")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("Use an address that starts with http:// or https://.");
    }
    if url.host_str().is_none_or(|host| host.is_empty() || host.contains(['{', '}', '%'])) {
        return Err("Name the host, without placeholders.");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("Leave the user name and password out: addresses are shown on pages and in logs.");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("Leave out what follows `?` or `#`.");
    }
    if url.path().contains(['{', '}']) || url.path().contains("%7B") {
        return Err("Put values in the place of the `{…}` of the path.");
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn address(field: &str, text: &str, problems: &mut Problems) -> String {
    parse_upstream(text).unwrap_or_else(|problem| {
        problems.add(field, problem);
        String::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_a_gateway_cannot_use_are_refused() {
        for (text, stored) in [
            (" https://a.example.com/ ", "https://a.example.com"),
            ("http://10.0.0.7:8080/base/", "http://10.0.0.7:8080/base"),
            ("http://[::1]:9000", "http://[::1]:9000"),
            ("http://weather.default.svc.cluster.local", "http://weather.default.svc.cluster.local"),
        ] {
            assert_eq!(parse_upstream(text), Ok(stored.to_owned()), "{text}");
        }
        for text in [
            "",
            "weather",
            "/v1",
            "ftp://a.example.com",
            "https://",
            "https://user:secret@a.example.com",
            "https://a.example.com/?x=1",
            "https://a.example.com/#x",
            "https://{host}/v1",
            "https://a.example.com/{base}",
            "unix:/run/a.sock",
        ] {
            assert!(parse_upstream(text).is_err(), "{text}");
        }
    }
}
