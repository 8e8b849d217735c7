//! Watching somebody else's descriptors: level-triggered, whatever the back end is underneath.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::time::Duration;

use wireway_core::op::{Completion, Interest, Op, Token};

use crate::harness::{Case, Hook, Number, QUIET, Rig, Seen, pair};
use crate::system::{close_number, duplicate, event, pipe, read, socket_pair, write};

/// Asserts that each of the next turns reports `interest` of `token`, at once.
#[track_caller]
fn ready_each_turn(rig: &mut Rig, token: Token, interest: Interest) {
    for _ in 0..5 {
        let before = rig.log.of(token).len();
        rig.until("ready", |log| log.of(token).len() > before);
        assert_eq!(rig.log.of(token)[before..], [&Seen::Ready(interest)]);
    }
}

fn drain(fd: &impl AsRawFd) {
    while matches!(read(fd, &mut [0; 4096]), Ok(1..)) {}
}

pub fn ready_until_drained(case: &Case) {
    let mut rig = case.rig();
    let (ours, other) = socket_pair();
    let token = rig.watch(&ours, Interest::READ);
    rig.quiet();
    for _ in 0..3 {
        write(&other, b"data").expect("write");
        ready_each_turn(&mut rig, token, Interest::READ);
        // Half of it is not all of it.
        read(&ours, &mut [0; 2]).expect("read");
        ready_each_turn(&mut rig, token, Interest::READ);
        drain(&ours);
        rig.turn(Some(Duration::ZERO));
        rig.quiet();
    }
}

pub fn interest_changes(case: &Case) {
    let mut rig = case.rig();
    let (ours, other) = socket_pair();
    let token = rig.watch(&ours, Interest::READ);
    rig.quiet();
    rig.submit(token, Op::Watch(Interest::WRITE));
    ready_each_turn(&mut rig, token, Interest::WRITE);
    write(&other, b"data").expect("write");
    ready_each_turn(&mut rig, token, Interest::WRITE);
    rig.submit(token, Op::Watch(Interest::READ));
    ready_each_turn(&mut rig, token, Interest::READ);
    drain(&ours);
    rig.turn(Some(Duration::ZERO));
    rig.quiet();
}

pub fn none_ends_it(case: &Case) {
    let mut rig = case.rig();
    let (ours, other) = socket_pair();
    write(&other, b"data").expect("write");
    let token = rig.watch(&ours, Interest::BOTH);
    ready_each_turn(&mut rig, token, Interest::BOTH);
    rig.submit(token, Op::Watch(Interest::NONE));
    rig.quiet();
    drop(other);
    rig.quiet();
    rig.submit(token, Op::Watch(Interest::READ));
    ready_each_turn(&mut rig, token, Interest::READ);
}

pub fn both_directions(case: &Case) {
    let mut rig = case.rig();
    let (ours, other) = socket_pair();
    let token = rig.watch(&ours, Interest::BOTH);
    ready_each_turn(&mut rig, token, Interest::WRITE);
    write(&other, b"data").expect("write");
    rig.until("both", |log| log.of(token).last() == Some(&&Seen::Ready(Interest::BOTH)));
    ready_each_turn(&mut rig, token, Interest::BOTH);
}

pub fn writable_when_drained(case: &Case) {
    for is_pipe in [false, true] {
        let mut rig = case.rig();
        let (other, ours) = if is_pipe { pipe() } else { socket_pair() };
        while write(&ours, &[0; 1000]).is_ok() {}
        while write(&ours, &[0; 1]).is_ok() {}
        let token = rig.watch(&ours, Interest::WRITE);
        rig.quiet();
        drain(&other);
        ready_each_turn(&mut rig, token, Interest::WRITE);
        while write(&ours, &[0; 1000]).is_ok() {}
        rig.turn(Some(Duration::ZERO));
        rig.turn(Some(Duration::ZERO));
        rig.quiet();
        drain(&other);
        ready_each_turn(&mut rig, token, Interest::WRITE);
    }
}

pub fn every_kind_of_file(case: &Case) {
    let mut rig = case.rig();
    let ((pipe_read, pipe_write), event) = (pipe(), event(0));
    let (socket, socket_peer) = socket_pair();
    let (stream, mut stream_peer) = pair();
    let tokens = [
        rig.watch(&pipe_read, Interest::READ),
        rig.watch(&event, Interest::READ),
        rig.watch(&socket, Interest::READ),
        rig.watch(&stream, Interest::READ),
    ];
    rig.quiet();
    for _ in 0..3 {
        write(&pipe_write, b"data").expect("write");
        ready_each_turn(&mut rig, tokens[0], Interest::READ);
        drain(&pipe_read);
        write(&event, &1u64.to_ne_bytes()).expect("write");
        ready_each_turn(&mut rig, tokens[1], Interest::READ);
        drain(&event);
        write(&socket_peer, b"data").expect("write");
        ready_each_turn(&mut rig, tokens[2], Interest::READ);
        drain(&socket);
        stream_peer.write_all(b"data").expect("write");
        ready_each_turn(&mut rig, tokens[3], Interest::READ);
        drain(&stream);
        rig.turn(Some(Duration::ZERO));
        rig.quiet();
    }
}

