//! What a core has to send leaves together, at the end of its turn.
//!
//! A core wakes up with what has come on many connections at once. Were each message sent when it is written, its receiver would be woken for this one
//! message, read it and sleep again before the next is there, and the core would change between its own work and the system's with every call: waking
//! sleepers was a third of the cost of sending. Requests leave before answers for the same reason: an upstream that has been woken for the first has the
//! second before it would sleep again. So what is whole and short waits until the tasks that had work have done it, which takes no longer than
//! their work does, and then leaves in one go. What is long, streams, or is the last of its connection is sent at once, and so is everything where no
//! core is there to end its turn.
//!
//! A busy core does not let the first of them go at once: while it worked, more has come, and its messages can leave with these. So it looks at its
//! sockets again, until that has brought nothing twice or many wait. That halves how often an upstream is woken, and a look that brings nothing takes about a
//! microsecond. While a loud namespace has more calls than it may begin, nothing is held: what it sends would fill the time in which others wait.

use std::{cell::RefCell, future::poll_fn, rc::Rc, task::Poll, task::Waker};

use tokio::task::{coop::unconstrained, yield_now};

use super::Wire;

/// A core is busy if so many messages are to leave after one look at its sockets.
const BUSY: usize = 4;
/// So many messages leave, whatever else may have come: to write them takes a third of a millisecond or so.
const ENOUGH: usize = 64;

thread_local! {
    static DEPARTURES: RefCell<Departures> = RefCell::default();
}

#[derive(Default)]
struct Departures {
    requests: Vec<Rc<Wire>>,
    answers: Vec<Rc<Wire>>,
    /// How many waited when it was last asked whether to wait for more.
    before: usize,
    /// Whether the look before that had brought nothing.
    looked_in_vain: bool,
    /// Whoever sends at the end of the turn.
    driver: Option<Waker>,
}

impl Departures {
    fn count(&self) -> usize {
        self.requests.len() + self.answers.len()
    }

    /// Whether more is to be awaited, after another look at the sockets.
    fn wait_for_more(&mut self) -> bool {
        let count = self.count();
        let in_vain = std::mem::replace(&mut self.before, count) == count;
        let twice = std::mem::replace(&mut self.looked_in_vain, in_vain) && in_vain;
        !twice && (BUSY..ENOUGH).contains(&count)
    }

    /// Requests and answers that leave now.
    fn take(&mut self) -> (Vec<Rc<Wire>>, Vec<Rc<Wire>>) {
        (self.before, self.looked_in_vain) = (0, false);
        (std::mem::take(&mut self.requests), std::mem::take(&mut self.answers))
    }

    /// Memory for the next turn.
    fn reuse(&mut self, requests: Vec<Rc<Wire>>, answers: Vec<Rc<Wire>>) {
        if self.count() == 0 {
            (self.requests, self.answers) = (requests, answers);
        }
    }
}

/// Has a wire, to a caller or an upstream, sent at the end of the turn. False: nobody would do that.
pub(super) fn join(wire: &Rc<Wire>, is_callers: bool) -> bool {
    DEPARTURES.with_borrow_mut(|departures| {
        let Some(driver) = &departures.driver else { return false };
        if departures.count() == 0 {
            // The task is put behind those that have work now.
            driver.wake_by_ref();
        }
        let waiting = if is_callers { &mut departures.answers } else { &mut departures.requests };
        waiting.push(wire.clone());
        true
    })
}

/// Sends what waits at the end of each turn, without an end, or of some turns while the core `may_wait`. One for each core.
pub async fn drive(may_wait: impl Fn() -> bool) {
    let _gone = Gone;
    // What one turn sends is bounded by its connections. A system that takes no more of one says so, which has nothing to do with the runtime's budget.
    unconstrained(async {
        loop {
            poll_fn(|cx| {
                DEPARTURES.with_borrow_mut(|departures| {
                    if !departures.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
                        departures.driver = Some(cx.waker().clone());
                    }
                    if departures.count() == 0 { Poll::Pending } else { Poll::Ready(()) }
                })
            })
            .await;
            while may_wait() && DEPARTURES.with_borrow_mut(Departures::wait_for_more) {
                yield_now().await;
            }
            let (mut requests, mut answers) = DEPARTURES.with_borrow_mut(Departures::take);
            requests.drain(..).chain(answers.drain(..)).for_each(|wire| wire.depart());
            DEPARTURES.with_borrow_mut(|departures| departures.reuse(requests, answers));
        }
    })
    .await;
}

struct Gone;

impl Drop for Gone {
    fn drop(&mut self) {
        let left = DEPARTURES.take();
        left.requests.into_iter().chain(left.answers).for_each(|wire| wire.depart());
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, io, time::Duration};

    use bytes::BytesMut;
    use tokio::{
        io::AsyncReadExt as _,
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    use super::*;
    use crate::http1::Transport;

    const SOON: Duration = Duration::from_secs(20);

    /// Both ends of a connection.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (peer, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (accepted.expect("a connection").0, peer.expect("a connection"))
    }

