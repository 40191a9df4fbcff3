//! Match items: every field of the table of fields, every legal shape of mask, every class of value, as text.
//!
//! Values come from small pools that flows and frames share, so that packets hit. Invariant: what is written here has a
//! form that `ovs-ofctl` reads; whether the flow around it is accepted is its prerequisites' affair. Deliberately absent:
//! `tun_metadata`, which no flow key has room for.
//!
//! Source: ovs-fields(7).

use crate::Choices;
use flowproof_packet::{Field, FieldSpec, Format, Maskable, Prerequisite, key::low_bits};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Link-layer addresses, the last three for groups.
pub const MACS: [u128; 6] = [
    0x0200_0000_0001,
    0x0200_0000_0002,
    0xfa16_3e00_0003,
    0xffff_ffff_ffff,
    0x0100_5e00_0001,
    0x0180_c200_000e,
];
/// IPv4 addresses.
pub const V4: [u128; 4] = [0x0a00_0001, 0x0a00_0002, 0x0808_0808, 0];
/// IPv6 addresses.
pub const V6: [u128; 4] = [0xfd00 << 112 | 1, 0xfd00 << 112 | 2, 0xfe80 << 112 | 1, 0];
/// Ethertypes; 0x05ff stands for none.
pub const TYPES: [u128; 12] =
    [0x800, 0x86dd, 0x806, 0x800, 0x86dd, 0x8035, 0x8847, 0x8848, 0x894f, 0x8100, 0x05ff, 0x9000];
/// IP protocols.
pub const PROTOCOLS: [u128; 9] = [6, 17, 1, 58, 132, 47, 2, 44, 0];
/// Numbers of ports behind addresses, and ICMP types.
pub const NUMBERS: [u128; 12] = [80, 81, 0, 67, 68, 8, 128, 134, 135, 136, 3, 0xffff];
/// Ports of the switch that flows speak of: four that there are, one that there is not, and `LOCAL`.
pub const PORTS: [u128; 8] = [1, 2, 3, 4, 1, 2, 7, 0xfffe];
/// Tag control information.
pub const TAGS: [u128; 8] = [0, 0x1000, 0x1001, 0x1005, 0x7005, 0xf005, 0x1fff, 0x3002];

/// One number more than the pool holds, of those at the rims.
fn rim(choices: &mut Choices<'_>, width: u16) -> u128 {
    let top = low_bits(width);
    match choices.below(8) {
        0..3 => 1 + choices.below(3) as u128,
        3 => 0,
        4 => top,
        5 => top ^ top >> 1,
        6 => 5,
        _ => choices.bits(),
    }
}

/// A value for a field, mostly one that others choose too.
pub fn value(choices: &mut Choices<'_>, field: Field) -> u128 {
    let spec = field.spec();
    let pool: &[u128] = match (field, spec.format) {
        (_, Format::Ethernet) => &MACS,
        (_, Format::Ipv4) => &V4,
        (_, Format::Ipv6) => &V6,
        (Field::InPort | Field::InPortOxm, _) => &PORTS,
        (Field::ActsetOutput, _) => &[1, 2, 0xffff_fffe],
        (Field::DlType, _) => &TYPES,
        (Field::NwProto | Field::CtNwProto, _) => &PROTOCOLS,
        (Field::VlanTci, _) => &TAGS,
        (Field::VlanVid, _) => &[0, 1, 5, 0xfff],
        (Field::VlanVidOxm, _) => &[0x1000, 0x1001, 0x1005, 0x1fff],
        (Field::PacketType, _) if !choices.chance(1) => &[0, 0x1_894f, 0x1_0800],
        (Field::NwFrag, _) => &[0, 1, 3],
        (Field::ArpOp, _) => &[1, 2, 0],
        (Field::CtState, _) => &[0x21, 0x22, 0x2a, 0x24, 0x2c, 0x30, 0x20, 0],
        (Field::TcpFlags, _) => &[2, 0x12, 0x10, 0x11, 4],
        (Field::NwTos, _) => &[0, 4, 0xb8],
        (Field::NwTtl | Field::NshTtl | Field::MplsTtl, _) => &[64, 1, 0, 255],
        (Field::NdOptionsType, _) => &[1, 2, 0],
        (Field::Icmpv6Type, _) => &[128, 135, 136, 134, 137, 1],
        (Field::Icmpv4Type, _) => &[8, 0, 3, 11],
        (Field::NshMdtype, _) => &[1, 2],
        (Field::NshNp, _) => &[3, 1, 2, 4],
        _ if is_l4_port(field) => &NUMBERS,
        _ => &[],
    };
    let drawn =
        if pool.is_empty() || choices.chance(6) { rim(choices, spec.width) } else { *choices.pick(pool) };
    drawn & low_bits(spec.width)
}

