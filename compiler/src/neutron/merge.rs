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

/// The ranges between which the set of conjunctions changes, with those sets; ranges without any are left out. As in
/// the driver, what ends does so before anything begins: ranges that touch are not joined.
fn sweep(rules: &[(Protocol, u32)]) -> Vec<((u16, u16), BTreeSet<u32>)> {
    let mut changes: BTreeMap<(u32, bool), Vec<u32>> = BTreeMap::new();
    for (protocol, id) in rules {
        let (min, max) = match *protocol {
            Protocol::Transport(_, Some(range)) => (range.min(), range.max()),
            _ => (1, u16::MAX),
        };
        changes.entry((min.into(), true)).or_default().push(*id);
        changes.entry((u32::from(max) + 1, false)).or_default().push(*id);
    }
    let mut active: BTreeMap<u32, usize> = BTreeMap::new();
    let mut ranges: Vec<((u16, u16), BTreeSet<u32>)> = Vec::new();
    let mut begin = 0;
    for ((at, begins), changed) in changes {
        let before: BTreeSet<u32> = active.keys().copied().collect();
        for id in changed {
            let count = active.entry(id).or_default();
            *count = if begins { *count + 1 } else { count.saturating_sub(1) };
        }
        active.retain(|_, count| *count > 0);
        if active.keys().copied().eq(before.iter().copied()) {
            continue;
        }
        if !before.is_empty() && begin < at {
            ranges.push(((begin as u16, (at - 1) as u16), before));
        }
        begin = at;
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
    fn ranges_that_touch_stay_apart_and_nested_ones_vanish() {
        check(
            &[(Some((80, 90)), 1), (Some((91, 100)), 1)],
            &[(Some((80, 90)), &[1]), (Some((91, 100)), &[1])],
        );
        check(&[(Some((80, 100)), 1), (Some((85, 90)), 1)], &[(Some((80, 100)), &[1])]);
        check(
            &[(Some((1, 100)), 1), (Some((101, 65535)), 1)],
            &[(Some((1, 100)), &[1]), (Some((101, 65535)), &[1])],
        );
    }

    /// `80-90:16,24` or `all:16`.
    fn parse(text: &str) -> (Ends, Vec<u32>) {
        let (range, ids) = text.split_once(':').unwrap();
        let ends = range.split_once('-').map(|(min, max)| (min.parse().unwrap(), max.parse().unwrap()));
        (ends, ids.split(',').map(|id| id.parse().unwrap()).collect())
    }

    #[test]
    fn random_rules_merge_as_the_driver_merges_them() {
        let lines =
            include_str!("../../tests/merged-ports.tsv").lines().filter(|line| !line.starts_with('#'));
        let mut count = 0;
        for line in lines {
            let (rules, merged) = line.split_once('\t').unwrap();
            let rules: Vec<_> = rules.split(' ').map(parse).map(|(ends, ids)| (ends, ids[0])).collect();
            let merged: Vec<_> = merged.split(' ').map(parse).collect();
            let merged: Vec<_> = merged.iter().map(|(ends, ids)| (*ends, ids.as_slice())).collect();
            check(&rules, &merged);
            count += 1;
        }
        assert!(count >= 200);
    }

    #[test]
    fn what_covers_all_ports_has_no_range() {
        check(&[(Some((1, 65535)), 1), (Some((8080, 8080)), 1)], &[(None, &[1])]);
        check(&[(None, 1), (None, 2)], &[(None, &[1, 2])]);
    }
}
