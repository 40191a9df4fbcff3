//! From the engine's answers to verdicts on section B.
//!
//! Senders are asked in a fixed order, in batches: what a batch refutes the next one is not asked again. What a proof says
//! is that no sender of any class violates the row at the port. Of ports that may be exchanged one is asked about, and it is the
//! only sender of them: what it sends to a second one is, exchanged, what that sends to it. The others repeat what was found
//! ([`crate::symmetry`]).

use super::{
    Question, ROWS, Row,
    guess::{Guess, Guesses},
    judge::{Bench, Engine},
    replay::{self, Aim, Case},
    scene::Scene,
    world::{Kind, Sender, World},
};
use crate::{
    by_diagram::NOT_FORCED,
    check::{Finding, INTERRUPTED, Judgement, Watch, Witness},
    diagram::{self, Depends, Exhausted, Host},
    familiar::Choice,
    intent::site::Site,
    kin::renamed,
    ports::Port,
    predicate::Predicate,
    properties::Property,
    replay::{Replay, Stage, whole},
    since::{self, Since, Twins},
    symmetry::{Exchange, Symmetry},
};
use flowproof_packet::{PortNo, summary::summary};
use flowproof_switch::conntrack::Profile;
use rayon::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

/// Senders that are asked at once; what is reported does not depend on how many threads there are. The first few find most of
/// the witnesses.
const BATCH: usize = 16;
const FIRST_BATCH: usize = 2;
/// Frames to try for a witness.
const CANDIDATES: usize = 6;

/// What to check.
#[derive(Clone)]
pub struct Ask<'a> {
    /// The host.
    pub host: &'a Host,
    /// The intent, if there is one.
    pub site: Option<&'a Site>,
    /// The ports to check, of those of the host.
    pub ports: Vec<&'a Port>,
    /// Which of the [`ROWS`].
    pub properties: Vec<&'static Property>,
    /// The datapaths.
    pub profiles: Vec<Profile>,
    /// Who watches the work.
    pub watch: &'a dyn Watch,
}

/// A verdict of section B.
#[derive(Clone, Debug)]
pub struct IsolationFinding {
    /// Property, port, datapath, verdict.
    pub finding: Finding,
    /// Who sends what is shown, in words.
    pub sender: String,
}

/// Row, port and datapath, by their places.
type Slot = (usize, usize, usize);

/// What is known of a slot.
#[derive(Clone, Debug, Default)]
struct Known {
    refuted: Option<(PortNo, Choice, Arc<Replay>)>,
    doubt: Option<(Depends, String)>,
    witness: Option<(PortNo, Shown)>,
}

/// A witness, and the packets that it is of.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) packets: Vec<Choice>,
    pub(super) witness: Witness,
}

/// What one sender adds to a slot.
#[derive(Clone, Debug)]
enum Said {
    Violates(Box<Choice>, Arc<Replay>),
    Doubtful(Depends, String),
    Keeps(Option<Shown>),
}

/// Checks every row for every port and datapath: by row, then port, then datapath.
#[must_use]
pub fn check(ask: &Ask<'_>) -> Vec<IsolationFinding> {
    check_with(ask, &Symmetry::new(ask.host, ask.site), None)
}

/// The same without making use of symmetry, which is what [`check`] is compared with.
#[must_use]
pub fn check_slowly(ask: &Ask<'_>) -> Vec<IsolationFinding> {
    check_with(ask, &Symmetry::trivial(ask.host), None)
}

/// What a change breaks: see [`crate::since`]. Host and ports are those of the change.
#[must_use]
pub fn check_since(ask: &Ask<'_>, since: &Since) -> Vec<IsolationFinding> {
    let world = World::new(&since.before, ask.site);
    let stage = Stage::default();
    let before = Scene { host: &since.before, world: &world, site: ask.site, stage: &stage };
    check_with(ask, &Symmetry::trivial(ask.host), Some(Before { scene: before, since }))
}

/// The tables of before a change.
#[derive(Clone, Copy)]
struct Before<'a> {
    scene: Scene<'a>,
    since: &'a Since,
}

