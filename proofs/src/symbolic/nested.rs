//! Copies, buckets and branches: what is done between brackets, and what becomes of the packet afterwards.
//!
//! Who ends all there (`exit`, `controller(pause)`) ends a copy's original too, but no more than the bucket that it stands
//! in, and behind `check_pkt_larger` the callers if it is what longer packets do (experiments with Open vSwitch 3.1).
//!
//! Deliberately over-approximated: any bucket of a group may be taken, and no length contradicts another.

use super::{Execution, State};
use crate::{flat::bracket, set::PacketSets, symkey::SymKey};
use flowproof_switch::flow::{Action, Subfield, ast::Nest};

impl<S: PacketSets> Execution<'_, S> {
    /// A list of actions; the states after it.
    pub(super) fn run(&mut self, actions: &[Action], state: State<S::Set>, last: bool) -> Vec<State<S::Set>> {
        let (mut states, mut ahead) = (vec![state], actions);
        while let [action, rest @ ..] = ahead {
            ahead = rest;
            let last = last && rest.is_empty();
            if let Action::Begin(nest) = action {
                let (inner, behind) = bracket(rest);
                ahead = behind;
                let go = |state| self.nested(*nest, inner, state);
                states = states.into_iter().flat_map(go).collect();
            } else if let Action::CheckPktLarger { dst, .. } = action {
                return states.into_iter().flat_map(|state| self.by_length(*dst, rest, state)).collect();
            } else {
                states = states.into_iter().flat_map(|state| self.act(action, state, last)).collect();
                if ends(action) {
                    return Vec::new();
                }
            }
        }
        states
    }

    /// What is between brackets, on a copy.
    fn nested(&mut self, nest: Nest, inner: &[Action], state: State<S::Set>) -> Vec<State<S::Set>> {
        let state = self.unpinned(state);
        let after = self.run(inner, state.clone(), false);
        let calls = after.iter().map(|end| end.calls).fold(state.calls, u32::max);
        match nest {
            Nest::Clone => self.all_of(after, State { calls, ..state }),
            // What a bucket leaves on the stack stays there.
            Nest::Bucket | Nest::Group(_) => {
                let left = after.into_iter().filter(|end| !end.key.has_stack_of(&state.key));
                let mut states: Vec<State<S::Set>> = left
                    .map(|end| {
                        let mut key = state.key.clone();
                        key.take_stack_of(&end.key);
                        let end = self.unpinned(end);
                        State { key, calls, packets: end.packets, ..state.clone() }
                    })
                    .collect();
                states.push(State { calls, ..state });
                states
            }
        }
    }

    /// `state` for the packets of all these; none where there are none.
    fn all_of(&mut self, ends: Vec<State<S::Set>>, state: State<S::Set>) -> Vec<State<S::Set>> {
        let mut packets = self.sets.none();
        for end in ends {
            let end = self.unpinned(end);
            packets = self.sets.or(packets, end.packets);
        }
        if self.sets.is_empty(packets) { Vec::new() } else { vec![State { packets, ..state }] }
    }

    /// What stands behind `check_pkt_larger`, for packets of either length; the caller sees nothing of it.
    fn by_length(&mut self, dst: Subfield, rest: &[Action], state: State<S::Set>) -> Vec<State<S::Set>> {
        let state = self.unpinned(state);
        let branch = |on: bool| {
            let mut key: SymKey = state.key.clone();
            key.set(dst.field, u128::from(on) << dst.start, 1 << dst.start);
            State { key, ..state.clone() }
        };
        let (larger, other) = (branch(true), branch(false));
        let after = self.run(rest, larger, false);
        self.run(rest, other, false);
        self.all_of(after, state)
    }
}

/// Whether nothing is done after an action, by nobody.
pub(crate) fn ends(action: &Action) -> bool {
    matches!(action, Action::Exit) || matches!(action, Action::Controller(controller) if controller.pause)
}
