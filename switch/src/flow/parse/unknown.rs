//! Names of ports and tables that nobody has given a number to, kept while text is read for their sake.
//!
//! What it means: `ovs-ofctl dump-flows` prints names on a terminal. A first reading puts a number of no meaning in
//! the place of each name and keeps the names; [`super::numbering`] then says which numbers they may have, and the
//! text is read again. Invariant: a word that means something else (a field, a reserved port) is never taken for a
//! name. Deliberately absent: names with blanks, commas or quotes, which ovs-ofctl itself cannot read again.
//!
//! Source: experiments with `ovs-ofctl --names dump-flows` 3.1: a name is quoted unless it is letters, digits and
//! underscores and begins with no digit.

use crate::flow::names;
use flowproof_packet::PortNo;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The last number of an ordinary port: numbers that stand for names are counted down from it.
const LAST: PortNo = 0xfeff;
/// Names that are kept.
const MOST: usize = 0x4000;
/// Characters of a name that is taken without quotes.
const LONGEST: usize = 64;

/// A table as a flow names its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// By number.
    Number(u8),
    /// By a name.
    Name(String),
}

/// What was met so far.
#[derive(Debug, Default)]
pub(super) struct Met {
    /// Names of ports, each with the number that stands for it.
    pub(super) ports: BTreeMap<String, PortNo>,
    /// Numbers of ports that the text has.
    pub(super) literals: BTreeSet<PortNo>,
    /// The tables that flows are in, in the order of the text.
    pub(super) tables: Vec<Table>,
    /// Tables that flows lead to, by name.
    pub(super) targets: BTreeSet<String>,
}

/// Names that nobody knows.
#[derive(Debug, Default)]
pub(crate) struct Unknown {
    met: Mutex<Met>,
}

/// `text` without the quotes around it.
pub(crate) fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text)
}

/// The name that `text` is: anything in quotes, or a word that is neither a number nor a field.
fn name(text: &str) -> Option<&str> {
    let bare = unquoted(text);
    let fits = !bare.is_empty() && bare.len() <= LONGEST && !bare.contains('"');
    let word = || {
        bare.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && bare.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
            && names::field(bare).is_none()
    };
    (fits && (bare.len() < text.len() || word())).then_some(bare)
}

impl Unknown {
    fn met(&self) -> MutexGuard<'_, Met> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was met, once everything has been read.
    pub(super) fn into_met(self) -> Met {
        self.met.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a port's name; the number that stands for it.
    pub(super) fn port(&self, text: &str) -> Option<PortNo> {
        let name = name(text)?;
        let mut met = self.met();
        if let Some(number) = met.ports.get(name) {
            return Some(*number);
        }
        let count = met.ports.len();
        let number = PortNo::try_from(count).ok().filter(|_| count < MOST).map(|count| LAST - count)?;
        met.ports.insert(name.to_owned(), number);
        Some(number)
    }

    /// Notes a port's number.
    pub(super) fn literal(&self, number: PortNo) {
        self.met().literals.insert(number);
    }

    /// Notes the table of a flow.
    pub(super) fn own_table(&self, number: u8) {
        self.met().tables.push(Table::Number(number));
    }

    /// Keeps the name of a flow's table; whatever leads elsewhere leads to a higher one.
    pub(super) fn own_table_name(&self, text: &str) -> Option<u8> {
        let name = name(text)?;
        self.met().tables.push(Table::Name(name.to_owned()));
        Some(0)
    }

    /// Keeps the name of a table that flows lead to.
    pub(super) fn target_table(&self, text: &str) -> Option<u8> {
        /// The highest table there is.
        const HIGHEST: u8 = 254;
        let name = name(text)?;
        self.met().targets.insert(name.to_owned());
        Some(HIGHEST)
    }
}
