//! What is asked of the kernel: slots, and how what is wanted becomes what is armed.

use std::io::{self, IoSlice};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::{cqueue, opcode, squeue, types};

use super::buffers::{self, Buffers};
use super::ring::{Entry, Ring};
use super::slot::{GENERATION, InFlight, Slot, kind, user_data};
use crate::buffer::MAX_SLICES;
use crate::op::{Interest, Token};
use crate::sys;

pub struct Inner {
    pub ring: Ring,
    pub buffers: Buffers,
    pub event: Arc<sys::Event>,
    pub forks: u32,
    /// The thread that the ring is bound to, 0 before the first wait.
    pub thread: libc::pid_t,
    pub slots: Vec<Slot>,
    pub free: Vec<u32>,
    /// Tokens whose wanted and armed operations differ, or that have something stashed to deliver.
    pub todo: Vec<Token>,
    /// Tokens whose receive ended for want of buffers before it got any: armed before all others, or
    /// a flood on one connection would take every buffer again.
    pub hungry: Vec<Token>,
    /// User data of requests of detached tokens, to be cancelled.
    pub cancels: Vec<u64>,
    /// Sends of detached tokens that the kernel still reads from.
    pub orphans: Vec<(u64, Box<InFlight>)>,
    /// Rings left behind in another thread: the kernel winds them up when it likes.
    pub retired: Vec<(Ring, Buffers)>,
    /// Completions of a retired ring that nobody had seen yet.
    pub left: Vec<Entry>,
}

impl Inner {
    pub fn forked(&self) -> bool {
        sys::fork_generation() != self.forks
    }

    #[inline]
    pub fn slot(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(token.index())?;
        (slot.attached && slot.generation == token.generation()).then_some(slot)
    }

    pub fn insert(&mut self, fd: RawFd) -> Token {
        match self.free.pop() {
            Some(index) => {
                let slot = &mut self.slots[index as usize];
                *slot = Slot::new(slot.generation, fd);
                Token::new(index, slot.generation)
            }
            None => {
                self.slots.push(Slot::new(0, fd));
                Token::new((self.slots.len() - 1) as u32, 0)
            }
        }
    }

    /// Notes that `token` has something to be done before the next sleep.
    #[inline]
    pub fn list(&mut self, token: Token) {
        if let Some(slot) = self.slot(token)
            && !slot.listed
        {
            slot.listed = true;
            self.todo.push(token);
        }
    }

    pub fn watch(&mut self, token: Token, interest: Interest) -> io::Result<()> {
        if let Some(slot) = self.slot(token) {
            if interest.is_empty() {
                slot.wanted &= !kind::WATCH;
            } else {
                // A poll says that files and directories are always ready; like epoll, we refuse them.
                sys::check_pollable(slot.fd)?;
                slot.wanted |= kind::WATCH;
            }
            if interest == slot.watching {
                // The owner may have closed it without a word, and the number be in use again: the armed poll
                // holds on to the former file.
                slot.polled = Interest::NONE;
            }
            slot.watching = interest;
            self.list(token);
        }
        Ok(())
    }

    /// A completion without F_MORE: the request is over, and is made again if it is still wanted.
    #[inline]
    pub fn disarm(&mut self, token: Token, kind: u8, flags: u32) {
        if !cqueue::more(flags)
            && let Some(slot) = self.slot(token)
        {
            slot.armed &= !kind;
            slot.ending &= !kind;
            if slot.wanted & kind != 0 {
                self.list(token);
            }
        }
    }

    /// A completion of a life that is over: what it brought is released.
    pub fn bury(&mut self, entry: Entry) {
        match (entry.data >> 56) as u8 {
            kind::RECEIVE if entry.result > 0 => {
                if let Some(id) = cqueue::buffer_select(entry.flags)
                    && let (_, Some(id)) = self.buffers.take(id, entry.result as usize, entry.flags)
                {
                    self.buffers.give_back(id);
                }
            }
            kind::ACCEPT if entry.result >= 0 => {
                // SAFETY: the kernel just made this descriptor for us and nobody else knows it.
                drop(unsafe { OwnedFd::from_raw_fd(entry.result) });
            }
            kind::SEND => self.orphans.retain(|(data, _)| *data != entry.data),
            _ => {}
        }
    }

    /// Binds the ring to the calling thread; makes a new one if it is bound to another.
    pub fn bind(&mut self) -> io::Result<()> {
        let thread = sys::thread_id();
        if self.thread == thread {
            return Ok(());
        }
        if self.thread != 0 {
            let ring = Ring::new()?;
            let buffers = Buffers::register(&ring.raw)?;
            let old = std::mem::replace(&mut self.ring, ring);
            let buffers = std::mem::replace(&mut self.buffers, buffers);
            self.retire(old, buffers);
        }
        self.ring.enable()?;
        self.thread = thread;
        Ok(())
    }

