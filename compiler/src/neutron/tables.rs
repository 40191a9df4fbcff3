//! The templates: what the bridge, every port and every rule gets.

use crate::AnnotatedFlow;
use crate::template::{ByDirection, Do, Each, Row, Value, Want, ct_state, ethertype, infrastructure};
use flowproof_model::policy::Ethertype;
use flowproof_packet::Field;
use flowproof_switch::flow::Match;

const V4: Ethertype = Ethertype::Ipv4;
const V6: Ethertype = Ethertype::Ipv6;
const PORT_REGISTER: Want = Want::Is(Field::Reg5, Value::Ofport);
const NETWORK_REGISTER: Want = Want::Is(Field::Reg6, Value::Vlan);
const FROM_PORT: Want = Want::Is(Field::InPort, Value::Ofport);
const TO_MAC: Want = Want::Is(Field::DlDst, Value::Mac);
const FROM_MAC: Want = Want::Is(Field::DlSrc, Value::Mac);
const ARP: Want = Want::Is(Field::DlType, Value::Const(ethertype::ARP as u128));
const RARP: Want = Want::Is(Field::DlType, Value::Const(ethertype::RARP as u128));
const PERMITTED: Want = Want::Is(Field::DlType, Value::Number);
const REVOKED: Want = Want::Is(Field::CtMark, Value::Const(1));
const NOT_REVOKED: Want = Want::Is(Field::CtMark, Value::Const(0));
const IN_ZONE: Want = Want::Is(Field::CtZone, Value::Vlan);
const CONJUNCTION: Want = Want::Is(Field::ConjId, Value::Conj);
const LOAD_PORT: Do = Do::Load(Field::Reg5, Value::Ofport);
const LOAD_NETWORK: Do = Do::Load(Field::Reg6, Value::Vlan);
const LOAD_CONJUNCTION: Do = Do::Load(Field::Reg7, Value::Conj);

const fn row(
    (table, priority): (u8, u16),
    each: &'static [Each],
    wants: &'static [Want],
    does: &'static [Do],
    why: &'static str,
) -> Row {
    Row { why, table, priority, each, wants, does }
}

/// What the agent installs whatever the ports: table, priority, actions, reason.
pub(super) const AGENT: &[(u8, u16, &[Do], &str)] = &[
    (0, 0, &[Do::Goto(58)], "agent: to the firewall"),
    (23, 0, &[], "agent: canary table"),
    (24, 0, &[], "agent: ARP protection, unused with this firewall"),
    (30, 0, &[Do::Goto(58)], "agent: local addresses"),
    (31, 0, &[Do::Goto(58)], "agent: local addresses"),
    (58, 0, &[Do::Goto(59)], "agent: to the firewall"),
    (59, 0, &[Do::Goto(60)], "agent: to the firewall"),
    (60, 1, &[Do::Normal], "agent: a learning switch for what the firewall does not filter"),
    (62, 3, &[Do::Normal], "agent: a learning switch"),
];

/// What the firewall installs whatever the ports.
pub(super) fn global() -> Vec<AnnotatedFlow> {
    const GLOBAL: &[(u8, u16, &[Do], &str)] = &[
        (71, 0, &[], "firewall: default"),
        (72, 0, &[], "firewall: default"),
        (73, 0, &[], "firewall: default"),
        (81, 0, &[], "firewall: default"),
        (82, 0, &[], "firewall: default"),
        (91, 1, &[Do::To(94)], "firewall: accepted egress"),
        (92, 0, &[], "firewall: end of accepted ingress"),
        (93, 0, &[], "firewall: end of what is dropped"),
        (94, 1, &[Do::Normal], "firewall: a learning switch for accepted egress"),
    ];
    let mut tracked = Match::default();
    let (value, mask) = ct_state::TRACKED;
    tracked.set(Field::CtState, value, mask);
    let again = [Do::CtClear, Do::To(71)];
    GLOBAL
        .iter()
        .map(|(table, priority, does, why)| infrastructure(*table, *priority, Match::default(), does, why))
        .chain([infrastructure(71, 110, tracked, &again, "firewall: forget earlier connection tracking")])
        .collect()
}

