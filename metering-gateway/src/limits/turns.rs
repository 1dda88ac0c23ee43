//! Namespaces take turns on a core (SEMANTICS N2).
//!
//! A core works through what has come in its order. Where the calls of one namespace come so fast that turns are full of them, those of the others would
//! wait behind. So while several namespaces call, one that makes a good part of all calls is loud: it begins only so many calls a turn; what is more waits in
//! the namespace's own line and begins in the next turns, after what has come meanwhile. A namespace that is alone on a core never waits, nor does one of
//! many that call alike.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// How many calls a loud namespace may begin in a turn while others call too.
const SHARE: u32 = 8;
/// More than one call of so many makes a namespace loud.
const LOUD_PART: u32 = 8;
/// How long after its last call, in ticks of the core's timer, a namespace still counts as one of those that call, and as loud after it was.
const OTHERS_TICKS: u64 = 10;

/// A core's turns.
#[derive(Debug, Default)]
pub struct Turns {
    turn: Cell<u64>,
    tick: Cell<u64>,
    /// Calls since the last tick, and in the tick before.
    calls: Cell<u32>,
    calls_before: Cell<u32>,
    /// The namespace that began a call last; only ever compared.
    last: Cell<usize>,
    /// Several namespaces call until then.
    shared_until: Cell<u64>,
    /// A loud one had more calls than it may begin until then.
    contended_until: Cell<u64>,
    /// Namespaces in whose lines calls wait.
    waiting: RefCell<VecDeque<NamespaceTurns>>,
    driver: RefCell<Option<Waker>>,
}

/// A namespace's part of the turns. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct NamespaceTurns(Rc<Part>);

#[derive(Debug, Default)]
struct Part {
    /// The tick in which `calls` were counted.
    tick: Cell<u64>,
    calls: Cell<u32>,
    loud_until: Cell<u64>,
    /// The turn in which `begun` was counted.
    turn: Cell<u64>,
    begun: Cell<u32>,
    line: RefCell<VecDeque<Rc<Spot>>>,
}

/// A call's spot in its namespace's line.
#[derive(Debug, Default)]
struct Spot {
    called: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Leaves the line when its call is given up.
struct Waiting(Rc<Spot>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.called.set(true);
    }
}

impl Turns {
    /// The core's timer.
    pub fn tick(&self) {
        self.tick.set(self.tick.get() + 1);
        self.calls_before.set(self.calls.replace(0));
    }

    /// A call of a namespace begins, now or in one of the next turns.
    #[inline]
    pub async fn begin(&self, namespace: &NamespaceTurns) {
        if !self.may_begin(namespace) {
            self.wait(namespace).await;
        }
    }

    /// Whether a loud namespace has, or had a moment ago, more calls than it may begin beside others.
    pub fn is_contended(&self) -> bool {
        self.tick.get() < self.contended_until.get()
    }

    #[inline]
    fn may_begin(&self, namespace: &NamespaceTurns) -> bool {
        let own = Rc::as_ptr(&namespace.0).addr();
        let last = self.last.replace(own);
        if last != own && last != 0 {
            self.shared_until.set(self.tick.get() + OTHERS_TICKS);
        }
        let part = &namespace.0;
        let is_loud = self.count(part);
        if !is_loud || self.tick.get() >= self.shared_until.get() {
            return true;
        }
        let begun = if part.turn.replace(self.turn.get()) == self.turn.get() { part.begun.get() } else { 0 };
        let may = begun < SHARE && part.line.borrow().is_empty();
        part.begun.set(begun + u32::from(may));
        may
    }

    /// Counts a call. True if the namespace is loud: of the calls of this tick, or of as many as the last one had, a good part is its own.
    #[inline]
    fn count(&self, part: &Part) -> bool {
        let tick = self.tick.get();
        let all = self.calls.get() + 1;
        self.calls.set(all);
        let own = if part.tick.replace(tick) == tick { part.calls.get() + 1 } else { 1 };
        part.calls.set(own);
        if own > SHARE.max(all.max(self.calls_before.get()) / LOUD_PART) {
            part.loud_until.set(tick + OTHERS_TICKS);
        }
        tick < part.loud_until.get()
    }

