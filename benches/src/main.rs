//! Load tests: the gateway beside its peers, and at scale. `make bench-peers` runs them all and writes `benches/README.md`.

mod attack;
mod gateway;
mod load;
mod parts;
mod peers;
mod portal;
mod process;
mod relay;
mod report;
mod runs;
mod scale;
mod world;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "loadtest", about = "The gateway beside its peers, and at scale")]
struct Arguments {
    /// How long one measurement takes, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How often measurements are repeated; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Where the results are kept between runs.
    #[arg(long, default_value = "test-output/loadtest")]
    results: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// One proxy job on each peer, throughput, CPU and latency.
    Peers,
    /// The journal's cost.
    Journal,
    /// One key that everybody uses, over all cores.
    HotKey,
    /// A million keys: start, memory, throughput, changes of policy.
    Scale,
    /// Memory of idle connections.
    Idle,
    /// A million wrong keys a minute, and one namespace at full blast: what others feel.
    Attack,
    /// Everything, then the report.
    All,
    /// Writes what was found into a page.
    Report {
        /// The page.
        #[arg(default_value = "benches/README.md")]
        page: PathBuf,
    },
    /// The relay: the floor for any proxy.
    Relay {
        /// Where to listen.
        listen: SocketAddr,
        /// Where to carry bytes.
        upstream: SocketAddr,
    },
    /// Starts the upstream and the gateway with its mock portal, says where, and waits: for profilers.
    Serve {
        /// API keys.
        #[arg(default_value_t = 10_000)]
        keys: usize,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let What::Relay { listen, upstream } = arguments.what {
        return relay::run(listen, upstream);
    }
    let bench = runs::Bench::new(Duration::from_secs(arguments.seconds), arguments.rounds, &arguments.results)?;
    match arguments.what {
        What::Peers => bench.peers(),
        What::Journal => bench.journal(),
        What::HotKey => bench.hot_key(),
        What::Scale => bench.scale(),
        What::Idle => bench.idle(),
        What::Attack => bench.attack(),
        What::All => {
            bench.peers()?;
            bench.journal()?;
            bench.hot_key()?;
            bench.scale()?;
            bench.idle()?;
            bench.attack()?;
            report::write(&bench.results, Path::new("benches/README.md"))
        }
        What::Report { page } => report::write(&bench.results, &page),
        What::Serve { keys } => bench.serve(keys),
        What::Relay { .. } => unreachable!("handled above"),
    }
}
