//! Receives: order, pausing, large messages, urgent data.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use wireway_core::driver::Sink;
use wireway_core::op::{Cancel, Completion, Op, Role, Token};

use crate::harness::{Case, Hook, QUIET, Seen, pair, pattern, same_bytes};
use crate::system::{duplicate, send_urgent, small_buffers};

pub fn pieces_arrive_in_order(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    let token = rig.stream(&ours);
    let data = pattern(1, 5000);
    for piece in data.chunks(37) {
        let count = rig.log.count(token) + piece.len();
        peer.write_all(piece).expect("write");
        rig.until("the piece", |log| log.count(token) >= count);
    }
    same_bytes(&rig.log.bytes(token), &data);
    rig.quiet();
}

pub fn a_second_receive_changes_nothing(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    let token = rig.stream(&ours);
    for _ in 0..5 {
        rig.submit(token, Op::Receive);
        rig.turn(Some(Duration::ZERO));
    }
    peer.write_all(b"once").expect("write");
    peer.shutdown(Shutdown::Write).expect("shutdown");
    rig.until("the end", |log| !log.events(token).is_empty());
    rig.quiet();
    assert_eq!(rig.log.bytes(token), b"once");
    assert_eq!(rig.log.events(token), [&Seen::Ended(0)]);
}

pub fn a_paused_receive_delivers_nothing(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    let token = rig.stream(&ours);
    let data = pattern(4, 40_000);
    for (round, piece) in data.chunks(4000).enumerate() {
        let count = rig.log.count(token);
        rig.submit(token, Op::Cancel(Cancel::Receive));
        peer.write_all(piece).expect("write");
        if round % 3 == 0 {
            rig.quiet();
        } else {
            rig.turn(Some(Duration::ZERO));
        }
        assert_eq!(rig.log.count(token), count, "bytes while paused");
        rig.submit(token, Op::Receive);
        rig.until("the piece", |log| log.count(token) == count + piece.len());
    }
    same_bytes(&rig.log.bytes(token), &data);
}

/// The hard one: more has already left the kernel when the sink asks to stop.
pub fn pausing_inside_a_completion_loses_nothing(case: &Case) {
    let rig = case.rig();
    let (ours, mut peer) = pair();
    let token =
        rig.driver.attach(std::os::fd::AsRawFd::as_raw_fd(&ours), Role::Stream).expect("attach");
    let data = pattern(6, 3 << 20);
    let writer = thread::spawn({
        let data = data.clone();
        move || {
            peer.write_all(&data).expect("write");
            peer
        }
    });
    let driver = &rig.driver;
    let (mut got, mut paused, mut pieces, mut idle) = (Vec::new(), true, 0, 0);
    while got.len() < data.len() {
        if paused {
            // Now and then a turn passes while it is paused.
            if pieces % 3 == 1 {
                let mut nothing =
                    Hook(|_, completion: Completion<'_>| panic!("paused: {completion:?}"));
                driver.wait(Some(Duration::ZERO), &mut nothing).expect("wait");
            }
            driver.submit(token, Op::Receive).expect("resume");
            paused = false;
        }
        let before = got.len();
        let mut sink = Hook(|of, completion: Completion<'_>| {
            assert_eq!(of, token);
            assert!(!paused, "delivered after the pause");
            let Completion::Received(bytes) = completion else { panic!("{completion:?}") };
            got.extend_from_slice(bytes);
            pieces += 1;
            if pieces % 2 == 1 {
                driver.submit(token, Op::Cancel(Cancel::Receive)).expect("pause");
                paused = true;
            }
        });
        driver.wait(Some(QUIET), &mut sink).expect("wait");
        idle = if got.len() == before { idle + 1 } else { 0 };
        assert!(idle < 200, "stalled after {} bytes", got.len());
    }
    writer.join().expect("writer");
    same_bytes(&got, &data);
}

pub fn pausing_with_the_end_behind(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    let token = rig.stream(&ours);
    rig.submit(token, Op::Cancel(Cancel::Receive));
    peer.write_all(b"last words").expect("write");
    drop(peer);
    rig.quiet();
    rig.submit(token, Op::Receive);
    rig.until("the end", |log| !log.events(token).is_empty());
    assert_eq!(rig.log.bytes(token), b"last words");
    assert_eq!(rig.log.events(token), [&Seen::Ended(0)]);
}

pub fn large_messages_arrive_whole(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    rig.stream(&ours);
    let data = pattern(8, 16 << 20);
    let writer = thread::spawn({
        let data = data.clone();
        move || {
            peer.write_all(&data).expect("write");
            peer
        }
    });
    let mut got = Vec::with_capacity(data.len());
    while got.len() < data.len() {
        rig.turn(Some(crate::harness::PATIENCE));
        for (_, seen) in rig.log.seen.drain(..) {
            let Seen::Received(bytes) = seen else { panic!("{seen:?}") };
            got.extend_from_slice(&bytes);
        }
    }
    writer.join().expect("writer");
    same_bytes(&got, &data);
}

