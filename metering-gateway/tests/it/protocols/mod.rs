//! Each protocol with real callers, in each of the situations that `docs/PROTOCOLS.md` lists: the tests that its table names stand here.

mod calls;
mod grpc;
mod sse;
mod versions;
mod websocket;

use std::time::{Duration, Instant};

use gateway_control::{policy::EntryBody, units::Micros, usage::UsageRow};
use ids::MeterId;
use quota::{RateLimit, Scope};
use serde_json::Value;

use crate::harness::{
    SOON, Stage, eventually,
    peer::Peer,
    policy::{World, entry},
};

/// A caller must be told within this that its key was revoked (SEMANTICS P1).
const A_SECOND: Duration = Duration::from_secs(1);

/// Two calls an hour.
fn two_calls(world: &mut World) {
    world.plan.rate_limits = vec![RateLimit { requests: 2, per_seconds: 3_600, burst: None, scope: Scope::ApiKey, route_group: None }];
}

/// Waits until so many calls are admitted and open.
async fn open_calls(stage: &Stage, count: usize) {
    let wanted = format!("tollkeeper_gateway_open_calls {count}\n");
    eventually(&format!("{count} calls are open"), async || {
        let text = stage.client.get(stage.gateway.admin("/metrics")).send().await.ok()?.text().await.ok()?;
        text.contains(&wanted).then_some(())
    })
    .await;
}

/// Revokes the live key, and returns the end of the caller's call, which must come within a second.
async fn revoke(stage: &Stage, peer: &mut Peer) -> Value {
    let begin = Instant::now();
    stage.portal.remove(entry(EntryBody::ApiKey(stage.world.keys[0].clone())).id);
    let end = peer.end().await;
    assert!(begin.elapsed() < A_SECOND, "P1: within a second, not {:?}: {end}", begin.elapsed());
    end
}

/// The one call of a meter that was recorded: its units, its status, and whether it was incomplete.
async fn recorded(stage: &Stage, meter: MeterId) -> (Micros, u16, bool) {
    let rows = stage.portal.calls_of(meter, 1).await;
    let row = rows.last().expect("a row");
    (Micros(rows.iter().map(|row| row.sum.0).sum()), row.key.status, row.incomplete == 1)
}

fn units(rows: &[UsageRow]) -> Micros {
    Micros(rows.iter().map(|row| row.sum.0).sum())
}

fn field<'v>(value: &'v Value, map: &str, name: &str) -> &'v str {
    value[map][name].as_str().unwrap_or_else(|| panic!("{name} is not in {value}"))
}
