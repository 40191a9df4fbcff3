//! The scoreboard: every mutant against everything that may catch it, as a document.

use super::agreement::Judge;
use super::bases::{self, Base, Case};
use super::fuzzing;
use super::judge::{Question, Theorem, Verdicts, agreed, hygiene, isolated, lost, sent, unclean};
use super::operators::mutations;
use super::same::deeds;
use super::zoo::mutants;
use flowproof_proofs::bdd::Bdds;
use flowproof_switch::conntrack::Profile;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Where frames come in on every base.
const ENTRANCES: [u16; 4] = [1, 10, 13, 15];
const PORTS: [u16; 3] = [10, 13, 15];
/// Sections D, B and A, the quickest first.
const SECTIONS: [fn(&Case, &Question) -> Verdicts; 3] = [agreed, isolated, sent];
/// Conversations for each base.
const CONVERSATIONS: usize = 1000;
const NODES: usize = 16_000_000;
/// How long fuzzing may look for each mutant.
const FUZZED: Duration = Duration::from_secs(20);

/// What became of one mutant.
#[derive(Debug, Default)]
struct Row {
    group: String,
    what: String,
    origin: String,
    proof: BTreeSet<&'static str>,
    unknown: BTreeSet<&'static str>,
    hygiene: Vec<&'static str>,
    agreement: Option<(String, Duration)>,
    fuzzing: Option<Duration>,
    same: bool,
}

impl Row {
    /// Whether neither proof nor packets notice it, though it does something else.
    fn is_overlooked(&self) -> bool {
        !self.same && self.proof.is_empty() && self.agreement.is_none() && self.fuzzing.is_none()
    }

    fn is_caught(&self) -> bool {
        !self.proof.is_empty()
            || self.agreement.is_some()
            || self.fuzzing.is_some()
            || !self.hygiene.is_empty()
    }
}

/// Everything that a base's mutants are held against.
struct Arena {
    base: Base,
    text: String,
    question: Question,
    before: RefCell<BTreeMap<(usize, &'static str), Verdicts>>,
    clean: BTreeMap<&'static str, usize>,
    agreement: Judge,
}

impl Arena {
    fn new(base: Base, conversations: usize, ports: &[u16]) -> Self {
        let text = base.text();
        let question = Question { ports: ports.to_vec(), property: None, profiles: Profile::ALL.to_vec() };
        let (before, clean) = (RefCell::default(), hygiene(&text));
        Self { base, text, question, before, clean, agreement: Judge::new(base, conversations, 7) }
    }

    /// One datapath and one section after the other, until a theorem is refuted.
    fn proved(&self, text: &str) -> Vec<(Theorem, &'static str)> {
        let case = self.base.case(text);
        let mut weaker = Vec::new();
        for profile in [Profile::Kernel, Profile::Userspace31, Profile::Kernel2016] {
            let question = Question { profiles: vec![profile], ..self.question.clone() };
            for (number, section) in SECTIONS.iter().enumerate() {
                let mut known = self.before.borrow_mut();
                let before = known
                    .entry((number, profile.name()))
                    .or_insert_with(|| section(&self.base.case(&self.text), &question));
                let lost = lost(before, &section(&case, &question));
                if lost.iter().any(|(_, verdict)| *verdict == "refuted") {
                    return lost;
                }
                weaker.extend(lost);
            }
        }
        weaker
    }

    /// What catches this change of the tables; what does the same is not asked about.
    fn row(
        &self,
        sets: &mut Bdds,
        about: Row,
        change: impl Fn(&str) -> Option<String> + Clone + Send + Sync + 'static,
    ) -> Row {
        let text = change(&self.text).unwrap();
        let before = deeds(sets, &self.base.case(&self.text), &ENTRANCES);
        if before.are(&deeds(sets, &self.base.case(&text), &ENTRANCES)) {
            return Row { same: true, ..about };
        }
        let lost = self.proved(&text);
        let of = |wanted: &str| -> BTreeSet<&'static str> {
            lost.iter().filter(|(_, verdict)| *verdict == wanted).map(|((name, ..), _)| *name).collect()
        };
        let hygiene = unclean(&self.clean, &hygiene(&text));
        let fuzzing = fuzzing::finds(self.base, FUZZED, change.clone());
        let started = Instant::now();
        let agreement = self.agreement.diverges(change).map(|packet| (packet, started.elapsed()));
        Row { proof: of("refuted"), unknown: of("unknown"), hygiene, agreement, fuzzing, ..about }
    }
}

