//! The portal's half of leases: what the ledger of one quota in one period can grant. Only arithmetic; the portal holds the rows and the locks.

use crate::MICROUNITS_PER_UNIT;

/// One quota of one subscription in one period, in micro-units. `remaining` is derived and never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ledger {
    /// What the period allows.
    pub limit: i64,
    /// What ingest counted. Nothing else moves it.
    pub used: i64,
    /// What live leases hold and no journal has proven spent.
    pub outstanding: i64,
    /// What expired leases held: it counts as spent until the gateway's journal arrives or an operator writes it off.
    pub presumed_spent: i64,
}

/// What the ledger answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// These micro-units may be spent; more than zero.
    Units(i64),
    /// Too little is free, but units are out with gateways or presumed spent: they may come back. It is not known that the quota is used up.
    Elsewhere,
    /// The quota is used up: what is asked for can no longer be had in this period unless the limit is raised.
    UsedUp,
}

impl Ledger {
    /// What can be granted; not below zero, as it would be after the limit was lowered.
    pub const fn free(&self) -> i64 {
        let free = self.limit.saturating_sub(self.used).saturating_sub(self.outstanding).saturating_sub(self.presumed_spent);
        if free > 0 { free } else { 0 }
    }

    /// What is left of the quota by what is proven: the limit less what was used.
    pub const fn remaining(&self) -> i64 {
        let remaining = self.limit.saturating_sub(self.used);
        if remaining > 0 { remaining } else { 0 }
    }

    /// Grants what one of `holders` gateways wants, and at least what the call that waits needs.
    ///
    /// No grant is more than half of an equal share of what is free, so that the others find something too; near the end that falls to one unit. A
    /// grant is never less than `needed` (at least one unit, or the rest if that is a part of one), and never more than what is free.
    pub fn grant(&self, want: i64, needed: i64, holders: u32) -> Grant {
        let free = self.free();
        if free == 0 || free < needed {
            return if self.outstanding > 0 || self.presumed_spent > 0 { Grant::Elsewhere } else { Grant::UsedUp };
        }
        let share = free / (2 * i64::from(holders.max(1)));
        let least = needed.max(MICROUNITS_PER_UNIT);
        Grant::Units(want.min(share).max(least).min(free))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Lease;

    const UNIT: i64 = MICROUNITS_PER_UNIT;

    #[test]
    fn grants_shares_down_to_one_unit() {
        let ledger = |used: i64, outstanding: i64| Ledger {
            limit: 100 * UNIT,
            used: used * UNIT,
            outstanding: outstanding * UNIT,
            presumed_spent: 0,
        };
        // (used, outstanding, wanted, needed, gateways, answer)
        let cases = [
            (0, 0, 10, 0, 2, Grant::Units(10 * UNIT)),
            (0, 0, 90, 0, 2, Grant::Units(25 * UNIT)),
            (0, 0, 90, 40, 2, Grant::Units(40 * UNIT)),
            (90, 4, 10, 0, 3, Grant::Units(UNIT)),
            (99, 0, 10, 0, 3, Grant::Units(UNIT)),
            (99, 1, 10, 0, 3, Grant::Elsewhere),
            (97, 1, 10, 3, 3, Grant::Elsewhere),
            (97, 0, 10, 4, 3, Grant::UsedUp),
            (100, 0, 10, 0, 3, Grant::UsedUp),
            (120, 0, 10, 0, 3, Grant::UsedUp),
        ];
        for (used, outstanding, want, needed, holders, grant) in cases {
            let found = ledger(used, outstanding).grant(want * UNIT, needed * UNIT, holders);
            assert_eq!(found, grant, "{used} used, {outstanding} out, {want} wanted, {needed} needed, {holders} gateways");
        }
        let presumed = Ledger { presumed_spent: UNIT, ..ledger(99, 0) };
        assert_eq!(presumed.grant(UNIT, 0, 1), Grant::Elsewhere);
        let part = Ledger { limit: UNIT / 2, ..Ledger::default() };
        assert_eq!(part.grant(UNIT, 0, 5), Grant::Units(UNIT / 2));
        assert_eq!((ledger(97, 2).remaining(), ledger(97, 2).free()), (3 * UNIT, UNIT));
    }

    #[derive(Debug, Clone)]
    enum Event {
        Ask { gateway: usize, want: i64 },
        Call { gateway: usize, units: i64 },
        GiveBack { gateway: usize },
        Ingest { gateway: usize },
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (0_usize..3, 0_i64..40).prop_map(|(gateway, want)| Event::Ask { gateway, want: want * UNIT }),
            (0_usize..3, 1_i64..4).prop_map(|(gateway, units)| Event::Call { gateway, units: units * UNIT }),
            (0_usize..3).prop_map(|gateway| Event::GiveBack { gateway }),
            (0_usize..3).prop_map(|gateway| Event::Ingest { gateway }),
        ]
    }

    proptest! {
        /// Three gateways and a ledger: in any order of asking, spending, giving back and proving, no more than the limit is admitted, and then
        /// the last unit can be had by a gateway that holds none.
        #[test]
        fn never_over_the_limit_and_the_last_unit_is_reachable(limit in 0_i64..60, events in proptest::collection::vec(event(), 0..120)) {
            let mut ledger = Ledger { limit: limit * UNIT, ..Ledger::default() };
            let leases = [0, 1, 2].map(|_| Lease::new(0, u64::MAX));
            let (mut admitted, mut proven) = ([0_i64; 3], [0_i64; 3]);
            for event in events {
                match event {
                    Event::Ask { gateway, want } => {
                        if let Grant::Units(units) = ledger.grant(want, 0, 3) {
                            ledger.outstanding += units;
                            leases[gateway].extend(units, u64::MAX, 1).expect("it does not end");
                        }
                    }
                    Event::Call { gateway, units } => {
                        if leases[gateway].try_take(units, 1).is_ok() {
                            admitted[gateway] += units;
                        }
                    }
                    Event::GiveBack { gateway } => ledger.outstanding -= leases[gateway].withdraw(i64::MAX),
                    Event::Ingest { gateway } => {
                        let news = admitted[gateway] - proven[gateway];
                        proven[gateway] = admitted[gateway];
                        ledger.used += news;
                        ledger.outstanding -= news;
                    }
                }
                prop_assert!(admitted.iter().sum::<i64>() <= limit * UNIT);
                prop_assert!(ledger.used + ledger.outstanding <= ledger.limit);
            }
            // The ledger recalls what is idle and one gateway spends the rest, one by one.
            for lease in &leases {
                ledger.outstanding -= lease.withdraw(i64::MAX);
            }
            let mut total = admitted.iter().sum::<i64>();
            for _ in 0..limit {
                let Grant::Units(units) = ledger.grant(UNIT, UNIT, 3) else { break };
                ledger.outstanding += units;
                leases[0].extend(units, u64::MAX, 1).expect("it does not end");
                while leases[0].try_take(UNIT, 1).is_ok() {
                    total += UNIT;
                }
            }
            prop_assert_eq!(total, limit * UNIT);
        }
    }
}
