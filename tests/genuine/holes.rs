//! Holes of the driver's history, each as a theorem about one kind of packet.
//!
//! A property may be open for several reasons at once, and each of them was closed at another time. A hole narrows
//! its property to the packets of one reason, so that the proofs can tell when it was closed.
//!
//! Source: the bug reports named; "closed" is the first release whose tag contains the change.

use flowproof_packet::Field;
use flowproof_proofs::{
    ports::Port,
    predicate::Predicate,
    properties::{Judge, Property},
    symkey::Form,
};

/// A hole, and what the driver's history says of it.
pub(super) struct Hole {
    /// The theorem that holds where the hole is closed.
    pub(super) theorem: Property,
    /// Where it was reported, if it was.
    pub(super) report: &'static str,
    /// The first release of those compared in which it is closed, by the history; none if it never was.
    pub(super) closed: Option<&'static str>,
}

const WHOLE: &[Form] = &[Form::Whole];
const FRAGMENTS: &[Form] = &[Form::First, Form::Later];
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

fn icmpv6(kinds: &[u8]) -> Predicate {
    let kind = Predicate::one_of(Field::Icmpv6Type, kinds.iter().copied());
    let parts = [Predicate::is(Field::DlType, IPV6), Predicate::is(Field::NwProto, 58u8), kind];
    Predicate::All(parts.into())
}

fn udp(version: u16, source: u16, destination: u16) -> Predicate {
    Predicate::All(vec![
        Predicate::is(Field::DlType, version),
        Predicate::is(Field::NwProto, 17u8),
        Predicate::is(Field::UdpSrc, source),
        Predicate::is(Field::UdpDst, destination),
    ])
}

fn advertisement() -> Predicate {
    icmpv6(&[136]).and(Predicate::is(Field::Icmpv6Code, 0u8))
}

fn own_mac(port: &Port) -> Predicate {
    Predicate::one_of(Field::DlSrc, port.macs.iter().map(|mac| mac.to_bits()))
}

fn own_ipv4(port: &Port) -> Predicate {
    let pair = |pair: &flowproof_proofs::ports::Pair| {
        Predicate::is(Field::DlSrc, pair.mac.to_bits()).and(Predicate::Is(
            Field::NwSrc,
            pair.address,
            pair.mask,
        ))
    };
    let unaddressed = own_mac(port).and(Predicate::is(Field::NwSrc, 0u8));
    Predicate::Any(port.pairs4.iter().map(pair).collect()).or(unaddressed)
}

fn own_ipv6(port: &Port) -> Predicate {
    let pair = |pair: &flowproof_proofs::ports::Pair| {
        Predicate::is(Field::DlSrc, pair.mac.to_bits()).and(Predicate::Is(
            Field::Ipv6Src,
            pair.address,
            pair.mask,
        ))
    };
    // A host that tests its address for duplicates has none yet.
    let unaddressed =
        own_mac(port).and(Predicate::is(Field::Ipv6Src, 0u8)).and(icmpv6(&[131, 132, 135, 143]));
    Predicate::Any(port.pairs6.iter().map(pair).collect()).or(unaddressed)
}

fn own_target(port: &Port) -> Predicate {
    let targets = port.pairs6.iter().map(|pair| Predicate::Is(Field::NdTarget, pair.address, pair.mask));
    Predicate::Any(targets.collect())
}

/// None, or an address of the port.
fn own_option(port: &Port, option: Field) -> Predicate {
    Predicate::one_of(option, port.macs.iter().map(|mac| mac.to_bits()).chain([0]))
}

const fn implication(
    name: &'static str,
    theorem: &'static str,
    premise: fn(&Port) -> Predicate,
    allowed: fn(&Port) -> Predicate,
) -> Property {
    Property { name, theorem, subject: &[], forms: WHOLE, judge: Judge::Implication { premise, allowed } }
}

const fn prohibition(
    name: &'static str,
    theorem: &'static str,
    forms: &'static [Form],
    traits: &'static [Field],
    forbidden: fn(&Port) -> Predicate,
) -> Property {
    Property { name, theorem, subject: &[], forms, judge: Judge::Prohibition { forbidden, traits } }
}

const PORTS: &[Field] = &[Field::UdpSrc, Field::UdpDst];
const KIND: &[Field] = &[Field::Icmpv6Type];

