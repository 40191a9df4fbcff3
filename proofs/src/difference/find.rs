//! The packets that two tables do not do the same to, by what each does to them.

use super::deeds::{Change, Deed, Deeds, Subject, Way, Written, agreeing, deeds};
use super::places::combination;
use super::relevant::{Changes, Marked};
use crate::{
    arrival::Arrival,
    bdd::{Bdd, Bdds},
    check::with_deep_stack,
    frames,
    predicate::{Predicate, literals},
    set::PacketSets,
    symbolic::{Emit, legal_answers},
    symkey::{Form, tracked_state},
    tables::Tables,
    vars::Var,
};
use flowproof_packet::{Field, PortNo, port};
use flowproof_switch::{
    conntrack::Profile,
    flow::{Flow, in_plain_words},
};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeMap, BTreeSet};

/// Nodes of one execution's diagrams.
const NODE_LIMIT: usize = 16_000_000;
/// Steps of one execution's diagrams: some seconds.
const MOST_STEPS: u64 = 100_000_000;
/// Classes of one form under one datapath after which the rest is not divided any more.
const MOST_CLASSES: usize = 4096;

/// What frames are, where they are seen, and how they come in.
type Combination = (Form, Profile, Arrival);

/// Which tables are compared, and under which datapaths.
#[derive(Clone, Copy, Debug)]
pub struct Question<'t> {
    /// The one,
    pub a: &'t Tables,
    /// and the other.
    pub b: &'t Tables,
    /// The datapaths.
    pub profiles: &'t [Profile],
}

/// What a difference means for those behind the switch, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Danger {
    /// It leaves by a way that it did not leave by.
    Delivered,
    /// It leaves by the same ways, and is another packet.
    Rewritten,
    /// It leaves as it did, and connection tracking is told something else.
    Tracked,
    /// It does not leave any more by some way, and by no other.
    Dropped,
}

impl Danger {
    /// All, the worst first.
    pub const ALL: [Self; 4] = [Self::Delivered, Self::Rewritten, Self::Tracked, Self::Dropped];
}

/// Packets to which each table does one thing, and the two are not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// The packets, with form and datapath.
    pub packets: Bdd,
    /// What the one does.
    pub a: BTreeSet<Deed>,
    /// What the other does.
    pub b: BTreeSet<Deed>,
}

impl Class {
    /// What it means.
    #[must_use]
    pub fn danger(&self) -> Danger {
        let ways = |deeds: &'_ BTreeSet<Deed>| -> BTreeSet<Way> {
            let leaves = deeds.iter().filter(|deed| !matches!(deed.way, Way::Tracked(_)));
            leaves.map(|deed| deed.way.clone()).collect()
        };
        let changes = |deeds: &'_ BTreeSet<Deed>| -> BTreeSet<Deed> {
            deeds.iter().filter(|deed| !matches!(deed.way, Way::Tracked(_))).cloned().collect()
        };
        let (before, after) = (ways(&self.a), ways(&self.b));
        if !after.is_subset(&before) {
            Danger::Delivered
        } else if after != before {
            Danger::Dropped
        } else if changes(&self.a) != changes(&self.b) {
            Danger::Rewritten
        } else {
            Danger::Tracked
        }
    }
}

/// What was found.
pub struct Found {
    /// The manager of all sets here.
    pub sets: Bdds,
    /// All packets that there are, with form and datapath.
    pub universe: Bdd,
    /// The classes: disjoint, no two with the same behaviours, the most dangerous first.
    pub classes: Vec<Class>,
    /// Packets that differ and were not divided any more.
    pub rest: Bdd,
    /// Packets of which it is not known whether they differ.
    pub unknown: Bdd,
    /// What is not modelled and those packets come to: of the first table or the second, the line, the words.
    pub unmodelled: BTreeSet<(usize, u32, String)>,
    /// How deep `ct()` nests.
    pub depth: u16,
    /// Whether OpenFlow leaves open, for some packet, which flow wins.
    pub open: bool,
    /// Whether everything was explored.
    pub complete: bool,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} classes, complete: {}", self.classes.len(), self.complete)
    }
}

