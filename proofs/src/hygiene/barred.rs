//! Flows that nothing can hit, because other flows of their table take all that may come there.
//!
//! Of what comes to a node of the [`Walk`](crate::walk::Walk) two things are known: its constants, and of which types it is, tracked
//! or not, because flows that called tables on the way asked for that ([`arrivals`]). If the flows before the one in question
//! take all of that which it would, at every node of its table, it is dead. Invariant: where [`is_barred`] says so no packet
//! hits the flow. Deliberately coarse: nothing else is known of what comes.

use super::ways::Ways;
use crate::{
    bdd::{Bdd, Bdds},
    effects::{ANSWERS, UNTRACKED, may_show},
    frames, live,
    predicate::Predicate,
    set::{Literal, PacketSets},
    tables::Tables,
    vars,
    walk::{Edge, FIELDS, Known, Node},
};
use flowproof_packet::{Field, key::WORDS};
use flowproof_switch::{
    conntrack::state,
    flow::{Action, Flow},
    table::FlowId,
};
use rustc_hash::FxHashMap;

/// Whether no packet hits a flow.
pub(super) fn is_barred(
    sets: &mut Bdds,
    tables: &Tables,
    ways: &Ways<'_>,
    arrivals: &[u16],
    flow: FlowId,
) -> bool {
    let Some(of) = tables.flow(flow) else { return false };
    if ways.is_never_satisfied(of) {
        return true;
    }
    let (shown, well_formed) = (shown(sets), frames::well_formed().to_set(sets));
    let mut sort: FxHashMap<u16, Bdd> = FxHashMap::default();
    ways.nodes_for(of).into_iter().all(|at| {
        let (Some(node), Some(arrivals)) = (ways.walk.nodes.get(at), arrivals.get(at)) else { return false };
        let come = *sort.entry(*arrivals).or_insert_with(|| {
            let come = packets(sets, *arrivals);
            sets.and(come, shown)
        });
        // Nobody has changed a frame where it enters.
        let is_entrance = at == 0 && ways.callers(at).is_empty();
        let come = if is_entrance { sets.and(come, well_formed) } else { come };
        bars(sets, tables, ways, node, come, flow, of)
    })
}

/// Whether flows before this one take all that it would of what comes to a node. Those nearest to it are asked first: a table's
/// last flow is barred by the ones just above.
fn bars(
    sets: &mut Bdds,
    tables: &Tables,
    ways: &Ways<'_>,
    node: &Node,
    come: Bdd,
    flow: FlowId,
    of: &Flow,
) -> bool {
    let takes = cube(sets, of, &node.known);
    let mut rest = sets.and(come, takes);
    let is_before = |other: &Flow, id: FlowId| {
        let rank = (other.priority, std::cmp::Reverse(id));
        rank > (of.priority, std::cmp::Reverse(flow))
            && !other.matching.looks_at(Field::ConjId)
            && !tables.is_hidden(id)
            && !other.actions.iter().any(|action| matches!(action, Action::Conjunction(_)))
    };
    let mut before: Vec<(FlowId, &Flow)> = ways
        .walk
        .matching(node)
        .into_iter()
        .filter_map(|id| Some((id, tables.flow(id)?)))
        .filter(|(id, other)| is_before(other, *id))
        .collect();
    before.sort_unstable_by_key(|(id, other)| (other.priority, std::cmp::Reverse(*id)));
    for (_, other) in before {
        if sets.is_empty(rest) {
            return true;
        }
        let takes = cube(sets, other, &node.known);
        rest = sets.minus(rest, takes);
    }
    sets.is_empty(rest)
}

/// The states that a packet may show.
fn shown(sets: &mut Bdds) -> Bdd {
    let mut shown = sets.none();
    for flags in UNTRACKED.into_iter().chain(ANSWERS) {
        let bits = vars::sent(Field::CtState).rev().enumerate();
        // Whether addresses were translated is left open.
        let told = bits.filter(|(at, _)| {
            (state::SNAT | state::DNAT).checked_shr(*at as u32).is_none_or(|nat| nat & 1 == 0)
        });
        let literals: Vec<Literal> = told.map(|(at, var)| (var, flags >> at & 1 == 1)).collect();
        let one = sets.cube(&literals);
        shown = sets.or(shown, one);
    }
    shown
}

