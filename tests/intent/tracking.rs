//! What proofs of agreement take for granted about connection tracking is what it does: which ICMP messages open
//! connections, answer them, report errors about them.

use super::support::flows;
use flowproof_packet::{
    Field, FlowKey,
    build::{ComposeOptions, compose},
};
use flowproof_switch::{
    conntrack::Profile,
    pipeline::{PortConfig, Switch, SwitchConfig},
    table::Tables,
};
use std::{collections::BTreeSet, sync::Arc};

/// Everything is committed; port 11 gets what is new or goes on, 12 what answers, 13 what is related.
const WATCHED: &str = "\
table=0,ip actions=ct(table=1)
table=0,ipv6 actions=ct(table=1)
table=1,priority=2,ct_state=+new,ip actions=ct(commit),output:11
table=1,priority=2,ct_state=+new,ipv6 actions=ct(commit),output:11
table=1,priority=2,ct_state=+est-rpl actions=output:11
table=1,priority=2,ct_state=+est+rpl actions=output:12
table=1,priority=2,ct_state=+rel actions=output:13
table=1,priority=1 actions=drop";

fn message(v6: bool, back: bool, kind: u8, code: u8) -> Vec<u8> {
    let mut key = FlowKey::default();
    key.set(Field::DlSrc, 0x0200_0000_0001);
    key.set(Field::DlDst, 0x0200_0000_0002);
    let (from, to) = if back { (2u128, 1) } else { (1, 2) };
    if v6 {
        key.set(Field::DlType, 0x86dd);
        key.set(Field::Ipv6Src, 0xfd00 << 112 | from);
        key.set(Field::Ipv6Dst, 0xfd00 << 112 | to);
    } else {
        key.set(Field::DlType, 0x0800);
        key.set(Field::NwSrc, 0x0a00_0000 | from);
        key.set(Field::NwDst, 0x0a00_0000 | to);
    }
    key.set(Field::NwProto, if v6 { 58 } else { 1 });
    key.set(Field::NwTtl, 64);
    key.set(Field::TcpSrc, kind.into());
    key.set(Field::TcpDst, code.into());
    compose(&key, &ComposeOptions::default())
}

/// The types and codes that come out at each port, before and after queries of each type.
fn seen(profile: Profile, v6: bool) -> [BTreeSet<(u8, u8)>; 3] {
    let mut seen = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
    let tables = Arc::new(Tables::new(flows(WATCHED)));
    let ports = [1, 11, 12, 13].map(PortConfig::trunk).to_vec();
    for kind in 0..=u8::MAX {
        for code in 0..3 {
            let config = SwitchConfig { profile, ..SwitchConfig::new(ports.clone()) };
            let mut switch = Switch::new(Arc::clone(&tables), config);
            for back in [false, true] {
                for (port, _) in switch.receive_traced(1, &message(v6, back, kind, code)).delivered() {
                    seen[usize::from(port - 11)].insert((kind, code));
                }
                for query in [8, 13, 15, 17, 128] {
                    switch.receive_traced(1, &message(v6, false, query, 0));
                }
            }
        }
    }
    seen
}

#[test]
fn queries_open_answers_answer_and_nothing_else_is_part_of_a_connection() {
    for profile in Profile::ALL {
        for (v6, queries, answers) in
            [(false, &[8u8, 13, 15, 17][..], &[0u8, 14, 16, 18][..]), (true, &[128, 139], &[129, 140])]
        {
            let [opening, answering, related] = seen(profile, v6);
            let discovery = |kind: u8| v6 && ((130..=137).contains(&kind) || kind == 143);
            let odd = |(kind, code): &&(u8, u8)| {
                !queries.contains(kind) || profile == Profile::Userspace31 && *code != 0
            };
            // Neighbour discovery is its own matter: see `legal_answers`.
            let wrong: Vec<_> = opening.iter().filter(odd).filter(|(kind, _)| !discovery(*kind)).collect();
            assert!(wrong.is_empty(), "{profile:?} {v6}: {wrong:?} open connections");
            assert!(opening.iter().any(|(kind, _)| queries.contains(kind)));
            assert!(
                answering.iter().all(|(kind, _)| answers.contains(kind)),
                "{profile:?} {v6}: {answering:?}"
            );
            assert!(!answering.is_empty() && related.is_empty());
        }
    }
}
