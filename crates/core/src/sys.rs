//! Every system call of the crate, and nearly all of its `unsafe`.
//!
//! Each function is the call with a safe signature: slices for pointers, `io::Result` for errno,
//! `OwnedFd` for what must be closed. EINTR is retried where nothing could have changed. No policy.
//!
//! Long because: all of a program's dealings with its kernel are worth having on one page.

use std::io::{self, IoSlice};
use std::mem::{MaybeUninit, size_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::op::SocketAddress;

pub mod info;
pub(crate) mod signals;

/// Turns the C convention (-1 and errno) into a `Result`.
#[inline]
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[inline]
fn check_size(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[inline]
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            other => return other,
        }
    }
}

/// Whether an error only says "not now" (EAGAIN).
#[inline]
pub fn would_block(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EAGAIN)
}

/// A timeout as `struct timespec`; `None` stays `None`, for "until something happens".
pub(crate) fn timespec(timeout: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(timeout.subsec_nanos() as i32),
    }
}

// --- streams -----------------------------------------------------------------------------------

/// `recv(2)`, never blocking.
#[inline]
pub fn recv(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    retry(|| {
        // SAFETY: the pointer and length describe `buffer`, which is writable and lives through the call.
        check_size(unsafe {
            libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
        })
    })
}

/// `send(2)`, never blocking, never raising SIGPIPE.
#[inline]
pub fn send(fd: RawFd, data: &[u8]) -> io::Result<usize> {
    retry(|| {
        // SAFETY: the pointer and length describe `data`, which lives through the call.
        check_size(unsafe {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            libc::send(fd, data.as_ptr().cast(), data.len(), flags)
        })
    })
}

/// `sendmsg(2)` of several pieces, never blocking, never raising SIGPIPE.
pub fn send_slices(fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut message = empty_message();
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len() as _;
    retry(|| {
        // SAFETY: `IoSlice` is documented to have the layout of `iovec`; the slices outlive the call,
        // and sendmsg does not write through `msg_iov`.
        check_size(unsafe { libc::sendmsg(fd, &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) })
    })
}

/// `accept4(2)`: the new socket is non-blocking and close-on-exec.
#[inline]
pub fn accept(fd: RawFd) -> io::Result<OwnedFd> {
    retry(|| {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: null address pointers are allowed: the address is not wanted.
        let new =
            check(unsafe { libc::accept4(fd, std::ptr::null_mut(), std::ptr::null_mut(), flags) })?;
        // SAFETY: accept4 just made this descriptor and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(new) })
    })
}

/// `connect(2)` on a non-blocking socket: `EINPROGRESS` means that it goes on.
///
/// EINTR is not retried: the connect then goes on in the background, as after EINPROGRESS.
pub fn connect(fd: RawFd, address: &SocketAddress) -> io::Result<()> {
    let storage = (&raw const address.storage).cast();
    // SAFETY: `storage` holds `length` initialised bytes of a socket address.
    check(unsafe { libc::connect(fd, storage, address.length) }).map(drop)
}

/// `shutdown(2)` of the sending half: the peer reads end of stream after what was sent.
pub fn shutdown_write(fd: RawFd) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::shutdown(fd, libc::SHUT_WR) }).map(drop)
}

