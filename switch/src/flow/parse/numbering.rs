//! Numbers for ports and tables that text only names: what the flows themselves say of them, and others.
//!
//! What it means: classification says a port's number (`in_port="tap1" actions=load:0x5->NXM_NX_REG5[]`), and so
//! does a flow that matches register 5 and puts out to a port, where only one number comes into question. What no
//! flow says gets a number above all that the text has. Names of tables are numbered in the order of the text, which
//! is the order of a dump. Invariant: no two names have one number, and a free number is one that the text does not have.
//! Deliberately absent: anything that would make a verdict depend on which free number a port got.
//!
//! Source: Neutron's Open vSwitch firewall driver (register 5 holds a port's number); ovs-ofctl(8), `--names`.

use super::file::line_by_line;
use super::unknown::{Met, Table, Unknown};
use super::{FlowFile, ParseOptions};
use crate::flow::{Action, Flow};
use flowproof_packet::{Field, PortNo};
use std::collections::{BTreeMap, BTreeSet};

/// The first number that is no ordinary port's.
const FIRST_RESERVED: PortNo = 0xff00;

/// Numbers for names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbering {
    /// Ports whose numbers the flows say.
    pub derived: BTreeMap<String, PortNo>,
    /// Ports that got a free number.
    pub given: BTreeMap<String, PortNo>,
    /// Tables, all of which got numbers.
    pub tables: BTreeMap<String, u8>,
}

impl Numbering {
    /// Whether the text names nothing that is unknown.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.derived.is_empty() && self.given.is_empty() && self.tables.is_empty()
    }
}

/// The names in flow text that `options` give no number for, with numbers. Numbers that `options` give to names are
/// taken.
#[must_use]
pub fn number_names(bytes: &[u8], options: &ParseOptions) -> Numbering {
    let unknown = Unknown::default();
    // What is wrong with the text is said by the reading that follows.
    let file = line_by_line(bytes, options, Some(&unknown)).unwrap_or_default();
    let met = unknown.into_met();
    let claims = claims(&file, &met);
    let mut taken: BTreeSet<PortNo> = met.literals.iter().copied().collect();
    taken.extend(options.ports.values());
    let derived: BTreeMap<_, _> =
        met.ports.keys().filter_map(|name| Some((name.clone(), *claims.get(name)?))).collect();
    taken.extend(derived.values());
    taken.extend(file.flows.iter().flat_map(written));
    let mut free = Free::above(&taken);
    let rest = met.ports.keys().filter(|name| !derived.contains_key(*name));
    let given = rest.map(|name| (name.clone(), free.next(&mut taken))).collect();
    Numbering { derived, given, tables: tables(&met, options) }
}

/// Numbers that nothing has.
struct Free {
    next: PortNo,
}

impl Free {
    fn above(taken: &BTreeSet<PortNo>) -> Self {
        let highest = taken.range(..FIRST_RESERVED).next_back().copied().unwrap_or(0);
        Self { next: highest.saturating_add(1) }
    }

    /// The next one; where there is none above all others, the lowest that is free.
    fn next(&mut self, taken: &mut BTreeSet<PortNo>) -> PortNo {
        if self.next >= FIRST_RESERVED {
            self.next = (1..FIRST_RESERVED).find(|number| !taken.contains(number)).unwrap_or(1);
        }
        let number = self.next;
        taken.insert(number);
        self.next = (number.saturating_add(1)..FIRST_RESERVED)
            .find(|number| !taken.contains(number))
            .unwrap_or(FIRST_RESERVED);
        number
    }
}

/// Small numbers that a flow writes or matches in registers: they may be ports'.
fn written(flow: &Flow) -> impl Iterator<Item = PortNo> {
    let set = flow.actions.iter().filter_map(|action| match action {
        Action::Set { value, .. } => PortNo::try_from(*value).ok(),
        _ => None,
    });
    let matched = flow.matching.exact(Field::Reg5).and_then(|value| PortNo::try_from(value).ok());
    set.chain(matched)
}