const fn is_l4_port(field: Field) -> bool {
    matches!(
        field,
        Field::TcpSrc
            | Field::TcpDst
            | Field::UdpSrc
            | Field::UdpDst
            | Field::SctpSrc
            | Field::SctpDst
            | Field::CtTpSrc
            | Field::CtTpDst
    )
}

/// The shapes that a mask may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// All bits.
    Exact,
    /// The first so many.
    Prefix,
    /// The last so many.
    Suffix,
    /// One.
    Bit,
    /// Any.
    Scattered,
    /// None.
    Empty,
}

impl Shape {
    /// All of them; fields that cannot be masked have the first only.
    pub const ALL: [Self; 6] =
        [Self::Exact, Self::Prefix, Self::Suffix, Self::Bit, Self::Scattered, Self::Empty];

    /// Those that a field may be matched with.
    #[must_use]
    pub fn of(field: Field) -> &'static [Self] {
        match field.spec().maskable {
            Maskable::No => Self::ALL.split_at(1).0,
            Maskable::Bitwise => &Self::ALL,
        }
    }

    /// A mask of this shape.
    pub fn mask(self, choices: &mut Choices<'_>, width: u16) -> u128 {
        let all = low_bits(width);
        let part = 1 + choices.below(usize::from(width).saturating_sub(1).max(1)) as u16;
        match self {
            Self::Exact => all,
            Self::Prefix => all & !low_bits(width.saturating_sub(part)),
            Self::Suffix => low_bits(part),
            Self::Bit => 1 << choices.below(usize::from(width)),
            // The tool takes an IPv6 mask that begins with a digit for a length.
            Self::Scattered if width == 128 => choices.bits() | 0xf << 124,
            Self::Scattered => choices.bits() & choices.bits() & all,
            Self::Empty => 0,
        }
    }
}

fn mac(bits: u128) -> String {
    let bytes: Vec<String> = (0..6).rev().map(|at| format!("{:02x}", bits >> (8 * at) & 0xff)).collect();
    bytes.join(":")
}

fn flags(names: &[&str], value: u128, mask: u128) -> String {
    let chosen = names.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1);
    let sign = |bit: usize| if value >> bit & 1 == 1 { '+' } else { '-' };
    chosen.map(|(bit, name)| format!("{}{name}", sign(bit))).collect()
}

const CT_STATE: [&str; 8] = ["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"];
const TCP_FLAGS: [&str; 9] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"];
const FRAGMENTS: [&str; 5] = ["no", "yes", "first", "later", "not_later"];

fn numeric(choices: &mut Choices<'_>, value: u128, mask: Option<u128>) -> String {
    // The tool reads decimal numbers of 64 bits at most.
    let number =
        if choices.chance(50) || value > u64::MAX.into() { format!("{value:#x}") } else { value.to_string() };
    mask.map_or_else(|| number.clone(), |mask| format!("{number}/{mask:#x}"))
}

/// A value and a mask as `ovs-ofctl` reads them for this field.
#[must_use]
pub fn text(choices: &mut Choices<'_>, field: Field, value: u128, mask: u128) -> String {
    let spec: &FieldSpec = field.spec();
    let whole = mask == low_bits(spec.width);
    let value = if whole { value } else { value & mask };
    let masked = (!whole).then_some(mask);
    let with =
        |value: String, mask: Option<String>| mask.map_or(value.clone(), |mask| format!("{value}/{mask}"));
    let quad = |bits: u128| Ipv4Addr::from((bits & 0xffff_ffff) as u32).to_string();
    let long = |bits: u128| Ipv6Addr::from(bits).to_string();
    match spec.format {
        Format::Ethernet => with(mac(value), masked.map(mac)),
        Format::Ipv4 => with(quad(value), masked.map(quad)),
        Format::Ipv6 => with(long(value), masked.map(long)),
        Format::PacketType => format!("({},{:#x})", value >> 16, value & 0xffff),
        Format::Frag => (*choices.pick(&FRAGMENTS)).to_owned(),
        Format::CtState if mask != 0 && choices.chance(80) => {
            let mask = if whole { 0xff } else { mask & 0xff };
            flags(&CT_STATE, value, if mask == 0 { 0x20 } else { mask })
        }
        Format::TcpFlags if mask & 0x1ff != 0 && choices.chance(70) => flags(&TCP_FLAGS, value, mask & 0x1ff),
        Format::TunFlags if mask & 1 != 0 => flags(&["oam"], value, 1),
        Format::Port if value == 0xfffe => "LOCAL".to_owned(),
        Format::Decimal
        | Format::Hex
        | Format::Port
        | Format::CtState
        | Format::TcpFlags
        | Format::TunFlags => numeric(choices, value, masked),
    }
}

