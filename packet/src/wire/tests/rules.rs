//! Each rule of flow extraction, on a frame written by hand.

use super::bytes;
use crate::{Field, FlowKey, wire};

const MACS: &str = "02000000000d 02000000000a ";
const TCP: &str = "04d2 0016 00000001 00000002 5012 ffff 0000 0000";

/// An Ethernet frame from its type on.
fn frame(rest: &str) -> Vec<u8> {
    bytes(&format!("{MACS}{rest}"))
}

/// An IPv4 frame: first byte, total length, fragment word, protocol, what follows.
fn v4(first: &str, total: u16, fragment: &str, protocol: u8, rest: &str) -> Vec<u8> {
    frame(&format!("0800 {first}b9{total:04x}0001{fragment}40{protocol:02x}0000 0a000107 0a000108 {rest}"))
}

/// An IPv6 frame: next header, what follows.
fn v6(next: u8, rest: &str) -> Vec<u8> {
    let length = bytes(rest).len();
    let addresses = "fe800000000000000000000000000007 20010db8000000000000000000000008";
    frame(&format!("86dd 6b912345 {length:04x} {next:02x} ff {addresses} {rest}"))
}

#[track_caller]
fn check(frame: &[u8], expected: &[(Field, u128)]) {
    let key = wire::extract(frame, 7);
    for (field, value) in expected {
        assert_eq!(key.get(*field), *value, "{field:?} of {key:?}");
    }
}

/// Everything above the ethertype is zero.
#[track_caller]
fn check_nothing_above(frame: &[u8], dl_type: u16) {
    let mut expected = FlowKey::default();
    let found = wire::extract(frame, 7);
    for field in [Field::InPort, Field::DlSrc, Field::DlDst, Field::VlanTci, Field::VlanTpid] {
        expected.set(field, found.get(field));
    }
    expected.set(Field::DlType, u128::from(dl_type));
    assert_eq!(found, expected);
}

#[test]
fn short_frames_have_only_an_input_port() {
    let mut expected = FlowKey::default();
    expected.set(Field::InPort, 7);
    assert_eq!(wire::extract(&[], 7), expected);
    assert_eq!(wire::extract(&frame("08"), 7), expected);
}

#[test]
fn one_tag_is_taken_off_and_a_second_is_the_type() {
    let inner = format!("0800 4500 0028 0001 0000 4006 0000 0a000107 0a000108 {TCP}");
    let tagged =
        [(Field::DlType, 0x0800), (Field::VlanTci, 0x3005), (Field::NwProto, 6), (Field::TcpDst, 22)];
    check(&frame(&format!("8100 2005 {inner}")), &tagged);
    check(&frame(&format!("8100 2005 {inner}")), &[(Field::VlanTpid, 0x8100), (Field::InnerVlanTci, 0)]);
    check(&frame(&format!("88a8 2005 {inner}")), &tagged);
    check(&frame(&format!("88a8 2005 {inner}")), &[(Field::VlanTpid, 0x88a8)]);
    check_nothing_above(&frame(&format!("8100 0005 8100 0006 {inner}")), 0x8100);
    check_nothing_above(&frame(&format!("8100 0005 88a8 0006 {inner}")), 0x88a8);
    check(&frame(&format!("8100 0000 {inner}")), &[(Field::VlanTci, 0x1000), (Field::NwProto, 6)]);
    check(&frame("8100 0005"), &[(Field::VlanTci, 0), (Field::VlanTpid, 0), (Field::DlType, 0x8100)]);
}

#[test]
fn frames_without_a_type_are_0x05ff_unless_snap_names_one() {
    check_nothing_above(&frame("0026 424203 0000"), 0x05ff);
    check_nothing_above(&frame("0026 aaaa03 00000c 2000 0000"), 0x05ff);
    check_nothing_above(&frame("0026 aaaa03 000000 88b5 0000"), 0x88b5);
    let ip = format!("4500 0028 0001 0000 4006 0000 0a000107 0a000108 {TCP}");
    check(&frame(&format!("0030 aaaa03 000000 0800 {ip}")), &[(Field::DlType, 0x0800), (Field::TcpDst, 22)]);
}

#[test]
fn an_ipv4_packet_has_all_its_fields() {
    check(
        &v4("45", 40, "4000", 6, TCP),
        &[
            (Field::NwSrc, 0x0a00_0107),
            (Field::NwDst, 0x0a00_0108),
            (Field::NwProto, 6),
            (Field::NwTos, 0xb9),
            (Field::IpDscp, 46),
            (Field::NwEcn, 1),
            (Field::NwTtl, 64),
            (Field::NwFrag, 0),
            (Field::TcpSrc, 1234),
            (Field::TcpDst, 22),
            (Field::TcpFlags, 0x012),
            (Field::InPort, 7),
        ],
    );
}

