//! What comes and goes, told to those who watch: `Tap`.
//!
//! Only while `Flag::TAPPED` is set, which the hot path tests together with others. What is seen is what a program sees:
//! bytes after TLS, pieces as they came and left, and where they were cut.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit};
use wireway_core::tap::{Way, What};

use crate::tap::Tap;

use super::{Connection, Flag};

/// One direction, for one who watches: what it missed since it saw the last event.
#[derive(Clone, Copy)]
struct Sight {
    behind: bool,
    events: u64,
    bytes: u64,
}

impl Sight {
    /// It has seen nothing yet.
    const NEW: Self = Self { behind: true, events: 0, bytes: 0 };
}

struct Watcher {
    tap: Py<Tap>,
    key: u64,
    sights: [Sight; 2],
}

/// Who watches a connection, and where its stream stands.
#[derive(Default)]
pub struct Tapped {
    watchers: Vec<Watcher>,
    /// Bytes of the begun frame that the decoder has.
    begun: usize,
}

impl Tapped {
    /// Shows the collector what it holds.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.watchers.iter().try_for_each(|watcher| visit.call(&watcher.tap))
    }
}

impl Connection {
    /// `tap` watches from now on. What has come and waits uncut is shown to it, where that is at hand.
    pub(super) fn tap(&self, py: Python<'_>, tap: Py<Tap>, key: u64) {
        if self.flags.any(Flag::CLOSED) {
            return;
        }
        let begun = self.decoder.borrow().pending();
        let mut sights = [Sight::NEW; 2];
        // While handlers run, what waits is on the stack; under TLS it is no plain text.
        if begun == 0 && tap.get().sees_wire() && !self.flags.any(Flag::WORKING | Flag::SECURE) {
            let waits = self.if_extra(|extra| extra.backlog.bytes[extra.backlog.start..].to_vec());
            let waits = waits.unwrap_or_default();
            let gap = What::Gap { way: Way::In, events: 0, bytes: 0, waiting: 0 };
            if !waits.is_empty()
                && tap.get().push(py, key, gap)
                && tap.get().push(py, key, What::Piece(Way::In, waits))
            {
                sights[Way::In as usize].behind = false;
            }
        }
        self.extra(|extra| {
            let tapped = extra.tapped.get_or_insert_default();
            tapped.begun = begun;
            tapped.watchers.push(Watcher { tap, key, sights });
        });
        self.flags.set(Flag::TAPPED);
        self.conn.borrow_mut().watch(true);
    }

    /// `tap` watches no more.
    pub(super) fn untap(&self, tap: &Bound<'_, Tap>) {
        let mut gone = Vec::new();
        let left = self.if_extra(|extra| {
            let tapped = extra.tapped.as_mut()?;
            let all = std::mem::take(&mut tapped.watchers);
            let (those, others) = all.into_iter().partition(|watcher| watcher.tap.is(tap));
            (gone, tapped.watchers) = (those, others);
            Some(tapped.watchers.len())
        });
        drop(gone);
        if left.flatten() == Some(0) {
            self.end_tapping();
            self.trim();
        }
    }

    fn end_tapping(&self) {
        self.flags.clear(Flag::TAPPED);
        self.conn.borrow_mut().watch(false);
        let tapped = self.if_extra(|extra| extra.tapped.take());
        drop(tapped);
    }

    /// Bytes came.
    #[cold]
    pub(super) fn tap_received(&self, py: Python<'_>, data: &[u8]) {
        let waiting = self.uncut(0);
        self.tell(py, Way::In, waiting, data.len(), || What::Piece(Way::In, data.to_vec()));
    }

    /// The decoder took `taken` bytes, of which a message came or not, and left `rest`.
    pub(super) fn tap_decoded(
        &self,
        taken: usize,
        rest: usize,
        message: Option<&Bound<'_, PyBytes>>,
    ) {
        let begun = self
            .if_extra(|extra| {
                let tapped = extra.tapped.as_mut()?;
                tapped.begun += taken;
                Some(match message {
                    None => tapped.begun,
                    Some(_) => std::mem::take(&mut tapped.begun),
                })
            })
            .flatten();
        let (Some(frame), Some(message)) = (begun, message) else { return };
        let content = message.as_bytes();
        let waiting = self.uncut(frame + rest);
        self.tell(message.py(), Way::In, waiting, 0, || What::Cut {
            frame,
            message: content.len(),
        });
        self.tell_message(message.py(), Way::In, content.len(), |most| {
            content[..most.min(content.len())].to_vec()
        });
    }

