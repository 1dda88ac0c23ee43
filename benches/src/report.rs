//! The page with the results.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Context as _;
use serde::de::DeserializeOwned;

use crate::{
    attack::Attack,
    open_loop::Latencies,
    parts::{HotKey, Idle, JournalCost},
    runs::Peers,
    scale::Scale,
    windows::Ratio,
};

const HEAD: &str = "# The gateway beside its peers\n\n\
    Written by `make bench-peers`; do not edit. Each proxy has one thread on one core of its own, the upstream (nginx, 1 KiB answers) another, the load the rest.\n\
    The job: find an API key among 10,000 in the product's key format, hold it to its own rate limit, count the call for it, say upstream who calls, forward over\n\
    kept connections. The gateway has everything on: key check and digest look-up, plan check, GCRA of the key, hard quota of the subscription by leases from a (mock)\n\
    portal, a journal record, metrics, `RateLimit` fields, trace context; and its process ships its usage meanwhile. `relay` parses nothing: it is the floor.\n\n\
    Machines differ and are shared: quote ratios. *CPU* is the proxy process's own user and system time a request, and moves least with noisy neighbours.\n\
    Ratios of throughput count only where every core of a proxy was busy.\n";

/// Writes the page from what the measurements kept.
///
/// # Errors
/// When a result cannot be read, or the disk refuses.
pub fn write(results: &Path, page: &Path) -> anyhow::Result<()> {
    let mut text = HEAD.to_owned();
    if let Some(found) = read(results, "peers", &mut text)? {
        peers(&mut text, &found)?;
    }
    if let Some(found) = read(results, "journal", &mut text)? {
        journal(&mut text, &found);
    }
    if let Some(found) = read(results, "hot-key", &mut text)? {
        hot_key(&mut text, &found);
    }
    if let Some(found) = read(results, "scale", &mut text)? {
        scale(&mut text, &found);
    }
    if let Some(found) = read(results, "idle", &mut text)? {
        idle(&mut text, &found);
    }
    if let Some(found) = read(results, "attack", &mut text)? {
        attack(&mut text, &found);
    }
    fs::write(page, text).with_context(|| format!("cannot write {}", page.display()))
}

/// What a measurement kept. One that was not made is named on the page.
fn read<T: DeserializeOwned>(results: &Path, name: &str, text: &mut String) -> anyhow::Result<Option<T>> {
    let path = results.join(name).with_extension("json");
    if !fs::exists(&path)? {
        line(text, &format!("\nNot measured in this run: `loadtest {name}`."));
        return Ok(None);
    }
    let json = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Some(serde_json::from_str(&json)?))
}

fn peers(text: &mut String, peers: &Peers) -> anyhow::Result<()> {
    let find = |name: &str| peers.rows.iter().find(|row| row.name == name).with_context(|| format!("{name} was not measured"));
    let (relay, haproxy, gateway) = (find("relay")?, find("haproxy")?, find("gateway")?);
    let mut rows: Vec<_> = peers.rows.iter().collect();
    rows.sort_by(|one, other| one.cpu_micros.total_cmp(&other.cpu_micros));
    line(text, "\n## Peers\n");
    line(
        text,
        &format!(
            "{} cores. Latencies in microseconds, open loop at {:.0} requests a second (half of HAProxy's most), each call at a moment of its own (a Poisson process):\n\
             medians of windows of two seconds, which proxies take in turns; whoever is not measured stands still (SIGSTOP). Ratios are geometric means over the windows,\n\
             with two standard errors either way.\n",
            peers.cores, peers.rate
        ),
    );
    line(text, "| proxy | requests/s | x HAProxy | CPU µs/request | x relay | x HAProxy | core busy | p50 | p99 | p99.9 | errors |");
    line(text, "|---|---|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        let rates = format!("{:.0} | {:.2}", row.per_second, row.per_second / haproxy.per_second);
        let cpu = format!("{:.1} | {:.2} | {:.2}", row.cpu_micros, row.cpu_micros / relay.cpu_micros, row.cpu_micros / haproxy.cpu_micros);
        let latencies = format!("{} | {} | {}", row.latencies.p50, row.latencies.p99, row.latencies.p999);
        line(text, &format!("| {} | {rates} | {cpu} | {:.0} % | {latencies} | {} |", row.name, row.busy * 100.0, row.errors));
    }
    line(text, "\n| target | measured | |\n|---|---|---|");
    let mut target = |what: &str, measured: String, met: &str| line(text, &format!("| {what} | {measured} | {met} |"));
    let is_met = |met: bool| if met { "met" } else { "not met" };
    let throughput = gateway.per_second / haproxy.per_second;
    target("throughput at least 1.10 x HAProxy", format!("{throughput:.2}"), is_met(throughput >= 1.10));
    let cpu = gateway.cpu_micros / relay.cpu_micros;
    target("CPU a request at most 1.5 x the relay", format!("{cpu:.2}"), is_met(cpu <= 1.5));
    for (what, ratio) in [("p99", gateway.p99), ("p99.9", gateway.p999)] {
        let met = if ratio.mean > 1.0 && ratio.low <= 1.0 { "not told apart" } else { is_met(ratio.mean <= 1.0) };
        target(&format!("{what} no worse than HAProxy's"), said(ratio), met);
    }
    Ok(())
}

