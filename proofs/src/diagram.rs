//! The diagram engine: for one port, all packets through the tables, and what the properties ask of the result.
//!
//! One symbolic execution for each profile and form of frame serves all properties; a property is then a few
//! set operations. Everything of one port lives in one diagram manager, which goes when the port is done.

use crate::{
    bdd::{Bdd, Bdds},
    familiar::{self, Choice},
    frames::{self, Inside},
    ports::Port,
    predicate::{self, Predicate},
    properties::{self, Judge, Property},
    set::{Literal, PacketSets},
    symbolic::{self, Emit, Event, Yield},
    symkey::{Bit, Form},
    tables::Tables,
    vars,
};
use flowproof_packet::{Field, PortNo};
use flowproof_switch::{conntrack::Profile, flow::Action, table::FlowId};
use std::collections::BTreeMap;

/// Nodes one port's manager may hold: about 1 GiB with its tables.
const NODE_LIMIT: usize = 16_000_000;

/// Ways out of the tables to try before a refutation counts as not shown reachable.
const ATTEMPTS: usize = 48;

/// A host: its tables and its filtered ports.
#[derive(Debug)]
pub struct Host {
    /// The tables.
    pub tables: Tables,
    /// The filtered ports.
    pub ports: Vec<Port>,
    /// What is known of ports' access VLANs; `None` there is a trunk. A filtered port that is not named is taken to be an access
    /// port of its network.
    pub tags: BTreeMap<PortNo, Option<u16>>,
}

impl Host {
    /// The filtered ports and their networks.
    #[must_use]
    pub fn members(&self) -> BTreeMap<PortNo, Option<u16>> {
        self.ports.iter().map(|port| (port.ofport, port.network)).collect()
    }

    /// Whether `NORMAL` takes only frames without VLAN from this filtered port.
    #[must_use]
    pub fn is_access(&self, port: PortNo) -> bool {
        self.tags.get(&port).is_none_or(Option::is_some)
    }
}

/// Packets of one form that leave in one way.
#[derive(Clone, Debug)]
pub struct Found {
    /// Their form.
    pub form: Form,
    /// Where and how they leave; its packets are those in question only.
    pub event: Event<Bdd>,
}

/// What a counterexample's replay depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depends {
    /// Nothing: it must replay.
    #[default]
    Nothing,
    /// On a connection in the state it assumes.
    State,
    /// On something that the engines only bound: what is not modelled, or the limits of a translation.
    Precision,
}

/// The answer could not be computed; says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Exhausted(pub &'static str);

/// All packets of one port through the tables.
pub struct Diagram<'a> {
    host: &'a Host,
    port: &'a Port,
    sets: Bdds,
    runs: BTreeMap<(Profile, Form), Yield<Bdd>>,
    sendable: BTreeMap<Form, Bdd>,
    wishes: Vec<Predicate>,
}

impl<'a> Diagram<'a> {
    /// Runs everything that `port` can send, in every form and under every profile, through the tables.
    ///
    /// # Errors
    /// When the limits on memory or work are reached.
    pub fn new(host: &'a Host, port: &'a Port, profiles: &[Profile]) -> Result<Self, Exhausted> {
        Self::with_limit(host, port, profiles, NODE_LIMIT)
    }

    /// The same with another limit on memory, in nodes of a diagram.
    ///
    /// # Errors
    /// When the limits on memory or work are reached.
    pub fn with_limit(
        host: &'a Host,
        port: &'a Port,
        profiles: &[Profile],
        nodes: usize,
    ) -> Result<Self, Exhausted> {
        let mut sets = Bdds::with_limit(nodes);
        let (mut runs, mut sendable) = (BTreeMap::new(), BTreeMap::new());
        for form in Form::ALL {
            let start = frames::sendable(&mut sets, form);
            sendable.insert(form, start);
            for profile in profiles {
                let run = symbolic::execute(&mut sets, &host.tables, *profile, form, port.ofport, start);
                if !run.complete {
                    return Err(Exhausted("too many lookups in one execution"));
                }
                runs.insert((*profile, form), run);
            }
        }
        let others: Vec<&Port> =
            host.ports.iter().filter(|other| other.ofport != port.ofport).take(4).collect();
        let wishes = familiar::wishes(port, &others);
        let engine = Self { host, port, sets, runs, sendable, wishes };
        engine.sound()?;
        Ok(engine)
    }

    fn sound(&self) -> Result<(), Exhausted> {
        if self.sets.overflown() {
            Err(Exhausted("decision diagrams outgrew their memory limit"))
        } else {
            Ok(())
        }
    }

    /// Every way out of the tables for frames of `forms` under `profile`, with those packets that really leave.
    fn escapes(&mut self, profile: Profile, forms: &[Form]) -> Vec<Found> {
        let access = self.host.is_access(self.port.ofport);
        let mut found = Vec::new();
        for form in forms {
            let Some(run) = self.runs.get(&(profile, *form)) else { continue };
            for event in &run.events {
                let packets = frames::escaping(&mut self.sets, event, access);
                if !self.sets.is_empty(packets) {
                    found.push(Found { form: *form, event: Event { packets, ..event.clone() } });
                }
            }
        }
        found
    }

