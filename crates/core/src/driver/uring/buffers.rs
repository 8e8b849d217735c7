//! The provided buffers: memory that the kernel receives into, and lends us piece by piece.
//!
//! # Incremental buffers
//!
//! A plain provided buffer is used up by one receive, however short: either many small buffers, and a
//! 100 KiB message comes in twenty-five pieces, or large ones, and each 100 bytes spoil a cold 64 KiB.
//! Since Linux 6.12 a ring may be registered with `IOU_PBUF_RING_INC`: the kernel goes on in the same
//! buffer where the last receive ended (`IORING_CQE_F_BUF_MORE` says that it will), so the memory that
//! is written to is the memory that was just read, and one receive may fill a whole buffer
//! (io_uring_setup_buf_ring(3)). Older kernels get the plain kind.
//!
//! Completions of one buffer come in the order of its bytes as long as bundles are not used, so an
//! offset for each buffer is all there is to keep.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{IoUring, cqueue};

use crate::sys;

/// The group that every receive selects from.
pub const GROUP: u16 = 0;

/// `IOU_PBUF_RING_INC`.
const INCREMENTAL: u16 = 2;

/// Number and size of buffers, incremental: 256 KiB in all, so that what is lent stays in the cache. A turn
/// of small messages fills a part of it; a stream of large ones does not use them for long.
const FEW: (u16, u32) = (8, 32 * 1024);
/// Number and size of plain buffers: 4 MiB in all.
const MANY: (u16, u32) = (256, 16 * 1024);

/// A registered ring of buffers.
pub struct Buffers {
    map: sys::Mapping,
    count: u16,
    size: u32,
    incremental: bool,
    tail: u16,
    offsets: Vec<u32>,
}

impl Buffers {
    /// Registers buffers with `ring`, incremental ones if the kernel has them.
    ///
    /// # Errors
    ///
    /// No memory, or a kernel before 5.19.
    pub fn register(ring: &IoUring) -> io::Result<Self> {
        Self::try_register(ring, FEW, INCREMENTAL).or_else(|_| Self::try_register(ring, MANY, 0))
    }

    /// Whether the kernel has incremental ones. `ring` must not be used afterwards.
    pub fn are_incremental(ring: &IoUring) -> bool {
        Self::try_register(ring, (1, 4096), INCREMENTAL).is_ok_and(|mut buffers| {
            // The ring may outlive this call by a moment.
            let done = ring.submitter().unregister_buf_ring(GROUP);
            if done.is_err() {
                buffers.leak();
            }
            true
        })
    }

    fn try_register(ring: &IoUring, (count, size): (u16, u32), flags: u16) -> io::Result<Self> {
        // The entries first, page-aligned as the kernel wants them, then the buffers.
        let entries = usize::from(count) * size_of::<BufRingEntry>();
        let entries = entries.next_multiple_of(4096);
        let map = sys::Mapping::new(entries + usize::from(count) * size as usize)?;
        let address = map.start().as_ptr().addr() as u64;
        // SAFETY: the mapping holds `count` entries, is page-aligned, and outlives the ring: the
        // driver drops its buffers only after the ring is gone and idle.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(address, count, GROUP, flags)?;
        }
        let mut buffers = Self {
            map,
            count,
            size,
            incremental: flags == INCREMENTAL,
            tail: 0,
            offsets: vec![0; usize::from(count)],
        };
        for id in 0..count {
            buffers.provide(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Their memory, bytes.
    pub fn size(&self) -> usize {
        let entries = usize::from(self.count) * size_of::<BufRingEntry>();
        entries.next_multiple_of(4096) + usize::from(self.count) * self.size as usize
    }

    fn entries(&self) -> NonNull<BufRingEntry> {
        self.map.start().cast()
    }

    fn buffer(&self, id: u16) -> NonNull<u8> {
        let entries = usize::from(self.count) * size_of::<BufRingEntry>();
        let offset = entries.next_multiple_of(4096) + usize::from(id) * self.size as usize;
        // SAFETY: `id` is below `count`, so the offset is inside the mapping.
        unsafe { self.map.start().add(offset) }
    }

    /// Puts a buffer, whole, at the end of the ring; the kernel sees it after [`Buffers::publish`].
    fn provide(&mut self, id: u16) {
        let slot = usize::from(self.tail & (self.count - 1));
        let address = self.buffer(id).as_ptr().addr() as u64;
        // SAFETY: the slot is inside the ring and, being between the published tail and the head, is
        // ours to write.
        unsafe {
            let entry = self.entries().add(slot).as_mut();
            entry.set_addr(address);
            entry.set_len(self.size);
            entry.set_bid(id);
        }
        self.offsets[usize::from(id)] = 0;
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the tail of the ring lies in its first entry, which is mapped and never moves; the
        // kernel reads it with acquire order.
        unsafe {
            let tail = BufRingEntry::tail(self.entries().as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// The bytes of one completion, and the buffer to give back once they were read.
    pub fn take(&mut self, id: u16, length: usize, flags: u32) -> (NonNull<[u8]>, Option<u16>) {
        let offset = self.offsets[usize::from(id)] as usize;
        debug_assert!(offset + length <= self.size as usize);
        // SAFETY: the kernel reports no more than lay between the offset and the end of the buffer.
        let start = unsafe { self.buffer(id).add(offset) };
        let goes_on = self.incremental && cqueue::buffer_more(flags);
        if goes_on {
            self.offsets[usize::from(id)] += length as u32;
        }
        (NonNull::slice_from_raw_parts(start, length), (!goes_on).then_some(id))
    }

    /// Leaves the memory mapped for ever: the kernel may still write into it.
    pub fn leak(&mut self) {
        self.map.leak();
    }

    /// Gives a buffer back to the kernel.
    pub fn give_back(&mut self, id: u16) {
        self.provide(id);
        self.publish();
    }
}
