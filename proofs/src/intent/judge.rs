//! The diagram engine on the questions of section D.
//!
//! One symbolic execution for each entrance, profile and form of frame serves both theorems and all receivers. What
//! connection tracking answered last on a path is a packet's standing there; a path without `ct()` is judged by the
//! rules, as a new connection is.

mod arrives;

use super::{
    encode::{Admission, Standing, Words},
    entries::{Commit, is_commit},
    follow::{self, Following},
    question::{self, Theorem, Way},
    site::{Entrance, Site, Target},
};
use crate::{
    arrival::Arrival,
    bdd::{Bdd, Bdds},
    diagram::{self, Exhausted, Found, Host},
    familiar::{Choice, Wishes},
    frames::{self, select},
    ports,
    predicate::Predicate,
    probe,
    set::{Literal, PacketSets},
    symbolic::{self, Emit, Event, Memory, Start, Yield},
    symkey::{Form, SymKey},
    tables::Tables,
    vars,
};
use flowproof_model::{
    policy::{Direction, Port},
    switches::Revocation,
};
use flowproof_packet::{Field, PortNo};
use flowproof_switch::{
    conntrack::{Profile, state},
    flow::{Flow, Match, Subfield},
};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

const NODE_LIMIT: usize = 16_000_000;
/// Ways out of the tables to try before a refutation counts as not shown reachable.
const ATTEMPTS: usize = 48;
pub(crate) const STANDINGS: [Standing; 4] =
    [Standing::ByRule, Standing::Follows, Standing::Revoked, Standing::Invalid];

/// What a theorem comes to on one way, under one profile.
#[derive(Debug)]
pub struct Answer {
    /// Frames that violate it, by the way they leave; for completeness by their form.
    pub violations: Vec<Found>,
    /// Frames that it speaks of and that are delivered as they should be.
    pub witnesses: Vec<Found>,
    /// What is not modelled and could deliver or withhold such frames.
    pub opaque: Option<String>,
}

/// What may be sent and received after an answer of connection tracking.
struct Permitted {
    answered: Bdd,
    sends: Bdd,
    receives: Bdd,
}

/// The tables with a probe before each `ct(commit)`.
#[must_use]
pub fn probed(tables: &Tables) -> Tables {
    probe::probed(tables, is_commit)
}

/// What comes in at the beginning of a way, of those frames that are asked about.
#[derive(Clone, Copy)]
pub struct Entering<'a, 'w> {
    /// The host, and its tables with probes (see [`probed`]).
    pub host: &'a Host,
    /// Likewise.
    pub probed: &'w Tables,
    /// The intent.
    pub site: &'a Site,
    /// The port that is asked about.
    pub subject: &'w ports::Port,
    /// Which frames.
    pub asked: &'w Predicate,
    /// A way from the entrance.
    pub way: &'w Way<'w>,
    /// The datapaths.
    pub profiles: &'w [Profile],
    /// Whether each flow is followed for itself; otherwise those that do the same are followed as one.
    pub each_flow: bool,
}

impl<'w> Entering<'_, 'w> {
    fn packets(&self) -> Predicate {
        question::entering(self.way, self.subject).and(self.asked.clone())
    }

    fn start(&self, form: Form, profile: Profile, packets: Bdd) -> Start<'w, Bdd> {
        let key = SymKey::entering(self.way.entrance.ofport, form, self.way.entrance.arrival());
        let (tables, each_flow) = (self.probed, self.each_flow);
        Start { tables, profile, form, key, packets, enough: usize::MAX, each_flow }
    }
}

/// All frames of one entrance through the tables.
pub struct Judge<'a> {
    pub(super) host: &'a Host,
    pub(super) site: &'a Site,
    pub(super) sets: Bdds,
    runs: Vec<Run>,
    entrance: Entrance,
    /// Predicates as sets: most are asked about by several theorems, for each form and datapath.
    known: FxHashMap<Predicate, Bdd>,
    /// What connection tracking may answer, and what it can have answered.
    legal: FxHashMap<(Profile, Form, u16), Bdd>,
    plausible: FxHashMap<(Profile, u16), Bdd>,
    /// What is wished of frames, by their receiver.
    wishes: BTreeMap<Option<PortNo>, Wishes<Bdd>>,
}

/// What one execution came to.
pub(super) struct Run {
    pub(super) profile: Profile,
    pub(super) form: Form,
    /// What came in.
    start: Bdd,
    /// Every way out.
    pub(super) events: Vec<Event<Bdd>>,
    /// Every `ct(commit)`.
    pub(super) commits: Vec<Commit>,
}

