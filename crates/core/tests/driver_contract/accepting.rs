//! Accepts.

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::Duration;

use wireway_core::driver::Fate;
use wireway_core::op::{Cancel, Completion, Op, Role};

use crate::harness::{Case, Hook, PATIENCE, Seen, listener, peer};
use crate::system::{closes_on_exec, duplicate, reset, status_flags, tcp_socket};

pub fn accepts_all_that_wait(case: &Case) {
    let mut rig = case.rig();
    let (listener, address) = listener();
    let token = rig.attach(&listener, Role::Listener);
    // More than any bound on one turn, within the backlog of the standard library (128, raised to 4096).
    let waiting: Vec<TcpStream> = (0..100).map(|_| peer(address)).collect();
    rig.submit(token, Op::Accept);
    rig.until("all that wait", |log| log.accepted.len() == 100);
    let later: Vec<TcpStream> = (0..50).map(|_| peer(address)).collect();
    rig.until("those that come later", |log| log.accepted.len() == 150);
    rig.quiet();
    assert_eq!(rig.log.seen.len(), waiting.len() + later.len());
}

pub fn accepted_sockets_are_ours_alone(case: &Case) {
    let mut rig = case.rig();
    let (listener, address) = listener();
    let token = rig.attach(&listener, Role::Listener);
    rig.submit(token, Op::Accept);
    let mut peer = peer(address);
    rig.until("the connection", |log| log.accepted.len() == 1);
    let ours = rig.log.accepted.pop().expect("accepted");
    assert!(status_flags(&ours) & libc::O_NONBLOCK != 0, "non-blocking");
    assert!(closes_on_exec(&ours), "close-on-exec");
    let stream = rig.stream(&ours);
    peer.write_all(b"hello").expect("write");
    rig.until("data", |log| log.count(stream) == 5);
}

pub fn cancelled_in_flight(case: &Case) {
    let mut rig = case.rig();
    let (listener, address) = listener();
    let token = rig.attach(&listener, Role::Listener);
    rig.submit(token, Op::Accept);
    rig.turn(Some(Duration::ZERO));
    rig.submit(token, Op::Cancel(Cancel::Accept));
    let _first = peer(address);
    rig.quiet();
    rig.submit(token, Op::Accept);
    rig.until("the one that waited", |log| log.accepted.len() == 1);
    let _second = peer(address);
    rig.until("the next", |log| log.accepted.len() == 2);
}

/// Who was let in already is handed over, who waits stays in the backlog, and nobody is turned away.
pub fn stopped(case: &Case) {
    let mut rig = case.rig();
    let (listener, address) = listener();
    let token = rig.attach(&listener, Role::Listener);
    rig.submit(token, Op::Accept);
    rig.turn(Some(Duration::ZERO));
    let mut peers: Vec<TcpStream> = (0..30).map(|_| peer(address)).collect();
    let taken = rig.driver.stop_accepting(token).expect("it is attached");
    let _late = peer(address);
    rig.quiet();
    assert!(rig.log.accepted.is_empty(), "a completion after the stop");
    listener.set_nonblocking(true).expect("non-blocking");
    let waiting: Vec<TcpStream> =
        std::iter::from_fn(|| listener.accept().ok().map(|pair| pair.0)).collect();
    assert_eq!(taken.len() + waiting.len(), peers.len() + 1);
    for peer in &mut peers {
        peer.write_all(b"x").expect("nobody was turned away");
    }
    rig.submit(token, Op::Accept);
    let _next = peer(address);
    rig.until("it begins again", |log| log.accepted.len() == 1);
}

/// What the kernel had accepted by then is kept for the next `Accept`, or is still in the backlog.
pub fn cancelled_inside_a_completion(case: &Case) {
    let mut rig = case.rig();
    let (listener, address) = listener();
    let token = rig.attach(&listener, Role::Listener);
    let _waiting: Vec<TcpStream> = (0..20).map(|_| peer(address)).collect();
    rig.submit(token, Op::Accept);
    let (driver, mut accepted) = (&rig.driver, Vec::new());
    let mut sink = Hook(|_, completion: Completion<'_>| {
        let Completion::Accepted(Ok(new)) = completion else { panic!("{completion:?}") };
        accepted.push(new);
        driver.submit(token, Op::Cancel(Cancel::Accept)).expect("cancel");
    });
    driver.wait(Some(PATIENCE), &mut sink).expect("wait");
    assert_eq!(accepted.len(), 1);
    rig.quiet();
    rig.submit(token, Op::Accept);
    rig.until("the others", |log| log.accepted.len() == 19);
    rig.quiet();
}

