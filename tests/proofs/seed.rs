//! The host of 2016: exactly the verdicts that are known, each counterexample and witness judged once more by hand.

use super::hosts::{self, SEED};
use flowproof_packet::{Field, FlowKey, PortNo, wire};
use flowproof_proofs::{
    check::{Judgement, Witness},
    diagram::Host,
    ports::Port,
    replay::{self, Replay, Sent},
    report,
};
use flowproof_switch::{
    conntrack::Profile,
    pipeline::{Effect, Outcome, Switch, SwitchConfig},
};
use std::collections::BTreeSet;

/// Where a property is refuted.
#[derive(Clone, Copy, PartialEq)]
enum Refuted {
    Everywhere,
    Nowhere,
    Under(Profile),
}

/// The verdicts on the tables of 2016: defect corpus, section D, and the table of layouts.
const KNOWN: &[(&str, Refuted)] = &[
    ("spoofed-mac", Refuted::Everywhere),
    ("spoofed-ipv4", Refuted::Everywhere),
    ("spoofed-ipv6", Refuted::Everywhere),
    ("spoofed-arp", Refuted::Nowhere),
    ("spoofed-arp-sha", Refuted::Everywhere),
    ("spoofed-nd", Refuted::Everywhere),
    ("router-advertisement", Refuted::Under(Profile::Kernel2016)),
    ("router-advertisement-fragments", Refuted::Under(Profile::Kernel2016)),
    ("dhcp-server", Refuted::Nowhere),
    ("dhcpv6-server", Refuted::Nowhere),
    ("dhcp-server-fragments", Refuted::Everywhere),
    ("dhcpv6-server-fragments", Refuted::Everywhere),
    ("dhcp-server-strict", Refuted::Everywhere),
    ("dhcpv6-server-strict", Refuted::Everywhere),
    ("vlan-escape", Refuted::Everywhere),
    ("unknown-ethertype", Refuted::Nowhere),
    ("fragment-escape", Refuted::Everywhere),
];