/// What a packet is, as far as is followed here: its type, if that is one of these, and whether it is tracked. A set of such is a
/// bit for each type, untracked in the lower half and tracked in the upper.
const TYPES: [u128; 4] = [0x0800, 0x86dd, 0x0806, 0x8035];
/// Bits of one half: the types, and any other.
const HALF: u32 = TYPES.len() as u32 + 1;
const LOWER: u16 = (1 << HALF) - 1;
/// The first two of [`TYPES`].
const IP: u16 = 0b11;

/// What may come to each node.
pub(super) fn arrivals(tables: &Tables, ways: &Ways<'_>) -> Vec<u16> {
    let writes_type = |action: &Action| {
        matches!(action, Action::Move { dst, .. } | Action::Pop(dst) if dst.field == Field::DlType)
            || matches!(action, Action::Set { field: Field::DlType, .. } | Action::PushVlan(_))
    };
    let count = ways.walk.nodes.len();
    if tables.flows().iter().flat_map(|flow| &flow.actions).any(writes_type) {
        return vec![u16::MAX; count];
    }
    let mut arrivals = vec![0; count];
    // The host may have tracked IP, and nothing else, before it comes in.
    arrivals.iter_mut().take(1).for_each(|start| *start = LOWER | IP << HALF);
    let mut ahead = vec![0];
    while let Some(at) = ahead.pop() {
        let here = arrivals.get(at).copied().unwrap_or_default();
        for edge in ways.walk.edges(at) {
            let sent = sent_on(tables, edge, here);
            if let Some(there) = arrivals.get_mut(edge.to).filter(|there| sent & !**there != 0) {
                *there |= sent;
                ahead.push(edge.to);
            }
        }
    }
    arrivals
}

/// What a flow sends on of what comes to it.
fn sent_on(tables: &Tables, edge: &Edge, here: u16) -> u16 {
    let Some(flow) = tables.flow(edge.flow) else { return here };
    let mut sent = here & matched(flow);
    for (at, action) in flow.actions.iter().enumerate().take(edge.action + 1) {
        let untracked = sent & LOWER | sent >> HALF;
        let calls = matches!(action, Action::Resubmit { .. } | Action::GotoTable(_)) && at < edge.action;
        let tracks = matches!(action, Action::Ct(_)) && at == edge.action;
        // A copy ends, and its original may be tracked or not.
        if calls || tracks || matches!(action, Action::End) {
            // What is called comes back tracked or not.
            sent = untracked | untracked << HALF;
        } else if matches!(action, Action::Ct(_) | Action::CtClear) {
            sent = untracked;
        }
    }
    sent
}

/// What a flow matches.
fn matched(flow: &Flow) -> u16 {
    let (value, mask) = flow.matching.get(Field::DlType);
    let fits = |of: &u128| (of ^ value) & mask == 0;
    let named = TYPES.iter().enumerate().filter(|(_, of)| fits(of)).fold(0, |set, (at, _)| set | 1 << at);
    let other = !TYPES.contains(&value) || mask != 0xffff;
    let types = named | u16::from(other) << TYPES.len();
    let (untracked, tracked) = may_show(flow.matching.get(Field::CtState));
    let half = |may: bool| if may { types } else { 0 };
    half(untracked) | half(tracked) << HALF
}

/// The packets that are one of these.
fn packets(sets: &mut Bdds, arrivals: u16) -> Bdd {
    let mut all = sets.none();
    let named = Predicate::one_of(Field::DlType, TYPES);
    for (at, half) in [(false, arrivals & LOWER), (true, arrivals >> HALF)] {
        let of_type = |(place, of): (usize, Predicate)| (half >> place & 1 == 1).then_some(of);
        let each =
            TYPES.map(|of| Predicate::is(Field::DlType, of)).into_iter().chain([named.clone().negate()]);
        let types = Predicate::Any(each.enumerate().filter_map(of_type).collect());
        let trk = u128::from(state::TRK);
        let tracked = Predicate::Is(Field::CtState, if at { trk } else { 0 }, trk);
        let of_half = types.and(tracked).to_set(sets);
        all = sets.or(all, of_half);
    }
    all
}

/// What a flow matches of packets of which this is known.
fn cube(sets: &mut Bdds, flow: &Flow, known: &Known) -> Bdd {
    let mut asked = [u64::MAX; WORDS];
    for (field, known) in FIELDS.into_iter().zip(known) {
        let Some(known) = known else { continue };
        let (value, mask) = flow.matching.get(field);
        if (value ^ u128::from(*known)) & mask != 0 {
            return sets.none();
        }
        live::clear(&mut asked, field, u128::MAX);
    }
    super::cube(sets, flow, &asked)
}
