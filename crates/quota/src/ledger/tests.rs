use ids::Uuid;

use super::*;

const UNIT: i128 = MICROUNITS_PER_UNIT as i128;
const LASTS: Duration = Duration::from_secs(60);

fn journal(number: u128) -> JournalId {
    JournalId::from_uuid(Uuid::from_u128(number))
}

fn at(seconds: u64) -> Circumstances {
    Circumstances { now: Timestamp::from_seconds(1_000).plus(Duration::from_secs(seconds)), lasts: LASTS, may_grant: true }
}

fn holding(number: u128, outstanding: i128) -> Holding {
    Holding { run: 1, granted: outstanding, expires_at: at(60).now, ..Holding::new(journal(number), at(0).now) }
}

/// A gateway that holds nothing and declares what it has spent.
fn ask(number: u128, want: i128, needed: i128) -> Ask {
    let declared = Some(Declared { run: 1, ..Declared::default() });
    Ask { journal: journal(number), want, needed, give_back: 0, held: 0, declared }
}

#[test]
fn grants_shares_down_to_one_unit() {
    // (used, outstanding of others, wanted, needed, other gateways, granted, used up)
    let cases = [
        (0, 0, 10, 0, 1, 10, false),
        (0, 0, 90, 0, 1, 25, false),
        (0, 0, 90, 40, 1, 40, false),
        (90, 4, 10, 0, 2, 1, false),
        (99, 0, 10, 0, 2, 1, false),
        (99, 1, 10, 0, 2, 0, false),
        (97, 1, 10, 3, 2, 0, false),
        (97, 0, 10, 4, 2, 0, true),
        (97, 1, 10, 4, 2, 0, true),
        (100, 0, 10, 0, 2, 0, true),
        (120, 0, 10, 0, 2, 0, true),
    ];
    for (used, outstanding, want, needed, others, granted, used_up) in cases {
        let mut ledger = Ledger { limit: 100 * UNIT, used: used * UNIT, ..Ledger::default() };
        ledger.holdings = (1..=others).map(|number| holding(number, if number == 1 { outstanding * UNIT } else { 0 })).collect();
        let answer = ledger.exchange(&ask(9, want * UNIT, needed * UNIT), at(0));
        let case = format!("{used} used, {outstanding} out, {want} wanted, {needed} needed, {others} others: {answer:?}");
        assert_eq!((answer.granted, answer.used_up()), (granted * UNIT, used_up), "{case}");
        assert_eq!(answer.outstanding, answer.granted, "{case}");
        assert_eq!(answer.recall, needed > 0 && granted == 0 && !used_up, "{case}");
    }
    // Parts of units are granted where they are all that is free, or what is needed.
    for (limit, want, needed, granted) in
        [(UNIT / 2, UNIT, 0, UNIT / 2), (3 * UNIT, 2 * UNIT, 3 * UNIT / 2, 2 * UNIT), (3 * UNIT / 2, 3 * UNIT, 3 * UNIT / 2, 3 * UNIT / 2)]
    {
        let mut ledger = Ledger { limit, ..Ledger::default() };
        assert_eq!(ledger.exchange(&ask(9, want, needed), at(0)).granted, granted, "{limit} {want} {needed}");
    }
}

#[test]
fn what_ended_calls_used_does_not_come_back_and_what_runs_may() {
    let mut ledger = Ledger { limit: 10 * UNIT, ..Ledger::default() };
    ledger.holdings.push(Holding { finished: 4 * UNIT, ..holding(1, 4 * UNIT) });
    ledger.holdings.push(Holding { finished: 3 * UNIT, ..holding(2, 6 * UNIT) });
    let answer = ledger.exchange(&ask(3, UNIT, UNIT), at(0));
    assert_eq!((answer.granted, answer.elsewhere), (0, 3 * UNIT));
    // It asks for more than could ever come back.
    assert!(ledger.exchange(&ask(3, 4 * UNIT, 4 * UNIT), at(0)).used_up());
    // Its own calls that still run may give back too; what it holds itself is of no use to it.
    let declared = Declared { run: 1, granted: 6 * MICROUNITS_PER_UNIT, finished: 3 * MICROUNITS_PER_UNIT, ..Declared::default() };
    let own = Ask { held: UNIT, declared: Some(declared), ..ask(2, 3 * UNIT, 2 * UNIT) };
    assert_eq!(ledger.exchange(&own, at(0)).elsewhere, 2 * UNIT);
    assert!(ledger.exchange(&Ask { held: 2 * UNIT, ..own }, at(0)).used_up());
}