    /// The packets that violate `property` under `profile`, by the way they leave; empty if it holds.
    ///
    /// # Errors
    /// When the memory limit is reached.
    pub fn violations(&mut self, property: &Property, profile: Profile) -> Result<Vec<Found>, Exhausted> {
        let forbidden = properties::violation(property, self.port).to_set(&mut self.sets);
        let wholes = match property.judge {
            Judge::FragmentsLikeWholes => self.escapes(profile, &[Form::Whole]),
            Judge::Implication { .. } | Judge::Prohibition { .. } | Judge::KeepsVlan => Vec::new(),
        };
        let members = self.host.members();
        let mut found = self.escapes(profile, property.forms);
        for Found { event, .. } in &mut found {
            event.packets = self.sets.and(event.packets, forbidden);
            match property.judge {
                Judge::Implication { .. } | Judge::Prohibition { .. } => {}
                Judge::KeepsVlan => {
                    let inside = self.inside(event, &members);
                    event.packets = self.sets.minus(event.packets, inside);
                }
                // What is not modelled may treat a fragment differently.
                Judge::FragmentsLikeWholes if !event.emit.is_modelled() => {}
                Judge::FragmentsLikeWholes => {
                    // What the whole is told, where the fragment did not ask.
                    let mut packets = event.packets;
                    let deepest = wholes.iter().map(|whole| whole.event.recirculations).max().unwrap_or(0);
                    for depth in event.recirculations..deepest {
                        let legal = symbolic::legal_answers(&mut self.sets, profile, Form::Whole, depth);
                        packets = self.sets.and(packets, legal);
                    }
                    for whole in wholes.iter().filter(|whole| exit(&whole.event) == exit(event)) {
                        packets = self.sets.minus(packets, whole.event.packets);
                    }
                    event.packets = packets;
                }
            }
        }
        found.retain(|found| !self.sets.is_empty(found.event.packets));
        self.sound().map(|()| found)
    }

    fn inside(&mut self, event: &Event<Bdd>, members: &BTreeMap<PortNo, Option<u16>>) -> Bdd {
        match frames::inside_network(&event.emit, self.port.network, members) {
            Inside::Never => self.sets.none(),
            Inside::Tagged(tag) => frames::select(&mut self.sets, event, &tag),
            Inside::NotUntagged => {
                let untagged = frames::select(&mut self.sets, event, &frames::untagged_or_priority());
                self.sets.minus(event.packets, untagged)
            }
        }
    }

    /// Packets of what was found, the most telling first: of each rank the most familiar one, then one of every way
    /// out of the tables. With each comes what its replay depends on.
    pub fn examples(&mut self, profile: Profile, mut found: Vec<Found>) -> Vec<(Choice, Depends)> {
        found.sort_by_key(rank);
        found.truncate(ATTEMPTS);
        let mut choices = Vec::new();
        for group in found.chunk_by(|a, b| rank(a) == rank(b)) {
            let Some(first) = group.first() else { continue };
            let packets =
                group.iter().fold(self.sets.none(), |sum, found| self.sets.or(sum, found.event.packets));
            let event = Event { packets, ..first.event.clone() };
            let depends = group.iter().map(|found| self.depends(profile, found)).max().unwrap_or_default();
            choices.extend(self.example(&Found { form: first.form, event }).map(|c| (c, depends)));
        }
        for found in &found {
            let depends = self.depends(profile, found);
            choices.extend(self.example(found).map(|c| (c, depends)));
        }
        choices
    }

    /// What else must be so for the packets to leave like this.
    fn depends(&self, profile: Profile, found: &Found) -> Depends {
        let event = &found.event;
        let runs = || Form::ALL.iter().filter_map(|form| self.runs.get(&(profile, *form)));
        let limited = || runs().flat_map(|run| &run.events).any(|event| event.emit == Emit::Limit);
        let trunk = event.emit == Emit::Normal && !self.host.is_access(self.port.ofport);
        if !event.emit.is_modelled() || trunk || limited() {
            Depends::Precision
        } else if event.recirculations > 0 || self.may_be_held(found) {
            Depends::State
        } else {
            Depends::Nothing
        }
    }

    /// Whether connection tracking may keep a fragment until its datagram is complete.
    fn may_be_held(&self, found: &Found) -> bool {
        let tracks = |id: &FlowId| {
            let actions = self.host.tables.flow(*id).map(|flow| flow.actions.as_slice());
            actions.unwrap_or_default().iter().any(|action| matches!(action, Action::Ct(_)))
        };
        found.form != Form::Whole && symbolic::flows_of(&found.event.path).iter().any(tracks)
    }

    /// The most familiar packet of what was found.
    pub fn example(&mut self, found: &Found) -> Option<Choice> {
        let Found { form, event } = found;
        familiar::choose(&mut self.sets, event.packets, *form, &self.wishes, event.recirculations)
    }

