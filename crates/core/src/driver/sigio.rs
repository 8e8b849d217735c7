//! The sigio poller: the kernel sends a real-time signal for each change of a descriptor. For those who
//! have neither epoll nor io_uring; never chosen on its own.
//!
//! Long because: the facts about the kernel stand beside the code that they explain.
//!
//! # Signals say where to look, poll says what is there
//!
//! Signals wait, blocked, in the queue of the loop's thread and are read from a signalfd, many at once. One
//! carries the number of a descriptor and no more than a rumour: it may be of a file that is closed since,
//! whose number somebody else has now; it does not tell urgent data from other data (socket(7), signal(7)).
//! So a signal only puts the descriptor on the `looked` list, and one `ppoll` of that list gives the facts.
//! A rumour costs a look, never a false report. A turn is
//!
//! ```text
//!   ppoll(signalfd + looked, timeout)          sleep
//!   signalfd readable?  read it -> looked      who changed
//!   ppoll(signalfd + looked, 0)                what is so
//!   report; take those off the list that a signal will bring back
//! ```
//!
//! # Who stays on the list
//!
//! | descriptor | until |
//! |---|---|
//! | cannot signal | it is removed |
//! | edge-triggered | it was looked at once, just added (what is ready already sends no signal) or after a signal |
//! | level-triggered, for reading | it is found not ready |
//! | level-triggered, for writing | the interest ends: full Unix sockets signal only after EAGAIN (`SOCKWQ_ASYNC_NOSPACE`) |
//!
//! Reading before looking would lose nothing either way: a change after the look sends a signal.
//!
//! # What cannot signal
//!
//! fcntl(2): `O_ASYNC` works for terminals, sockets, pipes and FIFOs. eventfd, timerfd, pidfd and epoll have no
//! `fasync`: F_SETFL then succeeds and does nothing, which only F_GETFL shows. A terminal sends none when
//! it hangs up. And a file that has `O_ASYNC` on before we set it (our own descriptor's duplicate, our
//! parent's listener) signals somebody else, under another number. All these are polled, level-triggered.
//!
//! # When the queue is full
//!
//! Beyond `RLIMIT_SIGPENDING` the kernel cannot queue and sends a plain SIGIO, which says only that
//! something was lost (fcntl(2), F_SETSIG). Everything is then put on the list. SIGIO has one number for
//! all loops, so another loop of this thread may have read ours: [`OVERFLOWS`] counts them for all.
//!
//! # Threads and forks
//!
//! `F_OWNER_TID` names a thread, and a signalfd takes the signals of the thread that reads it. So the first
//! `wait`, and each from another thread than the last, blocks the signals, makes its thread the owner of every
//! file and looks at everything once. Each poller has its own real-time signal, for two in one thread would
//! read each other's. A thread that a poller has left keeps the signals blocked: a late one would
//! kill the process; so does one left by a poller that lost sight of a file (closed without a word, while a
//! duplicate of it lives on). A forked child owns nothing and is signalled nothing, but shares the open files: it
//! must not turn `O_ASYNC` off. Programs that the loop's thread starts inherit its blocked signals (signal(7)).

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, ThreadId};
use std::time::Duration;

use super::Capabilities;
use super::poll::{bits, event};
use super::readiness::{Event, Poller, Trigger};
use crate::op::{Interest, Token};
use crate::sys::{self, signals};
use signals::{Owner, RealTime, Signal};

/// Signals taken by one read.
const SIGNALS: usize = 256;
/// Reads in one turn; the rest stay queued. A flood is a signal for each packet, and the queue is shared by
/// all processes of the user.
const READS: usize = 16;

/// Plain SIGIOs seen in this process.
static OVERFLOWS: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// How many pollers have this thread for a home, and whether SIGIO was blocked before the first came.
    static HOMES: Cell<(usize, bool)> = const { Cell::new((0, false)) };
}

/// Where a poller last waited.
struct Home {
    thread: ThreadId,
    id: libc::pid_t,
    /// Our own signal was blocked there before us.
    blocked: bool,
}

struct Entry {
    token: Token,
    interest: Interest,
    trigger: Trigger,
    /// Who was signalled before us; `None` for a descriptor that cannot signal, which is never edge-triggered.
    before: Option<Owner>,
    /// Its place on the list, which is never 0, or 0.
    place: usize,
}

impl Entry {
    /// What to ask of `ppoll` for it.
    fn events(&self) -> libc::c_short {
        match self.trigger {
            Trigger::Edge => bits(self.interest) | libc::POLLPRI,
            Trigger::Level => bits(self.interest),
        }
    }

    /// Whether a signal will tell when it is worth another look, after one that found `revents`.
    fn announced(&self, revents: libc::c_short) -> bool {
        self.before.is_some()
            && match self.trigger {
                Trigger::Edge => true,
                Trigger::Level => revents == 0 && self.interest == Interest::READ,
            }
    }
}

