//! Z3: the same question as one formula, built backwards.
//!
//! `Encoder::reach` is true of exactly those packets that, looked up in a table with a given key, go on to leave in a
//! way that counts. It is a chain over the priorities of the table, from the lowest to the highest, in which each flow stands
//! for what its actions lead to. The diagram engine goes the other way, from the sender, and carries sets along;
//! the two share the key's algebra ([`SymKey`]) and the predicates, nothing else.
//!
//! Deliberately absent: the limit on the number of calls (formulas have no history); depth is bounded.

mod conjunction;
mod tracking;

use crate::{
    arrival::Arrival,
    diagram::Host,
    flat::bracket,
    frames::{self, EXTENSION_HEADERS, Inside},
    predicate::Predicate,
    rewrite::{Rewrite, rewrite},
    set::Literal,
    symbolic::{CameIn, Emit, UNCLEAR_TAG, emitted, is_the_end, is_unmodelled, nested::ends, own},
    symkey::{Bit, Form, SymKey},
    tables::Tables,
    z3_leads::{Leads, all, any},
    z3_term::Term,
};
use flowproof_packet::{Field, PortNo, port};
use flowproof_switch::{
    conntrack::Profile,
    flow::{Action, Match, Subfield, ast::Nest},
    table::FlowId,
};
use rustc_hash::FxHashMap;
use std::{collections::BTreeMap, rc::Rc};
use z3::ast::{BV, Bool};

const MAX_DEPTH: u32 = 64;
/// Lookups in one encoding after which it stops and says so.
const MAX_LOOKUPS: usize = 200_000;

/// Z3's answer to "is there such a packet?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There is.
    Sat,
    /// There is none.
    Unsat,
    /// Z3 does not know.
    Unknown(String),
}

/// How a packet leaves: where to, and the VLAN bits it then has.
pub type Exit = (Emit, Vec<Bit>);

/// What counts as leaving.
pub enum Counts<'a> {
    /// Any escape.
    Escape,
    /// An escape that leaves the network.
    LeavesNetwork {
        /// The sender's network.
        network: Option<u16>,
        /// The filtered ports and their networks.
        members: &'a BTreeMap<PortNo, Option<u16>>,
    },
    /// An escape through this exit.
    Exit(&'a Exit),
    /// What somebody else says, and whether it is asked who leaves twice.
    Told(&'a Tells<'a>, bool),
}

/// The packets for which leaving like this counts, as far as they really leave.
pub type Tells<'a> = dyn Fn(&mut Encoder<'_>, &Left<'_>) -> Bool + 'a;

/// How packets leave.
#[derive(Debug)]
pub struct Left<'a> {
    /// Where to.
    pub emit: &'a Emit,
    /// The key as it is then.
    pub key: &'a SymKey,
    /// How many `ct()` recirculations they went through.
    pub recirculations: u16,
}

/// What is left to do when a called table returns.
struct Rest<'a> {
    actions: &'a [Action],
    table: u8,
    depth: u32,
    then: Cont<'a>,
    /// The key that is then there again, where a copy ends.
    again: Option<SymKey>,
}
impl<'a> Rest<'a> {
    /// Nothing more at this place.
    fn after(at: &At<'a>) -> Self {
        Self { actions: &[], table: at.table, depth: at.depth, then: at.then.clone(), again: None }
    }
}

type Cont<'a> = Option<Rc<Rest<'a>>>;

#[derive(Clone)]
struct At<'a> {
    table: u8,
    key: SymKey,
    recirculations: u16,
    depth: u32,
    then: Cont<'a>,
}

/// Builds formulas for one kind of packet on one host.
pub struct Encoder<'a> {
    tables: &'a Tables,
    profile: Profile,
    pub(crate) form: Form,
    access: bool,
    counts: Counts<'a>,
    pairs: bool,
    terms: FxHashMap<Term, BV>,
    known: FxHashMap<(u8, SymKey, u16, u32), Leads>,
    exits: Vec<Exit>,
    lookups: usize,
    deepest: u16,
    told: u16,
    came_in: CameIn,
    host: Option<&'a Host>,
}

