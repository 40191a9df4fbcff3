//! What one sender's packets have shown, to be tried again: on another datapath as they are, at another receiver with its
//! addresses and the tag of its network. Only a replay says whether they show it there.

use super::{check::Shown, replay::Case};
use crate::{familiar::Choice, kin::renamed, ports::Port};
use flowproof_packet::Field;
use std::collections::BTreeMap;

/// The last packets that violated each row, and that were rightly delivered, with the receiver.
#[derive(Default)]
pub(super) struct Guesses<'a> {
    violating: BTreeMap<usize, (&'a Port, Choice)>,
    keeping: BTreeMap<usize, (&'a Port, Shown)>,
}

/// Packets that may show something of a case.
#[derive(Default)]
pub(super) struct Guess {
    pub(super) violating: Option<Choice>,
    pub(super) keeping: Option<Shown>,
}

impl<'a> Guesses<'a> {
    /// What may be shown of a case of this row.
    pub(super) fn guess(&self, row: usize, case: &Case<'_>) -> Guess {
        let own = |port: &Port| port.ofport == case.sender.ofport;
        let here = |port: &Port, choice: &Choice| match port.ofport == case.receiver.ofport {
            true => Some(choice.clone()),
            // What a port sends to itself is not what it sends to others.
            false if own(port) || own(case.receiver) => None,
            false => Some(retagged(renamed(choice, port, case.receiver), port, case.receiver)),
        };
        let violating = self.violating.get(&row).and_then(|(port, choice)| here(port, choice));
        let keeping = self.keeping.get(&row).and_then(|(port, shown)| {
            let packets: Option<Vec<Choice>> =
                shown.packets.iter().map(|choice| here(port, choice)).collect();
            Some(Shown { packets: packets?, witness: shown.witness.clone() })
        });
        Guess { violating, keeping }
    }

    pub(super) fn violates(&mut self, row: usize, case: &Case<'a>, choice: &Choice) {
        self.violating.insert(row, (case.receiver, choice.clone()));
    }

    pub(super) fn keeps(&mut self, row: usize, case: &Case<'a>, shown: &Shown) {
        self.keeping.insert(row, (case.receiver, shown.clone()));
    }
}

/// The packet in the network of `to`, if it is in that of `from`.
fn retagged(mut choice: Choice, from: &Port, to: &Port) -> Choice {
    let vid = choice.sent.get(Field::VlanVid);
    if let (Some(old), Some(new)) = (from.network, to.network)
        && vid == u128::from(old)
    {
        choice.sent.set(Field::VlanVid, new.into());
    }
    choice
}