/// Generic mutants to try of each base; all of them where nothing is said.
fn limit() -> usize {
    std::env::var("FLOWPROOF_SCOREBOARD").ok().and_then(|text| text.parse().ok()).unwrap_or(usize::MAX)
}

fn named() -> Vec<Row> {
    let (mut rows, all) = (Vec::new(), mutants());
    for base in all.iter().map(|mutant| mutant.base).collect::<BTreeSet<Base>>() {
        let arena = Arena::new(base, CONVERSATIONS, &PORTS);
        let mut sets = Bdds::with_limit(NODES);
        for mutant in all.iter().filter(|mutant| mutant.base == base).cloned() {
            let (what, origin) = (mutant.name.clone(), mutant.origin.clone());
            let about = Row { group: base.name(), what, origin, ..Row::default() };
            rows.push(arena.row(&mut sets, about, move |text| mutant.planted(text).ok()));
        }
        eprintln!("{}: {} mutants so far", base.name(), rows.len());
    }
    rows
}

/// Those that are tried, and how many there are.
fn generic() -> (Vec<Row>, usize) {
    let (mut rows, mut sum) = (Vec::new(), 0);
    for base in ["mitaka small", "neutron small", "strict small"].into_iter().filter_map(bases::named) {
        let arena = Arena::new(base, CONVERSATIONS, &[13]);
        let all = mutations(&arena.text, 13, &[10]);
        sum += all.len();
        // Evenly spread, so that a part of them is of every kind.
        let step = all.len().div_ceil(limit().min(all.len()));
        eprintln!("{}: {} of {} mutants", base.name(), all.len().div_ceil(step), all.len());
        for chunk in all.iter().step_by(step).collect::<Vec<_>>().chunks(40) {
            let mut sets = Bdds::with_limit(NODES);
            for one in chunk.iter().copied().cloned() {
                let group = format!("{}: {}", base.layout().name(), one.operator);
                let about = Row { group, what: one.what.clone(), ..Row::default() };
                rows.push(arena.row(&mut sets, about, move |text| one.of(text)));
            }
        }
    }
    (rows, sum)
}

fn yes(caught: bool) -> &'static str {
    if caught { "✓" } else { "–" }
}

fn list(names: &BTreeSet<&'static str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}

fn named_table(rows: &[Row]) -> String {
    let mut out =
        "| defect | origin | tables | refuted by proof | hygiene | agreement | fuzzing |\n|---|---|---|---|---|---|---|\n"
            .to_owned();
    for row in rows {
        let proof = match (row.proof.is_empty(), row.unknown.is_empty()) {
            (false, _) => list(&row.proof),
            (true, false) => format!("not proved any more: {}", list(&row.unknown)),
            (true, true) => "–".to_owned(),
        };
        let _infallible = writeln!(
            out,
            "| {} | {} | {} | {proof} | {} | {} | {} |",
            row.what,
            row.origin,
            row.group,
            if row.hygiene.is_empty() { "–".to_owned() } else { row.hygiene.join(", ") },
            yes(row.agreement.is_some()),
            row.fuzzing.map_or("–".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()))
        );
    }
    out
}

