//! The theorems of section D as formulas of Z3: true of the packets, and answers of connection tracking, that violate one.
//!
//! The same questions as [`super::judge`] and [`super::entries`] put to decision diagrams, put anew: a formula per theorem,
//! built backwards from how packets may leave. Shared are the key's algebra, what the intent says ([`super::encode`],
//! [`super::question`]), and what connection tracking can answer ([`super::follow`]); no packet set is.
//!
//! Invariant: the ways of one question begin at one entrance and are in one network; but for [`Theorem::Sound`] no two of
//! them are for one receiver.

use super::{
    encode::{Standing, Words},
    entries::{Marking, ORIGINAL, marking, states},
    follow::{self, Following},
    judge::STANDINGS,
    question::{self, Theorem, Way},
    site::{Site, Target},
};
use crate::{
    diagram::Host,
    ports, probe,
    symbolic::Emit,
    symkey::{Form, SymKey},
    tables::Tables,
    z3_engine::{Counts, Encoder, Left, Tells},
    z3_leads::{Leads, all, any},
    z3_sets::Formulas,
    z3_term::Term,
};
use flowproof_model::{
    policy::{Direction, Port},
    switches::Revocation,
};
use flowproof_packet::{Field, PortNo};
use flowproof_switch::{
    conntrack::{Profile, state},
    flow::{Action, Match, Subfield},
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};
use z3::ast::Bool;

/// One question: frames of one form, on these ways, on one datapath.
pub(super) struct Asked<'q> {
    pub(super) host: &'q Host,
    /// Its tables with probes.
    pub(super) probed: &'q Tables,
    pub(super) site: &'q Site,
    pub(super) subject: &'q ports::Port,
    pub(super) ways: &'q [&'q Way<'q>],
    pub(super) profile: Profile,
    pub(super) form: Form,
    /// Whether all of it was said.
    pub(super) complete: Cell<bool>,
    /// How many lookups that took.
    pub(super) lookups: Cell<usize>,
    /// How many answers of connection tracking it speaks of.
    pub(super) levels: Cell<u16>,
}

/// What is wrong with packets of one way that have so many answers.
#[derive(Clone)]
struct Wrong {
    class: Bool,
    /// The sender may not send them.
    sent: Bool,
    /// The receiver may not receive them.
    received: Bool,
}

/// A `ct(commit)` that packets come to.
struct Committed {
    zone: u16,
    marks: bool,
}

fn never() -> Bool {
    Bool::from_bool(false)
}

