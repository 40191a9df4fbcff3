//! What becomes of connection tracking's entries: who creates one, who must, and who marks one.
//!
//! An entry is created by a `ct(commit)` of a packet that is new; a `ct(commit)` of any other packet that was looked up in
//! the same zone changes its entry's mark at most. Invariant: what was not looked up in the zone that it is committed
//! in is taken for new there. Deliberately absent: labels; entries for what passes without a rule, which is the
//! layout's own affair; packets that repeat an opening that nobody answered, which connection tracking calls new.
//!
//! Source: ovs-actions(7), `ct`; the model's `history`.

use super::{
    judge::{Answer, Judge, Run},
    question::{self, Way},
};
use crate::{
    bdd::Bdd,
    frames::select,
    probe,
    set::{Literal, PacketSets},
    symbolic::{Emit, Event, flows_of},
    symkey::Form,
    vars,
};
use flowproof_packet::Field;
use flowproof_switch::{
    conntrack::state,
    flow::{Action, Ct, Flow, Match, Subfield},
    table::FlowId,
};

/// What a `ct(commit)` does to the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marking {
    /// Nothing, or it takes it away.
    Plain,
    /// It sets one.
    Marks,
    /// What it copies from somewhere.
    Unknown,
}

/// A `ct(commit)`, and what comes to it.
pub(super) struct Commit {
    pub(super) event: Event<Bdd>,
    zone: Option<u16>,
    marking: Marking,
}

/// Whether an action is a `ct(commit)`.
pub(super) fn is_commit(action: &Action) -> bool {
    matches!(action, Action::Ct(ct) if ct.commit)
}

pub(super) fn marking(ct: &Ct) -> Marking {
    ct.exec.iter().fold(Marking::Plain, |before, action| {
        if let Action::Set { field: Field::CtMark, value, mask, .. } = action
            && value & mask != 0
        {
            return Marking::Marks;
        }
        let copies = matches!(action, Action::Move { dst, .. } if dst.field == Field::CtMark);
        if copies { Marking::Unknown } else { before }
    })
}

impl Commit {
    /// What a probe tells.
    pub(super) fn of(flows: &[Flow], event: Event<Bdd>) -> Option<Self> {
        let Emit::Opaque(text) = &event.emit else { return None };
        let Action::Ct(ct) = probe::behind(flows, text)? else { return None };
        Some(Self { zone: probe::zone(ct, &event.key), marking: marking(ct), event })
    }
}

/// States that have these bits so.
pub(super) fn states(value: u32, mask: u32) -> Match {
    let mut matching = Match::default();
    matching.set(Field::CtState, value.into(), mask.into());
    matching
}

/// A connection that both sides have taken part in, in its original direction.
pub(super) const ORIGINAL: (u32, u32) =
    (state::TRK | state::EST, state::TRK | state::EST | state::REL | state::RPL | state::INV);

