//! Memory that waits to be sent, and who owns it while the kernel reads it.
//!
//! A [`SendQueue`] owns every byte in it. A driver that must keep the bytes past its call (a send in
//! flight on io_uring, a send that met a full socket buffer) takes the whole queue by value and gives
//! it back in a completion, so memory that the kernel may still read can not be freed or moved by
//! anyone else: ownership does what a comment could only ask for. What is written meanwhile goes to a
//! fresh queue and is appended afterwards.
//!
//! Small writes are copied, once, into pooled blocks; large ones are kept by reference ([`Payload`]).
//! Knows nothing of sockets.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::IoSlice;

/// The capacity of a pooled block. Sixteen replies of 1 KiB fit in one.
pub const BLOCK: usize = 16 * 1024;

/// Blocks kept for reuse by a pool: 64 x 16 KiB = 1 MiB at most.
const KEEP: usize = 64;

/// Slices handed to one `sendmsg`. More would only lengthen one connection's hold on the loop.
pub const MAX_SLICES: usize = 64;

/// Bytes owned by somebody else (a Python `bytes` object) that stay put until dropped.
///
/// # Safety
///
/// `bytes` must return the same memory at every call, unchanged, until the value is dropped, also
/// when the value is moved: the kernel may be reading it.
pub unsafe trait Payload {
    /// The bytes.
    fn bytes(&self) -> &[u8];
}

/// Free blocks, last in first out so that the one reused is the one still in the cache.
#[derive(Default)]
pub struct Pool {
    free: RefCell<Vec<Vec<u8>>>,
    queued: Cell<usize>,
}

impl Pool {
    /// An empty pool; blocks are made when first needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that wait to be sent in all connections that share this pool.
    pub fn queued(&self) -> usize {
        self.queued.get()
    }

    /// Memory of the blocks that are kept for reuse, bytes.
    pub fn heap_size(&self) -> usize {
        self.free.borrow().iter().map(Vec::capacity).sum()
    }

    #[inline]
    pub(crate) fn more_queued(&self, bytes: usize) {
        self.queued.set(self.queued.get() + bytes);
    }

    #[inline]
    pub(crate) fn less_queued(&self, bytes: usize) {
        self.queued.set(self.queued.get() - bytes);
    }

    #[inline]
    fn take(&self) -> Vec<u8> {
        self.free.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(BLOCK))
    }

    #[inline]
    fn put(&self, mut block: Vec<u8>) {
        if block.capacity() == BLOCK {
            let mut free = self.free.borrow_mut();
            if free.len() < KEEP {
                block.clear();
                free.push(block);
            }
        }
    }
}

#[derive(Default)]
enum Chunk {
    #[default]
    Empty,
    Block(Vec<u8>),
    Kept(Box<dyn Payload>),
}

impl Chunk {
    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Empty => &[],
            Self::Block(block) => block,
            Self::Kept(payload) => payload.bytes(),
        }
    }
}

/// Bytes to send, in order. An empty queue owns no heap memory.
#[derive(Default)]
pub struct SendQueue {
    head: Chunk,
    rest: VecDeque<Chunk>,
    /// Bytes of `head` already sent.
    offset: usize,
    /// Bytes not yet sent.
    length: usize,
}

