//! `--since`: what a change of the tables breaks that was not broken before.

use super::Options;
use crate::console::Console;
use crate::flows::Flows;
use crate::text::{count, list};
use flowproof_packet::PortNo;
use flowproof_proofs::check::{self, Findings, Task};
use flowproof_proofs::diagram::Host;
use flowproof_proofs::ports;
use flowproof_proofs::since::{self, Since};
use flowproof_proofs::tables::Tables;

/// The host that is asked about.
pub(super) enum Subject {
    /// All that is wrong with it.
    AsItIs(Box<Host>),
    /// What is wrong since its tables were others.
    Changed(Box<Change>),
}

/// The tables of before, and the host with both.
pub(super) struct Change {
    pub(super) flows: Flows,
    pub(super) since: Since,
}

impl Subject {
    /// The host; with `--since` also the tables of before.
    pub(super) fn read(options: &Options, host: Host, before: Option<Flows>, console: &Console) -> Self {
        let Some(flows) = before else { return Self::AsItIs(Box::new(host)) };
        let before = Tables::new(flows.file.flows.clone());
        let since = Since::new(host, before, &options.datapath.0);
        let change = Change { flows, since };
        if let Some(lost) = change.lost() {
            console.remark(&lost);
        }
        Self::Changed(Box::new(change))
    }

    pub(super) fn host(&self) -> &Host {
        match self {
            Self::AsItIs(host) => host,
            Self::Changed(change) => &change.since.now,
        }
    }

    pub(super) fn change(&self) -> Option<&Change> {
        match self {
            Self::AsItIs(_) => None,
            Self::Changed(change) => Some(&**change),
        }
    }

    pub(super) fn since(&self) -> Option<&Since> {
        self.change().map(|change| &change.since)
    }

    /// Properties of what ports send.
    pub(super) fn check(&self, task: &Task<'_>) -> Findings {
        match self.since() {
            _ if task.properties.is_empty() => Findings::default(),
            None => check::check(task),
            Some(since) => since::check(task, since),
        }
    }
}

impl Change {
    /// Filtered ports of before that are none now, which nothing is said about.
    fn lost(&self) -> Option<String> {
        let now = &self.since.now.ports;
        let before = ports::derive(&self.flows.file.flows);
        let lost: Vec<PortNo> = before
            .iter()
            .map(|port| port.ofport)
            .filter(|ofport| now.iter().all(|port| port.ofport != *ofport))
            .collect();
        (!lost.is_empty()).then(|| {
            format!(
                "{} of before {} filtered now, and nothing is said about what that means: {}",
                count(lost.len(), "filtered port"),
                if lost.len() == 1 { "is not" } else { "are not" },
                list(lost.iter().map(ToString::to_string))
            )
        })
    }

    /// What the verdicts mean and rest on.
    pub(super) fn assumptions(&self) -> Vec<String> {
        let meaning = format!(
            "verdicts are about the change since {}: refuted means that a packet violates the property now and did \
             not before, in the same state of connection tracking and after the same packets; no-worse means that \
             there is none on one pass through the tables, and not that the property holds",
            self.flows.name
        );
        let more = [
            "ports, networks and intent are those of now, for both tables".to_owned(),
            "changes are judged by decision diagrams alone".to_owned(),
        ];
        [meaning].into_iter().chain(more).chain(self.lost()).collect()
    }
}