#[test]
fn ipv4_nonsense_stops_the_network_layer_but_not_the_ethertype() {
    check_nothing_above(&v4("44", 40, "0000", 6, TCP), 0x0800);
    check_nothing_above(&v4("4f", 40, "0000", 6, TCP), 0x0800);
    check_nothing_above(&v4("45", 41, "0000", 6, TCP), 0x0800);
    check_nothing_above(&v4("45", 19, "0000", 6, TCP), 0x0800);
    check_nothing_above(&frame("0800 4500"), 0x0800);
}

#[test]
fn the_version_in_the_header_is_not_looked_at() {
    check(&v4("65", 40, "0000", 6, TCP), &[(Field::NwProto, 6), (Field::TcpDst, 22)]);
    assert!(wire::l3(&v4("65", 40, "0000", 6, TCP)).unwrap().faults.bad_version);
}

#[test]
fn truncated_transport_headers_leave_protocol_without_ports() {
    for (protocol, header) in [(6, 20), (17, 8), (132, 12), (1, 8), (2, 8)] {
        let bytes = |count: usize| "5555".repeat(count / 2) + if count % 2 == 1 { "55" } else { "" };
        let whole = v4("45", 20 + header, "0000", protocol, &bytes(usize::from(header)));
        let cut = v4("45", 19 + header, "0000", protocol, &bytes(usize::from(header) - 1));
        check(&cut, &[(Field::NwProto, u128::from(protocol)), (Field::TcpSrc, 0), (Field::TcpDst, 0)]);
        let icmp = matches!(protocol, 1 | 2);
        check(&whole, &[(Field::TcpDst, if icmp { 0x55 } else { 0x5555 })]);
    }
}

#[test]
fn ethernet_padding_is_not_part_of_the_datagram() {
    check(&v4("45", 23, "0000", 17, "0044 0043 0008 0000"), &[(Field::NwProto, 17), (Field::UdpDst, 0)]);
    assert_eq!(wire::l3(&v4("45", 23, "0000", 17, "0044 0043 0008 0000")).unwrap().payload, [0, 0x44, 0]);
}

#[test]
fn ipv4_fragments_say_so_and_only_the_first_has_ports() {
    let first = v4("45", 40, "2000", 6, TCP);
    check(&first, &[(Field::NwFrag, 1), (Field::TcpDst, 22), (Field::TcpFlags, 0x012)]);
    for word in ["2001", "0001", "1fff"] {
        let later = [(Field::NwFrag, 3), (Field::NwProto, 6), (Field::TcpDst, 0), (Field::TcpFlags, 0)];
        check(&v4("45", 40, word, 6, TCP), &later);
    }
    let place = wire::l3(&v4("45", 40, "2001", 6, TCP)).unwrap().fragment.unwrap();
    assert_eq!((place.id, place.offset, place.more), (1, 8, true));
}

#[test]
fn lookup_sees_no_ports_in_any_fragment() {
    let key = |word| wire::lookup_key(&wire::extract(&v4("45", 40, word, 6, TCP), 7));
    assert_eq!((key("0000").get(Field::TcpSrc), key("0000").get(Field::TcpDst)), (1234, 22));
    assert_eq!((key("2000").get(Field::TcpSrc), key("2000").get(Field::TcpDst)), (0, 0));
    assert_eq!(key("2000").get(Field::NwProto), 6);
    let echo = wire::lookup_key(&wire::extract(&v4("45", 28, "2000", 1, "0800 0000 0001 0001"), 7));
    assert_eq!((echo.get(Field::Icmpv4Type), echo.get(Field::NwFrag)), (0, 1));
}

#[test]
fn ipv6_extension_headers_are_skipped() {
    let udp = "0222 0223 0008 0000";
    let fields =
        [(Field::NwProto, 17), (Field::UdpDst, 547), (Field::NwFrag, 0), (Field::Ipv6Label, 0x1_2345)];
    check(&v6(17, udp), &fields);
    for next in [0, 60, 43] {
        check(&v6(next, &format!("11 00 000000000000 {udp}")), &fields);
        check(&v6(next, &format!("11 01 {} {udp}", "00".repeat(14))), &fields);
    }
    check(&v6(51, &format!("11 01 {} {udp}", "00".repeat(10))), &fields);
    check(&v6(44, &format!("11 00 0000 00000001 {udp}")), &fields);
    check(&v6(0, "3a 00 050200000000 8f00 0000 00000000"), &[(Field::NwProto, 58), (Field::Icmpv6Type, 143)]);
}

#[test]
fn an_extension_header_that_is_cut_off_leaves_only_the_addresses() {
    let bad = v6(0, "11 01 000000000000 0222");
    let zero =
        [Field::NwProto, Field::NwTtl, Field::NwTos, Field::Ipv6Label, Field::NwFrag].map(|field| (field, 0));
    check(&bad, &zero);
    check(&bad, &[(Field::Ipv6Src, 0xfe80 << 112 | 7), (Field::Ipv6Dst, 0x2001_0db8 << 96 | 8)]);
}

