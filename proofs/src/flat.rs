//! Lists of actions without lists inside: what stands in a copy stands between brackets.
//!
//! Whoever looks through the actions of a flow then sees what is done in a `clone(…)` and in the buckets of a group, and need
//! mind only that a bracket's end takes everything back. Invariants: brackets match; a list that is flat stays as it is; the
//! flow prints as before. Deliberately absent: action sets, which are no part of the flow that writes them.

use flowproof_switch::{
    flow::{Action, Flow, GroupRef, ast::Nest},
    pipeline::sets,
};

/// The flows with flat lists of actions; nothing where they have no others.
pub(crate) fn flows(flows: &[Flow]) -> Option<Vec<Flow>> {
    let nested = |flow: &Flow| flow.actions.iter().any(is_nested);
    let flat = |flow: &Flow| match nested(flow) {
        true => Flow { actions: flattened(&flow.actions), ..flow.clone() },
        false => flow.clone(),
    };
    flows.iter().any(nested).then(|| flows.iter().map(flat).collect())
}

fn is_nested(action: &Action) -> bool {
    matches!(action, Action::Clone(_)) || matches!(action, Action::Group(named) if named.group.is_some())
}

fn flattened(actions: &[Action]) -> Vec<Action> {
    let mut flat = Vec::with_capacity(actions.len());
    for action in actions {
        if let Action::Clone(inner) = action {
            flat.push(Action::Begin(Nest::Clone));
            flat.extend(flattened(inner));
            flat.push(Action::End);
        } else if let Action::Group(GroupRef { id, group: Some(group) }) = action {
            flat.push(Action::Begin(Nest::Group(*id)));
            for bucket in &group.buckets {
                flat.push(Action::Begin(Nest::Bucket));
                flat.extend(flattened(&sets::ordered(&bucket.actions)));
                flat.push(Action::End);
            }
            flat.push(Action::End);
        } else {
            flat.push(action.clone());
        }
    }
    flat
}

/// What stands between a bracket that was opened before these actions and its end, and what comes after it.
pub(crate) fn bracket(actions: &[Action]) -> (&[Action], &[Action]) {
    let mut open = 1_u32;
    let end = actions.iter().position(|action| {
        if matches!(action, Action::Begin(_)) {
            open += 1;
        } else if matches!(action, Action::End) {
            open -= 1;
        }
        open == 0
    });
    let end = end.unwrap_or(actions.len());
    (actions.get(..end).unwrap_or_default(), actions.get(end + 1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowproof_switch::flow::{Groups, ParseOptions, parse_flows};
    use std::collections::BTreeMap;

    #[test]
    fn a_flat_flow_prints_as_before_and_stays_flat() {
        let text = "table=0,ip,actions=clone(output:1,clone(exit)),group:2,output:4";
        let mut flows = parse_flows(text, &ParseOptions::default()).unwrap().flows;
        let groups = "group_id=2,type=all,bucket=output:5,bucket=mod_nw_src:1.2.3.4,group:3\n\
                      group_id=3,type=indirect,bucket=output:6";
        Groups::parse(groups, &BTreeMap::new()).unwrap().resolve(&mut flows);
        let nested = flows[0].clone();
        let flat = super::flows(&flows).unwrap().remove(0);
        assert_eq!(flat.to_string(), nested.to_string());
        let outputs = flat.actions.iter().filter(|action| matches!(action, Action::Output(_))).count();
        assert_eq!(outputs, 4);
        assert_eq!(super::flows(std::slice::from_ref(&flat)), None);
        let (inner, rest) = bracket(flat.actions.get(1..).unwrap());
        assert_eq!((inner.len(), rest.len()), (4, flat.actions.len() - 6));
    }
}
