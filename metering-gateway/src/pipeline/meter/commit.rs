//! `durability = "power"`: the end of an answer waits until its final record is on the disk.

use std::task::{Context, Poll, ready};

use super::Exchange;
use crate::usage::recorder::Commit;

impl Exchange {
    /// Whether the end of the answer may be handed on: at once, or with `durability = "power"` when the final record has been flushed.
    pub fn poll_committed(&self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(Commit { stream, records }) = self.0.commit.get() {
            ready!(self.0.core.shared.journal.poll_flushed(stream, records, cx));
            self.0.commit.set(None);
        }
        Poll::Ready(())
    }
}
