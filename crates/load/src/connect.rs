//! Making the connections: many under way at once, or so many a second.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::options::Options;
use crate::run::{Conn, Shared};

/// Connections that are being made at once, without a rate.
const AT_ONCE: usize = 128;

fn begin_connect(to: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(libc_einprogress()) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// EINPROGRESS of Linux (asm-generic/errno.h): `ErrorKind::InProgress` is not stable.
const fn libc_einprogress() -> i32 {
    115
}

/// Makes them; what went wrong is counted in `errors`.
pub fn connect(
    options: &Options,
    shared: &Shared,
    poll: &mut Poll,
    errors: &mut BTreeMap<String, u64>,
) -> io::Result<Vec<Conn>> {
    let mut conns: Vec<Conn> = Vec::with_capacity(options.connections);
    let mut pending: VecDeque<(usize, Instant)> = VecDeque::new();
    let mut waiting = vec![];
    let mut events = Events::with_capacity(1024);
    let began = Instant::now();
    let (mut begun, mut settled, mut last) = (0, 0, None);
    while settled < options.connections && !shared.stop.load(Ordering::Relaxed) {
        let allowed = options
            .connect_rate
            .map_or(settled + AT_ONCE, |rate| (began.elapsed().as_secs_f64() * rate) as usize + 1)
            .min(options.connections);
        while begun < allowed {
            let source = options.sources.get(begun % options.sources.len().max(1)).copied();
            match begin_connect(options.address, source) {
                Ok(mut socket) => {
                    let both = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut socket, Token(waiting.len()), both)?;
                    pending.push_back((waiting.len(), Instant::now()));
                    waiting.push(Some(socket));
                }
                Err(error) => {
                    settled += 1;
                    *errors.entry(format!("connect: {error}")).or_default() += 1;
                    last = Some(error);
                }
            }
            begun += 1;
        }
        poll.poll(&mut events, Some(Duration::from_millis(1)))?;
        for event in &events {
            let index = event.token().0;
            let Some(socket) = waiting.get_mut(index).and_then(Option::take) else { continue };
            let outcome = match socket.take_error() {
                Ok(None) => match socket.peer_addr() {
                    Err(error) if error.kind() == ErrorKind::NotConnected => {
                        waiting[index] = Some(socket);
                        continue;
                    }
                    other => other.map(|_| ()),
                },
                Ok(Some(error)) | Err(error) => Err(error),
            };
            settled += 1;
            match outcome {
                Ok(()) => {
                    shared.connected.fetch_add(1, Ordering::Relaxed);
                    waiting[index] = Some(socket);
                }
                Err(error) => {
                    *errors.entry(format!("connect: {error}")).or_default() += 1;
                    last = Some(error);
                }
            }
        }
        while let Some(&(index, at)) = pending.front() {
            let made = waiting[index].as_ref().is_none_or(|socket| socket.peer_addr().is_ok());
            if !made && at.elapsed() < options.connect_timeout {
                break;
            }
            pending.pop_front();
            if !made {
                waiting[index] = None;
                settled += 1;
                *errors.entry("connect: timed out".to_owned()).or_default() += 1;
                last = Some(io::Error::from(ErrorKind::TimedOut));
            }
        }
    }
    for mut socket in waiting.into_iter().flatten() {
        if socket.peer_addr().is_err() {
            continue;
        }
        // Anew, so that its events carry its place among the connections.
        poll.registry().reregister(
            &mut socket,
            Token(conns.len()),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        conns.push(Conn::new(socket));
    }
    if conns.is_empty() {
        return Err(last.unwrap_or_else(|| io::Error::from(ErrorKind::Interrupted)));
    }
    Ok(conns)
}
