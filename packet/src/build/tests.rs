//! Laws of composing, fragmenting and quoting.

use super::*;
use crate::{Field, FlowKey, wire};
use proptest::prelude::*;

/// What a generated key is of.
#[derive(Clone, Copy, Debug)]
enum Kind {
    V4,
    V6,
    Arp(u16),
    Mpls(u16),
    Other(u16),
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        5 => Just(Kind::V4),
        5 => Just(Kind::V6),
        1 => prop::sample::select(vec![0x0806, 0x8035]).prop_map(Kind::Arp),
        1 => prop::sample::select(vec![0x8847, 0x8848]).prop_map(Kind::Mpls),
        1 => prop::sample::select(vec![0x05ff, 0x0600, 0x8100, 0x88a8, 0x88cc, 0xffff]).prop_map(Kind::Other),
    ]
}

/// Values that hit: zero, ones, a few in between.
fn value(width: u16) -> impl Strategy<Value = u128> {
    let all = u128::MAX >> (128 - width);
    prop_oneof![1 => Just(0), 1 => Just(all), 6 => any::<u128>().prop_map(move |value| value & all)]
}

/// Keys of well-formed frames: every field is there that the packet has, and no other.
pub(crate) fn well_formed_keys() -> impl Strategy<Value = FlowKey> {
    let numbers = prop::collection::vec(value(128), 24);
    let protocol = prop::sample::select(vec![1u8, 2, 6, 6, 17, 17, 58, 58, 58, 132, 47, 50, 59, 255]);
    let nd = prop::sample::select(vec![135u8, 135, 136, 136, 128, 134, 143, 1]);
    (kinds(), numbers, protocol, nd, prop::sample::select(vec![0u8, 0, 1, 3]), 0..3u8).prop_map(
        |(kind, numbers, protocol, icmp6, frag, tag)| {
            let mut source = numbers.into_iter().cycle();
            let mut key = FlowKey::default();
            let mut fill = |key: &mut FlowKey, fields: &[Field]| {
                fields.iter().for_each(|field| key.set(*field, source.next().unwrap()));
            };
            fill(&mut key, &[Field::DlSrc, Field::DlDst]);
            if tag != 0 {
                fill(&mut key, &[Field::VlanTci]);
                key.set_masked(Field::VlanTci, 0x1000, 0x1000);
                key.set(Field::VlanTpid, if tag == 1 { 0x8100 } else { 0x88a8 });
            }
            match kind {
                Kind::V4 | Kind::V6 => {
                    ip(&mut key, matches!(kind, Kind::V6), protocol, icmp6, frag, &mut fill)
                }
                Kind::Arp(dl_type) => {
                    key.set(Field::DlType, u128::from(dl_type));
                    fill(
                        &mut key,
                        &[Field::ArpOp, Field::ArpSpa, Field::ArpTpa, Field::ArpSha, Field::ArpTha],
                    );
                }
                Kind::Mpls(dl_type) => {
                    key.set(Field::DlType, u128::from(dl_type));
                    fill(&mut key, &[Field::MplsLabel, Field::MplsTc, Field::MplsBos, Field::MplsTtl]);
                }
                Kind::Other(dl_type) => key.set(Field::DlType, u128::from(dl_type)),
            }
            key
        },
    )
}

