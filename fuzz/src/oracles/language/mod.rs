//! Tables and frames of the language's own generator under three judges: all packets at once, what is proved, a real
//! switch.
//!
//! A comparison is one frame through one table. Invariant: a case is determined by its seed and its number. Deliberately
//! absent: what is said to people, and how many cases there are.

mod changes;

pub use changes::{against_difference, against_lint};

use super::symbolic::Given;
use super::{Held, Objection, claims, object};
use crate::Choices;
use crate::language::matrix::Matrix;
use crate::language::tables::{self, Wish};
use crate::language::trial::{Trial, shrink};
use crate::language::{fields, frames};
use crate::packets;
use flowproof_ovs::{Answer, Event, Judge, LoadError, Story, refused_by_the_tool};
use flowproof_packet::{Field, PortNo, wire};
use flowproof_proofs::tables::Tables;
use flowproof_switch::conntrack::{CtInfo, Profile};
use flowproof_switch::flow::parse::Era;
use flowproof_switch::flow::{Action, Flow, ParseOptions, parse_flows};
use flowproof_switch::pipeline::{PortConfig, Switch, SwitchConfig};
use flowproof_switch::table::TieBreak;
use std::sync::Arc;

/// Ports of the switch that frames come to: three trunks and an access port.
const PORTS: [PortNo; 4] = [1, 2, 3, 4];
/// Frames that one table sees.
pub const FRAMES: usize = 60;

/// What a case came to.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Frames that were compared.
    pub compared: u64,
    /// Flows that our parser took, and that it did not.
    pub flows: (u64, u64),
    /// Tables that could not be compared: too large for a pass, or refused by the real switch.
    pub passed_over: u64,
    /// What was generated and reached.
    pub matrix: Matrix,
}

impl Tally {
    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        self.compared += other.compared;
        self.flows.0 += other.flows.0;
        self.flows.1 += other.flows.1;
        self.passed_over += other.passed_over;
        self.matrix.merge(&other.matrix);
    }

    fn of(drawn: &tables::Drawn) -> Self {
        let mut tally =
            Self { flows: (drawn.lines.len() as u64, drawn.refused.len() as u64), ..Self::default() };
        tally.matrix.generated(&drawn.flows);
        tally
    }
}

/// The choices of a case.
#[must_use]
pub fn choices(seed: u64, number: u64) -> Choices<'static> {
    let mixed = Choices::new(seed).number() ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Choices::new(mixed)
}

fn ports() -> Vec<PortConfig> {
    let access = |port: PortNo| if port == 4 { PortConfig::access(4, 5) } else { PortConfig::trunk(port) };
    PORTS.into_iter().map(access).collect()
}

/// A frame for a table, with the datagram that it is a fragment of; its port is another's choice.
fn frame(choices: &mut Choices<'_>, flows: &[Flow], profile: Profile) -> (PortNo, Vec<u8>, Option<Vec<u8>>) {
    let (key, in_port) = frames::key(choices, flows);
    let fragment = key.get(Field::NwFrag) != 0 || choices.chance(8);
    let later = key.get(Field::NwFrag) & 2 != 0 || choices.chance(30);
    if fragment
        && (profile.reassembles() || choices.chance(50))
        && let Some((whole, bytes)) = frames::fragment(choices, &key, later)
    {
        return (in_port, bytes, Some(whole));
    }
    let bytes = frames::bytes(choices, &key, fragment && !profile.reassembles());
    (in_port, bytes, None)
}

/// What a trial shows, if interpreter and symbolic execution differ on it.
#[must_use]
pub fn symbolic_differs(trial: &Trial) -> Option<String> {
    let (tables, ports) = (Tables::new(trial.flows.clone()), ports());
    let mut given = Given::new(&tables, trial.profile, &ports, trial.in_port);
    given.hold(&trial.framed(), &trial.answers).err().map(|Objection(why)| why)
}

/// A finding, as small as it gets: the trial, and what it shows.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Flows and frame.
    pub trial: Trial,
    /// What differs.
    pub story: String,
}

impl From<Finding> for Objection {
    fn from(finding: Finding) -> Self {
        Self(format!("{}\n{}", finding.trial, finding.story))
    }
}

/// The smallest trial that shows the same, and what it shows.
fn smallest(trial: &Trial, differs: impl Fn(&Trial) -> Option<String>) -> Finding {
    let small = shrink(trial, |one| differs(one).is_some());
    let story = differs(&small).unwrap_or_default();
    Finding { trial: small, story }
}

