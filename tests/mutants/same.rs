//! Whether two tables do the same to every packet, and if not, under which datapaths they do not, and who could see it: what
//! `flowproof diff` says.

use super::bases::Case;
use flowproof_proofs::arrival::Arrival;
use flowproof_proofs::difference::{Bounds, Danger, Found, Question, combination, find, tell};
use flowproof_proofs::set::PacketSets;
use flowproof_proofs::symkey::Form;
use flowproof_switch::conntrack::Profile;

/// Why no property has to object to a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Excuse {
    /// The packets that differ are all in states that no connection is in.
    Unreachable,
    /// Beside such packets, connection tracking is asked more or less, to no effect.
    Asks,
    /// Beside such packets, some do not leave any more, and none leaves by another way, is changed or tracked otherwise.
    Withholds,
}

impl Excuse {
    /// All of them, the strongest first.
    pub(super) const ALL: [Self; 3] = [Self::Unreachable, Self::Asks, Self::Withholds];

    /// What they have in common whom it excuses.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Unreachable => {
                "Different only in states that no connection is in: related is what is no error, two lookups in one zone disagree, a mark that nobody sets"
            }
            Self::Asks => "Connection tracking is asked where it was not, or not where it was, to no effect",
            Self::Withholds => {
                "Packets are withheld that nobody is owed: agreement finds none that must pass, and nothing else is new"
            }
        }
    }
}

/// How tables differ.
#[derive(Debug, Default)]
pub(super) struct Unlike {
    /// The datapaths under which they do.
    pub(super) profiles: Vec<Profile>,
    /// The first class of packets, in words.
    pub(super) words: String,
    /// Why nobody has to object, if all classes say so.
    pub(super) excuse: Option<Excuse>,
}

/// How two tables differ; nothing if they do the same to every packet.
pub(super) fn unlike(before: &Case, after: &Case) -> Option<Unlike> {
    let question = Question { a: &before.host.tables, b: &after.host.tables, profiles: &Profile::ALL };
    let mut found = find(&question);
    // The ports of these hosts are virtual machines' and uplinks.
    found.leave_untracked();
    if !found.differs() {
        let words = "diff cannot say whether they differ".to_owned();
        let unknown = Unlike { profiles: Profile::ALL.to_vec(), words, excuse: None };
        return (!found.is_known()).then_some(unknown);
    }
    let packets: Vec<_> = found.classes.iter().map(|class| class.packets).chain([found.rest]).collect();
    let known = found.is_known();
    let mut differs = |profile: &Profile| {
        Form::ALL.into_iter().any(|form| {
            Arrival::ANY.into_iter().any(|arrival| {
                let here = found.sets.cube(&combination(form, *profile, arrival));
                packets.iter().any(|set| found.sets.and(*set, here) != found.sets.none())
            })
        })
    };
    let profiles = Profile::ALL.into_iter().filter(|profile| !known || differs(profile)).collect();
    let excuse = excuse(&question, &mut found);
    let told = tell(&question, &mut found, Bounds { classes: 1, boxes: 1 });
    let told = told.unwrap_or_else(|why| panic!("{why}"));
    let words = told.first().map(|class| {
        let packets = class.boxes.first().map(|(items, _)| items.join(", ")).unwrap_or_default();
        format!("{packets}: {} becomes {}", class.sides[0].join("; "), class.sides[1].join("; "))
    });
    Some(Unlike { profiles, words: words.unwrap_or_default(), excuse })
}

/// The weakest excuse of all classes, if each has one.
fn excuse(question: &Question<'_>, found: &mut Found) -> Option<Excuse> {
    if !found.is_known() || found.rest != found.sets.none() {
        return None;
    }
    let mut weakest = Excuse::Unreachable;
    for class in found.classes.clone() {
        let here = if found.reachable(question, &class) == found.sets.none() {
            Excuse::Unreachable
        } else if class.only_asks() {
            Excuse::Asks
        } else if class.danger() == Danger::Dropped && class.only_withholds() {
            Excuse::Withholds
        } else {
            return None;
        };
        weakest = weakest.max(here);
    }
    Some(weakest)
}

/// A difference is excused only where that is so for all of its packets.
#[test]
fn what_a_difference_is_excused_for_is_seen_by_nobody() {
    let base = super::bases::named("neutron small").unwrap();
    let text = base.text();
    let with = |flow: &str| {
        let after = base.case(&format!("{text}\n{flow}\n"));
        unlike(&base.case(&text), &after).map(|unlike| unlike.excuse)
    };
    let new = "table=82,priority=200,reg5=0xd,ip,ct_mark=0,ct_state=";
    assert_eq!(
        with("table=82,priority=200,reg5=0xd,tcp,ct_state=+rel+trk actions=output:13"),
        Some(Some(Excuse::Unreachable))
    );
    assert_eq!(with(&format!("{new}+new+trk,nw_proto=47 actions=output:13")), Some(None));
    assert_eq!(with("table=71,priority=200,arp,in_port=13 actions=drop"), Some(Some(Excuse::Withholds)));
    assert_eq!(with("table=71,priority=11,ip,in_port=13 actions=ct(zone=1)"), Some(Some(Excuse::Asks)));
    assert_eq!(with("table=71,priority=11,ip,in_port=13 actions=ct(commit,zone=1)"), Some(None));
    assert_eq!(with("table=93,priority=9 actions=drop"), None);
    let marked = "table=82,priority=200,reg5=0xd,tcp,ct_state=+est+trk,ct_mark=";
    assert_eq!(with(&format!("{marked}2 actions=output:13")), Some(Some(Excuse::Unreachable)));
    assert_eq!(with(&format!("{marked}1 actions=output:13")), Some(None));
    let sets = "table=71,priority=200,tcp,in_port=13,tp_dst=1 actions=ct(commit,exec(set_field:2->ct_mark))";
    assert_eq!(with(&format!("{marked}2 actions=output:13\n{sets}")), Some(None));
}

/// A second lookup in the same zone finds what the first one found, with the same mark.
#[test]
fn connection_tracking_that_is_asked_again_is_no_difference() {
    let base = super::bases::named("mitaka small").unwrap();
    let (text, flow) = (base.text(), "table=81, priority=90,ct_state=-trk,ip,reg5=0xd");
    assert_eq!(text.matches(flow).count(), 1, "{text}");
    let after = base.case(&text.replace(flow, &flow.replace("ct_state=-trk,", "")));
    let unlike = unlike(&base.case(&text), &after).unwrap();
    assert_eq!(unlike.excuse, Some(Excuse::Asks), "{}", unlike.words);
}
