//! Which peers may come in: how many in all, from one address, from one subnet, how fast, and who not.
//!
//! Owns the counts of open connections and the memory of who misbehaved. Does not know connections:
//! who was admitted must say when it left, by the same address.
//!
//! # What is asked, in this order
//!
//! `denied`, `banned`, `limit-address`, `limit-subnet`, `limit-connections`, `limit-accept-rate`: from
//! what concerns the one peer to what concerns all, so that a peer over its own limit uses up none of
//! the rate that others need, and is told the reason that is its own.
//!
//! # Cost
//!
//! Without a limit by address, subnet or ban, and without networks, a peer costs a few comparisons and
//! no hashing. Otherwise memory is bounded by the open connections and by
//! [`GateOptions::remembered`], whatever comes in.

use std::collections::HashMap;
use std::net::IpAddr;

use super::bucket::{Bucket, Rate};
use super::nets::{Net, Nets};
use super::refusal::{Admission, DryRun, Reason, Refusal};
use super::struck::{Ban, Struck};

/// A connection that ends younger than this, without one whole message, flaps, seconds: a strike.
pub const FLAPPING: f64 = 1.0;

/// Hash tables up to this size are kept when they become empty.
const KEEP: usize = 1024;

/// What a gate limits. By default nothing.
#[derive(Clone, Debug)]
pub struct GateOptions {
    /// Open connections in all.
    pub connections: Option<u32>,
    /// Open connections of one address.
    pub per_address: Option<u32>,
    /// Open connections of one subnet.
    pub per_subnet: Option<u32>,
    /// Bits of the prefix that makes an IPv4 subnet.
    pub subnet_v4: u8,
    /// Bits of the prefix that makes an IPv6 subnet. RFC 6177: an end site has at least a /64.
    pub subnet_v6: u8,
    /// New connections a second.
    pub accept_rate: Option<Rate>,
    /// When misbehaviour bans an address.
    pub ban: Option<Ban>,
    /// If any: only from there.
    pub allow: Nets,
    /// Not from there, even if allowed.
    pub deny: Nets,
    /// The limits that only count.
    pub dry_run: DryRun,
    /// Struck addresses remembered, and as many banned ones; the oldest are forgotten. About 150
    /// bytes each.
    pub remembered: usize,
}

impl Default for GateOptions {
    fn default() -> Self {
        Self {
            connections: None,
            per_address: None,
            per_subnet: None,
            subnet_v4: 24,
            subnet_v6: 64,
            accept_rate: None,
            ban: None,
            allow: Nets::default(),
            deny: Nets::default(),
            dry_run: DryRun::default(),
            remembered: 65_536,
        }
    }
}

/// Open connections of each address or subnet. An entry goes with its last connection.
#[derive(Default)]
struct Counts(HashMap<IpAddr, u32>);

impl Counts {
    fn of(&self, ip: IpAddr) -> u32 {
        self.0.get(&ip).copied().unwrap_or(0)
    }

    fn enter(&mut self, ip: IpAddr) {
        *self.0.entry(ip).or_insert(0) += 1;
    }

    fn leave(&mut self, ip: IpAddr) {
        match self.0.get_mut(&ip) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => {
                self.0.remove(&ip);
                if self.0.is_empty() && self.0.capacity() > KEEP {
                    self.0 = HashMap::new();
                }
            }
            None => {}
        }
    }
}

/// Admits peers.
pub struct Gate {
    options: GateOptions,
    open: u32,
    arrivals: Bucket,
    addresses: Counts,
    subnets: Counts,
    struck: Option<Struck>,
    refused: [u64; Reason::ALL.len()],
    would_refuse: [u64; Reason::ALL.len()],
}

impl Gate {
    /// A gate with nobody inside.
    pub fn new(options: GateOptions) -> Self {
        let struck = options.ban.map(|ban| Struck::new(ban, options.remembered));
        Self {
            options,
            open: 0,
            arrivals: Bucket::default(),
            addresses: Counts::default(),
            subnets: Counts::default(),
            struck,
            refused: [0; Reason::ALL.len()],
            would_refuse: [0; Reason::ALL.len()],
        }
    }

    /// Asks for a peer that arrives at `now`; `None` for one without an address (a Unix socket). Who is
    /// admitted is counted until [`Gate::left`]. A peer over the limit of its address gets a strike.
    ///
    /// # Errors
    ///
    /// The [`Refusal`]: nothing is counted then, and `left` must not be called.
    pub fn admit(&mut self, ip: Option<IpAddr>, now: f64) -> Admission {
        let ip = ip.map(|ip| ip.to_canonical());
        if let Some(ip) = ip {
            self.check(ip, now)?;
        }
        let open = self.open;
        match self.options.connections {
            Some(limit) if open >= limit => {
                self.refuse(Refusal::Connections { ip, open, limit })?
            }
            _ => {}
        }
        if let Some(rate) = self.options.accept_rate {
            if !self.arrivals.try_take(&rate, now) {
                self.refuse(Refusal::AcceptRate { ip, rate })?;
            }
        }
        self.open += 1;
        if let Some(ip) = ip {
            self.enter(ip);
        }
        Ok(())
    }