impl Run {
    fn new(flows: &[Flow], (profile, form): (Profile, Form), run: Yield<Bdd>, start: Bdd) -> Self {
        let (mut events, mut commits) = (Vec::new(), Vec::new());
        for event in run.events {
            let is_probe = matches!(&event.emit, Emit::Opaque(text) if probe::is_probe(text));
            if is_probe {
                commits.extend(Commit::of(flows, event));
            } else {
                events.push(event);
            }
        }
        Self { profile, form, start, events, commits }
    }

    /// How many answers of connection tracking a packet may have had on its way; at least one is asked for.
    fn depths(&self) -> u16 {
        let commits = self.commits.iter().map(|commit| &commit.event);
        self.events.iter().chain(commits).map(|event| event.recirculations).max().unwrap_or(0).max(1)
    }
}

impl<'a> Judge<'a> {
    /// Runs everything that enters through the tables.
    ///
    /// # Errors
    /// When the limits on memory or work are reached.
    pub fn new(entering: &Entering<'a, '_>) -> Result<Self, Exhausted> {
        Self::within(Bdds::with_limit(NODE_LIMIT), entering)
    }

    /// The same with a manager of sets that is there already.
    pub(super) fn within(mut sets: Bdds, entering: &Entering<'a, '_>) -> Result<Self, Exhausted> {
        let Entering { host, site, way, .. } = *entering;
        let (mut runs, mut memory) = (Vec::new(), Memory::default());
        for form in Form::ALL {
            let wanted = entering.packets().to_set(&mut sets);
            let sendable = frames::arriving(&mut sets, form, way.entrance.arrival());
            let start = sets.and(sendable, wanted);
            for profile in entering.profiles {
                let asked = entering.start(form, *profile, start);
                let run = symbolic::execute_with(&mut sets, &mut memory, asked, None);
                if !run.complete {
                    return Err(Exhausted("too many lookups in one execution"));
                }
                runs.push(Run::new(host.tables.flows(), (*profile, form), run, start));
            }
        }
        let (known, legal, plausible) = Default::default();
        let (entrance, wishes) = (way.entrance.clone(), BTreeMap::new());
        let engine = Self { host, site, sets, runs, entrance, known, legal, plausible, wishes };
        engine.bounded()?;
        Ok(engine)
    }

    /// The frames of which `predicate` is true.
    pub(super) fn set(&mut self, predicate: &Predicate) -> Bdd {
        if let Some(known) = self.known.get(predicate) {
            return *known;
        }
        let set = predicate.to_set(&mut self.sets);
        self.known.insert(predicate.clone(), set);
        set
    }

    fn bounded(&self) -> Result<(), Exhausted> {
        if self.sets.overflown() {
            Err(Exhausted("decision diagrams outgrew their memory limit"))
        } else {
            Ok(())
        }
    }

    /// How many answers of connection tracking packets have at most, under this profile.
    pub(super) fn depth(&self, profile: Profile) -> u16 {
        let runs = self.runs.iter().filter(|run| run.profile == profile);
        runs.map(Run::depths).max().unwrap_or(1)
    }

