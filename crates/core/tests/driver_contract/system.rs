//! The calls to the system that the cases need and neither the standard library nor the crate has.

use std::io;
use std::mem::size_of;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wireway_core::sys::set_socket_option;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(result: libc::c_int) -> OwnedFd {
    let fd = check(result).expect("a new descriptor");
    // SAFETY: every caller hands over what the kernel just made and nobody else knows.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A new TCP socket, non-blocking.
pub fn tcp_socket() -> OwnedFd {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    owned(unsafe { libc::socket(libc::AF_INET, kind, 0) })
}

/// A pair of Unix stream sockets, non-blocking.
pub fn socket_pair() -> (OwnedFd, OwnedFd) {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let mut fds = [-1; 2];
    // SAFETY: room for the two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })
        .expect("socketpair");
    (owned(fds[0]), owned(fds[1]))
}

/// The reading and the writing end of a pipe, non-blocking.
pub fn pipe() -> (OwnedFd, OwnedFd) {
    let mut fds = [-1; 2];
    // SAFETY: room for the two descriptors.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) })
        .expect("pipe");
    (owned(fds[0]), owned(fds[1]))
}

/// An eventfd that counts `value`.
pub fn event(value: u32) -> OwnedFd {
    // SAFETY: no pointers.
    owned(unsafe { libc::eventfd(value, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })
}

/// A duplicate that is numbered `least` or more.
pub fn duplicate(fd: &impl AsRawFd, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) }).map(owned)
}

/// The flags that `F_GETFL` gives.
pub fn status_flags(fd: &impl AsRawFd) -> libc::c_int {
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) }).expect("F_GETFL")
}

/// Whether the descriptor does not survive an exec.
pub fn closes_on_exec(fd: &impl AsRawFd) -> bool {
    // SAFETY: no pointers.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) }).expect("F_GETFD");
    flags & libc::FD_CLOEXEC != 0
}

/// Writes to any descriptor, as much as it takes.
pub fn write(fd: &impl AsRawFd, data: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length describe `data`.
    let count = unsafe { libc::write(fd.as_raw_fd(), data.as_ptr().cast(), data.len()) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Reads from any descriptor.
pub fn read(fd: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length describe `buffer`.
    let count = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Closes a number without asking whose it is.
pub fn close_number(fd: RawFd) {
    // SAFETY: the caller gave up the owner of this number before.
    unsafe { libc::close(fd) };
}

/// Closes with a RST, whatever is unread or unsent.
pub fn reset(stream: impl Into<OwnedFd>) {
    let fd = stream.into();
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = size_of::<libc::linger>() as libc::socklen_t;
    let value = (&raw const linger).cast();
    // SAFETY: the pointer and length describe `linger`.
    check(unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, length)
    })
    .expect("SO_LINGER");
}

/// Makes the kernel's buffers small, so that a send meets a full one soon.
pub fn small_buffers(ours: &impl AsRawFd, peer: &impl AsRawFd) {
    set_socket_option(ours.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, 16 * 1024)
        .expect("SO_SNDBUF");
    set_socket_option(peer.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, 16 * 1024)
        .expect("SO_RCVBUF");
}

/// Sends one urgent byte.
pub fn send_urgent(stream: &TcpStream, byte: u8) {
    // SAFETY: one readable byte.
    let count =
        unsafe { libc::send(stream.as_raw_fd(), (&raw const byte).cast(), 1, libc::MSG_OOB) };
    assert_eq!(count, 1, "MSG_OOB");
}

/// A listener whose backlog is full: a connect to it is neither answered nor refused. Dropped, it is gone.
pub struct BlackHole {
    _listener: OwnedFd,
    _queued: Vec<TcpStream>,
    pub address: SocketAddr,
}

impl BlackHole {
    pub fn new() -> Self {
        let listener = crate::harness::bind();
        let address = listener.local_addr().expect("address");
        // Listening once more only changes the backlog, to the smallest: 0 holds one connection.
        // SAFETY: no pointers.
        check(unsafe { libc::listen(listener.as_raw_fd(), 0) }).expect("listen");
        let queued = vec![TcpStream::connect(address).expect("the first fits")];
        Self { _listener: listener.into(), _queued: queued, address }
    }
}

/// Raises the soft limit on descriptors, often 1024, as far as this process may.
pub fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is readable and writable through both calls.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit)).expect("getrlimit");
        limit.rlim_cur = limit.rlim_max.min(20_000);
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)).expect("setrlimit");
    }
}

/// Lowers a limit of this process.
pub fn limit(resource: libc::__rlimit_resource_t, value: u64) {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: `limit` lives through the call.
    check(unsafe { libc::setrlimit(resource, &raw const limit) }).expect("setrlimit");
}

/// Signals that interrupt the thread that made it, one after the other, until dropped.
pub struct Storm {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Storm {
    pub fn new() -> Self {
        extern "C" fn nothing(_: libc::c_int) {}
        // SAFETY: an all-zero action is valid and the handler does nothing. Without SA_RESTART a call that
        // sleeps is interrupted.
        let here = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
            check(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()))
                .expect("sigaction");
            libc::pthread_self()
        };
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                while !stop.load(Ordering::Relaxed) {
                    // SAFETY: that thread joins this one before it ends.
                    unsafe { libc::pthread_kill(here, libc::SIGUSR1) };
                    std::thread::sleep(Duration::from_micros(50));
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

/// Runs `child` in a forked copy of this process, which then ends, and says whether it ended well. In this
/// process the closure is forgotten, not dropped.
pub fn forked(child: impl FnOnce()) -> bool {
    // SAFETY: the child runs on its own copy of this thread; glibc keeps its allocator usable, and it
    // leaves by `_exit`, so nothing of the test runner runs twice.
    unsafe {
        let pid = check(libc::fork()).expect("fork");
        if pid == 0 {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).is_ok();
            libc::_exit(i32::from(!done));
        }
        std::mem::forget(child);
        let mut status = 0;
        check(libc::waitpid(pid, &raw mut status, 0)).expect("waitpid");
        status == 0
    }
}

/// Bytes of heap memory in use by this process; 0 where the allocator does not say (a sanitizer's).
pub fn heap_in_use() -> usize {
    // SAFETY: no arguments.
    unsafe { libc::mallinfo2() }.uordblks
}
