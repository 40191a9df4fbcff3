//! Verdicts that are kept from one version of the tables to the next, held to those from scratch.

use super::{hosts, rng::Rng};
use flowproof_packet::PortNo;
use flowproof_proofs::{
    check::{self, Engines, Finding, Task},
    diagram::Host,
    incremental::{Again, Kept, check_again},
    ports,
    reach::Reach,
    tables::Tables,
};
use flowproof_switch::{
    conntrack::Profile,
    flow::{Flow, Match},
};
use std::collections::{BTreeMap, BTreeSet};

fn host(flows: &[Flow]) -> Host {
    Host { ports: ports::derive(flows), tags: BTreeMap::new(), tables: Tables::new(flows.to_vec()) }
}

/// The senders' properties under one datapath, by diagrams.
fn task(host: &Host) -> Task<'_> {
    Task { engines: Engines::Diagram, profiles: vec![Profile::Kernel], ..hosts::task(host) }
}

fn verdicts(task: &Task<'_>, findings: &[Finding]) -> Vec<(PortNo, &'static str, &'static str)> {
    let of = |finding: &Finding| {
        (task.ports[finding.port].ofport, finding.property.name, finding.judgement.name())
    };
    findings.iter().map(of).collect()
}

/// Checks `flows` with what is kept, and holds it to a check from scratch; how many ports were asked again.
#[track_caller]
fn agree(flows: &[Flow], kept: Option<Kept>, edit: &str) -> (usize, usize, Kept) {
    let host = host(flows);
    let task = task(&host);
    let Again { findings, proved, kept, .. } = check_again(&task, kept);
    let scratch = check::check(&task);
    assert_eq!(verdicts(&task, &findings.findings), verdicts(&task, &scratch.findings), "after {edit}");
    for finding in &findings.findings {
        let check::Judgement::Refuted(replay) = &finding.judgement else { continue };
        for (table, flow) in &replay.path {
            assert_eq!(host.tables.flow(*flow).map(|flow| flow.table), Some(*table), "after {edit}");
        }
    }
    (proved.len(), host.ports.len(), kept)
}

/// One random edit: a flow is gone, is there under another priority, does what another one does, or stands elsewhere; or
/// some port may send what it must not.
pub(super) fn edit(rng: &mut Rng, flows: &mut Vec<Flow>) -> String {
    let at = rng.below(flows.len());
    let old = flows[at].to_string();
    match rng.below(8) {
        0 => drop(flows.remove(at)),
        1 => flows[at].priority = *rng.pick(&[1, 40, 60, 75, 100, 200]),
        2 => flows[at].actions = rng.pick(flows).actions.clone(),
        3 => {
            let flow = flows.remove(at);
            flows.insert(rng.below(flows.len()), flow);
        }
        4..7 => {
            let ports = ports::derive(flows);
            let (port, what) = (rng.pick(&ports).ofport, *rng.pick(&["arp", "udp,tp_src=67", "ip", "icmp6"]));
            let hole = format!("table=71,priority=200,in_port={port},{what} actions=NORMAL\n");
            flows.extend(hosts::flows(&hole));
            return hole;
        }
        _ => {
            let mut flow = flows[at].clone();
            flow.priority = flow.priority.saturating_add(1);
            flow.matching = if rng.chance(20) { Match::default() } else { rng.pick(flows).matching.clone() };
            flows.insert(at, flow);
        }
    }
    old
}

/// Random edits of drivers' tables, one after the other.
#[test]
fn verdicts_that_are_kept_are_those_from_scratch() {
    let rounds: usize = std::env::var("FLOWPROOF_ROUNDS").map_or(5, |n| n.parse().unwrap());
    let (mut asked, mut all) = (0, 0);
    for (seed, name) in
        ["29.0.0/18_remote_group_3", "8.1.0/29_three_networks_overlap"].into_iter().enumerate()
    {
        let mut rng = Rng::new(70 + seed as u64);
        let mut flows = hosts::flows(hosts::corpus(name));
        let (_, _, mut kept) = agree(&flows, None, "nothing");
        for _ in 0..rounds {
            let what = edit(&mut rng, &mut flows);
            let (proved, ports, now) = agree(&flows, Some(kept), &what);
            kept = now;
            asked += proved;
            all += ports;
        }
    }
    assert!(asked > 0 && asked < all, "{asked} of {all}");
}

const BASE: &str = "8.1.0/29_three_networks_overlap";

