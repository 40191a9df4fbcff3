//! `add`, `modify`, `delete` and their strict kin before a flow, as files for `ovs-ofctl add-flows` and bundles have them.
//!
//! What it means: the lines of a file change the flows that the lines before them made, as they would change those of
//! an empty switch. Invariant: what is left is what the real tool leaves. Deliberately absent: statistics and
//! timeouts, which `modify` may reset.
//!
//! Source: ovs-ofctl(8), "add-flows"; experiments with `ovs-ofctl add-flows` 3.1 (a command may be cut short; no
//! `table` means all tables; `modify` that finds nothing adds, unless it asks for a cookie).

use super::items::Items;
use super::line::{Change, Criteria};
use crate::flow::print::Dialect;
use crate::flow::{Action, Flow, Match};
use flowproof_packet::{PortNo, port};

/// What a line does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// A flow comes in.
    Add,
    /// Flows get other actions.
    Modify {
        /// The one with this match and priority, or all that match this and more.
        strict: bool,
    },
    /// Flows go.
    Delete {
        /// As for `modify`.
        strict: bool,
    },
}

/// The words in the order in which they are tried.
const WORDS: &[(&str, Command)] = &[
    ("add", Command::Add),
    ("delete", Command::Delete { strict: false }),
    ("delete_strict", Command::Delete { strict: true }),
    ("modify", Command::Modify { strict: false }),
    ("modify_strict", Command::Modify { strict: true }),
];

/// The command that a line begins with, and the rest of the line.
pub(super) fn command(text: &str) -> Option<(Command, &str)> {
    let end = text.find([',', ' ', '\t', '\r']).unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end).filter(|(word, _)| !word.is_empty())?;
    WORDS.iter().find(|(whole, _)| whole.starts_with(word)).map(|(_, command)| (*command, rest))
}

/// The same for text that may be prose: the whole word, and something behind it.
pub(super) fn whole_command(text: &str) -> Option<(Command, &str)> {
    let word = text.split([',', ' ', '\t']).next()?;
    let known = WORDS.iter().any(|(whole, _)| *whole == word) && word.len() < text.len();
    known.then(|| command(text)).flatten()
}

/// Whether `flow` matches all that `wanted` matches, or more.
fn narrows(flow: &Match, wanted: &Match) -> bool {
    wanted.words().iter().all(|part| {
        let own = flow.words().iter().find(|own| own.word == part.word);
        own.is_some_and(|own| own.mask & part.mask == part.mask && own.value & part.mask == part.value)
    })
}

/// Whether a command for this match, table and priority is about `flow`.
fn is_meant(flow: &Flow, matching: &Match, table: Option<u8>, priority: Option<u16>) -> bool {
    table.is_none_or(|table| table == flow.table)
        && match priority {
            Some(priority) => {
                priority == flow.priority && *matching == flow.matching && flow.opaque_match.is_empty()
            }
            None => narrows(&flow.matching, matching),
        }
}

/// The flows that `wanted` does not take away; the lines of those that went.
pub(super) fn delete(flows: &mut Vec<Flow>, wanted: &Criteria, strict: bool) -> Vec<u32> {
    let mut gone = Vec::new();
    let priority = strict.then_some(wanted.priority);
    let (cookie, mask) = wanted.cookie;
    flows.retain(|flow| {
        let goes = is_meant(flow, &wanted.matching, wanted.table, priority)
            && flow.cookie & mask == cookie & mask
            && wanted
                .out_port
                .is_none_or(|port| uses(&actions(flow), &|name, value| outputs(name, value, port)))
            && wanted.out_group.is_none_or(|group| {
                uses(&actions(flow), &|name, value| name == "group" && value == group.to_string())
            });
        if goes {
            gone.push(flow.span.line);
        }
        !goes
    });
    gone
}

fn actions(flow: &Flow) -> String {
    flow.actions_text(Dialect::AsRead)
}

/// Whether an action of the list, or of a list inside one of them, is what is looked for.
fn uses(actions: &str, wanted: &dyn Fn(&str, &str) -> bool) -> bool {
    Items::of(actions).any(|item| {
        wanted(item.key, item.value)
            || matches!(item.key, "clone" | "write_actions") && uses(item.value, wanted)
    })
}

/// Whether an action, as it is printed, puts out to a port: `out_port` knows no more than these.
fn outputs(name: &str, value: &str, wanted: PortNo) -> bool {
    let number = |text: &str| text.parse() == Ok(wanted);
    match name {
        "output" => number(value),
        "enqueue" => value.split([':', 'q']).next().is_some_and(number),
        "CONTROLLER" | "controller" => wanted == port::CONTROLLER,
        _ => port::NAMES.iter().any(|(reserved, number)| *number == wanted && *reserved == name),
    }
}

/// Gives the flows that are meant other actions. Nothing if there were any; otherwise the change, to be added.
///
/// # Errors
/// A table that `goto_table` cannot leave for the one that it names.
pub(super) fn modify(flows: &mut [Flow], change: Change, strict: bool) -> Result<Option<Change>, u8> {
    let priority = strict.then_some(change.flow.priority);
    let (cookie, mask) = (change.flow.cookie, change.cookie_mask);
    let mut found = false;
    for flow in flows.iter_mut() {
        let meant = is_meant(flow, &change.flow.matching, change.table, priority);
        if !meant || flow.cookie & mask != cookie & mask {
            continue;
        }
        let back = |action: &Action| matches!(action, Action::GotoTable(to) if *to <= flow.table);
        if change.flow.actions.iter().any(back) {
            return Err(flow.table);
        }
        found = true;
        flow.actions.clone_from(&change.flow.actions);
        if mask == 0 {
            flow.cookie = cookie;
        }
    }
    Ok((!found && mask == 0).then_some(change))
}
