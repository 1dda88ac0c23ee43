//! Ports that the stack listens on, taken before anything starts.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, bail};
use socket2::{Domain, Socket, Type};

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

/// A port of the loopback address that is kept for one listener. The system gives no other process it as a free one, also while the listener is away
/// between a kill and a new start: its callers must meet nobody then.
///
/// Linux lets a socket listen on a port that another has bound without listening, if both ask to reuse it, as servers do. Elsewhere the port is free at
/// first and not kept.
#[derive(Debug)]
pub struct KeptPort {
    port: u16,
    _socket: Option<Socket>,
}

impl KeptPort {
    /// Keeps a free port.
    pub fn free() -> anyhow::Result<Self> {
        let bound = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
            let port = socket.local_addr()?.as_socket().map(|address| address.port());
            Ok::<_, std::io::Error>((socket, port))
        };
        let (socket, port) = bound().context("cannot bind any port of 127.0.0.1")?;
        Ok(Self { port: port.context("a socket without a port")?, _socket: cfg!(target_os = "linux").then_some(socket) })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.port
    }
}

/// Free ports of a stack, kept for it.
#[derive(Debug)]
pub struct KeptPorts([KeptPort; 4]);

impl KeptPorts {
    /// Keeps free ports.
    pub fn free() -> anyhow::Result<Self> {
        Ok(Self([KeptPort::free()?, KeptPort::free()?, KeptPort::free()?, KeptPort::free()?]))
    }

    /// Their numbers.
    pub fn numbers(&self) -> Ports {
        let [portal, gateway, gateway_admin, demo_api] = self.0.each_ref().map(KeptPort::number);
        Ports { portal, gateway, gateway_admin, demo_api }
    }
}

/// A free port on the loopback address.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(KeptPort::free()?.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_kept_port_is_there_for_its_listener_again_and_again() {
        let kept = KeptPorts::free().expect("free ports");
        for _ in 0..2 {
            assert_eq!(kept.numbers().resolve().expect("all can be listened on"), kept.numbers());
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, kept.numbers().gateway));
            let met = || std::net::TcpStream::connect(address).map_err(|error| error.kind());
            assert_eq!(met().err(), Some(std::io::ErrorKind::ConnectionRefused));
            let listener = TcpListener::bind(address).expect("its listener");
            assert!(met().is_ok());
            drop(listener);
        }
    }

    #[test]
    fn one_error_names_every_taken_port_and_its_flag() {
        let (a, b) = (TcpListener::bind("127.0.0.1:0").expect("a port"), TcpListener::bind("127.0.0.1:0").expect("a port"));
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        let error = Ports { portal: port(&a), demo_api: port(&b), ..Ports::FREE }.resolve().expect_err("two ports are taken").to_string();
        assert!(error.contains(&format!("port {} for the portal", port(&a))) && error.contains("--portal-port"), "{error}");
        assert!(error.contains(&format!("port {} for the demo APIs", port(&b))) && error.contains("--demo-port"), "{error}");
    }
}