/// A name that a match knows the field by.
#[must_use]
pub fn name(choices: &mut Choices<'_>, field: Field) -> &'static str {
    let spec = field.spec();
    if !spec.aliases.is_empty() && choices.chance(20) {
        choices.pick::<&str>(spec.aliases)
    } else {
        spec.name
    }
}

/// A match item for a field with this value and a mask of some legal shape.
#[must_use]
pub fn item(choices: &mut Choices<'_>, field: Field, value: u128) -> String {
    let shapes = Shape::of(field);
    let shape = if choices.chance(60) { Shape::Exact } else { *choices.pick(shapes) };
    let width = field.spec().width;
    let mask = shape.mask(choices, width);
    if choices.chance(6)
        && let (Some(nxm), true) = (field.spec().nxm.first(), field.spec().maskable == Maskable::Bitwise)
    {
        let start = choices.below(usize::from(width)) as u16;
        let last = start + choices.below(usize::from(width - start)) as u16;
        let bits = value >> start & low_bits(last - start + 1);
        return format!("{nxm}[{start}..{last}]={bits:#x}");
    }
    let name = name(choices, field);
    if field == Field::VlanVid && choices.chance(15) {
        return format!("{name}=0xffff");
    }
    format!("{name}={}", text(choices, field, value, mask))
}

/// What a flow is about: text that makes fields legal, and which.
#[derive(Clone, Copy, Debug)]
pub struct Ground {
    /// The text; empty for none.
    pub text: &'static str,
    /// What it satisfies, apart from what anything does.
    pub has: &'static [Prerequisite],
}

/// Words that make fields legal, the frequent ones several times.
pub const GROUNDS: &[Ground] = {
    use Prerequisite::{
        Arp, Icmpv4, Icmpv6, Ip, Ipv4, Ipv6, Mpls, Nd, NdAdvert, NdSolicit, Nsh, Sctp, Tcp, Udp,
    };
    const fn row(text: &'static str, has: &'static [Prerequisite]) -> Ground {
        Ground { text, has }
    }
    &[
        row("", &[]),
        row("ip", &[Ip, Ipv4]),
        row("tcp", &[Ip, Ipv4, Tcp]),
        row("ipv6", &[Ip, Ipv6]),
        row("udp6", &[Ip, Ipv6, Udp]),
        row("arp", &[Arp]),
        row("udp", &[Ip, Ipv4, Udp]),
        row("tcp6", &[Ip, Ipv6, Tcp]),
        row("icmp", &[Ip, Ipv4, Icmpv4]),
        row("icmp6", &[Ip, Ipv6, Icmpv6]),
        row("", &[]),
        row("ip", &[Ip, Ipv4]),
        row("tcp", &[Ip, Ipv4, Tcp]),
        row("rarp", &[Arp]),
        row("icmp6,icmp_type=135,icmp_code=0", &[Ip, Ipv6, Icmpv6, Nd, NdSolicit]),
        row("icmp6,icmp_type=136,icmp_code=0", &[Ip, Ipv6, Icmpv6, Nd, NdAdvert]),
        row("dl_type=0x894f", &[Nsh]),
        row("mpls", &[Mpls]),
        row("mplsm", &[Mpls]),
        row("sctp", &[Ip, Ipv4, Sctp]),
        row("sctp6", &[Ip, Ipv6, Sctp]),
    ]
};

impl Ground {
    /// Whether a flow on this ground may name the field; a tag and a connection can be asked for beside any.
    #[must_use]
    pub fn allows(&self, field: Field) -> bool {
        match field.spec().prerequisite {
            Prerequisite::None | Prerequisite::Ethernet | Prerequisite::Vlan => true,
            Prerequisite::CtValid => match field {
                Field::CtNwSrc | Field::CtNwDst => self.has.contains(&Prerequisite::Ipv4),
                Field::CtIpv6Src | Field::CtIpv6Dst => self.has.contains(&Prerequisite::Ipv6),
                _ => self.has.contains(&Prerequisite::Ip),
            },
            wanted => self.has.contains(&wanted),
        }
    }
}

/// What must stand beside a field that no ground gives.
#[must_use]
pub fn beside(field: Field) -> Option<&'static str> {
    match (field, field.spec().prerequisite) {
        (Field::CtTpSrc | Field::CtTpDst, _) => Some("ct_state=+trk+est,ct_nw_proto=6"),
        (_, Prerequisite::CtValid) => Some("ct_state=+trk+est"),
        (_, Prerequisite::Vlan) => Some("vlan_tci=0x1000/0x1000"),
        _ => None,
    }
}

/// The fields that a match may name.
pub fn matchable() -> impl Iterator<Item = Field> {
    Field::all().filter(|field| {
        field.spec().is_matchable()
            && !matches!(field, Field::RecircId | Field::SkbPriority | Field::TunTtl | Field::TunTos)
    })
}
