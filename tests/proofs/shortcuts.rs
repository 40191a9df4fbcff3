//! What makes whole hosts fast, held to what it replaces.

use super::{hosts, rng::Rng};
use flowproof_fuzz::tables::{self as random_flows, Spice};
use flowproof_packet::Field;
use flowproof_proofs::{
    bdd::Bdds,
    check::{self, Engines, Judgement, Task},
    diagram::Host,
    hygiene::{Hygiene, examine, examine_slowly},
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

/// The two say the same of a table; how long its ways are the fast one may overstate.
#[track_caller]
fn sweeps_alike(text: &str) -> Hygiene {
    let tables = Tables::new(hosts::flows(text));
    let (fast, slow) = (examine(&tables), examine_slowly(&tables));
    assert_eq!((fast.complete, fast.exceeds_limits), (slow.complete, slow.exceeds_limits), "{text}");
    assert_eq!(fast.rivals, slow.rivals, "{text}");
    assert_eq!(fast.dead, slow.dead, "{text}");
    let (a, b) = (fast.longest, slow.longest);
    assert!(
        fast.exceeds_limits
            || (a.calls >= b.calls && a.depth >= b.depth && a.recirculations >= b.recirculations),
        "{a:?} {b:?} {text}"
    );
    fast
}

#[test]
fn a_sweep_finds_what_going_every_way_finds() {
    let mut found = [0; 4];
    check::with_deep_stack(|| {
        for name in ["29.0.0/18_remote_group_3", "29.0.0/22_remote_group_priorities"] {
            sweeps_alike(hosts::corpus(name));
        }
        let mut rng = Rng::new(77);
        for _ in 0..120 {
            let text = random_flows::text(&mut rng, Spice::default());
            let hygiene = sweeps_alike(&text);
            let cases = [
                hygiene.dead.is_empty(),
                !hygiene.dead.is_empty(),
                !hygiene.rivals.is_empty(),
                hygiene.exceeds_limits,
            ];
            for (count, case) in found.iter_mut().zip(cases) {
                *count += usize::from(case);
            }
        }
    });
    assert!(found[1] > 20 && found[2] > 5, "alive, dead, rivals, without end: {found:?}");
}

#[test]
fn a_loop_is_found_by_a_sweep() {
    let hygiene =
        check::with_deep_stack(|| sweeps_alike("actions=resubmit(,1)\ntable=1,ip actions=resubmit(,0)\n"));
    assert!(hygiene.exceeds_limits);
}

/// Each datapath answers some packets otherwise: what one has followed was not followed for another.
#[test]
fn what_only_one_datapath_does_is_not_dead() {
    let discovery = "table=0,priority=10,icmp6,icmp_type=135 actions=ct(table=1)\n\
        table=1,priority=10,ct_state=+new+trk,icmp6,icmp_type=135 actions=output:1\n";
    let mut often = String::new();
    for table in 0..7 {
        writeln!(often, "table={table},tcp,tp_dst=80 actions=ct(table={})", table + 1).unwrap();
    }
    often.push_str("table=7 actions=output:1\n");
    for text in [discovery, &often] {
        let hygiene = check::with_deep_stack(|| sweeps_alike(text));
        assert!(hygiene.complete && hygiene.dead.is_empty(), "{:?}", hygiene.dead);
    }
}

/// Packets that came back too often to go on say nothing of those that come there by a shorter way: to table 6 they come back ten
/// times, six times (more than either sort of datapath allows), three times, or not at all.
#[test]
fn what_is_out_of_reach_by_a_long_way_may_be_reached_by_a_short_one() {
    let mut text = "table=0,priority=5,tcp,tp_dst=80 actions=ct(table=10)\n\
        table=0,priority=10,tcp,tp_dst=80,nw_src=10.0.0.2 actions=ct(table=1)\n\
        table=0,priority=20,tcp,tp_dst=80,nw_src=10.0.0.1 actions=resubmit(,6)\n\
        table=0,priority=30,tcp,tp_dst=80,nw_src=10.0.0.3 actions=resubmit(,16)\n"
        .to_owned();
    for (table, next) in (1..7).map(|at| (at, at + 1)).chain((10..18).map(|at| (at, at + 1))).chain([(18, 6)])
    {
        writeln!(text, "table={table},tcp,tp_dst=80 actions=ct(table={next})").unwrap();
    }
    text.push_str("table=7 actions=output:1\n");
    let hygiene = check::with_deep_stack(|| sweeps_alike(&text));
    assert!(hygiene.complete && hygiene.dead.is_empty(), "{:?}", hygiene.dead);
}

/// A destination that was moved into a register is looked at there.
#[test]
fn a_destination_is_told_apart_where_a_register_shows_it() {
    let text = "table=0,dl_dst=00:00:00:00:00:01 \
        actions=move:NXM_OF_ETH_DST[0..15]->NXM_NX_REG0[0..15],resubmit(,1)\n\
        table=1,priority=5,reg0=0x1/0x1 actions=output:1\n\
        table=1,priority=5,reg0=0x2/0x2 actions=output:2\n";
    let hygiene = check::with_deep_stack(|| sweeps_alike(text));
    assert_eq!((hygiene.dead.len(), hygiene.rivals.len()), (1, 0));
}

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
        let (key, packets) = (SymKey::entering(9, form), sets.all());
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
