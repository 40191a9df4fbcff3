//! Carrying out what passes decide, with frames and a connection tracker.
//!
//! What it means: a pass's list runs on a batch of frames, one unless `ct()` completes a datagram from fragments;
//! `ct(table=…)` sends a copy through the tables before the rest of the list is carried out. Invariant: a copy keeps
//! registers, metadata, tunnel and input port; everything else is read from its frame again.
//!
//! Source: ovs-actions(7), "ct"; experiments with Open vSwitch 3.1.

use super::{
    DropReason, Effect, Limits, Shared, Tracker, Visit, World,
    fields::{SURVIVORS, clear_tracked, survive},
    pass::{Kept, Op, Pass, Plan},
};
use crate::{
    conntrack::{Before, CtInfo, Place, Unknown},
    table::FlowId,
    trace::{Event, Recorder},
};
use flowproof_packet::{
    Field, FlowKey, PortNo,
    wire::{self, IpVersion, ethertype},
};
use smallvec::{SmallVec, smallvec};
use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash, Hasher},
    sync::LazyLock,
};

/// What survives recirculation, but does not tell one pass from another.
const NOT_OF_A_PASS: [Field; 3] = [Field::PktMark, Field::SkbPriority, Field::PacketType];

/// A frame on its way, with what the datapath knows of it.
#[derive(Clone, Debug)]
pub(super) struct Flying<'f> {
    /// Empty when only a key is being traced.
    pub(super) frame: Cow<'f, [u8]>,
    /// What it remembers of the last `ct()`.
    pub(super) tracked: Option<Before>,
}

impl Flying<'_> {
    /// The same, with nothing copied.
    fn borrow(&self) -> Flying<'_> {
        Flying { frame: Cow::Borrowed(&self.frame), tracked: self.tracked }
    }
}

/// Frames that a pass's list is carried out on; nearly always one.
type Batch<'f> = SmallVec<[Flying<'f>; 1]>;

/// One packet and all its copies.
pub(super) struct Run<'a, 'w, T> {
    pub(super) world: World<'w>,
    pub(super) tracker: &'a mut T,
    pub(super) recorder: Recorder,
    pub(super) effects: Vec<Effect>,
    pub(super) reason: Option<DropReason>,
    pub(super) passes: u32,
}

impl<T: Tracker> Run<'_, '_, T> {
    /// Sends a frame with this key through the tables, and carries out what they say.
    pub(super) fn pass(&mut self, level: u8, table: u8, key: &FlowKey, flying: &Flying<'_>, kept: &Kept) {
        if level > self.world.limits().recirculations || self.passes >= Limits::PASSES {
            self.drop(level, DropReason::TooManyRecirculations);
            return;
        }
        self.passes += 1;
        let resumed = table;
        let plan = Pass::plan(&mut self.world, &mut self.recorder, level, table, key, kept);
        self.world.learned.clone_from(&self.world.next);
        self.reason = Some(plan.reason);
        self.carry_out(level, resumed, &plan, &plan.ops, smallvec![flying.borrow()], 0);
        self.world.spare.push(plan);
    }

    /// Carries out a list on a batch of frames, which are as the key at `base` has them.
    fn carry_out(
        &mut self,
        level: u8,
        resumed: u8,
        plan: &Plan,
        ops: &[Op],
        mut batch: Batch<'_>,
        mut base: usize,
    ) {
        for op in ops {
            if let Op::Track { request, table, at, kept, flow } = op {
                let place =
                    plan.keys.first().map_or_else(Place::default, |key| place(level, resumed, key, &batch));
                let recirculates = table.is_some();
                let visit = Visit { request: *request, before: None, place, recirculates, depth: level };
                batch.iter_mut().for_each(|flying| rewrite(flying, plan, base, *at));
                batch = self.track(level, batch, &visit);
                base = *at;
                self.confess(level, *flow, table.is_some() || request.nat.is_some(), &batch);
                if let Some(table) = table {
                    self.fork(level, (*table, kept), plan, *at, request.zone, &batch);
                }
            } else if let Op::Copy(ops) = op {
                let copies = batch.iter().map(Flying::borrow).collect();
                self.carry_out(level, resumed, plan, ops, copies, base);
            } else if let Op::ByLength { than, at, larger, other } = op {
                for flying in &batch {
                    let longer = commit(flying, plan, base, *at).len() > usize::from(*than);
                    let ops = if longer { larger } else { other };
                    self.carry_out(level, resumed, plan, ops, smallvec![flying.borrow()], base);
                }
            } else if matches!(op, Op::Untrack) {
                batch.iter_mut().for_each(|flying| flying.tracked = None);
            } else {
                batch.iter().for_each(|flying| self.deliver(op, plan, base, flying));
            }
        }
    }

