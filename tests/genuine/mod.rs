//! Tables that Neutron's own drivers wrote: what is proved of them, what is refuted, and that a real switch does it.
//!
//! `tests/fixtures/manifest.json` lists tables with the verdict on each property. The verdicts were found by
//! proof; what makes them more than our own output is that each refutation happens in a real Open vSwitch, packet by
//! packet, and that `docs/releases.md` holds them against what the history of the driver says was fixed when.
//!
//! `FLOWPROOF_BLESS=1` writes manifest and document anew, for a person to read the difference.

mod bound;
mod everywhere;
mod holes;
mod manifest;
mod real;
mod releases;

use flowproof_proofs::{
    check::{self, Engines, Findings, Task},
    diagram::Host,
    ports,
    properties::{Property, SENDER},
    tables::Tables,
};
use flowproof_switch::{
    conntrack::Profile,
    flow::{Flow, ParseOptions, parse_flows},
};
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

/// The releases with tables in the corpus, oldest first.
const RELEASES: [&str; 7] = ["8.1.0", "9.4.1", "12.0.0", "16.0.0", "20.0.0", "25.0.0", "29.0.0"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn corpus() -> PathBuf {
    root().join("tests/fixtures/corpus")
}

/// Whether to write what should be there instead of comparing with it.
fn blesses() -> bool {
    env::var_os("FLOWPROOF_BLESS").is_some()
}

#[track_caller]
fn tables(path: &Path) -> Vec<Flow> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    parse_flows(&text, &ParseOptions::default()).unwrap().flows
}

/// The tables of a release and a case, such as `29.0.0` and `01_seed_scenario`.
#[track_caller]
fn host(release: &str, case: &str) -> Host {
    let flows = tables(&corpus().join(release).join(case).with_extension("flows"));
    let ports = ports::derive(&flows);
    assert!(!ports.is_empty(), "{release}/{case} speaks of no filtered port");
    Host { tables: Tables::new(flows), ports, tags: BTreeMap::new() }
}

/// Every property of `properties` on every port under every datapath.
fn prove(host: &Host, properties: &[&'static Property], engines: Engines) -> Findings {
    prove_under(host, properties, engines, &Profile::ALL)
}

/// The same under some datapaths.
fn prove_under(
    host: &Host,
    properties: &[&'static Property],
    engines: Engines,
    profiles: &[Profile],
) -> Findings {
    check::check(&Task {
        host,
        ports: host.ports.iter().collect(),
        properties: properties.to_vec(),
        profiles: profiles.to_vec(),
        engines,
        keep_queries: false,
        watch: &(),
    })
}

fn sender_properties() -> Vec<&'static Property> {
    SENDER.iter().collect()
}

/// The verdicts on one property in a few words: one if all agree, else by datapath, else by port and datapath.
fn verdicts<'a>(host: &Host, findings: impl Iterator<Item = &'a check::Finding>, property: &str) -> String {
    summary(host, findings.filter(|finding| finding.property.name == property), property)
}

/// The same for findings that belong to one row.
fn summary<'a>(host: &Host, findings: impl Iterator<Item = &'a check::Finding>, row: &str) -> String {
    let cells: Vec<(u16, &str, &str)> = findings
        .map(|finding| (host.ports[finding.port].ofport, finding.profile.name(), finding.judgement.name()))
        .collect();
    let [(_, _, first), ..] = cells.as_slice() else { panic!("`{row}` was not checked") };
    if cells.iter().all(|(_, _, verdict)| verdict == first) {
        return (*first).to_owned();
    }
    let mut by_port: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for (port, profile, verdict) in &cells {
        by_port.entry(*port).or_default().push(format!("{profile} {verdict}"));
    }
    let texts: Vec<String> = by_port.values().map(|parts| parts.join(", ")).collect();
    if texts.iter().all(|text| *text == texts[0]) {
        return texts[0].clone();
    }
    let named = |(port, text): (&u16, &String)| format!("port {port}: {text}");
    by_port.keys().zip(&texts).map(named).collect::<Vec<_>>().join("; ")
}