impl Asked<'_> {
    fn words(&self) -> Words<'_> {
        Words { policy: &self.site.policy, switches: &self.site.switches }
    }

    fn is_at_once(&self) -> bool {
        matches!(self.site.switches.revocation, Revocation::AtOnce)
    }

    /// The packets that violate `theorem`: those of which all formulas are true.
    pub(super) fn violated(&self, theorem: Theorem) -> Vec<Bool> {
        let violated = match theorem {
            Theorem::Sound => self.unsound(),
            Theorem::Complete => self.incomplete(),
            Theorem::Commit => self.committed_wrongly(),
            Theorem::Delivery => self.delivered_untracked(),
            Theorem::Mark => self.marked_wrongly(),
        };
        let mut formulas = vec![self.start()];
        formulas.extend(violated);
        formulas
    }

    /// An encoder for formulas that speak of the packet as it comes in.
    pub(super) fn encoder(&self) -> Encoder<'_> {
        self.counting(&self.host.tables, Counts::Escape)
    }

    fn counting<'b>(&'b self, tables: &'b Tables, counts: Counts<'b>) -> Encoder<'b> {
        let access = self.ways.first().is_some_and(|way| way.entrance.access.is_some());
        Encoder::new(tables, self.profile, self.form, access, counts).on(self.host)
    }

    /// The packets that come to where `tells` says what counts.
    fn reach(&self, tables: &Tables, tells: &Tells<'_>, pairs: bool) -> Leads {
        let Some(way) = self.ways.first() else { return Leads::nobody(pairs) };
        let mut encoder = self.counting(tables, Counts::Told(tells, pairs));
        let leads = encoder.leads(way.entrance.ofport, way.entrance.arrival());
        self.complete.set(self.complete.get() && encoder.complete());
        self.lookups.set(self.lookups.get() + encoder.lookups());
        self.levels.set(self.levels.get().max(encoder.deepest()));
        leads
    }

    /// What comes in.
    fn start(&self) -> Bool {
        let mut encoder = self.encoder();
        let premise = |way: &Way<'_>| way.entrance.arrival().premise();
        let entering = self.ways.first().map(|way| question::entering(way, self.subject).and(premise(way)));
        let entering = entering.map_or_else(never, |entering| encoder.predicate(&entering));
        all(&[encoder.sendable(), entering])
    }

    /// What connection tracking may answer, at every depth of which the formulas so far speak.
    fn answers(&self) -> Bool {
        let mut encoder = self.encoder();
        let depths = 0..self.levels.get().max(1);
        let legal = depths.flat_map(|depth| {
            let plausible = self.plausible(&mut encoder, depth);
            [encoder.legal(self.form, depth), plausible]
        });
        all(&legal.collect::<Vec<_>>())
    }

    /// What is said in words of sets.
    fn said(&self, made: Option<Bool>) -> Bool {
        made.unwrap_or_else(|| {
            self.complete.set(false);
            never()
        })
    }

    fn plausible(&self, encoder: &mut Encoder<'_>, depth: u16) -> Bool {
        self.said(Formulas::make(encoder, |sets| follow::plausible(sets, self.profile, depth)))
    }

    fn class(&self, encoder: &mut Encoder<'_>, way: &Way<'_>, alone: bool) -> Bool {
        encoder.predicate(&question::addressed(self.site, way, alone))
    }

    /// For each way its frames, and what `of` says of them.
    fn each_way(
        &self,
        encoder: &mut Encoder<'_>,
        mut of: impl FnMut(&mut Encoder<'_>, &Way<'_>) -> Bool,
    ) -> Bool {
        let mut parts = Vec::new();
        for way in self.ways {
            let said = of(encoder, way);
            if said != never() {
                let class = self.class(encoder, way, true);
                parts.push(all(&[class, said]));
            }
        }
        any(&parts)
    }

    fn unsound(&self) -> Vec<Bool> {
        let known: RefCell<BTreeMap<u16, (Bool, Vec<Wrong>)>> = RefCell::default();
        let tells = |encoder: &mut Encoder<'_>, left: &Left<'_>| {
            if !is_modelled(left.emit) {
                return never();
            }
            let kept = known.borrow().get(&left.recirculations).cloned();
            let (plausible, wrong) = kept.unwrap_or_else(|| {
                let made = self.wrong(encoder, left.recirculations);
                known.borrow_mut().insert(left.recirculations, made.clone());
                made
            });
            let mut parts = Vec::new();
            for (Wrong { class, sent, received }, way) in wrong.iter().zip(self.ways) {
                let arrives = self.arrives(encoder, left, way);
                let wrong = match arrives == never() {
                    true => sent.clone(),
                    false => any(&[sent.clone(), all(&[arrives, received.clone()])]),
                };
                parts.push(all(&[class.clone(), wrong]));
            }
            all(&[plausible, any(&parts)])
        };
        vec![self.reach(&self.host.tables, &tells, false).once]
    }

    /// For each way what may not be sent and received after so many answers; and what those can be.
    fn wrong(&self, encoder: &mut Encoder<'_>, recirculations: u16) -> (Bool, Vec<Wrong>) {
        let plausible: Vec<Bool> = (0..recirculations).map(|depth| self.plausible(encoder, depth)).collect();
        let mut of_ways = Vec::new();
        for way in self.ways {
            let class = self.class(encoder, way, false);
            let (mut sent, mut received) = (Vec::new(), Vec::new());
            for (answered, sends, receives) in self.permitted(encoder, way, recirculations) {
                sent.push(all(&[answered.clone(), sends.not()]));
                received.push(all(&[answered, receives.not()]));
            }
            of_ways.push(Wrong { class, sent: any(&sent), received: any(&received) });
        }
        (all(&plausible), of_ways)
    }

    /// What may be sent and received, by what connection tracking answered last.
    fn permitted(
        &self,
        encoder: &mut Encoder<'_>,
        way: &Way<'_>,
        recirculations: u16,
    ) -> Vec<(Bool, Bool, Bool)> {
        let may = |encoder: &mut Encoder<'_>, standing| {
            let (sends, receives) = question::admissions(self.words(), way, standing);
            (encoder.predicate(&sends.may), encoder.predicate(&receives.may))
        };
        let without_rule = may(encoder, Standing::Revoked);
        let mut permitted = Vec::new();
        for standing in STANDINGS {
            let (sends, receives) = may(encoder, standing);
            match (self.is_at_once(), standing, recirculations.checked_sub(1)) {
                (true, Standing::Revoked, _) | (true, Standing::Follows, None) => {}
                (true, Standing::Follows, Some(depth)) => {
                    for following in Following::ALL {
                        let (sent, received) = self.ends(encoder, following, way, depth, true);
                        permitted.push((
                            self.follows(encoder, following, depth),
                            all(&[sends.clone(), any(&[sent, without_rule.0.clone()])]),
                            all(&[receives.clone(), any(&[received, without_rule.1.clone()])]),
                        ));
                    }
                }
                _ => permitted.push((answered(encoder, standing, recirculations), sends, receives)),
            }
        }
        permitted
    }

    fn follows(&self, encoder: &mut Encoder<'_>, following: Following, depth: u16) -> Bool {
        self.said(Formulas::make(encoder, |sets| following.answered(sets, depth)))
    }

    /// What both ends admit of what follows connections that the rules admit now.
    fn ends(
        &self,
        encoder: &mut Encoder<'_>,
        following: Following,
        way: &Way<'_>,
        depth: u16,
        all_rules: bool,
    ) -> (Bool, Bool) {
        let mut end = |port: Option<&Port>, direction| match port.filter(|port| port.is_filtered()) {
            Some(port) => self.said(Formulas::make(encoder, |sets| {
                following.admitted(sets, self.words(), (port, direction), depth, all_rules)
            })),
            None => all(&[]),
        };
        (end(way.sender, Direction::Egress), end(way.receiver.map(|(port, _)| port), Direction::Ingress))
    }

    fn incomplete(&self) -> Vec<Bool> {
        let mut encoder = self.encoder();
        let required = self.each_way(&mut encoder, |encoder, way| self.required(encoder, way));
        let intact = |encoder: &mut Encoder<'_>, left: &Left<'_>| {
            let untagged = match matches!(left.emit, Emit::Port(_) | Emit::Flood) {
                true => encoder.without_vlan(left.key),
                false => all(&[]),
            };
            self.each_way(encoder, |encoder, way| {
                let arrives = self.arrives(encoder, left, way);
                match way.target {
                    Target::Local(..) => all(&[arrives, untagged.clone()]),
                    Target::Remote => arrives,
                }
            })
        };
        let delivered = self.reach(&self.host.tables, &intact, false).once;
        vec![self.answers(), required, delivered.not()]
    }

    /// What has to be delivered of a way's frames, by what connection tracking answers first.
    fn required(&self, encoder: &mut Encoder<'_>, way: &Way<'_>) -> Bool {
        let mut parts = Vec::new();
        for standing in STANDINGS {
            let must = question::required(self.words(), way, standing, self.form, self.profile);
            let must = encoder.predicate(&must);
            match (self.is_at_once(), standing) {
                (true, Standing::Revoked) => {}
                (true, Standing::Follows) => {
                    let following = Following::ALL.map(|following| self.must_follow(encoder, following, way));
                    parts.push(all(&[any(&following), must]));
                }
                (_, Standing::Invalid) => {
                    let untracked = encoder.predicate(&question::untracked());
                    parts.push(all(&[answered(encoder, standing, 1), must, untracked]));
                }
                _ => parts.push(all(&[answered(encoder, standing, 1), must])),
            }
        }
        any(&parts)
    }

    /// What follows connections in this way that the rules of both ends admit now, and that a filtered port has opened from an
    /// address of its own.
    fn must_follow(&self, encoder: &mut Encoder<'_>, following: Following, way: &Way<'_>) -> Bool {
        let whole = self.form == Form::Whole;
        let (sent, received) = self.ends(encoder, following, way, 0, whole || self.profile.reassembles());
        let (mut sent, mut received) = (vec![sent], vec![received]);
        if whole {
            let (sends, receives) = question::admissions(self.words(), way, Standing::Revoked);
            sent.push(encoder.predicate(&sends.must));
            received.push(encoder.predicate(&receives.must));
        }
        let opener = match following.opener() {
            Direction::Egress => way.sender,
            Direction::Ingress => way.receiver.map(|(port, _)| port),
        };
        let opened = match opener.filter(|port| port.is_filtered()) {
            Some(port) => self.said(Formulas::make(encoder, |sets| following.opened_by(sets, port, 0))),
            None => all(&[]),
        };
        all(&[any(&sent), any(&received), opened, self.follows(encoder, following, 0)])
    }

    fn delivered_untracked(&self) -> Vec<Bool> {
        let mut encoder = self.encoder();
        let opens = self
            .each_way(&mut encoder, |encoder, way| encoder.predicate(&question::opens(self.words(), way)));
        let new = |encoder: &mut Encoder<'_>, left: &Left<'_>| {
            let new = match left.recirculations.checked_sub(1) {
                Some(depth) => answer(encoder, depth, (state::NEW, state::NEW | state::INV)),
                None => all(&[]),
            };
            all(&[self.delivered(encoder, left), new])
        };
        let created = |encoder: &mut Encoder<'_>, left: &Left<'_>| match self.commit(left) {
            Some(Committed { zone, marks: false }) if Some(zone) == self.vlan() => {
                created(encoder, left, zone)
            }
            _ => never(),
        };
        let new = self.reach(&self.host.tables, &new, false).once;
        let created = self.reach(self.probed, &created, false).once;
        vec![self.answers(), opens, new, created.not()]
    }

    fn committed_wrongly(&self) -> Vec<Bool> {
        let zones: RefCell<BTreeSet<u16>> = RefCell::default();
        let creates = |astray: bool| {
            let zones = &zones;
            move |encoder: &mut Encoder<'_>, left: &Left<'_>| {
                let Some(Committed { zone, marks }) = self.commit(left) else { return never() };
                zones.borrow_mut().insert(zone);
                match (marks || Some(zone) != self.vlan()) == astray {
                    true => created(encoder, left, zone),
                    false => never(),
                }
            }
        };
        let delivered = |encoder: &mut Encoder<'_>, left: &Left<'_>| self.delivered(encoder, left);
        let lost = all(&[
            self.reach(self.probed, &creates(false), false).once,
            self.reach(&self.host.tables, &delivered, false).once.not(),
        ]);
        let mut wrong = vec![lost, self.reach(self.probed, &creates(true), false).once];
        for again in zones.take() {
            let in_zone = |encoder: &mut Encoder<'_>, left: &Left<'_>| match self.commit(left) {
                Some(Committed { zone, .. }) if zone == again => created(encoder, left, zone),
                _ => never(),
            };
            wrong.extend(self.reach(self.probed, &in_zone, true).twice);
        }
        let class = self.each_way(&mut self.encoder(), |_, _| all(&[]));
        vec![self.answers(), class, any(&wrong)]
    }

    fn marked_wrongly(&self) -> Vec<Bool> {
        let mut encoder = self.encoder();
        let refused = match self.is_at_once() {
            true => never(),
            false => self.each_way(&mut encoder, |encoder, way| {
                encoder.predicate(&question::revokes(self.words(), way, self.form))
            }),
        };
        let ruled = match self.form {
            Form::Whole => all(&[]),
            Form::First | Form::Later => self.each_way(&mut encoder, |encoder, way| {
                encoder.predicate(&question::ruled(self.words(), way))
            }),
        };
        let marks = |encoder: &mut Encoder<'_>, left: &Left<'_>| match self.commit(left) {
            Some(Committed { zone, marks: true }) if Some(zone) == self.vlan() => {
                changed(encoder, left, zone)
            }
            _ => never(),
        };
        let wrongly = |encoder: &mut Encoder<'_>, left: &Left<'_>| {
            let Some(depth) = left.recirculations.checked_sub(1) else { return never() };
            let here = all(&[marks(encoder, left), unmarked(encoder, depth)]);
            let original = answer(encoder, depth, ORIGINAL);
            all(&[here, any(&[original.not(), all(&[refused.not(), ruled.clone()])])])
        };
        let mut wrong = vec![self.reach(self.probed, &wrongly, false).once];
        if self.form == Form::Whole || self.profile.reassembles() {
            let marked = self.reach(self.probed, &marks, false).once;
            let original = all(&[answer(&mut encoder, 0, ORIGINAL), unmarked(&mut encoder, 0)]);
            wrong.push(all(&[refused.clone(), original, marked.not()]));
        }
        let class = self.each_way(&mut encoder, |_, _| all(&[]));
        vec![self.answers(), class, any(&wrong)]
    }

    /// The local VLAN of the ways.
    fn vlan(&self) -> Option<u16> {
        self.ways.first().and_then(|way| question::vlan(way))
    }

    /// The `ct(commit)` behind a probe, if it is known what it does.
    fn commit(&self, left: &Left<'_>) -> Option<Committed> {
        let Emit::Opaque(text) = left.emit else { return None };
        if !probe::is_probe(text) {
            return None;
        }
        let Action::Ct(ct) = probe::behind(self.host.tables.flows(), text)? else { return None };
        let zone = probe::zone(ct, left.key)?;
        let marks = match marking(ct) {
            Marking::Plain => false,
            Marking::Marks => true,
            Marking::Unknown => return None,
        };
        Some(Committed { zone, marks })
    }

    /// The packets that arrive where their way ends.
    fn delivered(&self, encoder: &mut Encoder<'_>, left: &Left<'_>) -> Bool {
        self.each_way(encoder, |encoder, way| self.arrives(encoder, left, way))
    }

    /// The access VLAN of the port that a packet is taken to come from, `None` for a trunk; nothing where that is not known.
    fn comes_from(&self, key: &SymKey, way: &Way<'_>) -> Option<Option<u16>> {
        let ofport = PortNo::try_from(key.constant(Subfield::whole(Field::InPort))?).ok()?;
        if ofport == way.entrance.ofport { Some(way.entrance.access) } else { self.host.vlan_of(ofport) }
    }

    /// The packets that, leaving like this, may come to where a way ends. `NORMAL` brings a frame to every port of its
    /// VLAN.
    fn arrives(&self, encoder: &mut Encoder<'_>, left: &Left<'_>, way: &Way<'_>) -> Bool {
        let certain = |arrives: bool| Bool::from_bool(arrives);
        match (left.emit, way.target) {
            (Emit::Port(port), Target::Local(ofport, _)) => certain(*port == ofport),
            (Emit::Port(port), Target::Remote) => certain(self.site.at(*port).is_none()),
            (Emit::Normal | Emit::Flood, Target::Remote) => certain(true),
            (Emit::Flood, Target::Local(ofport, _)) => elsewhere(encoder, left.key, ofport),
            (Emit::Normal, Target::Local(ofport, vlan)) => {
                let switched = match self.comes_from(left.key, way) {
                    Some(Some(access)) => certain(access == vlan),
                    Some(None) => {
                        let mut tagged = Match::default();
                        tagged.set(Field::VlanTci, 0x1000 | u128::from(vlan), 0x1fff);
                        encoder.matches(left.key, &tagged)
                    }
                    None => certain(true),
                };
                all(&[switched, elsewhere(encoder, left.key, ofport)])
            }
            (Emit::InPort | Emit::Limit | Emit::UnknownPort | Emit::Controller | Emit::Opaque(_), _) => {
                certain(false)
            }
        }
    }
}

