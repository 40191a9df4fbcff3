//! Known divergences of the layout `strict` excuse what is documented and nothing else: defects of how replies and
//! errors are judged are planted in its tables, and random scenarios notice them.

use flowproof_compiler::Layout;
use flowproof_fuzz::campaign::{Subject, draw};
use flowproof_lockstep::{Ending, Patch, parse, play};
use flowproof_packet::Field;
use flowproof_switch::conntrack::Profile;
use flowproof_switch::flow::{Flow, ParseOptions, parse_flows};

/// Bits of `ct_state` that are looked at: related, reply, invalid, tracked.
const LOOKED_AT: u128 = 4 | 8 | 16 | 32;
const REPLY: u128 = 32 | 8;
const ERROR_BACK: u128 = 32 | 8 | 4;
const ERROR_FORTH: u128 = 32 | 4;

/// Without the flows of a table for packets of this state.
fn dropping(table: u8, state: u128) -> Patch {
    let of_state = move |flow: &Flow| {
        let (value, mask) = flow.matching.get(Field::CtState);
        flow.table == table && (value, mask) == (state, LOOKED_AT)
    };
    Patch::new(move |flows| flows.into_iter().filter(|flow| !of_state(flow)).collect())
}

/// With a flow above the rules.
fn with(flow: &'static str) -> Patch {
    Patch::new(move |mut flows| {
        flows.extend(parse_flows(flow, &ParseOptions::default()).unwrap().flows);
        flows
    })
}

/// The number of the first case that shows what nobody knows.
fn first_unknown(patch: &Patch, most: u64) -> Option<u64> {
    let subject = Subject::Compiled(Layout::Strict, Profile::Userspace31);
    (0..most).find(|number| {
        let scenario = draw(&subject, 5, *number).unwrap().scenario;
        matches!(play(&scenario, subject.layout(), patch, |_, _| {}), Ok(Ending::Unknown(..)))
    })
}

#[track_caller]
fn check_noticed(defect: &str, patch: &Patch) {
    let found = first_unknown(patch, 300);
    assert!(found.is_some(), "nobody notices that {defect}");
}

#[test]
fn replies_and_errors_that_are_dropped_are_not_excused() {
    check_noticed("replies are dropped at their sender", &dropping(72, REPLY));
    check_noticed("replies are dropped at their receiver", &dropping(82, REPLY));
    check_noticed("errors that go back are dropped at their sender", &dropping(72, ERROR_BACK));
    check_noticed("errors that go back are dropped at their receiver", &dropping(82, ERROR_BACK));
    check_noticed("errors that go forth are dropped at their receiver", &dropping(82, ERROR_FORTH));
}

#[test]
fn replies_and_errors_that_pass_without_rules_are_not_excused() {
    let lets_pass = [
        (
            "replies pass at their sender",
            "table=72,priority=90,ct_state=+rpl-rel-inv+trk,ip actions=resubmit(,73)",
        ),
        (
            "replies pass at their receiver",
            "table=82,priority=90,ct_state=+rpl-rel-inv+trk,ip actions=resubmit(,83)",
        ),
    ];
    for (defect, flow) in lets_pass {
        check_noticed(defect, &with(flow));
    }
}

/// What a participant reports of a connection that the rules of one end no longer admit; no random scenario is soon so
/// unkind.
const REVOKED: &str = "layout strict
network a vlan 1053 physnet1
uplink 1 provider physnet1
group client
  rule out egress IPv4 any
group server
  rule in ingress IPv4 udp
port client a mac fa:16:3e:00:00:01 ofport 11 vlan 1 ip 10.0.0.1 group client
port server a mac fa:16:3e:00:00:02 ofport 12 vlan 1 ip 10.0.0.2 group server

packet client > server udp,tp_src=4000,tp_dst=53
remove-rule RULE
error server 3/3
  expect reason revoked
";

