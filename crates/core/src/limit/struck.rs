//! Addresses that misbehaved, and those that are banned for it.
//!
//! ```text
//!              strike          `after` strikes within `within` seconds
//!   unknown ----------> struck ----------------------------------------> banned
//!      ^                   |  each strike forgotten after `within`          |
//!      +-------------------+---------------- after `seconds` ---------------+
//! ```
//!
//! Memory is bounded: at most `remembered` struck addresses and as many banned ones, each the latest.
//! They are separate so that a flood from countless addresses, one strike each, can not push out a ban.
//! Does not know what a strike was for.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// Hash tables up to this size are kept when they become empty.
const KEEP: usize = 1024;

/// When an address is banned, and for how long.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ban {
    /// So many strikes begin a ban, at least 1.
    pub after: u32,
    /// A strike counts for so long, seconds.
    pub within: f64,
    /// How long a ban lasts, seconds.
    pub seconds: f64,
}

/// A bounded table in the order of the last `put`: what is at its front is the oldest.
struct Ledger<V> {
    entries: HashMap<IpAddr, (u64, V)>,
    /// What was put, oldest first. An entry that was put again or removed since is stale: its number
    /// is not the one in `entries`.
    order: VecDeque<(u64, IpAddr)>,
    number: u64,
}

impl<V> Ledger<V> {
    fn new() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), number: 0 }
    }

    fn get(&self, ip: IpAddr) -> Option<&V> {
        self.entries.get(&ip).map(|(_, value)| value)
    }

    fn remove(&mut self, ip: IpAddr) -> Option<V> {
        let (_, value) = self.entries.remove(&ip)?;
        if self.entries.is_empty() {
            self.order.clear();
            if self.entries.capacity() > KEEP {
                *self = Self { number: self.number, ..Self::new() };
            }
        }
        Some(value)
    }

    /// Puts `ip` at the back, and forgets the oldest above `most`.
    fn put(&mut self, ip: IpAddr, value: V, most: usize) {
        self.number += 1;
        self.entries.insert(ip, (self.number, value));
        self.order.push_back((self.number, ip));
        while self.entries.len() > most {
            let Some(oldest) = self.oldest() else { break };
            self.remove(oldest);
        }
        if self.order.len() > 2 * self.entries.len() + KEEP {
            let Self { entries, order, .. } = self;
            order
                .retain(|(number, ip)| entries.get(ip).is_some_and(|(latest, _)| latest == number));
        }
    }

    fn oldest(&mut self) -> Option<IpAddr> {
        while let Some(&(number, ip)) = self.order.front() {
            if self.entries.get(&ip).is_some_and(|(latest, _)| *latest == number) {
                return Some(ip);
            }
            self.order.pop_front();
        }
        None
    }

    /// Removes from the front what `gone` says is over.
    fn expire(&mut self, gone: impl Fn(&V) -> bool) {
        while let Some(ip) = self.oldest() {
            if !self.get(ip).is_some_and(&gone) {
                break;
            }
            self.remove(ip);
        }
    }
}

/// Strikes and bans.
pub(super) struct Struck {
    ban: Ban,
    remembered: usize,
    /// When each strike of an address was, the latest last.
    strikes: Ledger<Vec<f64>>,
    /// When each ban ends.
    bans: Ledger<f64>,
}

impl Struck {
    pub(super) fn new(ban: Ban, remembered: usize) -> Self {
        let remembered = remembered.max(1);
        Self { ban, remembered, strikes: Ledger::new(), bans: Ledger::new() }
    }

    pub(super) fn rule(&self) -> Ban {
        self.ban
    }

    /// Forgets what is over. Costs a glance when nothing is.
    #[inline]
    pub(super) fn expire(&mut self, now: f64) {
        if !self.strikes.entries.is_empty() {
            let within = self.ban.within;
            self.strikes.expire(|strikes| strikes.last().is_none_or(|last| last + within <= now));
        }
        if !self.bans.entries.is_empty() {
            self.bans.expire(|until| *until <= now);
        }
    }

    /// Counts a strike. True when it begins a ban; strikes of who is banned already do not count.
    pub(super) fn strike(&mut self, ip: IpAddr, now: f64) -> bool {
        self.expire(now);
        if self.left(ip, now).is_some() {
            return false;
        }
        let mut strikes = self.strikes.remove(ip).unwrap_or_default();
        strikes.retain(|strike| strike + self.ban.within > now);
        strikes.push(now);
        let over = strikes.len() >= self.ban.after as usize;
        if over {
            self.bans.put(ip, now + self.ban.seconds, self.remembered);
        } else {
            self.strikes.put(ip, strikes, self.remembered);
        }
        over
    }

