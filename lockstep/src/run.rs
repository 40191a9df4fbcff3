//! Model and switch side by side over one scenario.
//!
//! Each packet goes through the switch first: what its connection tracking says is the oracle that the model is told
//! (what is invalid, which connections are over). Then both answers are compared. Invariant: the same scenario gives
//! the same run. Deliberately absent: a real switch; whoever has one replays the [`Run`] in it.

use crate::allowed::{Allowed, Circumstances, target};
use crate::compare::{Difference, compare};
use crate::frames::{Arrival, arrival, destination, untagged, way_in};
use crate::patch::Patch;
use crate::scenario::{Event, Packet, Scenario, Step, Tables, Target, switches_of};
use crate::sort::Divergence;
use crate::text::RunError;
use crate::watch::{Answer, Watch, is_invalid, is_same};
use crate::{scenario::Contents, watch};
use flowproof_compiler::Layout;
use flowproof_model::frame::{Frame, Icmp, Upper};
use flowproof_model::history::{Connection, Delivery, Ends, Tracking, Tuple};
use flowproof_model::policy::{Host, Policy};
use flowproof_model::world::{Event as Happening, Origin, World};
use flowproof_packet::PortNo;
use flowproof_switch::conntrack::{Conntrack, Entry, Profile, state};
use flowproof_switch::flow::{Flow, ParseOptions, parse_flows};
use flowproof_switch::pipeline::{Outcome, PortConfig, Switch, SwitchConfig};
use flowproof_switch::table::{self, TieBreak};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What came of a whole scenario under one layout.
#[derive(Debug)]
pub struct Run {
    /// The layout; `None` for tables that were given.
    pub layout: Option<Layout>,
    /// The ports of the switch.
    pub ports: Vec<PortConfig>,
    /// Which of several flows of one priority won.
    pub tie: TieBreak,
    /// The tables at the beginning.
    pub tables: Arc<table::Tables>,
    /// Each step.
    pub steps: Vec<StepRun>,
}

/// What came of one step.
#[derive(Debug)]
pub enum StepRun {
    /// A packet was judged twice.
    Packet(Box<Observation>),
    /// The tables are these now.
    Tables(Arc<table::Tables>),
    /// Time passed, in milliseconds.
    Advance(u64),
    /// Connections and learned addresses are forgotten.
    Flush,
    /// Connections with mark 1 of this zone are forgotten.
    ForgetMarked(u16),
}

/// What became of a packet in both.
#[derive(Debug)]
pub struct Observation {
    /// The packet at the switch.
    pub arrival: Arrival,
    /// The connections between its addresses, or between those that it reports about, before it came.
    pub connections: Vec<(Tuple, Connection)>,
    /// What the model says of each receiver.
    pub model: Vec<Delivery>,
    /// What the tables may do.
    pub allowed: Allowed,
    /// What the tables did with each frame.
    pub outcomes: Vec<Outcome>,
    /// What connection tracking said.
    pub answers: Vec<Answer>,
    /// Where they differ.
    pub differences: Vec<Difference>,
    /// The tables it went through.
    pub tables: Arc<table::Tables>,
    /// The policy in force.
    pub policy: Policy,
}

/// A model and a switch that go step by step.
#[derive(Debug)]
pub struct Lockstep {
    layout: Option<Layout>,
    patch: Patch,
    world: World,
    switch: Switch<Watch>,
    /// What an error message would be about.
    about: Option<Packet>,
    /// Fragments that may still come out.
    pub(crate) fragments: Vec<Vec<u8>>,
}

fn error(message: impl ToString) -> RunError {
    RunError { line: 0, message: message.to_string() }
}

fn flows_of(lines: &[String]) -> Result<Vec<Flow>, RunError> {
    let text = lines.join("\n");
    parse_flows(&text, &ParseOptions::default()).map(|file| file.flows).map_err(error)
}

/// The ports of the host: those that are ever bound, and the uplinks.
fn port_configs(scenario: &Scenario) -> Vec<PortConfig> {
    let host = scenario.policy.host.clone().unwrap_or_default();
    let later = scenario.steps.iter().filter_map(|step| match &step.event {
        Event::PutPort(_, binding) => *binding,
        _ => None,
    });
    let mut configs: Vec<PortConfig> =
        host.uplinks.iter().map(|uplink| PortConfig::trunk(uplink.ofport)).collect();
    for binding in host.bindings.values().copied().chain(later) {
        if configs.iter().all(|known| known.ofport != binding.ofport) {
            configs.push(PortConfig::access(binding.ofport, binding.vlan));
        }
    }
    configs
}

