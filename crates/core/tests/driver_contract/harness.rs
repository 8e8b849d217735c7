//! What the cases are written with: a rig of one driver and a log of all that it said, streams whose
//! other end is a plain socket of the standard library, and bounded waits. Nothing sleeps to be in time.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use wireway_core::buffer::{Payload, Pool, SendQueue};
use wireway_core::driver::{Backend, Driver, Fate, Sent, Sink};
use wireway_core::op::{Completion, Interest, Op, Role, Token};

/// Nothing on loopback takes as long as this; what does, will not happen.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long "nothing more comes" is watched.
pub const QUIET: Duration = Duration::from_millis(25);

/// Which case runs, over what.
pub struct Case {
    pub backend: Backend,
    pub name: &'static str,
}

/// Runs `body` over `backend`, unless this kernel or container does not permit that back end.
///
/// `WIREWAY_NO_SKIP=1` turns the skip into a failure.
pub fn run(backend: Backend, name: &'static str, body: fn(&Case)) {
    match backend.open() {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            assert!(std::env::var_os("WIREWAY_NO_SKIP").is_none(), "{backend}: {error}");
            eprintln!("{name}: skipped, {backend} is not permitted here: {error}");
        }
        _ => body(&Case { backend, name }),
    }
}

impl Case {
    /// A fresh driver.
    pub fn rig(&self) -> Rig {
        let driver = self.backend.open().expect("the back end opens");
        Rig { driver, log: Log::default() }
    }

