//! Every system call of the generator, and all of its `unsafe`.
//!
//! Owns descriptors (`Socket`, `Epoll`) and errors. Knows no workload.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// What epoll reports for one descriptor.
pub type Event = libc::epoll_event;

/// Ready to read.
pub const READ: u32 = libc::EPOLLIN as u32;
/// Ready to write.
pub const WRITE: u32 = libc::EPOLLOUT as u32;
/// Tell changes only, not what lasts.
pub const EDGE: u32 = libc::EPOLLET as u32;
/// The peer is gone, or an error waits.
pub const GONE: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn count(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Nanoseconds on the monotonic clock.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing; CLOCK_MONOTONIC exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}

/// Raise the limit of open descriptors as far as allowed, and return it.
pub fn raise_descriptor_limit(wanted: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for reading and writing in both calls.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        if limit.rlim_cur < wanted {
            let asked = libc::rlimit { rlim_cur: wanted, rlim_max: limit.rlim_max.max(wanted) };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &asked) < 0 {
                let most = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
                libc::setrlimit(libc::RLIMIT_NOFILE, &most);
            }
            libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        }
    }
    limit.rlim_cur
}

/// Stay on one core.
pub fn pin(core: usize) -> io::Result<()> {
    // SAFETY: an all-zero cpu_set_t is the empty set; CPU_SET checks its index; the size is that of the set.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    check(result).map(drop)
}

/// A non-blocking TCP socket of the client side.
pub struct Socket(OwnedFd);

impl Socket {
    /// Begin to connect. The result comes as writability.
    ///
    /// `source` spreads connections over several loopback addresses, so that ports do not run out.
    pub fn connect(to: SocketAddrV4, source: Option<Ipv4Addr>) -> io::Result<Self> {
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::socket(libc::AF_INET, kind, 0) })?;
        // SAFETY: `fd` was just made and has no other owner.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        socket.option(libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
        if let Some(address) = source {
            // The port is chosen at connect, where the four-tuple counts and not the port alone.
            socket.option(libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
            let name = name_of(SocketAddrV4::new(address, 0));
            // SAFETY: `name` is a sockaddr_in of that size.
            check(unsafe { libc::bind(fd, (&raw const name).cast(), size_of_val(&name) as u32) })?;
        }
        let name = name_of(to);
        // SAFETY: `name` is a sockaddr_in of that size.
        let result = check(unsafe {
            libc::connect(fd, (&raw const name).cast(), size_of_val(&name) as u32)
        });
        match result {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(socket),
        }
    }

    /// The outcome of `connect`, or a later error of the connection.
    pub fn take_error(&self) -> io::Result<()> {
        let (mut error, mut size) = (0i32, size_of::<i32>() as u32);
        // SAFETY: `error` and `size` are valid for writing and `size` is that of `error`.
        check(unsafe {
            libc::getsockopt(
                self.fd(),
                libc::SOL_SOCKET,
                libc::SO_ERROR,
                (&raw mut error).cast(),
                &mut size,
            )
        })?;
        if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
    }

    /// Close with RST instead of FIN, which leaves no TIME_WAIT behind.
    pub fn reset_on_close(&self) -> io::Result<()> {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        // SAFETY: `linger` is a struct linger of that size.
        check(unsafe {
            let size = size_of_val(&linger) as u32;
            libc::setsockopt(
                self.fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                size,
            )
        })
        .map(drop)
    }

    fn option(&self, level: i32, name: i32, value: i32) -> io::Result<()> {
        // SAFETY: `value` is an int of that size.
        check(unsafe {
            libc::setsockopt(
                self.fd(),
                level,
                name,
                (&raw const value).cast(),
                size_of::<i32>() as u32,
            )
        })
        .map(drop)
    }

    /// Receive into `buffer`. `Ok(0)` is the end of the stream.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the pointer and the length are those of `buffer`.
        count(unsafe { libc::recv(self.fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) })
    }

    /// Receive up to `most` bytes and drop them: TCP does that without copying.
    pub fn discard(&self, most: usize) -> io::Result<usize> {
        // SAFETY: with MSG_TRUNC a TCP socket writes nothing to the buffer, which may be null (tcp(7)).
        count(unsafe { libc::recv(self.fd(), std::ptr::null_mut(), most, libc::MSG_TRUNC) })
    }

    /// Send from `bytes`, as much as fits.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        // SAFETY: the pointer and the length are those of `bytes`.
        count(unsafe {
            libc::send(self.fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL)
        })
    }

    fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn name_of(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

/// An epoll instance.
pub struct Epoll(OwnedFd);

impl Epoll {
    /// A new, empty one.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: `fd` was just made and has no other owner.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Watch a socket for `interest`; `index` comes back with its events. A closed socket leaves by itself.
    pub fn add(&self, socket: &Socket, interest: u32, index: usize) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket, interest, index)
    }

    /// Change what a socket is watched for.
    pub fn change(&self, socket: &Socket, interest: u32, index: usize) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, socket, interest, index)
    }

    fn control(&self, verb: i32, socket: &Socket, interest: u32, index: usize) -> io::Result<()> {
        let mut event = Event { events: interest, u64: index as u64 };
        // SAFETY: `event` is valid for reading.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), verb, socket.fd(), &mut event) })
            .map(drop)
    }

    /// Wait up to `milliseconds` and fill `events`; the number filled.
    pub fn wait(&self, events: &mut [Event], milliseconds: i32) -> io::Result<usize> {
        // SAFETY: the pointer and the length are those of `events`.
        let result = check(unsafe {
            libc::epoll_wait(
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                events.len() as i32,
                milliseconds,
            )
        });
        match result {
            Ok(filled) => Ok(filled as usize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// An event to fill.
pub const EMPTY: Event = Event { events: 0, u64: 0 };

/// Whether an operation only has to wait.
pub fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
