//! How a stream ends: half-closed by either side, or reset in each phase.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use wireway_core::op::{Cancel, Op};

use crate::harness::{Case, Seen, pair, pattern, same_bytes};
use crate::system::{reset, small_buffers};

pub fn end_of_stream_comes_once(case: &Case) {
    let mut rig = case.rig();
    let (ours, peer) = pair();
    let token = rig.stream(&ours);
    rig.turn(Some(Duration::ZERO));
    peer.shutdown(Shutdown::Write).expect("shutdown");
    rig.until("the end", |log| !log.events(token).is_empty());
    rig.quiet();
    assert_eq!(rig.log.of(token), [&Seen::Ended(0)]);
    // Asked again, it says so again, once.
    rig.submit(token, Op::Receive);
    rig.until("the end again", |log| log.events(token).len() > 1);
    rig.quiet();
    assert_eq!(rig.log.of(token), [&Seen::Ended(0), &Seen::Ended(0)]);
}

pub fn data_and_end_at_once(case: &Case) {
    for size in [1, 100, 4096, 65_536, 200_000] {
        let mut rig = case.rig();
        let (ours, mut peer) = pair();
        let data = pattern(size, size);
        let writer = std::thread::spawn({
            let data = data.clone();
            move || peer.write_all(&data).expect("write")
        });
        // Small ones are there, with the FIN behind, before anybody looks.
        if size < 10_000 {
            writer.join().expect("writer");
        }
        let token = rig.stream(&ours);
        rig.until("the end", |log| !log.events(token).is_empty());
        same_bytes(&rig.log.bytes(token), &data);
        assert_eq!(rig.log.of(token).last(), Some(&&Seen::Ended(0)));
        assert_eq!(rig.log.events(token).len(), 1);
    }
}

pub fn we_send_after_the_peers_end(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    small_buffers(&ours, &peer);
    let token = rig.stream(&ours);
    peer.shutdown(Shutdown::Write).expect("shutdown");
    rig.until("the end", |log| !log.events(token).is_empty());
    let data = pattern(2, 1 << 20);
    rig.send(token, &data);
    let reader = std::thread::spawn(move || {
        let mut read = vec![0; 1 << 20];
        peer.read_exact(&mut read).expect("read");
        read
    });
    rig.until("the send", |log| log.all_sent(token));
    same_bytes(&reader.join().expect("reader"), &data);
    assert_eq!(rig.log.events(token), [&Seen::Ended(0)]);
    rig.quiet();
}

pub fn we_receive_after_our_end(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    let token = rig.stream(&ours);
    rig.send(token, b"bye");
    rig.until("the send", |log| log.all_sent(token));
    ours.shutdown(Shutdown::Write).expect("shutdown");
    let mut read = Vec::new();
    peer.read_to_end(&mut read).expect("read");
    assert_eq!(read, b"bye");
    let data = pattern(3, 100_000);
    for piece in data.chunks(10_000) {
        let count = rig.log.count(token) + piece.len();
        peer.write_all(piece).expect("write");
        rig.until("the piece", |log| log.count(token) >= count);
    }
    drop(peer);
    rig.until("the end", |log| !log.events(token).is_empty());
    same_bytes(&rig.log.bytes(token), &data);
    assert_eq!(rig.log.events(token), [&Seen::Ended(0)]);
}

pub fn both_ends_shut_down(case: &Case) {
    let mut rig = case.rig();
    let (ours, peer) = pair();
    let token = rig.stream(&ours);
    ours.shutdown(Shutdown::Write).expect("shutdown");
    peer.shutdown(Shutdown::Write).expect("shutdown");
    rig.until("the end", |log| !log.events(token).is_empty());
    // A socket that is closed both ways is hung up for ever: that must not keep the loop awake.
    rig.quiet();
    assert_eq!(rig.log.of(token), [&Seen::Ended(0)]);
}

pub fn sending_after_our_end_fails(case: &Case) {
    let mut rig = case.rig();
    let (ours, _peer) = pair();
    let token = rig.stream(&ours);
    ours.shutdown(Shutdown::Write).expect("shutdown");
    rig.send(token, b"too late");
    rig.until("the failure", |log| !log.events(token).is_empty());
    assert_eq!(rig.log.of(token), [&Seen::SendFailed(libc::EPIPE)]);
    rig.quiet();
}

pub fn reset_before_data(case: &Case) {
    let mut rig = case.rig();
    let (ours, peer) = pair();
    let token = rig.stream(&ours);
    rig.turn(Some(Duration::ZERO));
    reset(peer);
    rig.until("the reset", |log| !log.events(token).is_empty());
    rig.quiet();
    assert_eq!(rig.log.of(token), [&Seen::Ended(libc::ECONNRESET)]);
}

pub fn reset_amid_receive(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    let token = rig.stream(&ours);
    peer.write_all(b"half of ").expect("write");
    rig.until("the data", |log| log.count(token) == 8);
    peer.write_all(b"a message").expect("write");
    reset(peer);
    rig.until("the reset", |log| !log.events(token).is_empty());
    rig.quiet();
    // What came before the reset may be had or lost, but only from its end on.
    assert!(b"half of a message".starts_with(&rig.log.bytes(token)));
    assert_eq!(rig.log.events(token), [&Seen::Ended(libc::ECONNRESET)]);
}

pub fn reset_with_a_send_pending(case: &Case) {
    let mut rig = case.rig();
    let (ours, peer) = pair();
    small_buffers(&ours, &peer);
    let token = rig.stream(&ours);
    rig.submit(token, Op::Cancel(Cancel::Receive));
    rig.send(token, &pattern(1, 4 << 20));
    rig.turn(Some(Duration::ZERO));
    assert!(!rig.log.all_sent(token));
    reset(peer);
    rig.until("the failure", |log| !log.events(token).is_empty());
    let failed = rig.log.events(token)[0].clone();
    // Who asks first gets ECONNRESET; after that it is EPIPE.
    assert!(matches!(failed, Seen::SendFailed(libc::ECONNRESET | libc::EPIPE)), "{failed:?}");
    rig.quiet();
}

pub fn reset_while_paused(case: &Case) {
    let mut rig = case.rig();
    let (ours, peer) = pair();
    let token = rig.stream(&ours);
    rig.submit(token, Op::Cancel(Cancel::Receive));
    reset(peer);
    rig.quiet();
    rig.submit(token, Op::Receive);
    rig.until("the reset", |log| !log.events(token).is_empty());
    assert_eq!(rig.log.of(token), [&Seen::Ended(libc::ECONNRESET)]);
    rig.quiet();
}

/// A peer that closes with unread data resets (RFC 2525, 2.17), with no word from it.
pub fn reset_by_unread_data(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    let token = rig.stream(&ours);
    rig.send(token, b"never read");
    rig.until("the send", |log| log.all_sent(token));
    peer.set_nonblocking(false).expect("blocking");
    peer.write_all(b"x").expect("write");
    rig.until("the data", |log| log.count(token) == 1);
    drop(peer);
    rig.until("the reset", |log| !log.events(token).is_empty());
    assert_eq!(rig.log.events(token), [&Seen::Ended(libc::ECONNRESET)]);
}
