//! Intents and tables to judge.

use flowproof_model::policy::Policy;
use flowproof_proofs::{
    check::Judgement,
    diagram::Host,
    intent::{
        self, Ask, IntentFinding,
        layout::{self, Recognised},
        site::Site,
    },
    ports::Port,
    properties::Property,
    tables::Tables,
};
use flowproof_switch::{
    conntrack::Profile,
    flow::{
        Flow,
        parse::{ParseOptions, parse_flows},
    },
};

/// Tables and what they were made for.
pub(super) struct Case {
    pub(super) host: Host,
    pub(super) site: Site,
    pub(super) recognised: Recognised,
}

#[track_caller]
pub(super) fn read(path: &str) -> String {
    let full = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&full).unwrap_or_else(|error| panic!("{full}: {error}"))
}

#[track_caller]
pub(super) fn policy(case: &str) -> Policy {
    Policy::from_json(&read(&format!("tests/fixtures/intents/{case}.json"))).unwrap()
}

pub(super) fn flows(text: &str) -> Vec<Flow> {
    parse_flows(text, &ParseOptions::default())
        .map(|file| file.flows)
        .unwrap_or_else(|errors| panic!("{errors:#?}"))
}

pub(super) fn bind(policy: Policy, flows: Vec<Flow>) -> Case {
    let (site, recognised, _) = layout::bind(policy, &flows);
    let host = Host { ports: site.ports(&flows), tags: site.tags(), tables: Tables::new(flows) };
    Case { host, site, recognised }
}

/// A case of the corpus: what a release wrote for an intent.
#[track_caller]
pub(super) fn corpus(release: &str, case: &str) -> Case {
    bind(policy(case), flows(&read(&format!("tests/fixtures/corpus/{release}/{case}.flows"))))
}

impl Case {
    /// What is found out about `properties` of all ports.
    pub(super) fn judge(&self, properties: &[&'static Property], profiles: &[Profile]) -> Vec<IntentFinding> {
        let ports: Vec<&Port> = self.host.ports.iter().collect();
        let (properties, profiles) = (properties.to_vec(), profiles.to_vec());
        intent::check(&Ask { host: &self.host, site: &self.site, ports, properties, profiles, watch: &() })
    }
}

/// `port direction peer property verdict`, once for each set of equal ones over the datapaths.
pub(super) fn lines(case: &Case, findings: &[IntentFinding]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for of in findings {
        let port = case.host.ports[of.finding.port].ofport;
        let verdict = match &of.finding.judgement {
            Judgement::Contradiction(why) => {
                format!("{}: {why}", of.finding.judgement.name())
            }
            other => other.name().to_owned(),
        };
        let line = format!(
            "{} {port} {} {} {verdict}",
            of.finding.property.name,
            of.direction.name(),
            of.placement.name()
        );
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.sort();
    lines
}
