//! What happens to a switch: frames, time, changed flows; told to a real one and to the interpreter alike.

use super::world::World;
use flowproof_ovs::{EnvError, RealSwitch};
use flowproof_packet::{
    Field, FlowKey, MacAddr, PortNo,
    build::{ComposeOptions, compose},
    port,
    wire::{self, ethertype, proto},
};
use flowproof_switch::{
    conntrack::state,
    flow::{ParseOptions, parse_flows},
    pipeline::{Outcome, Switch, SwitchConfig},
    table::Tables,
    trace::Event,
};
use std::{collections::BTreeSet, fmt, sync::Arc};

/// One event.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A frame comes in.
    Frame(PortNo, Vec<u8>),
    /// Time passes, in milliseconds.
    Wait(u64),
    /// Connections of a zone, or all, are flushed.
    FlushConnections(Option<u16>),
    /// Learned addresses are flushed.
    FlushAddresses,
    /// The flows are exchanged for another variant.
    Flows(usize),
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(port, frame) => {
                write!(f, "frame {port} {}", super::hex(frame))
            }
            Self::Wait(ms) => write!(f, "wait {ms}"),
            Self::FlushConnections(None) => f.write_str("flush connections"),
            Self::FlushConnections(Some(zone)) => write!(f, "flush connections of zone {zone}"),
            Self::FlushAddresses => f.write_str("flush addresses"),
            Self::Flows(variant) => write!(f, "flows {variant}"),
        }
    }
}

/// What can be seen of a switch after a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// By port, each port's in order.
    pub(super) left: Vec<(PortNo, Vec<u8>)>,
    pub(super) connections: Vec<String>,
    pub(super) addresses: Vec<(PortNo, u16, MacAddr)>,
}

/// Both switches.
pub(super) struct Pair<'w> {
    world: &'w World,
    pub(super) real: RealSwitch,
    ours: Switch,
    loaded: usize,
    /// Where fragments have come in, as long as some are held.
    came_by: BTreeSet<PortNo>,
}

/// How a step went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Same,
    /// OpenFlow leaves open what should happen.
    Open,
    Different {
        ours: View,
        theirs: View,
    },
}

impl<'w> Pair<'w> {
    /// Both with the world's flows, and nothing else.
    pub(super) fn new(world: &'w World, real: RealSwitch) -> Self {
        Self::with_config(world, real, SwitchConfig::new(world.ports.clone()))
    }

    pub(super) fn with_config(world: &'w World, mut real: RealSwitch, config: SwitchConfig) -> Self {
        real.load(world.flows()).unwrap();
        real.reset().unwrap();
        let ours = Switch::new(Arc::clone(&world.variants[0]), config);
        Self { world, real, ours, loaded: 0, came_by: BTreeSet::new() }
    }

    /// Forgets connections and addresses; held fragments and the clock stay, in both.
    pub(super) fn reset(&mut self) {
        self.real.reset().unwrap();
        self.ours.flush_fdb();
        self.ours.conntrack_mut().flush(None);
        self.step(&Step::Flows(0), false).unwrap();
    }

    /// Lets go all fragments that are held: they have waited too long when other packets come through `ct()`.
    pub(super) fn drain(&mut self) {
        const TOO_LONG: u64 = 15_500;
        /// In case that the real switch holds more.
        const SPARE: usize = 4;
        if !self.ours.conntrack().holds_fragments() {
            return;
        }
        self.real.advance(TOO_LONG).unwrap();
        self.ours.advance(TOO_LONG);
        let flows = parse_flows("ip actions=ct(zone=65535)", &ParseOptions::default());
        let before = Arc::clone(self.ours.tables());
        self.ours.replace_tables(Arc::new(Tables::new(flows.unwrap().flows)));
        let mut key = FlowKey::default();
        key.set(Field::DlType, u128::from(ethertype::IPV4));
        key.set(Field::NwProto, u128::from(proto::UDP));
        let other = compose(&key, &ComposeOptions::default());
        let mut trains = 0;
        while self.ours.conntrack().holds_fragments() {
            self.ours.receive(port::LOCAL, &other);
            trains += 1;
        }
        self.ours.replace_tables(before);
        self.real.release(trains + SPARE).unwrap();
        self.came_by.clear();
    }

    /// Takes one step; connections and addresses are compared if `all` says so, frames always.
    pub(super) fn step(&mut self, step: &Step, all: bool) -> Result<Verdict, EnvError> {
        let (mut ours, mut theirs) = (View::default(), View::default());
        let mut open = false;
        match step {
            Step::Frame(port, frame) => {
                if wire::extract(frame, *port).get(Field::NwFrag) != 0 {
                    self.came_by.insert(*port);
                }
                let mut crossing = cross(&mut self.real, &mut self.ours, *port, frame)?;
                if self.came_by.len() > 1 {
                    crossing.forget_order();
                }
                if !self.ours.conntrack().holds_fragments() {
                    self.came_by.clear();
                }
                (ours.left, theirs.left, open) = (crossing.ours, crossing.theirs, crossing.open);
            }
            Step::Wait(ms) => {
                self.real.advance(*ms)?;
                self.ours.advance(*ms);
            }
            Step::FlushConnections(zone) => {
                self.real.flush_conntrack(*zone)?;
                self.ours.conntrack_mut().flush(*zone);
            }
            Step::FlushAddresses => {
                self.real.flush_fdb()?;
                self.ours.flush_fdb();
            }
            Step::Flows(variant) if *variant == self.loaded => {}
            Step::Flows(variant) => {
                let tables = &self.world.variants[*variant];
                self.real.load(tables.flows()).unwrap();
                self.ours.replace_tables(Arc::clone(tables));
                self.loaded = *variant;
            }
        }
        if all {
            (theirs.connections, theirs.addresses) = self.real.memory()?;
            ours.connections = self.ours.conntrack().entries().map(|entry| entry.to_string()).collect();
            ours.connections.sort_unstable();
            ours.addresses = self.ours.fdb().entries();
        }
        if ours != theirs {
            self.real.check_health()?;
        }
        Ok(match ours == theirs {
            _ if open => Verdict::Open,
            true => Verdict::Same,
            false => Verdict::Different { ours, theirs },
        })
    }
}