fn ip(
    key: &mut FlowKey,
    v6: bool,
    protocol: u8,
    icmp6: u8,
    frag: u8,
    fill: &mut dyn FnMut(&mut FlowKey, &[Field]),
) {
    fill(key, &[Field::NwTos, Field::NwTtl]);
    key.set(Field::NwFrag, u128::from(frag));
    key.set(Field::NwProto, u128::from(if v6 && frag == 3 { 44 } else { protocol }));
    if v6 {
        key.set(Field::DlType, 0x86dd);
        fill(key, &[Field::Ipv6Src, Field::Ipv6Dst, Field::Ipv6Label]);
    } else {
        key.set(Field::DlType, 0x0800);
        fill(key, &[Field::NwSrc, Field::NwDst]);
    }
    if frag == 3 {
        return;
    }
    match protocol {
        6 => fill(key, &[Field::TcpSrc, Field::TcpDst, Field::TcpFlags]),
        17 | 132 => fill(key, &[Field::TcpSrc, Field::TcpDst]),
        1 | 2 => fill(key, &[Field::Icmpv4Type, Field::Icmpv4Code]),
        58 if !v6 => key.set(Field::Icmpv6Type, 200),
        58 if icmp6 == 135 || icmp6 == 136 => {
            key.set(Field::Icmpv6Type, u128::from(icmp6));
            fill(key, &[Field::NdTarget, Field::NdSll, Field::NdTll, Field::NdReserved]);
            let first = match (key.get(Field::NdSll), key.get(Field::NdTll)) {
                (0, 0) => 0,
                (0, _) => 2,
                _ => 1,
            };
            key.set(Field::NdOptionsType, first);
        }
        58 => {
            key.set(Field::Icmpv6Type, u128::from(icmp6));
            fill(key, &[Field::Icmpv6Code]);
        }
        _ => {}
    }
}

pub(crate) fn options() -> impl Strategy<Value = ComposeOptions> {
    (0..200usize, any::<u32>(), any::<u16>(), any::<bool>(), prop::sample::select(vec![6u8, 17, 58, 60, 43]))
        .prop_map(|(payload_len, id, offset, more_fragments, fragment_protocol)| ComposeOptions {
            payload_len,
            id,
            fragment_offset: offset & 0x7fff,
            more_fragments,
            fragment_protocol,
            seq: id,
            ..ComposeOptions::default()
        })
}

/// An IP datagram that is no fragment, without Ethernet padding.
fn datagrams() -> impl Strategy<Value = Vec<u8>> {
    (well_formed_keys(), options(), 0..600usize)
        .prop_filter("IP, whole", |(key, ..)| {
            matches!(key.get(Field::DlType), 0x0800 | 0x86dd) && key.get(Field::NwFrag) == 0
        })
        .prop_map(|(key, opts, payload_len)| {
            compose(&key, &ComposeOptions { payload_len, min_frame_len: 0, ..opts })
        })
}