impl Judge<'_> {
    /// `commit-implies-delivery`
    pub(super) fn commits_are_delivered(&mut self, answer: &mut Answer, way: &Way<'_>, run: &Run) {
        let class = self.spoken_of(way, run);
        let arrived = self.arrived(answer, way, run, class);
        let mut earlier: Vec<(&Commit, Bdd)> = Vec::new();
        for commit in &run.commits {
            let created = self.created(commit, class);
            if self.is_open(answer, commit, created) {
                continue;
            }
            let mut wrong = self.sets.minus(created, arrived);
            let astray = commit.zone != question::vlan(way) || commit.marking == Marking::Marks;
            if astray {
                wrong = created;
            }
            for (other, first) in &earlier {
                if other.zone == commit.zone && !self.is_instead(&other.event, &commit.event) {
                    let twice = self.sets.and(*first, created);
                    wrong = self.sets.or(wrong, twice);
                }
            }
            let right = self.sets.minus(created, wrong);
            self.keep(&mut answer.violations, run.form, &commit.event, wrong);
            self.keep(&mut answer.witnesses, run.form, &commit.event, right);
            earlier.push((commit, created));
        }
    }

    /// `delivery-implies-commit`
    pub(super) fn deliveries_are_committed(&mut self, answer: &mut Answer, way: &Way<'_>, run: &Run) {
        let class = self.spoken_of(way, run);
        let opens = self.set(&question::opens(self.words(), way));
        let opens = self.sets.and(opens, class);
        let mut created = self.sets.none();
        for commit in run.commits.iter().filter(|commit| commit.zone == question::vlan(way)) {
            let here = self.created(commit, opens);
            if !self.is_open(answer, commit, here) && commit.marking == Marking::Plain {
                created = self.sets.or(created, here);
            }
        }
        for (event, arrived) in self.deliveries(answer, way, run, opens) {
            let new = match event.recirculations.checked_sub(1) {
                Some(depth) => self.answered_so(depth, (state::NEW, state::NEW | state::INV), arrived),
                None => arrived,
            };
            let (missing, right) = (self.sets.minus(new, created), self.sets.and(new, created));
            self.keep(&mut answer.violations, run.form, event, missing);
            self.keep(&mut answer.witnesses, run.form, event, right);
        }
    }

    /// `mark-means-revoked`. Where fragments are not put together nobody can tell which of them the rules still admit.
    pub(super) fn marks_revoke(&mut self, answer: &mut Answer, way: &Way<'_>, run: &Run) {
        let class = self.spoken_of(way, run);
        let revokes = self.set(&question::revokes(self.words(), way, run.form));
        let refused = if self.is_at_once() { self.sets.none() } else { self.sets.and(revokes, class) };
        let mut marked = self.sets.none();
        for commit in run.commits.iter().filter(|commit| commit.marking != Marking::Plain) {
            let here = self.changed(commit, class);
            if commit.zone != question::vlan(way) || self.is_open(answer, commit, here) {
                continue;
            }
            marked = self.sets.or(marked, here);
            let wrong = self.wrongly_marked(way, run, commit, (here, refused));
            self.keep(&mut answer.violations, run.form, &commit.event, wrong);
        }
        let refused = self.original_unmarked(0, refused);
        let lost = self.lost(run.form);
        if run.form == Form::Whole || run.profile.reassembles() {
            let missing = self.sets.minus(refused, marked);
            self.keep(&mut answer.violations, run.form, &lost, missing);
        }
        let right = self.sets.and(refused, marked);
        self.keep(&mut answer.witnesses, run.form, &lost, right);
        if !answer.witnesses.is_empty() {
            return;
        }
        // Where the rules admit everything nothing is marked.
        let going_on = self.sets.minus(class, marked);
        for (event, arrived) in self.deliveries(answer, way, run, going_on) {
            if let Some(depth) = event.recirculations.checked_sub(1) {
                let right = self.original_unmarked(depth, arrived);
                self.keep(&mut answer.witnesses, run.form, event, right);
            }
        }
    }

    /// Of packets whose entry is `here` marked, those that had no mark and whose connection is not `refused`. What passes
    /// without a rule need not pass in fragments, and is then marked like any other.
    fn wrongly_marked(
        &mut self,
        way: &Way<'_>,
        run: &Run,
        commit: &Commit,
        (here, refused): (Bdd, Bdd),
    ) -> Bdd {
        let Some(depth) = commit.event.recirculations.checked_sub(1) else { return self.sets.none() };
        let here = self.unmarked(depth, here);
        let original = self.answered_so(depth, ORIGINAL, here);
        let mut wrong = self.sets.minus(original, refused);
        if run.form != Form::Whole {
            let ruled = self.set(&question::ruled(self.words(), way));
            wrong = self.sets.and(wrong, ruled);
        }
        let others = self.sets.minus(here, original);
        self.sets.or(wrong, others)
    }

    /// What arrives where the way ends.
    fn arrived(&mut self, answer: &mut Answer, way: &Way<'_>, run: &Run, packets: Bdd) -> Bdd {
        let all = self.deliveries(answer, way, run, packets);
        all.into_iter().fold(self.sets.none(), |sum, (_, arrived)| self.sets.or(sum, arrived))
    }

    /// Of `packets`, those for which a `ct(commit)` creates an entry.
    fn created(&mut self, commit: &Commit, packets: Bdd) -> Bdd {
        let packets = self.sets.and(commit.event.packets, packets);
        let event = Event { packets, ..commit.event.clone() };
        if self.is_looked_up(commit) {
            return select(&mut self.sets, &event, &states(state::NEW, state::NEW | state::INV));
        }
        let invalid = select(&mut self.sets, &event, &states(state::INV, state::INV));
        self.sets.minus(packets, invalid)
    }

    /// Of `packets`, those whose entry, which was there before, a `ct(commit)` changes.
    fn changed(&mut self, commit: &Commit, packets: Bdd) -> Bdd {
        if !self.is_looked_up(commit) {
            return self.sets.none();
        }
        let packets = self.sets.and(commit.event.packets, packets);
        let event = Event { packets, ..commit.event.clone() };
        let [established, related] = [state::EST, state::REL].map(|bit| {
            select(&mut self.sets, &event, &states(state::TRK | bit, state::TRK | bit | state::INV))
        });
        self.sets.or(established, related)
    }

    /// Whether what comes to a `ct(commit)` was looked up in the zone that it is committed in.
    fn is_looked_up(&self, commit: &Commit) -> bool {
        let constant = |field| commit.event.key.constant(Subfield::whole(field));
        let tracked = commit.event.key.wanted(&states(state::TRK, state::TRK)).is_some();
        tracked && constant(Field::CtZone) == commit.zone.map(u128::from)
    }

    /// Notes what is not modelled of a `ct(commit)` to which packets come.
    fn is_open(&self, answer: &mut Answer, commit: &Commit, packets: Bdd) -> bool {
        let why = match (commit.zone, commit.marking) {
            (None, _) => "ct(commit) in a zone taken from the packet",
            (_, Marking::Unknown) => "ct(commit) with a mark taken from the packet",
            (Some(_), Marking::Plain | Marking::Marks) => return false,
        };
        if !self.sets.is_empty(packets) {
            answer.opaque.get_or_insert_with(|| format!("{why} is not modelled"));
        }
        true
    }

    /// Of `packets`, those for which the `ct()` at this depth answered with these bits so.
    fn answered_so(&mut self, depth: u16, (value, mask): (u32, u32), packets: Bdd) -> Bdd {
        let bits = vars::tracked(depth, Field::CtState).rev().enumerate();
        let literals: Vec<Literal> = bits
            .filter(|(bit, _)| mask >> bit & 1 == 1)
            .map(|(bit, var)| (var, value >> bit & 1 == 1))
            .collect();
        let cube = self.sets.cube(&literals);
        self.sets.and(packets, cube)
    }

    fn unmarked(&mut self, depth: u16, packets: Bdd) -> Bdd {
        let mark: Vec<Literal> = vars::tracked(depth, Field::CtMark).map(|var| (var, false)).collect();
        let mark = self.sets.cube(&mark);
        self.sets.and(packets, mark)
    }

    fn original_unmarked(&mut self, depth: u16, packets: Bdd) -> Bdd {
        let original = self.answered_so(depth, ORIGINAL, packets);
        self.unmarked(depth, original)
    }

    /// Whether one of two events happens instead of the other: where their ways part, one lookup had a choice. Where a
    /// `ct()` forks, its copy goes on in another table.
    fn is_instead(&self, one: &Event<Bdd>, other: &Event<Bdd>) -> bool {
        let (a, b) = (flows_of(&one.path), flows_of(&other.path));
        let common = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
        let table = |id: &FlowId| self.host.tables.flow(*id).map(|flow| flow.table);
        match (a.get(common), b.get(common)) {
            (Some(a), Some(b)) => table(a) == table(b),
            (None, None) => one.emit == other.emit,
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
}
