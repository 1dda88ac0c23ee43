//! When keys were used last. It is written after the usage is committed, at most once a minute a key; it may fail or be skipped without harm.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use calendar::Timestamp;
use ids::{ApiKeyId, NamespaceId};

use super::ingest_store as store;
use crate::{db::Tx, error::Result};

/// How exact it is.
const EVERY: Duration = Duration::from_secs(60);
/// How many keys a process remembers to have written; beyond that it starts anew, and the database says which ones are due.
const MAX_REMEMBERED: usize = 200_000;

/// When a key was used last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastUsed {
    /// The key's namespace.
    pub namespace: NamespaceId,
    /// The key.
    pub api_key: ApiKeyId,
    /// The event time of its latest call in a batch.
    pub at: Timestamp,
}

/// What this process has written lately, so that not every batch asks the database about all of its keys.
#[derive(Debug, Default)]
pub struct Remembered(Mutex<HashMap<ApiKeyId, Timestamp>>);

impl Remembered {
    /// Those of the keys that may be due, in the order of their ids. They count as written.
    pub fn due(&self, uses: Vec<LastUsed>) -> Vec<LastUsed> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if written.len() > MAX_REMEMBERED {
            written.clear();
        }
        let is_due = |it: &LastUsed| written.get(&it.api_key).is_none_or(|before| *before <= it.at.minus(EVERY));
        let mut due: Vec<_> = uses.into_iter().filter(is_due).collect();
        due.sort_by_key(|it| (it.namespace, it.api_key));
        written.extend(due.iter().map(|it| (it.api_key, it.at)));
        due
    }
}

/// Writes when keys were used last, each at most once a minute. In a transaction of its own.
pub async fn record(tx: &mut Tx, uses: &[LastUsed]) -> Result<()> {
    store::set_last_used(tx, uses).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_due_once_a_minute() {
        let remembered = Remembered::default();
        let (namespace, api_key) = (NamespaceId::from_uuid(ids::Uuid::nil()), ApiKeyId::new());
        let due = |seconds: i64| remembered.due(vec![LastUsed { namespace, api_key, at: Timestamp::from_seconds(seconds) }]).len();
        assert_eq!([due(100), due(159), due(160), due(161), due(50)], [1, 0, 1, 0, 0]);
    }
}
