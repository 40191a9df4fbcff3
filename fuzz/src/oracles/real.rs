//! The interpreter against a real switch: scenarios, frame by frame.

use super::{Objection, Verdict, object, subject};
use crate::Choices;
use crate::real::hear;
use crate::scenario::{Wishes, scenario};
use flowproof_compiler::Layout;
use flowproof_lockstep::{Scenario, run, shrink};
use flowproof_ovs::{Answer, Judge};
use flowproof_packet::Field;
use std::sync::{Mutex, PoisonError};

/// Started once for all inputs; it ends with this process.
static JUDGE: Mutex<Option<Judge>> = Mutex::new(None);

/// A random scenario of a layout does in a real switch what it does in the interpreter.
///
/// # Errors
/// It does not; or there is no real switch to ask.
pub fn real_switch(bytes: &[u8]) -> Verdict {
    let choices = &mut Choices::of(bytes);
    let layout = *choices.pick(&Layout::ALL);
    let layouts = [layout];
    let wishes = Wishes { raw: 5, ..Wishes::new(&layouts) };
    let scenario = scenario(choices, &wishes).scenario;
    let mut judge = JUDGE.lock().unwrap_or_else(PoisonError::into_inner);
    if judge.is_none() {
        let summoned = Judge::summon().map_err(|error| Objection(error.to_string()))?;
        *judge =
            Some(subject(summoned, |judge| judge.withholding(|flow| flow.matching.looks_at(Field::TcpDst))));
    }
    let Some(judge) = judge.as_mut() else { return Ok(()) };
    let layout = Some(layout);
    if differs(judge, &scenario, layout)?.is_none() {
        return Ok(());
    }
    // What the machine refuses while a scenario is made small is no finding.
    let small = shrink(&scenario, |small| matches!(differs(judge, small, layout), Ok(Some(_))));
    let story = differs(judge, &small, layout)?.unwrap_or_default();
    object(format!("{story}\n{small}"))
}

/// What a real switch does otherwise, in words.
fn differs(
    judge: &mut Judge,
    scenario: &Scenario,
    layout: Option<Layout>,
) -> Result<Option<String>, Objection> {
    let Ok(played) = run(scenario, layout) else { return Ok(None) };
    match hear(judge, &played).map_err(|error| Objection(error.to_string()))? {
        (Answer::Differs(difference), at) => Ok(Some(format!("event {}: {difference:?}", at + 1))),
        (Answer::Same | Answer::Open(_), _) => Ok(None),
    }
}
