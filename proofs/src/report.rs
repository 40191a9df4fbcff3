//! What a report says: the findings in words and in the stable form of `--format json`.
//!
//! Invariant: the same input gives the same report; nothing here depends on time, threads or hash order.

use crate::{
    check::{Finding, Findings, Judgement, Task, Witness},
    diagram::Host,
    ports::Port,
    properties::Property,
    replay::{self, Replay, Sent},
};
use flowproof_packet::{Field, FlowKey, Format, MacAddr, PortNo, port, summary::summary, wire};
use flowproof_switch::{
    flow::{Flow, Match, key_to_text},
    pipeline::Effect,
    table::{FlowId, TieBreak},
};
use rayon::prelude::*;
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

/// A port of the report.
#[derive(Clone, Debug, Serialize)]
pub struct PortRow {
    /// OpenFlow number.
    pub ofport: PortNo,
    /// Ethernet addresses.
    pub macs: Vec<String>,
    /// IPv4 pairs, `mac address[/prefix]`.
    pub pairs4: Vec<String>,
    /// IPv6 pairs.
    pub pairs6: Vec<String>,
    /// Network register, zone and VLAN.
    pub network: Option<u16>,
    /// Where this is known from.
    pub source: &'static str,
    /// What only one place in the tables says.
    pub conflicts: Vec<String>,
}

/// One verdict: of a property, a port, and the datapaths that show it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The property.
    pub property: &'static str,
    /// `proved`, `refuted`, `unknown`, `vacuous` or `contradiction`.
    pub verdict: &'static str,
    /// The port.
    pub port: PortNo,
    /// For section D: `egress` from the port or `ingress` to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<&'static str>,
    /// For section D: who is at the other end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<&'static str>,
    /// The datapaths.
    pub datapath: Vec<&'static str>,
    /// What each engine said.
    pub engines: BTreeMap<&'static str, &'static str>,
    /// Why, in a sentence or two.
    pub explanation: String,
    /// For a proof: that it is not vacuous.
    pub witness: Option<WitnessRow>,
    /// For a refutation: the packets.
    pub counterexample: Option<Story>,
    /// Where the connection comes from, if one is involved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reached: Option<&'static str>,
    /// No experiment has judged any of the datapaths.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unvalidated: bool,
}

/// A proof's witness.
#[derive(Clone, Debug, Serialize)]
pub struct WitnessRow {
    /// A packet that the property forbids and that is stopped; absent if the property forbids no packet outright.
    pub stopped: Option<Story>,
    /// A packet that escapes: one the property speaks of, or the twin of the stopped one.
    pub escapes: Story,
}

/// Packets, and what became of them.
#[derive(Clone, Debug, Serialize)]
pub struct Story {
    /// The tables, the intent and the packets as a scenario; none without an intent, or where no scenario shows it.
    pub scenario: Option<String>,
    /// The packets, in order.
    pub events: Vec<EventRow>,
    /// How many of them came earlier, while rules were in force that admitted everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earlier: Option<usize>,
    /// The way of the last one that got anywhere.
    pub path: Vec<Hop>,
    /// Which of the semantics reproduced it.
    pub replayed: Replayed,
    /// Whether the later of two flows of equal priority had to win.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub depends_on_tie: bool,
}

/// One packet of a story.
#[derive(Clone, Debug, Serialize)]
pub struct EventRow {
    /// The packet.
    pub packet: PacketRow,
    /// What the switch did with it.
    pub outputs: Vec<String>,
}

/// A packet.
#[derive(Clone, Debug, Serialize)]
pub struct PacketRow {
    /// Where it entered.
    pub in_port: PortNo,
    /// Its bytes.
    pub hex: String,
    /// As ovs-ofctl writes a flow.
    pub flow: String,
    /// In a person's words.
    pub summary: String,
}

/// One table on a packet's way.
#[derive(Clone, Debug, Serialize)]
pub struct Hop {
    /// The table.
    pub table: u8,
    /// The line of the flow that was hit.
    pub line: u32,
    /// The flow.
    pub flow: String,
}

/// Which semantics a story was replayed in; `None` where it was not tried.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Replayed {
    /// The reference model.
    pub model: Option<bool>,
    /// The interpreter.
    pub interpreter: Option<bool>,
    /// A real switch.
    pub switch: Option<bool>,
    /// Why a real switch that is there was not asked, or need not do the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
}

/// Where the ports of a host are known from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// From its own tables.
    #[default]
    Derived,
    /// From an intent.
    Intent,
}

