//! The templates: what the bridge and every port gets.

use crate::template::{Do, Each, Row, Value, Want, ct_state, ethertype, protocol};
use flowproof_model::policy::Ethertype;
use flowproof_packet::Field;

/// What enters the bridge.
const ENTER: u8 = 0;
/// Where it belongs.
const CLASSIFY: u8 = 60;
/// Whether a port may send it at all.
pub(super) const SENDER: u8 = 71;
/// Whether the sender's rules admit it.
pub(super) const EGRESS: u8 = 72;
/// Whom it is for.
pub(super) const FORWARD: u8 = 73;
/// Everybody of a network, one after the other.
pub(super) const GROUP: u8 = 74;
/// Neighbour discovery from a permitted source: whether its target is the sender's.
const ND_TARGET: u8 = 75;
/// Neighbour discovery: whether its link-layer option is the sender's.
const ND_LINK: u8 = 76;
/// ARP probes for an address of the sender: whether they have its MAC.
const PROBE: u8 = 77;
/// Whether a port takes it without rules.
pub(super) const RECEIVER: u8 = 81;
/// Whether the receiver's rules admit it.
pub(super) const INGRESS: u8 = 82;
/// Delivery.
pub(super) const DELIVER: u8 = 83;

const V4: Ethertype = Ethertype::Ipv4;
const V6: Ethertype = Ethertype::Ipv6;
const PORT_REGISTER: Want = Want::Is(Field::Reg5, Value::Ofport);
const NETWORK_REGISTER: Want = Want::Is(Field::Reg6, Value::Vlan);
const FROM_PORT: Want = Want::Is(Field::InPort, Value::Ofport);
/// Tagged with VLAN 0: the tag carries a priority only (IEEE 802.1Q).
const NO_VLAN: Want = Want::Vlan(Value::Const(0));
const TO_MAC: Want = Want::Is(Field::DlDst, Value::Mac);
const FROM_MAC: Want = Want::Is(Field::DlSrc, Value::Mac);
const ARP: Want = Want::Is(Field::DlType, Value::Const(ethertype::ARP as u128));
const RARP: Want = Want::Is(Field::DlType, Value::Const(ethertype::RARP as u128));
const SENDER_HARDWARE: Want = Want::Is(Field::ArpSha, Value::Mac);
const PERMITTED: Want = Want::Is(Field::DlType, Value::Number);
const UNADDRESSED: Want = Want::Bits(Field::Ipv6Src, 0, u128::MAX);
const CODE_ZERO: Want = Want::Is(Field::Icmpv6Code, Value::Const(0));
const GROUP_ADDRESSED: Want = Want::Bits(Field::DlDst, GROUP_BIT, GROUP_BIT);
const FOR_ONE: Want = Want::Bits(Field::DlDst, 0, GROUP_BIT);
const FRAGMENT: Want = Want::Bits(Field::NwFrag, 1, 1);
const IPV6: Want = Want::Is(Field::DlType, Value::Const(ethertype::IPV6 as u128));
const UDP: Want = Want::Is(Field::NwProto, Value::Const(protocol::UDP as u128));
const PROTOCOL: Want = Want::Is(Field::NwProto, Value::Number);
const NEW: Want = Want::Ct(ct_state::FIRST);
const LOAD_PORT: Do = Do::Load(Field::Reg5, Value::Ofport);
const LOAD_NETWORK: Do = Do::Load(Field::Reg6, Value::Vlan);

/// The bit of an Ethernet address that says that it is a group's.
pub(super) const GROUP_BIT: u128 = 0x0100_0000_0000;

/// Tables and priorities of the flows that go by the receiver's MAC alone.
pub(super) const BY_MAC: [(u8, u16); 3] = [(CLASSIFY, 90), (FORWARD, 101), (FORWARD, 100)];

const fn row(
    (table, priority): (u8, u16),
    each: &'static [Each],
    wants: &'static [Want],
    does: &'static [Do],
    why: &'static str,
) -> Row {
    Row { why, table, priority, each, wants, does }
}

