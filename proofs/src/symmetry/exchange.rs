//! Two ports and their addresses, swapped wherever they stand.

use crate::ports::{Pair, Port};
use flowproof_packet::{Field, PortNo, key::low_bits};
use flowproof_switch::flow::{Action, Flow, Match, Nat, Subfield, Zone};
use std::collections::BTreeSet;

/// What a field holds that may be exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Sort {
    Port,
    Mac,
    Ipv4,
    Ipv6,
}

/// Every field that an exchange looks at; other names of their bits (`arp_spa`, `nd_sll`) come with them. `reg5` is
/// the port wherever the layouts have one; tables that use it otherwise are not symmetric.
pub(super) const SORTS: [(Field, Sort); 15] = [
    (Field::InPort, Sort::Port),
    (Field::Reg5, Sort::Port),
    (Field::DlSrc, Sort::Mac),
    (Field::DlDst, Sort::Mac),
    (Field::ArpSha, Sort::Mac),
    (Field::ArpTha, Sort::Mac),
    (Field::NwSrc, Sort::Ipv4),
    (Field::NwDst, Sort::Ipv4),
    (Field::CtNwSrc, Sort::Ipv4),
    (Field::CtNwDst, Sort::Ipv4),
    (Field::Ipv6Src, Sort::Ipv6),
    (Field::Ipv6Dst, Sort::Ipv6),
    (Field::NdTarget, Sort::Ipv6),
    (Field::CtIpv6Src, Sort::Ipv6),
    (Field::CtIpv6Dst, Sort::Ipv6),
];

/// A swap of two ports: of their numbers, and of those of their addresses that they do not share.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    swaps: Vec<(Sort, u128, u128)>,
}

impl Exchange {
    /// The exchange of two ports with as many addresses of each kind; none where an address is one that packets mean something
    /// else by (`0.0.0.0`, groups).
    pub(crate) fn of(a: &Port, b: &Port) -> Option<Self> {
        let mut swaps = vec![(Sort::Port, a.ofport.into(), b.ofport.into())];
        let macs = |port: &Port| port.macs.iter().map(|mac| u128::from(mac.to_bits())).collect();
        pair_up(&mut swaps, Sort::Mac, &macs(a), &macs(b))?;
        pair_up(&mut swaps, Sort::Ipv4, &hosts(&a.pairs4, 32), &hosts(&b.pairs4, 32))?;
        pair_up(&mut swaps, Sort::Ipv6, &hosts(&a.pairs6, 128), &hosts(&b.pairs6, 128))?;
        Some(Self { swaps })
    }

    /// What is swapped: a sort, and two values of it.
    pub(super) fn swaps(&self) -> &[(Sort, u128, u128)] {
        &self.swaps
    }

    /// A value after the exchange.
    pub(crate) fn value(&self, sort: Sort, value: u128) -> u128 {
        let other = self
            .swaps
            .iter()
            .filter(|(of, ..)| *of == sort)
            .find_map(|(_, a, b)| if value == *a { Some(*b) } else { (value == *b).then_some(*a) });
        other.unwrap_or(value)
    }

    /// A port number after the exchange.
    pub(crate) fn port(&self, ofport: PortNo) -> PortNo {
        PortNo::try_from(self.value(Sort::Port, ofport.into())).unwrap_or(ofport)
    }

    /// Whether the values that agree with `value` in the bits of `mask` are the same after the exchange.
    pub(super) fn keeps(&self, sort: Sort, value: u128, mask: u128) -> bool {
        let inside = |other: u128| (other ^ value) & mask == 0;
        self.swaps.iter().filter(|(of, ..)| *of == sort).all(|(_, a, b)| inside(*a) == inside(*b))
    }

    /// A pair after the exchange; its prefix, if it is one, must be kept.
    pub(super) fn pair(&self, pair: &Pair, sort: Sort) -> Pair {
        let full = pair.mask == low_bits(if sort == Sort::Ipv4 { 32 } else { 128 });
        let address = if full { self.value(sort, pair.address) } else { pair.address };
        let mac = self.value(Sort::Mac, pair.mac.to_bits().into());
        Pair { mac: flowproof_packet::MacAddr::from_bits(mac as u64), address, ..*pair }
    }

