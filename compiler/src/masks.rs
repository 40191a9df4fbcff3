//! Port ranges as value/mask blocks, which is all that a flow can match.
//!
//! Invariant: [`exact`] covers the range, nothing else, and no port twice. [`legacy`] covers at least the range.
//!
//! Source: ovs-fields(7), "Bitwise matching"; Neutron 8.1.0 for [`legacy`] (Launchpad bug 1611991).

/// A block of ports: those equal to `value` where `mask` has ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortBlock {
    /// The bits that a port must have; zero outside the mask.
    pub value: u16,
    /// The bits that count; 0 is every port.
    pub mask: u16,
}

/// How a range becomes blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortMasks {
    /// As the layout's release did: the corrected way for all layouts but `mitaka`.
    #[default]
    AsReleased,
    /// As Neutron 8.1.0 did: too wide by one port where the range begins at an even port and ends in certain ways.
    Legacy8_1,
    /// Exactly the range.
    Corrected,
}

/// The ones of the `bits` lowest places.
const fn ones(bits: u32) -> u16 {
    ((1_u32 << bits) - 1) as u16
}

/// The block of 2^`bits` ports that `port` is in.
const fn block(port: u16, bits: u32) -> PortBlock {
    PortBlock { value: port & !ones(bits), mask: !ones(bits) }
}

/// The blocks that make up `min..=max`, ascending; none for an empty range.
#[must_use]
pub fn exact(min: u16, max: u16) -> Vec<PortBlock> {
    let mut blocks = Vec::new();
    let (mut next, end) = (u32::from(min), u32::from(max) + 1);
    while next < end {
        let aligned = if next == 0 { 16 } else { next.trailing_zeros() };
        let bits = aligned.min((end - next).ilog2());
        blocks.push(block(next as u16, bits));
        next += 1 << bits;
    }
    blocks
}

/// The blocks that Neutron 8.1.0 wrote for `min..=max`.
///
/// From below it goes up to the highest bit in which the ends differ, from above down to it. It means to take the
/// half between in one block where the upper end fills it; but of an even lower end it has already taken two ports
/// at once, counts one too few, and so takes that block also where it reaches one port beyond the range.
#[must_use]
pub fn legacy(min: u16, max: u16) -> Vec<PortBlock> {
    let odd = min & 1 == 1;
    if min >= max {
        return vec![block(min, u32::from(!odd))];
    }
    let highest = (min ^ max).ilog2();
    let mut blocks = vec![block(min, u32::from(!odd))];
    let upwards = |bit: &u32| min >> bit & 1 == 0;
    blocks.extend((1..highest).filter(upwards).map(|bit| block(min | 1 << bit, bit)));
    let rest = max & ones(highest);
    let slack = u16::from(!odd && highest > 0);
    if highest > 0 && rest + slack >= ones(highest) {
        blocks.push(block(max, highest));
    }
    let downwards = |bit: &u32| max >> bit & 1 == 1;
    blocks.extend((1..highest).rev().filter(downwards).map(|bit| block(max ^ 1 << bit, bit)));
    if highest > 0 {
        blocks.push(block(max, u32::from(max & 1)));
    } else if odd {
        blocks.push(block(max, 0));
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn ports(blocks: &[PortBlock]) -> Vec<u16> {
        (0..=u16::MAX).filter(|port| blocks.iter().any(|b| port & b.mask == b.value)).collect()
    }

    fn small(blocks: &[PortBlock], below: u16) -> BTreeSet<u16> {
        (0..below).filter(|port| blocks.iter().any(|b| port & b.mask == b.value)).collect()
    }

    /// What the release is known to have covered beyond the range, found by running it over all ranges below 300.
    fn spills(min: u16, max: u16) -> bool {
        if min & 1 == 1 {
            return false;
        }
        let highest = if min == max { 0 } else { (min ^ max).ilog2() };
        min == max || highest >= 1 && max & ones(highest) == ones(highest) & !1
    }

    #[test]
    fn exact_blocks_are_the_range_and_disjoint() {
        for min in 0..140 {
            for max in min..140 {
                let blocks = exact(min, max);
                assert_eq!(small(&blocks, 512), (min..=max).collect(), "{min}-{max}");
                let total: u32 = blocks.iter().map(|b| 1 << b.mask.count_zeros()).sum();
                assert_eq!(total, u32::from(max - min) + 1, "{min}-{max}");
            }
        }
        for (min, max) in [(0, 65535), (1, 65535), (1, 65534), (1000, 2999), (65535, 65535)] {
            assert_eq!(ports(&exact(min, max)), (min..=max).collect::<Vec<_>>());
        }
        assert_eq!(exact(0, 65535), [PortBlock { value: 0, mask: 0 }]);
    }

    #[test]
    fn legacy_blocks_spill_over_one_port_where_the_release_did() {
        for min in 1..300 {
            for max in min..300 {
                let expected: BTreeSet<u16> = (min..=max + u16::from(spills(min, max))).collect();
                assert_eq!(small(&legacy(min, max), 1024), expected, "{min}-{max}");
            }
        }
        for (min, max) in [(1024, 1026), (8080, 8090), (1, 65534), (2, 65535), (32768, 65535), (5900, 5999)] {
            let last = max + u16::from(spills(min, max));
            assert_eq!(ports(&legacy(min, max)), (min..=last).collect::<Vec<_>>(), "{min}-{max}");
        }
    }
}
