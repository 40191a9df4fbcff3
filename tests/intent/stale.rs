//! `no-stale-flow`: what an intent that changed no longer justifies, and nothing that it does.

use super::support::{corpus, flows, policy};
use flowproof_compiler::{Layout, Options, compile};
use flowproof_model::policy::{Change, Direction, Host, IpNet, Policy, PortId, RuleId};
use flowproof_proofs::intent::{
    layout::{Recognised, switches},
    site::Site,
    stale::{Stale, stale},
};
use flowproof_switch::flow::Flow;
use std::collections::BTreeSet;

const LAYOUTS: [Layout; 3] = [Layout::Mitaka, Layout::Neutron, Layout::Strict];

fn compiled(policy: &Policy, layout: Layout) -> Vec<Flow> {
    let nowhere = Host::default();
    let host = policy.host.as_ref().unwrap_or(&nowhere);
    let compiled = compile(policy, host, layout, &Options::default());
    compiled.flows.into_iter().map(|annotated| annotated.flow).collect()
}

/// What of `flows` a policy does not justify.
fn found(policy: &Policy, layout: Layout, flows: &[Flow]) -> Vec<(usize, Stale)> {
    let (site, _) = Site::new(policy.clone(), switches(layout), flows);
    stale(&site, &Recognised { layout, unsupported: Vec::new() }, flows)
}

