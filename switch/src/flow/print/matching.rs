//! Matches as text, in the order that ovs-ofctl has.

use super::value::{Hex, port_name, put_ethernet, put_flags, put_ipv4, put_ipv6};
use crate::flow::Match;
use crate::flow::names::{self, ethertype as eth, ipproto};
use flowproof_packet::{Field, PortNo, key::low_bits};
use std::fmt::{self, Write};

/// How a field is written in a match.
#[derive(Clone, Copy)]
enum Form {
    /// `%#x`, with a mask likewise.
    Hex,
    /// Decimal where it is exact, else two hexadecimal numbers.
    Decimal,
    /// Two hexadecimal numbers of eight digits where it is not exact, else decimal.
    Word,
    /// A flow label: five digits.
    Label,
    /// `aa:bb:cc:dd:ee:ff`
    Ethernet,
    /// Dotted quad.
    Ipv4,
    /// Colons.
    Ipv6,
    /// Number or reserved name.
    Port,
}

struct Printer<'m> {
    matching: &'m Match,
    out: String,
    dl_type: u16,
    nw_proto: u8,
}

/// Fields before the protocol word.
const BEFORE: &[(Field, &str, Form)] = &[
    (Field::PktMark, "pkt_mark", Form::Hex),
    (Field::RecircId, "recirc_id", Form::Hex),
    (Field::DpHash, "dp_hash", Form::Hex),
    (Field::ConjId, "conj_id", Form::Decimal),
    (Field::SkbPriority, "skb_priority", Form::Hex),
    (Field::ActsetOutput, "actset_output", Form::Port),
];

/// Connection-tracking fields after `ct_state`.
const TRACKED: &[(Field, &str, Form)] = &[
    (Field::CtZone, "ct_zone", Form::Decimal),
    (Field::CtMark, "ct_mark", Form::Hex),
    (Field::CtLabel, "ct_label", Form::Hex),
    (Field::CtNwSrc, "ct_nw_src", Form::Ipv4),
    (Field::CtIpv6Src, "ct_ipv6_src", Form::Ipv6),
    (Field::CtNwDst, "ct_nw_dst", Form::Ipv4),
    (Field::CtIpv6Dst, "ct_ipv6_dst", Form::Ipv6),
    (Field::CtNwProto, "ct_nw_proto", Form::Decimal),
    (Field::CtTpSrc, "ct_tp_src", Form::Decimal),
    (Field::CtTpDst, "ct_tp_dst", Form::Decimal),
];

/// Registers.
const REGISTERS: &[(Field, &str, Form)] = &[
    (Field::Reg0, "reg0", Form::Hex),
    (Field::Reg1, "reg1", Form::Hex),
    (Field::Reg2, "reg2", Form::Hex),
    (Field::Reg3, "reg3", Form::Hex),
    (Field::Reg4, "reg4", Form::Hex),
    (Field::Reg5, "reg5", Form::Hex),
    (Field::Reg6, "reg6", Form::Hex),
    (Field::Reg7, "reg7", Form::Hex),
    (Field::Reg8, "reg8", Form::Hex),
    (Field::Reg9, "reg9", Form::Hex),
    (Field::Reg10, "reg10", Form::Hex),
    (Field::Reg11, "reg11", Form::Hex),
    (Field::Reg12, "reg12", Form::Hex),
    (Field::Reg13, "reg13", Form::Hex),
    (Field::Reg14, "reg14", Form::Hex),
    (Field::Reg15, "reg15", Form::Hex),
];

