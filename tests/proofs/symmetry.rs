//! What is found out about one port and said of all that it may be exchanged with.

use super::{hosts, rng::Rng};
use flowproof_compiler::{Layout, Options, compile};
use flowproof_model::policy::Policy;
use flowproof_packet::{Field, PortNo};
use flowproof_proofs::{
    check::{self, Engines, Judgement, Task, Watch, Witness},
    diagram::Host,
    intent::{self, layout, site::Site},
    isolation::{self, ROWS},
    predicate::Predicate,
    symmetry::Symmetry,
    tables::Tables,
};
use flowproof_switch::conntrack::Profile;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// Ports of two networks: number, VLAN, security group.
const PORTS: [(PortNo, u16, &str); 7] = [
    (10, 1, "web"),
    (11, 1, "web"),
    (12, 1, "web"),
    (13, 1, "web"),
    (14, 1, "db"),
    (15, 1, "db"),
    (20, 2, "web"),
];

/// Web servers that talk to each other, databases that web servers talk to.
fn intent() -> Value {
    let rule = |group: &str, direction: &str, port: u16, peer: Value| {
        let mut rule = json!({
            "id": format!("{group}-{direction}-{port}"), "security_group_id": group, "direction": direction,
            "ethertype": "IPv4", "protocol": "tcp", "port_range_min": port, "port_range_max": port,
            "remote_ip_prefix": null, "remote_group_id": null, "remote_address_group_id": null,
        });
        rule.as_object_mut().unwrap().extend(peer.as_object().unwrap().clone());
        rule
    };
    let any = json!({"protocol": null, "port_range_min": null, "port_range_max": null});
    let groups = json!([
        {"id": "web", "stateful": true, "security_group_rules": [
            rule("web", "ingress", 80, json!({})), rule("web", "ingress", 22, json!({"remote_ip_prefix": "192.0.2.0/24"})),
            rule("web", "ingress", 8080, json!({"remote_group_id": "web"})), rule("web", "egress", 0, any.clone())]},
        {"id": "db", "stateful": true, "security_group_rules": [
            rule("db", "ingress", 5432, json!({"remote_group_id": "web"})), rule("db", "egress", 0, any)]},
    ]);
    let port = |(ofport, vlan, group): (PortNo, u16, &str)| {
        json!({
            "id": format!("port{ofport}"), "network_id": format!("net{vlan}"), "mac_address": format!("fa:16:3e:00:00:{ofport:02x}"),
            "fixed_ips": [{"ip_address": format!("10.0.{vlan}.{ofport}")}], "allowed_address_pairs": [],
            "security_groups": [group], "port_security_enabled": true, "device_owner": "compute:nova",
        })
    };
    let bind = |(ofport, vlan, _): (PortNo, u16, &str)| json!({"port_id": format!("port{ofport}"), "ofport": ofport, "vlan": vlan});
    json!({
        "networks": [{"id": "net1"}, {"id": "net2"}], "security_groups": groups, "address_groups": [],
        "ports": PORTS.map(port), "host": {"bindings": PORTS.map(bind), "uplinks": [{"ofport": 1, "kind": "tunnel"}]},
    })
}

/// A host, and what was asked for.
struct Case {
    host: Host,
    site: Site,
}

fn tables(intent: &Value, layout: Layout) -> String {
    let policy = Policy::from_json(&intent.to_string()).unwrap();
    let compiled = compile(&policy, policy.host.as_ref().unwrap(), layout, &Options::default());
    compiled.flows.iter().map(|one| format!("{}\n", one.flow)).collect()
}

fn case(intent: &Value, text: &str) -> Case {
    let flows = hosts::flows(text);
    let (site, _, _) = layout::bind(Policy::from_json(&intent.to_string()).unwrap(), &flows);
    Case { host: Host { ports: site.ports(&flows), tags: site.tags(), tables: Tables::new(flows) }, site }
}