impl<'a> Encoder<'a> {
    /// An encoder for frames of `form` under `profile`, from an `access` port or a trunk.
    #[must_use]
    pub fn new(tables: &'a Tables, profile: Profile, form: Form, access: bool, counts: Counts<'a>) -> Self {
        let (terms, known) = (FxHashMap::default(), FxHashMap::default());
        let pairs = matches!(counts, Counts::Told(_, true));
        Self {
            pairs,
            tables,
            profile,
            form,
            access,
            counts,
            terms,
            known,
            exits: Vec::new(),
            lookups: 0,
            deepest: 0,
            told: u16::from(profile.recirculations()),
            came_in: CameIn::Anywhere,
            host: None,
        }
    }

    /// The same encoder, which knows the ports of this host where flows write input ports.
    #[must_use]
    pub(crate) const fn on(mut self, host: &'a Host) -> Self {
        self.host = Some(host);
        self
    }

    /// Whether `NORMAL` takes only frames without a VLAN from where a packet with this key came in, or is said to have.
    fn is_from_access(&self, key: &SymKey) -> bool {
        let in_port =
            key.constant(Subfield::whole(Field::InPort)).and_then(|port| PortNo::try_from(port).ok());
        match (in_port, self.came_in) {
            (Some(port), CameIn::By(own)) if port == own => self.access,
            (Some(port), _) => self.host.is_some_and(|host| host.is_access(port)),
            (None, _) => false,
        }
    }

    /// How many recirculations some packet of the formulas built so far goes through.
    #[must_use]
    pub const fn deepest(&self) -> u16 {
        self.deepest
    }

    /// The same encoder, for comparing with packets that go through no more than `levels` recirculations.
    #[must_use]
    pub const fn told(mut self, levels: u16) -> Self {
        self.told = levels;
        self
    }

    /// The exits that some formula built so far mentions.
    #[must_use]
    pub fn exits(&self) -> &[Exit] {
        &self.exits
    }

    /// Whether everything was encoded; if not, an answer says nothing.
    #[must_use]
    pub const fn complete(&self) -> bool {
        self.lookups < MAX_LOOKUPS
    }

    /// The packets that, entering at `in_port` so, leave in a way that counts.
    pub fn enters(&mut self, in_port: PortNo, arrival: Arrival) -> Bool {
        self.leads(in_port, arrival).once
    }

    /// The same, with those that do it twice if that is asked.
    pub(crate) fn leads(&mut self, in_port: PortNo, arrival: Arrival) -> Leads {
        let came_in = CameIn::By(in_port);
        if std::mem::replace(&mut self.came_in, came_in) != came_in {
            self.known.clear();
        }
        let key = SymKey::entering(in_port, self.form, arrival);
        self.reach(None, &At { table: 0, key, recirculations: 0, depth: 0, then: None })
    }

    /// How many lookups were encoded.
    pub(crate) const fn lookups(&self) -> usize {
        self.lookups
    }

    pub(crate) fn term(&mut self, term: Term) -> BV {
        self.terms.entry(term).or_insert_with(|| BV::new_const(term.name(), term.width().into())).clone()
    }

    /// A conjunction of literals, as comparisons of runs of bits.
    pub(crate) fn literals(&mut self, literals: &[Literal]) -> Bool {
        let mut bits: BTreeMap<(String, u16), (Term, bool)> = BTreeMap::new();
        for (var, on) in literals {
            let (term, bit) = Term::of(*var);
            if bits.insert((term.name(), bit), (term, *on)).is_some_and(|(_, old)| old != *on) {
                return Bool::from_bool(false);
            }
        }
        let mut parts = Vec::new();
        let mut run: Option<(Term, u16, Vec<bool>)> = None;
        for ((_, bit), (term, on)) in bits {
            match &mut run {
                Some((last, low, values)) if *last == term && *low + values.len() as u16 == bit => {
                    values.push(on)
                }
                _ => {
                    parts.extend(run.take().map(|run| self.run(run)));
                    run = Some((term, bit, vec![on]));
                }
            }
        }
        parts.extend(run.map(|run| self.run(run)));
        all(&parts)
    }

    fn run(&mut self, (term, low, values): (Term, u16, Vec<bool>)) -> Bool {
        let width = values.len() as u32;
        let whole = self.term(term);
        let part = if width == u32::from(term.width()) {
            whole
        } else {
            whole.extract(u32::from(low) + width - 1, low.into())
        };
        BV::from_bits(&values).map_or_else(|| Bool::from_bool(true), |value| part.eq(&value))
    }

