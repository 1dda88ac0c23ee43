//! How a core leaves without failing a call.
//!
//! From the moment a stop is asked for, the gateway is not ready, so that balancers send new callers elsewhere. Then, in order:
//!
//! 1. For `drain_delay` it accepts and answers as before. Connections are told to end one by one over that time, so that callers who come back are not
//!    all connecting at once: HTTP/1.1 by `Connection: close` on an answer, HTTP/2 by GOAWAY, which names no last stream before a round trip has passed.
//! 2. Listeners take no new handshake. Those under way are completed and served, then the listeners close; from here on callers are refused.
//! 3. For [`IDLE_GRACE`] connections that have been silent may still ask, and get their answer, the last of the connection.
//! 4. WebSockets are told 1001, and connections are closed once they have been silent for [`IDLE_GRACE`]: they would not end by themselves. Whoever got
//!    an answer that began before its connection was told, and so said nothing of an end, may still ask within that time.
//! 5. Open exchanges go on until `drain_timeout` after the stop, then they are ended.
//!
//! What remains is a caller whose request crosses with the close of a connection on which it was silent for [`IDLE_GRACE`]. HTTP/1.1 has no answer to
//! that but the caller's own retry (RFC 9112, 9.3.1).

use std::{cell::Cell, io, rc::Rc, time::Duration};

use socket2::SockRef;
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{Instant, sleep_until},
};

/// How long handshakes that are under way may take once listeners take no new ones.
pub const HANDSHAKE_GRACE: Duration = Duration::from_millis(100);
/// How long silent connections may still ask after the listeners have closed, and after their last answer.
pub const IDLE_GRACE: Duration = Duration::from_secs(1);

/// How far a core is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It serves.
    Serving,
    /// Connections are told to end, spread over the time until then.
    Leaving {
        /// When all have been told.
        until: Instant,
    },
    /// Every answer is the last of its connection.
    LastAnswers,
    /// Connections are closed that have been silent for a while.
    Closing,
}

/// What a connection is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The next answer, or the one under way, is the last.
    LastAnswer,
    /// The connection ends once it has been silent for [`IDLE_GRACE`].
    Close,
}

/// A core's phases, and how its connections share the time in which they are told.
#[derive(Debug)]
pub struct Drain {
    phase: watch::Sender<Phase>,
    calm: Rc<Cell<bool>>,
    told: Cell<u32>,
}

impl Default for Drain {
    fn default() -> Self {
        Self { phase: watch::Sender::new(Phase::Serving), calm: Rc::new(Cell::new(true)), told: Cell::new(0) }
    }
}

impl Drain {
    /// Enters the next phase.
    pub fn enter(&self, phase: Phase) {
        self.calm.set(phase == Phase::Serving);
        self.phase.send_replace(phase);
    }

    /// What one connection holds while it is open.
    pub fn notice(&self) -> Notice {
        let count = self.told.get().wrapping_add(1);
        self.told.set(count);
        // Multiples of the golden ratio, as fractions, are spread evenly however many are taken.
        let share = f64::from(count.wrapping_mul(0x9e37_79b9)) / f64::from(u32::MAX);
        Notice { phase: self.phase.subscribe(), calm: self.calm.clone(), share, told: None }
    }

    /// Waits until no connection holds a notice.
    pub async fn connections_ended(&self) {
        self.phase.closed().await;
    }
}

/// Tells one connection when to end.
#[derive(Debug)]
pub struct Notice {
    phase: watch::Receiver<Phase>,
    calm: Rc<Cell<bool>>,
    /// Which part of the time of telling passes before this connection is told.
    share: f64,
    told: Option<Order>,
}

impl Notice {
    /// Whether the core serves as ever, so that there is no word for anybody: a flag that costs nothing to look at.
    pub fn calm(&self) -> Rc<Cell<bool>> {
        self.calm.clone()
    }

    /// Waits until idle connections are closed.
    pub async fn closing(&self) {
        let mut phase = self.phase.clone();
        // A core that is gone has closed everything.
        let _ = phase.wait_for(|phase| *phase == Phase::Closing).await;
    }

