//! A run of a scenario, told to a real switch.
//!
//! Invariant: a claim is what the interpreter did, byte for byte; model and policy have no part in it. Deliberately
//! absent: starting a switch, and what is said to people.

use flowproof_lockstep::{Observation, Run, StepRun};
use flowproof_ovs::{Answer, Event, Judge, LoadError, Story};

/// What a real switch says of a run; where it differs, with the place of the step.
///
/// # Errors
/// The switch refuses the flows, or the machine fails.
pub fn hear(judge: &mut Judge, run: &Run) -> Result<(Answer, usize), LoadError> {
    let mut events = Vec::new();
    let mut steps = Vec::new();
    for (at, step) in run.steps.iter().enumerate() {
        match step {
            StepRun::Packet(seen) => events.extend(frames(seen)),
            StepRun::Tables(tables) => events.push(Event::Flows(tables.flows())),
            StepRun::Advance(ms) => events.push(Event::Advance(*ms)),
            StepRun::Flush => events.push(Event::Flush),
            StepRun::ForgetMarked(zone) => events.push(Event::ForgetMarked(*zone)),
        }
        steps.resize(events.len(), at);
    }
    let answer = judge.hear(&Story { ports: &run.ports, flows: run.tables.flows(), tie: run.tie, events })?;
    let at = match &answer {
        Answer::Differs(difference) => steps.get(difference.at).copied().unwrap_or_default(),
        Answer::Same | Answer::Open(_) => 0,
    };
    Ok((answer, at))
}

/// A packet's frames, and what the interpreter made of them.
fn frames(seen: &Observation) -> impl Iterator<Item = Event<'_>> {
    seen.arrival.frames.iter().zip(&seen.outcomes).map(|(frame, outcome)| Event::Frame {
        in_port: seen.arrival.in_port,
        frame,
        claimed: outcome.delivered(),
    })
}
