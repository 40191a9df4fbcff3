//! One question to Z3, and the same as a script for any other solver.

use crate::z3_engine::Answer;
use z3::{Params, SatResult, Solver, StatisticsValue, ast::Bool};

/// Z3's deterministic resource limit for one query; what needs more is `unknown`.
pub(crate) const RESOURCE_LIMIT: u32 = 100_000_000;

/// A solver that gives up when it has used so many of Z3's units of work.
pub(crate) fn solver(limit: u32) -> Solver {
    let solver = Solver::new();
    let mut params = Params::new();
    params.set_u32("rlimit", limit);
    solver.set_params(&params);
    solver
}

/// Asks Z3 whether some packet satisfies all of `formulas`, and hands the query as SMT-LIB 2 to `dump`, with the answer.
pub fn ask(formulas: &[Bool], dump: Option<&mut String>) -> Answer {
    ask_within(RESOURCE_LIMIT, formulas, dump).0
}

/// The same with a limit of its own; says how many units of work were used.
pub(crate) fn ask_within(limit: u32, formulas: &[Bool], dump: Option<&mut String>) -> (Answer, u32) {
    let solver = solver(limit);
    let before = used(&solver);
    for formula in formulas {
        solver.assert(formula);
    }
    let text = dump.is_some().then(|| solver.to_smt2());
    let answer = match solver.check() {
        SatResult::Sat => Answer::Sat,
        SatResult::Unsat => Answer::Unsat,
        SatResult::Unknown => {
            Answer::Unknown(solver.get_reason_unknown().unwrap_or_else(|| "no reason given".to_owned()))
        }
    };
    if let (Some(dump), Some(text)) = (dump, text) {
        *dump = script(&text, &answer);
    }
    let work = used(&solver).wrapping_sub(before);
    (answer, work)
}

/// The units of work that a solver's context has used so far.
fn used(solver: &Solver) -> u32 {
    match solver.get_statistics().value("rlimit count") {
        Some(StatisticsValue::UInt(count)) => count,
        Some(StatisticsValue::Double(_)) | None => 0,
    }
}

/// A script as any solver reads it: what Z3 prints, without its own preamble, with the logic and the status that is known.
fn script(printed: &str, answer: &Answer) -> String {
    let status = match answer {
        Answer::Sat => "sat",
        Answer::Unsat => "unsat",
        Answer::Unknown(_) => "unknown",
    };
    let preamble = |line: &&str| line.starts_with(';') || line.starts_with("(set-info");
    let mut text =
        format!("(set-info :smt-lib-version 2.6)\n(set-logic QF_BV)\n(set-info :status {status})\n");
    for line in printed.lines().skip_while(preamble) {
        text.push_str(line);
        text.push('\n');
    }
    text.push_str("(exit)\n");
    text
}