/// The numbers that flows claim for names, where nothing contradicts them.
fn claims(file: &FlowFile, met: &Met) -> BTreeMap<String, PortNo> {
    let names: BTreeMap<PortNo, &String> = met.ports.iter().map(|(name, number)| (*number, name)).collect();
    let by_entrance = votes(&file.flows, &names, classified);
    let by_exit = votes(&file.flows, &names, delivered);
    let mut claims: BTreeMap<String, PortNo> = BTreeMap::new();
    for name in met.ports.keys() {
        let said = by_entrance.get(name).or_else(|| by_exit.get(name));
        let mut numbers = said.into_iter().flatten().copied();
        if let (Some(number), None) = (numbers.next(), numbers.next()) {
            claims.insert(name.clone(), number);
        }
    }
    let mut owners: BTreeMap<PortNo, usize> = BTreeMap::new();
    claims.values().for_each(|number| *owners.entry(*number).or_default() += 1);
    let ordinary = 1..FIRST_RESERVED;
    claims.retain(|_, number| ordinary.contains(number) && owners.get(number) == Some(&1));
    claims
}

type Votes = BTreeMap<String, BTreeSet<PortNo>>;

fn votes(
    flows: &[Flow],
    names: &BTreeMap<PortNo, &String>,
    says: fn(&Flow) -> Option<(PortNo, PortNo)>,
) -> Votes {
    let mut votes = Votes::new();
    for (port, number) in flows.iter().filter_map(says) {
        if let Some(name) = names.get(&port) {
            votes.entry((*name).clone()).or_default().insert(number);
        }
    }
    votes
}

/// The input port of a flow that writes register 5, and what it writes.
fn classified(flow: &Flow) -> Option<(PortNo, PortNo)> {
    let port = PortNo::try_from(flow.matching.exact(Field::InPort)?).ok()?;
    let written = flow.actions.iter().find_map(|action| match action {
        Action::Set { field: Field::Reg5, value, mask, .. } if mask & 0xffff == 0xffff => Some(*value),
        _ => None,
    })?;
    Some((port, PortNo::try_from(written).ok()?))
}

/// The only port that a flow puts out to, and the register 5 that it matches.
fn delivered(flow: &Flow) -> Option<(PortNo, PortNo)> {
    let number = PortNo::try_from(flow.matching.exact(Field::Reg5)?).ok()?;
    let mut ports = flow.actions.iter().filter_map(|action| match action {
        Action::Output(port) => Some(*port),
        _ => None,
    });
    match (ports.next(), ports.next()) {
        (Some(port), None) => Some((port, number)),
        _ => None,
    }
}

/// Numbers for names of tables: in the order of the text, between the numbers that the text has.
fn tables(met: &Met, options: &ParseOptions) -> BTreeMap<String, u8> {
    let mut found: BTreeMap<String, u8> = BTreeMap::new();
    let mut taken: BTreeSet<u8> = options.tables.values().copied().collect();
    taken.extend(met.tables.iter().filter_map(|table| match table {
        Table::Number(number) => Some(*number),
        Table::Name(_) => None,
    }));
    let mut give = |name: &str, above: u8| {
        let number = (above..=253).chain(0..above).find(|number| !taken.contains(number)).unwrap_or(253);
        taken.insert(number);
        found.entry(name.to_owned()).or_insert(number);
        number
    };
    // Packets enter in table 0: the table that no flow leads to, or the first.
    let own: Vec<&str> = met.tables.iter().filter_map(|table| table.name()).collect();
    let orphans: BTreeSet<&str> = own.iter().copied().filter(|name| !met.targets.contains(*name)).collect();
    let mut orphans = orphans.into_iter();
    let entrance = match (orphans.next(), orphans.next()) {
        (Some(only), None) => Some(only),
        _ => own.first().copied(),
    };
    let mut known: BTreeMap<&str, u8> = BTreeMap::new();
    let mut last = 0;
    if let Some(entrance) = entrance.filter(|_| !met.tables.contains(&Table::Number(0))) {
        known.insert(entrance, give(entrance, 0));
    }
    for table in &met.tables {
        last = match table {
            Table::Number(number) => *number,
            Table::Name(name) => match known.get(name.as_str()) {
                Some(number) => *number,
                None => *known.entry(name).or_insert_with(|| give(name, last.saturating_add(1))),
            },
        };
    }
    for name in met.targets.iter().filter(|name| !known.contains_key(name.as_str())) {
        last = give(name, last.saturating_add(1));
    }
    found
}

impl Table {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Number(_) => None,
            Self::Name(name) => Some(name),
        }
    }
}
