//! What is not known any more: hosts between which something happened that is not modelled.
//!
//! A helper opens connections that nobody committed, and a translation whose result is the datapath's choice has an
//! entry that nobody can name. What is sent between those hosts later is unknown too, until the entries are flushed.
//!
//! Invariant: it only grows; it takes more for unknown than is. Deliberately absent: ports, and the end of connections.
//!
//! Source: ovs-actions(7), `alg` and `nat`.

use super::tuple::Key;
use crate::flow::{Nat, NatEnd};
use std::{fmt, net::IpAddr};

/// Why an answer is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unknown {
    /// Which address or port a connection is translated to is the datapath's choice.
    Choice,
    /// A helper reads the packet.
    Helper,
    /// Open vSwitch 3.1's userspace datapath is at fault: it garbles what an ICMPv6 error quotes of a translated
    /// connection, calls a packet neither new nor anything else that would begin one from the other side, and may crash
    /// where one that is translated to what it is begins anew.
    Faulty,
    /// Something that was not known happened between the same hosts before.
    Before,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Choice => "ct(): the datapath chooses the translation",
            Self::Helper => "ct(): a helper reads the packet",
            Self::Faulty => "ct(): a fault of the datapath's",
            Self::Before => "ct(): rests on what was unknown for an earlier packet",
        })
    }
}

/// First and last address.
type Hosts = (u128, u128);

/// Traffic between some hosts and others, in one zone or in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shadow {
    zone: Option<u16>,
    ipv6: bool,
    ends: [Hosts; 2],
}

/// Everything that is not known any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Shadows(Vec<Shadow>);

impl Shadows {
    /// Whether a packet with `key` is concerned, or an error about one.
    pub(super) fn cover(&self, zone: u16, key: &Key) -> bool {
        let within = |addr: u128, (first, last): Hosts| (first..=last).contains(&addr);
        self.0.iter().any(|shadow| {
            let [a, b] = shadow.ends;
            shadow.zone.is_none_or(|of| of == zone)
                && shadow.ipv6 == key.ipv6
                && (within(key.src.addr, a) && within(key.dst.addr, b)
                    || within(key.src.addr, b) && within(key.dst.addr, a))
        })
    }

    /// What goes on between the hosts of `key` is not known any more: in `zone`, or in all of them.
    pub(super) fn between(&mut self, zone: Option<u16>, key: &Key) {
        let one = |addr| (addr, addr);
        self.add(Shadow { zone, ipv6: key.ipv6, ends: [one(key.src.addr), one(key.dst.addr)] });
    }

    /// Nor is what goes on with the addresses that a connection may be translated to, nor what else its sender is
    /// translated to by a datapath that remembers.
    pub(super) fn translated(&mut self, key: &Key, nat: Nat) {
        self.between(None, key);
        let Nat::New(range) = nat else { return };
        let own = match range.end {
            NatEnd::Src => key.src.addr,
            NatEnd::Dst => key.dst.addr,
        };
        let hosts = range.addresses.map_or((own, own), |(first, last)| (number(first), number(last)));
        let any = (0, u128::MAX);
        match range.end {
            NatEnd::Src => {
                self.add(Shadow { zone: None, ipv6: key.ipv6, ends: [(own, own), any] });
                self.add(Shadow { zone: None, ipv6: key.ipv6, ends: [hosts, any] });
            }
            NatEnd::Dst => {
                let sender = (key.src.addr, key.src.addr);
                self.add(Shadow { zone: None, ipv6: key.ipv6, ends: [hosts, sender] });
            }
        }
    }

    fn add(&mut self, shadow: Shadow) {
        if !self.0.contains(&shadow) {
            self.0.push(shadow);
        }
    }

    /// Entries were removed: those of one zone, or all.
    pub(super) fn flush(&mut self, zone: Option<u16>) {
        self.0.retain(|shadow| zone.is_some() && shadow.zone != zone);
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}
