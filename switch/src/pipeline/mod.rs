//! The interpreter: a switch that takes frames and says what becomes of them.
//!
//! What it means: [`Switch::receive`] is one packet's whole way, recirculations included. Invariant: time passes
//! only by [`Switch::advance`]. Deliberately absent: tunnels, what a meter measures (see [`Meters`]), the timeouts of
//! flows that packets add, the MTU of ports, packet-in messages.
//!
//! Source: ovs-actions(7), ovs-fields(7), experiments with Open vSwitch 3.1.

mod fields;
mod kind;
mod learn;
mod nest;
mod normal;
mod pass;
mod request;
mod run;
pub mod sets;
mod start;
mod stateless;
mod tracker;
mod write;

pub use kind::PortKind;
pub use normal::{Decision, Fdb, MAC_AGE_MS, NormalDrop, RESERVED};
pub use start::{NOT_GIVEN, Start, Unlisted, is_metadata, tunnel_fields};
pub use stateless::{Stateless, trace_stateless};
pub use tracker::{Scripted, Tracker, Visit};

use crate::{
    conntrack::{Conntrack, Profile},
    table::{FlowId, Tables, TieBreak},
    trace::{Recorder, Trace},
};
use flowproof_packet::{Field, FlowKey, Origin, PortNo, port, wire};
use pass::{Kept, Plan};
use run::{Flying, Run};
use start::Open;
use std::{borrow::Cow, fmt, sync::Arc};

/// One port of the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortConfig {
    /// Its OpenFlow number.
    pub ofport: PortNo,
    /// The VLAN of an access port (`Port.tag`); a trunk for all VLANs otherwise. Only `NORMAL` looks at it.
    pub access_vlan: Option<u16>,
    /// Whether `FLOOD` and `NORMAL`'s flooding leave it out.
    pub no_flood: bool,
}

impl PortConfig {
    /// A trunk port that takes part in flooding.
    #[must_use]
    pub const fn trunk(ofport: PortNo) -> Self {
        Self { ofport, access_vlan: None, no_flood: false }
    }

    /// An access port of `vlan` that takes part in flooding.
    #[must_use]
    pub const fn access(ofport: PortNo, vlan: u16) -> Self {
        Self { ofport, access_vlan: Some(vlan), no_flood: false }
    }
}

/// What a switch is, apart from its flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchConfig {
    /// Its ports. `LOCAL` is added as a trunk if it is not named.
    pub ports: Vec<PortConfig>,
    /// The datapath.
    pub profile: Profile,
    /// What happens where OpenFlow leaves the winner undefined.
    pub tie: TieBreak,
}

impl SwitchConfig {
    /// A switch with Open vSwitch 3.1's userspace datapath and these ports.
    #[must_use]
    pub const fn new(ports: Vec<PortConfig>) -> Self {
        Self { ports, profile: Profile::Userspace31, tie: TieBreak::First }
    }

    /// All ports in ascending order, `LOCAL` included.
    fn all_ports(&self) -> Vec<PortConfig> {
        let mut ports = self.ports.clone();
        if ports.iter().all(|known| known.ofport != port::LOCAL) {
            ports.push(PortConfig::trunk(port::LOCAL));
        }
        ports.sort_by_key(|port| port.ofport);
        ports.dedup_by_key(|port| port.ofport);
        ports
    }
}

/// What meters do, which nobody knows who does not measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Meters {
    /// They let everything pass.
    #[default]
    Pass,
    /// They drop everything.
    Drop,
}

/// What becomes of packets where that depends on more than tables and packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Choices {
    /// What meters do.
    pub meters: Meters,
    /// Which bucket a `select` group takes, of those that it may take and in their order; counted around.
    pub bucket: u32,
}

/// A configuration, and its ports as lookups want them.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    config: SwitchConfig,
    choices: Choices,
    /// All ports in ascending order, `LOCAL` included.
    ports: Vec<PortConfig>,
    unlisted: Unlisted,
}

impl Setup {
    fn new(config: SwitchConfig) -> Self {
        Self { ports: config.all_ports(), config, choices: Choices::default(), unlisted: Unlisted::Absent }
    }
}

/// Bounds on the work for one packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How often one frame may be recirculated.
    pub(crate) recirculations: u8,
}

