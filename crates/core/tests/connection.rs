//! `Conn` and `Reactor` over every back end: what is queued leaves in order, watermarks are told once,
//! FIN follows the last byte, a turn flushes what it wrote.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use wireway_core::buffer::{Payload, Pool};
use wireway_core::conn::{Conn, Flushed, Pressure};
use wireway_core::driver::{Backend, Driver, Sink};
use wireway_core::op::{Completion, Token};
use wireway_core::reactor::{Host, Reactor};

struct Bytes(Vec<u8>);
// SAFETY: the vector is never touched again, so its heap memory neither moves nor changes.
unsafe impl Payload for Bytes {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A connected pair: ours under a driver, the peer's blocking with a deadline.
fn pair() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (ours.into(), peer)
}

/// Gives completions of the one connection to it, and keeps what it received.
struct One<'a> {
    conn: &'a mut Conn,
    driver: &'a dyn Driver,
    pool: &'a Pool,
    received: Vec<u8>,
    ended: bool,
    last: Option<Flushed>,
    crossings: Vec<Pressure>,
}

impl Sink for One<'_> {
    fn complete(&mut self, token: Token, completion: Completion<'_>) {
        assert_eq!(token, self.conn.token());
        match completion {
            Completion::Received(data) => self.received.extend_from_slice(data),
            Completion::ReceiveEnded(result) => {
                result.unwrap();
                self.ended = true;
            }
            Completion::Sent(queue, result) => {
                self.last = Some(self.conn.sent(self.driver, self.pool, queue, result).unwrap());
                self.crossings.extend(self.conn.pressure());
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}

fn turn_until(one: &mut One<'_>, done: impl Fn(&One<'_>) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done(one) {
        assert!(Instant::now() < deadline, "nothing happened for 20 s");
        if one.last == Some(Flushed::Again) {
            one.last = Some(one.conn.flush(one.driver, one.pool).unwrap());
        }
        one.driver.wait(Some(Duration::from_millis(50)), one).unwrap();
    }
}

fn each_backend(test: impl Fn(&dyn Driver)) {
    for backend in Backend::ALL {
        println!("{backend}");
        test(&*backend.open().unwrap());
    }
}

#[test]
fn everything_leaves_in_order_with_watermarks_and_fin_behind_it() {
    each_backend(|driver| {
        let pool = Pool::new();
        let (fd, mut peer) = pair();
        let mut conn = Conn::new(driver, fd).unwrap();
        conn.set_limits(10_000, 100_000);
        let mut expected = Vec::new();
        for round in 0..200u32 {
            let small = round.to_le_bytes();
            let large = vec![round as u8; 60_000];
            conn.write_pair(&pool, &small, b"-");
            conn.keep(&pool, Box::new(Bytes(large.clone())));
            expected.extend_from_slice(&small);
            expected.push(b'-');
            expected.extend_from_slice(&large);
        }
        assert_eq!(conn.queued(), expected.len());
        assert!(conn.over());
        assert_eq!(conn.pressure(), Some(Pressure::Rose));
        assert_eq!(conn.pressure(), None, "a crossing is told once");
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            all
        });
        let first = conn.finish(driver, &pool).unwrap();
        assert!(!conn.writable());
        let mut one = One {
            conn: &mut conn,
            driver,
            pool: &pool,
            received: Vec::new(),
            ended: false,
            last: Some(first),
            crossings: Vec::new(),
        };
        turn_until(&mut one, |one| one.last == Some(Flushed::Empty));
        one.crossings.extend(one.conn.pressure());
        assert_eq!(one.crossings, [Pressure::Fell]);
        assert_eq!(one.conn.queued(), 0);
        assert!(reader.join().unwrap() == expected);
        conn.detach(driver, &pool);
        assert_eq!(conn.fd(), -1);
    });
}

#[test]
fn receiving_goes_on_after_our_fin_and_stops_while_paused() {
    each_backend(|driver| {
        let pool = Pool::new();
        let (fd, mut peer) = pair();
        let mut conn = Conn::new(driver, fd).unwrap();
        let last = conn.finish(driver, &pool).unwrap();
        conn.receive(driver).unwrap();
        let mut one = One {
            conn: &mut conn,
            driver,
            pool: &pool,
            received: Vec::new(),
            ended: false,
            last: Some(last),
            crossings: Vec::new(),
        };
        assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0, "our FIN");
        peer.write_all(b"one").unwrap();
        turn_until(&mut one, |one| one.received == b"one");
        one.conn.pause(driver);
        peer.write_all(b"two").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        for _ in 0..3 {
            driver.wait(Some(Duration::from_millis(10)), &mut one).unwrap();
        }
        assert_eq!(one.received, b"one");
        assert!(!one.ended);
        one.conn.receive(driver).unwrap();
        turn_until(&mut one, |one| one.ended);
        assert_eq!(one.received, b"onetwo");
        conn.detach(driver, &pool);
        conn.detach(driver, &pool);
    });
}

