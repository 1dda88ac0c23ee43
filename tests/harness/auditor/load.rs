//! Many clients at once: quick calls, calls that are held, and streams.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use reqwest::Method;
use tokio::task::JoinHandle;

use super::{
    book::{Book, Fate, Form, Plan},
    client::{Call, Client, Protocol},
    dice::Dice,
};

/// How long a client waits before it tries again to reach a gateway that is away. There is no event to await.
const AWAY: Duration = Duration::from_millis(20);

/// How many clients of which kind.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    /// Clients of short calls, one after the other.
    pub quick: usize,
    /// Clients of calls whose answers begin late.
    pub held: usize,
    /// Clients of streams.
    pub streams: usize,
    /// Clients of WebSockets.
    pub sockets: usize,
    /// Clients of gRPC calls.
    pub rpcs: usize,
}

impl Mix {
    /// Some 230 exchanges in flight at any time.
    pub const CROWD: Self = Self { quick: 20, held: 70, streams: 160, sockets: 0, rpcs: 0 };
    /// The same, and WebSockets and gRPC calls.
    pub const CROWD_OF_ALL: Self = Self { sockets: 30, rpcs: 30, ..Self::CROWD };
    /// A few of each that is answered by itself.
    pub const FEW: Self = Self { quick: 4, held: 8, streams: 8, sockets: 0, rpcs: 0 };
    /// A few of each.
    pub const FEW_OF_ALL: Self = Self { sockets: 4, rpcs: 4, ..Self::FEW };
}

/// Running clients.
#[derive(Debug)]
pub struct Load {
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<anyhow::Result<()>>>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Quick,
    Held,
    Stream,
    Socket,
    Rpc,
}

impl Load {
    /// Starts the clients, spread over gateways and keys; every other one speaks HTTP/2.
    pub fn start(book: &Book, gateways: &[String], keys: &[String], mix: Mix, dice: &mut Dice) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let kinds = [
            (Kind::Quick, mix.quick),
            (Kind::Held, mix.held),
            (Kind::Stream, mix.streams),
            (Kind::Socket, mix.sockets),
            (Kind::Rpc, mix.rpcs),
        ];
        let kinds = kinds.into_iter().flat_map(|(kind, count)| std::iter::repeat_n(kind, count));
        let clients = kinds.enumerate().map(|(index, kind)| {
            let protocol = if index % 2 == 0 { Protocol::Http1 } else { Protocol::Http2 };
            let client = Client::new(book, protocol);
            let caller = index % keys.len();
            let (gateway, key) = (gateways[index % gateways.len()].clone(), keys[caller].clone());
            tokio::spawn(run(client, (gateway, key, caller), kind, Dice::new(dice.roll()), over.clone()))
        });
        Self { clients: clients.collect(), over }
    }

    /// Lets each client end its exchange, and waits for that.
    ///
    /// # Errors
    /// When a client could not make its requests.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.over.store(true, SeqCst);
        for client in self.clients {
            client.await??;
        }
        Ok(())
    }
}

async fn run(
    mut client: Client,
    (gateway, key, caller): (String, String, usize),
    kind: Kind,
    mut dice: Dice,
    over: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    while !over.load(SeqCst) {
        let fate = client.exchange(Call { gateway: &gateway, key: &key, caller }, plan(kind, &mut dice)).await?;
        if fate == Fate::NotSent {
            tokio::time::sleep(AWAY).await;
        } else if matches!(kind, Kind::Quick) {
            tokio::time::sleep(dice.millis(2, 12)).await;
        }
    }
    Ok(())
}

fn plan(kind: Kind, dice: &mut Dice) -> Plan {
    // Mostly good; some of each that the billable rule treats in its own way.
    const STATUSES: [u16; 16] = [200, 200, 200, 200, 200, 200, 200, 201, 204, 206, 301, 304, 404, 403, 429, 500];
    let status = STATUSES[dice.within(0, STATUSES.len() as u64) as usize];
    let bodiless = status == 204 || status == 304;
    let (path, bytes, chunks, pause) = match kind {
        Kind::Quick => ("/audit/call", dice.within(0, 3_000), 0, Duration::ZERO),
        Kind::Held => ("/audit/call", dice.within(0, 150_000), 0, dice.millis(50, 400)),
        Kind::Socket => return talk(Form::WebSocket, "/audit/socket", 101, dice),
        Kind::Rpc => return talk(Form::Grpc, "/audit.Audit", 200, dice),
        Kind::Stream => {
            let chunks = dice.within(5, 25);
            ("/audit/stream", chunks * dice.within(1, 1_500), chunks as u32, dice.millis(40, 120))
        }
    };
    let (bytes, chunks) = if bodiless { (0, 0) } else { (bytes, chunks) };
    Plan { method: Method::GET, path: path.to_owned(), status, bytes, chunks, pause, ..Plan::default() }
}

fn talk(form: Form, path: &str, status: u16, dice: &mut Dice) -> Plan {
    Plan { path: path.to_owned(), status, pause: dice.millis(5, 100), form, messages: dice.within(1, 20) as u32, ..Plan::default() }
}
