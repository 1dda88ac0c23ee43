//! The caller's side of a connection, as the stages of the pipeline see it.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::IpAddr,
    task::{Poll, Waker},
};

use http::HeaderValue;

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
    waker: RefCell<Option<Waker>>,
}

impl Peer {
    /// A connection from an address.
    pub fn new(ip: IpAddr, tls: bool) -> Self {
        // A socket for both families tells callers of the older one in the form of the newer.
        let ip = ip.to_canonical();
        let address = HeaderValue::try_from(ip.to_string()).expect("an address is visible ASCII");
        Self { ip, tls, address, cut: Cell::new(false), waker: RefCell::default() }
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// Closes the connection, whatever is under way on it. For one whose caller does not read, so that nothing else can be told to it.
    pub fn cut(&self) {
        self.cut.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Completes when the connection shall be closed.
    pub async fn was_cut(&self) {
        poll_fn(|cx| {
            if self.cut.get() {
                return Poll::Ready(());
            }
            let mut held = self.waker.borrow_mut();
            if !held.as_ref().is_some_and(|held| held.will_wake(cx.waker())) {
                *held = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}
