//! Networks as people write them, and whether an address is in one of them.
//!
//! `10.0.0.0/8`, `2001:db8::/32` (RFC 4632 section 3.1, RFC 4291 section 2.3), or a single address. An
//! IPv4-mapped IPv6 address (`::ffff:10.0.0.1`, RFC 4291 section 2.5.5.2) is the IPv4 address that it
//! maps, here as everywhere in the limits: a dual-stack socket reports IPv4 peers so. The two families
//! are separate: `::/0` holds no IPv4 address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network: the addresses that share the first `prefix` bits with `address`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Net {
    address: IpAddr,
    prefix: u8,
}

impl Net {
    /// The network of `prefix` bits that `ip` is in. More bits than an address has are all of them.
    pub fn around(ip: IpAddr, prefix: u8) -> Self {
        let ip = ip.to_canonical();
        let prefix = prefix.min(width(ip));
        let address = match ip {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(ip) & mask))
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(ip) & mask))
            }
        };
        Self { address, prefix }
    }

    /// Its first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The bits that are the same in all of its addresses.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether `ip` is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        Self::around(ip, self.prefix).address == self.address
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Bits of an address of the family of `ip`.
fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// A text that names no network. Its message says what is wrong with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetError(String);

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NetError {}

impl FromStr for Net {
    type Err = NetError;

    /// # Errors
    ///
    /// [`NetError`] for no address, a prefix that the family does not have, and bits after the prefix.
    fn from_str(text: &str) -> Result<Self, NetError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            return Err(NetError(format!(
                "{text:?} is not a network: write an address such as 10.0.0.1 or 2001:db8::1, \
                 or a network such as 10.0.0.0/8 or 2001:db8::/32"
            )));
        };
        let most = width(address);
        let prefix = match prefix {
            None => most,
            Some(digits) => match digits.parse::<u8>() {
                Ok(bits) if bits <= most && digits.bytes().all(|b| b.is_ascii_digit()) => bits,
                _ => {
                    return Err(NetError(format!(
                        "{text:?} is not a network: after the slash stands a number of bits, 0 to {most}"
                    )));
                }
            },
        };
        let (address, prefix) = match (address.to_canonical(), address) {
            (IpAddr::V4(mapped), IpAddr::V6(_)) if prefix >= 96 => {
                (IpAddr::V4(mapped), prefix - 96)
            }
            // A network around all mapped addresses is not one of IPv4.
            (IpAddr::V4(_), IpAddr::V6(_)) => {
                return Err(NetError(format!(
                    "{text:?} cuts through the IPv4-mapped addresses: write the IPv4 network itself"
                )));
            }
            (address, _) => (address, prefix),
        };
        let net = Self::around(address, prefix);
        if net.address != address {
            return Err(NetError(format!(
                "{text:?} has bits after its prefix: write {net}, or {address} for the one address"
            )));
        }
        Ok(net)
    }
}

/// A list of networks, asked by binary search: networks nest or are apart, they never overlap in part,
/// so the outermost ones, sorted, are enough.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Nets {
    nets: Vec<Net>,
}

impl Nets {
    /// The networks of a list.
    ///
    /// # Errors
    ///
    /// [`NetError`] of the first that is none.
    pub fn parse<S: AsRef<str>>(list: impl IntoIterator<Item = S>) -> Result<Self, NetError> {
        list.into_iter().map(|text| text.as_ref().parse()).collect()
    }

    /// Whether it names none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.nets.is_empty()
    }

    /// The outermost networks.
    pub fn iter(&self) -> impl Iterator<Item = &Net> {
        self.nets.iter()
    }

    /// The outermost network that `ip` is in.
    pub fn find(&self, ip: IpAddr) -> Option<Net> {
        let ip = ip.to_canonical();
        let after = self.nets.partition_point(|net| net.address <= ip);
        let net = self.nets.get(after.checked_sub(1)?)?;
        net.contains(ip).then_some(*net)
    }

    /// Whether `ip` is in one of them.
    #[inline]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.find(ip).is_some()
    }
}