/// What no port may send, however it is packed: looked for before connection tracking, and again after it, when the
/// datapaths that reassemble show what fragments hid. Datapaths that do not reassemble go on showing fragments, of
/// which nobody can tell what they are part of: those of UDP, of ICMPv6, and those that say no more than that an
/// IPv6 extension header follows are dropped.
pub(super) const NEVER: &[Row] = &[
    row((SENDER, 100), &[], &[Want::UdpFrom(V4, 67)], &[], "nothing from a DHCP server's port"),
    row((SENDER, 100), &[], &[Want::UdpTo(V4, 68)], &[], "nothing to a DHCP client's port"),
    row((SENDER, 100), &[], &[Want::UdpFrom(V6, 547)], &[], "nothing from a DHCPv6 server's port"),
    row((SENDER, 100), &[], &[Want::UdpTo(V6, 546)], &[], "nothing to a DHCPv6 client's port"),
    row(
        (SENDER, 100),
        &[Each::Number(&[134, 137])],
        &[Want::Icmpv6Type],
        &[],
        "no router advertisement, no redirect",
    ),
    row(
        (SENDER, 90),
        &[Each::Number(&[133, 135, 136])],
        &[Want::Icmpv6Type],
        &[],
        "no other neighbour discovery than its own",
    ),
    row((EGRESS, 110), &[], &[Want::UdpFrom(V4, 67)], &[], "nothing from a DHCP server's port"),
    row((EGRESS, 110), &[], &[Want::UdpTo(V4, 68)], &[], "nothing to a DHCP client's port"),
    row((EGRESS, 110), &[], &[Want::UdpFrom(V6, 547)], &[], "nothing from a DHCPv6 server's port"),
    row((EGRESS, 110), &[], &[Want::UdpTo(V6, 546)], &[], "nothing to a DHCPv6 client's port"),
    row(
        (EGRESS, 110),
        &[Each::Number(&[133, 134, 135, 136, 137])],
        &[Want::Icmpv6Type],
        &[],
        "no neighbour discovery out of fragments",
    ),
    row(
        (EGRESS, 110),
        &[Each::Family],
        &[Want::Ip, UDP, FRAGMENT],
        &[],
        "fragments that may hide a DHCP server",
    ),
    row(
        (EGRESS, 110),
        &[Each::Number(&[0, 43, 44, 51, 58, 60])],
        &[IPV6, PROTOCOL, FRAGMENT],
        &[],
        "fragments that may hide a router advertisement or a DHCPv6 server",
    ),
    row((EGRESS, 100), &[], &[Want::Ct(ct_state::INVALID)], &[], "invalid"),
    row((INGRESS, 100), &[], &[Want::Ct(ct_state::INVALID)], &[], "invalid"),
    row(
        (SENDER, 120),
        &[],
        &[Want::Ct(ct_state::TRACKED)],
        &[Do::CtClear, Do::To(SENDER)],
        "forget earlier connection tracking",
    ),
];

/// The tables that end in a drop.
pub(super) const DROPPING: [u8; 12] =
    [ENTER, CLASSIFY, SENDER, EGRESS, FORWARD, GROUP, ND_TARGET, ND_LINK, PROBE, RECEIVER, INGRESS, DELIVER];

/// What every port gets, filtered or not.
pub(super) const ANY: &[Row] = &[row((ENTER, 1), &[], &[FROM_PORT], &[Do::Goto(CLASSIFY)], "what it sends")];

