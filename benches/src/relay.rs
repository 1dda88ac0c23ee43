//! The floor for any proxy on a machine: bytes go from one socket to the other and are never looked at. One thread, level-triggered epoll, one
//! upstream connection for each connection of a caller.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    rc::Rc,
};

use anyhow::Context as _;
use rustix::{
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    io::retry_on_intr,
};

/// The token of the listener; no socket has this number.
const LISTENER: u64 = u64::MAX;
/// How many bytes are carried at once.
const BUFFER_BYTES: usize = 65_536;

/// Carries bytes until the process is ended.
///
/// # Errors
/// When it cannot listen.
pub fn run(listen: SocketAddr, upstream: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("the relay cannot listen on {listen}"))?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    // Even places read from callers, odd ones from upstreams; each pair's places stand side by side.
    let mut ends: Vec<Option<(Rc<TcpStream>, Rc<TcpStream>)>> = Vec::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        // Who stood still is told so.
        retry_on_intr(|| epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None))?;
        for event in &events {
            let token = event.data.u64();
            if token == LISTENER {
                let caller = Rc::new(listener.accept()?.0);
                let server = Rc::new(TcpStream::connect(upstream)?);
                caller.set_nodelay(true)?;
                server.set_nodelay(true)?;
                let place = ends.len() as u64;
                epoll::add(&poll, &*caller, EventData::new_u64(place), EventFlags::IN)?;
                epoll::add(&poll, &*server, EventData::new_u64(place + 1), EventFlags::IN)?;
                ends.push(Some((caller.clone(), server.clone())));
                ends.push(Some((server, caller)));
                continue;
            }
            let place = token as usize;
            let Some((from, to)) = &ends[place] else { continue };
            let carried = (&**from).read(&mut buffer).and_then(|count| (&**to).write_all(&buffer[..count]).map(|()| count));
            if carried.unwrap_or(0) == 0 {
                // Without their last owner both sockets are closed, which takes them out of the poll.
                ends[place] = None;
                ends[place ^ 1] = None;
            }
        }
    }
}
