//! Two folds of one semantics: a predicate holds of a frame exactly if the model says so.

use super::support::{policy, read};
use flowproof_model::{
    crossing::{Crossing, End, Law, Standing},
    frame::Frame,
    history::{Connection, Place},
    policy::{Binding, Policy, Port},
    semantics::judge,
    switches::Switches,
    verdict::Level,
};
use flowproof_packet::{Field, FlowKey};
use flowproof_proofs::{
    intent::{
        encode::{self, Admission, Words},
        question::{self, Way},
        site::{Entrance, Target},
    },
    predicate::Predicate,
    symkey::Form,
};

/// Chance that can be repeated (splitmix64).
struct Rng(u64);

impl Rng {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[(self.next() >> 11) as usize % from.len()]
    }
}

/// Values worth trying: those of the intent and what lies just beside them.
struct Pool {
    macs: Vec<u128>,
    ipv4: Vec<u128>,
    ipv6: Vec<u128>,
    ports: Vec<u128>,
    protocols: Vec<u128>,
    ethertypes: Vec<u128>,
}

impl Pool {
    fn of(policy: &Policy) -> Self {
        let mut pool = Self {
            macs: vec![0, 0x0200_0000_0001, 0xffff_ffff_ffff, 0x3333_0000_0001],
            ipv4: vec![0, 0xcb00_7107, 0xffff_ffff],
            ipv6: vec![0, 0x2001_0db8 << 96 | 7, 0xff02 << 112 | 1],
            ports: vec![0, 1, 22, 67, 68, 546, 547, 65535],
            protocols: vec![0, 1, 6, 17, 33, 43, 44, 51, 58, 60, 112, 132, 136],
            ethertypes: vec![0x0800, 0x86dd, 0x0806, 0x8035, 0x05ff, 0x88b5, 0x4008],
        };
        for port in policy.ports.values() {
            pool.macs.extend(port.macs().iter().map(|mac| u128::from(mac.to_bits())));
            for family in flowproof_model::policy::Ethertype::ALL {
                port.pairs(family).for_each(|pair| pool.prefix(pair.prefix));
            }
        }
        for rule in policy.groups.values().flat_map(|group| &group.rules) {
            if let flowproof_model::policy::RulePeer::Prefix(prefix) = &rule.peer {
                pool.prefix(*prefix);
            }
            pool.protocols.extend(rule.protocol.number(rule.ethertype).map(u128::from));
            if let flowproof_model::policy::Protocol::Transport(_, Some(range)) = rule.protocol {
                let ends =
                    [range.min().saturating_sub(1), range.min(), range.max(), range.max().saturating_add(1)];
                pool.ports.extend(ends.map(u128::from));
            }
        }
        for group in policy.address_groups.values() {
            group.addresses.iter().for_each(|prefix| pool.prefix(*prefix));
        }
        pool
    }

    fn prefix(&mut self, prefix: flowproof_model::policy::IpNet) {
        use flowproof_model::policy::IpNet;
        match prefix {
            IpNet::V4(net) => self.ipv4.extend(
                [net.network().to_bits(), net.broadcast().to_bits(), net.network().to_bits().wrapping_sub(1)]
                    .map(u128::from),
            ),
            IpNet::V6(net) => self.ipv6.extend([
                net.network().to_bits(),
                net.broadcast().to_bits(),
                net.network().to_bits().wrapping_sub(1),
            ]),
        }
    }