/// What every filtered port gets.
pub(super) const FILTERED: &[Row] = &[
    row(
        (CLASSIFY, 100),
        &[],
        &[FROM_PORT, Want::Untagged],
        &[LOAD_PORT, LOAD_NETWORK, Do::To(SENDER)],
        "what it sends, without a VLAN tag",
    ),
    row(
        (CLASSIFY, 100),
        &[],
        &[FROM_PORT, NO_VLAN],
        &[Do::StripVlan, LOAD_PORT, LOAD_NETWORK, Do::To(SENDER)],
        "what it sends with a priority and no VLAN",
    ),
    row((CLASSIFY, 99), &[], &[FROM_PORT], &[], "what it sends with a VLAN tag"),
    row(
        (CLASSIFY, 90),
        &[Each::Mac],
        &[TO_MAC, Want::Vlan(Value::Vlan)],
        &[LOAD_PORT, LOAD_NETWORK, Do::StripVlan, Do::To(RECEIVER)],
        "what is for it, from outside",
    ),
    row(
        (SENDER, 95),
        &[Each::Pair(V4)],
        &[ARP, PORT_REGISTER, FROM_PORT, FROM_MAC, SENDER_HARDWARE, Want::Address(Field::ArpSpa)],
        &[Do::To(FORWARD)],
        "ARP from a pair of its own",
    ),
    row(
        (SENDER, 94),
        &[Each::Pair(V4)],
        &[
            ARP,
            PORT_REGISTER,
            FROM_PORT,
            Want::Bits(Field::ArpSpa, 0, u128::MAX),
            Want::Address(Field::ArpTpa),
        ],
        &[Do::To(PROBE)],
        "ARP probe for an address of its own",
    ),
    row(
        (PROBE, 100),
        &[Each::OwnMac],
        &[ARP, PORT_REGISTER, FROM_MAC, SENDER_HARDWARE],
        &[Do::To(FORWARD)],
        "ARP probe with its own MAC",
    ),
    row(
        (SENDER, 95),
        &[Each::Mac],
        &[RARP, PORT_REGISTER, FROM_PORT, FROM_MAC, SENDER_HARDWARE],
        &[Do::To(FORWARD)],
        "RARP with a MAC of its own",
    ),
    row(
        (SENDER, 95),
        &[Each::Pair(V6), Each::Number(&[130, 133])],
        &[Want::Icmpv6Type, PORT_REGISTER, FROM_PORT, FROM_MAC, Want::Source],
        &[Do::To(FORWARD)],
        "MLD query and router solicitation from a pair of its own",
    ),
    row(
        (SENDER, 95),
        &[Each::Pair(V6), Each::Number(&[135])],
        &[Want::Icmpv6Type, CODE_ZERO, PORT_REGISTER, FROM_PORT, FROM_MAC, Want::Source],
        &[Do::To(ND_LINK)],
        "neighbour solicitation from a pair of its own",
    ),
    row(
        (SENDER, 95),
        &[Each::Pair(V6), Each::Number(&[136])],
        &[Want::Icmpv6Type, CODE_ZERO, PORT_REGISTER, FROM_PORT, FROM_MAC, Want::Source],
        &[Do::To(ND_TARGET)],
        "neighbour advertisement from a pair of its own",
    ),
    row(
        (SENDER, 95),
        &[Each::OwnMac, Each::Number(&[135])],
        &[Want::Icmpv6Type, CODE_ZERO, PORT_REGISTER, FROM_PORT, FROM_MAC, UNADDRESSED],
        &[Do::To(ND_TARGET)],
        "duplicate address detection",
    ),
    row(
        (SENDER, 95),
        &[Each::OwnMac, Each::Number(&[131, 132, 143])],
        &[Want::Icmpv6Type, PORT_REGISTER, FROM_PORT, FROM_MAC, UNADDRESSED],
        &[Do::To(FORWARD)],
        "MLD before it has an address",
    ),
    row(
        (ND_TARGET, 100),
        &[Each::Pair(V6), Each::Number(&[135, 136])],
        &[Want::Icmpv6Type, CODE_ZERO, PORT_REGISTER, Want::Address(Field::NdTarget)],
        &[Do::To(ND_LINK)],
        "for an address of its own",
    ),
    row(
        (ND_LINK, 100),
        &[Each::MacOrNone, Each::Number(&[135])],
        &[Want::Icmpv6Type, CODE_ZERO, PORT_REGISTER, Want::Is(Field::NdSll, Value::Mac)],
        &[Do::To(FORWARD)],
        "with a MAC of its own, or none",
    ),
    row(
        (ND_LINK, 100),
        &[Each::MacOrNone, Each::Number(&[136])],
        &[Want::Icmpv6Type, CODE_ZERO, PORT_REGISTER, Want::Is(Field::NdTll, Value::Mac)],
        &[Do::To(FORWARD)],
        "with a MAC of its own, or none",
    ),
    row(
        (SENDER, 95),
        &[Each::Ethertype, Each::Mac],
        &[PERMITTED, PORT_REGISTER, FROM_PORT, FROM_MAC],
        &[Do::To(FORWARD)],
        "permitted ethertype with a MAC of its own",
    ),
    row(
        (SENDER, 80),
        &[Each::DhcpSource],
        &[Want::Udp(V4, 68, 67), PORT_REGISTER, FROM_PORT, FROM_MAC, Want::Source],
        &[Do::To(FORWARD)],
        "DHCP client",
    ),
    row(
        (SENDER, 80),
        &[Each::Pair(V6)],
        &[Want::Udp(V6, 546, 547), PORT_REGISTER, FROM_PORT, FROM_MAC, Want::Source],
        &[Do::To(FORWARD)],
        "DHCPv6 client",
    ),
    row(
        (SENDER, 65),
        &[Each::Pair(V4)],
        &[PORT_REGISTER, FROM_PORT, FROM_MAC, Want::Source],
        &[Do::Track(EGRESS)],
        "IPv4 from a pair of its own",
    ),
    row(
        (SENDER, 65),
        &[Each::Pair(V6)],
        &[PORT_REGISTER, FROM_PORT, FROM_MAC, Want::Source],
        &[Do::Track(EGRESS)],
        "IPv6 from a pair of its own",
    ),
    row(
        (FORWARD, 100),
        &[Each::Mac],
        &[TO_MAC, NETWORK_REGISTER],
        &[LOAD_PORT, Do::To(RECEIVER)],
        "what others of its network send to it",
    ),
    row((RECEIVER, 120), &[], &[FROM_PORT, PORT_REGISTER], &[], "nothing of its own comes back to it"),
    row((RECEIVER, 100), &[], &[ARP, PORT_REGISTER], &[Do::Output], "ARP for it"),
    row(
        (RECEIVER, 100),
        &[Each::Ethertype],
        &[PERMITTED, PORT_REGISTER],
        &[Do::Output],
        "permitted ethertype",
    ),
    row(
        (RECEIVER, 100),
        &[Each::Number(&[130, 134, 135, 136])],
        &[Want::Icmpv6Type, PORT_REGISTER],
        &[Do::Output],
        "neighbour discovery, router advertisement and MLD query for it",
    ),
    row((RECEIVER, 95), &[], &[Want::Udp(V4, 67, 68), PORT_REGISTER], &[Do::Output], "DHCP answers"),
    row((RECEIVER, 95), &[], &[Want::Udp(V6, 547, 546), PORT_REGISTER], &[Do::Output], "DHCPv6 answers"),
    row(
        (RECEIVER, 90),
        &[Each::Family],
        &[Want::Ip, Want::Ct(ct_state::UNTRACKED), PORT_REGISTER],
        &[Do::Track(INGRESS)],
        "IP for it",
    ),
    row(
        (RECEIVER, 80),
        &[],
        &[Want::Ct(ct_state::TRACKED), PORT_REGISTER],
        &[Do::To(INGRESS)],
        "accepted egress of others to it",
    ),
    row(
        (DELIVER, 90),
        &[Each::Family],
        &[Want::Ip, NEW, FOR_ONE, PORT_REGISTER],
        &[Do::Commit, Do::Output],
        "the first of a connection",
    ),
    row((DELIVER, 80), &[], &[PORT_REGISTER], &[Do::Output], "of a connection, or for a group"),
];

