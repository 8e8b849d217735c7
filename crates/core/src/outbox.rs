//! Messages that wait for a slow consumer, when it is better to lose some than to wait.
//!
//! Owns what is not yet given to a connection's send queue, so what is dropped here was never begun: a
//! stream stays whole. Does not know connections or framing: who pops sends.
//!
//! ```text
//!   policy        full                      the key of a message is here already
//!   DropOldest    the oldest is dropped     (keys are not looked at)
//!   Latest        the oldest is dropped     the newer takes the older one's place in the order
//! ```
//!
//! Under `Latest` a consumer that is always behind still gets the newest state of each key in turn:
//! since a message keeps its place when it is replaced, a busy key can not starve the others.
//!
//! What is replaced or dropped comes back to the caller, who decides when it is freed.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// What to lose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// The oldest message.
    DropOldest,
    /// The older message of the same key, else the oldest.
    Latest,
}

/// What became of a message that was pushed, and of another for its sake.
#[derive(PartialEq, Eq, Debug)]
pub enum Pushed<P> {
    /// It waits.
    Queued,
    /// It waits in the place of this one, which had the same key.
    Replaced(P),
    /// It waits, and this one, the oldest, is dropped for it.
    Dropped(P),
}

struct Waiting<P, K> {
    key: Option<K>,
    payload: P,
    bytes: usize,
}

/// A bounded queue of payloads `P`, with keys `K` that are cheap to clone: an `Rc<[u8]>` that a broadcast
/// shares, a number. Empty it owns no heap memory.
pub struct Outbox<P, K = std::rc::Rc<[u8]>> {
    queue: VecDeque<Waiting<P, K>>,
    /// The number of the waiting message of each key. The front of the queue has the number `first`.
    places: HashMap<K, u64>,
    first: u64,
    bytes: usize,
    lost: u64,
    limit: u32,
    policy: Policy,
}

impl<P, K: Eq + Hash + Clone> Outbox<P, K> {
    /// An empty one, for at most `limit` messages, at least 1.
    pub fn new(policy: Policy, limit: u32) -> Self {
        Self {
            queue: VecDeque::new(),
            places: HashMap::new(),
            first: 0,
            bytes: 0,
            lost: 0,
            limit: limit.max(1),
            policy,
        }
    }

    /// Adds a message of `bytes` bytes.
    pub fn push(&mut self, key: Option<K>, payload: P, bytes: usize) -> Pushed<P> {
        let key = key.filter(|_| self.policy == Policy::Latest);
        if let Some(place) = key.as_ref().and_then(|key| self.places.get(key)) {
            let index = (place - self.first) as usize;
            if let Some(waiting) = self.queue.get_mut(index) {
                self.bytes = self.bytes - waiting.bytes + bytes;
                self.lost += 1;
                waiting.bytes = bytes;
                return Pushed::Replaced(std::mem::replace(&mut waiting.payload, payload));
            }
        }
        let full = self.queue.len() >= self.limit as usize;
        let oldest = if full { self.take() } else { None };
        if let Some(key) = &key {
            self.places.insert(key.clone(), self.first + self.queue.len() as u64);
        }
        self.queue.push_back(Waiting { key, payload, bytes });
        self.bytes += bytes;
        match oldest {
            Some(oldest) => {
                self.lost += 1;
                Pushed::Dropped(oldest)
            }
            None => Pushed::Queued,
        }
    }

