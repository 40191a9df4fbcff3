//! The diagram engine: for one port, packets through the tables, and what the properties ask of the result.
//!
//! Two questions, two starting sets. What *may* be wrong, and what a witness looks like, is asked of everything the port
//! sends to a few familiar destinations ([`Diagram::near`]): one execution for each profile and form of frame serves all
//! properties. That *nothing* is wrong is asked of the forbidden packets alone, to every destination: on a good
//! host they die where the sender is checked, however many receivers there are ([`Diagram::far`]).
//!
//! The diagrams of one [`Workshop`] serve one port after another.

mod witness;

use crate::{
    arrival::Arrival,
    bdd::{Bdd, Bdds},
    familiar::{self, Choice, Wishes},
    frames,
    ports::Port,
    predicate::Predicate,
    properties::{self, Judge, Property},
    set::PacketSets,
    symbolic::{self, CameIn, Emit, Event, Memory, Start, Yield},
    symkey::{Bit, Form, SymKey},
    tables::Tables,
    vars::Var,
};
use flowproof_packet::{Field, PortNo, port};
use flowproof_switch::{
    conntrack::Profile,
    flow::{Flow, Subfield},
};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};

/// Nodes one port's manager may hold: about 1 GiB with its tables.
const NODE_LIMIT: usize = 16_000_000;

/// Ways out of the tables to try before a refutation counts as not shown reachable.
const ATTEMPTS: usize = 48;

/// Nodes after which a workshop is better made anew than cleared: about 80 MiB.
pub(crate) const WORN: usize = 2_000_000;

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

    /// The VLAN that `NORMAL` knows a port as an access port of, `None` for a trunk; nothing for a number that nobody names.
    #[must_use]
    pub fn vlan_of(&self, ofport: PortNo) -> Option<Option<u16>> {
        let filtered = || self.ports.iter().find(|port| port.ofport == ofport).map(|port| port.network);
        let named = || {
            let is_named = self.tables.named_ports().binary_search(&ofport).is_ok() || ofport == port::LOCAL;
            is_named.then_some(None)
        };
        self.tags.get(&ofport).copied().or_else(filtered).or_else(named)
    }

    /// Whether `NORMAL` takes only frames without VLAN from this port.
    #[must_use]
    pub fn is_access(&self, port: PortNo) -> bool {
        let filtered = || self.ports.iter().any(|one| one.ofport == port);
        self.tags.get(&port).map_or_else(filtered, Option::is_some)
    }

    /// The same of where packets with this key came in, or are said to have; `None` where the key does not say it.
    #[must_use]
    pub fn is_from_access(&self, key: &SymKey) -> Option<bool> {
        let in_port =
            key.constant(Subfield::whole(Field::InPort)).and_then(|port| PortNo::try_from(port).ok());
        in_port.map(|port| self.is_access(port))
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
    /// On which of several flows is hit where OpenFlow leaves that open, which no replay can force.
    Choice,
    /// On something that the engines only bound: what is not modelled, or the limits of a translation.
    Precision,
}

/// The answer could not be computed; says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Exhausted(pub &'static str);

/// A manager of diagrams, and what has been found out with it about the tables of one host.
pub struct Workshop {
    sets: Bdds,
    memory: Memory<Bdd>,
    sendable: BTreeMap<Form, Bdd>,
    spared: Predicate,
    limit: usize,
}

impl Default for Workshop {
    fn default() -> Self {
        Self::with_limit(NODE_LIMIT)
    }
}

impl Workshop {
    /// An empty one that may hold so many nodes.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        let (memory, sendable, spared) = (Memory::default(), BTreeMap::new(), Predicate::never());
        Self { sets: Bdds::with_limit(limit), memory, sendable, spared, limit }
    }

    /// An empty one in which nobody looks into the `spared` frames.
    #[must_use]
    pub fn sparing(spared: Predicate) -> Self {
        Self { spared, ..Self::default() }
    }

    /// The same for the next port; a new one where this holds much that nobody will ask for again.
    #[must_use]
    pub fn renewed(mut self) -> Self {
        if self.sets.size() <= WORN && !self.sets.overflown() {
            self.sets.begin();
            return self;
        }
        Self { spared: self.spared, ..Self::with_limit(self.limit) }
    }

    fn sendable(&mut self, form: Form) -> Bdd {
        if let Some(known) = self.sendable.get(&form) {
            return *known;
        }
        let (all, spared) = (frames::sendable(&mut self.sets, form), self.spared.to_set(&mut self.sets));
        let packets = self.sets.minus(all, spared);
        self.sendable.insert(form, packets);
        packets
    }
}

