//! The language's own generator for as long as wanted: `language ORACLE [COMPARISONS [SEED [FIRST]]]`.
//!
//! ORACLE is `symbolic`, `real`, `proofs`, `diff`, `lint` or `tool`. Cases are taken in turn from FIRST on, by two workers (`FLOWPROOF_JOBS`), until
//! so many frames were compared; a finding is made small and printed, and the number of the case with it, so that a run
//! can go on behind it. With `FLOWPROOF_MATRIX` set the matrix of what was reached is printed, too; with
//! `FLOWPROOF_FINDINGS=N` the run ends at the Nth finding (the first, if it is not set). `cargo run --release` is meant.

use flowproof_fuzz::oracles::Objection;
use flowproof_fuzz::oracles::language::{
    Tally, against_difference, against_lint, against_proofs, against_real, against_symbolic, against_tool,
};
use flowproof_ovs::Judge;
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What all workers have come to.
#[derive(Default)]
struct Sum {
    tally: Tally,
    cases: u64,
    findings: u64,
    told: u64,
}

/// What one campaign is.
struct Campaign {
    oracle: String,
    wanted: u64,
    seed: u64,
    most: u64,
    began: Instant,
    next: AtomicU64,
    sum: Mutex<Sum>,
}

fn say(text: &str) {
    let _nobody_listens = writeln!(stdout(), "{text}");
}

fn number(text: Option<&String>, usual: u64) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn variable(name: &str, usual: u64) -> u64 {
    number(std::env::var(name).ok().as_ref(), usual)
}

impl Campaign {
    fn is_done(&self) -> bool {
        let sum = self.sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        sum.tally.compared >= self.wanted || sum.findings >= self.most
    }

    fn case(&self, judge: &mut Option<Judge>, number: u64) -> Result<Tally, Objection> {
        match (self.oracle.as_str(), judge) {
            ("real", Some(judge)) => against_real(judge, self.seed, number),
            ("real", None) => Err(Objection("there is no real switch".to_owned())),
            ("diff", _) => against_difference(self.seed, number),
            ("lint", _) => against_lint(self.seed, number),
            ("tool", _) => against_tool(self.seed, number),
            ("proofs", _) => against_proofs(self.seed, number),
            _ => against_symbolic(self.seed, number).map_err(|finding| (*finding).into()),
        }
    }

    fn work(&self) {
        let mut judge = (self.oracle == "real").then(|| Judge::summon().ok()).flatten();
        while !self.is_done() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let outcome = self.case(&mut judge, number);
            let mut sum = self.sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            sum.cases += 1;
            match outcome {
                Ok(tally) => sum.tally.merge(&tally),
                Err(Objection(why)) => {
                    sum.findings += 1;
                    say(&format!(
                        "FINDING seed {} case {number}, after {:.1?}\n{why}",
                        self.seed,
                        self.began.elapsed()
                    ));
                }
            }
            if sum.tally.compared / 100_000 > sum.told {
                sum.told = sum.tally.compared / 100_000;
                say(&self.progress(&sum));
            }
        }
    }

    fn progress(&self, sum: &Sum) -> String {
        let spent = self.began.elapsed().as_secs_f64().max(0.001);
        let tally = &sum.tally;
        format!(
            "{}: {} compared in {} cases, seed {}, next case {}, {spent:.0} s, {:.0}/s; flows taken {}, refused {}; passed over {}; {} findings",
            self.oracle,
            tally.compared,
            sum.cases,
            self.seed,
            self.next.load(Ordering::Relaxed),
            tally.compared as f64 / spent,
            tally.flows.0,
            tally.flows.1,
            tally.passed_over,
            sum.findings
        )
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let oracle = arguments.first().map_or("symbolic", String::as_str).to_owned();
    let campaign = Campaign {
        oracle,
        wanted: number(arguments.get(1), 100_000),
        seed: number(arguments.get(2), 1),
        most: variable("FLOWPROOF_FINDINGS", 1),
        began: Instant::now(),
        next: AtomicU64::new(number(arguments.get(3), 0)),
        sum: Mutex::default(),
    };
    let jobs = variable("FLOWPROOF_JOBS", 2).max(1);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let worker = std::thread::Builder::new().stack_size(256 << 20);
            if worker.spawn_scoped(scope, || campaign.work()).is_err() {
                say("a worker does not start");
            }
        }
    });
    let sum = campaign.sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    say(&campaign.progress(&sum));
    let (filled, reached, all) = sum.tally.matrix.counts();
    // Only what goes through the real switch is followed flow by flow.
    let reached =
        if campaign.oracle == "real" { format!(", {reached} reached by packets") } else { String::new() };
    say(&format!("cells: {filled} of {all} with flows{reached}"));
    if std::env::var_os("FLOWPROOF_MATRIX").is_some() {
        say(&sum.tally.matrix.render());
        let empty: Vec<String> = sum
            .tally
            .matrix
            .empty()
            .iter()
            .map(|(field, kind, role)| format!("{} {kind} {role:?}", field.spec().name))
            .collect();
        say(&format!("empty: {}", empty.join("; ")));
    }
    if sum.findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
