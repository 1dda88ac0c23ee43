//! The PROXY protocol, versions 1 and 2 (haproxy.org, doc/proxy-protocol.txt): the address of a caller, told by a proxy that passes its bytes on.
//!
//! Exactly the header is read from the socket, so that what follows reaches TLS or HTTP without a buffer in between. What is not a header in every
//! byte closes the connection: an address that is guessed would be billed and logged.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str,
};

use tokio::{io::AsyncReadExt as _, net::TcpStream};

/// How both versions can be told apart: no header is shorter.
const SIGNATURE_BYTES: usize = 12;
const V2_SIGNATURE: [u8; SIGNATURE_BYTES] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, CRLF included.
const V1_MAX_BYTES: usize = 107;
/// The longest addresses and extensions of version 2 that are read. The largest addresses take 216 bytes; extensions are passed over.
const V2_MAX_BYTES: usize = 4096;

/// Why a connection is closed before it was served.
#[derive(Debug, thiserror::Error)]
pub enum ProxyHeaderError {
    /// The connection ended or failed.
    #[error("the connection ended within its PROXY protocol header: {0}")]
    Io(#[from] io::Error),
    /// It does not begin with a header.
    #[error("the connection does not begin with a valid PROXY protocol header: {0}")]
    Malformed(&'static str),
}

/// Reads the header, and says whose address it tells. `None`: the proxy speaks for itself (a health check), so the socket's address counts.
///
/// # Errors
/// When there is no valid header; the connection must then be closed.
pub async fn read(stream: &mut TcpStream) -> Result<Option<IpAddr>, ProxyHeaderError> {
    let mut head = [0; SIGNATURE_BYTES];
    stream.read_exact(&mut head).await?;
    if head == V2_SIGNATURE {
        return read_v2(stream).await;
    }
    if !head.starts_with(b"PROXY ") {
        return Err(ProxyHeaderError::Malformed("neither version's signature"));
    }
    let mut line = head.to_vec();
    while !line.ends_with(b"\n") {
        let mut more = [0; V1_MAX_BYTES];
        let room = V1_MAX_BYTES - line.len();
        if room == 0 {
            return Err(ProxyHeaderError::Malformed("a line without an end"));
        }
        let seen = stream.peek(&mut more[..room]).await?;
        // All that stands before the end of the line belongs to it, so it can be taken.
        let take = more[..seen].iter().position(|byte| *byte == b'\n').map_or(seen, |at| at + 1);
        if take == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        stream.read_exact(&mut more[..take]).await?;
        line.extend(&more[..take]);
    }
    parse_v1(&line)
}

async fn read_v2(stream: &mut TcpStream) -> Result<Option<IpAddr>, ProxyHeaderError> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    if length > V2_MAX_BYTES {
        return Err(ProxyHeaderError::Malformed("more extensions than are read"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    parse_v2([head[0], head[1]], &rest)
}

/// A line of version 1, with its CRLF.
///
/// # Errors
/// When it is not well-formed.
pub fn parse_v1(line: &[u8]) -> Result<Option<IpAddr>, ProxyHeaderError> {
    let malformed = ProxyHeaderError::Malformed;
    let line = line.strip_suffix(b"\r\n").ok_or(malformed("a line without CRLF"))?;
    let line = str::from_utf8(line).map_err(|_| malformed("a line that is no text"))?;
    let mut words = line.split(' ');
    if words.next() != Some("PROXY") {
        return Err(malformed("no signature"));
    }
    let family = words.next();
    if family == Some("UNKNOWN") {
        // What follows must be ignored.
        return Ok(None);
    }
    let (Some(source), Some(destination), Some(from), Some(to), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(malformed("not five words"));
    };
    if !is_port(from) || !is_port(to) {
        return Err(malformed("a port that is none"));
    }
    match family {
        Some("TCP4") => both::<Ipv4Addr>(source, destination).map(IpAddr::V4),
        Some("TCP6") => both::<Ipv6Addr>(source, destination).map(IpAddr::V6),
        _ => None,
    }
    .map(Some)
    .ok_or(malformed("addresses that are not of the family"))
}

fn both<A: str::FromStr>(source: &str, destination: &str) -> Option<A> {
    destination.parse::<A>().ok().and_then(|_| source.parse().ok())
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0')) && text.parse::<u16>().is_ok()
}

/// Version 2: the two bytes after the signature, and what follows the length.
///
/// # Errors
/// When it is not well-formed.
pub fn parse_v2([command, family]: [u8; 2], rest: &[u8]) -> Result<Option<IpAddr>, ProxyHeaderError> {
    let malformed = ProxyHeaderError::Malformed;
    match command {
        // LOCAL: whatever follows must be ignored.
        0x20 => return Ok(None),
        0x21 => (),
        _ => return Err(malformed("an unknown version or command")),
    }
    // High half: the family. Low half: how it is carried, where only TCP makes sense here, and nothing is said for an unspecified family.
    match family {
        0x11 => {
            let octets: [u8; 12] = rest.get(..12).and_then(|bytes| bytes.try_into().ok()).ok_or(malformed("addresses that are cut"))?;
            Ok(Some(IpAddr::from([octets[0], octets[1], octets[2], octets[3]])))
        }
        0x21 => {
            let addresses = rest.get(..36).ok_or(malformed("addresses that are cut"))?;
            let octets: [u8; 16] = addresses[..16].try_into().map_err(|_| malformed("addresses that are cut"))?;
            Ok(Some(IpAddr::from(octets)))
        }
        // AF_UNIX over a stream has no address that could count.
        0x31 if rest.len() >= 216 => Ok(None),
        0x00 => Ok(None),
        _ => Err(malformed("a family that is not carried over TCP")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn version_1_is_read_by_the_letter() {
        let source = |line: &str| parse_v1(line.as_bytes()).ok();
        assert_eq!(source("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"), Some(Some(IpAddr::from([192, 0, 2, 1]))));
        assert_eq!(source("PROXY TCP6 2001:db8::1 ::1 0 65535\r\n"), Some("2001:db8::1".parse().ok()));
        assert_eq!(source("PROXY UNKNOWN\r\n"), Some(None));
        assert_eq!(source("PROXY UNKNOWN ffff:f...f:ffff ::1 1 2\r\n"), Some(None));
        for wrong in [
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 65536\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 056324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 +1 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1  443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 443 \r\n",
            "PROXY TCP4 ::1 198.51.100.1 1 443\r\n",
            "PROXY TCP6 2001:db8::1 192.0.2.1 1 2\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY\r\n",
            "proxy UNKNOWN\r\n",
        ] {
            assert_eq!(source(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn version_2_is_read_by_the_letter() {
        let v4: Vec<u8> = [[192, 0, 2, 1], [198, 51, 100, 1], [0xdc, 4, 1, 0xbb]].concat();
        assert_eq!(parse_v2([0x21, 0x11], &v4).ok(), Some(Some(IpAddr::from([192, 0, 2, 1]))));
        let with_extensions = [v4.clone(), vec![4, 0, 1, 0]].concat();
        assert_eq!(parse_v2([0x21, 0x11], &with_extensions).ok(), Some(Some(IpAddr::from([192, 0, 2, 1]))));
        assert_eq!(parse_v2([0x21, 0x21], &[7; 36]).ok(), Some(Some(IpAddr::from([7; 16]))));
        assert_eq!(parse_v2([0x20, 0x00], &[]).ok(), Some(None));
        assert_eq!(parse_v2([0x20, 0x11], &v4).ok(), Some(None), "a proxy that speaks for itself");
        for (head, rest) in
            [([0x21, 0x11], &v4[..11]), ([0x21, 0x21], &[7; 35]), ([0x22, 0x11], &v4), ([0x11, 0x11], &v4), ([0x21, 0x12], &v4)]
        {
            assert!(parse_v2(head, rest).is_err(), "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused_and_never_worse(line in proptest::collection::vec(any::<u8>(), 0..120), head in any::<[u8; 2]>()) {
            prop_assert!(parse_v1(&line).is_err() || line.starts_with(b"PROXY "));
            let parsed = parse_v2(head, &line);
            prop_assert!(parsed.is_err() || head[0] >> 4 == 2);
        }
    }
}
