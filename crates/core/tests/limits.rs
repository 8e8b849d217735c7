//! The gate: each limit crossed, what is said then, and long random histories against a naive model.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wireway_core::limit::{Ban, DryRun, Gate, GateOptions, Nets, Rate, Reason, Refusal};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn reason(gate: &mut Gate, address: &str, now: f64) -> Option<Reason> {
    gate.admit(Some(ip(address)), now).err().map(|refusal| refusal.reason())
}

fn text(gate: &mut Gate, address: &str, now: f64) -> String {
    gate.admit(Some(ip(address)), now).unwrap_err().to_string()
}

#[test]
fn a_refusal_has_the_reason_of_its_option() {
    for (number, (option, code)) in [
        ("connections", "limit-connections"),
        ("per_address", "limit-address"),
        ("per_subnet", "limit-subnet"),
        ("accept_rate", "limit-accept-rate"),
        ("ban", "banned"),
        ("deny", "denied"),
    ]
    .into_iter()
    .enumerate()
    {
        let reason = Reason::of_option(option).unwrap();
        assert_eq!((reason.code(), reason as usize), (code, number));
        assert_eq!(Reason::ALL[number], reason);
    }
    assert_eq!(Reason::of_option("message_rate"), None);
}

#[test]
fn without_limits_everybody_comes_in_and_nothing_is_remembered() {
    let mut gate = Gate::new(GateOptions::default());
    for number in 0..1000 {
        gate.admit(Some(IpAddr::from(Ipv4Addr::from(number))), 0.0).unwrap();
    }
    gate.admit(None, 0.0).unwrap();
    assert!(!gate.strike(ip("10.0.0.1"), 0.0));
    assert_eq!((gate.open(), gate.remembered()), (1001, 0));
}

#[test]
fn connections_in_all() {
    let mut gate = Gate::new(GateOptions { connections: Some(2), ..Default::default() });
    gate.admit(Some(ip("10.0.0.1")), 0.0).unwrap();
    gate.admit(None, 0.0).unwrap();
    assert_eq!(
        text(&mut gate, "10.0.0.2", 0.0),
        "10.0.0.2 refused: 2 connections are open, the limit is 2 (connections)"
    );
    let refusal = gate.admit(None, 0.0).unwrap_err();
    assert!(refusal.to_string().starts_with("a peer refused: 2 connections are open"));
    gate.left(None);
    gate.admit(None, 0.0).unwrap();
    assert_eq!(gate.refused(Reason::Connections), 2);
}

#[test]
fn connections_of_an_address_and_of_a_subnet() {
    let mut gate =
        Gate::new(GateOptions { per_address: Some(1), per_subnet: Some(2), ..Default::default() });
    assert_eq!(reason(&mut gate, "10.0.0.1", 0.0), None);
    assert_eq!(
        text(&mut gate, "10.0.0.1", 0.0),
        "10.0.0.1 refused: it has 1 connections open, the limit for one address is 1 (per_address)"
    );
    assert_eq!(reason(&mut gate, "10.0.0.2", 0.0), None);
    assert_eq!(
        text(&mut gate, "10.0.0.3", 0.0),
        "10.0.0.3 refused: 10.0.0.0/24 has 2 connections open, the limit for one subnet is 2 (per_subnet)"
    );
    assert_eq!(reason(&mut gate, "10.0.1.3", 0.0), None);
    // IPv6 by its own prefix.
    assert_eq!(reason(&mut gate, "2001:db8::1", 0.0), None);
    assert_eq!(reason(&mut gate, "2001:db8::2", 0.0), None);
    assert_eq!(reason(&mut gate, "2001:db8::3", 0.0), Some(Reason::Subnet));
    assert_eq!(reason(&mut gate, "2001:db8:0:1::3", 0.0), None);
    gate.left(Some(ip("10.0.0.1")));
    assert_eq!(reason(&mut gate, "10.0.0.3", 0.0), None);
}

