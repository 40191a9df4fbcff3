//! What a change breaks, held to what is broken before and after it.

use super::{hosts, incremental::edit, isolation::every_row, rng::Rng};
use flowproof_packet::{Field, FlowKey, PortNo, wire};
use flowproof_proofs::{
    check::{self, Engines, Judgement, Task},
    diagram::Host,
    isolation::{self, Ask},
    properties::{self, Property},
    replay::{Replay, left, ports as switch_ports},
    since::{self, Since},
    tables::Tables,
};
use flowproof_switch::{
    conntrack::Profile,
    flow::Flow,
    pipeline::{Switch, SwitchConfig},
    table::TieBreak,
};
use std::collections::BTreeMap;

const SEED: &str = hosts::SEED;
const PROFILES: [Profile; 1] = [Profile::Kernel];

fn change(before: &str, now: &str) -> Since {
    Since::new(hosts::host(now), Tables::new(hosts::flows(before)), &PROFILES)
}

fn task<'a>(host: &'a Host, names: &[&str]) -> Task<'a> {
    let wanted = |property: &&'static Property| names.is_empty() || names.contains(&property.name);
    Task {
        properties: properties::SENDER.iter().filter(wanted).collect(),
        profiles: PROFILES.to_vec(),
        engines: Engines::Diagram,
        ..hosts::task(host)
    }
}

