//! Upstreams over TLS.

use std::{net::SocketAddr, sync::Arc};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::StatusCode;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::harness::{Stage, upstream};

/// Ends TLS in front of a plain upstream with a certificate for `name`; returns the port and the certificate in PEM form.
async fn secured(plain: SocketAddr, name: &str) -> (u16, String) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a server");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut secured) = acceptor.accept(stream).await else { return };
                let mut behind = TcpStream::connect(plain).await.expect("the upstream");
                // Either side may end first; that is how connections end.
                drop(tokio::io::copy_bidirectional(&mut secured, &mut behind).await);
            });
        }
    });
    (port, cert.pem())
}

/// A stage whose upstream is `https://localhost` with a certificate for `name`, and which trusts that certificate or not.
async fn stage(name: &str, trusted: bool) -> Stage {
    let plain = upstream::start().await;
    let (port, certificate) = secured(plain, name).await;
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), certificate).expect("a certificate");
    let authorities = trusted.then(|| file.path().to_owned());
    Stage::with(|world| world.service.upstream = format!("https://localhost:{port}/base"), |config| config.upstream_ca_file = authorities)
        .await
}

#[tokio::test]
async fn calls_reach_an_upstream_whose_certificate_is_trusted() {
    let stage = stage("localhost", true).await;
    for _ in 0..3 {
        let answer = stage.get("/weather/v1/echo").send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        let echo: Value = answer.json().await.expect("JSON");
        assert_eq!(echo["target"], "/base/v1/echo");
    }
    stage.gateway.stop().await;
}

#[tokio::test]
async fn an_untrusted_certificate_and_one_for_another_name_are_refused() {
    for (name, trusted) in [("localhost", false), ("elsewhere.example", true)] {
        let stage = stage(name, trusted).await;
        let answer = stage.get("/weather/v1/echo").send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY, "{name}");
        let problem: Value = answer.json().await.expect("a problem");
        assert_eq!(problem["type"], "urn:tollkeeper:problem:upstream-unreachable", "{name}");
        stage.gateway.stop().await;
    }
}
