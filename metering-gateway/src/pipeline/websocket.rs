//! WebSocket frames (RFC 6455, 5.2), as far as counting messages needs: heads are read, payloads are passed over unseen.

/// The longest head of a frame.
const MAX_HEAD: usize = 14;

/// Follows one direction of a WebSocket.
#[derive(Debug, Default)]
pub struct FrameCounter {
    head: [u8; MAX_HEAD],
    have: usize,
    payload_left: u64,
    closed: bool,
}

impl FrameCounter {
    /// Takes in the next bytes and says how many messages ended in them. A message is a text or binary one, in however many frames.
    pub fn take(&mut self, mut bytes: &[u8]) -> u64 {
        let mut messages = 0;
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let passed = bytes.len().min(usize::try_from(self.payload_left).unwrap_or(usize::MAX));
                self.payload_left -= passed as u64;
                bytes = &bytes[passed..];
                continue;
            }
            self.head[self.have] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if let Some(payload) = self.payload() {
                let (fin, opcode) = (self.head[0] & 0x80 != 0, self.head[0] & 0x0f);
                // 0 continues, 1 is text, 2 is binary; what ends with FIN is a message. 8 and above are control frames.
                messages += u64::from(fin && opcode < 8);
                self.closed |= opcode == 8;
                self.payload_left = payload;
                self.have = 0;
            }
        }
        messages
    }

    /// Whether the last byte taken in ended a frame, so that another may be put in here.
    pub fn at_boundary(&self) -> bool {
        self.have == 0 && self.payload_left == 0
    }

    /// Whether a close frame has passed: nothing may follow it.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The length of the payload, once the head is whole.
    fn payload(&self) -> Option<u64> {
        if self.have < 2 {
            return None;
        }
        let mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        let (extended, short) = match self.head[1] & 0x7f {
            126 => (2, None),
            127 => (8, None),
            short => (0, Some(u64::from(short))),
        };
        if self.have < 2 + extended + mask {
            return None;
        }
        Some(short.unwrap_or_else(|| self.head[2..2 + extended].iter().fold(0, |length, byte| length << 8 | u64::from(*byte))))
    }
}

/// A close frame with a code and a reason of at most 123 bytes. What goes to a server must be masked; the mask hides nothing here, so it is zero.
pub fn close_frame(code: u16, reason: &str, masked: bool) -> Vec<u8> {
    let reason = &reason.as_bytes()[..reason.len().min(123)];
    let mut frame = vec![0x88, reason.len() as u8 + 2];
    if masked {
        frame[1] |= 0x80;
        frame.extend([0; 4]);
    }
    frame.extend(code.to_be_bytes());
    frame.extend(reason);
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(fin: bool, opcode: u8, masked: bool, payload: usize) -> Vec<u8> {
        let mut out = vec![u8::from(fin) << 7 | opcode];
        let mask = u8::from(masked) << 7;
        match payload {
            0..=125 => out.push(mask | payload as u8),
            126..=0xffff => {
                out.push(mask | 126);
                out.extend((payload as u16).to_be_bytes());
            }
            _ => {
                out.push(mask | 127);
                out.extend((payload as u64).to_be_bytes());
            }
        }
        if masked {
            out.extend([7; 4]);
        }
        out.extend(vec![0x81; payload]);
        out
    }

    #[test]
    fn close_frames_are_well_formed() {
        let mut counter = FrameCounter::default();
        assert_eq!(counter.take(&close_frame(1008, "the key was revoked", true)), 0);
        assert!(counter.at_boundary() && counter.is_closed());
        assert_eq!(&close_frame(1008, "", false), &[0x88, 2, 0x03, 0xf0]);
    }

    proptest! {
        /// However the bytes are cut, as many messages are counted as frames end one, and only ends of frames are boundaries.
        #[test]
        fn counts_however_the_bytes_are_cut(
            frames in proptest::collection::vec((any::<bool>(), 0..11_u8, any::<bool>(), prop_oneof![0..300_usize, 65_000..66_000_usize]), 0..8),
            cut in 1..2_000_usize,
        ) {
            let expected = frames.iter().filter(|(fin, opcode, ..)| *fin && *opcode < 8).count() as u64;
            let bytes: Vec<u8> = frames.iter().flat_map(|(fin, opcode, masked, payload)| frame(*fin, *opcode, *masked, *payload)).collect();
            let mut counter = FrameCounter::default();
            prop_assert_eq!(bytes.chunks(cut).map(|chunk| counter.take(chunk)).sum::<u64>(), expected);
            prop_assert!(counter.at_boundary());
            let mut counter = FrameCounter::default();
            if let Some((_, all_but_last)) = bytes.split_last() {
                counter.take(all_but_last);
                prop_assert!(!counter.at_boundary());
            }
        }
    }
}
