//! A connection that is watched: the bytes that leave are copied, as they were queued (so before TLS).
//!
//! Owns the copies until who watches asks for them, with [`Conn::take_left`] after each call that may send. They are the
//! thread's: one connection sends at a time, and one that is not watched has nothing more for it than a flag.

use std::cell::Cell;

use crate::buffer::SendQueue;

use super::Conn;

thread_local! {
    /// What left a watched connection in the present call.
    static LEFT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Conn {
    /// Whether the bytes that leave are to be copied for [`Conn::take_left`].
    pub fn watch(&mut self, watched: bool) {
        self.watched = watched;
    }

    /// What has left since the last call, of a connection that is watched.
    pub fn take_left(&self) -> Vec<u8> {
        LEFT.take()
    }

    /// Bytes that were queued and have not left, as they were queued: without what TLS adds.
    pub fn staying(&self) -> usize {
        if self.secured.is_some() { self.queue.len() } else { self.queued }
    }

    /// A copy of the last `count` bytes that were queued just now.
    pub fn latest(&self, count: usize) -> Vec<u8> {
        self.queue.back(count)
    }
}

/// Notes that the first `count` bytes of `queue` leave.
#[cold]
pub(super) fn leaves(queue: &SendQueue, count: usize) {
    let mut left = LEFT.take();
    queue.front(count, &mut left);
    LEFT.set(left);
}
