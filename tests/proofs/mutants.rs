//! Tables with a known defect: each property must tell them from tables without.

use super::hosts::{self, HARDENED};
use flowproof_proofs::diagram::Host;

/// What both engines say of a host that keeps everything.
#[test]
fn the_hardened_host_keeps_every_property_on_every_datapath() {
    let host = hosts::host(HARDENED);
    assert_eq!(host.ports.iter().map(|port| port.ofport).collect::<Vec<_>>(), [5, 6]);
    assert!(host.ports.iter().all(|port| port.conflicts.is_empty()), "{:#?}", host.ports);
    let findings = hosts::findings(&host);
    let wrong: Vec<_> = findings.findings.iter().filter(|f| f.judgement.name() != "proved").collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(findings.findings.iter().all(|f| f.diagram == Some("proved") && f.z3 == Some("proved")));
}
