//! Connections are spread evenly over the cores, however they come in.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{SOON, Stage, eventually, policy::World, portal::MockPortal, process::GatewayProcess, upstream};

const CORES: usize = 4;

/// A connection on which a call was answered.
async fn connect(gateway: SocketAddr, key: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway).await.expect("a connection");
    call(&mut stream, key).await;
    stream
}

/// A call, and that it is answered.
async fn call(stream: &mut TcpStream, key: &str) {
    let request = format!("GET /weather/v1/status/204 HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 4_096];
    let count = tokio::time::timeout(SOON, stream.read(&mut answer)).await.expect("an answer in time").expect("an answer");
    assert!(answer[..count].starts_with(b"HTTP/1.1 204"), "{}", String::from_utf8_lossy(&answer[..count]));
}

/// How many connections each core has.
async fn of_cores(admin: SocketAddr) -> Vec<usize> {
    let text = reqwest::get(format!("http://{admin}/metrics")).await.expect("an answer").text().await.expect("text");
    let count = |core: usize| {
        let name = format!("tollkeeper_gateway_core_connections{{core=\"{core}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).expect("each core tells").parse().expect("a number")
    };
    (0..CORES).map(count).collect()
}

/// Each core has its share of so many connections, within one or two.
async fn assert_even(admin: SocketAddr, count: usize) {
    let cores = of_cores(admin).await;
    assert_eq!(cores.iter().sum::<usize>(), count, "{cores:?}");
    let share = count / CORES;
    assert!(cores.iter().all(|open| open.abs_diff(share) <= 2), "{cores:?}");
}

/// What is to hold wherever connections come in.
async fn spreads(data: SocketAddr, admin: SocketAddr, key: &str) {
    let mut held = Vec::new();
    for _ in 0..36 {
        held.push(connect(data, key).await);
    }
    assert_even(admin, 36).await;
    // Those that were handed over go on where they are.
    for stream in &mut held {
        call(stream, key).await;
    }
    assert_even(admin, 36).await;
    drop(held);
    eventually("all are gone", async || (of_cores(admin).await.iter().sum::<usize>() == 0).then_some(())).await;
    // All at once, so that the cores decide at the same time.
    let (gateway, own) = (data, key.to_owned());
    let opening: tokio::task::JoinSet<TcpStream> = (0..40)
        .map(|_| {
            let own = own.clone();
            async move { connect(gateway, &own).await }
        })
        .collect();
    let held = opening.join_all().await;
    assert_even(admin, 40).await;
    drop(held);
}

#[tokio::test]
async fn each_core_has_its_share_of_connections_to_listeners_of_their_own() {
    let world = World::new(upstream::start().await);
    let portal = MockPortal::start(&world).await;
    let folder = tempfile::tempdir().expect("a folder");
    let settings = [("GATEWAY_CORES", "4"), ("GATEWAY_DRAIN_DELAY", "0s")];
    let gateway = GatewayProcess::start(&portal, folder.path(), &settings).await;
    spreads(gateway.data, gateway.admin, world.live.reveal()).await;
    gateway.terminate();
    let (code, _, log) = gateway.ended(SOON).await;
    assert_eq!(code, Some(0), "{}", log.join("\n"));
}

#[tokio::test]
async fn each_core_has_its_share_of_connections_to_one_listener() {
    let stage = Stage::with(|world| world.plan.rate_limits.clear(), |config| config.cores = Some(CORES as u16)).await;
    spreads(stage.gateway.addresses.data, stage.gateway.addresses.admin, stage.world.live.reveal()).await;
    stage.gateway.stop().await;
}
