//! Settings of the listeners for callers.

use std::{net::IpAddr, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, ValueEnum};
use ipnet::IpNet;

use crate::config::duration;

/// Settings of the listeners for callers.
#[derive(Debug, Clone, Args)]
pub struct ListenerConfig {
    /// The address for callers over TLS, beside the plain one. It speaks HTTP/2 and HTTP/1.1, as the caller prefers (ALPN).
    #[arg(long, env = "GATEWAY_TLS_LISTEN")]
    pub tls_listen: Option<SocketAddr>,
    /// Certificates, as `CHAIN.pem:KEY.pem` pairs parted by commas. A caller gets the one whose names hold the host it asks for (SNI); the first is
    /// for all others.
    #[arg(long, env = "GATEWAY_TLS_CERTS", value_delimiter = ',')]
    pub tls_certs: Vec<CertificateFiles>,
    /// A folder of certificates: `NAME.crt` or `NAME.pem` beside `NAME.key`, or folders that hold `tls.crt` and `tls.key`. The one named `default`, or
    /// else the first by name, is for callers that ask for no host or an unknown one, unless `GATEWAY_TLS_CERTS` names one.
    #[arg(long, env = "GATEWAY_TLS_CERT_DIR")]
    pub tls_cert_dir: Option<PathBuf>,
    /// How often the files of certificates are looked at. What has changed is used for new connections; a file that cannot be used changes nothing.
    #[arg(long, env = "GATEWAY_TLS_RELOAD_INTERVAL", default_value = "5s", value_parser = duration)]
    pub tls_reload_interval: Duration,
    /// Whether connections begin with a PROXY protocol header (version 1 or 2), which tells the caller's address.
    #[arg(long, env = "GATEWAY_PROXY_PROTOCOL", value_enum, default_value_t = ProxyProtocol::Off)]
    pub proxy_protocol: ProxyProtocol,
    /// The proxies in front that may tell addresses, as networks such as `10.0.0.0/8` parted by commas. Connections from elsewhere are closed.
    #[arg(long, env = "GATEWAY_PROXY_PROTOCOL_FROM", value_delimiter = ',', value_parser = network)]
    pub proxy_protocol_from: Vec<IpNet>,
    /// How long a PROXY protocol header may take to arrive.
    #[arg(long, env = "GATEWAY_PROXY_PROTOCOL_TIMEOUT", default_value = "5s", value_parser = duration)]
    pub proxy_protocol_timeout: Duration,
}

/// Whether connections begin with a PROXY protocol header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProxyProtocol {
    /// They begin with TLS or HTTP.
    Off,
    /// Each does; others are closed.
    Required,
}

/// A certificate chain and its key, in PEM form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, followed by those that lead to its authority.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl FromStr for CertificateFiles {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((chain, key)) if !chain.is_empty() && !key.is_empty() => Ok(Self { chain: chain.into(), key: key.into() }),
            _ => Err(format!("`{text}` is not a pair `CHAIN.pem:KEY.pem`")),
        }
    }
}

impl ListenerConfig {
    /// Whether there are certificates to serve over TLS with.
    pub fn is_secured(&self) -> bool {
        !self.tls_certs.is_empty() || self.tls_cert_dir.is_some()
    }

    /// What the settings lack together.
    ///
    /// # Errors
    /// With the setting to add.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.tls_listen.is_none() || self.is_secured(),
            "GATEWAY_TLS_LISTEN needs certificates: set GATEWAY_TLS_CERTS or GATEWAY_TLS_CERT_DIR"
        );
        anyhow::ensure!(
            self.proxy_protocol == ProxyProtocol::Off || !self.proxy_protocol_from.is_empty(),
            "GATEWAY_PROXY_PROTOCOL=required needs GATEWAY_PROXY_PROTOCOL_FROM, the networks of the proxies that may tell callers' addresses"
        );
        Ok(())
    }
}

/// A network, or one address.
fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let one = |address: IpAddr| IpNet::new(address, if address.is_ipv4() { 32 } else { 128 }).ok();
    let network = text.parse().ok().or_else(|| text.parse().ok().and_then(one));
    network.ok_or_else(|| format!("`{text}` is not a network like 10.0.0.0/8 or an address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_single_addresses_are_read() {
        assert_eq!(network("10.0.0.0/8").map(|net| net.contains(&IpAddr::from([10, 9, 8, 7]))), Ok(true));
        assert_eq!(network("192.0.2.7").map(|net| net.contains(&IpAddr::from([192, 0, 2, 8]))), Ok(false));
        assert_eq!(network("::1").map(|net| net.prefix_len()), Ok(128));
        assert!(network("10.0.0.0/33").is_err() && network("everyone").is_err());
    }

    #[test]
    fn certificates_come_in_pairs() {
        let pair = CertificateFiles { chain: "/a.pem".into(), key: "/a.key".into() };
        assert_eq!("/a.pem:/a.key".parse(), Ok(pair));
        assert!("/a.pem".parse::<CertificateFiles>().is_err() && ":/a.key".parse::<CertificateFiles>().is_err());
    }
}