/// What `check_again` asks again after `change`.
fn asked_after(change: impl FnOnce(&mut Vec<Flow>)) -> (usize, usize) {
    let mut flows = hosts::flows(hosts::corpus(BASE));
    let (_, _, kept) = agree(&flows, None, "nothing");
    change(&mut flows);
    let (proved, ports, _) = agree(&flows, Some(kept), "the change");
    (proved, ports)
}

#[test]
fn nothing_is_asked_again_where_nothing_changed() {
    assert_eq!(asked_after(|_| {}).0, 0);
    assert_eq!(asked_after(|flows| flows.iter_mut().for_each(|flow| flow.cookie = 7)).0, 0);
    assert_eq!(asked_after(|flows| flows.reverse()).0, 0);
}

#[test]
fn a_rule_of_what_one_port_sends_concerns_that_port_only() {
    let (proved, ports) = asked_after(|flows| {
        let port = ports::derive(flows)[0].ofport;
        let rule = "ct_state=+new-est,tcp,tp_dst=99 actions=resubmit(,73)";
        flows.extend(hosts::flows(&format!("table=72,priority=77,reg5={port},{rule}\n")));
    });
    assert!(0 < proved && proved < ports, "{proved} of {ports}");
}

/// Where frames come to is found out again when a flow sends them elsewhere.
#[test]
fn what_changes_where_frames_came_to_only_since_is_asked_again() {
    let mut flows = hosts::flows(hosts::HARDENED);
    let port = ports::derive(&flows)[1].ofport;
    let of_port = |actions: &str| {
        format!("table=71,priority=200,in_port={port},arp,arp_spa=10.0.9.9 actions={actions}\n")
    };
    flows.extend(hosts::flows(&of_port("drop")));
    let (_, _, kept) = agree(&flows, None, "nothing");
    flows.pop();
    flows.extend(hosts::flows(&of_port("resubmit(,99)")));
    let (_, _, kept) = agree(&flows, Some(kept), "a flow that leads elsewhere");
    flows.extend(hosts::flows("table=99,arp actions=NORMAL\n"));
    let (proved, _, _) = agree(&flows, Some(kept), "a flow of the new place");
    assert!(proved > 0);
}

#[test]
fn what_concerns_everybody_is_asked_of_everybody() {
    let everybody = |text: &str| {
        let more = hosts::flows(text);
        let (proved, ports) = asked_after(|flows| flows.extend(more));
        assert_eq!(proved, ports, "{text}");
    };
    everybody("table=71,priority=200,arp actions=NORMAL\n");
    // A port and a VLAN that nobody spoke of before: other places to send from, and to.
    everybody("table=17,in_port=4242 actions=drop\n");
    everybody("table=17,dl_vlan=77 actions=drop\n");
}

/// Other properties, datapaths, engines, ports or VLANs: nothing is kept.
#[test]
fn what_is_kept_does_not_survive_another_question() {
    let flows = hosts::flows(hosts::corpus(BASE));
    let host = host(&flows);
    let all = host.ports.len();
    let again = |task: &Task<'_>| {
        let first = check_again(&self::task(&host), None);
        assert_eq!(first.proved.len(), all);
        check_again(task, Some(first.kept)).proved.len()
    };
    assert_eq!(again(&task(&host)), 0);
    let fewer = task(&host).properties.into_iter().take(3).collect();
    assert_eq!(again(&Task { properties: fewer, ..task(&host) }), all);
    assert_eq!(again(&Task { profiles: vec![Profile::Userspace31], ..task(&host) }), all);
    let tagged = Host { tags: BTreeMap::from([(1, Some(7))]), ..self::host(&flows) };
    assert_eq!(again(&task(&tagged)), all);
    let mut other = self::host(&flows);
    other.ports[0].permitted.insert(0x1234);
    assert_eq!(again(&task(&other)), all);
}

/// Every flow that the interpreter or an engine shows on a port's way is one that the port reaches.
#[test]
fn every_way_that_is_shown_is_within_reach() {
    let mut shown = 0;
    for (name, text) in hosts::CORPUS {
        let host = hosts::host(text);
        let ports: Vec<PortNo> = host.ports.iter().map(|port| port.ofport).collect();
        let reach = Reach::new(&host.tables, &ports);
        let task = task(&host);
        for finding in check::check(&task).findings {
            let port = task.ports[finding.port].ofport;
            let check::Judgement::Refuted(replay) = &finding.judgement else { continue };
            for (_, flow) in &replay.path {
                let by: BTreeSet<PortNo> = reach.ports(host.tables.flow(*flow).unwrap());
                assert!(by.contains(&port), "{name}: port {port}: {:?}", host.tables.flow(*flow));
                shown += 1;
            }
        }
    }
    assert!(shown > 500, "{shown}");
}
