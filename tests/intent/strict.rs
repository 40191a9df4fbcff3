//! Our own layout against every intent of the corpus: what a VM sends (section A), isolation (B) and agreement with the
//! intent (D).
//!
//! What is refuted is in [`KNOWN`] and [`OPEN`] with what shows it; nothing is undecided. The intents name no way to most of
//! their networks, where no table can isolate: one is named here.

use super::support::{Case, bind, flows, lines, policy};
use flowproof_compiler::{Layout, Options, compile, text};
use flowproof_model::policy::{Policy, Segment, Uplink, UplinkKind};
use flowproof_packet::{Field, FlowKey, summary::summary, wire};
use flowproof_proofs::{
    check::{self, Engines, Judgement, Task},
    intent::{COMPLETE, PROPERTIES},
    isolation::{self, Ask},
    properties::SENDER,
};
use flowproof_switch::conntrack::Profile;

/// Ports of the largest intents that are proved here.
const MOST_PORTS: usize = 50;

/// An OpenFlow port that no intent uses.
const TUNNELS: u16 = 200;

/// An intent, with a way to those of its networks that are in tunnels.
fn connected(name: &str) -> Policy {
    let mut policy = policy(name);
    let tunnelled = policy.networks.values().any(|one| matches!(one.segment, Segment::Tunnel { .. }));
    let uplinks = &mut policy.host.as_mut().unwrap().uplinks;
    if tunnelled && !uplinks.iter().any(|uplink| uplink.kind == UplinkKind::Tunnel) {
        uplinks.push(Uplink { ofport: TUNNELS, kind: UplinkKind::Tunnel, physical_network: None });
    }
    policy
}

fn strict(name: &str) -> Case {
    let policy = connected(name);
    let host = policy.host.clone().unwrap();
    let compiled = compile(&policy, &host, Layout::Strict, &Options::default());
    let case = bind(policy, flows(&text(&compiled, false)));
    assert_eq!(case.recognised.layout, Layout::Strict, "{name}");
    case
}

