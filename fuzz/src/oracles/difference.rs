//! The difference of two tables against one packet at a time: what the interpreter tells apart lies in exactly one class,
//! and what it does not tell apart in none.

use super::symbolic::flows;
use super::{Objection, Verdict, object, subject};
use crate::Choices;
use crate::packets::{self, Assignment, Frame, Pool};
use crate::tables::{self, Spice};
use flowproof_packet::{Field, PortNo, wire};
use flowproof_proofs::difference::{Bounds, Found, Question, Way, combination, find, tell};
use flowproof_proofs::set::PacketSets;
use flowproof_proofs::symbolic::Emit;
use flowproof_proofs::symkey::Form;
use flowproof_proofs::tables::Tables;
use flowproof_switch::conntrack::{CtInfo, CtOutput, CtRequest, Profile};
use flowproof_switch::pipeline::{DropReason, Effect, PortConfig, Switch, SwitchConfig, Tracker, Visit};
use flowproof_switch::table::TieBreak;
use flowproof_switch::trace::Event;
use std::collections::BTreeSet;

/// Packets of each form that one case tries.
const PACKETS: usize = 6;
const PORTS: std::ops::RangeInclusive<PortNo> = 1..=8;

/// Answers by depth, and what was asked.
struct Script<'a> {
    answers: &'a [CtInfo],
    frame: &'a Frame,
    reassembles: bool,
    asked: Vec<(u8, bool, CtRequest, Vec<u8>)>,
}

impl Tracker for Script<'_> {
    fn track(&mut self, frame: &[u8], visit: &Visit) -> CtOutput {
        self.asked.push((visit.depth, visit.recirculates, visit.request, frame.to_vec()));
        let answer = self.answers.get(usize::from(visit.depth)).copied().unwrap_or_default();
        let (was, is) = (wire::extract(&self.frame.bytes, 0), wire::extract(frame, 0));
        let whole = self.reassembles && is.get(Field::NwFrag) != 0;
        let frame = if whole { wire::commit(&self.frame.whole, &was, &is) } else { frame.to_vec() };
        vec![(frame, answer)]
    }
}

/// What a table did to a packet, and whether that is all that can be said.
#[derive(Debug)]
struct Took {
    did: BTreeSet<String>,
    certain: bool,
    /// A port that the switch does not have was meant.
    missed: bool,
}

fn take(tables: &Tables, frame: &Frame, in_port: PortNo, profile: Profile, answers: &[CtInfo]) -> Took {
    let ports = PORTS.map(PortConfig::trunk).collect();
    let config = SwitchConfig { ports, profile, tie: TieBreak::First };
    let reassembles = profile.reassembles();
    let script = Script { answers, frame, reassembles, asked: Vec::new() };
    let mut switch = Switch::with_tracker(tables.switch().clone(), config, script);
    let outcome = switch.receive_traced(in_port, &frame.bytes);
    let mut did: BTreeSet<String> = switch
        .tracker()
        .asked
        .iter()
        .map(|(depth, goes_on, request, frame)| {
            // What is not committed keeps nothing.
            let kept = request.commit.then_some((request.force, request.mark, request.label));
            format!("ct {depth} {goes_on} {} {kept:?} {frame:02x?}", request.zone)
        })
        .collect();
    for effect in &outcome.effects {
        match effect {
            Effect::Output { port, frame } => drop(did.insert(format!("output {port} {frame:02x?}"))),
            Effect::Normal { frame, .. } => {
                let to = wire::extract(frame, 0).get(Field::DlDst);
                if to & 0xffff_ffff_fff0 != 0x0180_c200_0000 {
                    did.insert(format!("normal {frame:02x?}"));
                }
            }
            Effect::Controller { frame } => drop(did.insert(format!("controller {frame:02x?}"))),
            Effect::Opaque { text, .. } => drop(did.insert(format!("opaque {text}"))),
        }
    }
    let trace = outcome.trace.clone().unwrap_or_default();
    let dropped = |wanted: fn(&DropReason) -> bool| {
        trace.steps.iter().any(|step| matches!(&step.event, Event::Dropped(why) if wanted(why)))
    };
    let limits = dropped(|why| {
        matches!(why, DropReason::TooDeep | DropReason::TooManyResubmits | DropReason::TooManyRecirculations)
    });
    Took {
        did,
        certain: trace.ambiguities().is_empty() && !outcome.is_opaque() && !limits,
        missed: dropped(|why| matches!(why, DropReason::UnknownPort(_))),
    }
}

/// Two tables, compared.
pub struct Pair {
    a: Tables,
    b: Tables,
    profile: Profile,
    found: Found,
}

impl Pair {
    /// Compares them under one datapath.
    #[must_use]
    pub fn new(a: Tables, b: Tables, profile: Profile) -> Self {
        // What is compared, if defects are planted: fewer flows.
        let fewer = subject(None, |_: Option<Tables>| {
            let flows = b.flows().iter().filter(|flow| !flow.matching.looks_at(Field::NwSrc));
            Some(Tables::new(flows.cloned().collect()))
        });
        let told = fewer.as_ref().unwrap_or(&b);
        let found = find(&Question { a: &a, b: told, profiles: &[profile] });
        Self { a, b, profile, found }
    }

    /// What was found.
    pub const fn found(&mut self) -> &mut Found {
        &mut self.found
    }