fn intents() -> Vec<String> {
    let directory = format!("{}/tests/fixtures/intents", env!("CARGO_MANIFEST_DIR"));
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names
        .filter_map(|name| name.to_str().and_then(|name| name.strip_suffix(".json")).map(str::to_owned))
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_compiled_from_an_intent_is_justified_by_it() {
    let mut all = 0;
    for name in intents() {
        let policy = policy(&name);
        for layout in LAYOUTS {
            let flows = compiled(&policy, layout);
            let stale = found(&policy, layout, &flows);
            let told: Vec<_> = stale.iter().map(|(place, why)| format!("{why}: {}", flows[*place])).collect();
            assert!(stale.is_empty(), "{name} {layout:?}: {told:#?}");
            all += flows.len();
        }
    }
    assert!(all > 5000, "{all} flows");
}

#[test]
fn what_neutrons_driver_wrote_for_an_intent_is_justified_by_it() {
    for (release, case) in [
        ("29.0.0", "04_dual_stack"),
        ("29.0.0", "18_remote_group_3"),
        ("29.0.0", "22_remote_group_priorities"),
        ("29.0.0", "23_remote_address_groups"),
        ("29.0.0", "29_three_networks_overlap"),
        ("20.0.0", "22_remote_group_priorities"),
        ("8.1.0", "01_seed_scenario"),
    ] {
        let case_ = corpus(release, case);
        let flows = case_.host.tables.flows();
        let stale = stale(&case_.site, &case_.recognised, flows);
        let told: Vec<_> = stale.iter().map(|(place, why)| format!("{why}: {}", flows[*place])).collect();
        assert!(stale.is_empty(), "{release} {case}: {told:#?}");
    }
}

/// After a change: nothing is stale that the intent of now would have written; and how much is.
#[track_caller]
fn after(policy: &Policy, layout: Layout, change: Change) -> Vec<(usize, Stale)> {
    let before = compiled(policy, layout);
    let mut now = policy.clone();
    now.apply(change.clone()).unwrap();
    let wanted: Vec<String> = compiled(&now, layout).iter().map(ToString::to_string).collect();
    let stale = found(&now, layout, &before);
    for (place, why) in &stale {
        let flow = before[*place].to_string();
        assert!(!wanted.contains(&flow), "{change:?} {layout:?}: {why}: {flow}");
    }
    stale
}

/// Every port of every intent, deleted: its flows are stale, each that names its number or its own MAC.
#[test]
fn flows_of_ports_that_are_gone_are_stale() {
    let mut ports = 0;
    for name in ["04_dual_stack", "18_remote_group_3", "29_three_networks_overlap"] {
        let policy = policy(name);
        for layout in LAYOUTS {
            let flows = compiled(&policy, layout);
            let bound: Vec<_> = policy.local_ports().map(|(port, at)| (port.clone(), *at)).collect();
            for (port, binding) in bound.iter().filter(|(port, _)| port.is_filtered()) {
                let mut now = policy.clone();
                now.apply(Change::Unbind(port.id.clone())).unwrap();
                now.apply(Change::RemovePort(port.id.clone())).unwrap();
                let stale = found(&now, layout, &flows);
                let number = Stale::Port(binding.ofport);
                let named: BTreeSet<usize> =
                    stale.iter().filter(|(_, why)| *why == number).map(|(at, _)| *at).collect();
                let register = format!("reg5={:#x}", binding.ofport);
                let loads = format!("set_field:{:#x}->reg5", binding.ofport);
                for (place, flow) in flows.iter().enumerate() {
                    let text = flow.to_string();
                    let words = text.split([',', ' ']);
                    let speaks = words.clone().any(|word| word == register || word.ends_with(&loads));
                    assert!(!speaks || named.contains(&place), "{name} {layout:?}: {text}");
                }
                assert!(!named.is_empty(), "{name} {layout:?} {}", binding.ofport);
                let shared =
                    policy.ports.values().filter(|other| other.macs().contains(&port.mac)).count() > 1;
                let mac = stale.iter().any(|(_, why)| *why == Stale::Mac(port.mac));
                assert_eq!(mac, !shared, "{name} {layout:?} {}", port.mac);
                ports += 1;
            }
        }
    }
    assert!(ports > 10, "{ports}");
}

/// Every rule of every intent, deleted: nothing is stale that is still wanted. Where the rule alone admitted something,
/// its flows are found.
#[test]
fn flows_of_rules_that_are_gone_are_stale() {
    let mut told = BTreeSet::new();
    for name in [
        "05_tcp_port_ranges",
        "07_icmp_type_code",
        "18_remote_group_3",
        "22_remote_group_priorities",
        "23_remote_address_groups",
    ] {
        let policy = policy(name);
        let rules: Vec<RuleId> =
            policy.groups.values().flat_map(|group| group.rules.iter().map(|rule| rule.id.clone())).collect();
        for layout in LAYOUTS {
            for rule in &rules {
                for (_, why) in after(&policy, layout, Change::RemoveRule(rule.clone())) {
                    told.insert(match why {
                        Stale::Rule(_, Direction::Ingress) => "rule",
                        Stale::Conjunction(_) => "conjunction",
                        Stale::Ipv4(..) | Stale::Ipv6(..) => "address",
                        _ => "other",
                    });
                }
            }
        }
    }
    assert!(["address", "conjunction", "rule"].iter().all(|kind| told.contains(kind)), "{told:?}");
}

#[test]
fn addresses_of_members_that_left_are_stale() {
    let policy = policy("18_remote_group_3");
    let member: PortId = policy
        .ports
        .values()
        .find(|port| policy.local_ports().all(|(local, _)| local.id != port.id))
        .map(|port| port.id.clone())
        .unwrap();
    let address = IpNet::from(policy.ports[&member].fixed_ips[0]);
    for layout in [Layout::Mitaka, Layout::Neutron] {
        let stale = after(&policy, layout, Change::SetGroups(member.clone(), Vec::new()));
        let IpNet::V4(net) = address else { panic!("{address}") };
        let expected = Stale::Ipv4(net.network().to_bits(), u32::MAX);
        assert!(stale.iter().any(|(_, why)| *why == expected), "{layout:?}: {stale:?}");
    }
}

/// By hand: one flow for each kind of mention that nothing justifies.
#[test]
fn each_kind_of_mention_is_found_and_nothing_else() {
    let policy = policy("04_dual_stack");
    let (_, binding) = policy.local_ports().find(|(port, _)| port.is_filtered()).unwrap();
    let (port, vlan) = (binding.ofport, binding.vlan);
    let check = |flow: &str, expected: &[&str]| {
        let flows = flows(flow);
        let told: Vec<String> =
            found(&policy, Layout::Neutron, &flows).iter().map(|(_, why)| why.to_string()).collect();
        assert_eq!(told.len(), expected.len(), "{flow}: {told:?}");
        assert!(told.iter().zip(expected).all(|(told, part)| told.contains(part)), "{flow}: {told:?}");
    };
    check("table=60,in_port=4242 actions=drop", &["port 4242 is neither bound"]);
    check("table=60,dl_dst=02:00:00:aa:bb:cc actions=drop", &["may use 02:00:00:aa:bb:cc"]);
    check("table=60,dl_dst=ff:ff:ff:ff:ff:ff actions=drop", &[]);
    check("table=71,ip,nw_src=203.0.113.9 actions=drop", &["has 203.0.113.9,"]);
    check("table=71,ip,nw_src=203.0.113.0/24 actions=drop", &["has 203.0.113.0/255.255.255.0,"]);
    check("table=71,ipv6,ipv6_src=2001:db8:9::9 actions=drop", &["has 2001:db8:9::9,"]);
    check("table=71,ip actions=ct(table=72,zone=3999)", &["3999 is the VLAN of no network"]);
    check(&format!("table=71,ip actions=ct(table=72,zone={vlan})"), &[]);
    check(&format!("table=60,in_port={port} actions=load:{port}->NXM_NX_REG5[]"), &[]);
    // Another agent's table.
    check("table=21,dl_dst=02:00:00:aa:bb:cc actions=drop", &[]);
    check(
        &format!("table=82,ct_state=+new-est,udp,reg5={port},tp_dst=9 actions=output:{port}"),
        &[&format!("no ingress rule of port {port}")],
    );
}