impl Source {
    /// The word in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Derived => "derived",
            Self::Intent => "intent",
        }
    }
}

/// The ports of a host.
#[must_use]
pub fn ports(host: &Host) -> Vec<PortRow> {
    ports_from(host, Source::Derived)
}

/// The ports of a host, and where they are known from.
#[must_use]
pub fn ports_from(host: &Host, source: Source) -> Vec<PortRow> {
    host.ports.iter().map(|port| port_row(port, source)).collect()
}

fn port_row(port: &Port, source: Source) -> PortRow {
    PortRow {
        ofport: port.ofport,
        macs: port.macs.iter().map(ToString::to_string).collect(),
        pairs4: port.pairs4.iter().map(|pair| pair.text(false)).collect(),
        pairs6: port.pairs6.iter().map(|pair| pair.text(true)).collect(),
        network: port.network,
        source: source.name(),
        conflicts: port.conflicts.clone(),
    }
}

/// What the verdicts rest on.
#[must_use]
pub fn assumptions(host: &Host) -> Vec<String> {
    assumptions_from(Source::Derived, !host.tags.is_empty())
}

/// The same, for ports that are known from `source`, and whose VLANs are known from the switch if `tags_known`.
#[must_use]
pub fn assumptions_from(source: Source, tags_known: bool) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    if source == Source::Derived {
        let relative = "verdicts are relative to the ports derived from the flows; section D needs an intent";
        all.push(relative.to_owned());
    }
    if !tags_known {
        all.push(
            "filtered ports are access ports of their network's VLAN (Port.tag); other ports are trunks"
                .to_owned(),
        );
    }
    all.push(
        "NORMAL may deliver to any port of the frame's VLAN: its learning table is arbitrary".to_owned(),
    );
    all.push("connection tracking may answer any legal state for a packet".to_owned());
    all.push("in the zones of these flows nothing but them translates addresses".to_owned());
    all.push("a switch reads neighbour-discovery options that occur twice as absent".to_owned());
    all
}

/// The findings, one row for each property, port and verdict; `each` is told in full, or the first with its verdict.
#[must_use]
pub fn rows(task: &Task<'_>, findings: &Findings, each: bool) -> Vec<Row> {
    let mut groups: Vec<Vec<&Finding>> = Vec::new();
    for finding in &findings.findings {
        let same = |group: &&mut Vec<&Finding>| {
            group.first().is_some_and(|first| {
                first.property.name == finding.property.name
                    && first.port == finding.port
                    && first.judgement.name() == finding.judgement.name()
            })
        };
        match groups.iter_mut().rev().take(2 * task.profiles.len()).find(same) {
            Some(group) => group.push(finding),
            None => groups.push(vec![finding]),
        }
    }
    let subject =
        |group: &Vec<&Finding>| group.first().map(|first| (first.property.name, first.judgement.name()));
    let told = told(&groups, subject, each);
    groups.par_iter().zip(told).filter_map(|(group, told)| row(task, group, told)).collect()
}

/// Which groups of findings are told in full: each, or of those on one subject with one verdict the first.
pub(crate) fn told<Group, Subject: Ord>(
    groups: &[Group],
    subject: impl Fn(&Group) -> Subject,
    each: bool,
) -> Vec<bool> {
    let mut told = BTreeSet::new();
    groups.iter().map(|group| each || told.insert(subject(group))).collect()
}

fn row(task: &Task<'_>, group: &[&Finding], told: bool) -> Option<Row> {
    let first = group.first()?;
    let port = task.ports.get(first.port)?;
    let row = frame(task.host, port, group, told)?;
    let explanation = if told { explanation(task.host, port, first) } else { String::new() };
    Some(Row { explanation, ..row })
}

/// A row without its explanation; if it is not `told`, without packets either.
pub(crate) fn frame(host: &Host, port: &Port, group: &[&Finding], told: bool) -> Option<Row> {
    let first = group.first()?;
    let (witness, counterexample) = match &first.judgement {
        _ if !told => (None, None),
        Judgement::Proved(witness) => (Some(witness_row(host, witness)), None),
        Judgement::Refuted(replay) => (None, Some(story(host, replay))),
        Judgement::Listed(_)
        | Judgement::Unknown(_)
        | Judgement::Vacuous(_)
        | Judgement::NoWorse(_)
        | Judgement::Contradiction(_) => (None, None),
    };
    let involved = match &first.judgement {
        Judgement::Refuted(replay) => replay.prelude > 0,
        Judgement::Proved(_)
        | Judgement::Listed(_)
        | Judgement::Unknown(_)
        | Judgement::Vacuous(_)
        | Judgement::NoWorse(_)
        | Judgement::Contradiction(_) => false,
    };
    Some(Row {
        property: first.property.name,
        verdict: first.judgement.name(),
        port: port.ofport,
        direction: None,
        peer: None,
        datapath: group.iter().map(|finding| finding.profile.name()).collect(),
        engines: engines(group),
        explanation: String::new(),
        witness,
        counterexample,
        reached: involved.then_some("packets"),
        unvalidated: group.iter().all(|finding| !finding.profile.is_validated()),
    })
}

