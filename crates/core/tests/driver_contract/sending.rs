//! Sends: order, content, and who owns the bytes meanwhile.

use std::io::{IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::thread;

use wireway_core::buffer::{BLOCK, MAX_SLICES, Payload, Pool, SendQueue};
use wireway_core::driver::Sent;

use crate::harness::{Case, Kept, Seen, pair, pattern, same_bytes};
use crate::system::small_buffers;

pub fn small_sends_arrive(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    let token = rig.stream(&ours);
    for round in 0..50 {
        let data = pattern(round, 1 + round * 7);
        rig.send(token, &data);
        rig.until("the send", |log| log.all_sent(token));
        let mut read = vec![0; data.len()];
        peer.read_exact(&mut read).expect("read");
        assert_eq!(read, data);
    }
    rig.quiet();
}

pub fn partial_sends_keep_order_and_content(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    small_buffers(&ours, &peer);
    let token = rig.stream(&ours);
    let data = pattern(3, 8 << 20);
    // Copies in blocks, an outsize copy, and kept payloads, by turns.
    let (mut rest, mut kept) = (&data[..], false);
    for size in [100, BLOCK, 3 * BLOCK, 1 << 20, 7, 2 << 20].into_iter().cycle() {
        let (piece, later) = rest.split_at(size.min(rest.len()));
        if kept {
            rig.keep(token, Box::new(Kept(piece.to_vec())));
        } else {
            rig.send(token, piece);
        }
        (rest, kept) = (later, !kept);
        if rest.is_empty() {
            break;
        }
    }
    // Nobody reads: it gets stuck (a probe of the closed window may still squeeze something in).
    let mut before = usize::MAX;
    while before != rig.log.seen.len() {
        before = rig.log.seen.len();
        rig.turn(Some(crate::harness::QUIET));
        assert!(before < 1000, "the driver does not sleep");
    }
    assert!(!rig.log.all_sent(token), "8 MiB can not fit");
    let reader = thread::spawn(move || {
        let mut read = vec![0; 8 << 20];
        peer.read_exact(&mut read).expect("read");
        (read, peer)
    });
    rig.until("everything sent", |log| log.all_sent(token));
    let (read, mut peer) = reader.join().expect("reader");
    same_bytes(&read, &data);
    let partial = rig.log.of(token).iter().filter(|seen| matches!(seen, Seen::Sent(_))).count();
    // io_uring goes on by itself (MSG_WAITALL); the others must have been there in between.
    let whole = !rig.driver.capabilities().sends_at_once;
    assert!(whole || partial > 3, "{partial} completions are no partial sends");
    ours.shutdown(Shutdown::Write).expect("shutdown");
    assert_eq!(peer.read(&mut [0]).expect("read"), 0, "nothing is sent twice");
}

pub fn many_pieces_leave_in_order(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    let token = rig.stream(&ours);
    let data = pattern(9, 40 * MAX_SLICES);
    for piece in data.chunks(10) {
        rig.keep(token, Box::new(Kept(piece.to_vec())));
    }
    rig.until("everything sent", |log| log.all_sent(token));
    let mut read = vec![0; data.len()];
    peer.read_exact(&mut read).expect("read");
    same_bytes(&read, &data);
}

pub fn both_directions_at_once(case: &Case) {
    let mut rig = case.rig();
    let (ours, peer) = pair();
    small_buffers(&ours, &peer);
    let token = rig.stream(&ours);
    let (out, back) = (pattern(1, 2 << 20), pattern(2, 2 << 20));
    let writer = thread::spawn({
        let (mut peer, back) = (peer.try_clone().expect("clone"), back.clone());
        move || peer.write_all(&back).expect("write")
    });
    let reader = thread::spawn({
        let (mut peer, length) = (peer, out.len());
        move || {
            let mut read = vec![0; length];
            peer.read_exact(&mut read).expect("read");
            (read, peer)
        }
    });
    rig.send(token, &out);
    rig.until("both directions", |log| log.all_sent(token) && log.count(token) == 2 << 20);
    same_bytes(&rig.log.bytes(token), &back);
    writer.join().expect("writer");
    same_bytes(&reader.join().expect("reader").0, &out);
}

struct Counted(Arc<Vec<u8>>);
// SAFETY: nobody changes the shared vector, and moving the pointer to it does not move it.
unsafe impl Payload for Counted {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

pub fn a_queue_in_flight_is_dropped_after_detach(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    small_buffers(&ours, &peer);
    let token = rig.stream(&ours);
    let payload = Arc::new(pattern(5, 4 << 20));
    rig.keep(token, Box::new(Counted(Arc::clone(&payload))));
    rig.turn(Some(std::time::Duration::ZERO));
    assert!(!rig.log.all_sent(token));
    let before = rig.log.seen.len();
    rig.close(token, ours);
    // What did leave is a prefix.
    let mut read = Vec::new();
    let reader = thread::spawn(move || {
        // A reset is as good an end as any.
        let _ = peer.read_to_end(&mut read);
        read
    });
    let mut turns = 0;
    while Arc::strong_count(&payload) > 1 {
        rig.turn(Some(std::time::Duration::from_millis(10)));
        turns += 1;
        assert!(turns < 500, "the queue is never dropped");
    }
    assert_eq!(rig.log.seen.len(), before, "no completion after detach");
    while !reader.is_finished() {
        rig.turn(Some(std::time::Duration::from_millis(10)));
        turns += 1;
        assert!(turns < 500, "the descriptor is never closed");
    }
    let read = reader.join().expect("reader");
    assert!(read.len() < payload.len());
    same_bytes(&read, &payload[..read.len()]);
}

pub fn one_send_is_pending_at_a_time(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    let token = rig.stream(&ours);
    // Written while the one before may be pending: small overlapping sends must not reorder.
    let data = pattern(7, 60_000);
    for piece in data.chunks(23) {
        rig.send(token, piece);
    }
    let reader = thread::spawn(move || {
        let mut read = vec![0; 60_000];
        peer.read_exact(&mut read).expect("read");
        read
    });
    rig.until("everything sent", |log| log.all_sent(token));
    same_bytes(&reader.join().expect("reader"), &data);
}

/// What the kernel took is sent, what it did not is handed back, and between them nothing is lost or sent twice.
pub fn withdrawn_in_flight(case: &Case) {
    for size in [1, 100, 8 << 20] {
        let mut rig = case.rig();
        let (ours, mut peer) = pair();
        small_buffers(&ours, &peer);
        let token = rig.stream(&ours);
        let data = pattern(5, size);
        let pool = Pool::new();
        let mut queue = SendQueue::default();
        for piece in data.chunks(3 * BLOCK) {
            queue.copy(&pool, piece);
        }
        let mut left = loop {
            match rig.driver.send(token, &mut queue) {
                Sent::Done(count) => queue.advance(&pool, count),
                Sent::Pending => {
                    // Given to the kernel, or only queued.
                    if size != 100 {
                        rig.driver.settle().expect("settle");
                    }
                    let withdrawn = rig.driver.withdraw(token).expect("it is attached");
                    let (mut back, result) = withdrawn.sending.expect("it was pending");
                    back.advance(&pool, result.expect("the socket is well"));
                    back.append(&mut queue);
                    break back;
                }
                Sent::Failed(error) => panic!("{error}"),
            }
            if queue.is_empty() {
                break SendQueue::default();
            }
        };
        rig.quiet();
        let mut rest = Vec::new();
        while !left.is_empty() {
            let front = {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let count = left.slices(&mut slices);
                slices[..count].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<u8>>()
            };
            rest.extend_from_slice(&front);
            left.advance(&pool, front.len());
        }
        assert!(size < 1000 || !rest.is_empty(), "8 MiB can not fit");
        let reader = thread::spawn(move || {
            let mut read = Vec::new();
            peer.read_to_end(&mut read).expect("read");
            read
        });
        // Whoever has the socket now goes on.
        ours.set_nonblocking(false).expect("blocking");
        (&ours).write_all(&rest).expect("write");
        ours.shutdown(Shutdown::Write).expect("shutdown");
        same_bytes(&reader.join().expect("reader"), &data);
    }
}