fn journal(text: &mut String, journal: &JournalCost) {
    line(text, "\n## The journal\n");
    let cost = journal.on_cpu_micros - journal.off_cpu_micros;
    line(
        text,
        &format!(
            "Journal on and full (calls served without records), in turns: {:.1} and {:.1} µs a request. Recording, sealing, folding and shipping cost {cost:.1} µs, {:.0} %.\n\
             After a minute at its most, {:.0} requests a second, {:.0} records had not been shipped: the last {:.1} seconds of them.",
            journal.on_cpu_micros,
            journal.off_cpu_micros,
            cost / journal.on_cpu_micros * 100.0,
            journal.long_per_second,
            journal.unshipped_records,
            journal.unshipped_records / journal.long_per_second
        ),
    );
}

fn hot_key(text: &mut String, hot: &HotKey) {
    line(text, "\n## One hot key\n");
    let share = hot.hot_per_second / hot.spread_per_second * 100.0;
    line(
        text,
        &format!(
            "One key over {} cores: {share:.0} % of the throughput of 10,000 keys (target: 80 %), {:.1} against {:.1} µs a request.",
            hot.cores, hot.hot_cpu_micros, hot.spread_cpu_micros
        ),
    );
}

fn scale(text: &mut String, scale: &Scale) {
    line(text, &format!("\n## {} keys, {} routes\n", scale.keys, scale.routes));
    line(text, "| | measured | target |\n|---|---|---|");
    let mut row = |what: &str, measured: String, target: &str| line(text, &format!("| {what} | {measured} | {target} |"));
    row("start from the cached policy, process to ready", format!("{:.2} s", scale.start_millis as f64 / 1e3), "3 s");
    let each = |rss: u64| rss.saturating_sub(scale.rss_empty) as f64 / scale.keys as f64;
    row("resident memory a key, after that start and three seconds of refused calls", format!("{:.0} B", each(scale.rss)), "250 B");
    let share = scale.per_second / scale.small_per_second;
    row(
        "throughput of calls with 10,000 of these keys, against a gateway that knows only those",
        format!("{:.0} %", share * 100.0),
        "90 %",
    );
    row("their CPU a request, few and all keys known", format!("{:.1} and {:.1} µs", scale.small_cpu_micros, scale.cpu_micros), "");
    let sweep = format!("{:.0} %, {:.1} µs", scale.sweep_per_second / scale.small_per_second * 100.0, scale.sweep_cpu_micros);
    row("a sweep in which each call has the next key: throughput and CPU a request", sweep, "");
    let used = scale.rss_swept.saturating_sub(scale.rss) as f64 / scale.swept_keys.max(1) as f64;
    let what = format!("what each of the {} keys of the sweep took beside: limiter, lease, grant, unshipped records", scale.swept_keys);
    row(&what, format!("{used:.0} B"), "");
    let (quiet, changing) = (scale.quiet, scale.changing);
    row("p50, p99, p99.9 at half the rate, quiet policy", format!("{}, {}, {} µs", quiet.p50, quiet.p99, quiet.p999), "");
    let with = format!("the same with 1,000 policy changes a second ({} in all), in turns", scale.changes);
    row(&with, format!("{}, {}, {} µs", changing.p50, changing.p99, changing.p999), "");
    row("its p99 against a quiet policy", said(scale.changing_ratio), "not moved");
}

fn idle(text: &mut String, idle: &Idle) {
    line(text, "\n## Idle connections\n");
    let rows: Vec<_> = idle.rows.iter().map(|(name, bytes)| format!("{name} {:.1} KiB", *bytes as f64 / 1024.0)).collect();
    line(text, &format!("Resident memory of each of {} connections that rest after one call: {}.", idle.connections, rows.join(", ")));
}

fn attack(text: &mut String, attack: &Attack) {
    line(text, "\n## Attacks\n");
    let (each, grown) = (attack.wrong_cpu_micros, attack.wrong_grown as f64 / f64::from(1 << 20));
    line(
        text,
        &format!(
            "What others feel who make {} calls a second on the same core, in microseconds: medians of windows of two seconds, in turns, and how p99 compares with nothing\n\
             else going on, window by window, with two standard errors either way. A wrong key, well-formed and each another one, costs the gateway {each:.1} µs; its memory\n\
             grew by {grown:.1} MiB meanwhile. The namespace at full blast calls over 64 connections as fast as it is answered, within its limits, on the one core. HAProxy\n\
             refuses the same keys (401) and serves the same calls. With the blast, the upstream is busy, too.\n",
            attack.others_per_second
        ),
    );
    line(text, "| proxy | meanwhile | p50 | p99 | p99.9 | p99 against nothing else |\n|---|---|---|---|---|---|");
    for felt in &attack.felt {
        let mut row = |what: &str, latencies: &Latencies, ratio: &str| {
            let Latencies { p50, p99, p999 } = latencies;
            line(text, &format!("| {} | {what} | {p50} | {p99} | {p999} | {ratio} |", felt.proxy));
        };
        row("nothing else", &felt.alone, "");
        let (rate, million) = (felt.wrong_per_second, felt.wrong_per_second * 60.0 / 1e6);
        let wrong = format!("{rate:.0} wrong keys a second ({million:.2} million a minute)");
        row(&wrong, &felt.with_wrong_keys, &said(felt.wrong_keys_ratio));
        let blast = format!("one other namespace at full blast, {:.0} calls a second", felt.blast_per_second);
        row(&blast, &felt.with_blast, &said(felt.blast_ratio));
    }
}

fn said(Ratio { mean, low, high }: Ratio) -> String {
    format!("{mean:.2} x ({low:.2} to {high:.2})")
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}
