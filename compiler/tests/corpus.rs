//! The layouts against what the drivers of those releases wrote: the same flows, case by case.
//!
//! Every case of the fixtures is compared. `FLOWPROOF_CORPUS=DIR` compares the cases of another directory with the
//! same arrangement (`RELEASE/CASE.flows`, `intents/CASE.json`).

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

use flowproof_compiler::{Layout, Options, compile};
use flowproof_model::policy::Policy;
use flowproof_switch::flow::ast::SetForm;
use flowproof_switch::flow::{Action, Flow, FlowFlags, ParseOptions, Span, parse_flows};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::{env, fs};

fn directory() -> PathBuf {
    let fixtures = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures"));
    env::var_os("FLOWPROOF_CORPUS").map_or_else(fixtures, PathBuf::from)
}

/// Where the cases of a release are, and where their intents.
fn places(release: &str) -> (PathBuf, PathBuf) {
    let root = directory();
    let corpus = root.join("corpus");
    let flows = if corpus.is_dir() { corpus.join(release) } else { root.join(release) };
    (flows, root.join("intents"))
}

/// A flow without what is not the layout's: cookie, place, timeouts of zero that were written out, spelling.
fn bare(flow: &Flow) -> Flow {
    let mut bare = Flow { cookie: 0, span: Span::default(), flags: FlowFlags::default(), ..flow.clone() };
    let plain = |action: &mut Action| {
        if let Action::Set { form, .. } = action {
            *form = SetForm::SetField;
        }
    };
    for action in &mut bare.actions {
        plain(action);
        if let Action::Ct(ct) = action {
            ct.exec.iter_mut().for_each(plain);
        }
    }
    bare.actions.sort_by_key(|action| match action {
        Action::Conjunction(conjunction) => conjunction.id,
        _ => 0,
    });
    bare
}

fn read(text: &str) -> Vec<Flow> {
    let file = parse_flows(text, &ParseOptions::default()).unwrap_or_else(|errors| panic!("{errors}"));
    file.flows.iter().map(bare).collect()
}

/// What tells conjunctions apart besides their numbers: the flows they occur in, with the colours of the others.
fn recolour(flows: &[Flow], colours: &BTreeMap<u32, u64>) -> BTreeMap<u32, u64> {
    let hash = |value: &dyn Fn(&mut DefaultHasher)| {
        let mut hasher = DefaultHasher::new();
        value(&mut hasher);
        hasher.finish()
    };
    let mut seen: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for flow in flows {
        for id in ids(flow) {
            let coloured = renumbered(flow, &|other| {
                let own = u32::from(other == id);
                (colours[&other] as u32) & !1 | own
            });
            seen.entry(id).or_default().push(hash(&|hasher| coloured.to_string().hash(hasher)));
        }
    }
    seen.into_iter()
        .map(|(id, mut places)| {
            places.sort_unstable();
            (id, hash(&|hasher| (colours[&id], &places).hash(hasher)))
        })
        .collect()
}

/// The conjunctions that a flow names, in its match, its actions and the register they are loaded into.
fn ids(flow: &Flow) -> BTreeSet<u32> {
    use flowproof_packet::Field;
    let matched = flow.matching.exact(Field::ConjId).filter(|id| *id != 0).map(|id| id as u32);
    let acted = flow.actions.iter().filter_map(|action| match action {
        Action::Conjunction(conjunction) => Some(conjunction.id),
        Action::Set { field: Field::Reg7, value, .. } => Some(*value as u32),
        _ => None,
    });
    matched.into_iter().chain(acted).collect()
}

fn renumbered(flow: &Flow, number: &dyn Fn(u32) -> u32) -> Flow {
    use flowproof_packet::Field;
    let mut flow = flow.clone();
    if let Some(id) = flow.matching.exact(Field::ConjId).filter(|id| *id != 0) {
        flow.matching.set(Field::ConjId, number(id as u32).into(), u128::MAX);
    }
    for action in &mut flow.actions {
        match action {
            Action::Conjunction(conjunction) => conjunction.id = number(conjunction.id),
            Action::Set { field: Field::Reg7, value, .. } => *value = number(*value as u32).into(),
            _ => {}
        }
    }
    bare(&flow)
}

/// The flows with their conjunctions numbered by what they are, so that two numberings of the same flows are equal.
fn canonical(flows: &[Flow]) -> BTreeSet<String> {
    let (with, without): (Vec<_>, Vec<_>) = flows.iter().cloned().partition(|flow| !ids(flow).is_empty());
    let mut colours: BTreeMap<u32, u64> = with.iter().flat_map(ids).map(|id| (id, 0)).collect();
    loop {
        let count = |colours: &BTreeMap<u32, u64>| colours.values().collect::<BTreeSet<_>>().len();
        let finer = recolour(&with, &colours);
        if count(&finer) > count(&colours) {
            colours = finer;
            continue;
        }
        // Twins that nothing tells apart: either may be first.
        let mut seen = BTreeSet::new();
        let Some(twin) = finer.iter().find(|(_, colour)| !seen.insert(**colour)).map(|(id, _)| *id) else {
            colours = finer;
            break;
        };
        colours.entry(twin).and_modify(|colour| *colour ^= 0x5555_5555_5555);
    }
    let order: BTreeSet<u64> = colours.values().copied().collect();
    let place = |id| order.range(..colours[&id]).count() as u32 + 1;
    let numbered = with.iter().map(|flow| renumbered(flow, &place));
    numbered.chain(without).map(|flow| flow.to_string()).collect()
}

