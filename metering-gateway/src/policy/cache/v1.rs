//! The first version of the cache: a line `{"format":1,"epoch":…,"generation":…}`, then one [`PolicyEntry`] a line, then `{"entries":N}`, which tells a
//! whole file from one that was cut off.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
};

use gateway_control::policy::{Generation, PolicyEntry};
use ids::Uuid;
use serde::Deserialize;

use super::{Cached, PolicyCache, damaged};
use crate::policy::store::PolicyStore;

const FORMAT: u16 = 1;

#[derive(Deserialize)]
struct Head {
    format: u16,
    epoch: Uuid,
    generation: Generation,
}

#[derive(Deserialize)]
struct Tail {
    entries: u64,
}

/// Reads a file of the first version, if there is one.
pub(super) fn read(cache: &PolicyCache, store: &mut PolicyStore, mut bad: impl FnMut(String)) -> io::Result<Option<Cached>> {
    let file = match File::open(&cache.first_version) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let confirmed_at = cache.read_confirmed()?;
    let mut lines = BufReader::new(file).lines();
    let head = lines.next().ok_or_else(|| damaged(&"it is empty"))??;
    let head: Head = serde_json::from_str(&head).map_err(|error| damaged(&error))?;
    if head.format != FORMAT {
        return Err(damaged(&format!("it has format {}, this software reads {FORMAT}", head.format)));
    }
    store.begin_snapshot(head.epoch);
    for (seen, text) in (0..).zip(lines) {
        let text = text?;
        if let Ok(tail) = serde_json::from_str::<Tail>(&text) {
            if tail.entries != seen {
                return Err(damaged(&"entries are missing"));
            }
            store.commit(head.generation);
            return Ok(Some(Cached { generation: head.generation, confirmed_at }));
        }
        match serde_json::from_str::<PolicyEntry>(&text) {
            Ok(entry) => store.receive(entry),
            Err(error) => bad(error.to_string()),
        }
    }
    Err(damaged(&"it was cut off"))
}
