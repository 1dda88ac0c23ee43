//! Callers' connections: TLS with certificates by host that are read anew, HTTP/2 and HTTP/1.1 side by side, and the PROXY protocol.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use metering_gateway::listener::settings::{CertificateFiles, ProxyProtocol};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::harness::{SOON, Stage, eventually, program};

/// Writes a new certificate for the names, and returns it.
fn write_certificate(folder: &Path, file: &str, names: &[&str]) -> CertificateDer<'static> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).expect("a certificate");
    fs::write(folder.join(format!("{file}.key")), signing_key.serialize_pem()).expect("a key");
    fs::write(folder.join(format!("{file}.crt")), cert.pem()).expect("a certificate");
    cert.der().clone()
}

/// Takes any certificate: the tests look at it themselves.
#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate that is shown to a caller who asks for a host, or for none.
async fn shown(address: SocketAddr, host: Option<&str>) -> CertificateDer<'static> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything))
        .with_no_client_auth();
    config.enable_sni = host.is_some();
    let name = ServerName::try_from(host.unwrap_or("nobody.example").to_owned()).expect("a name");
    let stream = TcpStream::connect(address).await.expect("a connection");
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS");
    let shown = stream.get_ref().1.peer_certificates().expect("a certificate");
    shown[0].clone().into_owned()
}

/// A gateway with the certificates of a folder.
async fn secured(folder: &TempDir) -> (Stage, SocketAddr) {
    let path = folder.path().to_owned();
    let stage = Stage::with(
        |_| (),
        |config| {
            config.listener.tls_cert_dir = Some(path);
            config.listener.tls_reload_interval = Duration::from_millis(50);
        },
    )
    .await;
    let address = stage.gateway.addresses.tls.expect("a listener for TLS");
    (stage, address)
}

async fn metric(stage: &Stage, name: &str) -> Option<u64> {
    let text = stage.client.get(stage.gateway.admin("/metrics")).send().await.ok()?.text().await.ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("tollkeeper_gateway_{name} ")).map(str::to_owned))?;
    line.parse().ok()
}

#[tokio::test]
async fn the_certificate_is_that_of_the_host() {
    let folder = tempfile::tempdir().expect("a folder");
    let exact = write_certificate(folder.path(), "a", &["api.example"]);
    let wildcard = write_certificate(folder.path(), "b", &["*.shop.example", "shop.example"]);
    let default = write_certificate(folder.path(), "default", &["fallback.example"]);
    let (stage, address) = secured(&folder).await;
    for (host, expected) in [
        (Some("api.example"), &exact),
        (Some("API.example"), &exact),
        (Some("eu.shop.example"), &wildcard),
        (Some("shop.example"), &wildcard),
        (Some("a.b.shop.example"), &default),
        (Some("elsewhere.example"), &default),
        (None, &default),
    ] {
        assert!(shown(address, host).await == *expected, "{host:?}");
    }
    assert_eq!(metric(&stage, "tls_certificates").await, Some(3));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn certificates_are_read_anew_and_a_bad_file_keeps_the_old() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = write_certificate(folder.path(), "api", &["api.example"]);
    let other = write_certificate(folder.path(), "other", &["other.example"]);
    let (stage, address) = secured(&folder).await;
    assert!(shown(address, Some("api.example")).await == old);

    fs::write(folder.path().join("api.crt"), "no certificate").expect("a file");
    eventually("the bad file is noticed", async || (metric(&stage, "tls_certificates_unusable").await? == 1).then_some(())).await;
    assert!(shown(address, Some("api.example")).await == old, "what was good stays");
    let status: Value = stage.client.get(stage.gateway.admin("/status")).send().await.expect("an answer").json().await.expect("JSON");
    assert!(status.to_string().contains("api.crt"), "an alert names the file: {status}");

    let added = write_certificate(folder.path(), "added", &["added.example"]);
    eventually("a new one is used beside the bad one", async || (shown(address, Some("added.example")).await == added).then_some(())).await;
    fs::remove_file(folder.path().join("other.crt")).expect("removed");
    eventually("one that is gone is no longer shown", async || (shown(address, Some("other.example")).await != other).then_some(())).await;

    let renewed = write_certificate(folder.path(), "api", &["api.example"]);
    eventually("the renewed one is shown", async || (shown(address, Some("api.example")).await == renewed).then_some(())).await;
    eventually("nothing is wrong any more", async || (metric(&stage, "tls_certificates_unusable").await? == 0).then_some(())).await;
    assert!(metric(&stage, "tls_reload_failures_total").await >= Some(1));
    assert!(metric(&stage, "tls_reloads_total").await >= Some(1));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_gateway_without_a_usable_certificate_says_so_and_does_not_start() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("a.crt"), "no certificate").expect("a file");
    fs::write(folder.path().join("a.key"), "no key").expect("a file");
    let pair = CertificateFiles { chain: folder.path().join("a.crt"), key: folder.path().join("a.key") };
    let error = crate::harness::refused(|config| config.listener.tls_certs = vec![pair]).await;
    assert!(error.contains("a.crt") && error.contains("PEM"), "{error}");
    let error = crate::harness::refused(|config| config.listener.tls_listen = Some(([127, 0, 0, 1], 0).into())).await;
    assert!(error.contains("GATEWAY_TLS_CERTS"), "{error}");
    let error = crate::harness::refused(|config| config.listener.proxy_protocol = ProxyProtocol::Required).await;
    assert!(error.contains("GATEWAY_PROXY_PROTOCOL_FROM"), "{error}");
}

