//! Campaigns: cases in order of their numbers, run in parallel and counted in order.
//!
//! Invariant: what is counted is always all cases below some number, so a campaign can go on later, and the same
//! number of cases gives the same counts whoever runs them.

use crate::failure::Failure;
use crate::progress::Progress;
use crate::run::for_real;
use flowproof_fuzz::Drawn;
use flowproof_fuzz::campaign::{Case, Counts, Subject, case, draw, failure};
use flowproof_fuzz::coverage::Coverage;
use flowproof_lockstep::run;
use flowproof_ovs::Judge;
use rayon::prelude::*;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Cases between two looks at the clock, for each job.
const ROUND: u64 = 32;

/// Symbolic execution recurses as deep as tables call each other. Only what is used of it becomes memory.
const STACK: usize = 512 << 20;

/// When to stop.
#[derive(Debug)]
pub(super) struct Budget {
    /// Where cases come from.
    pub(super) seed: u64,
    /// Cases of each campaign.
    pub(super) cases: Option<u64>,
    /// When time is up.
    pub(super) deadline: Option<Instant>,
    /// Different failures of each campaign.
    pub(super) failures: u64,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The first case that showed it.
    pub(super) case: u64,
    /// The scenario to replay, as text; without a policy the packets.
    pub(super) scenario: String,
    /// What it shows.
    pub(super) story: String,
    /// Whether a real switch does not do what the interpreter says.
    pub(super) contradiction: bool,
}

/// Cases of one subject, and what came of them.
#[derive(Debug)]
pub(super) struct Campaign {
    /// The layout, or the file.
    pub(super) name: String,
    pub(super) subject: Subject,
    pub(super) counts: Counts,
    pub(super) coverage: Coverage,
    pub(super) failures: Vec<Found>,
    pub(super) spent: Duration,
}

impl Campaign {
    /// Nothing has been run.
    pub(super) fn new(name: String, subject: Subject) -> Self {
        let (counts, coverage) = (Counts::default(), Coverage::default());
        Self { name, subject, counts, coverage, failures: Vec::new(), spent: Duration::ZERO }
    }

    fn is_over(&self, budget: &Budget) -> bool {
        budget.cases.is_some_and(|cases| self.counts.cases >= cases)
            || self.failures.len() as u64 >= budget.failures
    }

    /// Percent of the drawn events that could happen.
    pub(super) fn accepted(&self) -> f64 {
        100.0 * self.counts.steps as f64 / self.counts.drawn.max(1) as f64
    }

    /// Events a second.
    pub(super) fn rate(&self) -> f64 {
        self.counts.steps as f64 / self.spent.as_secs_f64().max(0.001)
    }

    /// Counts a case. What looks like a failure that is known already is none.
    fn count(&mut self, number: u64, case: Case, real: Option<Found>) {
        self.counts.merge(case.counts);
        self.coverage.merge(&case.coverage);
        let shown = case.failing.map(|failing| {
            let small = failure(&self.subject, number, &failing);
            // Where nobody says what the tables should do, only flowproof can be wrong.
            let contradiction = small.scenario.is_none();
            let scenario = small.scenario.map_or_else(|| small.story.clone(), |small| small.to_string());
            Found { case: number, scenario, story: small.story, contradiction }
        });
        for found in shown.into_iter().chain(real) {
            if self.failures.iter().all(|known| known.scenario != found.scenario) {
                self.failures.push(found);
            }
        }
    }
}

/// Runs all campaigns in turn until the budget is used up; `save` is called whenever something was counted.
pub(super) fn explore(
    campaigns: &mut [Campaign],
    budget: &Budget,
    jobs: Option<u16>,
    judge: Option<Judge>,
    progress: &Progress,
    save: impl Fn(&[Campaign]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let jobs = jobs.map_or(0, usize::from);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs).stack_size(STACK).build();
    let pool = pool.map_err(|error| Failure::input([format!("--jobs: {error}")]))?;
    let judge = judge.map(Mutex::new);
    let mut saved = Instant::now();
    loop {
        let mut busy = false;
        for at in 0..campaigns.len() {
            let Some(campaign) = campaigns.get_mut(at).filter(|campaign| !campaign.is_over(budget)) else {
                continue;
            };
            let whole = pool.install(|| round(campaign, budget, judge.as_ref(), progress))?;
            progress.show(|| line(campaigns));
            if !whole {
                return save(campaigns);
            }
            busy = true;
        }
        if !busy {
            return save(campaigns);
        }
        if saved.elapsed() > Duration::from_secs(5) {
            save(campaigns)?;
            saved = Instant::now();
        }
    }
}

/// A case, and what a real switch does otherwise in it.
type Played = Result<(Case, Option<Found>), Failure>;

/// The next cases; whether there was time for all of them.
fn round(
    campaign: &mut Campaign,
    budget: &Budget,
    judge: Option<&Mutex<Judge>>,
    progress: &Progress,
) -> Result<bool, Failure> {
    let began = Instant::now();
    let first = campaign.counts.cases;
    let end = first + ROUND * rayon::current_num_threads() as u64;
    let end = budget.cases.map_or(end, |cases| end.min(cases));
    let late = || progress.interrupted() || budget.deadline.is_some_and(|deadline| Instant::now() > deadline);
    let subject = &campaign.subject;
    let one = |number: u64| {
        // Cases that are begun are finished; they are short.
        (!late())
            .then(|| Ok((case(subject, budget.seed, number), real(subject, budget.seed, number, judge)?)))
    };
    let done: Vec<Option<Played>> = (first..end).into_par_iter().map(one).collect();
    let mut number = first;
    for run in done.into_iter().map_while(|run| run) {
        let (case, real) = run?;
        campaign.count(number, case, real);
        number += 1;
        if campaign.failures.len() as u64 >= budget.failures {
            break;
        }
    }
    campaign.spent += began.elapsed();
    Ok(number == end)
}

/// What a real switch does otherwise than the interpreter in a case, if there is one to ask.
fn real(
    subject: &Subject,
    seed: u64,
    number: u64,
    judge: Option<&Mutex<Judge>>,
) -> Result<Option<Found>, Failure> {
    let Some(judge) = judge else { return Ok(None) };
    let Some(Drawn { scenario, .. }) = draw(subject, seed, number) else { return Ok(None) };
    let Ok(run) = run(&scenario, subject.layout()) else { return Ok(None) };
    let mut judge = judge.lock().unwrap_or_else(PoisonError::into_inner);
    let difference = for_real(&mut judge, &run)?;
    Ok(difference.map(|(at, words)| Found {
        case: number,
        scenario: scenario.to_string(),
        story: format!("event {}: {words}\n", at + 1),
        contradiction: true,
    }))
}

fn line(campaigns: &[Campaign]) -> String {
    let one = |campaign: &Campaign| {
        let Campaign { name, counts, failures, .. } = campaign;
        let (hit, all) = campaign.coverage.reached(campaign.subject.layout());
        format!(
            "{name}: {} cases, {:.0} events/s, {hit}/{all} templates, {} failures",
            counts.cases,
            campaign.rate(),
            failures.len()
        )
    };
    campaigns.iter().map(one).collect::<Vec<_>>().join("; ")
}
