//! Flows that frames are seen to hit.
//!
//! For each flow a few frames are made up that should hit it ([`Ways`]), and sent through the interpreter; what they hit, they hit,
//! whatever they were made for. So of a flow that is found here nothing is left to be proved, and a host of many thousand
//! flows needs no more than as many packets.
//!
//! Invariants: each frame is one that a sender can make, each answer of the connection tracker one that it can give
//! ([`frames::sendable`], [`symbolic::legal_answers`]). Deliberately absent: that a flow which is not found here is dead.

use super::{
    wanted::Wanted,
    ways::{Way, Ways},
};
use crate::{
    arrival::Arrival,
    bdd::{Bdd, Bdds},
    effects::ANSWERS,
    familiar, frames, symbolic,
    symkey::{FIRST, Form, LATER},
    tables::{Tables, clauses},
    vars::{self, Var},
};
use flowproof_packet::{Field, FlowKey, key, port};
use flowproof_switch::{
    conntrack::{CtInfo, Profile},
    pipeline::{Stateless, SwitchConfig},
    table::FlowId,
};
use rayon::prelude::*;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// Nodes that the diagrams of what may be sent and answered need by far not.
const NODE_LIMIT: usize = 1 << 20;
/// Flows that one thread aims at before it asks for more.
const PART: usize = 512;

/// What a frame is where nothing else is wanted of it: type, protocol, what stands where ports do. The last three are for types and
/// protocols that no other has.
const KINDS: [(u16, u8, u16, u16); 14] = [
    (0x0800, 6, 40_001, 40_002),
    (0x86dd, 6, 40_001, 40_002),
    (0x0800, 17, 40_001, 40_002),
    (0x86dd, 17, 40_001, 40_002),
    (0x0800, 1, 8, 0),
    (0x86dd, 58, 128, 0),
    (0x86dd, 58, 135, 0),
    (0x0806, 1, 0, 0),
    (0x8035, 3, 0, 0),
    (0x0800, 1, 253, 253),
    (0x86dd, 58, 253, 253),
    (0x0800, 253, 0, 0),
    (0x86dd, 253, 0, 0),
    (0x88b5, 0, 0, 0),
];

/// Marks of connections where none is wanted; no driver sets the second.
const MARKS: [u32; 2] = [0, 0x5301];

/// The flows that some frame hits which was made for one of them.
pub(super) fn seen(tables: &Tables, ways: &Ways<'_>) -> Vec<bool> {
    let hit: Vec<AtomicBool> = tables.flows().iter().map(|_| AtomicBool::new(false)).collect();
    // Those that are clauses are hit by nothing.
    let flows: Vec<FlowId> = (0..)
        .map(FlowId)
        .zip(tables.flows())
        .filter(|(_, flow)| clauses(flow).next().is_none())
        .map(|(id, _)| id)
        .collect();
    flows.par_chunks(PART).for_each_init(
        || Range::new(tables, &hit),
        |range, flows| flows.iter().for_each(|flow| range.aim_at(*flow, ways)),
    );
    hit.into_iter().map(AtomicBool::into_inner).collect()
}

/// Where frames are tried.
struct Range<'a> {
    hit: &'a [AtomicBool],
    sets: Bdds,
    sendable: BTreeMap<Form, Bdd>,
    /// What the tracker may answer, and the tables on a datapath that has such a tracker.
    legal: BTreeMap<(Profile, Form), Bdd>,
    switches: BTreeMap<Profile, Stateless>,
    kinds: Vec<FlowKey>,
}