fn classes(case: &Case) -> Vec<Vec<PortNo>> {
    classes_of(case, &Symmetry::new(&case.host, Some(&case.site)))
}

/// The classes of more than one port.
fn classes_of(case: &Case, symmetry: &Symmetry) -> Vec<Vec<PortNo>> {
    let mut classes: BTreeMap<PortNo, Vec<PortNo>> = BTreeMap::new();
    for port in &case.host.ports {
        classes.entry(symmetry.class(port.ofport)).or_default().push(port.ofport);
    }
    classes.into_values().filter(|class| class.len() > 1).collect()
}

const LAYOUTS: [Layout; 3] = [Layout::Mitaka, Layout::Neutron, Layout::Strict];

#[test]
fn ports_of_one_network_and_group_may_be_exchanged() {
    let intent = intent();
    for layout in LAYOUTS {
        let case = case(&intent, &tables(&intent, layout));
        assert_eq!(classes(&case), [vec![10, 11, 12, 13], vec![14, 15]], "{layout:?}");
    }
}

/// Our layout hands frames for groups to one port after the other, in the order of their numbers. Flows that any port's
/// turn may hit, or that come after all of them, may make that order tell.
#[track_caller]
fn check_order(flows: &str, open: bool) {
    let intent = intent();
    let case = case(&intent, &format!("{}{flows}\n", tables(&intent, Layout::Strict)));
    let expected = if open { vec![vec![10, 11, 12, 13], vec![14, 15]] } else { Vec::new() };
    assert_eq!(classes(&case), expected, "{flows}");
}

const COMMIT: &str = "ct(commit,zone=NXM_NX_REG6[0..15]),resubmit(,83)";

#[test]
fn receivers_that_leave_the_packet_as_it_is_may_have_their_turns_in_any_order() {
    check_order("table=82,priority=200,tcp actions=resubmit(,83)", true);
    check_order(&format!("table=82,priority=200,tcp,dl_dst=02:00:00:00:00:05 actions={COMMIT}"), true);
    check_order("table=81,priority=200,ct_state=-trk,tcp actions=ct(table=82,zone=9)", true);
}

#[test]
fn receivers_that_change_the_packet_may_not() {
    check_order("table=82,priority=200,tcp actions=set_field:0x1->reg7,resubmit(,83)", false);
    check_order(&format!("table=82,priority=200,tcp actions={COMMIT}"), false);
    check_order("table=81,priority=200,tcp actions=ct(table=82,zone=9)", false);
    check_order("table=82,priority=200,tcp actions=resubmit(,81)", false);
    check_order("table=82,priority=200,tcp actions=dec_ttl,resubmit(,83)", false);
}

#[test]
fn nobody_may_look_at_whose_turn_was_the_last() {
    let group = "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00";
    check_order(&format!("table=60,priority=70,{group} actions=resubmit(,74),output:1"), true);
    check_order(&format!("table=60,priority=70,{group} actions=resubmit(,74),resubmit(,82)"), false);
    check_order(
        &format!("table=60,priority=70,{group} actions=resubmit(,74),output:NXM_NX_REG5[0..15]"),
        false,
    );
}

#[test]
fn flows_that_no_frame_in_question_hits_may_be_what_they_like() {
    let intent = intent();
    let for_one = "table=73,priority=99,reg6=0x1,dl_dst=01:00:5e:00:00:05 actions=output:10\n";
    let case = case(&intent, &format!("{}{for_one}", tables(&intent, Layout::Strict)));
    let apart = [vec![11, 12, 13], vec![14, 15]];
    assert_eq!(classes(&case), apart);
    let unicast = Predicate::Is(Field::DlDst, 1 << 40, 1 << 40).negate();
    let among =
        |wanted: &Predicate| check::with_deep_stack(|| Symmetry::among(&case.host, Some(&case.site), wanted));
    assert_eq!(classes_of(&case, &among(&unicast)), [vec![10, 11, 12, 13], vec![14, 15]]);
    assert_eq!(classes_of(&case, &among(&Predicate::always())), apart);
}

