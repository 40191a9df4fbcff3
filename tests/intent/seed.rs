//! The host of 2016 and what its owner asked for.

use super::support::{Case, bind, flows, lines, read};
use flowproof_model::policy::Direction;
use flowproof_model::policy::Policy;
use flowproof_packet::{Field, wire};
use flowproof_proofs::{
    check::Judgement,
    intent::{COMPLETE, IntentFinding, SOUND, question::Placement},
};
use flowproof_switch::conntrack::Profile;

/// The host with the rule for TCP stated as 22 to `last`.
fn host(last: u16) -> Case {
    let text = read("tests/fixtures/intents/01_seed_scenario.json");
    let stated = "\"port_range_max\": 23";
    assert!(text.contains(stated));
    let text = text.replace(stated, &format!("\"port_range_max\": {last}"));
    bind(Policy::from_json(&text).unwrap(), flows(&read("examples/mitaka-2016/flows.txt")))
}

fn refuted(findings: &[IntentFinding]) -> Vec<&IntentFinding> {
    findings.iter().filter(|of| matches!(of.finding.judgement, Judgement::Refuted(_))).collect()
}

/// `tp_dst=0x16/0xfffe` is 22 and 23: right if that was asked for, wrong if 22 was.
#[test]
fn the_tables_open_port_23() {
    let case = host(22);
    let findings = case.judge(&[&SOUND], &Profile::ALL);
    let refuted = refuted(&findings);
    assert_eq!(refuted.len(), 2 * Profile::ALL.len(), "{:#?}", lines(&case, &findings));
    for of in refuted {
        assert_eq!((of.direction, of.placement), (Direction::Ingress, Placement::Remote));
        let Judgement::Refuted(replay) = &of.finding.judgement else { unreachable!() };
        let key = wire::extract(&replay.datagram, 0);
        assert_eq!((key.get(Field::NwProto), key.get(Field::TcpDst)), (6, 23));
        let port = case.host.ports[of.finding.port].ofport;
        let last = replay.events.last().unwrap();
        assert!(last.outcome.delivered().iter().any(|(to, _)| *to == port), "{last:?}");
        assert_eq!(of.says.as_deref(), Some("drop: NoRule"));
    }
}

#[test]
fn what_was_asked_for_is_all_that_passes() {
    let case = host(23);
    let findings = case.judge(&[&SOUND], &Profile::ALL);
    assert!(
        findings.iter().all(|of| of.finding.judgement.name() == "proved"),
        "{:#?}",
        lines(&case, &findings)
    );
    assert_eq!(findings.len(), 2 * 3 * Profile::ALL.len());
}

/// Router solicitations are taken for invalid, router advertisements too (the flows for them came later).
#[test]
fn the_tables_withhold_router_discovery() {
    let case = host(23);
    let findings = case.judge(&[&COMPLETE], &[Profile::Userspace31]);
    let expected = [
        "intent-complete 10 egress local-filtered proved",
        "intent-complete 10 egress remote refuted",
        "intent-complete 10 ingress remote refuted",
        "intent-complete 13 egress local-filtered proved",
        "intent-complete 13 egress remote refuted",
        "intent-complete 13 ingress remote refuted",
    ];
    assert_eq!(lines(&case, &findings), expected);
    for of in refuted(&findings) {
        let Judgement::Refuted(replay) = &of.finding.judgement else { unreachable!() };
        let wanted = if of.direction == Direction::Egress { 133 } else { 134 };
        assert_eq!(wire::extract(&replay.datagram, 0).get(Field::Icmpv6Type), wanted);
    }
}

/// Without a `host` section the bindings are those that the flows speak of.
#[test]
fn bindings_are_inferred_by_mac() {
    let text = read("tests/fixtures/intents/01_seed_scenario.json");
    let mut whole = Policy::from_json(&text).unwrap();
    let named = whole.host.take().unwrap();
    let case = bind(whole, flows(&read("examples/mitaka-2016/flows.txt")));
    let inferred = case.site.policy.host.as_ref().unwrap();
    let sorted = |host: &flowproof_model::policy::Host| {
        let mut all: Vec<_> = host.bindings.iter().map(|(id, at)| (id.clone(), *at)).collect();
        all.sort();
        all
    };
    assert_eq!(sorted(inferred), sorted(&named));
    assert_eq!(inferred.uplinks.len(), 1);
    assert_eq!(inferred.uplinks[0].ofport, named.uplinks[0].ofport);
}
