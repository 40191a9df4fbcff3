//! Address translation: what a new connection is given, and what its packets become.
//!
//! Which address or port is taken out of several is a hash or a random number in every datapath, and not predicted:
//! [`Choice::Open`]. Where there is one to take, or the port that the packet has is free, it is exact.
//!
//! Invariant: what is translated in one direction is translated back in the other. Deliberately absent: ICMP
//! identifiers, which the userspace datapath keeps; payloads that name addresses.
//!
//! Source: ovs-actions(7), `nat`; experiments with Open vSwitch 3.1; for the kernels, Linux's `openvswitch` and
//! `nf_nat` modules, read but not executed.

use super::{
    Profile,
    segment::Segment,
    state,
    table::Conn,
    tuple::{Endpoint, Key},
};
use crate::flow::{Nat, NatEnd, NatRange};
use flowproof_packet::wire::{self, Ends, proto};
use std::net::IpAddr;

/// What a new connection is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// What answers it, and which end of its packets is translated.
    Given(Key, Option<NatEnd>),
    /// Everything is taken: there will be no entry.
    Exhausted,
    /// It is up to the datapath.
    Open,
}

/// How many ports the userspace datapath tries one after the other before it goes on at random.
const ATTEMPTS: u16 = 128;

/// What `nat` gives to a connection that begins with `key`; `taken` says whether a key answers already.
pub(super) fn choose(profile: Profile, nat: Nat, key: &Key, taken: impl Fn(&Key) -> bool) -> Choice {
    let range = match nat {
        Nat::New(range) => range,
        Nat::Existing => return plain(profile, key, taken),
    };
    let Some(address) = address(&range, key) else { return Choice::Open };
    let mut reverse = key.reversed();
    match range.end {
        NatEnd::Src => reverse.dst.addr = address,
        NatEnd::Dst => reverse.src.addr = address,
    }
    match profile {
        Profile::Userspace31 => userspace(&range, key, reverse, taken),
        Profile::Kernel | Profile::Kernel2016 => kernel(&range, key, reverse, taken),
    }
}

/// `nat` without addresses. Open vSwitch 3.1 in userspace takes it for a translation to nothing: the entry is
/// answered from address 0 to port 0, so that no reply finds it.
fn plain(profile: Profile, key: &Key, taken: impl Fn(&Key) -> bool) -> Choice {
    let mut reverse = key.reversed();
    if profile == Profile::Userspace31 {
        reverse.src.addr = 0;
        if has_ports(key) {
            reverse.dst.port = 0;
        }
    }
    match (taken(&reverse), profile) {
        (false, _) => Choice::Given(reverse, None),
        (true, Profile::Userspace31) => Choice::Exhausted,
        (true, Profile::Kernel | Profile::Kernel2016) => Choice::Open,
    }
}

const fn has_ports(key: &Key) -> bool {
    matches!(key.proto, proto::TCP | proto::UDP)
}

/// The one address that there is to give, if there is one.
fn address(range: &NatRange, key: &Key) -> Option<u128> {
    let own = match range.end {
        NatEnd::Src => key.src.addr,
        NatEnd::Dst => key.dst.addr,
    };
    match range.addresses {
        None => Some(own),
        Some((IpAddr::V4(first), last)) if last == first && !key.ipv6 => Some(u128::from(u32::from(first))),
        Some((IpAddr::V6(first), last)) if last == first && key.ipv6 => Some(u128::from(first)),
        Some(_) => None,
    }
}

fn userspace(range: &NatRange, key: &Key, mut reverse: Key, taken: impl Fn(&Key) -> bool) -> Choice {
    let given = |reverse| Choice::Given(reverse, Some(range.end));
    if !has_ports(key) {
        return if taken(&reverse) { Choice::Exhausted } else { given(reverse) };
    }
    let own = key.src.port;
    let usual = match own {
        0..512 => (1, 511),
        512..1024 => (600, 1023),
        _ => (1024, u16::MAX),
    };
    let (first, ports) = match (range.end, range.ports) {
        (_, Some((first, last))) if first != last => return Choice::Open,
        (NatEnd::Src, Some((port, _))) => (port, (port, port)),
        (NatEnd::Src, None) => (own, usual),
        (NatEnd::Dst, port) => {
            if let Some((port, _)) = port {
                reverse.src.port = port;
                if !taken(&reverse) {
                    return given(reverse);
                }
            }
            (own, usual)
        }
    };
    let count = ports.1 - ports.0;
    let next = |port: &u16| Some(if (ports.0..ports.1).contains(port) { port + 1 } else { ports.0 });
    let tried =
        std::iter::successors(Some(first), next).take(usize::from(ATTEMPTS.min(count.saturating_add(1))));
    for port in tried {
        reverse.dst.port = port;
        if !taken(&reverse) {
            return given(reverse);
        }
    }
    if count < ATTEMPTS { Choice::Exhausted } else { Choice::Open }
}

/// The kernel keeps the port if it may and can; else it begins at a random one.
fn kernel(range: &NatRange, key: &Key, mut reverse: Key, taken: impl Fn(&Key) -> bool) -> Choice {
    let manipulated: fn(&mut Key) -> &mut Endpoint = match range.end {
        NatEnd::Src => |reverse| &mut reverse.dst,
        NatEnd::Dst => |reverse| &mut reverse.src,
    };
    if let Some((first, last)) = range.ports.filter(|_| has_ports(key)) {
        let port = &mut manipulated(&mut reverse).port;
        match (first..=last).contains(port) {
            true => {}
            false if first == last => *port = first,
            false => return Choice::Open,
        }
    }
    let moved = (reverse != key.reversed()).then_some(range.end);
    if range.random || taken(&reverse) { Choice::Open } else { Choice::Given(reverse, moved) }
}

/// What becomes of a packet's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    outer: Ends,
    /// Of the packet that an error quotes.
    quoted: Option<Ends>,
}

impl Change {
    pub(super) fn apply(&self, frame: &[u8]) -> Vec<u8> {
        let out = wire::translate(frame, &self.outer);
        match &self.quoted {
            Some(ends) => wire::translate_quoted(&out, ends),
            None => out,
        }
    }

    /// The same for one of the fragments that `whole`, which is translated already, was put together from.
    pub(super) fn apply_to_fragment(&self, frame: &[u8]) -> Vec<u8> {
        wire::translate(frame, &self.outer)
    }
}

/// What `nat` makes of a packet of a translated connection, with the bit that says so.
pub(super) fn translation(conn: &Conn, segment: &Segment<'_>, reply: bool) -> Option<(Change, u32)> {
    let end = if reply { conn.nat?.opposite() } else { conn.nat? };
    let becomes = if reply { conn.key.reversed() } else { conn.reverse.reversed() };
    let bit = match end {
        NatEnd::Src => state::SNAT,
        NatEnd::Dst => state::DNAT,
    };
    let all = |key: &Key| Ends {
        src: Some(key.src.addr),
        dst: Some(key.dst.addr),
        tp_src: has_ports(key).then_some(key.src.port),
        tp_dst: has_ports(key).then_some(key.dst.port),
    };
    let change = match (segment.related, end) {
        (false, _) => Change { outer: all(&becomes), quoted: None },
        (true, NatEnd::Src) => Change {
            outer: Ends { src: Some(becomes.src.addr), ..Ends::default() },
            quoted: Some(all(&becomes.reversed())),
        },
        (true, NatEnd::Dst) => Change {
            outer: Ends { dst: Some(becomes.dst.addr), ..Ends::default() },
            quoted: Some(all(&becomes.reversed())),
        },
    };
    Some((change, bit))
}
