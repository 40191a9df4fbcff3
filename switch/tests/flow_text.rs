//! Packets as flow text: what is printed reads back as the same packet.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use flowproof_packet::{Field, FlowKey};
use flowproof_switch::flow::{key_to_text, parse_match};

/// The packet that has exactly the values a match names, and zero elsewhere.
fn packet(text: &str) -> FlowKey {
    let mut key = FlowKey::default();
    for word in parse_match(text).unwrap().words() {
        key.set_word(usize::from(word.word), word.value, u64::MAX);
    }
    key
}

#[track_caller]
fn check(text: &str) {
    let key = packet(text);
    assert_eq!(packet(&key_to_text(&key)), key, "{text} became {}", key_to_text(&key));
}

#[test]
fn packets_read_back_as_they_were_printed() {
    check("in_port=13,dl_src=fa:16:3e:e9:f9:c8,dl_dst=ff:ff:ff:ff:ff:ff,dl_type=0x88cc");
    check(
        "tcp,in_port=1,dl_vlan=1053,nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_ttl=64,nw_tos=16,nw_ecn=1,tp_src=9,tp_dst=22,tcp_flags=syn|ack",
    );
    check("udp6,ipv6_src=fe80::1,ipv6_dst=ff02::2,ipv6_label=0x12345,tp_src=546,tp_dst=547,nw_ttl=255");
    check("icmp,nw_src=1.2.3.4,nw_dst=4.3.2.1,icmp_type=8,icmp_code=0");
    check("icmp6,ipv6_src=fe80::1,icmp_type=135,icmp_code=0,nd_target=fe80::2,nd_sll=00:00:00:00:00:07");
    check("icmp6,ipv6_src=fe80::1,icmp_type=136,icmp_code=0,nd_target=fe80::2,nd_tll=00:00:00:00:00:07");
    check(
        "arp,arp_op=2,arp_spa=10.0.0.1,arp_tpa=10.0.0.2,arp_sha=00:00:00:00:00:01,arp_tha=00:00:00:00:00:02",
    );
    check("ip,nw_proto=47,nw_src=1.2.3.4,nw_frag=later");
    check("sctp,ct_state=est|trk,ct_mark=1,ct_zone=4095,reg5=0xd,metadata=7,nw_src=1.2.3.4,tp_dst=9");
    check("mpls,mpls_label=5,mpls_tc=1,mpls_bos=1,mpls_ttl=64");
}

/// `ofproto/trace` 3.1 takes this text; with `tp_src` it does not, since that is the name of TCP's ports.
#[test]
fn a_packet_is_told_with_all_its_headers() {
    let mut key =
        packet("udp,in_port=13,nw_src=0.0.0.0,nw_dst=255.255.255.255,nw_ttl=128,tp_src=68,tp_dst=67");
    key.set(Field::DlSrc, 0xfa16_3ee9_f9c8);
    key.set(Field::DlDst, 0xffff_ffff_ffff);
    assert_eq!(
        key_to_text(&key),
        "udp,in_port=13,vlan_tci=0x0000,dl_src=fa:16:3e:e9:f9:c8,dl_dst=ff:ff:ff:ff:ff:ff,nw_src=0.0.0.0,\
         nw_dst=255.255.255.255,nw_tos=0,nw_ecn=0,nw_ttl=128,udp_src=68,udp_dst=67"
    );
}