impl Lockstep {
    /// Both at the beginning of a scenario.
    ///
    /// # Errors
    /// A policy switch that is set does not exist, or a flow is none.
    pub fn new(scenario: &Scenario, layout: Option<Layout>) -> Result<Self, RunError> {
        Self::patched(scenario, layout, &Patch::default())
    }

    /// Both at the beginning of a scenario; each time tables are compiled they are changed by `patch`.
    ///
    /// # Errors
    /// A policy switch that is set does not exist, or a flow is none.
    pub fn patched(scenario: &Scenario, layout: Option<Layout>, patch: &Patch) -> Result<Self, RunError> {
        let mut switches = switches_of(layout);
        for (name, setting) in &scenario.switches {
            switches.set(name, setting).map_err(error)?;
        }
        let tables = match (&scenario.tables, layout) {
            (Tables::Compiled(_), Some(layout)) => patch.compiled(&scenario.policy, layout),
            (Tables::Compiled(_), None) => return Err(error("there is no layout")),
            (Tables::File(_, lines) | Tables::Inline(lines), _) => {
                Arc::new(table::Tables::new(flows_of(lines)?))
            }
        };
        let ports = port_configs(scenario);
        let config = SwitchConfig { ports, profile: scenario.datapath, tie: scenario.tie };
        let tracker = Watch::new(Conntrack::new(scenario.datapath));
        Ok(Self {
            layout,
            patch: patch.clone(),
            world: World::new(scenario.policy.clone(), switches),
            switch: Switch::with_tracker(tables, config, tracker),
            about: None,
            fragments: Vec::new(),
        })
    }

    /// The layout; `None` for tables that were given.
    #[must_use]
    pub const fn layout(&self) -> Option<Layout> {
        self.layout
    }

    /// The model.
    #[must_use]
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// The switch.
    #[must_use]
    pub const fn switch(&self) -> &Switch<Watch> {
        &self.switch
    }

    /// Lets a step happen in both.
    ///
    /// # Errors
    /// The step cannot happen under the policy of the moment.
    pub fn step(&mut self, step: &Step) -> Result<StepRun, RunError> {
        self.happen(step).map_err(|error| RunError { line: step.line.0, ..error })
    }

    fn happen(&mut self, step: &Step) -> Result<StepRun, RunError> {
        match &step.event {
            Event::Packet(packet) => {
                self.packet(step, packet).map(|observation| StepRun::Packet(Box::new(observation)))
            }
            Event::Advance(ms) => {
                self.switch.advance(*ms);
                Ok(StepRun::Advance(*ms))
            }
            Event::Flush => {
                self.flush();
                Ok(StepRun::Flush)
            }
            Event::UpdatePort(id) => {
                let port = self.world.policy.ports.get(id).ok_or_else(|| error("there is no such port"))?;
                let zone = self.world.policy.vlan_of(&port.network).unwrap_or_default();
                self.switch.tracker_mut().conntrack.delete_marked(zone, 1);
                self.world.apply(Happening::PortUpdated(id.clone())).map_err(|faults| first(&faults))?;
                Ok(StepRun::ForgetMarked(zone))
            }
            change => {
                for change in change.changes(&self.world.policy) {
                    self.world.apply(Happening::Change(change)).map_err(|faults| first(&faults))?;
                }
                if let Some(layout) = self.layout {
                    self.switch.replace_tables(self.patch.compiled(&self.world.policy, layout));
                }
                Ok(StepRun::Tables(Arc::clone(self.switch.tables())))
            }
        }
    }

    /// Forgets all connections and all learned addresses, in both.
    pub fn flush(&mut self) {
        self.switch.flush_fdb();
        self.switch.tracker_mut().conntrack.flush(None);
        self.world.history.clear();
    }

