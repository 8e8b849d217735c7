//! A connection under TLS: what is queued is sealed as it leaves, what came is opened.
//!
//! ```text
//!   write ──> queue (plaintext) ──seal──> wire (records) ──> driver
//!                                  ^
//!              Session ── handshake, alerts, tickets
//! ```
//!
//! Owns the session and the records that wait. Messages are sealed when they leave and not when they are
//! queued: so a turn's messages share records, and one costs a part of a record rather than a whole one.

use std::cell::Cell;
use std::io::IoSlice;

use crate::buffer::MAX_SLICES;
use crate::buffer::{Pool, SendQueue};
use crate::tls::{Session, TlsError};

use super::watched::leaves;
use super::{Conn, Sending};

/// Records wait in this number of bytes before no more plaintext is sealed: a slow peer's queue stays plaintext.
const ENOUGH: usize = 64 * 1024;
/// Plaintext that is sealed at once.
const SHARE: usize = 128 * 1024;

thread_local! {
    static PLAIN: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static SEALED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What TLS adds to a connection.
pub(super) struct Secured {
    session: Session,
    /// Records that are to go next.
    pub(super) wire: SendQueue,
    /// Bytes of the goodbye.
    goodbye: usize,
    /// Bytes that sealing added to what is queued, since somebody asked.
    added: isize,
}

impl Secured {
    /// Memory of records that wait, bytes, and of what came of one.
    pub(super) fn heap_size(&self) -> usize {
        self.session.buffered() + self.wire.heap_size()
    }
}

impl Conn {
    /// From now on everything is TLS. What the session has to say first leaves with the next flush.
    pub fn secure(&mut self, session: Session) {
        let (wire, goodbye, added) = (SendQueue::default(), 0, 0);
        self.secured = Some(Box::new(Secured { session, wire, goodbye, added }));
    }

    /// The session, of a connection under TLS.
    pub fn session(&self) -> Option<&Session> {
        self.secured.as_ref().map(|secured| &secured.session)
    }

    /// Memory of the session at rest, bytes. Without what rustls allocates beneath it: about 1.5 KiB of keys.
    pub fn session_size(&self) -> usize {
        self.secured.as_ref().map_or(0, |it| size_of::<Secured>() + it.session.own_size())
    }

    /// Bytes of the last record, which said goodbye and is no data; 0 before.
    pub fn goodbye(&self) -> usize {
        self.secured.as_ref().map_or(0, |secured| secured.goodbye)
    }

    /// Opens what came, behind `plain`. The session may have something to say then: flush.
    ///
    /// # Errors
    ///
    /// The connection is over. What was queued can not be sent any more and is dropped; an alert for the peer leaves
    /// with the next flush.
    pub fn open(&mut self, pool: &Pool, data: &[u8], plain: &mut Vec<u8>) -> Result<(), TlsError> {
        let Some(secured) = &mut self.secured else { return Ok(()) };
        let result = secured.session.receive(data, &mut |piece| plain.extend_from_slice(piece));
        if result.is_err() {
            let queued = self.queue.len();
            self.queue.clear(pool);
            self.shrink(pool, queued);
        }
        result
    }

    /// The stream from the peer ended.
    ///
    /// # Errors
    ///
    /// As [`Session::end`]: the peer had not said goodbye.
    pub fn ended(&mut self) -> Result<(), TlsError> {
        self.secured.as_mut().map_or(Ok(()), |secured| secured.session.end())
    }

    /// Bytes that sealing added to (or, of a session that failed, took from) what is queued, since the last call.
    #[inline]
    pub fn take_added(&mut self) -> isize {
        self.secured.as_mut().map_or(0, |secured| std::mem::take(&mut secured.added))
    }

    /// Moves what waits into records, as much as is good for now, and the goodbye behind all.
    pub(super) fn seal(&mut self, pool: &Pool) {
        let Some(secured) = &mut self.secured else { return };
        let Secured { session, wire, goodbye, added } = &mut **secured;
        let before = wire.len();
        let mut records = SEALED.take();
        records.clear();
        if session.wants_write() {
            session.outgoing(&mut records);
        }
        let mut sealed = 0;
        if !self.queue.is_empty() && !session.is_handshaking() && before < ENOUGH {
            sealed = seal_front(session, &self.queue, &mut records);
            if self.watched {
                leaves(&self.queue, sealed);
            }
            self.queue.advance(pool, sealed);
        }
        if self.sending == Sending::Finishing && self.queue.is_empty() {
            session.close();
            *goodbye += session.outgoing(&mut records);
        }
        wire.copy(pool, &records);
        if records.capacity() <= 2 * SHARE {
            SEALED.set(records);
        }
        let more = wire.len() - before;
        *added += more as isize - sealed as isize;
        self.queued = self.queued + more - sealed;
        pool.more_queued(more);
        pool.less_queued(sealed);
    }
}

/// Seals the front of `queue`; gives how many bytes of it.
fn seal_front(session: &mut Session, queue: &SendQueue, records: &mut Vec<u8>) -> usize {
    if let Some(piece) = queue.single()
        && piece.len() <= SHARE
    {
        session.send_into(piece, records);
        return piece.len();
    }
    let mut plain = PLAIN.take();
    plain.clear();
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let count = queue.slices(&mut slices);
    for slice in &slices[..count] {
        let room = SHARE - plain.len();
        plain.extend_from_slice(&slice[..slice.len().min(room)]);
        if plain.len() == SHARE {
            break;
        }
    }
    session.send_into(&plain, records);
    let sealed = plain.len();
    PLAIN.set(plain);
    sealed
}