impl Found {
    /// Whether they certainly do the same to every packet.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.is_known() && !self.differs()
    }

    /// Whether they do not do the same to some packet.
    #[must_use]
    pub fn differs(&self) -> bool {
        !self.classes.is_empty() || !self.sets.is_empty(self.rest)
    }

    /// Whether there are packets of which nothing is known.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        !self.sets.is_empty(self.unknown)
    }

    /// Leaves only what packets can show that the host has not tracked before they come in: all of them, where no port is internal.
    pub fn leave_untracked(&mut self) {
        let trk =
            Predicate::Is(Field::CtState, u128::from(tracked_state::TRK), u128::from(tracked_state::TRK));
        let untracked = trk.negate().to_set(&mut self.sets);
        for class in &mut self.classes {
            class.packets = self.sets.and(class.packets, untracked);
        }
        let none = self.sets.none();
        self.classes.retain(|class| class.packets != none);
        self.rest = self.sets.and(self.rest, untracked);
        self.unknown = self.sets.and(self.unknown, untracked);
        self.universe = self.sets.and(self.universe, untracked);
    }

    /// Whether nothing was left out.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.complete && !self.is_limited()
    }
}

/// What was found of one form under one datapath.
struct Part {
    combination: Combination,
    sets: Bdds,
    universe: Bdd,
    classes: Vec<Class>,
    rest: Bdd,
    unknown: Bdd,
    unmodelled: BTreeSet<(usize, u32, String)>,
    depth: u16,
    open: bool,
    complete: bool,
}

/// Whether tables certainly do the same to every packet.
#[must_use]
pub fn same(question: &Question<'_>) -> bool {
    find(question).is_same()
}

/// Compares the tables.
#[must_use]
pub fn find(question: &Question<'_>) -> Found {
    if alike(question.a.flows(), question.b.flows()) {
        return join(Vec::new());
    }
    compare(question, Some(&Marked::new(question.a, question.b)))
}

/// Where packets are told apart, unless the tables are the same.
pub(crate) fn marked(a: &Tables, b: &Tables) -> Option<Marked> {
    (!alike(a.flows(), b.flows())).then(|| Marked::new(a, b))
}

/// Those of `ports` by which packets come in that hit a flow that only one of the tables has, or something that is not modelled and
/// behind which such a flow may lie.
#[must_use]
pub fn touched(question: &Question<'_>, ports: &BTreeSet<PortNo>) -> BTreeSet<PortNo> {
    let Some(marked) = marked(question.a, question.b) else { return BTreeSet::new() };
    let one = |(form, profile, arrival): &Combination| {
        let mut sets = Bdds::with_limit(NODE_LIMIT);
        let frames = enterable(&mut sets, *form, *arrival);
        let packets = marked.packets(&mut sets, (*profile, *form, *arrival), frames);
        let comes = |port: &PortNo| {
            let by_port = entering(&mut sets, *port);
            let both = sets.and(packets, by_port);
            sets.overflown() || !sets.is_empty(both)
        };
        ports.iter().copied().filter(comes).collect::<BTreeSet<_>>()
    };
    with_deep_stack(|| combinations(question).par_iter().with_max_len(1).flat_map_iter(one).collect())
}

/// The same without what makes it fast: every packet is followed in both.
#[must_use]
pub fn find_slowly(question: &Question<'_>) -> Found {
    compare(question, None)
}

fn compare(question: &Question<'_>, marked: Option<&Marked>) -> Found {
    let changes = Changes::new(question.a.flows(), question.b.flows());
    let (a, b) = (Subject::new(question.a, &changes), Subject::new(question.b, &changes));
    let combinations = combinations(question);
    let one = |at: &Combination| part(&a, &b, marked, *at);
    join(with_deep_stack(|| combinations.par_iter().with_max_len(1).map(one).collect()))
}

