//! Action sets, and buckets of groups, as lists of actions in the order in which they are carried out.
//!
//! What it means: of most kinds of action only the last one written counts; fields are written in the order in which they
//! stand; at the end stands one way out, and without one nothing is done at all. Source: OpenFlow 1.5.1, 5.6, "Action Set";
//! experiments with Open vSwitch 3.1, which also takes `resubmit` and `ct()` for ways out.

use crate::flow::Action;
use std::sync::Arc;

/// Of each of these the last counts, in this order.
const SINGLE: [fn(&Action) -> bool; 6] = [
    |action| matches!(action, Action::StripVlan),
    |action| matches!(action, Action::PopMpls(_)),
    |action| matches!(action, Action::PushMpls(_)),
    |action| matches!(action, Action::PushVlan(_)),
    |action| matches!(action, Action::DecTtl(_)),
    |action| matches!(action, Action::DecMplsTtl),
];

/// Ways out, the one that beats all others first.
const FINAL: [fn(&Action) -> bool; 4] = [
    |action| matches!(action, Action::Group(_)),
    |action| matches!(action, Action::Output(_) | Action::Controller(_)),
    |action| matches!(action, Action::Resubmit { .. }),
    |action| matches!(action, Action::Ct(_)),
];

const fn is_write(action: &Action) -> bool {
    matches!(action, Action::Set { .. } | Action::Move { .. } | Action::ModVlanVid(_) | Action::ModVlanPcp(_))
}

/// Whether an action set may hold an action; a switch refuses flows that put others there.
fn is_known(action: &Action) -> bool {
    let queue = matches!(action, Action::SetQueue(_) | Action::PopQueue | Action::Note(_));
    queue || is_write(action) || SINGLE.iter().chain(&FINAL).any(|kind| kind(action))
}

/// What an action set, or a bucket, comes to.
#[must_use]
pub fn ordered(set: &[Action]) -> Arc<[Action]> {
    let last = |kind: &fn(&Action) -> bool| set.iter().rfind(|action| kind(action)).cloned();
    // Whoever has something else in it, does something that is not known.
    let odd = set.iter().find(|action| !is_known(action)).map(|action| Action::Opaque(action.to_string()));
    let Some(way_out) = FINAL.iter().find_map(last) else { return odd.into_iter().collect() };
    let writes = set.iter().filter(|action| is_write(action)).cloned();
    odd.into_iter().chain(SINGLE.iter().filter_map(last)).chain(writes).chain([way_out]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{ParseOptions, parse_flows};

    #[track_caller]
    fn check(set: &str, expected: &str) {
        let read = |text: &str| {
            let flows = parse_flows(&format!("ip,actions={text}"), &ParseOptions::default());
            flows.unwrap().flows.remove(0).actions
        };
        let Some(Action::WriteActions(set)) = read(&format!("write_actions({set})")).pop() else { panic!() };
        assert_eq!(ordered(&set).to_vec(), read(expected));
    }

    #[test]
    fn of_most_kinds_the_last_counts_and_one_way_out_ends_the_set() {
        check("output:1,output:2", "output:2");
        check("group:1,output:2", "group:1");
        check("output:2,dec_ttl,push_vlan:0x8100,dec_ttl", "push_vlan:0x8100,dec_ttl,output:2");
        check(
            "mod_nw_src:1.1.1.1,output:2,mod_nw_src:2.2.2.2",
            "mod_nw_src:1.1.1.1,mod_nw_src:2.2.2.2,output:2",
        );
        check("resubmit(,5),output:2", "output:2");
        check("mod_nw_src:1.1.1.1", "drop");
    }
}
