//! The background task that takes and gives back leases (SEMANTICS Q2, Q3): one exchange at a time, for all quotas that want something.
//!
//! An exchange's number is on the disk before it is sent, so that a number is never used for two exchanges of one journal. An exchange whose answer was
//! lost is sent again under its number, with the same body, and gets the same answer.

use std::{
    collections::HashMap,
    fs, io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use gateway_control::{
    FORMAT,
    lease::{LeaseExchange, LeaseGrant, LeaseWant, QuotaSlot},
    units::Micros,
};
use quota::{Lease, NANOS_PER_SECOND, RateOfUse, Sizing, spend_until_ns};
use reqwest::StatusCode;
use tokio_util::sync::CancellationToken;

use super::quota::{LedgerWord, QuotaCell};
use crate::{
    portal::{Backoff, Portal, PortalError},
    shared::Shared,
};

/// How often all leases are looked at, beside when a call wants something.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// A lease that nobody used for so long is given back, so that another gateway can spend it.
const IDLE_NS: u64 = 2 * NANOS_PER_SECOND;
/// A cell whose period ended so long ago is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// A lease that would end within this time is renewed.
const RENEW_WITHIN_NS: u64 = 10 * NANOS_PER_SECOND;
/// How many numbers are passed over when the portal knows a higher one than the gateway.
const NUMBERS_SKIPPED: u64 = 1_000_000;
/// The most slots of one exchange.
const MAX_SLOTS: usize = 1_000;

/// The task.
#[derive(Debug)]
pub struct LeaseExchanger {
    shared: Arc<Shared>,
    portal: Portal,
    number_path: PathBuf,
    exchange: u64,
    books: HashMap<QuotaSlot, Book>,
    sizing: Sizing,
}

/// What the task knows of a quota beside its cell.
#[derive(Debug, Default)]
struct Book {
    rate: RateOfUse,
    lease_ends_ns: u64,
}

/// One slot's part of an exchange.
struct Planned {
    cell: Arc<QuotaCell>,
    want: LeaseWant,
}

impl LeaseExchanger {
    /// Goes on after the last exchange of the journal.
    ///
    /// # Errors
    /// When the number of the last exchange cannot be read.
    pub fn new(shared: Arc<Shared>, portal: Portal) -> io::Result<Self> {
        let number_path = shared.config.data_dir.join("lease-exchange");
        let exchange = match fs::read_to_string(&number_path) {
            Ok(text) => text
                .trim()
                .parse()
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{} holds no number", number_path.display())))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(Self { shared, portal, number_path, exchange, books: HashMap::new(), sizing: Sizing::default() })
    }

    /// Exchanges until it is told to stop, then gives everything back, for as long as `give_back_within`.
    pub async fn run(mut self, stop: CancellationToken, give_back_within: Duration) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => break,
                () = self.shared.quotas.wake.notified() => self.shared.quotas.take_queue(),
                _ = look.tick() => self.shared.quotas.all(),
            };
            let plan = self.plan(asked);
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.exchange(plan) => (),
            }
        }
        let everything = self.shared.quotas.all().into_iter().filter_map(|cell| self.give_all_back(cell)).collect();
        if tokio::time::timeout(give_back_within, self.exchange(everything)).await.is_err() {
            tracing::warn!("leases could not be given back in time; they count as spent until they expire");
        }
    }

    /// What each cell wants or gives back now; cells that want nothing are left out.
    fn plan(&mut self, cells: Vec<Arc<QuotaCell>>) -> Vec<Planned> {
        let (now, now_ns) = (self.shared.clock.now(), self.shared.monotonic_ns());
        let mut plan = Vec::new();
        for cell in cells {
            if cell.period_end <= now {
                let over_for = now.since(cell.period_end);
                plan.extend(self.give_all_back(cell.clone()));
                if over_for >= FORGET_AFTER {
                    self.books.remove(&cell.slot);
                    self.shared.quotas.forget(&cell.slot);
                }
                continue;
            }
            plan.extend(self.plan_one(cell, now_ns));
        }
        plan.truncate(MAX_SLOTS);
        plan
    }

    fn plan_one(&mut self, cell: Arc<QuotaCell>, now_ns: u64) -> Option<Planned> {
        let book = self.books.entry(cell.slot).or_default();
        let lease = cell.lease.load_full();
        let alive = lease.as_ref().filter(|lease| !lease.has_expired(now_ns));
        if lease.is_some() && alive.is_none() {
            // A lease that has expired is dead; what was left counts as spent until the journal proves otherwise.
            cell.lease.store(None);
            book.rate.restart();
        }
        if let Some(lease) = alive {
            book.rate.observe(lease.spent(), now_ns);
        }
        let needed = cell.take_needed();
        let idle = now_ns.saturating_sub(cell.last_use_ns()) >= IDLE_NS && needed == 0;
        if idle {
            return self.give_all_back(cell);
        }
        let remaining = alive.map_or(0, |lease| lease.remaining());
        let want = self.sizing.want(&book.rate, remaining).max(needed.saturating_sub(remaining.max(0)));
        // Two calls of the largest kind are kept: less would go back and forth.
        let surplus = self.sizing.surplus(&book.rate, remaining).min(remaining.saturating_sub(cell.largest_call().saturating_mul(2)));
        let give_back = alive.map_or(0, |lease| if want > 0 { 0 } else { lease.withdraw(surplus.max(0)) });
        let renew = alive.is_some() && book.lease_ends_ns.saturating_sub(now_ns) < RENEW_WITHIN_NS;
        let needed = if needed > 0 { needed.saturating_sub(remaining.max(0)).max(0) } else { 0 };
        (want > 0 || give_back > 0 || renew).then(|| Planned::new(cell, want, needed, give_back))
    }

    /// Takes everything out of a cell. What calls give back later goes with a later exchange.
    fn give_all_back(&self, cell: Arc<QuotaCell>) -> Option<Planned> {
        let lease = cell.lease.load_full().filter(|lease| !lease.has_expired(self.shared.monotonic_ns()))?;
        let give_back = lease.withdraw(i64::MAX);
        (give_back > 0).then(|| Planned::new(cell, 0, 0, give_back))
    }

    /// Sends one exchange, again and again until it is answered, and puts the grants in.
    async fn exchange(&mut self, plan: Vec<Planned>) {
        if plan.is_empty() {
            return;
        }
        self.exchange += 1;
        if let Err(error) = self.write_number() {
            tracing::error!(%error, "no leases are taken because the exchange could not be numbered");
            return self.unanswered(&plan);
        }
        let slots = plan.iter().map(|planned| planned.want).collect();
        let exchange = LeaseExchange { format: FORMAT, journal_id: self.shared.journal_id(), exchange: self.exchange, slots };
        let mut backoff = Backoff::new(Duration::from_secs(2));
        loop {
            let sent_ns = self.shared.monotonic_ns();
            self.shared.metrics.lease_exchanges.fetch_add(1, Ordering::Relaxed);
            match self.portal.leases(&exchange).await {
                Ok(answer) if answer.exchange == self.exchange && answer.grants.len() == plan.len() => {
                    plan.iter().zip(&answer.grants).for_each(|(planned, grant)| self.put_in(planned, grant, sent_ns));
                    return;
                }
                Ok(answer) => {
                    tracing::error!(sent = self.exchange, answered = answer.exchange, "the portal answered another exchange of leases");
                    self.exchange = self.exchange.max(answer.exchange);
                    return self.unanswered(&plan);
                }
                Err(error) => {
                    self.shared.metrics.lease_failures.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, "an exchange of leases got no answer");
                    self.unanswered(&plan);
                    match error {
                        // The number's file was lost and the journal's was not: go on well above what was used.
                        PortalError::Refused { status: StatusCode::CONFLICT, .. } => return self.exchange += NUMBERS_SKIPPED,
                        PortalError::Refused { status, .. } if status.is_client_error() => return,
                        _ => (),
                    }
                }
            }
            tokio::time::sleep(backoff.delay()).await;
        }
    }

    /// Calls that wait are told that there is no answer.
    fn unanswered(&self, plan: &[Planned]) {
        let now_ns = self.shared.monotonic_ns();
        plan.iter().for_each(|planned| planned.cell.hear(LedgerWord::Unknown, None, now_ns));
    }

    fn put_in(&mut self, planned: &Planned, grant: &LeaseGrant, sent_ns: u64) {
        let now_ns = self.shared.monotonic_ns();
        let cell = &planned.cell;
        if grant.slot != cell.slot {
            tracing::error!(?grant, "the portal granted another quota than was wanted");
            return cell.hear(LedgerWord::Unknown, None, now_ns);
        }
        let lasts_ns = grant.lasts_ms.saturating_mul(1_000_000);
        let until_ns = spend_until_ns(sent_ns, lasts_ns);
        let granted = grant.granted.clamped().max(0);
        let book = self.books.entry(cell.slot).or_default();
        book.lease_ends_ns = until_ns;
        let extended = cell.lease.load_full().is_some_and(|lease| lease.extend(granted, until_ns, now_ns).is_ok());
        if !extended && granted > 0 {
            book.rate.restart();
            cell.lease.store(Some(Arc::new(Lease::new(granted, until_ns))));
        }
        let word = match (planned.want.want.0 > 0, granted > 0) {
            (_, true) => LedgerWord::Granted,
            (true, false) if grant.used_up() => LedgerWord::UsedUp,
            (true, false) => LedgerWord::Unknown,
            // Nothing was wanted, so nothing is said of what is left.
            (false, false) => cell.word(),
        };
        cell.hear(word, Some((grant.limit.clamped(), grant.used.clamped())), now_ns);
    }

    fn write_number(&self) -> io::Result<()> {
        let beside = self.number_path.with_extension("new");
        fs::write(&beside, self.exchange.to_string())?;
        fs::rename(&beside, &self.number_path)
    }
}

impl Planned {
    fn new(cell: Arc<QuotaCell>, want: i64, needed: i64, give_back: i64) -> Self {
        let held = cell.lease.load().as_ref().map_or(0, |lease| lease.remaining().max(0));
        let want =
            LeaseWant { slot: cell.slot, want: want.into(), needed: needed.into(), give_back: give_back.into(), held: Micros::from(held) };
        Self { cell, want }
    }
}
