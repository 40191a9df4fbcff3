//! Sets of packets as boxes: for each axis the values that it may have. The boxes of one set are disjoint, and each is as
//! general as it can be without leaving what is left of the set.
//!
//! What no packet is counts as either: that a TCP packet is an IP packet, or that an untagged one has no VLAN id, is not
//! said again.

use super::{
    example::{self, Example},
    find::Found,
    places::{Axis, axes},
};
use crate::{
    bdd::{Bdd, Bdds},
    predicate::Predicate,
    set::PacketSets,
};
use flowproof_packet::Field;
use std::collections::BTreeMap;

/// A box: what is not named may have any value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// By axis, as sets over its own bits: the values that packets of the box have, and those that the box may be said to
    /// have; whatever lies between says the same.
    pub values: BTreeMap<Axis, (Bdd, Bdd)>,
}

/// A box and somebody in it.
#[derive(Clone, Debug)]
pub struct Shapes {
    /// The boxes, each with a packet in it where one can be made.
    pub boxes: Vec<(Shape, Option<Example>)>,
    /// Whether they are not all.
    pub more: bool,
}

impl Shape {
    /// The packets.
    pub fn to_set(&self, found: &mut Found) -> Bdd {
        self.values.values().fold(found.universe, |all, values| found.sets.and(all, values.1))
    }
}

/// The boxes of `packets`, `most` at most, each around the most familiar packet that is left.
///
/// # Errors
/// The interpreter does something else to a packet than symbolic execution says.
pub(super) fn shapes(
    found: &mut Found,
    packets: Bdd,
    stage: &mut example::Stage<'_>,
    most: usize,
) -> Result<Shapes, String> {
    let built = real(&mut found.sets);
    let care = found.sets.and(found.universe, built);
    let inside = found.sets.and(packets, care);
    // Where symbolic execution knows fields that no frame has, nothing can be built.
    let (care, packets) =
        if found.sets.is_empty(inside) { (found.universe, packets) } else { (care, inside) };
    let (mut boxes, mut left) = (Vec::new(), packets);
    while !found.sets.is_empty(left) && boxes.len() < most {
        let Some(seed) = stage.familiar(found, left) else { break };
        let shape = around(found, care, left, &seed);
        let here = shape.to_set(found);
        let inside = found.sets.and(here, left);
        if found.sets.is_empty(inside) {
            break;
        }
        let shown = stage.show(found, inside, &seed)?;
        left = found.sets.minus(left, here);
        boxes.push((shape, shown));
    }
    let more = !found.sets.is_empty(left);
    Ok(Shapes { boxes, more })
}

/// The largest box of `packets` around a packet that is found by widening one axis after the other.
fn around(found: &mut Found, care: Bdd, packets: Bdd, seed: &example::Seed) -> Shape {
    let forbidden = found.sets.minus(care, packets);
    let mut shape = Shape::default();
    let looked_at = found.sets.support(forbidden);
    let mut axes = axes(found.depth);
    axes.retain(|axis| axis.vars().iter().any(|var| looked_at.contains(var)));
    // From the back: everything that is still as the seed has it.
    let mut fixed = vec![found.sets.all()];
    for axis in axes.iter().rev() {
        let cube = found.sets.cube(&seed.literals(*axis));
        let last = fixed.last().copied().unwrap_or(cube);
        fixed.push(found.sets.and(last, cube));
    }
    fixed.pop();
    let mut forbidden = forbidden;
    for axis in axes {
        let others = fixed.pop().unwrap_or_else(|| found.sets.all());
        let here = found.sets.and(forbidden, others);
        let own: rustc_hash::FxHashSet<_> = axis.vars().into_iter().collect();
        let wrong = found.sets.exists(here, &|var| !own.contains(&var));
        let values = found.sets.not(wrong);
        if values != found.sets.all() {
            forbidden = found.sets.and(forbidden, values);
            shape.values.insert(axis, (values, values));
        }
    }
    let here = shape.to_set(found);
    let here = found.sets.and(here, care);
    for (axis, values) in &mut shape.values {
        let own: rustc_hash::FxHashSet<_> = axis.vars().into_iter().collect();
        values.0 = found.sets.exists(here, &|var| !own.contains(&var));
    }
    kind(found, here, &mut shape);
    shape
}

/// What kind of packets they are is said even where it goes without saying, if they are of one kind.
fn kind(found: &mut Found, here: Bdd, shape: &mut Shape) {
    for axis in [Field::DlType, Field::NwProto].map(Axis::Sent) {
        let own: rustc_hash::FxHashSet<_> = axis.vars().into_iter().collect();
        let least = found.sets.exists(here, &|var| !own.contains(&var));
        let one = found.sets.cubes(least, 1).is_some_and(|cubes| match cubes.as_slice() {
            [cube] => cube.len() == own.len(),
            _ => false,
        });
        if !one {
            return;
        }
        let all = found.sets.all();
        shape.values.entry(axis).or_insert((least, all)).0 = least;
    }
}

/// What frames are really like: a field that a packet does not have is zero. Symbolic execution need not know, because no
/// flow matches on such a field; descriptions are shorter for it.
fn real(sets: &mut Bdds) -> Bdd {
    use Predicate as P;
    let kind = |types: &[u16]| P::one_of(Field::DlType, types.iter().copied());
    let ip = || kind(&[0x0800, 0x86dd]);
    let proto = |protocols: &[u8]| ip().and(P::one_of(Field::NwProto, protocols.iter().copied()));
    let icmpv6 = || kind(&[0x86dd]).and(proto(&[58]));
    let lists: [(P, &[Field]); 7] = [
        (ip(), &[Field::NwTos, Field::NwTtl]),
        (kind(&[0x0800, 0x0806, 0x8035]), &[Field::NwSrc, Field::NwDst]),
        (kind(&[0x86dd]), &[Field::Ipv6Src, Field::Ipv6Dst, Field::Ipv6Label]),
        (kind(&[0x0800, 0x86dd, 0x0806, 0x8035]), &[Field::NwProto]),
        (kind(&[0x0806, 0x8035]).or(icmpv6()), &[Field::ArpSha, Field::ArpTha]),
        (icmpv6(), &[Field::NdTarget]),
        (proto(&[1, 6, 17, 58, 132]), &[Field::TcpSrc, Field::TcpDst]),
    ];
    let mut all = sets.all();
    for (has, fields) in lists {
        let zeros = fields.iter().map(|field| P::is(*field, 0u8)).collect();
        let rule = has.or(P::All(zeros)).to_set(sets);
        all = sets.and(all, rule);
    }
    all
}