proptest! {
    #[test]
    fn extract_after_compose_is_the_identity(key in well_formed_keys(), opts in options()) {
        let frame = compose(&key, &opts);
        prop_assert_eq!(wire::extract(&frame, 0), key, "{:02x?}", frame);
    }

    #[test]
    fn composed_checksums_are_right(key in well_formed_keys(), opts in options()) {
        let frame = compose(&key, &opts);
        if let Some(l3) = wire::l3(&frame) {
            prop_assert!(wire::ipv4_header_checksum_ok(&l3));
            prop_assert!(wire::l4_checksum_ok(&l3));
            prop_assert!(wire::sctp_checksum_ok(&l3));
        }
    }

    #[test]
    fn another_parser_finds_composed_frames_sound(mut key in well_formed_keys(), opts in options()) {
        // It does not keep the reserved bits, and reads extension headers even in the middle of a datagram.
        key.set_masked(Field::TcpFlags, 0, 0xe00);
        let frame = compose(&key, &ComposeOptions { min_frame_len: 0, fragment_protocol: 17, ..opts });
        let sliced = etherparse::SlicedPacket::from_ethernet(&frame);
        prop_assume!(!matches!(key.get(Field::DlType), 0x8100 | 0x88a8));
        // It looks for as many sources or records as the body of an IGMP message says, where we have any bytes.
        let counts = key.get(Field::NwProto) == 2 && matches!(key.get(Field::TcpSrc), 0x11 | 0x22);
        prop_assume!(!counts);
        let sliced = sliced.map_err(|error| TestCaseError::fail(format!("{error}: {frame:02x?}")))?;
        let Some(transport) = sliced.transport else { return Ok(()) };
        let number = transport_number(&transport);
        if number == 0 {
            return Ok(());
        }
        prop_assert_eq!(u128::from(number), key.get(Field::NwProto));
        match sliced.net {
            Some(etherparse::NetSlice::Ipv4(ip)) => {
                let header = ip.header().to_header();
                prop_assert_eq!(header.calc_header_checksum(), header.header_checksum);
                prop_assert_eq!(Some(sum_v4(&transport, &header)), stated(&transport));
            }
            Some(etherparse::NetSlice::Ipv6(ip)) if key.get(Field::NwProto) != 1 => {
                prop_assert_eq!(Some(sum_v6(&transport, &ip.header().to_header())), stated(&transport));
            }
            _ => {}
        }
    }

    #[test]
    fn composed_fragments_lie_where_the_options_say(key in well_formed_keys(), opts in options()) {
        let frame = compose(&key, &opts);
        let Some(l3) = wire::l3(&frame) else { return Ok(()) };
        let later = key.get(Field::NwFrag) == 3;
        let expected = later.then_some((u32::from(opts.fragment_offset & !7).max(8), opts.more_fragments));
        let expected = expected.or((key.get(Field::NwFrag) == 1).then_some((0, true)));
        prop_assert_eq!(l3.fragment.map(|fragment| (fragment.offset, fragment.more)), expected);
        prop_assert!(!l3.reserved_fragment_bits && l3.faults.is_none());
        let held = l3.payload.len();
        prop_assert!(expected.is_none_or(|(_, more)| !more || held % 8 == 0), "{} bytes", held);
    }

    #[test]
    fn bad_checksums_are_bad_and_change_nothing_else(key in well_formed_keys(), opts in options()) {
        let good = compose(&key, &opts);
        let header = compose(&key, &ComposeOptions { bad_checksum: BadChecksum::IpHeader, ..opts.clone() });
        let upper = compose(&key, &ComposeOptions { bad_checksum: BadChecksum::Upper, ..opts });
        if let Some(l3) = wire::l3(&header) {
            prop_assert_eq!(wire::ipv4_header_checksum_ok(&l3), key.get(Field::DlType) == 0x86dd);
        }
        if let Some(l3) = wire::l3(&upper) {
            let summed = matches!(
                (l3.version, l3.protocol),
                (_, 6 | 17 | 132) | (wire::IpVersion::V4, 1) | (wire::IpVersion::V6, 58)
            );
            let ok = wire::l4_checksum_ok(&l3) && wire::sctp_checksum_ok(&l3);
            prop_assert_eq!(ok, !summed || l3.is_partial());
        }
        prop_assert_eq!(wire::extract(&header, 0), wire::extract(&good, 0));
        prop_assert_eq!(wire::extract(&upper, 0), wire::extract(&good, 0));
    }

    #[test]
    fn defragment_after_fragment_is_the_identity(
        frame in datagrams(), first in 0..400usize, next in prop::option::of(0..300usize), id: u32, order: u64,
    ) {
        let opts = FragmentOptions { first_payload: first, next_payload: next, id, extension: None };
        let payload = wire::l3(&frame).unwrap().payload.len();
        let Some(mut parts) = fragment_with(&frame, &opts) else {
            prop_assert!(payload <= first.max(8));
            return Ok(());
        };
        prop_assert!(parts.len() >= 2);
        for part in &parts {
            let l3 = wire::l3(part).unwrap();
            prop_assert!(l3.faults.is_none() && l3.is_partial() && wire::ipv4_header_checksum_ok(&l3));
        }
        let turn = order as usize % parts.len();
        parts.rotate_left(turn);
        prop_assert_eq!(defragment(&parts), Some(frame));
        let gone = parts.pop();
        prop_assert!(gone.is_some() && defragment(&parts).is_none());
    }

    #[test]
    fn fragments_of_one_datagram_have_one_key_but_for_ports_and_place(frame in datagrams(), first in 0..100usize) {
        let Some(parts) = fragment(&frame, first) else { return Ok(()) };
        let whole = wire::extract(&frame, 3);
        for (index, part) in parts.iter().enumerate() {
            let key = wire::extract(part, 3);
            prop_assert_eq!(key.get(Field::NwFrag), if index == 0 { 1 } else { 3 });
            for field in [Field::NwSrc, Field::NwDst, Field::Ipv6Src, Field::Ipv6Dst, Field::NwTtl, Field::DlSrc] {
                prop_assert_eq!(key.get(field), whole.get(field));
            }
        }
    }

    #[test]
    fn an_icmp_error_is_sound_and_quotes_the_packet(frame in datagrams(), quote in prop::option::of(0..2000usize)) {
        let inner = wire::l3(&frame).unwrap();
        let error = IcmpError { quote, ..IcmpError::new(3, 1, 0x0a00_0001) };
        let made = icmp_error(&frame, &error).unwrap();
        let outer = wire::l3(&made).unwrap();
        prop_assert!(outer.faults.is_none() && wire::l4_checksum_ok(&outer));
        prop_assert!(wire::ipv4_header_checksum_ok(&outer));
        prop_assert_eq!((outer.src, outer.dst), (0x0a00_0001, inner.src));
        let body = wire::icmp(outer.payload).unwrap().body;
        prop_assert!(frame[inner.offset..].starts_with(body));
        let asked = quote.unwrap_or(if inner.version == wire::IpVersion::V4 { 576 - 28 } else { 1280 - 48 });
        prop_assert_eq!(body.len(), asked.min(inner.total_len()));
        let quoted = wire::inner_l3(inner.version, body);
        if body.len() >= inner.header.len() + 8 {
            prop_assert!(quoted.faults.is_none());
            prop_assert_eq!((quoted.src, quoted.dst, quoted.protocol), (inner.src, inner.dst, inner.protocol));
        }
    }
}

