//! Known divergences of the layout `strict` excuse what is documented and nothing else: defects of how replies and
//! errors are judged are planted in its tables, and random scenarios notice them.

use flowproof_compiler::Layout;
use flowproof_fuzz::campaign::{Subject, draw};
use flowproof_lockstep::{Ending, Patch, parse, play};
use flowproof_packet::Field;
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
    let subject = Subject::Layout(Layout::Strict);
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

#[test]
fn without_a_defect_the_same_scenarios_show_nothing() {
    assert_eq!(first_unknown(&Patch::default(), 300), None);
}