    /// A predicate over the packet as sent.
    pub fn predicate(&mut self, predicate: &Predicate) -> Bool {
        match predicate {
            Predicate::All(parts) => {
                let parts: Vec<Bool> = parts.iter().map(|part| self.predicate(part)).collect();
                all(&parts)
            }
            Predicate::Any(parts) => {
                let parts: Vec<Bool> = parts.iter().map(|part| self.predicate(part)).collect();
                any(&parts)
            }
            Predicate::Not(part) => self.predicate(part).not(),
            Predicate::Is(field, value, mask) => {
                self.literals(&crate::predicate::literals(*field, *value, *mask))
            }
            Predicate::Same(a, b) => self.term(Term::Sent(*a)).eq(self.term(Term::Sent(*b))),
        }
    }

    /// Every frame of the form that a sender can make.
    pub fn sendable(&mut self) -> Bool {
        let well_formed = self.predicate(&frames::well_formed());
        if self.form == Form::Whole {
            return well_formed;
        }
        let ipv4 = self.predicate(&Predicate::is(Field::DlType, 0x0800u16));
        let ipv6 = self.predicate(&Predicate::is(Field::DlType, 0x86ddu16));
        let shown = self.term(Term::FragmentProto);
        let same = shown.eq(self.term(Term::Sent(Field::NwProto)));
        let extensions: Vec<Bool> =
            EXTENSION_HEADERS.iter().map(|h| shown.eq(BV::from_u64(u64::from(*h), 8))).collect();
        let first = self.form == Form::First;
        let shows = if first { any(&[same.clone(), any(&extensions)]) } else { any(&extensions) };
        all(&[well_formed, any(&[all(&[ipv4, same]), all(&[ipv6, shows])])])
    }

    fn reach(&mut self, in_port: Option<PortNo>, at: &At<'a>) -> Leads {
        let memo = (at.then.is_none() && in_port.is_none())
            .then(|| (at.table, at.key.clone(), at.recirculations, at.depth));
        if let Some(known) = memo.as_ref().and_then(|memo| self.known.get(memo)) {
            return known.clone();
        }
        self.lookups += 1;
        if !self.complete() {
            return Leads::nobody(self.pairs);
        }
        let mut key = at.key.seen();
        if let Some(port) = in_port.filter(|port| *port != port::IN_PORT) {
            key.set(Field::InPort, port.into(), u128::MAX);
        }
        let mut below = self.resume(at);
        let tables = self.tables;
        for level in tables.levels(at.table).iter().rev() {
            below = self.soft(level, &key, at, below);
            let (hit, leads) = self.hard(level.hard.iter().copied(), &key, at);
            below = self.either(&[leads, below.when(&hit.not())]);
        }
        if let Some(unknown) = tables.added(at.table) {
            let leaves = self.leaves(unknown, &at.key, at.recirculations);
            below = self.either(&[leaves, below]);
        }
        if let Some(memo) = memo {
            self.known.insert(memo, below.clone());
        }
        below
    }

    fn either(&self, parts: &[Leads]) -> Leads {
        Leads::either(parts, self.pairs)
    }

    fn sequence(&self, parts: &[Leads]) -> Leads {
        Leads::sequence(parts, self.pairs)
    }

    /// The flows of one priority: who matches any, and who is led to leave by one that matches.
    fn hard(&mut self, level: impl Iterator<Item = FlowId>, key: &SymKey, at: &At<'a>) -> (Bool, Leads) {
        let (mut hits, mut leads) = (Vec::new(), Vec::new());
        let tables = self.tables;
        for flow in level.filter_map(|id| tables.flow(id)) {
            let Some(literals) = key.wanted(&flow.matching) else { continue };
            let hit = self.literals(&literals);
            let leads_out = if flow.opaque_match.is_empty() {
                self.actions(&flow.actions, at.clone())
            } else {
                self.leaves(Emit::Opaque(flow.opaque_match.join(",")), &at.key, at.recirculations)
            };
            leads.push(leads_out.when(&hit));
            hits.push(hit);
        }
        (any(&hits), self.either(&leads))
    }

    /// What the caller does after this table.
    fn resume(&mut self, at: &At<'a>) -> Leads {
        match &at.then {
            None => Leads::nobody(self.pairs),
            Some(rest) => {
                let key = rest.again.clone().unwrap_or_else(|| at.key.clone());
                let (table, depth, then) = (rest.table, rest.depth, rest.then.clone());
                let back = At { table, depth, then, key, recirculations: at.recirculations };
                self.actions(rest.actions, back)
            }
        }
    }

