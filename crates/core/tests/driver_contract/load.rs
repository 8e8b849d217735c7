//! Many at once, and nobody starves.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use wireway_core::buffer::{Pool, SendQueue};
use wireway_core::driver::{Driver, Sent};
use wireway_core::op::{Completion, Op, Role, Token};

use crate::harness::{Case, Hook, PATIENCE, Seen, listener, pair, pattern};
use crate::system::reset;

/// Bytes of a flood that may pass while one ping waits. A turn of a flooding connection is bounded; four are
/// generous, and far below what starving would show.
const BOUND: usize = 16 << 20;

pub fn a_flood_does_not_starve_others(case: &Case) {
    let mut rig = case.rig();
    let ((flooded, mut flooding), (ours, mut peer)) = (pair(), pair());
    let stop = Arc::new(AtomicBool::new(false));
    let writer = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let data = vec![1; 1 << 20];
            while !stop.load(Ordering::Relaxed) && flooding.write_all(&data).is_ok() {}
        }
    });
    let (flood, ping) = (rig.stream(&flooded), rig.stream(&ours));
    rig.until("the flood", |log| log.count(flood) > 1 << 20);
    for _ in 0..50 {
        rig.log.seen.clear();
        peer.write_all(b"ping").expect("write");
        let mut turns = 0;
        while rig.log.count(ping) < 4 {
            rig.turn(Some(PATIENCE));
            turns += 1;
            assert!(turns < 20, "{turns} turns, {} bytes of flood", rig.log.count(flood));
        }
        assert!(rig.log.count(flood) < BOUND, "{} bytes of flood", rig.log.count(flood));
        rig.send(ping, b"pong");
        rig.until("the pong", |log| log.all_sent(ping));
        peer.read_exact(&mut [0; 4]).expect("read");
    }
    stop.store(true, Ordering::Relaxed);
    rig.close(flood, flooded);
    while !writer.is_finished() {
        rig.turn(Some(Duration::from_millis(1)));
    }
    writer.join().expect("writer");
}

pub fn a_flood_of_connections_does_not_starve_others(case: &Case) {
    let mut rig = case.rig();
    let (listener, address) = listener();
    let token = rig.attach(&listener, Role::Listener);
    rig.submit(token, Op::Accept);
    let (ours, mut peer) = pair();
    let ping = rig.stream(&ours);
    let writer = thread::spawn(move || {
        for _ in 0..300 {
            reset(std::net::TcpStream::connect(address).expect("connect"));
        }
    });
    for round in 1..=20 {
        peer.write_all(b"ping").expect("write");
        let mut turns = 0;
        while rig.log.count(ping) < 4 * round {
            rig.turn(Some(PATIENCE));
            turns += 1;
            assert!(turns < 100, "{turns} turns");
        }
        rig.log.accepted.clear();
    }
    rig.until("all", |log| log.of(token).len() == 300);
    writer.join().expect("writer");
    assert!(rig.log.of(token).iter().all(|seen| **seen == Seen::Accepted));
}