/// Calls with curl; says which version of HTTP was spoken, and what the upstream saw.
async fn curl(stage: &Stage, arguments: &[&str]) -> (String, Value) {
    let key = format!("x-api-key: {}", stage.world.live.reveal());
    let mut all = vec!["-sS", "--fail", "--max-time", "10", "-H", &key, "-w", "\n%{http_version}"];
    all.extend(arguments);
    let out = program("curl", &all).await;
    let (body, version) = out.rsplit_once('\n').expect("a version");
    (version.to_owned(), serde_json::from_str(body).expect("JSON"))
}

fn seen(echo: &Value, name: &str) -> Option<String> {
    let headers = echo["headers"].as_array().expect("headers");
    headers.iter().find(|header| header[0] == name).and_then(|header| header[1].as_str()).map(str::to_owned)
}

#[tokio::test]
async fn callers_choose_the_version_of_http() {
    let folder = tempfile::tempdir().expect("a folder");
    write_certificate(folder.path(), "api", &["api.example"]);
    let (stage, tls) = secured(&folder).await;
    let authority = folder.path().join("api.crt");
    let secured = ["--cacert", authority.to_str().expect("a path"), "--resolve", &format!("api.example:{}:127.0.0.1", tls.port())];
    let url = format!("https://api.example:{}/weather/v1/echo", tls.port());
    let plain = stage.gateway.url("/weather/v1/echo");
    for (arguments, version, scheme) in [
        ([&secured[..], &["--http2", &url]].concat(), "2", "https"),
        ([&secured[..], &["--http1.1", &url]].concat(), "1.1", "https"),
        ([&secured[..], &["--http2", "--tls-max", "1.2", &url]].concat(), "2", "https"),
        (vec!["--http2-prior-knowledge", &plain], "2", "http"),
        (vec!["--http1.1", &plain], "1.1", "http"),
        (vec!["--http1.0", &plain], "1", "http"),
    ] {
        let (spoken, echo) = curl(&stage, &arguments).await;
        assert_eq!(spoken, version, "{arguments:?}");
        assert_eq!(seen(&echo, "x-forwarded-proto").as_deref(), Some(scheme), "{arguments:?}");
        assert_eq!(echo["target"], "/base/v1/echo");
    }
    let rows = stage.portal.calls_of(stage.world.requests, 6).await;
    assert!(rows.iter().all(|row| row.key.status == 200 && row.incomplete == 0));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn each_call_of_many_at_once_is_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    write_certificate(folder.path(), "api", &["localhost"]);
    let (stage, tls) = secured(&folder).await;
    let key = format!("x-api-key: {}", stage.world.live.reveal());
    let (plain, secured) = (stage.gateway.url("/weather/v1/echo"), format!("https://localhost:{}/weather/v1/echo", tls.port()));
    for (url, http1) in [(&plain, false), (&plain, true), (&secured, false), (&secured, true)] {
        let mut arguments = vec!["-n", "200", "-c", "4", "-m", "20", "-H", &key];
        arguments.extend(http1.then_some("--h1"));
        arguments.push(url);
        let out = program("h2load", &arguments).await;
        assert!(out.contains("200 succeeded, 0 failed"), "{url}: {out}");
        assert!(out.contains("200 2xx"), "{url}: {out}");
    }
    let rows = stage.portal.calls_of(stage.world.requests, 800).await;
    assert!(rows.iter().all(|row| row.incomplete == 0), "all answers were whole");
    stage.gateway.stop().await;
}

/// A gateway behind a proxy that begins each connection with its header.
async fn behind_proxy(from: &str) -> Stage {
    let from = from.parse().expect("a network");
    Stage::with(
        |_| (),
        |config| {
            config.listener.proxy_protocol = ProxyProtocol::Required;
            config.listener.proxy_protocol_from = vec![from];
            config.listener.proxy_protocol_timeout = Duration::from_millis(500);
        },
    )
    .await
}