fn combinations(question: &Question<'_>) -> Vec<Combination> {
    let arrivals = Arrival::told_apart(question.a.flows().iter().chain(question.b.flows()));
    let of = |profile: &Profile| {
        let (profile, arrivals) = (*profile, &arrivals);
        let each = move |form| arrivals.iter().map(move |arrival| (form, profile, *arrival));
        Form::ALL.into_iter().flat_map(each)
    };
    question.profiles.iter().flat_map(of).collect()
}

/// Whether these are the same flows, wherever they stand.
fn alike(a: &[Flow], b: &[Flow]) -> bool {
    let bare = |flow: &Flow| {
        let Flow { table, priority, matching, opaque_match, .. } = flow.clone();
        let actions = in_plain_words(&flow.actions).into_owned();
        Flow { table, priority, matching, opaque_match, actions, ..Flow::default() }
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| bare(a) == bare(b))
}

/// Every frame that can come in: by a port that a switch can have.
fn enterable(sets: &mut Bdds, form: Form, arrival: Arrival) -> Bdd {
    let all = frames::arriving(sets, form, arrival);
    let none = Predicate::is(Field::InPort, 0u8);
    let reserved = Predicate::Is(Field::InPort, 0xff00, 0xff00)
        .and(Predicate::is(Field::InPort, u128::from(port::LOCAL)).negate());
    let nowhere = none.or(reserved).to_set(sets);
    sets.minus(all, nowhere)
}

fn part(a: &Subject<'_>, b: &Subject<'_>, marked: Option<&Marked>, at: Combination) -> Part {
    let (form, profile, arrival) = at;
    let mut sets = Bdds::with_limit(NODE_LIMIT).within(MOST_STEPS);
    let frames = enterable(&mut sets, form, arrival);
    let here = (profile, form, arrival);
    let packets = marked.map_or(frames, |marked| marked.packets(&mut sets, here, frames));
    let before = deeds(&mut sets, a, here, packets);
    let after = deeds(&mut sets, b, here, packets);
    let depth = before.depth.max(after.depth);
    let universe = (0..depth).fold(frames, |universe, depth| {
        let legal = legal_answers(&mut sets, profile, form, depth);
        sets.and(universe, legal)
    });
    let none = sets.none();
    let unknown = sets.or(before.unknown.unwrap_or(none), after.unknown.unwrap_or(none));
    let unknown = sets.and(unknown, universe);
    let known = sets.minus(universe, unknown);
    let mut differ = Divider { sets: &mut sets, before: &before, after: &after, entered: form };
    let (classes, rest, doubtful) = differ.divide(known);
    let unknown = sets.or(unknown, doubtful);
    let unmodelled = [&before, &after].into_iter().enumerate().flat_map(|(at, deeds)| {
        let all = deeds.unmodelled.iter();
        all.map(move |(line, text)| (at, *line, text.clone()))
    });
    let unmodelled = if sets.is_empty(unknown) { BTreeSet::new() } else { unmodelled.collect() };
    Part {
        unmodelled,
        combination: at,
        universe,
        classes,
        rest,
        unknown,
        depth,
        open: before.open || after.open,
        complete: before.complete && after.complete && !sets.overflown(),
        sets,
    }
}

/// Divides the packets that differ by what is done to them.
struct Divider<'d> {
    sets: &'d mut Bdds,
    before: &'d Deeds,
    after: &'d Deeds,
    entered: Form,
}

