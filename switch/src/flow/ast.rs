//! The flow as data: what `ovs-ofctl dump-flows` prints and `add-flows` reads, once parsed.
//!
//! Invariant: everything ovs-ofctl 3.1 accepts has a place here; what is not modelled is kept as text in
//! [`Action::Opaque`] or [`Flow::opaque_match`], never dropped.

use super::{Helper, Match, Nat, group::GroupRef};
use flowproof_packet::{Field, PortNo};

/// Where in its input a flow stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Line of the flow's first character, from 1; 0 for a flow that was never text.
    pub line: u32,
    /// Byte offset of the flow in the input.
    pub start: usize,
    /// Byte offset of its end.
    pub end: usize,
}

/// What a switch had counted when it printed a flow. Which packets a flow takes does not depend on it, so it is no part of
/// what a flow is: all are equal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// `n_packets`: packets that hit the flow.
    pub packets: Option<u64>,
    /// `duration`: how long the flow had been there, in milliseconds.
    pub age: Option<u64>,
    /// `idle_age`: how long no packet had hit it, in seconds.
    pub idle: Option<u64>,
}

impl PartialEq for Counters {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Counters {}

/// Which of the [`Counters`] a word of a dump is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// `n_packets`
    Packets,
    /// `duration`
    Age,
    /// `idle_age`
    Idle,
}

impl Counters {
    /// Notes what a word of a dump says; what is no number is passed over, as everything else that switches print about flows.
    pub fn note(&mut self, which: Counted, text: &str) {
        match which {
            Counted::Packets => self.packets = text.parse().ok(),
            Counted::Age => self.age = milliseconds(text),
            Counted::Idle => self.idle = text.parse().ok(),
        }
    }
}

/// `12.345s` in milliseconds.
fn milliseconds(text: &str) -> Option<u64> {
    let (whole, rest) =
        text.trim_end_matches('s').split_once('.').unwrap_or((text.trim_end_matches('s'), ""));
    let digits: String = rest.chars().chain("000".chars()).take(3).collect();
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(digits.parse().ok()?)
}

/// Flags without a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowFlags {
    /// `send_flow_rem`
    pub send_flow_rem: bool,
    /// `check_overlap`
    pub check_overlap: bool,
    /// `reset_counts`
    pub reset_counts: bool,
    /// `no_packet_counts`
    pub no_packet_counts: bool,
    /// `no_byte_counts`
    pub no_byte_counts: bool,
}

/// One flow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Table number, 0 to 254.
    pub table: u8,
    /// Priority; the highest wins.
    pub priority: u16,
    /// Opaque identifier.
    pub cookie: u64,
    /// Seconds without a packet until the flow goes; 0 for never.
    pub idle_timeout: u16,
    /// Seconds until the flow goes; 0 for never.
    pub hard_timeout: u16,
    /// Eviction importance.
    pub importance: u16,
    /// Flags.
    pub flags: FlowFlags,
    /// What it matches.
    pub matching: Match,
    /// Match items that are accepted but not modelled (`tun_metadata0=…`), as text. Whether such a flow matches is unknown.
    pub opaque_match: Vec<String>,
    /// What it does, in order; empty means drop.
    pub actions: Vec<Action>,
    /// Where it stands.
    pub span: Span,
    /// What it had counted.
    pub counters: Counters,
}

/// A run of bits of a field, as in `NXM_NX_REG6[0..15]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subfield {
    /// The field.
    pub field: Field,
    /// First bit, counted from the least significant.
    pub start: u16,
    /// Number of bits.
    pub width: u16,
}

impl Subfield {
    /// All of `field`, as `field[]` says it: of `vlan_vid` that is the VLAN without the bit above it, which says that
    /// there is a tag and which only `set_field` and matches may name.
    #[must_use]
    pub const fn whole(field: Field) -> Self {
        let width = if matches!(field, Field::VlanVidOxm) { 12 } else { field.spec().width };
        Self { field, start: 0, width }
    }
}

/// The zone of a `ct()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Zone {
    /// `zone=5`, or 0 where none is given.
    Const(u16),
    /// `zone=NXM_NX_REG6[0..15]`
    Field(Subfield),
}

/// `ct(…)`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ct {
    /// `commit`
    pub commit: bool,
    /// `force`
    pub force: bool,
    /// `table=N`: fork, the tracked copy goes on there.
    pub table: Option<u8>,
    /// `zone=…`
    pub zone: Zone,
    /// `exec(…)`: `load`, `set_field` and `move` to `ct_mark` and `ct_label`.
    pub exec: Vec<Action>,
    /// `nat…`
    pub nat: Option<Nat>,
    /// `alg=…`: accepted, not modelled.
    pub alg: Option<Helper>,
}

/// `conjunction(id,clause/clauses)`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Conjunction {
    /// The conjunction's identifier.
    pub id: u32,
    /// Which clause the flow satisfies, from 1.
    pub clause: u8,
    /// How many clauses there are.
    pub clauses: u8,
}

