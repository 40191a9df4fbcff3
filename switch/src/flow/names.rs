//! The words of the flow syntax, as tables: protocols, flags, fragments, and one index over every match keyword.
//!
//! Invariant: each word stands for one thing. Deliberately absent: values and actions, which are grammar.
//!
//! Source: ovs-fields(7), ovs-ofctl(8) "Flow Syntax".

use super::Counted;
use flowproof_packet::{Field, field::FIELDS};
use rustc_hash::FxHashMap;
use std::sync::LazyLock;

/// Ethertypes that the syntax has words for.
pub(crate) mod ethertype {
    /// IPv4.
    pub(crate) const IP: u16 = 0x0800;
    /// ARP.
    pub(crate) const ARP: u16 = 0x0806;
    /// Reverse ARP.
    pub(crate) const RARP: u16 = 0x8035;
    /// IPv6.
    pub(crate) const IPV6: u16 = 0x86dd;
    /// MPLS unicast.
    pub(crate) const MPLS: u16 = 0x8847;
    /// MPLS multicast.
    pub(crate) const MPLSM: u16 = 0x8848;
    /// Network service header.
    pub(crate) const NSH: u16 = 0x894f;
    /// 802.1Q tag.
    pub(crate) const VLAN: u16 = 0x8100;
    /// 802.1ad service tag.
    pub(crate) const SVLAN: u16 = 0x88a8;
}

/// IP protocol numbers that the syntax has words for.
pub(crate) mod ipproto {
    /// ICMP.
    pub(crate) const ICMP: u8 = 1;
    /// TCP.
    pub(crate) const TCP: u8 = 6;
    /// UDP.
    pub(crate) const UDP: u8 = 17;
    /// ICMPv6.
    pub(crate) const ICMPV6: u8 = 58;
    /// SCTP.
    pub(crate) const SCTP: u8 = 132;
}

/// Keyword, ethertype, IP protocol. The first row of a pair is the word that ovs-ofctl prints.
pub(crate) const PROTOCOLS: &[(&str, u16, Option<u8>)] = &[
    ("ip", ethertype::IP, None),
    ("icmp", ethertype::IP, Some(ipproto::ICMP)),
    ("tcp", ethertype::IP, Some(ipproto::TCP)),
    ("udp", ethertype::IP, Some(ipproto::UDP)),
    ("sctp", ethertype::IP, Some(ipproto::SCTP)),
    ("ipv6", ethertype::IPV6, None),
    ("icmp6", ethertype::IPV6, Some(ipproto::ICMPV6)),
    ("tcp6", ethertype::IPV6, Some(ipproto::TCP)),
    ("udp6", ethertype::IPV6, Some(ipproto::UDP)),
    ("sctp6", ethertype::IPV6, Some(ipproto::SCTP)),
    ("arp", ethertype::ARP, None),
    ("rarp", ethertype::RARP, None),
    ("mpls", ethertype::MPLS, None),
    ("mplsm", ethertype::MPLSM, None),
    ("ipv4", ethertype::IP, None),
    ("ip4", ethertype::IP, None),
    ("ip6", ethertype::IPV6, None),
];

/// Names of the bits of `ct_state`, from the least significant.
pub(crate) const CT_STATE: &[&str] = &["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"];
/// Names of the bits of `tcp_flags`, from the least significant.
pub(crate) const TCP_FLAGS: &[&str] =
    &["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns", "[200]", "[400]", "[800]"];
/// Names of the bits of `tun_flags`, from the least significant.
pub(crate) const TUN_FLAGS: &[&str] = &["oam"];

/// Names of `nw_frag`, with value and mask.
pub(crate) const FRAGMENTS: &[(&str, u128, u128)] =
    &[("no", 0, 3), ("first", 1, 3), ("later", 3, 3), ("yes", 1, 1), ("not_later", 0, 2)];

/// Names that actions print where a match prints another one.
pub(crate) const ACTION_NAMES: &[(Field, &str)] = &[
    (Field::DlSrc, "eth_src"),
    (Field::DlDst, "eth_dst"),
    (Field::DlType, "eth_type"),
    (Field::NwSrc, "ip_src"),
    (Field::NwDst, "ip_dst"),
    (Field::VlanPcp, "vlan_pcp"),
];

