//! Who waits for a connection. Namespaces take turns (SEMANTICS N2), each with its first; of one namespace, who came first is served first. A place is left
//! by dropping it.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    task::{Context, Waker},
};

use ids::NamespaceId;

/// A line of those who wait.
#[derive(Debug, Default)]
pub struct Line(RefCell<VecDeque<Rc<Waiter>>>);

#[derive(Debug)]
struct Waiter {
    of: NamespaceId,
    /// In which round of turns it is served: in each, every namespace has one.
    round: u64,
    waker: RefCell<Option<Waker>>,
}

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

    /// Joins the line, behind those of the same namespace and those whose turn comes before.
    pub fn join(&self, of: NamespaceId) -> Spot<'_> {
        let mut line = self.0.borrow_mut();
        let own_last = line.iter().rev().find(|waiter| waiter.of == of).map(|waiter| waiter.round + 1);
        let round = own_last.unwrap_or_else(|| line.front().map_or(0, |first| first.round));
        let waiter = Rc::new(Waiter { of, round, waker: RefCell::default() });
        let place = line.partition_point(|other| other.round <= round);
        line.insert(place, waiter.clone());
        Spot { line: self, waiter }
    }

    /// Something may have become free: whoever is first looks again.
    pub fn wake_first(&self) {
        if let Some(first) = self.0.borrow().front()
            && let Some(waker) = first.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

impl Spot<'_> {
    /// Whether this one is first. If it is not, or finds nothing, it is woken when that may have changed.
    pub fn is_first(&self, cx: &Context<'_>) -> bool {
        self.waiter.waker.replace(Some(cx.waker().clone()));
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

#[cfg(test)]
mod tests {
    use ids::Uuid;

    use super::*;

    #[test]
    fn namespaces_take_turns_and_nobody_of_one_is_overtaken() {
        let line = Line::default();
        let [loud, quiet, third] = [1, 2, 3].map(|n| NamespaceId::from_uuid(Uuid::from_u128(n)));
        let mut spots: Vec<_> = (0..4).map(|_| line.join(loud)).collect();
        spots.push(line.join(quiet));
        spots.push(line.join(quiet));
        // The first is served, then another namespace comes.
        drop(spots.remove(0));
        spots.push(line.join(third));
        spots.push(line.join(loud));
        let order: Vec<_> = line.0.borrow().iter().map(|waiter| spots.iter().position(|spot| Rc::ptr_eq(&spot.waiter, waiter))).collect();
        // Of the spots that are left, the loud one has 0, 1, 2 and 6, the quiet one 3 and 4, the third 5.
        assert_eq!(order, [3, 5, 0, 4, 1, 2, 6].map(Some));
        drop(spots);
        assert!(line.is_empty());
    }
}