/// One action (ovs-actions(7)).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// `output:N`, or a reserved port: `NORMAL`, `FLOOD`, `ALL`, `LOCAL`, `IN_PORT`, `NONE`, `TABLE`; see `packet::port`.
    Output(PortNo),
    /// `output:NXM_NX_REG0[]`
    OutputField(Subfield),
    /// `output(port=N,max_len=N)`: a copy of which only so many bytes leave.
    OutputTruncated {
        /// The port.
        port: PortNo,
        /// Bytes that leave, at most.
        max_len: u32,
    },
    /// `enqueue:N:Q`: output to a port, by way of a queue.
    Enqueue {
        /// The port.
        port: PortNo,
        /// The queue; it decides when the packet leaves, not whether.
        queue: u32,
    },
    /// `CONTROLLER:…`, `controller(…)`
    Controller(Box<Controller>),
    /// `resubmit(port,table)`; `ct` when the original tuple is used.
    Resubmit {
        /// Input port for the lookup.
        port: Option<PortNo>,
        /// Table; the current one if absent.
        table: Option<u8>,
        /// `,ct`: look up with the connection's original tuple.
        ct: bool,
    },
    /// `goto_table:N`
    GotoTable(u8),
    /// `load:V->F[a..b]`, `set_field:V/M->F`, and what else writes constants into one field; see [`SetForm`].
    Set {
        /// The field written.
        field: Field,
        /// The value, in the field's own bits.
        value: u128,
        /// The bits written.
        mask: u128,
        /// How it was written, so that it prints as it was read.
        form: SetForm,
    },
    /// `move:S->D`
    Move {
        /// From here,
        src: Subfield,
        /// to here; of the same width.
        dst: Subfield,
    },
    /// `mod_vlan_vid:V`: pushes a tag if there is none.
    ModVlanVid(u16),
    /// `mod_vlan_pcp:P`: pushes a tag if there is none.
    ModVlanPcp(u8),
    /// `mod_vlan_vid:V` and `mod_vlan_pcp:P` in a dump over OpenFlow 1.0, where a frame may have a tag: the same text
    /// stands for a change of that tag and for another one around it (`push_vlan`, `set_field`). Which it is for a frame
    /// with a tag is unknown; one without gets a tag.
    RetagUnclear {
        /// The bits of the TCI that are written.
        bits: u16,
        /// Which bits these are.
        mask: u16,
    },
    /// `strip_vlan` and `pop_vlan`.
    StripVlan,
    /// `push_vlan:TPID`
    PushVlan(u16),
    /// `dec_ttl`, with its arguments as printed.
    DecTtl(String),
    /// `ct(…)`
    Ct(Box<Ct>),
    /// `ct_clear`
    CtClear,
    /// `conjunction(…)`
    Conjunction(Conjunction),
    /// `note:…`; no effect.
    Note(String),
    /// `push:F[a..b]`: onto the packet's stack.
    Push(Subfield),
    /// `pop:F[a..b]`: from the packet's stack.
    Pop(Subfield),
    /// `clone(…)`: on a copy of the packet.
    Clone(Vec<Action>),
    /// `exit`: nothing more is done, by no flow.
    Exit,
    /// `set_queue:Q`: how packets queue; not where they go.
    SetQueue(u32),
    /// `pop_queue`
    PopQueue,
    /// `group:N`
    Group(GroupRef),
    /// `meter:N`: the packet goes on or is dropped.
    Meter(u32),
    /// `learn(…)`
    Learn(Box<Learn>),
    /// `push_mpls:ETHERTYPE`
    PushMpls(u16),
    /// `pop_mpls:ETHERTYPE`
    PopMpls(u16),
    /// `dec_mpls_ttl`
    DecMplsTtl,
    /// `check_pkt_larger(N)->F[a]`
    CheckPktLarger {
        /// The packet's length in bytes, that of the Ethernet header included.
        length: u16,
        /// Where it is noted, one bit.
        dst: Subfield,
    },
    /// `write_actions(…)`: into the action set.
    WriteActions(Vec<Action>),
    /// `clear_actions`: empties the action set.
    ClearActions,
    /// Where a list begins that works on a copy of the packet, up to its [`Action::End`]: what a flow has no word for, but
    /// those have who look through flows without their lists inside.
    Begin(Nest),
    /// Where such a list ends, and the packet is again what it was.
    End,
    /// Anything else that ovs-ofctl accepts, as it prints it: `sample(…)`, `encap(…)`, `bundle(…)`.
    Opaque(String),
}