    /// Holds one packet to the classes; whether the tables differ on it.
    ///
    /// # Errors
    /// It is where it should not be.
    pub fn hold(&self, frame: &Frame, in_port: PortNo, answers: &[CtInfo]) -> Result<bool, Objection> {
        let [a, b] = [&self.a, &self.b].map(|tables| take(tables, frame, in_port, self.profile, answers));
        let packet = Assignment::new(frame, answers);
        let on: BTreeSet<_> =
            combination(frame.form, self.profile, flowproof_proofs::arrival::Arrival::Untracked)
                .into_iter()
                .filter(|bit| bit.1)
                .map(|bit| bit.0)
                .collect();
        let inside = |set| self.found.sets.contains(set, |var| packet.bit(var) || on.contains(&var));
        if !(a.certain && b.certain) || inside(self.found.unknown) {
            return Ok(false);
        }
        let classes: Vec<_> = self.found.classes.iter().filter(|class| inside(class.packets)).collect();
        let rest = usize::from(inside(self.found.rest));
        let differs = a.did != b.did;
        // Who is flooded depends on the ports of the switch, and what is not modelled may be nothing.
        let vague = classes
            .iter()
            .flat_map(|class| class.a.iter().chain(&class.b))
            .any(|deed| matches!(deed.way, Way::Leaves(Emit::Flood | Emit::Opaque(_))));
        let wanted = usize::from(differs);
        if classes.len() + rest == wanted || !differs && (a.missed || b.missed || vague) {
            return Ok(differs);
        }
        let hex: String = frame.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let flows =
            |tables: &Tables| tables.flows().iter().map(|flow| format!("  {flow}\n")).collect::<String>();
        object(format!(
            "in {} classes, and the interpreter does {:#?} and {:#?}\nclasses {classes:#?}\nport {in_port} under {:?}, {:?}, with {answers:?}\nhex {hex}\nA\n{}B\n{}",
            classes.len() + rest,
            a.did,
            b.did,
            self.profile,
            frame.form,
            flows(&self.a),
            flows(&self.b),
        ))
    }

    /// Draws packets that the flows speak of and holds them to the classes; on how many the tables differ.
    ///
    /// # Errors
    /// One is where it should not be, or an example does not replay, or classes overlap.
    pub fn try_packets(&mut self, choices: &mut Choices<'_>, packets: usize) -> Result<usize, Objection> {
        let mut all = self.a.flows().to_vec();
        all.extend(self.b.flows().iter().cloned());
        let pool = Pool::of(&Tables::new(all));
        let mut differ = 0;
        for form in Form::ALL {
            for _ in 0..packets {
                let in_port = 1 + choices.below(3) as PortNo;
                let Some(frame) = packets::frame(choices, &pool, form, in_port) else { continue };
                let answers: Vec<CtInfo> =
                    (0..10).map(|_| packets::answer(choices, &frame.sent, self.profile)).collect();
                differ += usize::from(self.hold(&frame, in_port, &answers)?);
            }
        }
        self.hold_classes()?;
        Ok(differ)
    }

    fn hold_classes(&mut self) -> Verdict {
        let sets: Vec<_> = self.found.classes.iter().map(|class| class.packets).collect();
        let mut seen = self.found.rest;
        for set in sets {
            let twice = self.found.sets.and(seen, set);
            if !self.found.sets.is_empty(twice) {
                return object("a packet is in two classes");
            }
            seen = self.found.sets.or(seen, set);
        }
        if super::planted() {
            return Ok(());
        }
        let question = Question { a: &self.a, b: &self.b, profiles: &[self.profile] };
        tell(&question, &mut self.found, Bounds { classes: 3, boxes: 2 }).map(drop).map_err(Objection)
    }
}

/// Flows with one of them changed, or two, or others altogether.
fn changed(choices: &mut Choices<'_>, text: &str, spice: Spice) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.is_empty() || choices.chance(10) {
        return tables::text(choices, spice);
    }
    for _ in 0..1 + choices.below(3) {
        let at = choices.below(lines.len());
        let other = choices.pick(&lines.clone()).clone();
        let Some(line) = lines.get_mut(at) else { continue };
        let parts = |line: &str| line.split_once(" actions=").map(|(a, b)| (a.to_owned(), b.to_owned()));
        match choices.below(4) {
            0 => line.clear(),
            1 => {
                let (Some((what, _)), Some((_, does))) = (parts(line), parts(&other)) else { continue };
                *line = format!("{what} actions={does}");
            }
            2 => *line = line.replace("priority=", "priority=1"),
            _ => {
                let Some((what, _)) = parts(line) else { continue };
                *line = format!("{what} actions=drop");
            }
        }
    }
    // Not everything goes together: what the real tools refuse is left out.
    lines.retain(|line| !line.is_empty() && !flows(line).is_empty());
    lines.join("\n")
}

/// Random tables, a change of them, and packets that look for what the difference gets wrong.
///
/// # Errors
/// It gets something wrong.
pub fn diff(bytes: &[u8]) -> Verdict {
    let choices = &mut Choices::of(bytes);
    let spice = Spice { opaque: choices.chance(10), ..Spice::default() };
    let before = tables::text(choices, spice);
    let after = changed(choices, &before, spice);
    let profile = *choices.pick(&Profile::ALL);
    let mut pair = Pair::new(Tables::new(flows(&before)), Tables::new(flows(&after)), profile);
    let told = |Objection(why)| Objection(format!("{why}\nA\n{before}\nB\n{after}"));
    pair.try_packets(choices, PACKETS).map(drop).map_err(told)
}
