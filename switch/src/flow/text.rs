//! Single packets as flow text: what `--packet` and `ofproto/trace` take.
//!
//! Invariant: a key that `frame → key` gives, printed here and read again, gives the same key for every field that
//! table lookup can see. Deliberately absent: payload and lengths, which no flow names.
//!
//! Source: ovs-fields(7); `ovs-appctl ofproto/trace` of Open vSwitch 3.1.

use super::names::{ethertype as eth, ipproto};
use super::normalise::normalise;
use super::parse::{ParseError, PortNames, match_only};
use super::{Match, print};
use flowproof_packet::{Field, FlowKey, PortNo};
use std::collections::BTreeMap;

/// Reads a match such as `tcp,nw_src=10.0.0.1,tp_dst=22`.
///
/// # Errors
/// What is wrong, with its column. A field whose prerequisites are missing is an error here, not a wider match.
pub fn parse_match(text: &str) -> Result<Match, ParseError> {
    parse_match_with(text, &BTreeMap::new())
}

/// As [`parse_match`], with names for ports.
///
/// # Errors
/// As [`parse_match`].
pub fn parse_match_with(text: &str, ports: &BTreeMap<String, PortNo>) -> Result<Match, ParseError> {
    let error = |at: &str, message: String| {
        let offset = (at.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        let column = text.get(..offset).map_or(0, |before| before.chars().count());
        ParseError {
            line: 1,
            column: u32::try_from(column + 1).unwrap_or(u32::MAX),
            text: at.to_owned(),
            message,
        }
    };
    let mut matching = match_only(text, PortNames { known: ports, unknown: None })
        .map_err(|fault| error(fault.at, fault.message.into_owned()))?;
    match normalise(&mut matching).first() {
        None => Ok(matching),
        Some(field) => Err(error(text, format!("{} lacks its prerequisites", field.spec().name))),
    }
}

/// Metadata that is printed where it is not zero.
const METADATA: &[Field] = &[
    Field::PktMark,
    Field::CtState,
    Field::CtZone,
    Field::CtMark,
    Field::CtLabel,
    Field::CtNwSrc,
    Field::CtIpv6Src,
    Field::CtNwDst,
    Field::CtIpv6Dst,
    Field::CtNwProto,
    Field::CtTpSrc,
    Field::CtTpDst,
    Field::Reg0,
    Field::Reg1,
    Field::Reg2,
    Field::Reg3,
    Field::Reg4,
    Field::Reg5,
    Field::Reg6,
    Field::Reg7,
    Field::Reg8,
    Field::Reg9,
    Field::Reg10,
    Field::Reg11,
    Field::Reg12,
    Field::Reg13,
    Field::Reg14,
    Field::Reg15,
    Field::TunId,
    Field::TunSrc,
    Field::TunDst,
    Field::TunIpv6Src,
    Field::TunIpv6Dst,
    Field::Metadata,
];

/// Fields of every packet.
const FRAME: &[Field] = &[Field::InPort, Field::VlanTci, Field::DlSrc, Field::DlDst, Field::DlType];
/// Fields of every IP packet but its addresses.
const IP: &[Field] = &[Field::NwProto, Field::NwTos, Field::NwEcn, Field::NwTtl];
/// Source and destination port, or ICMP type and code.
const PORTS: &[Field] = &[Field::TcpSrc, Field::TcpDst];
/// ARP.
const ARP: &[Field] = &[Field::ArpOp, Field::ArpSpa, Field::ArpTpa, Field::ArpSha, Field::ArpTha];
/// MPLS.
const MPLS: &[Field] = &[Field::MplsLabel, Field::MplsTc, Field::MplsTtl, Field::MplsBos];

/// The fields that a packet of this kind has beyond [`FRAME`].
fn network_fields(key: &FlowKey) -> Vec<Field> {
    let ip_version: &[Field] = match key.get(Field::DlType) as u16 {
        eth::IP => &[Field::NwSrc, Field::NwDst],
        eth::IPV6 => &[Field::Ipv6Src, Field::Ipv6Dst, Field::Ipv6Label],
        eth::ARP | eth::RARP => return ARP.to_vec(),
        eth::MPLS | eth::MPLSM => return MPLS.to_vec(),
        _ => return Vec::new(),
    };
    let mut fields = [ip_version, IP].concat();
    if key.get(Field::NwFrag) != 0 {
        fields.push(Field::NwFrag);
    }
    // Later fragments have no transport header, and `ofproto/trace` refuses to hear of one.
    if key.get(Field::NwFrag) & 2 != 0 {
        return fields;
    }
    let ipv6 = key.get(Field::DlType) as u16 == eth::IPV6;
    match key.get(Field::NwProto) as u8 {
        ipproto::TCP => fields.extend(PORTS.iter().chain(&[Field::TcpFlags])),
        ipproto::UDP | ipproto::SCTP => fields.extend(PORTS),
        ipproto::ICMP if !ipv6 => fields.extend(PORTS),
        ipproto::ICMPV6 if ipv6 => {
            fields.extend(PORTS);
            match key.get(Field::Icmpv6Type) {
                135 => fields.extend([Field::NdTarget, Field::NdSll]),
                136 => fields.extend([Field::NdTarget, Field::NdTll]),
                _ => {}
            }
        }
        _ => {}
    }
    fields
}

/// A packet as flow text, acceptable to `ofproto/trace`: `udp,in_port=13,vlan_tci=0x0000,dl_src=…,udp_dst=67`.
#[must_use]
pub fn key_to_text(key: &FlowKey) -> String {
    let mut matching = Match::default();
    for field in METADATA.iter().filter(|field| key.get(**field) != 0) {
        let mask = if *field == Field::CtState { 0xff } else { u128::MAX };
        matching.set(*field, key.get(*field), mask);
    }
    for field in FRAME.iter().copied().chain(network_fields(key)) {
        let mask = if field == Field::NwTos { 0xfc } else { u128::MAX };
        matching.set(field, key.get(field), mask);
    }
    with_own_names(key, print::match_text(&matching))
}

/// Names that `ofproto/trace` takes where the names of matches belong to TCP or ICMP: it checks prerequisites by name.
const OWN_NAMES: &[(u8, [(&str, &str); 2])] = &[
    (ipproto::UDP, [(",tp_src=", ",udp_src="), (",tp_dst=", ",udp_dst=")]),
    (ipproto::SCTP, [(",tp_src=", ",sctp_src="), (",tp_dst=", ",sctp_dst=")]),
    (ipproto::ICMPV6, [(",icmp_type=", ",icmpv6_type="), (",icmp_code=", ",icmpv6_code=")]),
];

fn with_own_names(key: &FlowKey, text: String) -> String {
    let proto = key.get(Field::NwProto) as u8;
    let Some((_, pairs)) = OWN_NAMES.iter().find(|(of, _)| *of == proto) else { return text };
    pairs.iter().fold(text, |text, (from, to)| text.replace(from, to))
}