/// What `flows` beside those of the driver make of the web servers' class.
#[track_caller]
fn among(flows: &str, expected: &[&[PortNo]]) {
    let intent = intent();
    let text = format!("{}{flows}", tables(&intent, Layout::Neutron));
    assert_eq!(classes(&case(&intent, &text)), expected, "{flows}");
}

#[test]
fn a_flow_that_is_for_one_port_alone_sets_it_apart() {
    let apart: &[&[PortNo]] = &[&[10, 11, 13], &[14, 15]];
    among("table=82,priority=200,reg5=12,udp actions=output:12\n", apart);
    among("table=71,priority=200,in_port=12,arp actions=NORMAL\n", apart);
    among("table=72,priority=200,ip,nw_dst=10.0.1.12 actions=drop\n", apart);
    among("table=73,priority=200,dl_dst=fa:16:3e:00:00:0c actions=NORMAL\n", apart);
    among("table=0,priority=200,udp,in_port=1 actions=output:12\n", apart);
    among("table=0,priority=200,udp,in_port=1 actions=set_field:12->reg5,resubmit(,82)\n", apart);
    among("table=0,priority=200,arp,arp_spa=10.0.1.12 actions=NORMAL\n", apart);
    among(
        "table=0,priority=200,icmp6,icmp_type=135,icmp_code=0,nd_sll=fa:16:3e:00:00:0c actions=NORMAL\n",
        apart,
    );
    among("table=72,priority=200,ct_state=+trk+est,ip,ct_nw_src=10.0.1.12 actions=drop\n", apart);
}

#[test]
fn a_flow_for_each_of_them_keeps_them_together() {
    let all: &[&[PortNo]] = &[&[10, 11, 12, 13], &[14, 15]];
    let each: String = [10, 11, 12, 13]
        .map(|port| format!("table=82,priority=200,reg5={port},udp actions=output:{port}\n"))
        .concat();
    among(&each, all);
    among("table=82,priority=200,udp,nw_src=10.0.0.0/8 actions=drop\n", all);
    among("table=82,priority=200,udp,dl_src=fa:16:3e:00:00:00/ff:ff:ff:00:00:00 actions=drop\n", all);
    let crossed = each.replace("output:12", "output:13");
    among(&crossed, &[&[10, 11], &[14, 15]]);
}

#[test]
fn a_prefix_that_holds_some_of_them_divides_them() {
    among("table=82,priority=200,udp,nw_src=10.0.1.8/30 actions=drop\n", &[&[10, 11], &[12, 13], &[14, 15]]);
    among("table=82,priority=200,udp,reg5=0x8/0xfffffffc actions=drop\n", &[&[10, 11], &[12, 13], &[14, 15]]);
}

#[test]
fn tables_that_move_port_numbers_about_in_parts_have_no_symmetry() {
    for action in ["set_field:0x1/0x1->reg5", "move:NXM_NX_REG5[]->NXM_NX_REG7[]", "output:NXM_NX_REG7[]"] {
        among(&format!("table=99,priority=200,udp actions={action}\n"), &[]);
    }
}

