//! What tables do to packets, as things that can be compared: by each deed, the packets that it is done to.
//!
//! A deed is an output, with what became of the frame until then, or a `ct()`, with everything that connection tracking
//! is told. Two tables that do the same deeds to the same packets cannot be told apart: what connection tracking
//! answers depends on nothing else. Deliberately absent: how often, and in which order, one packet's deeds are done.

use super::relevant::Changes;
use crate::{
    arrival::Arrival,
    bdd::{Bdd, Bdds},
    frames, probe,
    set::PacketSets,
    symbolic::{self, Emit, Event, Memory, Start},
    symkey::{Bit, Form, SymKey},
    tables::Tables,
    vars,
    vars::Var,
};
use flowproof_packet::{Field, PortNo, key::low_bits};
use flowproof_switch::{
    conntrack::Profile,
    flow::{Action, Counters, Ct, Flow, Match, Subfield, Zone},
    table::FlowId,
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

/// What becomes of one bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Written {
    /// It is this.
    Known(bool),
    /// What this variable is.
    From(Var),
}

/// Bits of the packet that are not what they were as it came in, by their offset in the key.
pub type Change = Vec<(u16, Written)>;

/// What a packet is told to do, and what connection tracking is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// It leaves.
    Leaves(Emit),
    /// It leaves by the port whose number these bits are.
    LeavesBy(Vec<Written>),
    /// It goes to the controller, with these arguments.
    Controller(String),
    /// `ct()`
    Tracked(Tracking),
}

/// One `ct()`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tracking {
    /// How many answers the packet has had before.
    pub depth: u16,
    /// Whether it goes on with the answer.
    pub recirculates: bool,
    /// The zone's bits.
    pub zone: Vec<Written>,
    /// What is to be kept, if the connection is: mark and label as bits, whether by force, whatever else it was told.
    pub commit: Option<(bool, Change)>,
    /// NAT and helpers, as text.
    pub other: Vec<String>,
}

/// A deed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deed {
    /// What is done.
    pub way: Way,
    /// What the packet is by then.
    pub change: Arc<Change>,
    /// Whether it came in as a fragment and is whole now.
    pub reassembled: bool,
}

impl Deed {
    /// Whether it is not known what it comes to.
    #[must_use]
    pub const fn is_unmodelled(&self) -> bool {
        matches!(&self.way, Way::Leaves(Emit::Opaque(_)))
    }
}

/// What tables do to some packets.
#[derive(Debug, Default)]
pub(super) struct Deeds {
    pub(super) by: BTreeMap<Deed, Bdd>,
    /// Packets of which more is done than is known here: something that is not modelled, the limits of a translation.
    pub(super) unknown: Option<Bdd>,
    /// What is not modelled of what packets came to: line and words.
    pub(super) unmodelled: BTreeSet<(u32, String)>,
    /// Packets of which OpenFlow does not say what is done.
    pub(super) open: bool,
    pub(super) depth: u16,
    pub(super) complete: bool,
}

/// Whether there is more to an action than symbolic execution says.
const fn is_telling(action: &Action) -> bool {
    matches!(action, Action::Ct(_) | Action::OutputField(_) | Action::Controller(_))
}

/// The tables, with probes and without.
pub(super) struct Subject<'t> {
    /// As they are.
    pub(super) flows: &'t [Flow],
    /// With probes.
    pub(super) probed: Tables,
    /// Flows with something that is not modelled, and behind which something may be changed.
    ahead: FxHashSet<FlowId>,
}

impl<'t> Subject<'t> {
    pub(super) fn new(tables: &'t Tables, changes: &Changes<'_>) -> Self {
        let (flows, ahead) = (tables.flows(), changes.ahead_of(tables));
        Self { flows, probed: probe::probed(tables, is_telling), ahead }
    }
}

/// What the tables do to `packets` that come in anywhere.
pub(super) fn deeds(
    sets: &mut Bdds,
    subject: &Subject<'_>,
    (profile, form, arrival): (Profile, Form, Arrival),
    packets: Bdd,
) -> Deeds {
    let key = SymKey::entering_anywhere(form, arrival);
    let start =
        Start { tables: &subject.probed, profile, form, key, packets, enough: usize::MAX, each_flow: false };
    let run = symbolic::execute_with(sets, &mut Memory::default(), start, None);
    let (changes, deeds) = (FxHashMap::default(), Deeds::default());
    let mut reader = Reader { flows: subject.flows, ahead: &subject.ahead, form, changes, deeds };
    for event in &run.events {
        reader.read(sets, event);
    }
    let mut deeds = reader.deeds;
    deeds.by.retain(|_, packets| !sets.is_empty(*packets));
    deeds.open = !run.rivals.is_empty();
    deeds.complete = run.complete;
    deeds.depth = run.longest.recirculations;
    deeds
}