    fn packet(&mut self, step: &Step, packet: &Packet) -> Result<Observation, RunError> {
        let arrival = arrival(&self.world.policy, packet, self.about.as_ref()).map_err(error)?;
        if !matches!(packet.contents, Contents::Error(..)) {
            self.about = Some(packet.clone());
        }
        let before = self.switch.tracker().entries();
        self.switch.tracker_mut().answers.clear();
        let outcomes: Vec<Outcome> =
            arrival.frames.iter().map(|frame| self.switch.receive_traced(arrival.in_port, frame)).collect();
        let answers = std::mem::take(&mut self.switch.tracker_mut().answers);
        let frame = Frame::from_wire(&arrival.whole);
        self.forget_what_is_over(&before, &answers, &arrival.origin, &frame);
        let tracking = if is_invalid(&answers) { Tracking::Invalid } else { Tracking::Plausible };
        let connections = self.connections();
        let between = self.connections_of(&frame);
        let (origin, sent) = (arrival.origin.clone(), frame.clone());
        let happening = Happening::Frame { origin, frame: sent, tracking };
        let model = self.world.apply(happening).map_err(|faults| first(&faults))?;
        let allowed = Allowed::of(&model, &self.circumstances(&arrival));
        let mut observation = Observation {
            arrival,
            connections: between,
            model,
            allowed,
            outcomes,
            answers,
            differences: Vec::new(),
            tables: Arc::clone(self.switch.tables()),
            policy: self.world.policy.clone(),
        };
        let opened: Vec<Tuple> =
            self.connections().into_iter().filter(|tuple| !connections.contains(tuple)).collect();
        observation.differences = compare(self, step, &observation, (&before, &opened, &frame));
        if observation.arrival.frames.len() > 1 || is_fragment(&observation.arrival.whole) {
            self.fragments.extend(observation.arrival.frames.iter().map(|frame| untagged(frame)));
        }
        Ok(observation)
    }

    /// The connections that a frame may be part of, or report about.
    fn connections_of(&self, frame: &Frame) -> Vec<(Tuple, Connection)> {
        let Some(datagram) = frame.datagram() else { return Vec::new() };
        let quoted = match &datagram.upper {
            Upper::Icmp(Icmp { quoted, .. }) => quoted.as_deref(),
            Upper::Ports { .. } | Upper::Unseen => None,
        };
        let about = quoted.unwrap_or(datagram);
        let ends = [(about.src, about.dst), (about.dst, about.src)];
        let asked = |tuple: &Tuple| match (tuple.ends, &about.upper) {
            (Ends::Query { code, ident, .. }, Upper::Icmp(icmp)) => (code, ident) == (icmp.code, icmp.ident),
            (_, _) => true,
        };
        let between = self.world.history.connections().filter(|(tuple, _)| {
            tuple.protocol == about.protocol && ends.contains(&(tuple.src, tuple.dst)) && asked(tuple)
        });
        between.map(|(tuple, connection)| (tuple.clone(), connection.clone())).collect()
    }

    fn connections(&self) -> Vec<Tuple> {
        self.world.history.connections().map(|(tuple, _)| tuple.clone()).collect()
    }

    /// Tells the model which connections were over before this packet: those that the tracking has forgotten, and
    /// the one that this packet opens again.
    fn forget_what_is_over(&mut self, before: &[Entry], answers: &[Answer], origin: &Origin, frame: &Frame) {
        let policy = &self.world.policy;
        let mut over: Vec<Tuple> = Vec::new();
        for tuple in self.world.history.connections().map(|(tuple, _)| tuple) {
            if !before.iter().any(|entry| is_same(policy, tuple, entry)) {
                over.push(tuple.clone());
            }
        }
        let infos = answers.iter().flat_map(|answer| &answer.infos);
        let is_new = infos.clone().any(|info| info.state & state::NEW != 0);
        let network = match origin {
            Origin::Network(network) => Some(network),
            Origin::Port(id) => policy.ports.get(id).map(|port| &port.network),
            Origin::Unprovisioned => None,
        };
        if let Some(tuple) = network.and_then(|network| Tuple::of(network, frame)).filter(|_| is_new) {
            let known = |tuple: &Tuple| before.iter().find(|entry| is_same(policy, tuple, entry));
            let profile = self.switch.config().profile;
            let reopened = |entry: &Entry| entry.state().is_some_and(|state| is_over(profile, state));
            if known(&tuple).is_some_and(reopened) {
                over.push(tuple.clone());
            }
            // Both sides may ask each other the same by ICMP; other protocols have one connection of two ends.
            let reversed = tuple.reversed();
            if known(&reversed).is_some() && !matches!(reversed.ends, Ends::Query { .. }) {
                over.push(reversed);
            }
        }
        for tuple in over {
            self.world.history.expire(&tuple);
        }
    }

