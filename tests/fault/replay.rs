//! A real web server's log is replayed through three gateways: client -> key, path -> route, status and bytes as the log has them.

use std::{
    collections::{BTreeMap, HashMap},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use devstack::replica::Replica;
use e2e::{
    auditor::{Book, Call, Client, Fate, Plan, Protocol},
    repository,
    stack::Story,
    wait,
};
use reqwest::Method;

use crate::{
    check,
    gateway::options,
    world::{ROUTES, World},
};

const LOG: &str = "shared/data/traffic/apache_logs.gz";
/// Programs that replay at the same time; each client's lines stay in their order.
const PROGRAMS: usize = 24;
/// How often gateways are killed meanwhile, one after the other.
const KILLS: usize = 9;

/// A line of the log.
#[derive(Debug, Clone)]
struct Line {
    client: usize,
    method: Method,
    route: &'static str,
    status: u16,
    bytes: u64,
}

/// The log, and its clients by their places.
struct Log {
    lines: Vec<Line>,
    clients: Vec<String>,
}

/// Calls and bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sum {
    calls: u64,
    bytes: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kills_the_sums_are_the_logs() -> anyhow::Result<()> {
    replay(0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_kills_they_lie_above_by_the_named_broken_exchanges() -> anyhow::Result<()> {
    replay(KILLS).await
}

async fn replay(kills: usize) -> anyhow::Result<()> {
    let root = repository::root();
    let Some(path) = root.ancestors().skip(1).map(|folder| folder.join(LOG)).find(|path| path.is_file()) else {
        println!("skipped: ../{LOG} is missing, so no real traffic is replayed");
        return Ok(());
    };
    let log = Arc::new(Log::read(&path)?);
    Story::tell(async |story| {
        let mut world = World::make(story, &log.clients).await?;
        let mut gateways = Vec::new();
        for name in ["replay-a", "replay-b", "replay-c"] {
            gateways.push(world.gateway(options(name)).await?);
        }
        // What the gateways were asked until they knew the keys, is no part of the log.
        let before = world.book.len();
        let addresses: Vec<String> = gateways.iter().map(Replica::url).collect();
        let programs = (0..PROGRAMS).map(|program| {
            let (log, keys, book) = (log.clone(), world.keys.clone(), world.book.clone());
            let addresses: Vec<String> = (0..3).map(|index| addresses[(program + index) % 3].clone()).collect();
            tokio::spawn(async move { log.replay_part(program, &addresses, &keys, &book).await })
        });
        let programs: Vec<_> = programs.collect();
        let started = Instant::now();
        for kill in 0..kills {
            // Evenly over the replay, at an exchange that chance picks.
            let share = before as u64 + (kill as u64 * 2 + 1) * log.lines.len() as u64 / (kills as u64 * 2);
            let at = share + world.dice.within(0, 200);
            let reached =
                async || Ok((world.book.len() as u64 >= at || programs.iter().all(|program| program.is_finished())).then_some(()));
            wait::until("the replay to go on", Duration::from_secs(120), reached).await?;
            let gateway = &mut gateways[kill % 3];
            gateway.kill().await?;
            gateway.revive(&world.story.stack).await?;
        }
        for program in programs {
            program.await??;
        }
        println!("fault: {} MB were replayed in {} s", log.bytes() / 1_000_000, started.elapsed().as_secs());
        let all: Vec<&Replica> = gateways.iter().collect();
        let count = world.audit(&format!("replay of the log with {kills} kills"), &all).await?;
        check!(kills > 0 || count.broken == 0, "nothing breaks without a kill: {count:?}");
        compare(&world, &log, before, &all, kills > 0).await?;
        for gateway in gateways {
            gateway.stop().await?;
        }
        Ok(())
    })
    .await
}

/// What the portal's export says of each client lies between the log and the log with the broken exchanges that were recorded.
async fn compare(world: &World<'_>, log: &Log, before: usize, gateways: &[&Replica], killed: bool) -> anyhow::Result<()> {
    let recorded = world.recorded(gateways)?;
    let marks = recorded.marks();
    let exported = exported(world).await?;
    let mut wanted = vec![Sum::default(); log.clients.len()];
    for line in &log.lines {
        wanted[line.client].calls += 1;
        wanted[line.client].bytes += line.bytes;
    }
    let (mut broken, mut first_calls) = (vec![Sum::default(); log.clients.len()], vec![Sum::default(); log.clients.len()]);
    for (index, line) in world.book.lines().iter().enumerate() {
        if index < before {
            if matches!(line.fate, Fate::Whole { by_upstream: true, .. }) {
                first_calls[line.caller] =
                    Sum { calls: first_calls[line.caller].calls + 1, bytes: first_calls[line.caller].bytes + line.received };
            }
        } else if line.fate == Fate::Broken {
            let sum = &mut broken[line.caller];
            // A stream that was killed leaves bytes in interim records, of which only its gateway could tell whose they are.
            *sum = Sum { calls: sum.calls + u64::from(marks.contains(&(index as u64 + 1))), bytes: sum.bytes + line.given };
        }
    }
    let mut above = 0;
    for (place, client) in log.clients.iter().enumerate() {
        let found = exported.get(client).copied().unwrap_or_default();
        let found = Sum { calls: found.calls - first_calls[place].calls, bytes: found.bytes - first_calls[place].bytes };
        let (wanted, broken) = (wanted[place], broken[place]);
        check!(
            found.calls == wanted.calls + broken.calls,
            "{client}: {found:?} calls accepted, the log has {wanted:?}, broken and recorded {broken:?}"
        );
        let most = wanted.bytes + broken.bytes;
        check!((wanted.bytes..=most).contains(&found.bytes), "{client}: {found:?} accepted, the log has {wanted:?}, broken {broken:?}");
        check!(killed || found == wanted, "{client}: {found:?} accepted, the log has {wanted:?}");
        above += found.calls - wanted.calls;
    }
    println!(
        "fault: the sums of {} clients agree with the log of {} lines; {above} broken exchanges were recorded beyond it",
        log.clients.len(),
        log.lines.len()
    );
    Ok(())
}

/// Calls and bytes by the names of the keys, from the export that developers download.
async fn exported(world: &World<'_>) -> anyhow::Result<HashMap<String, Sum>> {
    let answer = world.developer.request(Method::GET, "/usage.csv")?.send().await?.error_for_status()?;
    let text = answer.text().await?;
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().context("an empty export")?.split(',').collect();
    let column = |name: &str| head.iter().position(|found| *found == name).with_context(|| format!("no {name} in {head:?}"));
    let (key, meter, calls, units) = (column("key")?, column("meter")?, column("calls")?, column("units")?);
    let mut sums: HashMap<String, Sum> = HashMap::new();
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        check!(cells.len() == head.len(), "a line of the export has {} cells: {line}", cells.len());
        let sum = sums.entry(cells[key].to_owned()).or_default();
        match cells[meter] {
            "requests" => sum.calls += cells[calls].parse::<u64>()?,
            "bytes" => sum.bytes += cells[units].parse::<u64>()?,
            _ => {}
        }
    }
    Ok(sums)
}

impl Log {
    fn read(path: &std::path::Path) -> anyhow::Result<Self> {
        let output = Command::new("gzip").arg("-dc").arg(path).output().context("cannot run gzip")?;
        check!(output.status.success(), "gzip: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        let (mut lines, mut clients) = (Vec::new(), Vec::new());
        for line in text.lines() {
            let mut quoted = line.split('"');
            let client = line.split(' ').next().unwrap_or_default();
            let request = quoted.nth(1).with_context(|| format!("no request in {line}"))?;
            let mut after = quoted.next().unwrap_or_default().split_whitespace();
            let client = *places.entry(client.to_owned()).or_insert_with(|| {
                clients.push(client.to_owned());
                clients.len() - 1
            });
            let mut words = request.split(' ');
            let method: Method = words.next().unwrap_or_default().parse()?;
            let status = after.next().unwrap_or_default().parse()?;
            // Without a body the log has a hyphen.
            let bytes = after.next().unwrap_or_default().parse().unwrap_or(0);
            lines.push(Line { client, method, route: route(words.next().unwrap_or_default()), status, bytes });
        }
        check!(lines.len() == 10_000, "the log has {} lines", lines.len());
        Ok(Self { lines, clients })
    }

    fn bytes(&self) -> u64 {
        self.lines.iter().map(|line| line.bytes).sum()
    }

    /// The lines of some of the clients. What breaks is asked for again, at the next gateway, until it is answered whole.
    async fn replay_part(&self, program: usize, addresses: &[String], keys: &[String], book: &Book) -> anyhow::Result<()> {
        let mut clients: Vec<Client> = addresses.iter().map(|_| Client::new(book, Protocol::Http1)).collect();
        let mut at = 0;
        for line in self.lines.iter().filter(|line| line.client % PROGRAMS == program) {
            let plan = Plan {
                method: line.method.clone(),
                path: format!("/audit/{}", line.route),
                status: line.status,
                bytes: line.bytes,
                chunks: 0,
                pause: Duration::ZERO,
                ..Plan::default()
            };
            let call = |at: usize| Call { gateway: &addresses[at], key: &keys[line.client], caller: line.client };
            loop {
                let fate = clients[at].exchange(call(at), plan.clone()).await?;
                if matches!(fate, Fate::Whole { by_upstream: true, .. }) {
                    break;
                }
                check!(!matches!(fate, Fate::Whole { .. }), "a gateway refused {line:?}: {fate:?}");
                at = (at + 1) % clients.len();
            }
        }
        Ok(())
    }
}

/// The route of a path: by its first segment.
fn route(path: &str) -> &'static str {
    let first = path.trim_start_matches('/').split(['/', '?']).next().unwrap_or_default();
    match first {
        "style2.css" | "reset.css" => "style",
        _ => ROUTES[2..].iter().copied().find(|route| *route == first).unwrap_or("other"),
    }
}