/// What every filtered port gets.
pub(super) const FILTERED: &[Row] = &[
    row((60, 100), &[], &[FROM_PORT], &[LOAD_PORT, LOAD_NETWORK, Do::To(71)], "what it sends"),
    row(
        (60, 90),
        &[Each::Mac],
        &[TO_MAC, Want::Vlan(Value::Vlan)],
        &[LOAD_PORT, LOAD_NETWORK, Do::StripVlan, Do::To(81)],
        "what is for it",
    ),
    row(
        (60, 90),
        &[Each::Segment, Each::Mac],
        &[TO_MAC, Want::Vlan(Value::Number)],
        &[LOAD_PORT, LOAD_NETWORK, Do::StripVlan, Do::To(81)],
        "what is for it, still with the provider's VLAN (distributed routers)",
    ),
    row(
        (60, 90),
        &[Each::Flat, Each::Mac],
        &[TO_MAC, Want::Untagged],
        &[LOAD_PORT, LOAD_NETWORK, Do::To(81)],
        "what is for it, still untagged (distributed routers)",
    ),
    row(
        (71, 95),
        &[Each::Pair(V4)],
        &[ARP, PORT_REGISTER, FROM_PORT, FROM_MAC, Want::Address(Field::ArpSpa)],
        &[Do::To(94)],
        "ARP from a pair of its own",
    ),
    row(
        (71, 95),
        &[Each::PairMac(V4)],
        &[RARP, PORT_REGISTER, FROM_PORT, FROM_MAC],
        &[Do::To(94)],
        "RARP from a MAC of its own",
    ),
    row(
        (71, 95),
        &[Each::Pair(V6), Each::Number(&[130, 133, 135])],
        &[Want::Icmpv6Type, PORT_REGISTER, FROM_PORT, FROM_MAC, Want::Source],
        &[Do::To(94)],
        "MLD query, router and neighbour solicitation from a pair of its own",
    ),
    row(
        (71, 95),
        &[Each::Pair(V6), Each::Number(&[136])],
        &[Want::Icmpv6Type, PORT_REGISTER, FROM_PORT, Want::Address(Field::NdTarget)],
        &[Do::To(94)],
        "neighbour advertisement of an address of its own",
    ),
    row((71, 95), &[Each::Ethertype], &[PERMITTED, PORT_REGISTER], &[Do::To(94)], "permitted ethertype"),
    row(
        (71, 80),
        &[Each::DhcpSource],
        &[Want::Udp(V4, 68, 67), PORT_REGISTER, FROM_PORT, FROM_MAC, Want::Source],
        &[Do::To(73)],
        "DHCP client",
    ),
    row(
        (71, 80),
        &[Each::Pair(V6)],
        &[Want::Udp(V6, 546, 547), PORT_REGISTER, FROM_PORT, FROM_MAC, Want::Source],
        &[Do::To(73)],
        "DHCPv6 client",
    ),
    row((71, 70), &[], &[Want::Udp(V4, 67, 68), PORT_REGISTER, FROM_PORT], &[Do::To(93)], "no DHCP server"),
    row(
        (71, 70),
        &[],
        &[Want::Udp(V6, 547, 546), PORT_REGISTER, FROM_PORT],
        &[Do::To(93)],
        "no DHCPv6 server",
    ),
    row(
        (71, 70),
        &[Each::Number(&[134])],
        &[Want::Icmpv6Type, PORT_REGISTER, FROM_PORT],
        &[Do::To(93)],
        "no router advertisement",
    ),
    row(
        (71, 65),
        &[Each::Pair(V4)],
        &[PORT_REGISTER, FROM_PORT, FROM_MAC, Want::Source],
        &[Do::Track(72)],
        "IPv4 from a pair of its own",
    ),
    row(
        (71, 65),
        &[Each::Pair(V6)],
        &[PORT_REGISTER, FROM_PORT, FROM_MAC, Want::Source],
        &[Do::Track(72)],
        "IPv6 from a pair of its own",
    ),
    row((71, 10), &[], &[PORT_REGISTER, FROM_PORT], &[Do::CtClear, Do::To(93)], "nothing else it sends"),
    row(
        (73, 100),
        &[Each::Mac],
        &[TO_MAC, NETWORK_REGISTER],
        &[LOAD_PORT, Do::To(81)],
        "accepted egress of others to it",
    ),
    row(
        (73, 90),
        &[Each::Family],
        &[Want::Ip, Want::Ct(ct_state::NEW_CONNECTION), PORT_REGISTER],
        &[Do::Commit, Do::To(91)],
        "its accepted new connections",
    ),
    row((73, 80), &[], &[PORT_REGISTER], &[Do::To(94)], "its accepted egress"),
    row((81, 100), &[], &[ARP, PORT_REGISTER], &[Do::Output], "ARP for it"),
    row((81, 100), &[Each::Ethertype], &[PERMITTED, PORT_REGISTER], &[Do::Output], "permitted ethertype"),
    row(
        (81, 100),
        &[Each::Number(&[130, 134, 135, 136])],
        &[Want::Icmpv6Type, PORT_REGISTER],
        &[Do::Output],
        "neighbour discovery, router advertisement and MLD query for it",
    ),
    row((81, 95), &[], &[Want::Udp(V4, 67, 68), PORT_REGISTER], &[Do::Output], "DHCP answers"),
    row((81, 95), &[], &[Want::Udp(V6, 547, 546), PORT_REGISTER], &[Do::Output], "DHCPv6 answers"),
    row(
        (81, 90),
        &[Each::Family],
        &[Want::Ip, Want::Ct(ct_state::UNTRACKED), PORT_REGISTER],
        &[Do::Track(82)],
        "IP for it",
    ),
    row(
        (81, 80),
        &[],
        &[Want::Ct(ct_state::TRACKED), PORT_REGISTER],
        &[Do::To(82)],
        "accepted egress of others to it",
    ),
    row((72, 50), &[], &[Want::Ct(ct_state::INVALID)], &[Do::To(93)], "invalid, of any port"),
    row((72, 50), &[], &[REVOKED, PORT_REGISTER], &[Do::To(93)], "revoked connections"),
    row(
        (72, 50),
        &[],
        &[Want::Ct(ct_state::REPLY), IN_ZONE, NOT_REVOKED, PORT_REGISTER],
        &[Do::To(94)],
        "replies it sends",
    ),
    row(
        (72, 50),
        &[],
        &[Want::Ct(ct_state::RELATED), IN_ZONE, NOT_REVOKED, PORT_REGISTER],
        &[Do::To(94)],
        "related packets it sends",
    ),
    row((72, 40), &[], &[Want::Ct(ct_state::NOT_ESTABLISHED), PORT_REGISTER], &[Do::To(93)], "no rule"),
    row(
        (72, 40),
        &[Each::Family],
        &[Want::Ip, Want::Ct(ct_state::ESTABLISHED), PORT_REGISTER],
        &[Do::Revoke],
        "no rule any more",
    ),
    row((82, 50), &[], &[Want::Ct(ct_state::INVALID)], &[Do::To(93)], "invalid, of any port"),
    row((82, 50), &[], &[REVOKED, PORT_REGISTER], &[Do::To(93)], "revoked connections"),
    row(
        (82, 50),
        &[],
        &[Want::Ct(ct_state::REPLY), IN_ZONE, NOT_REVOKED, PORT_REGISTER],
        &[Do::Output],
        "replies for it",
    ),
    row(
        (82, 50),
        &[],
        &[Want::Ct(ct_state::RELATED), IN_ZONE, NOT_REVOKED, PORT_REGISTER],
        &[Do::Output],
        "related packets for it",
    ),
    row((82, 40), &[], &[Want::Ct(ct_state::NOT_ESTABLISHED), PORT_REGISTER], &[Do::To(93)], "no rule"),
    row(
        (82, 40),
        &[Each::Family],
        &[Want::Ip, Want::Ct(ct_state::ESTABLISHED), PORT_REGISTER],
        &[Do::Revoke],
        "no rule any more",
    ),
];

