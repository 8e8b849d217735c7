//! Detaching, descriptor numbers that are used again at once, and all of it from inside a completion.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use wireway_core::buffer::{Pool, SendQueue};
use wireway_core::driver::{Fate, Sent};
use wireway_core::op::{Completion, Interest, Op, Role, Token};

use crate::harness::{Case, Hook, Number, PATIENCE, Rig, Seen, pair, pattern, same_bytes};
use crate::system::{
    close_number, duplicate, raise_descriptor_limit, small_buffers, socket_pair, status_flags,
    write,
};

pub fn nothing_comes_after_detach(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    let token = rig.stream(&ours);
    rig.turn(Some(Duration::ZERO));
    rig.keep_open(token);
    peer.write_all(b"to nobody").expect("write");
    drop(peer);
    rig.quiet();
    assert_eq!(rig.log.seen, []);
}

pub fn unknown_tokens(case: &Case) {
    let mut rig = case.rig();
    let (ours, _peer) = pair();
    let token = rig.stream(&ours);
    rig.keep_open(token);
    for token in [token, Token::new(1 << 20, 0), Token::new(token.raw() as u32, 77)] {
        rig.driver.detach(token, Fate::Keep);
        let error = rig.driver.submit(token, Op::Receive).expect_err("not attached");
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        let (pool, mut queue) = (Pool::new(), SendQueue::default());
        queue.copy(&pool, b"kept");
        match rig.driver.send(token, &mut queue) {
            Sent::Failed(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOENT)),
            other => panic!("{other:?}"),
        }
        assert_eq!(queue.single(), Some(&b"kept"[..]), "the queue is still the caller's");
    }
    let again = rig.stream(&ours);
    assert_ne!(again, token, "another life");
    rig.quiet();
}

/// Two streams with data; the first completion detaches the other.
pub fn others_of_the_same_batch(case: &Case) {
    for fate_closes in [false, true] {
        let mut rig = case.rig();
        let mut streams = Vec::new();
        for _ in 0..8 {
            let (ours, mut peer) = pair();
            let token = rig.stream(&ours);
            peer.write_all(b"data").expect("write");
            streams.push((token, Some(ours), peer));
        }
        let (driver, mut seen, streams) = (&rig.driver, Vec::new(), RefCell::new(streams));
        let mut sink = Hook(|token, _: Completion<'_>| {
            seen.push(token);
            for (other, ours, _) in streams.borrow_mut().iter_mut().filter(|(of, ..)| *of != token)
            {
                let Some(ours) = ours.take() else { continue };
                if fate_closes {
                    driver.detach(*other, Fate::Close(ours.into()));
                } else {
                    driver.detach(*other, Fate::Keep);
                    drop(ours);
                }
            }
        });
        for _ in 0..3 {
            driver.wait(Some(crate::harness::QUIET), &mut sink).expect("wait");
        }
        assert_eq!(seen.len(), 1, "{seen:?}");
        for (token, ours, peer) in streams.borrow_mut().iter_mut() {
            assert_eq!(ours.is_some(), *token == seen[0]);
            if ours.is_none() {
                let end = peer.read(&mut [0]);
                assert!(matches!(&end, Ok(0) | Err(_)), "{end:?}");
            }
        }
    }
}

pub fn itself_inside_a_completion(case: &Case) {
    let rig = case.rig();
    let mut streams = Vec::new();
    for _ in 0..10 {
        let (ours, mut peer) = pair();
        let token = rig.driver.attach(ours.as_raw_fd(), Role::Stream).expect("attach");
        rig.driver.submit(token, Op::Receive).expect("receive");
        peer.write_all(&pattern(0, 300_000)[..100_000]).expect("write");
        streams.push((token, Some(ours), peer));
    }
    let (driver, mut seen) = (&rig.driver, 0);
    let mut sink = Hook(|token, completion: Completion<'_>| {
        assert!(matches!(completion, Completion::Received(_)), "{completion:?}");
        let (_, ours, _) = streams.iter_mut().find(|(of, ..)| *of == token).expect("known");
        let ours = ours.take().expect("nothing comes after detach");
        driver.detach(token, Fate::Close(ours.into()));
        seen += 1;
    });
    for _ in 0..20 {
        driver.wait(Some(Duration::from_millis(5)), &mut sink).expect("wait");
    }
    assert_eq!(seen, 10);
}

