//! What is wrong with a host that no packet need show: conflicts in what its tables say, and who is not filtered.

use super::change::Subject;
use super::intent::Intent;
use flowproof_proofs::check::{Finding, Task};
use flowproof_proofs::diagram::Host;
use flowproof_proofs::listing::{self, DERIVATION_CONFLICT, Listing, UNFILTERED_PORTS};
use flowproof_proofs::ports::{self, Port};

/// What was listed, as far as it was asked for.
#[derive(Default)]
pub(super) struct Listed {
    /// Conflicts, by port and datapath.
    pub(super) conflicts: Vec<Finding>,
    /// Who is not filtered.
    pub(super) listing: Option<Listing>,
    /// The same as findings, if it is one.
    pub(super) faults: Vec<Finding>,
}

/// What is listed of a host; where a change is asked about, what was not so before.
pub(super) fn check(
    task: &Task<'_>,
    intent: Option<&Intent>,
    subject: &Subject,
    wanted: impl Fn(&str) -> bool,
) -> Listed {
    let before = subject.change().map(|change| earlier(&change.since.before, intent));
    let mut listed = Listed::default();
    if wanted(DERIVATION_CONFLICT.name) {
        let known = before.as_ref().map_or(&[][..], |before| &before.ports);
        listed.conflicts = listing::conflicts(&task.ports, known, &task.profiles);
    }
    if wanted(UNFILTERED_PORTS.name) {
        let site = intent.map(|intent| &intent.site);
        let now = listing::listing(task.host, site);
        let as_before = before.as_ref().is_some_and(|before| {
            let before = listing::listing(before, site);
            now.unfiltered.iter().all(|port| before.unfiltered.contains(port))
                && now.groups.iter().all(|group| before.groups.contains(group))
        });
        listed.faults = if as_before { Vec::new() } else { listing::faults(&now, &task.profiles) };
        listed.listing = Some(now);
    }
    listed
}

/// The host of before a change with the ports that its own tables speak of.
fn earlier(host: &Host, intent: Option<&Intent>) -> Host {
    let flows = host.tables.flows();
    let ports: Vec<Port> = intent.map_or_else(|| ports::derive(flows), |intent| intent.site.ports(flows));
    Host { tables: flowproof_proofs::tables::Tables::new(flows.to_vec()), ports, tags: host.tags.clone() }
}
