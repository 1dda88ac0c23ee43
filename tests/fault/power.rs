//! `durability = "power"`: the end of an answer waits for its record's flush. The disk is slowed and broken by a library that stands before the C library's
//! `fdatasync` and `msync` in the real process.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use devstack::{
    replica::{Replica, ReplicaOptions},
    stack::Part,
};
use e2e::{
    auditor::{Call, Client, Fate, Load, Mix, Plan, Protocol},
    stack::Story,
    visitor::client,
    wait,
};
use reqwest::Method;

use crate::{
    check,
    gateway::options,
    world::{SHIPPED_WITHIN, World, names, status},
};

/// While `$FAULT_DISK.held` is there, a flush takes as long as it is; while `$FAULT_DISK.broken` is there, it fails.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
static int there(const char *ending) {
    char path[4096];
    snprintf(path, sizeof path, "%s.%s", getenv("FAULT_DISK"), ending);
    return access(path, F_OK) == 0;
}
static int is_broken(void) {
    while (there("held")) usleep(2000);
    if (there("broken")) { errno = EIO; return 1; }
    return 0;
}
int fdatasync(int file) {
    return is_broken() ? -1 : ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(file);
}
int msync(void *from, size_t length, int flags) {
    return is_broken() ? -1 : ((int (*)(void *, size_t, int))dlsym(RTLD_NEXT, "msync"))(from, length, flags);
}
"#;
/// For so long nothing must end while the disk is held; what waits for an event that must not come, can only wait for a time.
const NOTHING_ENDS: Duration = Duration::from_secs(2);

/// A disk of which flushes can be held and broken.
struct Disk(PathBuf);

impl Disk {
    fn hold(&self, on: bool) -> anyhow::Result<()> {
        self.set("held", on)
    }

    fn break_down(&self, on: bool) -> anyhow::Result<()> {
        self.set("broken", on)
    }

    fn set(&self, name: &str, on: bool) -> anyhow::Result<()> {
        let path = self.0.with_extension(name);
        if on {
            fs::write(path, "")?
        } else {
            fs::remove_file(path)?
        }
        Ok(())
    }
}

/// A gateway on such a disk.
async fn gateway_on(world: &World<'_>, name: &'static str, durability: &str) -> anyhow::Result<(Replica, Disk)> {
    let folder = world.story.stack.data_dir();
    let (disk, library) = (folder.join(format!("disk-of-{name}")), library(folder)?);
    let ReplicaOptions { name, mut environment, wrapper } = options(name);
    environment.push(("LD_PRELOAD", library.display().to_string()));
    environment.push(("FAULT_DISK", disk.display().to_string()));
    environment.push(("GATEWAY_JOURNAL_DURABILITY", durability.to_owned()));
    Ok((world.gateway(ReplicaOptions { name, environment, wrapper }).await?, Disk(disk)))
}

