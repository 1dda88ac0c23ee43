//! The publisher: takes changed ids, compiles what they now are, and numbers it.
//!
//! Every serving process runs [`run`]; one of them leads. Leading is a session's advisory lock on the very connection on which the publisher writes, so
//! who loses the lock has lost the means to write with it. The row of `policy_state` is locked besides: even two publishers would take turns.
//!
//! A round is one transaction: take committed outbox rows, read the facts (which are then at least as new as the change), write the entries under new
//! generations, move `policy_state`. A failure leaves everything as it was, outbox included.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use gateway_control::policy::{EntryKind, Generation};
use ids::Uuid;
use sqlx::{Connection, PgConnection};

use super::{
    Position,
    compile::{Compiled, compile},
    facts::{Facts, SettingsFacts},
    store::{self, NewEntry},
};
use crate::{
    App,
    error::{Error, Result},
};

/// How long the publisher waits for a wake before it looks anyway: other processes commit without waking this one.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How often a process that stands by tries to lead.
const STANDBY_INTERVAL: Duration = Duration::from_millis(250);
/// How long a process waits after a failure.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// The most outbox rows of a round: large enough for a million keys in some minutes, small enough that a round is short.
const ROUND_ROWS: i64 = 5000;

/// What a round has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Where the policy stands now.
    pub position: Position,
    /// How many outbox rows were taken.
    pub changes: usize,
    /// How many entries have a new generation; the rest had not changed for gateways.
    pub entries: usize,
}

/// Publishes, or stands by to, until the process stops.
pub async fn run(app: App) {
    loop {
        let end = tokio::select! {
            () = app.shutdown.cancelled() => return,
            end = lead(&app) => end,
        };
        if let Err(error) = end {
            tracing::warn!(?error, "the policy publisher stopped; trying again");
        }
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = tokio::time::sleep(RETRY_INTERVAL) => {}
        }
    }
}

/// Waits for the lead, then publishes for as long as the connection lasts.
async fn lead(app: &App) -> Result<()> {
    let mut connection = app.pool.acquire().await?.detach();
    // A publisher whose machine vanished is noticed by Postgres in about ten seconds, not in two hours.
    sqlx::raw_sql("SET tcp_keepalives_idle = 4; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3")
        .execute(&mut connection)
        .await?;
    while !store::try_lead(&mut connection).await? {
        tokio::time::sleep(STANDBY_INTERVAL).await;
    }
    tracing::info!("this process publishes the policy");
    ask_for_settings(&mut connection).await?;
    loop {
        // Waiting begins before the look, so that a commit between the look and the wait is not missed.
        let woken = app.policy_wake.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        while publish_some(app, &mut connection).await? {}
        tokio::select! {
            () = woken => {}
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
}

/// The settings come from the process's environment, so whoever leads publishes its own.
async fn ask_for_settings(connection: &mut PgConnection) -> Result<()> {
    store::touch(connection, EntryKind::Settings, Uuid::nil()).await
}

/// One round, if there is anything to do; whether there may be more.
async fn publish_some(app: &App, connection: &mut PgConnection) -> Result<bool> {
    if !store::has_changes(connection).await? {
        return Ok(false);
    }
    let started = Instant::now();
    let settings = SettingsFacts {
        portal_origin: app.config.public_origin(),
        upgrade_url: app.config.public_url.join("pricing").map_err(Error::internal)?.into(),
    };
    let Some(published) = round(connection, &settings, ROUND_ROWS).await? else { return Ok(false) };
    app.feed.advance(published.position);
    app.metrics.policy_publish_seconds.observe(started.elapsed().as_secs_f64());
    tracing::debug!(changes = published.changes, entries = published.entries, generation = published.position.generation.0, "published");
    Ok(true)
}

/// One round on a connection of one's own; `None` if the outbox holds nothing that is committed.
pub async fn round(connection: &mut PgConnection, settings: &SettingsFacts, max_rows: i64) -> Result<Option<Published>> {
    let mut tx = connection.begin().await?;
    let position = store::position_for_update(&mut tx).await?;
    let changes = store::take_changes(&mut tx, max_rows).await?;
    if changes.is_empty() {
        return Ok(None);
    }
    let mut by_kind: BTreeMap<EntryKind, BTreeSet<Uuid>> = BTreeMap::new();
    for (kind, id) in &changes {
        match parse_kind(kind) {
            Some(kind) => drop(by_kind.entry(kind).or_default().insert(*id)),
            None => tracing::error!(kind, %id, "the outbox names a kind of entry that this version does not know"),
        }
    }
    let mut generation = position.generation;
    let mut entries = Vec::new();
    for (kind, ids) in by_kind {
        let ids: Vec<Uuid> = ids.into_iter().collect();
        for (entity_id, compiled) in news(&mut tx, kind, &ids, settings).await? {
            generation = Generation(generation.0 + 1);
            entries.push(NewEntry { kind, entity_id, generation, compiled });
        }
    }
    if !entries.is_empty() {
        store::write(&mut tx, &entries, generation).await?;
    }
    tx.commit().await?;
    let position = Position { generation, ..position };
    Ok(Some(Published { position, changes: changes.len(), entries: entries.len() }))
}

/// The things whose entry differs from what stands published.
async fn news(connection: &mut PgConnection, kind: EntryKind, ids: &[Uuid], settings: &SettingsFacts) -> Result<Vec<(Uuid, Compiled)>> {
    let before: HashMap<Uuid, Option<serde_json::Value>> = store::published(connection, kind, ids).await?.into_iter().collect();
    let mut facts: HashMap<Uuid, Facts> = store::read_facts(connection, kind, ids).await?.into_iter().collect();
    if kind == EntryKind::Settings {
        facts.insert(Uuid::nil(), Facts::Settings(settings.clone()));
    }
    let mut news = Vec::new();
    for id in ids {
        let compiled = match facts.get(id).map(compile) {
            // It is gone from its table.
            None => Compiled { body: None, namespace: None },
            Some(Ok(compiled)) => compiled,
            Some(Err(bad)) => {
                tracing::error!(kind = store::kind_name(kind), %id, %bad, "no policy entry can be made of this row; gateways keep the last good one");
                continue;
            }
        };
        let body = compiled.body.as_ref().map(serde_json::to_value).transpose()?;
        let known = before.get(id).cloned().flatten();
        if body != known {
            news.push((*id, compiled));
        }
    }
    Ok(news)
}

fn parse_kind(name: &str) -> Option<EntryKind> {
    [EntryKind::Settings, EntryKind::Service, EntryKind::Route, EntryKind::PlanVersion, EntryKind::Subscription, EntryKind::ApiKey]
        .into_iter()
        .find(|kind| store::kind_name(*kind) == name)
}