impl FromIterator<Net> for Nets {
    fn from_iter<I: IntoIterator<Item = Net>>(list: I) -> Self {
        let mut nets: Vec<Net> = list.into_iter().collect();
        nets.sort_unstable_by_key(|net| (net.address, net.prefix));
        nets.dedup_by(|inner, outer| inner.prefix >= outer.prefix && outer.contains(inner.address));
        Self { nets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_are_read_and_written() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("192.168.1.7", "192.168.1.7/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("2001:DB8::1", "2001:db8::1/128"),
            ("::/0", "::/0"),
            ("::ffff:10.1.0.0/112", "10.1.0.0/16"),
            ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ] {
            assert_eq!(text.parse::<Net>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_network_says_why() {
        for (text, part) in [
            ("", "is not a network"),
            ("localhost", "is not a network"),
            ("10.0.0/8", "is not a network"),
            ("010.0.0.0/8", "is not a network"),
            ("fe80::1%eth0", "is not a network"),
            ("10.0.0.0/33", "0 to 32"),
            ("10.0.0.0/", "0 to 32"),
            ("10.0.0.0/+8", "0 to 32"),
            ("10.0.0.0/255.0.0.0", "0 to 32"),
            ("2001:db8::/129", "0 to 128"),
            ("::ffff:10.0.0.0/95", "IPv4-mapped"),
            ("10.0.0.1/8", "write 10.0.0.0/8, or 10.0.0.1"),
            ("2001:db8::1/32", "write 2001:db8::/32"),
        ] {
            let error = text.parse::<Net>().unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(text), "{text}: {error}");
        }
    }

    #[test]
    fn addresses_are_found_in_the_outermost_network() {
        let list = ["10.1.0.0/16", "10.0.0.0/8", "10.0.0.0/8", "10.1.2.3", "2001:db8::/32", "::1"];
        let nets = Nets::parse(list).unwrap();
        assert_eq!(nets.iter().count(), 3);
        for (inside, net) in [
            ("10.0.0.0", "10.0.0.0/8"),
            ("10.255.255.255", "10.0.0.0/8"),
            ("10.1.2.3", "10.0.0.0/8"),
            ("::ffff:10.1.2.3", "10.0.0.0/8"),
            ("2001:db8:ffff::", "2001:db8::/32"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(nets.find(ip(inside)).unwrap().to_string(), net);
        }
        for outside in ["9.255.255.255", "11.0.0.0", "0.0.0.0", "::2", "::", "2001:db9::"] {
            assert!(!nets.contains(ip(outside)), "{outside}");
        }
        assert!(!Nets::default().contains(ip("::1")));
        let all = Nets::parse(["::/0"]).unwrap();
        assert!(all.contains(ip("fe80::1")) && !all.contains(ip("10.0.0.1")));
    }

    #[test]
    fn a_list_finds_what_its_networks_hold() {
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for _ in 0..300 {
            // Few high bits and few low ones, so that networks nest and addresses hit.
            let mut address = |spread: u64| {
                let bits = (random() % 4) << 28 | (random() % 4) << 20 | (random() % spread);
                IpAddr::from(Ipv4Addr::from(bits as u32))
            };
            let nets: Vec<Net> = (0..12)
                .map(|number| {
                    Net::around(address(4), [0, 2, 4, 6, 8, 12, 24, 30, 31, 32][number % 10])
                })
                .filter(|net| net.prefix > 0)
                .collect();
            let list: Nets = nets.iter().copied().collect();
            for _ in 0..50 {
                let ip = address(6);
                assert_eq!(
                    list.contains(ip),
                    nets.iter().any(|net| net.contains(ip)),
                    "{ip} {nets:?}"
                );
            }
        }
    }
}