    fn actions(&mut self, actions: &'a [Action], mut at: At<'a>) -> Leads {
        let mut leads = Vec::new();
        for (done, action) in actions.iter().enumerate() {
            let rest = actions.get(done + 1..).unwrap_or(&[]);
            match action {
                Action::Output(_)
                | Action::OutputField(_)
                | Action::Controller(_)
                | Action::DecTtl(_)
                | Action::SetQueue(_)
                | Action::PopQueue
                | Action::Clone(_)
                | Action::Group(_)
                | Action::Learn(_)
                | Action::PushMpls(_)
                | Action::PopMpls(_)
                | Action::DecMplsTtl
                | Action::WriteActions(_)
                | Action::ClearActions
                | Action::OutputTruncated { .. }
                | Action::Enqueue { .. }
                | Action::Opaque(_)
                | Action::Resubmit { ct: true, .. } => {
                    if let Some(emit) = emitted(action, &at.key, self.came_in) {
                        let is_end = is_the_end(&emit);
                        leads.push(self.put_out(emit, &at));
                        if is_end {
                            return self.sequence(&leads);
                        }
                    }
                }
                Action::Resubmit { port, table, ct: false } => {
                    leads.push(self.call(table.unwrap_or(at.table), *port, rest, at));
                    return self.sequence(&leads);
                }
                Action::GotoTable(table) => {
                    leads.push(self.call(*table, None, rest, at));
                    return self.sequence(&leads);
                }
                Action::Set { .. }
                | Action::Move { .. }
                | Action::ModVlanVid(_)
                | Action::ModVlanPcp(_)
                | Action::StripVlan
                | Action::PushVlan(_) => {
                    let Some(to) = rewrite(action, &at.key) else { continue };
                    if to.requires.is_empty() {
                        at.key = to.then;
                        continue;
                    }
                    leads.push(self.rewritten(to, rest, at));
                    return self.sequence(&leads);
                }
                Action::RetagUnclear { .. } => {
                    let tagged = match at.key.tag() {
                        Bit::Known(on) => Bool::from_bool(on),
                        Bit::Free(var) => self.literals(&[(var, true)]),
                    };
                    let emit = Emit::Opaque(UNCLEAR_TAG.to_owned());
                    leads.push(self.leaves(emit, &at.key, at.recirculations).when(&tagged));
                    let Some(to) = rewrite(action, &at.key) else { continue };
                    leads.push(self.rewritten(to, rest, at).when(&tagged.not()));
                    return self.sequence(&leads);
                }
                Action::Ct(ct) => {
                    leads.push(self.ct(ct, &at));
                    if is_unmodelled(ct, self.tables) {
                        return self.sequence(&leads);
                    }
                    at.key.untrack();
                }
                Action::CtClear => at.key.untrack(),
                Action::Push(part) => at.key.push(*part),
                Action::Pop(part) => {
                    if let Some(emit) = emitted(action, &at.key, self.came_in) {
                        leads.push(self.put_out(emit, &at));
                    }
                    at.key.pop(*part);
                }
                Action::Begin(Nest::Clone) => {
                    leads.push(self.copy(rest, at));
                    return self.sequence(&leads);
                }
                Action::Begin(_) => {
                    let (inner, behind) = bracket(rest);
                    let bucket = At { then: None, ..at.clone() };
                    leads.push(self.actions(inner, bucket));
                    leads.push(self.actions(behind, at));
                    return self.sequence(&leads);
                }
                Action::CheckPktLarger { dst, .. } => {
                    leads.push(self.by_length(*dst, rest, at));
                    return self.sequence(&leads);
                }
                Action::Conjunction(_) | Action::Note(_) | Action::Meter(_) | Action::Exit | Action::End => {}
            }
            if ends(action) {
                return self.sequence(&leads);
            }
        }
        leads.push(self.resume(&at));
        self.sequence(&leads)
    }

    /// What an output sends out: not what came in by that port.
    fn put_out(&mut self, emit: Emit, at: &At<'a>) -> Leads {
        let own = if let Emit::Port(port) = emit { own(port, &at.key) } else { None };
        let leaves = self.leaves(emit, &at.key, at.recirculations);
        match own {
            None => leaves,
            Some(literals) => leaves.when(&self.literals(&literals).not()),
        }
    }

    /// What comes after a write that some packets have and others have not.
    fn rewritten(&mut self, to: Rewrite, rest: &'a [Action], at: At<'a>) -> Leads {
        let written = self.requirement(&to);
        let then = self.actions(rest, At { key: to.then, ..at.clone() });
        let otherwise = self.actions(rest, At { key: to.otherwise, ..at });
        self.either(&[then.when(&written), otherwise.when(&written.not())])
    }