/// What every port gets that is not filtered: port security switched off, or the network's own.
pub(super) const UNFILTERED: &[Row] = &[
    row((60, 100), &[], &[FROM_PORT], &[LOAD_PORT, LOAD_NETWORK, Do::To(73)], "what it sends, unfiltered"),
    row((73, 80), &[], &[PORT_REGISTER], &[Do::To(94)], "what it sends, unfiltered"),
];

/// What every port gets where egress is explicit.
pub(super) const EXPLICIT: &[Row] = &[
    row(
        (94, 12),
        &[Each::Direct, Each::OwnMac],
        &[TO_MAC, NETWORK_REGISTER],
        &[Do::Output],
        "explicit egress of others to it",
    ),
    row(
        (94, 12),
        &[Each::Direct, Each::OwnMac],
        &[TO_MAC, Want::Vlan(Value::Vlan)],
        &[Do::StripVlan, Do::Output],
        "from outside to it",
    ),
    row(
        (94, 10),
        &[Each::Uplink, Each::OwnMac],
        &[FROM_MAC, Want::Bits(Field::DlDst, 0, 0x0100_0000_0000), NETWORK_REGISTER],
        &[Do::ModVlan, Do::OutputNumber],
        "its explicit egress to other hosts",
    ),
];

const EGRESS: &[Do] = &[Do::To(73)];
const DELIVER: &[Do] = &[Do::Output];
const DELIVER_NEW: &[Do] = &[Do::Commit, Do::Output, Do::To(92)];
const ORIGINAL: Want = Want::Ct(ct_state::ORIGINAL);
const NEW: Want = Want::Ct(ct_state::NEW_CONNECTION);