#[test]
fn errors_of_revoked_connections_are_not_excused() {
    let lets_pass = [
        ("in", "table=72,priority=90,ct_state=+rel-inv+trk,ip actions=resubmit(,73)"),
        ("out", "table=82,priority=90,ct_state=+rel-inv+trk,ip actions=resubmit(,83)"),
    ];
    for (rule, flow) in lets_pass {
        let scenario = parse(&REVOKED.replace("RULE", rule)).unwrap();
        let ending = |patch: &Patch| play(&scenario, Some(Layout::Strict), patch, |_, _| {}).unwrap();
        assert!(!ending(&Patch::default()).is_unknown(), "without {rule}");
        assert!(ending(&with(flow)).is_unknown(), "without {rule}");
    }
}

/// Two ports here whose rules admit a protocol of whose ports connection tracking in userspace takes no note, and nothing else.
const TALK: &str = "layout LAYOUT
network a vlan 1053 physnet1
uplink 1 provider physnet1
group client
  rule out egress IPv4 132
group server
  rule in ingress IPv4 132 53
port client a mac fa:16:3e:00:00:01 ofport 11 vlan 1 ip 10.0.0.1 group client
port server a mac fa:16:3e:00:00:02 ofport 12 vlan 1 ip 10.0.0.2 group server
port peer a mac fa:16:3e:00:00:63 ip 10.0.0.3

";

/// A defect that shows in a talk between the two, and nothing without it.
#[track_caller]
fn check_seen(layout: Layout, packets: &str, flow: &'static str) {
    check_seen_under(TALK, layout, packets, flow);
}

#[track_caller]
fn check_seen_under(policy: &str, layout: Layout, packets: &str, flow: &'static str) {
    let text = policy.replace("LAYOUT", layout.name()) + packets;
    let scenario = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let ending = |patch: &Patch| play(&scenario, Some(layout), patch, |_, _| {}).unwrap();
    assert!(!ending(&Patch::default()).is_unknown(), "{layout:?} without `{flow}`");
    assert!(ending(&with(flow)).is_unknown(), "{layout:?}: nobody notices `{flow}`");
}

/// Where two addresses have one connection only, nothing is mistaken for another's.
#[test]
fn one_connection_of_a_protocol_without_ports_is_not_excused() {
    let opened = "packet client > server sctp,sctp_src=4000,sctp_dst=53\n";
    let answered = format!("{opened}packet server > client sctp,sctp_src=53,sctp_dst=4000\n");
    let refused = "packet client > server sctp,sctp_src=4000,sctp_dst=54\n";
    // The driver of 2016 makes any port of the rule.
    for layout in [Layout::Neutron, Layout::Strict] {
        check_seen(layout, &answered, "table=72,priority=95,ct_state=+rpl+trk,ip,nw_proto=132 actions=drop");
        check_seen(
            layout,
            refused,
            "table=82,priority=95,ct_state=+new+trk,ip,nw_proto=132,reg5=12 actions=output:12",
        );
        check_seen(
            layout,
            opened,
            "table=82,priority=95,ct_state=+new+trk,ip,nw_proto=132,reg5=12 actions=output:12",
        );
    }
}

/// Of what passes without a rule only DHCP in fragments is tracked, and only where rules let it pass, too.
#[test]
fn what_no_rule_lets_pass_in_fragments_is_not_excused() {
    let request = "packet client > peer udp,tp_src=68,tp_dst=67 payload=1600 fragment=1400\n";
    let text = "table=71,priority=99,ip,in_port=11 actions=mod_vlan_vid:1,ct(commit,zone=1),output:1";
    // The driver of 2016 would make any protocol of a number.
    let policy = TALK.replace("egress IPv4 132", "egress IPv4 tcp");
    for layout in Layout::ALL {
        check_seen_under(&policy, layout, request, text);
    }
}

/// A port with an address pair of another MAC, one whose rules let nothing out, and an uplink of another network.
const ELSEWHERE: &str = "layout LAYOUT
network a vlan 1053 physnet1
uplink 1 provider physnet1
uplink 2 tunnel
group open
  rule in ingress IPv4 tcp 22
