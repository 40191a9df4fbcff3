//! How far what is not modelled reaches: what an action that is kept as text may do to a packet and to where it goes.
//!
//! Invariant: an action that is not in the table may do anything. Deliberately absent: what exactly it does; who needs to know
//! that must model it.
//!
//! Source: ovs-actions(7).

use super::{Action, Flow};
use std::borrow::Cow;

/// How much of a packet's way an action decides that is not modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Extent {
    /// Copies may leave; the packet itself goes on as it was.
    Beside,
    /// The packet may be changed, or dropped; it goes on as the actions behind say.
    Changed,
    /// The packet may be changed, and looked up in any table.
    Anywhere,
}

/// Actions by name; those that are not here may do anything.
const EXTENTS: &[(&str, Extent)] = &[
    ("bundle", Extent::Beside),
    ("debug_recirc", Extent::Beside),
    ("debug_slow", Extent::Beside),
    ("enqueue", Extent::Beside),
    ("fin_timeout", Extent::Beside),
    ("output", Extent::Beside),
    ("pop_queue", Extent::Beside),
    ("sample", Extent::Beside),
    ("set_queue", Extent::Beside),
    ("bundle_load", Extent::Changed),
    ("check_pkt_larger", Extent::Changed),
    ("ct", Extent::Changed),
    ("dec_mpls_ttl", Extent::Changed),
    ("dec_nsh_ttl", Extent::Changed),
    ("dec_ttl", Extent::Changed),
    ("decap", Extent::Changed),
    ("delete_field", Extent::Changed),
    ("encap", Extent::Changed),
    ("load", Extent::Changed),
    ("meter", Extent::Changed),
    ("mod_vlan", Extent::Changed),
    ("move", Extent::Changed),
    ("multipath", Extent::Changed),
    ("pop", Extent::Changed),
    ("pop_mpls", Extent::Changed),
    ("push", Extent::Changed),
    ("push_mpls", Extent::Changed),
    ("resubmit", Extent::Changed),
    ("set_field", Extent::Changed),
    ("set_mpls_label", Extent::Changed),
    ("set_mpls_tc", Extent::Changed),
    ("set_mpls_ttl", Extent::Changed),
    ("set_tunnel", Extent::Changed),
    ("set_tunnel64", Extent::Changed),
    ("set_vlan_pcp", Extent::Changed),
    ("set_vlan_vid", Extent::Changed),
    ("write_metadata", Extent::Changed),
];

/// How far an action with this text reaches.
#[must_use]
pub fn extent(text: &str) -> Extent {
    let name = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
    let found = EXTENTS.iter().find(|(known, _)| *known == name);
    found.map_or(Extent::Anywhere, |(_, extent)| *extent)
}

/// Whether two lists of actions say the same, whatever words they are written in; remarks (`note`) say nothing.
#[must_use]
pub fn same_actions(a: &[Action], b: &[Action]) -> bool {
    let telling = |action: &&Action| !matches!(action, Action::Note(_));
    let (mut a, mut b) = (a.iter().filter(telling), b.iter().filter(telling));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == b || a.in_plain_words() == b.in_plain_words() => {}
            _ => return false,
        }
    }
}

/// The actions in the words in which equal meanings are equal, each in its place.
#[must_use]
pub fn in_plain_words(actions: &[Action]) -> Cow<'_, [Action]> {
    match actions.iter().all(Action::is_plain) {
        true => Cow::Borrowed(actions),
        false => Cow::Owned(actions.iter().map(Action::in_plain_words).collect()),
    }
}

/// Whether two flows do the same to the packets that they match, as far as that is known: the same actions, and nothing in
/// either match that is not modelled and not in the other.
#[must_use]
pub fn does_the_same(a: &Flow, b: &Flow) -> bool {
    a.opaque_match == b.opaque_match && same_actions(&a.actions, &b.actions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{ParseOptions, parse_flows};

    #[test]
    fn the_table_is_in_order_and_names_each_action_once() {
        for level in [Extent::Beside, Extent::Changed] {
            let names: Vec<&str> =
                EXTENTS.iter().filter(|(_, extent)| *extent == level).map(|(name, _)| *name).collect();
            assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        }
    }

    #[test]
    fn what_is_not_known_may_go_anywhere() {
        for (text, wanted) in [
            ("sample(probability=1)", Extent::Beside),
            ("bundle(eth_src,0,hrw,ofport,members:1)", Extent::Beside),
            ("bundle_load(eth_src,0,hrw,ofport,NXM_NX_REG0[],members:1)", Extent::Changed),
            ("pop:NXM_OF_IN_PORT[]", Extent::Changed),
            ("group:5", Extent::Anywhere),
            ("clone(drop)", Extent::Anywhere),
            ("", Extent::Anywhere),
        ] {
            assert_eq!(extent(text), wanted, "{text}");
        }
    }

    #[track_caller]
    fn check(a: &str, b: &str, same: bool) {
        let actions = |text: &str| {
            let text = format!("tcp actions={text}");
            parse_flows(&text, &ParseOptions::default()).unwrap().flows.remove(0).actions
        };
        let (a, b) = (actions(a), actions(b));
        assert_eq!(same_actions(&a, &b), same, "{a:?} {b:?}");
        let noted = a.len() != b.len();
        assert_eq!(in_plain_words(&a) == in_plain_words(&b), same && !noted);
    }

    #[test]
    fn two_spellings_of_one_action_are_one() {
        check("set_field:5->reg0,output:1", "load:5->NXM_NX_REG0[],output:1", true);
        check("set_field:0x5/0xf->reg0", "load:5->NXM_NX_REG0[0..3]", true);
        check("mod_dl_src:02:00:00:00:00:01", "load:0x20000000001->NXM_OF_ETH_SRC[]", true);
        check("note:01,output:1", "output:1", true);
        check("load:5->NXM_NX_REG0[]", "load:5->NXM_NX_REG0[0..3]", false);
        check("load:5->NXM_NX_REG0[]", "load:6->NXM_NX_REG0[]", false);
        // One is for whatever has ports, the other for TCP.
        check("mod_tp_src:5", "load:5->NXM_OF_TCP_SRC[]", false);
        check("output:1,output:2", "output:2,output:1", false);
    }
}
