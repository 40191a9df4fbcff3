//! Hosts to try the proofs on, and what is asked of them.

use flowproof_proofs::{
    check::{self, Engines, Findings, Task},
    diagram::Host,
    ports,
    properties::{self, Property},
    tables::Tables,
};
use flowproof_switch::{
    conntrack::Profile,
    flow::{
        Flow,
        parse::{ParseOptions, parse_flows},
    },
};
use std::collections::BTreeMap;

/// The host of the document the project began from.
pub(super) const SEED: &str = include_str!("../../examples/mitaka-2016/flows.txt");
/// A small host whose tables keep every property.
pub(super) const HARDENED: &str = include_str!("../fixtures/hardened.flows");

/// Flows as Neutron's driver wrote them: release and case, with the text.
macro_rules! corpus {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../fixtures/corpus/", $name, ".flows")))),*]
    };
}

pub(super) const CORPUS: &[(&str, &str)] = corpus![
    "8.1.0/04_dual_stack",
    "8.1.0/29_three_networks_overlap",
    "9.4.1/04_dual_stack",
    "20.0.0/22_remote_group_priorities",
    "29.0.0/04_dual_stack",
    "29.0.0/18_remote_group_3",
    "29.0.0/22_remote_group_priorities",
    "29.0.0/35_explicitly_egress_direct",
    "29.0.0/36_permitted_ethertypes",
];

pub(super) fn corpus(name: &str) -> &'static str {
    CORPUS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text).unwrap()
}

#[track_caller]
pub(super) fn flows(text: &str) -> Vec<Flow> {
    parse_flows(text, &ParseOptions::default())
        .map(|file| file.flows)
        .unwrap_or_else(|errors| panic!("{errors:#?}"))
}

/// The host that these flows speak of, with the ports that they name.
#[track_caller]
pub(super) fn host(text: &str) -> Host {
    let flows = flows(text);
    let ports = ports::derive(&flows);
    Host { tables: Tables::new(flows), ports, tags: BTreeMap::new() }
}

/// Everything about a host.
pub(super) fn task(host: &Host) -> Task<'_> {
    Task {
        host,
        ports: host.ports.iter().collect(),
        properties: properties::SENDER.iter().collect(),
        profiles: Profile::ALL.to_vec(),
        engines: Engines::Both,
        keep_queries: false,
        watch: &(),
    }
}

/// What both engines find out about all ports of a host.
pub(super) fn findings(host: &Host) -> Findings {
    check::check(&task(host))
}

#[track_caller]
pub(super) fn property(name: &str) -> &'static Property {
    properties::by_name(name).unwrap_or_else(|| panic!("no property is called `{name}`"))
}

/// Does `work` with a stack for tables that call each other without end.
pub(super) fn deep<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::Builder::new().stack_size(512 << 20).spawn(work).unwrap();
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