/// By property and port.
type Judged = BTreeMap<(&'static str, PortNo), Judgement>;

fn sent(since: &Since, names: &[&str]) -> Judged {
    let task = task(&since.now, names);
    let found = since::check(&task, since).findings;
    found.into_iter().map(|of| ((of.property.name, task.ports[of.port].ofport), of.judgement)).collect()
}

fn received(since: &Since, names: &[&str]) -> Judged {
    let (host, ports) = (&since.now, since.now.ports.iter().collect());
    let properties =
        names.iter().filter_map(|name| isolation::by_name(name)).map(|row| &row.property).collect();
    let ask = Ask { host, site: None, ports, properties, profiles: PROFILES.to_vec(), watch: &() };
    let found = isolation::check_since(&ask, since);
    let of = |of: isolation::IsolationFinding| {
        ((of.finding.property.name, ask.ports[of.finding.port].ofport), of.finding.judgement)
    };
    found.into_iter().map(of).collect()
}

#[track_caller]
fn check_names(judged: &Judged, expected: &str) {
    assert!(!judged.is_empty());
    for (of, judgement) in judged {
        assert_eq!(judgement.name(), expected, "{of:?}: {judgement:?}");
    }
}

/// The packet that a refutation shows.
#[track_caller]
fn shown(judged: &Judged, name: &'static str, port: PortNo) -> FlowKey {
    let Some(Judgement::Refuted(replay)) = judged.get(&(name, port)) else {
        panic!("{name}: {:?}", judged.get(&(name, port)))
    };
    wire::extract(&replay.datagram, port)
}

/// The seed's host lets any port forge its MAC in some packets, and floods; what it always did is not new.
#[test]
fn tables_that_did_not_change_break_nothing() {
    let since = change(SEED, SEED);
    check_names(&sent(&since, &[]), "no-worse");
    check_names(&received(&since, &every_row()), "no-worse");
}

/// A flow in two halves is two other flows with the same holes.
#[test]
fn a_hole_written_in_other_words_is_not_new() {
    let hole = "priority=95,icmp6,reg5=0xd,in_port=13,icmp_type=136 actions=NORMAL";
    let halves = [0, 1].map(|bit| {
        let half = format!("in_port=13,dl_dst={bit:02x}:00:00:00:00:00/01:00:00:00:00:00,");
        format!("table=71,{}\n", hole.replace("in_port=13,", &half))
    });
    let rest: String =
        SEED.lines().filter(|line| !line.ends_with(hole)).map(|line| format!("{line}\n")).collect();
    let now = rest + &halves.concat();
    let since = change(SEED, &now);
    assert!(since.touches(13), "packets come to the halves");
    let refuted = check::check(&task(&since.now, &["spoofed-mac"])).findings;
    assert!(refuted.iter().any(|of| of.judgement.name() == "refuted"), "the hole is there");
    check_names(&sent(&since, &["spoofed-mac", "spoofed-nd", "spoofed-ipv6"]), "no-worse");
    check_names(&received(&since, &every_row()), "no-worse");
}

/// `spoofed-mac` is refuted before and after: only packets of the new hole count.
#[test]
fn another_hole_in_a_broken_property_is_new() {
    let hole = "table=71,priority=200,tcp,in_port=13,tp_dst=4242 actions=NORMAL\n";
    let since = change(SEED, &format!("{SEED}{hole}"));
    let judged = sent(&since, &["spoofed-mac", "spoofed-arp"]);
    let packet = shown(&judged, "spoofed-mac", 13);
    assert_eq!((packet.get(Field::NwProto), packet.get(Field::TcpDst)), (6, 4242));
    assert_eq!(judged[&("spoofed-arp", 13)].name(), "no-worse");
    assert_eq!(judged[&("spoofed-mac", 10)].name(), "no-worse", "the hole is port 13's");
    let flooded = received(&since, &["ingress-group-addressed"]);
    let packet = shown(&flooded, "ingress-group-addressed", 10);
    assert_eq!((packet.get(Field::NwProto), packet.get(Field::TcpDst)), (6, 4242));
    let back = change(&format!("{SEED}{hole}"), SEED);
    check_names(&sent(&back, &["spoofed-mac", "spoofed-arp"]), "no-worse");
}

/// What only the tables of before send is nobody's fault now; where a port is named only by one of them both have it.
#[test]
fn ports_that_one_table_names_are_there_for_both() {
    let output = "table=71,priority=200,tcp,in_port=13,tp_dst=4242 actions=output:99\n";
    let since = change(&format!("{SEED}{output}"), &format!("{SEED}{}", output.replace("99", "98")));
    check_names(&sent(&since, &["spoofed-mac"]), "no-worse");
    assert!(
        [98, 99].iter().all(|port| since.before.tags.contains_key(port) && since.now.tags.contains_key(port))
    );
}

/// Whether what a replay shows escapes these tables, when its packets are sent there by somebody else.
fn escapes(host: &Host, port: PortNo, replay: &Replay, tie: TieBreak) -> bool {
    let sender = host.ports.iter().find(|known| known.ofport == port).unwrap();
    let config = SwitchConfig { ports: switch_ports(host, sender), profile: PROFILES[0], tie };
    let mut switch = Switch::new(host.tables.switch().clone(), config);
    let outcomes: Vec<_> =
        replay.events.iter().map(|sent| switch.receive_traced(sent.in_port, &sent.frame)).collect();
    outcomes.iter().skip(replay.prelude).any(left)
}

/// Properties of which a packet is guilty or not as it leaves, whatever it becomes.
const PLAIN: [&str; 4] = ["spoofed-mac", "spoofed-arp", "dhcp-server", "router-advertisement"];

/// Random edits of drivers' tables: what held and does not is new, what holds is not, and every packet that is shown is
/// guilty now and innocent before.
#[test]
fn what_a_change_breaks_is_what_was_not_broken() {
    let rounds: usize = std::env::var("FLOWPROOF_ROUNDS").map_or(6, |n| n.parse().unwrap());
    let (mut lost, mut worse) = (0, 0);
    for (seed, text) in [SEED, hosts::corpus("29.0.0/04_dual_stack")].into_iter().enumerate() {
        let mut rng = Rng::new(170 + seed as u64);
        let mut before: Vec<Flow> = hosts::flows(text);
        for _ in 0..rounds {
            let mut now = before.clone();
            let what = edit(&mut rng, &mut now);
            let text = |flows: &[Flow]| flows.iter().map(|flow| format!("{flow}\n")).collect::<String>();
            let since = change(&text(&before), &text(&now));
            let names = |host: &Host| -> BTreeMap<_, _> {
                let task = task(host, &PLAIN);
                let found = check::check(&task).findings.into_iter();
                found
                    .map(|of| ((of.property.name, task.ports[of.port].ofport), of.judgement.name()))
                    .collect()
            };
            let (was, is) = (names(&since.before), names(&since.now));
            for ((name, port), judgement) in sent(&since, &PLAIN) {
                let place = format!("{name} of port {port} after {what}: {judgement:?}");
                match (was[&(name, port)], is[&(name, port)], &judgement) {
                    ("refuted", "refuted", Judgement::Refuted(_)) => worse += 1,
                    ("proved" | "vacuous", "refuted", Judgement::Refuted(_)) => lost += 1,
                    ("refuted", "refuted", Judgement::NoWorse(_)) => {}
                    (_, "proved" | "vacuous", Judgement::NoWorse(_)) => {}
                    (was, is, _) => panic!("{was}, then {is}: {place}"),
                }
                if let Judgement::Refuted(replay) = &judgement {
                    assert!(escapes(&since.now, port, replay, replay.tie), "{place}");
                    assert!(!escapes(&since.before, port, replay, TieBreak::First), "{place}");
                    assert!(!escapes(&since.before, port, replay, TieBreak::Last), "{place}");
                }
            }
            before = now;
        }
    }
    assert!(lost > 0 && worse > 0, "{lost} lost, {worse} worse");
}