impl SendQueue {
    /// Bytes not yet sent.
    #[inline]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Its memory, bytes: whole blocks, and payloads by their length, also those that others share.
    pub fn heap_size(&self) -> usize {
        let chunk = |chunk: &Chunk| match chunk {
            Chunk::Empty => 0,
            Chunk::Block(block) => block.capacity(),
            Chunk::Kept(payload) => payload.bytes().len() + size_of_val(&**payload),
        };
        let rest: usize = self.rest.iter().map(chunk).sum();
        chunk(&self.head) + rest + self.rest.capacity() * size_of::<Chunk>()
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Copies `data` to the end.
    #[inline]
    pub fn copy(&mut self, pool: &Pool, data: &[u8]) {
        self.copy_pair(pool, &[], data);
    }

    /// Copies `header` and then `data` to the end: one frame.
    #[inline]
    pub fn copy_pair(&mut self, pool: &Pool, header: &[u8], data: &[u8]) {
        let size = header.len() + data.len();
        if size == 0 {
            return;
        }
        self.length += size;
        let tail = match self.rest.back_mut() {
            Some(tail) => tail,
            None => &mut self.head,
        };
        if let Chunk::Block(block) = tail
            && block.capacity() - block.len() >= size
        {
            block.extend_from_slice(header);
            block.extend_from_slice(data);
            return;
        }
        let mut block = if size <= BLOCK { pool.take() } else { Vec::with_capacity(size) };
        block.extend_from_slice(header);
        block.extend_from_slice(data);
        self.push(Chunk::Block(block));
    }

    /// Puts `payload` at the end without copying it.
    pub fn keep(&mut self, payload: Box<dyn Payload>) {
        let size = payload.bytes().len();
        if size > 0 {
            self.length += size;
            self.push(Chunk::Kept(payload));
        }
    }

    /// Moves everything of `later` behind what is here.
    pub fn append(&mut self, later: &mut Self) {
        if later.is_empty() {
            return;
        }
        if self.is_empty() {
            std::mem::swap(self, later);
            return;
        }
        // `later` has not been sent from yet: it is the queue that grew while this one was in flight.
        debug_assert_eq!(later.offset, 0);
        let later = std::mem::take(later);
        self.length += later.length;
        self.push(later.head);
        for chunk in later.rest {
            self.push(chunk);
        }
    }

    #[inline]
    fn push(&mut self, chunk: Chunk) {
        if matches!(self.head, Chunk::Empty) {
            self.head = chunk;
        } else {
            self.rest.push_back(chunk);
        }
    }

    /// Forgets the first `sent` bytes and gives their blocks back to `pool`.
    ///
    /// # Panics
    ///
    /// If fewer bytes wait.
    #[inline]
    pub fn advance(&mut self, pool: &Pool, sent: usize) {
        assert!(sent <= self.length, "advanced past the end of a send queue");
        self.length -= sent;
        self.offset += sent;
        while !matches!(self.head, Chunk::Empty) {
            let size = self.head.bytes().len();
            if self.offset < size {
                return;
            }
            self.offset -= size;
            let next = self.rest.pop_front().unwrap_or_default();
            if let Chunk::Block(block) = std::mem::replace(&mut self.head, next) {
                pool.put(block);
            }
        }
        // All sent: also drop the deque's own memory, an idle connection keeps none.
        self.rest = VecDeque::new();
    }

    /// Throws everything away.
    pub fn clear(&mut self, pool: &Pool) {
        self.advance(pool, self.length);
    }

    /// The unsent bytes when they lie in one piece, which is the usual case.
    #[inline]
    pub fn single(&self) -> Option<&[u8]> {
        self.rest.is_empty().then(|| &self.head.bytes()[self.offset..])
    }

    /// A copy of the unsent bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.length);
        all.extend_from_slice(&self.head.bytes()[self.offset..]);
        self.rest.iter().for_each(|chunk| all.extend_from_slice(chunk.bytes()));
        all
    }

    /// Appends a copy of the first `count` unsent bytes to `out`, or of all if there are fewer.
    pub fn front(&self, count: usize, out: &mut Vec<u8>) {
        let pieces = self.rest.iter().map(Chunk::bytes);
        let mut left = count;
        for piece in std::iter::once(&self.head.bytes()[self.offset..]).chain(pieces) {
            let part = &piece[..piece.len().min(left)];
            out.extend_from_slice(part);
            left -= part.len();
            if left == 0 {
                return;
            }
        }
    }