fn check_with(ask: &Ask<'_>, symmetry: &Symmetry, before: Option<Before<'_>>) -> Vec<IsolationFinding> {
    let world = World::new(ask.host, ask.site);
    let stage = Stage::default();
    let scene = Scene { host: ask.host, world: &world, site: ask.site, stage: &stage };
    let rows: Vec<&'static Row> =
        ROWS.iter().filter(|row| ask.properties.iter().any(|p| p.name == row.property.name)).collect();
    let firsts = symmetry.firsts(&ask.ports);
    let mut known: BTreeMap<Slot, Known> = BTreeMap::new();
    for (row, port) in (0..rows.len()).flat_map(|row| firsts.iter().map(move |first| (row, *first))) {
        known.extend((0..ask.profiles.len()).map(|profile| ((row, port, profile), Known::default())));
    }
    crate::check::with_deep_stack(|| {
        ask_senders(ask, (scene, before), &rows, symmetry, &mut known);
        let slots = (0..rows.len()).flat_map(|row| (0..ask.ports.len()).map(move |port| (row, port)));
        let slots = slots.flat_map(|(row, port)| (0..ask.profiles.len()).map(move |d| (row, port, d)));
        let slots: Vec<Slot> = slots.collect();
        let conclude = |slot: &Slot| {
            let (row, port, profile) = *slot;
            let first = *firsts.get(port)?;
            let known = known.get(&(row, first, profile))?;
            match first == port {
                true => conclude(ask, (scene, before.is_some()), &rows, *slot, known),
                false => repeat(ask, scene, &rows, symmetry, (*slot, first), known),
            }
        };
        slots.par_iter().filter_map(conclude).collect()
    })
}

/// What serves all senders.
struct Round<'a> {
    ask: &'a Ask<'a>,
    scene: Scene<'a>,
    before: Option<Before<'a>>,
    rows: &'a [&'static Row],
    symmetry: &'a Symmetry,
    benches: Mutex<Vec<Bench>>,
}