#[test]
fn a_failed_send_empties_the_queue() {
    each_backend(|driver| {
        let pool = Pool::new();
        let (fd, peer) = pair();
        let mut conn = Conn::new(driver, fd).unwrap();
        // Unread data at close makes the kernel reset the connection.
        conn.write(&pool, b"unread");
        let _ = conn.flush(driver, &pool).unwrap();
        struct Failing<'a>(&'a mut Conn, &'a dyn Driver, &'a Pool, bool);
        impl Sink for Failing<'_> {
            fn complete(&mut self, _: Token, completion: Completion<'_>) {
                if let Completion::Sent(queue, result) = completion {
                    self.3 |= self.0.sent(self.1, self.2, queue, result).is_err();
                }
            }
        }
        let mut failing = Failing(&mut conn, driver, &pool, false);
        driver.wait(Some(Duration::from_millis(20)), &mut failing).unwrap();
        drop(peer);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !failing.3 {
            assert!(Instant::now() < deadline, "no error in 10 s");
            failing.0.write(&pool, b"more");
            failing.3 |= failing.0.flush(driver, &pool).is_err();
            driver.wait(Some(Duration::from_millis(5)), &mut failing).unwrap();
        }
        assert_eq!(conn.queued(), 0);
        conn.detach(driver, &pool);
    });
}

/// A host that keeps a diary.
struct Diary<'a> {
    reactor: &'a Reactor<&'static str>,
    entries: Vec<String>,
    ready: Vec<&'static str>,
    now: f64,
    stop: bool,
}

impl Sink for Diary<'_> {
    fn park(&mut self, block: &mut dyn FnMut()) {
        self.entries.push("wait".into());
        block();
    }

    fn complete(&mut self, _: Token, completion: Completion<'_>) {
        self.entries.push(format!("{completion:?}"));
    }
}

impl Host for Diary<'_> {
    type Timer = &'static str;

    fn hurried(&self) -> bool {
        self.stop || !self.ready.is_empty()
    }

    fn now(&self) -> f64 {
        self.now
    }

    fn woken(&mut self) {
        self.entries.push("woken".into());
    }

    fn due(&mut self, timer: &'static str) {
        self.entries.push(format!("due {timer}"));
        self.ready.push(timer);
    }

    fn run(&mut self) {
        for name in std::mem::take(&mut self.ready) {
            self.entries.push(format!("run {name}"));
            if name == "writes" {
                self.reactor.mark_dirty(Token::new(7, 0));
                self.ready.push("later");
            }
        }
    }

    fn flush(&mut self, token: Token) {
        self.entries.push(format!("flush {}", token.index()));
        if token.index() == 7 && !self.entries.iter().any(|entry| entry == "flush 8") {
            self.reactor.mark_later(Token::new(8, 0));
        }
    }
}

#[test]
fn a_turn_waits_then_expires_then_runs_then_flushes() {
    let reactor = Reactor::new(Backend::Epoll.open().unwrap());
    for (when, name) in [(2.0, "second"), (1.0, "writes"), (9.0, "far")] {
        reactor.timers.borrow_mut().push(when, name);
    }
    let mut diary =
        Diary { reactor: &reactor, entries: Vec::new(), ready: Vec::new(), now: 3.0, stop: false };
    reactor.turn(&mut diary).unwrap();
    let first = ["wait", "woken", "due writes", "due second", "run writes", "run second"];
    assert_eq!(diary.entries[..6], first);
    assert_eq!(diary.entries[6..], ["flush 7", "flush 8"]);
    diary.entries.clear();
    // What a callback made ready runs in the next turn, which does not sleep before it.
    reactor.turn(&mut diary).unwrap();
    assert_eq!(diary.entries, ["wait", "woken", "run later"]);
}

#[test]
fn a_turn_sleeps_until_the_next_deadline() {
    let reactor: Reactor<&'static str> = Reactor::new(Backend::Epoll.open().unwrap());
    reactor.timers.borrow_mut().push(5.02, "soon");
    let mut diary =
        Diary { reactor: &reactor, entries: Vec::new(), ready: Vec::new(), now: 5.0, stop: false };
    let start = Instant::now();
    reactor.turn(&mut diary).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(20), "woke before the deadline");
    diary.stop = true;
    diary.now = 0.0;
    // Told to stop: no sleep, however far the deadline.
    reactor.turn(&mut diary).unwrap();
}