/// What every port gets that is not filtered: port security switched off, or the network's own.
pub(super) const UNFILTERED: &[Row] = &[
    row(
        (CLASSIFY, 100),
        &[],
        &[FROM_PORT, Want::Untagged],
        &[LOAD_PORT, LOAD_NETWORK, Do::To(FORWARD)],
        "what it sends, unfiltered",
    ),
    row(
        (CLASSIFY, 100),
        &[],
        &[FROM_PORT, NO_VLAN],
        &[Do::StripVlan, LOAD_PORT, LOAD_NETWORK, Do::To(FORWARD)],
        "what it sends with a priority and no VLAN, unfiltered",
    ),
    row((CLASSIFY, 99), &[], &[FROM_PORT], &[], "what it sends with a VLAN tag"),
    row(
        (CLASSIFY, 90),
        &[Each::OwnMac],
        &[TO_MAC, Want::Vlan(Value::Vlan)],
        &[Do::StripVlan, Do::Output],
        "what is for it, from outside",
    ),
    row(
        (FORWARD, 101),
        &[Each::Family, Each::OwnMac],
        &[Want::Ip, NEW, TO_MAC, NETWORK_REGISTER],
        &[Do::Commit, Do::Output],
        "the first of a connection to it",
    ),
    row(
        (FORWARD, 100),
        &[Each::OwnMac],
        &[TO_MAC, NETWORK_REGISTER],
        &[Do::Output],
        "what others send to it",
    ),
];

