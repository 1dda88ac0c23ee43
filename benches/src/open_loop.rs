//! Calls at a fixed rate, whether answers come or not. One thread that never sleeps asks at moments that do not depend on answers, and measures each answer
//! from the moment it was to be asked for: a call that had to wait for a free connection has waited.
//!
//! The moments are a Poisson process, as those of many independent callers are. `h2load --rps` would be no measure of this: it asks for what is due once in
//! ten milliseconds, so that half the rate of a proxy is 5 ms of all it can and 5 ms of rest, and every latency one of a queue that the load made.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    fd::OwnedFd,
};
use serde::{Deserialize, Serialize};

use crate::peers::ANSWER_BYTES;

/// What comes before the calls that count, so that they find the proxy as it is in use: each of ten thousand keys has been used again, and what piled up
/// behind its lease is answered.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long answers may take before the measurement fails.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// How every answer begins.
const OK: &[u8] = b"HTTP/1.1 200";
/// How many bytes are read at once: an answer and its fields.
const BUFFER_BYTES: usize = 4_096;

/// Latencies at a fixed rate, in microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Latencies {
    /// The median.
    pub p50: u64,
    /// Of a hundred, one is slower.
    pub p99: u64,
    /// Of a thousand, one is slower.
    pub p999: u64,
}

/// What is asked, and how.
#[derive(Debug)]
pub struct OpenLoop<'a> {
    /// Requests as they are written, taken in turns.
    pub requests: &'a [String],
    /// Connections.
    pub connections: usize,
    /// Calls in a second.
    pub rate: f64,
    /// Whether the thread has a core of its own, on which it never sleeps.
    pub spins: bool,
}

/// A connection: free, or with a call.
struct Caller {
    stream: TcpStream,
    due: Option<Instant>,
    answer: Vec<u8>,
}

/// A run.
struct Calls<'a> {
    requests: std::iter::Cycle<std::slice::Iter<'a, String>>,
    callers: Vec<Caller>,
    free: VecDeque<usize>,
    /// Moments at which calls were due that no connection was free for.
    late: VecDeque<Instant>,
    buffer: [u8; BUFFER_BYTES],
    /// Each call's moment and latency.
    answered: Vec<(Instant, Duration)>,
}

impl OpenLoop<'_> {
    /// Calls for so long, behind a warm-up.
    ///
    /// # Errors
    /// When a connection breaks, or an answer is not 200 or does not come.
    pub fn run(&self, address: SocketAddr, duration: Duration) -> anyhow::Result<Latencies> {
        let poll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut calls = self.connect(address, &poll)?;
        let mut moments = Moments { rate: self.rate, state: 0x9e37_79b9_7f4a_7c15 };
        let begin = Instant::now();
        let (counts, end) = (begin + WARM_UP, begin + WARM_UP + duration);
        let mut due = begin + moments.gap();
        let mut events: Vec<Event> = Vec::with_capacity(self.connections);
        while due < end || calls.open() {
            let now = Instant::now();
            if now > end + ANSWERED_WITHIN {
                bail!("answers did not come within {ANSWERED_WITHIN:?}");
            }
            while due <= now && due < end {
                calls.late.push_back(due);
                due += moments.gap();
            }
            calls.ask()?;
            let rest = if self.spins { Duration::ZERO } else { due.saturating_duration_since(Instant::now()) };
            events.clear();
            epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&Timespec::try_from(rest)?))?;
            for event in &events {
                calls.read(event.data.u64() as usize)?;
            }
        }
        let mut micros: Vec<u128> = calls.answered.iter().filter(|(due, _)| *due >= counts).map(|(_, took)| took.as_micros()).collect();
        micros.sort_unstable();
        let share = |per_mille: usize| micros.get(micros.len() * per_mille / 1_000).map(|micros| *micros as u64);
        let all = || Some(Latencies { p50: share(500)?, p99: share(990)?, p999: share(999)? });
        all().context("nothing was measured")
    }

    fn connect(&self, address: SocketAddr, poll: &OwnedFd) -> anyhow::Result<Calls<'_>> {
        let mut callers = Vec::with_capacity(self.connections);
        for number in 0..self.connections {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(poll, &stream, EventData::new_u64(number as u64), EventFlags::IN)?;
            callers.push(Caller { stream, due: None, answer: Vec::with_capacity(BUFFER_BYTES) });
        }
        Ok(Calls {
            requests: self.requests.iter().cycle(),
            callers,
            free: (0..self.connections).collect(),
            late: VecDeque::new(),
            buffer: [0; BUFFER_BYTES],
            answered: Vec::new(),
        })
    }
}

impl Calls<'_> {
    /// Whether a call waits, for a connection or its answer.
    fn open(&self) -> bool {
        !self.late.is_empty() || self.free.len() < self.callers.len()
    }

    /// Asks for what is due, as far as connections are free.
    fn ask(&mut self) -> anyhow::Result<()> {
        while !self.late.is_empty()
            && let Some(number) = self.free.pop_front()
        {
            let caller = &mut self.callers[number];
            caller.due = self.late.pop_front();
            let request = self.requests.next().context("there are no requests")?;
            // A request is small beside what a socket takes: it goes whole, or the connection is broken.
            let written = caller.stream.write(request.as_bytes()).context("a call could not be made")?;
            anyhow::ensure!(written == request.len(), "a request did not fit into its socket");
        }
        Ok(())
    }

    /// Reads what there is on a connection.
    fn read(&mut self, number: usize) -> anyhow::Result<()> {
        let caller = &mut self.callers[number];
        match caller.stream.read(&mut self.buffer) {
            Ok(0) => bail!("a connection was closed"),
            Ok(count) => caller.answer.extend_from_slice(&self.buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("a connection broke"),
        }
        let answer = &caller.answer;
        if !answer.starts_with(&OK[..answer.len().min(OK.len())]) {
            bail!("a call was answered with {}", String::from_utf8_lossy(answer));
        }
        let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        if let Some(head) = head
            && answer.len() >= head + 4 + ANSWER_BYTES
        {
            let due = caller.due.take().context("an answer to nothing")?;
            self.answered.push((due, due.elapsed()));
            caller.answer.clear();
            self.free.push_back(number);
        }
        Ok(())
    }
}

/// Gaps of a Poisson process, the same in each run.
struct Moments {
    rate: f64,
    state: u64,
}

impl Moments {
    fn gap(&mut self) -> Duration {
        // Marsaglia, "Xorshift RNGs", 2003.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let share = ((self.state >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
        Duration::from_secs_f64(-share.ln() / self.rate)
    }
}
