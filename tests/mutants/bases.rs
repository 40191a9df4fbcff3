//! What mutants are made from: tables compiled from a scenario's policy by one of the layouts.

use flowproof_compiler::{Layout, Options, compile, text};
use flowproof_lockstep::{Scenario, parse};
use flowproof_model::policy::Policy;
use flowproof_proofs::{
    diagram::Host,
    intent::{
        layout::{bind, switches},
        site::Site,
    },
    tables::Tables,
};
use flowproof_switch::flow::{Flow, ParseOptions, parse_flows};

/// A host whose tables are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Base {
    /// The layout of its tables, as [`Layout::ALL`] counts.
    layout: usize,
    /// The scenario that its policy stands in: `small` has one network, and every operator is applied to every flow of
    /// its first port; `rich` has two, rules of every kind, members elsewhere.
    host: &'static str,
}

const HOSTS: [&str; 2] = ["small", "rich"];

/// The base of this name: a layout and a host.
pub(super) fn named(name: &str) -> Option<Base> {
    let (layout, host) = name.split_once(' ')?;
    let layout = Layout::ALL.into_iter().position(|known| known.name() == layout)?;
    let host = HOSTS.into_iter().find(|known| *known == host)?;
    Some(Base { layout, host })
}

/// A file beside this one.
#[track_caller]
pub(super) fn read(name: &str) -> String {
    let path = format!("{}/tests/mutants/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A policy with tables that may not be what it means.
pub(super) struct Case {
    pub(super) host: Host,
    pub(super) site: Site,
}

impl Base {
    pub(super) const fn layout(self) -> Layout {
        Layout::ALL[self.layout]
    }

    /// Layout and host.
    pub(super) fn name(self) -> String {
        format!("{} {}", self.layout().name(), self.host)
    }

    /// The text of the scenario, without any packets.
    pub(super) fn story(self) -> String {
        read(&format!("hosts/{}.scn", self.host))
    }

    fn scenario(self) -> Scenario {
        parse(&self.story()).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(super) fn policy(self) -> Policy {
        self.scenario().policy
    }

    /// Its flows, one a line.
    pub(super) fn text(self) -> String {
        let policy = self.policy();
        let host = policy.host.clone().unwrap();
        text(&compile(&policy, &host, self.layout(), &Options::default()), false)
    }

    /// The policy with these flows, whatever they are.
    pub(super) fn case(self, text: &str) -> Case {
        let flows = flows(text);
        let (mut site, _, _) = bind(self.policy(), &flows);
        // A mutant may look like another layout; what it is held to stays the same.
        site.switches = switches(self.layout());
        Case { host: Host { ports: site.ports(&flows), tags: site.tags(), tables: Tables::new(flows) }, site }
    }
}

#[track_caller]
pub(super) fn flows(text: &str) -> Vec<Flow> {
    parse_flows(text, &ParseOptions::default())
        .map(|file| file.flows)
        .unwrap_or_else(|errors| panic!("{errors:#?}"))
}
