//! How an execution goes through the tables as a part of a sweep: priority by priority, and nowhere twice.

use super::{
    Emit, Execution, Found, MAX_CALLS, MAX_DEPTH, State,
    pinned::{PINNED, PINNED_BITS},
};
use crate::{
    index::Group,
    live::is_live,
    set::PacketSets,
    sweep::{Place, Scope, Sweep, Unit, forget},
    symkey::SymKey,
    tables::Level,
    vars,
};
use flowproof_packet::PortNo;
use flowproof_switch::table::FlowId;
use std::rc::Rc;

/// What one priority of a table gets in a sweep.
enum Part<Set> {
    /// Packets that may have been there before.
    Unit(Box<Place>, Set),
    /// Packets that are followed in any case.
    Hits(Vec<(FlowId, Set)>),
}

impl<S: PacketSets> Execution<'_, S> {
    /// A table of a sweep: what each priority gets is found from the highest down, and followed from the lowest up, because
    /// what is less particular comes to more places at once.
    pub(super) fn sweep_table(
        &mut self,
        table: u8,
        in_port: Option<PortNo>,
        key: &SymKey,
        state: &State<S::Set>,
    ) {
        let tables = self.tables;
        let mut missed = self.without_destination(table, state);
        let mut work = Vec::new();
        for (at, level) in tables.levels(table).iter().enumerate() {
            if self.sets.is_empty(missed) || self.stopped() {
                break;
            }
            if level.soft.is_empty() {
                let (at, taken) = self.unit(table, at, in_port, key, level, state);
                let here = self.sets.and(missed, taken);
                missed = self.sets.minus(missed, taken);
                work.push((level, Part::Unit(Box::new(at), here)));
            } else {
                let mut found = Found { hits: Vec::new(), missed, pin: None };
                self.level(table, key, level, &mut found);
                missed = found.missed;
                work.push((level, Part::Hits(found.hits)));
            }
        }
        for (level, part) in work.into_iter().rev() {
            match part {
                Part::Hits(hits) => drop(self.follow(hits, table, state, true)),
                Part::Unit(at, packets) => self.explore(&at, key, level, &State { packets, ..state.clone() }),
            }
        }
    }

    /// One priority of a table for packets with this key, and what it takes of any packets.
    fn unit(
        &mut self,
        table: u8,
        level: usize,
        in_port: Option<PortNo>,
        key: &SymKey,
        flows: &Level,
        state: &State<S::Set>,
    ) -> (Place, S::Set) {
        let Some(sweep) = self.sweep.as_ref() else { return (Place::default(), self.sets.none()) };
        let (live, widely) = (sweep.live(table, level), sweep.widely);
        let recirculations = if sweep.scope == Scope::One { state.recirculations } else { 0 };
        let at = Place { table, level, in_port, recirculations, key: state.key.only(&live) };
        if let Some(known) = sweep.find(&at).and_then(|number| sweep.unit(number)) {
            let taken = known.taken;
            return (at, taken);
        }
        let taken = self.takes(key, flows);
        let unit = Unit::new(&at.key, &live, widely, self.sets.none(), taken);
        if let Some(sweep) = self.sweep.as_mut() {
            sweep.add(at.clone(), unit);
        }
        (at, taken)
    }

    /// Follows those packets that no others were followed for.
    fn explore(&mut self, at: &Place, key: &SymKey, level: &Level, state: &State<S::Set>) {
        let Some(sweep) = self.sweep.as_mut().filter(|_| !self.sets.is_empty(state.packets)) else { return };
        let Some(number) = sweep.find(at) else { return };
        if !sweep.arrive(at, number) {
            return;
        }
        let Some(unit) = sweep.unit(number) else { return };
        let (keep, explored) = (unit.keep.clone(), unit.explored);
        let here = self.forget(state.packets, &keep);
        let new = self.sets.minus(here, explored);
        if self.sets.is_empty(new) {
            return self.seen_before(number, state);
        }
        let explored = self.sets.or(explored, new);
        let outside = std::mem::replace(&mut self.reach, (state.calls, state.depth));
        let before = std::mem::replace(&mut self.recirculated, state.recirculations);
        let mut from = None;
        if let Some(sweep) = self.sweep.as_mut() {
            from = sweep.follow_from(Some(number));
            if let Some(unit) = sweep.unit_mut(number) {
                unit.explored = explored;
                unit.active += 1;
            }
        }
        let mut found = Found { hits: Vec::new(), missed: new, pin: None };
        self.hard(key, level, &mut found);
        self.follow(found.hits, at.table, state, true);
        let ((calls, depth), recirculated) = (self.reach, self.recirculated);
        if let Some(sweep) = self.sweep.as_mut() {
            sweep.follow_from(from);
            if let Some(unit) = sweep.unit_mut(number) {
                unit.active -= 1;
                unit.calls = unit.calls.max(calls.saturating_sub(state.calls));
                unit.depth = unit.depth.max(depth.saturating_sub(state.depth));
                let more = recirculated.saturating_sub(state.recirculations);
                unit.recirculations = unit.recirculations.max(more);
            }
        }
        self.reach = (outside.0.max(calls), outside.1.max(depth));
        self.recirculated = before.max(recirculated);
    }

    /// Which answer of connection tracking stands for the next one. In a sweep of all frames that is always the first, if nobody
    /// has kept what that was: then it does not matter how often packets came back already.
    pub(super) fn answer_place(&mut self, state: &mut State<S::Set>) -> u16 {
        if self.scope() == Scope::One {
            return state.recirculations;
        }
        let mut key = state.key.clone();
        key.untrack();
        if key.shows_answer(0) {
            return state.recirculations;
        }
        if state.recirculations > 0 {
            state.packets = self.sets.exists(state.packets, &|var| vars::answers(0).contains(&var.0));
        }
        0
    }

    /// Packets that are all for one destination, without that, where nobody will look at it in a table or behind it: what comes
    /// to one receiver is then the same set as what comes to another.
    fn without_destination(&mut self, table: u8, state: &State<S::Set>) -> S::Set {
        let packets = state.packets;
        let places = 0..self.tables.levels(table).len();
        let looks =
            |sweep: &Sweep<S::Set>| places.clone().any(|level| is_live(&sweep.live(table, level), PINNED));
        let is_shown = !state.key.is_only_as_sent(PINNED);
        if is_shown || self.sweep.as_ref().is_none_or(|sweep| looks(sweep)) {
            return packets;
        }
        self.sets.agreed(packets, &PINNED_BITS).map_or(packets, |(_, rest)| rest)
    }

    /// `packets` without what nobody will look at.
    fn forget(&mut self, packets: S::Set, keep: &Rc<Vec<u64>>) -> S::Set {
        let asked = (Rc::clone(keep), packets);
        if let Some(known) = self.sweep.as_ref().and_then(|sweep| sweep.forgotten.get(&asked)) {
            return *known;
        }
        let rest = forget(self.sets, packets, keep);
        if let Some(sweep) = self.sweep.as_mut() {
            sweep.forgotten.insert(asked, rest);
        }
        rest
    }

    /// Packets that need not go on, because others did: what became of those counts for these. If those are under way
    /// still, these are on a way that has no end.
    fn seen_before(&mut self, number: usize, state: &State<S::Set>) {
        let Some(unit) = self.sweep.as_ref().and_then(|sweep| sweep.unit(number)) else { return };
        let (calls, depth, active) = (state.calls + unit.calls, state.depth + unit.depth, unit.active);
        let recirculated = state.recirculations + unit.recirculations;
        self.reached_so_far(calls, depth);
        self.recirculated(recirculated);
        if active > 0 || calls > MAX_CALLS || depth > MAX_DEPTH {
            self.emit(Emit::Limit, state);
        }
    }

    /// What the ordinary flows of a priority take of any packets with this key.
    fn takes(&mut self, key: &SymKey, level: &Level) -> S::Set {
        let (all, mut taken, view) = (self.sets.all(), self.sets.none(), self.view(key));
        let groups: Vec<&Group> = level.index.hard.groups(key).collect();
        for id in self.candidates(&groups, key, all, None) {
            if let Some(cube) = self.cube(id, key, view) {
                taken = self.sets.or(taken, cube);
            }
        }
        taken
    }
}
