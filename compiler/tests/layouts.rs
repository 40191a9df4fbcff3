//! What holds for every layout, and what is particular to ours.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use flowproof_compiler::{Compiled, Consequence, Layout, Options, PortMasks, compile, text};
use flowproof_model::policy::{Policy, UplinkKind};
use flowproof_switch::flow::{Action, Era, Flow, Match, ParseOptions, Span, parse_flows};
use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// The intents of the fixtures, by name.
fn intents() -> Vec<(String, Policy)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/intents");
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    assert!(paths.len() >= 30, "{} intents", paths.len());
    let read = |path: &std::path::PathBuf| {
        let policy = Policy::from_json(&fs::read_to_string(path).unwrap());
        (path.display().to_string(), policy.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    };
    paths.iter().map(read).collect()
}

fn compiled(policy: &Policy, layout: Layout) -> Compiled {
    compile(policy, policy.host.as_ref().unwrap(), layout, &Options::default())
}

/// A host with one port, `p`, of one group, `g`, with the given rules, and a tunnel.
fn host(rules: &str) -> Policy {
    let text = format!(
        r#"{{"networks": [{{"id": "n", "provider:network_type": "vxlan", "provider:segmentation_id": 7}}],
        "security_groups": [{{"id": "g", "security_group_rules": [{rules}]}}],
        "ports": [{{"id": "p", "network_id": "n", "mac_address": "fa:16:3e:00:00:05", "device_owner": "",
          "fixed_ips": [{{"ip_address": "10.0.0.5"}}], "security_groups": ["g"]}}],
        "host": {{"bindings": [{{"port_id": "p", "ofport": 5, "vlan": 1}}],
          "uplinks": [{{"ofport": 2, "kind": "tunnel"}}]}}}}"#
    );
    Policy::from_json(&text).unwrap_or_else(|error| panic!("{error}"))
}

fn rule(direction: &str, ethertype: &str, protocol: &str, ports: (&str, &str)) -> String {
    let (min, max) = ports;
    format!(
        r#"{{"id": "r", "direction": "{direction}", "ethertype": "{ethertype}", "protocol": {protocol},
        "port_range_min": {min}, "port_range_max": {max}, "remote_ip_prefix": null, "remote_group_id": null}}"#
    )
}

#[test]
fn the_same_policy_compiles_to_the_same_flows_and_no_two_of_them_are_one_to_a_switch() {
    for (name, policy) in intents() {
        for layout in Layout::ALL {
            let once = compiled(&policy, layout);
            assert_eq!(once, compiled(&policy, layout), "{name}");
            let mut seen: HashSet<(u8, u16, &Match)> = HashSet::new();
            for one in &once.flows {
                let key = (one.flow.table, one.flow.priority, &one.flow.matching);
                assert!(seen.insert(key), "{name}: {} twice: {}", layout.name(), one.flow);
                assert!(!one.why.is_empty(), "{name}: {}", one.flow);
            }
        }
    }
}

#[test]
fn the_text_says_the_flows_and_today_s_switches_take_all_but_mitaka_s() {
    for (name, policy) in intents() {
        for layout in Layout::ALL {
            let compiled = compiled(&policy, layout);
            let era = if layout == Layout::Mitaka { Era::Any } else { Era::Strict31 };
            let options = ParseOptions { era, ..ParseOptions::default() };
            let read =
                parse_flows(&text(&compiled, true), &options).unwrap_or_else(|e| panic!("{name}: {e}"));
            let flows: Vec<_> = compiled.flows.into_iter().map(|one| one.flow).collect();
            let unplaced = |flow: Flow| Flow { span: Span::default(), ..flow };
            assert_eq!(read.flows.into_iter().map(unplaced).collect::<Vec<_>>(), flows, "{name}");
        }
    }
}

#[test]
fn mitaka_opens_the_port_after_an_even_one_unless_it_is_corrected() {
    let policy = host(&rule("ingress", "IPv4", "\"tcp\"", ("22", "22")));
    let count = |port_masks, wanted: &str| {
        let compiled =
            compile(&policy, policy.host.as_ref().unwrap(), Layout::Mitaka, &Options { port_masks });
        compiled.flows.iter().filter(|one| one.flow.to_string().contains(wanted)).count()
    };
    for port_masks in [PortMasks::AsReleased, PortMasks::Legacy8_1] {
        assert_eq!(count(port_masks, ",tp_dst=0x16/0xfffe "), 2, "{port_masks:?}");
    }
    assert_eq!(count(PortMasks::Corrected, ",tp_dst=22 "), 2);
}

/// What each layout lists for one rule, in the order of [`Layout::ALL`].
#[track_caller]
fn check(rule: &str, expected: [Option<Consequence>; 3]) {
    let policy = host(rule);
    let listed = Layout::ALL.map(|layout| {
        let unsupported = compiled(&policy, layout).unsupported;
        assert!(unsupported.len() <= 1, "{unsupported:?}");
        unsupported.first().map(|one| one.consequence)
    });
    assert_eq!(listed, expected, "{rule}");
}