#[test]
fn declarations_mend_lost_answers_and_lost_rows() {
    let mut ledger = Ledger { limit: 10 * UNIT, ..Ledger::default() };
    assert_eq!(ledger.exchange(&ask(1, 5 * UNIT, 5 * UNIT), at(0)).granted, 5 * UNIT);
    // The answer was lost and given up: the gateway knows of no grant.
    let answer = ledger.exchange(&ask(1, 10 * UNIT, 10 * UNIT), at(1));
    assert_eq!((answer.granted, answer.outstanding), (10 * UNIT, 10 * UNIT));
    // A restored ledger has never heard of the journal.
    let mut restored = Ledger { limit: 10 * UNIT, ..Ledger::default() };
    let declared = Some(Declared { run: 1, granted: 10 * MICROUNITS_PER_UNIT, given_back: 2 * MICROUNITS_PER_UNIT, ..Declared::default() });
    let answer = restored.exchange(&Ask { declared, ..ask(1, 0, 0) }, at(2));
    assert_eq!((answer.outstanding, restored.free()), (8 * UNIT, 2 * UNIT));
}

#[test]
fn a_run_that_ended_stays_counted_until_its_segments_are_in() {
    let mut ledger = Ledger { limit: 10 * UNIT, ..Ledger::default() };
    assert_eq!(ledger.exchange(&ask(1, 5 * UNIT, 5 * UNIT), at(0)).granted, 5 * UNIT);
    let declared = Some(Declared { run: 2, ..Declared::default() });
    let next = ledger.exchange(&Ask { declared, ..ask(1, 2 * UNIT, 2 * UNIT) }, at(1));
    assert_eq!((next.granted, next.outstanding), (2 * UNIT, 7 * UNIT));
    let holding = ledger.holding_mut(journal(1), at(1).now);
    // Segments of the first run, one of them on its way since before the second began; then one of the second.
    holding.prove(Some(SegmentRun { run: 2, before: true }), UNIT);
    holding.prove(Some(SegmentRun { run: 1, before: false }), UNIT);
    assert_eq!((holding.earlier, holding.proven), (3 * UNIT, 0));
    holding.prove(Some(SegmentRun { run: 2, before: false }), UNIT);
    assert_eq!((holding.earlier, holding.outstanding()), (3 * UNIT, 4 * UNIT));
    assert_eq!((holding.presumed_spent(at(2).now), holding.presumed_spent(at(100).now)), (3 * UNIT, 4 * UNIT));
    assert!(!holding.catch_up(2, false) && !holding.catch_up(1, true) && holding.catch_up(2, true));
    assert_eq!(holding.outstanding(), UNIT);
    // A third run that never speaks of this quota.
    assert!(holding.catch_up(3, false) && holding.earlier == UNIT && holding.catch_up(3, true));
    assert_eq!(holding.outstanding(), 0);
}

#[test]
fn use_without_a_lease_does_not_hide_a_later_grant() {
    let mut ledger = Ledger { limit: 10 * UNIT, ..Ledger::default() };
    // Three units were admitted while the portal was away, and their usage comes before the declaration.
    ledger.used = 3 * UNIT;
    ledger.holding_mut(journal(1), at(0).now).prove(Some(SegmentRun { run: 1, before: false }), 3 * UNIT);
    let declared = Declared { run: 1, exposed: 3 * MICROUNITS_PER_UNIT, finished: 3 * MICROUNITS_PER_UNIT, ..Declared::default() };
    let answer = ledger.exchange(&Ask { declared: Some(declared), ..ask(1, 7 * UNIT, 7 * UNIT) }, at(0));
    assert_eq!((answer.granted, answer.outstanding, ledger.free()), (7 * UNIT, 7 * UNIT, 0));
}

