//! What single actions do to symbolic packets, and what connection tracking may answer: shared by both engines.

use crate::{
    arrival::Arrival,
    frames,
    predicate::Predicate,
    probe::OURS,
    set::{Literal, PacketSets},
    symbolic::Emit,
    symkey::{Form, SymKey, tracked_state},
    tables::Tables,
    vars,
};
use flowproof_packet::{Field, PortNo, key::masked_words, port};
use flowproof_switch::{
    conntrack::{Profile, state},
    flow::{Action, Ct, Extent, Match, Subfield, Zone, extent},
};
use std::sync::LazyLock;

/// Whether both engines know all that an action does, apart from `dec_ttl`, `resubmit(…,ct)` and arguments of `ct()`.
#[must_use]
pub fn is_modelled(action: &Action) -> bool {
    match action {
        Action::Clone(inner) => inner.iter().all(is_modelled),
        Action::Group(named) => named
            .group
            .as_ref()
            .is_some_and(|group| group.buckets.iter().flat_map(|bucket| &bucket.actions).all(is_modelled)),
        Action::Pop(part) => !part.field.overlaps(Field::VlanTci),
        Action::Learn(_)
        | Action::PushMpls(_)
        | Action::PopMpls(_)
        | Action::DecMplsTtl
        | Action::WriteActions(_)
        | Action::ClearActions
        | Action::OutputTruncated { .. }
        | Action::RetagUnclear { .. }
        | Action::Opaque(_) => false,
        Action::Output(_)
        | Action::OutputField(_)
        | Action::Enqueue { .. }
        | Action::Controller(_)
        | Action::Resubmit { .. }
        | Action::GotoTable(_)
        | Action::Set { .. }
        | Action::Move { .. }
        | Action::Push(_)
        | Action::CheckPktLarger { .. }
        | Action::ModVlanVid(_)
        | Action::ModVlanPcp(_)
        | Action::StripVlan
        | Action::PushVlan(_)
        | Action::DecTtl(_)
        | Action::Ct(_)
        | Action::CtClear
        | Action::Conjunction(_)
        | Action::Note(_)
        | Action::SetQueue(_)
        | Action::PopQueue
        | Action::Meter(_)
        | Action::Exit
        | Action::Begin(_)
        | Action::End => true,
    }
}

/// What is not modelled of frames with two tags.
pub(crate) const SECOND_TAG: &str = "ct() of a frame with two tags";
/// What is unknown of a frame with a tag that meets [`Action::RetagUnclear`].
pub(crate) const UNCLEAR_TAG: &str = "mod_vlan of a dump, which may change the tag or add one";

/// Where packets came in, as far as it matters where they leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CameIn {
    /// It does not: the key may have forgotten it.
    Anyhow,
    /// By any port.
    Anywhere,
    /// By this one.
    By(PortNo),
}

/// How an action lets a packet with this key leave, if it does. The switch takes the input port as it is written then: what
/// leaves by `IN_PORT` goes there, and an output to that port is none.
pub(crate) fn emitted(action: &Action, key: &SymKey, came_in: CameIn) -> Option<Emit> {
    let port = match action {
        Action::Output(port) | Action::Enqueue { port, .. } => Some(*port),
        // A number that no port has goes nowhere.
        Action::OutputField(part) => match key.constant(*part).map(PortNo::try_from) {
            Some(Ok(port)) => Some(port),
            Some(Err(_)) => return None,
            None => None,
        },
        Action::Controller(_) => return Some(Emit::Controller),
        Action::DecTtl(_) => return Some(Emit::Opaque("dec_ttl".to_owned())),
        // A tag is more than its bits.
        Action::Pop(part) if !is_modelled(action) => {
            return Some(Emit::Opaque(format!("pop into {}", part.field.spec().name)));
        }
        Action::Resubmit { ct: true, .. } => return Some(Emit::Opaque("resubmit(…,ct)".to_owned())),
        Action::Resubmit { ct: false, .. }
        | Action::GotoTable(_)
        | Action::Set { .. }
        | Action::Move { .. }
        | Action::ModVlanVid(_)
        | Action::RetagUnclear { .. }
        | Action::ModVlanPcp(_)
        | Action::StripVlan
        | Action::PushVlan(_)
        | Action::Ct(_)
        | Action::CtClear
        | Action::SetQueue(_)
        | Action::PopQueue
        | Action::Conjunction(_)
        | Action::Note(_)
        | Action::Push(_)
        | Action::Pop(_)
        | Action::CheckPktLarger { .. }
        | Action::Meter(_)
        | Action::Exit
        | Action::Begin(_)
        | Action::End => return None,
        Action::Clone(_)
        | Action::Group(_)
        | Action::Learn(_)
        | Action::PushMpls(_)
        | Action::PopMpls(_)
        | Action::DecMplsTtl
        | Action::WriteActions(_)
        | Action::ClearActions
        | Action::OutputTruncated { .. }
        | Action::Opaque(_) => return Some(Emit::Opaque(action.to_string())),
    };
    let in_port = key.constant(Subfield::whole(Field::InPort)).filter(|_| came_in != CameIn::Anyhow);
    match port {
        Some(port::NONE) => None,
        // Numbers that no port has (ovs-vswitchd.conf.db(5), `ofport_request`).
        Some(0 | 0xff00..port::IN_PORT) => None,
        Some(port) if in_port == Some(u128::from(port)) => None,
        Some(port::IN_PORT) => back(key, came_in),
        Some(port::NORMAL) => Some(Emit::Normal),
        Some(port::FLOOD | port::ALL) => Some(Emit::Flood),
        Some(port::CONTROLLER) => Some(Emit::Controller),
        Some(port::TABLE) => Some(Emit::Opaque("TABLE".to_owned())),
        Some(port) => Some(Emit::Port(port)),
        None => Some(Emit::UnknownPort),
    }
}

