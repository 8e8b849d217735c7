//! Why a peer may not come in: the kinds, which of them are only tried, and what is said of each.
//!
//! Knows the words, not the counting.

use std::fmt;
use std::net::IpAddr;

use super::bucket::Rate;
use super::nets::Net;
use super::struck::Ban;

/// The kinds of refusal: a closed set, named as close codes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// `limit-connections`: too many connections in all.
    Connections,
    /// `limit-address`: too many of one address.
    Address,
    /// `limit-subnet`: too many of one subnet.
    Subnet,
    /// `limit-accept-rate`: connections arrive too fast.
    AcceptRate,
    /// `banned`: the address misbehaved.
    Banned,
    /// `denied`: by the lists of networks.
    Denied,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Connections,
        Self::Address,
        Self::Subnet,
        Self::AcceptRate,
        Self::Banned,
        Self::Denied,
    ];

    /// Its close code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Connections => "limit-connections",
            Self::Address => "limit-address",
            Self::Subnet => "limit-subnet",
            Self::AcceptRate => "limit-accept-rate",
            Self::Banned => "banned",
            Self::Denied => "denied",
        }
    }

    /// The option that it is the limit of, as users name it.
    pub const fn option(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Address => "per_address",
            Self::Subnet => "per_subnet",
            Self::AcceptRate => "accept_rate",
            Self::Banned => "ban",
            Self::Denied => "deny",
        }
    }

    /// The reason of the limit `name`. `None` for a limit that refuses nobody.
    pub fn of_option(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.option() == name)
    }
}

/// The limits that are only tried: what they would refuse is admitted, and counted.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct DryRun(u8);

impl DryRun {
    /// Every limit.
    pub const ALL: Self = Self(u8::MAX);

    /// With `reason` among them.
    #[must_use]
    pub const fn with(self, reason: Reason) -> Self {
        Self(self.0 | 1 << reason as u8)
    }

    /// Whether `reason` is among them.
    pub const fn has(self, reason: Reason) -> bool {
        self.0 & 1 << reason as u8 != 0
    }
}

/// Why a peer may not come in. Its text names the address, the figure and the limit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Refusal {
    /// Too many connections in all.
    Connections {
        /// The peer, if it has an address.
        ip: Option<IpAddr>,
        /// Open connections.
        open: u32,
        /// The limit.
        limit: u32,
    },
    /// Too many of its address.
    Address {
        /// The peer.
        ip: IpAddr,
        /// Open connections of the address.
        open: u32,
        /// The limit.
        limit: u32,
    },
    /// Too many of its subnet.
    Subnet {
        /// The peer.
        ip: IpAddr,
        /// Its subnet.
        net: Net,
        /// Open connections of the subnet.
        open: u32,
        /// The limit.
        limit: u32,
    },
    /// Connections arrive too fast.
    AcceptRate {
        /// The peer, if it has an address.
        ip: Option<IpAddr>,
        /// The limit.
        rate: Rate,
    },
    /// It misbehaved.
    Banned {
        /// The peer.
        ip: IpAddr,
        /// Seconds until the ban ends.
        left: f64,
        /// The rule that it broke.
        ban: Ban,
    },
    /// The lists of networks do not want it.
    Denied {
        /// The peer.
        ip: IpAddr,
        /// The denied network that it is in; `None` when it is in no allowed one.
        net: Option<Net>,
    },
}

impl Refusal {
    /// Its kind.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Connections { .. } => Reason::Connections,
            Self::Address { .. } => Reason::Address,
            Self::Subnet { .. } => Reason::Subnet,
            Self::AcceptRate { .. } => Reason::AcceptRate,
            Self::Banned { .. } => Reason::Banned,
            Self::Denied { .. } => Reason::Denied,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = |ip: &Option<IpAddr>| ip.map_or("a peer".to_owned(), |ip| ip.to_string());
        match self {
            Self::Connections { ip, open, limit } => write!(
                f,
                "{} refused: {open} connections are open, the limit is {limit} (connections)",
                peer(ip)
            ),
            Self::Address { ip, open, limit } => write!(
                f,
                "{ip} refused: it has {open} connections open, the limit for one address is {limit} (per_address)"
            ),
            Self::Subnet { ip, net, open, limit } => write!(
                f,
                "{ip} refused: {net} has {open} connections open, the limit for one subnet is {limit} (per_subnet)"
            ),
            Self::AcceptRate { ip, rate } => write!(
                f,
                "{} refused: connections arrive faster than {} a second, with {} at once (accept_rate, accept_burst)",
                peer(ip),
                rate.per_second(),
                rate.burst()
            ),
            Self::Banned { ip, left, ban } => write!(
                f,
                "{ip} refused: banned for another {left:.1} s, after {} strikes within {} s (ban)",
                ban.after, ban.within
            ),
            Self::Denied { ip, net: Some(net) } => {
                write!(f, "{ip} refused: {net} is denied (deny)")
            }
            Self::Denied { ip, net: None } => {
                write!(f, "{ip} refused: it is in no allowed network (allow)")
            }
        }
    }
}

/// Whether a peer may come in, and if not, why.
pub type Admission = Result<(), Refusal>;