/// That the input port, as it is then, is not this one.
fn elsewhere(encoder: &mut Encoder<'_>, key: &SymKey, ofport: PortNo) -> Bool {
    let mut own = Match::default();
    own.set(Field::InPort, ofport.into(), u128::MAX);
    encoder.matches(key, &own).not()
}

/// Whether it is known where packets go that leave like this.
const fn is_modelled(emit: &Emit) -> bool {
    matches!(emit, Emit::Port(_) | Emit::InPort | Emit::Normal | Emit::Flood)
}

/// That the `ct()` at a depth answered with these bits so.
fn answer(encoder: &mut Encoder<'_>, depth: u16, (value, mask): (u32, u32)) -> Bool {
    let answer = encoder.term(Term::Tracked(depth, Field::CtState));
    let bits = (0..answer.get_size()).filter(|bit| mask >> bit & 1 == 1);
    let bit = |bit: u32| answer.extract(bit, bit).eq(z3::ast::BV::from_u64(u64::from(value >> bit & 1), 1));
    all(&bits.map(bit).collect::<Vec<_>>())
}

fn unmarked(encoder: &mut Encoder<'_>, depth: u16) -> Bool {
    encoder.term(Term::Tracked(depth, Field::CtMark)).eq(z3::ast::BV::from_u64(0, 32))
}