/// The packets of one port through the tables.
pub struct Diagram<'a> {
    host: &'a Host,
    port: &'a Port,
    profiles: Vec<Profile>,
    workshop: Workshop,
    near: BTreeMap<(Profile, Form), Yield<Bdd>>,
    /// Where some packet exceeds the limits of a translation.
    limited: BTreeSet<Profile>,
    forbidden: FxHashMap<&'static str, Bdd>,
    others: Vec<&'a Port>,
    wishes: Option<Wishes<Bdd>>,
}

impl<'a> Diagram<'a> {
    /// Runs what `port` can send to familiar destinations, in every form and under every profile, through the tables.
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
        Self::within(Workshop::with_limit(nodes), host, port, profiles).explored()
    }

    /// The same when everything it sends to familiar destinations was followed.
    ///
    /// # Errors
    /// When the limits on memory or work are reached.
    pub fn explored(mut self) -> Result<Self, Exhausted> {
        for form in Form::ALL {
            for profile in self.profiles.clone() {
                self.explore(profile, form)?;
            }
        }
        self.sound().map(|()| self)
    }

    /// The same in a workshop that is there already, and nothing before it is asked for.
    #[must_use]
    pub fn within(workshop: Workshop, host: &'a Host, port: &'a Port, profiles: &[Profile]) -> Self {
        let others: Vec<&Port> =
            host.ports.iter().filter(|other| other.ofport != port.ofport).take(4).collect();
        let (near, forbidden, profiles) = (BTreeMap::new(), FxHashMap::default(), profiles.to_vec());
        let limited = BTreeSet::new();
        Self { host, port, profiles, workshop, near, limited, forbidden, others, wishes: None }
    }

    /// The workshop, for the next port.
    #[must_use]
    pub fn into_workshop(self) -> Workshop {
        self.workshop
    }

    /// The same with another manager of sets, as long as nothing was asked.
    pub(crate) fn counting_with(mut self, sets: Bdds) -> Self {
        self.workshop.sets = sets;
        self
    }

    fn explore(&mut self, profile: Profile, form: Form) -> Result<(), Exhausted> {
        if self.near.contains_key(&(profile, form)) {
            return Ok(());
        }
        let start = self.workshop.sendable(form);
        let familiar = familiar::destinations(self.port, &self.others);
        let familiar = Predicate::one_of(Field::DlDst, familiar).to_set(&mut self.workshop.sets);
        let packets = self.workshop.sets.and(start, familiar);
        let run = self.execute(profile, form, packets, usize::MAX)?;
        self.near.insert((profile, form), run);
        Ok(())
    }

    /// Sends `packets` through the tables. Stops where there are `enough` ways out, which is for those who look for one.
    fn execute(
        &mut self,
        profile: Profile,
        form: Form,
        packets: Bdd,
        enough: usize,
    ) -> Result<Yield<Bdd>, Exhausted> {
        let Workshop { sets, memory, .. } = &mut self.workshop;
        let key = SymKey::entering(self.port.ofport, form, Arrival::Ordinary);
        let tables = &self.host.tables;
        let start = Start { tables, profile, form, key, packets, enough, each_flow: false };
        let run = symbolic::execute_joined(sets, memory, start);
        if !run.complete && run.events.len() < enough {
            return Err(Exhausted("too many lookups in one execution"));
        }
        if run.events.iter().any(|event| event.emit == Emit::Limit) {
            self.limited.insert(profile);
        }
        self.sound().map(|()| run)
    }

    fn sound(&self) -> Result<(), Exhausted> {
        if self.workshop.sets.overflown() {
            Err(Exhausted("decision diagrams outgrew their memory limit"))
        } else {
            Ok(())
        }
    }

    /// Those packets of `events` that really leave, by the way they do.
    fn leaving(&mut self, form: Form, events: &[Event<Bdd>]) -> Vec<Found> {
        let mut found = Vec::new();
        let came_in = CameIn::By(self.port.ofport);
        for event in events.iter().filter(|event| frames::is_to_others(&event.emit, came_in)) {
            let access = self.host.is_from_access(&event.key).unwrap_or(false);
            let packets = frames::escaping(&mut self.workshop.sets, event, access);
            if packets != self.workshop.sets.none() {
                found.push(Found { form, event: Event { packets, ..event.clone() } });
            }
        }
        found
    }

    /// Every way out of the tables for frames of `forms` to familiar destinations under `profile`.
    fn escapes(&mut self, profile: Profile, forms: &[Form]) -> Result<Vec<Found>, Exhausted> {
        let mut found = Vec::new();
        for form in forms {
            self.explore(profile, *form)?;
            let Some(run) = self.near.remove(&(profile, *form)) else { continue };
            found.extend(self.leaving(*form, &run.events));
            self.near.insert((profile, *form), run);
        }
        Ok(found)
    }

    /// Ways out of the tables for those of `packets` that can be frames of `forms`, to any destination.
    fn escapes_of(
        &mut self,
        packets: Bdd,
        profile: Profile,
        forms: &[Form],
        enough: usize,
    ) -> Result<Vec<Found>, Exhausted> {
        let mut found = Vec::new();
        for form in forms {
            let sendable = self.workshop.sendable(*form);
            let packets = self.workshop.sets.and(sendable, packets);
            let run = self.execute(profile, *form, packets, enough)?;
            found.extend(self.leaving(*form, &run.events));
        }
        Ok(found)
    }

    fn forbidden(&mut self, property: &Property) -> Bdd {
        if let Some(known) = self.forbidden.get(property.name) {
            return *known;
        }
        let forbidden = properties::violation(property, self.port).to_set(&mut self.workshop.sets);
        self.forbidden.insert(property.name, forbidden);
        forbidden
    }

    /// The packets that violate `property` under `profile`, by the way they leave; empty if it holds.
    ///
    /// # Errors
    /// When the limits on memory or work are reached.
    pub fn violations(&mut self, property: &Property, profile: Profile) -> Result<Vec<Found>, Exhausted> {
        let near = self.near(property, profile)?;
        if near.is_empty() { self.far(property, profile) } else { Ok(near) }
    }

    /// Violations on the way to familiar destinations.
    ///
    /// # Errors
    /// When the limits on memory or work are reached.
    pub fn near(&mut self, property: &Property, profile: Profile) -> Result<Vec<Found>, Exhausted> {
        let wholes = match property.judge {
            Judge::FragmentsLikeWholes => self.escapes(profile, &[Form::Whole])?,
            Judge::Implication { .. } | Judge::Prohibition { .. } | Judge::KeepsVlan => Vec::new(),
        };
        let escapes = self.escapes(profile, property.forms)?;
        self.guilty(property, profile, escapes, &wholes)
    }

    /// Violations on the way anywhere.
    ///
    /// # Errors
    /// When the limits on memory or work are reached.
    pub fn far(&mut self, property: &Property, profile: Profile) -> Result<Vec<Found>, Exhausted> {
        let forbidden = self.forbidden(property);
        let wholes = match property.judge {
            Judge::FragmentsLikeWholes => self.escapes_of(forbidden, profile, &[Form::Whole], usize::MAX)?,
            Judge::Implication { .. } | Judge::Prohibition { .. } | Judge::KeepsVlan => Vec::new(),
        };
        let escapes = self.escapes_of(forbidden, profile, property.forms, usize::MAX)?;
        self.guilty(property, profile, escapes, &wholes)
    }

    /// For each profile, those of `properties` that hold, asked all at once: one execution serves them all where nothing
    /// that any of them forbids escapes, and all datapaths where nothing of it comes to connection tracking.
    ///
    /// # Errors
    /// When the limits on memory or work are reached.
    pub fn that_hold(
        &mut self,
        properties: &[&'static Property],
    ) -> Result<BTreeMap<Profile, Vec<&'static str>>, Exhausted> {
        let profiles = self.profiles.clone();
        let mut broken: BTreeSet<(Profile, &'static str)> = BTreeSet::new();
        let (together, alone): (Vec<&Property>, Vec<&Property>) = properties.iter().partition(|property| {
            matches!(property.judge, Judge::Implication { .. } | Judge::Prohibition { .. })
        });
        for form in Form::ALL {
            let of_form: Vec<&Property> =
                together.iter().copied().filter(|property| property.forms.contains(&form)).collect();
            let mut all = self.workshop.sets.none();
            for property in &of_form {
                let forbidden = self.forbidden(property);
                all = self.workshop.sets.or(all, forbidden);
            }
            let sendable = self.workshop.sendable(form);
            let packets = self.workshop.sets.and(sendable, all);
            for profile in &profiles {
                let run = self.execute(*profile, form, packets, usize::MAX)?;
                let found = self.leaving(form, &run.events);
                for property in &of_form {
                    if !self.guilty(property, *profile, found.clone(), &[])?.is_empty() {
                        broken.insert((*profile, property.name));
                    }
                }
                if found.is_empty() && run.longest.recirculations == 0 {
                    break;
                }
            }
        }
        for property in alone {
            for profile in &profiles {
                if !self.violations(property, *profile)?.is_empty() {
                    broken.insert((*profile, property.name));
                }
            }
        }
        let names = properties.iter().map(|property| property.name);
        let holding = |profile: &Profile| {
            (*profile, names.clone().filter(|name| !broken.contains(&(*profile, *name))).collect())
        };
        Ok(profiles.iter().map(holding).collect())
    }

    /// Those of `escapes` that violate `property`; `wholes` is how whole datagrams leave, where it compares.
    fn guilty(
        &mut self,
        property: &Property,
        profile: Profile,
        mut escapes: Vec<Found>,
        wholes: &[Found],
    ) -> Result<Vec<Found>, Exhausted> {
        let forbidden = self.forbidden(property);
        let members = self.host.members();
        for Found { event, .. } in &mut escapes {
            event.packets = self.workshop.sets.and(event.packets, forbidden);
            match property.judge {
                Judge::Implication { .. } | Judge::Prohibition { .. } => {}
                Judge::KeepsVlan => {
                    let inside = frames::inside(&mut self.workshop.sets, event, self.port.network, &members);
                    event.packets = self.workshop.sets.minus(event.packets, inside);
                }
                // What is not modelled may treat a fragment differently.
                Judge::FragmentsLikeWholes if !event.emit.is_modelled() => {}
                Judge::FragmentsLikeWholes => self.unlike_wholes(event, profile, wholes),
            }
        }
        escapes.retain(|found| found.event.packets != self.workshop.sets.none());
        self.sound().map(|()| escapes)
    }

    /// Leaves those packets of a fragment's event whose datagram would not go there.
    fn unlike_wholes(&mut self, event: &mut Event<Bdd>, profile: Profile, wholes: &[Found]) {
        let sets = &mut self.workshop.sets;
        // What the whole is told, where the fragment did not ask.
        let deepest = wholes.iter().map(|whole| whole.event.recirculations).max().unwrap_or(0);
        for depth in event.recirculations..deepest {
            let legal = symbolic::legal_answers(sets, profile, Form::Whole, depth);
            event.packets = sets.and(event.packets, legal);
        }
        let mut packets = event.packets;
        for whole in wholes.iter().filter(|whole| exit(&whole.event) == exit(event)) {
            packets = sets.minus(packets, whole.event.packets);
        }
        event.packets = packets;
    }

    /// Offers packets of what was found, until `accept` takes one: of each rank the most familiar one, the most telling rank
    /// first, then one of every way out of the tables. With each comes what its replay depends on.
    pub fn examples<T>(
        &mut self,
        profile: Profile,
        mut found: Vec<Found>,
        accept: &mut dyn FnMut(Choice, Depends) -> Option<T>,
    ) -> Option<T> {
        found.sort_by_key(rank);
        found.truncate(ATTEMPTS);
        for group in found.chunk_by(|a, b| rank(a) == rank(b)) {
            let Some(first) = group.first() else { continue };
            let sets = &mut self.workshop.sets;
            let packets = group.iter().fold(sets.none(), |sum, found| sets.or(sum, found.event.packets));
            let event = Event { packets, ..first.event.clone() };
            let depends = group.iter().map(|found| self.depends(profile, found)).max().unwrap_or_default();
            let choice = self.example(&Found { form: first.form, event });
            if let Some(taken) = choice.and_then(|choice| accept(choice, depends)) {
                return Some(taken);
            }
        }
        found.iter().find_map(|found| {
            let depends = self.depends(profile, found);
            accept(self.example(found)?, depends)
        })
    }

    fn choose(&mut self, packets: Bdd, form: Form, recirculations: u16) -> Option<Choice> {
        let sets = &mut self.workshop.sets;
        let wishes = || Wishes::new(sets, &familiar::wishes(self.port, &self.others));
        let mut wishes = self.wishes.take().unwrap_or_else(wishes);
        let choice = wishes.choose(&mut self.workshop.sets, packets, form, recirculations);
        self.wishes = Some(wishes);
        choice
    }

    /// Whether the packet with these bits is among what was found.
    #[must_use]
    pub fn has(&self, found: &Found, bit: impl Fn(Var) -> bool) -> bool {
        self.workshop.sets.contains(found.event.packets, bit)
    }

    /// Whether some packet of which this is true is among what was found.
    pub fn meets(&mut self, found: &Found, predicate: &Predicate) -> bool {
        let sets = &mut self.workshop.sets;
        let packets = predicate.to_set(sets);
        let both = sets.and(found.event.packets, packets);
        !sets.is_empty(both)
    }

    /// The most familiar packet of what was found.
    pub fn example(&mut self, found: &Found) -> Option<Choice> {
        let Found { form, event } = found;
        self.choose(event.packets, *form, event.recirculations)
    }

    /// A packet that `property` speaks of, whatever becomes of it.
    pub fn subject(&mut self, property: &Property) -> Option<Choice> {
        let premise = properties::premise(property, self.port).to_set(&mut self.workshop.sets);
        let form = property.forms.first().copied()?;
        let sendable = self.workshop.sendable(form);
        let packets = self.workshop.sets.and(sendable, premise);
        self.choose(packets, form, 0)
    }
}