    /// A frame's key; `arp_sha`, `arp_tha` and the fields of neighbour discovery share their places.
    fn key(&self, rng: &mut Rng) -> FlowKey {
        let mut key = FlowKey::default();
        let dl_type = rng.pick(&self.ethertypes);
        key.set(Field::DlType, dl_type);
        key.set(Field::DlSrc, rng.pick(&self.macs));
        key.set(Field::DlDst, rng.pick(&self.macs));
        let sha = if rng.next().is_multiple_of(2) { key.get(Field::DlSrc) } else { rng.pick(&self.macs) };
        match dl_type {
            0x0800 => {
                key.set(Field::NwSrc, rng.pick(&self.ipv4));
                key.set(Field::NwDst, rng.pick(&self.ipv4));
            }
            0x86dd => {
                key.set(Field::Ipv6Src, rng.pick(&self.ipv6));
                key.set(Field::Ipv6Dst, rng.pick(&self.ipv6));
                key.set(Field::NdTarget, rng.pick(&self.ipv6));
                key.set(Field::NdSll, sha);
                key.set(Field::NdTll, rng.pick(&self.macs));
            }
            _ => {
                key.set(Field::ArpSpa, rng.pick(&self.ipv4));
                key.set(Field::ArpSha, sha);
            }
        }
        let protocol = rng.pick(&self.protocols);
        key.set(Field::NwProto, protocol);
        let icmp = matches!((dl_type, protocol), (0x0800, 1) | (0x86dd, 58));
        let types: &[u128] = &[0, 3, 8, 13, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 143];
        let dhcp: &[(u128, u128)] = &[(67, 68), (68, 67), (546, 547), (547, 546)];
        let (src, dst) = match rng.next() % 3 {
            0 if !icmp => rng.pick(dhcp),
            // Discovery with another code than 0 is void, and section D leaves it out.
            _ if icmp => match rng.pick(types) {
                discovery @ (135 | 136) => (discovery, 0),
                kind => (kind, rng.pick(&[0, 0, 1, 8])),
            },
            _ => (rng.pick(&self.ports), rng.pick(&self.ports)),
        };
        key.set(Field::TcpSrc, src);
        key.set(Field::TcpDst, dst);
        key
    }
}

/// What both folds say of one frame between two ends.
fn compare(
    policy: &Policy,
    switches: &Switches,
    ends: (End<'_>, End<'_>),
    said: &Admission,
    key: &FlowKey,
) -> Level {
    let network = match ends {
        (End::Port(port), _) | (_, End::Port(port)) => Some(&port.network),
        (End::Elsewhere, End::Elsewhere) => None,
    };
    let frame = Frame::from_key(key);
    let (sender, receiver) = ends;
    let crossing = Crossing { frame: &frame, network, sender, receiver, standing: Standing::New };
    let outcome = judge(Law { policy, switches }, &crossing);
    let level = outcome.level();
    let (must, may) = (said.must.holds(key), said.may.holds(key));
    assert_eq!((must, may), (level == Level::Must, level != Level::MustNot), "{outcome:?} of {frame:?}");
    level
}

/// All ends that can talk to each other.
fn pairs(policy: &Policy) -> Vec<(End<'_>, End<'_>)> {
    let ports: Vec<&Port> = policy.ports.values().take(4).collect();
    let mut pairs = Vec::new();
    for port in &ports {
        pairs.extend([(End::Port(port), End::Elsewhere), (End::Elsewhere, End::Port(port))]);
        let beside = ports.iter().filter(|other| other.id != port.id && other.network == port.network);
        pairs.extend(beside.map(|other| (End::Port(port), End::Port(other))));
    }
    pairs
}

const KEYS: usize = 1500;

/// One intent under one reading of its words: how often each level was seen.
fn check(policy: &Policy, switches: &Switches, rng: &mut Rng) -> [usize; 3] {
    let words = Words { policy, switches };
    let (pool, mut seen) = (Pool::of(policy), [0; 3]);
    for ends in pairs(policy) {
        let end = |end| if let End::Port(port) = end { Some(port) } else { None };
        let sends =
            end(ends.0).map_or_else(Admission::unfiltered, |p| words.sends(p, encode::Standing::ByRule));
        let receives =
            end(ends.1).map_or_else(Admission::unfiltered, |p| words.receives(p, encode::Standing::ByRule));
        let said = sends.and(receives);
        for _ in 0..KEYS {
            let level = compare(policy, switches, ends, &said, &pool.key(rng));
            seen[level as usize] += 1;
        }
    }
    seen
}