/// Tunnel fields before `tun_flags`.
const TUNNEL: &[(Field, &str, Form)] = &[
    (Field::TunId, "tun_id", Form::Hex),
    (Field::TunSrc, "tun_src", Form::Ipv4),
    (Field::TunDst, "tun_dst", Form::Ipv4),
    (Field::TunIpv6Src, "tun_ipv6_src", Form::Ipv6),
    (Field::TunIpv6Dst, "tun_ipv6_dst", Form::Ipv6),
    (Field::TunGbpId, "tun_gbp_id", Form::Decimal),
    (Field::TunGbpFlags, "tun_gbp_flags", Form::Hex),
    (Field::TunErspanVer, "tun_erspan_ver", Form::Decimal),
    (Field::TunErspanIdx, "tun_erspan_idx", Form::Hex),
    (Field::TunErspanDir, "tun_erspan_dir", Form::Decimal),
    (Field::TunErspanHwid, "tun_erspan_hwid", Form::Hex),
    (Field::TunGtpuFlags, "tun_gtpu_flags", Form::Hex),
    (Field::TunGtpuMsgtype, "tun_gtpu_msgtype", Form::Decimal),
];

/// IPv6 addresses and label.
const IPV6: &[(Field, &str, Form)] = &[
    (Field::Ipv6Src, "ipv6_src", Form::Ipv6),
    (Field::Ipv6Dst, "ipv6_dst", Form::Ipv6),
    (Field::Ipv6Label, "ipv6_label", Form::Label),
];

/// ARP addresses.
const ARP: &[(Field, &str, Form)] =
    &[(Field::ArpSpa, "arp_spa", Form::Ipv4), (Field::ArpTpa, "arp_tpa", Form::Ipv4)];

/// ARP hardware addresses.
const ARP_HARDWARE: &[(Field, &str, Form)] =
    &[(Field::ArpSha, "arp_sha", Form::Ethernet), (Field::ArpTha, "arp_tha", Form::Ethernet)];

/// IPv4 addresses.
const IPV4: &[(Field, &str, Form)] =
    &[(Field::NwSrc, "nw_src", Form::Ipv4), (Field::NwDst, "nw_dst", Form::Ipv4)];

/// Network service header.
const NSH: &[(Field, &str, Form)] = &[
    (Field::NshFlags, "nsh_flags", Form::Decimal),
    (Field::NshTtl, "nsh_ttl", Form::Decimal),
    (Field::NshMdtype, "nsh_mdtype", Form::Decimal),
    (Field::NshNp, "nsh_np", Form::Decimal),
    (Field::NshSpi, "nsh_spi", Form::Hex),
    (Field::NshSi, "nsh_si", Form::Decimal),
    (Field::NshC1, "nsh_c1", Form::Hex),
    (Field::NshC2, "nsh_c2", Form::Hex),
    (Field::NshC3, "nsh_c3", Form::Hex),
    (Field::NshC4, "nsh_c4", Form::Hex),
];

/// What remains of IP and MPLS before fragments.
const NETWORK: &[(Field, &str, Form)] = &[
    (Field::NwEcn, "nw_ecn", Form::Decimal),
    (Field::NwTtl, "nw_ttl", Form::Decimal),
    (Field::MplsLabel, "mpls_label", Form::Decimal),
    (Field::MplsTc, "mpls_tc", Form::Decimal),
    (Field::MplsTtl, "mpls_ttl", Form::Decimal),
    (Field::MplsBos, "mpls_bos", Form::Decimal),
];

/// Neighbour discovery.
const ND: &[(Field, &str, Form)] = &[
    (Field::NdTarget, "nd_target", Form::Ipv6),
    (Field::NdSll, "nd_sll", Form::Ethernet),
    (Field::NdTll, "nd_tll", Form::Ethernet),
    (Field::NdReserved, "nd_reserved", Form::Word),
    (Field::NdOptionsType, "nd_options_type", Form::Decimal),
];

/// Ports.
const PORTS: &[(Field, &str, Form)] =
    &[(Field::TcpSrc, "tp_src", Form::Decimal), (Field::TcpDst, "tp_dst", Form::Decimal)];

