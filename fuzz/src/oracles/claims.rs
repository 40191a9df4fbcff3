//! What the diagram engine claims of a port of small tables, and frames that are held against the claims.
//!
//! Invariant: a claim is one that `prove` would make; a frame is judged by what the interpreter does with it. Deliberately
//! absent: properties that compare.

use super::engines::{forbids, host_of, of_packets};
use super::{Held, Objection, object};
use crate::Choices;
use crate::packets::Frame;
use flowproof_packet::wire;
use flowproof_proofs::diagram::{Diagram, Host};
use flowproof_proofs::ports::Port;
use flowproof_proofs::properties::{Property, SENDER};
use flowproof_proofs::replay;
use flowproof_proofs::tables::Tables;
use flowproof_switch::conntrack::Profile;
use flowproof_switch::flow::Flow;
use flowproof_switch::pipeline::{Switch, SwitchConfig};
use flowproof_switch::table::TieBreak;

/// Three ports around these flows, two of them of one network.
pub(super) fn host(flows: Vec<Flow>) -> Host {
    host_of(Tables::new(flows))
}

/// What is proved of a port, of the properties that speak of single packets.
pub(super) fn proved(host: &Host, sender: &Port, profile: Profile) -> Vec<&'static Property> {
    let Ok(mut diagram) = Diagram::new(host, sender, &[profile]) else { return Vec::new() };
    let mut proved = Vec::new();
    for property in SENDER.iter().filter(|property| of_packets(property)) {
        match diagram.violations(property, profile) {
            Ok(found) if found.is_empty() => proved.push(property),
            Ok(_) => {}
            Err(_) => return Vec::new(),
        }
    }
    proved
}

/// So many frames of the port; how many were held to the claims.
///
/// # Errors
/// One does what is proved to be impossible.
pub(super) fn hold(
    choices: &mut Choices<'_>,
    held: &Held<'_>,
    frames: usize,
    draw: &mut dyn FnMut(&mut Choices<'_>) -> Frame,
) -> Result<usize, Objection> {
    let Held { host, sender, profile, proved } = *held;
    let ports = replay::ports(host, sender);
    let mut compared = 0;
    for tie in [TieBreak::First, TieBreak::Last] {
        let config = SwitchConfig { ports: ports.clone(), profile, tie };
        let mut switch = Switch::new(host.tables.switch().clone(), config);
        for _ in 0..frames / 2 {
            let frame = draw(choices);
            let outcome = switch.receive_traced(sender.ofport, &frame.bytes);
            compared += 1;
            let violated = proved.iter().find(|one| forbids(one, sender, &frame));
            if let Some(property) = violated.filter(|_| replay::escapes(&outcome, sender.ofport)) {
                let hex: String = frame.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                let key = wire::extract(&frame.bytes, sender.ofport);
                return object(format!(
                    "{} is proved under {profile:?}, and this leaves ({tie:?} wins): {key:?}\nhex {} {hex}",
                    property.name, sender.ofport
                ));
            }
        }
    }
    Ok(compared)
}