    /// Offers packets that `property` speaks of and that rightly escape under `profile`, until `accept` takes one.
    ///
    /// # Errors
    /// When the memory limit is reached.
    pub fn innocent<T>(
        &mut self,
        property: &Property,
        profile: Profile,
        accept: &mut dyn FnMut(&Choice) -> Option<T>,
    ) -> Result<Option<T>, Exhausted> {
        let premise = properties::premise(property, self.port).to_set(&mut self.sets);
        let guilty = self.violations(property, profile)?;
        let mut escapes = self.escapes(profile, property.forms);
        escapes.sort_by_key(rank);
        for mut found in escapes {
            found.event.packets = self.sets.and(found.event.packets, premise);
            for guilty in guilty.iter().filter(|guilty| guilty.form == found.form) {
                found.event.packets = self.sets.minus(found.event.packets, guilty.event.packets);
            }
            self.sound()?;
            if let Some(taken) = self.example(&found).and_then(|choice| accept(&choice)) {
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }

    /// Offers forbidden packets that do not escape under `profile`, each with a twin that does and differs in `traits`
    /// only, until `accept` takes a pair. Where no fragment may pass at all the twin is whole.
    ///
    /// # Errors
    /// When the memory limit is reached.
    pub fn twins<T>(
        &mut self,
        property: &Property,
        profile: Profile,
        traits: &[Field],
        accept: &mut dyn FnMut(&Choice, &Choice) -> Option<T>,
    ) -> Result<Option<T>, Exhausted> {
        let forbidden = properties::premise(property, self.port).to_set(&mut self.sets);
        let mut escapes = self.escapes(profile, property.forms);
        escapes.sort_by_key(rank);
        if !property.forms.contains(&Form::Whole) {
            let mut wholes = self.escapes(profile, &[Form::Whole]);
            wholes.sort_by_key(rank);
            escapes.extend(wholes);
        }
        for mut found in escapes {
            found.event.packets = self.sets.minus(found.event.packets, forbidden);
            let like = self.sets.exists(found.event.packets, &|var| !is_sent(var) || is_of(var, traits));
            let form = property.forms.iter().copied().find(|form| *form == found.form);
            let Some(form) = form.or(property.forms.first().copied()) else { continue };
            let sendable = self.sendable.get(&form).copied().unwrap_or(self.sets.none());
            let candidates = self.sets.and(like, forbidden);
            let candidates = self.sets.and(candidates, sendable);
            let Some(stopped) = familiar::choose(&mut self.sets, candidates, form, &self.wishes, 0) else {
                continue;
            };
            let same = self.sets.cube(&same_but(&stopped, traits));
            found.event.packets = self.sets.and(found.event.packets, same);
            self.sound()?;
            if let Some(taken) = self.example(&found).and_then(|twin| accept(&stopped, &twin)) {
                return Ok(Some(taken));
            }
        }
        self.sound().map(|()| None)
    }

    /// A packet that `property` speaks of, whatever becomes of it.
    pub fn subject(&mut self, property: &Property) -> Option<Choice> {
        let premise = properties::premise(property, self.port).to_set(&mut self.sets);
        let form = property.forms.first().copied()?;
        let packets = self.sendable.get(&form).map(|sendable| self.sets.and(*sendable, premise))?;
        familiar::choose(&mut self.sets, packets, form, &self.wishes, 0)
    }

    /// By flow: whether any packet that enters at this port hits it, in any form and under any profile.
    pub fn reached(&self) -> Vec<FlowId> {
        let hit = |id: usize| self.runs.values().any(|run| run.reached.get(id).is_some_and(Option::is_some));
        (0..self.host.tables.flows().len()).filter(|id| hit(*id)).map(|id| FlowId(id as u32)).collect()
    }
}

/// Whole packets before fragments, those that need no connection before those that do.
const fn rank(found: &Found) -> (Form, u16) {
    (found.form, found.event.recirculations)
}

/// How an event's packets leave: where to, and their VLAN bits.
fn exit(event: &Event<Bdd>) -> (&Emit, Vec<Bit>) {
    let vlan = Field::VlanTci.spec();
    (&event.emit, (vlan.offset..vlan.offset + vlan.width).map(|bit| event.key.bit(bit)).collect())
}

const fn is_sent(var: vars::Var) -> bool {
    (var.0 as usize) < flowproof_packet::key::BITS
}

fn is_of(var: vars::Var, fields: &[Field]) -> bool {
    fields
        .iter()
        .map(|field| field.spec())
        .any(|spec| (spec.offset..spec.offset + spec.width).contains(&var.0))
}

/// The packets that equal `choice` in every field that is not one of `traits`.
fn same_but(choice: &Choice, traits: &[Field]) -> Vec<Literal> {
    let owners = Field::all().filter(|field| field.spec().is_slot_owner());
    owners
        .flat_map(|field| predicate::literals(field, choice.sent.get(field), u128::MAX))
        .filter(|(var, _)| !is_of(*var, traits))
        .collect()
}
