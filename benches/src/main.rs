//! Load tests: the gateway beside its peers, and at scale. `make bench-peers` runs them all and writes `benches/README.md`.

mod attack;
mod gateway;
mod load;
mod open_loop;
mod parts;
mod peers;
mod portal;
mod process;
mod relay;
mod report;
mod runs;
mod scale;
mod train;
mod usage;
mod windows;
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
    /// How many usage rows a second one portal takes.
    Ingest {
        /// The folder of the database; removed afterwards. Without it, a temporary one.
        #[arg(long)]
        data: Option<PathBuf>,
        /// Simulated gateways.
        #[arg(long, default_value_t = 4)]
        gateways: usize,
        /// Streams of each gateway.
        #[arg(long, default_value_t = 4)]
        streams: usize,
        /// Usage rows of a batch.
        #[arg(long, default_value_t = 6_000)]
        rows: usize,
    },
    /// How long a gateway's backlog takes to drain.
    Backlog {
        /// The folder of the database and the journal. Without it, a temporary one.
        #[arg(long)]
        data: Option<PathBuf>,
        /// Records.
        #[arg(long, default_value_t = 10_000_000)]
        records: u64,
    },
    /// Writes what was found about usage into a page.
    ReportUsage {
        /// The page.
        #[arg(default_value = "benches/USAGE.md")]
        page: PathBuf,
    },
    /// How fast the usage page is with ninety days of usage.
    UsagePages {
        /// The folder of the database, made and filled where it is empty, and kept. Without it, a temporary one.
        #[arg(long)]
        data: Option<PathBuf>,
        /// Usage rows.
        #[arg(long, default_value_t = 100_000_000)]
        rows: u64,
        /// For how many of the ninety days the rows themselves are written, beside their sums.
        #[arg(long, default_value_t = 90)]
        row_days: u32,
        /// How often each page is asked for.
        #[arg(long, default_value_t = 500)]
        requests: usize,
    },
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
    /// Gives the gateway beside this binary all kinds of work, then stops it: for profiles by which it is compiled.
    Train,
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
    if let What::Ingest { data, gateways, streams, rows } = &arguments.what {
        let shape = usage::ingest::Shape { tenants: 10_000, gateways: *gateways, streams: *streams, rows: *rows };
        return usage::ingest(&arguments.results, data.as_deref(), shape, Duration::from_secs(arguments.seconds));
    }
    if let What::Backlog { data, records } = &arguments.what {
        return usage::backlog(&arguments.results, data.as_deref(), *records);
    }
    if let What::ReportUsage { page } = &arguments.what {
        return usage::report::write(&arguments.results, page);
    }
    if let What::UsagePages { data, rows, row_days, requests } = &arguments.what {
        return usage::pages(&arguments.results, data.as_deref(), (*rows, *row_days), *requests);
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
        What::Train => bench.train(),
        What::Serve { keys } => bench.serve(keys),
        What::Relay { .. } | What::Ingest { .. } | What::UsagePages { .. } | What::Backlog { .. } | What::ReportUsage { .. } => {
            unreachable!("handled above")
        }
    }
}
