//! `nat(…)` inside `ct(…)`.
//!
//! Source: ovs-actions(7), "nat"; experiments with `ovs-ofctl parse-flows` 3.1.

use super::fault::{Parsed, fault};
use super::items::{Item, Items};
use crate::flow::names::ethertype;
use crate::flow::print::address_text;
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

fn bracketed(address: IpAddr, ports: bool) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) if ports => format!("[{}]", address_text(v6)),
        IpAddr::V6(v6) => address_text(v6),
    }
}

impl Range {
    /// The range after `src` or `dst`; `0.0.0.0` means none, as the wire has it.
    fn text(&self) -> String {
        let Some((first, last)) =
            self.addresses.filter(|(first, last)| !(first.is_unspecified() && first == last))
        else {
            return String::new();
        };
        let ports = self.ports.filter(|(first, _)| *first != 0);
        let mut out = format!("={}", bracketed(first, ports.is_some()));
        if first != last {
            out.push_str(&format!("-{}", bracketed(last, ports.is_some())));
        }
        if let Some((first, last)) = ports {
            out.push_str(&format!(":{first}"));
            if first != last {
                out.push_str(&format!("-{last}"));
            }
        }
        out
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

/// Reads `nat` and prints it as ovs-ofctl does.
pub(crate) fn nat(item: Item<'_>, dl_type: u16) -> Parsed<'_, String> {
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
            false => Ok("nat".to_owned()),
        };
    };
    let mut out = format!("nat({key}{}", range.text());
    let flags = [(persistent, ",persistent"), (hash, ",hash"), (random, ",random")];
    let ranged = !range.text().is_empty();
    flags.iter().filter(|(on, _)| *on && ranged).for_each(|(_, name)| out.push_str(name));
    out.push(')');
    Ok(out)
}
