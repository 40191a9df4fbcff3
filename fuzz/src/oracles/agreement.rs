//! Model and tables side by side: whoever differs where nobody knows why is the finding.

use super::{Verdict, object, planted};
use crate::Choices;
use crate::campaign::minimised;
use crate::scenario::{Wishes, scenario};
use arbitrary::{Arbitrary, Unstructured};
use flowproof_compiler::Layout;
use flowproof_lockstep::report::explain;
use flowproof_lockstep::{Ending, Patch, Scenario, play, written_down};
use flowproof_switch::flow::{Action, Flow, ParseOptions, parse_flows};
use std::fmt;

/// A random scenario of one layout (by its place in [`Layout::ALL`]), with or without long histories.
#[derive(Clone, PartialEq, Eq)]
pub struct Agreement<const LAYOUT: usize, const LONG: bool = false>(pub Scenario);

/// Scenarios of the layout of 2016.
pub type Mitaka = Agreement<0>;
/// Scenarios of today's layout.
pub type Neutron = Agreement<1>;
/// Scenarios of our own layout.
pub type Strict = Agreement<2>;
/// Long histories, in which much changes and some frames are like no other, in our own layout.
pub type Stateful = Agreement<2, true>;

impl<const LAYOUT: usize, const LONG: bool> Agreement<LAYOUT, LONG> {
    fn layout() -> Layout {
        Layout::ALL.get(LAYOUT).copied().unwrap_or(Layout::Strict)
    }

    fn wishes(layouts: &[Layout]) -> Wishes<'_> {
        let usual = Wishes::new(layouts);
        if LONG { Wishes { events: 60, changes: 35, raw: 2, ..usual } } else { usual }
    }

    /// The scenario that these bytes are.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let layouts = [Self::layout()];
        Self(scenario(&mut Choices::of(bytes), &Self::wishes(&layouts)).scenario)
    }

    /// Nothing happens that nobody knows. Defects that are planted are in the tables.
    ///
    /// # Errors
    /// Something does; the objection holds the smallest scenario that shows it.
    pub fn check(&self) -> Verdict {
        let layout = Some(Self::layout());
        let patch = if planted() { defect(LONG) } else { Patch::default() };
        if let Ok(Ending::Holds) = play(&self.0, layout, &patch, |_, _| {}) {
            return Ok(());
        }
        let small = minimised(&self.0, layout, &patch);
        object(match play(&small, layout, &patch, |_, _| {}) {
            Ok(Ending::Unknown(at, seen)) => format!("{}\n{small}", explain(&small, at, &seen)),
            Ok(Ending::Holds) => format!("something that vanishes when it is written down\n{}", self.0),
            Err(error) => format!("an event that was drawn cannot happen: {error}\n{small}"),
        })
    }
}

/// A defect of the tables: what is established passes above the rules, which only a rule that goes away shows; or
/// nothing is committed.
fn defect(long: bool) -> Patch {
    let commits =
        |flow: &Flow| flow.actions.iter().any(|action| matches!(action, Action::Ct(ct) if ct.commit));
    Patch::new(move |mut flows| {
        if long {
            flows.extend(
                parse_flows(ESTABLISHED, &ParseOptions::default()).into_iter().flat_map(|file| file.flows),
            );
        } else {
            let keeps =
                |action: &Action| !matches!(action, Action::Ct(ct) if ct.commit && ct.table.is_none());
            flows.iter_mut().filter(|flow| commits(flow)).for_each(|flow| flow.actions.retain(keeps));
        }
        flows
    })
}

const ESTABLISHED: &str = "\
    table=72,priority=90,ct_state=+est-rel-rpl-inv+trk,ip actions=resubmit(,73)\n\
    table=72,priority=90,ct_state=+est-rel-rpl-inv+trk,ipv6 actions=resubmit(,73)\n\
    table=82,priority=90,ct_state=+est-rel-rpl-inv+trk,ip actions=resubmit(,83)\n\
    table=82,priority=90,ct_state=+est-rel-rpl-inv+trk,ipv6 actions=resubmit(,83)\n";

impl<'a, const LAYOUT: usize, const LONG: bool> Arbitrary<'a> for Agreement<LAYOUT, LONG> {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(Self::of(bytes.bytes(bytes.len())?))
    }
}

/// What `flowproof run` replays.
impl<const LAYOUT: usize, const LONG: bool> fmt::Debug for Agreement<LAYOUT, LONG> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&written_down(&self.0, Self::layout()), f)
    }
}