use etherparse::TransportSlice as Upper;

fn transport_number(upper: &Upper<'_>) -> u8 {
    match upper {
        Upper::Icmpv4(_) => 1,
        Upper::Tcp(_) => 6,
        Upper::Udp(_) => 17,
        Upper::Icmpv6(_) => 58,
        _ => 0,
    }
}

/// The checksum that the frame holds.
fn stated(upper: &Upper<'_>) -> Option<u16> {
    match upper {
        Upper::Icmpv4(icmp) => Some(icmp.checksum()),
        Upper::Tcp(tcp) => Some(tcp.checksum()),
        Upper::Udp(udp) => Some(udp.checksum()),
        Upper::Icmpv6(icmp) => Some(icmp.checksum()),
        _ => None,
    }
}

/// The checksum that etherparse would write.
fn sum_v4(upper: &Upper<'_>, ip: &etherparse::Ipv4Header) -> u16 {
    match upper {
        // Its messages do not keep all reserved bits; over the whole message the sum is then 0.
        Upper::Icmpv4(icmp) => {
            let whole = etherparse::checksum::Sum16BitWords::new().add_slice(icmp.slice());
            icmp.checksum() ^ whole.ones_complement()
        }
        Upper::Tcp(tcp) => tcp.to_header().calc_checksum_ipv4(ip, tcp.payload()).unwrap(),
        Upper::Udp(udp) => udp.to_header().calc_checksum_ipv4(ip, udp.payload()).unwrap(),
        _ => stated(upper).unwrap(),
    }
}

fn sum_v6(upper: &Upper<'_>, ip: &etherparse::Ipv6Header) -> u16 {
    match upper {
        Upper::Icmpv6(icmp) => {
            let right = icmp.is_checksum_valid(ip.source, ip.destination);
            icmp.checksum() ^ u16::from(!right)
        }
        Upper::Tcp(tcp) => tcp.to_header().calc_checksum_ipv6(ip, tcp.payload()).unwrap(),
        Upper::Udp(udp) => udp.to_header().calc_checksum_ipv6(ip, udp.payload()).unwrap(),
        _ => stated(upper).unwrap(),
    }
}

fn udp_over_ipv6(payload_len: usize) -> Vec<u8> {
    let mut key = FlowKey::default();
    for (field, value) in [
        (Field::DlType, 0x86dd),
        (Field::NwProto, 17),
        (Field::Ipv6Src, 1),
        (Field::Ipv6Dst, 2),
        (Field::UdpDst, 53),
    ] {
        key.set(field, value);
    }
    compose(&key, &ComposeOptions { payload_len, min_frame_len: 0, ..ComposeOptions::default() })
}