    fn drop(&mut self, level: u8, reason: DropReason) {
        self.recorder.note(usize::from(level), || Event::Dropped(reason));
        self.reason = Some(reason);
    }

    fn track<'f>(&mut self, level: u8, batch: Batch<'f>, visit: &Visit) -> Batch<'f> {
        let mut tracked = Batch::with_capacity(batch.len());
        let count = batch.len();
        for (at, flying) in batch.into_iter().enumerate() {
            let place = Place { more: at + 1 < count, ..visit.place };
            let visit = Visit { before: flying.tracked, place, ..*visit };
            let rewritten = visit.request.nat.is_some();
            let known = |info| Some(Before { zone: visit.request.zone, info, rewritten });
            if let Some(info) = self.tracker.answer(&flying.frame, &visit) {
                self.recorder.note(usize::from(level), || Event::Tracked(info));
                tracked.push(Flying { frame: flying.frame, tracked: known(info) });
                continue;
            }
            let output = self.tracker.track(&flying.frame, &visit);
            if output.is_empty() {
                self.recorder.note(usize::from(level), || Event::Held);
                self.reason = Some(DropReason::Held);
            }
            for (frame, info) in output {
                self.recorder.note(usize::from(level), || Event::Tracked(info));
                tracked.push(Flying { frame: Cow::Owned(frame), tracked: known(info) });
            }
        }
        tracked
    }

    /// Says what is not known of these packets.
    fn confess(&mut self, level: u8, flow: FlowId, matters: bool, batch: &[Flying<'_>]) {
        for flying in batch {
            let why = flying.tracked.and_then(|tracked| tracked.info.unknown);
            if let Some(why) = why.filter(|why| matters || *why != Unknown::Before) {
                let text = why.to_string();
                self.recorder.note(usize::from(level), || Event::Opaque { flow, text: text.clone() });
                self.effects.push(Effect::Opaque { flow, text });
            }
        }
    }

    fn fork(
        &mut self,
        level: u8,
        (table, kept): (u8, &Kept),
        plan: &Plan,
        at: usize,
        zone: u16,
        batch: &[Flying<'_>],
    ) {
        let Some(old) = plan.keys.get(at) else { return };
        let unknown = |flying: &&Flying<'_>| flying.tracked.is_some_and(|ct| ct.info.unknown.is_some());
        for flying in batch.iter().filter(|flying| !unknown(flying)) {
            let mut key = if flying.frame.is_empty() { reread(old) } else { again(old, &flying.frame) };
            let info = flying.tracked.map_or_else(CtInfo::default, |tracked| tracked.info);
            put_tracked(&mut key, zone, &info);
            self.pass(level + 1, table, &key, flying, kept);
        }
    }

    fn deliver(&mut self, op: &Op, plan: &Plan, base: usize, flying: &Flying<'_>) {
        let frame = |at: usize| shared(&commit(flying, plan, base, at));
        self.effects.push(match op {
            Op::Output { port, at, cut: None } => Effect::Output { port: *port, frame: frame(*at) },
            Op::Output { port, at, cut: Some(cut) } => {
                let whole = commit(flying, plan, base, cut.at).len();
                let frame = frame(*at);
                let less = whole.saturating_sub(usize::try_from(cut.max_len).unwrap_or(usize::MAX));
                let some = frame.get(..frame.len().saturating_sub(less)).map(Shared::from);
                Effect::Output { port: *port, frame: some.unwrap_or(frame) }
            }
            Op::Normal { vlan, at, ports } => {
                Effect::Normal { frame: frame(*at), vlan: *vlan, delivered: copies(ports, frame) }
            }
            Op::Controller { at } => Effect::Controller { frame: frame(*at) },
            Op::Opaque { flow, text } => Effect::Opaque { flow: *flow, text: text.clone() },
            Op::Track { .. } | Op::Untrack | Op::Copy(_) | Op::ByLength { .. } => return,
        });
    }
}

/// A frame for each port, the same where the key is.
fn copies(ports: &[(PortNo, usize)], frame: impl Fn(usize) -> Shared) -> Vec<(PortNo, Shared)> {
    let mut made: SmallVec<[(usize, Shared); 2]> = SmallVec::new();
    let copy = |(port, at): &(PortNo, usize)| {
        let known = made.iter().find(|(of, _)| of == at).map(|(_, frame)| Shared::clone(frame));
        let copy = known.unwrap_or_else(|| {
            let new = frame(*at);
            made.push((*at, Shared::clone(&new)));
            new
        });
        (*port, copy)
    };
    ports.iter().map(copy).collect()
}

/// A packet that has no frame needs no memory either.
static NOTHING: LazyLock<Shared> = LazyLock::new(|| Shared::from([]));

fn shared(frame: &[u8]) -> Shared {
    if frame.is_empty() { Shared::clone(&NOTHING) } else { Shared::from(frame) }
}

/// The frame with the header changes between two of the plan's keys.
fn commit<'f>(flying: &'f Flying<'_>, plan: &Plan, base: usize, at: usize) -> Cow<'f, [u8]> {
    match (plan.keys.get(base), plan.keys.get(at)) {
        (Some(before), Some(after)) if base != at && !flying.frame.is_empty() => {
            Cow::Owned(wire::commit(&flying.frame, before, after))
        }
        _ => Cow::Borrowed(&flying.frame),
    }
}

/// What connections are known by.
const TUPLE: [Field; 6] =
    [Field::NwSrc, Field::NwDst, Field::Ipv6Src, Field::Ipv6Dst, Field::TcpSrc, Field::TcpDst];

/// Makes the header changes between two of the plan's keys.
fn rewrite(flying: &mut Flying<'_>, plan: &Plan, base: usize, at: usize) {
    if base != at
        && let (Some(before), Some(after)) = (plan.keys.get(base), plan.keys.get(at))
        && let Some(tracked) = &mut flying.tracked
    {
        tracked.rewritten |= TUPLE.iter().any(|field| before.get(*field) != after.get(*field));
    }
    if let Cow::Owned(frame) = commit(flying, plan, base, at) {
        flying.frame = Cow::Owned(frame);
    }
}

/// Where a pass stands: one that was resumed after `ct()` is known by the table and by what it has kept. What is no
/// fragment need not know.
fn place(level: u8, table: u8, key: &FlowKey, batch: &[Flying<'_>]) -> Place {
    if batch.len() == 1 && key.get(Field::NwFrag) == 0 {
        return Place::default();
    }
    let version = match u16::try_from(key.get(Field::DlType)) {
        Ok(ethertype::IPV4) => Some(IpVersion::V4),
        Ok(ethertype::IPV6) => Some(IpVersion::V6),
        _ => None,
    };
    if level == 0 {
        return Place { version, ..Place::default() };
    }
    let mut hasher = DefaultHasher::new();
    table.hash(&mut hasher);
    let kept = SURVIVORS.into_iter().filter(|field| !NOT_OF_A_PASS.contains(field));
    kept.for_each(|field| key.get(field).hash(&mut hasher));
    Place { pass: hasher.finish() | 1, version, more: false }
}

/// The key of a recirculated frame.
fn again(old: &FlowKey, frame: &[u8]) -> FlowKey {
    let mut key = wire::extract(frame, 0);
    survive(old, &mut key);
    key
}

/// The key of a recirculated packet that has no frame: what lies behind a second tag is out of sight.
fn reread(old: &FlowKey) -> FlowKey {
    const TAGS: [Field; 4] = [Field::DlSrc, Field::DlDst, Field::VlanTci, Field::VlanTpid];
    let mut key = old.clone();
    key.set(Field::ConjId, 0);
    let inner = key.get(Field::InnerVlanTpid);
    if inner != 0 {
        key = FlowKey::default();
        survive(old, &mut key);
        TAGS.into_iter().for_each(|field| key.set(field, old.get(field)));
        key.set(Field::DlType, inner);
    }
    key
}

/// Writes what `ct()` said into a key.
fn put_tracked(key: &mut FlowKey, zone: u16, info: &CtInfo) {
    clear_tracked(key);
    key.set(Field::CtState, u128::from(info.state));
    key.set(Field::CtZone, u128::from(zone));
    key.set(Field::CtMark, u128::from(info.mark));
    key.set(Field::CtLabel, info.label);
    let Some(tuple) = info.orig else { return };
    let (src, dst) =
        if tuple.ipv6 { (Field::CtIpv6Src, Field::CtIpv6Dst) } else { (Field::CtNwSrc, Field::CtNwDst) };
    key.set(src, tuple.src);
    key.set(dst, tuple.dst);
    key.set(Field::CtNwProto, u128::from(tuple.proto));
    key.set(Field::CtTpSrc, u128::from(tuple.tp_src));
    key.set(Field::CtTpDst, u128::from(tuple.tp_dst));
}
