//! The third engine: every packet of a small space, in every state, one after the other, through the interpreter.
//!
//! What it means: of a packet that some sender could send all bits are fixed but a few, so that all packets that are left
//! can be tried, with everything that connection tracking could say of them ([`Space`]). A property that judges one packet
//! at a time is violated by exactly those for which its predicate is true of the datagram and which leave. Invariant:
//! decision diagrams have exactly these packets; Z3, asked about the space alone, finds one if and only if they do.
//! Deliberately absent: properties that compare packets or VLAN tags, labels and original tuples.

use super::{Objection, Verdict, engines, object, subject, symbolic::Case};
use crate::Choices;
use crate::packets::{self, Assignment, Frame, Pool};
use crate::tables;
use flowproof_packet::build::FragmentExtension;
use flowproof_packet::key::low_bits;
use flowproof_packet::{Field, FlowKey};
use flowproof_proofs::diagram::{Diagram, Found, Host};
use flowproof_proofs::ports::Port;
use flowproof_proofs::predicate::Predicate;
use flowproof_proofs::properties::{self, Judge, Property};
use flowproof_proofs::replay;
use flowproof_proofs::symkey::{Form, SymKey};
use flowproof_proofs::z3_engine::Answer;
use flowproof_proofs::z3_port::Z3Port;
use flowproof_switch::conntrack::{CtInfo, Profile};
use flowproof_switch::table::TieBreak;

/// Answers of connection tracking, one after the other, after which a packet is left alone.
const DEEPEST: usize = 3;
/// Ways through connection tracking that are tried of one packet.
const WAYS: usize = 400;

/// How much to try.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Spaces of a host.
    pub spaces: usize,
    /// Bits of a packet that are left free.
    pub bits: usize,
}

/// Which bits of a field may be left free, lowest first: addresses of three bits, ports of two.
const FREE: [(Field, u128); 11] = [
    (Field::DlSrc, 0b1),
    (Field::DlDst, 0b11),
    (Field::NwSrc, 0b11),
    (Field::NwDst, 0b11),
    (Field::Ipv6Src, 0b11),
    (Field::Ipv6Dst, 0b1),
    (Field::TcpSrc, 0b11),
    (Field::TcpDst, 0b11),
    (Field::ArpSha, 0b1),
    (Field::NdTarget, 0b1),
    (Field::VlanTci, 0b11),
];

/// What was compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Packets in a state.
    pub packets: usize,
    /// Those of them, with a property, that the interpreter lets violate it.
    pub violations: usize,
    /// Questions to Z3.
    pub asked: usize,
}

/// A small space of packets.
struct Space {
    form: Form,
    extension: Option<FragmentExtension>,
    base: FlowKey,
    free: Vec<(Field, u128)>,
}

impl Space {
    /// Around a packet from what the tables speak of, more often than not from the sender's own addresses.
    fn draw(choices: &mut Choices<'_>, pool: &Pool, sender: &Port, bits: usize) -> Option<Self> {
        let form = *choices.pick(&[Form::Whole, Form::Whole, Form::Whole, Form::First, Form::Later]);
        let mut base = packets::frame(choices, pool, form, sender.ofport)?.sent;
        if choices.chance(70) {
            own(&mut base, sender);
        }
        let mut free: Vec<(Field, u128)> = FREE
            .into_iter()
            .filter(|(field, _)| base.get(*field) != 0)
            .flat_map(|(field, mask)| (0..2).map(move |bit| (field, mask & 1 << bit)))
            .filter(|(_, bit)| *bit != 0)
            .collect();
        while free.len() > bits {
            free.remove(choices.below(free.len()));
        }
        Some(Self { form, extension: None, base, free })
    }

    /// The packets of the space that there are.
    fn frames(&self, sender: &Port) -> Vec<Frame> {
        let packet = |number: usize| {
            let mut key = self.base.clone();
            let on = self.free.iter().enumerate().filter(|(place, _)| number >> place & 1 == 1);
            on.for_each(|(_, (field, bit))| key.set(*field, key.get(*field) ^ bit));
            let frame = packets::made(&key, self.form, self.extension, sender.ofport)?;
            let same = |field: &Field| frame.sent.get(*field) == key.get(*field);
            fields().all(|field| same(&field)).then_some(frame)
        };
        (0..1 << self.free.len()).filter_map(packet).collect()
    }

