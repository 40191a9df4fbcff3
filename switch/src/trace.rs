//! What happened to a packet, step by step, for people and for explanations.
//!
//! What it means: the events in the order in which the switch decides them: one pass through the tables is decided
//! as a whole before anything of it is carried out, so a pass's outputs stand before the passes that its `ct()`
//! starts. Invariant: nothing is recorded, and nothing allocated, unless a trace was asked for. Deliberately
//! absent: the wording of ofproto/trace.

use crate::{
    conntrack::{CtInfo, CtRequest, state},
    flow::{Flow, Subfield, print::Dialect},
    pipeline::{Decision, DropReason, NOT_GIVEN},
    table::{FlowId, Lookup, Rival, Tables},
};
use flowproof_packet::{Field, MacAddr, PortNo, port};
use std::fmt::Write;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A pass begins: the packet as it came in, or a copy that comes back from `ct(table=…)`.
    Pass {
        /// How often this copy has been recirculated.
        level: u8,
        /// The table it begins in.
        table: u8,
        /// Its input port.
        in_port: PortNo,
    },
    /// A lookup found a flow, or did not.
    Lookup {
        /// The table.
        table: u8,
        /// What was found.
        found: Lookup,
    },
    /// A field was written.
    Write {
        /// Which bits.
        part: Subfield,
        /// Their new value.
        value: u128,
    },
    /// An action that changes headers without naming a field, such as `strip_vlan`.
    Header(&'static str),
    /// An action that had no effect, and why.
    Skipped(&'static str),
    /// Output to a port.
    Output(PortNo),
    /// To the controller.
    Controller,
    /// `NORMAL` learned an address.
    Learned {
        /// The VLAN; 0 for none.
        vlan: u16,
        /// The address.
        mac: MacAddr,
        /// The port it is behind.
        port: PortNo,
    },
    /// `NORMAL` decided.
    Normal {
        /// The VLAN; 0 for none.
        vlan: u16,
        /// Where the packet goes.
        decision: Decision,
        /// The ports it leaves by.
        ports: Vec<PortNo>,
    },
    /// `ct(…)` was asked for.
    Track {
        /// What it asks for.
        request: CtRequest,
        /// The table where the tracked copy goes on.
        table: Option<u8>,
    },
    /// What `ct(…)` said of a frame.
    Tracked(CtInfo),
    /// `ct(…)` kept the packet: it is a fragment of an incomplete datagram.
    Held,
    /// `ct_clear`, and what follows any `ct(…)`: the packet is untracked.
    Untracked,
    /// What follows is done with a copy of the packet, up to the [`Event::Uncopied`] that belongs to it.
    Copied,
    /// The packet is again what it was when it was copied.
    Uncopied,
    /// A `select` group took a bucket, which it may do by whatever it likes.
    Chosen {
        /// The group.
        group: u32,
        /// The bucket, from 0.
        bucket: usize,
        /// How many the group has.
        of: usize,
    },
    /// What follows is done with packets of this length.
    Longer {
        /// So many bytes.
        than: u16,
        /// Longer than that, or not.
        longer: bool,
    },
    /// `learn(…)`
    Learn {
        /// The flow.
        flow: String,
        /// Whether it is there now.
        room: bool,
    },
    /// Something that is not modelled.
    Opaque {
        /// The flow.
        flow: FlowId,
        /// The part of it.
        text: String,
    },
    /// The pass, or what was left of it, was dropped.
    Dropped(DropReason),
}

/// One line of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// How many flows called one another to get here, recirculations included.
    pub depth: u16,
    /// What happened.
    pub event: Event,
}

/// What happened to one packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The events in order.
    pub steps: Vec<Step>,
}

impl Trace {
    /// The flows that applied, in order, each with its table.
    #[must_use]
    pub fn path(&self) -> Vec<(u8, FlowId)> {
        let flow = |step: &Step| match step.event {
            Event::Lookup { table, found } => found.flow.map(|flow| (table, flow)),
            _ => None,
        };
        self.steps.iter().filter_map(flow).collect()
    }

