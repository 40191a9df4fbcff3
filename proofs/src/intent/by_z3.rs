//! Z3 on the questions of section D.
//!
//! Ways that begin at one entrance are asked about together, those of all facets at once first: what nothing violates needs
//! no second question. Each port is asked about in a context of its own, with a budget: what Z3 answers depends on nothing
//! else. Datapaths that differ in nothing that a question speaks of share its answer.
//!
//! Invariant: where the budget ends, or not everything was encoded, the answer is [`Answer::Unknown`].

use super::{
    check::{self, Ask},
    formulas::Asked,
    question::{self, Facet, Way},
    replay::{self, Aim, Case, Shown},
};
use crate::{
    by_diagram::NOT_REACHED,
    check::{INTERRUPTED, Judgement},
    ports,
    properties::Property,
    symkey::Form,
    tables::Tables,
    z3_engine::{Answer, Counts, Encoder},
    z3_port::Query,
    z3_query::{RESOURCE_LIMIT, ask_within},
};
use flowproof_switch::conntrack::Profile;
use rustc_hash::FxHashMap;
use std::{cell::Cell, collections::BTreeSet, sync::Arc};
use z3::ast::Bool;

/// How much work the encoding of a lookup counts for, in Z3's units.
const LOOKUP: usize = 1_000;

/// What Z3 says of a theorem, facet and datapath.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) answer: Answer,
    /// Where Z3 is the only engine and something violates the theorem: the verdict, and what the model says.
    pub(super) judged: Option<(Judgement, Option<String>)>,
}

/// What is asked about one port.
pub(super) struct Port<'a> {
    pub(super) ask: &'a Ask<'a>,
    /// The host's tables with probes.
    pub(super) probed: &'a Tables,
    pub(super) subject: &'a ports::Port,
    pub(super) facets: &'a [Facet<'a>],
    /// How much work may be done, in Z3's units.
    pub(super) budget: u32,
    /// Whether to keep the queries.
    pub(super) keep: bool,
    /// Whether Z3 is the only engine, and so has to show what it finds.
    pub(super) alone: bool,
}

/// Everything that is asked about one port: by property, facet, datapath.
pub(super) fn port(port: &Port<'_>) -> (Vec<Said>, Vec<Query>) {
    z3::with_z3_config(&z3::Config::new(), || {
        let (known, queries, satisfied) = (FxHashMap::default(), Vec::new(), None);
        let mut asker = Asker { port, left: port.budget, known, queries, satisfied };
        let said = asker.all();
        (said, asker.queries)
    })
}

struct Asker<'a> {
    port: &'a Port<'a>,
    /// What is left of the budget.
    left: u32,
    known: FxHashMap<Vec<Bool>, Answer>,
    queries: Vec<Query>,
    /// What some packet was last found to satisfy.
    satisfied: Option<(Form, Vec<Bool>)>,
}

/// Ways that are asked about together, each with the place of its facet.
type Batch<'w> = Vec<(usize, &'w Way<'w>)>;

impl<'a> Asker<'a> {
    fn all(&mut self) -> Vec<Said> {
        let Ask { properties, profiles, .. } = self.port.ask;
        let mut all = Vec::new();
        for property in properties {
            let by_profile: Vec<Vec<Said>> =
                profiles.iter().map(|profile| self.facets(property, *profile)).collect();
            for facet in 0..self.port.facets.len() {
                all.extend(by_profile.iter().filter_map(|facets| facets.get(facet).cloned()));
            }
        }
        all
    }

    /// What is said of each facet.
    fn facets(&mut self, property: &Property, profile: Profile) -> Vec<Said> {
        let mut said = vec![Said { answer: Answer::Unsat, judged: None }; self.port.facets.len()];
        for batch in self.batches() {
            let places: BTreeSet<usize> = batch.iter().map(|(place, _)| *place).collect();
            let together = match places.len() {
                0 | 1 => None,
                _ => Some(self.forms(property, &batch, profile)).filter(|answer| *answer != Answer::Sat),
            };
            for place in places {
                let Some(said) = said.get_mut(place).filter(|said| said.answer != Answer::Sat) else {
                    continue;
                };
                let own: Batch<'_> = batch.iter().filter(|(at, _)| *at == place).copied().collect();
                let answer = together.clone().unwrap_or_else(|| self.forms(property, &own, profile));
                if answer == Answer::Sat {
                    said.judged = self.port.alone.then(|| self.shown(property, &own, profile));
                }
                if answer != Answer::Unsat {
                    said.answer = answer;
                }
            }
        }
        said
    }

