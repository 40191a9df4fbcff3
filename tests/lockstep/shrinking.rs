//! Failing scenarios become small, the same way each time.

use flowproof_compiler::Layout;
use flowproof_fuzz::{Choices, Wishes, scenario::scenario};
use flowproof_lockstep::{Scenario, parse, run, shrink};

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
        Some(
            seen.differences
                .iter()
                .any(|one| matches!(one, flowproof_lockstep::Difference::OverPermitted { .. })),
        )
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
