//! Cases that change their process (limits, signals, forks, the whole heap): each has one of its own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use wireway_core::driver::Fate;
use wireway_core::op::{Op, Role};

use crate::harness::{
    Case, QUIET, Rig, Seen, listener, open_descriptors, pair, pattern, peer, same_bytes,
};
use crate::system::{
    Storm, duplicate, forked, heap_in_use, limit, reset, small_buffers, tcp_socket,
};

/// EINTR at every call that sleeps, and at some that do not.
pub fn interrupted_by_signals(case: &Case) {
    case.alone(|case| {
        let mut rig = case.rig();
        let (ours, mut peer) = pair();
        small_buffers(&ours, &peer);
        let token = rig.stream(&ours);
        let _storm = Storm::new();
        let data = pattern(1, 2 << 20);
        let echo = std::thread::spawn(move || {
            let (mut buffer, mut left) = (vec![0; 10_000], 2 << 20);
            while left > 0 {
                // The standard library's `write_all` retries EINTR; `read` does not.
                match peer.read(&mut buffer) {
                    Ok(count) => {
                        peer.write_all(&buffer[..count]).expect("write");
                        left -= count;
                    }
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::Interrupted),
                }
            }
            peer
        });
        rig.send(token, &data);
        rig.until("the echo", |log| log.count(token) == data.len());
        same_bytes(&rig.log.bytes(token), &data);
        let _peer = echo.join().expect("peer");
        // A wait may end early by a signal, but it is no error and completes nothing.
        let (start, before) = (Instant::now(), rig.log.seen.len());
        while start.elapsed() < 4 * QUIET {
            rig.turn(Some(QUIET));
        }
        assert_eq!(rig.log.seen.len(), before);
    });
}

/// Somebody may refer to a closed driver for long: it holds no descriptor, and everything finds nothing.
pub fn a_closed_driver_holds_nothing(case: &Case) {
    case.alone(|case| {
        let before = open_descriptors();
        let (ours, mut peer) = pair();
        let (listener, address) = listener();
        let own = open_descriptors();
        let mut rig = case.rig();
        let accepting = rig.attach(&listener, Role::Listener);
        rig.submit(accepting, Op::Accept);
        let stream = rig.stream(&ours);
        rig.send(stream, &pattern(1, 4 << 20));
        rig.turn(Some(Duration::ZERO));
        peer.write_all(b"unheard").expect("write");
        let waker = rig.driver.waker();
        rig.driver.close();
        assert_eq!(open_descriptors(), own);
        rig.driver.close();
        waker.wake();
        rig.driver.waker().wake();
        let gone = |error: std::io::Error| assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        gone(rig.driver.attach(ours.as_raw_fd(), Role::Stream).expect_err("attach"));
        gone(rig.driver.submit(stream, Op::Receive).expect_err("submit"));
        gone(rig.driver.wait(Some(Duration::ZERO), &mut rig.log).expect_err("wait"));
        rig.driver.detach(accepting, Fate::Close(OwnedFd::from(listener)));
        let refused = TcpStream::connect(address).expect_err("the listener is closed");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        drop((ours, peer));
        assert_eq!(open_descriptors(), before);
    });
}

/// Accepting pauses, says so once, and resumes when a descriptor is free.
pub fn no_descriptor_left_while_accepting(case: &Case) {
    case.alone(|case| {
        let mut rig = case.rig();
        let (listener, address) = listener();
        let token = rig.attach(&listener, Role::Listener);
        rig.submit(token, Op::Accept);
        let _peers = [peer(address), peer(address), peer(address)];
        limit(libc::RLIMIT_NOFILE, open_descriptors() as u64 + 20);
        let mut hogs = Vec::<OwnedFd>::new();
        while let Ok(hog) = duplicate(&listener, 0) {
            hogs.push(hog);
        }
        for attempt in 1..3 {
            rig.until("the failure", |log| log.of(token).len() == attempt);
            rig.quiet();
            assert_eq!(rig.log.of(token), vec![&Seen::AcceptFailed(libc::EMFILE); attempt]);
            rig.submit(token, Op::Accept);
        }
        rig.until("the failure", |log| log.of(token).len() == 3);
        rig.quiet();
        // Two are free: the two that wait longest are in, and it says once more that there are none.
        hogs.truncate(hogs.len() - 2);
        rig.submit(token, Op::Accept);
        rig.until("two, and the failure", |log| log.of(token).len() == 6);
        rig.quiet();
        assert_eq!(rig.log.accepted.len(), 2);
        hogs.clear();
        rig.submit(token, Op::Accept);
        rig.until("the last", |log| log.accepted.len() == 3);
        rig.quiet();
    });
}