    /// A peer that was admitted without an address turns out to be `ip`, for a PROXY header said so:
    /// asks for the address only. Who is admitted leaves by that address.
    ///
    /// # Errors
    ///
    /// The [`Refusal`]: the peer is still counted without an address, and leaves so.
    pub fn identify(&mut self, ip: IpAddr, now: f64) -> Admission {
        let ip = ip.to_canonical();
        self.check(ip, now)?;
        self.enter(ip);
        Ok(())
    }

    /// A peer that was admitted is gone.
    pub fn left(&mut self, ip: Option<IpAddr>) {
        self.open = self.open.saturating_sub(1);
        let Some(ip) = ip.map(|ip| ip.to_canonical()) else { return };
        if self.options.per_address.is_some() {
            self.addresses.leave(ip);
        }
        if self.options.per_subnet.is_some() {
            self.subnets.leave(self.subnet(ip).address());
        }
    }

    /// Counts a strike: a frame or a PROXY header that can not be read, a connection that flaps
    /// ([`FLAPPING`]). True when it begins a ban. Costs nothing without [`GateOptions::ban`].
    pub fn strike(&mut self, ip: IpAddr, now: f64) -> bool {
        self.struck.as_mut().is_some_and(|struck| struck.strike(ip.to_canonical(), now))
    }

    /// Who is banned at `now`, and for how many seconds more, in no order.
    pub fn bans(&mut self, now: f64) -> impl Iterator<Item = (IpAddr, f64)> {
        if let Some(struck) = &mut self.struck {
            struck.expire(now);
        }
        let bans = self.struck.as_ref().map(Struck::bans);
        bans.into_iter().flatten().map(move |(ip, until)| (ip, until - now))
    }

    /// Ends the ban of `ip` and forgets its strikes. True when it was banned.
    pub fn unban(&mut self, ip: IpAddr) -> bool {
        self.struck.as_mut().is_some_and(|struck| struck.forget(ip.to_canonical()))
    }

    /// Open connections.
    pub fn open(&self) -> u32 {
        self.open
    }

    /// How many were refused for `reason`.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.refused[reason as usize]
    }

    /// How many a limit that is only tried would have refused.
    pub fn would_refuse(&self, reason: Reason) -> u64 {
        self.would_refuse[reason as usize]
    }

    /// Addresses and subnets that something is remembered of.
    pub fn remembered(&self) -> usize {
        let struck = self.struck.as_ref().map_or(0, Struck::len);
        self.addresses.0.len() + self.subnets.0.len() + struck
    }

    /// Everything that depends on the address.
    fn check(&mut self, ip: IpAddr, now: f64) -> Admission {
        let GateOptions { deny, allow, .. } = &self.options;
        if !deny.is_empty() || !allow.is_empty() {
            let net = deny.find(ip);
            if net.is_some() || !(allow.is_empty() || allow.contains(ip)) {
                self.refuse(Refusal::Denied { ip, net })?;
            }
        }
        if let Some(struck) = &mut self.struck {
            struck.expire(now);
            let ban = struck.rule();
            if let Some(left) = struck.left(ip, now) {
                self.refuse(Refusal::Banned { ip, left, ban })?;
            }
        }
        if let Some(limit) = self.options.per_address {
            let open = self.addresses.of(ip);
            if open >= limit {
                let refused = self.refuse(Refusal::Address { ip, open, limit });
                if refused.is_err() {
                    self.strike(ip, now);
                }
                refused?;
            }
        }
        if let Some(limit) = self.options.per_subnet {
            let net = self.subnet(ip);
            let open = self.subnets.of(net.address());
            if open >= limit {
                self.refuse(Refusal::Subnet { ip, net, open, limit })?;
            }
        }
        Ok(())
    }

    fn enter(&mut self, ip: IpAddr) {
        if self.options.per_address.is_some() {
            self.addresses.enter(ip);
        }
        if self.options.per_subnet.is_some() {
            self.subnets.enter(self.subnet(ip).address());
        }
    }

    fn subnet(&self, ip: IpAddr) -> Net {
        let GateOptions { subnet_v4, subnet_v6, .. } = self.options;
        Net::around(ip, if ip.is_ipv4() { subnet_v4 } else { subnet_v6 })
    }

    /// Counts a refusal, and lets it stand unless its limit is only tried.
    fn refuse(&mut self, refusal: Refusal) -> Admission {
        let reason = refusal.reason();
        if self.options.dry_run.has(reason) {
            self.would_refuse[reason as usize] += 1;
            Ok(())
        } else {
            self.refused[reason as usize] += 1;
            Err(refusal)
        }
    }
}
