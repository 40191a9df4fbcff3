//! The battery behind proofs: it says nothing of what is so, and makes a contradiction of what is not.

use super::hosts;
use flowproof_proofs::{
    battery,
    check::{Finding, Judgement},
    diagram::Host,
};
use std::collections::BTreeSet;

/// The properties of which the battery refutes what was found of one host, on another.
fn contradicted(host: &Host, mut findings: Vec<Finding>) -> BTreeSet<&'static str> {
    let sent = battery::hold(&hosts::task(host), &mut findings, battery::USUAL);
    assert!(sent > battery::USUAL / 2, "only {sent} frames");
    let of = |finding: &Finding| matches!(finding.judgement, Judgement::Contradiction(_));
    findings.iter().filter(|finding| of(finding)).map(|finding| finding.property.name).collect()
}

#[test]
fn what_is_proved_of_other_tables_is_contradicted() {
    let host = hosts::host(hosts::HARDENED);
    let proofs = || hosts::findings(&host).findings;
    assert_eq!(contradicted(&host, proofs()), BTreeSet::new());
    let open = format!("{}\ntable=0,priority=65000 actions=output:1\n", hosts::HARDENED);
    let found = contradicted(&hosts::host(&open), proofs());
    for property in ["spoofed-mac", "spoofed-ipv4", "spoofed-arp", "dhcp-server", "vlan-escape"] {
        assert!(found.contains(property), "no frame refutes {property}: {found:?}");
    }
}