    fn requirement(&mut self, to: &Rewrite) -> Bool {
        let mut requires = Vec::new();
        for any_of in &to.requires {
            let cubes: Vec<Bool> = any_of.iter().map(|literals| self.literals(literals)).collect();
            requires.push(any(&cubes));
        }
        all(&requires)
    }

    /// A copy, and what its original does afterwards.
    fn copy(&mut self, rest: &'a [Action], at: At<'a>) -> Leads {
        let (inner, behind) = bracket(rest);
        let again = Some(at.key.clone());
        let Rest { table, depth, then, .. } = Rest::after(&at);
        let then = Some(Rc::new(Rest { actions: behind, table, depth, then, again }));
        self.actions(inner, At { then, ..at })
    }

    /// What stands behind `check_pkt_larger`, for packets of either length; the caller sees nothing of it.
    fn by_length(&mut self, dst: Subfield, rest: &'a [Action], at: At<'a>) -> Leads {
        let then = Some(Rc::new(Rest { again: Some(at.key.clone()), ..Rest::after(&at) }));
        let ways = [true, false].map(|on| {
            let mut branch = At { then: then.clone(), ..at.clone() };
            branch.key.set(dst.field, u128::from(on) << dst.start, 1 << dst.start);
            self.actions(rest, branch)
        });
        self.either(&ways)
    }

    fn call(&mut self, table: u8, port: Option<PortNo>, rest: &'a [Action], at: At<'a>) -> Leads {
        let depth = at.depth + u32::from(table <= at.table);
        if depth > MAX_DEPTH {
            return Leads::nobody(self.pairs);
        }
        let then = if rest.is_empty() {
            at.then
        } else {
            let again = None;
            Some(Rc::new(Rest { actions: rest, table: at.table, depth: at.depth, then: at.then, again }))
        };
        self.reach(port, &At { table, depth, then, ..at })
    }

    pub(crate) fn matches(&mut self, key: &SymKey, matching: &Match) -> Bool {
        key.wanted(matching).map_or_else(|| Bool::from_bool(false), |literals| self.literals(&literals))
    }

    /// Who [has no VLAN](frames::untagged_or_priority).
    pub(crate) fn without_vlan(&mut self, key: &SymKey) -> Bool {
        any(&frames::untagged_or_priority().map(|tag| self.matches(key, &tag)))
    }

    /// The packets for which leaving like this counts.
    fn leaves(&mut self, emit: Emit, key: &SymKey, recirculations: u16) -> Leads {
        let vlan = Field::VlanTci.spec();
        let exit = (emit, (vlan.offset..vlan.offset + vlan.width).map(|bit| key.bit(bit)).collect());
        if !self.exits.contains(&exit) {
            self.exits.push(exit.clone());
        }
        let to_others = frames::is_to_others(&exit.0, self.came_in);
        if !to_others && !matches!(self.counts, Counts::Told(..)) {
            return Leads::nobody(self.pairs);
        }
        let mut parts = Vec::new();
        if exit.0 == Emit::Normal {
            if self.is_from_access(key) {
                parts.push(self.without_vlan(key));
            }
            parts.extend(frames::never_switched().iter().map(|dropped| self.matches(key, dropped).not()));
        }
        match &self.counts {
            Counts::Escape => {}
            Counts::Exit(wanted) if **wanted == exit => {
                // What the whole is told, where the fragment did not ask.
                if self.form != Form::Whole {
                    let levels = recirculations..self.told;
                    parts.extend(levels.map(|depth| self.legal(Form::Whole, depth)));
                }
            }
            Counts::Exit(_) => return Leads::nobody(self.pairs),
            Counts::Told(tells, _) => {
                let (tells, emit) = (*tells, &exit.0);
                parts.push(tells(self, &Left { emit, key, recirculations }));
            }
            Counts::LeavesNetwork { network, members } => {
                let inside = match frames::inside_network(&exit.0, *network, members) {
                    Inside::Never => Bool::from_bool(false),
                    Inside::NotUntagged => self.without_vlan(key).not(),
                    Inside::Tagged(tag) => self.matches(key, &tag),
                };
                parts.push(inside.not());
            }
        }
        Leads::here(all(&parts), self.pairs)
    }
}