impl Printer<'_> {
    fn rows(&mut self, rows: &[(Field, &str, Form)]) -> fmt::Result {
        for (field, name, form) in rows {
            let (value, mask) = self.matching.get(*field);
            self.item(name, *form, value, mask, field.spec().width)?;
        }
        Ok(())
    }

    fn item(&mut self, name: &str, form: Form, value: u128, mask: u128, width: u16) -> fmt::Result {
        if mask == 0 {
            return Ok(());
        }
        let out = &mut self.out;
        let exact = mask == low_bits(width);
        write!(out, "{name}=")?;
        match form {
            Form::Hex if exact => write!(out, "{}", Hex(value)),
            Form::Hex => write!(out, "{}/{}", Hex(value), Hex(mask)),
            Form::Decimal | Form::Word if exact => write!(out, "{value}"),
            Form::Decimal => write!(out, "{value:#x}/{mask:#x}"),
            Form::Word => write!(out, "{value:#010x}/{mask:#010x}"),
            Form::Label if exact => write!(out, "{value:#07x}"),
            Form::Label => write!(out, "{value:#07x}/{mask:#07x}"),
            Form::Ethernet => put_ethernet(out, value, mask),
            Form::Ipv4 => put_ipv4(out, value, mask),
            Form::Ipv6 => put_ipv6(out, value, mask),
            Form::Port => out.write_str(&port_name((value & 0xffff) as PortNo)),
        }?;
        self.out.push(',');
        Ok(())
    }

    fn flags(&mut self, field: Field, names: &[&str], width: u16) -> fmt::Result {
        let (value, mask) = self.matching.get(field);
        if mask == 0 {
            return Ok(());
        }
        write!(self.out, "{}=", field.spec().name)?;
        put_flags(&mut self.out, names, value, mask, width)?;
        self.out.push(',');
        Ok(())
    }

    /// The word for Ethertype and IP protocol; returns whether it says the type and the protocol.
    fn protocol(&mut self) -> (bool, bool) {
        if !self.matching.looks_at(Field::DlType) {
            return (false, false);
        }
        let proto = self.matching.exact(Field::NwProto).map(|_| self.nw_proto);
        let row = |with: Option<u8>| {
            names::PROTOCOLS
                .iter()
                .find(|(_, dl_type, nw_proto)| *dl_type == self.dl_type && *nw_proto == with)
        };
        let best = proto.and_then(|proto| row(Some(proto)));
        let Some((name, ..)) = best.or_else(|| row(None)) else { return (false, false) };
        self.out.push_str(name);
        self.out.push(',');
        (true, best.is_some())
    }

    fn packet_type(&mut self) -> fmt::Result {
        let (value, mask) = self.matching.get(Field::PacketType);
        if mask == 0 || value == 0 {
            return Ok(());
        }
        if value >> 16 == 1 {
            self.dl_type = (value & 0xffff) as u16;
        }
        write!(self.out, "packet_type=({},{:#x}),", value >> 16, value & 0xffff)
    }

    fn vlan(&mut self) -> fmt::Result {
        let (value, mask) = self.matching.get(Field::VlanTci);
        if mask == 0 {
            return Ok(());
        }
        let (vid, pcp) = (mask & 0xfff, mask & 0xe000);
        let whole = matches!(vid, 0 | 0xfff) && matches!(pcp, 0 | 0xe000) && (vid | pcp) != 0;
        if mask & value & 0x1000 != 0 && whole {
            if vid != 0 {
                write!(self.out, "dl_vlan={},", value & 0xfff)?;
            }
            if pcp != 0 {
                write!(self.out, "dl_vlan_pcp={},", value >> 13)?;
            }
            return Ok(());
        }
        write!(self.out, "vlan_tci={value:#06x}")?;
        if mask != 0xffff {
            write!(self.out, "/{mask:#06x}")?;
        }
        self.out.push(',');
        Ok(())
    }

    fn fragment(&mut self) -> fmt::Result {
        let (value, mask) = self.matching.get(Field::NwFrag);
        let known = names::FRAGMENTS.iter().find(|(_, v, m)| (*v, *m) == (value, mask));
        match (mask, known) {
            (0, _) => Ok(()),
            (_, Some((name, ..))) => write!(self.out, "nw_frag={name},"),
            // `later` is also what a lone second bit means.
            _ if mask == 2 => self.out.write_str("nw_frag=later,"),
            _ => self.out.write_str("nw_frag=<error>,"),
        }
    }

    fn addresses(&mut self) -> fmt::Result {
        match self.dl_type {
            eth::IPV6 => self.rows(IPV6),
            eth::ARP | eth::RARP => self.rows(ARP),
            eth::NSH => self.rows(NSH),
            _ => self.rows(IPV4),
        }
    }

    fn transport(&mut self) -> fmt::Result {
        let icmp = self.dl_type == eth::IP && self.nw_proto == ipproto::ICMP;
        let icmp6 = self.dl_type == eth::IPV6 && self.nw_proto == ipproto::ICMPV6;
        if !icmp && !icmp6 {
            self.rows(PORTS)?;
        } else {
            for (slot, name) in [(Field::TcpSrc, "icmp_type"), (Field::TcpDst, "icmp_code")] {
                let (value, mask) = self.matching.get(slot);
                // Sixteen bits are kept where a type has eight: an exact match may have either mask.
                let width = if mask == 0xff { 8 } else { 16 };
                self.item(name, Form::Decimal, value, mask, width)?;
            }
            if icmp6 {
                self.rows(ND)?;
            }
        }
        self.flags(Field::TcpFlags, names::TCP_FLAGS, 12)
    }

    fn tos(&mut self) -> fmt::Result {
        let (value, mask) = self.matching.get(Field::NwTos);
        if mask & 0xfc == 0 { Ok(()) } else { write!(self.out, "nw_tos={},", value & 0xfc) }
    }

    fn everything(&mut self, opaque: &[String]) -> fmt::Result {
        self.rows(BEFORE)?;
        self.flags(Field::CtState, names::CT_STATE, 8)?;
        self.rows(TRACKED)?;
        self.packet_type()?;
        let (type_said, proto_said) = self.protocol();
        self.rows(REGISTERS)?;
        self.rows(TUNNEL)?;
        self.flags(Field::TunFlags, names::TUN_FLAGS, 16)?;
        for item in opaque {
            write!(self.out, "{item},")?;
        }
        self.rows(&[(Field::Metadata, "metadata", Form::Hex), (Field::InPort, "in_port", Form::Port)])?;
        self.vlan()?;
        self.rows(&[(Field::DlSrc, "dl_src", Form::Ethernet), (Field::DlDst, "dl_dst", Form::Ethernet)])?;
        if !type_said && self.matching.looks_at(Field::DlType) {
            write!(self.out, "dl_type={:#06x},", self.dl_type)?;
        }
        self.addresses()?;
        if !proto_said && self.matching.looks_at(Field::NwProto) {
            let arp = matches!(self.dl_type, eth::ARP | eth::RARP);
            write!(self.out, "{}={},", if arp { "arp_op" } else { "nw_proto" }, self.nw_proto)?;
        }
        if matches!(self.dl_type, eth::ARP | eth::RARP) {
            self.rows(ARP_HARDWARE)?;
        }
        self.tos()?;
        self.rows(NETWORK)?;
        self.fragment()?;
        self.transport()
    }
}

/// A match as ovs-ofctl prints it, with items that are not modelled.
pub(crate) fn with_opaque(matching: &Match, opaque: &[String]) -> String {
    let dl_type = (matching.get(Field::DlType).0 & 0xffff) as u16;
    let nw_proto = (matching.get(Field::NwProto).0 & 0xff) as u8;
    let mut printer = Printer { matching, out: String::with_capacity(128), dl_type, nw_proto };
    let written = printer.everything(opaque);
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
    let mut out = printer.out;
    out.pop();
    out
}

/// A match as ovs-ofctl prints it.
pub(crate) fn match_text(matching: &Match) -> String {
    with_opaque(matching, &[])
}