impl<'a> Range<'a> {
    fn new(tables: &Tables, hit: &'a [AtomicBool]) -> Self {
        let mut sets = Bdds::with_limit(NODE_LIMIT);
        let sendable = Form::ALL.map(|form| (form, frames::sendable(&mut sets, form))).into();
        let mut legal = BTreeMap::new();
        for (profile, form) in Profile::ALL.into_iter().flat_map(|one| Form::ALL.map(|form| (one, form))) {
            if form == Form::Whole || !profile.reassembles() {
                legal.insert((profile, form), symbolic::legal_answers(&mut sets, profile, form, 0));
            }
        }
        let switch = |profile| {
            let config = SwitchConfig { profile, ..SwitchConfig::new(Vec::new()) };
            (profile, Stateless::new(Arc::clone(tables.switch()), config))
        };
        let switches = Profile::ALL.map(switch).into();
        let stranger = stranger(tables);
        let kinds = KINDS.map(|kind| made_up(kind, stranger)).into();
        Self { hit, sets, sendable, legal, switches, kinds }
    }

    fn is_hit(&self, flow: FlowId) -> bool {
        self.hit.get(flow.0 as usize).is_some_and(|hit| hit.load(Ordering::Relaxed))
    }

    /// Tries frames until one hits the flow, if one does.
    fn aim_at(&mut self, flow: FlowId, ways: &Ways<'_>) {
        if self.is_hit(flow) {
            return;
        }
        for way in ways.to(flow) {
            for kind in 0..self.kinds.len() {
                let Some(key) = self.frame(&way, kind) else { continue };
                for variant in 0..MARKS.len() * ANSWERS.len() {
                    self.send(&key, &way, variant);
                    if self.is_hit(flow) {
                        return;
                    }
                    if way.answers.is_empty() {
                        break;
                    }
                }
            }
        }
    }

    /// A frame of a kind that goes this way, if a sender can make it.
    fn frame(&self, way: &Way, kind: usize) -> Option<FlowKey> {
        let fixed: &[Field] = match self.kinds.len() - kind {
            1 => &[],
            2 | 3 => &[Field::DlType],
            _ => &[Field::DlType, Field::NwProto],
        };
        let kind = self.kinds.get(kind).filter(|kind| way.entering.allows(kind, fixed))?;
        let mut key = way.entering.imposed_on(kind);
        if key.get(Field::VlanTci) != 0 {
            key.set(Field::VlanTpid, 0x8100);
        }
        let form = form(&key)?;
        if form != Form::Whole {
            [Field::TcpSrc, Field::TcpDst].into_iter().for_each(|field| key.set(field, 0));
        }
        let key = arriving(&way.entering, key)?;
        let sendable = self.sendable.get(&form)?;
        self.sets.contains(*sendable, |var| sent(&key, var)).then_some(key)
    }

    /// Sends a frame, and notes what it hits.
    fn send(&mut self, key: &FlowKey, way: &Way, variant: usize) {
        let Some(form) = form(key) else { return };
        let answers: Option<Vec<FlowKey>> =
            way.answers.iter().map(|wanted| answer(wanted, key, variant)).collect();
        let Some(answers) = answers else { return };
        let may =
            |legal: Bdd| answers.iter().all(|answer| self.sets.contains(legal, |var| told(answer, var)));
        let legal = self.legal.iter().find(|((_, of), legal)| *of == form && may(**legal));
        let Some(switch) = legal.and_then(|((profile, _), _)| self.switches.get_mut(profile)) else { return };
        let answers: Vec<CtInfo> = answers.iter().map(info).collect();
        for (_, flow) in switch.trace(key, &answers).path() {
            self.hit.get(flow.0 as usize).into_iter().for_each(|hit| hit.store(true, Ordering::Relaxed));
        }
    }
}

/// A port that no flow names.
fn stranger(tables: &Tables) -> u16 {
    let named = tables.named_ports();
    (1..port::IN_PORT).rev().find(|port| *port < 0xff00 && named.binary_search(port).is_err()).unwrap_or(1)
}

