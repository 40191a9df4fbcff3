//! What is wrong with a host that no packet need show: what its flows contradict each other about, and who is not filtered.
//!
//! A *derivation conflict* is what one place in the tables says of a filtered port and another does not ([`Port::conflicts`]).
//! `unfiltered-ports` lists each local port that nothing filters, with the reason, and the group MACs that address pairs give to
//! one port and so take from all others of its network. Invariants: a port that the intent wants unfiltered, and without an intent any
//! port whose network the flows know without checking what it sends, is information; what nobody asked for is a finding.
//! Deliberately absent: uplinks, which belong to no network.

use crate::{
    check::{Finding, Judgement},
    diagram::Host,
    intent::site::Site,
    isolation::world::unfiltered,
    ports::Port,
    predicate::Predicate,
    properties::{Judge, Property},
    symkey::Form,
};
use flowproof_model::policy::Filtering;
use flowproof_packet::{MacAddr, PortNo};
use flowproof_switch::conntrack::Profile;
use serde::Serialize;

const NO_PACKETS: Judge =
    Judge::Implication { premise: |_| Predicate::never(), allowed: |_| Predicate::always() };

const fn row(name: &'static str, theorem: &'static str) -> Property {
    Property { name, theorem, subject: &[], forms: &Form::ALL, judge: NO_PACKETS }
}

/// What the tables say of a port they say everywhere.
pub static DERIVATION_CONFLICT: Property = row(
    "derivation-conflict",
    "what one place in the tables says of a filtered port no other place contradicts",
);

/// Who is not filtered is listed.
pub static UNFILTERED_PORTS: Property = row(
    "unfiltered-ports",
    "each local port that nothing filters is one that is meant to be so, and no port takes a group away from others",
);

/// Both, in the order of reports.
pub static ALL: [&Property; 2] = [&DERIVATION_CONFLICT, &UNFILTERED_PORTS];

/// The property with this name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Property> {
    ALL.into_iter().find(|property| property.name == name)
}

/// A local port that nothing filters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unfiltered {
    /// Its number.
    pub ofport: PortNo,
    /// Why nothing filters it.
    pub why: &'static str,
    /// Whether nobody asked for that.
    #[serde(skip)]
    pub is_fault: bool,
}

/// A group MAC among the address pairs of a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// The port.
    pub ofport: PortNo,
    /// The group.
    pub mac: String,
}

/// The row of `unfiltered-ports`.
#[derive(Clone, Debug, Serialize)]
pub struct Listing {
    /// `unfiltered-ports`
    pub property: &'static str,
    /// `proved` where all that is listed was asked for, else `refuted`.
    pub verdict: &'static str,
    /// In a sentence.
    pub explanation: String,
    /// The ports.
    pub unfiltered: Vec<Unfiltered>,
    /// The groups.
    pub groups: Vec<Taken>,
}

/// The ports of `host` that nothing filters, and the groups that some port takes.
#[must_use]
pub fn listing(host: &Host, site: Option<&Site>) -> Listing {
    let unfiltered = unfiltered_ports(host, site);
    let taken = |port: &Port| {
        let groups: Vec<MacAddr> = port.macs.iter().copied().filter(|mac| mac.is_group()).collect();
        groups.into_iter().map(|mac| Taken { ofport: port.ofport, mac: mac.to_string() }).collect::<Vec<_>>()
    };
    let groups: Vec<Taken> = host.ports.iter().flat_map(taken).collect();
    let is_fault = !groups.is_empty() || unfiltered.iter().any(|port| port.is_fault);
    Listing {
        property: UNFILTERED_PORTS.name,
        verdict: if is_fault { "refuted" } else { "proved" },
        explanation: explanation(&unfiltered, &groups),
        unfiltered,
        groups,
    }
}

/// By the intent, and by classification: a flow that puts what a port sends into a network without having it checked.
fn unfiltered_ports(host: &Host, site: Option<&Site>) -> Vec<Unfiltered> {
    let why = |ofport: PortNo| match site {
        None => ("its frames are classified and not checked", false),
        Some(site) => match site.at(ofport).map(|(port, _)| port.filtering()) {
            Some(Filtering::PortSecurityDisabled) => ("port security is off", false),
            Some(Filtering::Trusted) => ("it belongs to the network itself (trusted owner)", false),
            Some(Filtering::Filtered) | None => {
                ("the flows let it pass, and the intent does not ask for that", true)
            }
        },
    };
    let mut all: Vec<PortNo> = unfiltered(host, site).into_keys().collect();
    all.extend(host.ports.iter().filter(|port| is_unclassified(port)).map(|port| port.ofport));
    all.sort_unstable();
    let of = |ofport: PortNo| {
        let port = host.ports.iter().find(|port| port.ofport == ofport);
        let (why, is_fault) =
            if port.is_some() { ("no flow classifies what it sends", true) } else { why(ofport) };
        Unfiltered { ofport, why, is_fault }
    };
    all.into_iter().map(of).collect()
}

fn is_unclassified(port: &Port) -> bool {
    port.conflicts.iter().any(|conflict| conflict == crate::ports::UNCLASSIFIED)
}

fn explanation(unfiltered: &[Unfiltered], groups: &[Taken]) -> String {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for port in unfiltered {
        match reasons.iter_mut().find(|(why, _)| *why == port.why) {
            Some((_, ports)) => ports.push(port.ofport.to_string()),
            None => reasons.push((port.why, vec![port.ofport.to_string()])),
        }
    }
    let mut parts: Vec<String> = reasons
        .into_iter()
        .map(|(why, ports)| {
            let noun = if ports.len() == 1 { "port" } else { "ports" };
            format!("nothing filters {noun} {}: {why}", ports.join(", "))
        })
        .collect();
    parts.extend(groups.iter().map(|taken| {
        format!(
            "an address pair gives the group {} to port {} and takes it from all others of its network",
            taken.mac, taken.ofport
        )
    }));
    if parts.is_empty() { "every local port is filtered".to_owned() } else { parts.join("; ") }
}

/// What `listing` says as a finding under each datapath, if it is one. It is of no port in particular.
#[must_use]
pub fn faults(listing: &Listing, profiles: &[Profile]) -> Vec<Finding> {
    let judgement = || Judgement::Listed(listing.explanation.clone());
    let finding = |profile: &Profile| Finding {
        property: &UNFILTERED_PORTS,
        port: usize::MAX,
        profile: *profile,
        judgement: judgement(),
        diagram: None,
        z3: None,
    };
    let is_fault = listing.verdict == "refuted";
    profiles.iter().filter(|_| is_fault).map(finding).collect()
}

/// The conflicts of `ports` but for those `known` before a change, by port, then datapath.
#[must_use]
pub fn conflicts(ports: &[&Port], known: &[Port], profiles: &[Profile]) -> Vec<Finding> {
    let mut all = Vec::new();
    for (place, port) in ports.iter().enumerate() {
        let before = known.iter().find(|before| before.ofport == port.ofport);
        let is_new = |text: &&String| before.is_none_or(|before| !before.conflicts.contains(text));
        let texts: Vec<&str> = port.conflicts.iter().filter(is_new).map(String::as_str).collect();
        if texts.is_empty() {
            continue;
        }
        let text = format!("port {}: {}", port.ofport, texts.join("; "));
        all.extend(profiles.iter().map(|profile| Finding {
            property: &DERIVATION_CONFLICT,
            port: place,
            profile: *profile,
            judgement: Judgement::Listed(text.clone()),
            diagram: None,
            z3: None,
        }));
    }
    all
}