/// What pays for large messages and what pays for small ones differ; a stream may change from turn to turn.
pub fn large_and_small_take_turns(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    let token = rig.stream(&ours);
    let mut all = Vec::new();
    for round in 0..6 {
        for (size, times) in [(100_000, 3), (100, 40)] {
            for _ in 0..times {
                let data = pattern(round, size);
                all.extend_from_slice(&data);
                let paused = times == 3 && round % 2 == 1;
                if paused {
                    rig.submit(token, Op::Cancel(Cancel::Receive));
                }
                let writer = thread::spawn({
                    let mut peer = peer.try_clone().expect("clone");
                    move || peer.write_all(&data).expect("write")
                });
                if paused {
                    let before = rig.log.count(token);
                    rig.quiet();
                    assert_eq!(rig.log.count(token), before, "delivered while paused");
                    rig.submit(token, Op::Receive);
                }
                rig.until("the message", |log| log.count(token) == all.len());
                writer.join().expect("writer");
            }
        }
    }
    same_bytes(&rig.log.bytes(token), &all);
    peer.write_all(&pattern(7, 100_000)).expect("write");
    drop(peer);
    rig.until("the end", |log| matches!(log.events(token).last(), Some(Seen::Ended(_))));
    assert_eq!(rig.log.count(token), all.len() + 100_000);
}

/// Gives room for what it is asked for, and keeps what came, wherever it came.
#[derive(Default)]
struct Roomy {
    room: Vec<u8>,
    bytes: Vec<u8>,
    filled: usize,
    ended: bool,
}

impl Sink for Roomy {
    fn room(&mut self, _token: Token, hint: usize) -> Option<&mut [u8]> {
        assert!(hint >= 32 * 1024, "asked for {hint} bytes");
        self.room = vec![0; hint + 1];
        Some(&mut self.room)
    }

