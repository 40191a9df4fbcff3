//! The variables of a symbolic packet, and their order in decision diagrams.
//!
//! Three runs of variables, one bit each:
//! * the bits of the flow key of *the datagram as it was sent* (numbered as in the key);
//! * eight bits for the next header that a fragment shows to table lookup, which for IPv6 may be an extension
//!   header's number instead of the datagram's protocol;
//! * for each nesting depth of `ct()` what connection tracking answered: state, mark, label, original tuple.
//!
//! Invariant: [`level`] and [`at_level`] are inverse bijections.

use flowproof_packet::{Field, key};
use std::sync::LazyLock;

/// A variable: one bit of the symbolic packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Var(pub u16);

/// How deep `ct()` may nest on any datapath.
pub const CT_LEVELS: u16 = 10;

/// What a `ct()` at each depth leaves in the key.
const CT_FIELDS: [Field; 10] = [
    Field::CtState,
    Field::CtMark,
    Field::CtLabel,
    Field::CtNwProto,
    Field::CtNwSrc,
    Field::CtNwDst,
    Field::CtIpv6Src,
    Field::CtIpv6Dst,
    Field::CtTpSrc,
    Field::CtTpDst,
];

const FRAGMENT_PROTO: u16 = key::BITS as u16;
const CT_BASE: u16 = FRAGMENT_PROTO + 8;

const fn ct_width() -> u16 {
    let (mut sum, mut rest) = (0, CT_FIELDS.as_slice());
    while let [field, tail @ ..] = rest {
        sum += field.spec().width;
        rest = tail;
    }
    sum
}

/// The number of variables.
pub const COUNT: u16 = CT_BASE + CT_LEVELS * ct_width();

/// The variables of `field` as the datagram was sent, most significant first.
pub fn sent(field: Field) -> impl DoubleEndedIterator<Item = Var> + ExactSizeIterator {
    let spec = field.spec();
    (spec.offset..spec.offset + spec.width).map(Var)
}

/// The next header that a fragment shows to table lookup, most significant bit first.
pub fn fragment_proto() -> impl DoubleEndedIterator<Item = Var> + ExactSizeIterator {
    (FRAGMENT_PROTO..CT_BASE).map(Var)
}

/// The bits that the `ct()` at nesting `depth` (from 0) leaves in `field`; nothing for fields it does not write.
pub fn tracked(depth: u16, field: Field) -> impl DoubleEndedIterator<Item = Var> + ExactSizeIterator {
    let before: u16 = CT_FIELDS.iter().take_while(|f| **f != field).map(|f| f.spec().width).sum();
    let width = if CT_FIELDS.contains(&field) { field.spec().width } else { 0 };
    let first = CT_BASE + depth * ct_width() + before;
    (first..first + width).map(Var)
}

/// All that the `ct()` at nesting `depth` leaves in the key.
#[must_use]
pub const fn answers(depth: u16) -> std::ops::Range<u16> {
    let first = CT_BASE + depth * ct_width();
    first..first + ct_width()
}

/// The fields that a `ct()` leaves in the key, apart from the zone.
pub fn tracked_fields() -> impl Iterator<Item = Field> {
    CT_FIELDS.into_iter()
}

/// Header fields in the order in which tables tend to branch on them, after type, protocol and connection state;
/// what is not listed comes last. `dl_src` stands bit by bit beside `arp_sha`, because comparing two fields that
/// lie apart takes a diagram exponential in their width.
const ORDER: &[Field] = &[
    Field::TcpSrc,
    Field::TcpDst,
    Field::NwSrc,
    Field::NwDst,
    Field::Ipv6Src,
    Field::Ipv6Dst,
    Field::ArpTha,
    Field::NdTarget,
];

struct Order {
    level_of: Vec<u16>,
    var_at: Vec<Var>,
}

fn beside(a: impl Iterator<Item = Var>, b: impl Iterator<Item = Var>) -> impl Iterator<Item = Var> {
    a.zip(b).flat_map(|(a, b)| [a, b])
}

static VARIABLE_ORDER: LazyLock<Order> = LazyLock::new(|| {
    let states = (0..CT_LEVELS).flat_map(|depth| tracked(depth, Field::CtState));
    let marks = (0..CT_LEVELS).flat_map(|depth| tracked(depth, Field::CtMark));
    let wanted = sent(Field::DlDst)
        .chain(sent(Field::InPort))
        .chain(sent(Field::DlType))
        .chain(beside(sent(Field::NwProto), fragment_proto()))
        .chain(sent(Field::NwFrag))
        .chain(states)
        .chain(marks)
        .chain(sent(Field::VlanTci))
        .chain(sent(Field::VlanTpid))
        .chain(beside(sent(Field::DlSrc), sent(Field::ArpSha)))
        .chain(ORDER.iter().flat_map(|field| sent(*field)))
        .chain((0..COUNT).map(Var));
    let mut order = Order { level_of: vec![u16::MAX; usize::from(COUNT)], var_at: Vec::new() };
    for var in wanted {
        if let Some(level) = order.level_of.get_mut(usize::from(var.0)).filter(|level| **level == u16::MAX) {
            *level = order.var_at.len() as u16;
            order.var_at.push(var);
        }
    }
    order
});

/// Where `var` stands in the order; smaller is nearer to the root.
#[must_use]
pub fn level(var: Var) -> u16 {
    VARIABLE_ORDER.level_of.get(usize::from(var.0)).copied().unwrap_or(u16::MAX - 1)
}

/// The variable at `level`.
#[must_use]
pub fn at_level(level: u16) -> Var {
    VARIABLE_ORDER.var_at.get(usize::from(level)).copied().unwrap_or(Var(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_variables_correspond_one_to_one() {
        for index in 0..COUNT {
            assert_eq!(at_level(level(Var(index))), Var(index));
            assert_eq!(level(at_level(index)), index);
        }
    }

    #[test]
    fn answers_of_different_depths_share_no_variable() {
        let all: std::collections::HashSet<Var> =
            (0..CT_LEVELS).flat_map(|d| tracked_fields().flat_map(move |f| tracked(d, f))).collect();
        assert_eq!(all.len(), usize::from(CT_LEVELS * ct_width()));
        assert!(all.iter().all(|var| var.0 >= CT_BASE && var.0 < COUNT));
    }
}
