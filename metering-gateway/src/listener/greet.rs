//! What comes before HTTP on a connection, each step in its time.

use std::{io, net::IpAddr, time::Duration};

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    ListenerConfig,
    proxy_protocol::{self, ProxyHeaderError},
    settings::ProxyProtocol,
};

/// Why a connection is closed before HTTP began on it.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Nobody may tell addresses from there.
    #[error("{0} is not in GATEWAY_PROXY_PROTOCOL_FROM")]
    Stranger(IpAddr),
    /// It took too long.
    #[error("not within {0:?}")]
    Slow(Duration),
    /// The header of the PROXY protocol is not one.
    #[error(transparent)]
    Header(#[from] ProxyHeaderError),
    /// TLS could not be agreed upon.
    #[error("TLS: {0}")]
    Tls(io::Error),
}

/// The caller's address: the socket's, or where a trusted proxy tells it, what that one tells.
///
/// # Errors
/// When the settings want the PROXY protocol, and the connection does not begin with it or does not come from a trusted proxy.
pub async fn address(stream: &mut TcpStream, address: IpAddr, config: &ListenerConfig) -> Result<IpAddr, Refused> {
    if config.proxy_protocol == ProxyProtocol::Off {
        return Ok(address);
    }
    let socket = address.to_canonical();
    if !config.proxy_protocol_from.iter().any(|network| network.contains(&socket)) {
        return Err(Refused::Stranger(socket));
    }
    let within = config.proxy_protocol_timeout;
    let told = timeout(within, proxy_protocol::read(stream)).await.map_err(|_| Refused::Slow(within))??;
    Ok(told.unwrap_or(socket))
}

/// TLS.
///
/// # Errors
/// When it cannot be agreed upon, or not in time.
pub async fn secure(stream: TcpStream, acceptor: &TlsAcceptor, within: Duration) -> Result<TlsStream<TcpStream>, Refused> {
    timeout(within, acceptor.accept(stream)).await.map_err(|_| Refused::Slow(within))?.map_err(Refused::Tls)
}