#[test]
fn an_intent_that_tells_them_apart_does() {
    let all = intent();
    let text = tables(&all, Layout::Neutron);
    let classes_of = |change: &dyn Fn(&mut Value)| {
        let mut intent = all.clone();
        change(&mut intent);
        classes(&case(&intent, &text))
    };
    let apart = [vec![10, 11, 13], vec![14, 15]];
    let pair = json!([{"ip_address": "10.9.9.9", "mac_address": "fa:16:3e:00:00:0c"}]);
    assert_eq!(classes_of(&|intent| intent["ports"][2]["allowed_address_pairs"] = pair.clone()), apart);
    assert_eq!(classes_of(&|intent| intent["ports"][2]["security_groups"] = json!(["web", "db"])), apart);
    let rule = |intent: &mut Value, peer: &str| {
        intent["security_groups"][0]["security_group_rules"][1]["remote_ip_prefix"] = json!(peer);
    };
    assert_eq!(classes_of(&|intent| rule(intent, "10.0.1.12/32")), apart);
    assert_eq!(
        classes_of(&|intent| rule(intent, "10.0.1.12/31")),
        [vec![10, 11], vec![12, 13], vec![14, 15]]
    );
    let elsewhere = json!({
        "id": "elsewhere", "network_id": "net1", "mac_address": "fa:16:3e:00:01:00", "fixed_ips": [{"ip_address": "10.0.1.200"}],
        "allowed_address_pairs": [{"ip_address": "10.0.1.12"}], "security_groups": ["db"],
        "port_security_enabled": true, "device_owner": "compute:nova",
    });
    assert_eq!(classes_of(&|intent| intent["ports"].as_array_mut().unwrap().push(elsewhere.clone())), apart);
}

type Verdicts = BTreeMap<String, &'static str>;

/// How verdicts are come to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Those on one port are said of all that it may be exchanged with, each shown with its own packets.
    Each,
    /// Those are shown with the packets of the first.
    First,
    /// Every port is asked, beside every other.
    Slowly,
}

/// Who wants to see the packets of the first port only.
struct OnlyFirst;

impl Watch for OnlyFirst {
    fn wants_each(&self) -> bool {
        false
    }
}

impl Way {
    fn watch(self) -> &'static dyn Watch {
        if self == Self::First { &OnlyFirst } else { &() }
    }
}

fn sent(case: &Case, profiles: &[Profile], way: Way) -> Verdicts {
    let ports: Vec<_> = case.host.ports.iter().collect();
    let alone = way == Way::Slowly;
    let groups: Vec<_> = if alone { ports.chunks(1).map(<[_]>::to_vec).collect() } else { vec![ports] };
    let mut all = Verdicts::new();
    for ports in groups {
        let profiles = profiles.to_vec();
        let task = hosts::task(&case.host);
        let task = Task { ports, profiles, engines: Engines::Diagram, watch: way.watch(), ..task };
        for of in check::check(&task).findings {
            let port = task.ports[of.port].ofport;
            all.insert(format!("{} {port} {}", of.property.name, of.profile.name()), of.judgement.name());
        }
    }
    all
}

fn isolated(case: &Case, profiles: &[Profile], way: Way) -> Verdicts {
    let (host, site) = (&case.host, Some(&case.site));
    let (ports, properties) = (host.ports.iter().collect(), ROWS.iter().map(|row| &row.property).collect());
    let (profiles, watch) = (profiles.to_vec(), way.watch());
    let ask = isolation::Ask { host, site, ports, properties, profiles, watch };
    let found = if way == Way::Slowly { isolation::check_slowly(&ask) } else { isolation::check(&ask) };
    let line = |of: isolation::IsolationFinding| {
        let port = ask.ports[of.finding.port].ofport;
        let name = format!("{} {port} {}", of.finding.property.name, of.finding.profile.name());
        (name, of.finding.judgement.name())
    };
    found.into_iter().map(line).collect()
}

fn agreed(case: &Case, profiles: &[Profile], way: Way) -> Verdicts {
    let (host, site) = (&case.host, &case.site);
    let (ports, properties) = (host.ports.iter().collect(), intent::PROPERTIES.to_vec());
    let (profiles, watch) = (profiles.to_vec(), way.watch());
    let ask = intent::Ask { host, site, ports, properties, profiles, watch };
    let found = if way == Way::Slowly { intent::check_slowly(&ask) } else { intent::check(&ask) };
    let line = |of: intent::IntentFinding| {
        let (port, finding) = (ask.ports[of.finding.port].ofport, &of.finding);
        let way = format!("{} {}", of.direction.name(), of.placement.name());
        (
            format!("{} {port} {way} {}", finding.property.name, finding.profile.name()),
            finding.judgement.name(),
        )
    };
    found.into_iter().map(line).collect()
}

