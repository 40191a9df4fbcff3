//! What cannot be decided is not decided: empty hosts, states that nothing reaches, things that are not modelled, tables
//! that call themselves.

use super::hosts::{self, HARDENED};
use flowproof_packet::PortNo;
use flowproof_proofs::{
    bdd::Bdds,
    check::{self, Engines, Finding, Judgement, Task},
    diagram::Host,
    frames, ports,
    symbolic::{self, Emit},
    symkey::Form,
    tables::Tables,
};
use flowproof_switch::conntrack::Profile;

/// A port in the layout of Neutron's driver: what may be said of it, and nothing that lets it send.
const PORT: &str = "\
table=0,priority=100,in_port=5 actions=load:5->NXM_NX_REG5[],load:1->NXM_NX_REG6[],resubmit(,71)
table=0,priority=90,dl_vlan=1,dl_dst=fa:16:3e:00:00:05 actions=load:5->NXM_NX_REG5[],load:1->NXM_NX_REG6[],resubmit(,81)
table=71,priority=95,arp,in_port=5,reg5=5,dl_src=fa:16:3e:00:00:05,arp_spa=10.0.1.5 actions=resubmit(,94)
table=71,priority=65,ct_state=-trk,ip,in_port=5,reg5=5,dl_src=fa:16:3e:00:00:05,nw_src=10.0.1.5 actions=ct(table=72,zone=1)
table=71,priority=65,ct_state=-trk,ipv6,in_port=5,reg5=5,dl_src=fa:16:3e:00:00:05,ipv6_src=fe80::f816:3eff:fe00:5 actions=ct(table=72,zone=1)
table=73,priority=100,reg6=1,dl_dst=fa:16:3e:00:00:05 actions=load:5->NXM_NX_REG5[],resubmit(,81)
";

#[track_caller]
fn found<'h>(host: &'h Host, property: &str, engines: Engines) -> Finding {
    let task: Task<'h> = Task {
        properties: vec![hosts::property(property)],
        profiles: vec![Profile::Userspace31],
        engines,
        ..hosts::task(host)
    };
    let mut findings = check::check(&task).findings;
    assert_eq!(findings.len(), 1, "one port");
    findings.remove(0)
}

/// The verdict on the port of [`PORT`] with more flows.
#[track_caller]
fn check(more: &str, property: &str, verdict: &str, why: &str) {
    let host = hosts::host(&format!("{PORT}{more}"));
    let finding = found(&host, property, Engines::Both);
    assert_eq!(finding.judgement.name(), verdict, "{finding:#?}");
    match &finding.judgement {
        Judgement::Unknown(text) | Judgement::Vacuous(text) => assert!(text.contains(why), "{text}"),
        Judgement::Proved(_)
        | Judgement::Listed(_)
        | Judgement::Refuted(_)
        | Judgement::NoWorse(_)
        | Judgement::Contradiction(_) => {}
    }
}

#[test]
fn a_host_without_ports_has_no_findings() {
    let host = hosts::host("table=0,priority=0 actions=NORMAL");
    assert!(host.ports.is_empty() && hosts::findings(&host).findings.is_empty());
}

#[test]
fn where_nothing_escapes_nothing_is_proved() {
    check("table=94 actions=drop", "spoofed-mac", "vacuous", "escapes");
    check("table=94 actions=drop", "dhcp-server", "vacuous", "escapes");
    check("table=94 actions=NORMAL", "dhcp-server", "vacuous", "dhcp-server");
    check("table=94 actions=NORMAL", "spoofed-arp", "proved", "");
}