/// A way in which a case's flows are not those of its intent, and why.
struct Difference {
    release: &'static str,
    case: &'static str,
    #[expect(dead_code, reason = "for readers")]
    why: &'static str,
    /// Whether a flow that only one side has is explained by it.
    explains: fn(&Flow) -> bool,
    /// How many flows it explains.
    flows: usize,
}

/// All of them lie in how the cases were made, none in what the drivers make of an intent.
const DIFFERENCES: &[Difference] = &[
    Difference {
        release: "8.1.0",
        case: "29_three_networks_overlap",
        why: "an uplink to `physnet1` was given the flat network of `physnet2` too",
        explains: |flow| {
            flow.to_string() == "priority=3,in_port=1,vlan_tci=0x0000 actions=mod_vlan_vid:3,NORMAL"
        },
        flows: 1,
    },
    Difference {
        release: "29.0.0",
        case: "29_three_networks_overlap",
        why: "an uplink to `physnet1` was given the flat network of `physnet2` too",
        explains: |flow| {
            flow.to_string().starts_with("priority=3,in_port=1,vlan_tci=0x0000/0x1fff actions=push_vlan")
        },
        flows: 1,
    },
    Difference {
        release: "8.1.0",
        case: "33_remove_ports",
        why: "the members of the group were not updated when the port with 10.0.1.6 was removed",
        explains: |flow| flow.table == 82 && flow.to_string().contains("nw_src=10.0.1.6 "),
        flows: 4,
    },
    Difference {
        release: "29.0.0",
        case: "33_remove_ports",
        why: "the members of the group were not updated when the port with 10.0.1.6 was removed",
        explains: |flow| flow.table == 82 && flow.to_string().contains("nw_src=10.0.1.6 "),
        flows: 2,
    },
    Difference {
        release: "29.0.0",
        case: "35_explicitly_egress_direct",
        why: "the agent's VLANs were not provisioned",
        explains: |flow| flow.table == 0 && matches!(flow.priority, 2 | 3),
        flows: 2,
    },
];

fn intent(path: PathBuf) -> Policy {
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Policy::from_json(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[track_caller]
fn check(release: &str, case: &str, layout: Layout, written: &str) {
    let (_, intents) = places(release);
    let policy = intent(intents.join(format!("{case}.json")));
    let compiled = compile(&policy, policy.host.as_ref().unwrap(), layout, &Options::default());
    let mut expected = read(written);
    let mut ours: Vec<_> = compiled.flows.iter().map(|one| bare(&one.flow)).collect();
    let sets = [&expected, &ours].map(|flows| flows.iter().map(ToString::to_string).collect::<BTreeSet<_>>());
    let known = DIFFERENCES.iter().filter(|known| (known.release, known.case) == (release, case));
    for difference in known {
        let in_one = |flow: &Flow| sets.iter().filter(|set| set.contains(&flow.to_string())).count() == 1;
        let explained = |flow: &Flow| (difference.explains)(flow) && in_one(flow);
        let before = expected.len() + ours.len();
        expected.retain(|flow| !explained(flow));
        ours.retain(|flow| !explained(flow));
        assert_eq!(before - expected.len() - ours.len(), difference.flows, "{release} {case}");
    }
    let (expected, ours) = (canonical(&expected), canonical(&ours));
    let missing: Vec<_> = expected.difference(&ours).collect();
    let extra: Vec<_> = ours.difference(&expected).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "{release} {case}: missing {missing:#?}, extra {extra:#?}"
    );
}

/// All cases of a release; at least `least`, so that an empty directory is no success.
fn every_case(release: &str, layout: Layout, least: usize) {
    let (flows, _) = places(release);
    let mut cases: Vec<_> = fs::read_dir(flows).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "flows"));
    assert!(cases.len() >= least, "{} cases of {release}", cases.len());
    for path in cases {
        let case = path.file_stem().unwrap().to_str().unwrap();
        check(release, case, layout, &fs::read_to_string(&path).unwrap());
    }
}

#[test]
fn the_mitaka_layout_is_what_neutron_8_1_0_wrote() {
    every_case("8.1.0", Layout::Mitaka, 20);
}

#[test]
fn the_neutron_layout_is_what_neutron_29_0_0_writes() {
    every_case("29.0.0", Layout::Neutron, 30);
}

#[test]
fn the_mitaka_layout_is_what_the_host_of_2016_had() {
    let dump = include_str!("../../examples/mitaka-2016/flows.txt");
    assert_eq!(read(dump).len(), 110);
    check("8.1.0", "01_seed_scenario", Layout::Mitaka, dump);
}

#[test]
fn a_numbering_of_conjunctions_is_no_difference_but_a_confusion_of_two_is() {
    let flows = |a: u32, b: u32, c: u32| {
        read(&format!(
            "table=82,priority=70,ip,reg6=1,nw_src=10.0.0.1 actions=conjunction({a},1/2),conjunction({b},1/2)\n\
             table=82,priority=70,ip,reg6=1,nw_src=10.0.0.2 actions=conjunction({b},1/2)\n\
             table=82,priority=70,ip,reg5=5 actions=conjunction({c},2/2)\n\
             table=82,priority=70,ip,reg5=6 actions=conjunction({b},2/2)\n"
        ))
    };
    assert_eq!(canonical(&flows(16, 24, 16)), canonical(&flows(40, 32, 40)));
    assert_ne!(canonical(&flows(16, 24, 16)), canonical(&flows(16, 24, 24)));
}
