//! A real process is killed while it appends: all that it reported is there afterwards.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use common::{NEW_YEAR, numbers, open, shipped, small, usage};
use journal::{Config, Keeper, Opened};

const DIR: &str = "JOURNAL_KILL_TEST_DIR";

fn config() -> Config {
    Config { segment_size_bytes: 16 * 1024, disk_bound_bytes: 4096 * 16 * 1024, ..small() }
}

/// Not a test of its own: what the killed process does. It is this binary, started again.
#[test]
#[ignore = "run by `kill_9_loses_nothing_that_was_reported`"]
#[allow(clippy::disallowed_methods, reason = "the harness passes no arguments to a test, so the folder comes in the environment")]
fn child_that_appends_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let Opened { journal, mut writers, report } = open(dir.as_ref(), config());
    assert!(!report.needs_alert(), "{report:?}");
    let first = shipped(&journal).len() as u64;
    let _keeper = Keeper::start(journal, || (), || NEW_YEAR).unwrap();
    let mut out = std::io::stdout().lock();
    for n in first.. {
        // One call in three stays open, so that the kill finds calls in flight.
        let receipt = writers[0].admit().unwrap();
        if n % 3 == 0 {
            let _held_until_the_kill = writers[0].admit().unwrap();
        }
        let number = receipt.number();
        writers[0].append(receipt, &usage(n)).unwrap();
        writeln!(out, "\nappended {n} {number}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn kill_9_loses_nothing_that_was_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut highest_receipt = 0;
    let mut reported = 0;
    for round in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_appends_until_it_is_killed", "--ignored", "--nocapture", "--test-threads=1"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let until = reported + 100 + round * 37;
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap) {
            let Some(rest) = line.strip_prefix("appended ") else { continue };
            let (n, number) = rest.split_once(' ').unwrap();
            reported = n.parse().unwrap();
            let number: u64 = number.parse().unwrap();
            assert!(number > highest_receipt, "a receipt number was used twice");
            highest_receipt = number;
            if reported == until {
                // SIGKILL. What the child still wrote into the pipe is read to its end.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(reported >= until, "the child ended by itself in round {round}");
        let Opened { journal, report, .. } = open(dir.path(), config());
        assert!(!report.needs_alert(), "{report:?}");
        let found = numbers(&shipped(&journal));
        assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>());
        assert!(found.len() as u64 > reported, "{} records, {reported} was reported", found.len());
    }
}