/// What is not proved: the end of the line, and what the frames that show it have in common.
type Known = (&'static str, fn(&FlowKey, bool) -> bool);

/// Fragments that nobody can tell from a DHCP server's or from neighbour discovery do not leave where they are not put
/// together; rules with ports do not admit them there.
fn fragment(_: &FlowKey, divided: bool) -> bool {
    divided
}

const KNOWN: &[Known] = &[("intent-complete userspace-3.1 refuted", fragment)];

/// What section B does not prove. No uplink leads to the network `net3` of that host, a flat one: its VLAN lets in whoever
/// has it. Without rules nothing comes that a rule of a third port could decide.
const OPEN: &[(&str, &str, &[u16], &str)] = &[
    ("29_three_networks_overlap", "default-deny", &[7], "refuted"),
    // What the host has tracked, by a port of which nothing is known.
    ("29_three_networks_overlap", "untracked-exceptions", &[7], "refuted"),
    ("29_three_networks_overlap", "ingress-group-addressed", &[7], "unknown"),
    ("27_no_rules", "port-independence", &[5, 6], "vacuous"),
];

fn shown(judgement: &Judgement) -> String {
    match judgement {
        Judgement::Refuted(replay) => summary(&replay.datagram),
        Judgement::Listed(why)
        | Judgement::Unknown(why)
        | Judgement::Vacuous(why)
        | Judgement::NoWorse(why)
        | Judgement::Contradiction(why) => why.clone(),
        Judgement::Proved(_) => String::new(),
    }
}

/// Lines about section D that nobody knows.
fn disagreements(name: &str, case: &Case, profiles: &[Profile]) -> Vec<String> {
    let mut wrong = Vec::new();
    for of in case.judge(&PROPERTIES, profiles) {
        let (finding, judgement) = (&of.finding, &of.finding.judgement);
        let verdict = format!("{} {} {}", finding.property.name, finding.profile.name(), judgement.name());
        let excused = match judgement {
            Judgement::Proved(_) | Judgement::Vacuous(_) => true,
            Judgement::Refuted(replay) => KNOWN.iter().any(|(line, shows)| {
                let divided = replay.events.len() - replay.prelude > 1;
                *line == verdict && shows(&wire::extract(&replay.datagram, 0), divided)
            }),
            Judgement::Listed(_)
            | Judgement::Unknown(_)
            | Judgement::NoWorse(_)
            | Judgement::Contradiction(_) => false,
        };
        if !excused {
            let line = lines(case, std::slice::from_ref(&of)).join("");
            wrong.push(format!("{name}: {line} {}: {}", finding.profile.name(), shown(judgement)));
        }
    }
    wrong
}

/// Lines about section A that are not proved.
fn escapes(name: &str, case: &Case, profiles: &[Profile]) -> Vec<String> {
    let task = Task {
        host: &case.host,
        ports: case.host.ports.iter().collect(),
        properties: SENDER.iter().collect(),
        profiles: profiles.to_vec(),
        engines: Engines::Diagram,
        keep_queries: false,
        watch: &(),
    };
    let found = check::check(&task).findings;
    let wrong = found
        .iter()
        .filter(|of| !matches!(of.judgement, Judgement::Proved(_) | Judgement::Vacuous(_)))
        .map(|of| {
            let port = task.ports[of.port].ofport;
            format!("{name}: {} {port} {}: {}", of.property.name, of.profile.name(), shown(&of.judgement))
        });
    wrong.collect()
}

/// Lines about section B that are not as they should be; what is open and proved all the same is one of them.
fn leaks(name: &str, case: &Case, profiles: &[Profile]) -> Vec<String> {
    let ask = Ask {
        host: &case.host,
        site: Some(&case.site),
        ports: case.host.ports.iter().collect(),
        properties: isolation::ROWS.iter().map(|row| &row.property).collect(),
        profiles: profiles.to_vec(),
        watch: &(),
    };
    let found = isolation::check(&ask);
    assert_eq!(found.len(), ask.ports.len() * ask.properties.len() * profiles.len(), "{name}");
    let mut wrong = Vec::new();
    for one in &found {
        let of = &one.finding;
        let port = ask.ports[of.port].ofport;
        let open = OPEN
            .iter()
            .find(|(case, row, ports, _)| (*case, *row) == (name, of.property.name) && ports.contains(&port));
        let expected = open.map_or("proved", |(.., verdict)| verdict);
        let got = of.judgement.name();
        if got != expected {
            let row = format!("{} {port} {}", of.property.name, of.profile.name());
            wrong.push(format!("{name}: {row} {got}: {}", shown(&of.judgement)));
        }
    }
    wrong
}

fn names() -> Vec<String> {
    let directory = format!("{}/tests/fixtures/intents", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(".json", "")).collect();
    names.sort();
    names
}

/// Neighbour discovery in fragments is void (RFC 6980, section 5: whoever gets it ignores it), so that a switch need not
/// deliver it. That excuses no other ICMPv6: where all its fragments are dropped, an echo shows it.
#[test]
fn only_neighbour_discovery_may_be_dropped_for_being_in_fragments() {
    let policy = policy("08_icmpv6");
    let compiled = compile(&policy, &policy.host.clone().unwrap(), Layout::Strict, &Options::default());
    let dropping = "table=71,priority=200,icmp6,nw_frag=yes actions=drop\n";
    let case = bind(policy, flows(&format!("{}{dropping}", text(&compiled, false))));
    let found = case.judge(&[&COMPLETE], &[Profile::Kernel]);
    let shown: Vec<FlowKey> = found
        .iter()
        .filter_map(|of| match &of.finding.judgement {
            Judgement::Refuted(replay) => Some(wire::extract(&replay.datagram, 0)),
            _ => None,
        })
        .collect();
    assert!(!shown.is_empty(), "nobody misses the fragments");
    for key in shown {
        let (protocol, kind) = (key.get(Field::NwProto), key.get(Field::Icmpv6Type));
        assert!(protocol == 58 && !(133..=137).contains(&kind), "{key:?}");
    }
}

#[test]
fn strict_keeps_what_it_was_made_for() {
    let mut wrong = Vec::new();
    for name in names() {
        let case = strict(&name);
        let ports = case.host.ports.len();
        if ports > MOST_PORTS {
            eprintln!("{name}: {ports} ports, left out");
            continue;
        }
        let started = std::time::Instant::now();
        let sections = [escapes, leaks, disagreements];
        let took = sections.map(|section| {
            let before = started.elapsed();
            wrong.extend(section(&name, &case, &Profile::ALL));
            started.elapsed() - before
        });
        eprintln!("{name}: {ports} ports, A, B, D: {took:.2?}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