#[test]
fn only_an_ended_lease_is_written_off_and_the_truth_mends_it() {
    let mut ledger = Ledger { limit: 10 * UNIT, ..Ledger::default() };
    assert_eq!(ledger.exchange(&ask(1, 5 * UNIT, 5 * UNIT), at(0)).granted, 5 * UNIT);
    assert_eq!(ledger.write_off(journal(1), at(59).now), Err(StillLive { until: at(60).now }));
    assert_eq!(ledger.write_off(journal(1), at(60).now), Ok(5 * UNIT));
    assert_eq!((ledger.free(), ledger.write_off(journal(1), at(60).now)), (10 * UNIT, Ok(0)));
    // Late usage moves what is used, and hides nothing.
    ledger.used += UNIT;
    ledger.holding_mut(journal(1), at(70).now).prove(Some(SegmentRun { run: 1, before: false }), UNIT);
    assert_eq!(ledger.free(), 9 * UNIT);
    // It was not lost: it gives back three, and one more call is on its way.
    let declared = Declared {
        run: 1,
        granted: 5 * MICROUNITS_PER_UNIT,
        given_back: 3 * MICROUNITS_PER_UNIT,
        finished: 2 * MICROUNITS_PER_UNIT,
        ..Declared::default()
    };
    let answer = ledger.exchange(&Ask { declared: Some(declared), ..ask(1, 0, 0) }, at(80));
    assert_eq!((answer.outstanding, ledger.free()), (UNIT, 8 * UNIT));
}

#[test]
fn gateways_that_declare_nothing_are_served_as_before() {
    let mut ledger = Ledger { limit: 10 * UNIT, ..Ledger::default() };
    let old = |want: i128, give_back: i128| Ask { declared: None, give_back: give_back * UNIT, ..ask(1, want * UNIT, 0) };
    assert_eq!(ledger.exchange(&old(4, 0), at(0)).granted, 4 * UNIT);
    assert_eq!(ledger.exchange(&old(0, 9), at(0)).outstanding, 0, "no more comes back than is out");
    assert_eq!(ledger.exchange(&old(3, 0), at(0)).granted, 3 * UNIT);
    ledger.holding_mut(journal(1), at(0).now).prove(None, 5 * UNIT);
    assert_eq!(ledger.outstanding(), 0);
    assert_eq!(ledger.exchange(&old(2, 0), at(0)).outstanding, 2 * UNIT, "what it spent beyond its leases hides nothing");
}

#[test]
fn a_ledger_that_may_not_grant_never_says_used_up() {
    let mut ledger = Ledger::default();
    let answer = ledger.exchange(&ask(1, UNIT, UNIT), Circumstances { may_grant: false, ..at(0) });
    assert!(answer.granted == 0 && !answer.used_up(), "{answer:?}");
}

#[test]
fn settled_is_what_is_accepted_through_the_end_of_the_run_before() {
    let first_seqs = [(0, 3), (1, 0), (2, 1)];
    let accepted = |first: Option<u64>, third: Option<u64>| move |stream: u16| if stream == 0 { first } else { third };
    assert!(is_settled(&first_seqs, accepted(Some(2), Some(0))));
    assert!(is_settled(&first_seqs, accepted(Some(9), Some(9))));
    assert!(!is_settled(&first_seqs, accepted(Some(1), Some(0))));
    assert!(!is_settled(&first_seqs, accepted(Some(2), None)));
    assert_eq!(
        [Turn::of(1, None), Turn::of(2, Some(1)), Turn::of(1, Some(1)), Turn::of(1, Some(2))],
        [Turn::New, Turn::New, Turn::Again, Turn::Old]
    );
}
