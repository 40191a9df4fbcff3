//! One destination, taken for known.
//!
//! Behind the table that tells receivers apart all packets are for one of them. Its bits come first in the order of variables,
//! so every set would carry them along and no two receivers would share any; taken for known they cost nothing.
//!
//! Invariant: what an execution yields has them back: packets for that destination, a key in which it is as it was sent.

use super::{Execution, State};
use crate::{
    effects::touched,
    index::{self, Group},
    set::PacketSets,
    symkey::SymKey,
    vars::{self, Var},
};
use flowproof_packet::Field;
use flowproof_switch::{flow::Action, table::FlowId};
use std::sync::LazyLock;

/// The field that is taken for known where all packets agree in it: the first in the order of variables, because it tells
/// receivers apart.
pub(super) const PINNED: Field = Field::DlDst;
pub(super) static PINNED_BITS: LazyLock<Vec<Var>> = LazyLock::new(|| vars::sent(PINNED).collect());

/// Whether an action reads or writes it as a value.
pub(super) fn touches(action: &Action) -> bool {
    touched(action).into_iter().flatten().any(|field| field.overlaps(PINNED))
}

impl<S: PacketSets> Execution<'_, S> {
    /// The same state, where its packets are all for one destination with that taken for known.
    pub(super) fn pinned(&mut self, mut state: State<S::Set>) -> State<S::Set> {
        if self.sweep.is_some() || state.pin.is_some() || !state.key.is_only_as_sent(PINNED) {
            return state;
        }
        if let Some((literals, packets)) = self.sets.agreed(state.packets, &PINNED_BITS) {
            let value = literals.iter().fold(0, |value, (_, on)| value << 1 | u128::from(*on));
            state.key.assume(PINNED, value);
            state.pin = Some(self.sets.cube(&literals));
            state.packets = packets;
        }
        state
    }

    /// The same state with nothing taken for known.
    pub(super) fn unpinned(&mut self, mut state: State<S::Set>) -> State<S::Set> {
        if let Some(pin) = state.pin.take() {
            state.packets = self.sets.and(state.packets, pin);
            state.key.forget(PINNED);
        }
        state
    }

    pub(super) fn with_pin(&mut self, packets: S::Set, pin: Option<S::Set>) -> S::Set {
        pin.map_or(packets, |pin| self.sets.and(packets, pin))
    }

    /// The flows of these groups that packets with this key may match.
    pub(super) fn candidates(
        &mut self,
        groups: &[&Group],
        key: &SymKey,
        packets: S::Set,
        pin: Option<S::Set>,
    ) -> Vec<FlowId> {
        let (switch, halves) = (self.tables.switch(), &mut self.memory.halves);
        let Some(pin) = pin.filter(|_| groups.iter().any(|group| group.is_wide())) else {
            return index::candidates(groups, switch, self.sets, halves, key, packets);
        };
        let (mut key, packets) = (key.clone(), self.sets.and(packets, pin));
        key.forget(PINNED);
        index::candidates(groups, switch, self.sets, halves, &key, packets)
    }
}