impl Divider<'_> {
    /// The classes, what was not divided any more, and packets of which it is not known whether they differ: one of the tables does
    /// something with them that is not modelled.
    fn divide(&mut self, known: Bdd) -> (Vec<Class>, Bdd, Bdd) {
        let (mut classes, mut rest) = (Vec::new(), self.differing());
        let mut doubtful = self.sets.none();
        rest = self.sets.and(rest, known);
        while let Some(member) = self.sets.member(rest).filter(|_| !self.sets.overflown()) {
            if classes.len() >= MOST_CLASSES {
                break;
            }
            let on: FxHashSet<Var> = member.into_iter().filter(|bit| bit.1).map(|bit| bit.0).collect();
            let (block, a) = self.alike(self.before, rest, &on);
            let (block, b) = self.alike(self.after, block, &on);
            rest = self.sets.minus(rest, block);
            let same = self.indeed_same(&a, &b, block);
            let packets = self.sets.minus(block, same);
            if a.symmetric_difference(&b).any(Deed::is_unmodelled) {
                doubtful = self.sets.or(doubtful, packets);
            } else if !self.sets.is_empty(packets) {
                classes.push(Class { packets, a, b });
            }
        }
        (classes, rest, doubtful)
    }

    /// The packets to which some deed is done by one of them only.
    fn differing(&mut self) -> Bdd {
        let all: BTreeSet<&Deed> = self.before.by.keys().chain(self.after.by.keys()).collect();
        let mut differing = self.sets.none();
        for deed in all {
            let none = self.sets.none();
            let of = |deeds: &Deeds| deeds.by.get(deed).copied().unwrap_or(none);
            let (a, b) = (of(self.before), of(self.after));
            if a != b {
                let (gone, new) = (self.sets.minus(a, b), self.sets.minus(b, a));
                let changed = self.sets.or(gone, new);
                differing = self.sets.or(differing, changed);
            }
        }
        differing
    }

    /// Those of `packets` to which the same is done as to this one, and what that is.
    fn alike(&mut self, deeds: &Deeds, packets: Bdd, on: &FxHashSet<Var>) -> (Bdd, BTreeSet<Deed>) {
        let (mut block, mut done) = (packets, BTreeSet::new());
        for (deed, these) in &deeds.by {
            if self.sets.contains(*these, |var| on.contains(&var)) {
                block = self.sets.and(block, *these);
                done.insert(deed.clone());
            } else {
                block = self.sets.minus(block, *these);
            }
        }
        (block, done)
    }

    /// The packets for which deeds of different words are the same deeds: a field is set to what it is already.
    fn indeed_same(&mut self, a: &BTreeSet<Deed>, b: &BTreeSet<Deed>, packets: Bdd) -> Bdd {
        let mut same = packets;
        for (deeds, others) in [(a, b), (b, a)] {
            for deed in deeds.iter().filter(|deed| !others.contains(deed)) {
                let mut some = self.sets.none();
                for other in others.iter().filter(|other| other.reassembled == deed.reassembled) {
                    let equal = self.equal(deed, other, same);
                    some = self.sets.or(some, equal);
                }
                same = some;
            }
        }
        same
    }

    fn equal(&mut self, a: &Deed, b: &Deed, packets: Bdd) -> Bdd {
        let none = self.sets.none();
        let mut pairs: Vec<(Written, Written)> = Vec::new();
        match (&a.way, &b.way) {
            (Way::Tracked(x), Way::Tracked(y)) => {
                let alike = (x.depth, x.recirculates, &x.other) == (y.depth, y.recirculates, &y.other);
                let commits = (x.commit.as_ref().map(|c| c.0), y.commit.as_ref().map(|c| c.0));
                if !alike || commits.0 != commits.1 || x.zone.len() != y.zone.len() {
                    return none;
                }
                pairs.extend(x.zone.iter().copied().zip(y.zone.iter().copied()));
                if let (Some((_, x)), Some((_, y))) = (&x.commit, &y.commit) {
                    let offsets = |set: &Change| set.iter().map(|bit| bit.0).collect::<Vec<u16>>();
                    if offsets(x) != offsets(y) {
                        return none;
                    }
                    pairs.extend(x.iter().map(|bit| bit.1).zip(y.iter().map(|bit| bit.1)));
                }
            }
            (x, y) if x == y => {}
            (x, y) => match (port_bits(x), port_bits(y)) {
                (Some(x), Some(y)) => pairs.extend(x.into_iter().zip(y)),
                _ => return none,
            },
        }
        pairs.extend(self.changes(a, b));
        pairs.into_iter().fold(packets, |packets, pair| agreeing(self.sets, packets, pair))
    }

    /// The bits that either has changed, as each has them.
    fn changes(&self, a: &Deed, b: &Deed) -> Vec<(Written, Written)> {
        let form = if a.reassembled { Form::Whole } else { self.entered };
        let entered = crate::symkey::SymKey::entering_anywhere(form, Arrival::Untracked);
        let natural = |offset: u16| match entered.bit(offset) {
            crate::symkey::Bit::Known(on) => Written::Known(on),
            crate::symkey::Bit::Free(var) => Written::From(var),
        };
        let of = |deed: &Deed, offset: u16| {
            let at = deed.change.binary_search_by_key(&offset, |bit| bit.0).ok();
            at.and_then(|at| deed.change.get(at)).map_or_else(|| natural(offset), |bit| bit.1)
        };
        let offsets: BTreeSet<u16> = a.change.iter().chain(b.change.iter()).map(|bit| bit.0).collect();
        offsets.into_iter().map(|offset| (of(a, offset), of(b, offset))).collect()
    }
}

