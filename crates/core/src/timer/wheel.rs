//! The timing wheel: one deadline for each of very many connections, moved and cancelled in constant time.
//!
//! A connection has many deadlines (idle, write stall, heartbeat …) but one place here: its owner
//! computes the earliest of them, and when that is due looks at all of them again. What a message
//! does to a deadline is therefore one store to "last activity" and nothing in the wheel.
//!
//! # How
//!
//! Varghese and Lauck's hierarchical wheel ("Hashed and Hierarchical Timing Wheels", 1987, scheme 7).
//! Time is counted in ticks of 1/128 s. Six levels of 64 slots: level 0 holds what is due within the
//! present 64 ticks, level 1 what is due within the present 4,096, and so on: an entry lies at the
//! level of the highest group of six bits in which its tick differs from now. When now comes to the
//! start of a slot of a higher level, its entries go down.
//!
//! ```text
//!   level 1   [ 0 | 1 | 2 |*3 | 4 | … 63 ]      each slot is 64 ticks, half a second
//!                        \___ opens into ___
//!   level 0   [ 0 | 1 | … | now | … 63 ]    \   each slot is a tick
//! ```
//!
//! The entries of a slot are a ring through the table of nodes, which is indexed by the slot number of
//! the connection: no memory is taken or given back for an entry, and 16 bytes serve a connection.
//!
//! Never early, at most a tick late. Time is passed in; nothing here reads a clock.

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 6;
const HEADS: u32 = (LEVELS * SLOTS) as u32;
/// Ticks in a second.
const RATE: f64 = 128.0;
/// The furthest deadline, ticks from now: 8 years. Later ones are due then and are looked at again.
const FURTHEST: u64 = 1 << 35;

#[derive(Clone, Copy)]
struct Node {
    before: u32,
    after: u32,
    due: u64,
}

/// Deadlines of numbered owners, one for each.
pub struct Wheel {
    /// The heads of the slots, then the nodes of the owners. A node that points at itself is free.
    nodes: Vec<Node>,
    /// A bit for each slot that may hold entries.
    occupied: [u64; LEVELS],
    now: u64,
    len: usize,
}

impl Default for Wheel {
    fn default() -> Self {
        let nodes = (0..HEADS).map(|at| Node { before: at, after: at, due: 0 }).collect();
        Self { nodes, occupied: [0; LEVELS], now: 0, len: 0 }
    }
}

impl Wheel {
    /// What one owner takes of its memory, bytes.
    pub const PLACE: usize = size_of::<Node>();

    /// What it takes before there is any owner, bytes.
    pub const HEADS: usize = HEADS as usize * size_of::<Node>();

    /// Sets the deadline of `owner`, seconds on the caller's clock, in the place of an earlier one.
    /// What is past, or not a number, is due at once.
    pub fn set(&mut self, owner: usize, when: f64) {
        let at = HEADS as usize + owner;
        while self.nodes.len() <= at {
            let free = self.nodes.len() as u32;
            self.nodes.push(Node { before: free, after: free, due: 0 });
        }
        self.unlink(at as u32);
        // The cast saturates: negative and NaN become 0, infinity the greatest.
        let tick = (when * RATE).ceil() as u64;
        self.nodes[at].due = tick.clamp(self.now, self.now + FURTHEST);
        self.link(at as u32);
        self.len += 1;
    }

    /// Takes the deadline of `owner` away, if there is one.
    pub fn cancel(&mut self, owner: usize) {
        if HEADS as usize + owner < self.nodes.len() {
            self.unlink(HEADS + owner as u32);
        }
    }

    /// The deadline of `owner`, seconds.
    pub fn get(&self, owner: usize) -> Option<f64> {
        let at = HEADS + owner as u32;
        let node = self.nodes.get(at as usize)?;
        (node.after != at).then(|| node.due as f64 / RATE)
    }

    /// When to look again, seconds: no deadline is before it, though none may be due then either.
    pub fn next(&self) -> Option<f64> {
        if self.len == 0 { None } else { self.next_slot().map(|(tick, _)| tick as f64 / RATE) }
    }

    /// Takes an owner whose deadline is due at `now`, seconds. Ask until there is none.
    pub fn pop_due(&mut self, now: f64) -> Option<usize> {
        let target = (now * RATE).floor() as u64;
        loop {
            if self.len == 0 {
                self.now = self.now.max(target);
                return None;
            }
            match self.next_slot() {
                Some((tick, level)) if tick <= target => {
                    self.now = tick;
                    let slot = (tick >> (BITS * level as u32)) as usize % SLOTS;
                    let head = (level * SLOTS + slot) as u32;
                    let first = self.nodes[head as usize].after;
                    if first == head {
                        self.occupied[level] &= !(1 << slot);
                    } else if level == 0 {
                        self.unlink(first);
                        return Some((first - HEADS) as usize);
                    } else {
                        self.open(head);
                        self.occupied[level] &= !(1 << slot);
                    }
                }
                _ => {
                    self.now = self.now.max(target);
                    return None;
                }
            }
        }
    }