#[test]
fn a_mapped_address_is_the_address_that_it_maps() {
    let mut gate = Gate::new(GateOptions {
        per_address: Some(1),
        deny: Nets::parse(["192.168.0.0/16"]).unwrap(),
        ..Default::default()
    });
    assert_eq!(reason(&mut gate, "::ffff:10.0.0.1", 0.0), None);
    assert_eq!(reason(&mut gate, "10.0.0.1", 0.0), Some(Reason::Address));
    assert_eq!(reason(&mut gate, "::ffff:192.168.7.7", 0.0), Some(Reason::Denied));
    gate.left(Some(ip("10.0.0.1")));
    assert_eq!((gate.open(), gate.remembered()), (0, 0));
}

#[test]
fn arrivals_have_a_rate_that_refused_peers_do_not_use_up() {
    let mut gate = Gate::new(GateOptions {
        per_address: Some(1),
        accept_rate: Rate::new(10.0, Some(3.0)),
        ..Default::default()
    });
    assert_eq!(reason(&mut gate, "10.0.0.1", 0.0), None);
    for _ in 0..100 {
        assert_eq!(reason(&mut gate, "10.0.0.1", 0.0), Some(Reason::Address));
    }
    assert_eq!(reason(&mut gate, "10.0.0.2", 0.0), None);
    assert_eq!(reason(&mut gate, "10.0.0.3", 0.0), None);
    assert_eq!(
        text(&mut gate, "10.0.0.4", 0.0),
        "10.0.0.4 refused: connections arrive faster than 10 a second, with 3 at once \
         (accept_rate, accept_burst)"
    );
    assert_eq!(reason(&mut gate, "10.0.0.4", 0.1), None);
    assert_eq!(reason(&mut gate, "10.0.0.5", 0.1), Some(Reason::AcceptRate));
}

#[test]
fn networks_are_denied_first_and_then_allowed() {
    let mut gate = Gate::new(GateOptions {
        allow: Nets::parse(["10.0.0.0/8", "::1"]).unwrap(),
        deny: Nets::parse(["10.9.0.0/16"]).unwrap(),
        ..Default::default()
    });
    assert_eq!(reason(&mut gate, "10.0.0.1", 0.0), None);
    assert_eq!(reason(&mut gate, "::1", 0.0), None);
    assert_eq!(text(&mut gate, "10.9.1.1", 0.0), "10.9.1.1 refused: 10.9.0.0/16 is denied (deny)");
    assert_eq!(
        text(&mut gate, "11.0.0.1", 0.0),
        "11.0.0.1 refused: it is in no allowed network (allow)"
    );
    // A Unix peer has no address to deny.
    gate.admit(None, 0.0).unwrap();
}

#[test]
fn strikes_ban_an_address_for_a_while() {
    let ban = Ban { after: 3, within: 60.0, seconds: 300.0 };
    let mut gate =
        Gate::new(GateOptions { per_address: Some(1), ban: Some(ban), ..Default::default() });
    let peer = ip("10.0.0.1");
    assert_eq!(reason(&mut gate, "10.0.0.1", 0.0), None);
    // Refused by the limit of its address: a strike of its own accord.
    assert_eq!(reason(&mut gate, "10.0.0.1", 1.0), Some(Reason::Address));
    assert!(!gate.strike(peer, 2.0));
    assert!(gate.strike(ip("::ffff:10.0.0.1"), 3.0));
    assert_eq!(
        text(&mut gate, "10.0.0.1", 103.0),
        "10.0.0.1 refused: banned for another 200.0 s, after 3 strikes within 60 s (ban)"
    );
    assert_eq!(reason(&mut gate, "10.0.0.2", 103.0), None);
    assert_eq!(gate.bans(103.0).collect::<Vec<_>>(), [(peer, 200.0)]);
    gate.left(Some(peer));
    gate.left(Some(ip("10.0.0.2")));
    assert_eq!(gate.remembered(), 1);
    assert_eq!(reason(&mut gate, "10.0.0.1", 303.0), None);
    assert_eq!(gate.bans(303.0).count(), 0);
    for _ in 0..3 {
        gate.strike(peer, 400.0);
    }
    assert!(gate.unban(peer) && !gate.unban(peer));
    gate.left(Some(peer));
    assert_eq!(reason(&mut gate, "10.0.0.1", 400.0), None);
}

