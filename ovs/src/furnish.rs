//! What flows need beside them: the groups and meters that they name, and the version of OpenFlow that loses nothing of them.
//!
//! Meters are made so wide that they let everything pass: what they measure on a host is not known.
//!
//! Source: ovs-ofctl(8), "Group Syntax", "Meter Syntax"; experiments with Open vSwitch 3.1.

use flowproof_switch::flow::{Action, Flow, Group};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What some flows need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Furniture {
    groups: BTreeMap<u32, Arc<Group>>,
    meters: BTreeSet<u32>,
}

impl Furniture {
    pub(crate) fn of(flows: &[Flow]) -> Self {
        let mut found = Self::default();
        flows.iter().for_each(|flow| found.add(&flow.actions));
        found
    }

    fn add(&mut self, actions: &[Action]) {
        for action in actions {
            if let Action::Clone(inner) | Action::WriteActions(inner) = action {
                self.add(inner);
            } else if let Action::Meter(meter) = action {
                self.meters.insert(*meter);
            } else if let Action::Controller(controller) = action {
                self.meters.extend(controller.meter);
            } else if let Action::Group(named) = action
                && let Some(group) = &named.group
            {
                group.buckets.iter().for_each(|bucket| self.add(&bucket.actions));
                self.groups.insert(named.id, Arc::clone(group));
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.meters.is_empty()
    }

    /// The groups, those first that others lead to; a line each.
    pub(crate) fn groups(&self) -> String {
        let leads = |id: &u32| self.groups.get(id).map_or(0, |group| depth(group));
        let mut order: Vec<u32> = self.groups.keys().copied().collect();
        order.sort_by_key(leads);
        let line = |id: u32| self.groups.get(&id).map(|group| format!("group_id={id},{group}\n"));
        order.into_iter().filter_map(line).collect()
    }

    /// The meters, as `add-meter` takes them.
    pub(crate) fn meters(&self) -> impl Iterator<Item = String> {
        self.meters.iter().map(|meter| format!("meter={meter},kbps,band=type=drop,rate=4000000000"))
    }
}

/// How deep groups lead to groups.
fn depth(group: &Group) -> usize {
    let named = group.buckets.iter().flat_map(|bucket| &bucket.actions).filter_map(|action| match action {
        Action::Group(named) => named.group.as_deref(),
        _ => None,
    });
    named.map(|group| depth(group) + 1).max().unwrap_or(0)
}

/// Whether a flow says what only OpenFlow 1.3 and later carry; earlier versions take it and lose it.
pub(crate) fn is_lost_early(flow: &Flow) -> bool {
    let lost =
        |action: &Action| matches!(action, Action::Meter(_) | Action::WriteActions(_) | Action::ClearActions);
    flow.actions.iter().any(lost)
}
