//! The zoo: defects that were really made, or nearly, as data (`zoo.txt`).
//!
//! Each is a change of compiled tables, text by text, with what has to notice it: a property of a port under a datapath,
//! or agreement of model and tables on packets.

use super::bases::{self, Base};
use flowproof_packet::PortNo;
use flowproof_switch::conntrack::Profile;

/// What has to notice a defect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// A property of a port under a datapath is refuted by this name.
    Proof(String, PortNo, Profile),
    /// Model and tables diverge on packets.
    Agreement,
}

/// A change of flows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Edit {
    /// In the one flow that has all the texts, or in all of them, this becomes that.
    Replace { all: bool, from: String, to: String, place: Vec<String> },
    /// The one flow that has all the texts, or all of them, go.
    Delete { all: bool, place: Vec<String> },
    /// A flow comes.
    Add(String),
}

/// A planted defect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mutant {
    /// What is wrong.
    pub(super) name: String,
    /// Where it was made, or thought of.
    pub(super) origin: String,
    /// The tables it is made in.
    pub(super) base: Base,
    /// What notices.
    pub(super) by: By,
    edits: Vec<Edit>,
}

/// What stands in backticks.
fn quoted(line: &str) -> Vec<String> {
    line.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn edit(line: &str) -> Option<Edit> {
    let mut texts = quoted(line);
    let verb = line.split_whitespace().next()?;
    match verb {
        "replace" | "everywhere" if texts.len() > 2 => {
            let place = texts.split_off(2);
            let [from, to] = <[String; 2]>::try_from(texts).ok()?;
            Some(Edit::Replace { all: verb == "everywhere", from, to, place })
        }
        "delete" | "delete-all" if !texts.is_empty() => {
            Some(Edit::Delete { all: verb == "delete-all", place: texts })
        }
        "add" => texts.pop().map(Edit::Add),
        _ => None,
    }
}

fn by(words: &str) -> Option<By> {
    match words.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["agreement"] => Some(By::Agreement),
        [property, "port", port, profile] => {
            let profile = Profile::ALL.into_iter().find(|known| known.name() == *profile)?;
            Some(By::Proof((*property).to_owned(), port.parse().ok()?, profile))
        }
        _ => None,
    }
}

fn mutant(text: &str) -> Option<Mutant> {
    let (name, rest) = text.split_once('\n')?;
    let (mut origin, mut base, mut caught, mut edits) = (None, None, None, Vec::new());
    for line in rest.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(text) = line.strip_prefix("origin ") {
            origin = Some(text.to_owned());
        } else if let Some(name) = line.strip_prefix("tables ") {
            base = Some(bases::named(name)?);
        } else if let Some(words) = line.strip_prefix("caught by ") {
            caught = Some(by(words)?);
        } else {
            edits.push(edit(line)?);
        }
    }
    let some = !edits.is_empty();
    some.then_some(Mutant { name: name.to_owned(), origin: origin?, base: base?, by: caught?, edits })
}

/// All of them.
pub(super) fn mutants() -> Vec<Mutant> {
    let text = bases::read("zoo.txt");
    let (_, all) = text.split_once("\n\n").unwrap();
    let parsed = |block: &str| mutant(block.strip_prefix("mutant ")?);
    all.split("\n\n").map(|block| parsed(block).unwrap_or_else(|| panic!("no mutant: {block}"))).collect()
}

/// The flows that have all the texts.
fn chosen(lines: &[String], place: &[String], all: bool) -> Result<Vec<usize>, String> {
    let has = |line: &str| place.iter().all(|text| line.contains(text.as_str()));
    let chosen: Vec<usize> = (0..lines.len()).filter(|at| has(&lines[*at])).collect();
    if chosen.is_empty() || !all && chosen.len() > 1 {
        return Err(format!("{place:?} chooses {} flows", chosen.len()));
    }
    Ok(chosen)
}

impl Mutant {
    /// The flows of its base with the defect; complains where they have changed since the defect was written down.
    pub(super) fn planted(&self, text: &str) -> Result<String, String> {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for edit in &self.edits {
            match edit {
                Edit::Add(line) => lines.push(line.clone()),
                Edit::Delete { all, place } => {
                    for at in chosen(&lines, place, *all)?.into_iter().rev() {
                        lines.remove(at);
                    }
                }
                Edit::Replace { all, from, to, place } => {
                    for at in chosen(&lines, place, *all)? {
                        let changed = lines[at].replacen(from.as_str(), to, 1);
                        if changed == lines[at] {
                            return Err(format!("no `{from}` in `{changed}`"));
                        }
                        lines[at] = changed;
                    }
                }
            }
        }
        Ok(lines.join("\n"))
    }
}
