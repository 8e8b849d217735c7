//! The system calls of signal-driven I/O: who is signalled for a file, by which signal, and reading signals
//! as data. The rest of `sys`, in a file of its own; driver/sigio.rs tells how they play together.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{check, check_size, fcntl, retry, would_block};

// From the kernel's asm-generic/fcntl.h; the libc crate does not name them for glibc.
const F_SETSIG: libc::c_int = 10;
const F_GETSIG: libc::c_int = 11;
const F_SETOWN_EX: libc::c_int = 15;
const F_GETOWN_EX: libc::c_int = 16;
const F_OWNER_TID: libc::c_int = 0;

/// Who is signalled for an open file: `struct f_owner_ex`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Owner {
    kind: libc::c_int,
    id: libc::pid_t,
}

impl Owner {
    /// One thread.
    pub(crate) fn thread(id: libc::pid_t) -> Self {
        Self { kind: F_OWNER_TID, id }
    }
}

/// `F_GETOWN_EX`.
pub(crate) fn owner(fd: RawFd) -> io::Result<Owner> {
    let mut owner = Owner::thread(0);
    // SAFETY: the command fills one `f_owner_ex`, which `owner` is.
    check(unsafe { libc::fcntl(fd, F_GETOWN_EX, &raw mut owner) })?;
    Ok(owner)
}

/// `F_SETOWN_EX`.
pub(crate) fn set_owner(fd: RawFd, owner: Owner) -> io::Result<()> {
    // SAFETY: the command reads one `f_owner_ex`, which `owner` is.
    check(unsafe { libc::fcntl(fd, F_SETOWN_EX, &raw const owner) }).map(drop)
}

/// `F_SETSIG`: which signal announces readiness; 0 for a plain SIGIO.
pub(crate) fn set_readiness_signal(fd: RawFd, signal: libc::c_int) -> io::Result<()> {
    fcntl(fd, F_SETSIG, signal).map(drop)
}

/// `F_GETSIG`: which signal announces readiness; 0 for a plain SIGIO.
pub(crate) fn readiness_signal(fd: RawFd) -> io::Result<libc::c_int> {
    fcntl(fd, F_GETSIG, 0)
}

/// Whether `O_ASYNC` is on.
pub(crate) fn enabled(fd: RawFd) -> io::Result<bool> {
    Ok(fcntl(fd, libc::F_GETFL, 0)? & libc::O_ASYNC != 0)
}

/// Turns `O_ASYNC` on or off and returns whether it then is on: a file that can not signal ignores it.
pub(crate) fn enable(fd: RawFd, on: bool) -> io::Result<bool> {
    let flags = fcntl(fd, libc::F_GETFL, 0)? & !libc::O_ASYNC;
    fcntl(fd, libc::F_SETFL, if on { flags | libc::O_ASYNC } else { flags })?;
    enabled(fd)
}

/// Whether `fd` is a socket or a pipe.
pub(crate) fn is_socket_or_pipe(fd: RawFd) -> io::Result<bool> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat fills the structure when it succeeds, and only then is it read.
    let mode = unsafe {
        check(libc::fstat(fd, status.as_mut_ptr()))?;
        status.assume_init().st_mode
    };
    Ok(matches!(mode & libc::S_IFMT, libc::S_IFSOCK | libc::S_IFIFO))
}

/// Whether nobody in this process has said what is to happen at `signal`.
fn is_default(signal: libc::c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null new action only asks; the structure is read only when it was filled.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_DFL
    }
}

fn signal_set(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set; a bad number is refused and changes nothing.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

/// Blocks or unblocks `signal` in the calling thread and returns whether it was blocked before.
pub(crate) fn block_signal(signal: libc::c_int, block: bool) -> io::Result<bool> {
    let how = if block { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK };
    let (set, mut before) = (signal_set(&[signal]), signal_set(&[]));
    // SAFETY: both sets live through the call and are initialised.
    match unsafe { libc::pthread_sigmask(how, &raw const set, &raw mut before) } {
        // SAFETY: `before` is initialised.
        0 => Ok(unsafe { libc::sigismember(&raw const before, signal) } == 1),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// `signalfd(2)`, non-blocking and close-on-exec. Reads take the signals of the thread that reads.
pub(crate) fn signal_descriptor(signals: &[libc::c_int]) -> io::Result<OwnedFd> {
    let (set, flags) = (signal_set(signals), libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
    // SAFETY: the set lives through the call; -1 asks for a new descriptor, which nobody else knows.
    unsafe { check(libc::signalfd(-1, &raw const set, flags)).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// One signal that a [`signal_descriptor`] gave: its number and the descriptor it speaks of.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Signal(libc::signalfd_siginfo);

impl Signal {
    /// All-zero, to be filled.
    pub(crate) fn empty() -> Self {
        // SAFETY: plain numbers; all-zero is valid.
        Self(unsafe { MaybeUninit::zeroed().assume_init() })
    }

    pub(crate) fn number(&self) -> libc::c_int {
        self.0.ssi_signo as libc::c_int
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.0.ssi_fd
    }
}

/// Takes pending signals, as many as there is room for; none is 0.
pub(crate) fn take_signals(fd: RawFd, signals: &mut [Signal]) -> io::Result<usize> {
    let size = retry(|| {
        let (place, length) = (signals.as_mut_ptr().cast(), size_of_val(signals));
        // SAFETY: `length` writable bytes, and any bytes make a `signalfd_siginfo`.
        check_size(unsafe { libc::read(fd, place, length) })
    });
    match size {
        Ok(size) => Ok(size / size_of::<Signal>()),
        Err(error) if would_block(&error) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Signals that are taken in this process, a bit for each number.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// A real-time signal that nobody else in this process uses, until dropped.
pub(crate) struct RealTime(pub(crate) libc::c_int);

impl RealTime {
    /// The first that is free: not another's of these, and without a handler.
    pub(crate) fn take() -> io::Result<Self> {
        for signal in (libc::SIGRTMIN() + 1)..libc::SIGRTMAX() {
            let bit = 1 << (signal - 1);
            if is_default(signal) && TAKEN.fetch_or(bit, Ordering::AcqRel) & bit == 0 {
                return Ok(Self(signal));
            }
        }
        let text = "no real-time signal is free: each sigio loop needs one; use backend='epoll'";
        Err(io::Error::new(io::ErrorKind::ResourceBusy, text))
    }
}

impl Drop for RealTime {
    fn drop(&mut self) {
        TAKEN.fetch_and(!(1 << (self.0 - 1)), Ordering::AcqRel);
    }
}
