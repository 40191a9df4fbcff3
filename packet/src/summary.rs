//! One line about a frame, for people.
//!
//! Invariant: every frame has a line, and what is unusual about it (tags, fragments, headers that cannot be, a wrong
//! checksum) is said. Deliberately absent: anything that is not in the frame itself.
//!
//! Source of the names: IANA's registries of ICMP, ICMPv6 and IP protocol numbers.

use crate::{
    MacAddr,
    wire::{
        self, Ether, Faults, IpVersion, L3, TcpView, ethertype,
        proto::{self, ICMP, ICMPV6, IGMP, SCTP, TCP, UDP},
    },
};
use std::{
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
};

/// One line about a frame: `UDP 10.0.1.8:68 > 255.255.255.255:67, 300 bytes`.
#[must_use]
pub fn summary(frame: &[u8]) -> String {
    let Some(ether) = wire::ether(frame) else {
        return format!("frame of {} bytes, too short for Ethernet", frame.len());
    };
    let tag = ether.vlan.map_or_else(String::new, |tag| {
        let priority = tag.tci >> 13;
        let priority = if priority == 0 { String::new() } else { format!(" priority {priority}") };
        format!("VLAN {}{priority}: ", tag.tci & 0x0fff)
    });
    let known = match ether.ethertype {
        ethertype::IPV4 | ethertype::IPV6 => wire::l3(frame).map(|l3| ip(&l3, &ether)),
        ethertype::ARP => arp("ARP", &ether),
        ethertype::RARP => arp("RARP", &ether),
        _ => None,
    };
    tag + &known.unwrap_or_else(|| other(&ether))
}

/// Ethertypes that have a name but no line of their own.
const ETHERTYPES: &[(u16, &str)] = &[
    (ethertype::NONE, "802.3 frame"),
    (ethertype::VLAN, "second VLAN tag"),
    (ethertype::QINQ, "second VLAN tag (service)"),
    (ethertype::MPLS, "MPLS"),
    (ethertype::MPLS_MULTICAST, "MPLS multicast"),
    (ethertype::NSH, "NSH"),
    (ethertype::ARP, "malformed ARP"),
    (ethertype::RARP, "malformed RARP"),
    (0x88cc, "LLDP"),
];

fn other(ether: &Ether<'_>) -> String {
    let named = ETHERTYPES.iter().find(|(kind, _)| *kind == ether.ethertype);
    let name =
        named.map_or_else(|| format!("ethertype 0x{:04x}", ether.ethertype), |(_, name)| (*name).to_owned());
    format!("{name} {} > {}, {} bytes", ether.src, ether.dst, ether.payload.len())
}

/// `None` if it is not about IPv4 over Ethernet.
fn arp(name: &str, ether: &Ether<'_>) -> Option<String> {
    let packet = ether.payload.get(..28).filter(|packet| packet.starts_with(&[0, 1, 8, 0, 6, 4]))?;
    let op = u16::from_be_bytes(*packet.get(6..)?.first_chunk()?);
    let mac = |at: usize| Some(MacAddr(*packet.get(at..)?.first_chunk()?));
    let ip = |at: usize| Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?));
    let (sha, spa, tha, tpa) = (mac(8)?, ip(14)?, mac(18)?, ip(24)?);
    let (source, dest) = (ether.src, ether.dst);
    Some(match op {
        1 if spa == tpa => format!("{name} announcement {spa} is-at {sha} (dl_src {source})"),
        1 if spa.is_unspecified() => format!("{name} probe who-has {tpa} from {sha} (dl_src {source})"),
        1 => format!("{name} request who-has {tpa} tell {spa}, {sha} (dl_src {source})"),
        2 => format!("{name} reply {spa} is-at {sha} to {tpa} (dl_src {source}, dl_dst {dest})"),
        _ => format!("{name} opcode {op}, {spa} {sha} to {tpa} {tha} (dl_src {source})"),
    })
}