/// What every rule without a remote becomes.
pub(super) const ACCEPT: ByDirection = ByDirection {
    egress: [
        row((72, 74), &[], &[PORT_REGISTER, ORIGINAL], EGRESS, ""),
        row((72, 74), &[], &[PORT_REGISTER, NEW], EGRESS, ""),
    ],
    ingress: [
        row((82, 74), &[], &[PORT_REGISTER, ORIGINAL], DELIVER, ""),
        row((82, 74), &[], &[PORT_REGISTER, NEW], DELIVER_NEW, ""),
    ],
};

/// Clause 1/2, for established and new connections.
pub(super) const WHO: ByDirection = ByDirection {
    egress: [
        row((72, 70), &[], &[NETWORK_REGISTER, ORIGINAL], &[Do::Conjunctions(1)], ""),
        row((72, 70), &[], &[NETWORK_REGISTER, NEW], &[Do::Conjunctions(1)], ""),
    ],
    ingress: [
        row((82, 70), &[], &[NETWORK_REGISTER, ORIGINAL], &[Do::Conjunctions(1)], ""),
        row((82, 70), &[], &[NETWORK_REGISTER, NEW], &[Do::Conjunctions(1)], ""),
    ],
};

/// Clause 2/2, for established and new connections.
pub(super) const WHAT: ByDirection = ByDirection {
    egress: [
        row((72, 70), &[], &[PORT_REGISTER, ORIGINAL], &[Do::Conjunctions(2)], ""),
        row((72, 70), &[], &[PORT_REGISTER, NEW], &[Do::Conjunctions(2)], ""),
    ],
    ingress: [
        row((82, 70), &[], &[PORT_REGISTER, ORIGINAL], &[Do::Conjunctions(2)], ""),
        row((82, 70), &[], &[PORT_REGISTER, NEW], &[Do::Conjunctions(2)], ""),
    ],
};

/// What a complete conjunction leads to, for established and new connections.
pub(super) const COMPLETE: ByDirection = ByDirection {
    egress: [
        row((72, 70), &[], &[CONJUNCTION, PORT_REGISTER, ORIGINAL], &[LOAD_CONJUNCTION, Do::To(73)], ""),
        row((72, 70), &[], &[CONJUNCTION, PORT_REGISTER, NEW], &[LOAD_CONJUNCTION, Do::To(73)], ""),
    ],
    ingress: [
        row((82, 70), &[], &[CONJUNCTION, PORT_REGISTER, ORIGINAL], &[LOAD_CONJUNCTION, Do::Output], ""),
        row(
            (82, 70),
            &[],
            &[CONJUNCTION, PORT_REGISTER, NEW],
            &[LOAD_CONJUNCTION, Do::Commit, Do::Output, Do::To(92)],
            "",
        ),
    ],
};