    /// Seconds that `ip` is still banned for.
    #[inline]
    pub(super) fn left(&self, ip: IpAddr, now: f64) -> Option<f64> {
        if self.bans.entries.is_empty() {
            return None;
        }
        self.bans.get(ip).map(|until| until - now).filter(|left| *left > 0.0)
    }

    pub(super) fn bans(&self) -> impl Iterator<Item = (IpAddr, f64)> {
        self.bans.entries.iter().map(|(ip, (_, until))| (*ip, *until))
    }

    /// Ends a ban, and forgets strikes. True when there was a ban.
    pub(super) fn forget(&mut self, ip: IpAddr) -> bool {
        self.strikes.remove(ip);
        self.bans.remove(ip).is_some()
    }

    /// Struck and banned addresses that are remembered.
    pub(super) fn len(&self) -> usize {
        self.strikes.entries.len() + self.bans.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const BAN: Ban = Ban { after: 3, within: 10.0, seconds: 100.0 };

    fn ip(number: u32) -> IpAddr {
        IpAddr::from(Ipv4Addr::from(number))
    }

    #[test]
    fn strikes_within_the_time_begin_a_ban_that_ends() {
        let mut struck = Struck::new(BAN, 10);
        assert!(!struck.strike(ip(1), 0.0));
        assert!(!struck.strike(ip(1), 5.0));
        // The first has expired: this is the second.
        assert!(!struck.strike(ip(1), 10.0));
        assert!(struck.strike(ip(1), 14.0));
        assert_eq!(struck.left(ip(1), 14.0), Some(100.0));
        assert!(!struck.strike(ip(1), 15.0), "a ban is not begun twice");
        assert_eq!(struck.left(ip(1), 113.5), Some(0.5));
        assert_eq!(struck.left(ip(1), 114.0), None);
        assert!(!struck.strike(ip(1), 114.0), "and then it begins at nothing");
    }

    #[test]
    fn nothing_is_kept_of_what_is_over() {
        let mut struck = Struck::new(BAN, 10_000);
        for number in 0..5000 {
            struck.strike(ip(number), f64::from(number) / 1000.0);
        }
        assert_eq!(struck.len(), 5000);
        struck.expire(12.4995);
        assert_eq!(struck.len(), 2500);
        struck.expire(15.0);
        assert_eq!(struck.len(), 0);
        assert_eq!(struck.strikes.entries.capacity(), 0);
        assert_eq!(struck.strikes.order.capacity(), 0);
    }

    #[test]
    fn a_flood_forgets_the_oldest_strikes_but_no_ban() {
        let mut struck = Struck::new(BAN, 100);
        for _ in 0..3 {
            struck.strike(ip(0), 0.0);
        }
        for number in 1..100_000 {
            assert!(!struck.strike(ip(number), 1.0));
            assert!(struck.len() <= 101);
            assert!(struck.strikes.order.len() <= 200 + KEEP + 1);
        }
        assert!(struck.left(ip(0), 1.0).is_some());
        assert_eq!(struck.len(), 101);
        // The latest hundred are remembered.
        for number in [99_900, 99_999] {
            assert!(!struck.strike(ip(number), 1.0));
            assert!(struck.strike(ip(number), 1.0), "{number}");
        }
        assert!(!struck.strike(ip(99_899), 1.0));
        assert!(!struck.strike(ip(99_899), 1.0));
    }

    #[test]
    fn one_that_is_struck_again_and_again_costs_no_more() {
        let mut struck = Struck::new(Ban { after: 1_000_000, within: 1.0, seconds: 1.0 }, 100);
        for number in 0..100_000 {
            struck.strike(ip(number % 7), f64::from(number));
        }
        assert_eq!(struck.len(), 1);
        assert!(struck.strikes.order.len() <= 2 + KEEP + 1);
    }

    #[test]
    fn bans_are_bounded_too_and_can_be_lifted() {
        let mut struck = Struck::new(Ban { after: 1, within: 10.0, seconds: 100.0 }, 50);
        for number in 0..1000 {
            assert!(struck.strike(ip(number), 0.0));
        }
        assert_eq!(struck.bans().count(), 50);
        assert!(struck.forget(ip(999)));
        assert!(!struck.forget(ip(999)));
        assert_eq!(struck.left(ip(999), 0.0), None);
        assert!(struck.strike(ip(999), 0.0));
    }
}