impl Limits {
    /// Nested calls to the same or a lower table.
    pub(crate) const DEPTH: u32 = 64;
    /// Calls in one pass.
    pub(crate) const RESUBMITS: u32 = 4096;
    /// Passes of one packet with all its copies; a bound of ours against tables that fork without end.
    pub(crate) const PASSES: u32 = 1 << 14;

    const fn of(profile: Profile) -> Self {
        Self { recirculations: profile.recirculations() }
    }
}

/// What a packet meets, apart from the connection tracker.
pub(crate) struct World<'w> {
    given: &'w Tables,
    /// The tables with what earlier passes have added, if they have.
    learned: Option<Arc<Tables>>,
    /// Those of the passes to come.
    next: Option<Arc<Tables>>,
    setup: &'w Setup,
    fdb: &'w mut Fdb,
    /// Room that earlier packets left, so that this one need not ask for any.
    spare: &'w mut Vec<Plan>,
    now: u64,
    learn: bool,
}

impl World<'_> {
    fn tables(&self) -> &Tables {
        self.learned.as_deref().unwrap_or(self.given)
    }

    /// The tables of the passes to come, to change.
    fn coming(&mut self) -> &mut Tables {
        let given = self.given;
        Arc::make_mut(self.next.get_or_insert_with(|| Arc::new(given.clone())))
    }

    fn port(&self, ofport: PortNo) -> Option<&PortConfig> {
        find(&self.setup.ports, ofport)
    }

    /// Whether packets may leave by a port of this number.
    fn has_port(&self, ofport: PortNo) -> bool {
        find(&self.setup.ports, ofport).is_some() || self.setup.unlisted.has(ofport)
    }

    const fn limits(&self) -> Limits {
        Limits::of(self.setup.config.profile)
    }
}

/// A port among ports in ascending order.
fn find(ports: &[PortConfig], ofport: PortNo) -> Option<&PortConfig> {
    let at = ports.binary_search_by_key(&ofport, |port| port.ofport).ok()?;
    ports.get(at)
}

/// Why nothing came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// No flow of the table matches.
    Miss {
        /// The table.
        table: u8,
    },
    /// The last flow that applied sends the packet nowhere.
    Flow(FlowId),
    /// Output to the port that the packet came in by.
    InputPort(PortNo),
    /// Output to a port that the switch does not have.
    UnknownPort(PortNo),
    /// `NORMAL` dropped it.
    Normal(NormalDrop),
    /// More than 64 nested calls to the same or a lower table: the whole pass is void.
    TooDeep,
    /// More than 4096 calls: the whole pass is void.
    TooManyResubmits,
    /// Recirculated more often than the datapath allows.
    TooManyRecirculations,
    /// A fragment that waits for the others.
    Held,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Miss { table } => write!(f, "no flow of table {table} matches"),
            Self::Flow(flow) => write!(f, "flow {} sends it nowhere", flow.0),
            Self::InputPort(port) => write!(f, "port {port} is the input port"),
            Self::UnknownPort(port) => write!(f, "there is no port {port}"),
            Self::Normal(why) => write!(f, "NORMAL: {why}"),
            Self::TooDeep => f.write_str("more than 64 nested calls"),
            Self::TooManyResubmits => f.write_str("more than 4096 calls"),
            Self::TooManyRecirculations => f.write_str("recirculated too often"),
            Self::Held => f.write_str("a fragment that waits for the others"),
        }
    }
}

/// A frame that leaves, perhaps by many ports.
pub type Shared = Arc<[u8]>;

/// One thing that a packet caused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Output by number, `IN_PORT`, `ALL` or `FLOOD`.
    Output {
        /// The port.
        port: PortNo,
        /// What leaves by it.
        frame: Shared,
    },
    /// `NORMAL` executed.
    Normal {
        /// The packet as `NORMAL` met it.
        frame: Shared,
        /// The VLAN it travelled in; 0 for none.
        vlan: u16,
        /// What left by which port.
        delivered: Vec<(PortNo, Shared)>,
    },
    /// A copy for the controller.
    Controller {
        /// The packet.
        frame: Shared,
    },
    /// Something that is not modelled: what else happens to the packet is unknown.
    Opaque {
        /// The flow.
        flow: FlowId,
        /// The part of it.
        text: String,
    },
}

/// What became of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What it caused, in order.
    pub effects: Vec<Effect>,
    /// Why nothing came out; `None` if something did, or if it is unknown.
    pub dropped: Option<DropReason>,
    /// How it went, if that was asked for.
    pub trace: Option<Trace>,
}

