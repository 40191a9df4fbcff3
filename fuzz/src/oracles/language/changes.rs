//! What `diff` and `lint` say of small tables, against one frame at a time.
//!
//! Invariant: a claim is one that the command would make. Deliberately absent: what they say of what is not modelled.

use super::{FRAMES, Tally, choices, frame, listed, ports};
use crate::Choices;
use crate::language::tables::{self, Wish};
use crate::language::trial::Trial;
use crate::oracles::{DifferencePair, Objection, object};
use crate::packets;
use flowproof_packet::wire;
use flowproof_proofs::check::with_deep_stack;
use flowproof_proofs::hygiene::{self, Death};
use flowproof_proofs::tables::Tables;
use flowproof_switch::conntrack::{CtInfo, Profile};
use flowproof_switch::flow::Flow;
use flowproof_switch::pipeline::{Switch, SwitchConfig};
use flowproof_switch::table::TieBreak;

/// The flows with one of them gone, or with an action of it gone, or with another's actions.
fn changed(choices: &mut Choices<'_>, flows: &[Flow]) -> Vec<Flow> {
    let mut after = flows.to_vec();
    if after.is_empty() {
        return after;
    }
    let at = choices.below(after.len());
    let other = choices.pick(flows).actions.clone();
    match choices.below(4) {
        0 => drop(after.remove(at)),
        1 => {
            if let Some(flow) = after.get_mut(at) {
                let gone = choices.below(flow.actions.len());
                flow.actions = (0..)
                    .zip(&flow.actions)
                    .filter(|(at, _)| *at != gone)
                    .map(|(_, one)| one.clone())
                    .collect();
            }
        }
        2 => {
            if let Some(flow) = after.get_mut(at) {
                flow.actions = other;
            }
        }
        _ => {
            if let Some(flow) = after.get_mut(at) {
                flow.priority = 1 + choices.below(60) as u16;
            }
        }
    }
    after
}

/// One table, a change of it, and frames that look for what the difference gets wrong.
///
/// # Errors
/// It gets something wrong.
pub fn against_difference(seed: u64, number: u64) -> Result<Tally, Objection> {
    let mut choices = choices(seed, number);
    let drawn = tables::draw(&mut choices, Wish { goal: Some(number as usize), ..Wish::default() });
    let mut tally = Tally::of(&drawn);
    let after = changed(&mut choices, &drawn.flows);
    let profile = *choices.pick(&Profile::ALL);
    let pair = DifferencePair::new(Tables::new(drawn.flows.clone()), Tables::new(after.clone()), profile);
    let mut all = drawn.flows.clone();
    all.extend(after.iter().cloned());
    for _ in 0..FRAMES {
        let (in_port, bytes, whole) = frame(&mut choices, &all, profile);
        let sent = wire::extract(whole.as_ref().unwrap_or(&bytes), in_port);
        let answers: Vec<CtInfo> = (0..10).map(|_| packets::answer(&mut choices, &sent, profile)).collect();
        let trial = Trial { flows: Vec::new(), profile, in_port, frame: bytes, whole, answers };
        pair.hold(&trial.framed(), in_port, &trial.answers)?;
        tally.compared += 1;
    }
    Ok(tally)
}

/// One table, what is said of its hygiene, and frames that must not hit what no packet hits, nor meet a choice that nobody
/// has.
///
/// # Errors
/// One does.
pub fn against_lint(seed: u64, number: u64) -> Result<Tally, Objection> {
    let mut choices = choices(seed, number);
    let drawn = tables::draw(&mut choices, Wish { goal: Some(number as usize), ..Wish::default() });
    let mut tally = Tally::of(&drawn);
    let tables = Tables::new(drawn.flows.clone());
    let hygiene = with_deep_stack(|| hygiene::examine(&tables));
    if !hygiene.complete {
        tally.passed_over += 1;
        return Ok(tally);
    }
    let profile = *choices.pick(&Profile::ALL);
    for tie in [TieBreak::First, TieBreak::Last] {
        let config = SwitchConfig { ports: ports(), profile, tie };
        let mut switch = Switch::new(tables.switch().clone(), config);
        for _ in 0..FRAMES / 2 {
            let (in_port, bytes, _) = frame(&mut choices, &drawn.flows, profile);
            let outcome = switch.receive_traced(in_port, &bytes);
            tally.compared += 1;
            let path = outcome.trace.iter().flat_map(|trace| trace.path());
            let mut dead = path.filter_map(|(_, id)| hygiene.dead.iter().find(|(dead, _)| *dead == id));
            if let Some((id, death)) = dead.find(|(_, death)| !matches!(death, Death::Orphaned)) {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                let flow = tables.flow(*id).map(ToString::to_string).unwrap_or_default();
                return object(format!(
                    "{death:?}, and hit by this under {profile:?}: {}\nhex {in_port} {hex}\n{}",
                    flow.trim_start(),
                    listed(&drawn.flows)
                ));
            }
        }
    }
    Ok(tally)
}
