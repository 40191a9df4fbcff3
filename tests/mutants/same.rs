//! Whether two tables do the same to every packet, and if not, under which datapaths they do not: what `flowproof diff` says.

use super::bases::Case;
use flowproof_proofs::difference::{Bounds, Question, combination, find, tell};
use flowproof_proofs::set::PacketSets;
use flowproof_proofs::symkey::Form;
use flowproof_switch::conntrack::Profile;

/// How tables differ.
#[derive(Debug, Default)]
pub(super) struct Unlike {
    /// The datapaths under which they do.
    pub(super) profiles: Vec<Profile>,
    /// The first class of packets, in words.
    pub(super) words: String,
}

/// How two tables differ; nothing if they do the same to every packet.
pub(super) fn unlike(before: &Case, after: &Case) -> Option<Unlike> {
    let question = Question { a: &before.host.tables, b: &after.host.tables, profiles: &Profile::ALL };
    let mut found = find(&question);
    assert!(found.is_known(), "small tables are explored completely");
    if !found.differs() {
        return None;
    }
    let packets: Vec<_> = found.classes.iter().map(|class| class.packets).chain([found.rest]).collect();
    let mut differs = |profile: &Profile| {
        Form::ALL.into_iter().any(|form| {
            let here = found.sets.cube(&combination(form, *profile));
            packets.iter().any(|set| found.sets.and(*set, here) != found.sets.none())
        })
    };
    let profiles = Profile::ALL.into_iter().filter(|profile| differs(profile)).collect();
    let told = tell(&question, &mut found, Bounds { classes: 1, boxes: 1 });
    let told = told.unwrap_or_else(|why| panic!("{why}"));
    let words = told.first().map(|class| {
        let packets = class.boxes.first().map(|(items, _)| items.join(", ")).unwrap_or_default();
        format!("{packets}: {} becomes {}", class.sides[0].join("; "), class.sides[1].join("; "))
    });
    Some(Unlike { profiles, words: words.unwrap_or_default() })
}