/// All of them, in the order of the document.
pub(super) const HOLES: &[Hole] = &[
    Hole {
        theorem: implication(
            "MLD queries and NS",
            "an MLD query or neighbour solicitation has a source pair of the port, or is DAD from ::",
            |_| icmpv6(&[130, 135]),
            own_ipv6,
        ),
        report: "CVE-2015-8914 (LP 1502933), CVE-2021-20267 (LP 1902917)",
        closed: Some("20.0.0"),
    },
    Hole {
        theorem: implication(
            "NA, target",
            "a neighbour advertisement is for an address of the port",
            |_| advertisement(),
            own_target,
        ),
        report: "CVE-2021-20267 (LP 1902917)",
        closed: Some("20.0.0"),
    },
    Hole {
        theorem: implication(
            "NA, source",
            "a neighbour advertisement has a source pair of the port",
            |_| advertisement(),
            own_ipv6,
        ),
        report: "CVE-2021-20267 (LP 1902917)",
        closed: Some("20.0.0"),
    },
    Hole {
        theorem: implication(
            "NA, link-layer option",
            "a neighbour advertisement announces no foreign MAC",
            |_| advertisement(),
            |port| own_option(port, Field::NdTll),
        ),
        report: "",
        closed: None,
    },
    Hole {
        theorem: implication(
            "NS, link-layer option",
            "a neighbour solicitation announces no foreign MAC",
            |_| icmpv6(&[135]).and(Predicate::is(Field::Icmpv6Code, 0u8)),
            |port| own_option(port, Field::NdSll),
        ),
        report: "",
        closed: None,
    },
    Hole {
        theorem: implication(
            "DHCPv4 requests",
            "a DHCPv4 request has a source pair of the port, or its MAC and 0.0.0.0",
            |_| udp(IPV4, 68, 67),
            own_ipv4,
        ),
        report: "CVE-2016-5362 (LP 1558658), CVE-2021-20267 (LP 1902917)",
        closed: Some("20.0.0"),
    },
    Hole {
        theorem: implication(
            "DHCPv6 requests",
            "a DHCPv6 request has a source pair of the port",
            |_| udp(IPV6, 546, 547),
            own_ipv6,
        ),
        report: "CVE-2015-8914 (LP 1502933), CVE-2021-20267 (LP 1902917)",
        closed: Some("20.0.0"),
    },
    Hole {
        theorem: prohibition("RA", "no router advertisement", WHOLE, KIND, |_| icmpv6(&[134])),
        report: "LP 1685237",
        closed: Some("9.4.1"),
    },
    Hole {
        theorem: prohibition(
            "RA, fragments",
            "no fragment of a router advertisement",
            FRAGMENTS,
            KIND,
            |_| icmpv6(&[134]),
        ),
        report: "",
        closed: None,
    },
    Hole {
        theorem: prohibition("redirects", "no ICMPv6 redirect", WHOLE, KIND, |_| icmpv6(&[137])),
        report: "",
        closed: Some("8.1.0"),
    },
    Hole {
        theorem: prohibition("DHCPv4 answers", "no DHCPv4 answer, unfragmented", WHOLE, PORTS, |_| {
            udp(IPV4, 67, 68)
        }),
        report: "",
        closed: Some("8.1.0"),
    },
    Hole {
        theorem: prohibition(
            "DHCPv4 answers, fragments",
            "no fragment of a DHCPv4 answer",
            FRAGMENTS,
            PORTS,
            |_| udp(IPV4, 67, 68),
        ),
        report: "",
        closed: None,
    },
    Hole {
        theorem: prohibition(
            "DHCPv6 answers, fragments",
            "no fragment of a DHCPv6 answer",
            FRAGMENTS,
            PORTS,
            |_| udp(IPV6, 547, 546),
        ),
        report: "",
        closed: None,
    },
    Hole {
        theorem: implication(
            "ARP, hardware address",
            "ARP announces no other hardware address than it is sent from",
            |_| Predicate::is(Field::DlType, 0x0806u16),
            |_| Predicate::Same(Field::DlSrc, Field::ArpSha),
        ),
        report: "",
        closed: None,
    },
    Hole {
        theorem: Property {
            name: "VLAN tags",
            theorem: "what entered with a VLAN tag is not delivered without one",
            subject: &[],
            forms: WHOLE,
            judge: Judge::KeepsVlan,
        },
        report: "",
        closed: Some("12.0.0"),
    },
];
