//! Scenarios as data: a policy, how it is realised, what happens, what is expected.
//!
//! Invariant: a scenario says everything that its run depends on (but the files it names). Deliberately absent: what
//! becomes of anything in it; that is for `run`. `Debug` of a scenario is its text.

use flowproof_compiler::Layout;
use flowproof_model::policy::{AddressGroupId, Binding, GroupId, IpNet, Policy, Port, PortId, Rule, RuleId};
use flowproof_model::switches::Switches;
use flowproof_packet::PortNo;
use flowproof_switch::conntrack::Profile;
use flowproof_switch::table::TieBreak;

/// A policy, what realises it, and what happens.
#[derive(Clone, PartialEq, Eq)]
pub struct Scenario {
    /// What it is about, a line each.
    pub notes: Vec<String>,
    /// The tables.
    pub tables: Tables,
    /// Whose connection tracking.
    pub datapath: Profile,
    /// Which of several flows of one priority wins.
    pub tie: TieBreak,
    /// Policy switches that are not set as the layout has them, in the order given.
    pub switches: Vec<(String, String)>,
    /// The policy at the beginning.
    pub policy: Policy,
    /// The intent file that the policy stands in; without one it stands in the scenario.
    pub intent: Option<String>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// Where the flow tables come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tables {
    /// They are compiled from the policy, and again after each change of it: one run for each of these layouts.
    Compiled(Vec<Layout>),
    /// They stand in a file; its name and its lines.
    File(String, Vec<String>),
    /// They stand in the scenario, a flow a line.
    Inline(Vec<String>),
}

/// Something that happens, and what is expected to come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Comments in front of it.
    pub comments: Vec<String>,
    /// What happens.
    pub event: Event,
    /// What is expected of the model and, but for divergences, of the tables.
    pub expectations: Vec<Expectation>,
    /// Divergences that are written down.
    pub divergences: Vec<Written>,
    /// The line it stands in; 0 if it was never text. Two steps that differ in nothing else are equal.
    pub line: Line,
}

/// The number of a line; all are equal, so that text and what is printed of it compare equal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line(pub u32);

impl PartialEq for Line {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Line {}

impl Step {
    /// A step of which nothing is expected.
    #[must_use]
    pub const fn new(event: Event) -> Self {
        Self { comments: Vec::new(), event, expectations: Vec::new(), divergences: Vec::new(), line: Line(0) }
    }

    /// The divergence that is written down here for a layout, or for all of them.
    #[must_use]
    pub fn written(&self, layout: Option<Layout>) -> Option<&Written> {
        let applies = |one: &&Written| {
            one.layouts.is_empty() || layout.is_some_and(|layout| one.layouts.contains(&layout))
        };
        self.divergences.iter().find(applies)
    }
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A packet comes in.
    Packet(Packet),
    /// A group gets a rule.
    AddRule(GroupId, Rule),
    /// A rule goes.
    RemoveRule(RuleId),
    /// A new group, without rules.
    AddGroup(GroupId),
    /// A group goes.
    RemoveGroup(GroupId),
    /// A port joins a group.
    AddMember(GroupId, PortId),
    /// A port leaves a group.
    RemoveMember(GroupId, PortId),
    /// An address group has these addresses now.
    SetAddresses(AddressGroupId, Vec<IpNet>),
    /// A port appears, or has new contents; bound here if a binding is given.
    PutPort(Port, Option<Binding>),
    /// A port goes.
    RemovePort(PortId),
    /// The agent updates a port, which ends the revoked connections of its network.
    UpdatePort(PortId),
    /// Time passes, in milliseconds.
    Advance(u64),
    /// All connections and all learned addresses are forgotten.
    Flush,
}

/// Who sends a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sender {
    /// A port of the policy. If it is not bound here its frames come in by the uplink of its network, tagged as they
    /// are there.
    Port(PortId),
    /// Whoever is behind an uplink: the frame is as the packet says, its tag included.
    Uplink(PortNo),
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who sends it.
    pub from: Sender,
    /// For whom: destination addresses that the contents do not name are this port's.
    pub to: Option<PortId>,
    /// What it is.
    pub contents: Contents,
    /// What flow syntax cannot say.
    pub extras: Extras,
}

/// What a packet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Flow syntax: keys, with values where they have any.
    Flow(Vec<(String, Option<String>)>),
    /// All bytes of the frame.
    Raw(Vec<u8>),
    /// An ICMP or ICMPv6 error, of this type and code, about the last packet before it that is no error.
    Error(u8, u8),
}

/// What flow syntax cannot say of a packet; nothing is as [`ComposeOptions`](flowproof_packet::build::ComposeOptions)
/// has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Bytes of payload.
    pub payload: Option<u16>,
    /// TCP sequence number.
    pub seq: Option<u32>,
    /// TCP acknowledgement number.
    pub ack: Option<u32>,
    /// Identifier of an ICMP query.
    pub icmp_id: Option<u16>,
    /// Identification of the datagram.
    pub ip_id: Option<u16>,
    /// A wrong checksum of the upper layer.
    pub bad_checksum: bool,
    /// It goes in two fragments, the first with this many bytes.
    pub fragment: Option<u16>,
}

/// What is expected of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// It is delivered to these and to nobody else; with nobody it is dropped.
    Delivered(Vec<Target>),
    /// This decides at some receiver, by its name in kebab case: `rule`, `reply`, `no-rule`, …
    Reason(String),
}

/// Who gets a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A port of this host.
    Port(PortId),
    /// Other hosts, through the uplinks.
    Elsewhere,
}

/// A divergence that is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its name.
    pub name: String,
    /// The layouts that show it; empty for all.
    pub layouts: Vec<Layout>,
    /// Why it is there.
    pub why: String,
}

/// The policy switches that a layout is held to.
#[must_use]
pub fn switches_of(layout: Option<Layout>) -> Switches {
    match layout.map(Layout::name) {
        Some("mitaka") => Switches::mitaka(),
        Some("neutron") => Switches::neutron(),
        Some("strict") => Switches::strict(),
        // Tables that nobody vouches for.
        Some(_) | None => Switches::default(),
    }
}

impl Scenario {
    /// A scenario of one policy under these layouts, in which nothing happens.
    #[must_use]
    pub const fn new(policy: Policy, layouts: Vec<Layout>) -> Self {
        Self {
            notes: Vec::new(),
            tables: Tables::Compiled(layouts),
            datapath: Profile::Userspace31,
            tie: TieBreak::First,
            switches: Vec::new(),
            policy,
            intent: None,
            steps: Vec::new(),
        }
    }

    /// The layouts it runs under; `None` for tables that are given.
    #[must_use]
    pub fn layouts(&self) -> Vec<Option<Layout>> {
        match &self.tables {
            Tables::Compiled(layouts) => layouts.iter().copied().map(Some).collect(),
            Tables::File(..) | Tables::Inline(_) => vec![None],
        }
    }
}