/// Accepts, attaches, answers and detaches, all inside completions.
pub fn attached_inside_a_completion(case: &Case) {
    let rig = case.rig();
    let (listener, address) = crate::harness::listener();
    let token = rig.driver.attach(listener.as_raw_fd(), Role::Listener).expect("attach");
    rig.driver.submit(token, Op::Accept).expect("accept");
    let mut peers: Vec<TcpStream> = (0..30).map(|_| crate::harness::peer(address)).collect();
    for (number, peer) in (0..).zip(&mut peers) {
        peer.write_all(&[number]).expect("write");
    }
    let (driver, pool) = (&rig.driver, Pool::new());
    let (mut open, mut closed) = (Vec::<(Token, OwnedFd)>::new(), 0);
    let mut sink = Hook(|of, completion: Completion<'_>| match completion {
        Completion::Accepted(Ok(new)) => {
            let stream = driver.attach(new.as_raw_fd(), Role::Stream).expect("attach");
            driver.submit(stream, Op::Receive).expect("receive");
            open.push((stream, new));
        }
        Completion::Received(bytes) => {
            let mut queue = SendQueue::default();
            queue.copy(&pool, bytes);
            assert!(!matches!(driver.send(of, &mut queue), Sent::Failed(_)));
        }
        Completion::Sent(_, result) => assert_eq!(result.expect("sent"), 1),
        Completion::ReceiveEnded(result) => {
            result.expect("a clean end");
            let place = open.iter().position(|(stream, _)| *stream == of).expect("attached");
            driver.detach(of, Fate::Close(open.swap_remove(place).1));
            closed += 1;
        }
        other => panic!("{other:?}"),
    });
    let reader = std::thread::spawn(move || {
        for (number, mut peer) in (0..).zip(peers) {
            let mut read = [0];
            peer.read_exact(&mut read).expect("read");
            assert_eq!(read, [number]);
        }
    });
    while !reader.is_finished() {
        driver.wait(Some(Duration::from_millis(20)), &mut sink).expect("wait");
    }
    reader.join().expect("answers");
    for _ in 0..5 {
        driver.wait(Some(Duration::from_millis(20)), &mut sink).expect("wait");
    }
    assert_eq!((open.len(), closed), (0, 30));
}

/// Talks over `rounds` connections, one after the other, each with the numbers of those before.
fn reuse(rig: &mut Rig, rounds: usize, mut end: impl FnMut(&mut Rig, Token, TcpStream)) -> usize {
    let (mut numbers, mut reused) = (HashSet::new(), 0);
    for round in 0..rounds {
        let (ours, mut peer) = pair();
        reused += usize::from(!numbers.insert(ours.as_raw_fd()));
        let token = rig.stream(&ours);
        let data = pattern(round, 10 + round);
        peer.write_all(&data).expect("write");
        rig.until("data", |log| log.count(token) >= data.len());
        assert_eq!(rig.log.bytes(token), data);
        // Left behind: a receive in progress, data on its way, a peer that ends.
        peer.write_all(b"stale").expect("write");
        drop(peer);
        let before = rig.log.of(token).len();
        end(rig, token, ours);
        assert_eq!(rig.log.of(token).len(), before);
    }
    rig.quiet();
    reused
}

pub fn reused_after_keep(case: &Case) {
    let mut rig = case.rig();
    let reused = reuse(&mut rig, 100, |rig, token, ours| {
        rig.keep_open(token);
        drop(ours);
    });
    // Other tests of this process take numbers too.
    assert!(reused > 0, "no number was used again");
}

pub fn reused_after_close(case: &Case) {
    let mut rig = case.rig();
    let reused = reuse(&mut rig, 100, |rig, token, ours| rig.close(token, ours));
    assert!(reused > 0, "no number was used again");
}

