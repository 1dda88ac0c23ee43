//! Frames of WebSockets and messages of gRPC are counted the same however the bytes are cut, and never more often than there are heads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use metering_gateway::pipeline::{grpc::MessageCounter, websocket::FrameCounter};

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (cut, bytes) = (usize::from(input.0) + 1, input.1);
    let (mut whole, mut pieces) = (FrameCounter::default(), FrameCounter::default());
    let messages = whole.take(&bytes);
    assert_eq!(messages, bytes.chunks(cut).map(|piece| pieces.take(piece)).sum::<u64>());
    assert_eq!((whole.at_boundary(), whole.is_closed()), (pieces.at_boundary(), pieces.is_closed()));
    assert!(messages <= bytes.len() as u64 / 2, "a frame's head has two bytes");

    let (mut whole, mut pieces) = (MessageCounter::default(), MessageCounter::default());
    let messages = whole.take(&bytes);
    assert_eq!(messages, bytes.chunks(cut).map(|piece| pieces.take(piece)).sum::<u64>());
    assert!(messages <= bytes.len() as u64 / 5, "a message's prefix has five bytes");
});