#[test]
fn a_dry_run_counts_what_it_would_have_refused() {
    let ban = Ban { after: 1, within: 60.0, seconds: 300.0 };
    let every = GateOptions {
        connections: Some(1),
        per_address: Some(1),
        per_subnet: Some(1),
        accept_rate: Rate::new(1.0, None),
        ban: Some(ban),
        deny: Nets::parse(["10.0.0.0/8"]).unwrap(),
        dry_run: DryRun::ALL,
        ..Default::default()
    };
    let mut gate = Gate::new(every.clone());
    gate.strike(ip("10.0.0.1"), 0.0);
    for _ in 0..3 {
        assert_eq!(reason(&mut gate, "10.0.0.1", 0.0), None);
    }
    let counted = Reason::ALL.map(|reason| (gate.would_refuse(reason), gate.refused(reason)));
    assert_eq!(counted, [(2, 0), (2, 0), (2, 0), (2, 0), (3, 0), (3, 0)]);
    assert_eq!(gate.open(), 3);

    // Only one of them: the others hold, and what is only tried is no strike.
    let dry_run = DryRun::default().with(Reason::Address);
    let mut gate = Gate::new(GateOptions { dry_run, deny: Nets::default(), ..every });
    assert_eq!(reason(&mut gate, "10.0.0.1", 0.0), None);
    assert_eq!(reason(&mut gate, "10.0.0.1", 0.0), Some(Reason::Subnet));
    assert_eq!(gate.bans(0.0).count(), 0);
    assert_eq!(gate.would_refuse(Reason::Address), 1);
}

#[test]
fn a_peer_behind_a_proxy_is_asked_for_its_own_address() {
    let mut gate = Gate::new(GateOptions {
        connections: Some(3),
        per_address: Some(1),
        deny: Nets::parse(["192.0.2.0/24"]).unwrap(),
        ..Default::default()
    });
    for _ in 0..3 {
        gate.admit(None, 0.0).unwrap();
    }
    gate.identify(ip("10.0.0.1"), 0.0).unwrap();
    let refusal = gate.identify(ip("10.0.0.1"), 0.0).unwrap_err();
    assert_eq!(refusal, Refusal::Address { ip: ip("10.0.0.1"), open: 1, limit: 1 });
    assert_eq!(gate.identify(ip("192.0.2.1"), 0.0).unwrap_err().reason(), Reason::Denied);
    assert_eq!(gate.open(), 3);
    for peer in [Some(ip("10.0.0.1")), None, None] {
        gate.left(peer);
    }
    assert_eq!((gate.open(), gate.remembered()), (0, 0));
}

#[test]
fn a_flood_from_countless_addresses_is_not_remembered() {
    let ban = Ban { after: 2, within: 60.0, seconds: 300.0 };
    let mut gate = Gate::new(GateOptions {
        per_address: Some(1),
        per_subnet: Some(10),
        ban: Some(ban),
        remembered: 100,
        ..Default::default()
    });
    for number in 0..50_000_u128 {
        let peer = IpAddr::from(Ipv6Addr::from(number << 64 | 1));
        gate.admit(Some(peer), 0.0).unwrap();
        gate.left(Some(peer));
        gate.strike(peer, 0.0);
        assert!(gate.remembered() <= 100);
    }
}

/// What a gate means, in the plainest way: every open connection and every strike in a list.
struct Naive {
    options: GateOptions,
    open: Vec<Option<IpAddr>>,
    strikes: Vec<(IpAddr, f64)>,
    bans: Vec<(IpAddr, f64)>,
}