#[test]
fn later_ipv6_fragments_have_protocol_44() {
    let udp = "0222 0223 0008 0000";
    check(
        &v6(44, &format!("11 00 0001 00000001 {udp}")),
        &[(Field::NwFrag, 1), (Field::NwProto, 17), (Field::UdpDst, 547)],
    );
    for word in ["0008", "0009", "fff8"] {
        let later = v6(44, &format!("3c 00 {word} 00000001 {udp}"));
        check(&later, &[(Field::NwFrag, 3), (Field::NwProto, 44), (Field::UdpDst, 0)]);
        assert_eq!(wire::l3(&later).unwrap().protocol, 60);
    }
}

#[test]
fn arp_is_read_for_ipv4_over_ethernet_only() {
    let arp = |head: &str| frame(&format!("0806 {head} 02000000000a 0a000107 02000000000d 0a000108"));
    let good = [
        (Field::ArpOp, 2),
        (Field::ArpSpa, 0x0a00_0107),
        (Field::ArpTpa, 0x0a00_0108),
        (Field::ArpSha, 0x0200_0000_000a),
        (Field::ArpTha, 0x0200_0000_000d),
        (Field::NwSrc, 0x0a00_0107),
    ];
    check(&arp("0001 0800 06 04 0002"), &good);
    check(&arp("0001 0800 06 04 0102"), &[(Field::ArpOp, 0), (Field::ArpSpa, 0x0a00_0107)]);
    for head in
        ["0002 0800 06 04 0002", "0001 86dd 06 04 0002", "0001 0800 08 04 0002", "0001 0800 06 10 0002"]
    {
        check_nothing_above(&arp(head), 0x0806);
    }
    check_nothing_above(&arp("0001 0800 06 04 0002")[..41], 0x0806);
}

#[test]
fn neighbour_discovery_has_a_target_and_addresses() {
    let target = "20010db8000000000000000000000007";
    let nd = |kind: &str, options: &str| v6(58, &format!("{kind} 0000 20000000 {target} {options}"));
    let (source, dest) = ("0101 02000000000a", "0201 02000000000d");
    let fields = |sll, tll, first| {
        [
            (Field::NdSll, sll),
            (Field::NdTll, tll),
            (Field::NdOptionsType, first),
            (Field::NdReserved, 0x2000_0000),
        ]
    };
    let (a, d) = (0x0200_0000_000a, 0x0200_0000_000d);
    check(&nd("8700", source), &fields(a, 0, 1));
    check(&nd("8800", dest), &fields(0, d, 2));
    check(&nd("8800", &format!("{dest}{source}")), &fields(a, d, 2));
    check(&nd("8700", ""), &fields(0, 0, 0));
    check(&nd("8700", source), &[(Field::NdTarget, 0x2001_0db8 << 96 | 7)]);
    check(&nd("8700", &format!("0100 {source}")), &fields(0, 0, 0));
    check(&nd("8700", "0102 02000000000a"), &fields(0, 0, 0));
    check(&nd("8700", &format!("{source}{source}")), &fields(0, 0, 1));
    check(&nd("8700", &format!("{source}{source}")), &[(Field::NdTarget, 0), (Field::Icmpv6Type, 135)]);
    check(&nd("8701", source), &[(Field::NdTarget, 0), (Field::NdSll, 0), (Field::Icmpv6Code, 1)]);
}

#[test]
fn mpls_gives_the_outermost_label() {
    let fields = [(Field::MplsLabel, 100), (Field::MplsTc, 3), (Field::MplsBos, 1), (Field::MplsTtl, 64)];
    check(&frame("8847 00064740 4500"), &fields);
    check(&frame("8847 0006"), &[(Field::DlType, 0x8847), (Field::MplsLabel, 0)]);
}

#[test]
fn a_packet_quoted_in_an_icmp_error_may_end_early() {
    let quoted = bytes("4500 0028 0001 0000 4006 0000 0a000107 0a000108 04d2 0016 00000001");
    let inner = wire::inner_l3(wire::IpVersion::V4, &quoted);
    assert!(inner.faults.is_none());
    assert_eq!((inner.src, inner.protocol, inner.payload.len()), (0x0a00_0107, 6, 8));
    assert!(wire::inner_l3(wire::IpVersion::V6, &quoted).faults.truncated);
}

#[test]
fn a_tcp_window_scale_is_found_among_options() {
    let header = |options: &str| {
        let length = 5 + bytes(options).len() / 4;
        bytes(&format!("04d2 0016 00000001 00000002 {length:x}002 ffff 0000 0000 {options}"))
    };
    let scale = |options: &str| wire::tcp(&header(options)).unwrap().wscale;
    assert_eq!(scale("020405b4 01030307"), Some(7));
    assert_eq!(scale("020405b4 0402 0303 0a 000000"), Some(10));
    assert_eq!(scale("020405b4"), None);
    assert_eq!(scale("00030307"), None, "behind the end of options");
    assert_eq!(scale("05000303 07000000"), None, "behind an option of length 0");
    assert_eq!(scale("01010303"), None, "cut off");
}
