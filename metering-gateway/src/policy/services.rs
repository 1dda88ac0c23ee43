//! Services compiled to what the pool of connections reads.

use std::{net::IpAddr, sync::Arc, time::Duration};

use gateway_control::{
    options::{ServiceOptions, UpstreamProtocol},
    policy, rules,
};
use http::uri::Authority;
use ids::ServiceId;
use rustls::pki_types::ServerName;
use url::{Host, Url};

use super::entries::Reason;

/// A backend.
#[derive(Debug, PartialEq, Eq)]
pub struct CompiledService {
    /// Its id.
    pub id: ServiceId,
    /// Where live calls go.
    pub live: Arc<Upstream>,
    /// Where test calls go.
    pub sandbox: Option<Arc<Upstream>>,
}

/// Where calls go and how to treat it.
#[derive(Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Host and port, as the `Host` header has it.
    pub authority: Authority,
    /// What stands before every path, without a slash at its end.
    pub base_path: String,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long to wait for the head of the answer.
    pub first_byte_timeout: Duration,
    /// The most retries of one call; `None`: the gateway's default.
    pub max_retries: Option<u8>,
    /// What is connected to, and how. Upstreams that agree in this share connections.
    pub group: GroupSpec,
}

/// The addresses of an upstream, and how connections to them are made and bounded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupSpec {
    /// Where connections go; at least one.
    pub addresses: Vec<HostPort>,
    /// For `https://`: the name that the certificate must be for.
    pub tls: Option<ServerName<'static>>,
    /// What is spoken.
    pub protocol: UpstreamProtocol,
    /// The most connections to one address; `None`: the gateway's default.
    pub max_connections: Option<u32>,
    /// The most calls that wait for a connection; `None`: the gateway's default.
    pub max_waiting: Option<u32>,
    /// After how many failures in a row an address is left out; `None`: the gateway's default, 0: never.
    pub eject_after_failures: Option<u32>,
}

/// A name or address to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Which host.
    pub host: TargetHost,
    /// Which port.
    pub port: u16,
}

/// A host to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TargetHost {
    /// An address.
    Ip(IpAddr),
    /// A name that is resolved again and again.
    Name(Arc<str>),
}

impl CompiledService {
    /// Parses a service.
    ///
    /// # Errors
    /// When an address is not one, or an option makes no sense.
    pub fn compile(service: &policy::Service) -> Result<Self, Reason> {
        let options = service.options.as_deref().cloned().unwrap_or_default();
        if let Some(fault) = rules::service_faults(&options).into_iter().next() {
            return Err(format!("options.{}: {}", fault.field, fault.message));
        }
        let sandbox = ServiceOptions { addresses: Vec::new(), ..options.clone() };
        let upstream = |text: &str, options| Upstream::parse(text, service, options).map(Arc::new);
        Ok(Self {
            id: service.id,
            live: upstream(&service.upstream, &options)?,
            sandbox: service.sandbox.as_deref().map(|text| upstream(text, &sandbox)).transpose()?,
        })
    }
}

impl Upstream {
    /// The port that its URL names or implies.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.group.tls.is_some() { 443 } else { 80 })
    }

    fn parse(text: &str, service: &policy::Service, options: &ServiceOptions) -> Result<Self, Reason> {
        let url: Url = text.parse().map_err(|error| format!("upstream `{text}`: {error}"))?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(format!("upstream `{text}`: only http:// and https:// are spoken to upstreams"));
        }
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
            return Err(format!("upstream `{text}` must be http(s)://host[:port][/base] and nothing more"));
        }
        let host = url.host().ok_or_else(|| format!("upstream `{text}` has no host"))?;
        let port = url.port_or_known_default().unwrap_or(80);
        let authority = url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
        let name = host.to_string().trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = (url.scheme() == "https")
            .then(|| ServerName::try_from(name).map_err(|_| format!("upstream `{text}`: no certificate can be for this host")))
            .transpose()?;
        let addresses = match options.addresses.as_slice() {
            [] => vec![HostPort { host: host.to_owned().into(), port }],
            addresses => addresses.iter().map(|address| HostPort::parse(address, port)).collect::<Result<_, _>>()?,
        };
        Ok(Self {
            authority: authority.parse().map_err(|_| format!("upstream `{text}`: the host cannot be used"))?,
            base_path: url.path().trim_end_matches('/').to_owned(),
            connect_timeout: Duration::from_millis(service.connect_timeout_ms.into()),
            first_byte_timeout: Duration::from_millis(service.first_byte_timeout_ms.into()),
            max_retries: options.max_retries,
            group: GroupSpec {
                addresses,
                tls,
                protocol: options.protocol,
                max_connections: options.max_connections,
                max_waiting: options.max_waiting,
                eject_after_failures: options.eject_after_failures,
            },
        })
    }
}