/// What the engines said; where they differ over the datapaths, the less certain answer.
fn engines(group: &[&Finding]) -> BTreeMap<&'static str, &'static str> {
    let mut engines = BTreeMap::new();
    for finding in group {
        for (name, said) in [("diagram", finding.diagram), ("z3", finding.z3)] {
            let Some(said) = said else { continue };
            let known = engines.entry(name).or_insert(said);
            if said == "unknown" {
                *known = said;
            }
        }
    }
    engines
}

fn explanation(host: &Host, port: &Port, finding: &Finding) -> String {
    match &finding.judgement {
        Judgement::Listed(why)
        | Judgement::Unknown(why)
        | Judgement::Vacuous(why)
        | Judgement::NoWorse(why)
        | Judgement::Contradiction(why) => why.clone(),
        Judgement::Proved(Witness::Escapes(_)) => {
            format!("{}; such packets escape, and all that do obey", finding.property.theorem)
        }
        Judgement::Proved(Witness::Twins { stopped, .. }) => {
            let flow = stopped.path.last().and_then(|(_, id)| host.tables.flow(*id));
            let by = flow.map_or_else(
                || "a table miss".to_owned(),
                |flow| format!("the flow on line {}", flow.span.line),
            );
            format!("{}; what is forbidden is stopped by {by}", finding.property.theorem)
        }
        Judgement::Refuted(replay) => refutation(host, port, finding.property, replay),
    }
}

fn refutation(host: &Host, port: &Port, property: &Property, replay: &Replay) -> String {
    let mut text = String::new();
    if let Some(sent) = replay.events.get(replay.prelude..).and_then(<[Sent]>::first) {
        let fragments = replay.events.len() - replay.prelude;
        let what = summary(&sent.frame);
        let what = if fragments > 1 { format!("{fragments} fragments, the first one {what},") } else { what };
        let marked = subject(property, &replay.datagram, port);
        let _infallible =
            write!(text, "port {} sends {what}{marked} and it goes {}", port.ofport, destinations(replay));
    }
    let looked: Vec<&str> = property
        .subject
        .iter()
        .filter(|field| {
            replay
                .path
                .iter()
                .all(|(_, id)| host.tables.flow(*id).is_none_or(|flow| !flow.matching.looks_at(**field)))
        })
        .map(|field| subject_name(*field))
        .collect();
    if !looked.is_empty() {
        let _infallible = write!(text, "; no flow on its path looks at {}", looked.join(", "));
    }
    if let Some(whole) = &replay.whole {
        let _infallible =
            write!(text, "; unfragmented it goes {}", nowhere_if_empty(&outputs(&whole.outcome.effects)));
    }
    if replay.tie == TieBreak::Last {
        text.push_str("; this needs the later of two overlapping flows of equal priority to win");
    }
    text
}

/// The name flows use: the slot of all layer-4 ports is `tp_src`, `tp_dst`.
fn subject_name(field: Field) -> &'static str {
    let common = [(Field::UdpSrc, "tp_src"), (Field::UdpDst, "tp_dst"), (Field::Icmpv6Type, "icmp_type")];
    common.iter().find(|(named, _)| *named == field).map_or(field.spec().name, |(_, name)| name)
}

pub(crate) fn destinations(replay: &Replay) -> String {
    let told = replay
        .events
        .iter()
        .skip(replay.prelude)
        .rev()
        .map(|sent| outputs(&sent.outcome.effects))
        .find(|outputs| !outputs.is_empty());
    nowhere_if_empty(&told.unwrap_or_default())
}

fn nowhere_if_empty(outputs: &[String]) -> String {
    if outputs.is_empty() { "nowhere".to_owned() } else { outputs.join(", ") }
}

