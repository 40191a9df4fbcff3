//! `nat(…)` inside `ct(…)`.
//!
//! Source: ovs-actions(7), "nat"; experiments with `ovs-ofctl parse-flows` 3.1.

use super::fault::{Parsed, fault};
use super::items::{Item, Items};
use crate::flow::names::ethertype;
use crate::flow::{Nat, NatEnd, NatRange};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses and ports that `src=` and `dst=` give.
struct Range {
    addresses: Option<(IpAddr, IpAddr)>,
    ports: Option<(u16, u16)>,
}

/// The address at the start of `text`, perhaps in brackets, and what follows it.
fn address_prefix(text: &str) -> Option<(IpAddr, &str)> {
    let digits = |text: &str, also: &[u8]| {
        text.bytes().position(|b| !b.is_ascii_hexdigit() && !also.contains(&b)).unwrap_or(text.len())
    };
    if let Some(inside) = text.strip_prefix('[') {
        let (address, rest) = inside.split_once(']')?;
        return Some((address.parse::<Ipv6Addr>().ok()?.into(), rest));
    }
    let (four, rest) = text.split_at(digits(text, b"."));
    if let Ok(address) = four.parse::<Ipv4Addr>() {
        return Some((address.into(), rest));
    }
    let (six, rest) = text.split_at(digits(text, b".:"));
    Some((six.parse::<Ipv6Addr>().ok()?.into(), rest))
}

fn port_prefix(text: &str) -> Option<(u16, &str)> {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

/// `first-last`, or `first` alone.
fn pair<T: Copy + PartialOrd>(text: &str, one: impl Fn(&str) -> Option<(T, &str)>) -> Option<((T, T), &str)> {
    let (first, rest) = one(text)?;
    let Some(after) = rest.strip_prefix('-') else { return Some(((first, first), rest)) };
    let (last, rest) = one(after)?;
    (first <= last).then_some(((first, last), rest))
}

fn range(text: &str) -> Option<Range> {
    if text.is_empty() {
        return Some(Range { addresses: None, ports: None });
    }
    let (addresses, rest) = pair(text, address_prefix)?;
    if addresses.0.is_ipv4() != addresses.1.is_ipv4() {
        return None;
    }
    let (ports, rest) = match rest.strip_prefix(':') {
        Some(after) => pair(after, port_prefix).map(|(ports, rest)| (Some(ports), rest))?,
        None => (None, rest),
    };
    rest.is_empty().then_some(Range { addresses: Some(addresses), ports })
}

impl Range {
    /// What it means: `0.0.0.0` is none, as the wire has it, and so is port 0.
    fn meant(self) -> Self {
        let addresses = self.addresses.filter(|(first, last)| !(first.is_unspecified() && first == last));
        let ports = self.ports.filter(|(first, _)| addresses.is_some() && *first != 0);
        Self { addresses, ports }
    }

    /// Whether the addresses are of the version that the match is about.
    fn fits(&self, dl_type: u16) -> bool {
        match self.addresses {
            Some((IpAddr::V4(_), _)) => dl_type != ethertype::IPV6,
            Some((IpAddr::V6(_), _)) => dl_type != ethertype::IP,
            None => true,
        }
    }
}

/// Reads `nat`.
pub(crate) fn nat(item: Item<'_>, dl_type: u16) -> Parsed<'_, Nat> {
    let mut target: Option<(&str, Range)> = None;
    let (mut persistent, mut hash, mut random) = (false, false, false);
    for argument in Items::of(item.value) {
        match argument.key {
            "src" | "dst" => match range(argument.value) {
                Some(_) if target.as_ref().is_some_and(|(key, _)| *key != argument.key) => {
                    return fault(item.whole, "only one of `src` and `dst` may be given");
                }
                Some(range) if !range.fits(dl_type) => {
                    return fault(argument.whole, "nat addresses are not of the match's IP version");
                }
                Some(range) => target = Some((argument.key, range)),
                None => return fault(argument.whole, "invalid nat range"),
            },
            "persistent" => persistent = true,
            "hash" => hash = true,
            "random" => random = true,
            _ => return fault(argument.whole, "invalid key in `nat`"),
        }
    }
    if hash && random {
        return fault(item.whole, "both `hash` and `random` are not allowed");
    }
    let Some((key, range)) = target else {
        return match persistent || hash || random {
            true => fault(item.whole, "flags are allowed only with `src` or `dst`"),
            false => Ok(Nat::Existing),
        };
    };
    let end = if key == "src" { NatEnd::Src } else { NatEnd::Dst };
    let Range { addresses, ports } = range.meant();
    let flag = |on: bool| on && addresses.is_some();
    let (persistent, hash, random) = (flag(persistent), flag(hash), flag(random));
    Ok(Nat::New(NatRange { end, addresses, ports, persistent, hash, random }))
}
