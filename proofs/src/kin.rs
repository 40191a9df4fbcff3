//! Ports that are alike, and the packets of one with the addresses of another.
//!
//! Only a guess where to look first: whoever is compared here decides nothing.

use crate::{
    familiar::Choice,
    ports::{Pair, Port},
};
use flowproof_packet::Field;
use std::collections::{BTreeMap, BTreeSet};

const MACS: &[Field] = &[Field::DlSrc, Field::DlDst, Field::ArpSha, Field::ArpTha];
const IPV4: &[Field] = &[Field::NwSrc, Field::NwDst];
const IPV6: &[Field] = &[Field::Ipv6Src, Field::Ipv6Dst, Field::NdTarget];

/// For each port the first one that is like it: of its network, with as many addresses of each kind.
#[must_use]
pub fn kin(ports: &[&Port]) -> Vec<usize> {
    let mut first = BTreeMap::new();
    ports
        .iter()
        .enumerate()
        .map(|(at, port)| {
            let counts = [port.macs.len(), port.pairs4.len(), port.pairs6.len()];
            let kind = (port.network, counts, &port.permitted, port.conflicts.len());
            *first.entry(kind).or_insert(at)
        })
        .collect()
}

/// The packet with the addresses of `from` and `to` exchanged.
#[must_use]
pub fn renamed(choice: &Choice, from: &Port, to: &Port) -> Choice {
    let mut renamed = choice.clone();
    let macs = |port: &Port| port.macs.iter().map(|mac| u128::from(mac.to_bits())).collect();
    let addresses = |pairs: &BTreeSet<Pair>| pairs.iter().map(|pair| pair.address).collect();
    exchange(&mut renamed, MACS, macs(from), macs(to));
    exchange(&mut renamed, IPV4, addresses(&from.pairs4), addresses(&to.pairs4));
    exchange(&mut renamed, IPV6, addresses(&from.pairs6), addresses(&to.pairs6));
    renamed
}

fn exchange(choice: &mut Choice, fields: &[Field], from: Vec<u128>, to: Vec<u128>) {
    let pairs: Vec<(u128, u128)> = from.into_iter().zip(to).collect();
    for field in fields {
        let value = choice.sent.get(*field);
        let other = |(a, b): &(u128, u128)| match value {
            value if value == *a => Some(*b),
            value if value == *b => Some(*a),
            _ => None,
        };
        if let Some(other) = pairs.iter().find_map(other) {
            choice.sent.set(*field, other);
        }
    }
}
