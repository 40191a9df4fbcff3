//! The scoreboard: every mutant against everything that may catch it, as a document.

use super::agreement::Judge;
use super::bases::{self, Base, Case};
use super::fuzzing;
use super::judge::{Broken, Question, Subject, Verdicts, agreed, hygiene, isolated, sent, unclean};
use super::operators::{Mutation, mutations};
use super::same::{Excuse, Unlike, unlike};
use super::zoo::{By, Mutant, mutants};
use flowproof_proofs::since::Since;
use flowproof_switch::conntrack::Profile;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

const PORTS: [u16; 3] = [10, 13, 15];
/// Sections D, B and A, the quickest first.
const SECTIONS: [fn(Subject<'_>, &Question) -> Verdicts; 3] = [agreed, isolated, sent];
/// Conversations for each base.
const CONVERSATIONS: usize = 1000;
/// Seconds of a processor's time that fuzzing may take for each mutant, unless FLOWPROOF_SCOREBOARD_FUZZ says otherwise.
const FUZZED: u64 = 60;
/// Mutants that are judged at once.
const AT_ONCE: usize = 2;

/// What became of one mutant.
#[derive(Debug, Default)]
struct Row {
    group: String,
    what: String,
    origin: String,
    proof: Broken,
    hygiene: Vec<&'static str>,
    agreement: Option<(String, Duration)>,
    fuzzing: Option<Duration>,
    same: bool,
    /// How the tables differ, in words.
    unlike: String,
    /// Why nobody has to object to that.
    excuse: Option<Excuse>,
    /// Whether judging it failed: a defect of ours.
    failed: bool,
}

impl Row {
    /// Whether somebody has to notice it: it does something else, that can be seen, to packets that somebody cares for.
    fn counts(&self) -> bool {
        !self.same && !self.failed && self.excused().is_none()
    }

    /// Whether sections A, B and D prove it, or section E that the winner of two flows is left open.
    fn is_proved(&self) -> bool {
        self.proof.is_shown() || self.hygiene.contains(&"deterministic")
    }

    /// Why nobody has to notice it, if nobody does.
    fn excused(&self) -> Option<Excuse> {
        let unnoticed = !self.proof.is_shown() && self.agreement.is_none() && self.fuzzing.is_none();
        self.excuse.filter(|_| unnoticed && self.proof.unknown.is_empty())
    }

    fn is_caught(&self) -> bool {
        self.proof.is_shown()
            || self.agreement.is_some()
            || self.fuzzing.is_some()
            || !self.hygiene.is_empty()
    }
}

/// Verdicts on tables as they were, by section and datapath.
type Before = BTreeMap<(usize, &'static str), Verdicts>;

/// Everything that a base's mutants are held against; made once.
struct Arena {
    base: Base,
    text: String,
    question: Question,
    before: Before,
    clean: BTreeMap<&'static str, usize>,
    agreement: Judge,
}

impl Arena {
    fn new(base: Base, conversations: usize, ports: &[u16]) -> Self {
        let text = base.text();
        let question = Question { ports: ports.to_vec(), property: None, profiles: Profile::ALL.to_vec() };
        let case = base.case(&text);
        let mut before = Before::new();
        for profile in Profile::ALL {
            let question = Question { profiles: vec![profile], ..question.clone() };
            for (number, section) in SECTIONS.iter().enumerate() {
                before.insert((number, profile.name()), section(Subject::of(&case), &question));
            }
        }
        let clean = hygiene(&text);
        Self { base, text, question, before, clean, agreement: Judge::new(base, conversations, 7) }
    }

    /// One datapath and one section after the other, until a packet shows that something is broken. Under a datapath where
    /// the tables do the same as before nothing is.
    fn proved(&self, case: Case, profiles: &[Profile]) -> Broken {
        let Case { host, site } = case;
        let since = Since::new(host, self.base.case(&self.text).host.tables, profiles);
        let mut broken = Broken::default();
        for profile in [Profile::Kernel, Profile::Userspace31, Profile::Kernel2016] {
            if !profiles.contains(&profile) {
                continue;
            }
            let question = Question { profiles: vec![profile], ..self.question.clone() };
            for (number, section) in SECTIONS.iter().enumerate() {
                let found = section(Subject::changed(&since, &site), &question);
                broken.add(&self.before[&(number, profile.name())], &found);
                if broken.is_shown() {
                    return broken;
                }
            }
        }
        broken
    }

    /// What catches this change of the tables; what does the same is not asked about.
    fn row(
        &self,
        about: Row,
        change: impl Fn(&str) -> Option<String> + Clone + Send + Sync + 'static,
    ) -> Row {
        let text = change(&self.text).unwrap();
        let case = self.base.case(&text);
        let unlike = unlike(&self.base.case(&self.text), &case);
        // `diff` does not compare how often something is done; proof does.
        let profiles = unlike.as_ref().map_or(Profile::ALL.to_vec(), |unlike| unlike.profiles.clone());
        let proof = self.proved(case, &profiles);
        let Some(Unlike { words, excuse, .. }) = unlike.or(proof.is_shown().then(Unlike::default)) else {
            return Row { same: true, ..about };
        };
        let hygiene = unclean(&self.clean, &hygiene(&text));
        let began = fuzzing::spent();
        let agreement =
            self.agreement.diverges(change.clone()).map(|packet| (packet, fuzzing::spent() - began));
        // Nothing is to be found where no packet can come.
        let hopeless = excuse == Some(Excuse::Unreachable) && !proof.is_shown() && agreement.is_none();
        let limit = Duration::from_secs(fuzzed());
        let fuzzing = if hopeless { None } else { fuzzing::finds(self.base, limit, change) };
        Row { proof, hygiene, agreement, fuzzing, unlike: words, excuse, ..about }
    }
}

/// All of them, some at once; in their order.
fn judged<T: Sync>(
    all: &[T],
    until: Option<Instant>,
    about: impl Fn(&T) -> Row + Sync,
    judge: impl Fn(&T) -> Row + Sync,
) -> Vec<Row> {
    let late = || until.is_some_and(|until| Instant::now() > until);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut rows = Vec::new();
        loop {
            let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(one) = all.get(at).filter(|_| !late()) else { return rows };
            let began = Instant::now();
            let row = catch_unwind(AssertUnwindSafe(|| judge(one)));
            let row = row.unwrap_or_else(|_| Row { failed: true, ..about(one) });
            eprintln!(
                "{at} of {}: {}, {}: {:.1} s",
                all.len(),
                row.group,
                row.what,
                began.elapsed().as_secs_f64()
            );
            rows.push((at, row));
        }
    };
    let mut rows: Vec<(usize, Row)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    rows.sort_by_key(|(at, _)| *at);
    rows.into_iter().map(|(_, row)| row).collect()
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn fuzzed() -> u64 {
    setting("FLOWPROOF_SCOREBOARD_FUZZ").unwrap_or(FUZZED)
}

/// Generic mutants to try of each base; all of them where nothing is said.
fn limit() -> usize {
    std::env::var("FLOWPROOF_SCOREBOARD").ok().and_then(|text| text.parse().ok()).unwrap_or(usize::MAX)
}

fn named() -> Vec<Row> {
    let (mut rows, all) = (Vec::new(), mutants());
    for base in all.iter().map(|mutant| mutant.base).collect::<BTreeSet<Base>>() {
        let arena = Arena::new(base, CONVERSATIONS, &PORTS);
        let these: Vec<_> = all.iter().filter(|mutant| mutant.base == base).collect();
        let about = |mutant: &&Mutant| {
            let (what, origin) = (mutant.name.clone(), mutant.origin.clone());
            Row { group: base.name(), what, origin, ..Row::default() }
        };
        rows.extend(judged(&these, None, about, |mutant| {
            let planted = (*mutant).clone();
            arena.row(about(mutant), move |text| planted.planted(text).ok())
        }));
    }
    rows
}

const fn coprime(a: usize, b: usize) -> bool {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}

/// Those that are tried, and how many there are.
fn generic() -> (Vec<Row>, usize) {
    let (mut rows, mut sum) = (Vec::new(), 0);
    let minutes = setting("FLOWPROOF_SCOREBOARD_MINUTES");
    for base in ["mitaka small", "neutron small", "strict small"].into_iter().filter_map(bases::named) {
        let arena = Arena::new(base, CONVERSATIONS, &[13]);
        let all = mutations(&arena.text, 13, &[10]);
        sum += all.len();
        // In an order of which every beginning is spread over all of them.
        let stride = (all.len() * 618 / 1000..).find(|stride| coprime(*stride, all.len())).unwrap();
        let spread = (0..all.len()).map(|at| &all[at * stride % all.len()]);
        let these: Vec<_> = spread.take(limit()).collect();
        let until = minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes) / 3);
        let about = |one: &&Mutation| {
            let group = format!("{}: {}", base.layout().name(), one.operator);
            Row { group, what: one.what.clone(), ..Row::default() }
        };
        rows.extend(judged(&these, until, about, |one| {
            let changed = (*one).clone();
            arena.row(about(one), move |text| changed.of(text))
        }));
    }
    (rows, sum)
}

fn yes(caught: bool) -> &'static str {
    if caught { "✓" } else { "–" }
}