/// Only sigio has a queue of signals; the others must not care.
pub fn a_full_signal_queue_loses_nothing(case: &Case) {
    case.alone(|case| {
        for allowed in [64, 3, 0] {
            limit_signals(allowed);
            let mut rig = case.rig();
            let mut streams: Vec<_> = (0..100)
                .map(|_| {
                    let (ours, peer) = pair();
                    (rig.stream(&ours), ours, peer)
                })
                .collect();
            rig.turn(Some(Duration::ZERO));
            rig.turn(Some(Duration::ZERO));
            for round in 1..=20 {
                for (_, _, peer) in &mut streams {
                    peer.write_all(b"signal").expect("write");
                    peer.write_all(b" again").expect("write");
                }
                rig.until("all", |log| streams.iter().all(|(of, ..)| log.count(*of) == 12 * round));
            }
            // One alone, after the storm.
            for (token, _, peer) in &mut streams[..10] {
                peer.write_all(b"alone").expect("write");
                rig.until("one", |log| log.count(*token) == 12 * 20 + 5);
            }
            // The loss of an end, or of room, would hang.
            let (token, ours, mut peer) = streams.pop().expect("a stream");
            small_buffers(&ours, &peer);
            let data = pattern(0, 1 << 20);
            rig.send(token, &data);
            rig.turn(Some(Duration::ZERO));
            let reader = std::thread::spawn(move || {
                let mut read = vec![0; 1 << 20];
                peer.read_exact(&mut read).expect("read");
                read
            });
            rig.until("the send", |log| log.all_sent(token));
            same_bytes(&reader.join().expect("reader"), &data);
            rig.until("its end", |log| log.events(token) == [&Seen::Ended(0)]);
        }
    });
}

fn limit_signals(allowed: u64) {
    limit(libc::RLIMIT_SIGPENDING, allowed);
}

/// A child has the same open files, and the same epoll set or ring: it must let them be.
pub fn a_forked_child_does_not_disturb(case: &Case) {
    case.alone(|case| {
        let mut rig = case.rig();
        let (listener, address) = listener();
        let accepting = rig.attach(&listener, Role::Listener);
        rig.submit(accepting, Op::Accept);
        let ((ours, mut peer), (other, mut other_peer)) = (pair(), pair());
        let (token, watch) =
            (rig.stream(&ours), rig.watch(&other, wireway_core::op::Interest::READ));
        peer.write_all(b"before").expect("write");
        rig.until("data", |log| log.count(token) == 6);
        for round in 1..=3 {
            // SAFETY: only the child uses and drops the copy: `forked` forgets the closure here.
            let copy = unsafe { std::ptr::read(&raw const rig) };
            let fds = [ours.as_raw_fd(), other.as_raw_fd(), listener.as_raw_fd()];
            let fine = forked(move || {
                let mut rig: Rig = copy;
                rig.keep_open(token);
                if round > 1 {
                    rig.keep_open(watch);
                    rig.keep_open(accepting);
                }
                drop(rig);
                // And has a loop of its own, with what it inherited.
                let mut rig = case.rig();
                let child = rig.attach(&crate::harness::Number(fds[1]), Role::Watched);
                rig.submit(child, Op::Watch(wireway_core::op::Interest::WRITE));
                rig.until("ready in the child", |log| !log.of(child).is_empty());
                rig.keep_open(child);
            });
            assert!(fine, "the child failed");
            peer.write_all(b"after!").expect("write");
            rig.until("data", |log| log.count(token) == 6 + 6 * round);
            other_peer.write_all(b"x").expect("write");
            let before = rig.log.of(watch).len();
            rig.until("ready", |log| log.of(watch).len() > before);
            let mut one = [0];
            (&other).read_exact(&mut one).expect("read");
            let _client = TcpStream::connect(address).expect("connect");
            rig.until("a connection", |log| log.accepted.len() == round);
        }
        rig.turn(Some(Duration::ZERO));
        rig.quiet();
    });
}

