//! A gateway is killed with `kill -9`, again and again, with hundreds of exchanges in flight.

use std::time::{Duration, Instant};

use devstack::replica::{Replica, ReplicaOptions};
use e2e::{
    auditor::{Entry, Fate, Form, Load, Mix, Recorded},
    stack::Story,
    wait,
};

use crate::{
    check,
    world::{World, names},
};

const KILLS: u32 = 20;
/// At least so many exchanges are in flight at each kill.
const IN_FLIGHT: u64 = 200;
/// How often a stream writes an interim record here; by default it is 5 s.
const INTERIM: Duration = Duration::from_millis(500);
/// Small, so that many segments are filled.
pub const SEGMENT_BYTES: u64 = 64 * 1024;
/// What the timer of a busy machine may come late.
const LATE: Duration = Duration::from_secs(1);

/// A test that fails leaves no gateway behind: the kernel kills it with its parent.
pub const DIES_WITH_THE_TEST: [&str; 3] = ["setpriv", "--pdeathsig", "KILL"];

/// A gateway of the fault tests.
pub fn options(name: &'static str) -> ReplicaOptions {
    let environment = vec![
        ("GATEWAY_CORES", "2".to_owned()),
        ("GATEWAY_JOURNAL_SEGMENT_BYTES", SEGMENT_BYTES.to_string()),
        ("GATEWAY_INTERIM_INTERVAL", format!("{}ms", INTERIM.as_millis())),
    ];
    ReplicaOptions { name, environment, wrapper: DIES_WITH_THE_TEST.map(Into::into).to_vec() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_killed_twenty_times() -> anyhow::Result<()> {
    Story::tell(async |story| {
        let mut world = World::make(story, &names(4)).await?;
        let mut gateway = world.gateway(options("killed")).await?;
        let load = Load::start(&world.book, &[gateway.url()], &world.keys, Mix::CROWD_OF_ALL, &mut world.dice);
        let mut fewest = u64::MAX;
        let mut kills = Vec::new();
        for _ in 0..KILLS {
            fewest = fewest.min(kill_in_the_middle(&mut world, &mut gateway).await?);
            kills.push(Instant::now());
            gateway.revive(&world.story.stack).await?;
        }
        load.stop().await?;
        let count = world.audit(&format!("{KILLS} kills of a gateway, at least {fewest} exchanges in flight at each"), &[&gateway]).await?;
        check!(count.broken >= u64::from(KILLS) * IN_FLIGHT / 2, "the kills broke exchanges: {count:?}");
        both_ways(&world.book.lines())?;
        check!(count.answered > 1_000, "there were answers between the kills: {count:?}");
        at_most_one_interval_is_lost(&world.book.lines(), &world.recorded(&[&gateway])?, &kills)?;
        gateway.stop().await
    })
    .await
}

/// Kills the gateway at a random moment at which enough is in flight, and says how much that is.
async fn kill_in_the_middle(world: &mut World<'_>, gateway: &mut Replica) -> anyhow::Result<u64> {
    let moment = world.dice.millis(200, 1_500);
    let started = Instant::now();
    let attempt = async || {
        let in_flight = world.book.in_flight();
        Ok((started.elapsed() >= moment && in_flight >= IN_FLIGHT).then_some(in_flight))
    };
    let (in_flight, _) = wait::until("enough exchanges in flight", Duration::from_secs(60), attempt).await?;
    gateway.kill().await?;
    Ok(in_flight)
}

/// WebSockets and gRPC calls came to their end between the kills, and were broken by them.
fn both_ways(lines: &[Entry]) -> anyhow::Result<()> {
    for form in [Form::WebSocket, Form::Grpc] {
        let of_form = |fits: fn(Fate) -> bool| lines.iter().filter(|line| line.plan.form == form && fits(line.fate)).count();
        let whole = of_form(|fate| matches!(fate, Fate::Whole { .. }));
        let broken = of_form(|fate| fate == Fate::Broken);
        println!("fault: {form:?}: {whole} exchanges whole, {broken} broken");
        check!(whole > 50 && broken > 50, "kills came between exchanges of the form {form:?} and within them");
    }
    Ok(())
}

/// Of a stream that a kill broke, the interim records hold all but its last moments.
fn at_most_one_interval_is_lost(lines: &[Entry], recorded: &Recorded, kills: &[Instant]) -> anyhow::Result<()> {
    let marks = recorded.marks();
    let lost: Vec<&Entry> =
        (1..).zip(lines).filter(|(mark, line)| line.fate == Fate::Broken && !marks.contains(mark)).map(|(_, line)| line).collect();
    let kept: u64 = recorded.exchanges.values().filter(|exchange| exchange.finals == 0).map(|exchange| exchange.bytes).sum();
    let given: u64 = lost.iter().map(|line| line.given).sum();
    let long_before: u64 = lost.iter().map(|line| arrived_long_before_the_kill(line, kills)).sum();
    println!("fault: of {given} bytes of streams that were broken by kills, {kept} are recorded; {long_before} had arrived long before");
    check!(long_before <= kept && kept <= given, "interim records hold {kept} bytes: at least {long_before}, at most {given}");
    check!(kept > 0, "streams wrote interim records");
    Ok(())
}

/// What a client had of a body longer than an interval before the kill that ended it.
fn arrived_long_before_the_kill(line: &Entry, kills: &[Instant]) -> u64 {
    let Some((last, _)) = line.arrivals.last() else { return 0 };
    let Some(kill) = kills.iter().find(|kill| *kill >= last) else { return 0 };
    let safe = line.arrivals.iter().rev().find(|(at, _)| *at + INTERIM + LATE <= *kill);
    safe.map_or(0, |(_, bytes)| *bytes)
}