impl HostPort {
    /// Parses `host[:port]`; an IPv6 address stands in brackets.
    fn parse(text: &str, default_port: u16) -> Result<Self, Reason> {
        let refused = || format!("options.addresses: `{text}` is not host[:port]");
        // With a scheme that has no port of its own, `Url` keeps every port that is written.
        let url: Url = format!("upstream://{text}").parse().map_err(|_| refused())?;
        let host = Host::parse(url.host_str().ok_or_else(refused)?).map_err(|_| refused())?;
        Ok(Self { host: host.into(), port: url.port().unwrap_or(default_port) })
    }
}

impl From<Host<String>> for TargetHost {
    fn from(host: Host<String>) -> Self {
        match host {
            Host::Ipv4(address) => Self::Ip(address.into()),
            Host::Ipv6(address) => Self::Ip(address.into()),
            Host::Domain(name) => Self::Name(name.into()),
        }
    }
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            TargetHost::Ip(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            TargetHost::Ip(address) => write!(f, "{address}:{}", self.port),
            TargetHost::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(upstream: &str, options: ServiceOptions) -> policy::Service {
        policy::Service {
            id: ServiceId::new(),
            name: "weather".into(),
            upstream: upstream.into(),
            sandbox: Some("http://sandbox.example".into()),
            connect_timeout_ms: 500,
            first_byte_timeout_ms: 1_000,
            options: options.stated(),
        }
    }

    #[test]
    fn the_host_of_the_upstream_is_connected_to_unless_addresses_are_named() {
        for (upstream, addresses, expected) in [
            ("https://api.example/base", vec![], vec!["api.example:443"]),
            ("http://[::1]:8080", vec![], vec!["[::1]:8080"]),
            (
                "http://api.example:8080",
                vec!["10.0.0.1", "b.example:9000", "[::1]:80"],
                vec!["10.0.0.1:8080", "b.example:9000", "[::1]:80"],
            ),
        ] {
            let options = ServiceOptions { addresses: addresses.into_iter().map(str::to_owned).collect(), ..ServiceOptions::default() };
            let compiled = CompiledService::compile(&service(upstream, options)).expect("a service");
            let found: Vec<_> = compiled.live.group.addresses.iter().map(ToString::to_string).collect();
            assert_eq!(found, expected);
            let sandbox = compiled.sandbox.expect("a sandbox");
            assert_eq!(sandbox.group.addresses[0].to_string(), "sandbox.example:80", "test calls never reach the live addresses");
        }
    }

    #[test]
    fn the_name_of_the_certificate_and_the_host_header_are_those_of_the_upstream() {
        let options = ServiceOptions { addresses: vec!["10.0.0.1".into()], ..ServiceOptions::default() };
        let live = CompiledService::compile(&service("https://api.example:8443/v1/", options)).expect("a service").live;
        assert_eq!((live.authority.as_str(), live.base_path.as_str()), ("api.example:8443", "/v1"));
        assert_eq!(live.group.tls, Some(ServerName::try_from("api.example").expect("a name")));
    }

    #[test]
    fn options_that_make_no_sense_are_refused_with_the_field() {
        let options = ServiceOptions { addresses: vec!["http://10.0.0.1/".into()], ..ServiceOptions::default() };
        let refused = CompiledService::compile(&service("http://api.example", options)).expect_err("no address");
        assert!(refused.starts_with("options.addresses"), "{refused}");
    }
}