    /// Deadlines that are set.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no deadline is set.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first slot that may hold entries: when it begins, and its level. Whatever lies at a level is
    /// before whatever lies at the next, so the lowest level that holds anything has it.
    fn next_slot(&self) -> Option<(u64, usize)> {
        (0..LEVELS).find_map(|level| {
            let shift = BITS * level as u32;
            let here = (self.now >> shift) % SLOTS as u64;
            let ahead = self.occupied[level] & (u64::MAX << here);
            (ahead != 0).then(|| {
                let lap = (self.now >> (shift + BITS)) << (shift + BITS);
                let start = lap | u64::from(ahead.trailing_zeros()) << shift;
                (start.max(self.now), level)
            })
        })
    }

    /// Puts the entries of a slot where they belong now, at lower levels.
    fn open(&mut self, head: u32) {
        loop {
            let first = self.nodes[head as usize].after;
            if first == head {
                return;
            }
            self.unlink(first);
            self.link(first);
            self.len += 1;
        }
    }

    fn link(&mut self, at: u32) {
        let due = self.nodes[at as usize].due;
        let differing = (due ^ self.now) | 1;
        let level = ((u64::BITS - 1 - differing.leading_zeros()) / BITS) as usize;
        let slot = (due >> (BITS * level as u32)) as usize % SLOTS;
        self.occupied[level] |= 1 << slot;
        // Behind the last: what was set first is popped first.
        let head = (level * SLOTS + slot) as u32;
        let last = self.nodes[head as usize].before;
        self.nodes[at as usize].before = last;
        self.nodes[at as usize].after = head;
        self.nodes[last as usize].after = at;
        self.nodes[head as usize].before = at;
    }

    fn unlink(&mut self, at: u32) {
        let Node { before, after, .. } = self.nodes[at as usize];
        if after == at {
            return;
        }
        self.nodes[before as usize].after = after;
        self.nodes[after as usize].before = before;
        self.nodes[at as usize].before = at;
        self.nodes[at as usize].after = at;
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn drain(wheel: &mut Wheel, now: f64) -> Vec<usize> {
        std::iter::from_fn(|| wheel.pop_due(now)).collect()
    }

    #[test]
    fn never_early_and_at_most_a_tick_late() {
        let mut wheel = Wheel::default();
        for (owner, when) in [0.5, 0.001, 30.0, 3600.0, 90.0 * 86400.0].into_iter().enumerate() {
            wheel.set(owner, when);
            assert_eq!(drain(&mut wheel, when - 1e-6), [], "early for {when}");
            assert_eq!(drain(&mut wheel, when + 1.0 / RATE), [owner], "late for {when}");
            wheel = Wheel::default();
        }
    }

    #[test]
    fn a_deadline_moves_and_goes() {
        let mut wheel = Wheel::default();
        wheel.set(3, 1.0);
        wheel.set(3, 2.0);
        wheel.set(7, 1.5);
        assert_eq!((wheel.len(), wheel.get(3), wheel.get(5)), (2, Some(2.0), None));
        wheel.cancel(7);
        wheel.cancel(7);
        wheel.cancel(1000);
        assert_eq!(drain(&mut wheel, 1.9), []);
        assert_eq!(drain(&mut wheel, 2.0), [3]);
        assert!(wheel.is_empty() && wheel.next().is_none());
    }

    #[test]
    fn strange_times_have_a_place() {
        let mut wheel = Wheel::default();
        assert_eq!(wheel.pop_due(100.0), None);
        wheel.set(0, -5.0);
        wheel.set(1, f64::NAN);
        wheel.set(2, 1.0);
        wheel.set(3, f64::INFINITY);
        assert_eq!(drain(&mut wheel, 100.0), [0, 1, 2]);
        assert!(wheel.next().is_some());
        assert_eq!(drain(&mut wheel, 101.0), []);
        wheel.set(0, 101.5);
        // A clock that goes back moves nothing.
        assert_eq!(drain(&mut wheel, 50.0), []);
        assert_eq!(drain(&mut wheel, 101.5), [0]);
    }

    #[test]
    fn agrees_with_a_sorted_map() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        let mut wheel = Wheel::default();
        let mut model: BTreeMap<usize, u64> = BTreeMap::new();
        let mut now = 0_u64;
        for _ in 0..20_000 {
            let owner = random(50) as usize;
            match random(4) {
                0 => {
                    wheel.cancel(owner);
                    model.remove(&owner);
                }
                1 | 2 => {
                    let span = 1 << random(24);
                    let due = now + random(span);
                    wheel.set(owner, due as f64 / RATE);
                    model.insert(owner, due);
                }
                _ => {
                    let earliest = model.values().min().map(|&due| due as f64 / RATE);
                    if let (Some(earliest), Some(next)) = (earliest, wheel.next()) {
                        assert!(next <= earliest);
                    }
                    let span = 1 << random(20);
                    now += random(span);
                    let mut due = drain(&mut wheel, now as f64 / RATE);
                    due.sort_unstable();
                    let expected: Vec<usize> =
                        model.iter().filter(|&(_, &due)| due <= now).map(|(&o, _)| o).collect();
                    assert_eq!(due, expected);
                    model.retain(|_, &mut due| due > now);
                }
            }
            assert_eq!(wheel.len(), model.len());
        }
    }
}