/// Asks everybody who can send, one of each class of filtered ports, until nothing is open.
fn ask_senders(
    ask: &Ask<'_>,
    (scene, before): (Scene<'_>, Option<Before<'_>>),
    rows: &[&'static Row],
    symmetry: &Symmetry,
    known: &mut BTreeMap<Slot, Known>,
) {
    let samples: BTreeSet<PortNo> =
        symmetry.samples(ask.host, &ask.ports, |_| 1).iter().map(|port| port.ofport).collect();
    let is_asked = |sender: &&Sender| {
        let touched = before.is_none_or(|before| before.since.touches(sender.ofport));
        touched && (!matches!(sender.kind, Kind::Filtered(_)) || samples.contains(&sender.ofport))
    };
    let senders: Vec<&Sender> = scene.world.senders.iter().filter(is_asked).collect();
    let round = Round { ask, scene, before, rows, symmetry, benches: Mutex::default() };
    let (some, others) = senders.split_at(senders.len().min(FIRST_BATCH));
    for batch in [some].into_iter().chain(others.chunks(BATCH)) {
        let open: Vec<(Slot, bool)> = known
            .iter()
            .filter(|(_, known)| known.refuted.is_none())
            .map(|(slot, known)| (*slot, known.witness.is_some()))
            .collect();
        let said: Vec<_> = batch
            .par_iter()
            .with_max_len(1)
            .map(|sender| {
                let said = round.sender(sender, &open);
                ask.watch.done(senders.len());
                said
            })
            .collect();
        for (slot, sender, said) in said.into_iter().flatten() {
            note(known, slot, sender, said);
        }
    }
}

fn note(known: &mut BTreeMap<Slot, Known>, slot: Slot, sender: &Sender, said: Said) {
    let Some(known) = known.get_mut(&slot).filter(|known| known.refuted.is_none()) else { return };
    match said {
        Said::Violates(choice, replay) => known.refuted = Some((sender.ofport, *choice, replay)),
        Said::Doubtful(depends, text) => {
            let worse = |(known, _): &(Depends, String)| matters(depends) > matters(*known);
            if known.doubt.as_ref().is_none_or(worse) {
                known.doubt = Some((depends, format!("{}: {text}", sender.name())));
            }
        }
        Said::Keeps(witness) => {
            let witness = witness.map(|witness| (sender.ofport, witness));
            known.witness = known.witness.take().or(witness);
        }
    }
}

/// What must replay and does not weighs most, then what is not modelled.
const fn matters(depends: Depends) -> u8 {
    match depends {
        Depends::State => 0,
        Depends::Choice => 1,
        Depends::Precision => 2,
        Depends::Nothing => 3,
    }
}

impl<'a> Round<'a> {
    /// What a sender, and through it others of its class, add to the slots that are open.
    fn sender(&self, sender: &'a Sender, open: &[(Slot, bool)]) -> Vec<(Slot, &'a Sender, Said)> {
        let class = self.symmetry.class(sender.ofport);
        let filtered = matches!(sender.kind, Kind::Filtered(_));
        // It and a second one of its class, or the receiver, have parts of their own.
        let parts = |of: PortNo| if filtered && of == class { 2 } else { 1 };
        let spared = self.symmetry.spared(self.ask.host, &self.ask.ports, parts);
        let twins = self.symmetry.samples(self.ask.host, &self.ask.ports, parts);
        let twin = twins.into_iter().find(|port| {
            filtered && port.ofport != sender.ofport && self.symmetry.class(port.ofport) == class
        });
        self.asked(sender, twin, &spared, open)
    }

    fn asked(
        &self,
        sender: &'a Sender,
        twin: Option<&'a Port>,
        spared: &Predicate,
        open: &[(Slot, bool)],
    ) -> Vec<(Slot, &'a Sender, Said)> {
        let doubtful = |text: &str| Said::Doubtful(Depends::Precision, text.to_owned());
        if self.ask.watch.stop() {
            return open.iter().map(|(slot, _)| (*slot, sender, doubtful(INTERRUPTED))).collect();
        }
        let free = || self.benches.lock().unwrap_or_else(PoisonError::into_inner);
        let bench = free().pop().unwrap_or_default();
        let mut twins = match self.twins(bench, sender, spared) {
            Ok(twins) => twins,
            Err(Exhausted(why)) => {
                return open.iter().map(|(slot, _)| (*slot, sender, doubtful(why))).collect();
            }
        };
        let mut said = Vec::new();
        let mut guesses = Guesses::default();
        for (slot, has_witness) in open {
            let Some(case) = self.case(*slot, sender) else { continue };
            let guess = guesses.guess(slot.0, &case);
            let answer = judge(&mut twins, (&case, self.before), *has_witness, &guess);
            let answer = answer.unwrap_or_else(|Exhausted(why)| doubtful(why));
            match &answer {
                Said::Violates(choice, _) => guesses.violates(slot.0, &case, choice),
                Said::Keeps(Some(shown)) => guesses.keeps(slot.0, &case, shown),
                Said::Keeps(None) | Said::Doubtful(..) => {}
            }
            said.push((*slot, sender, answer));
            let twin = twin.filter(|_| case.receiver.ofport == sender.ofport);
            said.extend(twin.and_then(|twin| self.of_twin(&mut twins, &case, twin, (*slot, *has_witness))));
        }
        free().push(twins.now.into_bench());
        said
    }

    /// The engine for what a sender sends; where a change is asked about, beside the one for the tables of before.
    fn twins(
        &self,
        bench: Bench,
        sender: &'a Sender,
        spared: &Predicate,
    ) -> Result<Twins<'a, Engine<'a>>, Exhausted> {
        let profiles = &self.ask.profiles;
        let now = Engine::new(bench, (self.scene, sender), profiles, spared)?;
        match self.before {
            None => Ok(Twins::alone(now)),
            Some(Before { scene, since }) => {
                Twins::new(now, since, |sets| Engine::new(sets.into(), (scene, sender), profiles, spared))
            }
        }
    }

    fn case(&self, (row, port, profile): Slot, sender: &'a Sender) -> Option<Case<'a>> {
        let (row, receiver) = (*self.rows.get(row)?, *self.ask.ports.get(port)?);
        let (property, question) = (&row.property, row.question);
        let (profile, aim) = (*self.ask.profiles.get(profile)?, Aim::Violates);
        Some(Case { scene: self.scene, sender, receiver, property, question, profile, aim })
    }

    /// What the twin of a port sends to it: what it sends to its twin, exchanged. Should packets not show that, the twin is asked
    /// like anybody.
    fn of_twin(
        &self,
        twins: &mut Twins<'_, Engine<'_>>,
        case: &Case<'a>,
        twin: &'a Port,
        (slot, has_witness): (Slot, bool),
    ) -> Option<(Slot, &'a Sender, Said)> {
        let sender = sender(self.scene, twin.ofport)?;
        let there = Case { receiver: twin, ..*case };
        let here = Case { sender, ..*case };
        let exchanged = |choice: &Choice| renamed(choice, case.receiver, twin);
        let show = |choice: &Choice| replay::replay(&here, &exchanged(choice)).map(Arc::new);
        let said = match judge(twins, (&there, self.before), has_witness, &Guess::default()) {
            Err(Exhausted(why)) => Some(Said::Doubtful(Depends::Precision, why.to_owned())),
            Ok(Said::Doubtful(depends, text)) => Some(Said::Doubtful(depends, text)),
            Ok(Said::Keeps(None)) => Some(Said::Keeps(None)),
            Ok(Said::Violates(choice, _)) => {
                show(&choice).map(|replay| Said::Violates(Box::new(exchanged(&choice)), replay))
            }
            Ok(Said::Keeps(Some(shown))) => {
                let packets: Vec<Choice> = shown.packets.iter().map(exchanged).collect();
                shown_again(&here, &shown.witness, &packets)
                    .map(|witness| Said::Keeps(Some(Shown { packets, witness })))
            }
        };
        let alone = || self.asked(sender, None, &Predicate::never(), &[(slot, has_witness)]).pop();
        said.map(|said| (slot, sender, said)).or_else(alone)
    }
}

/// A witness of the same kind with these packets, if they show it.
fn shown_again(case: &Case<'_>, witness: &Witness, packets: &[Choice]) -> Option<Witness> {
    let show = |aim: Aim, choice: &Choice| replay::replay(&Case { aim, ..*case }, choice).map(Arc::new);
    match (witness, packets) {
        (Witness::Escapes(_), [choice]) => show(Aim::Arrives, choice).map(Witness::Escapes),
        (Witness::Twins { .. }, [stopped, twin]) => {
            Some(Witness::Twins { stopped: show(Aim::Stays, stopped)?, twin: show(Aim::Arrives, twin)? })
        }
        _ => None,
    }
}

/// What an engine says of a case. What other cases suggest is tried before packets are looked for.
fn judge(
    twins: &mut Twins<'_, Engine<'_>>,
    (case, before): (&Case<'_>, Option<Before<'_>>),
    has_witness: bool,
    guess: &Guess,
) -> Result<Said, Exhausted> {
    let violations = |engine: &mut Engine<'_>| engine.violations(case.question, case.profile, case.receiver);
    let found = violations(&mut twins.now)?;
    let found = twins.anew(case.profile, found, |engine| {
        let guilty = violations(engine)?;
        let depth = since::depth(&guilty);
        Ok((guilty, depth))
    })?;
    let mut unmodelled = twins.unmodelled.take();
    let engine = &mut twins.now;
    unmodelled = unmodelled.or_else(|| diagram::unmodelled(&found, &case.scene.host.tables));
    if found.is_empty() {
        if has_witness || before.is_some() {
            return Ok(Said::Keeps(None));
        }
        let again = guess.keeping.as_ref().and_then(|Shown { packets, witness }| {
            let witness = shown_again(case, witness, packets)?;
            Some(Shown { packets: packets.clone(), witness })
        });
        return Ok(Said::Keeps(if again.is_some() { again } else { witness(engine, case)? }));
    }
    let before = before.map(|Before { scene, .. }| Case { scene, aim: Aim::Innocent, ..*case });
    if let Some(choice) = &guess.violating
        && let Some(replay) = replay::replay_anew(case, before.as_ref(), choice)
    {
        return Ok(Said::Violates(Box::new(choice.clone()), Arc::new(replay)));
    }
    let mut doubt: Option<(Depends, Choice)> = None;
    for (found, depends) in engine.candidates(found) {
        let Some(choice) = engine.choose(case.question, case.receiver, &found) else { continue };
        if let Some(replay) = replay::replay_anew(case, before.as_ref(), &choice) {
            return Ok(Said::Violates(Box::new(choice), Arc::new(replay)));
        }
        let guilty_before = before.is_some() && replay::replay(case, &choice).is_some();
        let depends = if guilty_before { Depends::State } else { depends };
        if doubt.as_ref().is_none_or(|(known, _)| matters(depends) > matters(*known)) {
            doubt = Some((depends, choice));
        }
    }
    if let Some(why) = unmodelled.filter(|_| !matches!(doubt, Some((Depends::Nothing, _)))) {
        return Ok(Said::Doubtful(Depends::Precision, why));
    }
    let Some((depends, choice)) = doubt else {
        return Ok(Said::Doubtful(Depends::Precision, "no packet could be chosen".to_owned()));
    };
    let frame = summary(&whole(&choice));
    let state = choice.answers.last().map_or(0, |answer| answer.state);
    Ok(Said::Doubtful(depends, format!("{frame}, with ct_state={state:#x}")))
}

/// A frame that the row speaks of and that rightly reaches the port; or one that is stopped, and its twin that is not.
fn witness(engine: &mut Engine<'_>, case: &Case<'_>) -> Result<Option<Shown>, Exhausted> {
    if case.sender.kind == Kind::Unknown && case.question == Question::Denied {
        return Ok(None);
    }
    let arrives = Case { aim: Aim::Arrives, ..*case };
    let stays = Case { aim: Aim::Stays, ..*case };
    let show = |choice: &Choice| replay::replay(&arrives, choice).map(Arc::new);
    if case.question != Question::Strangers {
        let found = engine.innocent(case.question, case.profile, case.receiver)?;
        let shown = engine.candidates(found).iter().take(CANDIDATES).find_map(|(found, _)| {
            let choice = engine.choose(case.question, case.receiver, found)?;
            Some(Shown { witness: Witness::Escapes(show(&choice)?), packets: vec![choice] })
        });
        if shown.is_some() || case.question != Question::Groups {
            return Ok(shown);
        }
    }
    let found = engine.innocent(Question::Strangers, case.profile, case.receiver)?;
    let twins = engine.candidates(found);
    Ok(twins.iter().take(CANDIDATES).find_map(|(found, _)| {
        let choice = engine.choose(Question::Networks, case.receiver, found)?;
        let everybody = case.question == Question::Groups;
        let other = if everybody { replay::for_everybody(&choice) } else { replay::for_nobody(&choice) };
        let stopped = replay::replay(&stays, &other).map(Arc::new)?;
        let twin = show(&choice)?;
        Some(Shown { witness: Witness::Twins { stopped, twin }, packets: vec![other, choice] })
    }))
}

fn conclude(
    ask: &Ask<'_>,
    (scene, is_change): (Scene<'_>, bool),
    rows: &[&'static Row],
    slot: Slot,
    known: &Known,
) -> Option<IsolationFinding> {
    let (row, number, _) = slot;
    let (row, port) = (*rows.get(row)?, *ask.ports.get(number)?);
    let name = |ofport: &PortNo| sender(scene, *ofport).map(Sender::name).unwrap_or_default();
    let (sender, judgement) = match known {
        Known { refuted: Some((sender, _, replay)), .. } => {
            (name(sender), Judgement::Refuted(replay.clone()))
        }
        Known { doubt: Some((depends, text)), .. } => (String::new(), doubtful(*depends, text)),
        _ if port.network.is_none() && row.question == Question::Networks => {
            (String::new(), Judgement::Unknown("the tables do not say which network it is of".to_owned()))
        }
        Known { witness: Some((sender, shown)), .. } => {
            (name(sender), Judgement::Proved(shown.witness.clone()))
        }
        _ if is_change => (String::new(), Judgement::NoWorse(since::AS_BEFORE.to_owned())),
        Known { .. } => (String::new(), vacuous(row, port.ofport)),
    };
    finding(ask, rows, slot, judgement, sender)
}

fn sender<'a>(scene: Scene<'a>, ofport: PortNo) -> Option<&'a Sender> {
    scene.world.senders.iter().find(|sender| sender.ofport == ofport)
}

fn finding(
    ask: &Ask<'_>,
    rows: &[&'static Row],
    (row, port, profile): Slot,
    judgement: Judgement,
    sender: String,
) -> Option<IsolationFinding> {
    let (property, profile) = (&rows.get(row)?.property, *ask.profiles.get(profile)?);
    let diagram = Some(judgement.name());
    let finding = Finding { property, port, profile, judgement, diagram, z3: None };
    Some(IsolationFinding { finding, sender })
}

/// What was found about the `first` port of a class, shown with the packets of another one. Should they not show it there,
/// the other one is asked about like any port.
fn repeat(
    ask: &Ask<'_>,
    scene: Scene<'_>,
    rows: &[&'static Row],
    symmetry: &Symmetry,
    (slot, first): (Slot, usize),
    known: &Known,
) -> Option<IsolationFinding> {
    let (row, number, profile) = slot;
    let (first, receiver) = (*ask.ports.get(first)?, *ask.ports.get(number)?);
    let (row, profile) = (*rows.get(row)?, *ask.profiles.get(profile)?);
    if !ask.watch.wants_each() {
        return conclude(ask, (scene, false), rows, slot, known);
    }
    let from = match known {
        Known { refuted: Some((from, ..)), .. } | Known { doubt: None, witness: Some((from, _)), .. } => {
            *from
        }
        Known { .. } => return conclude(ask, (scene, false), rows, slot, known),
    };
    let of = Exchange::of(first, receiver)?;
    let sender = sender(scene, of.port(from))?;
    let (property, question, aim) = (&row.property, row.question, Aim::Violates);
    let case = Case { scene, sender, receiver, property, question, profile, aim };
    let exchanged = |choice: &Choice| renamed(choice, first, receiver);
    let judgement = match known {
        Known { refuted: Some((_, choice, _)), .. } => {
            replay::replay(&case, &exchanged(choice)).map(Arc::new).map(Judgement::Refuted)
        }
        Known { witness: Some((_, shown)), .. } => {
            let packets: Vec<Choice> = shown.packets.iter().map(exchanged).collect();
            shown_again(&case, &shown.witness, &packets).map(Judgement::Proved)
        }
        Known { .. } => None,
    };
    match judgement {
        Some(judgement) => finding(ask, rows, slot, judgement, sender.name()),
        None => {
            let (ports, properties, profiles) = (vec![receiver], vec![&row.property], vec![profile]);
            let alone = check_with(&Ask { ports, properties, profiles, ..ask.clone() }, symmetry, None);
            let IsolationFinding { finding: of, sender } = alone.into_iter().next()?;
            finding(ask, rows, slot, of.judgement, sender)
        }
    }
}

fn vacuous(row: &Row, ofport: PortNo) -> Judgement {
    Judgement::Vacuous(format!("nothing that `{}` speaks of reaches port {ofport}", row.property.name))
}

/// Counterexamples that nothing brought about. One that depends on nothing is a defect of flowproof.
fn doubtful(depends: Depends, text: &str) -> Judgement {
    match depends {
        Depends::Nothing => Judgement::Contradiction(format!("a counterexample does not replay: {text}")),
        Depends::State => Judgement::Unknown(format!("state not shown reachable: {text}")),
        Depends::Choice => Judgement::Unknown(format!("{NOT_FORCED}: {text}")),
        Depends::Precision => {
            Judgement::Unknown(format!("not shown, something on the way is not modelled exactly: {text}"))
        }
    }
}
