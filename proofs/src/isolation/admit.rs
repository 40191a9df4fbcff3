//! What needs no rule, for ports as the other properties know them; and whether tables have rules for a port at all.
//!
//! Source: the table of what a port may do without a rule. Addresses are the port's own; MUST and MAY are one here,
//! because section B only asks what else passes.

use crate::{
    ports::{Pair, Port},
    predicate::Predicate,
    tables::is_untracked,
};
use flowproof_model::policy::Direction;
use flowproof_packet::{Field, PortNo};
use flowproof_switch::{
    conntrack::state,
    flow::{Action, Flow},
};
use std::collections::BTreeSet;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;
const RARP: u16 = 0x8035;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// MLD query, RA, NS and NA must be received, MLD report and done may be.
const RECEIVED: [u8; 6] = [130, 134, SOLICITATION, ADVERTISEMENT, 131, 132];
/// MLD query, RS and NS from an address of the port.
const QUERIES: [u8; 3] = [130, 133, SOLICITATION];
/// Duplicate address detection and MLD from `::`.
const UNADDRESSED: [u8; 4] = [SOLICITATION, 131, 132, 143];
/// The tables that hold the rules of each direction.
pub(super) const RULES: [(Direction, u8); 2] = [(Direction::Egress, 72), (Direction::Ingress, 82)];

/// What may be delivered to `port` without a rule.
pub(super) fn received(port: &Port) -> Predicate {
    Predicate::Any(vec![
        ethertype(ARP),
        permitted(port),
        icmpv6(&RECEIVED),
        udp(IPV4, 67, 68),
        udp(IPV6, 547, 546),
    ])
}

/// What `port` may send without a rule.
pub(super) fn sent(port: &Port) -> Predicate {
    let own_mac = || Predicate::one_of(Field::DlSrc, port.macs.iter().map(|mac| mac.to_bits()));
    let probe = own_mac().and(Predicate::is(Field::ArpSpa, 0u8));
    let announced = Predicate::Same(Field::DlSrc, Field::ArpSha);
    let unaddressed4 = own_mac().and(Predicate::is(Field::NwSrc, 0u8));
    let unaddressed6 = own_mac().and(Predicate::is(Field::Ipv6Src, 0u8));
    let targets = port.pairs6.iter().map(|pair| Predicate::Is(Field::NdTarget, pair.address, pair.mask));
    let target = Predicate::Any(targets.collect());
    let own6 = || pairs(Field::Ipv6Src, &port.pairs6);
    Predicate::Any(vec![
        Predicate::All(vec![ethertype(ARP), announced, pairs(Field::ArpSpa, &port.pairs4).or(probe)]),
        ethertype(RARP).and(own_mac()),
        udp(IPV4, 68, 67).and(pairs(Field::NwSrc, &port.pairs4).or(unaddressed4)),
        udp(IPV6, 546, 547).and(own6()),
        icmpv6(&QUERIES).and(own6()),
        Predicate::All(vec![icmpv6(&[ADVERTISEMENT]), own6(), target]),
        icmpv6(&UNADDRESSED).and(unaddressed6),
        permitted(port).and(own_mac()),
    ])
}

/// Broadcast and multicast frames (IEEE 802).
pub(super) fn group_addressed() -> Predicate {
    crate::intent::encode::group_addressed()
}

/// IPv4 and IPv6.
pub(super) fn ip() -> Predicate {
    crate::intent::encode::ip()
}

/// Frames addressed to `port`.
pub(super) fn addressed(port: &Port) -> Predicate {
    Predicate::one_of(Field::DlDst, port.macs.iter().map(|mac| mac.to_bits()))
}

/// The ports for which the tables hold a rule, and of which direction: in its table, a flow for the port that names an IP version
/// and takes new connections somewhere. Rules always name one; what deals with connections as such does not.
pub(super) fn ruled(flows: &[Flow]) -> BTreeSet<(PortNo, Direction)> {
    let rule = |flow: &Flow| {
        let (direction, _) = RULES.iter().find(|(_, table)| *table == flow.table)?;
        let family = flow.matching.exact(Field::DlType)?;
        let is_ip = [u128::from(IPV4), u128::from(IPV6)].contains(&family);
        owner(flow).filter(|_| is_ip && takes_new(flow)).map(|ofport| (ofport, *direction))
    };
    flows.iter().filter_map(rule).collect()
}

fn takes_new(flow: &Flow) -> bool {
    let (value, mask) = flow.matching.get(Field::CtState);
    let fresh = u128::from(state::NEW | state::TRK);
    (value ^ fresh) & mask == 0 && !flow.actions.is_empty()
}

/// The port that a flow is for: the one its match on the port register names.
pub(super) fn owner(flow: &Flow) -> Option<PortNo> {
    flow.matching.exact(Field::Reg5).and_then(|port| PortNo::try_from(port).ok())
}

/// Whether a flow changes what the packet is for whoever comes after it.
pub(super) fn changes(flow: &Flow) -> bool {
    let untracked = is_untracked(flow);
    flow.actions.iter().any(|action| match action {
        Action::Ct(ct) => ct.table.is_none() || !untracked,
        Action::Set { .. }
        | Action::Move { .. }
        | Action::ModVlanVid(_)
        | Action::RetagUnclear { .. }
        | Action::ModVlanPcp(_)
        | Action::StripVlan
        | Action::PushVlan(_)
        | Action::DecTtl(_)
        | Action::CtClear
        | Action::Push(_)
        | Action::Pop(_)
        | Action::Clone(_)
        | Action::Exit
        | Action::Group(_)
        | Action::Meter(_)
        | Action::Learn(_)
        | Action::PushMpls(_)
        | Action::PopMpls(_)
        | Action::DecMplsTtl
        | Action::CheckPktLarger { .. }
        | Action::WriteActions(_)
        | Action::ClearActions
        | Action::OutputTruncated { .. }
        | Action::Enqueue { .. }
        | Action::Begin(_)
        | Action::End
        | Action::Opaque(_) => true,
        Action::Output(_)
        | Action::OutputField(_)
        | Action::Controller(_)
        | Action::Resubmit { .. }
        | Action::GotoTable(_)
        | Action::SetQueue(_)
        | Action::PopQueue
        | Action::Conjunction(_)
        | Action::Note(_) => false,
    })
}

fn ethertype(value: u16) -> Predicate {
    Predicate::is(Field::DlType, value)
}

fn permitted(port: &Port) -> Predicate {
    Predicate::one_of(Field::DlType, port.permitted.iter().copied())
}

fn udp(family: u16, source: u16, destination: u16) -> Predicate {
    let ports = Predicate::is(Field::UdpSrc, source).and(Predicate::is(Field::UdpDst, destination));
    Predicate::All(vec![ethertype(family), Predicate::is(Field::NwProto, UDP), ports])
}

fn icmpv6(types: &[u8]) -> Predicate {
    crate::symbolic::icmpv6(types).and(Predicate::is(Field::NwProto, ICMPV6))
}

fn pairs<'a>(address: Field, pairs: impl IntoIterator<Item = &'a Pair>) -> Predicate {
    let pair = |pair: &Pair| {
        Predicate::is(Field::DlSrc, pair.mac.to_bits()).and(Predicate::Is(address, pair.address, pair.mask))
    };
    Predicate::Any(pairs.into_iter().map(pair).collect())
}