/// Protocols that have a name but no line of their own.
const PROTOCOLS: &[(u8, &str)] = &[
    (proto::IGMP, "IGMP"),
    (41, "IPv6 in IP"),
    (47, "GRE"),
    (50, "ESP"),
    (proto::AH, "AH"),
    (59, "no next header"),
    (89, "OSPF"),
    (103, "PIM"),
    (112, "VRRP"),
];

fn ip(l3: &L3<'_>, ether: &Ether<'_>) -> String {
    if l3.faults.stops_l3() || l3.faults.bad_extension {
        let name = if l3.version == IpVersion::V4 { "IPv4" } else { "IPv6" };
        let (source, dest) = (ether.src, ether.dst);
        return format!("{name} with a malformed header: {} ({source} > {dest})", fault(&l3.faults));
    }
    let mut line = upper(l3);
    // Writing to a String cannot fail.
    let _ = fragment(&mut line, l3);
    if l3.faults.bad_version {
        line += ", wrong IP version";
    }
    if !wire::ipv4_header_checksum_ok(l3) {
        line += ", bad header checksum";
    }
    if !(wire::l4_checksum_ok(l3) && wire::sctp_checksum_ok(l3)) {
        line += ", bad checksum";
    }
    line
}

fn fault(faults: &Faults) -> &'static str {
    let table = [
        (faults.truncated, "the frame ends inside it"),
        (faults.bad_header_length, "its header length cannot be"),
        (faults.length_beyond_frame, "its length goes beyond the frame"),
        (faults.length_below_header, "its length is below that of the header"),
        (faults.bad_extension, "an extension header is cut off"),
    ];
    table.iter().find(|(there, _)| *there).map_or("", |(_, text)| text)
}

fn fragment(line: &mut String, l3: &L3<'_>) -> std::fmt::Result {
    match l3.fragment {
        Some(part) if part.is_later() => {
            let last = if part.more { "" } else { "last " };
            write!(line, ", {last}fragment at byte {} of datagram 0x{:x}", part.offset, part.id)
        }
        Some(part) if part.more => write!(line, ", first fragment of datagram 0x{:x}", part.id),
        Some(_) => write!(line, ", atomic fragment"),
        None => Ok(()),
    }
}

fn upper(l3: &L3<'_>) -> String {
    let known = if l3.is_later_fragment() { None } else { with_header(l3) };
    known.unwrap_or_else(|| {
        let name = match l3.protocol {
            TCP => "TCP",
            UDP => "UDP",
            SCTP => "SCTP",
            ICMP if l3.version == IpVersion::V4 => "ICMP",
            ICMPV6 if l3.version == IpVersion::V6 => "ICMPv6",
            _ => "",
        };
        let listed = PROTOCOLS.iter().find(|(number, _)| *number == l3.protocol).map(|(_, name)| *name);
        let name = match (name, listed) {
            ("", Some(name)) => name.to_owned(),
            ("", None) => format!("IP protocol {}", l3.protocol),
            (name, _) => name.to_owned(),
        };
        let whole = l3.is_later_fragment() || !has_header(l3);
        let cut = if whole { "" } else { " of a header that is cut off" };
        format!("{name} {} > {}, {} bytes{cut}", address(l3, l3.src), address(l3, l3.dst), l3.payload.len())
    })
}

/// Whether the protocol is one whose header we read.
const fn has_header(l3: &L3<'_>) -> bool {
    matches!(
        (l3.version, l3.protocol),
        (_, TCP | UDP | SCTP) | (IpVersion::V4, ICMP) | (IpVersion::V6, ICMPV6)
    )
}

/// The line of a protocol whose header is there.
fn with_header(l3: &L3<'_>) -> Option<String> {
    let ends = |src, dst| format!("{} > {}", endpoint(l3, l3.src, src), endpoint(l3, l3.dst, dst));
    match (l3.version, l3.protocol) {
        (_, TCP) => wire::tcp(l3.payload).map(|tcp| {
            format!("TCP {} [{}], {} bytes", ends(tcp.src, tcp.dst), flags(tcp.flags), tcp.data_len)
        }),
        (_, UDP) => wire::udp(l3.payload).map(|udp| {
            format!("UDP {}, {} bytes", ends(udp.src, udp.dst), l3.payload.len().saturating_sub(8))
        }),
        (_, SCTP) => wire::sctp(l3.payload).map(|sctp| {
            format!("SCTP {}, {} bytes", ends(sctp.src, sctp.dst), l3.payload.len().saturating_sub(12))
        }),
        (IpVersion::V4, ICMP) | (IpVersion::V6, ICMPV6) => icmp(l3),
        (_, IGMP) => None,
        _ => None,
    }
}