    /// Takes the oldest message.
    pub fn pop(&mut self) -> Option<P> {
        let payload = self.take()?;
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
            self.places = HashMap::new();
        }
        Some(payload)
    }

    fn take(&mut self) -> Option<P> {
        let Waiting { key, payload, bytes } = self.queue.pop_front()?;
        if let Some(key) = key {
            self.places.remove(&key);
        }
        self.first += 1;
        self.bytes -= bytes;
        Some(payload)
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes of the messages that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its memory, bytes: messages by their length, also where connections share one.
    pub fn heap_size(&self) -> usize {
        self.bytes
            + self.queue.capacity() * size_of::<Waiting<P, K>>()
            + self.places.capacity() * (size_of::<(K, u64)>() + 1)
    }

    /// Messages lost since the beginning: dropped or replaced.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    fn drained<P, K: Eq + Hash + Clone>(outbox: &mut Outbox<P, K>) -> Vec<P> {
        std::iter::from_fn(|| outbox.pop()).collect()
    }

    #[test]
    fn the_oldest_goes_first() {
        let mut outbox = Outbox::<_, u64>::new(Policy::DropOldest, 2);
        assert_eq!(outbox.push(Some(7), 'a', 10), Pushed::Queued);
        // The same key means nothing here.
        assert_eq!(outbox.push(Some(7), 'b', 20), Pushed::Queued);
        assert_eq!((outbox.len(), outbox.bytes(), outbox.lost()), (2, 30, 0));
        assert_eq!(outbox.push(None, 'c', 5), Pushed::Dropped('a'));
        assert_eq!((outbox.len(), outbox.bytes(), outbox.lost()), (2, 25, 1));
        assert_eq!(drained(&mut outbox), ['b', 'c']);
        assert_eq!((outbox.len(), outbox.bytes(), outbox.lost()), (0, 0, 1));
    }

    #[test]
    fn a_newer_message_of_a_key_takes_the_place_of_the_older() {
        let mut outbox = Outbox::new(Policy::Latest, 3);
        let (x, y): (Rc<[u8]>, Rc<[u8]>) = (Rc::from(&b"x"[..]), Rc::from(&b"y"[..]));
        outbox.push(Some(x.clone()), "x1", 1);
        outbox.push(Some(y.clone()), "y1", 1);
        assert_eq!(outbox.push(Some(x.clone()), "x2", 9), Pushed::Replaced("x1"));
        outbox.push(None, "z", 1);
        assert_eq!((outbox.len(), outbox.bytes()), (3, 11));
        assert_eq!(outbox.push(None, "w", 1), Pushed::Dropped("x2"));
        // It was dropped, so there is nothing to replace, and it goes to the end.
        assert_eq!(outbox.push(Some(x), "x3", 1), Pushed::Dropped("y1"));
        assert_eq!(drained(&mut outbox), ["z", "w", "x3"]);
        assert_eq!(outbox.push(Some(y), "y2", 1), Pushed::Queued);
        assert_eq!(outbox.lost(), 3);
    }

    #[test]
    fn empty_it_owns_no_memory() {
        let mut outbox = Outbox::<_, u64>::new(Policy::Latest, 1000);
        assert_eq!((outbox.queue.capacity(), outbox.places.capacity()), (0, 0));
        for number in 0..2000 {
            outbox.push(Some(number % 1500), number, 1);
        }
        drained(&mut outbox);
        assert_eq!((outbox.queue.capacity(), outbox.places.capacity()), (0, 0));
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn a_limit_of_nothing_is_one() {
        let mut outbox = Outbox::<_, u64>::new(Policy::Latest, 0);
        assert_eq!(outbox.push(Some(1), 'a', 1), Pushed::Queued);
        assert_eq!(outbox.push(Some(2), 'b', 1), Pushed::Dropped('a'));
        assert_eq!(outbox.push(Some(2), 'c', 1), Pushed::Replaced('b'));
        assert_eq!(drained(&mut outbox), ['c']);
    }

    #[test]
    fn long_histories_agree_with_a_list() {
        for seed in 1..60_u64 {
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mut random = move |below: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 11) % below
            };
            let policy = if random(2) == 0 { Policy::DropOldest } else { Policy::Latest };
            let limit = 1 + random(8) as u32;
            let mut outbox = Outbox::<u64, u64>::new(policy, limit);
            let mut list: Vec<(Option<u64>, u64, usize)> = Vec::new();
            for number in 0..3000 {
                if random(5) < 2 {
                    let oldest = (!list.is_empty()).then(|| list.remove(0).1);
                    assert_eq!(outbox.pop(), oldest);
                } else {
                    let key = Some(random(6)).filter(|key| *key > 0);
                    let bytes = random(100) as usize;
                    let keyed = policy == Policy::Latest && key.is_some();
                    let same = list.iter_mut().find(|waiting| keyed && waiting.0 == key);
                    let expected = if let Some(waiting) = same {
                        let old = std::mem::replace(waiting, (key, number, bytes));
                        Pushed::Replaced(old.1)
                    } else {
                        list.push((key, number, bytes));
                        if list.len() > limit as usize {
                            Pushed::Dropped(list.remove(0).1)
                        } else {
                            Pushed::Queued
                        }
                    };
                    assert_eq!(outbox.push(key, number, bytes), expected);
                }
                assert_eq!(outbox.len(), list.len());
                assert_eq!(outbox.bytes(), list.iter().map(|waiting| waiting.2).sum::<usize>());
                assert!(outbox.places.len() <= outbox.len());
            }
        }
    }
}