impl Naive {
    fn strike(&mut self, ip: IpAddr, now: f64) {
        let ban = self.options.ban.unwrap();
        if self.banned(ip, now) {
            return;
        }
        self.strikes.push((ip, now));
        let counts = |strike: &&(IpAddr, f64)| strike.0 == ip && strike.1 + ban.within > now;
        if self.strikes.iter().filter(counts).count() >= ban.after as usize {
            self.strikes.retain(|strike| strike.0 != ip);
            self.bans.push((ip, now + ban.seconds));
        }
    }

    fn banned(&self, ip: IpAddr, now: f64) -> bool {
        self.bans.iter().any(|ban| ban.0 == ip && ban.1 > now)
    }

    fn subnet(ip: IpAddr) -> Vec<u8> {
        match ip {
            IpAddr::V4(ip) => ip.octets()[..3].to_vec(),
            IpAddr::V6(ip) => ip.octets()[..8].to_vec(),
        }
    }

    fn admit(&mut self, ip: Option<IpAddr>, now: f64) -> Option<Reason> {
        let refused = self.verdict(ip, now);
        match (refused, ip) {
            (None, _) => self.open.push(ip),
            (Some(Reason::Address), Some(ip)) => self.strike(ip, now),
            _ => {}
        }
        refused
    }

    fn verdict(&self, ip: Option<IpAddr>, now: f64) -> Option<Reason> {
        let over =
            |limit: Option<u32>, open: usize| limit.is_some_and(|limit| open >= limit as usize);
        let open = self.open.iter().flatten();
        if let Some(ip) = ip {
            if self.banned(ip, now) {
                return Some(Reason::Banned);
            }
            if over(self.options.per_address, open.clone().filter(|other| **other == ip).count()) {
                return Some(Reason::Address);
            }
            let near = open.filter(|other| Self::subnet(**other) == Self::subnet(ip)).count();
            if over(self.options.per_subnet, near) {
                return Some(Reason::Subnet);
            }
        }
        over(self.options.connections, self.open.len()).then_some(Reason::Connections)
    }
}

#[test]
fn long_histories_agree_with_a_naive_model() {
    for seed in 1..40_u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) % below
        };
        let options = GateOptions {
            connections: Some(20),
            per_address: (random(4) > 0).then_some(3),
            per_subnet: (random(4) > 0).then_some(8),
            ban: Some(Ban { after: 3, within: 5.0, seconds: 20.0 }),
            ..Default::default()
        };
        let mut gate = Gate::new(options.clone());
        let mut naive = Naive { options, open: Vec::new(), strikes: Vec::new(), bans: Vec::new() };
        let mut now = 0.0;
        for _ in 0..3000 {
            now += random(8) as f64 / 8.0;
            let (host, subnet) = (random(4) as u8, random(3) as u8);
            let peer = match random(5) {
                0 => None,
                1 => Some(IpAddr::from(Ipv6Addr::new(
                    0x2001,
                    0xdb8,
                    0,
                    subnet.into(),
                    0,
                    0,
                    0,
                    host.into(),
                ))),
                _ => Some(IpAddr::from([10, 0, subnet, host])),
            };
            match (random(10), peer) {
                (0..=4, peer) => {
                    let refused = gate.admit(peer, now).err().map(|refusal| refusal.reason());
                    assert_eq!(refused, naive.admit(peer, now), "seed {seed}, {peer:?} at {now}");
                }
                (5..=8, _) if !naive.open.is_empty() => {
                    let leaving = naive.open.swap_remove(random(naive.open.len() as u64) as usize);
                    gate.left(leaving);
                }
                (_, Some(peer)) => {
                    let before = naive.banned(peer, now);
                    naive.strike(peer, now);
                    assert_eq!(gate.strike(peer, now), !before && naive.banned(peer, now));
                }
                _ => {}
            }
            assert_eq!(gate.open() as usize, naive.open.len());
        }
        for peer in naive.open {
            gate.left(peer);
        }
        assert_eq!(gate.bans(now + 100.0).count(), 0);
        assert_eq!((gate.open(), gate.remembered()), (0, 0), "seed {seed}");
    }
}
