//! What actions write into a symbolic key, and for which packets.
//!
//! The switch writes a field only where the packet has it (ovs-fields(7), "Prerequisites"): `mod_nw_src` does nothing to ARP,
//! though the address of an ARP sender lies in the same bits. Whether a packet has a field may depend on bits that are not known,
//! so a write divides packets in two: for some the key is written, for the others it is not, or otherwise.
//!
//! Invariant: both engines take writes from here, so neither writes what the other does not. The interpreter
//! (`switch/src/pipeline/write.rs`) says the same of one packet, in its own words; tests hold them together.
//!
//! Source: ovs-fields(7), ovs-actions(7), experiments with Open vSwitch 3.1.

use crate::{
    set::{Literal, PacketSets},
    symkey::{Bit, SERVICE_TAG, SymKey},
};
use flowproof_packet::{
    Field, Prerequisite,
    key::{low_bits, masked_words},
};
use flowproof_switch::flow::{Action, Match, Subfield, ast::SetForm};
use smallvec::{SmallVec, smallvec};
use std::{collections::BTreeMap, sync::LazyLock};

/// Bit 12 of the TCI: there is a tag.
const PRESENT: u128 = 0x1000;
const PRESENT_BIT: u16 = 12;

/// Any of these conjunctions of literals.
pub(crate) type AnyOf = Vec<Vec<Literal>>;

/// What becomes of a key.
#[derive(Debug)]
pub(crate) struct Rewrite {
    /// Of packets of which all of this is true it becomes `then`.
    pub(crate) requires: SmallVec<[AnyOf; 2]>,
    /// The key of those.
    pub(crate) then: SymKey,
    /// The key of all others.
    pub(crate) otherwise: SymKey,
}

impl Rewrite {
    fn always(then: SymKey) -> Self {
        let otherwise = then.clone();
        Self { requires: SmallVec::new(), then, otherwise }
    }

    fn never(key: SymKey) -> Self {
        Self { requires: smallvec![Vec::new()], then: key.clone(), otherwise: key }
    }

    /// The packets for which the key is written.
    pub(crate) fn written<S: PacketSets>(&self, sets: &mut S, packets: S::Set) -> S::Set {
        self.requires.iter().fold(packets, |packets, any| {
            let start = sets.none();
            let having = any.iter().fold(start, |sum, literals| {
                let cube = sets.cube(literals);
                sets.or(sum, cube)
            });
            sets.and(packets, having)
        })
    }
}

/// What an action that writes makes of the key; nothing for actions that do not write.
pub(crate) fn rewrite(action: &Action, key: &SymKey) -> Option<Rewrite> {
    let mut then = key.clone();
    Some(match action {
        Action::Set { field, value, mask, form } => {
            then.set(*field, *value, writable(*field) & *mask);
            let any_ports = *form == SetForm::Mod && matches!(field, Field::TcpSrc | Field::TcpDst);
            let need = if any_ports { ANY_PORTS.as_slice() } else { having(field.spec().prerequisite) };
            where_possible(key, then, &[need], *field)
        }
        Action::Move { src, dst } => {
            copy(&mut then, *src, *dst);
            let needs = [src.field, dst.field].map(|field| having(field.spec().prerequisite));
            where_possible(key, then, &needs, dst.field)
        }
        Action::ModVlanVid(vid) => modified(key, u128::from(*vid), 0x0fff),
        // Of frames without a tag: what becomes of others is unknown.
        Action::RetagUnclear { bits, mask } => modified(key, u128::from(*bits), u128::from(*mask)),
        Action::ModVlanPcp(pcp) => modified(key, u128::from(*pcp) << 13, 0xe000),
        Action::StripVlan => if_tagged(key, popped(key), key.clone()),
        Action::PushVlan(tpid) => if_tagged(key, pushed(key, *tpid, true), pushed(key, *tpid, false)),
        Action::Output(_)
        | Action::OutputField(_)
        | Action::Controller(_)
        | Action::Resubmit { .. }
        | Action::GotoTable(_)
        | Action::DecTtl(_)
        | Action::Ct(_)
        | Action::CtClear
        | Action::Conjunction(_)
        | Action::Note(_)
        | Action::SetQueue(_)
        | Action::PopQueue
        | Action::Push(_)
        | Action::Pop(_)
        | Action::Clone(_)
        | Action::Exit
        | Action::Group(_)
        | Action::Meter(_)
        | Action::Learn(_)
        | Action::PushMpls(_)
        | Action::PopMpls(_)
        | Action::DecMplsTtl
        | Action::CheckPktLarger { .. }
        | Action::WriteActions(_)
        | Action::ClearActions
        | Action::OutputTruncated { .. }
        | Action::Enqueue { .. }
        | Action::Begin(_)
        | Action::End
        | Action::Opaque(_) => return None,
    })
}

