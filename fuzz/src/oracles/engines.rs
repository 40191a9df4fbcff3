//! Two engines, one question: decision diagrams and Z3 say the same of every property; and what is proved no packet
//! refutes.

use super::symbolic::flows;
use super::{Objection, Verdict, object, subject};
use crate::Choices;
use crate::tables::{self, Spice};
use flowproof_packet::{MacAddr, PortNo};
use flowproof_proofs::diagram::{Diagram, Host};
use flowproof_proofs::ports::{Pair, Port};
use flowproof_proofs::properties::{Judge, Property, SENDER};
use flowproof_proofs::tables::Tables;
use flowproof_proofs::z3_engine::Answer;
use flowproof_proofs::z3_port::Z3Port;
use flowproof_switch::conntrack::Profile;
use std::collections::BTreeMap;

/// Properties that one case asks about.
const ASKED: usize = 4;

/// A port that owns what the random tables speak of.
fn port(ofport: PortNo, network: u16) -> Port {
    let mac = MacAddr::from_bits(0x0200_0000_0000 + u64::from(ofport));
    let pair = |address, mask| Pair { mac, address, mask };
    let own6 = [0xfd00 << 112 | u128::from(ofport), mac.link_local().into()];
    Port {
        ofport,
        macs: [mac].into(),
        pairs4: [pair(0x0a00_0000 + u128::from(ofport), 0xffff_ffff)].into(),
        pairs6: own6.map(|address| pair(address, u128::MAX)).into(),
        network: Some(network),
        ..Port::default()
    }
}

/// Random tables; some properties of their first port, asked of both engines.
///
/// # Errors
/// They differ.
pub fn engines(bytes: &[u8]) -> Verdict {
    let choices = &mut Choices::of(bytes);
    let spice = Spice { opaque: choices.chance(25), ..Spice::default() };
    let text = tables::text(choices, spice);
    let ports = vec![port(1, 5), port(2, 5), port(3, 2)];
    let tags = if choices.chance(20) { BTreeMap::from([(1, None)]) } else { BTreeMap::new() };
    let profile = *choices.pick(&Profile::ALL);
    let host = Host { tables: Tables::new(flows(&text)), ports, tags };
    ask(choices, &host, profile).map_err(|Objection(why)| Objection(format!("{why} on\n{text}")))
}

fn ask(choices: &mut Choices<'_>, host: &Host, profile: Profile) -> Verdict {
    let Some(sender) = host.ports.first() else { return Ok(()) };
    // Too large to be decided is no disagreement.
    let Ok(mut diagram) = Diagram::new(host, sender, &[profile]) else { return Ok(()) };
    let fewer = subject(None, |_: Option<Host>| {
        let flows = host.tables.flows().iter().filter(|flow| flow.priority % 3 != 0);
        let tables = Tables::new(flows.cloned().collect());
        Some(Host { tables, ports: host.ports.clone(), tags: host.tags.clone() })
    });
    let mut z3 = Z3Port::new(fewer.as_ref().unwrap_or(host), sender, profile, false);
    // Comparing fragments with wholes takes a question for each exit.
    let quick: Vec<&Property> =
        SENDER.iter().filter(|property| !matches!(property.judge, Judge::FragmentsLikeWholes)).collect();
    for _ in 0..ASKED {
        let property = *choices.pick(&quick);
        let Ok(found) = diagram.violations(property, profile) else { return Ok(()) };
        let expected = if found.is_empty() { Answer::Unsat } else { Answer::Sat };
        let answer = z3.violated(property);
        if matches!(answer, Answer::Sat | Answer::Unsat) && answer != expected {
            let name = property.name;
            return object(format!(
                "{name} under {profile:?}: diagrams say {expected:?}, Z3 says {answer:?}"
            ));
        }
    }
    Ok(())
}