/// Signals, and the descriptors they announce.
pub struct Sigio {
    number: RealTime,
    descriptor: OwnedFd,
    buffer: Box<[Signal]>,
    home: Option<Home>,
    /// By descriptor.
    entries: Vec<Option<Entry>>,
    /// What the next `ppoll` sees: the signalfd, then those to be looked at.
    looked: Vec<libc::pollfd>,
    overflows: u32,
    forks: u32,
    /// A file that nobody can find any more may still send our signal.
    stray: bool,
}

impl Sigio {
    /// Nothing is watched and nothing is blocked yet.
    ///
    /// # Errors
    ///
    /// No descriptor; `ResourceBusy` when no real-time signal is free.
    pub fn new() -> io::Result<Self> {
        let number = RealTime::take()?;
        let descriptor = signals::signal_descriptor(&[libc::SIGIO, number.0])?;
        let signals = libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        Ok(Self {
            number,
            stray: false,
            descriptor,
            buffer: vec![Signal::empty(); SIGNALS].into_boxed_slice(),
            home: None,
            entries: Vec::new(),
            looked: vec![signals],
            overflows: OVERFLOWS.load(Ordering::Relaxed),
            forks: sys::fork_generation(),
        })
    }

    fn entry(&mut self, fd: RawFd) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(fd).ok()?)?.as_mut()
    }

    /// Puts `fd` on the list, unless it is not ours (any more) or there already.
    fn look(&mut self, fd: RawFd) {
        let place = self.looked.len();
        let Some(entry) = self.entry(fd) else { return };
        if entry.place == 0 {
            entry.place = place;
            let events = entry.events();
            self.looked.push(libc::pollfd { fd, events, revents: 0 });
        }
    }

    /// Takes who stands at `place` off the list.
    fn overlook(&mut self, place: usize) {
        let fd = self.looked.swap_remove(place).fd;
        if let Some(&libc::pollfd { fd: moved, .. }) = self.looked.get(place)
            && let Some(entry) = self.entry(moved)
        {
            entry.place = place;
        }
        if let Some(entry) = self.entry(fd) {
            entry.place = 0;
        }
    }

    fn look_at_all(&mut self) {
        for fd in 0..self.entries.len() as RawFd {
            self.look(fd);
        }
    }

    /// Has `fd` signal the home thread, if it can, and says who was signalled before.
    fn arm(&self, fd: RawFd) -> io::Result<Option<Owner>> {
        if !signals::is_socket_or_pipe(fd)? || signals::enabled(fd)? {
            return Ok(None);
        }
        let before = signals::owner(fd)?;
        // Nobody, until a thread waits.
        signals::set_owner(fd, Owner::thread(self.home.as_ref().map_or(0, |home| home.id)))?;
        signals::set_readiness_signal(fd, self.number.0)?;
        Ok(signals::enable(fd, true)?.then_some(before))
    }

    /// Leaves the open file as it was found. It may be closed, or the number may be another's, even
    /// another loop's in another thread: only what sends our signal is ours.
    fn disarm(&mut self, fd: RawFd, before: Owner) {
        if sys::fork_generation() != self.forks {
            return;
        }
        let ours = signals::enabled(fd).unwrap_or(false)
            && signals::readiness_signal(fd).is_ok_and(|signal| signal == self.number.0);
        self.stray |= !ours;
        if ours {
            let _ = signals::enable(fd, false);
            let _ = signals::set_readiness_signal(fd, 0);
            let _ = signals::set_owner(fd, before);
        }
    }

    /// Makes the calling thread the one that is signalled.
    fn move_home(&mut self) -> io::Result<()> {
        let (homes, mut before) = HOMES.get();
        if homes == 0 {
            before = signals::block_signal(libc::SIGIO, true)?;
        }
        let blocked = signals::block_signal(self.number.0, true)?;
        HOMES.set((homes + 1, before));
        let id = sys::thread_id();
        self.home = Some(Home { thread: thread::current().id(), id, blocked });
        for (fd, entry) in (0..).zip(&self.entries) {
            if entry.as_ref().is_some_and(|entry| entry.before.is_some()) {
                // EBADF: closed, which the look will find.
                let _ = signals::set_owner(fd, Owner::thread(id));
            }
        }
        self.look_at_all();
        Ok(())
    }

    /// Reads who changed and puts them on the list; returns how many signals that were.
    fn take_signals(&mut self) -> io::Result<usize> {
        let mut total = 0;
        for _ in 0..READS {
            let count = signals::take_signals(self.descriptor.as_raw_fd(), &mut self.buffer)?;
            for place in 0..count {
                let signal = self.buffer[place];
                if signal.number() == self.number.0 {
                    self.look(signal.descriptor());
                } else {
                    OVERFLOWS.fetch_add(1, Ordering::Relaxed);
                }
            }
            total += count;
            if count < SIGNALS {
                break;
            }
        }
        Ok(total)
    }

    fn look_if_overflown(&mut self) {
        let overflows = OVERFLOWS.load(Ordering::Relaxed);
        if self.overflows != overflows {
            self.overflows = overflows;
            self.look_at_all();
        }
    }

    /// Reports what the last look found, and takes off the list what a signal will bring back.
    fn report(&mut self, events: &mut Vec<Event>) {
        let mut place = 1;
        while let Some(&libc::pollfd { fd, revents, .. }) = self.looked.get(place) {
            let mut announced = true;
            if let Some(entry) = self.entry(fd) {
                announced = entry.announced(revents);
                if revents != 0 {
                    events.push(event(entry.token, revents));
                }
            }
            if revents & libc::POLLNVAL != 0 {
                // Closed behind our back: said once, as in poll.rs.
                self.overlook(place);
                self.stray |=
                    self.entries[fd as usize].take().is_some_and(|entry| entry.before.is_some());
            } else if announced {
                self.overlook(place);
            } else {
                place += 1;
            }
        }
    }

    /// Unblocks what was blocked here. Ours must be gone from the queue before: what nobody handles, kills.
    /// For the same reason everything stays blocked when a file may be left that still signals: one that
    /// was closed behind our back while a duplicate of it lived.
    fn leave_home(&mut self) {
        let Some(home) = self.home.take_if(|home| home.thread == thread::current().id()) else {
            return;
        };
        while let Ok(1..) = self.take_signals() {}
        if self.stray {
            return;
        }
        let (homes, before) = HOMES.get();
        HOMES.set((homes - 1, before));
        if homes == 1 && !before {
            let _ = signals::block_signal(libc::SIGIO, false);
        }
        if !home.blocked {
            let _ = signals::block_signal(self.number.0, false);
        }
    }
}

