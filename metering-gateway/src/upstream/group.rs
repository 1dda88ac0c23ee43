//! The addresses of one upstream, as one core uses them, and which of them a call goes to.
//!
//! Two are drawn at random and the one where a call costs less is taken (calls under way x latency), among those that are not left out. An address is
//! left out after failures in a row, for a time that grows, but never so many that fewer than half of the addresses, or none, remain: when most of an
//! upstream fails, the fault is as likely to be elsewhere, and what remains must not be crushed.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::timeout};

use super::{
    UpstreamError,
    address::{Address, Recipe},
    budget::RetryBudget,
    clockwork::Clockwork,
    resolver::{MAX_ADDRESSES, Resolved},
    seen::AddressSeen,
};
use crate::{
    policy::services::{GroupSpec, TargetHost},
    turn,
};

/// The addresses of one upstream.
#[derive(Debug)]
pub struct Group {
    /// What it was made from.
    pub spec: GroupSpec,
    /// Its retries.
    pub budget: RetryBudget,
    /// The most retries of one call, where the service does not say.
    pub max_retries: u8,
    /// What the service names, for operators.
    label: String,
    recipe: Rc<Recipe>,
    addresses: RefCell<Rc<[Rc<Address>]>>,
    names: RefCell<Vec<FollowedName>>,
    eject_after: u32,
    ejection_time: Duration,
    last_used: Cell<u64>,
}

#[derive(Debug)]
struct FollowedName {
    port: u16,
    known: watch::Receiver<Resolved>,
}

impl Group {
    /// A group whose names are not known yet.
    pub fn new(spec: &GroupSpec, clockwork: &Rc<Clockwork>) -> Rc<Self> {
        let upstreams = &clockwork.upstreams;
        let config = &upstreams.config;
        let limits = upstreams.limits.of(spec, config.max_connections, config.max_waiting);
        let recipe = Rc::new(Recipe { tls: spec.tls.clone(), protocol: spec.protocol, limits, clockwork: clockwork.clone() });
        let names = spec.addresses.iter().filter_map(|address| match &address.host {
            TargetHost::Ip(_) => None,
            TargetHost::Name(name) => Some(FollowedName { port: address.port, known: upstreams.names.follow(name) }),
        });
        let group = Self {
            spec: spec.clone(),
            budget: RetryBudget::default(),
            max_retries: config.max_retries,
            label: label(spec),
            names: RefCell::new(names.collect()),
            addresses: RefCell::new(Rc::new([])),
            eject_after: spec.eject_after_failures.unwrap_or(config.eject_after_failures),
            ejection_time: config.ejection_time,
            last_used: Cell::new(clockwork.ticks.get()),
            recipe,
        };
        group.refresh();
        Rc::new(group)
    }

    /// The core's coarse clock.
    pub fn clock(&self) -> &Clockwork {
        &self.recipe.clockwork
    }

    /// The addresses as they are known now.
    pub fn addresses(&self) -> Rc<[Rc<Address>]> {
        self.addresses.borrow().clone()
    }

    /// Takes over what has become known of names. Addresses that remain keep their connections.
    fn refresh(&self) {
        let mut wanted = BTreeSet::new();
        let literals = self.spec.addresses.iter().filter_map(|address| match address.host {
            TargetHost::Ip(ip) => Some(SocketAddr::new(ip, address.port)),
            TargetHost::Name(_) => None,
        });
        wanted.extend(literals);
        for name in &mut *self.names.borrow_mut() {
            let at = |ip: &IpAddr| SocketAddr::new(*ip, name.port);
            wanted.extend(name.known.borrow_and_update().addresses.iter().map(at));
        }
        let before = self.addresses();
        let find = |socket: SocketAddr| before.iter().find(|address| address.socket == socket).cloned();
        let now: Rc<[Rc<Address>]> = wanted
            .iter()
            .take(MAX_ADDRESSES)
            .map(|socket| find(*socket).unwrap_or_else(|| Address::new(*socket, self.recipe.clone())))
            .collect();
        before.iter().filter(|address| !now.iter().any(|kept| Rc::ptr_eq(kept, address))).for_each(|gone| gone.retire());
        *self.addresses.borrow_mut() = now;
    }

    /// Waits until an address is known.
    ///
    /// # Errors
    /// When none is within `patience`, or the names cannot be resolved.
    pub async fn resolved(&self, patience: Duration) -> Result<(), UpstreamError> {
        let waiting: Vec<_> = self.names.borrow().iter().map(|name| name.known.clone()).collect();
        let any = waiting.into_iter().map(|mut known| Box::pin(async move { drop(known.wait_for(|known| !known.is_pending()).await) }));
        if timeout(patience, futures_util::future::select_all(any)).await.is_err() {
            return Err(UpstreamError::Unresolved("the name was not resolved in time".into()));
        }
        self.refresh();
        if self.addresses.borrow().is_empty() {
            let names = self.names.borrow();
            let why = names.iter().find_map(|name| name.known.borrow().failure.clone());
            return Err(UpstreamError::Unresolved(why.map_or_else(|| "it has none".to_owned(), |why| why.to_string())));
        }
        Ok(())
    }