    /// What a flow matches after the exchange; partial matches must be kept.
    pub(super) fn matching(&self, flow: &Flow) -> Match {
        let mut matching = flow.matching.clone();
        for (field, sort) in SORTS {
            if let Some(value) = flow.matching.exact(field) {
                matching.set(field, self.value(sort, value), u128::MAX);
            }
        }
        matching
    }

    /// What an action of orderly tables does after the exchange.
    pub(super) fn action(&self, action: &Action) -> Action {
        let mut action = action.clone();
        if let Action::Output(port)
        | Action::Enqueue { port, .. }
        | Action::Resubmit { port: Some(port), .. } = &mut action
        {
            *port = self.port(*port);
        } else if let Action::Set { field, value, .. } = &mut action
            && let Some(sort) = sort(*field)
        {
            *value = self.value(sort, *value);
        }
        action
    }
}

fn hosts(pairs: &BTreeSet<Pair>, width: u16) -> BTreeSet<u128> {
    pairs.iter().filter(|pair| pair.mask == low_bits(width)).map(|pair| pair.address).collect()
}

/// Adds the values that only one of both has, in their order.
fn pair_up(
    swaps: &mut Vec<(Sort, u128, u128)>,
    sort: Sort,
    a: &BTreeSet<u128>,
    b: &BTreeSet<u128>,
) -> Option<()> {
    if a.len() != b.len() {
        return None;
    }
    for (a, b) in a.difference(b).zip(b.difference(a)) {
        if !is_plain(sort, *a, *b) {
            return None;
        }
        swaps.push((sort, *a, *b));
    }
    Some(())
}

/// Whether two addresses are of one kind, and of one that nothing but their owner gives a meaning.
fn is_plain(sort: Sort, a: u128, b: u128) -> bool {
    let plain = |value: u128| match sort {
        Sort::Port => true,
        Sort::Mac => value != 0 && value >> 40 & 1 == 0,
        Sort::Ipv4 => !matches!(value >> 24, 0 | 127 | 224..),
        Sort::Ipv6 => value > 1 && value >> 120 != 0xff,
    };
    let link_local = |value: u128| sort == Sort::Ipv6 && value >> 118 == 0xfe80 >> 6;
    plain(a) && plain(b) && link_local(a) == link_local(b)
}

/// The sort of a field under any of its names.
pub(super) fn sort(field: Field) -> Option<Sort> {
    let spec = field.spec();
    let same = |of: Field| (of.spec().offset, of.spec().width) == (spec.offset, spec.width);
    SORTS.iter().find(|(of, _)| same(*of)).map(|(_, sort)| *sort)
}

/// Whether an action does after an exchange what [`Exchange::action`] says: it reads and writes what is exchanged as a
/// whole, or not at all.
pub(super) fn is_orderly(action: &Action) -> bool {
    match action {
        Action::Set { field, mask, .. } => {
            !touches(*field)
                || sort(*field).is_some()
                    && mask & low_bits(field.spec().width) == low_bits(field.spec().width)
        }
        Action::Move { src, dst } => match (whole(*src), whole(*dst)) {
            (Some(from), Some(to)) => from == to,
            _ => !touches(src.field) && !touches(dst.field),
        },
        Action::Push(part) | Action::Pop(part) | Action::CheckPktLarger { dst: part, .. } => {
            !touches(part.field)
        }
        Action::OutputField(part) => whole(*part) == Some(Sort::Port),
        Action::Ct(ct) => {
            let zone = !matches!(ct.zone, Zone::Field(part) if touches(part.field));
            // An address that is given to packets is nobody's to exchange.
            let gives = matches!(ct.nat, Some(Nat::New(range)) if range.addresses.is_some());
            zone && !gives && ct.exec.iter().all(is_orderly)
        }
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
        | Action::SetQueue(_)
        | Action::PopQueue
        | Action::Clone(_)
        | Action::Exit
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
        | Action::Begin(_)
        | Action::End
        | Action::Opaque(_) => true,
    }
}

/// The sort of a subfield that is a whole field.
fn whole(part: Subfield) -> Option<Sort> {
    (part == Subfield::whole(part.field)).then(|| sort(part.field)).flatten()
}

/// Whether a field shares bits with one that may be exchanged.
fn touches(field: Field) -> bool {
    let bits = |field: Field| (field.spec().offset, field.spec().offset + field.spec().width);
    let (start, end) = bits(field);
    SORTS.iter().map(|(other, _)| bits(*other)).any(|other| start < other.1 && other.0 < end)
}