fn made_up((dl_type, nw_proto, first, second): (u16, u8, u16, u16), in_port: u16) -> FlowKey {
    let mut key = FlowKey::default();
    let mut set = |field, value: u128| key.set(field, value);
    set(Field::InPort, in_port.into());
    set(Field::DlSrc, 0x0200_5e00_5301);
    set(Field::DlDst, 0x0200_5e00_5302);
    set(Field::DlType, dl_type.into());
    set(Field::NwProto, nw_proto.into());
    set(Field::TcpSrc, first.into());
    set(Field::TcpDst, second.into());
    if dl_type == 0x86dd {
        // 2001:db8::/32 is for documentation (RFC 3849).
        set(Field::Ipv6Src, 0x2001_0db8 << 96 | 0x5301);
        set(Field::Ipv6Dst, 0x2001_0db8 << 96 | 0x5302);
    } else if dl_type != 0x88b5 {
        // So is 203.0.113.0/24 (RFC 5737).
        set(Field::NwSrc, 0xcb00_7101);
        set(Field::NwDst, 0xcb00_7102);
    }
    key
}

/// The frame as it may come in: of a packet that is not tracked nothing is known that tracking tells, and one that the host has
/// tracked is in some state.
fn arriving(wanted: &Wanted, mut key: FlowKey) -> Option<FlowKey> {
    if key.get(Field::CtState) == 0 {
        let untold = |field: Field| key.get(field) == 0;
        return vars::tracked_fields().chain([Field::CtZone]).all(untold).then_some(key);
    }
    let (state, asked) = wanted.get(Field::CtState);
    let free = ANSWERS.into_iter().map(u128::from).find(|flags| {
        let mut with = key.clone();
        with.set(Field::CtState, *flags);
        (flags ^ state) & asked == 0 && Arrival::Tracked.premise().holds(&with)
    })?;
    key.set(Field::CtState, free);
    Some(key)
}

fn form(key: &FlowKey) -> Option<Form> {
    match key.get(Field::NwFrag) {
        0 => Some(Form::Whole),
        FIRST => Some(Form::First),
        LATER => Some(Form::Later),
        _ => None,
    }
}

/// A bit of a frame as it was sent; what a fragment shows instead of its protocol is the protocol here.
fn sent(key: &FlowKey, var: Var) -> bool {
    let bits = key::BITS as u16;
    let shown = var.0.checked_sub(bits).map(|bit| Field::NwProto.spec().offset + bit);
    key.bit(shown.unwrap_or(var.0))
}

/// Where the key shows what the tracker answered, by variable.
static ANSWERED: LazyLock<Vec<u16>> = LazyLock::new(|| {
    let mut places = vec![0; vars::answers(0).len()];
    for field in vars::tracked_fields() {
        for (at, var) in (field.spec().offset..).zip(vars::tracked(0, field)) {
            let place = places.get_mut(usize::from(var.0 - vars::answers(0).start));
            place.into_iter().for_each(|place| *place = at);
        }
    }
    places
});

/// A bit of a packet that was tracked once.
fn told(key: &FlowKey, var: Var) -> bool {
    let answer = var.0.checked_sub(vars::answers(0).start);
    let place = answer.and_then(|at| ANSWERED.get(usize::from(at)));
    place.map_or_else(|| sent(key, var), |place| key.bit(*place))
}

/// A packet with what the tracker may answer where this is wanted of it; of several answers, the one at `variant`.
fn answer(wanted: &Wanted, key: &FlowKey, variant: usize) -> Option<FlowKey> {
    let said = |(mark, flags): (u32, u32)| {
        let mut key = key.clone();
        key.set(Field::CtState, u128::from(flags));
        key.set(Field::CtMark, u128::from(mark));
        key
    };
    let all = MARKS.into_iter().flat_map(|mark| ANSWERS.map(|flags| (mark, flags)));
    let fitting = all.map(said).filter(|key| wanted.allows(key, &[Field::CtState]));
    fitting.map(|key| wanted.imposed_on(&key)).take(variant + 1).last()
}

fn info(key: &FlowKey) -> CtInfo {
    let get = |field| key.get(field);
    let tuple = familiar::tuple(&mut |field| get(field), get(Field::DlType) == 0x86dd);
    CtInfo {
        state: get(Field::CtState) as u32,
        mark: get(Field::CtMark) as u32,
        label: get(Field::CtLabel),
        orig: Some(tuple),
        unknown: None,
    }
}