    pub(super) fn words(&self) -> Words<'a> {
        Words { policy: &self.site.policy, switches: &self.site.switches }
    }

    /// What `theorem` comes to for the frames of `way` under `profile`.
    ///
    /// # Errors
    /// When the memory limit is reached.
    pub fn answer(&mut self, theorem: Theorem, way: &Way<'_>, profile: Profile) -> Result<Answer, Exhausted> {
        let mut answer = Answer { violations: Vec::new(), witnesses: Vec::new(), opaque: None };
        let runs = std::mem::take(&mut self.runs);
        for run in runs.iter().filter(|run| run.profile == profile) {
            match theorem {
                Theorem::Sound => self.sound(&mut answer, way, run),
                Theorem::Complete => self.complete(&mut answer, way, run),
                Theorem::Commit => self.commits_are_delivered(&mut answer, way, run),
                Theorem::Delivery => self.deliveries_are_committed(&mut answer, way, run),
                Theorem::Mark => self.marks_revoke(&mut answer, way, run),
            }
        }
        self.runs = runs;
        self.bounded().map(|()| answer)
    }

    fn sound(&mut self, answer: &mut Answer, way: &Way<'_>, run: &Run) {
        let (form, profile) = (run.form, run.profile);
        let class = self.set(&question::addressed(self.site, way, false));
        let mut permitted: BTreeMap<u16, Vec<Permitted>> = BTreeMap::new();
        for event in &run.events {
            let left = self.leaving(event);
            let left = self.sets.and(left, class);
            if self.sets.is_empty(left) || event.emit == Emit::Controller {
                continue;
            }
            if let Some(text) = self.opaque(event) {
                answer.opaque.get_or_insert(text);
                continue;
            }
            let arrived = self.arrives(event, left, way.target);
            let mut wrong = self.sets.none();
            let recirculations = event.recirculations;
            let known =
                permitted.entry(recirculations).or_insert_with(|| self.permitted(way, recirculations));
            for Permitted { answered, sends, receives } in known {
                let sent_wrongly = self.sets.minus(left, *sends);
                let received_wrongly = self.sets.minus(arrived, *receives);
                let wrongly = self.sets.or(sent_wrongly, received_wrongly);
                let wrongly = self.sets.and(wrongly, *answered);
                wrong = self.sets.or(wrong, wrongly);
            }
            wrong = self.plausibly(wrong, profile, recirculations);
            let right = self.sets.minus(arrived, wrong);
            self.keep(&mut answer.violations, form, event, wrong);
            self.keep(&mut answer.witnesses, form, event, right);
        }
    }

    fn complete(&mut self, answer: &mut Answer, way: &Way<'_>, run: &Run) {
        let required = self.required(way, run.form, run.profile);
        let mut missing = self.spoken_of(way, run);
        missing = self.sets.and(missing, required);
        for (event, arrived) in self.deliveries(answer, way, run, missing) {
            let intact = self.untagged(event, arrived, way.target);
            missing = self.sets.minus(missing, intact);
            self.keep(&mut answer.witnesses, run.form, event, intact);
        }
        // What is not modelled may deliver them.
        for event in run.events.iter().filter(|event| !event.emit.is_modelled()) {
            missing = self.sets.minus(missing, event.packets);
        }
        let lost = self.lost(run.form);
        self.keep(&mut answer.violations, run.form, &lost, missing);
    }

    /// The frames of a way, with all that connection tracking may answer for them. Of MACs that several ports share
    /// nobody knows whom they are for.
    pub(super) fn spoken_of(&mut self, way: &Way<'_>, run: &Run) -> Bdd {
        let class = self.set(&question::addressed(self.site, way, true));
        let mut all = self.sets.and(class, run.start);
        for depth in 0..run.depths() {
            let legal = self.legal.entry((run.profile, run.form, depth));
            let new = || symbolic::legal_answers(&mut self.sets, run.profile, run.form, depth);
            let legal = *legal.or_insert_with(new);
            all = self.sets.and(all, legal);
        }
        self.plausibly(all, run.profile, run.depths())
    }

    /// Those of `packets` that arrive where the way ends, by the way they leave the tables.
    pub(super) fn deliveries<'r>(
        &mut self,
        answer: &mut Answer,
        way: &Way<'_>,
        run: &'r Run,
        packets: Bdd,
    ) -> Vec<(&'r Event<Bdd>, Bdd)> {
        let mut all = Vec::new();
        for event in &run.events {
            let left = self.leaving(event);
            let left = self.sets.and(left, packets);
            if self.sets.is_empty(left) {
                continue;
            }
            match self.opaque(event) {
                Some(text) => drop(answer.opaque.get_or_insert(text)),
                None => all.push((event, self.arrives(event, left, way.target))),
            }
        }
        all
    }

    /// What happens to packets to which nothing happens that should.
    pub(super) fn lost(&self, form: Form) -> Event<Bdd> {
        let key = crate::symkey::SymKey::entering(self.entrance.ofport, form, self.entrance.arrival());
        Event { packets: self.sets.none(), emit: Emit::Limit, key, path: None, recirculations: 1 }
    }

    /// Those of `packets` that a port of this host gets without a VLAN: it is an access port.
    fn untagged(&mut self, event: &Event<Bdd>, packets: Bdd, target: Target) -> Bdd {
        match (target, &event.emit) {
            (Target::Local(..), Emit::Port(_) | Emit::Flood) => {
                let event = Event { packets, ..event.clone() };
                frames::without_vlan(&mut self.sets, &event)
            }
            _ => packets,
        }
    }

    /// What has to be delivered, by what connection tracking answers first. It may call anything invalid but discovery,
    /// which it does not look into.
    fn required(&mut self, way: &Way<'_>, form: Form, profile: Profile) -> Bdd {
        let words = self.words();
        let untracked = self.set(&question::untracked());
        let mut all = self.sets.none();
        for standing in STANDINGS {
            let must = self.set(&question::required(words, way, standing, form, profile));
            if self.is_at_once() && matches!(standing, Standing::Follows | Standing::Revoked) {
                if standing == Standing::Follows {
                    let following = self.required_to_follow(way, form, profile, must);
                    all = self.sets.or(all, following);
                }
                continue;
            }
            let answered = self.standing(standing, 1);
            let mut must = self.sets.and(must, answered);
            if standing == Standing::Invalid {
                must = self.sets.and(must, untracked);
            }
            all = self.sets.or(all, must);
        }
        all
    }

    /// Whether connections last only while the rules admit them.
    pub(super) const fn is_at_once(&self) -> bool {
        matches!(self.site.switches.revocation, Revocation::AtOnce)
    }

    /// What may be sent and received, by what connection tracking answered last.
    fn permitted(&mut self, way: &Way<'_>, recirculations: u16) -> Vec<Permitted> {
        let words = self.words();
        let mut may = |standing| {
            let (sends, receives) = question::admissions(words, way, standing);
            (self.set(&sends.may), self.set(&receives.may))
        };
        let said = STANDINGS.map(|standing| (standing, may(standing)));
        let without_rule = may(Standing::Revoked);
        let mut all = Vec::new();
        for (standing, (sends, receives)) in said {
            match (self.is_at_once(), standing, recirculations.checked_sub(1)) {
                (true, Standing::Revoked, _) | (true, Standing::Follows, None) => {}
                (true, Standing::Follows, Some(depth)) => {
                    for following in Following::ALL {
                        let (sent, received) = self.ends(following, way, depth, true);
                        let sent = self.sets.or(sent, without_rule.0);
                        let received = self.sets.or(received, without_rule.1);
                        all.push(Permitted {
                            answered: following.answered(&mut self.sets, depth),
                            sends: self.sets.and(sends, sent),
                            receives: self.sets.and(receives, received),
                        });
                    }
                }
                _ => {
                    all.push(Permitted { answered: self.standing(standing, recirculations), sends, receives })
                }
            }
        }
        all
    }

    /// What both ends admit of what follows connections that the rules admit now.
    fn ends(&mut self, following: Following, way: &Way<'_>, depth: u16, all_rules: bool) -> (Bdd, Bdd) {
        let words = self.words();
        let mut end = |port: Option<&Port>, direction| match port.filter(|port| port.is_filtered()) {
            Some(port) => following.admitted(&mut self.sets, words, (port, direction), depth, all_rules),
            None => self.sets.all(),
        };
        (end(way.sender, Direction::Egress), end(way.receiver.map(|(port, _)| port), Direction::Ingress))
    }

    /// Of what has to be delivered of any connection, what has to be of those that the rules admit now. A filtered port has
    /// opened none from an address that is not its own.
    fn required_to_follow(&mut self, way: &Way<'_>, form: Form, profile: Profile, must: Bdd) -> Bdd {
        let (sends, receives) = question::admissions(self.words(), way, Standing::Revoked);
        let whole = form == Form::Whole;
        let mut without_rule = |admission: Admission| {
            if whole { self.set(&admission.must) } else { self.sets.none() }
        };
        let without_rule = (without_rule(sends), without_rule(receives));
        let mut all = self.sets.none();
        for following in Following::ALL {
            let (sent, received) = self.ends(following, way, 0, whole || profile.reassembles());
            let sent = self.sets.or(sent, without_rule.0);
            let received = self.sets.or(received, without_rule.1);
            let answered = following.answered(&mut self.sets, 0);
            let opened = self.opened(following, way, 0);
            let both = self.sets.and(sent, received);
            let both = self.sets.and(both, opened);
            let both = self.sets.and(both, answered);
            let both = self.sets.and(both, must);
            all = self.sets.or(all, both);
        }
        all
    }

    /// What follows a connection that the end can have opened which, by the way, did.
    fn opened(&mut self, following: Following, way: &Way<'_>, depth: u16) -> Bdd {
        let opener = match following.opener() {
            Direction::Egress => way.sender,
            Direction::Ingress => way.receiver.map(|(port, _)| port),
        };
        match opener.filter(|port| port.is_filtered()) {
            Some(port) => following.opened_by(&mut self.sets, port, depth),
            None => self.sets.all(),
        }
    }

    /// Those of `packets` that connection tracking can have answered so for.
    fn plausibly(&mut self, packets: Bdd, profile: Profile, recirculations: u16) -> Bdd {
        (0..recirculations).fold(packets, |packets, depth| {
            let plausible = self.plausible.entry((profile, depth));
            let plausible = *plausible.or_insert_with(|| follow::plausible(&mut self.sets, profile, depth));
            self.sets.and(packets, plausible)
        })
    }

    pub(super) fn keep(&mut self, into: &mut Vec<Found>, form: Form, event: &Event<Bdd>, packets: Bdd) {
        if !self.sets.is_empty(packets) {
            into.push(Found { form, event: Event { packets, ..event.clone() } });
        }
    }

    fn standing(&mut self, standing: Standing, recirculations: u16) -> Bdd {
        answered(&mut self.sets, standing, recirculations)
    }

    /// What an event does that is not modelled, and where. The controller is none of those whom packets are for.
    fn opaque(&self, event: &Event<Bdd>) -> Option<String> {
        let what = match &event.emit {
            Emit::UnknownPort => "an output to a port that is not a constant",
            Emit::Opaque(text) => text,
            Emit::Port(_) | Emit::InPort | Emit::Normal | Emit::Flood | Emit::Controller | Emit::Limit => {
                return None;
            }
        };
        let flow = event.path.as_ref().and_then(|step| self.host.tables.flow(step.flow));
        Some(diagram::not_modelled(what, flow))
    }

    /// Offers packets of what was found, the most familiar of all first and then of each, and whether one needs no
    /// connection, until `accept` takes one. What is `wished` of frames from this entrance depends on the receiver.
    pub fn examples<T>(
        &mut self,
        mut found: Vec<Found>,
        (receiver, wished): (Option<PortNo>, impl FnOnce() -> Vec<Predicate>),
        accept: &mut dyn FnMut(Choice, bool) -> Option<T>,
    ) -> Option<T> {
        let of = |found: &Found| (found.form, found.event.recirculations);
        found.sort_by_key(of);
        found.truncate(ATTEMPTS);
        let together = || found.chunk_by(|a, b| of(a) == of(b));
        let each = together().filter(|group| group.len() > 1).flat_map(|group| group.chunks(1));
        let wishes = self.wishes.remove(&receiver);
        let mut wishes = wishes.unwrap_or_else(|| Wishes::new(&mut self.sets, &wished()));
        let taken = together().chain(each).find_map(|group| {
            let (form, recirculations) = group.first().map(of)?;
            let packets = group.iter().map(|found| found.event.packets);
            let packets = packets.fold(self.sets.none(), |sum, more| self.sets.or(sum, more));
            let choice = wishes.choose(&mut self.sets, packets, form, recirculations)?;
            accept(choice, recirculations == 0)
        });
        self.wishes.insert(receiver, wishes);
        taken
    }
}