    /// Leaves a ring behind. What it has completed counts; what it has not is armed anew: without
    /// the thread that it is bound to, a request that waits does nothing any more.
    fn retire(&mut self, mut old: Ring, mut buffers: Buffers) {
        let mut seen = Vec::new();
        old.reap(&mut seen);
        self.cancels.clear();
        for slot in &mut self.slots {
            (slot.armed, slot.ending) = (0, 0);
        }
        for entry in seen {
            let kind = (entry.data >> 56) as u8;
            let found = self.token(entry.data);
            match found.and_then(|token| self.slot(token)) {
                // Its bytes lie in the old ring's buffers.
                Some(slot) if kind == kind::RECEIVE && !slot.polls => {
                    let stash = slot.stash.get_or_insert_default();
                    match entry.result {
                        0 => stash.end = Some(Ok(())),
                        1.. => {
                            if let Some(id) = cqueue::buffer_select(entry.flags) {
                                let (bytes, _) =
                                    buffers.take(id, entry.result as usize, entry.flags);
                                // SAFETY: the kernel wrote these bytes; the mapping is still there.
                                stash.bytes.extend_from_slice(unsafe { bytes.as_ref() });
                            }
                        }
                        error => match -error {
                            libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                            errno => stash.end = Some(Err(io::Error::from_raw_os_error(errno))),
                        },
                    }
                }
                Some(slot) => {
                    if !cqueue::more(entry.flags) {
                        slot.armed |= kind;
                    }
                    self.left.push(entry);
                }
                None => self.bury(entry),
            }
        }
        self.retired.push((old, buffers));
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            if slot.attached {
                self.list(Token::new(index as u32, slot.generation));
            }
        }
    }

    /// The token that a request was made for, if it still lives.
    pub fn token(&self, data: u64) -> Option<Token> {
        let (index, generation) = (data as u32, (data >> 32) as u32 & GENERATION);
        let slot = self.slots.get(index as usize)?;
        let ours = slot.attached && slot.generation & GENERATION == generation;
        ours.then(|| Token::new(index, slot.generation))
    }

    /// Cancels the requests of detached tokens.
    pub fn cancel(&mut self) -> io::Result<()> {
        let mut accepts = false;
        for index in 0..self.cancels.len() {
            let data = self.cancels[index];
            accepts |= (data >> 56) as u8 == kind::ACCEPT;
            // SAFETY: the entry names no memory.
            unsafe { self.ring.push(&quiet(opcode::AsyncCancel::new(data).build()))? };
        }
        self.cancels.clear();
        if accepts {
            // Accepts wait exclusively: until a cancelled one is taken off the listener it swallows
            // the wake-ups of the one that follows it. So it goes before anything else is armed.
            self.ring.enter(0, Some(Duration::ZERO))?;
        }
        Ok(())
    }

    /// Makes entries of everything that is to be done.
    pub fn arm(&mut self) -> io::Result<()> {
        self.cancel()?;
        for index in 0..self.hungry.len() {
            let token = self.hungry[index];
            if self.slot(token).is_some() {
                self.arm_one(token)?;
            }
        }
        self.hungry.clear();
        let mut todo = std::mem::take(&mut self.todo);
        for token in todo.drain(..) {
            if let Some(slot) = self.slot(token) {
                slot.listed = false;
                self.arm_one(token)?;
            }
        }
        // What was listed meanwhile (nothing, as a rule) stays listed.
        todo.append(&mut self.todo);
        self.todo = todo;
        Ok(())
    }

    fn arm_one(&mut self, token: Token) -> io::Result<()> {
        let slot = &mut self.slots[token.index()];
        let fd = types::Fd(slot.fd);
        // What runs and is not wanted, or is wanted otherwise, is told to end.
        let mut unwanted = slot.armed & !slot.wanted & !kind::SEND;
        if slot.armed & kind::WATCH != 0 && slot.polled != slot.watching {
            unwanted |= kind::WATCH;
        }
        if slot.armed & kind::RECEIVE != 0 && slot.polls != slot.bulk {
            unwanted |= kind::RECEIVE;
        }
        unwanted &= !slot.ending;
        slot.ending |= unwanted;
        let missing = slot.wanted & !slot.armed;
        slot.armed |= missing;
        let mut entries: [Option<squeue::Entry>; 4] = [const { None }; 4];
        if missing & kind::RECEIVE != 0 {
            slot.fed = false;
            slot.polls = slot.bulk;
            let entry = if slot.bulk {
                opcode::PollAdd::new(fd, to_poll(Interest::READ)).build()
            } else {
                opcode::RecvMulti::new(fd, buffers::GROUP).build()
            };
            entries[0] = Some(entry.user_data(user_data(kind::RECEIVE, token)));
        }
        if missing & kind::ACCEPT != 0 {
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            let entry = opcode::AcceptMulti::new(fd).flags(flags).build();
            entries[1] = Some(entry.user_data(user_data(kind::ACCEPT, token)));
        }
        if missing & kind::CONNECT != 0
            && let Some(address) = &slot.address
        {
            let name = (&raw const address.storage).cast();
            let entry = opcode::Connect::new(fd, name, address.length).build();
            entries[2] = Some(entry.user_data(user_data(kind::CONNECT, token)));
        }
        if missing & kind::WATCH != 0 {
            slot.polled = slot.watching;
            let entry = opcode::PollAdd::new(fd, to_poll(slot.watching)).build();
            entries[3] = Some(entry.user_data(user_data(kind::WATCH, token)));
        }
        let send = match &mut slot.send {
            Some(sent) if slot.armed & kind::SEND == 0 => {
                slot.armed |= kind::SEND;
                Some(send_entry(fd, sent).user_data(user_data(kind::SEND, token)))
            }
            _ => None,
        };
        for bit in [kind::ACCEPT, kind::RECEIVE, kind::CONNECT, kind::WATCH] {
            if unwanted & bit != 0 {
                let cancel = opcode::AsyncCancel::new(user_data(bit, token)).build();
                // SAFETY: the entry names no memory.
                unsafe { self.ring.push(&quiet(cancel))? };
            }
        }
        for entry in entries.iter().flatten().chain(&send) {
            // SAFETY: the address and the queue that entries name are boxed in the slot; they stay
            // there, or go to the orphans, until the completion was reaped.
            unsafe { self.ring.push(entry)? };
        }
        Ok(())
    }
}

