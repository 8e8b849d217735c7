//! What the kernel says of a thread of ours: `proc(5)`, `/proc/self/task/TID/{schedstat,syscall}`.

use std::fs;

/// How a thread used its time, seconds since it began.
#[derive(Clone, Copy)]
pub struct Usage {
    /// On a processor.
    pub ran: f64,
    /// Ready to run, and no processor for it.
    pub waited: f64,
}

/// None where the kernel does not count it (`CONFIG_SCHED_INFO`).
pub fn usage(thread: i32) -> Option<Usage> {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok().map(|nanoseconds| nanoseconds as f64 * 1e-9);
    Some(Usage { ran: next()?, waited: next()? })
}

/// The name of the system call that a thread sleeps in. None while it runs, or if we may not know.
pub fn system_call(thread: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).ok()?;
    let number: i64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    let known = CALLS.iter().find(|(call, _)| *call == number);
    Some(known.map_or_else(|| format!("system call {number}"), |(_, name)| (*name).to_owned()))
}

macro_rules! calls {
    ($($constant:ident $name:literal),* $(,)?) => { &[$((libc::$constant, $name)),*] };
}

/// Those that programs are known to sleep in.
#[rustfmt::skip]
static CALLS: &[(libc::c_long, &str)] = calls![
    SYS_clock_nanosleep "clock_nanosleep", SYS_nanosleep "nanosleep", SYS_futex "futex",
    SYS_read "read", SYS_readv "readv", SYS_pread64 "pread64", SYS_write "write", SYS_writev "writev",
    SYS_pwrite64 "pwrite64", SYS_recvfrom "recvfrom", SYS_recvmsg "recvmsg", SYS_sendto "sendto",
    SYS_sendmsg "sendmsg", SYS_connect "connect", SYS_accept4 "accept4", SYS_fsync "fsync",
    SYS_fdatasync "fdatasync", SYS_openat "openat", SYS_close "close", SYS_flock "flock", SYS_fcntl "fcntl",
    SYS_wait4 "wait4", SYS_waitid "waitid", SYS_ppoll "ppoll", SYS_pselect6 "pselect6",
    SYS_epoll_pwait "epoll_pwait", SYS_io_uring_enter "io_uring_enter", SYS_sendfile "sendfile",
    SYS_getdents64 "getdents64", SYS_unlinkat "unlinkat", SYS_sync "sync",
];