/// The key of a frame that is read again: what no tag carries is gone.
pub(crate) fn reread(key: &SymKey) -> Rewrite {
    let mut untagged = key.clone();
    untagged.set(Field::VlanTci, 0, u128::MAX);
    if_tagged(key, key.clone(), untagged)
}

/// The bits of a field that actions write: of the type of service only the codepoint, the bits below it have a field of their own.
fn writable(field: Field) -> u128 {
    if field == Field::NwTos { 0xfc } else { u128::MAX }
}

/// `move`: of the bits below the codepoint nothing is written, and what an action reads of a neighbour discovery option's type is
/// zero (experiment).
fn copy(key: &mut SymKey, src: Subfield, dst: Subfield) {
    let before = key.clone();
    if src.field == Field::NdOptionsType {
        key.set(dst.field, 0, low_bits(dst.width) << dst.start);
    } else {
        key.copy(src, dst);
    }
    if dst.field == Field::NwTos {
        let ecn = Subfield::whole(Field::NwEcn);
        key.copy_from(&before, ecn, ecn);
    }
}

/// `then` for packets that have what is needed, with the tag as it is after a write to `field`.
fn where_possible(key: &SymKey, then: SymKey, needs: &[&[Match]], field: Field) -> Rewrite {
    let mut requires: SmallVec<[AnyOf; 2]> = SmallVec::new();
    for need in needs {
        let any: AnyOf = need.iter().filter_map(|matching| key.wanted(matching)).collect();
        if any.is_empty() {
            return Rewrite::never(key.clone());
        }
        if !any.iter().any(Vec::is_empty) {
            requires.push(any);
        }
    }
    Rewrite { requires, then: with_tag(then, field), otherwise: key.clone() }
}

/// What a write to a part of the tag does to the rest of it.
fn with_tag(mut key: SymKey, field: Field) -> SymKey {
    if [Field::VlanVid, Field::VlanPcp].contains(&field) {
        key.set(Field::VlanTci, PRESENT, PRESENT);
    } else if field.overlaps(Field::VlanTci) && presence(&key) == Bit::Known(false) {
        key.set(Field::VlanTpid, 0, SERVICE_TAG);
    }
    key
}

fn presence(key: &SymKey) -> Bit {
    let spec = Field::VlanTci.spec();
    key.bit(spec.offset + spec.width - 1 - PRESENT_BIT)
}

/// Whether the tag is as it was sent: then an absent one is zero.
fn is_tag_as_sent(key: &SymKey) -> bool {
    masked_words(Field::VlanTci, 0, u128::MAX).all(|part| key.is_as_sent(part.word, part.mask))
}

/// One key for packets with a tag, another for those without.
fn if_tagged(key: &SymKey, tagged: SymKey, untagged: SymKey) -> Rewrite {
    match presence(key) {
        Bit::Known(true) => Rewrite::always(tagged),
        Bit::Known(false) => Rewrite::always(untagged),
        // Of an absent tag nothing is left, which is what the one key says of it too.
        Bit::Free(_) if is_tag_as_sent(key) => Rewrite::always(tagged),
        Bit::Free(var) => {
            Rewrite { requires: smallvec![vec![vec![(var, true)]]], then: tagged, otherwise: untagged }
        }
    }
}

/// `mod_vlan_vid` and `mod_vlan_pcp`: some bits of the tag, or of a new one.
fn modified(key: &SymKey, bits: u128, mask: u128) -> Rewrite {
    let (mut tagged, mut untagged) = (key.clone(), key.clone());
    tagged.set(Field::VlanTci, PRESENT | bits, PRESENT | mask);
    untagged.set(Field::VlanTci, PRESENT | bits, u128::MAX);
    if_tagged(key, tagged, untagged)
}