impl Action {
    /// Adds the action, and those inside it: of copies, of the action set, of a group's buckets.
    fn unfold<'a>(&'a self, all: &mut Vec<&'a Self>) {
        all.push(self);
        if let Self::Clone(actions) | Self::WriteActions(actions) = self {
            actions.iter().for_each(|action| action.unfold(all));
        } else if let Self::Group(GroupRef { group: Some(group), .. }) = self {
            let inside = group.buckets.iter().flat_map(|bucket| &bucket.actions);
            inside.for_each(|action| action.unfold(all));
        }
    }

    /// Whether it is in the words in which equal meanings are equal.
    pub(crate) fn is_plain(&self) -> bool {
        match self {
            Self::Set { field, form, .. } => form.plain(*field) == *form,
            Self::Ct(ct) => ct.exec.iter().all(Self::is_plain),
            _ => true,
        }
    }

    /// The same in the words in which equal meanings are equal.
    #[must_use]
    pub fn in_plain_words(&self) -> Self {
        let mut plain = self.clone();
        if let Self::Set { field, form, .. } = &mut plain {
            *form = form.plain(*field);
        } else if let Self::Ct(ct) = &mut plain {
            ct.exec = ct.exec.iter().map(Self::in_plain_words).collect();
        }
        plain
    }
}

impl Flow {
    /// Its actions, and those inside them.
    pub fn all_actions(&self) -> impl Iterator<Item = &Action> {
        let mut all = Vec::with_capacity(self.actions.len());
        self.actions.iter().for_each(|action| action.unfold(&mut all));
        all.into_iter()
    }
}

/// Which of the equivalent spellings a [`Action::Set`] had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetForm {
    /// `load:V->NXM[a..b]`
    Load,
    /// `set_field:V/M->name`
    SetField,
    /// `mod_dl_src:…`, `mod_nw_dst:…`, `mod_tp_src:…`
    Mod,
    /// `write_metadata:V/M`
    Metadata,
    /// `set_tunnel:V`
    Tunnel,
    /// `set_tunnel64:V`
    Tunnel64,
    /// `set_mpls_label(V)`, `set_mpls_tc(V)`, `set_mpls_ttl(V)`
    Mpls,
}

/// Whose list is between brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Nest {
    /// That of `clone(…)`.
    Clone,
    /// Those of all buckets of a group.
    Group(u32),
    /// That of one bucket.
    Bucket,
}

/// `CONTROLLER:…`, `controller(…)`: a copy to a controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Controller {
    /// Bytes that the controller gets, at most.
    pub max_len: u16,
    /// Why, where that is not `action`.
    pub reason: Option<&'static str>,
    /// Which controller.
    pub id: u16,
    /// What it is told besides.
    pub userdata: Vec<u8>,
    /// Whether what comes after waits until the controller lets the packet go on.
    pub pause: bool,
    /// A meter that the copy goes through.
    pub meter: Option<u32>,
}

impl Controller {
    /// Bytes of a packet that a controller gets unless told otherwise: all.
    pub const WHOLE_PACKET: u16 = u16::MAX;

    /// So many bytes of the packet, and nothing else said.
    #[must_use]
    pub const fn plain(max_len: u16) -> Self {
        Self { max_len, reason: None, id: 0, userdata: Vec::new(), pause: false, meter: None }
    }
}

/// `learn(…)`: adds a flow, made from the packet, or changes the one that it added before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Learn {
    /// The table of the flow.
    pub table: u8,
    /// `idle_timeout`, `hard_timeout`, `fin_idle_timeout`, `fin_hard_timeout` in seconds, 0 for none.
    pub timeouts: [u16; 4],
    /// The flow's priority.
    pub priority: u16,
    /// `send_flow_rem`
    pub send_flow_rem: bool,
    /// `delete_learned`: the flow goes with the one that learned it.
    pub delete_learned: bool,
    /// The flow's cookie.
    pub cookie: u64,
    /// How many flows of this cookie its table may have at most; 0 for any number.
    pub limit: u32,
    /// The bit that tells whether the flow is there.
    pub result: Option<Subfield>,
    /// What the flow matches and does, in order.
    pub specs: Vec<LearnSpec>,
}

/// One part of a flow to be learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LearnSpec {
    /// `F=V`, `F=F`, `F`: the flow matches this.
    Match {
        /// The bits matched.
        dst: Subfield,
        /// Their value.
        src: LearnSource,
    },
    /// `load:V->F`, `load:F->F`: the flow loads this.
    Load {
        /// The bits loaded.
        dst: Subfield,
        /// Their value.
        src: LearnSource,
    },
    /// `output:F`: the flow outputs to the port of this number.
    Output(Subfield),
}

/// Where a value of a flow to be learned comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LearnSource {
    /// It is this.
    Value(u128),
    /// It is what the packet that learns has here.
    Field(Subfield),
}

impl SetForm {
    /// The spelling that stands for all with the same meaning. `mod_…` of what only some packets have stays as it is: which
    /// packets those are depends on the word.
    const fn plain(self, field: Field) -> Self {
        match (self, field) {
            (Self::SetField, _) | (Self::Mod, Field::DlSrc | Field::DlDst) => Self::Load,
            (form, _) => form,
        }
    }
}
