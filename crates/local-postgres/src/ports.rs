//! Ports that the stack listens on, taken before anything starts.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, bail};

/// Which ports to use on the loopback address; 0 picks a free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Pages, REST and gateway control.
    pub portal: u16,
    /// Where callers reach the APIs.
    pub gateway: u16,
    /// The gateway's health and metrics.
    pub gateway_admin: u16,
    /// The demo upstreams.
    pub demo_api: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { portal: 8080, gateway: 8081, gateway_admin: 8082, demo_api: 8083 }
    }
}

impl Ports {
    /// Free ports for a stack that runs beside others, as tests do.
    pub const FREE: Self = Self { portal: 0, gateway: 0, gateway_admin: 0, demo_api: 0 };

    /// Makes sure that every port can be listened on and fills in the free ones. One error names all that are taken, with the flag that chooses
    /// another.
    pub fn resolve(self) -> anyhow::Result<Self> {
        let wanted = [
            ("portal", "--portal-port", self.portal),
            ("gateway", "--gateway-port", self.gateway),
            ("gateway's admin port", "--gateway-admin-port", self.gateway_admin),
            ("demo APIs", "--demo-port", self.demo_api),
        ];
        let (mut held, mut taken) = (Vec::new(), Vec::new());
        for (what, flag, port) in wanted {
            match TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
                Ok(listener) => held.push(listener),
                Err(error) => taken.push(format!("  port {port} for the {what}: {error}; choose another with {flag}")),
            }
        }
        if !taken.is_empty() {
            bail!("cannot listen, and nothing was started:\n{}", taken.join("\n"));
        }
        let mut ports = held.iter().map(|listener| listener.local_addr().map(|addr| addr.port()));
        let mut next = || ports.next().transpose().context("cannot read a port")?.context("a port is missing");
        Ok(Self { portal: next()?, gateway: next()?, gateway_admin: next()?, demo_api: next()? })
    }
}

/// A free port on the loopback address.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on any port of 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_error_names_every_taken_port_and_its_flag() {
        let (a, b) = (TcpListener::bind("127.0.0.1:0").expect("a port"), TcpListener::bind("127.0.0.1:0").expect("a port"));
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        let error = Ports { portal: port(&a), demo_api: port(&b), ..Ports::FREE }.resolve().expect_err("two ports are taken").to_string();
        assert!(error.contains(&format!("port {} for the portal", port(&a))) && error.contains("--portal-port"), "{error}");
        assert!(error.contains(&format!("port {} for the demo APIs", port(&b))) && error.contains("--demo-port"), "{error}");
    }
}
