//! The records of a long exchange before its last one (SEMANTICS M1): at intervals, at the end of a quota period, and at changes of the policy.

use std::time::Instant;

use calendar::Timestamp;
use journal::Outcome;

use super::{Open, State, Stop};
use crate::{
    policy::index::Index,
    usage::recorder::{self, Part},
};

impl Open {
    /// Writes an interim record of a long exchange and reserves anew what it used.
    pub(super) fn interim(&self, now: Timestamp) {
        let mut state = self.state.borrow_mut();
        // Before the head there is nothing to record but waiting.
        let (Some((status, answered_by)), false) = (state.head, state.settled) else { return };
        let State { permit, units, period, part_started, .. } = &mut *state;
        *part_started = Instant::now();
        let elapsed = permit.started.elapsed();
        let meters = units.interim(&permit.grant.route, elapsed);
        let worth_it = meters.iter().any(|units| *units != 0);
        if worth_it {
            let part = Part { status, answered_by, outcome: Outcome::Complete, elapsed, period_start: period.from, meters: &meters };
            if !recorder::interim(&self.core, permit, &part) {
                // There was no room: the units go into the next record.
                units.put_back(&meters);
                return;
            }
        }
        if worth_it || !period.contains(now) {
            let quotas = permit.grant.quotas_at(&self.core, now);
            *period = quotas.period;
            if !permit.reserve_again(&self.core, &meters, &quotas) {
                self.stop(Stop::QuotaUsedUp);
            }
        }
    }

    /// The policy has changed. If that concerns what calls like this one are charged by, what was used until now is recorded by itself, so that it can be
    /// told from what is used after the change. The exchange stays under the plan version and the route under which it was admitted (SEMANTICS M9).
    pub(super) fn note_terms(&self, index: &Index, now: Timestamp) {
        {
            let mut state = self.state.borrow_mut();
            let State { permit, digest, terms, .. } = &mut *state;
            let Some(key) = index.keys.get(digest) else { return };
            let Some(changed) = permit.grant.changed_terms(index, key, terms.as_deref()) else { return };
            *terms = Some(Box::new(changed));
        }
        self.interim(now);
    }
}
