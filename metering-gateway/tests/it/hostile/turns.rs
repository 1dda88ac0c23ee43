//! What a namespace at full blast on a core leaves of its turns to the others (SEMANTICS N2), told by the order of the answers and not by a clock.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{namespaces::settle, *};
use crate::harness::{portal::MockPortal, process::GatewayProcess};

/// How many callers the loud namespace has, each with a connection and a call.
const LOUD: usize = 400;
/// How many of their answers may come between the quiet caller's request and its answer. What a turn begins of each namespace, and what is under way
/// between gateway, upstream and callers, is a fraction of it.
const BETWEEN: usize = 100;
const ROUNDS: usize = 5;

/// A caller whose connection is open and known to the gateway.
struct Caller {
    stream: TcpStream,
    text: String,
}

impl Caller {
    async fn new(gateway: &GatewayProcess, key: &str) -> Self {
        let stream = TcpStream::connect(gateway.data).await.expect("a connection");
        stream.set_nodelay(true).expect("an open connection");
        let mut caller = Self { stream, text: format!("GET /weather/v1/echo HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\n\r\n") };
        // The portal's news of a key may come a moment later.
        let mut attempts = 0;
        while !caller.calls().await.starts_with("HTTP/1.1 200 ") {
            attempts += 1;
            assert!(attempts < 100, "the key does not work");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        caller
    }

    async fn calls(&mut self) -> String {
        self.asks().await;
        self.hears().await
    }

    async fn asks(&mut self) {
        self.stream.write_all(self.text.as_bytes()).await.expect("an open connection");
    }

    /// The head of its answer, which comes in one piece.
    async fn hears(&mut self) -> String {
        let mut answer = vec![0; 16 * 1024];
        let read = timeout(SOON, self.stream.read(&mut answer)).await.expect("an answer soon").expect("an open connection");
        String::from_utf8_lossy(&answer[..read]).into_owned()
    }
}

#[tokio::test]
async fn a_namespace_at_full_blast_leaves_the_others_their_turns() {
    let upstream = RawUpstream::start(|_| vec![send(GOOD)]).await;
    let mut world = World::new(upstream.address);
    // The order matters here; how long it all takes on a busy machine does not.
    (world.service.connect_timeout_ms, world.service.first_byte_timeout_ms) = (30_000, 30_000);
    let portal = MockPortal::start(&world).await;
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = GatewayProcess::start(&portal, folder.path(), &[("GATEWAY_CORES", "1"), ("GATEWAY_DRAIN_DELAY", "0s")]).await;
    let (loud, quiet) = (world.live.reveal().to_owned(), settle(&portal, &world));
    let mut callers = Vec::new();
    // The first and the last caller are the quiet namespace's.
    for number in 0..LOUD + 2 {
        callers.push(Caller::new(&gateway, if (1..=LOUD).contains(&number) { &loud } else { &quiet }).await);
    }
    for round in 0..ROUNDS {
        // Everything has come before the core looks at any of it, the last caller's request behind all of the others.
        gateway.stand_still();
        for caller in &mut callers {
            caller.asks().await;
        }
        let order = Arc::<Mutex<Vec<usize>>>::default();
        let listening = Arc::<AtomicUsize>::default();
        let mut answers = tokio::task::JoinSet::new();
        for (number, mut caller) in callers.drain(..).enumerate() {
            let (order, listening) = (order.clone(), listening.clone());
            answers.spawn(async move {
                listening.fetch_add(1, Relaxed);
                let answer = caller.hears().await;
                order.lock().expect("no panic").push(number);
                assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                (number, caller)
            });
        }
        // Who listened only after the answers came would hear them in the order of the callers.
        while listening.load(Relaxed) < LOUD + 2 {
            tokio::task::yield_now().await;
        }
        gateway.go_on();
        let mut heard = answers.join_all().await;
        heard.sort_by_key(|(number, _)| *number);
        callers.extend(heard.into_iter().map(|(_, caller)| caller));
        let order = order.lock().expect("no panic");
        let between = order.iter().position(|number| *number == LOUD + 1).expect("the quiet one was answered");
        assert!(between <= BETWEEN, "round {round}: {between} of {LOUD} others were answered before the quiet caller");
    }
    drop(callers);
    gateway.terminate();
    assert_eq!(gateway.ended(SOON).await.0, Some(0));
}
