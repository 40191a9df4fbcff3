//! The key of a connection: both ends, as one direction of travel sees them.
//!
//! Invariant: a key and its reverse have the same canonical form, so that one table entry answers for both.

use super::Tuple;
use flowproof_packet::wire::proto;

/// One end of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Endpoint {
    pub(super) addr: u128,
    /// Port, or ICMP identifier.
    pub(super) port: u16,
    /// ICMP type and code that this end sends.
    pub(super) icmp: (u8, u8),
}

/// A packet's addresses, protocol and ports or ICMP identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) src: Endpoint,
    pub(super) dst: Endpoint,
    pub(super) ipv6: bool,
    pub(super) proto: u8,
}

impl Key {
    /// The same connection seen from the other end.
    pub(super) const fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src, ..self }
    }

    /// One form for both directions.
    pub(super) fn canonical(self) -> Self {
        if self.dst < self.src { self.reversed() } else { self }
    }

    /// Whether the protocol is the ICMP of the address family.
    pub(super) const fn is_icmp(&self) -> bool {
        self.proto == if self.ipv6 { proto::ICMPV6 } else { proto::ICMP }
    }

    /// A packet of this kind with the addresses and ports of a connection's original direction.
    pub(super) const fn with_tuple(mut self, tuple: &Tuple) -> Self {
        (self.src.addr, self.dst.addr) = (tuple.src, tuple.dst);
        if !self.is_icmp() {
            (self.src.port, self.dst.port) = (tuple.tp_src, tuple.tp_dst);
        }
        self
    }

    /// As `ct_nw_src` and its like show it: ICMP type and code in the place of ports.
    pub(super) fn tuple(&self) -> Tuple {
        let (tp_src, tp_dst) = if self.is_icmp() {
            let (kind, code) = self.src.icmp;
            (u16::from(kind), u16::from(code))
        } else {
            (self.src.port, self.dst.port)
        };
        Tuple { src: self.src.addr, dst: self.dst.addr, ipv6: self.ipv6, proto: self.proto, tp_src, tp_dst }
    }
}