/// Only replies may leave, and nothing ever admits a connection: the engines see a way out, nobody can go it.
#[test]
fn a_state_that_nothing_reaches_is_unknown_and_never_refuted() {
    let replies =
        "table=72,priority=50,ct_state=+est+rpl,reg5=5 actions=mod_dl_src:fa:16:3e:00:00:09,output:1";
    check(replies, "dhcp-server", "unknown", "state not shown reachable");
    let host = hosts::host(&format!("{PORT}{replies}"));
    let finding = found(&host, "dhcp-server", Engines::Both);
    assert_eq!((finding.diagram, finding.z3), (Some("unknown"), Some("refuted")));
    let alone = found(&host, "dhcp-server", Engines::Z3);
    assert_eq!(alone.judgement.name(), "unknown");
    let created = format!("{replies}\ntable=81,ip,reg5=5 actions=ct(commit,zone=1),output:5");
    check(&created, "dhcp-server", "refuted", "");
}

#[test]
fn what_rests_on_something_that_is_not_modelled_is_unknown() {
    let why = "which is not modelled";
    for opaque in ["group:7", "bundle(eth_src,0,active_backup,ofport,members:1,2)"] {
        let flow = format!("table=71,priority=200,in_port=5 actions={opaque}");
        for property in ["spoofed-mac", "fragment-escape", "vlan-escape"] {
            check(&flow, property, "unknown", why);
        }
    }
    check("table=71,priority=200,in_port=5,tun_metadata0=1 actions=drop", "spoofed-mac", "unknown", why);
    // Somebody else's packets add flows to the table that these are looked up in.
    let learns = "table=71,priority=200,in_port=5 actions=resubmit(,98)\n\
                  table=99 actions=learn(table=98,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])";
    check(learns, "spoofed-mac", "unknown", why);
}

#[test]
fn the_controller_is_no_network_to_escape_into() {
    let punted = "table=71,priority=200,in_port=5 actions=CONTROLLER:65535";
    check(punted, "spoofed-mac", "vacuous", "escapes");
    check(punted, "vlan-escape", "vacuous", "escapes");
}

#[test]
fn what_is_only_bounded_is_unknown() {
    let why = "not modelled exactly";
    let unmodelled = "which is not modelled";
    check("table=71,priority=200,in_port=5,udp actions=dec_ttl", "dhcp-server", "unknown", unmodelled);
    // The switch drops it: too many calls. The outputs before stand in the engines.
    check("table=71,priority=200,in_port=5 actions=output:1,resubmit(,71)", "spoofed-mac", "unknown", why);
}

#[test]
fn tables_that_call_themselves_come_to_an_end() {
    let loops = [
        "table=0 actions=resubmit(,0)",
        "table=0 actions=resubmit(,0),output:2",
        "table=0 actions=resubmit(,1)\ntable=1 actions=resubmit(,0)",
        "table=0,ip actions=ct(table=0)",
        "table=0,ip actions=ct(table=0),ct(table=0)\ntable=0,arp actions=resubmit(,0)",
    ];
    for text in loops {
        let tables = Tables::new(hosts::flows(text));
        hosts::deep(move || {
            let mut sets = Bdds::with_limit(1_000_000);
            let start = frames::sendable(&mut sets, Form::Whole);
            let run = symbolic::execute(&mut sets, &tables, Profile::Userspace31, Form::Whole, 1, start);
            assert!(run.complete);
            let odd = run.events.iter().filter(|event| !matches!(event.emit, Emit::Limit | Emit::Port(2)));
            assert_eq!(odd.count(), 0);
        });
    }
}

#[test]
fn endless_work_is_given_up_and_says_so() {
    // Each call calls twice, sixty-four deep.
    let tables = Tables::new(hosts::flows("table=0 actions=resubmit(,0),resubmit(,0)"));
    hosts::deep(move || {
        let mut sets = Bdds::with_limit(1_000_000);
        let start = frames::sendable(&mut sets, Form::Whole);
        let run = symbolic::execute(&mut sets, &tables, Profile::Userspace31, Form::Whole, 1, start);
        let limited = run.events.iter().any(|event| event.emit == Emit::Limit);
        assert!(limited || !run.complete);
    });
}

