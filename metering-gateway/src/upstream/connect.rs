//! Making connections: TCP, TLS, and what is then spoken.

use std::{cell::Cell, io, rc::Rc};

use gateway_control::options::UpstreamProtocol;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    error::UpstreamError,
    http1::Http1,
    http2::Http2,
    limits::Permit,
    tls::{TlsConfigs, is_http2},
};
use crate::http1::Transport;

/// A permit for a connection, which goes back when neither its driver nor an exchange needs it any more.
#[derive(Debug)]
pub struct Open {
    counters: [Rc<Cell<usize>>; 2],
    _permit: Permit,
}

impl Open {
    /// Counts a connection as open.
    pub fn new(counters: [Rc<Cell<usize>>; 2], permit: Permit) -> Rc<Self> {
        counters.iter().for_each(|counter| counter.set(counter.get() + 1));
        Rc::new(Self { counters, _permit: permit })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counters.iter().for_each(|counter| counter.set(counter.get() - 1));
    }
}

/// What a connection is told to do beside carrying exchanges.
pub struct Hooks {
    /// Called whenever there may be room for more streams.
    pub changed: Box<dyn Fn()>,
    /// Dropped with the connection.
    pub ended: Rc<Open>,
    /// The tick from which on it takes no more exchanges.
    pub expires: u64,
}

/// A new connection.
pub enum Connected {
    /// It carries one exchange at a time.
    Http1(Http1),
    /// It carries many.
    Http2(Rc<Http2>),
}

/// A byte stream to an upstream.
pub enum Bytestream {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Bytestream {
    /// Secures a TCP connection, if it is to be.
    ///
    /// # Errors
    /// When the peer does not speak TLS, or is not who it should be.
    pub async fn secure(
        stream: TcpStream,
        name: Option<&ServerName<'static>>,
        protocol: UpstreamProtocol,
        configs: &TlsConfigs,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let Some(name) = name else { return Ok(Self::Plain(stream)) };
        let config = match protocol {
            UpstreamProtocol::Auto => &configs.either,
            UpstreamProtocol::Http1 => &configs.http1,
            UpstreamProtocol::Http2 => &configs.http2,
        };
        let stream = TlsConnector::from(config.clone()).connect(name.clone(), stream).await?;
        if protocol == UpstreamProtocol::Http2 && !is_http2(stream.get_ref().1.alpn_protocol()) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the upstream does not agree on HTTP/2"));
        }
        Ok(Self::Tls(Box::new(stream)))
    }

    /// Starts HTTP.
    ///
    /// # Errors
    /// When the connection broke at once.
    pub async fn speak(self, protocol: UpstreamProtocol, hooks: Hooks) -> Result<Connected, UpstreamError> {
        match self {
            Self::Plain(stream) if protocol == UpstreamProtocol::Http2 => Ok(Connected::Http2(Http2::start(stream, hooks).await?)),
            Self::Plain(stream) => Ok(Connected::Http1(Http1::new(Transport::Tcp(stream), hooks.expires, hooks.ended))),
            Self::Tls(stream) if is_http2(stream.get_ref().1.alpn_protocol()) => Ok(Connected::Http2(Http2::start(stream, hooks).await?)),
            Self::Tls(stream) => Ok(Connected::Http1(Http1::new(Transport::Other(stream), hooks.expires, hooks.ended))),
        }
    }
}
