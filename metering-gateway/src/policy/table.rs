//! A large map in small sorted parts, which indexes share until they change.
//!
//! Records stand in the order of their [`Record::position`], an even spread over 64 bits, of which the highest twelve choose the part. Parts are exactly
//! as large as what they hold, so a record costs its own size; a change copies one part, one group of parts and the list of groups. A look-up guesses
//! the place from the position and is wrong by a few records.

use std::{cmp::Ordering, sync::Arc};

/// How many groups there are, and how many parts in each.
const FAN: usize = 64;
/// How many bits of a position choose a group, and as many a part in it.
const FAN_BITS: u32 = FAN.trailing_zeros();

/// What a table holds: small, and found by a key.
pub trait Record: Clone {
    /// What it is found by.
    type Key: Copy + Ord;

    /// The key of this record; no two in a table share it.
    fn key(&self) -> Self::Key;

    /// Where keys stand: evenly spread over all numbers. Records whose keys have the same position stand side by side, in the order of their keys.
    fn position(key: &Self::Key) -> u64;
}

type Part<R> = Arc<[R]>;

/// The map. Its clones share all parts.
#[derive(Debug)]
pub struct Table<R> {
    groups: Arc<[Arc<[Part<R>]>]>,
    count: usize,
}

impl<R> Clone for Table<R> {
    fn clone(&self) -> Self {
        Self { groups: self.groups.clone(), count: self.count }
    }
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        let part: Part<R> = Arc::from([]);
        let group: Arc<[Part<R>]> = (0..FAN).map(|_| part.clone()).collect();
        Self { groups: (0..FAN).map(|_| group.clone()).collect(), count: 0 }
    }
}

impl<R: Record> Table<R> {
    /// Looks a record up.
    #[inline]
    pub fn get(&self, key: &R::Key) -> Option<&R> {
        self.from(key).first().filter(|record| record.key() == *key)
    }

    /// The records of a part from the first on whose key is not less than this one. Keys of one position stand together, at its beginning.
    #[inline]
    pub fn from(&self, key: &R::Key) -> &[R] {
        let position = R::position(key);
        let part = &self.groups[group_of(position)][part_of(position)];
        &part[place(part, position, key)..]
    }

    /// All records, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &R> {
        self.groups.iter().flat_map(|group| group.iter()).flat_map(|part| part.iter())
    }

    /// How many records there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Puts records in (`Some`) and takes records out (`None`). Of several changes to one key the last one counts. Parts that are not touched stay
    /// shared.
    pub fn change(&mut self, mut changes: Vec<(R::Key, Option<R>)>) {
        if changes.is_empty() {
            return;
        }
        changes.sort_by(|(one, _), (other, _)| order::<R>(one, other));
        let mut groups = self.groups.to_vec();
        let mut changes = changes.into_iter().peekable();
        let mut of_part = Vec::new();
        while let Some((first, _)) = changes.peek() {
            let at = group_of(R::position(first));
            let mut parts = groups[at].to_vec();
            while let Some(position) = changes.peek().map(|(key, _)| R::position(key)).filter(|position| group_of(*position) == at) {
                let part = part_of(position);
                while let Some(change) = changes.next_if(|(key, _)| same_part(R::position(key), position)) {
                    of_part.push(change);
                }
                let merged = merge(&parts[part], &mut of_part);
                self.count = self.count + merged.len() - parts[part].len();
                parts[part] = merged.into();
            }
            groups[at] = parts.into();
        }
        self.groups = groups.into();
    }
}

fn group_of(position: u64) -> usize {
    (position >> (u64::BITS - FAN_BITS)) as usize
}

fn part_of(position: u64) -> usize {
    (position >> (u64::BITS - 2 * FAN_BITS)) as usize % FAN
}

fn same_part(one: u64, other: u64) -> bool {
    (one ^ other) >> (u64::BITS - 2 * FAN_BITS) == 0
}

fn order<R: Record>(one: &R::Key, other: &R::Key) -> Ordering {
    R::position(one).cmp(&R::position(other)).then_with(|| one.cmp(other))
}

