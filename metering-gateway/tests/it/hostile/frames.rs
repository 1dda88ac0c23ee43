//! HTTP/2 frame by frame, for callers that no client library would let be.

use super::*;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// The setting that gives new streams their window.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// A frame as it came.
#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    let mut out = length[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = values.iter().flat_map(|(id, value)| id.to_be_bytes().into_iter().chain(value.to_be_bytes())).collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// Fields as literals that are not indexed and not compressed (RFC 7541, 6.2.2).
pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        text(&mut out, name);
        text(&mut out, value);
    }
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    let mut length = text.len();
    if length < 127 {
        out.push(u8::try_from(length).expect("short"));
    } else {
        out.push(127);
        length -= 127;
        while length >= 128 {
            out.push(u8::try_from(length % 128 + 128).expect("seven bits"));
            length /= 128;
        }
        out.push(u8::try_from(length).expect("seven bits"));
    }
    out.extend(text.bytes());
}

/// A connection over which HTTP/2 is spoken by hand.
pub struct RawHttp2 {
    stream: TcpStream,
    unread: Vec<u8>,
    key: String,
}

impl RawHttp2 {
    /// Connects and sends the preface with some settings.
    pub async fn connect(stage: &Stage, values: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(stage.gateway.addresses.data).await.expect("a connection");
        stream.set_nodelay(true).expect("an open connection");
        let mut raw = Self { stream, unread: Vec::new(), key: stage.world.live.reveal().to_owned() };
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        raw.send(&settings(values)).await;
        raw
    }

    /// False once the gateway has closed the connection.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// The head of a call, as a header block.
    pub fn call(&self, path: &str) -> Vec<u8> {
        fields(&[(":method", "GET"), (":scheme", "http"), (":authority", "g"), (":path", path), ("x-api-key", &self.key)])
    }

    /// Asks, with nothing more to send.
    pub async fn ask(&mut self, stream: u32, path: &str) -> bool {
        let block = self.call(path);
        self.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)).await
    }

    /// The next frame; `None` when the connection is closed.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if let Some(length) =
                self.unread.first_chunk::<3>().map(|l| usize::from(l[0]) << 16 | usize::from(l[1]) << 8 | usize::from(l[2]))
                && self.unread.len() >= 9 + length
            {
                let bytes: Vec<u8> = self.unread.drain(..9 + length).collect();
                let stream = u32::from_be_bytes(*bytes[5..].first_chunk().expect("a head"));
                return Some(Frame { kind: bytes[3], flags: bytes[4], stream, payload: bytes[9..].to_vec() });
            }
            match self.stream.read(&mut buffer).await {
                Ok(read @ 1..) => self.unread.extend_from_slice(&buffer[..read]),
                _ => return None,
            }
        }
    }

    /// Reads until a frame is as wanted.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&Frame) -> bool) -> Frame {
        let reading = async {
            while let Some(frame) = self.next().await {
                if wanted(&frame) {
                    return frame;
                }
            }
            panic!("closed before {what}")
        };
        timeout(SOON, reading).await.unwrap_or_else(|_| panic!("no {what}"))
    }

    /// Reads until the gateway closes the connection; the reason it gave, if any.
    pub async fn closed(&mut self) -> Option<u32> {
        let reading = async {
            let mut reason = None;
            while let Some(frame) = self.next().await {
                if frame.kind == GOAWAY {
                    reason = frame.payload.get(4..8).and_then(|code| code.first_chunk()).map(|code| u32::from_be_bytes(*code));
                }
            }
            reason
        };
        timeout(SOON, reading).await.expect("the gateway closes the connection")
    }
}
