//! A document from a URL that a person typed. The portal stands inside the provider's network, so an address there must not be reachable through it:
//! names are resolved here, every address is checked, and the connection goes to a checked address, whatever the name resolves to a moment later.
//! Redirects are followed one by one under the same checks. Size and time are bounded.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use reqwest::{StatusCode, header, redirect};
use url::{Host, Url};

use super::MAX_BYTES;
use crate::error::{Error, Result};

/// How long all of it may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The most redirects that are followed.
const MAX_REDIRECTS: usize = 3;

/// What was found.
#[derive(Debug)]
pub struct Fetched {
    /// The document.
    pub bytes: Vec<u8>,
    /// Where it came from, after redirects.
    pub url: Url,
}

/// Gets a document. With `allow_private`, addresses inside the network may be reached.
pub async fn fetch(text: &str, allow_private: bool) -> Result<Fetched> {
    let allowed = if allow_private { |_: &IpAddr| true } else { is_public };
    tokio::time::timeout(TIMEOUT, follow(text, allowed))
        .await
        .map_err(|_| refused(format!("The address did not deliver the document within {} seconds.", TIMEOUT.as_secs())))?
}

fn refused(message: impl Into<String>) -> Error {
    Error::invalid("url", message)
}

async fn follow(text: &str, allowed: fn(&IpAddr) -> bool) -> Result<Fetched> {
    let mut url = Url::parse(text.trim()).map_err(|_| refused("Enter a whole address, like https://example.com/openapi.json."))?;
    for _ in 0..=MAX_REDIRECTS {
        let response = get(&url, allowed).await?;
        if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
            return Ok(Fetched { bytes: body(response).await?, url });
        }
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        url = url.join(location).map_err(|_| refused(format!("{url} redirects to `{location}`, which is not an address.")))?;
    }
    Err(refused(format!("The address redirects more than {MAX_REDIRECTS} times; enter the one where the document is.")))
}

/// One request, to an address that was checked.
async fn get(url: &Url, allowed: fn(&IpAddr) -> bool) -> Result<reqwest::Response> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused(format!("Only http and https addresses are fetched, not `{}`.", url.scheme())));
    }
    let addresses = resolve(url).await?;
    if let Some(inside) = addresses.iter().find(|address| !allowed(&address.ip())) {
        return Err(refused(format!(
            "{} leads to {}, which is not a public address. Upload the document instead, or ask whoever runs the portal to set PORTAL_IMPORT_ALLOW_PRIVATE.",
            url.host_str().unwrap_or_default(),
            inside.ip(),
        )));
    }
    let client = reqwest::Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT)
        .user_agent("tollkeeper-import")
        .resolve_to_addrs(url.host_str().unwrap_or_default(), &addresses)
        .build()
        .map_err(Error::internal)?;
    let unreachable = |error: reqwest::Error| {
        // The innermost cause says what happened; the outer ones repeat the address.
        let mut cause: &dyn std::error::Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        refused(format!("{} could not be reached: {cause}.", url.host_str().unwrap_or_default()))
    };
    let accept = "application/vnd.oai.openapi+json, application/json, application/yaml, text/yaml, */*;q=0.5";
    let response = client.get(url.clone()).header(header::ACCEPT, accept).send().await.map_err(unreachable)?;
    let status = response.status();
    if status.is_success() || status.is_redirection() {
        Ok(response)
    } else {
        Err(refused(format!("The address answered {status} instead of a document.")))
    }
}

async fn resolve(url: &Url) -> Result<Vec<SocketAddr>> {
    let port = url.port_or_known_default().unwrap_or(443);
    let addresses: Vec<SocketAddr> = match url.host() {
        Some(Host::Ipv4(ip)) => vec![(ip, port).into()],
        Some(Host::Ipv6(ip)) => vec![(ip, port).into()],
        Some(Host::Domain(name)) => match tokio::net::lookup_host((name, port)).await {
            Ok(addresses) => addresses.collect(),
            Err(_) => return Err(refused(format!("The name `{name}` cannot be resolved; check its spelling."))),
        },
        None => Vec::new(),
    };
    if addresses.is_empty() {
        return Err(refused("The address names no host."));
    }
    Ok(addresses)
}

