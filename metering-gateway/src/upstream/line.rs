//! Who waits for a connection, first come first served. A place is left by dropping it.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    task::{Context, Waker},
};

/// A line of those who wait.
#[derive(Debug, Default)]
pub struct Line(RefCell<VecDeque<Rc<Waiter>>>);

#[derive(Debug, Default)]
struct Waiter(RefCell<Option<Waker>>);

/// A place in a line.
#[derive(Debug)]
pub struct Spot<'a> {
    line: &'a Line,
    waiter: Rc<Waiter>,
}

impl Line {
    /// Whether nobody waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Goes to the end of the line.
    pub fn join(&self) -> Spot<'_> {
        let waiter = Rc::new(Waiter::default());
        self.0.borrow_mut().push_back(waiter.clone());
        Spot { line: self, waiter }
    }

    /// Something may have become free: whoever is first looks again.
    pub fn wake_first(&self) {
        if let Some(first) = self.0.borrow().front()
            && let Some(waker) = first.0.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

impl Spot<'_> {
    /// Whether this one is first. If it is not, or finds nothing, it is woken when that may have changed.
    pub fn is_first(&self, cx: &Context<'_>) -> bool {
        self.waiter.0.replace(Some(cx.waker().clone()));
        self.line.0.borrow().front().is_some_and(|first| Rc::ptr_eq(first, &self.waiter))
    }
}

impl Drop for Spot<'_> {
    fn drop(&mut self) {
        self.line.0.borrow_mut().retain(|other| !Rc::ptr_eq(other, &self.waiter));
        // What woke this one, or what it took only one of, is for the next.
        self.line.wake_first();
    }
}
