//! What is due when.
//!
//! Two containers: this heap, for callbacks that each have a moment of their own, and the [`wheel`],
//! for connections, whose deadlines nearly always move before they are due.
//!
//! A heap of deadlines: earliest first, and in the order of insertion where two are equal. Time is
//! passed in, as seconds on any clock that does not run backwards; nothing here reads one.
//!
//! A cancelled deadline is not searched for: whoever pops it finds it cancelled. So that a program
//! which sets and cancels a timeout for each request does not collect them, the heap is swept when
//! more than half of a good number of entries are dead ([`Timers::sweep_due`]).

pub mod wheel;

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Fewer cancelled entries than this are never worth a sweep.
const SWEEP_FROM: usize = 64;

struct Entry<T> {
    when: f64,
    order: u64,
    item: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl<T> Eq for Entry<T> {}
impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Entry<T> {
    /// Reversed: the greatest of the heap is what is due first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.when.total_cmp(&self.when).then(other.order.cmp(&self.order))
    }
}

/// Deadlines and what they are for.
pub struct Timers<T> {
    heap: BinaryHeap<Entry<T>>,
    order: u64,
    cancelled: usize,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), order: 0, cancelled: 0 }
    }
}

impl<T> Timers<T> {
    /// Adds a deadline, in seconds.
    pub fn push(&mut self, when: f64, item: T) {
        self.order += 1;
        self.heap.push(Entry { when, order: self.order, item });
    }

    /// The earliest deadline.
    #[inline]
    pub fn next(&self) -> Option<f64> {
        self.heap.peek().map(|entry| entry.when)
    }

    /// Takes the earliest entry if it is due at `now`.
    #[inline]
    pub fn pop_due(&mut self, now: f64) -> Option<T> {
        if self.heap.peek()?.when <= now { self.heap.pop().map(|entry| entry.item) } else { None }
    }

    /// Entries, dead ones included.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Every item, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.heap.iter().map(|entry| &entry.item)
    }

    /// Counts one entry as dead.
    pub fn note_cancelled(&mut self) {
        self.cancelled += 1;
    }

    /// Counts one dead entry as popped.
    pub fn note_popped(&mut self) {
        self.cancelled = self.cancelled.saturating_sub(1);
    }

    /// Whether it is time to [`Timers::sweep`].
    pub fn sweep_due(&self) -> bool {
        self.cancelled >= SWEEP_FROM && self.cancelled * 2 > self.heap.len()
    }

    /// Removes and returns what `dead` says is dead.
    pub fn sweep(&mut self, dead: impl Fn(&T) -> bool) -> Vec<T> {
        self.cancelled = 0;
        let (gone, kept) =
            std::mem::take(&mut self.heap).into_vec().into_iter().partition(|e| dead(&e.item));
        self.heap = BinaryHeap::from(kept);
        let gone: Vec<Entry<T>> = gone;
        gone.into_iter().map(|entry| entry.item).collect()
    }

    /// Removes and returns everything.
    pub fn drain(&mut self) -> Vec<T> {
        self.cancelled = 0;
        std::mem::take(&mut self.heap).into_vec().into_iter().map(|entry| entry.item).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earliest_first_and_equals_in_order() {
        let mut timers = Timers::default();
        for (when, item) in [(2.0, 'c'), (1.0, 'a'), (2.0, 'd'), (1.0, 'b'), (3.0, 'e')] {
            timers.push(when, item);
        }
        assert_eq!(timers.next(), Some(1.0));
        assert_eq!(timers.pop_due(0.5), None);
        let due: String = std::iter::from_fn(|| timers.pop_due(2.5)).collect();
        assert_eq!(due, "abcd");
        assert_eq!(timers.len(), 1);
    }

    #[test]
    fn infinite_and_past_deadlines_have_a_place() {
        let mut timers = Timers::default();
        timers.push(f64::INFINITY, 'z');
        timers.push(-1.0, 'a');
        assert_eq!(timers.pop_due(0.0), Some('a'));
        assert_eq!(timers.pop_due(1e300), None);
    }

    #[test]
    fn a_sweep_keeps_the_living_in_order() {
        let mut timers = Timers::default();
        for number in 0..200 {
            timers.push(f64::from(number % 7), number);
            if number % 3 != 0 {
                timers.note_cancelled();
            }
        }
        assert!(timers.sweep_due());
        assert_eq!(timers.sweep(|number| number % 3 != 0).len(), 133);
        assert!(!timers.sweep_due());
        let mut last = (-1.0, -1);
        while let Some(when) = timers.next() {
            let number = timers.pop_due(when).unwrap();
            assert!((when, number) > last);
            last = (when, number);
        }
    }
}
