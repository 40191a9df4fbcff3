//! What Open vSwitch makes of a match: fields whose prerequisites are missing are dropped, without a word.
//!
//! Invariant: normalising twice is normalising once; nothing is ever added to a match.
//!
//! Source: ovs-fields(7), "Prerequisites"; experiments with `ovs-ofctl parse-flows` 3.1.

use super::names::{ethertype as eth, ipproto};
use super::{Match, matching::Bits};
use flowproof_packet::Field;
use smallvec::SmallVec;
use std::sync::LazyLock;

/// The protocol a match is about, as far as its exact fields tell.
#[derive(Clone, Copy, Debug)]
struct Layers {
    dl_type: u16,
    nw_proto: u8,
    icmp_type: u16,
    ethernet: bool,
    tracked_proto: bool,
}

fn low16(value: u128) -> u16 {
    (value & 0xffff) as u16
}

impl Layers {
    fn of(matching: &Match) -> Self {
        let (packet_type, typed) = matching.get(Field::PacketType);
        let ethernet = typed == 0 || packet_type == 0;
        let dl_type = match (ethernet, packet_type >> 16) {
            (true, _) => low16(matching.get(Field::DlType).0),
            (false, 1) => low16(packet_type),
            (false, _) => 0,
        };
        Self {
            dl_type,
            nw_proto: (matching.get(Field::NwProto).0 & 0xff) as u8,
            icmp_type: low16(matching.get(Field::TcpSrc).0),
            ethernet,
            tracked_proto: matching.looks_at(Field::CtNwProto),
        }
    }

    const fn is_ip(self) -> bool {
        matches!(self.dl_type, eth::IP | eth::IPV6)
    }

    const fn is_arp(self) -> bool {
        matches!(self.dl_type, eth::ARP | eth::RARP)
    }

    const fn is_icmp6(self) -> bool {
        self.dl_type == eth::IPV6 && self.nw_proto == ipproto::ICMPV6
    }

    const fn has_ports(self) -> bool {
        let transport = matches!(self.nw_proto, ipproto::TCP | ipproto::UDP | ipproto::SCTP);
        let icmp = self.dl_type == eth::IP && self.nw_proto == ipproto::ICMP || self.is_icmp6();
        self.is_ip() && transport || icmp
    }

    const fn is_solicit(self) -> bool {
        self.is_icmp6() && self.icmp_type == 135
    }

    const fn is_advert(self) -> bool {
        self.is_icmp6() && self.icmp_type == 136
    }
}

/// A condition for keeping fields, and the fields.
type Rule = (fn(Layers) -> bool, &'static [Field]);

/// One row a group of fields: when they may stay.
const RULES: &[Rule] = &[
    (|at| at.ethernet, &[Field::DlSrc, Field::DlDst]),
    (|at| at.dl_type == eth::IP || at.is_arp(), &[Field::NwSrc, Field::NwDst]),
    (|at| at.has_ports(), &[Field::TcpSrc, Field::TcpDst]),
    (|at| at.is_ip() || at.is_arp(), &[Field::NwProto]),
    (|at| at.is_ip(), &[Field::NwTos, Field::NwEcn, Field::NwTtl, Field::NwFrag]),
    (|at| at.is_arp() || at.is_solicit(), &[Field::ArpSha]),
    (|at| at.is_arp() || at.is_advert(), &[Field::ArpTha]),
    (|at| at.dl_type == eth::IPV6, &[Field::Ipv6Src, Field::Ipv6Dst, Field::Ipv6Label]),
    (|at| at.is_solicit() || at.is_advert(), &[Field::NdTarget, Field::NdReserved, Field::NdOptionsType]),
    (
        |at| matches!(at.dl_type, eth::MPLS | eth::MPLSM),
        &[Field::MplsLabel, Field::MplsTc, Field::MplsBos, Field::MplsTtl],
    ),
    (|at| at.is_ip() && at.nw_proto == ipproto::TCP, &[Field::TcpFlags]),
    (|at| at.tracked_proto, &[Field::CtTpSrc, Field::CtTpDst]),
    (
        |at| at.dl_type == eth::NSH,
        &[
            Field::NshFlags,
            Field::NshTtl,
            Field::NshMdtype,
            Field::NshNp,
            Field::NshSpi,
            Field::NshSi,
            Field::NshC1,
            Field::NshC2,
            Field::NshC3,
            Field::NshC4,
        ],
    ),
];

/// The bits of each row's fields.
static BITS: LazyLock<Vec<Bits>> =
    LazyLock::new(|| RULES.iter().map(|(_, fields)| Bits::of(fields)).collect());

/// ICMP type and code are eight bits: the upper halves of their sixteen are zero in every packet.
fn narrow_icmp(matching: &mut Match, layers: Layers) {
    if !(layers.is_icmp6() || layers.dl_type == eth::IP && layers.nw_proto == ipproto::ICMP) {
        return;
    }
    for field in [Field::TcpSrc, Field::TcpDst] {
        let (value, mask) = matching.get(field);
        if mask & 0xff00 != 0 && value & 0xff00 == 0 {
            matching.set(field, value, mask & 0xff);
        }
    }
}

/// Drops the fields whose prerequisites `matching` lacks, and says which they were.
pub fn normalise(matching: &mut Match) -> SmallVec<[Field; 2]> {
    let layers = Layers::of(matching);
    let mut dropped = SmallVec::new();
    for ((keep, fields), bits) in RULES.iter().zip(BITS.iter()) {
        if !matching.looks_at_any(bits) || keep(layers) {
            continue;
        }
        for field in *fields {
            if matching.looks_at(*field) {
                matching.set(*field, 0, 0);
                dropped.push(*field);
            }
        }
    }
    narrow_icmp(matching, layers);
    dropped
}