const FLAGS: &[(u16, &str)] = &[
    (TcpView::SYN, "SYN"),
    (TcpView::FIN, "FIN"),
    (TcpView::RST, "RST"),
    (TcpView::PSH, "PSH"),
    (TcpView::ACK, "ACK"),
    (TcpView::URG, "URG"),
];

fn flags(set: u16) -> String {
    let names: Vec<_> = FLAGS.iter().filter(|(bit, _)| set & bit != 0).map(|(_, name)| *name).collect();
    if names.is_empty() { "no flags".to_owned() } else { names.join(" ") }
}

fn address(l3: &L3<'_>, bits: u128) -> String {
    match l3.version {
        IpVersion::V4 => Ipv4Addr::from(bits as u32).to_string(),
        IpVersion::V6 => Ipv6Addr::from(bits).to_string(),
    }
}

fn endpoint(l3: &L3<'_>, bits: u128, port: u16) -> String {
    match l3.version {
        IpVersion::V4 => format!("{}:{port}", address(l3, bits)),
        IpVersion::V6 => format!("[{}]:{port}", address(l3, bits)),
    }
}

/// What a message's second word and body are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    Plain,
    Numbered,
    Quote,
    Neighbour,
}

/// Messages by version and type.
const MESSAGES: &[(IpVersion, u8, &str, Body)] = &[
    (IpVersion::V4, 0, "echo reply", Body::Numbered),
    (IpVersion::V4, 3, "destination unreachable", Body::Quote),
    (IpVersion::V4, 4, "source quench", Body::Quote),
    (IpVersion::V4, 5, "redirect", Body::Quote),
    (IpVersion::V4, 8, "echo request", Body::Numbered),
    (IpVersion::V4, 11, "time exceeded", Body::Quote),
    (IpVersion::V4, 12, "parameter problem", Body::Quote),
    (IpVersion::V4, 13, "timestamp request", Body::Numbered),
    (IpVersion::V4, 14, "timestamp reply", Body::Numbered),
    (IpVersion::V6, 1, "destination unreachable", Body::Quote),
    (IpVersion::V6, 2, "packet too big", Body::Quote),
    (IpVersion::V6, 3, "time exceeded", Body::Quote),
    (IpVersion::V6, 4, "parameter problem", Body::Quote),
    (IpVersion::V6, 128, "echo request", Body::Numbered),
    (IpVersion::V6, 129, "echo reply", Body::Numbered),
    (IpVersion::V6, 130, "multicast listener query", Body::Plain),
    (IpVersion::V6, 131, "multicast listener report", Body::Plain),
    (IpVersion::V6, 132, "multicast listener done", Body::Plain),
    (IpVersion::V6, 133, "router solicitation", Body::Plain),
    (IpVersion::V6, 134, "router advertisement", Body::Plain),
    (IpVersion::V6, 135, "neighbour solicitation", Body::Neighbour),
    (IpVersion::V6, 136, "neighbour advertisement", Body::Neighbour),
    (IpVersion::V6, 137, "redirect", Body::Plain),
    (IpVersion::V6, 143, "multicast listener report (version 2)", Body::Plain),
];