/// The fields that an action reads or writes as values.
pub(crate) fn touched(action: &Action) -> [Option<Field>; 2] {
    match action {
        Action::Set { field, .. } => [Some(*field), None],
        Action::Move { src, dst } => [Some(src.field), Some(dst.field)],
        Action::OutputField(part) => [Some(part.field), None],
        Action::Ct(ct) => [if let Zone::Field(part) = ct.zone { Some(part.field) } else { None }, None],
        Action::Output(_)
        | Action::Controller(_)
        | Action::Resubmit { .. }
        | Action::GotoTable(_)
        | Action::ModVlanVid(_)
        | Action::RetagUnclear { .. }
        | Action::ModVlanPcp(_)
        | Action::StripVlan
        | Action::PushVlan(_)
        | Action::DecTtl(_)
        | Action::CtClear
        | Action::Conjunction(_)
        | Action::Note(_)
        | Action::Clone(_)
        | Action::Exit
        | Action::SetQueue(_)
        | Action::PopQueue
        | Action::Group(_)
        | Action::Meter(_)
        | Action::Learn(_)
        | Action::PushMpls(_)
        | Action::PopMpls(_)
        | Action::DecMplsTtl
        | Action::WriteActions(_)
        | Action::ClearActions
        | Action::OutputTruncated { .. }
        | Action::Enqueue { .. }
        | Action::Opaque(_) => [None, None],
        Action::Begin(_) | Action::End => [None, None],
        Action::Push(part) | Action::Pop(part) | Action::CheckPktLarger { dst: part, .. } => {
            [Some(part.field), None]
        }
    }
}

/// Whether a `ct()` has arguments that both engines do not know. A bare `nat` changes nothing where no flow begins a translation.
#[must_use]
pub const fn is_unmodelled(ct: &Ct, tables: &Tables) -> bool {
    ct.alg.is_some() || ct.nat.is_some() && tables.translates()
}

/// Whether what becomes of a packet behind this is not known.
pub(crate) fn is_the_end(emit: &Emit) -> bool {
    matches!(emit, Emit::Opaque(text) if !text.starts_with(OURS) && extent(text) != Extent::Beside)
}

/// How far an action reaches, if it is not modelled.
pub(crate) fn unknown(action: &Action, tables: &Tables) -> Option<Extent> {
    static ANY: LazyLock<SymKey> =
        LazyLock::new(|| SymKey::entering_anywhere(Form::Whole, Arrival::Untracked));
    if let Action::RetagUnclear { .. } = action {
        return Some(Extent::Changed);
    }
    if let Action::Ct(ct) = action {
        return is_unmodelled(ct, tables).then_some(Extent::Changed);
    }
    match emitted(action, &ANY, CameIn::Anyhow) {
        Some(Emit::Opaque(text)) if !text.starts_with(OURS) => Some(extent(&text)),
        _ => None,
    }
}

/// Where `IN_PORT` leads.
fn back(key: &SymKey, came_in: CameIn) -> Option<Emit> {
    let in_port = key.constant(Subfield::whole(Field::InPort)).and_then(|port| PortNo::try_from(port).ok());
    match (came_in, in_port) {
        (CameIn::Anyhow, _) => Some(Emit::InPort),
        (CameIn::By(own), Some(port)) if own == port => Some(Emit::InPort),
        (_, Some(0 | 0xff00..=port::CONTROLLER | port::NONE)) => None,
        (_, Some(port)) => Some(Emit::Port(port)),
        (_, None) if is_in_port_as_sent(key) => Some(Emit::InPort),
        (_, None) => Some(Emit::UnknownPort),
    }
}

fn is_in_port_as_sent(key: &SymKey) -> bool {
    masked_words(Field::InPort, 0, u128::MAX).all(|part| key.is_as_sent(part.word, part.mask))
}

/// The packets that an output to `port` would send back to where they came in, as far as the key leaves it open: the switch
/// sends them nowhere.
pub(crate) fn own(port: PortNo, key: &SymKey) -> Option<Vec<Literal>> {
    let mut matching = Match::default();
    matching.set(Field::InPort, port.into(), u128::MAX);
    key.wanted(&matching).filter(|literals| !literals.is_empty())
}

