//! Our own layout against every intent of the corpus: what a VM sends (section A) and agreement with the intent (D).
//!
//! A chosen dozen here; all of them with `FLOWPROOF_SOAK`. What is refuted is in [`KNOWN`] with what shows it; nothing is
//! undecided.

use super::support::{Case, bind, flows, lines, policy};
use flowproof_compiler::{Layout, Options, compile, text};
use flowproof_packet::{Field, FlowKey, summary::summary, wire};
use flowproof_proofs::{
    check::{self, Engines, Judgement, Task},
    intent::{COMPLETE, PROPERTIES},
    properties::SENDER,
};
use flowproof_switch::conntrack::Profile;

/// Small ones of every kind, and one of fifty ports.
const CHOSEN: [&str; 14] = [
    "01_seed_scenario",
    "02_ipv4_only",
    "03_ipv6_only",
    "07_icmp_type_code",
    "08_icmpv6",
    "11_cidr_v4",
    "15_allowed_pairs_cidr_mac",
    "18_remote_group_3",
    "21_remote_groups_overlap",
    "23_remote_address_groups",
    "25_stateless",
    "27_no_rules",
    "28_ports_50",
    "36_permitted_ethertypes",
];

/// Ports of the largest intents that are proved here.
const MOST_PORTS: usize = 50;

fn strict(name: &str) -> Case {
    let policy = policy(name);
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

fn shown(judgement: &Judgement) -> String {
    match judgement {
        Judgement::Refuted(replay) => summary(&replay.datagram),
        Judgement::Unknown(why)
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
            Judgement::Unknown(_) | Judgement::NoWorse(_) | Judgement::Contradiction(_) => false,
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
    let all = std::env::var_os("FLOWPROOF_SOAK").is_some();
    let names = if all { names() } else { CHOSEN.map(str::to_owned).to_vec() };
    let mut wrong = Vec::new();
    for name in names {
        let case = strict(&name);
        let ports = case.host.ports.len();
        if ports > MOST_PORTS {
            eprintln!("{name}: {ports} ports, left out");
            continue;
        }
        let started = std::time::Instant::now();
        let agreed = disagreements(&name, &case, &Profile::ALL);
        let between = started.elapsed();
        let escaped = if all || ports < 2 { escapes(&name, &case, &Profile::ALL) } else { Vec::new() };
        eprintln!("{name}: {ports} ports, D {between:.2?}, A {:.2?}", started.elapsed() - between);
        wrong.extend(agreed);
        wrong.extend(escaped);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
