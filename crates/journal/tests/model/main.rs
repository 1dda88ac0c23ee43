//! The journal against a twin in memory: random calls, seals, acks, kills and power losses.
//!
//! The twin knows the records in the order of appending, and learns which of them each segment holds when it sees the segment sealed. After each step
//! the two must agree; a segment that was once offered must never hold anything else.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod disk;
mod twin;

use proptest::prelude::*;
use twin::Twin;

/// One step of the test. Indices are taken modulo what there is.
#[derive(Debug, Clone)]
enum Step {
    Admit,
    Append { call: usize, large: bool },
    Interim { call: usize },
    Abandon { call: usize },
    Seal,
    Wait { seconds: i64 },
    Tend,
    Ack { segment: usize },
    AckAll,
    OfferAgain,
    Quarantine { segment: usize },
    Kill,
    Close,
    LosePower { seed: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => Just(Step::Admit),
        12 => (any::<usize>(), prop::bool::weighted(0.3)).prop_map(|(call, large)| Step::Append { call, large }),
        3 => any::<usize>().prop_map(|call| Step::Interim { call }),
        1 => any::<usize>().prop_map(|call| Step::Abandon { call }),
        2 => Just(Step::Seal),
        2 => (0..40_i64).prop_map(|seconds| Step::Wait { seconds }),
        4 => Just(Step::Tend),
        2 => any::<usize>().prop_map(|segment| Step::Ack { segment }),
        1 => Just(Step::AckAll),
        1 => Just(Step::OfferAgain),
        1 => any::<usize>().prop_map(|segment| Step::Quarantine { segment }),
        1 => Just(Step::Kill),
        1 => Just(Step::Close),
        1 => any::<u64>().prop_map(|seed| Step::LosePower { seed }),
    ]
}

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut twin = Twin::new();
    for step in steps {
        match step {
            Step::Admit => twin.admit(),
            Step::Append { call, large } => twin.append(call, large),
            Step::Interim { call } => twin.interim(call),
            Step::Abandon { call } => twin.abandon(call),
            Step::Seal => twin.seal(),
            Step::Wait { seconds } => twin.wait(seconds),
            Step::Tend => twin.tend(),
            Step::Ack { segment } => twin.ack(segment),
            Step::AckAll => twin.ack_all(),
            Step::OfferAgain => twin.offer_again(),
            Step::Quarantine { segment } => twin.quarantine(segment),
            Step::Kill => twin.kill(),
            Step::Close => twin.close(),
            Step::LosePower { seed } => twin.lose_power(seed),
        }?;
        twin.agrees()?;
    }
    twin.kill()?;
    twin.agrees()
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_agrees_with_its_twin(steps in prop::collection::vec(step(), 1..150)) {
        run(steps)?;
    }
}