pub fn detached_inside_a_completion(case: &Case) {
    let mut rig = case.rig();
    let (listener, address) = listener();
    let token = rig.attach(&listener, Role::Listener);
    let _waiting: Vec<TcpStream> = (0..20).map(|_| peer(address)).collect();
    rig.submit(token, Op::Accept);
    let (driver, mut accepted, mut mine) = (&rig.driver, 0, Some(listener));
    let mut sink = Hook(|_, completion: Completion<'_>| {
        assert!(matches!(completion, Completion::Accepted(Ok(_))), "{completion:?}");
        accepted += 1;
        driver.detach(token, Fate::Close(mine.take().expect("once").into()));
    });
    driver.wait(Some(PATIENCE), &mut sink).expect("wait");
    assert_eq!(accepted, 1);
    rig.quiet();
}

pub fn a_connection_reset_in_the_backlog(case: &Case) {
    let mut rig = case.rig();
    let (listener, address) = listener();
    let token = rig.attach(&listener, Role::Listener);
    reset(peer(address));
    let _good = peer(address);
    rig.submit(token, Op::Accept);
    // Linux hands out the dead one too (accept(2)): its first receive tells.
    rig.until("both", |log| log.accepted.len() == 2);
    let dead = rig.log.accepted.remove(0);
    let stream = rig.stream(&dead);
    rig.until("the reset", |log| !log.of(stream).is_empty());
    assert_eq!(rig.log.of(stream), [&Seen::Ended(libc::ECONNRESET)]);
    assert_eq!(rig.log.events(token), [&Seen::Accepted, &Seen::Accepted]);
    rig.quiet();
}

pub fn a_closed_listener_refuses(case: &Case) {
    let mut rig = case.rig();
    let (listener, address) = listener();
    let token = rig.attach(&listener, Role::Listener);
    rig.submit(token, Op::Accept);
    rig.turn(Some(Duration::ZERO));
    rig.close(token, listener);
    rig.quiet();
    let error = TcpStream::connect(address).expect_err("nobody listens");
    assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
    assert_eq!(rig.log.seen, []);
}

pub fn not_a_listener(case: &Case) {
    let mut rig = case.rig();
    let socket = tcp_socket();
    let token = rig.attach(&socket, Role::Listener);
    rig.submit(token, Op::Accept);
    rig.until("the failure", |log| !log.of(token).is_empty());
    rig.quiet();
    assert_eq!(rig.log.of(token), [&Seen::AcceptFailed(libc::EINVAL)]);
}

pub fn several_listeners(case: &Case) {
    let mut rig = case.rig();
    let listeners: Vec<_> = (0..5).map(|_| listener()).collect();
    let tokens: Vec<_> =
        listeners.iter().map(|(listener, _)| rig.attach(listener, Role::Listener)).collect();
    tokens.iter().for_each(|token| rig.submit(*token, Op::Accept));
    let mut peers = Vec::new();
    for round in 1..=10 {
        peers.extend(listeners.iter().map(|(_, address)| peer(*address)));
        rig.until("one each", |log| tokens.iter().all(|token| log.of(*token).len() == round));
    }
    for ours in &rig.log.accepted {
        assert!(ours.as_raw_fd() > 2);
    }
    rig.quiet();
}

/// Workers that share a listener: one open file, two drivers, and only one of them can own its signals.
pub fn a_listener_shared_by_two_drivers(case: &Case) {
    let (mut one, mut two) = (case.rig(), case.rig());
    let (listener, address) = listener();
    let twin = duplicate(&listener, 3).expect("dup");
    let (first, second) =
        (one.attach(&listener, Role::Listener), two.attach(&twin, Role::Listener));
    one.quiet();
    two.quiet();
    two.submit(second, Op::Accept);
    let mut peers = vec![peer(address), peer(address)];
    two.until("both", |log| log.accepted.len() == 2);
    two.quiet();
    two.submit(second, Op::Cancel(Cancel::Accept));
    peers.push(peer(address));
    two.quiet();
    one.submit(first, Op::Accept);
    one.until("the third", |log| log.accepted.len() == 1);
    one.close(first, listener);
    one.quiet();
    peers.push(peer(address));
    two.submit(second, Op::Accept);
    two.until("the fourth", |log| log.accepted.len() == 3);
    two.quiet();
    drop(one);
    peers.push(peer(address));
    two.until("the fifth", |log| log.accepted.len() == 4);
}
