//! The caller's side of a connection, as the stages of the pipeline see it.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    task::{Context, Poll, Waker},
};

use http::HeaderValue;

use crate::limits::places::{ConnectionPlace, NamespaceCalls, Places};

/// The caller's side of one connection.
#[derive(Debug)]
pub struct Peer {
    /// The caller's address: the socket's, or the one that a trusted proxy told by the PROXY protocol.
    pub ip: IpAddr,
    /// Whether the connection is secured.
    pub tls: bool,
    /// The address as `X-Forwarded-For` has it, written once for all calls of the connection.
    pub address: HeaderValue,
    cut: Cell<bool>,
    /// The connection's place among those of the namespace whose calls it carries.
    place: RefCell<Option<ConnectionPlace>>,
    /// The namespace has its share of connections without this one.
    surplus: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Peer {
    /// A connection from an address.
    pub fn new(ip: IpAddr, tls: bool) -> Self {
        // A socket for both families tells callers of the older one in the form of the newer.
        let ip = ip.to_canonical();
        let address = HeaderValue::try_from(ip.to_string()).expect("an address is visible ASCII");
        Self { ip, tls, address, cut: Cell::new(false), place: RefCell::default(), surplus: Cell::new(false), waker: RefCell::default() }
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// The connection carries a call of a namespace. Returns whether the namespace has too many connections as of this call: this one is to be closed
    /// once what is under way on it has ended.
    pub fn carries(&self, places: &Places, namespace: &NamespaceCalls) -> bool {
        let mut place = self.place.borrow_mut();
        if self.surplus.get() || place.as_ref().is_some_and(|place| place.is_of(namespace)) {
            return false;
        }
        // Who speaks for several, as a proxy may, counts for one at a time.
        *place = None;
        *place = places.connect(namespace);
        self.surplus.set(place.is_none());
        if let (true, Some(waker)) = (self.surplus.get(), self.waker.take()) {
            waker.wake();
        }
        self.surplus.get()
    }

    /// Whether the connection is to be closed after its answers, because its namespace has too many.
    pub fn is_surplus(&self) -> bool {
        self.surplus.get()
    }

    /// Closes the connection, whatever is under way on it. For one whose caller does not read, so that nothing else can be told to it.
    pub fn cut(&self) {
        self.cut.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether the connection shall be closed, whatever is under way on it. If not, the task is woken when that changes.
    pub fn poll_cut(&self, cx: &Context<'_>) -> bool {
        self.poll_ended(cx, true).is_ready()
    }

    /// Ready when the connection shall be closed at once (`true`), or when it is found to be surplus, unless that was `told`.
    pub fn poll_ended(&self, cx: &Context<'_>, told: bool) -> Poll<bool> {
        if self.cut.get() || self.surplus.get() && !told {
            return Poll::Ready(self.cut.get());
        }
        let mut held = self.waker.borrow_mut();
        if !held.as_ref().is_some_and(|held| held.will_wake(cx.waker())) {
            *held = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}
