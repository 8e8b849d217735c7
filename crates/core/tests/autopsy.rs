//! What the kernel tells of a connection that ends, made with real sockets, one way to die each.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use wireway_core::sys::info::{Death, autopsy, tcp_info};
use wireway_core::sys::set_socket_option;

const ESTABLISHED: u8 = 1;
const CLOSE: u8 = 7;
const CLOSE_WAIT: u8 = 8;

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (ours, peer)
}

/// Asks again until `done`: the other end's doing arrives a moment later.
fn until(fd: RawFd, done: impl Fn(&Death) -> bool) -> Death {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let death = autopsy(fd, false);
        if done(&death) {
            return death;
        }
        assert!(Instant::now() < deadline, "not within 10 s: {death:?}");
        std::thread::yield_now();
    }
}

/// Ends a stream with RST: SO_LINGER 0.
fn reset(stream: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: the pointer and length describe `linger`.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            length,
        )
    };
    assert_eq!(result, 0);
}

fn state(death: &Death) -> u8 {
    death.tcp_info.expect("TCP").bytes()[0]
}

#[test]
fn a_connection_at_rest_has_nothing_to_tell() {
    let (ours, _peer) = pair();
    let death = autopsy(ours.as_raw_fd(), true);
    assert_eq!((death.so_error, death.poll_flags, death.unread, death.unsent), (0, 0, 0, 0));
    assert_eq!(state(&death), ESTABLISHED);
    assert!(death.tcp_info.unwrap().bytes().len() >= 104, "shorter than in any kernel since 2.6");
}

#[test]
fn what_arrived_and_was_not_read_is_counted() {
    let (ours, mut peer) = pair();
    peer.write_all(b"twelve bytes").unwrap();
    let death = until(ours.as_raw_fd(), |death| death.unread == 12);
    assert_eq!(death.poll_flags, libc::POLLIN);
}

#[test]
fn an_end_of_stream_shows_in_the_flags_and_the_state() {
    let (ours, mut peer) = pair();
    peer.write_all(b"last").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let death = until(ours.as_raw_fd(), |death| death.poll_flags & libc::POLLRDHUP != 0);
    assert_eq!((death.unread, death.poll_flags), (4, libc::POLLIN | libc::POLLRDHUP));
    assert_eq!(state(&death), CLOSE_WAIT);
}

#[test]
fn what_the_peer_does_not_take_is_counted_as_unsent() {
    let (ours, peer) = pair();
    for (fd, option) in [(ours.as_raw_fd(), libc::SO_SNDBUF), (peer.as_raw_fd(), libc::SO_RCVBUF)] {
        set_socket_option(fd, libc::SOL_SOCKET, option, 4096).unwrap();
    }
    ours.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while let Ok(count) = (&ours).write(&[0; 4096]) {
        sent += count;
    }
    let death = autopsy(ours.as_raw_fd(), false);
    assert!(death.unsent > 0 && death.unsent as usize <= sent, "{death:?} of {sent}");
}

#[test]
fn a_reset_leaves_its_error_until_it_is_asked_for() {
    let (mut ours, peer) = pair();
    ours.write_all(b"hello").unwrap();
    reset(peer);
    let death = until(ours.as_raw_fd(), |death| death.poll_flags & libc::POLLERR != 0);
    let all = libc::POLLIN | libc::POLLRDHUP | libc::POLLERR | libc::POLLHUP;
    assert_eq!((death.poll_flags, death.so_error), (all, 0));
    assert_eq!(state(&death), CLOSE);
    assert_eq!(autopsy(ours.as_raw_fd(), true).so_error, libc::ECONNRESET);
    let again = autopsy(ours.as_raw_fd(), true);
    assert_eq!((again.so_error, again.poll_flags & libc::POLLERR), (0, 0), "it was cleared");
}

#[test]
fn data_that_arrived_before_a_reset_still_counts() {
    let (mut ours, mut peer) = pair();
    peer.write_all(b"unread").unwrap();
    until(ours.as_raw_fd(), |death| death.unread == 6);
    reset(peer);
    let death = until(ours.as_raw_fd(), |death| death.poll_flags & libc::POLLERR != 0);
    assert_eq!(death.unread, 6);
    let mut data = [0; 6];
    ours.read_exact(&mut data).unwrap();
}

#[test]
fn a_unix_stream_has_no_tcp_info() {
    let (ours, mut peer) = UnixStream::pair().unwrap();
    peer.write_all(b"abc").unwrap();
    drop(peer);
    let death = autopsy(ours.as_raw_fd(), true);
    assert_eq!(death.unread, 3);
    assert!(death.poll_flags & libc::POLLHUP != 0);
    assert!(death.tcp_info.is_none());
}

#[test]
fn what_is_no_socket_or_no_descriptor_is_no_failure() {
    let file = std::fs::File::open("/proc/self/stat").unwrap();
    assert!(autopsy(file.as_raw_fd(), true).tcp_info.is_none());
    for fd in [-1, RawFd::MAX] {
        let death = autopsy(fd, true);
        assert_eq!((death.so_error, death.poll_flags, death.unread, death.unsent), (0, 0, 0, 0));
        assert_eq!(tcp_info(fd).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