struct Reader<'f> {
    flows: &'f [Flow],
    ahead: &'f FxHashSet<FlowId>,
    form: Form,
    changes: FxHashMap<SymKey, (Arc<Change>, bool)>,
    deeds: Deeds,
}

impl Reader<'_> {
    fn add(&mut self, sets: &mut Bdds, way: Way, key: &SymKey, packets: Bdd) {
        let (change, reassembled) = self.change(key);
        let slot = self.deeds.by.entry(Deed { way, change, reassembled }).or_insert(sets.none());
        *slot = sets.or(*slot, packets);
    }

    fn unknown(&mut self, sets: &mut Bdds, packets: Bdd) {
        let known = self.deeds.unknown.unwrap_or(sets.none());
        self.deeds.unknown = Some(sets.or(known, packets));
    }

    fn read(&mut self, sets: &mut Bdds, event: &Event<Bdd>) {
        let (key, mut packets) = (&event.key, event.packets);
        let way = match &event.emit {
            Emit::Limit => return self.unknown(sets, packets),
            // Probes say more of these.
            Emit::UnknownPort | Emit::Controller => return,
            Emit::Opaque(text) if probe::is_probe(text) => {
                let Some(way) = probe::behind(self.flows, text).and_then(|action| asked(action, event))
                else {
                    return;
                };
                if let Way::LeavesBy(bits) = &way {
                    packets = leaving(sets, event, bits);
                }
                way
            }
            Emit::Opaque(text) => {
                let Some(words) = self.unmodelled(text, event) else { return self.unknown(sets, packets) };
                // It may look at everything.
                Way::Leaves(Emit::Opaque(format!("{words}{}{}", registers(key), tracked(key))))
            }
            Emit::Port(port) => {
                let own = at(Field::InPort, u128::from(*port), u128::MAX);
                packets = without(sets, event, &own);
                Way::Leaves(event.emit.clone())
            }
            Emit::Normal => {
                for dropped in frames::never_switched() {
                    let event = Event { packets, ..event.clone() };
                    packets = without(sets, &event, &dropped);
                }
                Way::Leaves(Emit::Normal)
            }
            Emit::InPort => back(key),
            Emit::Flood => Way::Leaves(Emit::Flood),
        };
        self.add(sets, way, key, packets);
    }

    /// Notes what is not modelled. What two tables do with a packet behind it is the same if these words are, unless something may be
    /// changed there; then there are none.
    fn unmodelled(&mut self, text: &str, event: &Event<Bdd>) -> Option<String> {
        let flow = event.path.as_ref().map(|step| step.flow);
        let of = flow.and_then(|id| self.flows.get(id.0 as usize));
        self.deeds.unmodelled.insert((of.map_or(0, |flow| flow.span.line), text.to_owned()));
        if [symbolic::SECOND_TAG, symbolic::UNCLEAR_TAG].contains(&text)
            || flow.is_some_and(|id| self.ahead.contains(&id))
        {
            return None;
        }
        // A flow that may match or not is followed by all that it does, and by others.
        let hidden = of.filter(|flow| !flow.opaque_match.is_empty());
        let Some(flow) = hidden else { return Some(text.to_owned()) };
        let bare = Flow { cookie: 0, counters: Counters::default(), ..flow.clone() };
        Some(bare.to_string().trim().to_owned())
    }

    /// What became of the packet, and whether it was put together.
    fn change(&mut self, key: &SymKey) -> (Arc<Change>, bool) {
        let whole = key.constant(Subfield::whole(Field::NwFrag)) == Some(0);
        let mut of_packet = key.only(&PACKET);
        of_packet.untrack();
        // A tag that is not there has no type.
        let entered = SymKey::entering_anywhere(self.form, Arrival::Untracked);
        for (tci, tpid) in [(Field::VlanTci, Field::VlanTpid), (Field::InnerVlanTci, Field::InnerVlanTpid)] {
            let absent = of_packet.constant(Subfield { field: tci, start: 12, width: 1 }) == Some(0);
            if absent {
                of_packet.copy_from(&entered, Subfield::whole(tpid), Subfield::whole(tpid));
            }
        }
        if let Some((change, reassembled)) = self.changes.get(&of_packet) {
            return (Arc::clone(change), *reassembled);
        }
        let reassembled = whole && self.form != Form::Whole;
        let entered =
            SymKey::entering_anywhere(if whole { Form::Whole } else { self.form }, Arrival::Untracked);
        let mut change = Change::new();
        for (word, bits) in PACKET.iter().enumerate() {
            for bit in (0..64u16).filter(|bit| bits >> (63 - bit) & 1 == 1) {
                let offset = word as u16 * 64 + bit;
                let now = of_packet.bit(offset);
                if now != entered.bit(offset) && !is_fragment(offset) {
                    change.push((offset, written(now)));
                }
            }
        }
        let change = Arc::new(change);
        self.changes.insert(of_packet, (Arc::clone(&change), reassembled));
        (change, reassembled)
    }
}