/// What the last of so many answers must be for a packet to stand so; without any, rules decide.
fn answered(encoder: &mut Encoder<'_>, standing: Standing, recirculations: u16) -> Bool {
    let Some(depth) = recirculations.checked_sub(1) else {
        return Bool::from_bool(standing == Standing::ByRule);
    };
    let invalid = answer(encoder, depth, (state::INV, state::INV));
    let reply = answer(encoder, depth, (state::EST | state::RPL, state::EST | state::RPL));
    let related = answer(encoder, depth, (state::REL, state::REL));
    let follows = all(&[any(&[reply, related]), invalid.not()]);
    let marked = unmarked(encoder, depth).not();
    match standing {
        Standing::Invalid => invalid,
        Standing::Follows => all(&[follows, marked.not()]),
        Standing::Revoked => all(&[follows, marked]),
        Standing::ByRule => all(&[follows.not(), invalid.not()]),
    }
}

/// Whether what comes to a `ct(commit)` was looked up in the zone that it is committed in.
fn is_looked_up(left: &Left<'_>, zone: u16) -> bool {
    let tracked = left.key.wanted(&states(state::TRK, state::TRK)).is_some();
    tracked && left.key.constant(Subfield::whole(Field::CtZone)) == Some(u128::from(zone))
}

/// The packets for which a `ct(commit)` creates an entry.
fn created(encoder: &mut Encoder<'_>, left: &Left<'_>, zone: u16) -> Bool {
    match is_looked_up(left, zone) {
        true => encoder.matches(left.key, &states(state::NEW, state::NEW | state::INV)),
        false => encoder.matches(left.key, &states(state::INV, state::INV)).not(),
    }
}

/// The packets whose entry, which was there before, a `ct(commit)` changes.
fn changed(encoder: &mut Encoder<'_>, left: &Left<'_>, zone: u16) -> Bool {
    if !is_looked_up(left, zone) {
        return never();
    }
    let known = [state::EST, state::REL]
        .map(|bit| encoder.matches(left.key, &states(state::TRK | bit, state::TRK | bit | state::INV)));
    any(&known)
}