#[test]
fn the_host_of_2016_gets_exactly_the_known_verdicts() {
    let host = hosts::host(SEED);
    let ofports: BTreeSet<PortNo> = host.ports.iter().map(|port| port.ofport).collect();
    assert_eq!(ofports, BTreeSet::from([10, 13]));
    let findings = hosts::findings(&host);
    assert_eq!(findings.findings.len(), KNOWN.len() * 2 * Profile::ALL.len());
    let mut wrong = Vec::new();
    for finding in &findings.findings {
        let (_, refuted) = KNOWN.iter().find(|(name, _)| *name == finding.property.name).unwrap();
        let expected = match refuted {
            Refuted::Everywhere => "refuted",
            Refuted::Under(profile) if *profile == finding.profile => "refuted",
            Refuted::Nowhere | Refuted::Under(_) => "proved",
        };
        if (finding.judgement.name(), finding.diagram, finding.z3)
            != (expected, Some(expected), Some(expected))
        {
            wrong.push(format!(
                "{} on port {} under {}: {:?}, diagrams {:?}, Z3 {:?}",
                finding.property.name,
                host.ports[finding.port].ofport,
                finding.profile.name(),
                finding.judgement,
                finding.diagram,
                finding.z3
            ));
            continue;
        }
        let judge = Judge {
            host: &host,
            port: &host.ports[finding.port],
            property: finding.property.name,
            profile: finding.profile,
        };
        match &finding.judgement {
            Judgement::Refuted(replay) => judge.refutation(replay),
            Judgement::Proved(Witness::Escapes(replay)) => judge.escapes(replay),
            Judgement::Proved(Witness::Twins { stopped, twin }) => {
                judge.stopped(stopped);
                judge.escapes(twin);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    reports_repeat(&host, &findings);
}

/// What the report prints of a story leads, by itself, to the same end.
fn reports_repeat(host: &Host, findings: &flowproof_proofs::check::Findings) {
    for row in report::rows(&hosts::task(host), findings, true) {
        let sender = host.ports.iter().find(|port| port.ofport == row.port).unwrap();
        let profile = *Profile::ALL.iter().find(|profile| row.datapath.contains(&profile.name())).unwrap();
        let stories = row.counterexample.iter().chain(row.witness.iter().map(|witness| &witness.escapes));
        for story in stories {
            let mut switch = switch(host, sender, profile);
            let mut left = false;
            for event in &story.events {
                let frame = bytes(&event.packet.hex);
                assert_eq!(event.packet.in_port, row.port, "a VM brings about its own connections here");
                left |= escaped(&switch.receive(event.packet.in_port, &frame));
            }
            assert!(left, "{} on port {}", row.property, row.port);
        }
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn switch(host: &Host, sender: &Port, profile: Profile) -> Switch {
    let config = SwitchConfig { profile, ..SwitchConfig::new(replay::ports(host, sender)) };
    Switch::new(host.tables.switch().clone(), config)
}

fn escaped(outcome: &Outcome) -> bool {
    !outcome.delivered().is_empty()
        || outcome.effects.iter().any(|effect| matches!(effect, Effect::Controller { .. }))
}

/// A judge who knows the rules by heart and nothing of predicates.
struct Judge<'a> {
    host: &'a Host,
    port: &'a Port,
    property: &'static str,
    profile: Profile,
}

/// What a datagram is, as its bytes say.
struct Seen {
    mac: u64,
    dl_type: u128,
    key: FlowKey,
}

impl Seen {
    fn of(datagram: &[u8]) -> Self {
        let key = wire::extract(datagram, 0);
        Self { mac: key.get(Field::DlSrc) as u64, dl_type: key.get(Field::DlType), key }
    }

    fn udp(&self, dl_type: u128) -> Option<(u128, u128)> {
        (self.dl_type == dl_type && self.key.get(Field::NwProto) == 17)
            .then(|| (self.key.get(Field::UdpSrc), self.key.get(Field::UdpDst)))
    }

    fn icmpv6(&self) -> Option<u128> {
        (self.dl_type == 0x86dd && self.key.get(Field::NwProto) == 58)
            .then(|| self.key.get(Field::Icmpv6Type))
    }
}

impl Judge<'_> {
    fn own_mac(&self, mac: u64) -> bool {
        self.port.macs.iter().any(|own| own.to_bits() == mac)
    }

    /// Whether a packet that left did wrong by itself, wherever it went.
    fn guilty(&self, seen: &Seen) -> bool {
        let pair = |pairs: &BTreeSet<flowproof_proofs::ports::Pair>, address: u128| {
            pairs
                .iter()
                .any(|pair| pair.mac.to_bits() == seen.mac && (pair.address ^ address) & pair.mask == 0)
        };
        let dhcp = |dl_type, from, to| seen.udp(dl_type) == Some((from, to));
        let strict = |dl_type, from, to| seen.udp(dl_type).is_some_and(|(src, dst)| src == from || dst == to);
        let source6 = || {
            let address = seen.key.get(Field::Ipv6Src);
            let unaddressed = address == 0 && self.own_mac(seen.mac);
            pair(&self.port.pairs6, address)
                || unaddressed && matches!(seen.icmpv6(), Some(131 | 132 | 135 | 143))
        };
        match self.property {
            "spoofed-mac" => !self.own_mac(seen.mac),
            "spoofed-ipv4" => {
                let address = seen.key.get(Field::NwSrc);
                let request = address == 0 && self.own_mac(seen.mac) && dhcp(0x800, 68, 67);
                seen.dl_type == 0x800 && !pair(&self.port.pairs4, address) && !request
            }
            "spoofed-ipv6" => seen.dl_type == 0x86dd && !source6(),
            "spoofed-arp" => match seen.dl_type {
                0x806 => {
                    let address = seen.key.get(Field::ArpSpa);
                    !(pair(&self.port.pairs4, address) || address == 0 && self.own_mac(seen.mac))
                }
                0x8035 => !self.own_mac(seen.mac),
                _ => false,
            },
            "spoofed-arp-sha" => seen.dl_type == 0x806 && seen.key.get(Field::ArpSha) as u64 != seen.mac,
            "spoofed-nd" => {
                let link = |field| seen.key.get(field) == 0 || self.own_mac(seen.key.get(field) as u64);
                let target = seen.key.get(Field::NdTarget);
                match seen.icmpv6().filter(|_| seen.key.get(Field::Icmpv6Code) == 0) {
                    Some(135) => !source6() || !link(Field::NdSll),
                    Some(136) => {
                        let own =
                            self.port.pairs6.iter().any(|pair| (pair.address ^ target) & pair.mask == 0);
                        !source6() || !link(Field::NdTll) || !own
                    }
                    _ => false,
                }
            }
            "router-advertisement" | "router-advertisement-fragments" => {
                matches!(seen.icmpv6(), Some(134 | 137))
            }
            "dhcp-server" | "dhcp-server-fragments" => dhcp(0x800, 67, 68),
            "dhcpv6-server" | "dhcpv6-server-fragments" => dhcp(0x86dd, 547, 546),
            "dhcp-server-strict" => strict(0x800, 67, 68),
            "dhcpv6-server-strict" => strict(0x86dd, 547, 546),
            "unknown-ethertype" => !matches!(seen.dl_type, 0x800 | 0x806 | 0x8035 | 0x86dd),
            "vlan-escape" => seen.key.get(Field::VlanTci) & 0xfff != 0,
            "fragment-escape" => false,
            other => panic!("no rule for `{other}`"),
        }
    }

    /// The story again, in a switch of our own; what it says of each step must be what happens.
    fn retell<'r>(&self, replay: &'r Replay) -> &'r [Sent] {
        let mut switch = switch(self.host, self.port, self.profile);
        for sent in &replay.events {
            let outcome = switch.receive(sent.in_port, &sent.frame);
            assert_eq!(outcome.effects, sent.outcome.effects, "{}", self.property);
        }
        let question = &replay.events[replay.prelude..];
        assert!(!question.is_empty() && question.iter().all(|sent| sent.in_port == self.port.ofport));
        let whole = match question {
            [only] => only.frame.clone(),
            train => {
                let frames: Vec<&[u8]> = train.iter().map(|sent| sent.frame.as_slice()).collect();
                flowproof_packet::build::defragment(&frames).unwrap()
            }
        };
        let (told, found) = (Seen::of(&replay.datagram), Seen::of(&whole));
        assert_eq!(told.key, found.key, "the fragments are those of the datagram");
        question
    }

    fn fragmented(&self) -> Option<bool> {
        match self.property {
            name if name.ends_with("-fragments") || name == "fragment-escape" => Some(true),
            "router-advertisement" | "dhcp-server" | "dhcpv6-server" => Some(false),
            _ => None,
        }
    }

    fn refutation(&self, replay: &Replay) {
        let question = self.retell(replay);
        if let Some(fragmented) = self.fragmented() {
            assert_eq!(question.len() > 1, fragmented, "{}", self.property);
        }
        let seen = Seen::of(&replay.datagram);
        match self.property {
            "fragment-escape" => {
                let mut alone = switch(self.host, self.port, self.profile);
                let allowed: BTreeSet<PortNo> = alone
                    .receive(self.port.ofport, &replay.datagram)
                    .delivered()
                    .iter()
                    .map(|d| d.0)
                    .collect();
                let went = question.iter().flat_map(|sent| sent.outcome.delivered());
                assert!(went.into_iter().any(|(port, _)| !allowed.contains(&port)));
            }
            "vlan-escape" => {
                assert!(self.guilty(&seen));
                let loses = |(port, frame): &(PortNo, Vec<u8>)| {
                    let vid = wire::extract(frame, 0).get(Field::VlanTci) & 0xfff;
                    let network = |other: &Port| other.ofport == *port && other.network != self.port.network;
                    vid == 0
                        || self.host.ports.iter().any(network)
                        || vid != u128::from(self.port.network.unwrap())
                };
                assert!(question.iter().flat_map(|sent| sent.outcome.delivered()).any(|d| loses(&d)));
            }
            _ => {
                assert!(self.guilty(&seen), "{}: innocent", self.property);
                assert!(question.iter().any(|sent| escaped(&sent.outcome)), "{}: stopped", self.property);
            }
        }
    }

    fn escapes(&self, replay: &Replay) {
        let question = self.retell(replay);
        assert!(
            question.iter().any(|sent| escaped(&sent.outcome)),
            "{}: the witness is stopped",
            self.property
        );
        assert!(!self.guilty(&Seen::of(&replay.datagram)), "{}: the witness is guilty", self.property);
    }

    fn stopped(&self, replay: &Replay) {
        let question = self.retell(replay);
        assert!(
            !question.iter().any(|sent| escaped(&sent.outcome)),
            "{}: the stopped one escapes",
            self.property
        );
        assert!(self.guilty(&Seen::of(&replay.datagram)), "{}: the stopped one is innocent", self.property);
    }
}