/// One table, and frames through interpreter and symbolic execution, exit by exit.
///
/// # Errors
/// They differ.
pub fn against_symbolic(seed: u64, number: u64) -> Result<Tally, Box<Finding>> {
    let mut choices = choices(seed, number);
    let drawn = tables::draw(&mut choices, Wish { goal: Some(number as usize), ..Wish::default() });
    let mut tally = Tally::of(&drawn);
    // A trace shows both lists that a length decides between, and only one has effects.
    let by_length = |action: &Action| matches!(action, Action::CheckPktLarger { .. });
    if drawn.flows.iter().flat_map(Flow::all_actions).any(by_length) {
        tally.passed_over += 1;
        return Ok(tally);
    }
    let profile = *choices.pick(&Profile::ALL);
    let (tables, ports) = (Tables::new(drawn.flows.clone()), ports());
    let mut given: Vec<(PortNo, Given<'_>)> = Vec::new();
    for _ in 0..FRAMES {
        let (in_port, bytes, whole) = frame(&mut choices, &drawn.flows, profile);
        let in_port = if given.len() < 2 { in_port } else { *choices.pick(&[1, in_port]) };
        let sent = wire::extract(whole.as_ref().unwrap_or(&bytes), in_port);
        let same = choices.chance(60);
        let usual = packets::answer(&mut choices, &sent, profile);
        let answers: Vec<CtInfo> = (0..10)
            .map(|_| if same { usual } else { packets::answer(&mut choices, &sent, profile) })
            .collect();
        if !given.iter().any(|(port, _)| *port == in_port) {
            given.push((in_port, Given::new(&tables, profile, &ports, in_port)));
        }
        let Some((_, given)) = given.iter_mut().find(|(port, _)| *port == in_port) else { continue };
        let trial = Trial { flows: drawn.flows.clone(), profile, in_port, frame: bytes, whole, answers };
        match given.hold(&trial.framed(), &trial.answers) {
            Ok(Some(_)) => tally.compared += 1,
            Ok(None) => {
                tally.passed_over += 1;
                break;
            }
            Err(_) => return Err(Box::new(smallest(&trial, symbolic_differs))),
        }
    }
    Ok(tally)
}

/// Actions for which there must be something that no flow says: queues and collectors; and of those of which versions of OpenFlow disagree, some.
const ELSEWHERE: &[&str] = &["enqueue", "sample", "delete_field", "mod_vlan_vid", "mod_vlan_pcp"];

/// The same and what only later versions of OpenFlow have: over those `mod_vlan_vid` pushes a tag always, as two actions
/// that no dump tells from `push_vlan`.
const FIRST_VERSION: &[&str] = &[
    "group",
    "meter",
    "enqueue",
    "sample",
    "delete_field",
    "push_vlan",
    "push_mpls",
    "pop_mpls",
    "set_mpls_label",
    "set_mpls_tc",
    "set_mpls_ttl",
    "dec_mpls_ttl",
    "encap",
    "decap",
    "write_actions",
    "clear_actions",
];
/// One table, and frames through the interpreter and through a real switch, byte for byte.
///
/// # Errors
/// They differ, or the machine fails.
pub fn against_real(judge: &mut Judge, seed: u64, number: u64) -> Result<Tally, Objection> {
    let mut choices = choices(seed, number);
    let without = if number.is_multiple_of(2) { ELSEWHERE } else { FIRST_VERSION };
    let wish = Wish { goal: Some(number as usize), without, ..Wish::default() };
    let drawn = tables::draw(&mut choices, wish);
    let mut tally = Tally::of(&drawn);
    let drawn_frames: Vec<(PortNo, Vec<u8>)> = (0..FRAMES)
        .map(|_| frame(&mut choices, &drawn.flows, Profile::Userspace31))
        .map(|(in_port, bytes, _)| (in_port, bytes))
        .collect();
    let frames = comparable(&drawn.flows, drawn_frames);
    let reached = claimed(&drawn.flows, &frames, &mut tally.matrix);
    let frames: Vec<_> = frames.into_iter().take(reached).collect();
    match real_differs(judge, &drawn.flows, &frames) {
        Ok(None) => tally.compared += frames.len() as u64,
        // What does not come back is the machine's.
        Ok(Some(_)) if matches!(real_differs(judge, &drawn.flows, &frames), Ok(None)) => {
            tally.passed_over += 1
        }
        Ok(Some(story)) => {
            let (flows, frames, story) = smallest_real(judge, &drawn.flows, &frames, story);
            return object(told(&flows, &frames, &story));
        }
        Err(LoadError::Refused { .. }) => tally.passed_over += 1,
        Err(LoadError::Env(error)) => return object(error.to_string()),
    }
    Ok(tally)
}

/// Flows as a file has them, a little to the right.
fn listed(flows: &[Flow]) -> String {
    flows.iter().map(|flow| format!("  {}\n", flow.to_string().trim_start())).collect()
}

fn told(flows: &[Flow], frames: &[(PortNo, Vec<u8>)], story: &str) -> String {
    let flows = listed(flows);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let frames: String =
        frames.iter().map(|(port, bytes)| format!("  hex {port} {}\n", hex(bytes))).collect();
    format!("{flows}{frames}{story}")
}

/// Frames on which nothing is known to be left open: the payload of a later fragment is taken for a header by a switch that
/// writes addresses, and fragments that wait are another suite's.
fn comparable(flows: &[Flow], frames: Vec<(PortNo, Vec<u8>)>) -> Vec<(PortNo, Vec<u8>)> {
    let tracks = flows.iter().flat_map(|flow| &flow.actions).any(|action| matches!(action, Action::Ct(_)));
    let writes = flows.iter().flat_map(|flow| &flow.actions).any(|action| {
        matches!(action, Action::Set { field, .. } | Action::Move { dst: flowproof_switch::flow::Subfield { field, .. }, .. }
            if field.spec().prerequisite != flowproof_packet::Prerequisite::None)
    });
    let fits = |frame: &[u8]| match frames::fragmented(frame) {
        (false, _) => true,
        (true, later) => !(tracks || later && writes),
    };
    frames.into_iter().filter(|(_, frame)| fits(frame)).collect()
}

fn switch(flows: &[Flow]) -> Switch {
    let tables = flowproof_switch::table::Tables::new(flowproof_ovs::split_untyped_ct(flows));
    Switch::new(Arc::new(tables), SwitchConfig::new(ports()))
}

/// How many frames the interpreter can say something certain of, one after the other.
fn claimed(flows: &[Flow], frames: &[(PortNo, Vec<u8>)], matrix: &mut Matrix) -> usize {
    let mut switch = switch(flows);
    let mut certain = 0;
    for (in_port, frame) in frames {
        let outcome = switch.receive_traced(*in_port, frame);
        let trace = outcome.trace.as_ref();
        let path: Vec<&Flow> = trace
            .iter()
            .flat_map(|trace| trace.path())
            .filter_map(|(_, id)| switch.tables().flow(id))
            .collect();
        matrix.reached(&path);
        if outcome.is_opaque() || trace.is_some_and(|trace| !trace.ambiguities().is_empty()) {
            break;
        }
        certain += 1;
    }
    certain
}

/// What a real switch does otherwise.
fn real_differs(
    judge: &mut Judge,
    flows: &[Flow],
    frames: &[(PortNo, Vec<u8>)],
) -> Result<Option<String>, LoadError> {
    let mut ours = switch(flows);
    let events: Vec<Event<'_>> = frames
        .iter()
        .map(|(in_port, frame)| {
            let claimed = ours.receive(*in_port, frame).delivered();
            Event::Frame { in_port: *in_port, frame, claimed }
        })
        .collect();
    let ports = ports();
    let story = Story { ports: &ports, flows, tie: TieBreak::First, events };
    Ok(match judge.hear(&story)? {
        Answer::Same | Answer::Open(_) => None,
        Answer::Differs(difference) => {
            let shown = |frames: &[(PortNo, Vec<u8>)]| {
                let one = |(port, frame): &(PortNo, Vec<u8>)| {
                    format!(
                        "\n    {port} {}",
                        frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
                    )
                };
                frames.iter().map(one).collect::<String>()
            };
            Some(format!(
                "frame {}: ours{}\n  real{}",
                difference.at,
                shown(&difference.claimed),
                shown(&difference.real)
            ))
        }
    })
}

/// Flows and frames that show a difference, and what it is.
type Shown = (Vec<Flow>, Vec<(PortNo, Vec<u8>)>, String);

/// Fewer flows, actions and frames that show some difference still.
fn smallest_real(judge: &mut Judge, flows: &[Flow], frames: &[(PortNo, Vec<u8>)], story: String) -> Shown {
    let mut story = story;
    let mut frames = frames.to_vec();
    // The last frame is the one that differs; often it does so alone.
    let at =
        story.strip_prefix("frame ").and_then(|rest| rest.split(':').next()).and_then(|at| at.parse().ok());
    frames.truncate(at.map_or(usize::MAX, |at: usize| at + 1));
    for from in [frames.len().saturating_sub(1), frames.len() / 2] {
        let fewer: Vec<_> = frames.iter().skip(from).cloned().collect();
        if let Ok(Some(_)) = real_differs(judge, flows, &fewer) {
            frames = fewer;
        }
    }
    let last = frames.last().cloned().unwrap_or((1, Vec::new()));
    let answers = Vec::new();
    let trial = Trial {
        flows: flows.to_vec(),
        profile: Profile::Userspace31,
        in_port: last.0,
        frame: last.1,
        whole: None,
        answers,
    };
    let before: Vec<_> = frames.iter().take(frames.len().saturating_sub(1)).cloned().collect();
    let with = |one: &Trial| {
        let mut all = before.clone();
        all.push((one.in_port, one.frame.clone()));
        all
    };
    let small = shrink(&trial, |one| {
        let frames = with(one);
        // What became uncertain is no difference.
        claimed(&one.flows, &frames, &mut Matrix::default()) == frames.len()
            && matches!(real_differs(judge, &one.flows, &frames), Ok(Some(_)))
    });
    let frames = with(&small);
    if let Ok(Some(told)) = real_differs(judge, &small.flows, &frames) {
        story = told;
    }
    (small.flows, frames, story)
}

/// The flows of one table, those that our parser takes and those that it does not, read by the real tool: it takes the
/// same.
///
/// # Errors
/// They differ, or the tool does not run.
pub fn against_tool(seed: u64, number: u64) -> Result<Tally, Objection> {
    let mut choices = choices(seed, number);
    let drawn = tables::draw(&mut choices, Wish { goal: Some(number as usize), ..Wish::default() });
    let mut tally = Tally::of(&drawn);
    let strict = ParseOptions { era: Era::Strict31, ..ParseOptions::default() };
    for line in drawn.lines.iter().chain(&drawn.refused) {
        let ours = parse_flows(line, &strict);
        let theirs = refused_by_the_tool(line).map_err(|error| Objection(error.to_string()))?;
        match (ours, theirs) {
            (Ok(_), None) | (Err(_), Some(_)) => {}
            (Ok(_), Some(why)) => return object(format!("taken, and refused by the tool: {line}\n  {why}")),
            (Err(why), None) => return object(format!("refused, and taken by the tool: {line}\n  {why}")),
        }
        tally.compared += 1;
    }
    Ok(tally)
}

/// One table around a port, what is proved of it, and frames that must not violate that.
///
/// # Errors
/// One does.
pub fn against_proofs(seed: u64, number: u64) -> Result<Tally, Objection> {
    let mut choices = choices(seed, number);
    let guarded = choices.chance(80);
    let drawn = tables::draw(&mut choices, Wish { goal: Some(number as usize), without: &[], guarded });
    let mut tally = Tally::of(&drawn);
    let profile = *choices.pick(&Profile::ALL);
    let host = claims::host(drawn.flows.clone());
    let Some(sender) = host.ports.first() else { return Ok(tally) };
    let proved = claims::proved(&host, sender, profile);
    if proved.is_empty() {
        tally.passed_over += 1;
        return Ok(tally);
    }
    let held = Held { host: &host, sender, profile, proved: &proved };
    let mut draw = |choices: &mut Choices<'_>| {
        let (_, bytes, whole) = frame(choices, &drawn.flows, profile);
        let mut trial = Trial {
            flows: Vec::new(),
            profile,
            in_port: sender.ofport,
            frame: bytes,
            whole,
            answers: Vec::new(),
        };
        // The sender's own address now and then, so that guards let something through.
        if choices.chance(60) && trial.whole.is_none() {
            let own = fields::MACS.first().copied().unwrap_or_default().to_be_bytes();
            trial.frame.iter_mut().skip(6).zip(own.iter().skip(10)).for_each(|(to, from)| *to = *from);
        }
        trial.framed()
    };
    match claims::hold(&mut choices, &held, FRAMES, &mut draw) {
        Ok(compared) => tally.compared += compared as u64,
        Err(Objection(why)) => {
            let flows = listed(&drawn.flows);
            return object(format!("{why}\n{flows}"));
        }
    }
    Ok(tally)
}