/// The bits of the key that leave with a packet, or that say where a tunnel takes it.
static PACKET: LazyLock<[u64; flowproof_packet::key::WORDS]> = LazyLock::new(|| {
    const KEPT: &[Field] = &[Field::InnerVlanTci, Field::InnerVlanTpid, Field::NwFrag];
    let mut bits = [0; flowproof_packet::key::WORDS];
    let stays = |field: &Field| {
        *field == Field::CtZone || *field == Field::DpHash || vars::tracked_fields().any(|of| of == *field)
    };
    let leaves = |field: &Field| SymKey::is_sent(*field) && !stays(field) || KEPT.contains(field);
    for field in Field::all().filter(leaves) {
        for part in flowproof_packet::key::masked_words(field, 0, u128::MAX) {
            bits.get_mut(usize::from(part.word)).into_iter().for_each(|word| *word |= part.mask);
        }
    }
    bits
});

/// Whether this is a bit of `nw_frag`, which nobody writes.
const fn is_fragment(offset: u16) -> bool {
    let spec = Field::NwFrag.spec();
    offset >= spec.offset && offset < spec.offset + spec.width
}

const fn written(bit: Bit) -> Written {
    match bit {
        Bit::Known(on) => Written::Known(on),
        Bit::Free(var) => Written::From(var),
    }
}

/// By the port that the packet came in by.
fn back(key: &SymKey) -> Way {
    let bits = bits(key, Subfield::whole(Field::InPort));
    match number(&bits).and_then(|port| PortNo::try_from(port).ok()) {
        Some(port) => Way::Leaves(Emit::Port(port)),
        None => Way::LeavesBy(bits),
    }
}

/// The packets that leave by the port whose number these bits are: not by the one they came in by, nor by numbers that
/// no port has.
fn leaving(sets: &mut Bdds, event: &Event<Bdd>, port: &[Written]) -> Bdd {
    let own = bits(&event.key, Subfield::whole(Field::InPort));
    let low = port.len().saturating_sub(own.len());
    let mut same = event.packets;
    let zeros = std::iter::repeat(Written::Known(false));
    let pad = own.len().saturating_sub(port.len());
    let padded: Vec<Written> = zeros.take(pad).chain(port.iter().copied()).collect();
    for (a, b) in padded.iter().skip(low).zip(&own) {
        same = agreeing(sets, same, (*a, *b));
    }
    let high = port
        .iter()
        .take(low)
        .fold(event.packets, |packets, bit| agreeing(sets, packets, (*bit, Written::Known(false))));
    let packets = sets.and(event.packets, high);
    let mut packets = sets.minus(packets, same);
    for (value, mask) in [(0u16, 0xffff), (0xff00, 0xff00)] {
        let bits = padded.iter().skip(low).enumerate().filter(|(bit, _)| mask >> (15 - bit) & 1 == 1);
        let these = bits.fold(packets, |these, (bit, written)| {
            agreeing(sets, these, (*written, Written::Known(value >> (15 - bit) & 1 == 1)))
        });
        packets = sets.minus(packets, these);
    }
    packets
}

/// The packets for which two bits are the same.
pub(super) fn agreeing(sets: &mut Bdds, packets: Bdd, (a, b): (Written, Written)) -> Bdd {
    match (a, b) {
        (a, b) if a == b => packets,
        (Written::Known(_), Written::Known(_)) => sets.none(),
        (Written::Known(on), Written::From(var)) | (Written::From(var), Written::Known(on)) => {
            let cube = sets.cube(&[(var, on)]);
            sets.and(packets, cube)
        }
        (Written::From(x), Written::From(y)) => {
            let both = [true, false].map(|on| sets.cube(&[(x, on), (y, on)]));
            let equal = both.into_iter().fold(sets.none(), |sum, one| sets.or(sum, one));
            sets.and(packets, equal)
        }
    }
}

