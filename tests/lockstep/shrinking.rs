//! Failing scenarios become small, the same way each time.

use flowproof_compiler::Layout;
use flowproof_fuzz::{Choices, Wishes, campaign::minimised, scenario::scenario};
use flowproof_lockstep::{Difference, Ending, Patch, Scenario, parse, play, run, shrink};
use flowproof_switch::flow::{ParseOptions, parse_flows};

/// An even port that opens the next, in a host full of other things.
fn crowded() -> Scenario {
    let text = "# A note.
layout mitaka neutron
network a vlan 1053 physnet1
network b vxlan 7
uplink 1 provider physnet1
uplink 2 tunnel
addresses ag 10.0.0.0/8
group g0
  rule r0 ingress IPv4 tcp 22 with 10.0.0.0/8
  rule r1 ingress IPv6 any
group g1
  rule r2 egress IPv4 any
port p1 a mac fa:16:3e:00:00:01 ofport 11 vlan 1 ip 10.0.0.1 group g0 group g1
port p2 b mac fa:16:3e:00:00:02 ofport 12 vlan 2 ip 10.0.0.2 group g1
port p3 a mac fa:16:3e:00:00:03 ip 10.0.0.3 group g1
packet p1 > p3 arp
packet p3 > p1 tcp,tcp_src=4000,tcp_dst=22
advance 30s
packet p3 > p1 tcp,tcp_src=4001,tcp_dst=23 seq=17
  expect dropped
remove-rule r1
packet p1 > p3 arp
";
    parse(text).unwrap()
}

fn fails(scenario: &Scenario) -> bool {
    let over = |scenario: &Scenario| {
        let run = run(scenario, Some(Layout::Mitaka)).ok()?;
        let (_, seen) = run.first_divergence()?;
        Some(seen.differences.iter().any(|one| matches!(one, Difference::OverPermitted { .. })))
    };
    over(scenario) == Some(true)
}

#[test]
fn only_what_matters_is_left() {
    let small = shrink(&crowded(), fails);
    assert!(fails(&small));
    assert_eq!(small.steps.len(), 1, "{small}");
    assert_eq!(small.policy.ports.len(), 2, "{small}");
    assert_eq!(small.policy.groups.values().flat_map(|group| &group.rules).count(), 1, "{small}");
    assert_eq!(small.policy.networks.len(), 1, "{small}");
    assert!(small.notes.is_empty() && small.layouts().len() == 1, "{small}");
    assert_eq!(parse(&small.to_string()).as_ref(), Ok(&small), "{small}");
}

#[test]
fn the_same_failure_becomes_the_same_scenario() {
    assert_eq!(shrink(&crowded(), fails), shrink(&crowded(), fails));
}

#[test]
fn what_always_fails_becomes_nothing() {
    let bytes: Vec<u8> = (0..=255).cycle().take(700).collect();
    let wishes = Wishes::new(&[Layout::Neutron, Layout::Strict]);
    let scenario = scenario(&mut Choices::of(&bytes), &wishes).scenario;
    assert!(!scenario.steps.is_empty());
    let nothing = shrink(&scenario, |_| true);
    assert_eq!(nothing.to_string(), "layout neutron\n");
}

#[test]
fn what_is_small_can_still_be_read() {
    let some = |scenario: &Scenario| !scenario.policy.ports.is_empty();
    let small = shrink(&crowded(), some);
    assert_eq!(small.policy.ports.len(), 1);
    assert_eq!(small.policy.networks.len(), 1, "the port's network cannot go: {small}");
    assert_eq!(parse(&small.to_string()).as_ref(), Ok(&small), "{small}");
}

/// Two ports of one network, and packets that the tables let pass with the flow.
fn with_hole(packets: &str, flow: &'static str) -> (Scenario, Patch) {
    let text = format!(
        "layout strict
network a vlan 1053 physnet1
uplink 1 provider physnet1
group g0
  rule r0 ingress IPv4 udp 53
  rule r1 egress IPv4 udp 53
port p1 a mac fa:16:3e:00:00:01 ofport 11 vlan 1 ip 10.0.0.1 group g0
port p2 a mac fa:16:3e:00:00:02 ofport 12 vlan 1 ip 10.0.0.2 group g0
{packets}"
    );
    let patch = Patch::new(move |mut flows| {
        flows.extend(parse_flows(flow, &ParseOptions::default()).unwrap().flows);
        flows
    });
    (parse(&text).unwrap(), patch)
}

/// What the first divergence of a scenario is that nobody knows, and the model's reasons.
#[track_caller]
fn shown(scenario: &Scenario, patch: &Patch) -> String {
    let Ok(Ending::Unknown(_, seen)) =
        play(scenario, scenario.layouts().first().copied().flatten(), patch, |_, _| {})
    else {
        panic!("nothing unknown: {scenario}")
    };
    let says = seen.model.iter().map(|one| one.outcome.decisive().to_string());
    format!("{:?} {:?} {:?}", seen.arrival.origin, says.collect::<Vec<_>>(), seen.differences)
}

/// Making it small must not change why the model refuses what passes, nor which way it goes.
#[track_caller]
fn check_kept(packets: &str, flow: &'static str, words: &[&str]) {
    let (scenario, patch) = with_hole(packets, flow);
    let small = minimised(&scenario, scenario.layouts().first().copied().flatten(), &patch);
    let (before, after) = (shown(&scenario, &patch), shown(&small, &patch));
    for word in words {
        assert!(before.contains(word), "{word}: {before}");
        assert!(after.contains(word), "{word}: {before} becomes {after}\n{small}");
    }
    assert_eq!(small.steps.len(), 1, "{small}");
}

const OPEN: &str = "table=71,priority=200,ip,in_port=11 actions=output:12\n";

/// Without the forged address the same hole shows a packet without a rule; with one packet less, one from outside.
#[test]
fn a_divergence_does_not_become_another_one() {
    let noise = "packet p2 > p1 arp\n";
    let forged = format!("{noise}packet p1 > p2 udp,nw_src=10.0.0.9,udp_src=4000,udp_dst=53\n");
    check_kept(&forged, OPEN, &["SpoofedSource", "OverPermitted"]);
    let unasked = format!("{noise}packet p1 > p2 tcp,tcp_src=4000,tcp_dst=23\n{forged}");
    check_kept(&unasked, OPEN, &["NoRule", "OverPermitted"]);
    let outside = "table=0,priority=200,ip,in_port=1 actions=output:12\n";
    let strange = "packet uplink:1 dl_vlan=1053,dl_src=fa:16:3e:00:00:99,dl_dst=fa:16:3e:00:00:02,tcp,\
                   nw_src=10.0.0.7,nw_dst=10.0.0.2,tcp_dst=23\n";
    check_kept(strange, outside, &["Network(", "NoRule", "OverPermitted"]);
}