    /// Runs `body` in a process of its own: what it does to limits, signals and memory stays there.
    pub fn alone(&self, body: impl FnOnce(&Self)) {
        const MARK: &str = "WIREWAY_CONTRACT_CASE";
        if std::env::var_os(MARK).is_some_and(|name| name == self.name) {
            return body(self);
        }
        let output = Command::new(std::env::current_exe().expect("this test has a file"))
            .args([self.name, "--exact", "--nocapture", "--test-threads=1"])
            .env(MARK, self.name)
            .output()
            .expect("the test starts once more");
        let text = String::from_utf8_lossy(&output.stdout);
        let ran = output.status.success() && text.contains("1 passed");
        assert!(ran, "{}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
}

/// A completion, as it is kept. Errors are errno, 0 for none.
#[derive(Debug, PartialEq, Eq, Clone)]
pub enum Seen {
    Accepted,
    AcceptFailed(i32),
    Received(Vec<u8>),
    Ended(i32),
    Sent(usize),
    SendFailed(i32),
    Connected(i32),
    Ready(Interest),
}

fn errno<T>(result: io::Result<T>) -> i32 {
    result.err().map_or(0, |error| error.raw_os_error().expect("a system error"))
}

/// What is being sent on a stream.
#[derive(Default)]
struct Outgoing {
    queue: SendQueue,
    pending: bool,
}

/// Keeps everything, and goes on sending what is left.
#[derive(Default)]
pub struct Log {
    pub seen: Vec<(Token, Seen)>,
    pub accepted: Vec<OwnedFd>,
    pool: Pool,
    outgoing: HashMap<Token, Outgoing>,
}

impl Sink for Log {
    fn complete(&mut self, token: Token, completion: Completion<'_>) {
        let seen = match completion {
            Completion::Accepted(Ok(new)) => {
                self.accepted.push(new);
                Seen::Accepted
            }
            Completion::Accepted(Err(error)) => Seen::AcceptFailed(errno::<()>(Err(error))),
            Completion::Received(bytes) => {
                assert!(!bytes.is_empty(), "an empty piece");
                Seen::Received(bytes.to_vec())
            }
            Completion::Filled(count) => panic!("{count} bytes in room that nobody gave"),
            Completion::ReceiveEnded(result) => Seen::Ended(errno(result)),
            Completion::Connected(result) => Seen::Connected(errno(result)),
            Completion::Ready(interest) => {
                assert!(!interest.is_empty(), "ready for nothing");
                Seen::Ready(interest)
            }
            Completion::Sent(mut queue, result) => {
                let outgoing = self.outgoing.get_mut(&token).expect("a send of this token");
                assert!(std::mem::take(&mut outgoing.pending), "a send that was not pending");
                match result {
                    Ok(count) => {
                        queue.advance(&self.pool, count);
                        queue.append(&mut outgoing.queue);
                        outgoing.queue = queue;
                        Seen::Sent(count)
                    }
                    Err(error) => Seen::SendFailed(errno::<()>(Err(error))),
                }
            }
        };
        self.seen.push((token, seen));
    }
}

impl Log {
    /// All that was seen of `token`.
    pub fn of(&self, token: Token) -> Vec<&Seen> {
        self.seen.iter().filter(|(of, _)| *of == token).map(|(_, seen)| seen).collect()
    }

    /// What `token` received, in one piece.
    pub fn bytes(&self, token: Token) -> Vec<u8> {
        let mut all = Vec::new();
        for seen in self.of(token) {
            if let Seen::Received(bytes) = seen {
                all.extend_from_slice(bytes);
            }
        }
        all
    }

    /// How many bytes `token` received.
    pub fn count(&self, token: Token) -> usize {
        let size = |seen: &&Seen| {
            if let Seen::Received(bytes) = seen { bytes.len() } else { 0 }
        };
        self.of(token).iter().map(size).sum()
    }

    /// What `token` saw that was not bytes received or sent.
    pub fn events(&self, token: Token) -> Vec<&Seen> {
        let mut all = self.of(token);
        all.retain(|seen| !matches!(seen, Seen::Received(_) | Seen::Sent(_)));
        all
    }

    /// Whether everything given to `send` was taken by the kernel.
    pub fn all_sent(&self, token: Token) -> bool {
        self.outgoing.get(&token).is_none_or(|out| !out.pending && out.queue.is_empty())
    }
}

/// A driver and its log.
pub struct Rig {
    pub driver: Box<dyn Driver>,
    pub log: Log,
}

impl Rig {
    /// One turn.
    pub fn turn(&mut self, timeout: Option<Duration>) {
        self.driver.wait(timeout, &mut self.log).expect("wait");
        let tokens: Vec<Token> = self.log.outgoing.keys().copied().collect();
        tokens.into_iter().for_each(|token| self.flush(token));
    }

    /// Turns until `done`.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Log) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(&self.log) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let last = self.log.seen.len().saturating_sub(8);
                panic!("{what}: did not happen; last seen: {:.2000?}", &self.log.seen[last..]);
            }
            self.turn(Some(left));
        }
    }

    /// Turns for a while in which nothing may complete, and in which the driver must sleep.
    #[track_caller]
    pub fn quiet(&mut self) {
        let before = self.log.seen.len();
        // Once it looks up and finds all others idle, which is not the same as not looking.
        self.driver.waker().wake();
        self.turn(None);
        let (start, mut turns) = (Instant::now(), 0);
        while start.elapsed() < QUIET {
            self.turn(Some(QUIET));
            turns += 1;
        }
        assert_eq!(&self.log.seen[before..], &[], "nothing was to come");
        assert!(turns <= 8, "{turns} turns in {:?}: the driver does not sleep", start.elapsed());
    }

    /// Attaches a stream that is to receive.
    pub fn stream(&mut self, fd: &impl AsRawFd) -> Token {
        let token = self.attach(fd, Role::Stream);
        self.submit(token, Op::Receive);
        token
    }

    pub fn attach(&mut self, fd: &impl AsRawFd, role: Role) -> Token {
        self.driver.attach(fd.as_raw_fd(), role).expect("attach")
    }

    /// Attaches and watches somebody else's descriptor.
    pub fn watch(&mut self, fd: &impl AsRawFd, interest: Interest) -> Token {
        let token = self.attach(fd, Role::Watched);
        self.submit(token, Op::Watch(interest));
        token
    }

    pub fn submit(&self, token: Token, op: Op) {
        self.driver.submit(token, op).expect("submit");
    }

    /// Sends a copy of `data` after what was sent before.
    pub fn send(&mut self, token: Token, data: &[u8]) {
        let Log { outgoing, pool, .. } = &mut self.log;
        outgoing.entry(token).or_default().queue.copy(pool, data);
        self.flush(token);
    }

    /// Sends `payload` itself after what was sent before.
    pub fn keep(&mut self, token: Token, payload: Box<dyn Payload>) {
        self.log.outgoing.entry(token).or_default().queue.keep(payload);
        self.flush(token);
    }

    fn flush(&mut self, token: Token) {
        let Log { outgoing, pool, seen, .. } = &mut self.log;
        let Some(outgoing) = outgoing.get_mut(&token) else {
            return;
        };
        while !outgoing.pending && !outgoing.queue.is_empty() {
            match self.driver.send(token, &mut outgoing.queue) {
                Sent::Done(count) => {
                    assert!(count > 0, "a send that took nothing");
                    outgoing.queue.advance(pool, count);
                    seen.push((token, Seen::Sent(count)));
                }
                Sent::Pending => {
                    assert!(outgoing.queue.is_empty(), "a pending send leaves an empty queue");
                    outgoing.pending = true;
                }
                Sent::Failed(error) => {
                    outgoing.queue.clear(pool);
                    seen.push((token, Seen::SendFailed(errno::<()>(Err(error)))));
                }
            }
        }
    }

    /// Detaches; the caller goes on owning the descriptor.
    pub fn keep_open(&mut self, token: Token) {
        self.log.outgoing.remove(&token);
        self.driver.detach(token, Fate::Keep);
    }

    /// Detaches and closes.
    pub fn close(&mut self, token: Token, fd: impl Into<OwnedFd>) {
        self.log.outgoing.remove(&token);
        self.driver.detach(token, Fate::Close(fd.into()));
    }
}