impl Poller for Sigio {
    const EDGE: bool = true;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            native_completions: false,
            scales: true,
            descriptor_limit: None,
            sends_at_once: true,
        }
    }

    fn add(
        &mut self,
        fd: RawFd,
        token: Token,
        interest: Interest,
        trigger: Trigger,
    ) -> io::Result<()> {
        sys::check_pollable(fd)?;
        let before = self.arm(fd)?;
        // On the list for ever, it would be reported writable at each turn: only for what it waits for, then.
        if before.is_none() && trigger == Trigger::Edge {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        let index = fd as usize;
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || None);
        }
        // Left behind by somebody who closed the descriptor without a word: it is taken over.
        if let Some(entry) = self.entries[index].take() {
            self.stray |= entry.before.is_some();
            if entry.place != 0 {
                self.overlook(entry.place);
            }
        }
        self.entries[index] = Some(Entry { token, interest, trigger, before, place: 0 });
        self.look(fd);
        Ok(())
    }

    fn modify(&mut self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        let signals = signals::enabled(fd)?;
        // Else it was found closed, or another file has the number now, which does not signal yet.
        let same = |entry: &&mut Entry| entry.token == token && (entry.before.is_none() || signals);
        let Some(entry) = self.entry(fd).filter(same) else {
            return self.add(fd, token, interest, Trigger::Level);
        };
        entry.interest = interest;
        let (place, events) = (entry.place, entry.events());
        if place == 0 {
            self.look(fd);
        } else {
            self.looked[place].events = events;
        }
        Ok(())
    }

    fn remove(&mut self, fd: RawFd, token: Token) {
        // Else the number already belongs to somebody else.
        let Some(entry) = self.entry(fd).filter(|entry| entry.token == token) else {
            return;
        };
        let (place, before) = (entry.place, entry.before);
        if place != 0 {
            self.overlook(place);
        }
        self.entries[fd as usize] = None;
        if let Some(before) = before {
            self.disarm(fd, before);
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        if self.home.as_ref().is_none_or(|home| home.thread != thread::current().id()) {
            self.move_home()?;
        }
        self.look_if_overflown();
        let mut count = sys::poll(&mut self.looked, timeout)?;
        if count > 0 && self.looked[0].revents != 0 {
            self.take_signals()?;
            self.look_if_overflown();
            count = sys::poll(&mut self.looked, Some(Duration::ZERO))?;
        }
        // After a timeout or EINTR nobody is taken off the list: what nobody looked at may be ready.
        if count > 0 {
            self.report(events);
        }
        Ok(())
    }
}

impl Drop for Sigio {
    fn drop(&mut self) {
        for fd in 0..self.entries.len() {
            if let Some(Entry { before: Some(before), .. }) = self.entries[fd] {
                self.disarm(fd as RawFd, before);
            }
        }
        self.leave_home();
    }
}
