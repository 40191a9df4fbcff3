//! What tables leave in connection tracking: genuine ones, ours, and what becomes of connections that rules admitted
//! once.

use super::support::{Case, bind, corpus, flows, lines, policy};
use flowproof_compiler::{Layout, Options, compile, text};
use flowproof_packet::{Field, wire};
use flowproof_proofs::{
    check::{Judgement, Witness},
    intent::{COMMIT, DELIVERY, IntentFinding, MARK},
    properties::Property,
    replay::Replay,
};
use flowproof_switch::conntrack::Profile;

const WITH_RULES: [&str; 6] = [
    "01_seed_scenario",
    "04_dual_stack",
    "08_icmpv6",
    "14_allowed_pairs_ip",
    "18_remote_group_3",
    "32_local_talk",
];
const REASSEMBLING: [Profile; 2] = [Profile::Kernel, Profile::Kernel2016];

#[track_caller]
fn check_proved(case: &Case, properties: &[&'static Property], profiles: &[Profile]) {
    let found = lines(case, &case.judge(properties, profiles));
    let wrong: Vec<&String> = found.iter().filter(|line| !line.ends_with(" proved")).collect();
    assert!(wrong.is_empty() && !found.is_empty(), "{wrong:#?}");
}

fn refutations(found: &[IntentFinding]) -> Vec<&Replay> {
    found
        .iter()
        .filter_map(|of| match &of.finding.judgement {
            Judgement::Refuted(replay) => Some(&**replay),
            _ => None,
        })
        .collect()
}

#[test]
fn drivers_commit_what_they_deliver_and_nothing_else() {
    for release in ["8.1.0", "29.0.0"] {
        for name in WITH_RULES {
            let path = format!("{}/tests/fixtures/corpus/{release}/{name}.flows", env!("CARGO_MANIFEST_DIR"));
            if std::path::Path::new(&path).exists() {
                check_proved(&corpus(release, name), &[&COMMIT, &DELIVERY], &Profile::ALL);
            }
        }
    }
}

#[test]
fn drivers_mark_what_no_rule_admits_any_more() {
    for name in WITH_RULES {
        check_proved(&corpus("29.0.0", name), &[&MARK], &REASSEMBLING);
    }
}

/// A fragment shows no ports, and so meets no rule with ports.
#[test]
fn drivers_mark_connections_for_their_fragments_in_userspace() {
    let case = corpus("29.0.0", "04_dual_stack");
    let found = case.judge(&[&MARK], &[Profile::Userspace31]);
    let refuted = refutations(&found);
    assert!(!refuted.is_empty(), "{:#?}", lines(&case, &found));
    for replay in refuted {
        assert!(replay.events.len() - replay.prelude > 1 && replay.earlier.is_none());
    }
}

/// LP 1626010: a frame for a MAC of another network is committed, and handed to that network's port.
#[test]
fn mitaka_commits_what_it_hands_to_another_network() {
    let case = corpus("8.1.0", "29_three_networks_overlap");
    let found = case.judge(&[&COMMIT], &[Profile::Kernel]);
    let refuted = refutations(&found);
    assert!(!refuted.is_empty(), "{:#?}", lines(&case, &found));
    for replay in refuted {
        let receiver = wire::extract(&replay.datagram, 0).get(Field::DlDst);
        assert!(
            case.host
                .ports
                .iter()
                .any(|port| port.macs.iter().any(|mac| u128::from(mac.to_bits()) == receiver))
        );
    }
}

/// What shows that a connection is marked is one that was admitted before the rules were what they are.
#[test]
fn a_witness_of_a_mark_begins_under_earlier_rules() {
    let case = corpus("29.0.0", "01_seed_scenario");
    let found = case.judge(&[&MARK], &[Profile::Kernel]);
    let earlier = found.iter().filter(|of| {
        matches!(&of.finding.judgement,
            Judgement::Proved(Witness::Escapes(replay)) if replay.earlier.is_some() && of.says.as_deref().is_some_and(|says| says.contains("mark=1")))
    });
    assert!(earlier.count() > 0, "{found:#?}");
}

/// Our own layout revokes at once: nothing is marked there, and connections end all the same.
#[test]
fn strict_commits_what_it_delivers_and_marks_nothing() {
    for name in ["01_seed_scenario", "08_icmpv6", "18_remote_group_3", "23_remote_address_groups"] {
        let policy = policy(name);
        let compiled = compile(&policy, &policy.host.clone().unwrap(), Layout::Strict, &Options::default());
        let case = bind(policy, flows(&text(&compiled, false)));
        check_proved(&case, &[&COMMIT, &DELIVERY, &MARK], &Profile::ALL);
    }
}