/// A sink made of a closure.
pub struct Hook<F>(pub F);

impl<F: FnMut(Token, Completion<'_>)> Sink for Hook<F> {
    fn complete(&mut self, token: Token, completion: Completion<'_>) {
        self.0(token, completion);
    }
}

/// Bytes that send themselves.
pub struct Kept(pub Vec<u8>);

// SAFETY: nobody changes the vector, and moving it does not move its heap memory.
unsafe impl Payload for Kept {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A blocking listener on a loopback address of its own: a port that one test gives back is at once
/// another's, who would then hear from strangers.
pub fn bind() -> TcpListener {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let last = NEXT.fetch_add(1, Ordering::Relaxed);
    let host = Ipv4Addr::new(127, 1 + (high.wrapping_mul(31) ^ middle) % 250, low, last);
    TcpListener::bind((host, 0)).expect("bind")
}

/// A listener on loopback, non-blocking.
pub fn listener() -> (TcpListener, SocketAddr) {
    let listener = bind();
    listener.set_nonblocking(true).expect("non-blocking");
    let address = listener.local_addr().expect("address");
    (listener, address)
}

/// Both ends of a connection: ours, non-blocking, and the peer's, which blocks but not for ever.
pub fn pair() -> (TcpStream, TcpStream) {
    let listener = bind();
    let peer = peer(listener.local_addr().expect("address"));
    let (ours, _) = listener.accept().expect("accept");
    ours.set_nonblocking(true).expect("non-blocking");
    (ours, peer)
}

/// A peer's socket, connected to `address`.
pub fn peer(address: SocketAddr) -> TcpStream {
    let peer = TcpStream::connect(address).expect("connect");
    peer.set_read_timeout(Some(PATIENCE)).expect("timeout");
    peer.set_write_timeout(Some(PATIENCE)).expect("timeout");
    peer.set_nodelay(true).expect("nodelay");
    peer
}

/// `length` bytes in which a piece that is lost, doubled or moved shows.
pub fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|i| (i ^ (i >> 8) ^ (i >> 16)).wrapping_add(seed) as u8).collect()
}

/// How many descriptors this process has open.
pub fn open_descriptors() -> usize {
    // The one that reads the directory is counted too, each time.
    std::fs::read_dir("/proc/self/fd").expect("/proc").count()
}

/// Asserts without printing megabytes.
#[track_caller]
pub fn same_bytes(left: &[u8], right: &[u8]) {
    if let Some(place) = left.iter().zip(right).position(|(left, right)| left != right) {
        panic!("byte {place} differs, of {} and {}", left.len(), right.len());
    }
    assert_eq!(left.len(), right.len(), "lengths");
}

/// The number of a descriptor, for what takes [`AsRawFd`].
pub struct Number(pub RawFd);

impl AsRawFd for Number {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}