/// The place of the first record whose key is not less than this one.
#[inline]
fn place<R: Record>(part: &[R], position: u64, key: &R::Key) -> usize {
    let before = |record: &R| {
        let own = record.key();
        R::position(&own).cmp(&position).then_with(|| own.cmp(key)) == Ordering::Less
    };
    // Positions are spread evenly, so the share of the part that lies before is known, about.
    let share = u128::from(position << (2 * FAN_BITS));
    let guess = ((share * part.len() as u128) >> u64::BITS) as usize;
    // Steps that double find a stretch which holds the place; it is halved then.
    let (mut low, mut high, mut step) = (0, part.len(), 1);
    if part.get(guess).is_some_and(before) {
        low = guess + 1;
        while let Some(record) = part.get(low + step) {
            if !before(record) {
                high = low + step;
                break;
            }
            low += step + 1;
            step *= 2;
        }
    } else {
        high = guess.min(part.len());
        while high > 0 {
            let at = high.saturating_sub(step);
            if before(&part[at]) {
                low = at + 1;
                break;
            }
            high = at;
            step *= 2;
        }
    }
    low + part[low..high].partition_point(before)
}

/// The part with the changes made, of which it takes all out. Both are in order.
fn merge<R: Record>(part: &[R], changes: &mut Vec<(R::Key, Option<R>)>) -> Vec<R> {
    let mut merged = Vec::with_capacity(part.len() + changes.len());
    let mut old = part.iter().peekable();
    let mut changes = changes.drain(..).peekable();
    while let Some((key, put)) = changes.next() {
        if changes.peek().is_some_and(|(next, _)| *next == key) {
            continue;
        }
        while let Some(record) = old.next_if(|record| order::<R>(&record.key(), &key) == Ordering::Less) {
            merged.push(record.clone());
        }
        old.next_if(|record| record.key() == key);
        merged.extend(put);
    }
    merged.extend(old.cloned());
    merged
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Number(u32, u8);

    impl Record for Number {
        type Key = u32;

        fn key(&self) -> u32 {
            self.0
        }

        /// Crowded on purpose: neighbours share positions and parts.
        fn position(key: &u32) -> u64 {
            u64::from(*key / 3) << 52 | u64::from(*key % 2) << 10
        }
    }

    #[test]
    fn parts_that_do_not_change_stay_shared() {
        let mut before = Table::default();
        before.change((0..10_000).map(|number| (number, Some(Number(number, 1)))).collect());
        let mut after = before.clone();
        after.change(vec![(7, Some(Number(7, 2))), (8, None), (8, None), (10_001, Some(Number(10_001, 3)))]);
        assert_eq!((after.get(&7), after.get(&8), after.get(&9)), (Some(&Number(7, 2)), None, Some(&Number(9, 1))));
        assert_eq!((before.get(&7), before.get(&8), before.get(&10_001)), (Some(&Number(7, 1)), Some(&Number(8, 1)), None));
        let parts = |table: &Table<Number>| table.groups.iter().flat_map(|group| group.iter().cloned()).collect::<Vec<_>>();
        let changed = parts(&before).iter().zip(parts(&after)).filter(|(one, other)| !Arc::ptr_eq(one, other)).count();
        assert!((1..=3).contains(&changed), "{changed} parts were copied");
        assert_eq!((before.count(), after.count()), (10_000, 10_000));
    }

    proptest! {
        #[test]
        fn is_what_a_map_is(batches in prop::collection::vec(prop::collection::vec((0_u32..400, prop::option::of(any::<u8>())), 0..60), 0..8)) {
            let mut model = BTreeMap::new();
            let mut table = Table::default();
            for batch in batches {
                for (key, put) in &batch {
                    match put {
                        Some(value) => _ = model.insert(*key, *value),
                        None => _ = model.remove(key),
                    }
                }
                table.change(batch.into_iter().map(|(key, put)| (key, put.map(|value| Number(key, value)))).collect());
                prop_assert_eq!(table.count(), model.len());
            }
            for key in 0..401 {
                prop_assert_eq!(table.get(&key).map(|record| record.1), model.get(&key).copied(), "{}", key);
            }
            let mut all: Vec<_> = table.iter().map(|record| (record.0, record.1)).collect();
            all.sort_unstable();
            prop_assert_eq!(all, model.into_iter().collect::<Vec<_>>());
        }
    }
}
