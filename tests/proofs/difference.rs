//! Laws of the difference of two tables: an equivalence where there is none, classes that are disjoint, found fast as they
//! are found slowly, and held to the interpreter by packets.

use super::rng::Rng;
use flowproof_fuzz::oracles::{self, DifferencePair};
use flowproof_fuzz::{Choices, campaign::bytes_of, tables as random_flows, tables::Spice};
use flowproof_proofs::arrival::Arrival;
use flowproof_proofs::bdd::{Bdd, Bdds};
use flowproof_proofs::difference::{
    Bounds, Danger, Found, Question, combination, find, find_slowly, same, tell,
};
use flowproof_proofs::set::PacketSets;
use flowproof_proofs::symbolic::legal_answers;
use flowproof_proofs::symkey::Form;
use flowproof_proofs::tables::Tables;
use flowproof_switch::conntrack::Profile;
use flowproof_switch::flow::{Flow, ParseOptions, parse_flows};

const ONE: &[Profile] = &[Profile::Kernel];

fn flows(text: &str) -> Vec<Flow> {
    parse_flows(text, &ParseOptions::default()).map(|file| file.flows).unwrap_or_default()
}

fn tables(text: &str) -> Tables {
    Tables::new(flows(text))
}

fn fixture(name: &str) -> Vec<Flow> {
    let path = format!("{}/tests/fixtures/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    flows(&text)
}

/// What becomes of two tables: the classes in words.
#[track_caller]
fn check(a: &str, b: &str, expected: &[(Danger, &str, &str, &str)]) {
    let (a, b) = (tables(a), tables(b));
    let question = Question { a: &a, b: &b, profiles: &Profile::ALL };
    let mut found = find(&question);
    assert!(found.is_known());
    let told = tell(&question, &mut found, Bounds { classes: 9, boxes: 9 }).unwrap();
    let mut got = Vec::new();
    for class in &told {
        let boxes: Vec<String> = class.boxes.iter().map(|(items, _)| items.join(", ")).collect();
        assert!(class.boxes.iter().all(|(_, example)| example.is_some()), "{class:?}");
        got.push((class.danger, class.sides[0].join("; "), class.sides[1].join("; "), boxes.join(" | ")));
    }
    let got: Vec<_> = got.iter().map(|(d, a, b, p)| (*d, a.as_str(), b.as_str(), p.as_str())).collect();
    assert_eq!(got, expected);
}

/// By hand: what each table does is read off its flows.
#[test]
fn a_difference_is_the_packets_that_it_is_about_in_the_words_of_operators() {
    use Danger::{Delivered, Dropped, Rewritten, Tracked};
    let drop = "drop";
    check("in_port=1 actions=2", "in_port=1 actions=2\nin_port=1,tcp,tp_dst=22 actions=2", &[]);
    check(
        "priority=1 actions=drop",
        "priority=5,tcp,nw_src=10.0.0.0/8,tp_dst=22 actions=7\npriority=1 actions=drop",
        &[(Delivered, drop, "output:7", "in_port≠7, tcp, nw_src=10.0.0.0/8, tp_dst=22, whole")],
    );
    check(
        "udp,in_port=3,tp_dst=0x10/0xfff0 actions=2",
        "udp,in_port=3,tp_dst=16 actions=2",
        &[(Dropped, "output:2", drop, "in_port=3, udp, tp_dst=17-31, whole")],
    );
    check(
        "arp,in_port=3 actions=2",
        "arp,in_port=3 actions=mod_vlan_vid:9,output:2",
        &[(Rewritten, "output:2", "output:2 with VLAN 9", "in_port=3, arp, not dl_vlan=9")],
    );
    check(
        "ip,in_port=3 actions=ct(commit,zone=4),output:2",
        "ip,in_port=3 actions=ct(commit,zone=5),output:2",
        &[(Tracked, "output:2; ct(commit,zone=4)", "output:2; ct(commit,zone=5)", "in_port=3, ip")],
    );
    check(
        "ip,in_port=3 actions=ct(table=1)\ntable=1,ct_state=+est+trk,ip actions=2",
        "ip,in_port=3 actions=ct(table=1)\ntable=1,ct_state=+est-rpl+trk,ip actions=2",
        &[(Dropped, "output:2; ct(zone=0)", "drop; ct(zone=0)", "in_port=3, ip, ct_state=+est+rpl")],
    );
}

/// A change that does nothing: what is set is so already, what is cut off was shadowed.
#[test]
fn other_flows_that_do_the_same_are_the_same() {
    check("dl_vlan=5,in_port=1 actions=2", "dl_vlan=5,in_port=1 actions=mod_vlan_vid:5,output:2", &[]);
    check("in_port=1 actions=IN_PORT", "in_port=1 actions=load:0->NXM_OF_IN_PORT[],output:1", &[]);
    check("in_port=1 actions=1", "in_port=1 actions=drop", &[]);
    check(
        "ip,nw_src=10.0.0.0/25 actions=1\nip,nw_src=10.0.0.128/25 actions=1",
        "ip,nw_src=10.0.0.0/24 actions=1",
        &[],
    );
    check(
        "ip actions=ct(commit,zone=1)",
        "ip actions=load:1->NXM_NX_REG0[],ct(commit,zone=NXM_NX_REG0[0..15])",
        &[],
    );
}

#[test]
fn what_a_match_that_is_not_modelled_hides_is_not_known() {
    let (a, b) = (tables("tun_metadata0=1 actions=drop\nin_port=1 actions=2"), tables("in_port=1 actions=2"));
    let found = find(&Question { a: &a, b: &b, profiles: ONE });
    assert!(!found.is_known() && !found.is_same(), "{found:?}");
    assert!(same(&Question { a: &a, b: &a, profiles: ONE }));
}

/// All packets that differ, as a set.
fn all(found: &mut Found) -> Bdd {
    let classes: Vec<Bdd> = found.classes.iter().map(|class| class.packets).collect();
    classes.into_iter().fold(found.rest, |sum, set| found.sets.or(sum, set))
}

/// What connection tracking may answer, however deep a table asks: some tables ask less often than others.
fn legal(sets: &mut Bdds) -> Bdd {
    let mut all = sets.none();
    for (form, arrival) in Form::ALL.into_iter().flat_map(|form| Arrival::ANY.map(|one| (form, one))) {
        let here = sets.cube(&combination(form, Profile::Kernel, arrival));
        let legal = (0..8).fold(here, |legal, depth| {
            let answers = legal_answers(sets, Profile::Kernel, form, depth);
            sets.and(legal, answers)
        });
        all = sets.or(all, legal);
    }
    all
}

/// The packets that differ, and those of which nothing is known.
fn differing(a: &Tables, b: &Tables, by: fn(&Question<'_>) -> Found, sets: &mut Bdds) -> (Bdd, Bdd) {
    let mut found = by(&Question { a, b, profiles: ONE });
    assert!(found.complete);
    let packets = all(&mut found);
    let legal = legal(sets);
    let mut copy = |set| {
        let copied = sets.copy(&found.sets, set);
        sets.and(copied, legal)
    };
    (copy(packets), copy(found.unknown))
}

/// Small tables, and the same with a flow missing.
fn family(rng: &mut Rng) -> [Tables; 3] {
    let bytes: Vec<u8> =
        bytes_of(rng.number(), rng.number()).into_iter().chain(bytes_of(rng.number(), 1)).collect();
    let text = random_flows::text(&mut Choices::of(&bytes), Spice::default());
    let lines: Vec<&str> = text.lines().collect();
    let without = |at: usize| -> String {
        lines
            .iter()
            .enumerate()
            .filter(|(number, _)| *number != at)
            .map(|(_, line)| format!("{line}\n"))
            .collect()
    };
    [tables(&text), tables(&without(rng.below(lines.len()))), tables(&without(rng.below(lines.len())))]
}

/// Symmetric, and what tells a from c tells a from b or b from c; looked for only among packets that may differ as if
/// they were looked for among all.
#[test]
fn differences_are_those_of_an_equivalence_and_cutting_loses_none() {
    let mut rng = Rng::new(11);
    let mut differ = 0;
    for round in 0..12 {
        let [a, b, c] = family(&mut rng);
        let sets = &mut Bdds::with_limit(4_000_000);
        let (ab, _) = differing(&a, &b, find, sets);
        assert_eq!(ab, differing(&b, &a, find, sets).0, "{round}");
        let mut through = sets.none();
        for (x, y) in [(&a, &c), (&c, &b)] {
            let (differ, unknown) = differing(x, y, find, sets);
            through = sets.or(through, differ);
            through = sets.or(through, unknown);
        }
        assert!(sets.minus(ab, through) == sets.none(), "{round}");
        assert_eq!(ab, differing(&a, &b, find_slowly, sets).0, "{round}");
        assert!(differing(&a, &a, find_slowly, sets).0 == sets.none(), "{round}");
        differ += usize::from(ab != sets.none());
    }
    assert!(differ > 1, "{differ} of 12 differ");
}

#[test]
fn random_packets_that_differ_lie_in_one_class_and_no_others_do() {
    for number in 0..12 {
        let bytes: Vec<u8> = (0..3).flat_map(|part| bytes_of(part + 5, number)).collect();
        let verdict = oracles::diff(&bytes);
        assert!(verdict.is_ok(), "{number}: {verdict:?}");
    }
}

/// Genuine flows with one of them missing, or without its actions.
#[test]
fn changes_of_genuine_flows_are_told_as_packets_see_them() {
    let mut rng = Rng::new(3);
    let mut differ = 0;
    for name in ["29.0.0/07_icmp_type_code.flows", "8.1.0/01_seed_scenario.flows"] {
        let flows = fixture(name);
        for _ in 0..5 {
            let mut changed = flows.clone();
            let at = rng.below(changed.len());
            if rng.chance(50) {
                changed.remove(at);
            } else {
                changed[at].actions = Vec::new();
            }
            let profile = Profile::ALL[rng.below(3)];
            let mut pair = DifferencePair::new(Tables::new(flows.clone()), Tables::new(changed), profile);
            let bytes: Vec<u8> = (0..3).flat_map(|part| bytes_of(part, rng.number())).collect();
            pair.try_packets(&mut Choices::of(&bytes), 6).unwrap_or_else(|why| panic!("{name}, {at}: {why}"));
            differ += usize::from(pair.found().differs());
        }
    }
    assert!(differ >= 4, "{differ}");
}