group shut
port pair a mac fa:16:3e:00:00:01 ofport 11 vlan 1 ip 10.0.0.1 pair fa:16:3e:00:00:11 10.0.0.11 group open
port shut a mac fa:16:3e:00:00:02 ofport 12 vlan 1 ip 10.0.0.2 group shut

";

/// The layout of 2016 does not ask the receiver of what is for the MAC of a pair; the sender it does.
#[test]
fn what_a_sender_may_not_send_to_the_mac_of_a_pair_is_not_excused() {
    let refused =
        "packet shut > pair tcp,dl_dst=fa:16:3e:00:00:11,nw_dst=10.0.0.11,tcp_src=4000,tcp_dst=22\n";
    let lets_pass = "table=72,priority=95,ip,reg5=12 actions=resubmit(,73)";
    check_seen_under(ELSEWHERE, Layout::Mitaka, refused, lets_pass);
}

/// What `NORMAL` has learned explains nothing of what is for everybody, or what it has in another VLAN.
#[test]
fn what_normal_looks_for_in_the_wrong_place_is_not_excused() {
    let asks = "packet open > pair arp,arp_op=1,dl_dst=ff:ff:ff:ff:ff:ff\n";
    let policy = ELSEWHERE.replace(
        "port shut a",
        "port open a mac fa:16:3e:00:00:03 ofport 13 vlan 1 ip 10.0.0.3\nport shut a",
    );
    let astray = "table=0,priority=200,in_port=13 actions=mod_vlan_vid:9,NORMAL";
    for layout in [Layout::Mitaka, Layout::Neutron] {
        check_seen_under(&policy, layout, asks, astray);
        check_seen_under(&policy, layout, "packet open > pair arp\n", astray);
    }
}

/// What has the VLAN of a network is in it, whichever bridge it comes from, and meets the rules there.
#[test]
fn what_no_rule_lets_pass_under_a_local_vlan_is_not_excused() {
    let frame = |vlan: u16, port: u16| {
        format!(
            "packet uplink:2 dl_vlan={vlan},dl_src=fa:16:3e:00:00:63,dl_dst=fa:16:3e:00:00:01,tcp,\
             nw_src=10.0.0.3,nw_dst=10.0.0.1,tcp_src=4000,tcp_dst={port}\n"
        )
    };
    let lets_pass = "table=82,priority=95,tcp,reg5=11,tp_dst=25 actions=strip_vlan,output:11";
    for (layout, vlan) in [(Layout::Mitaka, 1), (Layout::Neutron, 1), (Layout::Neutron, 1053)] {
        check_seen_under(ELSEWHERE, layout, &(frame(vlan, 22) + &frame(vlan, 25)), lets_pass);
    }
}

/// A kernel finds a connection established whose beginning it has not seen. What begins one is new to it then, as long as
/// nobody has answered, and opens none.
const FOUND: &str = "layout LAYOUT
datapath kernel
network a vlan 1053 physnet1
uplink 1 provider physnet1
group g
  rule out egress IPv4 any
port vm a mac fa:16:3e:00:00:01 ofport 11 vlan 1 ip 10.0.0.1 group g
port peer a mac fa:16:3e:00:00:05

packet vm > peer tcp,tcp_src=4000,tcp_dst=80,tcp_flags=+ack
remove-rule out
packet vm > peer tcp,tcp_src=4000,tcp_dst=80
packet peer > vm tcp,tcp_src=80,tcp_dst=4000,tcp_flags=+ack
";

#[test]
fn what_is_new_to_a_kernel_takes_no_established_connections_place() {
    for layout in Layout::ALL {
        let scenario = parse(&FOUND.replace("LAYOUT", layout.name())).unwrap();
        let ending = play(&scenario, Some(layout), &Patch::default(), |_, _| {}).unwrap();
        assert!(!ending.is_unknown(), "{layout:?}");
    }
}

#[test]
fn without_a_defect_the_same_scenarios_show_nothing() {
    assert_eq!(first_unknown(&Patch::default(), 300), None);
}