impl crate::since::Engine for Judge<'_> {
    fn sets(&mut self) -> &mut Bdds {
        &mut self.sets
    }

    fn tables(&self) -> &Tables {
        &self.host.tables
    }

    fn in_port(&self) -> PortNo {
        self.entrance.ofport
    }

    fn arrivals(&self) -> Vec<Arrival> {
        vec![self.entrance.arrival()]
    }

    fn answers(&mut self, profile: Profile, form: Form, depth: u16) -> Bdd {
        let legal = symbolic::legal_answers(&mut self.sets, profile, form, depth);
        let plausible = follow::plausible(&mut self.sets, profile, depth);
        self.sets.and(legal, plausible)
    }
}

/// The answers of connection tracking, `recirculations` of them, that give a packet this standing.
pub(crate) fn answered<S: PacketSets>(sets: &mut S, standing: Standing, recirculations: u16) -> S::Set {
    let Some(depth) = recirculations.checked_sub(1) else {
        return if standing == Standing::ByRule { sets.all() } else { sets.none() };
    };
    let mut cube = |flags: &[(u32, bool)]| {
        let bit = |flag: u32| vars::tracked(depth, Field::CtState).rev().nth(flag.trailing_zeros() as usize);
        let literals: Vec<Literal> = flags.iter().filter_map(|(flag, on)| Some((bit(*flag)?, *on))).collect();
        sets.cube(&literals)
    };
    let invalid = cube(&[(state::INV, true)]);
    let reply = cube(&[(state::EST, true), (state::RPL, true), (state::INV, false)]);
    let related = cube(&[(state::REL, true), (state::INV, false)]);
    let unmarked: Vec<Literal> = vars::tracked(depth, Field::CtMark).map(|var| (var, false)).collect();
    let unmarked = sets.cube(&unmarked);
    let follows = sets.or(reply, related);
    match standing {
        Standing::Invalid => invalid,
        Standing::Follows => sets.and(follows, unmarked),
        Standing::Revoked => sets.minus(follows, unmarked),
        Standing::ByRule => {
            let other = sets.or(invalid, follows);
            sets.not(other)
        }
    }
}

fn tagged(vlan: u16) -> Match {
    let mut matching = Match::default();
    matching.set(Field::VlanTci, 0x1000 | u128::from(vlan), 0x1fff);
    matching
}
