//! Whether actions fit the match they stand beside.
//!
//! Invariant: [`Headers`] says what is known of a packet that reaches the action being read; actions that change
//! headers change it too.
//!
//! Source: ovs-actions(7), ovs-fields(7) "Prerequisites"; experiments with `ovs-ofctl parse-flows` 3.1.

use super::protocols::Protocols;
use crate::flow::Match;
use crate::flow::names::{ethertype as eth, ipproto};
use flowproof_packet::{Field, Prerequisite};

/// Bits of `ct_state` that the checks look at.
mod ct {
    /// A packet of no connection.
    pub(super) const INVALID: u128 = 0x10;
    /// Any bit that only packets of a connection have.
    pub(super) const CONNECTED: u128 = 0xcf;
    /// Connection tracking has been applied.
    pub(super) const TRACKED: u128 = 0x20;
}

/// What is known of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Headers {
    /// 0 where unknown, or where an action has made it unknown.
    pub(crate) dl_type: u16,
    /// 0 where unknown.
    pub(crate) nw_proto: u8,
    /// VLAN tags that are known to be there.
    pub(crate) tags: u8,
    /// Whether there is known to be none.
    pub(crate) untagged: bool,
    /// Namespace and type of the outermost header; 0 is Ethernet.
    pub(crate) packet_type: u32,
    later_fragment: bool,
    tp_src: u128,
    tp_dst: u128,
    ct_state: u128,
    ct_state_mask: u128,
    trusted: bool,
}

impl Headers {
    /// A packet of which nothing is known, and which has whatever actions want.
    pub(crate) fn trusted() -> Self {
        Self { trusted: true, ..Self::of(&Match::default()) }
    }

    /// What a match says.
    pub(crate) fn of(matching: &Match) -> Self {
        let value = |field| matching.get(field).0;
        let packet_type = (value(Field::PacketType) & 0xffff_ffff) as u32;
        let dl_type = if packet_type >> 16 == 1 { packet_type as u16 } else { value(Field::DlType) as u16 };
        Self {
            dl_type,
            nw_proto: (value(Field::NwProto) & 0xff) as u8,
            tags: u8::from(value(Field::VlanTci) & 0x1000 != 0),
            untagged: is_untagged(matching),
            packet_type,
            later_fragment: value(Field::NwFrag) & 2 != 0,
            tp_src: value(Field::TcpSrc),
            tp_dst: value(Field::TcpDst),
            ct_state: value(Field::CtState),
            ct_state_mask: matching.get(Field::CtState).1,
            trusted: false,
        }
    }

    /// IPv4 or IPv6.
    pub(crate) const fn is_ip(&self) -> bool {
        matches!(self.dl_type, eth::IP | eth::IPV6)
    }

    /// MPLS.
    pub(crate) const fn is_mpls(&self) -> bool {
        matches!(self.dl_type, eth::MPLS | eth::MPLSM)
    }

    /// Whether the match says that the packet belongs to a connection.
    pub(crate) const fn is_tracked(&self) -> bool {
        let known_valid = self.ct_state_mask & ct::INVALID != 0 && self.ct_state & ct::INVALID == 0;
        self.trusted || self.ct_state & ct::CONNECTED != 0 || self.ct_state & ct::TRACKED != 0 && known_valid
    }

    /// `ct_state=+inv`
    pub(crate) const fn is_invalid(&self) -> bool {
        self.ct_state & ct::INVALID != 0
    }

    /// TCP, UDP or SCTP, and its header at hand.
    pub(crate) const fn has_ports(&self) -> bool {
        self.transport(ipproto::TCP) || self.transport(ipproto::UDP) || self.transport(ipproto::SCTP)
    }

    const fn transport(&self, proto: u8) -> bool {
        self.is_ip() && self.nw_proto == proto && !self.later_fragment
    }

    const fn nd(&self, icmp_type: u128) -> bool {
        self.dl_type == eth::IPV6
            && self.nw_proto == ipproto::ICMPV6
            && !self.later_fragment
            && self.tp_src == icmp_type
            && self.tp_dst == 0
    }

    /// Whether the packet has what `field` needs.
    pub(crate) const fn has(&self, field: Field) -> bool {
        self.trusted || self.meets(field)
    }

    const fn meets(&self, field: Field) -> bool {
        match field.spec().prerequisite {
            Prerequisite::None => true,
            Prerequisite::Ethernet => self.packet_type == 0,
            Prerequisite::Arp => matches!(self.dl_type, eth::ARP | eth::RARP),
            Prerequisite::Vlan => self.tags > 0,
            Prerequisite::Ipv4 => self.dl_type == eth::IP,
            Prerequisite::Ipv6 => self.dl_type == eth::IPV6,
            Prerequisite::Ip => self.is_ip(),
            Prerequisite::Mpls => self.is_mpls(),
            Prerequisite::Tcp => self.transport(ipproto::TCP),
            Prerequisite::Udp => self.transport(ipproto::UDP),
            Prerequisite::Sctp => self.transport(ipproto::SCTP),
            Prerequisite::Icmpv4 => {
                self.dl_type == eth::IP && self.nw_proto == ipproto::ICMP && !self.later_fragment
            }
            Prerequisite::Icmpv6 => {
                self.dl_type == eth::IPV6 && self.nw_proto == ipproto::ICMPV6 && !self.later_fragment
            }
            Prerequisite::Nd => self.nd(135) || self.nd(136),
            Prerequisite::NdSolicit => self.nd(135),
            Prerequisite::NdAdvert => self.nd(136),
            Prerequisite::Nsh => self.dl_type == eth::NSH,
            Prerequisite::CtValid => {
                let version = match field {
                    Field::CtNwSrc | Field::CtNwDst => self.dl_type == eth::IP,
                    Field::CtIpv6Src | Field::CtIpv6Dst => self.dl_type == eth::IPV6,
                    _ => true,
                };
                version && self.is_tracked()
            }
        }
    }
}

/// Whether a match takes frames without a tag only.
fn is_untagged(matching: &Match) -> bool {
    let (value, mask) = matching.get(Field::VlanTci);
    mask & 0x1000 != 0 && value & 0x1000 == 0
}

/// Remarks that actions give rise to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remarks {
    /// A `ct()` stands in a flow that is not about IP.
    pub(crate) ct_without_ip: bool,
    /// The first action that only OpenFlow 1.0 takes here.
    pub(crate) openflow10_only: Option<&'static str>,
}

/// What is carried along a list of actions.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// What is known of the packet.
    pub(crate) headers: Headers,
    /// The protocols over which the flow so far can be sent.
    pub(crate) protocols: Protocols,
    /// The flow's table; nothing where it is of no matter.
    pub(crate) table: Option<u8>,
    /// Remarks so far.
    pub(crate) remarks: Remarks,
    /// Whether the flow is as a switch prints it over OpenFlow.
    pub(crate) dumped: bool,
}

impl Context {
    /// Notes that `action` needs a header that the match does not promise.
    pub(crate) fn inconsistent(&mut self, action: &'static str) {
        self.remarks.openflow10_only.get_or_insert(action);
        self.protocols = self.protocols.and(Protocols::OPENFLOW10);
    }
}
