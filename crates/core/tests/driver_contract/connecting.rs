//! Connects, and how they fail.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use wireway_core::op::{Cancel, Op, Role, Token};
use wireway_core::sys::set_socket_option;

use crate::harness::{Case, Rig, Seen, bind, listener};
use crate::system::{BlackHole, tcp_socket};

fn connect(rig: &mut Rig, socket: &impl AsRawFd, address: SocketAddr) -> Token {
    let token = rig.attach(socket, Role::Stream);
    rig.submit(token, Op::Connect(address.into()));
    token
}

pub fn connects_and_talks(case: &Case) {
    let mut rig = case.rig();
    let listener = bind();
    let socket = tcp_socket();
    let token = connect(&mut rig, &socket, listener.local_addr().expect("address"));
    rig.until("the connect", |log| !log.events(token).is_empty());
    let (mut peer, _) = listener.accept().expect("accept");
    rig.submit(token, Op::Receive);
    rig.send(token, b"ping");
    rig.until("the send", |log| log.all_sent(token));
    let mut read = [0; 4];
    peer.read_exact(&mut read).expect("read");
    peer.write_all(b"pong").expect("write");
    rig.until("the answer", |log| log.count(token) == 4);
    assert_eq!(rig.log.events(token), [&Seen::Connected(0)]);
    rig.quiet();
}

/// The greeting is there before we ask: an edge that was before the receive.
pub fn connects_and_receives_what_waits(case: &Case) {
    let mut rig = case.rig();
    let listener = bind();
    let socket = tcp_socket();
    let token = connect(&mut rig, &socket, listener.local_addr().expect("address"));
    // A completion driver begins to connect when it waits; the backlog answers without an accept.
    rig.until("the connect", |log| !log.events(token).is_empty());
    let (mut peer, _) = listener.accept().expect("accept");
    peer.write_all(b"welcome").expect("write");
    drop(peer);
    rig.quiet();
    assert_eq!(rig.log.of(token), [&Seen::Connected(0)]);
    rig.submit(token, Op::Receive);
    rig.until("the end", |log| log.events(token).len() > 1);
    assert_eq!(rig.log.bytes(token), b"welcome");
    assert_eq!(rig.log.events(token), [&Seen::Connected(0), &Seen::Ended(0)]);
}

pub fn refused(case: &Case) {
    let mut rig = case.rig();
    let (listener, address) = listener();
    drop(listener);
    let socket = tcp_socket();
    let token = connect(&mut rig, &socket, address);
    rig.until("the refusal", |log| !log.of(token).is_empty());
    rig.quiet();
    assert_eq!(rig.log.of(token), [&Seen::Connected(libc::ECONNREFUSED)]);
}

/// The kernel refuses within the call; it is a completion all the same, and not before `wait`.
pub fn unreachable_is_a_completion(case: &Case) {
    let mut rig = case.rig();
    let socket = tcp_socket();
    let token = connect(&mut rig, &socket, (Ipv4Addr::new(224, 0, 0, 1), 9).into());
    rig.until("the failure", |log| !log.of(token).is_empty());
    rig.quiet();
    assert_eq!(rig.log.of(token), [&Seen::Connected(libc::ENETUNREACH)]);
}

pub fn times_out(case: &Case) {
    let mut rig = case.rig();
    let hole = BlackHole::new();
    let socket = tcp_socket();
    // The retransmission timer, one second at first, looks at it (tcp(7)).
    set_socket_option(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 300)
        .expect("option");
    let start = Instant::now();
    let token = connect(&mut rig, &socket, hole.address);
    rig.until("the timeout", |log| !log.of(token).is_empty());
    assert_eq!(rig.log.of(token), [&Seen::Connected(libc::ETIMEDOUT)]);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    rig.quiet();
}

pub fn cancelled_in_flight(case: &Case) {
    let mut rig = case.rig();
    let hole = BlackHole::new();
    let socket = tcp_socket();
    let token = connect(&mut rig, &socket, hole.address);
    rig.quiet();
    rig.submit(token, Op::Cancel(Cancel::Connect));
    rig.quiet();
    // Nor when it fails later on.
    drop(hole);
    rig.quiet();
    rig.close(token, socket);
    rig.quiet();
    assert_eq!(rig.log.seen, []);
}

pub fn detached_in_flight(case: &Case) {
    let mut rig = case.rig();
    let hole = BlackHole::new();
    let (kept, closed) = (tcp_socket(), tcp_socket());
    let first = connect(&mut rig, &kept, hole.address);
    let second = connect(&mut rig, &closed, hole.address);
    rig.turn(Some(Duration::ZERO));
    rig.keep_open(first);
    rig.close(second, closed);
    rig.quiet();
    assert_eq!(rig.log.seen, []);
}

/// In the backlog, accepted by nobody, when the listener goes.
pub fn reset_by_a_closing_listener(case: &Case) {
    let mut rig = case.rig();
    let (listener, address) = listener();
    let socket = tcp_socket();
    let token = connect(&mut rig, &socket, address);
    rig.until("the connect", |log| !log.of(token).is_empty());
    rig.submit(token, Op::Receive);
    rig.turn(Some(Duration::ZERO));
    drop(listener);
    rig.until("the reset", |log| log.of(token).len() > 1);
    rig.quiet();
    assert_eq!(rig.log.of(token), [&Seen::Connected(0), &Seen::Ended(libc::ECONNRESET)]);
}

/// epoll and poll call it hung up: that must neither be taken for an event nor keep the loop awake.
pub fn a_socket_that_never_connected(case: &Case) {
    let mut rig = case.rig();
    let socket = tcp_socket();
    let token = rig.attach(&socket, Role::Stream);
    rig.quiet();
    let (listener, address) = listener();
    rig.submit(token, Op::Connect(address.into()));
    rig.until("the connect", |log| !log.of(token).is_empty());
    assert_eq!(rig.log.of(token), [&Seen::Connected(0)]);
    drop(listener);
}