/// More than any pool of receive buffers holds: io_uring's ring runs empty, and every byte arrives.
pub fn many_large_transfers_at_once(case: &Case) {
    const STREAMS: usize = 96;
    const SIZE: usize = 400_000;
    let rig = case.rig();
    let driver = &rig.driver;
    let data = pattern(0, SIZE);
    let (mut streams, mut peers) = (HashMap::new(), Vec::new());
    for _ in 0..STREAMS {
        let (ours, peer) = pair();
        peer.set_nonblocking(true).expect("non-blocking");
        let token =
            driver.attach(std::os::fd::AsRawFd::as_raw_fd(&ours), Role::Stream).expect("attach");
        streams.insert(token, (0, false, ours));
        peers.push((peer, 0));
    }
    let fill = |peers: &mut Vec<(std::net::TcpStream, usize)>| {
        for (peer, sent) in peers {
            while *sent < SIZE {
                match peer.write(&data[*sent..]) {
                    Ok(count) => *sent += count,
                    Err(_) => break,
                }
            }
            if *sent == SIZE {
                let _ = peer.shutdown(std::net::Shutdown::Write);
            }
        }
    };
    // Every socket's buffer is full before the first receive.
    fill(&mut peers);
    streams.keys().for_each(|token| driver.submit(*token, Op::Receive).expect("receive"));
    let deadline = std::time::Instant::now() + PATIENCE * 2;
    while streams.values().any(|(_, ended, _)| !ended) {
        assert!(std::time::Instant::now() < deadline, "stalled");
        let mut sink = Hook(|token: Token, completion: Completion<'_>| {
            let (count, ended, _) = streams.get_mut(&token).expect("known");
            match completion {
                Completion::Received(bytes) => {
                    assert_eq!(bytes, &data[*count..*count + bytes.len()], "after {count} bytes");
                    *count += bytes.len();
                }
                Completion::ReceiveEnded(result) => {
                    result.expect("a clean end");
                    assert!(!std::mem::replace(ended, true), "ended twice");
                }
                other => panic!("{other:?}"),
            }
        });
        driver.wait(Some(Duration::from_millis(5)), &mut sink).expect("wait");
        fill(&mut peers);
    }
    assert!(streams.values().all(|(count, ..)| *count == SIZE));
}

struct Echo<'a> {
    driver: &'a dyn Driver,
    pool: Pool,
    /// What waits for the send that is pending.
    waiting: RefCell<HashMap<Token, (bool, SendQueue)>>,
}

impl Echo<'_> {
    fn flush(&self, token: Token, pending: &mut bool, queue: &mut SendQueue) {
        while !*pending && !queue.is_empty() {
            match self.driver.send(token, queue) {
                Sent::Done(count) => queue.advance(&self.pool, count),
                Sent::Pending => *pending = true,
                Sent::Failed(error) => panic!("{error}"),
            }
        }
    }

    fn complete(&self, token: Token, completion: Completion<'_>) {
        let mut waiting = self.waiting.borrow_mut();
        let (pending, queue) = waiting.entry(token).or_default();
        match completion {
            Completion::Received(bytes) => queue.copy(&self.pool, bytes),
            Completion::Sent(mut back, result) => {
                back.advance(&self.pool, result.expect("sent"));
                back.append(queue);
                (*pending, *queue) = (false, back);
            }
            Completion::ReceiveEnded(result) => return result.expect("a clean end"),
            other => panic!("{other:?}"),
        }
        self.flush(token, pending, queue);
    }
}

/// What a server does: everything from inside completions, pipelined, with sizes of every kind.
pub fn echo_inside_completions(case: &Case) {
    let rig = case.rig();
    let driver = &*rig.driver;
    let mut ours = Vec::new();
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let (socket, mut peer) = pair();
            let token = driver
                .attach(std::os::fd::AsRawFd::as_raw_fd(&socket), Role::Stream)
                .expect("attach");
            driver.submit(token, Op::Receive).expect("receive");
            ours.push(socket);
            thread::spawn(move || {
                for round in 0..40 {
                    let size = [1, 100, 3000, 20_000, 150_000][(round + number) % 5];
                    let data = pattern(round, size);
                    peer.write_all(&data).expect("write");
                    let mut read = vec![0; size];
                    peer.read_exact(&mut read).expect("read");
                    assert!(read == data, "round {round}");
                }
            })
        })
        .collect();
    let echo = Echo { driver, pool: Pool::new(), waiting: RefCell::default() };
    while clients.iter().any(|client| !client.is_finished()) {
        let mut sink = Hook(|token, completion: Completion<'_>| echo.complete(token, completion));
        driver.wait(Some(Duration::from_millis(20)), &mut sink).expect("wait");
    }
    clients.into_iter().for_each(|client| client.join().expect("client"));
}
