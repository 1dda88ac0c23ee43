//! One core's connections to upstreams, and how a call is sent over them.
//!
//! A call is sent once, and again only where that is safe: when nothing of it was sent, or its peer certainly did not process it; or when its method is
//! idempotent, the connection broke before the head of an answer, the body is at hand, and the budget allows it. An answer is an answer: a 5xx is handed
//! on, and so is silence, because an upstream that is slow would only be made slower.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    pin::pin,
    rc::Rc,
    sync::Arc,
};

use super::{
    address::{Address, Carrier},
    clockwork::Clockwork,
    group::Group,
    seen::AddressSeen,
    shared::Upstreams,
};
use crate::{http1::Tunneled, policy::services::GroupSpec};

/// Every how many ticks groups are looked after.
const SECOND_TICKS: u64 = 10;

/// One core's connections.
#[derive(Debug, Clone)]
pub struct Pool(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    groups: RefCell<HashMap<GroupSpec, Rc<Group>>>,
    clockwork: Rc<Clockwork>,
    /// Which of the cores this is.
    core: usize,
}

/// What carries an exchange. Dropped without [`Connection::release`], the connection is closed, or the stream reset.
#[derive(Debug)]
pub struct Connection {
    busy: Busy,
    carrier: Carrier,
}

/// Counts a call as under way.
#[derive(Debug)]
pub struct Busy(Rc<Address>);

impl Busy {
    /// One more call is under way to an address.
    pub fn new(address: Rc<Address>) -> Self {
        let in_flight: &Cell<u32> = &address.health.in_flight;
        in_flight.set(in_flight.get() + 1);
        Self(address)
    }

    /// Where it goes.
    pub fn address(&self) -> &Rc<Address> {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let in_flight = &self.0.health.in_flight;
        in_flight.set(in_flight.get() - 1);
    }
}

impl Connection {
    /// What an exchange that has begun is carried by.
    pub fn new(busy: Busy, carrier: Carrier) -> Self {
        Self { busy, carrier }
    }

    /// The byte stream, once both sides have agreed on another protocol; and what counts it as a connection and a call while that lasts.
    pub fn switched(self) -> Option<(Tunneled, impl Sized + 'static)> {
        let Carrier::Http1(connection) = self.carrier else { return None };
        let (tunneled, open) = connection.switched();
        Some((tunneled?, (self.busy, open)))
    }

    /// The exchange has ended in order: another may follow.
    pub fn release(self) {
        if let Carrier::Http1(connection) = self.carrier {
            self.busy.0.release(connection);
        }
    }
}

impl Pool {
    /// No connections yet.
    pub fn new(upstreams: Arc<Upstreams>) -> Self {
        let core = upstreams.add_core();
        Self(Rc::new(Inner { groups: RefCell::default(), clockwork: Clockwork::new(upstreams), core }))
    }

    /// The addresses of an upstream. Looked up once for many calls.
    pub fn group(&self, spec: &GroupSpec) -> Rc<Group> {
        if let Some(group) = self.0.groups.borrow().get(spec) {
            return group.clone();
        }
        let group = Group::new(spec, &self.0.clockwork);
        self.0.groups.borrow_mut().insert(spec.clone(), group.clone());
        group
    }

    fn groups(&self) -> Vec<Rc<Group>> {
        self.0.groups.borrow().values().cloned().collect()
    }

    /// The core's timer, ten times a second. Returns the number of the tick.
    pub fn tick(&self) -> u64 {
        let ticks = &self.0.clockwork.ticks;
        let now = ticks.get() + 1;
        ticks.set(now);
        if now.is_multiple_of(SECOND_TICKS) {
            self.look_after();
        }
        now
    }

    fn look_after(&self) {
        for group in self.groups() {
            // One reference is the pool's, one this loop's.
            if !group.tick() && Rc::strong_count(&group) == 2 {
                self.0.groups.borrow_mut().remove(&group.spec);
            }
        }
        self.give_away();
        let seen: Vec<AddressSeen> = self.groups().iter().flat_map(|group| group.seen()).collect();
        self.0.clockwork.upstreams.publish(self.0.core, seen);
    }

    /// Closes idle connections whenever calls on other cores wait for them. Runs beside the core's other work.
    pub async fn share(&self) {
        let wanted = self.0.clockwork.upstreams.limits.wanted.clone();
        loop {
            let mut asked = pin!(wanted.notified());
            // From here on no word is missed.
            asked.as_mut().enable();
            self.give_away();
            asked.await;
        }
    }

    fn give_away(&self) {
        for group in self.groups() {
            group.addresses().iter().for_each(|address| address.give_away());
        }
    }

    /// Closes everything that is idle.
    pub fn clear(&self) {
        for group in self.groups() {
            group.addresses().iter().for_each(|address| address.clear());
        }
    }

    /// How many connections are open, idle ones included.
    pub fn open(&self) -> usize {
        self.0.clockwork.open.get()
    }
}
