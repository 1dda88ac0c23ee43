//! Connections spread evenly over the cores.
//!
//! The system gives each new connection to one of the cores by a hash (or to whoever asks first), which is even only for many of them: of a few dozen, as
//! a balancer keeps, one core easily gets twice its share. So a core that has more than the one with the fewest hands the connection over to it before
//! anything is read. A little more is let be: handing over costs two turns of an event loop, which a connection of a single call would feel.
//!
//! Connections that end are not made up for by moving others, but by those that come next.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::{net::TcpStream as Stream, sync::mpsc};

/// How many connections more than the core with the fewest a core may have and keep the next.
const SLACK: usize = 1;
/// How many connections may be on their way to a core; with more it is behind already, and they stay where they are.
const INBOX: usize = 1_024;

/// How many connections each core has.
#[derive(Debug)]
pub struct Spread {
    cores: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    open: AtomicUsize,
    inbox: mpsc::Sender<Handed>,
}

/// A core's side of it.
#[derive(Debug)]
pub struct Part {
    /// All cores.
    pub spread: Arc<Spread>,
    /// What others hand over to this one.
    pub inbox: mpsc::Receiver<Handed>,
    /// Which of the cores it is.
    pub number: usize,
}

/// A connection on its way to another core.
#[derive(Debug)]
pub struct Handed {
    /// The socket, of which nothing has been read.
    pub stream: TcpStream,
    /// Its other end.
    pub peer: SocketAddr,
    /// Whether it came in for TLS.
    pub tls: bool,
    /// Its place.
    pub place: Place,
}

/// Counts a connection for a core until it is dropped.
#[derive(Debug)]
pub struct Place {
    spread: Arc<Spread>,
    core: usize,
}

impl Spread {
    /// The parts of so many cores.
    pub fn over(cores: usize) -> Vec<Part> {
        let (senders, inboxes): (Vec<_>, Vec<_>) = (0..cores).map(|_| mpsc::channel(INBOX)).unzip();
        let cores = senders.into_iter().map(|inbox| Slot { open: AtomicUsize::new(0), inbox }).collect();
        let spread = Arc::new(Self { cores });
        inboxes.into_iter().enumerate().map(|(number, inbox)| Part { spread: spread.clone(), inbox, number }).collect()
    }

    /// How many connections are open, those on their way included.
    pub fn open(&self) -> usize {
        self.cores.iter().map(|core| core.open.load(Relaxed)).sum()
    }

    /// A place for a connection that came in at a core: there, or where the fewest are.
    pub fn place(self: &Arc<Self>, here: usize) -> Place {
        let open = |core: usize| self.cores.get(core).map_or(usize::MAX, |slot| slot.open.load(Relaxed));
        let fewest = (0..self.cores.len()).min_by_key(|core| open(*core)).unwrap_or(here);
        self.place_at(if open(here) > open(fewest) + SLACK { fewest } else { here })
    }

    /// A place at a certain core.
    pub fn place_at(self: &Arc<Self>, core: usize) -> Place {
        if let Some(slot) = self.cores.get(core) {
            slot.open.fetch_add(1, Relaxed);
        }
        Place { spread: self.clone(), core }
    }

    /// Hands a connection over to the core of its place.
    ///
    /// # Errors
    /// Gives it back when that core has too many to look at, or takes none any more.
    pub fn hand_over(&self, handed: Handed) -> Result<(), Handed> {
        let Some(slot) = self.cores.get(handed.place.core) else { return Err(handed) };
        slot.inbox.try_send(handed).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(handed) | mpsc::error::TrySendError::Closed(handed) => handed,
        })
    }
}

impl Place {
    /// How many connections are open, this one included.
    pub fn open(&self) -> usize {
        self.spread.open()
    }

    /// Hands the connection over to the core of its place. It comes back, with a place `here`, when it came in there, or when that core takes none now.
    ///
    /// # Errors
    /// When the socket cannot leave its event loop.
    pub fn elsewhere(self, here: usize, stream: Stream, peer: SocketAddr, tls: bool) -> io::Result<Option<(Stream, Self)>> {
        if self.core == here {
            return Ok(Some((stream, self)));
        }
        let spread = self.spread.clone();
        match spread.hand_over(Handed { stream: stream.into_std()?, peer, tls, place: self }) {
            Ok(()) => Ok(None),
            Err(back) => Ok(Some((Stream::from_std(back.stream)?, spread.place_at(here)))),
        }
    }

    /// The core whose place it is.
    pub fn core(&self) -> usize {
        self.core
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(slot) = self.spread.cores.get(self.core) {
            slot.open.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_goes_where_the_fewest_are() {
        let parts = Spread::over(4);
        let spread = &parts[0].spread;
        // All of them come in at one core.
        let mut places: Vec<Place> = (0..42).map(|_| spread.place(2)).collect();
        let counts = |places: &[Place]| (0..4).map(|core| places.iter().filter(|place| place.core() == core).count()).collect::<Vec<_>>();
        let spread_out = counts(&places);
        assert!(spread_out.iter().all(|count| (10..=12).contains(count)), "{spread_out:?}");
        assert_eq!(spread.open(), 42);
        places.retain(|place| place.core() != 0);
        assert_eq!(spread.open(), 42 - spread_out[0], "places come back");
        places.extend((0..spread_out[0]).map(|_| spread.place(2)));
        let refilled = counts(&places);
        assert!(refilled[0] >= 9, "those that come next fill the gap: {refilled:?}");
        assert_eq!(spread.place(1).core(), 1, "where nobody has more, a connection stays where it came in");
    }

    #[test]
    fn a_core_that_takes_none_any_more_gives_them_back() {
        let mut parts = Spread::over(2);
        let spread = parts[0].spread.clone();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let peer = listener.local_addr().expect("an address");
        let stream = || TcpStream::connect(peer).expect("a connection");
        let handed = || Handed { stream: stream(), peer, tls: false, place: spread.place_at(1) };
        assert!(spread.hand_over(handed()).is_ok());
        parts[1].inbox.close();
        assert!(spread.hand_over(handed()).is_err());
        assert!(parts[1].inbox.try_recv().is_ok(), "what was on its way arrives");
        assert_eq!(spread.open(), 0);
    }
}