    /// The next order; each is given once, and after the last one nothing comes. May be dropped and called again.
    pub async fn next(&mut self) -> Order {
        loop {
            let phase = *self.phase.borrow_and_update();
            let order = match (phase, self.told) {
                (Phase::Closing, told) if told != Some(Order::Close) => {
                    // What has arrived until now is seen by the connection before it is closed.
                    tokio::task::yield_now().await;
                    Some(Order::Close)
                }
                (Phase::LastAnswers, None) => Some(Order::LastAnswer),
                (Phase::Leaving { until }, None) => {
                    let left = until.saturating_duration_since(Instant::now());
                    tokio::select! {
                        () = sleep_until(until - left.mul_f64(1.0 - self.share)) => Some(Order::LastAnswer),
                        changed = self.phase.changed() => stays(changed).await,
                    }
                }
                _ => stays(self.phase.changed().await).await,
            };
            if let Some(order) = order {
                self.told = Some(order);
                return order;
            }
        }
    }
}

/// A core that is gone changes nothing any more.
async fn stays(changed: Result<(), watch::error::RecvError>) -> Option<Order> {
    if changed.is_err() {
        std::future::pending::<()>().await;
    }
    None
}

/// Takes no new handshake on a listener, while those under way go on. Callers who begin one meanwhile hear nothing; they ask again within a second and are
/// refused then, or reach another process on the port.
///
/// # Errors
/// When the system does not take the filter.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn refuse_handshakes(listener: &TcpListener) -> io::Result<()> {
    use socket2::SockFilter;
    /// Loads one byte of the TCP header; masks it; compares it; gives a verdict: how many bytes of the segment are kept.
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    /// Where the flags are (RFC 9293, 3.1), and two of them.
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

/// Elsewhere a handshake may be cut off by the close of the listener.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn refuse_handshakes(listener: &TcpListener) -> io::Result<()> {
    let _ = SockRef::from(listener);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connections_are_told_one_by_one_and_each_order_once() {
        let drain = Drain::default();
        let begin = Instant::now();
        drain.enter(Phase::Leaving { until: begin + Duration::from_secs(10) });
        let mut notices: Vec<Notice> = (0..100).map(|_| drain.notice()).collect();
        let mut told = [0_usize; 10];
        for notice in &notices {
            assert!((0.0..=1.0).contains(&notice.share));
            told[((notice.share * 10.0) as usize).min(9)] += 1;
        }
        assert!(told.iter().all(|count| (8..=12).contains(count)), "{told:?}");
        let mut notice = notices.pop().expect("a notice");
        assert_eq!(notice.next().await, Order::LastAnswer);
        let waited = begin.elapsed().as_secs_f64();
        assert!((waited - notice.share * 10.0).abs() < 0.1, "{waited} of {}", notice.share);
        drain.enter(Phase::LastAnswers);
        drain.enter(Phase::Closing);
        assert_eq!(notice.next().await, Order::Close);
        let more = tokio::time::timeout(Duration::from_secs(60), notice.next()).await;
        assert!(more.is_err(), "nothing after the last order");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn handshakes_are_refused_and_those_made_before_are_served() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let _made = tokio::net::TcpStream::connect(address).await.expect("a connection");
        refuse_handshakes(&listener).expect("a filter");
        let late = tokio::spawn(tokio::net::TcpStream::connect(address));
        listener.accept().await.expect("the connection that was made before");
        let more = tokio::time::timeout(HANDSHAKE_GRACE, listener.accept()).await;
        assert!(more.is_err(), "no other connection came up");
        drop(listener);
        let refused = late.await.expect("no panic").expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_connection_is_told_at_once() {
        let drain = Drain::default();
        drain.enter(Phase::LastAnswers);
        let mut notice = drain.notice();
        assert_eq!(notice.next().await, Order::LastAnswer);
        drain.enter(Phase::Closing);
        assert_eq!(notice.next().await, Order::Close);
    }
}
