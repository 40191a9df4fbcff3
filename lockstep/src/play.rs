//! Playing on after what is known: scenarios that nobody wrote, and what in them nobody knows.
//!
//! After a known divergence model and tables have different memories, so both forget and go on. Invariant: what
//! [`play`] stops at, a plain [`run`](crate::run()) of the [`written_down`] scenario shows at the same event.

use crate::known::classify;
use crate::patch::Patch;
use crate::run::{Lockstep, Observation, StepRun};
use crate::scenario::{Event, Scenario, Step, Written};
use crate::text::RunError;
use flowproof_compiler::Layout;

/// How a scenario ended.
#[derive(Debug)]
pub enum Ending {
    /// Nothing that is not known.
    Holds,
    /// The first divergence that nobody knows, with the place of its step.
    Unknown(usize, Box<Observation>),
}

impl Ending {
    /// Whether model and tables differ where nobody knows why.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(..))
    }
}

/// Plays a scenario until something is seen that nobody knows; `visit` sees every packet, and the name of what is
/// known about it.
///
/// # Errors
/// A step cannot happen.
pub fn play(
    scenario: &Scenario,
    layout: Option<Layout>,
    patch: &Patch,
    mut visit: impl FnMut(&Observation, Option<&'static str>),
) -> Result<Ending, RunError> {
    let mut lockstep = Lockstep::patched(scenario, layout, patch)?;
    for (at, step) in scenario.steps.iter().enumerate() {
        let StepRun::Packet(seen) = lockstep.step(step)? else { continue };
        let differs = !seen.differences.is_empty();
        let known = layout.filter(|_| differs).and_then(|layout| classify(layout, &seen));
        visit(&seen, known.map(|known| known.name));
        if differs && known.is_none() {
            return Ok(Ending::Unknown(at, seen));
        }
        if differs {
            lockstep.flush();
        }
    }
    Ok(Ending::Holds)
}

/// The scenario for one layout, with its known divergences written down and the forgetting after each as an event of
/// its own, so that it replays as it was played.
#[must_use]
pub fn written_down(scenario: &Scenario, layout: Layout) -> Scenario {
    let mut written = Scenario { steps: Vec::new(), ..scenario.clone() };
    written.tables = crate::scenario::Tables::Compiled(vec![layout]);
    let Ok(mut lockstep) = Lockstep::new(scenario, Some(layout)) else { return scenario.clone() };
    for step in &scenario.steps {
        let mut step = step.clone();
        let run = lockstep.step(&step);
        let Ok(StepRun::Packet(seen)) = run else {
            written.steps.push(step);
            continue;
        };
        let known = classify(layout, &seen).filter(|_| !seen.differences.is_empty());
        if let Some(known) = known {
            let (name, why) = (known.name.to_owned(), known.why.to_owned());
            step.divergences.push(Written { name, layouts: Vec::new(), why });
        }
        written.steps.push(step);
        if known.is_some() {
            lockstep.flush();
            written.steps.push(Step::new(Event::Flush));
        }
    }
    written
}