    /// The first bytes that wait are a PROXY header.
    pub(super) fn tap_header(&self, py: Python<'_>, length: usize) {
        if !self.flags.any(Flag::SECURE) {
            self.tell(py, Way::In, self.uncut(0), 0, || What::Header(length));
        }
    }

    /// What the decoder had will be cut anew.
    pub(super) fn tap_reframed(&self) {
        self.if_extra(|extra| extra.tapped.as_mut().map(|tapped| tapped.begun = 0));
    }

    /// A frame of so many bytes was queued.
    #[cold]
    pub(super) fn tap_queued(&self, py: Python<'_>, bytes: usize) {
        let waiting = self.conn.borrow().staying().saturating_sub(bytes);
        self.tell(py, Way::Out, waiting, 0, || What::Queued(bytes));
        self.tell_message(py, Way::Out, bytes, |most| {
            let mut frame = self.conn.borrow().latest(bytes);
            frame.truncate(most);
            frame
        });
    }

    /// Something may have left.
    #[cold]
    pub(super) fn tap_left(&self, py: Python<'_>) {
        if !self.flags.any(Flag::TAPPED) {
            return;
        }
        let left = self.conn.borrow().take_left();
        if !left.is_empty() {
            let waiting = self.conn.borrow().staying() + left.len();
            self.tell(py, Way::Out, waiting, left.len(), || What::Piece(Way::Out, left.clone()));
        }
    }

    /// It is over.
    pub(super) fn tap_ended(&self, py: Python<'_>, code: &'static str, why: &str) {
        if !self.flags.any(Flag::TAPPED) {
            return;
        }
        for (_, tap, key) in self.watchers(py) {
            tap.get().push(py, key, What::Ended { code, why: why.to_owned() });
        }
        self.end_tapping();
    }

    /// Bytes that came and were not cut: those at hand, those of a begun frame, those that wait.
    fn uncut(&self, at_hand: usize) -> usize {
        let waits = self.if_extra(|extra| {
            extra.backlog.len() + extra.tapped.as_ref().map_or(0, |tapped| tapped.begun)
        });
        at_hand + waits.unwrap_or(0)
    }

    /// Tells those who watch the wire. `waiting`: bytes that this direction had standing before it.
    fn tell(
        &self,
        py: Python<'_>,
        way: Way,
        waiting: usize,
        bytes: usize,
        what: impl Fn() -> What,
    ) {
        for (place, tap, key) in self.watchers(py) {
            if !tap.get().sees_wire() {
                continue;
            }
            let Some(sight) = self.sight(place, way, |sight| *sight) else { continue };
            let gap = || What::Gap { way, events: sight.events, bytes: sight.bytes, waiting };
            let caught_up = !sight.behind || tap.get().push(py, key, gap());
            if caught_up && tap.get().push(py, key, what()) {
                self.sight(place, way, |sight| {
                    *sight = Sight { behind: false, events: 0, bytes: 0 };
                });
            } else {
                self.sight(place, way, |sight| {
                    let (events, lost) =
                        if caught_up { (0, 0) } else { (sight.events, sight.bytes) };
                    *sight = Sight { behind: true, events: events + 1, bytes: lost + bytes as u64 };
                });
            }
        }
    }

    /// Tells those who want messages.
    fn tell_message(
        &self,
        py: Python<'_>,
        way: Way,
        length: usize,
        first: impl Fn(usize) -> Vec<u8>,
    ) {
        for (_, tap, key) in self.watchers(py) {
            if !tap.get().sees_wire() {
                let bytes = first(tap.get().snap());
                tap.get().push(py, key, What::Message { way, bytes, length });
            }
        }
    }

    /// A list of its own: to wake one who watches runs Python.
    fn watchers(&self, py: Python<'_>) -> Vec<(usize, Py<Tap>, u64)> {
        self.if_extra(|extra| {
            let watchers = extra.tapped.iter().flat_map(|tapped| &tapped.watchers).enumerate();
            watchers.map(|(place, each)| (place, each.tap.clone_ref(py), each.key)).collect()
        })
        .unwrap_or_default()
    }

    fn sight<R>(&self, place: usize, way: Way, edit: impl FnOnce(&mut Sight) -> R) -> Option<R> {
        self.if_extra(|extra| {
            let watcher = extra.tapped.as_mut()?.watchers.get_mut(place)?;
            Some(edit(&mut watcher.sights[way as usize]))
        })
        .flatten()
    }
}
