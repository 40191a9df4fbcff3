//! Exploration case by case: what one case is, what came of it, and how many make a campaign.
//!
//! Invariant: a case is determined by the campaign's seed, its number and its subject, whoever runs it and when.

use crate::bare::Bare;
use crate::choices::{self, Choices};
use crate::coverage::{Coverage, Gatherer};
use crate::oracles::Objection;
use crate::scenario::{self, BYTES, Drawn, Wishes};
use flowproof_compiler::Layout;
use flowproof_lockstep::report::explain;
use flowproof_lockstep::{Ending, Patch, Scenario, play, run, shrink, written_down};
use flowproof_switch::conntrack::Profile;
use flowproof_switch::table::TieBreak;
use std::sync::Arc;

/// What is explored.
#[derive(Clone, Debug)]
pub enum Subject {
    /// The tables that this layout makes of random policies, on this datapath.
    Compiled(Layout, Profile),
    /// The tables of this scenario under its policy.
    Given(Box<Scenario>),
    /// Tables without a policy, and what is proved of them.
    Bare(Arc<Bare>),
}

impl Subject {
    /// The layout; none for tables that are given.
    #[must_use]
    pub const fn layout(&self) -> Option<Layout> {
        match self {
            Self::Compiled(layout, _) => Some(*layout),
            Self::Given(_) | Self::Bare(_) => None,
        }
    }

    /// The datapath that scenarios are drawn for; none for tables that are given.
    #[must_use]
    pub const fn datapath(&self) -> Option<Profile> {
        match self {
            Self::Compiled(_, profile) => Some(*profile),
            Self::Given(_) | Self::Bare(_) => None,
        }
    }
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Cases that were run.
    pub cases: u64,
    /// Events that were drawn.
    pub drawn: u64,
    /// Events that could happen, and did.
    pub steps: u64,
    /// Packets among them.
    pub packets: u64,
    /// Packets that some rule let through.
    pub by_rule: u64,
}

impl Counts {
    /// Adds another's.
    pub const fn merge(&mut self, other: Self) {
        self.cases += other.cases;
        self.drawn += other.drawn;
        self.steps += other.steps;
        self.packets += other.packets;
        self.by_rule += other.by_rule;
    }
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The case that showed it.
    pub case: u64,
    /// As small as it can be, to replay with `flowproof run`; none where there is no policy.
    pub scenario: Option<Scenario>,
    /// What it shows, for people.
    pub story: String,
}

/// What came of one case.
#[derive(Clone, Debug)]
pub struct Case {
    /// How often what happened.
    pub counts: Counts,
    /// What was reached.
    pub coverage: Coverage,
    /// What shows what nobody knows.
    pub failing: Option<Failing>,
}

/// What shows that something must not be.
#[derive(Clone, Debug)]
pub enum Failing {
    /// A scenario, as it was drawn.
    Scenario(Box<Scenario>),
    /// Packets, with what must not become of them.
    Packets(Objection),
}

/// The seed of a case.
fn seed_of(seed: u64, number: u64) -> u64 {
    let mixed = Choices::new(seed).number() ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Choices::new(mixed).number()
}

/// The choices of a case, as bytes: what a fuzzer would be given to draw the same.
#[must_use]
pub fn bytes_of(seed: u64, number: u64) -> Vec<u8> {
    choices::bytes(seed_of(seed, number), BYTES)
}

/// Draws the scenario of a case; nothing where there is no policy.
#[must_use]
pub fn draw(subject: &Subject, seed: u64, number: u64) -> Option<Drawn> {
    drawn(subject, seed, number).ok()
}

/// The same on every datapath: where the tables' connection tracking is another, the model's oracle is, too. Which of
/// several flows of one priority wins is open, and another one in every other case.
fn drawn(subject: &Subject, seed: u64, number: u64) -> Result<Drawn, &Bare> {
    let bytes = bytes_of(seed, number);
    let choices = &mut Choices::of(&bytes);
    let Drawn { scenario, events } = match subject {
        Subject::Compiled(layout, datapath) => {
            let Drawn { scenario, events } = scenario::scenario(choices, &Wishes::new(&[*layout]));
            Drawn { scenario: Scenario { datapath: *datapath, ..scenario }, events }
        }
        Subject::Given(given) => {
            scenario::continued(choices, &Wishes::new(&[]).packets(), Scenario::clone(given))
        }
        Subject::Bare(bare) => return Err(bare),
    };
    let tie = if number.is_multiple_of(2) { TieBreak::First } else { TieBreak::Last };
    Ok(Drawn { scenario: Scenario { tie, ..scenario }, events })
}

/// Runs a case.
#[must_use]
pub fn case(subject: &Subject, seed: u64, number: u64) -> Case {
    match drawn(subject, seed, number) {
        Ok(drawn) => played(subject, drawn),
        Err(bare) => bare.case(&mut Choices::new(seed_of(seed, number))),
    }
}

fn played(subject: &Subject, Drawn { scenario, events }: Drawn) -> Case {
    let mut counts = Counts { cases: 1, drawn: events as u64, ..Counts::default() };
    counts.steps = scenario.steps.len() as u64;
    let mut gatherer = Gatherer::default();
    let ending = play(&scenario, subject.layout(), &Patch::default(), |seen, known| {
        counts.packets += 1;
        let by_rule = seen.model.iter().any(|one| {
            let rules = one.outcome.egress.is_by_rule() || one.outcome.ingress.is_by_rule();
            rules && one.outcome.is_delivered()
        });
        counts.by_rule += u64::from(by_rule);
        gatherer.see(seen, known);
    });
    let failing = !matches!(ending, Ok(Ending::Holds));
    let failing = failing.then(|| Failing::Scenario(Box::new(scenario)));
    Case { counts, coverage: gatherer.finish(), failing }
}

/// A failing case, as small as it can be.
#[must_use]
pub fn failure(subject: &Subject, case: u64, failing: &Failing) -> Failure {
    let scenario = match failing {
        Failing::Scenario(scenario) => scenario,
        Failing::Packets(Objection(story)) => return Failure { case, scenario: None, story: story.clone() },
    };
    let small = minimised(scenario, subject.layout(), &Patch::default());
    let shown = run(&small, subject.layout());
    let story = match &shown {
        Ok(run) => run.first_divergence().map_or_else(String::new, |(at, seen)| explain(&small, at, seen)),
        Err(error) => format!("an event that was drawn cannot happen: {error}"),
    };
    Failure { case, scenario: Some(small), story }
}

/// The smallest scenario to be found that shows the same that nobody knows (or cannot be run, if this one cannot). It
/// needs no knowledge to replay: what is known on the way is written down in it.
#[must_use]
pub fn minimised(scenario: &Scenario, layout: Option<Layout>, patch: &Patch) -> Scenario {
    let seen = |scenario: &Scenario| play(scenario, layout, patch, |_, _| {});
    let first = seen(scenario);
    let small = shrink(scenario, |small| match (&first, seen(small)) {
        (Ok(Ending::Unknown(_, first)), Ok(Ending::Unknown(_, seen))) => seen.is_like(first),
        (Err(_), Err(_)) => true,
        _ => false,
    });
    match layout {
        Some(layout) if first.is_ok() => written_down(&small, layout),
        _ => small,
    }
}