    /// A copy of the last `count` bytes, or of all if there are fewer.
    pub fn back(&self, count: usize) -> Vec<u8> {
        let first = std::iter::once(&self.head.bytes()[self.offset..]);
        let mut pieces = Vec::new();
        let mut left = count.min(self.length);
        for piece in first.chain(self.rest.iter().map(Chunk::bytes)).rev() {
            let part = &piece[piece.len() - piece.len().min(left)..];
            pieces.push(part);
            left -= part.len();
            if left == 0 {
                break;
            }
        }
        pieces.reverse();
        pieces.concat()
    }

    /// Fills `slices` with the first unsent pieces and returns how many were filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        if self.is_empty() {
            return 0;
        }
        slices[0] = IoSlice::new(&self.head.bytes()[self.offset..]);
        let mut count = 1;
        for chunk in self.rest.iter().take(MAX_SLICES - 1) {
            slices[count] = IoSlice::new(chunk.bytes());
            count += 1;
        }
        count
    }
}

impl std::fmt::Debug for SendQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SendQueue({} bytes in {} chunks)", self.length, 1 + self.rest.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(&'static [u8]);
    // SAFETY: a static slice never moves or changes.
    unsafe impl Payload for Fixed {
        fn bytes(&self) -> &[u8] {
            self.0
        }
    }

    fn content(queue: &SendQueue) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = queue.slices(&mut slices);
        slices[..count].iter().flat_map(|s| s.to_vec()).collect()
    }

    #[test]
    fn small_writes_share_a_block_and_large_ones_are_kept() {
        let pool = Pool::new();
        let mut queue = SendQueue::default();
        queue.copy(&pool, b"ab");
        queue.copy_pair(&pool, b"c", b"d");
        assert_eq!(queue.single(), Some(&b"abcd"[..]));
        queue.keep(Box::new(Fixed(b"efgh")));
        queue.copy(&pool, b"ij");
        assert_eq!(queue.single(), None);
        assert_eq!(content(&queue), b"abcdefghij");
        assert_eq!(queue.len(), 10);
    }

    #[test]
    fn every_split_leaves_the_rest() {
        for cut in 0..=10 {
            let pool = Pool::new();
            let mut queue = SendQueue::default();
            queue.copy(&pool, b"abcd");
            queue.keep(Box::new(Fixed(b"efgh")));
            queue.copy(&pool, b"ij");
            queue.advance(&pool, cut);
            assert_eq!(content(&queue), &b"abcdefghij"[cut..]);
            let mut later = SendQueue::default();
            later.copy(&pool, b"kl");
            later.keep(Box::new(Fixed(b"m")));
            queue.append(&mut later);
            assert!(later.is_empty());
            assert_eq!(content(&queue), &b"abcdefghijklm"[cut..]);
            assert_eq!(queue.to_vec(), &b"abcdefghijklm"[cut..]);
            let whole = queue.to_vec();
            for count in 0..=whole.len() + 1 {
                let some = count.min(whole.len());
                let mut front = b"x".to_vec();
                queue.front(count, &mut front);
                assert_eq!(&front[1..], &whole[..some]);
                assert_eq!(queue.back(count), &whole[whole.len() - some..]);
            }
        }
    }

    #[test]
    fn an_empty_queue_holds_no_memory_and_blocks_return_to_the_pool() {
        let pool = Pool::new();
        let mut queue = SendQueue::default();
        for _ in 0..4 {
            queue.copy(&pool, &[7; BLOCK]);
        }
        queue.advance(&pool, 4 * BLOCK);
        assert_eq!(queue.rest.capacity(), 0);
        assert_eq!(pool.free.borrow().len(), 4);
        queue.copy(&pool, &[7; 3 * BLOCK]);
        queue.clear(&pool);
        assert_eq!(pool.free.borrow().len(), 4, "an outsize block is not pooled");
    }

    #[test]
    #[should_panic(expected = "advanced past the end")]
    fn advancing_too_far_is_a_bug() {
        let pool = Pool::new();
        let mut queue = SendQueue::default();
        queue.copy(&pool, b"ab");
        queue.advance(&pool, 3);
    }
}