#[test]
fn what_a_layout_cannot_express_is_listed() {
    use Consequence::{Narrowed, Widened};
    let all = ("null", "null");
    check(&rule("ingress", "IPv4", "\"tcp\"", ("23", "23")), [None, None, None]);
    check(&rule("ingress", "IPv4", "null", all), [None, None, None]);
    check(&rule("ingress", "IPv4", "\"tcp\"", ("22", "22")), [Some(Widened), None, None]);
    check(&rule("ingress", "IPv4", "\"icmp\"", ("8", "0")), [Some(Widened), None, None]);
    check(&rule("ingress", "IPv4", "\"vrrp\"", all), [Some(Widened), None, None]);
    check(&rule("ingress", "IPv4", "\"dccp\"", ("5", "6")), [Some(Widened), Some(Widened), Some(Narrowed)]);
    check(
        &rule("ingress", "IPv4", "\"udplite\"", ("5", "6")),
        [Some(Widened), Some(Widened), Some(Narrowed)],
    );
    check(&rule("ingress", "IPv4", "\"dccp\"", all), [Some(Widened), None, None]);
    check(&rule("ingress", "IPv6", "\"ipv6-route\"", all), [Some(Widened), Some(Narrowed), Some(Narrowed)]);
    check(&rule("egress", "IPv4", "\"udp\"", ("67", "69")), [None, None, Some(Narrowed)]);
}

#[test]
fn a_stateless_group_is_listed_by_every_layout() {
    let policy = {
        let json = host("").to_json().to_string().replace("\"stateful\":true", "\"stateful\":false");
        Policy::from_json(&json).unwrap()
    };
    for layout in Layout::ALL {
        let listed = compiled(&policy, layout).unsupported;
        let found: Vec<_> = listed.iter().map(|one| (one.object, one.id.as_str(), one.consequence)).collect();
        assert_eq!(found, [("security group", "g", Consequence::Widened)], "{}", layout.name());
    }
}

#[test]
fn strict_floods_nothing_where_it_knows_the_way_out() {
    let floods = |policy: &Policy| {
        let normal = Action::Output(flowproof_packet::port::NORMAL);
        compiled(policy, Layout::Strict).flows.iter().any(|one| one.flow.actions.contains(&normal))
    };
    let policy = host("");
    assert!(!floods(&policy));
    let mut blind = policy.clone();
    blind.host.as_mut().unwrap().uplinks.clear();
    assert!(floods(&blind));
    let listed = compiled(&blind, Layout::Strict).unsupported;
    assert_eq!(listed.iter().map(|one| one.object).collect::<Vec<_>>(), ["network"]);
}

#[test]
fn strict_admits_what_a_rule_admits_and_its_answers_where_they_are_met() {
    let policy = host(&rule("ingress", "IPv4", "\"tcp\"", ("23", "23")));
    let mut flows: Vec<_> = compiled(&policy, Layout::Strict)
        .flows
        .iter()
        .filter(|one| one.why.contains("rule `r`"))
        .map(|one| one.flow.to_string())
        .collect();
    flows.sort();
    assert_eq!(
        flows,
        [
            "table=72, priority=80,ct_state=+rel+rpl-inv+trk,ct_nw_proto=6,ct_tp_dst=23,ip,reg5=0x5 actions=resubmit(,73)",
            "table=72, priority=80,ct_state=-rel+rpl-inv+trk,tcp,reg5=0x5,nw_frag=no,tp_src=23 actions=resubmit(,73)",
            "table=82, priority=80,ct_state=+rel-rpl-inv+trk,ct_nw_proto=6,ct_tp_dst=23,ip,reg5=0x5 actions=resubmit(,83)",
            "table=82, priority=80,ct_state=-rel-rpl-inv+trk,tcp,reg5=0x5,nw_frag=no,tp_dst=23 actions=resubmit(,83)",
        ]
    );
}

#[test]
fn strict_takes_the_range_of_all_ports_for_the_whole_protocol() {
    let flows = |ports| {
        let policy = host(&rule("ingress", "IPv4", "\"tcp\"", ports));
        let flows = compiled(&policy, Layout::Strict).flows.into_iter();
        flows.map(|one| one.flow.to_string()).collect::<Vec<_>>()
    };
    let all = flows(("null", "null"));
    assert_eq!(flows(("1", "65535")), all);
    assert_ne!(flows(("1", "65534")), all);
}

#[test]
fn an_uplink_of_strict_brings_no_network_that_may_come_from_anywhere() {
    let shut = |policy: &Policy| {
        let flows = compiled(policy, Layout::Strict).flows;
        let uplink = |flow: &Flow| flow.table == 0 && flow.priority == 2 && flow.actions.is_empty();
        flows.iter().filter(|one| uplink(&one.flow)).count()
    };
    let mut policy = host("");
    assert_eq!(shut(&policy), 0);
    for uplink in &mut policy.host.as_mut().unwrap().uplinks {
        uplink.kind = UplinkKind::Provider;
    }
    assert_eq!(shut(&policy), 1);
}
