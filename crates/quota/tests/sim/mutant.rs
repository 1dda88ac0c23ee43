//! Mistakes that the simulation must notice. Each is made around the real code: in what it is told, or in what is done with what it says.

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The ledger grants again what an ended lease held, though no journal has proven or returned it.
    RegrantEndedLeases,
    /// A gateway's restart settles what its earlier run held before the segments of that run are in.
    SettleAtRestart,
    /// The ledger says "used up" whenever nothing is free.
    UsedUpWhenNothingIsFree,
    /// Gateways are never told that idle leases are recalled.
    DeafToRecalls,
    /// What an ended lease has left is not given back.
    ForgetEndedLeases,
    /// A restored ledger grants before gateways have declared their leases again.
    NoRecountAfterRestore,
    /// A segment that arrives twice is counted twice.
    CountSegmentsTwice,
    /// An exchange that was overtaken by a later one is taken all the same.
    TakeOldExchanges,
    /// A lease is timed from the moment when its answer arrived.
    TimeFromAnswer,
    /// Usage of an earlier run proves leases of the present one.
    MixRuns,
    /// A call that one limit denies keeps what it took from another.
    DeniedCallTakes,
    /// A gateway counts its totals from its last lease on.
    ForgetTotals,
}

impl Mutant {
    pub const ALL: [Self; 12] = [
        Self::RegrantEndedLeases,
        Self::SettleAtRestart,
        Self::UsedUpWhenNothingIsFree,
        Self::DeafToRecalls,
        Self::ForgetEndedLeases,
        Self::NoRecountAfterRestore,
        Self::CountSegmentsTwice,
        Self::TakeOldExchanges,
        Self::TimeFromAnswer,
        Self::MixRuns,
        Self::DeniedCallTakes,
        Self::ForgetTotals,
    ];
}
