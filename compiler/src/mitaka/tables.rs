//! What every filtered port gets, and what every rule becomes: one row a template.

use crate::template::{ByDirection, Do, Each, Row, Value, Want, ct_state, ethertype};
use flowproof_model::policy::Ethertype;
use flowproof_packet::Field;

/// ICMPv6 types that pass unjudged in both directions: MLD query, report and done, neighbour solicitation and
/// advertisement.
const ICMPV6: &[u16] = &[130, 131, 132, 135, 136];

const V4: Ethertype = Ethertype::Ipv4;
const V6: Ethertype = Ethertype::Ipv6;
const PORT_REGISTER: Want = Want::Is(Field::Reg5, Value::Ofport);
const FROM_PORT: Want = Want::Is(Field::InPort, Value::Ofport);
const TO_MAC: Want = Want::Is(Field::DlDst, Value::Mac);
const FROM_MAC: Want = Want::Is(Field::DlSrc, Value::Mac);
const ARP: Want = Want::Is(Field::DlType, Value::Const(ethertype::ARP as u128));
const REVOKED: Want = Want::Is(Field::CtMark, Value::Const(1));
const NOT_REVOKED: Want = Want::Is(Field::CtMark, Value::Const(0));
const IN_ZONE: Want = Want::Is(Field::CtZone, Value::Vlan);
const LOAD_PORT: Do = Do::Load(Field::Reg5, Value::Ofport);
const LOAD_NETWORK: Do = Do::Load(Field::Reg6, Value::Vlan);
const DELIVER: &[Do] = &[Do::StripVlan, Do::Output];

const fn row(
    (table, priority): (u8, u16),
    each: &'static [Each],
    wants: &'static [Want],
    does: &'static [Do],
    why: &'static str,
) -> Row {
    Row { why, table, priority, each, wants, does }
}