/// What the property speaks of, as the datagram has it: ` with dl_src=…`; nothing where the summary says it already.
fn subject(property: &Property, datagram: &[u8], port: &Port) -> String {
    let key = wire::extract(datagram, port.ofport);
    let shown = |field: Field| {
        let is_mac = field.spec().format == Format::Ethernet;
        is_mac.then(|| MacAddr::from_bits(key.get(field) as u64).to_string())
    };
    let fields =
        property.subject.iter().filter(|field| !matches!(field, Field::NdSll | Field::NdTll | Field::ArpSha));
    let fields: Vec<String> = fields
        .filter_map(|field| shown(*field).map(|value| format!("{}={value}", subject_name(*field))))
        .collect();
    if fields.is_empty() { String::new() } else { format!(", {},", fields.join(", ")) }
}

/// What the switch did, in its own words.
fn outputs(effects: &[Effect]) -> Vec<String> {
    let name = |number: PortNo| match number {
        port::LOCAL => "LOCAL".to_owned(),
        crate::intent::site::UPLINK => "an uplink".to_owned(),
        crate::replay::BYSTANDER => "any other port of the network".to_owned(),
        number => number.to_string(),
    };
    let mut all: Vec<String> = effects
        .iter()
        .map(|effect| match effect {
            Effect::Output { port, frame } => format!("to port {}{}", name(*port), tag(frame)),
            Effect::Normal { delivered, .. } => {
                let ports: Vec<String> = delivered.iter().map(|(port, _)| name(*port)).collect();
                format!(
                    "to NORMAL, which delivers to {}",
                    if ports.is_empty() { "nobody".to_owned() } else { ports.join(", ") }
                )
            }
            Effect::Controller { .. } => "to the controller".to_owned(),
            Effect::Opaque { text, .. } => format!("to `{text}`, which is not modelled"),
        })
        .collect();
    all.dedup();
    all
}

fn tag(frame: &[u8]) -> String {
    let tci = wire::extract(frame, 0).get(Field::VlanTci);
    if tci == 0 { String::new() } else { format!(" with VLAN {}", tci & 0xfff) }
}

fn witness_row(host: &Host, witness: &Witness) -> WitnessRow {
    match witness {
        Witness::Escapes(replay) => WitnessRow { stopped: None, escapes: story(host, replay) },
        Witness::Twins { stopped, twin } => {
            WitnessRow { stopped: Some(story(host, stopped)), escapes: story(host, twin) }
        }
    }
}

fn story(host: &Host, replay: &Replay) -> Story {
    Story {
        scenario: None,
        events: replay.events.iter().map(event_row).collect(),
        earlier: replay.earlier.as_ref().map(|earlier| earlier.events),
        path: path(host, replay),
        replayed: Replayed { interpreter: Some(true), ..Replayed::default() },
        depends_on_tie: replay.tie == TieBreak::Last,
    }
}

/// The flows on the way, each once: the fragments of a train all take the same.
fn path(host: &Host, replay: &Replay) -> Vec<Hop> {
    let mut seen = BTreeSet::new();
    let new = replay.path.iter().filter(|step| seen.insert(**step));
    new.filter_map(|(table, id)| hop(host, *table, *id)).collect()
}

fn event_row(sent: &Sent) -> EventRow {
    let hex = sent.frame.iter().fold(String::new(), |mut hex, byte| {
        let _infallible = write!(hex, "{byte:02x}");
        hex
    });
    let mut key = wire::extract(&sent.frame, sent.in_port);
    let brought = sent.beside.as_deref().map(|beside| {
        for field in Field::all().filter(|field| replay::comes_beside(*field)) {
            key.set(field, beside.get(field));
        }
        brought(beside)
    });
    let summary = match brought {
        Some(brought) => format!("{}, which comes in with {brought}", summary(&sent.frame)),
        None => summary(&sent.frame),
    };
    let packet = PacketRow { in_port: sent.in_port, hex, flow: key_to_text(&key), summary };
    EventRow { packet, outputs: outputs(&sent.outcome.effects) }
}

/// What comes in with a frame, in the words of a match.
fn brought(beside: &FlowKey) -> String {
    let mut matching = Match::default();
    for field in Field::all().filter(|field| replay::comes_beside(*field) && beside.get(*field) != 0) {
        let mask = if field == Field::CtState { 0xff } else { u128::MAX };
        matching.set(field, beside.get(field), mask);
    }
    matching.to_string()
}

fn hop(host: &Host, table: u8, id: FlowId) -> Option<Hop> {
    let flow = host.tables.flow(id)?;
    let text = Flow { cookie: 0, ..flow.clone() }.to_string();
    Some(Hop { table, line: flow.span.line, flow: text.trim().to_owned() })
}
