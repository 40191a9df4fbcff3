//! What proof says of tables: every verdict by its name.

use super::bases::{Base, Case};
use flowproof_packet::PortNo;
use flowproof_proofs::{
    check::{self, Engines, Judgement, Task},
    diagram::Host,
    hygiene,
    intent::{self, Ask, PROPERTIES, site::Site},
    isolation,
    ports::Port,
    properties::{Property, SENDER},
    since::{self, Since},
};
use flowproof_switch::{
    conntrack::Profile,
    flow::parse::{Era, ParseOptions, parse_flows},
    table::FlowId,
};
use std::collections::{BTreeMap, BTreeSet};

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

    fn ports<'a>(&self, host: &'a Host) -> Vec<&'a Port> {
        host.ports.iter().filter(|port| self.ports.contains(&port.ofport)).collect()
    }
}

fn verdict(judgement: &Judgement, of: &str) -> &'static str {
    match judgement {
        Judgement::Contradiction(why) => panic!("{of}: {why}"),
        other => other.name(),
    }
}

/// Whose tables are judged; with a change only what that breaks.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    host: &'a Host,
    site: &'a Site,
    since: Option<&'a Since>,
}

impl<'a> Subject<'a> {
    pub(super) const fn of(case: &'a Case) -> Self {
        Self { host: &case.host, site: &case.site, since: None }
    }

    pub(super) const fn changed(since: &'a Since, site: &'a Site) -> Self {
        Self { host: &since.now, site, since: Some(since) }
    }
}

/// Sections A, B and D.
pub(super) fn verdicts(case: &Case, question: &Question) -> Verdicts {
    let subject = Subject::of(case);
    let mut all = sent(subject, question);
    all.extend(isolated(subject, question));
    all.extend(agreed(subject, question));
    all
}

/// Section B: isolation and default deny.
pub(super) fn isolated(Subject { host, site, since }: Subject<'_>, question: &Question) -> Verdicts {
    let properties: Vec<_> =
        isolation::ROWS.iter().map(|row| &row.property).filter(|property| question.asks(property)).collect();
    if properties.is_empty() {
        return Verdicts::new();
    }
    let (ports, profiles) = (question.ports(host), question.profiles.clone());
    let ask = isolation::Ask { host, site: Some(site), ports, properties, profiles, watch: &() };
    let row = |of: &isolation::IsolationFinding| {
        let name = of.finding.property.name;
        let port = ask.ports[of.finding.port].ofport;
        ((name, port, of.finding.profile.name(), ""), verdict(&of.finding.judgement, name))
    };
    let found = match since {
        None => isolation::check(&ask),
        Some(since) => isolation::check_since(&ask, since),
    };
    found.iter().map(row).collect()
}

/// Section A: what ports send.
pub(super) fn sent(Subject { host, since, .. }: Subject<'_>, question: &Question) -> Verdicts {
    let task = Task {
        host,
        ports: question.ports(host),
        properties: SENDER.iter().filter(|property| question.asks(property)).collect(),
        profiles: question.profiles.clone(),
        engines: Engines::Diagram,
        keep_queries: false,
        watch: &(),
    };
    if task.properties.is_empty() {
        return Verdicts::new();
    }
    let found = match since {
        None => check::check(&task).findings,
        Some(since) => since::check(&task, since).findings,
    };
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
pub(super) fn agreed(Subject { host, site, since }: Subject<'_>, question: &Question) -> Verdicts {
    let properties: Vec<_> = PROPERTIES.into_iter().filter(|property| question.asks(property)).collect();
    if properties.is_empty() {
        return Verdicts::new();
    }
    let (ports, profiles) = (question.ports(host), question.profiles.clone());
    let ask = Ask { host, site, ports, properties, profiles, watch: &() };
    let row = |of: &intent::IntentFinding| {
        let name = of.finding.property.name;
        let port = ask.ports[of.finding.port].ofport;
        ((name, port, of.finding.profile.name(), way(of)), verdict(&of.finding.judgement, name))
    };
    let found = match since {
        None => intent::check(&ask),
        Some(since) => intent::check_since(&ask, since),
    };
    found.iter().map(row).collect()
}

/// What a change breaks: theorems that held, and theorems that did not hold, each with a packet that did not violate it
/// before; and theorems of which that is not known and that held.
#[derive(Debug, Default)]
pub(super) struct Broken {
    pub(super) lost: BTreeSet<&'static str>,
    pub(super) worse: BTreeSet<&'static str>,
    pub(super) unknown: BTreeSet<&'static str>,
}

impl Broken {
    /// Whether a packet shows it.
    pub(super) fn is_shown(&self) -> bool {
        !self.lost.is_empty() || !self.worse.is_empty()
    }

    /// Adds what was found of a change to theorems that were judged `before`.
    pub(super) fn add(&mut self, before: &Verdicts, found: &Verdicts) {
        for (theorem, verdict) in found {
            let held = before.get(theorem).is_some_and(|verdict| holds(verdict));
            let name = theorem.0;
            match *verdict {
                "refuted" if held => drop(self.lost.insert(name)),
                "refuted" => drop(self.worse.insert(name)),
                "unknown" if held => drop(self.unknown.insert(name)),
                _ => {}
            }
        }
    }
}

fn holds(verdict: &str) -> bool {
    matches!(verdict, "proved" | "vacuous")
}

/// The theorems that held and are refuted now; without any, those that held and do not now.
pub(super) fn lost(before: &Verdicts, after: &Verdicts) -> Vec<(Theorem, &'static str)> {
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
    let rivals: BTreeSet<(FlowId, FlowId)> = found.rivals;
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
