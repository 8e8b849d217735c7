//! What the kernel still knows of a connection that ends: the evidence of its death. The rest of `sys`, in a
//! file of its own. It reads; what the facts mean is for the caller (Python's `wireway.net.diagnosis`).
//!
//! Ask before the descriptor is closed. A socket that was reset or that timed out is in state CLOSE and still
//! answers all of these. What its death leaves, and what it wipes (Linux, `tcp_write_queue_purge`): the count of
//! bytes without an acknowledgement (`SIOCOUTQ`) and the counters of retransmissions and probes stay;
//! `tcpi_unacked` and `tcpi_backoff` are set to zero. Hence the ioctls beside `TCP_INFO`.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use super::{check, poll, socket_option};

/// The room for `struct tcp_info`, which grows at its end. 248 bytes of it were there before Linux 6.18.
const ROOM: usize = 256;

/// `struct tcp_info` as the kernel gave it (`linux/tcp.h`): as many bytes as it knows, at most 256.
#[derive(Clone, Copy)]
pub struct TcpInfo {
    bytes: [u8; ROOM],
    length: usize,
}

impl TcpInfo {
    /// The bytes, in the machine's order. Fields that this kernel does not know are not there.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Its state, by the numbers of `include/net/tcp_states.h` (`tcpi_state`).
    pub fn state(&self) -> u8 {
        self.bytes[0]
    }

    /// The smoothed round trip, seconds (`tcpi_rtt`); none before the first was measured.
    pub fn rtt(&self) -> Option<f64> {
        self.word(68).filter(|&micro| micro > 0).map(|micro| f64::from(micro) / 1e6)
    }

    /// Segments that were sent again (`tcpi_total_retrans`).
    pub fn retransmits(&self) -> u32 {
        self.word(100).unwrap_or(0)
    }

    fn word(&self, place: usize) -> Option<u32> {
        let bytes = self.bytes().get(place..place + 4)?;
        bytes.try_into().ok().map(u32::from_ne_bytes)
    }

    /// Seconds since data last came from the peer (`tcpi_last_data_recv`), to the kernel's tick.
    pub fn since_data(&self) -> Option<f64> {
        self.word(52).map(|millis| f64::from(millis) / 1000.0)
    }
}

impl std::fmt::Debug for TcpInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TcpInfo({} bytes, state {})", self.length, self.bytes[0])
    }
}

/// What was left of a connection when it ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Death {
    /// The pending error of the socket (`SO_ERROR`), an errno; 0 for none, or if it was not asked for.
    pub so_error: i32,
    /// `poll(2)`'s `revents` of POLLIN, POLLRDHUP, POLLERR and POLLHUP; 0 if the descriptor is none.
    pub poll_flags: i16,
    /// Bytes that arrived and were not read (`SIOCINQ`).
    pub unread: u32,
    /// Bytes that the kernel took and the peer's did not acknowledge, sent or not (`SIOCOUTQ`). A FIN counts as none.
    pub unsent: u32,
    /// `TCP_INFO`; none for what is not TCP.
    pub tcp_info: Option<TcpInfo>,
}

/// Looks at a socket that is about to be closed. Never fails: what can not be read is zero or absent.
///
/// `SO_ERROR` is read only if `take_error`, since reading clears it. Five system calls at most.
pub fn autopsy(fd: RawFd, take_error: bool) -> Death {
    let mut entry = libc::pollfd { fd, events: libc::POLLIN | libc::POLLRDHUP, revents: 0 };
    // What fails leaves `revents` as it is. POLLERR is the very error that SO_ERROR clears: this comes first.
    let _ = poll(std::slice::from_mut(&mut entry), Some(Duration::ZERO));
    if fd < 0 || entry.revents & libc::POLLNVAL != 0 {
        return Death::default();
    }
    Death {
        so_error: if take_error {
            socket_option(fd, libc::SOL_SOCKET, libc::SO_ERROR).unwrap_or(0)
        } else {
            0
        },
        poll_flags: entry.revents,
        unread: amount(fd, libc::FIONREAD),
        unsent: amount(fd, libc::TIOCOUTQ),
        tcp_info: tcp_info(fd).ok(),
    }
}

/// `getsockopt(TCP_INFO)`, `tcp(7)`. ENOPROTOOPT or EOPNOTSUPP for what is not TCP.
pub fn tcp_info(fd: RawFd) -> io::Result<TcpInfo> {
    let mut info = TcpInfo { bytes: [0; ROOM], length: 0 };
    let mut length = ROOM as libc::socklen_t;
    let place = (&raw mut info.bytes).cast();
    // SAFETY: `place` has room for the `length` bytes that the kernel may write; any bytes are valid.
    check(unsafe {
        libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, place, &raw mut length)
    })?;
    info.length = (length as usize).min(ROOM);
    Ok(info)
}

/// What the kernel's memory of a socket is for, bytes, its own bookkeeping included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketMemory {
    /// What came and was not read (`SK_MEMINFO_RMEM_ALLOC`).
    pub received: u32,
    /// What was sent and not acknowledged or, between Unix sockets, not read: the greater of
    /// `SK_MEMINFO_WMEM_ALLOC` and `SK_MEMINFO_WMEM_QUEUED`, which count much of the same twice.
    pub sent: u32,
    /// Reserved ahead, options and filters, packets that wait for the socket's lock
    /// (`SK_MEMINFO_FWD_ALLOC`, `_OPTMEM`, `_BACKLOG`).
    pub other: u32,
}

/// `getsockopt(SO_MEMINFO)`, Linux 4.12: the figures of sock_diag(7), `INET_DIAG_SKMEMINFO`.
pub fn socket_memory(fd: RawFd) -> io::Result<SocketMemory> {
    // linux/sock_diag.h: rmem_alloc, rcvbuf, wmem_alloc, sndbuf, fwd_alloc, wmem_queued, optmem, backlog, drops.
    let mut values = [0u32; 9];
    let mut length = size_of_val(&values) as libc::socklen_t;
    let place = (&raw mut values).cast();
    // SAFETY: `place` has room for the `length` bytes that the kernel may write; any bytes are valid.
    check(unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, place, &raw mut length)
    })?;
    let [received, _, allocated, _, forward, queued, options, backlog, _] = values;
    Ok(SocketMemory {
        received,
        sent: allocated.max(queued),
        other: forward.saturating_add(options).saturating_add(backlog),
    })
}

/// Bytes that the kernel took and the peer did not acknowledge (`SIOCOUTQ`); 0 if that can not be known.
pub fn unacknowledged(fd: RawFd) -> u32 {
    amount(fd, libc::TIOCOUTQ)
}

/// Bytes that arrived and were not read (`SIOCINQ`); 0 if that can not be known.
pub fn unread(fd: RawFd) -> u32 {
    amount(fd, libc::FIONREAD)
}

/// An ioctl that gives a number of bytes. `SIOCINQ` is `FIONREAD` and `SIOCOUTQ` is `TIOCOUTQ` (`tcp(7)`).
fn amount(fd: RawFd, request: libc::Ioctl) -> u32 {
    let mut value: libc::c_int = 0;
    // SAFETY: both requests write one int.
    match check(unsafe { libc::ioctl(fd, request, &raw mut value) }) {
        Ok(_) => u32::try_from(value).unwrap_or(0),
        Err(_) => 0,
    }
}