#[test]
fn predicates_and_model_agree_on_every_intent_under_every_reading() {
    let mut rng = Rng(1);
    let strict = {
        let mut switches = Switches::default();
        switches.set("dhcp_server", "strict").unwrap();
        switches
    };
    let mut seen = [0; 3];
    let directory = format!("{}/tests/fixtures/intents", env!("CARGO_MANIFEST_DIR"));
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(".json", ""))
        .collect();
    names.sort();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let policy = policy(&name);
        for switches in [Switches::default(), Switches::neutron(), Switches::mitaka(), strict] {
            let levels = check(&policy, &switches, &mut rng);
            for (sum, level) in seen.iter_mut().zip(levels) {
                *sum += level;
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 1000), "all levels are met often: {seen:?}");
}

/// A way between two ends, as the questions of section D have it.
fn way<'p>((sender, receiver): (End<'p>, End<'p>)) -> Way<'p> {
    let port = |end| if let End::Port(port) = end { Some(port) } else { None };
    let entrance = Entrance { ofport: 1, access: None, frames: Predicate::always(), tag: None };
    let at = Binding { ofport: 2, vlan: 1 };
    let receiver = port(receiver).map(|port| (port, at));
    Way { entrance, sender: port(sender), receiver, target: Target::Remote }
}

/// What opens a connection and what ends one, of one intent: how often either was seen.
fn check_connections(policy: &Policy, switches: &Switches, rng: &mut Rng) -> [usize; 2] {
    let words = Words { policy, switches };
    let (pool, mut seen) = (Pool::of(policy), [0; 2]);
    for ends in pairs(policy) {
        let way = way(ends);
        let opens = question::opens(words, &way);
        let revokes = question::revokes(words, &way, Form::Whole);
        for _ in 0..KEYS {
            let key = pool.key(rng);
            let frame = Frame::from_key(&key);
            let network = match ends {
                (End::Port(port), _) | (_, End::Port(port)) => &port.network,
                (End::Elsewhere, End::Elsewhere) => unreachable!(),
            };
            let outcome = |standing| {
                let (sender, receiver) = ends;
                let crossing = Crossing { frame: &frame, network: Some(network), sender, receiver, standing };
                judge(Law { policy, switches }, &crossing)
            };
            let new = outcome(Standing::New);
            let opened = new.opens() && !question::untracked().holds(&key);
            assert_eq!(opens.holds(&key), opened, "{new:?} of {frame:?}");
            let connection = Connection {
                network: network.clone(),
                opening: frame.clone(),
                admission: new,
                sender: Place::Elsewhere,
                receivers: Vec::new(),
                revoked: false,
            };
            let later = outcome(Standing::Original(&connection));
            assert_eq!(revokes.holds(&key), later.is_revoked(), "{later:?} of {frame:?}");
            seen[0] += usize::from(opened);
            seen[1] += usize::from(later.is_revoked());
        }
    }
    seen
}

#[test]
fn predicates_and_model_agree_on_what_opens_a_connection_and_what_ends_one() {
    let mut rng = Rng(2);
    let mut seen = [0; 2];
    for name in
        ["01_seed_scenario", "08_icmpv6", "15b_allowed_pairs_any", "18_remote_group_3", "32_local_talk"]
    {
        for switches in [Switches::default(), Switches::neutron(), Switches::mitaka(), Switches::strict()] {
            let counts = check_connections(&policy(name), &switches, &mut rng);
            seen.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }
    assert!(seen.iter().all(|count| *count > 1000), "both are met often: {seen:?}");
}

/// Boundaries that random frames rarely meet: every destination port of every range.
#[test]
fn port_ranges_hold_for_every_port() {
    let policy = Policy::from_json(&read("tests/fixtures/intents/05_tcp_port_ranges.json")).unwrap();
    let switches = Switches::neutron();
    let words = Words { policy: &policy, switches: &switches };
    let port = policy.ports.values().next().unwrap();
    let said = words.receives(port, encode::Standing::ByRule);
    let mut key = FlowKey::default();
    key.set(Field::DlType, 0x0800);
    key.set(Field::DlDst, u128::from(port.mac.to_bits()));
    key.set(Field::NwProto, 6);
    let mut admitted = 0;
    for number in 0..=u16::MAX {
        key.set(Field::TcpDst, number.into());
        let level = compare(&policy, &switches, (End::Elsewhere, End::Port(port)), &said, &key);
        admitted += usize::from(level == Level::Must);
    }
    assert!(admitted > 0 && admitted < 65536, "{admitted}");
}
