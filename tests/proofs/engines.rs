//! Decision diagrams, run forwards, against Z3, asked backwards: one answer for every property, table and datapath.

use super::{hosts, rng::Rng};
use flowproof_fuzz::tables::{self as random_flows, Spice};
use flowproof_packet::{MacAddr, PortNo};
use flowproof_proofs::{
    check::{self, Engines, Judgement, Task},
    diagram::{Diagram, Host},
    ports::{Pair, Port},
    properties::{self, Judge},
    tables::Tables,
    z3_engine::Answer,
    z3_port::Z3Port,
};
use flowproof_switch::conntrack::Profile;
use std::collections::BTreeMap;

/// A port that owns what the random tables speak of.
fn port(ofport: PortNo, network: u16) -> Port {
    let mac = MacAddr::from_bits(0x0200_0000_0000 + u64::from(ofport));
    let pair = |address, mask| Pair { mac, address, mask };
    Port {
        ofport,
        macs: [mac].into(),
        pairs4: [pair(0x0a00_0000 + u128::from(ofport), 0xffff_ffff)].into(),
        pairs6: [
            pair(0xfd00 << 112 | u128::from(ofport), u128::MAX),
            pair(mac.link_local().into(), u128::MAX),
        ]
        .into(),
        network: Some(network),
        ..Port::default()
    }
}

fn random_host(rng: &mut Rng, spice: Spice) -> (Host, String) {
    let text = random_flows::text(rng, spice);
    let ports = vec![port(1, 5), port(2, 5), port(3, 2)];
    let tags = if rng.chance(20) { BTreeMap::from([(1, None)]) } else { BTreeMap::new() };
    (Host { tables: Tables::new(hosts::flows(&text)), ports, tags }, text)
}

/// Random hosts; how often each answer came.
fn engines_agree(seed: u64, rounds: usize) -> [usize; 2] {
    let mut rng = Rng::new(seed);
    let mut answers = [0; 2];
    for round in 0..rounds {
        let (host, text) = random_host(&mut rng, Spice { opaque: round % 4 == 0, ..Spice::default() });
        let profile = *rng.pick(&Profile::ALL);
        let sender = &host.ports[0];
        let mut diagram = Diagram::new(&host, sender, &[profile]).unwrap();
        let mut z3 = Z3Port::new(&host, sender, profile, false);
        // Comparing fragments with wholes takes a question for each exit.
        let slow = |property: &&properties::Property| matches!(property.judge, Judge::FragmentsLikeWholes);
        for property in properties::SENDER.iter().filter(|property| round % 5 == 0 || !slow(property)) {
            let refuted = !diagram.violations(property, profile).unwrap().is_empty();
            let answer = z3.violated(property);
            let expected = if refuted { Answer::Sat } else { Answer::Unsat };
            assert_eq!(answer, expected, "{property:?} under {profile:?} on\n{text}");
            answers[usize::from(refuted)] += 1;
        }
    }
    answers
}

#[test]
fn engines_agree_on_random_tables() {
    let handles =
        [11, 12].map(|seed| std::thread::spawn(move || hosts::deep(move || engines_agree(seed, ROUNDS / 2))));
    let mut sum = [0; 2];
    for handle in handles {
        let answers = handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        sum = [sum[0] + answers[0], sum[1] + answers[1]];
    }
    assert!(sum[0] > ROUNDS && sum[1] > ROUNDS, "proved and refuted: {sum:?}");
}

const ROUNDS: usize = 120;

#[test]
fn nothing_that_engines_choose_contradicts_the_interpreter() {
    let mut rng = Rng::new(13);
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for round in 0..40 {
        let (host, text) = random_host(&mut rng, Spice { opaque: round % 4 == 0, ..Spice::default() });
        let profiles = vec![*rng.pick(&Profile::ALL)];
        let ports = vec![&host.ports[0]];
        let task = Task { ports, profiles, engines: Engines::Diagram, ..hosts::task(&host) };
        for finding in check::check(&task).findings {
            if let Judgement::Contradiction(why) = &finding.judgement {
                panic!("{:?} under {:?}: {why}\n{text}", finding.property, finding.profile);
            }
            *names.entry(finding.judgement.name()).or_default() += 1;
        }
    }
    assert!(
        ["proved", "refuted", "unknown", "vacuous"].iter().all(|name| names.contains_key(name)),
        "{names:?}"
    );
}

#[test]
fn engines_agree_on_what_drivers_wrote() {
    for name in ["29.0.0/22_remote_group_priorities", "9.4.1/04_dual_stack"] {
        let host = hosts::host(hosts::corpus(name));
        let task = Task { ports: host.ports.iter().take(1).collect(), ..hosts::task(&host) };
        let findings = check::check(&task);
        let decided = |finding: &&check::Finding| matches!(finding.judgement.name(), "proved" | "refuted");
        assert!(findings.findings.iter().filter(decided).count() > 40, "{name}: {findings:#?}");
        for finding in &findings.findings {
            let agreed = finding.diagram == finding.z3 || finding.judgement.name() == "unknown";
            assert!(agreed, "{name}: {finding:?}");
        }
    }
}
