//! One packet on one table, and how to make both as small as they can be.
//!
//! Invariant: what [`shrink`] returns still shows what it was asked to keep. Deliberately absent: what there is to show.

use crate::packets::Frame;
use flowproof_packet::{Field, PortNo, wire};
use flowproof_proofs::symkey::Form;
use flowproof_switch::conntrack::{CtInfo, Profile};
use flowproof_switch::flow::{Action, Flow, ParseOptions, parse_flows};
use std::fmt;

/// A packet on a table.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The flows.
    pub flows: Vec<Flow>,
    /// The datapath.
    pub profile: Profile,
    /// Where the frame comes in.
    pub in_port: PortNo,
    /// The frame.
    pub frame: Vec<u8>,
    /// Of a fragment the datagram, where that is known.
    pub whole: Option<Vec<u8>>,
    /// What connection tracking answers, one time after the other.
    pub answers: Vec<CtInfo>,
}

impl Trial {
    /// The frame as symbolic execution knows frames.
    #[must_use]
    pub fn framed(&self) -> Frame {
        let key = wire::extract(&self.frame, self.in_port);
        let form = match key.get(Field::NwFrag) {
            0 => Form::Whole,
            frag if frag & 2 == 0 => Form::First,
            _ => Form::Later,
        };
        let whole = self.whole.clone().unwrap_or_else(|| self.frame.clone());
        let sent = wire::extract(&whole, self.in_port);
        let shown_proto = key.get(Field::NwProto) as u8;
        Frame { form, whole, bytes: self.frame.clone(), sent, shown_proto }
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on {}, answers {:?}", self.in_port, self.profile.name(), self.answers.first())?;
        for flow in &self.flows {
            writeln!(f, "  {}", flow.to_string().trim_start())?;
        }
        let hex: String = self.frame.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(f, "  hex {} {hex}", self.in_port)
    }
}

/// Whether a flow may stand in a file.
fn sayable(flow: &Flow) -> bool {
    let text = flow.to_string();
    parse_flows(text.trim_start(), &ParseOptions::default()).is_ok()
}

/// The same with a flow less, an action less, a field less in a match, bytes less, no answers that differ.
fn smaller(trial: &Trial) -> Vec<Trial> {
    let mut found = Vec::new();
    for at in 0..trial.flows.len() {
        let mut one = trial.clone();
        one.flows.remove(at);
        found.push(one);
    }
    for (at, flow) in trial.flows.iter().enumerate() {
        let mut put = |changed: Flow| {
            let mut one = trial.clone();
            if sayable(&changed)
                && let Some(place) = one.flows.get_mut(at)
            {
                *place = changed;
                found.push(one);
            }
        };
        for gone in 0..flow.actions.len() {
            let mut changed = flow.clone();
            changed.actions.remove(gone);
            put(changed);
        }
        for field in
            Field::all().filter(|field| field.spec().is_slot_owner() && flow.matching.looks_at(*field))
        {
            let mut changed = flow.clone();
            changed.matching.set(field, 0, 0);
            put(changed);
        }
        for (place, action) in flow.actions.iter().enumerate() {
            if let Action::Resubmit { port: Some(_), table, ct } = action {
                let mut changed = flow.clone();
                if let Some(one) = changed.actions.get_mut(place) {
                    *one = Action::Resubmit { port: None, table: *table, ct: *ct };
                    put(changed);
                }
            }
        }
    }
    if trial.whole.is_none() {
        for length in
            [trial.frame.len() / 2, trial.frame.len().saturating_sub(8), trial.frame.len().saturating_sub(1)]
        {
            if length >= 14 && length < trial.frame.len() {
                let mut one = trial.clone();
                one.frame.truncate(length);
                found.push(one);
            }
        }
    }
    if let Some(first) = trial.answers.first().copied()
        && trial.answers.iter().any(|answer| *answer != first)
    {
        found.push(Trial { answers: vec![first; trial.answers.len()], ..trial.clone() });
    }
    found
}

/// The smallest trial to be found for which `shows` still holds.
pub fn shrink(trial: &Trial, mut shows: impl FnMut(&Trial) -> bool) -> Trial {
    const TRIES: usize = 3000;
    let mut best = trial.clone();
    let mut tries = 0;
    'again: loop {
        for one in smaller(&best) {
            tries += 1;
            if tries > TRIES {
                return best;
            }
            if shows(&one) {
                best = one;
                continue 'again;
            }
        }
        return best;
    }
}