    /// The lookups that OpenFlow leaves undefined, in order: the table, the flow that was chosen, the other choice.
    #[must_use]
    pub fn ambiguities(&self) -> Vec<(u8, FlowId, Rival)> {
        let rival = |step: &Step| match step.event {
            Event::Lookup { table, found } => Some((table, found.flow?, found.rival?)),
            _ => None,
        };
        self.steps.iter().filter_map(rival).collect()
    }

    /// The trace as text, a line an event, long flows broken at 80 columns.
    #[must_use]
    pub fn render(&self, tables: &Tables) -> String {
        let mut out = String::new();
        for step in &self.steps {
            let indent = 2 * usize::from(step.depth).min(12);
            let hanging = indent + 4;
            wrap(&mut out, &describe(&step.event, tables), indent, hanging);
        }
        out
    }
}

/// Where the events of one packet go, if anywhere.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    trace: Option<Trace>,
}

impl Recorder {
    pub(crate) fn on() -> Self {
        Self { trace: Some(Trace::default()) }
    }

    pub(crate) fn note(&mut self, depth: usize, event: impl FnOnce() -> Event) {
        if let Some(trace) = &mut self.trace {
            trace.steps.push(Step { depth: u16::try_from(depth).unwrap_or(u16::MAX), event: event() });
        }
    }

    pub(crate) fn finish(self) -> Option<Trace> {
        self.trace
    }
}

/// Columns of the text.
const WIDTH: usize = 80;

/// Appends `text`, broken after blanks and commas so that lines keep within [`WIDTH`] where that is possible.
fn wrap(out: &mut String, text: &str, indent: usize, hanging: usize) {
    let mut column = indent;
    out.extend(std::iter::repeat_n(' ', indent));
    for piece in text.split_inclusive([' ', ',']) {
        if column + piece.trim_end().len() > WIDTH && column > hanging {
            out.truncate(out.trim_end_matches(' ').len());
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', hanging));
            column = hanging;
        }
        out.push_str(piece);
        column += piece.len();
    }
    out.push('\n');
}

/// A port by its number, or by the name of a reserved one.
pub(crate) fn port_name(number: PortNo) -> String {
    let name = port::NAMES.iter().find(|(_, reserved)| *reserved == number).map(|(name, _)| *name);
    name.map_or_else(|| number.to_string(), str::to_owned)
}

fn describe(event: &Event, tables: &Tables) -> String {
    match event {
        Event::Pass { level: 0, in_port, .. } => format!("packet from port {}", port_name(*in_port)),
        Event::Pass { table, level, .. } => format!("tracked copy {level} goes on in table {table}"),
        Event::Lookup { table, found } => lookup(*table, found, tables),
        Event::Write { part, value } => write_of(*part, *value),
        Event::Header(action) => format!("> {action}"),
        Event::Skipped(why) => format!("> no effect: {why}"),
        Event::Output(port) => format!("> output to port {}", port_name(*port)),
        Event::Controller => "> to the controller".to_owned(),
        Event::Learned { vlan, mac, port } => {
            format!("> NORMAL learns {mac} in VLAN {vlan} on port {}", port_name(*port))
        }
        Event::Normal { vlan, decision, ports } => normal(*vlan, *decision, ports),
        Event::Track { request, table } => track(request, *table),
        Event::Tracked(info) => format!("< ct says {}", state_text(info)),
        Event::Held => "< ct holds the fragment until its datagram is complete".to_owned(),
        Event::Untracked => "> untracked from here on".to_owned(),
        Event::Copied => "> of a copy".to_owned(),
        Event::Uncopied => "> of the packet as it was".to_owned(),
        Event::Chosen { group, bucket, of } => {
            format!("> group {group}: bucket {bucket} of {of}, by choice")
        }
        Event::Longer { than, longer: true } => format!("> of packets longer than {than} bytes"),
        Event::Longer { than, longer: false } => format!("> of packets not longer than {than} bytes"),
        Event::Learn { flow, room: true } => format!("> learns {flow}"),
        Event::Learn { flow, room: false } => format!("> does not learn {flow}: the limit is reached"),
        Event::Opaque { flow, text } if text.starts_with(NOT_GIVEN) => {
            let names = text.strip_prefix(NOT_GIVEN).unwrap_or(text);
            format!("> NOT GIVEN: {names}, which {} asks for; taken for zero", place(*flow, tables))
        }
        Event::Opaque { flow, text } => format!("> NOT MODELLED: {text} ({})", place(*flow, tables)),
        Event::Dropped(reason) => format!("> dropped: {reason}"),
    }
}

