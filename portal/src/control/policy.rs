//! `GET /control/v1/policy`: list, then watch.
//!
//! The stream is made of passes. A pass reads entries after a generation, in the order of their generations, page by page, until a page is not full; the
//! newest generation read with that last page is then complete. No transaction spans the pages: an entry that changes during a pass moves to a later
//! generation, where the pass, or the next one, meets it. So a slow gateway holds neither a snapshot nor a connection, and one page is all that is in
//! memory, however many keys there are.

use std::{convert::Infallible, fmt::Write as _, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::Query,
    http::header,
    response::IntoResponse,
};
use gateway_control::{
    FORMAT,
    lease::QuotaSlot,
    policy::{Generation, PolicyEvent},
};
use ids::Uuid;
use serde::Deserialize;
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use utoipa::IntoParams;

use super::{call::GatewayCall, json::check_format};
use crate::{
    api::problem::Problem,
    entitlements,
    error::{Error, Result},
    gateways,
    policy::{self, Line},
};

/// How many entries are read at once.
const PAGE_ENTRIES: i64 = 2000;
/// How many pieces may wait for a gateway that reads slowly.
const QUEUE_PIECES: usize = 4;
/// A gateway that reads nothing for so long is taken to be gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// From one heartbeat to the next (P1: a gateway is connected while it has one within 3 s).
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What the gateway knows already.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Known {
    /// The epoch of `generation`.
    #[param(value_type = Option<String>, format = "uuid")]
    epoch: Option<Uuid>,
    /// The generation up to which the gateway knows everything. Without it, or with one that the portal does not know, it is sent a snapshot.
    generation: Option<u64>,
    /// The format that the gateway reads.
    #[serde(default = "current_format")]
    #[param(required = false, default = 1)]
    version: u16,
    /// Whether the gateway understands [`PolicyEvent::Recall`].
    #[serde(default)]
    recalls: bool,
}

fn current_format() -> u16 {
    FORMAT
}

/// Watch policy
///
/// A stream of lines for as long as the connection lasts, each a `PolicyEvent`: first `snapshot` (or `resume`), then entries, then `synced`; after that
/// changes as they are committed, and a heartbeat each second. A gateway without a heartbeat for three seconds is not connected.
#[utoipa::path(
    get, path = "/control/v1/policy", operation_id = "policy.watch", tag = "policy", params(Known),
    responses((status = OK, description = "Lines of JSON, each a `PolicyEvent`.", body = PolicyEvent, content_type = "application/x-ndjson")))]
pub(super) async fn watch(call: GatewayCall, Query(known): Query<Known>) -> Result<impl IntoResponse, Problem> {
    check_format(known.version)?;
    let (pieces, queue) = mpsc::channel(QUEUE_PIECES);
    // The first page is read before the answer's head is sent, so that a portal without its database answers 503.
    let mut stream = Stream { call, pieces, epoch: Uuid::nil(), through: Generation(0), quiet_through: Generation(0) };
    let hello = stream.start(&known).await?;
    tokio::spawn(async move {
        let gateway = stream.call.gateway.id;
        stream.call.app.metrics.policy_watchers.inc();
        match stream.run(hello, known.recalls).await {
            Ok(end) => tracing::info!(%gateway, end, "a policy stream ended"),
            Err(error) => tracing::warn!(%gateway, ?error, "a policy stream broke off; the gateway will come again"),
        }
        stream.call.app.metrics.policy_watchers.dec();
    });
    let body = Body::from_stream(tokio_stream::StreamExt::map(ReceiverStream::new(queue), Ok::<Bytes, Infallible>));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")], body))
}

/// The gateway does not read any more, or something says that the stream must end.
type End = &'static str;

struct Stream {
    call: GatewayCall,
    pieces: mpsc::Sender<Bytes>,
    epoch: Uuid,
    /// All entries up to here have been sent.
    through: Generation,
    /// Tombstones up to here need not be sent: the gateway starts from nothing.
    quiet_through: Generation,
}

impl Stream {
    /// Decides between a snapshot and the changes only.
    async fn start(&mut self, known: &Known) -> Result<PolicyEvent> {
        let mut connection = self.call.app.pool.acquire().await?;
        let newest = policy::page_after(&mut connection, Generation(u64::MAX >> 1), Generation(0), None, 1).await?.newest;
        self.epoch = newest.epoch;
        let generation = Generation(known.generation.unwrap_or(0));
        if known.epoch == Some(newest.epoch) && known.generation.is_some() && generation <= newest.generation {
            self.through = generation;
            return Ok(PolicyEvent::Resume { format: FORMAT, epoch: newest.epoch });
        }
        self.quiet_through = newest.generation;
        Ok(PolicyEvent::Snapshot { format: FORMAT, epoch: newest.epoch })
    }