impl crate::since::Engine for Diagram<'_> {
    fn sets(&mut self) -> &mut Bdds {
        &mut self.workshop.sets
    }

    fn tables(&self) -> &Tables {
        &self.host.tables
    }

    fn in_port(&self) -> PortNo {
        self.port.ofport
    }

    fn arrivals(&self) -> Vec<Arrival> {
        vec![Arrival::Ordinary]
    }
}

/// What is modelled before what is not, whole packets before fragments, those that need no connection before those that do.
const fn rank(found: &Found) -> (bool, Form, u16) {
    (!found.event.emit.is_modelled(), found.form, found.event.recirculations)
}

/// What of the ways out of the tables that were found is not modelled, with the first flow that has it; nothing if all is.
pub(crate) fn unmodelled(found: &[Found], tables: &Tables) -> Option<String> {
    let name = |found: &Found| {
        let text = match &found.event.emit {
            Emit::Opaque(text) => text,
            Emit::UnknownPort => "an output to a port that is not a constant",
            Emit::Port(_) | Emit::InPort | Emit::Normal | Emit::Flood | Emit::Controller | Emit::Limit => {
                return None;
            }
        };
        let flow = found.event.path.as_ref().and_then(|step| tables.flow(step.flow));
        Some(not_modelled(text, flow))
    };
    found.iter().find_map(name)
}

/// That something of a flow is not modelled.
pub(crate) fn not_modelled(text: &str, flow: Option<&Flow>) -> String {
    let of = match flow {
        None => String::new(),
        Some(flow) if flow.span.line > 0 => format!(" of the flow on line {}", flow.span.line),
        Some(flow) => format!(" of a flow of table {}, priority {}", flow.table, flow.priority),
    };
    format!("it rests on `{text}`{of}, which is not modelled")
}

/// How an event's packets leave: where to, and their VLAN bits.
fn exit(event: &Event<Bdd>) -> (&Emit, Vec<Bit>) {
    let vlan = Field::VlanTci.spec();
    (&event.emit, (vlan.offset..vlan.offset + vlan.width).map(|bit| event.key.bit(bit)).collect())
}
