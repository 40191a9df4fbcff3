//! Rules of one port that differ only in ports and remote group, as flows that do not overlap: two flows with one
//! match would replace each other, so that a flow names all the conjunctions that its ports complete.

use super::rules::has_ports;
use flowproof_model::policy::{PortRange, Protocol};
use std::collections::{BTreeMap, BTreeSet};

/// What a clause matches, and the conjunctions it counts for.
pub(super) type Merged = (Protocol, BTreeSet<u32>);

/// Merges rules of one direction, family and protocol number.
///
/// The driver's sweep begins at port 1: a rule for all ports keeps port 0 only while it is alone.
pub(super) fn merge(rules: &[(Protocol, u32)]) -> Vec<Merged> {
    match rules {
        [(protocol, id)] => vec![(*protocol, BTreeSet::from([*id]))],
        [(Protocol::Transport(transport, _), _), ..] if has_ports(*transport) => {
            let ranges = sweep(rules);
            let alone = ranges.len() == 1;
            let range = |(min, max)| PortRange::new(min, max).filter(|range| !(alone && range.is_full()));
            let transport = |(ends, ids)| (Protocol::Transport(*transport, range(ends)), ids);
            ranges.into_iter().map(transport).collect()
        }
        _ => {
            let mut merged: Vec<Merged> = Vec::new();
            for (protocol, id) in rules {
                match merged.iter_mut().find(|(known, _)| known == protocol) {
                    Some((_, ids)) => drop(ids.insert(*id)),
                    None => merged.push((*protocol, BTreeSet::from([*id]))),
                }
            }
            merged
        }
    }
}

/// The ranges between which the set of conjunctions changes, with those sets; ranges without any are left out.
fn sweep(rules: &[(Protocol, u32)]) -> Vec<((u16, u16), BTreeSet<u32>)> {
    let mut changes: BTreeMap<u32, Vec<(u32, bool)>> = BTreeMap::new();
    for (protocol, id) in rules {
        let (min, max) = match *protocol {
            Protocol::Transport(_, Some(range)) => (range.min(), range.max()),
            _ => (1, u16::MAX),
        };
        changes.entry(min.into()).or_default().push((*id, true));
        changes.entry(u32::from(max) + 1).or_default().push((*id, false));
    }
    let mut active: BTreeMap<u32, usize> = BTreeMap::new();
    let mut ranges: Vec<((u16, u16), BTreeSet<u32>)> = Vec::new();
    let mut begin = 0;
    for (at, changed) in changes {
        let before: BTreeSet<u32> = active.keys().copied().collect();
        for (id, begins) in changed {
            let count = active.entry(id).or_default();
            *count = if begins { *count + 1 } else { count.saturating_sub(1) };
        }
        active.retain(|_, count| *count > 0);
        if active.keys().copied().collect::<BTreeSet<_>>() == before {
            continue;
        }
        if !before.is_empty() {
            ranges.push(((begin, (at - 1) as u16), before));
        }
        begin = at as u16;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowproof_model::policy::Transport;

    /// The ends of a range, or all ports.
    type Ends = Option<(u16, u16)>;

    #[track_caller]
    fn check(ranges: &[(Ends, u32)], expected: &[(Ends, &[u32])]) {
        let protocol = |ends: Ends| {
            Protocol::Transport(Transport::Tcp, ends.map(|(min, max)| PortRange::new(min, max).unwrap()))
        };
        let rules: Vec<_> = ranges.iter().map(|(ends, id)| (protocol(*ends), *id)).collect();
        let expected: Vec<_> =
            expected.iter().map(|(ends, ids)| (protocol(*ends), ids.iter().copied().collect())).collect();
        assert_eq!(merge(&rules), expected);
    }

    #[test]
    fn merged_ranges_are_disjoint_and_keep_every_conjunction() {
        check(&[(Some((80, 90)), 1)], &[(Some((80, 90)), &[1])]);
        check(&[(None, 1)], &[(None, &[1])]);
        check(
            &[(Some((80, 90)), 1), (Some((85, 443)), 2)],
            &[(Some((80, 84)), &[1]), (Some((85, 90)), &[1, 2]), (Some((91, 443)), &[2])],
        );
        check(
            &[(None, 1), (Some((80, 80)), 2)],
            &[(Some((1, 79)), &[1]), (Some((80, 80)), &[1, 2]), (Some((81, 65535)), &[1])],
        );
    }

    #[test]
    fn what_covers_all_ports_has_no_range() {
        check(&[(Some((1, 65535)), 1), (Some((8080, 8080)), 1)], &[(None, &[1])]);
        check(&[(None, 1), (None, 2)], &[(None, &[1, 2])]);
    }
}