/// Whether `ct()` may let go of a frame before its train is complete, untracked and invalid.
pub(crate) fn may_be_overdue(profile: Profile, form: Form) -> bool {
    form != Form::Whole && !profile.reassembles()
}

/// The states that connection tracking answers with.
pub(crate) const ANSWERS: [u32; 6] = [
    state::TRK | state::EST,
    state::TRK | state::NEW,
    state::TRK | state::EST | state::RPL,
    state::TRK | state::REL,
    state::TRK | state::REL | state::RPL,
    state::TRK | state::INV,
];

/// The states that packets show which are not tracked: most of them, and fragments that connection tracking let go of.
pub(crate) const UNTRACKED: [u32; 2] = [0, state::INV];

/// Whether some packet that is not tracked, and some that is, may show the state that is wanted.
pub(crate) fn may_show((value, mask): (u128, u128)) -> (bool, bool) {
    let mask = mask & !u128::from(state::SNAT | state::DNAT);
    let fits = |flags: &u32| (u128::from(*flags) ^ value) & mask == 0;
    (UNTRACKED.iter().any(fits), ANSWERS.iter().any(fits))
}

/// What connection tracking may answer at nesting `depth`: exactly one of `new`, `est`, `rel`, `inv`; `rpl` only
/// with `est` or `rel`; no mark and no label on what is invalid, except that userspace leaves those of the connection on
/// a segment outside its window; neighbour and listener discovery as the profile has it, redirects invalid. An overdue
/// fragment is `inv` without `trk`, its mark and label anything.
pub fn legal_answers<S: PacketSets>(sets: &mut S, profile: Profile, form: Form, depth: u16) -> S::Set {
    let answer = |sets: &mut S, flags: u32, unmarked: bool| {
        let bits = vars::tracked(depth, Field::CtState).rev().enumerate();
        let open = if flags & (state::EST | state::REL) != 0 { state::RPL } else { 0 };
        let mut literals: Vec<Literal> = bits
            .filter(|(i, _)| {
                (tracked_state::UNKNOWN | state::TRK) & !open & 1u32.checked_shl(*i as u32).unwrap_or(0) != 0
            })
            .map(|(i, var)| (var, flags >> i & 1 == 1))
            .collect();
        if unmarked {
            let marks = vars::tracked(depth, Field::CtMark).chain(vars::tracked(depth, Field::CtLabel));
            literals.extend(marks.map(|var| (var, false)));
        }
        sets.cube(&literals)
    };
    let tracked = |flag| flag | state::TRK;
    let mut legal = answer(sets, tracked(state::INV), profile.reassembles());
    for kind in [state::NEW, state::EST, state::REL] {
        let one = answer(sets, tracked(kind), false);
        legal = sets.or(legal, one);
    }
    let invalid = answer(sets, tracked(state::INV), true);
    let untrackable = if profile.nd_is_new() { answer(sets, tracked(state::NEW), true) } else { invalid };
    let discovery = icmpv6(&frames::DISCOVERY).to_set(sets);
    let redirect = icmpv6(&[frames::REDIRECT]).to_set(sets);
    let mut answers = sets.minus(legal, discovery);
    answers = sets.minus(answers, redirect);
    for (packets, answer) in [(discovery, untrackable), (redirect, invalid)] {
        let these = sets.and(packets, answer);
        answers = sets.or(answers, these);
    }
    if may_be_overdue(profile, form) {
        let overdue = answer(sets, state::INV, false);
        answers = sets.or(answers, overdue);
    }
    answers
}

/// ICMPv6 of these types.
pub(crate) fn icmpv6(types: &[u8]) -> Predicate {
    Predicate::All(vec![
        Predicate::is(Field::DlType, 0x86ddu16),
        Predicate::is(Field::NwProto, 58u8),
        Predicate::one_of(Field::Icmpv6Type, types.iter().copied()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bdd::Bdds;
    use std::collections::BTreeSet;

    /// The states of all legal answers, on every datapath to every form.
    fn legal_states() -> BTreeSet<u32> {
        let mut sets = Bdds::with_limit(1 << 20);
        let states: Vec<vars::Var> = vars::tracked(0, Field::CtState).rev().collect();
        let mut all = BTreeSet::new();
        for (profile, form) in Profile::ALL.into_iter().flat_map(|one| Form::ALL.map(|form| (one, form))) {
            let legal = legal_answers(&mut sets, profile, form, 0);
            // All flags but those of NAT, which a key knows to be zero.
            all.extend((0..1u32 << 6).filter(|flags| {
                let bits = states.iter().enumerate().map(|(at, var)| (*var, flags >> at & 1 == 1));
                let state = sets.cube(&bits.collect::<Vec<_>>());
                sets.meet(legal, state)
            }));
        }
        all
    }

    #[test]
    fn what_connection_tracking_answers_is_what_is_legal() {
        let listed: BTreeSet<u32> =
            ANSWERS.into_iter().chain(UNTRACKED).filter(|flags| *flags != 0).collect();
        assert_eq!(legal_states(), listed);
    }
}