fn to_poll(interest: Interest) -> u32 {
    let mut bits = 0;
    if interest.contains(Interest::READ) {
        bits |= libc::POLLIN;
    }
    if interest.contains(Interest::WRITE) {
        bits |= libc::POLLOUT;
    }
    bits as u32
}

/// A cancel of which only the failure is told; and that is ignored.
pub fn quiet(entry: squeue::Entry) -> squeue::Entry {
    entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(u64::from(kind::CANCEL) << 56)
}

/// The entry of a send: plain for one piece, with a header for several.
fn send_entry(fd: types::Fd, sent: &mut InFlight) -> squeue::Entry {
    if let Some(bytes) = sent.queue.single() {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        return opcode::Send::new(fd, bytes.as_ptr(), length).flags(libc::MSG_NOSIGNAL).build();
    }
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let count = sent.queue.slices(&mut slices);
    sent.slices.clear();
    sent.slices.extend(slices[..count].iter().map(|slice| libc::iovec {
        iov_base: slice.as_ptr().cast_mut().cast(),
        iov_len: slice.len(),
    }));
    sent.message.msg_iov = sent.slices.as_mut_ptr();
    sent.message.msg_iovlen = sent.slices.len() as _;
    opcode::SendMsg::new(fd, &raw const sent.message).flags(libc::MSG_NOSIGNAL as u32).build()
}

impl Drop for Inner {
    /// The kernel may still write into the buffers and read from sends in flight. Everything is
    /// cancelled and waited for; where that can not be done (another thread's ring, a forked child)
    /// the memory is given up instead.
    fn drop(&mut self) {
        let idle = !self.forked()
            && self.retired.is_empty()
            && (self.thread == 0 || self.thread == sys::thread_id())
            && self.wind_up();
        if !idle {
            self.buffers.leak();
            for (_, buffers) in &mut self.retired {
                buffers.leak();
            }
            for (_, orphan) in self.orphans.drain(..) {
                Box::leak(orphan);
            }
            for slot in &mut self.slots {
                if let Some(send) = slot.send.take() {
                    Box::leak(send);
                }
            }
        }
    }
}

impl Inner {
    /// Cancels every request and runs what that sets off. Whether nothing is left.
    fn wind_up(&mut self) -> bool {
        if self.thread == 0 {
            return true;
        }
        let all = types::CancelBuilder::any();
        match self.ring.raw.submitter().register_sync_cancel(None, all) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(_) => return false,
        }
        let mut entries = Vec::new();
        let entered = self.ring.enter(0, Some(Duration::ZERO)).is_ok();
        self.ring.reap(&mut entries);
        for entry in entries {
            if (entry.data >> 56) as u8 == kind::ACCEPT && entry.result >= 0 {
                // SAFETY: the kernel just made this descriptor for us and nobody else knows it.
                drop(unsafe { OwnedFd::from_raw_fd(entry.result) });
            }
        }
        entered
    }
}
