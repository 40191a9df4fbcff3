//! Tables that Neutron's own driver wrote, and the intents it wrote them for: where they differ is known by name.

use super::support::{bind, corpus, flows, lines, policy};
use flowproof_compiler::{Layout, Options, compile, text};
use flowproof_model::policy::Direction;
use flowproof_packet::{Field, FlowKey, wire};
use flowproof_proofs::{
    check::Judgement,
    intent::{COMPLETE, IntentFinding, SOUND},
};
use flowproof_switch::conntrack::Profile;

const ALL: &[Profile] = &Profile::ALL;
const KERNEL: &[Profile] = &[Profile::Kernel];
const USERSPACE: &[Profile] = &[Profile::Userspace31];

/// Every verdict on a case that is not `proved`: the line, and what the frames that show it have in common.
type Known = (&'static str, fn(&FlowKey, bool) -> bool);

fn icmpv6(key: &FlowKey, kind: u128) -> bool {
    (key.get(Field::DlType), key.get(Field::NwProto), key.get(Field::Icmpv6Type)) == (0x86dd, 58, kind)
}

/// No flow of 2016 lets router solicitations through, nor their answers in: connection tracking calls them invalid.
const NO_ROUTERS: [Known; 2] = [
    ("intent-complete 5 egress remote refuted", |key, _| icmpv6(key, 133)),
    ("intent-complete 5 ingress remote refuted", |key, _| icmpv6(key, 134)),
];

/// Router solicitations and RARP go to NORMAL, and so around the receiver's ingress.
fn goes_around(key: &FlowKey, _: bool) -> bool {
    key.get(Field::DlType) == 0x8035 || icmpv6(key, 133)
}

#[track_caller]
fn check(case: &super::support::Case, profiles: &[Profile], known: &[Known]) -> Vec<IntentFinding> {
    let findings = case.judge(&[&SOUND, &COMPLETE], profiles);
    let other: Vec<String> =
        lines(case, &findings).into_iter().filter(|line| !line.ends_with(" proved")).collect();
    let mut expected: Vec<&str> = known.iter().map(|(line, _)| *line).collect();
    expected.sort_unstable();
    assert_eq!(other, expected);
    for of in &findings {
        let Judgement::Refuted(replay) = &of.finding.judgement else { continue };
        let line = lines(case, std::slice::from_ref(of)).remove(0);
        let (_, shows) = known.iter().find(|(known, _)| *known == line).unwrap();
        let fragmented = replay.events.len() - replay.prelude > 1;
        let key = wire::extract(&replay.datagram, 0);
        assert!(shows(&key, fragmented), "{line}: {key:?}");
    }
    findings
}

#[track_caller]
fn check_corpus(release: &str, name: &str, profiles: &[Profile], known: &[Known]) {
    check(&corpus(release, name), profiles, known);
}

/// LP 1625516: a protocol that is not `tcp`, `udp` or `icmp` by name became any protocol.
#[test]
fn mitaka_loses_protocols() {
    let lost: Known = ("intent-sound 5 ingress remote refuted", |key, _| key.get(Field::NwProto) == 6);
    check_corpus("8.1.0", "09_protocol_numbers", KERNEL, &[&NO_ROUTERS[..], &[lost]].concat());
}

/// LP 1708358: ICMP rules admitted every type.
#[test]
fn mitaka_loses_icmp_types() {
    let lost: Known = ("intent-sound 5 ingress remote refuted", |key, _| {
        key.get(Field::NwProto) == 1 && key.get(Field::Icmpv4Type) != 8
    });
    check_corpus("8.1.0", "07_icmp_type_code", KERNEL, &[&NO_ROUTERS[..], &[lost]].concat());
}

/// LP 1697593: what is for the MAC of an address pair is not filtered at all.
#[test]
fn mitaka_does_not_know_the_macs_of_address_pairs() {
    let mut policy = policy("27_no_rules");
    let other = "00:00:5e:00:01:33".parse().unwrap();
    let port = policy.ports.values_mut().next().unwrap();
    port.address_pairs
        .push(flowproof_model::policy::AddressPair { mac: other, prefix: "10.0.1.201/32".parse().unwrap() });
    let host = policy.host.clone().unwrap();
    let compiled = compile(&policy, &host, Layout::Mitaka, &Options::default());
    let case = bind(policy, flows(&text(&compiled, false)));
    assert_eq!(case.recognised.layout, Layout::Mitaka);
    let findings = case.judge(&[&SOUND], KERNEL);
    let unfiltered = findings.iter().find_map(|of| match &of.finding.judgement {
        Judgement::Refuted(replay) if of.direction == Direction::Ingress => Some(replay),
        _ => None,
    });
    assert_eq!(
        wire::extract(&unfiltered.unwrap().datagram, 0).get(Field::DlDst),
        u128::from(other.to_bits())
    );
}

#[test]
fn today_senders_reach_their_neighbours_around_ingress() {
    let around: [Known; 2] = [
        ("intent-sound 10 egress local-filtered refuted", goes_around),
        ("intent-sound 13 egress local-filtered refuted", goes_around),
    ];
    check_corpus("29.0.0", "01_seed_scenario", ALL, &around);
}

/// Where fragments are not reassembled they show type 0, which a rule for echo replies admits.
#[test]
fn today_fragments_pass_as_echo_replies_in_userspace() {
    let zero: Known = ("intent-sound 5 ingress remote refuted", |key, fragmented| {
        fragmented && key.get(Field::NwProto) == 1 && key.get(Field::Icmpv4Type) != 0
    });
    check_corpus("29.0.0", "07_icmp_type_code", USERSPACE, &[zero]);
    check_corpus("29.0.0", "07_icmp_type_code", KERNEL, &[]);
}

/// A fragment of an IPv6 datagram shows an extension header instead of the protocol that a rule names. Rules for those
/// headers (43, 44, 60) so admit fragments of anything, of connections that rules admitted once.
#[test]
fn today_fragments_hide_their_protocol_in_userspace() {
    let hidden: Known = ("intent-complete 5 ingress remote refuted", |key, fragmented| {
        fragmented && key.get(Field::DlType) == 0x86dd
    });
    let passing: Known = ("intent-sound 5 ingress remote refuted", |key, fragmented| {
        fragmented && key.get(Field::DlType) == 0x86dd
    });
    check_corpus("29.0.0", "09_protocol_numbers", USERSPACE, &[hidden, passing]);
    check_corpus("29.0.0", "09_protocol_numbers", KERNEL, &[]);
}

#[test]
fn today_supported_rules_are_sound_and_complete() {
    for name in [
        "02_ipv4_only",
        "08_icmpv6",
        "11_cidr_v4",
        "18_remote_group_3",
        "23_remote_address_groups",
        "27_no_rules",
        "36_permitted_ethertypes",
    ] {
        let case = corpus("29.0.0", name);
        assert_eq!(case.recognised.layout, Layout::Neutron, "{name}");
        let findings = case.judge(&[&SOUND, &COMPLETE], KERNEL);
        let wrong: Vec<String> =
            lines(&case, &findings).into_iter().filter(|line| !line.ends_with(" proved")).collect();
        let around = |line: &String| {
            line.ends_with("egress local-filtered refuted") && line.starts_with("intent-sound")
        };
        assert!(wrong.iter().all(around), "{name}: {wrong:#?}");
    }
}

/// What a layout cannot express is listed, under the rule's id.
#[test]
fn unsupported_rules_are_listed() {
    let case = corpus("29.0.0", "25_stateless");
    let listed: Vec<_> =
        case.recognised.unsupported.iter().map(|of| (of.object, of.consequence.name())).collect();
    assert!(listed.contains(&("security group", "widened")), "{listed:?}");
    assert!(corpus("29.0.0", "25b_stateful_twin").recognised.unsupported.is_empty());
    let protocols = corpus("29.0.0", "09_protocol_numbers").recognised.unsupported;
    assert!(protocols.iter().all(|of| of.object == "rule") && !protocols.is_empty(), "{protocols:?}");
}
