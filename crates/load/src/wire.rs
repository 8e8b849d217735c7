//! One connection to the server: its socket, and TLS above it. What is read and written here is plaintext.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use wireway_core::sys::set_socket_option;
use wireway_core::tls::{ClientTls, Session};

use crate::options::Address;

/// Of Linux (asm-generic/errno.h): `ErrorKind::InProgress` is not stable.
const EINPROGRESS: i32 = 115;
/// ip(7), IP_BIND_ADDRESS_NO_PORT; of IPv6 sockets too.
const IPPROTO_IP: i32 = 0;
const IP_BIND_ADDRESS_NO_PORT: i32 = 24;
/// Plaintext that is encrypted at once, bytes: what waits in records is not much more.
const SEALED: usize = 64 * 1024;

enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

struct Secured {
    session: Session,
    /// Records that the kernel has not taken, from `taken` on.
    records: Vec<u8>,
    taken: usize,
}

/// The connection.
pub struct Wire {
    kind: Kind,
    tls: Option<Box<Secured>>,
}

/// How far a connection that is being made has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not there yet.
    UnderWay,
    /// It is made.
    Made,
}

impl Wire {
    /// Begins one.
    ///
    /// # Errors
    /// As the kernel says. `WouldBlock`: the listen queue of a Unix socket is full, try again.
    pub fn begin(
        to: &Address,
        source: Option<IpAddr>,
        tls: Option<&(ClientTls, String)>,
    ) -> io::Result<Self> {
        let kind = match to {
            Address::Tcp(address) => Kind::Tcp(begin_tcp(*address, source)?),
            Address::Unix(path) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                socket.set_nonblocking(true)?;
                socket.connect(&SockAddr::unix(path)?)?;
                let socket = StdUnixStream::from(OwnedFd::from(socket));
                Kind::Unix(UnixStream::from_std(socket))
            }
        };
        let tls = match tls {
            None => None,
            Some((config, name)) => {
                let session = Session::client(config, name).map_err(io::Error::other)?;
                Some(Box::new(Secured { session, records: Vec::new(), taken: 0 }))
            }
        };
        Ok(Self { kind, tls })
    }

    /// Watches it, edge-triggered, both ways; events carry `index`.
    pub fn watch(&mut self, registry: &Registry, index: usize) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match &mut self.kind {
            Kind::Tcp(socket) => socket.register(registry, Token(index), both),
            Kind::Unix(socket) => socket.register(registry, Token(index), both),
        }
    }

    /// Goes on making it, when something happened.
    ///
    /// # Errors
    /// It can not be made.
    pub fn make(&mut self, buffer: &mut [u8]) -> io::Result<Progress> {
        let (error, peer) = match &self.kind {
            Kind::Tcp(socket) => (socket.take_error()?, socket.peer_addr().map(drop)),
            Kind::Unix(socket) => (socket.take_error()?, socket.peer_addr().map(drop)),
        };
        if let Some(error) = error {
            return Err(error);
        }
        match peer {
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(Progress::UnderWay),
            other => other?,
        }
        while self.tls.as_ref().is_some_and(|tls| tls.session.is_handshaking()) {
            self.flush()?;
            // Before the end of the handshake no server says anything.
            match self.read(buffer, &mut |_| ()) {
                Ok(0) => return Err(io::Error::other("closed by the server in the TLS handshake")),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Progress::UnderWay);
                }
                Err(error) => return Err(error),
            }
        }
        self.flush()?;
        Ok(Progress::Made)
    }

    /// One read; `plain` gets what came. Bytes of the wire that were read; 0: the server closed.
    ///
    /// # Errors
    /// As the kernel, or TLS, says. `WouldBlock`: there is nothing now.
    pub fn read(&mut self, buffer: &mut [u8], plain: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        let got = loop {
            let got = match &mut self.kind {
                Kind::Tcp(socket) => socket.read(buffer),
                Kind::Unix(socket) => socket.read(buffer),
            };
            match got {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        match &mut self.tls {
            None => {
                if got > 0 {
                    plain(&buffer[..got]);
                }
            }
            Some(tls) => {
                let outcome = if got == 0 {
                    tls.session.end()
                } else {
                    tls.session.receive(&buffer[..got], plain)
                };
                if let Err(error) = outcome {
                    // The alert that tells the server why.
                    let _ = self.flush();
                    return Err(io::Error::other(error.text));
                }
                if tls.session.wants_write() {
                    self.flush()?;
                }
                if self.tls.as_ref().is_some_and(|tls| tls.session.peer_closed()) {
                    return Ok(0);
                }
            }
        }
        Ok(got)
    }

    /// Sends from `bytes`; how many it took.
    ///
    /// # Errors
    /// As the kernel says. `WouldBlock`: it takes none now.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.tls.is_none() {
            return self.write_raw(bytes);
        }
        if !self.flush()? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let taken = bytes.len().min(SEALED);
        if let Some(tls) = &mut self.tls {
            tls.session.send_into(&bytes[..taken], &mut tls.records);
        }
        self.flush()?;
        Ok(taken)
    }

    /// Sends records that wait; whether none is left.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn flush(&mut self) -> io::Result<bool> {
        loop {
            let Some(tls) = &mut self.tls else { return Ok(true) };
            if tls.taken == tls.records.len() {
                tls.records.clear();
                tls.taken = 0;
                if tls.session.outgoing(&mut tls.records) == 0 {
                    return Ok(true);
                }
            }
            let records = std::mem::take(&mut tls.records);
            let from = tls.taken;
            let sent = self.write_raw(&records[from..]);
            let Some(tls) = &mut self.tls else { return Ok(true) };
            tls.records = records;
            match sent {
                Ok(sent) => tls.taken += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Says goodbye, as TLS wants it.
    pub fn say_goodbye(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.session.close();
            let _ = self.flush();
        }
    }

    fn write_raw(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let sent = match &mut self.kind {
                Kind::Tcp(socket) => socket.write(bytes),
                Kind::Unix(socket) => socket.write(bytes),
            };
            match sent {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

fn begin_tcp(to: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        // The port is chosen when the server is known, so that each address has all of them for each server, and ports
        // that wait (TIME_WAIT) are in nobody's way. Kernels before 4.2 choose at once.
        let _ = set_socket_option(socket.as_raw_fd(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
        socket.bind(&SocketAddr::new(source, 0).into()).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => io::Error::new(error.kind(), no_port(Some(source))),
            ErrorKind::AddrNotAvailable => {
                io::Error::new(error.kind(), format!("{source} is no address of this machine"))
            }
            _ => error,
        })?;
    }
    match socket.connect(&to.into()) {
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
            Err(io::Error::new(error.kind(), no_port(source)))
        }
        Err(error) if error.raw_os_error() != Some(EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

fn no_port(source: Option<IpAddr>) -> String {
    let of = source.map_or_else(String::new, |source| format!(" of {source}"));
    format!("no port{of} is free: give more addresses with --ifaddr")
}
