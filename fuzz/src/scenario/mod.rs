//! Scenarios from choices: a policy first, from networks to rules, then events about what is there.
//!
//! Invariant: every scenario can be run; an event that could not happen is drawn and left out, and counted.

mod ends;
mod items;
mod policy;
mod story;
mod talk;

use crate::Choices;
use flowproof_compiler::Layout;
use flowproof_lockstep::parse;
use flowproof_lockstep::scenario::{Scenario, Step, Tables};
use flowproof_model::policy::{GroupId, Policy, Rule};
use story::Story;

/// Bytes that are enough for a policy and twenty events.
pub const BYTES: usize = 800;

/// What is wanted of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wishes<'l> {
    /// The layouts it is for.
    pub layouts: &'l [Layout],
    /// How many events it has at most.
    pub events: usize,
    /// In how many of a hundred events something other than packets happens: rules, members, ports, time.
    pub changes: usize,
    /// In how many of a hundred packets the frame has other bytes than anybody would write.
    pub raw: usize,
}

impl<'l> Wishes<'l> {
    /// Twenty well-formed events.
    #[must_use]
    pub const fn new(layouts: &'l [Layout]) -> Self {
        Self { layouts, events: 20, changes: 14, raw: 0 }
    }

    /// The same, but nothing changes: for tables that nobody compiles again.
    #[must_use]
    pub const fn packets(self) -> Self {
        Self { changes: 0, ..self }
    }
}

/// A scenario, and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// What can be run.
    pub scenario: Scenario,
    /// Events that were drawn; those that could not happen are not in the scenario.
    pub events: usize,
}

/// A policy of its own and events under it.
#[must_use]
pub fn scenario(choices: &mut Choices<'_>, wishes: &Wishes<'_>) -> Drawn {
    let text = policy::policy_text(choices);
    let mut scenario = match parse(&text) {
        Ok(scenario) => scenario,
        #[expect(clippy::panic, reason = "a generator that writes what cannot be read has to be noticed")]
        Err(error) => panic!("{error}\n{text}"),
    };
    scenario.tables = Tables::Compiled(wishes.layouts.to_vec());
    let spare = set_aside(choices, &mut scenario.policy);
    events(choices, wishes, scenario, spare)
}

/// Events under a scenario's own policy and tables.
#[must_use]
pub fn continued(choices: &mut Choices<'_>, wishes: &Wishes<'_>, scenario: Scenario) -> Drawn {
    events(choices, wishes, scenario, Vec::new())
}

/// Takes some rules away: they come later.
fn set_aside(choices: &mut Choices<'_>, policy: &mut Policy) -> Vec<(GroupId, Rule)> {
    let mut spare = Vec::new();
    for group in policy.groups.values_mut() {
        let id = group.id.clone();
        group.rules.retain(|rule| {
            let stays = !choices.chance(10);
            if !stays {
                spare.push((id.clone(), rule.clone()));
            }
            stays
        });
    }
    spare
}

fn events(
    choices: &mut Choices<'_>,
    wishes: &Wishes<'_>,
    mut scenario: Scenario,
    spare: Vec<(GroupId, Rule)>,
) -> Drawn {
    let mut story = Story::new(choices, scenario.policy.clone(), spare, wishes);
    let (mut drawn, mut happened) = (0, 0);
    // Under some policies nobody can say anything, however often he tries.
    while happened < wishes.events && drawn < 8 * wishes.events && !story.is_over() {
        drawn += 1;
        if let Some(event) = story.event().filter(|event| story.happens(event)) {
            scenario.steps.push(Step::new(event));
            happened += 1;
        }
    }
    Drawn { scenario, events: drawn }
}