impl Outcome {
    /// Everything that left the switch, in order.
    #[must_use]
    pub fn delivered(&self) -> Vec<(PortNo, Vec<u8>)> {
        self.deliveries().map(|(port, frame)| (port, frame.to_vec())).collect()
    }

    /// The same without copying frames.
    pub fn deliveries(&self) -> impl Iterator<Item = (PortNo, &[u8])> {
        self.effects.iter().flat_map(|effect| {
            let (one, many) = match effect {
                Effect::Output { port, frame } => (Some((*port, &**frame)), [].as_slice()),
                Effect::Normal { delivered, .. } => (None, delivered.as_slice()),
                Effect::Controller { .. } | Effect::Opaque { .. } => (None, [].as_slice()),
            };
            one.into_iter().chain(many.iter().map(|(port, frame)| (*port, &**frame)))
        })
    }

    /// Whether something that is not modelled had a part in it.
    #[must_use]
    pub fn is_opaque(&self) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::Opaque { .. }))
    }

    fn new(run: Run<'_, '_, impl Tracker>) -> Self {
        let silent =
            |effect: &Effect| matches!(effect, Effect::Normal { delivered, .. } if delivered.is_empty());
        let dropped = run.reason.filter(|_| run.effects.iter().all(silent));
        Self { effects: run.effects, dropped, trace: run.recorder.finish() }
    }
}

/// A switch: flow tables, ports, learned addresses, tracked connections, and a clock.
#[derive(Debug)]
pub struct Switch<T = Conntrack> {
    tables: Arc<Tables>,
    /// The tables without what packets have added.
    given: Arc<Tables>,
    setup: Arc<Setup>,
    fdb: Fdb,
    tracker: T,
    now: u64,
    spare: Vec<Plan>,
}

impl Switch {
    /// A switch that has seen nothing yet, with the connection tracking of the datapath that `config` names.
    #[must_use]
    pub fn new(tables: Arc<Tables>, config: SwitchConfig) -> Self {
        let conntrack = Conntrack::new(config.profile);
        Self::with_tracker(tables, config, conntrack)
    }

    /// Another switch with the same flows and ports that has seen nothing yet. Nothing is copied, whatever the number
    /// of ports.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self {
            tables: Arc::clone(&self.given),
            given: Arc::clone(&self.given),
            setup: Arc::clone(&self.setup),
            fdb: Fdb::default(),
            tracker: Conntrack::new(self.setup.config.profile),
            now: 0,
            spare: Vec::new(),
        }
    }

    /// Forgets connections, what was set for them, learned addresses, learned flows and the time: what is left is as new.
    pub fn reset(&mut self) {
        self.tables = Arc::clone(&self.given);
        self.tracker = Conntrack::new(self.setup.config.profile);
        self.fdb.flush();
        self.now = 0;
    }

    /// The connections.
    #[must_use]
    pub const fn conntrack(&self) -> &Conntrack {
        &self.tracker
    }

    /// The connections, to flush or to set limits.
    pub const fn conntrack_mut(&mut self) -> &mut Conntrack {
        &mut self.tracker
    }
}

impl<T: Tracker> Switch<T> {
    /// A switch that asks `tracker` about connections.
    #[must_use]
    pub fn with_tracker(tables: Arc<Tables>, config: SwitchConfig, tracker: T) -> Self {
        let setup = Arc::new(Setup::new(config));
        let given = Arc::clone(&tables);
        Self { tables, given, setup, fdb: Fdb::default(), tracker, now: 0, spare: Vec::new() }
    }

    /// The same switch, with these choices where something else than tables and packets decides.
    #[must_use]
    pub fn choosing(mut self, choices: Choices) -> Self {
        Arc::make_mut(&mut self.setup).choices = choices;
        self
    }

    /// The same switch; whether it has ports that its configuration does not list. Nothing floods to them.
    #[must_use]
    pub fn with_unlisted(mut self, unlisted: Unlisted) -> Self {
        Arc::make_mut(&mut self.setup).unlisted = unlisted;
        self
    }

    /// What becomes of a frame that comes in by `in_port`.
    pub fn receive(&mut self, in_port: PortNo, frame: &[u8]) -> Outcome {
        self.take(in_port, frame, Recorder::default())
    }

