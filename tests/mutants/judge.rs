//! What proof says of tables: every verdict by its name.

use super::bases::{Base, Case};
use flowproof_packet::PortNo;
use flowproof_proofs::{
    check::{self, Engines, Judgement, Task},
    hygiene,
    intent::{self, Ask, PROPERTIES},
    isolation,
    ports::Port,
    properties::{Property, SENDER},
};
use flowproof_switch::{
    conntrack::Profile,
    flow::parse::{Era, ParseOptions, parse_flows},
    table::FlowId,
};
use std::collections::BTreeMap;

/// What is asked: everything of these ports, or one property.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) ports: Vec<PortNo>,
    pub(super) property: Option<String>,
    pub(super) profiles: Vec<Profile>,
}

/// A theorem about a port: property, port, and for section D direction and peer; datapath.
pub(super) type Theorem = (&'static str, PortNo, &'static str, &'static str);

/// The verdict on each theorem.
pub(super) type Verdicts = BTreeMap<Theorem, &'static str>;

impl Question {
    fn asks(&self, property: &Property) -> bool {
        self.property.as_deref().is_none_or(|name| name == property.name)
    }

    fn ports<'a>(&self, case: &'a Case) -> Vec<&'a Port> {
        case.host.ports.iter().filter(|port| self.ports.contains(&port.ofport)).collect()
    }
}

fn verdict(judgement: &Judgement, of: &str) -> &'static str {
    match judgement {
        Judgement::Contradiction(why) => panic!("{of}: {why}"),
        other => other.name(),
    }
}

/// Sections A, B and D.
pub(super) fn verdicts(case: &Case, question: &Question) -> Verdicts {
    let mut all = sent(case, question);
    all.extend(isolated(case, question));
    all.extend(agreed(case, question));
    all
}

/// Section B: isolation and default deny.
pub(super) fn isolated(case: &Case, question: &Question) -> Verdicts {
    let properties: Vec<_> =
        isolation::ROWS.iter().map(|row| &row.property).filter(|property| question.asks(property)).collect();
    if properties.is_empty() {
        return Verdicts::new();
    }
    let (ports, profiles) = (question.ports(case), question.profiles.clone());
    let site = Some(&case.site);
    let ask = isolation::Ask { host: &case.host, site, ports, properties, profiles, watch: &() };
    let row = |of: &isolation::IsolationFinding| {
        let name = of.finding.property.name;
        let port = ask.ports[of.finding.port].ofport;
        ((name, port, of.finding.profile.name(), ""), verdict(&of.finding.judgement, name))
    };
    isolation::check(&ask).iter().map(row).collect()
}

/// Section A: what ports send.
pub(super) fn sent(case: &Case, question: &Question) -> Verdicts {
    let task = Task {
        host: &case.host,
        ports: question.ports(case),
        properties: SENDER.iter().filter(|property| question.asks(property)).collect(),
        profiles: question.profiles.clone(),
        engines: Engines::Diagram,
        keep_queries: false,
        watch: &(),
    };
    if task.properties.is_empty() {
        return Verdicts::new();
    }
    let found = check::check(&task).findings;
    let row = |of: &check::Finding| {
        let port = task.ports[of.port].ofport;
        let name = of.property.name;
        ((name, port, of.profile.name(), ""), verdict(&of.judgement, name))
    };
    found.iter().map(row).collect()
}

const fn way(of: &intent::IntentFinding) -> &'static str {
    use flowproof_model::policy::Direction;
    use flowproof_proofs::intent::question::Placement;
    match (of.direction, of.placement) {
        (Direction::Egress, Placement::Remote) => "to other hosts",
        (Direction::Egress, Placement::LocalFiltered) => "to filtered ports",
        (Direction::Egress, Placement::LocalUnfiltered) => "to unfiltered ports",
        (Direction::Ingress, Placement::Remote) => "from other hosts",
        (Direction::Ingress, Placement::LocalFiltered) => "from filtered ports",
        (Direction::Ingress, Placement::LocalUnfiltered) => "from unfiltered ports",
    }
}

/// Section D: tables and intent.
pub(super) fn agreed(case: &Case, question: &Question) -> Verdicts {
    let properties: Vec<_> = PROPERTIES.into_iter().filter(|property| question.asks(property)).collect();
    if properties.is_empty() {
        return Verdicts::new();
    }
    let (ports, profiles) = (question.ports(case), question.profiles.clone());
    let ask = Ask { host: &case.host, site: &case.site, ports, properties, profiles, watch: &() };
    let row = |of: &intent::IntentFinding| {
        let name = of.finding.property.name;
        let port = ask.ports[of.finding.port].ofport;
        ((name, port, of.finding.profile.name(), way(of)), verdict(&of.finding.judgement, name))
    };
    intent::check(&ask).iter().map(row).collect()
}

/// The theorems that held and are refuted now; without any, those that held and do not now.
pub(super) fn lost(before: &Verdicts, after: &Verdicts) -> Vec<(Theorem, &'static str)> {
    let holds = |verdict: &str| matches!(verdict, "proved" | "vacuous");
    let changed = after.iter().filter(|(theorem, verdict)| {
        before.get(*theorem).is_some_and(|before| holds(before)) && !holds(verdict)
    });
    let all: Vec<_> = changed.map(|(theorem, verdict)| (*theorem, *verdict)).collect();
    let refuted: Vec<_> = all.iter().filter(|(_, verdict)| *verdict == "refuted").copied().collect();
    if refuted.is_empty() { all } else { refuted }
}

/// Section E: lines that a switch refuses, flows that contend, flows that are dead. Counts, by name.
pub(super) fn hygiene(text: &str) -> BTreeMap<&'static str, usize> {
    let strict = ParseOptions { era: Era::Strict31, ..ParseOptions::default() };
    let refused = match parse_flows(text, &strict) {
        Ok(_) => 0,
        Err(errors) => errors.errors.len(),
    };
    let Ok(file) = parse_flows(text, &ParseOptions::default()) else {
        return BTreeMap::from([("openflow-valid", usize::MAX)]);
    };
    let lints = file.lints.len();
    let tables = flowproof_proofs::tables::Tables::new(file.flows);
    let found = check::with_deep_stack(|| hygiene::examine(&tables));
    let rivals: std::collections::BTreeSet<(FlowId, FlowId)> = found.rivals;
    BTreeMap::from([
        ("openflow-valid", refused + lints),
        ("deterministic", rivals.len()),
        ("no-dead-flow", found.dead.len()),
        ("no-duplicate", tables.switch().replaced().len()),
        ("terminates", usize::from(found.exceeds_limits)),
    ])
}

/// The names of hygiene that are worse now.
pub(super) fn unclean(
    before: &BTreeMap<&'static str, usize>,
    after: &BTreeMap<&'static str, usize>,
) -> Vec<&'static str> {
    let worse = |(name, count): (&&'static str, &usize)| (before.get(*name) < Some(count)).then_some(*name);
    after.iter().filter_map(worse).collect()
}

/// The verdicts on tables as the compiler wrote them.
pub(super) fn of_base(base: Base, question: &Question) -> Verdicts {
    verdicts(&base.case(&base.text()), question)
}
