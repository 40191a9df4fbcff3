//! What makes whole hosts fast, held to what it replaces.

use super::hosts;
use flowproof_packet::Field;
use flowproof_proofs::{
    bdd::Bdds,
    check::{self, Engines, Judgement, Task},
    diagram::Host,
    ports,
    predicate::Predicate,
    properties,
    set::PacketSets,
    symbolic::{self, Memory, Start},
    symkey::{Form, SymKey},
    tables::Tables,
    vlans,
};
use flowproof_switch::conntrack::Profile;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

/// Three ports of one network, as the current driver sets them up.
const THREE: &str = include_str!("../fixtures/corpus/29.0.0/45_setup_one_by_one.flows");

/// Where each flow is to be named, none stands for another one that does the same; else one stands for all.
#[test]
fn flows_that_are_alike_go_together_unless_each_is_to_be_named() {
    let text = "table=0,priority=1 actions=resubmit(,72)\n\
        table=72,priority=80,reg5=0,udp actions=resubmit(,80)\n\
        table=72,priority=70,reg5=0,tcp actions=resubmit(,80)\n\
        table=72,priority=70,reg5=0,tcp,nw_src=10.0.0.1 actions=resubmit(,81)\n\
        table=80 actions=output:5\n\
        table=81 actions=output:6\n";
    let tables = Tables::new(hosts::flows(text));
    let (profile, form) = (Profile::Kernel, Form::Whole);
    let ways = |each_flow: bool| {
        let mut sets = Bdds::with_limit(1_000_000);
        let (key, packets) =
            (SymKey::entering(9, form, flowproof_proofs::arrival::Arrival::Ordinary), sets.all());
        let start = Start { tables: &tables, profile, form, key, packets, enough: usize::MAX, each_flow };
        let run = symbolic::execute_with(&mut sets, &mut Memory::default(), start, None);
        assert_eq!(run.rivals.keys().map(|(a, b)| (a.0, b.0)).collect::<Vec<_>>(), [(2, 3)]);
        let way = |path| symbolic::flows_of(path).iter().map(|flow| flow.0).collect::<Vec<u32>>();
        run.events.iter().map(|event| way(&event.path)).collect::<BTreeSet<_>>()
    };
    assert_eq!(ways(true), BTreeSet::from([vec![0, 1, 4], vec![0, 2, 4], vec![0, 3, 5]]));
    assert_eq!(ways(false), BTreeSet::from([vec![0, 1, 4], vec![0, 3, 5]]));
}

fn verdicts(host: &Host, alone: bool) -> BTreeMap<(u16, &'static str, &'static str), &'static str> {
    let mut all = BTreeMap::new();
    let groups: Vec<Vec<_>> = match alone {
        true => host.ports.iter().map(|port| vec![port]).collect(),
        false => vec![host.ports.iter().collect()],
    };
    for ports in groups {
        let task = Task { ports, engines: Engines::Diagram, ..hosts::task(host) };
        for finding in check::check(&task).findings {
            let port = task.ports[finding.port].ofport;
            let key = (port, finding.property.name, finding.profile.name());
            all.insert(key, finding.judgement.name());
        }
    }
    all
}

#[test]
fn ports_judged_after_others_get_the_verdicts_they_get_alone() {
    for text in [THREE, hosts::corpus("8.1.0/29_three_networks_overlap")] {
        let host = hosts::host(text);
        assert!(host.ports.len() > 2);
        assert_eq!(verdicts(&host, false), verdicts(&host, true));
    }
}

/// A hole of one port is found there, though the port that its kind is judged by has none.
#[test]
fn what_one_port_keeps_another_must_keep_itself() {
    let clean = hosts::host(THREE);
    let (first, last) = (clean.ports[0].ofport, clean.ports.last().unwrap().ofport);
    let hole = format!("{THREE}\ntable=71,priority=200,in_port={last},reg5={last},arp actions=NORMAL\n");
    let host = hosts::host(&hole);
    let found = verdicts(&host, false);
    for profile in Profile::ALL.map(Profile::name) {
        assert_eq!(found[&(first, "spoofed-arp", profile)], "proved");
        assert_eq!(found[&(last, "spoofed-arp", profile)], "refuted");
    }
}

#[test]
fn a_hole_towards_a_stranger_is_found() {
    let text = format!(
        "{}\ntable=71,priority=200,in_port=13,dl_dst=02:00:00:00:aa:aa actions=NORMAL\n",
        hosts::SEED
    );
    let host = hosts::host(&text);
    let sender = host.ports.iter().filter(|port| port.ofport == 13).collect();
    let arp = properties::by_name("spoofed-arp").unwrap();
    let task = Task { ports: sender, properties: vec![arp], engines: Engines::Diagram, ..hosts::task(&host) };
    for finding in check::check(&task).findings {
        let Judgement::Refuted(replay) = finding.judgement else { panic!("{finding:?}") };
        let frame = &replay.events.last().unwrap().frame;
        assert_eq!(frame[..6], [2, 0, 0, 0, 0xaa, 0xaa]);
    }
}

/// Which ports of a host surely keep VLAN tags.
fn tags_kept(text: &str) -> usize {
    let host = hosts::host(text);
    let ports: Vec<_> = host.ports.iter().collect();
    let property = properties::by_name("vlan-escape").unwrap();
    let certain = check::with_deep_stack(|| {
        vlans::certain(&host, &ports, property, &[Profile::Kernel], &Predicate::never())
    });
    let task = Task {
        ports,
        properties: vec![property],
        profiles: vec![Profile::Kernel],
        engines: Engines::Diagram,
        ..hosts::task(&host)
    };
    for finding in check::check(&task).findings {
        let port = task.ports[finding.port].ofport;
        let sure = certain.contains(&(port, finding.profile));
        assert!(!sure || finding.judgement.name() == "proved", "{finding:?}");
    }
    certain.len()
}

#[test]
fn tags_are_surely_kept_only_where_they_are() {
    let ports = ports::derive(&hosts::flows(THREE)).len();
    assert_eq!(tags_kept(THREE), ports);
    let stripping = THREE.replace("actions=output:", "actions=strip_vlan,output:");
    assert!(stripping != THREE && tags_kept(&stripping) < ports);
    assert_eq!(tags_kept(hosts::SEED), 0);
}

/// Flows that differ in the destination only are halved until those are left that the packets can hit.
#[test]
fn many_receivers_are_found_among_each_other() {
    let mut text = String::new();
    for receiver in 0..75u64 {
        writeln!(text, "priority=9,dl_dst=02:00:00:00:01:{receiver:02x} actions=output:{}", receiver + 1)
            .unwrap();
    }
    let tables = Tables::new(hosts::flows(&text));
    let mut sets = Bdds::with_limit(1_000_000);
    let all = sets.all();
    let run = symbolic::execute(&mut sets, &tables, Profile::Kernel, Form::Whole, 999, all);
    assert_eq!(run.events.len(), 75);
    for wanted in [0u64, 37, 74] {
        let start = Predicate::is(Field::DlDst, 0x0200_0000_0100 + wanted).to_set(&mut sets);
        let run = symbolic::execute(&mut sets, &tables, Profile::Kernel, Form::Whole, 999, start);
        let exits: Vec<_> = run.events.iter().map(|event| (event.emit.clone(), event.packets)).collect();
        assert_eq!(exits, [(symbolic::Emit::Port(wanted as u16 + 1), start)]);
    }
}
