//! All packets at once against one packet at a time: what symbolic execution says of a packet is what the interpreter
//! does with it, exit by exit, flow by flow. The comparison is the fuzzers' oracle.

use super::{
    hosts::{self, CORPUS, HARDENED, SEED},
    rng::Rng,
};
use flowproof_fuzz::{
    oracles,
    tables::{self, Spice},
};
use flowproof_packet::PortNo;
use flowproof_proofs::{replay, tables::Tables};
use flowproof_switch::{conntrack::Profile, flow::Groups};
use std::collections::BTreeMap;

/// Random packets of every form on one host; how many exits were compared.
#[track_caller]
fn compare(
    rng: &mut Rng,
    tables: &Tables,
    ports: &[PortNo],
    profile: Profile,
    in_port: PortNo,
    packets: usize,
) -> usize {
    let exits = oracles::compare_packets(rng, tables, ports, profile, in_port, packets);
    exits.unwrap_or_else(|objection| panic!("{objection}")).expect("the tables are small")
}

#[test]
fn random_tables_do_with_all_packets_what_they_do_with_each() {
    hosts::deep(random_tables);
}

fn random_tables() {
    let mut rng = Rng::new(3);
    let mut exits = 0;
    let rounds = std::env::var("FLOWPROOF_ROUNDS").map_or(TABLES, |n| n.parse().unwrap());
    for round in 0..rounds {
        let spice = Spice { opaque: round % 5 == 0, ..Spice::default() };
        let text = tables::text(&mut rng, spice);
        let tables = Tables::new(hosts::flows(&text));
        let profile = *rng.pick(&Profile::ALL);
        exits += compare(&mut rng, &tables, &[1, 2, 3, 4], profile, 1 + (round % 3) as PortNo, PACKETS);
    }
    assert!(exits > TABLES * PACKETS, "only {exits} exits");
}

const TABLES: usize = 250;
const PACKETS: usize = 8;

/// The tables that a real switch was tried on with constructs beyond fields and outputs. What is behind `check_pkt_larger` a
/// trace tells twice, so that is compared elsewhere.
#[test]
fn constructs_do_with_all_packets_what_they_do_with_each() {
    let mut rng = Rng::new(5);
    let (mut exits, mut tried) = (0, 0);
    for case in include_str!("../fixtures/ovs/constructs.tsv").split("case\t").skip(1) {
        let lines = |kind: &str| -> String {
            let of_kind = |line: &str| line.strip_prefix(kind).map(|text| format!("{}\n", text.trim()));
            case.lines().filter_map(of_kind).collect()
        };
        let (mut flows, groups) = (hosts::flows(&lines("flow\t")), lines("group\t"));
        if case.contains("check_pkt_larger") {
            continue;
        }
        // Which bucket is alive is left open; such a group is not followed here.
        let groups: String = groups.split_inclusive('\n').filter(|line| !line.contains("type=ff")).collect();
        Groups::parse(&groups, &BTreeMap::new()).unwrap().resolve(&mut flows);
        let tables = Tables::new(flows);
        for in_port in 1..=6 {
            exits += compare(&mut rng, &tables, &[1, 2, 3, 4, 5, 6], Profile::Userspace31, in_port, 6);
            tried += 1;
        }
    }
    assert!(tried > 100 && exits > 10 * tried, "only {exits} exits of {tried}");
}

#[test]
fn real_tables_do_with_all_packets_what_they_do_with_each() {
    let mut rng = Rng::new(4);
    let hosts = CORPUS.iter().map(|(_, text)| *text).chain([SEED, HARDENED]);
    for (number, text) in hosts.enumerate() {
        let host = hosts::host(text);
        let named = replay::ports(&host, host.ports.first().unwrap());
        let ports: Vec<PortNo> = named.iter().map(|port| port.ofport).collect();
        let profile = Profile::ALL[number % Profile::ALL.len()];
        let senders = [host.ports.first().unwrap().ofport, 1];
        for sender in senders {
            let exits = compare(&mut rng, &host.tables, &ports, profile, sender, 60);
            assert!(exits > 0, "nothing gets anywhere from port {sender} of host {number}");
        }
    }
}