/// What every port gets.
pub(super) const PORT: &[Row] = &[
    row((0, 100), &[], &[FROM_PORT], &[LOAD_PORT, LOAD_NETWORK, Do::To(71)], "what it sends"),
    row((0, 90), &[Each::OwnMac], &[TO_MAC], &[LOAD_PORT, LOAD_NETWORK, Do::To(81)], "what is for it"),
    row(
        (71, 95),
        &[Each::Number(ICMPV6)],
        &[Want::Icmpv6Type, PORT_REGISTER, FROM_PORT],
        &[Do::Normal],
        "neighbour discovery and MLD it sends",
    ),
    row(
        (71, 95),
        &[Each::Pair(V4)],
        &[ARP, PORT_REGISTER, FROM_PORT, FROM_MAC, Want::Address(Field::ArpSpa)],
        &[Do::Normal],
        "ARP from a pair of its own",
    ),
    row((71, 80), &[], &[Want::Udp(V4, 68, 67), PORT_REGISTER, FROM_PORT], &[Do::To(73)], "DHCP client"),
    row((71, 80), &[], &[Want::Udp(V6, 546, 547), PORT_REGISTER, FROM_PORT], &[Do::To(73)], "DHCPv6 client"),
    row((71, 70), &[], &[Want::Udp(V4, 67, 68), PORT_REGISTER, FROM_PORT], &[], "no DHCP server"),
    row((71, 70), &[], &[Want::Udp(V6, 547, 546), PORT_REGISTER, FROM_PORT], &[], "no DHCPv6 server"),
    row(
        (71, 65),
        &[Each::Pair(V4)],
        &[Want::Ct(ct_state::UNTRACKED), PORT_REGISTER, FROM_PORT, FROM_MAC, Want::Source],
        &[Do::Track(72)],
        "IPv4 from a pair of its own",
    ),
    row(
        (71, 65),
        &[Each::Pair(V6)],
        &[Want::Ct(ct_state::UNTRACKED), PORT_REGISTER, FROM_PORT, FROM_MAC, Want::Source],
        &[Do::Track(72)],
        "IPv6 from a pair of its own",
    ),
    row(
        (71, 10),
        &[],
        &[Want::Ct(ct_state::UNTRACKED), PORT_REGISTER, FROM_PORT],
        &[],
        "nothing else it sends",
    ),
    row((73, 100), &[Each::OwnMac], &[TO_MAC], &[LOAD_PORT, Do::To(81)], "accepted egress of others to it"),
    row(
        (73, 90),
        &[],
        &[Want::Ct(ct_state::NEW_CONNECTION), PORT_REGISTER],
        &[Do::Commit, Do::Normal],
        "its accepted new connections",
    ),
    row((73, 80), &[], &[PORT_REGISTER], &[Do::Normal], "its accepted egress"),
    row((81, 100), &[Each::OwnMac], &[ARP, PORT_REGISTER, TO_MAC], DELIVER, "ARP for it"),
    row(
        (81, 100),
        &[Each::OwnMac, Each::Number(ICMPV6)],
        &[Want::Icmpv6Type, PORT_REGISTER, TO_MAC],
        DELIVER,
        "neighbour discovery and MLD for it",
    ),
    row((81, 95), &[], &[Want::Udp(V4, 67, 68), PORT_REGISTER], DELIVER, "DHCP answers"),
    row((81, 95), &[], &[Want::Udp(V6, 547, 546), PORT_REGISTER], DELIVER, "DHCPv6 answers"),
    row(
        (81, 90),
        &[Each::Family],
        &[Want::Ip, Want::Ct(ct_state::UNTRACKED), PORT_REGISTER],
        &[Do::Track(82)],
        "IP for it",
    ),
    row(
        (81, 80),
        &[Each::OwnMac],
        &[Want::Ct(ct_state::TRACKED), PORT_REGISTER, TO_MAC],
        &[Do::To(82)],
        "accepted egress of others to it",
    ),
    row((72, 50), &[], &[Want::Ct(ct_state::INVALID)], &[], "invalid, of any port"),
    row((72, 50), &[], &[REVOKED, PORT_REGISTER], &[], "revoked connections"),
    row(
        (72, 50),
        &[],
        &[Want::Ct(ct_state::REPLY), IN_ZONE, NOT_REVOKED, PORT_REGISTER],
        &[Do::Normal],
        "replies it sends",
    ),
    row(
        (72, 50),
        &[],
        &[Want::Ct(ct_state::RELATED), IN_ZONE, NOT_REVOKED, PORT_REGISTER],
        &[Do::Normal],
        "related packets it sends",
    ),
    row((72, 40), &[], &[Want::Ct(ct_state::NOT_ESTABLISHED), PORT_REGISTER], &[], "no rule"),
    row((72, 40), &[], &[Want::Ct(ct_state::ESTABLISHED), PORT_REGISTER], &[Do::Revoke], "no rule any more"),
    row((82, 50), &[], &[Want::Ct(ct_state::INVALID)], &[], "invalid, of any port"),
    row((82, 50), &[], &[REVOKED, PORT_REGISTER], &[], "revoked connections"),
    row(
        (82, 50),
        &[Each::OwnMac],
        &[Want::Ct(ct_state::REPLY), IN_ZONE, NOT_REVOKED, PORT_REGISTER, TO_MAC],
        DELIVER,
        "replies for it",
    ),
    row(
        (82, 50),
        &[Each::OwnMac],
        &[Want::Ct(ct_state::RELATED), IN_ZONE, NOT_REVOKED, PORT_REGISTER, TO_MAC],
        DELIVER,
        "related packets for it",
    ),
    row((82, 40), &[], &[Want::Ct(ct_state::NOT_ESTABLISHED), PORT_REGISTER], &[], "no rule"),
    row((82, 40), &[], &[Want::Ct(ct_state::ESTABLISHED), PORT_REGISTER], &[Do::Revoke], "no rule any more"),
];

/// What every rule becomes, on top of what it matches.
pub(super) const ACCEPT: ByDirection = ByDirection {
    egress: [
        row(
            (72, 70),
            &[Each::OwnMac],
            &[PORT_REGISTER, FROM_MAC, Want::Ct(ct_state::ORIGINAL)],
            &[Do::To(73)],
            "",
        ),
        row(
            (72, 70),
            &[Each::OwnMac],
            &[PORT_REGISTER, FROM_MAC, Want::Ct(ct_state::NEW_CONNECTION)],
            &[Do::To(73)],
            "",
        ),
    ],
    ingress: [
        row((82, 70), &[Each::OwnMac], &[PORT_REGISTER, TO_MAC, Want::Ct(ct_state::ORIGINAL)], DELIVER, ""),
        row(
            (82, 70),
            &[Each::OwnMac],
            &[PORT_REGISTER, TO_MAC, Want::Ct(ct_state::NEW_CONNECTION)],
            &[Do::Commit, Do::StripVlan, Do::Output],
            "",
        ),
    ],
};