    /// The space as a predicate.
    fn predicate(&self) -> Predicate {
        let fixed = |field: Field| {
            let free = self.free.iter().filter(|(of, _)| *of == field).fold(0, |all, (_, bit)| all | bit);
            let mask = low_bits(field.spec().width) & !free;
            Predicate::Is(field, self.base.get(field) & mask, mask)
        };
        Predicate::All(fields().map(fixed).collect())
    }
}

/// The fields that a sender chooses.
fn fields() -> impl Iterator<Item = Field> {
    Field::all().filter(|field| field.spec().is_slot_owner() && SymKey::is_sent(*field))
}

fn own(key: &mut FlowKey, sender: &Port) {
    let Some(mac) = sender.macs.first() else { return };
    key.set(Field::DlSrc, mac.to_bits().into());
    let (field, pairs) = match key.get(Field::DlType) {
        0x0800 => (Field::NwSrc, &sender.pairs4),
        0x86dd => (Field::Ipv6Src, &sender.pairs6),
        0x0806 => {
            key.set(Field::ArpSha, mac.to_bits().into());
            (Field::ArpSpa, &sender.pairs4)
        }
        _ => return,
    };
    if let Some(pair) = pairs.iter().find(|pair| pair.mac == *mac) {
        key.set(field, pair.address);
    }
}

/// Whether one packet and its leaving show that the property does not hold.
fn of_packets(property: &Property) -> bool {
    matches!(property.judge, Judge::Implication { .. } | Judge::Prohibition { .. })
}

/// The marks that tables tell apart, and none.
fn marks(host: &Host) -> Vec<u32> {
    let looks = |flow: &flowproof_switch::flow::Flow| flow.matching.looks_at(Field::CtMark);
    let named = host.tables.flows().iter().filter(|flow| looks(flow));
    let mut marks: Vec<u32> = named.map(|flow| flow.matching.get(Field::CtMark).0 as u32).collect();
    marks.extend([0, 1]);
    marks.sort_unstable();
    marks.dedup();
    marks.truncate(3);
    marks
}