/// One flow of `text` lost, stopped or moved to another priority, or one too many.
fn damaged(text: &str, rng: &mut Rng) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let (at, port) = (rng.below(lines.len()), 10 + rng.below(6));
    let line = lines[at];
    let other = match rng.below(4) {
        0 => String::new(),
        1 => format!("{}actions=drop\n", line.split("actions=").next().unwrap()),
        2 => format!("{line}\ntable=82,priority=200,reg5={port},tcp actions=output:{port}\n"),
        _ => format!("{line}\ntable=71,priority=200,in_port={port},udp actions=NORMAL\n"),
    };
    let whole = |(place, line): (usize, &&str)| if place == at { other.clone() } else { format!("{line}\n") };
    lines.iter().enumerate().map(whole).collect()
}

/// How many tables to damage; more where time is no matter.
fn rounds(layout: Layout) -> usize {
    let wanted = std::env::var("FLOWPROOF_SYMMETRY").ok().and_then(|text| text.parse().ok());
    wanted.unwrap_or(usize::from(layout == Layout::Neutron))
}

#[test]
fn what_symmetry_says_is_what_asking_everybody_says() {
    let (mut rng, profiles) = (Rng::new(4711), [Profile::Userspace31]);
    let mut all = intent();
    // The slow way asks each pair of ports.
    for list in [&["ports"][..], &["host", "bindings"]] {
        let list = list.iter().fold(&mut all, |at, name| &mut at[*name]).as_array_mut().unwrap();
        list.retain(|of| {
            ["port10", "port11", "port12", "port14"].iter().any(|id| of["id"] == *id || of["port_id"] == *id)
        });
    }
    let mut refuted = 0;
    for layout in LAYOUTS {
        let whole = tables(&all, layout);
        for round in 0..=rounds(layout) {
            let text = if round == 0 { whole.clone() } else { damaged(&whole, &mut rng) };
            let case = case(&all, &text);
            let [each, first, slowly] = [Way::Each, Way::First, Way::Slowly].map(|way| {
                check::with_deep_stack(|| {
                    [
                        sent(&case, &profiles, way),
                        isolated(&case, &profiles, way),
                        agreed(&case, &profiles, way),
                    ]
                })
            });
            assert_eq!(each, slowly, "{layout:?} {text}");
            assert_eq!(first, slowly, "{layout:?} {text}");
            refuted +=
                each.iter().flat_map(BTreeMap::values).filter(|verdict| **verdict == "refuted").count();
        }
    }
    assert!(refuted > 10, "{refuted}");
}

/// Who wants the first port only is not shown packets of its own for another one; who wants each is.
#[test]
fn packets_are_sent_for_each_port_where_each_is_wanted() {
    let all = intent();
    let case = case(&all, &tables(&all, LAYOUTS[0]));
    let shared = |way: Way| {
        let ports: Vec<_> = case.host.ports.iter().collect();
        let profiles = vec![Profile::Userspace31];
        let task = hosts::task(&case.host);
        let task = Task { ports, profiles, engines: Engines::Diagram, watch: way.watch(), ..task };
        let findings = check::check(&task).findings;
        let shown = |at: usize| match &findings[at].judgement {
            Judgement::Refuted(replay) | Judgement::Proved(Witness::Escapes(replay)) => Some(replay.clone()),
            _ => None,
        };
        let pairs = (1..findings.len()).filter_map(|at| Some((shown(at - 1)?, shown(at)?)));
        pairs.filter(|(a, b)| Arc::ptr_eq(a, b)).count()
    };
    assert_eq!(shared(Way::Each), 0);
    assert!(shared(Way::First) > 10);
}
