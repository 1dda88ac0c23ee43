//! The equations of M1, exchange by exchange.

use std::collections::BTreeMap;

use anyhow::bail;

use super::{
    book::{Entry, Fate},
    records::{Exchange, Recorded},
};

/// How many faults of one kind are named.
const NAMED: usize = 5;

/// The sums of a run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Exchanges of which something left the client.
    pub sent: u64,
    /// Answered whole by the upstream.
    pub answered: u64,
    /// Receipt numbers that the gateways gave out.
    pub admitted: u64,
    /// Final records.
    pub recorded: u64,
    /// Exchanges that the auditor saw break.
    pub broken: u64,
    /// Of those, with a final record: by how much `recorded` is above `answered`.
    pub surplus: u64,
    /// Answered whole by a gateway itself: refused, or in the upstream's place.
    pub refused: u64,
}

/// What the auditor has to say.
#[derive(Debug)]
pub struct Verdict {
    /// The sums.
    pub count: Count,
    faults: BTreeMap<&'static str, Vec<String>>,
}

impl Verdict {
    /// Compares what clients and upstream saw with what journals hold.
    pub fn of(lines: &[Entry], recorded: &Recorded) -> Self {
        let mut verdict = Self { count: Count { admitted: recorded.admitted(), ..Count::default() }, faults: BTreeMap::new() };
        let mut unnamed = 0;
        let mut by_mark: BTreeMap<u64, &Exchange> = BTreeMap::new();
        for (receipt, exchange) in recorded.exchanges.iter().filter(|(_, exchange)| exchange.finals > 0) {
            verdict.count.recorded += 1;
            if exchange.finals > 1 {
                verdict.fault("an exchange has two final records", format!("{receipt:?}"));
            }
            if exchange.mark == 0 {
                unnamed += 1;
            } else if by_mark.insert(exchange.mark, exchange).is_some() {
                verdict.fault("an exchange was recorded twice", format!("mark {}", exchange.mark));
            }
        }
        for (index, line) in lines.iter().enumerate() {
            verdict.line(index as u64 + 1, line, by_mark.remove(&(index as u64 + 1)));
        }
        for mark in by_mark.keys() {
            verdict.fault("a record of an exchange that nobody made", format!("mark {mark}"));
        }
        verdict.sums(unnamed);
        verdict
    }

    fn line(&mut self, mark: u64, line: &Entry, record: Option<&Exchange>) {
        let count = &mut self.count;
        count.sent += u64::from(line.fate != Fate::NotSent);
        let mut faults: Vec<&'static str> = Vec::new();
        if line.seen > 1 {
            faults.push("the upstream saw an exchange twice");
        }
        match line.fate {
            Fate::Open => faults.push("an exchange never ended"),
            Fate::NotSent if line.seen > 0 || record.is_some() => faults.push("what was never sent was seen"),
            Fate::NotSent => {}
            Fate::Unprocessed if line.seen > 0 || record.is_some() => faults.push("what a gateway said that it did not begin was seen"),
            Fate::Unprocessed => {}
            Fate::Whole { by_upstream: false, .. } => {
                count.refused += 1;
                if record.is_some() {
                    faults.push("what a gateway refused has a record of the upstream's answer");
                }
            }
            Fate::Whole { status, by_upstream: true } => {
                count.answered += 1;
                match record {
                    None => faults.push("answered whole and not recorded"),
                    Some(record) if record.status != status || !record.by_upstream || !record.is_complete => {
                        faults.push("the record of a whole answer says something else");
                    }
                    Some(record) if record.bytes != line.received => faults.push("the record of a whole answer has other bytes"),
                    Some(record) if record.messages != line.asked.sent + line.told.came => {
                        faults.push("the record of a whole exchange has other messages");
                    }
                    Some(_) => {}
                }
            }
            Fate::Broken => {
                count.broken += 1;
                count.surplus += u64::from(record.is_some());
                if record.is_some_and(|record| record.bytes < line.received || record.bytes > line.given) {
                    faults.push("a broken answer's record has fewer bytes than arrived, or more than were given");
                }
                let (fewest, most) = (line.asked.came + line.told.came, line.asked.sent + line.told.sent);
                if record.is_some_and(|record| record.messages < fewest || record.messages > most) {
                    faults.push("a broken exchange's record has fewer messages than arrived, or more than were sent");
                }
            }
        }
        for fault in faults {
            self.fault(fault, format!("mark {mark}: {line:?}, recorded: {record:?}"));
        }
    }

    fn sums(&mut self, unnamed: u64) {
        let Count { sent, answered, admitted, recorded, broken, surplus, .. } = self.count;
        // A record without a mark belongs to an exchange that ended before its answer began: one that broke.
        if unnamed > broken - surplus {
            self.fault("records without a mark beyond the broken exchanges", format!("{unnamed} of {:?}", self.count));
        }
        self.count.surplus += unnamed;
        if !(answered <= recorded && recorded <= admitted && admitted <= sent) {
            self.fault("answered whole <= recorded <= admitted <= sent", format!("{:?}", self.count));
        }
        if recorded != answered + surplus + unnamed {
            self.fault("the surplus of records over answers is not all broken exchanges", format!("{:?}", self.count));
        }
        if admitted - recorded.min(admitted) > broken - surplus {
            self.fault("more receipts without a record than broken exchanges without one", format!("{:?}", self.count));
        }
    }

    fn fault(&mut self, kind: &'static str, what: String) {
        self.faults.entry(kind).or_default().push(what);
    }

    /// The sums, if all equations hold.
    ///
    /// # Errors
    /// With what does not hold, and the exchanges that show it.
    pub fn stand(self) -> anyhow::Result<Count> {
        if self.faults.is_empty() {
            return Ok(self.count);
        }
        let mut text = format!("{:?}", self.count);
        for (kind, cases) in &self.faults {
            text.push_str(&format!("\n{kind} ({} times):", cases.len()));
            cases.iter().take(NAMED).for_each(|case| text.push_str(&format!("\n    {case}")));
        }
        bail!("the equations do not hold: {text}")
    }
}