fn list(names: &BTreeSet<&'static str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}

/// What proof says, in a few words.
fn shown(Broken { lost, worse, unknown }: &Broken) -> String {
    let parts = [("", lost), ("worse: ", worse), ("not known: ", unknown)];
    let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
    // What is not known matters where nothing is shown.
    let parts: Vec<String> = parts.map(|(what, names)| format!("{what}{}", list(names))).collect();
    parts.first().cloned().unwrap_or_else(|| "–".to_owned())
}

fn named_table(rows: &[Row]) -> String {
    let mut out =
        "| defect | origin | tables | refuted by proof | hygiene | agreement | fuzzing |\n|---|---|---|---|---|---|---|\n"
            .to_owned();
    for row in rows {
        let proof = shown(&row.proof);
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

/// A column of the table of operators: its name, and which mutants it counts.
type Column = (&'static str, fn(&Row) -> bool);

const COLUMNS: &[Column] = &[
    ("mutants", |_| true),
    ("the same", |row| row.same),
    ("excused", |row| row.excused().is_some()),
    ("others", Row::counts),
    ("lost", |row| !row.proof.lost.is_empty()),
    ("worse", |row| row.proof.lost.is_empty() && !row.proof.worse.is_empty()),
    ("not known", |row| !row.proof.is_shown() && !row.proof.unknown.is_empty()),
    ("hygiene", |row| row.counts() && !row.hygiene.is_empty()),
    ("agreement", |row| row.agreement.is_some()),
    ("fuzzing", |row| row.fuzzing.is_some()),
    ("nothing", |row| row.counts() && !row.is_caught() && row.proof.unknown.is_empty()),
];

fn generic_table(rows: &[Row]) -> String {
    let mut groups: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        groups.entry(&row.group).or_default().push(row);
    }
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    let mut out = format!("| operator | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    let mut line = |name: &str, rows: &[&Row]| {
        let count = |(_, wanted): &Column| rows.iter().filter(|row| wanted(row)).count();
        let counts: Vec<String> = COLUMNS.iter().map(|column| count(column).to_string()).collect();
        let _infallible = writeln!(out, "| {name} | {} |", counts.join(" | "));
    };
    for (name, rows) in &groups {
        line(name, rows);
    }
    line("all", &rows.iter().collect::<Vec<_>>());
    out
}

/// A mutant, and what `diff` says of it.
fn listed<'r>(rows: impl Iterator<Item = &'r Row>) -> String {
    let mut out = String::new();
    for row in rows {
        let mut notes = Vec::new();
        let noticed = [("agreement", row.agreement.is_some()), ("fuzzing", row.fuzzing.is_some())];
        notes.extend(noticed.iter().filter(|(_, by)| *by).map(|(name, _)| format!("noticed by {name}")));
        notes.extend((!row.hygiene.is_empty()).then(|| format!("hygiene: {}", row.hygiene.join(", "))));
        notes.extend(
            (!row.proof.unknown.is_empty()).then(|| format!("not known: {}", list(&row.proof.unknown))),
        );
        let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
        let _infallible = writeln!(out, "- {}: `{}`{notes}  \n  {}", row.group, row.what, row.unlike);
    }
    if out.is_empty() { "None.\n".to_owned() } else { out }
}

/// Generic mutants that do something else and that no proof has noticed.
fn survivors(rows: &[Row]) -> String {
    listed(rows.iter().filter(|row| row.counts() && !row.proof.is_shown()))
}

/// Those that nobody notices and nobody has to.
fn excused(rows: &[Row]) -> String {
    let of = |excuse: Excuse| {
        let these = rows.iter().filter(|row| row.excused() == Some(excuse));
        format!("{}:\n\n{}\n", excuse.words(), listed(these))
    };
    Excuse::ALL.into_iter().map(of).collect()
}

fn median(times: impl Iterator<Item = Duration>) -> f64 {
    let mut times: Vec<f64> = times.map(|time| time.as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Mutants that do the same as the tables they come from.
fn equivalent(rows: &[Row]) -> String {
    let lines = rows.iter().filter(|row| row.same).map(|row| format!("- {}: `{}`\n", row.group, row.what));
    let all: String = lines.collect();
    if all.is_empty() { "None.\n".to_owned() } else { all }
}

/// A share of the rows that somebody has to notice.
fn share(rows: &[Row], caught: fn(&Row) -> bool) -> String {
    let others: Vec<&Row> = rows.iter().filter(|row| row.counts()).collect();
    let count = others.iter().filter(|row| caught(row)).count();
    format!("{count} of {} ({:.1} %)", others.len(), 100.0 * count as f64 / others.len().max(1) as f64)
}

fn summary(named: &[Row], generic: &[Row]) -> String {
    let by_proof: fn(&Row) -> bool = |row| row.proof.is_shown();
    let by_fuzzing: fn(&Row) -> bool = |row| row.fuzzing.is_some();
    let by_agreement: fn(&Row) -> bool = |row| row.agreement.is_some();
    let line = |name: &str, rows: &[Row]| {
        let shares = [by_proof, Row::is_proved, by_agreement, by_fuzzing].map(|by| share(rows, by));
        format!("| {name} | {} |\n", shares.join(" | "))
    };
    format!(
        "| mutants that do something else | by proof | with section E | by agreement | by fuzzing |\n|---|---|---|---|---|\n{}{}",
        line("with a history", named),
        line("by operators", generic)
    )
}

const PREFACE: &str = "# Planted defects and what catches them

Written by `make scoreboard`. Each mutant is a change of compiled tables. *Proof* is what `flowproof prove --since` finds of
the change in the properties of what a VM sends, of isolation and of agreement with the intent, each with a packet that
replays and does not violate the property in the tables of before: properties that held there and are *lost*, and properties
that did not hold and are *worse*, because the packet is new (the first ones found: the search ends there); *not known* are
properties that held and of which neither is shown. *Hygiene* is section E; *with section E* counts, besides proof, flows
of one priority that contend for a packet: the diagram engine finds exactly those, and which of them wins is left open.
*Agreement* is a thousand conversations between the ports of the policy, in model and interpreter; *fuzzing* are the random
scenarios of `flowproof explore` under the base's policy, on each datapath and with either order of flows of one priority in
turn, for a bounded time of one processor, with the time until the first one that shows the defect (divergences that are
known do not count). *The same* are mutants that do the same to every
packet as the tables they come from, as `flowproof diff` says; *excused* are those that nobody notices and that `diff`
excuses, for a reason that is given below.
";

/// What is aimed at, and which of it this run did not reach.
fn aims(named: &[Row], generic: &[Row], of: usize) -> String {
    let short = |rows: &[Row], percent: usize, by: fn(&Row) -> bool| {
        let others: Vec<&Row> = rows.iter().filter(|row| row.counts()).collect();
        others.iter().filter(|row| by(row)).count() * 100 < others.len() * percent
    };
    let missed = [
        ("defects with a history by proof", short(named, 100, |row| row.proof.is_shown())),
        ("operators' mutants by proof", short(generic, 95, |row| row.proof.is_shown())),
        ("operators' mutants by fuzzing", short(generic, 85, |row| row.fuzzing.is_some())),
    ];
    let missed: Vec<&str> = missed.into_iter().filter(|(_, short)| *short).map(|(name, _)| name).collect();
    let missed = if missed.is_empty() { "nothing".to_owned() } else { missed.join(", ") };
    let failed = named.iter().chain(generic).filter(|row| row.failed).count();
    let failed = if failed == 0 {
        String::new()
    } else {
        format!(" Judging {failed} mutants failed, which is a defect of ours.")
    };
    format!(
        "Aimed at are every defect with a history and 95 % of the operators' mutants by proof, and 85 % of these by\nfuzzing within 60 seconds. **Missed by this run: {missed}.** It tried {} of {of} operators' mutants\nand let fuzzing look for {} seconds.{failed}\n",
        generic.len(),
        fuzzed()
    )
}

fn document(named: &[Row], generic: &[Row], of: usize) -> String {
    let agreement = generic.iter().filter_map(|row| row.agreement.as_ref()).map(|(_, time)| *time);
    let fuzzing = generic.iter().filter_map(|row| row.fuzzing);
    format!(
        "{PREFACE}\n{}\n{}\n## Defects with a history\n\n{}\n## Operators\n\nOn the flows of one port, and on those of all ports: {} of {of} mutants, evenly spread.\n\n{}\nMedian time until a mutant is found, of those that are: by agreement {:.3} s, by fuzzing {:.3} s.\n\n## Survivors\n\nNo proof notices these, though they do something else that nothing excuses; below each what `diff` says of it.\n\n{}\n## Excused\n\n{}## The same\n\nThese cannot be caught: `diff` says that they do the same to every packet.\n\n{}",
        aims(named, generic, of),
        summary(named, generic),
        named_table(named),
        generic.len(),
        generic_table(generic),
        median(agreement),
        median(fuzzing),
        survivors(generic),
        excused(generic),
        equivalent(generic)
    )
}

/// The cells of the table behind a heading, without its head.
fn cells<'t>(text: &'t str, heading: &str) -> Vec<Vec<&'t str>> {
    let (_, behind) = text.split_once(heading).unwrap_or_default();
    let lines =
        behind.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    lines.skip(2).map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// What a document says that is not so: of which mutants it is, what catches them, and its sums.
fn faults(text: &str, all: &[Mutant]) -> Vec<String> {
    let mut faults = Vec::new();
    let named = cells(text, "## Defects with a history");
    for mutant in all {
        let (name, tables) = (mutant.name.as_str(), mutant.base.name());
        match named.iter().find(|row| row.first() == Some(&name)).map(Vec::as_slice) {
            Some([_, origin, of, proof, ..]) if *origin == mutant.origin && *of == tables => {
                let shown = *proof != "–" && !proof.starts_with("not known");
                if matches!(mutant.by, By::Proof(..)) && !shown {
                    faults.push(format!("{name}: proof catches it"));
                }
            }
            _ => faults.push(format!("{name}: not as it is")),
        }
    }
    if named.len() != all.len() {
        faults.push(format!("{} defects instead of {}", named.len(), all.len()));
    }
    let numbers =
        |row: &[&str]| -> Vec<usize> { row.iter().skip(1).filter_map(|cell| cell.parse().ok()).collect() };
    let operators = cells(text, "## Operators");
    if let Some((sums, rows)) = operators.split_last() {
        let mut added = vec![0; COLUMNS.len()];
        for row in rows {
            added.iter_mut().zip(numbers(row)).for_each(|(sum, number)| *sum += number);
        }
        if added != numbers(sums) {
            faults.push(format!("the operators add up to {added:?}"));
        }
        let [_, _, _, others, lost, worse, ..] = *added else { return faults };
        let by_proof =
            cells(text, "**Missed by this run").into_iter().nth(1).and_then(|row| row.get(1).copied());
        if !by_proof.is_some_and(|cell| cell.starts_with(&format!("{} of {others} (", lost + worse))) {
            faults.push(format!("{} of {others} by proof", lost + worse));
        }
    } else {
        faults.push("no operators".to_owned());
    }
    faults
}

fn path() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scoreboard.md")
}

/// `make scoreboard`; with FLOWPROOF_SCOREBOARD a number of generic mutants for each layout, or `all`, and with
/// FLOWPROOF_SCOREBOARD_MINUTES as many of them as there is time for.
#[test]
fn the_scoreboard_is_of_these_mutants() {
    if std::env::var_os("FLOWPROOF_SCOREBOARD").is_some() {
        let (named, (generic, of)) = (named(), generic());
        std::fs::write(path(), document(&named, &generic, of)).unwrap();
    }
    let text = std::fs::read_to_string(path()).unwrap();
    let faults = faults(&text, &mutants());
    assert!(faults.is_empty(), "the scoreboard is another one's (`make scoreboard`): {faults:#?}");
}

/// A document of other mutants, of other sums, or that says less than the zoo is refused.
#[test]
fn a_scoreboard_that_is_wrong_is_refused() {
    let (text, all) = (std::fs::read_to_string(path()).unwrap(), mutants());
    let wrong = |text: &str| !faults(text, &all).is_empty();
    assert!(!wrong(&text));
    let proved = all.iter().find(|mutant| matches!(mutant.by, By::Proof(..))).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("| {} |", proved.name))).unwrap();
    assert!(wrong(&text.replace(line, "")), "a defect is missing");
    assert!(wrong(&text.replace(line, &format!("{line}\n{}", line.replacen(&proved.name, "another", 1)))));
    let mut cells: Vec<&str> = line.split(" | ").collect();
    cells[3] = "–";
    assert!(wrong(&text.replace(line, &cells.join(" | "))), "what proof catches is not caught");
    let sums = text.lines().find(|line| line.starts_with("| all |")).unwrap();
    assert!(wrong(&text.replace(sums, &sums.replacen("| all | ", "| all | 1", 1))), "sums");
    let share = text.lines().find(|line| line.starts_with("| by operators |")).unwrap();
    assert!(
        wrong(&text.replace(share, &share.replacen("| by operators | ", "| by operators | 1", 1))),
        "shares"
    );
}