#[track_caller]
fn conflicts(text: &str, port: PortNo, wanted: &[&str]) {
    let ports = ports::derive(&hosts::flows(text));
    let port = ports.iter().find(|known| known.ofport == port).unwrap();
    let found: Vec<&str> = port.conflicts.iter().map(String::as_str).collect();
    assert_eq!(found.len(), wanted.len(), "{found:?}");
    assert!(wanted.iter().all(|part| found.iter().any(|conflict| conflict.contains(part))), "{found:?}");
}

#[track_caller]
fn hardened(from: &str, to: &str) -> String {
    assert_eq!(HARDENED.matches(from).count(), 1, "{from}");
    HARDENED.replace(from, to)
}

#[test]
fn what_only_one_place_says_of_a_port_is_shown_and_not_permitted() {
    conflicts(HARDENED, 5, &[]);
    let arp = "dl_src=fa:16:3e:00:00:05,arp_spa=10.0.1.5";
    let elsewhere = hardened(arp, "dl_src=fa:16:3e:00:00:05,arp_spa=10.0.1.9");
    let (arp_only, ip_only) = ("10.0.1.9 may send ARP but not IPv4", "10.0.1.5 may send IPv4 but not ARP");
    conflicts(&elsewhere, 5, &[arp_only, ip_only]);
    let ports = ports::derive(&hosts::flows(&elsewhere));
    assert!(ports.iter().find(|port| port.ofport == 5).unwrap().pairs4.is_empty());
    let other = "table=73,priority=100,reg6=1,dl_dst=fa:16:3e:00:00:05";
    let moved = hardened(other, "table=73,priority=100,reg6=1,dl_dst=fa:16:3e:00:00:07");
    conflicts(&moved, 5, &["fa:16:3e:00:00:07 is in table 73", "fa:16:3e:00:00:05 is in classification"]);
    let classified = "table=60,priority=100,in_port=5 actions=load:5->NXM_NX_REG5[],load:1->";
    let networks =
        hardened(classified, "table=60,priority=100,in_port=5 actions=load:5->NXM_NX_REG5[],load:2->");
    conflicts(&networks, 5, &["classified into 2 networks"]);
    let foreign =
        hardened(classified, "table=60,priority=100,in_port=5 actions=load:6->NXM_NX_REG5[],load:1->");
    conflicts(&foreign, 5, &["not classified as its own"]);
}

/// What a port sends may be looked at by nobody, though the tables have rules for it: it is meant to be filtered.
#[test]
fn a_port_with_rules_that_nothing_classifies_is_a_filtered_port() {
    for rule in [
        "table=72,priority=74,ct_state=+new-est,ip,reg5=9 actions=resubmit(,73)",
        "table=81,priority=100,arp,reg5=9 actions=output:9",
        "table=82,priority=70,ct_state=+new-est,ip,reg5=9 actions=output:9",
    ] {
        conflicts(&format!("{HARDENED}\n{rule}"), 9, &[ports::UNCLASSIFIED, "classified into 0 networks"]);
    }
    let none = "table=73,priority=80,reg5=9 actions=resubmit(,94)";
    let ports = ports::derive(&hosts::flows(&format!("{HARDENED}\n{none}")));
    assert!(ports.iter().all(|port| port.ofport != 9), "{ports:?}");
}

/// A conjunction decides who may send; the engines follow it as the switch does.
#[test]
fn conjunctions_are_followed() {
    let rule = "\
table=72,priority=70,conj_id=8,ip,reg5=5 actions=output:1
table=72,priority=70,ct_state=+new,udp,reg5=5 actions=conjunction(8,1/2)
table=72,priority=70,ip,nw_dst=10.0.9.0/24 actions=conjunction(8,2/2)
";
    check(rule, "dhcp-server", "refuted", "");
    let halved = rule.replace("(8,2/2)", "(9,2/2)");
    check(&halved, "dhcp-server", "vacuous", "");
    let guarded = format!("{rule}table=72,priority=70,udp,tp_src=67,tp_dst=68 actions=drop\n");
    check(&guarded, "dhcp-server", "proved", "");
}