/// The number changes hands between the kernel's report and its turn in the batch.
pub fn reused_within_a_batch(case: &Case) {
    let rig = case.rig();
    let driver = &rig.driver;
    let start = |data: &[u8]| {
        let (ours, mut peer) = pair();
        let token = driver.attach(ours.as_raw_fd(), Role::Stream).expect("attach");
        driver.submit(token, Op::Receive).expect("receive");
        peer.write_all(data).expect("write");
        (token, ours, peer)
    };
    let mut old: Vec<_> = (0..6).map(|_| start(b"old")).collect();
    let mut new = Vec::new();
    let mut reader = Vec::new();
    let mut sink = Hook(|token, completion: Completion<'_>| {
        let Completion::Received(bytes) = completion else { panic!("{completion:?}") };
        reader.push((token, bytes.to_vec()));
        // Everybody moves out, and others move in.
        for (token, ours, _peer) in old.drain(..) {
            driver.detach(token, Fate::Keep);
            drop(ours);
            new.push(start(b"new"));
        }
    });
    for _ in 0..10 {
        driver.wait(Some(Duration::from_millis(10)), &mut sink).expect("wait");
    }
    assert_eq!(reader.len(), 7, "one of the old and all of the new: {reader:?}");
    for (token, bytes) in &reader[1..] {
        assert!(new.iter().any(|(of, ..)| of == token), "somebody else's completion");
        assert_eq!(bytes, b"new");
    }
}

pub fn close_reaches_the_peer(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    let token = rig.stream(&ours);
    rig.turn(Some(Duration::ZERO));
    rig.close(token, ours);
    rig.turn(Some(Duration::ZERO));
    rig.quiet();
    assert_eq!(peer.read(&mut [0]).expect("a clean end"), 0);
}

/// The close is in order after the sends that completed.
pub fn close_after_the_last_send(case: &Case) {
    for round in 0..20 {
        let mut rig = case.rig();
        let (ours, mut peer) = pair();
        let token = rig.stream(&ours);
        let data = pattern(round, 50_000);
        rig.send(token, &data);
        rig.until("the send", |log| log.all_sent(token));
        rig.close(token, ours);
        rig.turn(Some(Duration::ZERO));
        let mut read = Vec::new();
        peer.read_to_end(&mut read).expect("a clean end");
        same_bytes(&read, &data);
    }
}

/// The last send did not complete: what arrives is a prefix, and the descriptor is closed.
pub fn close_with_a_send_pending(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    small_buffers(&ours, &peer);
    let token = rig.stream(&ours);
    let data = pattern(0, 1 << 20);
    rig.send(token, &data);
    rig.turn(Some(Duration::ZERO));
    rig.close(token, ours);
    let reader = std::thread::spawn(move || {
        let mut read = Vec::new();
        let end = peer.read_to_end(&mut read);
        (read, end)
    });
    while !reader.is_finished() {
        rig.turn(Some(Duration::from_millis(5)));
    }
    let (read, end) = reader.join().expect("reader");
    assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    same_bytes(&read, &data[..read.len()]);
}

pub fn the_descriptor_is_left_as_it_was(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    let (watched, other) = socket_pair();
    let before = (status_flags(&ours), status_flags(&watched));
    let (stream, watch) = (rig.stream(&ours), rig.watch(&watched, Interest::READ));
    peer.write_all(b"data").expect("write");
    write(&other, b"data").expect("write");
    rig.until("both", |log| log.count(stream) == 4 && !log.of(watch).is_empty());
    rig.keep_open(stream);
    rig.keep_open(watch);
    assert_eq!((status_flags(&ours), status_flags(&watched)), before);
    // Its owner goes on with it.
    rig.turn(Some(Duration::ZERO));
    let mut ours = ours;
    ours.set_nonblocking(false).expect("blocking");
    peer.write_all(b"more").expect("write");
    let mut read = [0; 4];
    ours.read_exact(&mut read).expect("read");
    assert_eq!(&read, b"more");
    ours.write_all(b"back").expect("write");
    peer.read_exact(&mut read).expect("read");
    assert_eq!(&read, b"back");
}