/// A batch: both ends in this process and on this driver, one message each way, closed by either or reset.
fn batch(rig: &mut Rig, listener: &impl AsRawFd, address: std::net::SocketAddr, size: usize) {
    let accepting = rig.attach(listener, Role::Listener);
    rig.submit(accepting, Op::Accept);
    let mut clients = Vec::new();
    for _ in 0..size {
        let socket = tcp_socket();
        let token = rig.attach(&socket, Role::Stream);
        rig.submit(token, Op::Connect(address.into()));
        clients.push((token, socket));
    }
    rig.until("all connected", |log| log.accepted.len() == size && log.seen.len() == 2 * size);
    rig.log.seen.clear();
    let accepted = std::mem::take(&mut rig.log.accepted);
    let servers: Vec<_> = accepted.into_iter().map(|fd| (rig.stream(&fd), fd)).collect();
    for (token, _) in &clients {
        rig.submit(*token, Op::Receive);
        rig.send(*token, b"question");
    }
    let received = |log: &crate::harness::Log| {
        log.seen
            .iter()
            .map(|(_, seen)| if let Seen::Received(b) = seen { b.len() } else { 0 })
            .sum::<usize>()
    };
    rig.until("all asked", |log| received(log) == 8 * size);
    servers.iter().for_each(|(token, _)| rig.send(*token, b"answer"));
    rig.until("all answered", |log| received(log) == 14 * size);
    rig.log.seen.clear();
    for (number, (token, fd)) in servers.into_iter().enumerate() {
        match number % 3 {
            0 => rig.close(token, fd),
            1 => {
                rig.keep_open(token);
                drop(fd);
            }
            _ => {
                rig.keep_open(token);
                reset(fd);
            }
        }
    }
    let ended = |seen: &Seen| matches!(seen, Seen::Ended(0 | libc::ECONNRESET));
    rig.until("all ended", |log| log.seen.iter().filter(|(_, seen)| ended(seen)).count() == size);
    clients.into_iter().for_each(|(token, fd)| rig.close(token, fd));
    rig.keep_open(accepting);
    rig.log.seen = Vec::new();
}

pub fn ten_thousand_connections_leave_nothing(case: &Case) {
    case.alone(|case| {
        let mut rig = case.rig();
        let (listener, address) = listener();
        let mut figures = Vec::new();
        for number in 0..100 {
            batch(&mut rig, &listener, address, 100);
            if number % 20 == 19 {
                // What was closed in order is closed now.
                rig.quiet();
                figures.push((open_descriptors(), heap_in_use()));
            }
        }
        let descriptors: Vec<_> = figures.iter().map(|figure| figure.0).collect();
        assert!(
            descriptors.iter().all(|&count| count == descriptors[0]),
            "descriptors: {descriptors:?}"
        );
        // Tables grow now and then, by how the turns fall: a step is no leak. A leak is there between any two
        // figures: 2,000 connections that leave 8 bytes each leave 16,000 each time.
        let heap: Vec<_> = figures.iter().map(|figure| figure.1).collect();
        let least = heap.windows(2).map(|two| two[1].saturating_sub(two[0])).min();
        assert!(
            least.is_some_and(|bytes| bytes < 8 * 1024),
            "bytes in use, after each 2,000: {heap:?}"
        );
    });
}
