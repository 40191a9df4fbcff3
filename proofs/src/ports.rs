//! The filtered ports of a host, derived from its own tables.
//!
//! Without an intent the tables must say who may send what, and must not vouch for themselves: an address is
//! permitted only if two independent places name it. What one place alone names is a [`Port::conflicts`] entry and is not
//! permitted, so that a defect in one of the places makes a property fail instead of widening what is allowed. A port that
//! the tables hold rules for, or deliver to by rules, is meant to be filtered, even if nothing looks at what it sends.
//!
//! Source: the layouts of Neutron's driver (tables 0/60 classify, 71 checks the sender, 73 finds local receivers).

use flowproof_packet::{Field, MacAddr, PortNo, key::low_bits};
use flowproof_switch::flow::{Action, Flow};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
};

/// Tables that classify packets by `in_port` and by `dl_dst`.
const CLASSIFY: [u8; 2] = [0, 60];
/// The table that checks what a port sends.
const BASE_EGRESS: u8 = 71;
/// The table that finds a local receiver by `dl_dst`.
const ACCEPTED_EGRESS: u8 = 73;
/// The tables that hold what the firewall knows of a port by its register: rules of what it sends, and what may be delivered to it.
const RULES: [u8; 3] = [72, 81, 82];
/// The conflict of a port whose frames no flow takes for its own.
pub const UNCLASSIFIED: &str = "nothing classifies what it sends";
const ARP: u128 = 0x0806;
const IPV4: u128 = 0x0800;
const IPV6: u128 = 0x86dd;

/// A source address pair: an Ethernet address with the network addresses it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// `dl_src`
    pub mac: MacAddr,
    /// Address; zero outside the mask.
    pub address: u128,
    /// The bits of the address that count.
    pub mask: u128,
}

/// A filtered port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// OpenFlow port number.
    pub ofport: PortNo,
    /// Ethernet addresses it may use.
    pub macs: BTreeSet<MacAddr>,
    /// IPv4 pairs, for IP and ARP alike.
    pub pairs4: BTreeSet<Pair>,
    /// IPv6 pairs, link-local ones included.
    pub pairs6: BTreeSet<Pair>,
    /// Its network: the value that classification puts into the network register, also its VLAN on this bridge.
    pub network: Option<u16>,
    /// Ethertypes beside IP, ARP and RARP that it may send: options of the agent, which no flow vouches for.
    pub permitted: BTreeSet<u16>,
    /// What only one place in the tables says of it.
    pub conflicts: Vec<String>,
}

impl Pair {
    /// The pair as people write it: `mac address` or `mac address/prefix`.
    #[must_use]
    pub fn text(&self, ipv6: bool) -> String {
        let name = |bits: u128| match ipv6 {
            true => Ipv6Addr::from(bits).to_string(),
            false => Ipv4Addr::from(bits as u32).to_string(),
        };
        let full = low_bits(if ipv6 { 128 } else { 32 });
        let address = name(self.address);
        let prefix = self.mask.count_ones();
        let contiguous = full.count_ones() == prefix + (full ^ self.mask).trailing_ones();
        match prefix {
            _ if self.mask == full => format!("{} {address}", self.mac),
            _ if contiguous => format!("{} {address}/{prefix}", self.mac),
            _ => format!("{} {address}/{}", self.mac, name(self.mask)),
        }
    }
}

#[derive(Default)]
struct Evidence {
    sends_as: BTreeSet<u16>,
    networks: BTreeSet<u16>,
    checked: bool,
    classified_macs: BTreeSet<MacAddr>,
    local_macs: BTreeSet<MacAddr>,
    arp: BTreeSet<Pair>,
    ipv4: BTreeSet<Pair>,
    ipv6: BTreeSet<Pair>,
}

/// The filtered ports that `flows` speak of, by ofport.
#[must_use]
pub fn derive(flows: &[Flow]) -> Vec<Port> {
    let mut by_port: BTreeMap<PortNo, Evidence> = BTreeMap::new();
    let mut spoken_of: BTreeSet<PortNo> = BTreeSet::new();
    for flow in flows {
        let register = loaded(flow, Field::Reg5);
        let in_port = exact(flow, Field::InPort);
        let mac = flow.matching.exact(Field::DlDst).map(|bits| MacAddr::from_bits(bits as u64));
        match (flow.table, register, in_port, mac) {
            (table, Some(register), Some(port), _) if CLASSIFY.contains(&table) => {
                let evidence = by_port.entry(port).or_default();
                evidence.sends_as.insert(register);
                evidence.networks.extend(loaded(flow, Field::Reg6));
                if goes_to(flow, BASE_EGRESS) {
                    spoken_of.insert(port);
                }
            }
            (table, Some(register), None, Some(mac)) if CLASSIFY.contains(&table) => {
                let evidence = by_port.entry(register).or_default();
                evidence.classified_macs.insert(mac);
                evidence.networks.extend(loaded(flow, Field::Reg6));
            }
            (ACCEPTED_EGRESS, Some(register), None, Some(mac)) => {
                by_port.entry(register).or_default().local_macs.insert(mac);
            }
            _ => {}
        }
        if flow.table == BASE_EGRESS
            && let Some(port) = in_port.or_else(|| exact(flow, Field::Reg5))
        {
            spoken_of.insert(port);
            permitted(flow, by_port.entry(port).or_default());
        }
        if RULES.contains(&flow.table)
            && let Some(port) = exact(flow, Field::Reg5)
        {
            by_port.entry(port).or_default();
            spoken_of.insert(port);
        }
    }
    by_port
        .into_iter()
        .filter(|(port, _)| spoken_of.contains(port))
        .map(|(port, e)| conclude(port, &e))
        .collect()
}