#[track_caller]
fn check_extension(extension: FragmentExtension, number: u8) {
    let frame = udp_over_ipv6(100);
    let opts = FragmentOptions { extension: Some(extension), ..FragmentOptions::two(24) };
    let parts = fragment_with(&frame, &opts).unwrap();
    let read: Vec<_> = parts.iter().map(|part| wire::l3(part).unwrap()).collect();
    assert_eq!((read[0].protocol, read[1].protocol), (17, number));
    assert_eq!(wire::extract(&parts[0], 0).get(Field::UdpDst), 53);
    let whole = defragment(&parts).unwrap();
    let whole = wire::l3(&whole).unwrap();
    assert!(whole.protocol == 17 && whole.payload.len() == 108 && wire::l4_checksum_ok(&whole));
}

#[test]
fn later_fragments_name_the_extension_header_that_was_added() {
    check_extension(FragmentExtension::DestinationOptions, 60);
    check_extension(FragmentExtension::Routing, 43);
}

#[test]
fn overlapping_strange_and_unfinished_trains_are_not_put_together() {
    let parts = fragment(&udp_over_ipv6(100), 48).unwrap();
    let other = fragment(&udp_over_ipv6(100), 56).unwrap();
    let foreign =
        fragment_with(&udp_over_ipv6(100), &FragmentOptions { id: 9, ..FragmentOptions::two(48) }).unwrap();
    assert!(defragment(&parts).is_some());
    assert_eq!(defragment(&[&parts[0]]), None);
    assert_eq!(defragment(&[&parts[1]]), None);
    assert_eq!(defragment(&[&other[0], &parts[1]]), None, "overlap");
    assert_eq!(defragment(&[&parts[0], &other[1]]), None, "gap");
    assert_eq!(defragment(&[&parts[0], &foreign[1]]), None, "other datagram");
    assert_eq!(defragment(&[&parts[0], &parts[1], &parts[1]]), None, "twice");
    assert_eq!(defragment(&[udp_over_ipv6(100)]), None, "no fragment at all");
    assert_eq!(defragment::<Vec<u8>>(&[]), None);
}

#[test]
fn options_that_are_not_to_be_copied_are_blanked_in_later_fragments() {
    let udp = [0, 7, 0, 9, 0, 24, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
    // Record route (7, not copied), no-operation, router alert (148, copied).
    let options = [7, 3, 4, 1, 148, 4, 0, 0];
    let mut header = vec![0x47, 0, 0, 52, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    header.extend(options);
    let sum = wire::checksum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    let frame = [&[2; 12][..], &[8, 0], &header, &udp].concat();
    let parts = fragment(&frame, 8).unwrap();
    assert_eq!(parts[0][34..42], options);
    assert_eq!(parts[1][34..42], [1, 1, 1, 1, 148, 4, 0, 0]);
    assert!(parts.iter().all(|part| wire::ipv4_header_checksum_ok(&wire::l3(part).unwrap())));
    assert_eq!(defragment(&parts), Some(frame));
}

#[test]
fn a_udp_checksum_that_comes_to_zero_is_written_as_ones() {
    let frame = udp_over_ipv6(8);
    let l3 = wire::l3(&frame).unwrap();
    let sum = wire::udp(l3.payload).unwrap().checksum;
    let base = wire::extract(&frame, 0);
    // Adding the checksum to a word that is zero makes the checksum zero.
    let mut now = base.clone();
    now.set(Field::UdpSrc, u128::from(sum));
    let written = wire::commit(&frame, &base, &now);
    assert_eq!(wire::udp(wire::l3(&written).unwrap().payload).unwrap().checksum, 0xffff);
    let opts = ComposeOptions { payload_len: 8, min_frame_len: 0, ..ComposeOptions::default() };
    assert_eq!(compose(&now, &opts), written);
}
