//! Section B in the report: its findings in words, and what they rest on.

use super::{
    IsolationFinding, ROWS,
    world::{Kind, senders},
};
use crate::{
    check::{Judgement, Witness},
    diagram::Host,
    intent::site::Site,
    ports::Port,
    report::{self, Row},
};
use flowproof_packet::summary::summary;
use rayon::prelude::*;

/// The findings, one row for each property, port and verdict; `each` is told in full, or the first with its verdict.
#[must_use]
pub fn rows(host: &Host, ports: &[&Port], findings: &[IsolationFinding], each: bool) -> Vec<Row> {
    let key =
        |of: &IsolationFinding| (of.finding.property.name, of.finding.port, of.finding.judgement.name());
    let mut groups: Vec<Vec<&IsolationFinding>> = Vec::new();
    for finding in findings {
        let same =
            |group: &&mut Vec<&IsolationFinding>| group.first().is_some_and(|of| key(of) == key(finding));
        match groups.iter_mut().rev().take(8).find(same) {
            Some(group) => group.push(finding),
            None => groups.push(vec![finding]),
        }
    }
    let subject = |group: &Vec<&IsolationFinding>| {
        group.first().map(|of| (of.finding.property.name, of.finding.judgement.name()))
    };
    let told = report::told(&groups, subject, each);
    groups.par_iter().zip(told).filter_map(|(group, told)| row(host, ports, group, told)).collect()
}

fn row(host: &Host, ports: &[&Port], group: &[&IsolationFinding], told: bool) -> Option<Row> {
    let first = *group.first()?;
    let port = ports.get(first.finding.port)?;
    let parts: Vec<_> = group.iter().map(|of| &of.finding).collect();
    let explanation = if told { explanation(port, first) } else { String::new() };
    Some(Row { explanation, ..report::frame(host, port, &parts, told)? })
}

fn explanation(port: &Port, of: &IsolationFinding) -> String {
    let theorem = of.finding.property.theorem;
    match &of.finding.judgement {
        Judgement::Listed(why)
        | Judgement::Unknown(why)
        | Judgement::Vacuous(why)
        | Judgement::NoWorse(why)
        | Judgement::Contradiction(why) => why.clone(),
        Judgement::Proved(Witness::Escapes(_)) => {
            format!(
                "{theorem}; the frame shown comes from {} and rightly reaches port {}",
                of.sender, port.ofport
            )
        }
        Judgement::Proved(Witness::Twins { .. }) => format!(
            "{theorem}; of two frames from {} that differ in their destination only the one for port {} reaches it",
            of.sender, port.ofport
        ),
        Judgement::Refuted(replay) => {
            let what = summary(&replay.datagram);
            let fragments = replay.events.len() - replay.prelude;
            let pieces = if fragments > 1 { format!(" in {fragments} fragments") } else { String::new() };
            let goes = report::destinations(replay);
            format!(
                "for port {}: {} sends {what}{pieces} and it goes {goes}; {theorem} is not kept",
                port.ofport, of.sender
            )
        }
    }
}

/// What the verdicts of section B rest on.
#[must_use]
pub fn assumptions(host: &Host, site: Option<&Site>) -> Vec<String> {
    let senders = senders(host, site);
    let others = senders.iter().filter(|sender| sender.kind == Kind::Other);
    let others: Vec<String> = others.map(|sender| sender.ofport.to_string()).collect();
    let others =
        if others.is_empty() { "no other port".to_owned() } else { format!("ports {}", others.join(", ")) };
    let names: Vec<&str> = ROWS.iter().map(|row| row.property.name).collect();
    vec![
        format!(
            "section B ({}) is judged by decision diagrams alone, whatever --engine says",
            names.join(", ")
        ),
        format!(
            "section B asks about senders of these kinds: filtered ports, {others}, and any port that is not \
             named; a frame on a trunk is of the network that its VLAN stands for, or of none"
        ),
        "filtered ports hand in frames and nothing else (no mark, no tunnel, not tracked by the host); other ports also \
         marks and what tunnels tell (tun_*), and those that neither tags nor an intent tell of what the host has tracked"
            .to_owned(),
    ]
}