async fn body(mut response: reqwest::Response) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|_| refused("The connection broke before the document was complete; try again."))?
    {
        if bytes.len() + chunk.len() > MAX_BYTES {
            return Err(refused(format!("The document has more than {MAX_BYTES} bytes (10 MiB).")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Whether an address is of the public Internet: everything that the IANA registries reserve for private, local or special use is not. Addresses
/// of IPv6 that carry one of IPv4 are judged by that one.
fn is_public(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(*ip),
        IpAddr::V6(ip) => is_public_v6(*ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224.., ..)          // this network, private, loopback, multicast and reserved
            | (100, 64..=127, _)            // carrier-grade NAT
            | (169, 254, _)                 // link-local, where clouds keep their metadata
            | (172, 16..=31, _)             // private
            | (192, 168, _)                 // private
            | (192, 0, 0 | 2)               // protocol assignments, documentation
            | (192, 88, 99)                 // 6to4 relays
            | (198, 18 | 19, _)             // benchmarks
            | (198, 51, 100)                // documentation
            | (203, 0, 113) // documentation
    );
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    let last = Ipv4Addr::from((u32::from(segments[6]) << 16) | u32::from(segments[7]));
    match segments {
        // Mapped and compatible addresses; this covers `::` and `::1`.
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] => segments[5] == 0xffff && is_public_v4(last),
        // NAT64.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => is_public_v4(last),
        // 6to4.
        [0x2002, high, low, ..] => is_public_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))),
        // Protocol assignments with Teredo, and documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Global unicast; unique local, link-local, site-local and multicast addresses lie outside of it.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn special_addresses_are_not_public() {
        let inside = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::1",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
            "fec0::1",
        ];
        for ip in inside {
            assert!(!is_public(&ip.parse().expect(ip)), "{ip}");
        }
        for ip in [
            "1.1.1.1",
            "100.63.0.1",
            "100.128.0.1",
            "172.32.0.1",
            "193.0.0.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            assert!(is_public(&ip.parse().expect(ip)), "{ip}");
        }
    }

    /// Answers each connection with the next of `answers`, and returns its address.
    async fn server(ip: &str, answers: Vec<Vec<u8>>) -> SocketAddr {
        let listener = TcpListener::bind((ip, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                // The client may hang up before it has read all, which is what a test of the bound wants.
                let _ = stream.write_all(&answer).await;
            }
        });
        address
    }

    fn redirect(to: &str) -> Vec<u8> {
        format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").into_bytes()
    }

    fn document(body: &[u8]) -> Vec<u8> {
        [format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len()).as_bytes(), body].concat()
    }

    fn only_first_loopback(ip: &IpAddr) -> bool {
        *ip == Ipv4Addr::LOCALHOST
    }

    fn message(result: Result<Fetched>) -> String {
        result.expect_err("a refusal").field("url").expect("the field `url`").to_owned()
    }

    #[tokio::test]
    async fn redirects_are_followed_and_checked_again() {
        let end = server("127.0.0.1", vec![document(b"openapi: 3.0.0")]).await;
        let start = server("127.0.0.1", vec![redirect(&format!("http://{end}/openapi.yaml"))]).await;
        let fetched = follow(&format!("http://{start}/"), only_first_loopback).await.expect("a document");
        assert_eq!(
            (fetched.bytes.as_slice(), fetched.url.as_str()),
            (&b"openapi: 3.0.0"[..], format!("http://{end}/openapi.yaml").as_str())
        );

        let start = server("127.0.0.1", vec![redirect("http://127.0.0.2:1/metadata")]).await;
        let refused = message(follow(&format!("http://{start}/"), only_first_loopback).await);
        assert!(refused.contains("127.0.0.2, which is not a public address"), "{refused}");

        let start = server("127.0.0.1", vec![redirect("file:///etc/passwd")]).await;
        assert!(message(follow(&format!("http://{start}/"), only_first_loopback).await).contains("not `file`"));

        let around = server("127.0.0.1", vec![redirect("/again"), redirect("/again"), redirect("/again"), redirect("/again")]).await;
        assert!(message(follow(&format!("http://{around}/"), only_first_loopback).await).contains("more than 3 times"));
    }

    #[tokio::test]
    async fn private_addresses_are_refused_before_any_connection() {
        for url in [
            "http://127.0.0.1:1/",
            "http://localhost:1/",
            "http://[::1]:1/",
            "http://169.254.169.254/latest",
            "http://2130706433/",
            "http://0x7f.1/",
        ] {
            assert!(message(fetch(url, false).await).contains("not a public address"), "{url}");
        }
        for (url, part) in [("ftp://example.com/", "not `ftp`"), ("nonsense", "whole address"), ("", "whole address")] {
            assert!(message(fetch(url, false).await).contains(part), "{url}");
        }
        let listening = server("127.0.0.1", vec![document(b"{}")]).await;
        assert_eq!(fetch(&format!("http://{listening}/"), true).await.expect("allowed").bytes, b"{}");
    }

    #[tokio::test]
    async fn size_and_status_are_checked() {
        let large = server("127.0.0.1", vec![document(&vec![b'x'; MAX_BYTES + 1])]).await;
        assert!(message(fetch(&format!("http://{large}/"), true).await).contains("more than"));
        let missing = server("127.0.0.1", vec![b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec()]).await;
        assert!(message(fetch(&format!("http://{missing}/"), true).await).contains("404"));
    }
}