    async fn run(&mut self, hello: PolicyEvent, tell_recalls: bool) -> Result<End> {
        let mut newest = self.call.app.feed.watch();
        let mut recalls = self.call.app.recalls.watch();
        let mut text = String::new();
        push_event(&mut text, &hello)?;
        if let Some(end) = self.send(text).await {
            return Ok(end);
        }
        if let Some(end) = self.catch_up().await? {
            return Ok(end);
        }
        let shutdown = self.call.app.shutdown.clone();
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let end = tokio::select! {
                () = shutdown.cancelled() => Some("the portal stops"),
                () = self.pieces.closed() => Some("the gateway hung up"),
                changed = newest.changed() => {
                    changed.map_err(Error::internal)?;
                    let behind = newest.borrow_and_update().is_some_and(|newest| newest.epoch != self.epoch || newest.generation > self.through);
                    if behind { self.catch_up().await? } else { None }
                }
                recalled = recalls.recv(), if tell_recalls => match recalled {
                    Ok(slot) => self.recall(slot).await?,
                    // The ledger recalls again while a call waits.
                    Err(RecvError::Lagged(_)) => None,
                    Err(RecvError::Closed) => Some("the portal stops"),
                },
                _ = heartbeat.tick() => self.beat().await?,
            };
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    /// One pass: everything after `through`, then that it is complete.
    async fn catch_up(&mut self) -> Result<Option<End>> {
        loop {
            let page = {
                let mut connection = self.call.app.pool.acquire().await?;
                let namespaces = self.call.gateway.namespaces.as_deref();
                policy::page_after(&mut connection, self.through, self.quiet_through, namespaces, PAGE_ENTRIES).await?
            };
            if page.newest.epoch != self.epoch {
                return Ok(Some("the database was restored"));
            }
            let mut text = String::new();
            for line in &page.lines {
                push_line(&mut text, line)?;
            }
            let full = i64::try_from(page.lines.len()).is_ok_and(|lines| lines == PAGE_ENTRIES);
            match page.lines.last() {
                Some(last) if full => self.through = Generation(u64::try_from(last.generation).map_err(Error::internal)?),
                _ => {
                    self.through = page.newest.generation;
                    push_event(&mut text, &PolicyEvent::Synced { generation: self.through })?;
                }
            }
            if let Some(end) = self.send(text).await {
                return Ok(Some(end));
            }
            if !full {
                return Ok(None);
            }
        }
    }

    /// Says that the stream is alive, after making sure that the gateway may still read it: a portal that cannot ask its database stays silent, so that
    /// the gateway knows that its policy may be old.
    async fn beat(&mut self) -> Result<Option<End>> {
        let now = self.call.app.now();
        let mut tx = self.call.app.begin().await?;
        let still = gateways::is_still(&mut tx, &self.call.gateway, now).await?;
        let ledger_epoch = Some(entitlements::ledger_epoch(&mut tx).await?);
        tx.commit().await?;
        if !still {
            return Ok(Some("the gateway's credential or scope has changed"));
        }
        let mut text = String::new();
        push_event(&mut text, &PolicyEvent::Heartbeat { generation: self.through, now, ledger_epoch })?;
        Ok(self.send(text).await)
    }

    async fn recall(&mut self, slot: QuotaSlot) -> Result<Option<End>> {
        if !self.call.gateway.serves(slot.namespace) {
            return Ok(None);
        }
        let mut text = String::new();
        push_event(&mut text, &PolicyEvent::Recall { slots: vec![slot] })?;
        Ok(self.send(text).await)
    }

    async fn send(&self, text: String) -> Option<End> {
        match timeout(SEND_TIMEOUT, self.pieces.send(text.into())).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some("the gateway hung up"),
            Err(_) => Some("the gateway reads too slowly"),
        }
    }
}

fn push_event(text: &mut String, event: &PolicyEvent) -> Result<()> {
    text.push_str(&serde_json::to_string(event)?);
    text.push('\n');
    Ok(())
}

/// Writes [`PolicyEvent::Entry`] around the body as Postgres has it, without reading it: a snapshot may be a million of them.
fn push_line(text: &mut String, line: &Line) -> Result<()> {
    let body = line.body.as_deref().unwrap_or("null");
    writeln!(
        text,
        r#"{{"event":"entry","generation":{},"id":{{"kind":"{}","id":"{}"}},"body":{body}}}"#,
        line.generation, line.kind, line.entity_id
    )
    .map_err(Error::internal)
}
