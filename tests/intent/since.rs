//! What a change breaks of agreement with an intent that the tables did not keep before either.

use super::support::{bind, flows, read};
use flowproof_model::policy::Policy;
use flowproof_packet::{Field, wire};
use flowproof_proofs::{
    check::Judgement,
    intent::{self, Ask, COMPLETE, SOUND},
    since::Since,
    tables::Tables,
};
use flowproof_switch::conntrack::Profile;

/// The verdicts on port 13 of the host of 2016, whose tables open TCP port 23 without being asked to, with its flows as
/// `change` makes them.
fn since(change: impl Fn(&str) -> String) -> Vec<(&'static str, Judgement)> {
    let text = read("tests/fixtures/intents/01_seed_scenario.json");
    let text = text.replace("\"port_range_max\": 23", "\"port_range_max\": 22");
    let before = read("examples/mitaka-2016/flows.txt");
    let case = bind(Policy::from_json(&text).unwrap(), flows(&change(&before)));
    let profiles = [Profile::Kernel];
    let since = Since::new(case.host, Tables::new(flows(&before)), &profiles);
    let ports = since.now.ports.iter().filter(|port| port.ofport == 13).collect();
    let (properties, profiles) = (vec![&SOUND, &COMPLETE], profiles.to_vec());
    let ask = Ask { host: &since.now, site: &case.site, ports, properties, profiles, watch: &() };
    let found = intent::check_since(&ask, &since);
    found.into_iter().map(|of| (of.finding.property.name, of.finding.judgement)).collect()
}

#[track_caller]
fn check(change: impl Fn(&str) -> String, property: &str, ports: std::ops::RangeInclusive<u128>) {
    let all = since(change);
    let refuted: Vec<_> = all.iter().filter(|(_, judgement)| judgement.name() != "no-worse").collect();
    assert!(!refuted.is_empty(), "nothing is new");
    for (name, judgement) in refuted {
        let Judgement::Refuted(replay) = judgement else { panic!("{name}: {judgement:?}") };
        let packet = wire::extract(&replay.datagram, 0);
        assert_eq!(*name, property);
        assert!(ports.contains(&packet.get(Field::TcpDst)), "{packet:?}");
    }
}

#[test]
fn a_port_that_was_open_is_not_new_and_its_neighbours_are() {
    assert!(since(str::to_owned).iter().all(|(_, judgement)| judgement.name() == "no-worse"));
    check(|text| text.replace("tp_dst=0x16/0xfffe", "tp_dst=0x14/0xfffc"), "intent-sound", 20..=21);
}

/// The tables withhold router discovery already.
#[test]
fn what_was_withheld_is_not_new_and_what_is_withheld_now_is() {
    check(|text| text.replace("tp_dst=0x16/0xfffe", "tp_dst=0x17"), "intent-complete", 22..=22);
}
