//! Planted defects: tables with a known fault, and what catches them.
//!
//! `zoo.txt` has those that were really made, each with what must notice it; [`operators`] has operators that know no
//! defect. `make scoreboard` tries everything on all of them and writes `docs/scoreboard.md`.

mod agreement;
mod bases;
mod fuzzing;
mod judge;
mod operators;
mod same;
mod scoreboard;
mod zoo;

use agreement::Judge;
use bases::Base;
use flowproof_proofs::since::Since;
use flowproof_switch::conntrack::Profile;
use judge::{Question, Subject, Verdicts, agreed, lost, of_base, verdicts};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use zoo::{By, Mutant, mutants};

/// Conversations for each base: a few hundred packets.
const CONVERSATIONS: usize = 1000;

/// Verdicts on tables as they were, by base, property, port and datapath.
type Known = Mutex<BTreeMap<(Base, String, u16, &'static str), Verdicts>>;

/// What is wrong with a mutant's being caught, if anything.
fn escapes(mutant: &Mutant, judges: &BTreeMap<Base, Judge>, known: &Known) -> Option<String> {
    let name = &mutant.name;
    let text = match mutant.planted(&mutant.base.text()) {
        Ok(text) => text,
        Err(why) => return Some(format!("{name}: {why}")),
    };
    match &mutant.by {
        By::Agreement => {
            let judge = &judges[&mutant.base];
            let why = || format!("{name}: {} packets show no difference", judge.packets());
            let mutant = mutant.clone();
            judge.diverges(move |text| mutant.planted(text).ok()).is_none().then(why)
        }
        By::Proof(property_name, port, profile) => {
            let property = Some(property_name.clone());
            let question = Question { ports: vec![*port], property, profiles: vec![*profile] };
            let place = (mutant.base, property_name.clone(), *port, profile.name());
            let before = known.lock().unwrap().get(&place).cloned();
            let before = before.unwrap_or_else(|| of_base(mutant.base, &question));
            known.lock().unwrap().insert(place, before.clone());
            let after = verdicts(&mutant.base.case(&text), &question);
            let refuted = lost(&before, &after).iter().any(|(_, verdict)| *verdict == "refuted");
            (!refuted).then(|| format!("{name}: {before:?} becomes {after:?}"))
        }
    }
}

/// A flow of a base that becomes another one, and the property that notices because of what packets did before: they opened
/// a connection that an error reports about, or have a wrong checksum.
const SHOWN_BY_HISTORY: &[(&str, &str, &str, &str)] = &[
    (
        "mitaka small",
        "table=72, priority=50,ct_state=-new-est+rel-inv,ct_zone=1,ct_mark=0,reg5=0xd actions=NORMAL",
        "table=72, priority=50,ct_state=-new-est+rel-inv,ct_zone=1,ct_mark=0,reg5=0xd actions=drop",
        "intent-complete",
    ),
    (
        "neutron small",
        "table=82, priority=77,ct_state=+new-est,icmp,",
        "table=82, priority=77,icmp,",
        "intent-sound",
    ),
    (
        "strict small",
        "table=82, priority=70,ct_state=+rel-rpl-inv+trk,ct_nw_proto=6,ct_tp_dst=443,ip,reg5=0xd",
        "table=82, priority=70,ct_state=+rel-rpl-inv+trk,ct_tp_dst=443,ip,reg5=0xd",
        "intent-sound",
    ),
    (
        "strict small",
        "table=72, priority=70,ct_state=+rel+rpl-inv+trk,ct_nw_src=10.0.1.5,ip,reg6=0x1",
        "table=72, priority=70,ct_state=+rel+rpl-inv+trk,ip,reg6=0x1",
        "intent-sound",
    ),
];

#[test]
fn what_depends_on_what_was_sent_before_is_shown_with_it() {
    let mut missed = Vec::new();
    for (name, from, to, property) in SHOWN_BY_HISTORY {
        let base = bases::named(name).unwrap();
        let text = base.text();
        assert_eq!(text.matches(from).count(), 1, "{name}: {from}\n{text}");
        let (before, after) = (base.case(&text), base.case(&text.replace(from, to)));
        let since = Since::new(after.host, before.host.tables, &[Profile::Kernel]);
        let property = Some((*property).to_owned());
        let question = Question { ports: vec![13], property, profiles: vec![Profile::Kernel] };
        let verdicts = agreed(Subject::changed(&since, &after.site), &question);
        let refuted = verdicts.values().any(|verdict| *verdict == "refuted");
        missed.extend((!refuted).then(|| format!("{name}: {from}: {verdicts:?}")));
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn every_known_defect_is_caught_by_what_it_names() {
    let all = mutants();
    assert!(all.len() >= 40, "{}", all.len());
    let bases: BTreeSet<Base> =
        all.iter().filter(|one| one.by == By::Agreement).map(|one| one.base).collect();
    let judges: BTreeMap<Base, Judge> =
        bases.into_iter().map(|base| (base, Judge::new(base, CONVERSATIONS, 1))).collect();
    let known = Known::default();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut escaped = Vec::new();
        while let Some(mutant) = all.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            escaped.extend(escapes(mutant, &judges, &known));
        }
        escaped
    };
    let escaped: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(escaped.is_empty(), "{escaped:#?}");
}