fn place(id: FlowId, tables: &Tables) -> String {
    match tables.flow(id) {
        Some(flow) if flow.span.line > 0 => format!("line {}", flow.span.line),
        _ => format!("flow {}", id.0),
    }
}

fn lookup(table: u8, found: &Lookup, tables: &Tables) -> String {
    let Some((id, flow)) = found.flow.and_then(|id| Some((id, tables.flow(id)?))) else {
        return format!("table {table}: no flow matches");
    };
    let mut text = format!("table {table} ({}): ", place(id, tables));
    text.push_str(&flow_text(flow));
    if let Some(conj_id) = found.conj_id {
        let _infallible = write!(text, " [by conjunction {conj_id}]");
    }
    match found.rival {
        Some(Rival::Flow(other)) => {
            let _infallible = write!(text, " [AMBIGUOUS: {} is as good]", place(other, tables));
        }
        Some(Rival::Conjunction(id)) => {
            let _infallible = write!(text, " [AMBIGUOUS: conjunction {id} is as good]");
        }
        None => {}
    }
    text
}

/// Priority, match and actions; the table is said already, and cookie, timeouts and flags decide nothing.
fn flow_text(flow: &Flow) -> String {
    let wanted = flow.match_text();
    let comma = if wanted.is_empty() { "" } else { "," };
    format!("priority={}{comma}{wanted} actions={}", flow.priority, flow.actions_text(Dialect::AsRead))
}

fn write_of(part: Subfield, value: u128) -> String {
    if part == Subfield::whole(part.field) {
        format!("> {} = {value:#x}", name(part.field))
    } else {
        format!("> {}[{}..{}] = {value:#x}", name(part.field), part.start, part.start + part.width - 1)
    }
}

const fn name(field: Field) -> &'static str {
    field.spec().name
}

fn normal(vlan: u16, decision: Decision, ports: &[PortNo]) -> String {
    let list = || ports.iter().map(|port| port_name(*port)).collect::<Vec<_>>().join(", ");
    match decision {
        Decision::Learned(port) => {
            format!("> NORMAL in VLAN {vlan}: destination learned on port {}", port_name(port))
        }
        Decision::Flood => format!("> NORMAL in VLAN {vlan}: destination unknown, flooded to {}", list()),
        Decision::Drop(why) => format!("> NORMAL in VLAN {vlan}: dropped, {why}"),
    }
}

fn track(request: &CtRequest, table: Option<u8>) -> String {
    let mut text = format!("> ct in zone {}", request.zone);
    if request.commit {
        text.push_str(if request.force { ", commit by force" } else { ", commit" });
    }
    let (mark, mask) = request.mark;
    if mask != 0 {
        let _infallible = write!(text, ", mark {mark:#x}/{mask:#x}");
    }
    let (label, mask) = request.label;
    if mask != 0 {
        let _infallible = write!(text, ", label {label:#x}/{mask:#x}");
    }
    if let Some(table) = table {
        let _infallible = write!(text, ", copy goes on in table {table}");
    }
    text
}

/// `ct_state` in the notation of ovs-fields(7), with mark and label where they are not zero.
#[must_use]
pub fn state_text(info: &CtInfo) -> String {
    const NAMES: [(u32, &str); 8] = [
        (state::TRK, "trk"),
        (state::NEW, "new"),
        (state::EST, "est"),
        (state::REL, "rel"),
        (state::RPL, "rpl"),
        (state::INV, "inv"),
        (state::SNAT, "snat"),
        (state::DNAT, "dnat"),
    ];
    let set = NAMES.iter().filter(|(bit, _)| info.state & bit != 0);
    let mut text: String = set.map(|(_, name)| format!("+{name}")).collect();
    if text.is_empty() {
        text.push_str("-trk");
    }
    if info.mark != 0 {
        let _infallible = write!(text, ", mark {:#x}", info.mark);
    }
    if info.label != 0 {
        let _infallible = write!(text, ", label {:#x}", info.label);
    }
    text
}