    /// A wire whose peer has left so many bytes unread that the system takes no more, and the peer.
    async fn full(patience: Option<Duration>) -> (Rc<Wire>, TcpStream, usize) {
        let (stream, peer) = pair().await;
        stream.writable().await.expect("an open connection");
        let mut filled = 0;
        // What is on its way makes room once more.
        for _ in 0..3 {
            while let Ok(more) = stream.try_write(&[b'x'; 64 * 1024]) {
                filled += more;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (Wire::new(Transport::Tcp(stream), BytesMut::new(), patience), peer, filled)
    }

    /// Has an answer leave, then waits for the next request, as a connection does.
    async fn answer_and_wait(wire: &Rc<Wire>) -> io::Result<()> {
        tokio::task::yield_now().await;
        wire.with(|inner| inner.out().extend_from_slice(b"answer"));
        assert!(poll_fn(|cx| Poll::Ready(wire.departs(cx))).await, "somebody sends at the end of the turn");
        poll_fn(|cx| wire.poll_more(cx)).await
    }

    /// Runs tasks of their own beside whoever sends at the end of the turn.
    async fn on_a_core<T: 'static>(task: impl Future<Output = T> + 'static) -> T {
        let core = tokio::task::LocalSet::new();
        core.spawn_local(drive(|| true));
        let task = core.spawn_local(task);
        core.run_until(async { timeout(SOON, task).await.expect("it takes a moment").expect("no panic") }).await
    }

    #[tokio::test]
    async fn a_busy_core_waits_for_more_while_more_comes_and_not_too_much() {
        let (wire, ..) = full(None).await;
        let mut departures = Departures::default();
        let mut waits_with = |count: usize| {
            departures.answers.resize_with(count, || wire.clone());
            departures.wait_for_more()
        };
        assert!(!waits_with(BUSY - 1), "few leave at once");
        assert!(waits_with(BUSY) && waits_with(BUSY + 1));
        assert!(waits_with(BUSY + 1), "nothing more has come, once");
        assert!(waits_with(BUSY + 2), "more has come");
        assert!(waits_with(BUSY + 2) && !waits_with(BUSY + 2), "nothing more has come, twice");
        assert!(waits_with(ENOUGH - 1));
        assert!(!waits_with(ENOUGH), "so many leave, whatever else has come");
        assert_eq!(departures.take().1.len(), ENOUGH);
        departures.requests.resize_with(BUSY, || wire.clone());
        assert!(departures.wait_for_more(), "what left before is not counted");
    }

    #[tokio::test]
    async fn what_the_system_does_not_take_is_sent_when_it_does() {
        let (wire, mut peer, filled) = full(None).await;
        let reading = tokio::spawn(async move {
            // The answer finds no room at first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            let mut read = vec![0; filled + b"answer".len()];
            peer.read_exact(&mut read).await.expect("everything comes");
            drop(peer);
            read
        });
        let waits = wire.clone();
        let waited = on_a_core(async move { answer_and_wait(&waits).await }).await;
        assert!(reading.await.expect("no panic").ends_with(b"xanswer"));
        assert!(waited.is_ok() && wire.with(|inner| inner.eof), "it waited until the peer had gone");
    }

    #[tokio::test]
    async fn behind_what_the_system_does_not_take_nothing_piles_up() {
        let (wire, _peer, _) = full(None).await;
        on_a_core(async move {
            tokio::task::yield_now().await;
            let departs = async || {
                wire.with(|inner| inner.out().extend_from_slice(b"answer"));
                poll_fn(|cx| Poll::Ready(wire.departs(cx))).await
            };
            assert!(departs().await, "somebody sends at the end of the turn");
            // From then on whoever has more to send waits until it is taken.
            while departs().await {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    #[tokio::test]
    async fn what_waits_when_its_core_ends_is_sent() {
        let (stream, mut peer) = pair().await;
        let wire = Wire::new(Transport::Tcp(stream), BytesMut::new(), None);
        let core = tokio::task::LocalSet::new();
        let driver = core.spawn_local(drive(|| true));
        let ending = core.spawn_local(async move {
            tokio::task::yield_now().await;
            wire.with(|inner| inner.out().extend_from_slice(b"answer"));
            assert!(poll_fn(|cx| Poll::Ready(wire.departs(cx))).await, "somebody sends at the end of the turn");
            driver.abort();
            assert!(driver.await.is_err_and(|error| error.is_cancelled()));
            let mut read = [0; 6];
            timeout(SOON, peer.read_exact(&mut read)).await.expect("it comes").expect("all of it");
            assert!(!poll_fn(|cx| Poll::Ready(wire.departs(cx))).await, "now nobody sends at the end of the turn");
            read
        });
        assert_eq!(core.run_until(ending).await.expect("no panic"), *b"answer");
    }

    #[tokio::test]
    async fn whoever_waits_is_told_that_its_peer_does_not_read() {
        let (wire, _peer, _) = full(Some(Duration::from_millis(100))).await;
        let waited = on_a_core(async move { answer_and_wait(&wire).await }).await;
        assert_eq!(waited.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
    }
}