fn at(field: Field, value: u128, mask: u128) -> Match {
    let mut matching = Match::default();
    matching.set(field, value, mask);
    matching
}

fn without(sets: &mut Bdds, event: &Event<Bdd>, matching: &Match) -> Bdd {
    let those = frames::select(sets, event, matching);
    sets.minus(event.packets, those)
}

/// The bits of a subfield, most significant first.
fn bits(key: &SymKey, part: Subfield) -> Vec<Written> {
    let spec = part.field.spec();
    let last = spec.offset + spec.width - 1 - part.start;
    (0..part.width).rev().map(|bit| written(key.bit(last - bit))).collect()
}

/// The number that bits are, if they are all known.
pub(super) fn number(bits: &[Written]) -> Option<u128> {
    bits.iter().try_fold(0, |sum, bit| match bit {
        Written::Known(on) => Some(sum << 1 | u128::from(*on)),
        Written::From(_) => None,
    })
}

/// What the action behind a probe does to packets with this key.
fn asked(action: &Action, event: &Event<Bdd>) -> Option<Way> {
    let key = &event.key;
    if let Action::Ct(ct) = action {
        Some(Way::Tracked(tracking(ct, event)))
    } else if let Action::Controller(arguments) = action {
        Some(Way::Controller(arguments.to_string()))
    } else if let Action::OutputField(part) = action {
        // Whatever is a constant symbolic execution follows itself.
        key.constant(*part).is_none().then(|| Way::LeavesBy(bits(key, *part)))
    } else {
        None
    }
}

fn tracking(ct: &Ct, event: &Event<Bdd>) -> Tracking {
    let key = &event.key;
    let zone = match ct.zone {
        Zone::Const(zone) => (0..16).rev().map(|bit| Written::Known(zone >> bit & 1 == 1)).collect(),
        Zone::Field(part) => bits(key, part),
    };
    let (nat, alg) = (ct.nat.map(|nat| nat.to_string()), ct.alg.map(|alg| alg.to_string()));
    let mut other: Vec<String> = nat.into_iter().chain(alg).collect();
    let mut set: BTreeMap<u16, Written> = BTreeMap::new();
    for action in &ct.exec {
        if let Action::Set { field, value, mask, .. } = action {
            set.extend(constant(*field, *value, *mask));
        } else if let Action::Move { src, dst } = action {
            let spec = dst.field.spec();
            let first = spec.offset + spec.width - dst.start - dst.width;
            set.extend((first..).zip(bits(key, *src)));
        } else {
            other.push(format!("{action:?}"));
        }
    }
    Tracking {
        depth: event.recirculations,
        recirculates: ct.table.is_some(),
        zone,
        commit: ct.commit.then(|| (ct.force, set.into_iter().collect())),
        other,
    }
}

fn constant(field: Field, value: u128, mask: u128) -> impl Iterator<Item = (u16, Written)> {
    let spec = field.spec();
    let last = spec.offset + spec.width - 1;
    let mask = mask & low_bits(spec.width);
    let chosen = (0..spec.width).filter(move |bit| mask >> bit & 1 == 1);
    chosen.map(move |bit| (last - bit, Written::Known(value >> bit & 1 == 1)))
}

/// What is in the registers, for those who may read them.
fn registers(key: &SymKey) -> String {
    let is_register =
        |field: &Field| (Field::Reg0..=Field::Reg15).contains(field) || *field == Field::Metadata;
    let all = Field::all().filter(is_register).filter_map(|field| {
        let bits = bits(key, Subfield::whole(field));
        let name = field.spec().name;
        match number(&bits) {
            Some(0) => None,
            Some(value) => Some(format!(" {name}={value:#x}")),
            None => Some(format!(" {name}={bits:?}")),
        }
    });
    all.collect()
}

/// Which answer of connection tracking is shown, for those who may look at it.
fn tracked(key: &SymKey) -> String {
    match key.bit(Field::CtState.spec().offset + Field::CtState.spec().width - 1) {
        Bit::Known(_) => String::new(),
        Bit::Free(var) => format!(" ct={}", var.0),
    }
}