pub fn a_hang_up_is_ready(case: &Case) {
    let mut rig = case.rig();
    let (reading, other_writing) = pipe();
    let token = rig.watch(&reading, Interest::READ);
    rig.quiet();
    drop(other_writing);
    ready_each_turn(&mut rig, token, Interest::READ);
    rig.keep_open(token);
    let (other_reading, writing) = pipe();
    while write(&writing, &[0; 1000]).is_ok() {}
    let token = rig.watch(&writing, Interest::WRITE);
    rig.quiet();
    drop(other_reading);
    ready_each_turn(&mut rig, token, Interest::WRITE);
    rig.keep_open(token);
    let (ours, other) = socket_pair();
    let token = rig.watch(&ours, Interest::BOTH);
    drop(other);
    rig.until("both", |log| log.of(token).last() == Some(&&Seen::Ready(Interest::BOTH)));
    rig.keep_open(token);
    rig.quiet();
}

pub fn changed_inside_a_completion(case: &Case) {
    let mut rig = case.rig();
    let pairs: Vec<_> = (0..4).map(|_| socket_pair()).collect();
    let tokens: Vec<_> = pairs.iter().map(|(ours, _)| rig.watch(ours, Interest::READ)).collect();
    for (_, other) in &pairs {
        write(other, b"data").expect("write");
    }
    let (driver, mut seen) = (&rig.driver, Vec::new());
    let mut sink = Hook(|token, completion: Completion<'_>| {
        let Completion::Ready(interest) = completion else { panic!("{completion:?}") };
        seen.push((token, interest));
        // The first of the batch silences all others, and turns itself round.
        for other in &tokens {
            let interest = if *other == token { Interest::WRITE } else { Interest::NONE };
            driver.submit(*other, Op::Watch(interest)).expect("watch");
        }
    });
    driver.wait(Some(crate::harness::PATIENCE), &mut sink).expect("wait");
    assert_eq!(seen.len(), 1, "{seen:?}");
    let (token, interest) = seen[0];
    assert_eq!(interest, Interest::READ);
    ready_each_turn(&mut rig, token, Interest::WRITE);
    assert!(rig.log.seen.iter().all(|(of, _)| *of == token));
}

/// Two numbers of one open file, both watched: the kernel knows only one file.
pub fn duplicates_of_one_file(case: &Case) {
    let mut rig = case.rig();
    let (ours, other) = socket_pair();
    let twin = duplicate(&ours, 3).expect("dup");
    let (first, second) = (rig.watch(&ours, Interest::READ), rig.watch(&twin, Interest::READ));
    rig.quiet();
    write(&other, b"data").expect("write");
    rig.until("both", |log| !log.of(first).is_empty() && !log.of(second).is_empty());
    drain(&ours);
    rig.turn(Some(Duration::ZERO));
    rig.turn(Some(Duration::ZERO));
    // The one goes, the other stays.
    rig.keep_open(first);
    drop(ours);
    rig.quiet();
    write(&other, b"data").expect("write");
    ready_each_turn(&mut rig, second, Interest::READ);
}

/// An owner who closes without detaching gets no promise, but nobody else may suffer.
pub fn closed_behind_our_back(case: &Case) {
    let mut rig = case.rig();
    let (good, good_peer) = socket_pair();
    let watched = rig.watch(&good, Interest::READ);
    // A number that no other test takes while it is free, and that select admits.
    let (ours, _other) = socket_pair();
    let high = duplicate(&ours, 900 + 20 * case.backend as i32).expect("dup");
    let number = Number(high.as_raw_fd());
    let token = rig.watch(&number, Interest::READ);
    rig.turn(Some(Duration::ZERO));
    drop((ours, std::mem::ManuallyDrop::new(high)));
    close_number(number.0);
    for _ in 0..4 {
        rig.turn(Some(QUIET));
    }
    assert!(rig.log.of(token).len() <= 1, "said once at most: {:?}", rig.log.of(token));
    rig.quiet();
    write(&good_peer, b"data").expect("write");
    ready_each_turn(&mut rig, watched, Interest::READ);
    rig.keep_open(token);
    ready_each_turn(&mut rig, watched, Interest::READ);
}

/// `add_reader` on a TCP socket whose owner reads it himself.
pub fn a_stream_of_somebody_else(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    let token = rig.watch(&ours, Interest::READ);
    for size in 1..20 {
        peer.write_all(&vec![7; size]).expect("write");
        rig.until("ready", |log| !log.of(token).is_empty());
        drain(&ours);
        rig.log.seen.clear();
        rig.turn(Some(Duration::ZERO));
    }
    rig.log.seen.clear();
    rig.quiet();
    drop(peer);
    ready_each_turn(&mut rig, token, Interest::READ);
}