/// What a word before `actions=` is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// A match field.
    Field(Field),
    /// `tun_metadata0` to `tun_metadata63`.
    TunMetadata,
    /// Ethertype and IP protocol.
    Protocol(u16, Option<u8>),
    /// Something about the flow itself.
    Meta(Meta),
}

/// Items that are not matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meta {
    Table,
    Priority,
    Cookie,
    IdleTimeout,
    HardTimeout,
    Importance,
    SendFlowRem,
    CheckOverlap,
    ResetCounts,
    NoPacketCounts,
    NoByteCounts,
    /// A statistic that `dump-flows` prints and that must have a value.
    Statistic,
    /// One that is kept.
    Counter(Counted),
    /// Accepted and without effect, value or not.
    Ignored,
    /// Only for queries: `out_port`, `out_group`.
    Query,
}

const METAS: &[(&str, Meta)] = &[
    ("table", Meta::Table),
    // As `ovs-appctl bridge/dump-flows` calls it.
    ("table_id", Meta::Table),
    ("priority", Meta::Priority),
    ("cookie", Meta::Cookie),
    ("idle_timeout", Meta::IdleTimeout),
    ("hard_timeout", Meta::HardTimeout),
    ("importance", Meta::Importance),
    ("send_flow_rem", Meta::SendFlowRem),
    ("check_overlap", Meta::CheckOverlap),
    ("reset_counts", Meta::ResetCounts),
    ("no_packet_counts", Meta::NoPacketCounts),
    ("no_byte_counts", Meta::NoByteCounts),
    ("duration", Meta::Counter(Counted::Age)),
    ("n_packets", Meta::Counter(Counted::Packets)),
    ("n_bytes", Meta::Statistic),
    ("idle_age", Meta::Counter(Counted::Idle)),
    ("hard_age", Meta::Statistic),
    ("no_readonly_table", Meta::Ignored),
    ("allow_hidden_fields", Meta::Ignored),
    ("eth", Meta::Ignored),
    ("out_port", Meta::Query),
    ("out_group", Meta::Query),
];

static WORDS: LazyLock<FxHashMap<&'static str, Word>> = LazyLock::new(|| {
    let fields = FIELDS.iter().filter(|spec| spec.is_matchable()).flat_map(|spec| {
        [spec.name]
            .into_iter()
            .chain(spec.aliases.iter().copied())
            .map(|name| (name, Word::Field(spec.field)))
    });
    let protocols = PROTOCOLS.iter().map(|&(name, dl_type, proto)| (name, Word::Protocol(dl_type, proto)));
    let metas = METAS.iter().map(|&(name, meta)| (name, Word::Meta(meta)));
    fields.chain(protocols).chain(metas).collect()
});

static SUBFIELDS: LazyLock<FxHashMap<&'static str, Field>> = LazyLock::new(|| {
    let rows = FIELDS.iter().filter(|spec| spec.is_matchable() || !spec.nxm.is_empty());
    rows.flat_map(|spec| {
        let names = spec.nxm.iter().copied().chain([spec.name]).chain(spec.aliases.iter().copied());
        names.filter(|name| !name.is_empty()).map(|name| (name, spec.field))
    })
    .collect()
});

/// What a match keyword means.
pub(crate) fn word(name: &str) -> Option<Word> {
    WORDS.get(name).copied().or_else(|| is_tun_metadata(name).then_some(Word::TunMetadata))
}

/// The field with this name, in a match or as NXM or OXM.
pub(crate) fn field(name: &str) -> Option<Field> {
    SUBFIELDS.get(name).copied()
}

/// Whether `name` is one of `tun_metadata0` to `tun_metadata63`, by either of its names.
pub(crate) fn is_tun_metadata(name: &str) -> bool {
    let digits = name.strip_prefix("tun_metadata").or_else(|| name.strip_prefix("NXM_NX_TUN_METADATA"));
    digits.is_some_and(|d| {
        d.len() <= 2 && d.bytes().all(|b| b.is_ascii_digit()) && d.parse::<u8>().is_ok_and(|n| n < 64)
    })
}

/// The name of a field in `set_field`.
pub(crate) fn action_name(field: Field) -> &'static str {
    ACTION_NAMES.iter().find(|(of, _)| *of == field).map_or(field.spec().name, |(_, name)| name)
}

/// The name of a field in `load`, `move` and `zone=`.
pub(crate) fn nxm_name(field: Field) -> &'static str {
    field.spec().nxm.first().copied().unwrap_or(field.spec().name)
}