fn exact(flow: &Flow, field: Field) -> Option<u16> {
    flow.matching.exact(field).and_then(|value| u16::try_from(value).ok())
}

/// The constant that the flow's actions leave in the whole of a register.
fn loaded(flow: &Flow, register: Field) -> Option<u16> {
    flow.actions.iter().rev().find_map(|action| {
        let Action::Set { field, value, mask, .. } = action else { return None };
        let whole = *field == register && *mask == low_bits(32);
        u16::try_from(*value).ok().filter(|_| whole)
    })
}

fn goes_to(flow: &Flow, table: u8) -> bool {
    flow.actions.iter().any(|action| {
        matches!(action, Action::Resubmit { table: Some(to), .. } | Action::GotoTable(to) if *to == table)
    })
}

/// What a flow of the sender check permits: ARP from a pair, or IP from a pair on its way to connection tracking.
fn permitted(flow: &Flow, evidence: &mut Evidence) {
    let drops = flow.actions.is_empty();
    evidence.checked |= !drops;
    let Some(mac) = flow.matching.exact(Field::DlSrc).map(|bits| MacAddr::from_bits(bits as u64)) else {
        return;
    };
    let tracks = flow.actions.iter().any(|action| matches!(action, Action::Ct(_)));
    let pair = |field| {
        let (address, mask) = flow.matching.get(field);
        Pair { mac, address, mask }
    };
    match flow.matching.exact(Field::DlType) {
        Some(ARP) if !drops => drop(evidence.arp.insert(pair(Field::ArpSpa))),
        Some(IPV4) if tracks => drop(evidence.ipv4.insert(pair(Field::NwSrc))),
        Some(IPV6) if tracks => drop(evidence.ipv6.insert(pair(Field::Ipv6Src))),
        _ => {}
    }
}

fn conclude(ofport: PortNo, evidence: &Evidence) -> Port {
    let macs: BTreeSet<MacAddr> = &evidence.classified_macs & &evidence.local_macs;
    let pairs4: BTreeSet<Pair> = &evidence.arp & &evidence.ipv4;
    let link_local = |mac: &MacAddr| Pair { mac: *mac, address: mac.link_local().into(), mask: u128::MAX };
    let pairs6 = evidence.ipv6.iter().copied().chain(macs.iter().map(link_local)).collect();
    let mut conflicts = Vec::new();
    for mac in &evidence.classified_macs ^ &evidence.local_macs {
        let (here, there) = if evidence.local_macs.contains(&mac) {
            ("table 73", "classification")
        } else {
            ("classification", "table 73")
        };
        conflicts.push(format!("{mac} is in {here} but not in {there}"));
    }
    for pair in &evidence.arp ^ &evidence.ipv4 {
        let (here, there) = if evidence.arp.contains(&pair) { ("ARP", "IPv4") } else { ("IPv4", "ARP") };
        conflicts.push(format!("{} may send {here} but not {there}", pair.text(false)));
    }
    if evidence.sends_as.is_empty() {
        conflicts.push(UNCLASSIFIED.to_owned());
    } else if evidence.sends_as.iter().any(|register| *register != ofport) {
        conflicts.push(format!("packets from port {ofport} are not classified as its own"));
    }
    if evidence.networks.len() != 1 {
        conflicts.push(format!("its packets are classified into {} networks", evidence.networks.len()));
    }
    if !evidence.checked && !evidence.sends_as.is_empty() {
        conflicts.push("no flow lets it send anything".to_owned());
    }
    let network = evidence.networks.iter().next().copied().filter(|_| evidence.networks.len() == 1);
    Port { ofport, macs, pairs4, pairs6, network, permitted: BTreeSet::new(), conflicts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(mask: u128, text: &str) {
        let mac = "fa:16:3e:00:00:01".parse().unwrap();
        let pair = Pair { mac, address: 0x0a00_0100 & mask, mask };
        assert_eq!(pair.text(false), format!("{mac} {text}"));
    }

    #[test]
    fn pairs_are_written_as_people_write_them() {
        check(0xffff_ffff, "10.0.1.0");
        check(0xffff_ff00, "10.0.1.0/24");
        check(0, "0.0.0.0/0");
        check(0xff00_ff00, "10.0.1.0/255.0.255.0");
        let mac: MacAddr = "fa:16:3e:00:00:01".parse().unwrap();
        let pair = Pair { mac, address: mac.link_local().into(), mask: u128::MAX };
        assert_eq!(pair.text(true), format!("{mac} fe80::f816:3eff:fe00:1"));
    }
}