    async fn wait(&self, namespace: &NamespaceTurns) {
        let waiting = Waiting(self.line_up(namespace));
        poll_fn(|cx| {
            if waiting.0.called.get() {
                return Poll::Ready(());
            }
            *waiting.0.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn line_up(&self, namespace: &NamespaceTurns) -> Rc<Spot> {
        self.contended_until.set(self.tick.get() + OTHERS_TICKS);
        let spot = Rc::new(Spot::default());
        let mut line = namespace.0.line.borrow_mut();
        if line.is_empty() {
            self.waiting.borrow_mut().push_back(namespace.clone());
            if let Some(driver) = self.driver.borrow_mut().take() {
                driver.wake();
            }
        }
        line.push_back(spot.clone());
        spot
    }

    /// Calls those who wait, turn by turn, without an end. One for each core.
    pub async fn drive(&self) {
        loop {
            poll_fn(|cx| self.poll_waiting(cx)).await;
            // Behind everything that has come by now.
            tokio::task::yield_now().await;
            self.turn.set(self.turn.get() + 1);
            self.waiting.borrow_mut().retain(|namespace| namespace.call(self.turn.get()));
        }
    }

    fn poll_waiting(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.waiting.borrow().is_empty() {
            return Poll::Ready(());
        }
        *self.driver.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl NamespaceTurns {
    /// Calls the first in line. Returns whether others still wait.
    fn call(&self, turn: u64) -> bool {
        let mut line = self.0.line.borrow_mut();
        let mut called = 0;
        while called < SHARE
            && let Some(spot) = line.pop_front()
        {
            // Who was given up needs no call.
            if !spot.called.replace(true) {
                called += 1;
                if let Some(waker) = spot.waker.borrow_mut().take() {
                    waker.wake();
                }
            }
        }
        self.0.turn.set(turn);
        self.0.begun.set(called);
        !line.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::{LocalSet, spawn_local, yield_now};

    use super::*;

    /// The order in which calls begin: 200 of the loud one at once, and one of the quiet one a little later.
    async fn order(others_call: bool) -> Vec<&'static str> {
        let (turns, loud, quiet) = (Rc::new(Turns::default()), NamespaceTurns::default(), NamespaceTurns::default());
        let order = Rc::<RefCell<Vec<&'static str>>>::default();
        let begin = |who: &'static str, namespace: &NamespaceTurns| {
            let (turns, namespace, order) = (turns.clone(), namespace.clone(), order.clone());
            spawn_local(async move {
                turns.begin(&namespace).await;
                order.borrow_mut().push(who);
            })
        };
        let driver = turns.clone();
        let driving = spawn_local(async move { driver.drive().await });
        if others_call {
            begin("quiet", &quiet).await.expect("no panic");
        }
        assert!(!turns.is_contended());
        let mut calls: Vec<_> = (0..200).map(|_| begin("loud", &loud)).collect();
        yield_now().await;
        // One is given up while it waits.
        calls.pop().expect("a call").abort();
        if others_call {
            calls.push(begin("quiet", &quiet));
        }
        for call in calls {
            call.await.expect("no panic");
        }
        assert!(turns.waiting.borrow().is_empty() && loud.0.line.borrow().is_empty());
        assert_eq!(turns.is_contended(), others_call);
        (0..OTHERS_TICKS).for_each(|_| turns.tick());
        assert!(!turns.is_contended(), "that was a while ago");
        driving.abort();
        order.take()
    }

    #[tokio::test]
    async fn one_that_fills_a_turn_lets_the_others_through() {
        let order = LocalSet::new().run_until(order(true)).await;
        assert_eq!(order.len(), 201);
        let second = order.iter().skip(1).position(|who| *who == "quiet").expect("it began");
        assert!(second <= 4 * SHARE as usize, "the quiet one began after {second} calls of the loud one");
    }

    #[tokio::test]
    async fn one_that_is_alone_never_waits() {
        let turns = Turns::default();
        let (loud, quiet) = (NamespaceTurns::default(), NamespaceTurns::default());
        let waited = || (0..100).filter(|_| !turns.may_begin(&loud)).count();
        assert_eq!(waited(), 0);
        assert!(turns.may_begin(&quiet));
        assert_eq!(waited(), 100 - SHARE as usize, "another calls");
        (0..OTHERS_TICKS).for_each(|_| turns.tick());
        assert_eq!(waited(), 0, "the other has been silent for a while");
        assert_eq!(LocalSet::new().run_until(order(false)).await.len(), 199);
    }

    #[test]
    fn of_many_that_call_alike_none_waits_and_a_loud_one_among_them_does() {
        let turns = Turns::default();
        let many: Vec<NamespaceTurns> = (0..50).map(|_| NamespaceTurns::default()).collect();
        // Each calls twice its share at a go, as who sends one call after another does.
        let calls = |each: u32| many.iter().flat_map(move |one| std::iter::repeat_n(one, each as usize));
        let alike = || {
            (0..5).all(|tick| {
                calls(if tick == 0 { SHARE } else { 2 * SHARE }).all(|one| turns.may_begin(one)) && {
                    turns.tick();
                    true
                }
            })
        };
        assert!(alike());
        assert!(!turns.is_contended());
        let waited = (0..1000).filter(|_| !turns.may_begin(&many[0])).count();
        assert!(waited > 800, "only {waited} of the loud one's 1000 calls waited");
        assert!(calls(SHARE).skip(SHARE as usize).all(|one| turns.may_begin(one)), "the others do not wait for it");
        turns.tick();
        assert!(!turns.may_begin(&many[0]), "it is loud beyond a tick");
        (0..OTHERS_TICKS).for_each(|_| turns.tick());
        assert!(alike(), "it calls like the others again");
    }
}