/// With work of every kind in progress, and reports that nobody read.
pub fn a_dropped_driver_leaves_nothing(case: &Case) {
    let flags;
    let (ours, mut peer) = pair();
    {
        let mut rig = case.rig();
        let (listener, address) = crate::harness::listener();
        let accepting = rig.attach(&listener, Role::Listener);
        rig.submit(accepting, Op::Accept);
        flags = status_flags(&ours);
        let stream = rig.stream(&ours);
        rig.send(stream, &pattern(1, 4 << 20));
        rig.turn(Some(Duration::ZERO));
        let _waiting = crate::harness::peer(address);
        peer.write_all(b"unheard").expect("write");
        for _ in 0..100 {
            peer.write_all(b"unheard").expect("write");
        }
    }
    assert_eq!(status_flags(&ours), flags);
    // What comes now disturbs nobody (a late signal would end the process).
    peer.write_all(b"later").expect("write");
    let mut rig = case.rig();
    let token = rig.stream(&ours);
    rig.until("data", |log| log.count(token) > 0);
}

/// A descriptor closed under one driver, its number used by another, in a program with two loops: the first,
/// when it goes, takes nothing from the second.
pub fn a_number_that_another_driver_uses_now(case: &Case) {
    let (mut one, mut two) = (case.rig(), case.rig());
    let ((first, _first_peer), (second, mut peer)) = (pair(), pair());
    // Numbers that no other test takes, and that select admits.
    let least = 800 + 10 * case.backend as i32;
    let high = duplicate(&first, least).expect("dup");
    let number = Number(high.as_raw_fd());
    let stale = one.stream(&number);
    one.turn(Some(Duration::ZERO));
    std::mem::forget(high);
    close_number(number.0);
    let again = duplicate(&second, number.0).expect("dup");
    assert_eq!(again.as_raw_fd(), number.0, "another test took the number");
    let token = two.stream(&again);
    two.turn(Some(Duration::ZERO));
    one.keep_open(stale);
    drop(one);
    for round in 1..4 {
        peer.write_all(b"data").expect("write");
        two.until("data", |log| log.count(token) == 4 * round);
    }
}

pub fn descriptors_over_the_limit_are_refused(case: &Case) {
    let mut rig = case.rig();
    let (ours, mut peer) = pair();
    raise_descriptor_limit();
    let high = duplicate(&ours, 1024).expect("the hard RLIMIT_NOFILE is over 1024");
    let limit = rig.driver.capabilities().descriptor_limit;
    for role in [Role::Stream, Role::Listener, Role::Watched] {
        match (rig.driver.attach(high.as_raw_fd(), role), limit) {
            (Ok(token), None) => rig.keep_open(token),
            (Err(error), Some(1024)) => {
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                let text = error.to_string();
                for part in [&high.as_raw_fd().to_string()[..], "1024", "backend='epoll'"] {
                    assert!(text.contains(part), "{part} is not in: {text}");
                }
            }
            (result, limit) => panic!("{result:?} with a limit of {limit:?}"),
        }
    }
    // Nothing is lost: the driver works, and so does the descriptor.
    let token = rig.stream(&ours);
    peer.write_all(b"data").expect("write");
    rig.until("data", |log| log.count(token) == 4);
    assert_eq!(write(&high, b"back").expect("write"), 4);
    let mut read = [0; 4];
    peer.read_exact(&mut read).expect("read");
    let deadline = std::time::Instant::now() + PATIENCE;
    rig.close(token, ours);
    drop(high);
    while peer.set_nonblocking(true).is_ok() && peer.read(&mut read).is_err() {
        rig.turn(Some(Duration::from_millis(1)));
        assert!(std::time::Instant::now() < deadline, "something is left open");
    }
    assert!(rig.log.events(token).iter().all(|seen| !matches!(seen, Seen::Ended(_))));
}
