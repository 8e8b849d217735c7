//! Waiting: timeouts, wakes, threads.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use wireway_core::op::{Completion, Interest, Op, Role};

use crate::harness::{Case, Hook, PATIENCE, QUIET, Rig, listener, pair};
use crate::system::{socket_pair, write};

fn nothing(_: wireway_core::op::Token, completion: Completion<'_>) {
    panic!("{completion:?}");
}

pub fn never_before_the_timeout(case: &Case) {
    let rig = case.rig();
    for micros in [1, 50, 300, 1000, 1500, 7300, 20_000] {
        let timeout = Duration::from_micros(micros);
        let start = Instant::now();
        rig.driver.wait(Some(timeout), &mut Hook(nothing)).expect("wait");
        assert!(start.elapsed() >= timeout, "{:?} for {timeout:?}", start.elapsed());
        assert!(start.elapsed() < PATIENCE);
    }
    // As long as there are numbers: it must be taken for "long", and end by a wake.
    rig.driver.waker().wake();
    rig.driver.wait(Some(Duration::MAX), &mut Hook(nothing)).expect("wait");
}

pub fn zero_does_not_sleep(case: &Case) {
    let mut rig = case.rig();
    let (ours, _peer) = pair();
    rig.stream(&ours);
    let start = Instant::now();
    for _ in 0..2000 {
        rig.turn(Some(Duration::ZERO));
    }
    // With a sleep of only a millisecond in each it would take as many.
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(rig.log.seen, []);
}

pub fn woken_from_another_thread(case: &Case) {
    let rig = case.rig();
    let (waker, mut turns) = (rig.driver.waker(), 0);
    for _ in 0..100 {
        let done = Arc::new(AtomicBool::new(false));
        let other = thread::spawn({
            let (waker, done) = (waker.clone(), Arc::clone(&done));
            move || {
                done.store(true, Ordering::Release);
                waker.wake();
            }
        });
        while !done.load(Ordering::Acquire) {
            rig.driver.wait(None, &mut Hook(nothing)).expect("wait");
            turns += 1;
        }
        other.join().expect("waker");
    }
    // A wake may be in two turns: one that it ends, and one that finds the event still raised.
    assert!(turns <= 200, "{turns} turns for 100 wakes");
}

pub fn many_wakes_are_one(case: &Case) {
    let mut rig = case.rig();
    rig.turn(Some(Duration::ZERO));
    let waker = rig.driver.waker();
    let others: Vec<_> = (0..4)
        .map(|_| {
            let waker = waker.clone();
            thread::spawn(move || (0..500).for_each(|_| waker.wake()))
        })
        .collect();
    others.into_iter().for_each(|other| other.join().expect("waker"));
    rig.turn(None);
    rig.quiet();
}

pub fn a_wake_before_wait_is_kept(case: &Case) {
    let mut rig = case.rig();
    for _ in 0..10 {
        rig.driver.waker().wake();
        rig.turn(None);
    }
    rig.quiet();
}

pub fn woken_inside_a_completion(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    rig.stream(&ours);
    peer.write_all(b"data").expect("write");
    let waker = rig.driver.waker();
    let (mut seen, start) = (0, Instant::now());
    while seen == 0 {
        let mut sink = Hook(|_, _: Completion<'_>| {
            seen += 1;
            waker.wake();
        });
        rig.driver.wait(Some(PATIENCE), &mut sink).expect("wait");
    }
    rig.turn(Some(PATIENCE));
    assert!(start.elapsed() < PATIENCE, "the wake was lost");
    rig.quiet();
}

pub fn wakes_do_not_hide_events(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    let token = rig.stream(&ours);
    let (watched, other) = socket_pair();
    let watch = rig.watch(&watched, Interest::READ);
    for round in 1..200 {
        rig.driver.waker().wake();
        peer.write_all(b"d").expect("write");
        rig.driver.waker().wake();
        rig.until("data", |log| log.count(token) == round);
    }
    write(&other, b"data").expect("write");
    rig.driver.waker().wake();
    rig.until("ready", |log| !log.of(watch).is_empty());
}