/// Sends bytes, then a request, and returns what comes until the end; nothing where the connection is closed.
async fn after(stage: &Stage, pieces: &[&[u8]]) -> Vec<u8> {
    let mut stream = TcpStream::connect(stage.gateway.addresses.data).await.expect("a connection");
    let request = format!(
        "GET /weather/v1/echo HTTP/1.1\r\nhost: api.example\r\nx-api-key: {}\r\nconnection: close\r\n\r\n",
        stage.world.live.reveal()
    );
    for piece in pieces.iter().copied().chain([request.as_bytes()]) {
        // The gateway may have closed already; then nothing is read either.
        let _ = stream.write_all(piece).await;
        let _ = stream.flush().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut all = Vec::new();
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut all)).await.expect("closed in time");
    all
}

fn address_in(answer: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(answer);
    let echo: Value = serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()?;
    seen(&echo, "x-forwarded-for")
}

#[tokio::test]
async fn a_trusted_proxy_tells_the_callers_address() {
    let stage = behind_proxy("127.0.0.0/8").await;
    let v1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";
    let v2 = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x10"[..], &[192, 0, 2, 8, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb], &[4, 0, 1, 0]].concat();
    let v6 = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x24"[..], &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9], &[0; 20]].concat();
    assert_eq!(address_in(&after(&stage, &[v1]).await).as_deref(), Some("192.0.2.7"));
    assert_eq!(
        address_in(&after(&stage, &[&v1[..3], &v1[3..20], &v1[20..44], &v1[44..]]).await).as_deref(),
        Some("192.0.2.7"),
        "in pieces"
    );
    assert_eq!(address_in(&after(&stage, &[&v2]).await).as_deref(), Some("192.0.2.8"));
    assert_eq!(address_in(&after(&stage, &[&v6]).await).as_deref(), Some("2001:db8::9"));
    assert_eq!(
        address_in(&after(&stage, &[b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"]).await).as_deref(),
        Some("127.0.0.1"),
        "a health check"
    );
    let (_, echo) = curl(&stage, &["--haproxy-protocol", &stage.gateway.url("/weather/v1/echo")]).await;
    assert_eq!(seen(&echo, "x-forwarded-for").as_deref(), Some("127.0.0.1"));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_connection_that_does_not_begin_with_a_header_is_closed() {
    let stage = behind_proxy("127.0.0.0/8").await;
    let long = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
    let huge: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff";
    for wrong in [&b""[..], b"PROXY TCP4 nobody 198.51.100.1 1 2\r\n", &long, huge, b"\r\n\r\n\0\r\nQUIT\n\x31\x11\x00\x00"] {
        assert_eq!(after(&stage, &[wrong]).await, b"", "{}", String::from_utf8_lossy(wrong));
    }
    // Who sends nothing, or not all, is not waited for.
    let mut silent = TcpStream::connect(stage.gateway.addresses.data).await.expect("a connection");
    silent.write_all(b"PROXY TCP4 192").await.expect("sent");
    let read = tokio::time::timeout(SOON, silent.read(&mut [0; 1])).await.expect("closed in time");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert_eq!(metric(&stage, "refused_connections_total").await, Some(6));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn only_trusted_proxies_tell_addresses() {
    let stage = behind_proxy("10.0.0.0/8").await;
    assert_eq!(after(&stage, &[b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"]).await, b"");
    stage.gateway.stop().await;
}

#[tokio::test]
async fn the_header_comes_before_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    write_certificate(folder.path(), "api", &["api.example"]);
    let path = folder.path().to_owned();
    let stage = Stage::with(
        |_| (),
        |config| {
            config.listener.tls_cert_dir = Some(path);
            config.listener.proxy_protocol = ProxyProtocol::Required;
            config.listener.proxy_protocol_from = vec!["127.0.0.1/32".parse().expect("a network")];
        },
    )
    .await;
    let tls = stage.gateway.addresses.tls.expect("a listener for TLS");
    let authority = folder.path().join("api.crt");
    let resolve = format!("api.example:{}:127.0.0.1", tls.port());
    let url = format!("https://api.example:{}/weather/v1/echo", tls.port());
    let arguments = ["--haproxy-protocol", "--cacert", authority.to_str().expect("a path"), "--resolve", &resolve, &url];
    let (version, echo) = curl(&stage, &arguments).await;
    assert_eq!((version.as_str(), seen(&echo, "x-forwarded-proto").as_deref()), ("2", Some("https")));
    stage.gateway.stop().await;
}