/// Takes the pending error of a socket (`SO_ERROR`). Reading it clears it: ask once and keep it.
pub fn take_error(fd: RawFd) -> io::Result<()> {
    match socket_option(fd, libc::SOL_SOCKET, libc::SO_ERROR)? {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// `getsockopt(2)` of an `int`.
pub fn socket_option(fd: RawFd, level: i32, name: i32) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` has room for the `length` bytes that the kernel may write.
    check(unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut length) })?;
    Ok(value)
}

/// `setsockopt(2)` of an `int`.
pub fn set_socket_option(fd: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointer and length describe `value`.
    check(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), length) }).map(drop)
}

// --- addresses ---------------------------------------------------------------------------------

impl From<SocketAddr> for SocketAddress {
    fn from(address: SocketAddr) -> Self {
        // SAFETY: `sockaddr_storage` is plain bytes; all-zero is valid.
        let mut storage: libc::sockaddr_storage = unsafe { MaybeUninit::zeroed().assume_init() };
        let place = &raw mut storage;
        let length = match address {
            SocketAddr::V4(v4) => {
                let raw = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                };
                // SAFETY: `sockaddr_storage` is large and aligned enough for every address family.
                unsafe { place.cast::<libc::sockaddr_in>().write(raw) };
                size_of::<libc::sockaddr_in>()
            }
            SocketAddr::V6(v6) => {
                let raw = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                };
                // SAFETY: as above.
                unsafe { place.cast::<libc::sockaddr_in6>().write(raw) };
                size_of::<libc::sockaddr_in6>()
            }
        };
        Self { storage, length: length as libc::socklen_t }
    }
}

impl SocketAddress {
    /// The IP address and port, unless it is of another family.
    pub fn ip(&self) -> Option<SocketAddr> {
        let place = &raw const self.storage;
        match i32::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the family says what is stored; the storage is aligned for it.
                let raw = unsafe { place.cast::<libc::sockaddr_in>().read() };
                let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let raw = unsafe { place.cast::<libc::sockaddr_in6>().read() };
                let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
                let port = u16::from_be(raw.sin6_port);
                Some(SocketAddrV6::new(ip, port, raw.sin6_flowinfo, raw.sin6_scope_id).into())
            }
            _ => None,
        }
    }

    /// The address in the kernel's form: family and what follows, for a caller that decodes it.
    pub fn bytes(&self) -> &[u8] {
        let length = (self.length as usize).min(size_of::<libc::sockaddr_storage>());
        // SAFETY: the storage is initialised plain bytes and `length` is within it.
        unsafe { std::slice::from_raw_parts((&raw const self.storage).cast(), length) }
    }
}

type NameCall =
    unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

fn name(fd: RawFd, call: NameCall) -> io::Result<SocketAddress> {
    // SAFETY: `sockaddr_storage` is plain bytes; all-zero is valid.
    let mut storage: libc::sockaddr_storage = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: `storage` has room for the `length` bytes that the kernel may write.
    check(unsafe { call(fd, (&raw mut storage).cast(), &raw mut length) })?;
    Ok(SocketAddress { storage, length })
}

/// `getpeername(2)`.
pub fn peer_name(fd: RawFd) -> io::Result<SocketAddress> {
    name(fd, libc::getpeername)
}

/// `getsockname(2)`.
pub fn local_name(fd: RawFd) -> io::Result<SocketAddress> {
    name(fd, libc::getsockname)
}

// --- waking a loop -----------------------------------------------------------------------------

/// An `eventfd(2)` with a flag in front, so that a thousand wakes before the loop looks cost one write.
pub struct Event {
    fd: OwnedFd,
    raised: AtomicBool,
}

impl Event {
    /// A lowered event.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: eventfd just made this descriptor and nobody else knows it.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, raised: AtomicBool::new(false) })
    }

    /// Makes the descriptor readable, unless it already is. Any thread; not from a signal handler.
    pub fn raise(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            let one = 1u64;
            // SAFETY: eight readable bytes, as eventfd wants. It can only fail when the counter is
            // full, and then the descriptor is readable already.
            unsafe { libc::write(self.fd.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
        }
    }

    /// Makes the descriptor unreadable again. Whatever was raised before must be looked at after.
    pub fn lower(&self) {
        // The flag first: a raise that comes between the two lines writes again, or is read here and
        // looked at by the caller. The other way round it would be lost.
        self.raised.store(false, Ordering::Release);
        let mut count = 0u64;
        // SAFETY: room for the eight bytes that eventfd gives. EAGAIN means that it was not raised.
        unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
    }
}

impl AsRawFd for Event {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

// --- processes and threads -----------------------------------------------------------------------

static FORKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// How many forks separate this process from the one that loaded the library.
///
/// A child shares the kernel objects of its parent's loop (an epoll set, a ring): it must not take
/// its parent's descriptors out of them. Compare with the number kept when the driver was made.
pub fn fork_generation() -> u32 {
    static ONCE: std::sync::Once = std::sync::Once::new();
    // SAFETY: `count_fork` only touches an atomic, which is allowed in a forked child.
    ONCE.call_once(|| unsafe {
        libc::pthread_atfork(None, None, Some(count_fork));
    });
    FORKS.load(Ordering::Relaxed)
}

/// The kernel's number of the calling thread.
pub fn thread_id() -> libc::pid_t {
    // SAFETY: no arguments, can not fail.
    unsafe { libc::gettid() }
}

/// CLOCK_MONOTONIC in seconds, the clock of `time.monotonic()`.
#[inline]
pub fn monotonic() -> f64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is writable; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}

/// CLOCK_MONOTONIC_COARSE in seconds: the time of the last tick of the kernel, 1 to 10 ms ago. It costs a fifth of
/// [`monotonic`]. The difference of two is on average right, however short the time between them: a short one sees a
/// tick as seldom as it is short.
#[inline]
pub fn last_tick() -> f64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is writable; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}

// --- epoll -------------------------------------------------------------------------------------

/// `epoll_create1(2)`, close-on-exec.
pub(crate) fn epoll_create() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: epoll_create1 just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `epoll_ctl(2)`.
pub(crate) fn epoll_control(
    epoll: RawFd,
    verb: i32,
    fd: RawFd,
    events: u32,
    data: u64,
) -> io::Result<()> {
    let mut event = libc::epoll_event { events, u64: data };
    // SAFETY: `event` lives through the call.
    check(unsafe { libc::epoll_ctl(epoll, verb, fd, &raw mut event) }).map(drop)
}

/// `epoll_pwait2(2)`, to the nanosecond; where a filter or an old kernel forbids it, `epoll_wait(2)`,
/// rounded up to the millisecond so that a timer is never early. EINTR is no event.
pub(crate) fn epoll_wait(
    epoll: RawFd,
    events: &mut [libc::epoll_event],
    timeout: Option<Duration>,
) -> io::Result<usize> {
    static COARSE: AtomicBool = AtomicBool::new(false);
    let capacity = events.len() as libc::c_int;
    let result = loop {
        let count = match timeout {
            Some(timeout) if !timeout.is_zero() && !COARSE.load(Ordering::Relaxed) => {
                let spec = timespec(timeout);
                // SAFETY: `events` has room for `capacity` reports and `spec` lives through the call;
                // a null signal mask is allowed. By number, for glibc before 2.35 has no wrapper.
                let count = unsafe {
                    libc::syscall(
                        libc::SYS_epoll_pwait2,
                        epoll,
                        events.as_mut_ptr(),
                        capacity,
                        &raw const spec,
                        std::ptr::null::<libc::sigset_t>(),
                        0usize,
                    )
                };
                let count = check(count as libc::c_int);
                if let Err(error) = &count
                    && matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
                {
                    COARSE.store(true, Ordering::Relaxed);
                    continue;
                }
                count
            }
            timeout => {
                let millis = milliseconds(timeout);
                // SAFETY: `events` has room for `capacity` reports.
                check(unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), capacity, millis) })
            }
        };
        break count;
    };
    match result {
        Ok(count) => Ok(count as usize),
        Err(error) if error.raw_os_error() == Some(libc::EINTR) => Ok(0),
        Err(error) => Err(error),
    }
}

/// A timeout in milliseconds, rounded up; -1 for none.
pub(crate) fn milliseconds(timeout: Option<Duration>) -> libc::c_int {
    timeout.map_or(-1, |timeout| {
        let millis = timeout.as_nanos().div_ceil(1_000_000);
        libc::c_int::try_from(millis).unwrap_or(libc::c_int::MAX)
    })
}

// --- poll and select -----------------------------------------------------------------------------

/// `ppoll(2)`. EINTR is no event; nothing may then be concluded from entries that report nothing.
pub(crate) fn poll(fds: &mut [libc::pollfd], timeout: Option<Duration>) -> io::Result<usize> {
    let spec = timeout.map(timespec);
    let spec = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let count = fds.len() as libc::nfds_t;
    // SAFETY: the pointer and length describe `fds`; `spec` is null or lives through the call; a null
    // signal mask is allowed.
    match check(unsafe { libc::ppoll(fds.as_mut_ptr(), count, spec, std::ptr::null()) }) {
        Ok(count) => Ok(count as usize),
        Err(error) if error.raw_os_error() == Some(libc::EINTR) => Ok(0),
        Err(error) => Err(error),
    }
}

const WORD: usize = libc::c_ulong::BITS as usize;

/// An `fd_set`: a bit for each descriptor below `FD_SETSIZE`.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub(crate) struct DescriptorSet([libc::c_ulong; libc::FD_SETSIZE / WORD]);

const _: () = assert!(size_of::<DescriptorSet>() == size_of::<libc::fd_set>());

impl DescriptorSet {
    /// Adds or removes `fd`, which is within the set's range.
    pub(crate) fn set(&mut self, fd: RawFd, member: bool) {
        let bit = 1 << (fd as usize % WORD);
        let word = &mut self.0[fd as usize / WORD];
        *word = if member { *word | bit } else { *word & !bit };
    }

    pub(crate) fn contains(&self, fd: RawFd) -> bool {
        self.0[fd as usize / WORD] >> (fd as usize % WORD) & 1 != 0
    }
}

/// `pselect(2)` of those below `limit`; both sets are left with who is ready. EINTR is no event.
pub(crate) fn select(
    limit: RawFd,
    read: &mut DescriptorSet,
    write: &mut DescriptorSet,
    timeout: Option<Duration>,
) -> io::Result<usize> {
    let spec = timeout.map(timespec);
    let spec = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let (null, mask) = (std::ptr::null_mut(), std::ptr::null());
    let (read, write) = (std::ptr::from_mut(read).cast(), std::ptr::from_mut(write).cast());
    // SAFETY: both sets have the size of an `fd_set` and its layout, an array of words; `spec` is null
    // or lives through the call; a null set and a null signal mask are allowed.
    match check(unsafe { libc::pselect(limit, read, write, null, spec, mask) }) {
        Ok(count) => Ok(count as usize),
        Err(error) if error.raw_os_error() == Some(libc::EINTR) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Whether `fd` is a descriptor that is open.
pub(crate) fn is_open(fd: RawFd) -> bool {
    fcntl(fd, libc::F_GETFD, 0).is_ok()
}

/// `fcntl(2)` with a number for an argument.
fn fcntl(fd: RawFd, command: libc::c_int, argument: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: the commands used in this file take no pointer here.
    check(unsafe { libc::fcntl(fd, command, argument) })
}

// --- io_uring ----------------------------------------------------------------------------------

/// Anonymous memory, page-aligned, zeroed, unmapped when dropped.
pub(crate) struct Mapping {
    start: std::ptr::NonNull<u8>,
    length: usize,
}

impl Mapping {
    /// `length` bytes.
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        // SAFETY: a new anonymous mapping touches no memory that exists.
        let start = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start =
            std::ptr::NonNull::<u8>::new(start.cast()).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the range was just mapped. The kernel must not write into a child's copy: it is not
        // given one. A refusal only costs a forked child some copying.
        unsafe { libc::madvise(start.as_ptr().cast(), length, libc::MADV_DONTFORK) };
        Ok(Self { start, length })
    }

    /// Its first byte.
    pub(crate) fn start(&self) -> std::ptr::NonNull<u8> {
        self.start
    }

    /// Leaves the memory mapped for ever.
    pub(crate) fn leak(&mut self) {
        self.length = 0;
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: the range was mapped by `new` and its owner is gone.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
        }
    }
}

/// Refuses regular files and directories with EPERM and what is not open with EBADF, as `epoll_ctl(2)` does.
pub(crate) fn check_pollable(fd: RawFd) -> io::Result<()> {
    // SAFETY: all-zero is a valid `stat`.
    let mut status: libc::stat = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: `status` is writable.
    check(unsafe { libc::fstat(fd, &raw mut status) })?;
    match status.st_mode & libc::S_IFMT {
        libc::S_IFREG | libc::S_IFDIR => Err(io::Error::from_raw_os_error(libc::EPERM)),
        _ => Ok(()),
    }
}

/// A `msghdr` of nulls and zeros.
pub(crate) fn empty_message() -> libc::msghdr {
    // SAFETY: all-zero is a valid `msghdr`: null pointers with zero lengths.
    unsafe { MaybeUninit::zeroed().assume_init() }
}