    /// The ways of all facets, in batches: of one entrance and network, no two of them for one receiver.
    fn batches(&self) -> Vec<Batch<'a>> {
        let port: &'a Port<'a> = self.port;
        let site = port.ask.site;
        let macs = |way: &Way<'_>| match way.receiver {
            Some((receiver, _)) => site.macs(receiver, false),
            None => Vec::new(),
        };
        let mut batches: Vec<Batch<'a>> = Vec::new();
        for (place, facet) in port.facets.iter().enumerate() {
            for way in &facet.ways {
                let own = macs(way);
                let apart = |other: &Way<'_>| {
                    let beside = other.receiver.is_some() || way.receiver.is_some();
                    beside && !macs(other).iter().any(|mac| own.contains(mac))
                };
                let fits = |(_, other): &(usize, &Way<'_>)| {
                    other.entrance == way.entrance
                        && question::vlan(other) == question::vlan(way)
                        && apart(other)
                };
                match batches.iter_mut().find(|batch| batch.iter().all(fits)) {
                    Some(batch) => batch.push((place, way)),
                    None => batches.push(vec![(place, way)]),
                }
            }
        }
        batches
    }

    /// Whether packets of some form violate a property on some of these ways.
    fn forms(&mut self, property: &Property, batch: &Batch<'_>, profile: Profile) -> Answer {
        let mut unknown = None;
        for form in Form::ALL {
            match self.form(property, batch, profile, form) {
                Answer::Sat => return Answer::Sat,
                Answer::Unsat => {}
                Answer::Unknown(why) => unknown = Some(Answer::Unknown(why)),
            }
        }
        unknown.unwrap_or(Answer::Unsat)
    }

    fn form(&mut self, property: &Property, batch: &Batch<'_>, profile: Profile, form: Form) -> Answer {
        let Port { ask, probed, subject, .. } = *self.port;
        if ask.watch.stop() {
            return Answer::Unknown(INTERRUPTED.to_owned());
        }
        if self.left == 0 {
            return Answer::Unknown("the work that a port may take is done".to_owned());
        }
        let ways: Vec<&Way<'_>> = batch.iter().map(|(_, way)| *way).collect();
        let asked = Asked {
            host: ask.host,
            probed,
            site: ask.site,
            subject,
            ways: &ways,
            profile,
            form,
            complete: Cell::new(true),
            lookups: Cell::new(0),
            levels: Cell::new(0),
        };
        let formulas = asked.violated(check::theorem(property));
        let encoding = u32::try_from(asked.lookups.get() * LOOKUP).unwrap_or(u32::MAX);
        self.left = self.left.saturating_sub(encoding);
        if !asked.complete.get() {
            return Answer::Unknown("the tables are too large to encode".to_owned());
        }
        let answer = match self.known.get(&formulas) {
            Some(known) => known.clone(),
            None => self.ask(self.name(property, batch, profile, form), &formulas),
        };
        if answer == Answer::Sat {
            self.satisfied = Some((form, formulas.clone()));
        }
        self.known.insert(formulas, answer.clone());
        answer
    }

    fn ask(&mut self, name: String, formulas: &[Bool]) -> Answer {
        let mut text = String::new();
        let limit = self.left.clamp(1, RESOURCE_LIMIT);
        let (answer, work) = ask_within(limit, formulas, self.port.keep.then_some(&mut text));
        self.left = self.left.saturating_sub(work);
        if self.port.keep {
            self.queries.push(Query { name, text });
        }
        answer
    }

    /// What a query is called: after the facet that it asks about, or `all`.
    fn name(&self, property: &Property, batch: &Batch<'_>, profile: Profile, form: Form) -> String {
        let places: BTreeSet<usize> = batch.iter().map(|(place, _)| *place).collect();
        let facet = match (places.len(), places.first().and_then(|place| self.port.facets.get(*place))) {
            (1, Some(facet)) => format!("{}-{}", facet.direction.name(), facet.placement.name()),
            _ => "all".to_owned(),
        };
        let begun = format!("{}-port{}-{facet}", property.name, self.port.subject.ofport);
        let name = format!("{begun}-{}-{}", profile.name(), form.name());
        let number = self.queries.iter().filter(|query| query.name.starts_with(&name)).count();
        format!("{name}-{number}")
    }

    /// The verdict on what was last found satisfied, with the packet that shows it.
    fn shown(&self, property: &Property, batch: &Batch<'_>, profile: Profile) -> (Judgement, Option<String>) {
        let Port { ask, probed, subject, .. } = *self.port;
        let unknown = |why: &str| (Judgement::Unknown(why.to_owned()), None);
        let (Some((form, formulas)), Some((_, first))) = (&self.satisfied, batch.first()) else {
            return unknown("Z3 gives no model");
        };
        let counts = Counts::Escape;
        let mut encoder = Encoder::new(probed, profile, *form, first.entrance.access.is_some(), counts);
        let Some(choice) = encoder.choose(formulas, &check::wishes(ask.host, subject, first)) else {
            return unknown("Z3 gives no model");
        };
        let of = |way: &&Way<'_>| question::addressed(ask.site, way, false).holds(&choice.sent);
        let replayed = batch.iter().map(|(_, way)| *way).filter(of).find_map(|way| {
            let (host, site, aim) = (ask.host, ask.site, Aim::Differ);
            let case = Case { host, site, subject, way, theorem: check::theorem(property), profile, aim };
            replay::replay(&case, &choice)
        });
        match replayed {
            Some(Shown { replay, says }) => (Judgement::Refuted(Arc::new(replay)), Some(says)),
            None => unknown(NOT_REACHED),
        }
    }
}