    fn circumstances(&self, arrival: &Arrival) -> Circumstances {
        let policy = &self.world.policy;
        let destination = destination(&arrival.whole);
        let from_elsewhere = !matches!(arrival.origin, Origin::Port(_));
        let network = match &arrival.origin {
            Origin::Port(id) => policy.ports.get(id).map(|port| &port.network),
            Origin::Network(network) => Some(network),
            Origin::Unprovisioned => None,
        };
        let mut flooding = BTreeSet::new();
        let knows_the_way = network.is_some_and(|network| way_in(policy, network).is_some());
        if !destination.is_group() && (may_flood(self.layout) || !knows_the_way) {
            let ports = policy.local_ports().filter(|(port, _)| Some(&port.network) == network);
            flooding.extend(ports.map(|(port, _)| Target::Port(port.id.clone())));
            flooding.insert(Target::Elsewhere);
        }
        let fragments = arrival.frames.len() > 1 || is_fragment(&arrival.whole);
        Circumstances {
            flooding,
            unseen_ports: fragments && !self.switch.config().profile.reassembles()
                || is_fragment(&arrival.whole),
            fragments,
            from_elsewhere,
            has_uplink: policy.host.as_ref().is_some_and(|host| !host.uplinks.is_empty()),
        }
    }

    /// Who is behind a port of the switch.
    pub(crate) fn behind(&self, number: PortNo) -> Option<Target> {
        let host: &Host = self.world.policy.host.as_ref()?;
        if host.uplinks.iter().any(|uplink| uplink.ofport == number) {
            return Some(Target::Elsewhere);
        }
        let bound = host.bindings.iter().find(|(_, binding)| binding.ofport == number);
        bound.map(|(id, _)| Target::Port(id.clone()))
    }

    /// The entries that the switch has gained since, in either direction of what was there.
    pub(crate) fn gained(&self, before: &[Entry]) -> Vec<Entry> {
        let known: BTreeSet<_> = before.iter().map(watch::identity).collect();
        let mut entries = self.switch.tracker().entries();
        entries.retain(|entry| !known.contains(&watch::identity(entry)));
        entries
    }
}

/// States of an entry whose connection has only begun: its first packet may come again.
const STARTING: [&str; 3] = ["SYN_SENT", "SYN_SENT2", "SYN_RECV"];
/// States in which a kernel opens a connection again. In any other a packet is new as long as nobody has answered, of a
/// connection that it found established, too.
const ENDED: [&str; 2] = ["TIME_WAIT", "CLOSING"];

/// Whether a packet that is new finds a connection in this state that it takes the place of.
fn is_over(profile: Profile, state: &str) -> bool {
    match profile {
        Profile::Userspace31 => !STARTING.contains(&state),
        Profile::Kernel | Profile::Kernel2016 => ENDED.contains(&state),
    }
}

/// Whether a layout leaves unicast to `NORMAL` even where it knows the way out.
fn may_flood(layout: Option<Layout>) -> bool {
    layout.is_none_or(|layout| layout.name() != "strict")
}

fn is_fragment(frame: &[u8]) -> bool {
    flowproof_packet::wire::l3(frame).is_some_and(|l3| l3.is_partial())
}

fn first(faults: &[flowproof_model::policy::Fault]) -> RunError {
    error(faults.first().map(ToString::to_string).unwrap_or_default())
}

/// Runs a scenario under one of its layouts to the end.
///
/// # Errors
/// A step cannot happen.
pub fn run(scenario: &Scenario, layout: Option<Layout>) -> Result<Run, RunError> {
    let mut lockstep = Lockstep::new(scenario, layout)?;
    let ports = lockstep.switch.config().ports.clone();
    let tables = Arc::clone(lockstep.switch.tables());
    let steps = scenario.steps.iter().map(|step| lockstep.step(step)).collect::<Result<_, _>>()?;
    Ok(Run { layout, ports, tie: scenario.tie, tables, steps })
}

impl Run {
    /// The first step whose differences nobody has written down, with its place.
    #[must_use]
    pub fn first_divergence(&self) -> Option<(usize, &Observation)> {
        self.observations().find(|(_, observation)| !observation.differences.is_empty())
    }

    /// The packets, each with the place of its step.
    pub fn observations(&self) -> impl Iterator<Item = (usize, &Observation)> {
        self.steps.iter().enumerate().filter_map(|(at, step)| match step {
            StepRun::Packet(observation) => Some((at, &**observation)),
            StepRun::Tables(_) | StepRun::Advance(_) | StepRun::Flush | StepRun::ForgetMarked(_) => None,
        })
    }
}

impl Observation {
    /// Whether another shows the same divergence, of another packet: the same differences, for the same reasons, on the
    /// same sort of way.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        Divergence::of(self) == Divergence::of(other)
    }

    /// To whom the model delivers, MAY included.
    #[must_use]
    pub fn receivers(&self) -> BTreeSet<Target> {
        let delivered = self.model.iter().filter(|delivery| delivery.outcome.is_delivered());
        delivered.map(|delivery| target(&delivery.to)).collect()
    }
}