    fn complete(&mut self, _token: Token, completion: Completion<'_>) {
        match completion {
            Completion::Received(data) => self.bytes.extend_from_slice(data),
            Completion::Filled(count) => {
                self.bytes.extend_from_slice(&self.room[..count]);
                self.filled += 1;
            }
            Completion::ReceiveEnded(result) => {
                result.expect("no error");
                self.ended = true;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Large messages may be received in memory of the sink's own.
pub fn large_messages_in_the_sinks_room(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    rig.stream(&ours);
    let data = pattern(4, 8 << 20);
    let writer = thread::spawn({
        let data = data.clone();
        move || {
            for (number, piece) in data.chunks(200_000).enumerate() {
                peer.write_all(piece).expect("write");
                if number % 4 == 0 {
                    thread::yield_now();
                }
            }
        }
    });
    let (mut sink, start) = (Roomy::default(), std::time::Instant::now());
    while !sink.ended {
        rig.driver.wait(Some(QUIET), &mut sink).expect("wait");
        assert!(start.elapsed() < crate::harness::PATIENCE, "{} bytes came", sink.bytes.len());
    }
    writer.join().expect("writer");
    same_bytes(&sink.bytes, &data);
    assert!(sink.filled > 0, "no room was used");
}

/// `recv` stops at the urgent mark, short, with more behind it: a short read that proves nothing.
pub fn urgent_data_does_not_stall_a_stream(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    let token = rig.stream(&ours);
    let mut expected = Vec::new();
    for round in 0..20 {
        let (before, after) = (pattern(round, 100), pattern(round + 1, 50));
        peer.write_all(&before).expect("write");
        send_urgent(&peer, b'!');
        peer.write_all(&after).expect("write");
        expected.extend_from_slice(&before);
        expected.extend_from_slice(&after);
        let count = expected.len();
        rig.until("what is behind the mark", |log| log.count(token) >= count);
    }
    // Urgent data alone wakes nobody for ever.
    send_urgent(&peer, b'!');
    let count = rig.log.seen.len();
    for _ in 0..5 {
        rig.turn(Some(QUIET));
    }
    assert_eq!(rig.log.seen.len(), count);
    rig.quiet();
    peer.write_all(b"end").expect("write");
    expected.extend_from_slice(b"end");
    rig.until("what is behind it", |log| log.count(token) >= expected.len());
    same_bytes(&rig.log.bytes(token), &expected);
}

/// One open file under two numbers and two drivers: the second cannot own its signals.
pub fn a_stream_that_another_driver_has(case: &Case) {
    let (mut one, mut two) = (case.rig(), case.rig());
    let (ours, mut peer) = pair();
    small_buffers(&ours, &peer);
    let twin = duplicate(&ours, 3).expect("dup");
    let _idle = one.attach(&ours, Role::Stream);
    one.quiet();
    let token = two.stream(&twin);
    two.quiet();
    for round in 1..10 {
        peer.write_all(b"data").expect("write");
        two.until("data", |log| log.count(token) == 4 * round);
    }
    two.submit(token, Op::Cancel(Cancel::Receive));
    peer.write_all(b"kept").expect("write");
    two.quiet();
    let data = pattern(0, 1 << 20);
    two.send(token, &data);
    two.submit(token, Op::Receive);
    two.until("what was kept", |log| log.count(token) == 40);
    let reader = thread::spawn(move || {
        let mut read = vec![0; 1 << 20];
        peer.read_exact(&mut read).expect("read");
        read
    });
    two.until("the send", |log| log.all_sent(token));
    same_bytes(&reader.join().expect("reader"), &data);
    two.until("the end", |log| log.events(token) == [&Seen::Ended(0)]);
    two.quiet();
    two.close(token, twin);
    two.quiet();
}

/// Every byte is in the socket or in what is handed back, in small pieces and in bulk, again and again.
pub fn withdrawn_amid_data(case: &Case) {
    for chunk in [333, 200_000] {
        let mut rig = case.rig();
        let (ours, mut peer) = pair();
        let token = rig.stream(&ours);
        let data = pattern(8, 4 << 20);
        let writer = thread::spawn({
            let data = data.clone();
            move || {
                data.chunks(chunk).for_each(|piece| peer.write_all(piece).expect("write"));
                peer
            }
        });
        let (mut got, mut told) = (Vec::new(), 0);
        while got.len() < data.len() {
            for _ in 0..3 {
                rig.turn(Some(QUIET));
            }
            let withdrawn = rig.driver.withdraw(token).expect("it is attached");
            assert!(withdrawn.end.is_none() && withdrawn.sending.is_none());
            let bytes = rig.log.bytes(token);
            got.extend_from_slice(&bytes[told..]);
            told = bytes.len();
            got.extend_from_slice(&withdrawn.received);
            rig.turn(Some(Duration::ZERO));
            assert_eq!(rig.log.count(token), told, "a completion after it was withdrawn");
            rig.submit(token, Op::Receive);
        }
        same_bytes(&got, &data);
        drop(writer.join().expect("writer"));
    }
}

/// Whoever goes on with the socket learns of the end, from it or from what is handed back.
pub fn withdrawn_at_the_end(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    let token = rig.stream(&ours);
    rig.turn(Some(Duration::ZERO));
    peer.write_all(b"last").expect("write");
    peer.shutdown(Shutdown::Write).expect("shutdown");
    let withdrawn = rig.driver.withdraw(token).expect("it is attached");
    let mut all = withdrawn.received;
    rig.quiet();
    ours.set_nonblocking(false).expect("blocking");
    if withdrawn.end.is_none() {
        (&ours).read_to_end(&mut all).expect("read");
    }
    assert_eq!(all, b"last");
    assert!(rig.driver.withdraw(Token::new(77, 0)).is_err());
}

/// What others receive meanwhile is theirs, whole and in order.
pub fn withdrawn_beside_others(case: &Case) {
    let mut rig = case.rig();
    let mut streams: Vec<_> = (0..6).map(|_| pair()).collect();
    let tokens: Vec<Token> = streams.iter().map(|(ours, _)| rig.stream(ours)).collect();
    rig.turn(Some(Duration::ZERO));
    let (mut sent, mut handed) = (vec![Vec::new(); 6], vec![(0, Vec::new()); 6]);
    for round in 0..300 {
        for (index, (_, peer)) in streams.iter_mut().enumerate() {
            let piece = pattern(round * 7 + index, 1 + (round * 31 + index * 17) % 700);
            peer.write_all(&piece).expect("write");
            sent[index].extend_from_slice(&piece);
        }
        let index = round % 6;
        let withdrawn = rig.driver.withdraw(tokens[index]).expect("it is attached");
        // What its log has comes first.
        let bytes = rig.log.bytes(tokens[index]);
        let (told, got) = &mut handed[index];
        got.extend_from_slice(&bytes[*told..]);
        *told = bytes.len();
        got.extend_from_slice(&withdrawn.received);
        rig.submit(tokens[index], Op::Receive);
        if round % 4 == 0 {
            rig.turn(Some(Duration::ZERO));
        }
    }
    for (index, token) in tokens.into_iter().enumerate() {
        let (told, got) = &mut handed[index];
        let missing = sent[index].len() - got.len();
        rig.until("the rest", |log| log.count(token) >= *told + missing);
        got.extend_from_slice(&rig.log.bytes(token)[*told..]);
        same_bytes(got, &sent[index]);
    }
}
