use std::{cell::Cell, future::poll_fn};

use super::*;

#[tokio::test]
async fn a_peer_that_sends_without_end_leaves_the_others_their_turn() {
    let endless = tokio::io::join(tokio::io::repeat(b'x'), tokio::io::sink());
    let wire = Wire::new(Transport::Other(Box::new(endless)), BytesMut::new(), None);
    let (turns, read) = (Cell::new(0), Cell::new(0));
    let reading = async {
        // Fewer than what the runtime itself lets one task read in a row.
        for _ in 0..80 {
            poll_fn(|cx| wire.poll_more(cx)).await.expect("without an end");
            wire.with(|inner| inner.read.clear());
            read.set(read.get() + 1);
        }
    };
    let other = async {
        while read.get() < 80 {
            turns.set(turns.get() + 1);
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(reading, other);
    // Eight reads in a row, eighty reads: ten turns, of which the first and the last may fall together.
    assert!(turns.get() >= 8, "{} turns", turns.get());
}