fn icmp(l3: &L3<'_>) -> Option<String> {
    let message = wire::icmp(l3.payload)?;
    let name = if l3.version == IpVersion::V4 { "ICMP" } else { "ICMPv6" };
    let found = MESSAGES.iter().find(|(version, kind, ..)| (*version, *kind) == (l3.version, message.kind));
    let (title, body) = found.map_or_else(
        || (format!("type {} code {}", message.kind, message.code), Body::Plain),
        |(_, kind, title, body)| match (body, message.code) {
            (Body::Quote, code) => (format!("{title} ({kind}/{code})"), *body),
            (_, 0) => ((*title).to_owned(), *body),
            (_, code) => (format!("{title} code {code}"), *body),
        },
    );
    let ends = format!("{name} {title} {} > {}", address(l3, l3.src), address(l3, l3.dst));
    Some(match body {
        Body::Plain => ends,
        Body::Numbered => format!("{ends}, id {} seq {}", message.id, message.seq),
        Body::Quote => {
            let inner = wire::inner_l3(l3.version, message.body);
            if inner.faults.is_none() { format!("{ends}, about {}", upper(&inner)) } else { ends }
        }
        Body::Neighbour => ends + &neighbour(l3),
    })
}

fn neighbour(l3: &L3<'_>) -> String {
    let Some(nd) = wire::nd(l3.payload) else { return String::new() };
    let mut text = format!(", target {}", Ipv6Addr::from(nd.target));
    for (name, bits) in [("nd_sll", nd.sll), ("nd_tll", nd.tll)] {
        if bits != 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, ", {name} {}", MacAddr::from_bits(bits));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Field, FlowKey,
        build::{ComposeOptions, IcmpError, compose, fragment, icmp_error},
        wire::tests::{bytes, named_frame},
    };
    use proptest::prelude::*;

    const MACS: &str = "ffffffffffff fa163e00000a ";

    #[track_caller]
    fn check(frame: &[u8], expected: &str) {
        assert_eq!(summary(frame), expected);
    }

    #[track_caller]
    fn check_named(name: &str, expected: &str) {
        check(&named_frame(name), expected);
    }

    #[test]
    fn arp_says_who_claims_what_with_which_ethernet_source() {
        let body = |op: &str, sha: &str, spa: &str, tpa: &str| {
            bytes(&format!("{MACS} 0806 0001080006040{op} {sha} {spa} 000000000000 {tpa}"))
        };
        check(
            &body("001", "fa163e00000a", "0a000107", "0a000108"),
            "ARP request who-has 10.0.1.8 tell 10.0.1.7, fa:16:3e:00:00:0a (dl_src fa:16:3e:00:00:0a)",
        );
        check(
            &body("002", "020000000001", "0a000107", "0a000108"),
            "ARP reply 10.0.1.7 is-at 02:00:00:00:00:01 to 10.0.1.8 (dl_src fa:16:3e:00:00:0a, dl_dst ff:ff:ff:ff:ff:ff)",
        );
        check(
            &body("001", "fa163e00000a", "0a000107", "0a000107"),
            "ARP announcement 10.0.1.7 is-at fa:16:3e:00:00:0a (dl_src fa:16:3e:00:00:0a)",
        );
        check(
            &body("001", "fa163e00000a", "00000000", "0a000107"),
            "ARP probe who-has 10.0.1.7 from fa:16:3e:00:00:0a (dl_src fa:16:3e:00:00:0a)",
        );
        check_named("arp hw 6", "malformed ARP fa:16:3e:00:00:0a > fa:16:3e:00:00:0d, 28 bytes");
    }

    #[test]
    fn transport_lines_say_endpoints_flags_and_payload() {
        check_named("dhcp", "UDP 0.0.0.0:68 > 255.255.255.255:67, 300 bytes");
        check_named("tcp syn", "TCP 10.0.1.7:1234 > 10.0.1.8:22 [SYN], 0 bytes");
        check_named("tcp syn ack", "TCP 10.0.1.7:1234 > 10.0.1.8:22 [SYN ACK], 0 bytes");
        check_named("tcp no flags", "TCP 10.0.1.7:1234 > 10.0.1.8:22 [no flags], 0 bytes");
        check_named("tcp bad checksum", "TCP 10.0.1.7:1234 > 10.0.1.8:22 [SYN], 0 bytes, bad checksum");
        check_named(
            "ipv4 bad header checksum",
            "UDP 10.0.1.7:68 > 10.0.1.8:67, 5 bytes, bad header checksum",
        );
        check_named("ipv6 udp", "UDP [fe80::f816:3eff:fe00:a]:546 > [2001:db8::1]:547, 5 bytes");
        check_named("gre", "GRE 10.0.1.7 > 10.0.1.8, 8 bytes");
        check_named("proto 255", "IP protocol 255 10.0.1.7 > 10.0.1.8, 0 bytes");
        check_named(
            "udp 7 bytes",
            "UDP 10.0.1.7 > 10.0.1.8, 7 bytes of a header that is cut off, bad checksum",
        );
    }

    #[test]
    fn icmp_lines_say_the_message() {
        check_named("icmp echo", "ICMP echo request 10.0.1.7 > 10.0.1.8, id 1 seq 1");
        check_named(
            "na tll",
            "ICMPv6 neighbour advertisement fe80::f816:3eff:fe00:a > 2001:db8::1, target 2001:db8::7, nd_tll fa:16:3e:00:00:0a",
        );
        check_named("rs", "ICMPv6 router solicitation fe80::f816:3eff:fe00:a > 2001:db8::1");
        check_named(
            "ipv6 mld",
            "ICMPv6 multicast listener report (version 2) fe80::f816:3eff:fe00:a > 2001:db8::1",
        );
        check_named("ns code 1", "ICMPv6 neighbour solicitation code 1 fe80::f816:3eff:fe00:a > 2001:db8::1");
    }

    #[test]
    fn an_icmp_error_says_what_it_is_about() {
        let error = icmp_error(&named_frame("udp"), &IcmpError::new(3, 3, 0x0a00_0108)).unwrap();
        check(
            &error,
            "ICMP destination unreachable (3/3) 10.0.1.8 > 10.0.1.7, about UDP 10.0.1.7:68 > 10.0.1.8:67, 5 bytes",
        );
    }

    #[test]
    fn tags_fragments_and_nonsense_are_said() {
        check_named("vlan tcp", "VLAN 5: TCP 10.0.1.7:1234 > 10.0.1.8:22 [SYN], 0 bytes");
        check_named("vlan pcp cfi", "VLAN 7 priority 7: TCP 10.0.1.7:1234 > 10.0.1.8:22 [SYN], 0 bytes");
        check_named(
            "two tags 8100 88a8",
            "VLAN 5: second VLAN tag (service) fa:16:3e:00:00:0a > fa:16:3e:00:00:0d, 44 bytes",
        );
        check_named(
            "ipv4 ihl 4",
            "IPv4 with a malformed header: its header length cannot be (fa:16:3e:00:00:0a > fa:16:3e:00:00:0d)",
        );
        check_named("unknown type", "ethertype 0x88b6 fa:16:3e:00:00:0a > fa:16:3e:00:00:0d, 46 bytes");
        check(&[1, 2, 3], "frame of 3 bytes, too short for Ethernet");
        let mut key = FlowKey::default();
        key.set(Field::DlType, 0x0800);
        key.set(Field::NwProto, 17);
        let whole = compose(&key, &ComposeOptions { payload_len: 40, id: 0xab, ..ComposeOptions::default() });
        let parts = fragment(&whole, 24).unwrap();
        check(&parts[0], "UDP 0.0.0.0:0 > 0.0.0.0:0, 16 bytes, first fragment of datagram 0xab");
        check(&parts[1], "UDP 0.0.0.0 > 0.0.0.0, 24 bytes, last fragment at byte 24 of datagram 0xab");
    }

    proptest! {
        #[test]
        fn every_frame_has_one_line(frame in prop::collection::vec(any::<u8>(), 0..120), kind in 0..4usize) {
            let mut frame = frame;
            if let Some(place) = frame.get_mut(12..14) {
                place.copy_from_slice([[8, 0], [0x86, 0xdd], [8, 6], [0x81, 0]][kind].as_slice());
            }
            let line = summary(&frame);
            prop_assert!(!line.is_empty() && !line.contains('\n'));
        }
    }
}