/// A driver belongs to one thread at a time; which one may change between two waits.
struct Handed(Rig);
// SAFETY: the rig is used by one thread at a time, with a join between: that is the contract of a driver.
unsafe impl Send for Handed {}

pub fn another_thread_takes_over(case: &Case) {
    let (ours, mut peer) = pair();
    let (watched, other) = socket_pair();
    let mut rig = case.rig();
    let token = rig.stream(&ours);
    let watch = rig.watch(&watched, Interest::READ);
    // Made and fed here, run there: how a loop in a background thread begins.
    let mut handed = Handed(rig);
    for round in 1..4 {
        peer.write_all(b"before").expect("write");
        let work = move || {
            let mut handed = handed;
            let rig = &mut handed.0;
            rig.until("what came before", |log| log.count(token) == round * 15 - 9);
            rig.quiet();
            let result = (handed, peer);
            let (mut handed, mut peer) = result;
            peer.write_all(b"meanwhile").expect("write");
            handed.0.until("what came meanwhile", |log| log.count(token) == round * 15);
            (handed, peer)
        };
        (handed, peer) = thread::spawn(work).join().expect("the other thread");
    }
    let mut rig = handed.0;
    write(&other, b"data").expect("write");
    rig.until("ready here again", |log| !log.of(watch).is_empty());
    peer.write_all(b"after").expect("write");
    rig.until("what came after", |log| log.count(token) == 50);
}

/// A loop stops with work done that nobody has seen yet, and runs again in another thread.
pub fn another_thread_takes_over_what_was_settled(case: &Case) {
    let (ours, mut peer) = pair();
    let (listener, address) = listener();
    let mut rig = case.rig();
    let (stream, accepting) = (rig.stream(&ours), rig.attach(&listener, Role::Listener));
    rig.submit(accepting, Op::Accept);
    rig.turn(Some(Duration::ZERO));
    let mut handed = Handed(rig);
    for round in 1..6 {
        let _waiting = crate::harness::peer(address);
        peer.write_all(b"settled").expect("write");
        handed.0.send(stream, b"answer");
        handed.0.driver.settle().expect("settle");
        peer.write_all(b"later").expect("write");
        let work = move || {
            let mut handed = handed;
            let rig = &mut handed.0;
            rig.until("all of it", |log| {
                log.count(stream) == 12 * round
                    && log.of(accepting).len() == round
                    && log.all_sent(stream)
            });
            rig.quiet();
            handed
        };
        handed = thread::spawn(work).join().expect("the other thread");
        let mut answer = [0; 6];
        peer.read_exact(&mut answer).expect("answer");
    }
    assert_eq!(handed.0.log.bytes(stream), b"settledlater".repeat(5));
    peer.set_nonblocking(true).expect("non-blocking");
    assert!(peer.read(&mut [0]).is_err(), "an answer was sent twice");
}

pub fn two_drivers_in_one_thread(case: &Case) {
    let (mut one, mut two) = (case.rig(), case.rig());
    let ((ours_one, mut peer_one), (ours_two, mut peer_two)) = (pair(), pair());
    let (first, second) = (one.stream(&ours_one), two.stream(&ours_two));
    for round in 1..20 {
        peer_one.write_all(b"one").expect("write");
        peer_two.write_all(b"two").expect("write");
        // Whoever waits first must not eat what is the other's.
        if round % 2 == 0 {
            one.until("its own", |log| log.count(first) == 3 * round);
            two.until("its own", |log| log.count(second) == 3 * round);
        } else {
            two.until("its own", |log| log.count(second) == 3 * round);
            one.until("its own", |log| log.count(first) == 3 * round);
        }
    }
    one.turn(Some(QUIET));
    drop(one);
    peer_one.write_all(b"to nobody").expect("write");
    peer_two.write_all(b"still").expect("write");
    two.until("its own", |log| log.count(second) == 3 * 19 + 5);
    two.quiet();
}
