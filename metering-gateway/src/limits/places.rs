//! How many calls a core has open at once, of all namespaces and of each, and how many connections of each (SEMANTICS N2): one namespace at full blast,
//! or with an upstream that hangs, or with connections on which it asks nothing, leaves room for the others. The figures belong to the core, so counting
//! costs two additions.
//!
//! A connection counts for the namespace of the last key that was good on it. One that has more than its share is not refused a call: the connection is
//! closed after the answer, so that only the connections of open calls go beyond the share, and those have their own bound.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use ids::NamespaceId;

use super::turns::NamespaceTurns;
use crate::core::FastMap;

/// So many namespaces are remembered at least before those without a grant are forgotten.
const MAX_REMEMBERED: usize = 4_096;

/// A core's places for open calls.
#[derive(Debug)]
pub struct Places {
    most: usize,
    most_of_one: usize,
    most_connections_of_one: usize,
    taken: Rc<Cell<usize>>,
    namespaces: RefCell<FastMap<NamespaceId, NamespaceCalls>>,
    /// How many namespaces are remembered before the next look for those that can be forgotten.
    forget_above: Cell<usize>,
}

/// How many calls and connections of a namespace a core has open. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct NamespaceCalls(Rc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    calls: Cell<usize>,
    connections: Cell<usize>,
    turns: NamespaceTurns,
}

impl NamespaceCalls {
    /// How many are open.
    pub fn open(&self) -> usize {
        self.0.calls.get()
    }

    /// Its part of the core's turns.
    pub fn turns(&self) -> &NamespaceTurns {
        &self.0.turns
    }
}

/// A connection's place among those of its namespace, given back when it is dropped.
#[derive(Debug)]
pub struct ConnectionPlace(NamespaceCalls);

/// One open call's place, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    all: Rc<Cell<usize>>,
    own: NamespaceCalls,
}

impl Places {
    /// This core's part of `most` calls and `connections` over `cores` cores, of which one namespace may have `percent_of_one` percent.
    pub fn new(most: usize, connections: usize, cores: u16, percent_of_one: u8) -> Self {
        let part = |of: usize| (of / usize::from(cores.max(1))).max(1);
        let share = |of: usize| (part(of).saturating_mul(usize::from(percent_of_one.min(100))) / 100).max(1);
        let (most, most_of_one, most_connections_of_one) = (part(most), share(most), share(connections));
        Self {
            most,
            most_of_one,
            most_connections_of_one,
            taken: Rc::default(),
            namespaces: RefCell::default(),
            forget_above: Cell::new(MAX_REMEMBERED),
        }
    }

    /// The count of a namespace, to be kept with what is resolved for its keys.
    pub fn of(&self, namespace: NamespaceId) -> NamespaceCalls {
        let mut namespaces = self.namespaces.borrow_mut();
        if namespaces.len() >= self.forget_above.get() && !namespaces.contains_key(&namespace) {
            // Whoever holds a count has a grant or an open call; the others are zero.
            namespaces.retain(|_, calls| Rc::strong_count(&calls.0) > 1);
            // Twice of what is in use, so that looking costs a constant time a namespace on average.
            self.forget_above.set(namespaces.len().saturating_mul(2).max(MAX_REMEMBERED));
        }
        namespaces.entry(namespace).or_default().clone()
    }

    /// A place for one more call of a namespace; `None` when the namespace, or the core, has none left.
    pub fn take(&self, of: &NamespaceCalls) -> Option<Place> {
        let (all, own) = (self.taken.get(), of.0.calls.get());
        if all >= self.most || own >= self.most_of_one {
            return None;
        }
        self.taken.set(all + 1);
        of.0.calls.set(own + 1);
        Some(Place { all: self.taken.clone(), own: of.clone() })
    }

    /// A place for one more connection of a namespace; `None` when it has its share already.
    pub fn connect(&self, of: &NamespaceCalls) -> Option<ConnectionPlace> {
        let connections = &of.0.connections;
        if connections.get() >= self.most_connections_of_one {
            return None;
        }
        connections.set(connections.get() + 1);
        Some(ConnectionPlace(of.clone()))
    }
}

impl ConnectionPlace {
    /// Whether the place is one of a namespace.
    pub fn is_of(&self, namespace: &NamespaceCalls) -> bool {
        Rc::ptr_eq(&self.0.0, &namespace.0)
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        let connections = &self.0.0.connections;
        connections.set(connections.get() - 1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.set(self.all.get() - 1);
        let own = &self.own.0.calls;
        own.set(own.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use ids::Uuid;

    use super::*;

    #[test]
    fn one_namespace_leaves_room_for_the_others() {
        let places = Places::new(40, 80, 4, 50);
        let [loud, quiet, third] = [1, 2, 3].map(|n| places.of(NamespaceId::from_uuid(Uuid::from_u128(n))));
        let mut held: Vec<_> = (0..5).map(|_| places.take(&loud).expect("a place")).collect();
        assert!(places.take(&loud).is_none(), "half of the core's ten");
        held.extend((0..5).map(|_| places.take(&quiet).expect("a place")));
        assert!(places.take(&third).is_none(), "the core has no more");
        held.remove(0);
        let again = places.of(NamespaceId::from_uuid(Uuid::from_u128(1)));
        assert!(places.take(&again).is_some(), "what is given back can be taken, and the count is the namespace's, not the grant's");
        drop(held);
        assert_eq!(places.taken.get(), 0);
    }

    #[test]
    fn one_namespace_leaves_connections_for_the_others() {
        let places = Places::new(40, 80, 4, 50);
        let [loud, quiet] = [1, 2].map(|n| places.of(NamespaceId::from_uuid(Uuid::from_u128(n))));
        let mut held: Vec<_> = (0..10).map(|_| places.connect(&loud).expect("a place")).collect();
        assert!(places.connect(&loud).is_none(), "half of the core's twenty");
        assert!(places.take(&loud).is_some(), "calls are counted apart");
        let other = places.connect(&quiet).expect("another namespace has its own");
        assert!(other.is_of(&quiet) && !other.is_of(&loud));
        held.pop();
        assert!(places.connect(&loud).is_some());
    }

    #[test]
    fn counts_that_nobody_holds_are_forgotten() {
        let places = Places::new(10, 10, 1, 100);
        let held = places.of(NamespaceId::from_uuid(Uuid::from_u128(u128::MAX)));
        let place = places.take(&held);
        for n in 0..2 * MAX_REMEMBERED as u128 {
            places.of(NamespaceId::from_uuid(Uuid::from_u128(n)));
        }
        let namespaces = places.namespaces.borrow();
        assert!(namespaces.len() <= MAX_REMEMBERED + 1, "{}", namespaces.len());
        assert!(place.is_some() && namespaces.contains_key(&NamespaceId::from_uuid(Uuid::from_u128(u128::MAX))));
    }
}