fn library(folder: &Path) -> anyhow::Result<PathBuf> {
    let (source, library) = (folder.join("disk.c"), folder.join("disk.so"));
    fs::write(&source, LIBRARY)?;
    let output = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").output()?;
    check!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
    Ok(library)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_answer_waits_for_its_flush_where_that_is_asked_for() -> anyhow::Result<()> {
    Story::tell(async |story| {
        let world = World::make(story, &names(1)).await?;
        let (safe, safe_disk) = gateway_on(&world, "power", "power").await?;
        let (fast, fast_disk) = gateway_on(&world, "process", "process").await?;
        safe_disk.hold(true)?;
        fast_disk.hold(true)?;
        for shape in shapes() {
            let fate = exchange(&world, &fast, shape).await?;
            check!(matches!(fate, Fate::Whole { .. }), "without durability=power no answer waits for the disk: {fate:?}");
        }
        let before = world.book.len();
        let waiting: Vec<_> = shapes().into_iter().map(|shape| exchange(&world, &safe, shape)).collect();
        let mut waiting = Box::pin(futures_util::future::try_join_all(waiting));
        let early = tokio::time::timeout(NOTHING_ENDS, &mut waiting).await;
        let lines = world.book.lines();
        check!(early.is_err() && lines[before..].iter().all(|line| line.fate == Fate::Open), "an answer ended before its flush: {early:?}");
        // What comes before the end is not held back.
        check!(lines[before..].iter().any(|line| line.received > 0), "streams run while the disk is held");
        safe_disk.hold(false)?;
        fast_disk.hold(false)?;
        let fates = tokio::time::timeout(SHIPPED_WITHIN, waiting).await??;
        check!(fates.iter().all(|fate| matches!(fate, Fate::Whole { by_upstream: true, .. })), "all end after the flush: {fates:?}");
        let count = world.audit("ends of answers that waited for a held disk", &[&safe, &fast]).await?;
        check!(count.answered == count.recorded && count.broken == 0, "{count:?}");
        safe.stop().await?;
        fast.stop().await
    })
    .await
}

/// A flush fails once: the gateway is not ready and says why, nothing ends that is not safe, and when the portal has the segment all goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_flush_makes_the_gateway_unready_until_the_portal_has_the_segment() -> anyhow::Result<()> {
    Story::tell(async |story| {
        let mut world = World::make(story, &names(2)).await?;
        let (gateway, disk) = gateway_on(&world, "failing", "power").await?;
        let load = Load::start(&world.book, &[gateway.url()], &world.keys, Mix::FEW, &mut world.dice);
        world.story.stack.kill(Part::Portal).await?;
        disk.break_down(true)?;
        let attempt = async || Ok(not_ready(&gateway).await?.filter(|why| why.contains("journal")));
        let (why, _) = wait::until("the gateway to be unready", SHIPPED_WITHIN, attempt).await?;
        disk.break_down(false)?;
        let before = whole(&world);
        tokio::time::sleep(NOTHING_ENDS).await;
        check!(whole(&world) <= before + IN_BETWEEN, "answers end although their records are not safe: {before}, {}", whole(&world));
        let status = status(&gateway).await?;
        check!(status["alerts"].to_string().contains("stream"), "the failure is in the status: {status}");
        check!(not_ready(&gateway).await?.is_some(), "a later flush that works changes nothing");

        world.story.stack.revive(Part::Portal).await?;
        let attempt = async || Ok(not_ready(&gateway).await?.is_none().then_some(()));
        wait::until("the gateway to be ready again", SHIPPED_WITHIN, attempt).await?;
        let attempt = async || Ok((whole(&world) > before + 100).then_some(()));
        wait::until("answers again", SHIPPED_WITHIN, attempt).await?;
        load.stop().await?;
        let count = world.audit(&format!("a failed flush ({why})"), &[&gateway]).await?;
        check!(count.answered == count.recorded && count.broken == 0, "{count:?}");
        gateway.stop().await
    })
    .await
}

/// Answers of streams whose flush was not the failed one may have been on their way when the gateway said so.
const IN_BETWEEN: usize = 20;

/// One of each way in which an answer ends: a known length, chunks, no body; over HTTP/1.1 and HTTP/2.
fn shapes() -> Vec<(Protocol, Plan)> {
    let plan = |status, bytes, chunks, path: &str| Plan {
        method: Method::GET,
        path: path.to_owned(),
        status,
        bytes,
        chunks,
        pause: Duration::from_millis(20),
        ..Plan::default()
    };
    let plans = [
        plan(200, 700, 0, "/audit/call"),
        plan(200, 5_000, 5, "/audit/stream"),
        plan(304, 0, 0, "/audit/call"),
        plan(200, 0, 0, "/audit/call"),
    ];
    let both = |plan: Plan| [(Protocol::Http1, plan.clone()), (Protocol::Http2, plan)];
    plans.into_iter().flat_map(both).collect()
}

async fn exchange(world: &World<'_>, gateway: &Replica, (protocol, plan): (Protocol, Plan)) -> anyhow::Result<Fate> {
    let mut client = Client::new(&world.book, protocol);
    client.exchange(Call { gateway: &gateway.url(), key: &world.keys[0], caller: 0 }, plan).await
}

fn whole(world: &World<'_>) -> usize {
    world.book.lines().iter().filter(|line| matches!(line.fate, Fate::Whole { by_upstream: true, .. })).count()
}

/// Why the gateway is not ready; `None` if it is.
async fn not_ready(gateway: &Replica) -> anyhow::Result<Option<String>> {
    let answer = client()?.get(format!("{}/readyz", gateway.admin_url())).send().await?;
    Ok(if answer.status().is_success() { None } else { Some(answer.text().await?) })
}