/// `pop_vlan`: what is inside, if anything.
fn popped(key: &SymKey) -> SymKey {
    let mut key = key.clone();
    for (outer, inner) in TAGS {
        key.copy(inner, outer);
        key.set(inner.field, 0, u128::MAX);
    }
    key
}

/// `push_vlan`: a tag of VLAN 0 outside the one there is.
fn pushed(key: &SymKey, tpid: u16, is_tagged: bool) -> SymKey {
    let mut key = key.clone();
    for (outer, inner) in TAGS {
        if is_tagged {
            key.copy(outer, inner);
        }
    }
    key.set(Field::VlanTci, PRESENT, u128::MAX);
    key.set(Field::VlanTpid, u128::from(tpid), SERVICE_TAG);
    key
}

/// The parts of a tag, outside and inside; of the TPID the one bit that tells the two apart.
const TAGS: [(Subfield, Subfield); 2] = [
    (Subfield::whole(Field::VlanTci), Subfield::whole(Field::InnerVlanTci)),
    (service(Field::VlanTpid), service(Field::InnerVlanTpid)),
];

const fn service(field: Field) -> Subfield {
    Subfield { field, start: SERVICE_TAG.trailing_zeros() as u16, width: 1 }
}

/// A match on these fields' bits.
fn these(parts: &[(Field, u128, u128)]) -> Match {
    let mut matching = Match::default();
    parts.iter().for_each(|(field, value, mask)| matching.set(*field, *value, *mask));
    matching
}

const ALL: u128 = u128::MAX;
const FAMILIES: [u128; 2] = [0x0800, 0x86dd];
/// The bit of `nw_frag` that later fragments have.
const LATER: u128 = 2;

fn ports(protocol: Option<u128>) -> Vec<Match> {
    let of = |family| {
        let mut parts = vec![(Field::DlType, family, ALL), (Field::NwFrag, 0, LATER)];
        parts.extend(protocol.map(|protocol| (Field::NwProto, protocol, ALL)));
        these(&parts)
    };
    FAMILIES.map(of).to_vec()
}

fn discovery(kinds: &[u128]) -> Vec<Match> {
    let of = |kind: &u128| {
        let icmpv6 = [(Field::DlType, 0x86dd, ALL), (Field::NwProto, 58, ALL)];
        these(&[icmpv6.as_slice(), &[(Field::Icmpv6Type, *kind, ALL), (Field::Icmpv6Code, 0, ALL)]].concat())
    };
    kinds.iter().map(of).collect()
}

/// What `mod_tp_src` and `mod_tp_dst` ask for: any IP packet but a later fragment.
static ANY_PORTS: LazyLock<Vec<Match>> = LazyLock::new(|| ports(None));

const PREREQUISITES: [Prerequisite; 18] = [
    Prerequisite::None,
    Prerequisite::Ethernet,
    Prerequisite::Arp,
    Prerequisite::Vlan,
    Prerequisite::Ipv4,
    Prerequisite::Ipv6,
    Prerequisite::Ip,
    Prerequisite::Mpls,
    Prerequisite::Tcp,
    Prerequisite::Udp,
    Prerequisite::Sctp,
    Prerequisite::Icmpv4,
    Prerequisite::Icmpv6,
    Prerequisite::Nd,
    Prerequisite::NdSolicit,
    Prerequisite::NdAdvert,
    Prerequisite::Nsh,
    Prerequisite::CtValid,
];

static HAVING: LazyLock<BTreeMap<u8, Vec<Match>>> =
    LazyLock::new(|| PREREQUISITES.into_iter().map(|need| (need as u8, required(need))).collect());

/// The packets that have what a field requires: those that match any of these.
pub(crate) fn having(need: Prerequisite) -> &'static [Match] {
    HAVING.get(&(need as u8)).map_or(&[], Vec::as_slice)
}

