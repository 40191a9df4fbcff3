//! Two engines, one question: decision diagrams and Z3 say the same of every property; and what is proved no packet
//! refutes.

use super::symbolic::flows;
use super::{Objection, Verdict, object, subject};
use crate::Choices;
use crate::packets::{self, Frame, Pool};
use crate::tables::{self, Spice};
use flowproof_packet::{MacAddr, PortNo, wire};
use flowproof_proofs::diagram::{Diagram, Host};
use flowproof_proofs::ports::{Pair, Port};
use flowproof_proofs::properties::{self, Judge, Property, SENDER};
use flowproof_proofs::replay;
use flowproof_proofs::symkey::Form;
use flowproof_proofs::tables::Tables;
use flowproof_proofs::z3_engine::Answer;
use flowproof_proofs::z3_port::Z3Port;
use flowproof_switch::conntrack::Profile;
use flowproof_switch::pipeline::{Outcome, Switch, SwitchConfig};
use flowproof_switch::table::TieBreak;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Properties that one case asks about.
const ASKED: usize = 4;
/// Stories of packets that one case holds against what is proved, and the packets of each.
const STORIES: usize = 8;
const PACKETS: usize = 4;

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

/// Three ports around tables.
pub(super) fn host_of(tables: Tables) -> Host {
    Host { tables, ports: vec![port(1, 5), port(2, 5), port(3, 2)], tags: BTreeMap::new() }
}

/// A host with random tables.
pub(super) fn host(choices: &mut Choices<'_>, text: &str) -> Host {
    let ports = vec![port(1, 5), port(2, 5), port(3, 2)];
    let tags = if choices.chance(20) { BTreeMap::from([(1, None)]) } else { BTreeMap::new() };
    Host { tables: Tables::new(flows(text)), ports, tags }
}

/// Random tables; some properties of their first port, asked of both engines.
///
/// # Errors
/// They differ.
pub fn engines(bytes: &[u8]) -> Verdict {
    let choices = &mut Choices::of(bytes);
    let spice = Spice { opaque: choices.chance(25), ..Spice::default() };
    let text = tables::text(choices, spice);
    let host = host(choices, &text);
    let profile = *choices.pick(&Profile::ALL);
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
    let mut proved = Vec::new();
    for property in quick.iter().copied().filter(|property| of_packets(property)) {
        let Ok(found) = diagram.violations(property, profile) else { return Ok(()) };
        if found.is_empty() {
            proved.push(property);
        }
    }
    hold(choices, &Held { host, sender, profile, proved: &proved }, |_| {})?;
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

/// Whether one packet and its leaving show that the property does not hold.
pub(super) fn of_packets(property: &Property) -> bool {
    matches!(property.judge, Judge::Implication { .. } | Judge::Prohibition { .. })
}

/// What is claimed of a port of a host.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// The host.
    pub host: &'a Host,
    /// The port.
    pub sender: &'a Port,
    /// The datapath.
    pub profile: Profile,
    /// The properties that are said to be proved.
    pub proved: &'a [&'a Property],
}

/// Packets of a port and of others, drawn from what the tables speak of, in a switch that remembers connections: none
/// that a property of `proved` forbids leaves. `visit` sees what becomes of each. How many were forbidden.
///
/// # Errors
/// One leaves; the objection has all packets of its story.
pub fn hold(
    choices: &mut Choices<'_>,
    held: &Held<'_>,
    mut visit: impl FnMut(&Outcome),
) -> Result<usize, Objection> {
    let Held { host, sender, profile, proved } = *held;
    let pool = Pool::of(&host.tables);
    let ports = replay::ports(host, sender);
    let mut forbidden = 0;
    for _ in 0..STORIES {
        let tie = *choices.pick(&[TieBreak::First, TieBreak::Last]);
        let config = SwitchConfig { ports: ports.clone(), profile, tie };
        let mut switch = Switch::new(host.tables.switch().clone(), config);
        let mut story = String::new();
        for place in 0..PACKETS {
            let last = place + 1 == PACKETS;
            // Pieces of different datagrams would make one that nobody sent.
            let form = if last { *choices.pick(&Form::ALL) } else { Form::Whole };
            let own = last || choices.chance(50);
            let in_port = if own { sender.ofport } else { choices.pick(&ports).ofport };
            let Some(frame) = packets::frame(choices, &pool, form, in_port) else { continue };
            let outcome = switch.receive_traced(in_port, &frame.bytes);
            visit(&outcome);
            let hex: String = frame.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let _infallible = writeln!(story, "hex {in_port} {hex}");
            if in_port != sender.ofport {
                continue;
            }
            let violated: Vec<_> = proved.iter().filter(|one| forbids(one, sender, &frame)).collect();
            forbidden += violated.len();
            if let Some(property) = violated.first().filter(|_| replay::escapes(&outcome, in_port)) {
                let (name, key) = (property.name, wire::extract(&frame.bytes, in_port));
                return object(format!(
                    "{name} is proved under {profile:?}, and the last of these leaves ({tie:?} wins): {key:?}\n{story}"
                ));
            }
        }
    }
    Ok(forbidden)
}

/// Whether a property says of a port's frame alone that it must not leave.
pub(super) fn forbids(property: &Property, sender: &Port, frame: &Frame) -> bool {
    of_packets(property)
        && property.forms.contains(&frame.form)
        && properties::violation(property, sender).holds(&frame.sent)
}