/// The number of the port by which packets leave, as 32 bits.
fn port_bits(way: &Way) -> Option<Vec<Written>> {
    let bits = match way {
        Way::Leaves(Emit::Port(port)) => {
            (0..16).rev().map(|bit| Written::Known(port >> bit & 1 == 1)).collect()
        }
        Way::LeavesBy(bits) => bits.clone(),
        Way::Leaves(_) | Way::Controller(_) | Way::Tracked(_) => return None,
    };
    let pad = 32usize.saturating_sub(bits.len());
    let last = bits.len().saturating_sub(32);
    Some(std::iter::repeat_n(Written::Known(false), pad).chain(bits.into_iter().skip(last)).collect())
}

/// Behaviours without whether the packet was put together on the way, unless that is all there is between them.
fn bare(a: BTreeSet<Deed>, b: BTreeSet<Deed>) -> (BTreeSet<Deed>, BTreeSet<Deed>) {
    let without = |deeds: &BTreeSet<Deed>| -> BTreeSet<Deed> {
        deeds.iter().map(|deed| Deed { reassembled: false, ..deed.clone() }).collect()
    };
    let (bare_a, bare_b) = (without(&a), without(&b));
    if bare_a == bare_b { (a, b) } else { (bare_a, bare_b) }
}

/// Everything in one manager, the same behaviours together.
fn join(parts: Vec<Part>) -> Found {
    let mut sets = Bdds::with_limit(2 * NODE_LIMIT);
    let mut all: BTreeMap<(BTreeSet<Deed>, BTreeSet<Deed>), Bdd> = BTreeMap::new();
    let none = sets.none();
    let [mut universe, mut rest, mut unknown] = [none; 3];
    let (mut depth, mut open, mut complete) = (0, false, true);
    let mut unmodelled = BTreeSet::new();
    for part in parts {
        let (form, profile, arrival) = part.combination;
        let here = sets.cube(&combination(form, profile, arrival));
        let done = &mut FxHashMap::default();
        let mut take = |sets: &mut Bdds, set: Bdd, sum: &mut Bdd| {
            let copied = sets.copied(&part.sets, set, done);
            let copied = sets.and(copied, here);
            *sum = sets.or(*sum, copied);
        };
        take(&mut sets, part.universe, &mut universe);
        take(&mut sets, part.rest, &mut rest);
        take(&mut sets, part.unknown, &mut unknown);
        for class in part.classes {
            take(&mut sets, class.packets, all.entry(bare(class.a, class.b)).or_insert(none));
        }
        depth = depth.max(part.depth);
        open |= part.open;
        complete &= part.complete;
        unmodelled.extend(part.unmodelled);
    }
    let classes = all.into_iter().map(|((a, b), packets)| Class { packets, a, b });
    let mut classes: Vec<Class> = classes.collect();
    classes.sort_by_cached_key(|class| (class.danger(), sets.shortest(class.packets)));
    complete &= !sets.overflown();
    Found { sets, universe, classes, rest, unknown, unmodelled, depth, open, complete }
}

/// The packets that come in by one port.
pub(super) fn entering(sets: &mut Bdds, port: u16) -> Bdd {
    sets.cube(&literals(Field::InPort, u128::from(port), u128::MAX))
}