fn required(need: Prerequisite) -> Vec<Match> {
    let types =
        |types: &[u128]| types.iter().map(|of| these(&[(Field::DlType, *of, ALL)])).collect::<Vec<_>>();
    let icmp =
        |family, protocol| vec![these(&[(Field::DlType, family, ALL), (Field::NwProto, protocol, ALL)])];
    let flag = |bit: u32| these(&[(Field::CtState, bit.into(), bit.into())]);
    match need {
        Prerequisite::None => vec![Match::default()],
        Prerequisite::Ethernet => vec![these(&[(Field::PacketType, 0, ALL)])],
        Prerequisite::Arp => types(&[0x0806, 0x8035]),
        Prerequisite::Vlan => vec![these(&[(Field::VlanTci, PRESENT, PRESENT)])],
        Prerequisite::Ipv4 => types(&[0x0800]),
        Prerequisite::Ipv6 => types(&[0x86dd]),
        Prerequisite::Ip => types(&FAMILIES),
        Prerequisite::Mpls => types(&[0x8847, 0x8848]),
        Prerequisite::Tcp => ports(Some(6)),
        Prerequisite::Udp => ports(Some(17)),
        Prerequisite::Sctp => ports(Some(132)),
        Prerequisite::Icmpv4 => icmp(0x0800, 1),
        Prerequisite::Icmpv6 => icmp(0x86dd, 58),
        Prerequisite::Nd => discovery(&[135, 136]),
        Prerequisite::NdSolicit => discovery(&[135]),
        Prerequisite::NdAdvert => discovery(&[136]),
        Prerequisite::Nsh => types(&[0x894f]),
        Prerequisite::CtValid => {
            use flowproof_switch::conntrack::state::{EST, NEW, RPL};
            vec![flag(NEW), flag(EST), flag(RPL)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{arrival::Arrival, bdd::Bdds, symkey::Form};
    use flowproof_packet::port;

    fn check(action: Action, key: &SymKey, written: usize) {
        let rewrite = rewrite(&action, key).unwrap();
        assert_eq!(rewrite.requires.len(), written, "{action:?}");
    }

    fn set(field: Field, form: SetForm) -> Action {
        Action::Set { field, value: 1, mask: ALL, form }
    }

    #[test]
    fn every_prerequisite_but_none_leaves_some_packets_out() {
        let mut sets = Bdds::with_limit(1 << 16);
        for need in PREREQUISITES {
            let arrival = if need == Prerequisite::Ethernet { Arrival::Bare } else { Arrival::Tracked };
            let key = SymKey::entering_anywhere(Form::Whole, arrival);
            let any = having(need).iter().filter_map(|matching| key.wanted(matching)).collect();
            let rewrite = Rewrite { requires: smallvec![any], then: key.clone(), otherwise: key.clone() };
            let all = sets.all();
            let having = rewrite.written(&mut sets, all);
            assert_ne!(having, sets.none(), "{need:?}");
            assert_eq!(having == sets.all(), need == Prerequisite::None, "{need:?}");
        }
    }

    #[test]
    fn writes_ask_for_what_is_not_known_only() {
        let key = SymKey::entering(port::LOCAL, Form::Whole, Arrival::Ordinary);
        check(set(Field::Reg0, SetForm::Load), &key, 0);
        check(set(Field::DlSrc, SetForm::Mod), &key, 0);
        check(set(Field::NwSrc, SetForm::Mod), &key, 1);
        check(set(Field::TcpSrc, SetForm::Mod), &key, 1);
        let (src, dst) = (Subfield::whole(Field::ArpSpa), Subfield::whole(Field::NwSrc));
        check(Action::Move { src, dst }, &key, 2);
    }

    #[test]
    fn later_fragments_have_no_ports_to_write() {
        let key = SymKey::entering(1, Form::Later, Arrival::Ordinary);
        let rewrite = rewrite(&set(Field::UdpDst, SetForm::Load), &key).unwrap();
        assert_eq!(rewrite.otherwise, key);
        assert!(rewrite.requires.iter().any(Vec::is_empty), "nobody has them");
    }

    #[test]
    fn a_tag_whose_presence_was_written_is_told_apart() {
        let mut key = SymKey::entering(1, Form::Whole, Arrival::Ordinary);
        check(Action::ModVlanVid(5), &key, 0);
        key.set(Field::VlanTci, 7, 0x0fff);
        check(Action::ModVlanPcp(5), &key, 1);
        check(Action::StripVlan, &key, 1);
    }

    #[test]
    fn a_tag_without_its_presence_bit_is_gone_when_the_frame_is_read_again() {
        let mut key = SymKey::entering(1, Form::Whole, Arrival::Ordinary);
        key.set(Field::VlanTci, 0, PRESENT);
        assert_eq!(reread(&key).then.constant(Subfield::whole(Field::VlanTci)), Some(0));
    }
}
