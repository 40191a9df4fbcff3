//! Frames from flow keys and from bytes.

use crate::support::{datagram, frame, icmp, ip, mac, nd, tcp, udp};
use flowproof_model::frame::{Arp, Datagram, Frame, Payload, Upper, is_error};
use flowproof_packet::build::{ComposeOptions, IcmpError, compose, fragment, icmp_error};
use flowproof_packet::{Field, FlowKey};

fn key(fields: &[(Field, u128)]) -> FlowKey {
    let mut key = FlowKey::default();
    key.set(Field::DlSrc, u128::from(mac("a").to_bits()));
    key.set(Field::DlDst, u128::from(mac("r").to_bits()));
    for (field, value) in fields {
        key.set(*field, *value);
    }
    key
}

fn bits(text: &str) -> u128 {
    match ip(text) {
        std::net::IpAddr::V4(ip) => ip.to_bits().into(),
        std::net::IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn ipv4(protocol: u128, more: &[(Field, u128)]) -> FlowKey {
    let base = [
        (Field::DlType, 0x800),
        (Field::NwSrc, bits("10.0.0.5")),
        (Field::NwDst, bits("10.0.0.10")),
        (Field::NwProto, protocol),
        (Field::NwTtl, 64),
    ];
    key(&[&base, more].concat())
}

fn ipv6(protocol: u128, more: &[(Field, u128)]) -> FlowKey {
    let base = [
        (Field::DlType, 0x86dd),
        (Field::Ipv6Src, bits("2001:db8::5")),
        (Field::Ipv6Dst, bits("2001:db8::10")),
        (Field::NwProto, protocol),
        (Field::NwTtl, 64),
    ];
    key(&[&base, more].concat())
}

#[track_caller]
fn check(key: &FlowKey, payload: Payload) {
    assert_eq!(Frame::from_key(key), frame("a", "r", payload));
}

#[test]
fn a_key_s_datagram_has_its_ports_and_types() {
    let ports = [(Field::TcpSrc, 1000), (Field::TcpDst, 22)];
    check(&ipv4(6, &ports), tcp(("10.0.0.5", 1000), ("10.0.0.10", 22)));
    check(&ipv6(17, &ports), udp(("2001:db8::5", 1000), ("2001:db8::10", 22)));
    check(&ipv4(47, &ports), datagram("10.0.0.5", "10.0.0.10", 47, Upper::Unseen));
    let Payload::Ip(Datagram { upper: Upper::Icmp(mut message), .. }) = icmp("10.0.0.5", "10.0.0.10", 8, 3)
    else {
        panic!()
    };
    message.ident = 0;
    let types = [(Field::Icmpv4Type, 8), (Field::Icmpv4Code, 3)];
    check(&ipv4(1, &types), datagram("10.0.0.5", "10.0.0.10", 1, Upper::Icmp(message)));
    // Of another family the numbers are no ICMP.
    check(&ipv6(1, &types), datagram("2001:db8::5", "2001:db8::10", 1, Upper::Unseen));
    check(&ipv4(58, &types), datagram("10.0.0.5", "10.0.0.10", 58, Upper::Unseen));
}

#[test]
fn a_key_s_neighbour_has_its_target_and_option() {
    for (kind, option) in [(135, Field::NdSll), (136, Field::NdTll)] {
        let fields = [
            (Field::Icmpv6Type, kind),
            (Field::NdTarget, bits("fe80::9")),
            (option, u128::from(mac("b").to_bits())),
        ];
        let expected = nd("2001:db8::5", "2001:db8::10", kind as u8, "fe80::9", Some("b"));
        check(&ipv6(58, &fields), expected);
        check(&ipv6(58, &fields[..2]), nd("2001:db8::5", "2001:db8::10", kind as u8, "fe80::9", None));
    }
}

#[test]
fn a_fragment_alone_shows_no_ports() {
    let fields = [(Field::NwFrag, 1), (Field::UdpSrc, 67), (Field::UdpDst, 68)];
    check(&ipv4(17, &fields), datagram("10.0.0.5", "10.0.0.10", 17, Upper::Unseen));
}

#[test]
fn arp_and_other_ethertypes_are_told_apart() {
    let announced = [
        (Field::DlType, 0x806),
        (Field::ArpSpa, bits("10.0.0.9")),
        (Field::ArpSha, u128::from(mac("b").to_bits())),
    ];
    let arp = Arp { sender_mac: mac("b"), sender_ip: "10.0.0.9".parse().unwrap() };
    check(&key(&announced), Payload::Arp(arp));
    check(&key(&[(Field::DlType, 0x8035)]), Payload::Rarp);
    check(&key(&[(Field::DlType, 0x88cc)]), Payload::Other(0x88cc));
}

#[test]
fn a_priority_tag_is_no_vlan() {
    assert_eq!(Frame::from_key(&key(&[(Field::VlanTci, 0x1005)])).vlan, Some(5));
    assert_eq!(Frame::from_key(&key(&[(Field::VlanTci, 0xf000)])).vlan, None);
    assert_eq!(Frame::from_key(&key(&[])).vlan, None);
}

#[test]
fn bytes_show_what_a_key_cannot() {
    let syn = ipv4(6, &[(Field::TcpSrc, 1000), (Field::TcpDst, 22)]);
    let bytes = compose(&syn, &ComposeOptions::default());
    assert_eq!(Frame::from_wire(&bytes), Frame::from_key(&syn));
    let complaint = icmp_error(&bytes, &IcmpError::new(3, 1, bits("10.0.0.254"))).unwrap();
    let Frame { payload: Payload::Ip(datagram), .. } = Frame::from_wire(&complaint) else {
        panic!("no datagram")
    };
    assert!(matches!(datagram.upper, Upper::Icmp(_)));
    let Upper::Icmp(message) = datagram.upper else { return };
    assert!(is_error(&datagram.src, message.kind));
    let expected = Frame::from_key(&syn);
    assert_eq!(message.quoted.as_deref(), expected.datagram());
}

#[test]
fn cut_off_bytes_are_read_without_complaint() {
    let syn = ipv4(6, &[(Field::TcpSrc, 1000), (Field::TcpDst, 22)]);
    let bytes = compose(&syn, &ComposeOptions::default());
    let complaint = icmp_error(&bytes, &IcmpError::new(3, 1, bits("10.0.0.254"))).unwrap();
    for length in 0..complaint.len() {
        let _ = Frame::from_wire(&complaint[..length]);
    }
}

#[test]
fn an_error_about_a_later_fragment_names_no_connection() {
    let query = ipv4(17, &[(Field::UdpSrc, 1000), (Field::UdpDst, 53)]);
    let whole = compose(&query, &ComposeOptions { payload_len: 64, ..ComposeOptions::default() });
    let pieces = fragment(&whole, 32).unwrap();
    assert_eq!(pieces.len(), 2);
    let quotes = |piece: &[u8]| {
        let bytes = icmp_error(piece, &IcmpError::new(3, 1, bits("10.0.0.254"))).unwrap();
        let Payload::Ip(Datagram { upper: Upper::Icmp(message), .. }) = Frame::from_wire(&bytes).payload
        else {
            panic!("no ICMP")
        };
        message.quoted
    };
    assert_eq!(quotes(&pieces[0]).as_deref(), Frame::from_key(&query).datagram());
    assert_eq!(quotes(&pieces[1]), None);
}