/// What one frame does in both switches.
#[derive(Debug)]
pub(super) struct Crossing {
    /// By port, each port's in order.
    pub(super) ours: Vec<(PortNo, Vec<u8>)>,
    pub(super) theirs: Vec<(PortNo, Vec<u8>)>,
    /// Whether OpenFlow leaves open what should happen.
    pub(super) open: bool,
}

impl Crossing {
    /// Leaves out the bytes that the switch takes for a header's checksum, and corrects.
    fn forget_checksums_in_payload(&mut self) {
        let frames = self.ours.iter_mut().chain(&mut self.theirs);
        frames.for_each(|(_, frame)| clear_checksum_in_payload(frame));
    }

    fn forget_order(&mut self) {
        self.ours.sort();
        self.theirs.sort();
    }
}

/// Sends a frame through both switches.
pub(super) fn cross(
    real: &mut RealSwitch,
    ours: &mut Switch,
    port: PortNo,
    frame: &[u8],
) -> Result<Crossing, EnvError> {
    let theirs = real.send(port, frame)?;
    let mut open = ours.conntrack().fragments_are_open();
    let outcome = ours.receive_traced(port, frame);
    assert!(!outcome.is_opaque(), "{port}: {}", super::hex(frame));
    open |= ours.conntrack().fragments_are_open();
    let mut left = outcome.delivered();
    left.sort_by_key(|(port, _)| *port);
    let mut crossing = Crossing { ours: left, theirs, open };
    if rewrites_address(&outcome) {
        crossing.forget_checksums_in_payload();
    }
    if crossing.ours.len() > 1 && has_invalid(&outcome) {
        crossing.forget_order();
    }
    crossing.open |= outcome.trace.is_some_and(|trace| !trace.ambiguities().is_empty());
    Ok(crossing)
}

/// Whether an action wrote an IPv4 address.
fn rewrites_address(outcome: &Outcome) -> bool {
    let mut steps = outcome.trace.iter().flat_map(|trace| &trace.steps);
    steps.any(|step| {
        matches!(&step.event, Event::Write { part, .. } if matches!(part.field, Field::NwSrc | Field::NwDst))
    })
}

/// In a later IPv4 fragment of TCP or UDP, clears the bytes that would be the checksum if it were the first.
fn clear_checksum_in_payload(frame: &mut [u8]) {
    const CHECKSUMS: [(u8, usize, usize); 2] = [(proto::TCP, 20, 16), (proto::UDP, 8, 6)];
    let Some(l3) = wire::l3(frame).filter(wire::L3::is_later_fragment) else { return };
    let (start, length, protocol) = (l3.payload_offset(), l3.payload.len(), l3.protocol);
    if l3.version != wire::IpVersion::V4 {
        return;
    }
    for (_, _, at) in CHECKSUMS.into_iter().filter(|(of, header, _)| *of == protocol && length >= *header) {
        frame[start + at..][..2].fill(0);
    }
}

/// Whether `ct()` called something invalid. Where fragments that it refused, or that had waited too long, go on
/// together with others, the switch takes those last whose flow it has just cached: their order is open.
fn has_invalid(outcome: &Outcome) -> bool {
    let steps = outcome.trace.iter().flat_map(|trace| &trace.steps);
    steps.into_iter().any(|step| matches!(step.event, Event::Tracked(info) if info.state & state::INV != 0))
}

/// Runs steps from the beginning, comparing everything after each; where they first differ.
pub(super) fn first_difference(world: &World, steps: &[Step]) -> Option<(usize, View, View)> {
    let mut pair = Pair::new(world, super::start(world)?);
    for (at, step) in steps.iter().enumerate() {
        match pair.step(step, true).unwrap() {
            Verdict::Same => {}
            Verdict::Open => return None,
            Verdict::Different { ours, theirs } => return Some((at, ours, theirs)),
        }
    }
    None
}

/// The scenario with as many steps left out as can be, still showing a difference.
pub(super) fn shrunk(world: &World, steps: &[Step]) -> Vec<Step> {
    let mut steps = steps.to_vec();
    let mut size = steps.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            match first_difference(world, &fewer) {
                Some((last, ..)) => {
                    fewer.truncate(last + 1);
                    steps = fewer;
                }
                None => at += size,
            }
        }
        size /= 2;
    }
    steps
}