    /// Where the next try of a call goes: not to an address that was tried, if there is another. `None`: no address is known.
    #[inline]
    pub fn pick(&self, tried: &[SocketAddr]) -> Option<Rc<Address>> {
        self.last_used.set(self.recipe.clockwork.ticks.get());
        match &**self.addresses.borrow() {
            [] => None,
            [only] => Some(only.clone()),
            several => self.choose(several, tried),
        }
    }

    fn choose(&self, addresses: &[Rc<Address>], tried: &[SocketAddr]) -> Option<Rc<Address>> {
        let now = turn::now();
        let untried = |address: &Rc<Address>| !tried.contains(&address.socket);
        let healthy = |address: &Rc<Address>| address.health.ejected_until(now).is_none();
        let free = |address: &Rc<Address>| address.waiting() == 0;
        type Fits<'a> = &'a dyn Fn(&Rc<Address>) -> bool;
        let choices: [Fits<'_>; 4] = [&|it| untried(it) && healthy(it) && free(it), &|it| untried(it) && healthy(it), &untried, &|_| true];
        for fits in choices {
            let fitting = addresses.iter().filter(|address| fits(address)).count();
            let nth = |place: usize| addresses.iter().filter(|address| fits(address)).nth(place);
            let (one, other) = self.recipe.clockwork.draw_two(fitting);
            if let (Some(one), Some(other)) = (nth(one), nth(other)) {
                let cheaper = if other.health.is_cheaper_than(&one.health, now) { other } else { one };
                return Some(cheaper.clone());
            }
        }
        None
    }

    /// Whether there is an address that was not tried.
    pub fn has_other(&self, tried: &[SocketAddr]) -> bool {
        self.addresses.borrow().iter().any(|address| !tried.contains(&address.socket))
    }

    /// Whether there are several addresses.
    #[inline]
    pub fn has_several(&self) -> bool {
        self.addresses.borrow().len() > 1
    }

    /// How each address does.
    pub fn seen(&self) -> Vec<AddressSeen> {
        let now = Instant::now();
        let seen = |address: &Rc<Address>| {
            let health = &address.health;
            let ejected = health.ejected_until(now);
            AddressSeen {
                upstream: self.label.clone(),
                address: address.socket,
                connections: address.open() as u64,
                idle_connections: address.idle() as u64,
                in_flight: health.in_flight.get().into(),
                waiting: address.waiting() as u64,
                latency_micros: health.latency_micros(now) as u64,
                answers: health.answers.get(),
                failures: health.failures.get(),
                ejected_on_cores: u64::from(ejected.is_some()),
                ejected_for_ms: ejected.map_or(0, |until| u64::try_from((until - now).as_millis()).unwrap_or(u64::MAX)),
                upstream_retries: self.budget.retries.get(),
            }
        };
        self.addresses.borrow().iter().map(seen).collect()
    }

    /// A call to an address failed.
    pub fn failed(&self, address: &Rc<Address>) {
        let now = turn::now();
        let in_row = address.health.failed(now);
        let troubles = &self.recipe.clockwork.upstreams.troubles;
        troubles.failures.fetch_add(1, Relaxed);
        if self.eject_after == 0 || in_row < self.eject_after {
            return;
        }
        let addresses = self.addresses.borrow();
        let is_out = |address: &Rc<Address>| address.health.ejected_until(now).is_some();
        let remaining = addresses.iter().filter(|address| !is_out(address)).count();
        let floor = addresses.len().div_ceil(2).max(1);
        if is_out(address) || remaining <= floor {
            return;
        }
        troubles.ejections.fetch_add(1, Relaxed);
        let time = address.health.eject(self.ejection_time, self.eject_after, now);
        tracing::warn!(address = %address.socket, failures = in_row, ?time, "an address of an upstream is left out for a while");
    }

    /// The core's timer, once a second. Returns whether the group is still of use.
    pub fn tick(&self) -> bool {
        self.budget.tick();
        let (retries, refused) = self.budget.untold();
        let troubles = &self.recipe.clockwork.upstreams.troubles;
        troubles.retries.fetch_add(retries, Relaxed);
        troubles.retries_refused.fetch_add(refused, Relaxed);
        if self.names.borrow().iter().any(|name| name.known.has_changed().unwrap_or(false)) {
            self.refresh();
        }
        let addresses = self.addresses();
        addresses.iter().for_each(|address| address.sweep());
        let clockwork = &self.recipe.clockwork;
        let is_recent = clockwork.ticks.get() - self.last_used.get() < clockwork.idle_ticks;
        is_recent || addresses.iter().any(|address| !address.is_unused())
    }
}

fn label(spec: &GroupSpec) -> String {
    let scheme = if spec.tls.is_some() { "https" } else { "http" };
    let addresses: Vec<String> = spec.addresses.iter().map(|address| format!("{scheme}://{address}")).collect();
    addresses.join(",")
}