    /// The same, with a trace.
    pub fn receive_traced(&mut self, in_port: PortNo, frame: &[u8]) -> Outcome {
        self.take(in_port, frame, Recorder::on())
    }

    /// The same, with what the packet brings with it besides its bytes, beginning in any table.
    pub fn receive_from(&mut self, in_port: PortNo, frame: &[u8], start: &Start) -> Outcome {
        let mut key = wire::extract(frame, in_port);
        start.put(&mut key);
        self.begin(&key, frame, (start.table, start.open()), Recorder::on())
    }

    /// What becomes of a frame with which more comes in than its bytes: what a tunnel, the host's network stack or the
    /// datapath knows of it. `arriving` has that, and the input port; what it says of the frame itself is not looked at.
    pub fn receive_with(&mut self, arriving: &FlowKey, frame: &[u8]) -> Outcome {
        self.enter(&arrived(arriving, frame), frame, Recorder::default())
    }

    /// The same, with a trace.
    pub fn receive_with_traced(&mut self, arriving: &FlowKey, frame: &[u8]) -> Outcome {
        self.enter(&arrived(arriving, frame), frame, Recorder::on())
    }

    fn take(&mut self, in_port: PortNo, frame: &[u8], recorder: Recorder) -> Outcome {
        self.enter(&wire::extract(frame, in_port), frame, recorder)
    }

    fn enter(&mut self, key: &FlowKey, frame: &[u8], recorder: Recorder) -> Outcome {
        self.begin(key, frame, (0, Open::default()), recorder)
    }

    fn begin(&mut self, key: &FlowKey, frame: &[u8], from: (u8, Open), recorder: Recorder) -> Outcome {
        let world = World {
            given: &self.tables,
            learned: None,
            next: None,
            setup: &self.setup,
            fdb: &mut self.fdb,
            spare: &mut self.spare,
            now: self.now,
            learn: true,
        };
        let (outcome, learned) = start(world, &mut self.tracker, recorder, (key, frame), from);
        if let Some(tables) = learned {
            self.tables = tables;
        }
        outcome
    }

    /// Lets time pass, in milliseconds.
    pub fn advance(&mut self, ms: u64) {
        self.now = self.now.saturating_add(ms);
        self.fdb.expire(self.now);
        self.tracker.advance(ms);
    }

    /// Exchanges the flows; connections and learned addresses stay.
    pub fn replace_tables(&mut self, tables: Arc<Tables>) {
        self.given = Arc::clone(&tables);
        self.tables = tables;
    }

    /// The flows, with those that packets have added.
    #[must_use]
    pub const fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// What the switch is, apart from its flows.
    #[must_use]
    pub fn config(&self) -> &SwitchConfig {
        &self.setup.config
    }

    /// The connection tracker.
    #[must_use]
    pub const fn tracker(&self) -> &T {
        &self.tracker
    }

    /// The connection tracker, to change.
    pub const fn tracker_mut(&mut self) -> &mut T {
        &mut self.tracker
    }

    /// What `NORMAL` has learned.
    #[must_use]
    pub const fn fdb(&self) -> &Fdb {
        &self.fdb
    }

    /// Forgets what `NORMAL` has learned.
    pub fn flush_fdb(&mut self) {
        self.fdb.flush();
    }
}

/// The key of a frame with what else comes in with it.
fn arrived(arriving: &FlowKey, frame: &[u8]) -> FlowKey {
    let mut key = wire::extract(frame, 0);
    let specs = Field::all().map(Field::spec).filter(|spec| spec.is_slot_owner());
    for spec in specs.filter(|spec| !matches!(spec.origin, Origin::Frame | Origin::Flows)) {
        key.set(spec.field, arriving.get(spec.field));
    }
    key
}

fn start<T: Tracker>(
    world: World<'_>,
    tracker: &mut T,
    recorder: Recorder,
    (key, frame): (&FlowKey, &[u8]),
    (table, open): (u8, Open),
) -> (Outcome, Option<Arc<Tables>>) {
    let mut run = Run { world, tracker, recorder, effects: Vec::new(), reason: None, passes: 0 };
    let kept = Kept { open, ..Kept::default() };
    run.pass(0, table, key, &Flying { frame: Cow::Borrowed(frame), tracked: None }, &kept);
    let learned = run.world.learned.take();
    (Outcome::new(run), learned)
}