/// What every network gets, whether it is known how it leaves the host or not. Its subject is the network.
pub(super) const NETWORK: &[Row] = &[
    row(
        (CLASSIFY, 80),
        &[Each::Family],
        &[Want::Ip, GROUP_ADDRESSED, Want::Vlan(Value::Vlan)],
        &[LOAD_NETWORK, Do::StripVlan, Do::Track(GROUP)],
        "IP for a group, from outside",
    ),
    row(
        (CLASSIFY, 79),
        &[],
        &[GROUP_ADDRESSED, Want::Vlan(Value::Vlan)],
        &[LOAD_NETWORK, Do::StripVlan, Do::To(GROUP)],
        "for a group, from outside",
    ),
];

/// What leaves the host through the uplink of a network.
pub(super) const UPLINK: &[Row] = &[
    row(
        (FORWARD, 95),
        &[],
        &[GROUP_ADDRESSED, NETWORK_REGISTER],
        &[Do::To(GROUP), Do::PushVlan, Do::OutputNumber],
        "for a group: to everybody here, then to other hosts",
    ),
    row(
        (FORWARD, 90),
        &[Each::Family],
        &[Want::Ip, NEW, NETWORK_REGISTER],
        &[Do::Commit, Do::PushVlan, Do::OutputNumber],
        "the first of a connection to other hosts",
    ),
    row((FORWARD, 80), &[], &[NETWORK_REGISTER], &[Do::PushVlan, Do::OutputNumber], "to other hosts"),
];

/// What is not for this host where nobody said how the network leaves it.
pub(super) const NO_UPLINK: &[Row] = &[
    row((FORWARD, 95), &[], &[GROUP_ADDRESSED, NETWORK_REGISTER], &[Do::Normal], "for a group"),
    row(
        (FORWARD, 90),
        &[Each::Family],
        &[Want::Ip, NEW, NETWORK_REGISTER],
        &[Do::Commit, Do::Normal],
        "the first of a connection to other hosts",
    ),
    row((FORWARD, 80), &[], &[NETWORK_REGISTER], &[Do::Normal], "to other hosts"),
];

/// What is for a group of a network that stays on the host.
pub(super) const LOCAL: &[Row] =
    &[row((FORWARD, 95), &[], &[GROUP_ADDRESSED, NETWORK_REGISTER], &[Do::To(GROUP)], "for a group")];