fn generic_table(rows: &[Row]) -> String {
    let mut groups: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        groups.entry(&row.group).or_default().push(row);
    }
    let mut out = "| operator | mutants | the same | others | by proof | not proved any more | by hygiene | by agreement | by fuzzing | by nothing |\n|---|---|---|---|---|---|---|---|---|---|\n".to_owned();
    let mut line = |name: &str, rows: &[&Row]| {
        let others: Vec<&&Row> = rows.iter().filter(|row| !row.same).collect();
        let count = |wanted: fn(&Row) -> bool| others.iter().filter(|row| wanted(row)).count();
        let _infallible = writeln!(
            out,
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            rows.len(),
            rows.len() - others.len(),
            others.len(),
            count(|row| !row.proof.is_empty()),
            count(|row| row.proof.is_empty() && !row.unknown.is_empty()),
            count(|row| !row.hygiene.is_empty()),
            count(|row| row.agreement.is_some()),
            count(|row| row.fuzzing.is_some()),
            count(|row| !row.is_caught() && row.unknown.is_empty()),
        );
    };
    for (name, rows) in &groups {
        line(name, rows);
    }
    line("all", &rows.iter().collect::<Vec<_>>());
    out
}

/// Generic mutants that do something else and that neither proof nor packets have noticed.
fn survivors(rows: &[Row]) -> String {
    let mut out = String::new();
    for row in rows.iter().filter(|row| row.is_overlooked()) {
        let more = match (row.unknown.is_empty(), row.hygiene.is_empty()) {
            (false, _) => format!(" (not proved any more: {})", list(&row.unknown)),
            (true, false) => format!(" (hygiene: {})", row.hygiene.join(", ")),
            (true, true) => String::new(),
        };
        let _infallible = writeln!(out, "- {}: `{}`{more}", row.group, row.what);
    }
    if out.is_empty() { "None.\n".to_owned() } else { out }
}

fn median(times: impl Iterator<Item = Duration>) -> f64 {
    let mut times: Vec<f64> = times.map(|time| time.as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

const PREFACE: &str = "# Planted defects and what catches them

Written by `make scoreboard`. Each mutant is a change of compiled tables; *proof* are the properties of what a VM
sends, of isolation and of agreement with the intent that held and are refuted, with a packet that replays (the first
ones found: the search ends there); *hygiene* is section E;
*agreement* is a thousand conversations between the ports of the policy, in model and interpreter. *The same* are
mutants that do nothing else than the tables they come from: by symbolic execution, the same packets leave by the same
ways and `ct()` does the same to the same packets, whatever connection tracking answers. *Fuzzing* are the random
scenarios of `flowproof explore` under the base's policy, on one processor for twenty seconds at most, with the time
until the first one that shows the defect (divergences that are known do not count).
";

fn document(named: &[Row], generic: &[Row], of: usize) -> String {
    let agreement = generic.iter().filter_map(|row| row.agreement.as_ref()).map(|(_, time)| *time);
    let fuzzing = generic.iter().filter_map(|row| row.fuzzing);
    format!(
        "{PREFACE}\n## Defects with a history\n\n{}\n## Operators\n\nOn the flows of one port, and on those of all ports: {} of {of} mutants, evenly spread.\n\n{}\nMedian time until a mutant is found, of those that are: by agreement {:.3} s, by fuzzing {:.3} s.\n\n## Survivors\n\nNeither proof nor packets notice these, though they do something else.\n\n{}",
        named_table(named),
        generic.len(),
        generic_table(generic),
        median(agreement),
        median(fuzzing),
        survivors(generic)
    )
}

fn path() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scoreboard.md")
}

/// `make scoreboard`; with FLOWPROOF_SCOREBOARD a number of generic mutants for each layout, or `all`.
#[test]
fn the_scoreboard_is_of_these_mutants() {
    if std::env::var_os("FLOWPROOF_SCOREBOARD").is_some() {
        let (named, (generic, of)) = (named(), generic());
        std::fs::write(path(), document(&named, &generic, of)).unwrap();
    }
    // It takes long to make: where nobody has made it there is nothing to compare.
    let Ok(text) = std::fs::read_to_string(path()) else { return };
    let all = mutants();
    let missing: Vec<&str> = all
        .iter()
        .map(|mutant| mutant.name.as_str())
        .filter(|name| !text.contains(&format!("| {name} |")))
        .collect();
    assert!(missing.is_empty(), "not on the scoreboard: {missing:#?}");
}