/// Small spaces of what the first port of a host sends under a profile: the interpreter, packet by packet,
/// decision diagrams and Z3 say the same of each property.
///
/// # Errors
/// They do not.
pub fn enumerate(
    choices: &mut Choices<'_>,
    host: &Host,
    profile: Profile,
    properties: &[&'static Property],
    scale: Scale,
) -> Result<Tally, Objection> {
    let mut tally = Tally::default();
    let Some(sender) = host.ports.first() else { return Ok(tally) };
    let mut engine = Diagram::within(Default::default(), host, sender, &[profile]);
    let mut found: Vec<(&'static Property, Vec<Found>)> = Vec::new();
    for property in properties.iter().filter(|property| of_packets(property)) {
        // Too large to be decided is no disagreement.
        let Ok(violations) = engine.far(property, profile) else { return Ok(tally) };
        found.push((property, violations));
    }
    // What is told apart, if defects are planted: fewer flows.
    let fewer = subject(None, |_: Option<Host>| {
        let flows = host.tables.flows().iter().filter(|flow| flow.priority % 3 != 0);
        let tables = flowproof_proofs::tables::Tables::new(flows.cloned().collect());
        Some(Host { tables, ports: host.ports.clone(), tags: host.tags.clone() })
    });
    let host = fewer.as_ref().unwrap_or(host);
    let pool = Pool::of(&host.tables);
    let ports = replay::ports(host, sender);
    let case = Case { tables: &host.tables, profile, ports: &ports, in_port: sender.ofport };
    let brute = Brute { case, sender, found: &found, marks: marks(host) };
    let mut z3 = Z3Port::new(host, sender, profile, false);
    for _ in 0..scale.spaces {
        let Some(space) = Space::draw(choices, &pool, sender, scale.bits) else { continue };
        let violated = brute.space(&engine, &space, &mut tally)?;
        if space.form == Form::Whole {
            let (property, _) = choices.pick(&found);
            z3.restrict(space.predicate());
            ask(&mut engine, &mut z3, &space, (property, &found), &violated)?;
            tally.asked += 1;
        }
    }
    Ok(tally)
}

/// Z3's answer about the whole frames of a space is the diagrams'.
fn ask(
    engine: &mut Diagram<'_>,
    z3: &mut Z3Port<'_>,
    space: &Space,
    (property, found): (&Property, &[(&'static Property, Vec<Found>)]),
    violated: &[&'static str],
) -> Verdict {
    let whole = Property { forms: &[Form::Whole], ..*property };
    let answer = z3.violated(&whole);
    let predicate = space.predicate();
    let of_property = found.iter().filter(|(of, _)| of.name == property.name).flat_map(|(_, found)| found);
    let mut exists = false;
    for found in of_property.filter(|found| found.form == Form::Whole) {
        exists |= engine.meets(found, &predicate);
    }
    let expected = if exists { Answer::Sat } else { Answer::Unsat };
    let brute = violated.contains(&property.name);
    let name = property.name;
    if matches!(answer, Answer::Sat | Answer::Unsat) && answer != expected || brute && answer == Answer::Unsat
    {
        return object(format!(
            "{name}, in a space of {} bits around {:?}: diagrams say {expected:?}, Z3 says {answer:?}, the interpreter {}",
            space.free.len(),
            space.base,
            if brute { "violates it" } else { "keeps it" },
        ));
    }
    Ok(())
}

/// Packets of one sender, one after the other.
struct Brute<'a> {
    case: Case<'a>,
    sender: &'a Port,
    found: &'a [(&'static Property, Vec<Found>)],
    marks: Vec<u32>,
}

impl Brute<'_> {
    /// Every packet of a space in every state; the properties that some packet violates.
    fn space(
        &self,
        engine: &Diagram<'_>,
        space: &Space,
        tally: &mut Tally,
    ) -> Result<Vec<&'static str>, Objection> {
        let mut violated = Vec::new();
        for frame in space.frames(self.sender) {
            let answers = packets::answers(&frame.sent, self.case.profile, &self.marks);
            let mut ways: Vec<Vec<CtInfo>> = answers.iter().map(|answer| vec![*answer]).collect();
            let mut tried = 0;
            while let Some(way) = ways.pop().filter(|_| tried < WAYS) {
                tried += 1;
                let asked = self.packet(engine, &frame, &way, &mut violated, tally)?;
                if asked == 0 {
                    break;
                }
                if asked > way.len() && way.len() < DEEPEST {
                    ways.extend(answers.iter().map(|answer| {
                        let mut way = way.clone();
                        way.push(*answer);
                        way
                    }));
                }
            }
        }
        Ok(violated)
    }

    /// One packet in one state; how often connection tracking was asked.
    fn packet(
        &self,
        engine: &Diagram<'_>,
        frame: &Frame,
        answers: &[CtInfo],
        violated: &mut Vec<&'static str>,
        tally: &mut Tally,
    ) -> Result<usize, Objection> {
        let mut asked = 0;
        for tie in [TieBreak::First, TieBreak::Last] {
            let took = self.case.interpret(frame, answers, tie)?;
            asked = asked.max(took.asked);
            if !took.uniform || took.limited || took.asked > answers.len() {
                continue;
            }
            tally.packets += 1;
            let packet = Assignment::new(frame, answers);
            for (property, found) in self.found.iter().filter(|(of, _)| of.forms.contains(&frame.form)) {
                let forbidden = properties::violation(property, self.sender).holds(&frame.sent);
                let violates = forbidden && took.left;
                let of_form = found.iter().filter(|found| found.form == frame.form);
                let has: Vec<&Found> =
                    of_form.filter(|found| engine.has(found, |var| packet.bit(var))).collect();
                let exact = !took.ambiguous && has.iter().all(|found| found.event.emit.is_modelled());
                if violates == has.is_empty() && (violates || exact) {
                    let (name, story) = (property.name, self.case.story(frame, answers, tie));
                    let (one, other) = if violates { ("", "not ") } else { ("not ", "") };
                    return object(format!(
                        "{name} is {one}violated by a packet in the interpreter, {other}so in the diagrams\n{story}"
                    ));
                }
                if violates {
                    tally.violations += 1;
                    violated.push(property.name);
                }
            }
        }
        Ok(asked)
    }
}

/// Random tables, some small spaces of what their first port sends.
///
/// # Errors
/// The engines differ.
pub fn brute_force(choices: &mut Choices<'_>, scale: Scale) -> Result<Tally, Objection> {
    let spice = tables::Spice { opaque: choices.chance(25), ..tables::Spice::default() };
    let text = tables::text(choices, spice);
    let host = engines::host(choices, &text);
    let profile = *choices.pick(&Profile::ALL);
    let all: Vec<&'static Property> = properties::SENDER.iter().collect();
    enumerate(choices, &host, profile, &all, scale)
        .map_err(|Objection(why)| Objection(format!("{why}\nunder {profile:?} on\n{text}")))
}
