//! Choosing the packets to show: the most telling of what the engine found.

use super::{Question, admit, judge::Engine, scene::Ingress, world::Kind};
use crate::{
    diagram::{Depends, Found},
    familiar::{self, Choice, Wishes},
    intent::check::{query, stranger},
    ports::Port,
    predicate::Predicate,
    set::PacketSets,
    symbolic::{Emit, Event, flows_of},
    symkey::Form,
};
use flowproof_packet::Field;
use flowproof_switch::{conntrack::state, flow::Action, table::FlowId};

/// Ways out of the tables to try before a refutation counts as not shown reachable.
const ATTEMPTS: usize = 24;
const BROADCAST: u64 = 0xffff_ffff_ffff;

impl Engine<'_> {
    /// What was found, the most telling first: all of a rank together, then each for itself. With it comes what a replay
    /// depends on.
    pub fn candidates(&mut self, found: Vec<Found>) -> Vec<(Found, Depends)> {
        // What the host has tracked before it comes in no other switch can be shown.
        let untracked = Predicate::Is(Field::CtState, 0, u128::from(state::TRK)).to_set(&mut self.sets);
        let ranked = found.into_iter().map(|found| {
            let tracked = !self.sets.meet(found.event.packets, untracked);
            let booked = found.event.emit == Emit::Controller;
            ((tracked, booked, found.form, found.event.recirculations), found)
        });
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.truncate(ATTEMPTS);
        let mut candidates = Vec::new();
        for group in ranked.chunk_by(|(a, _), (b, _)| a == b) {
            let Some((_, first)) = group.first() else { continue };
            let none = self.sets.none();
            let packets = group.iter().fold(none, |sum, (_, found)| self.sets.or(sum, found.event.packets));
            let depends = group.iter().map(|(_, found)| self.depends(found)).max().unwrap_or_default();
            let event = Event { packets, ..first.event.clone() };
            candidates.push((Found { form: first.form, event }, depends));
        }
        let found = ranked.into_iter().map(|(_, found)| found);
        candidates.extend(found.map(|found| {
            let depends = self.depends(&found);
            (found, depends)
        }));
        candidates
    }

    /// The most familiar packet of what was found.
    pub fn choose(&mut self, question: Question, receiver: &Port, found: &Found) -> Option<Choice> {
        let of = (question, receiver.ofport);
        let mut wishes = match self.wishes.take().filter(|(known, _)| *known == of) {
            Some((_, wishes)) => wishes,
            None => {
                let wishes = self.wishes(question, receiver);
                Wishes::new(&mut self.sets, &wishes)
            }
        };
        let event = &found.event;
        let choice = wishes.choose(&mut self.sets, event.packets, found.form, event.recirculations);
        self.wishes = Some((of, wishes));
        choice
    }

    fn depends(&self, found: &Found) -> Depends {
        let event = &found.event;
        let tracks = |id: &FlowId| {
            let flow = self.scene.host.tables.flow(*id);
            flow.is_some_and(|flow| flow.actions.iter().any(|action| matches!(action, Action::Ct(_))))
        };
        let held = found.form != Form::Whole && flows_of(&event.path).iter().any(tracks);
        let ingress = self.scene.ingress(self.sender, &event.key);
        let trunk = event.emit == Emit::Normal && !matches!(ingress, Ingress::Access(_));
        if !event.emit.is_modelled() || trunk || self.runs.iter().any(|run| run.limited) {
            Depends::Precision
        } else if self.is_contested(found) {
            Depends::Choice
        } else if event.recirculations > 0 || held {
            Depends::State
        } else {
            Depends::Nothing
        }
    }

    /// Whether it is left open, somewhere on the way, which of several flows a packet hits. A replay follows one order of all
    /// flows or the other, not every choice.
    fn is_contested(&self, found: &Found) -> bool {
        let tables = &self.scene.host.tables;
        let path: Vec<FlowId> = flows_of(&found.event.path).into_iter().map(|id| tables.like(id)).collect();
        let on_way = |id: &FlowId| path.contains(&tables.like(*id));
        let mut rivals =
            self.runs.iter().filter(|run| run.form == found.form).flat_map(|run| run.rivals.keys());
        rivals.any(|(a, b)| on_way(a) || on_way(b))
    }

    /// That a frame is from its sender, and for the receiver alone or for everybody.
    fn wishes(&self, question: Question, receiver: &Port) -> Vec<Predicate> {
        let stranger = stranger();
        let host = self.scene.host;
        let sender = match self.sender.kind {
            Kind::Filtered(place) => host.ports.get(place).unwrap_or(&stranger),
            Kind::Other | Kind::Unknown => &stranger,
        };
        let mut others: Vec<&Port> = vec![receiver];
        others.extend(host.ports.iter());
        others.retain(|port| port.ofport != sender.ofport);
        others.dedup_by_key(|port| port.ofport);
        others.truncate(4);
        let mut wishes = vec![query()];
        if self.sender.numbers.is_some() {
            wishes.push(Predicate::is(Field::InPort, self.sender.ofport));
        }
        match question {
            Question::Groups => wishes.push(Predicate::is(Field::DlDst, BROADCAST)),
            Question::Strangers => {}
            Question::Networks | Question::Denied | Question::Untracked | Question::Thirds
                if self.sender.ofport != receiver.ofport =>
            {
                wishes.push(admit::addressed(receiver));
            }
            Question::Networks | Question::Denied | Question::Untracked | Question::Thirds => {}
        }
        wishes.extend(familiar::wishes(sender, &others));
        wishes
    }
}
