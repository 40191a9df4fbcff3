//! The ports of a bridge: what no flow dump contains.
//!
//! What it means: the file is what these print, one after the other, in any order, joined by the ports' names:
//! `ovs-vsctl --format=json list Port` and `list Interface` (with any columns), `ovs-vsctl show`,
//! `ovs-ofctl show BRIDGE`, `ovs-ofctl dump-ports-desc BRIDGE`, `ovs-appctl dpif/show`. A port without `tag` is a
//! trunk; an interface without an OpenFlow number, or with -1 (it could not be opened), is left out. Where nothing
//! has a number (`ovs-vsctl show` alone), the flows have to say them.
//!
//! Invariant: OpenFlow knows names up to 15 bytes; a name that was cut stands for the only port that it may be, and
//! where there are two of them that is an error that names both. Deliberately absent: bonds (each member is a port
//! of its own).
//!
//! Source: ovs-vsctl(8), ovs-ofctl(8), ovs-appctl(8); what Open vSwitch 3.1 prints.

mod json;
mod text;

use flowproof_packet::PortNo;
use flowproof_switch::pipeline::PortKind;
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// Bytes of a port's name that OpenFlow has room for.
const LONGEST_NAME: usize = 15;

/// One port that flows can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    /// Its name.
    pub(crate) name: String,
    /// Its OpenFlow number.
    pub(crate) ofport: PortNo,
    /// The VLAN it is an access port of; none for a trunk.
    pub(crate) tag: Option<u16>,
    /// What sort of port it is, if the file says so: a tunnel, an internal port…
    pub(crate) kind: Option<PortKind>,
}

/// A port without an OpenFlow number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unnumbered {
    /// Its name.
    pub(crate) name: String,
    /// Its VLAN, as of a [`Port`].
    pub(crate) tag: Option<u16>,
    /// What sort of port it is.
    pub(crate) kind: Option<PortKind>,
    /// Its bridge; empty where nothing says it.
    pub(crate) bridge: String,
}

/// What a file says of ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PortList {
    /// Ports with numbers, in their order.
    Numbered(Vec<Port>),
    /// Names only.
    Named(Vec<Unnumbered>),
}

/// Why the text is no list of ports.
#[derive(Debug, Error)]
pub(crate) enum PortsError {
    /// No JSON.
    #[error("{line}:{column}: {message}")]
    Json {
        /// Line of the file, from 1.
        line: usize,
        /// Its column, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// JSON, but not the form that ovs-vsctl prints.
    #[error("{line}:1: document {document}: no `{missing}`: is this `ovs-vsctl --format=json` output?")]
    Shape {
        /// Line where the document begins.
        line: usize,
        /// Which document, from 1.
        document: usize,
        /// What is missing in it.
        missing: &'static str,
    },
    /// A value that the column cannot have.
    #[error("{line}:1: document {document}: port `{name}`: `{column}` is `{value}`")]
    Value {
        /// Line where the document begins.
        line: usize,
        /// Which document, from 1.
        document: usize,
        /// The port.
        name: String,
        /// The column.
        column: &'static str,
        /// What it holds.
        value: String,
    },
    /// A line of text that names a port as no port can be.
    #[error("{line}:1: {message}: `{text}`")]
    Text {
        /// Its line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
        /// The offending text.
        text: String,
    },
    /// A name that was cut and may be that of either port.
    #[error("1:1: `{cut}` is cut to 15 characters and may be `{one}` or `{other}`")]
    Ambiguous {
        /// The name.
        cut: String,
        /// A port that it may be.
        one: String,
        /// Another one.
        other: String,
    },
    /// Nothing in it is a port.
    #[error(
        "1:1: no port has both `name` and `ofport`; ovs-vsctl --format=json, ovs-vsctl show, ovs-ofctl show and \
         ovs-ofctl dump-ports-desc print what is wanted"
    )]
    Empty,
}

/// What is known of a port from the documents read so far.
#[derive(Clone, Debug, Default)]
struct Columns {
    ofport: Option<PortNo>,
    tag: Option<u16>,
    kind: Option<PortKind>,
    bridge: String,
    /// Its interface could not be opened.
    broken: bool,
}

/// All that was read, by name.
#[derive(Debug, Default)]
struct Rows {
    named: BTreeMap<String, Columns>,
}

impl Rows {
    /// Adds what is new of a port.
    fn add(&mut self, name: &str, new: Columns) {
        let known = self.named.entry(name.to_owned()).or_default();
        known.ofport = new.ofport.or(known.ofport);
        known.tag = new.tag.or(known.tag);
        known.kind = new.kind.or(known.kind);
        known.broken |= new.broken;
        if !new.bridge.is_empty() {
            known.bridge = new.bridge;
        }
    }
}

/// A name as OpenFlow has it.
pub(crate) fn cut_name(name: &str) -> &str {
    let end = (0..=LONGEST_NAME.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    end.and_then(|end| name.get(..end)).unwrap_or(name)
}

/// The ports in the output of Open vSwitch's tools.
pub(crate) fn parse_ports(input: &str) -> Result<PortList, PortsError> {
    let mut rows = Rows::default();
    let (mut rest, mut line, mut documents) = (input, 1, 0);
    let mut text = text::Reader::default();
    while !rest.is_empty() {
        if rest.trim_start().starts_with(['{', '[']) {
            let blank = rest.len() - rest.trim_start().len();
            line += rest.get(..blank).map_or(0, |blank| blank.matches('\n').count());
            let document = rest.get(blank..).unwrap_or("");
            documents += 1;
            let used = json::read(document, line, documents, &mut rows)?;
            let (done, after) = document.split_at_checked(used).unwrap_or((document, ""));
            line += done.matches('\n').count();
            rest = after;
        } else {
            let (one, after) = rest.split_once('\n').unwrap_or((rest, ""));
            text.line(line, one, &mut rows)?;
            (line, rest) = (line + 1, after);
        }
    }
    text.finish(&mut rows);
    list(rows)
}

/// Joins rows that are one port under its whole and its cut name, and sorts what is left.
fn list(mut rows: Rows) -> Result<PortList, PortsError> {
    let whole: Vec<String> = rows.named.keys().filter(|name| name.len() > LONGEST_NAME).cloned().collect();
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for name in whole {
        let cut = cut_name(&name).to_owned();
        if rows.named.get(&name).is_none_or(|columns| columns.ofport.is_some())
            || !rows.named.contains_key(&cut)
        {
            continue;
        }
        if let Some(one) = owners.insert(cut.clone(), name.clone()) {
            return Err(PortsError::Ambiguous { cut, one, other: name });
        }
    }
    for (cut, name) in owners {
        if let (Some(short), Some(long)) = (rows.named.remove(&cut), rows.named.get_mut(&name)) {
            long.ofport = short.ofport.or(long.ofport);
            long.tag = long.tag.or(short.tag);
            long.kind = long.kind.or(short.kind);
        }
    }
    let (mut numbered, mut named) = (Vec::new(), Vec::new());
    for (name, Columns { ofport, tag, kind, bridge, broken }) in rows.named {
        match ofport {
            Some(ofport) => numbered.push(Port { name, ofport, tag, kind }),
            None if broken => {}
            None => named.push(Unnumbered { name, tag, kind, bridge }),
        }
    }
    numbered.sort_by_key(|port| port.ofport);
    match (numbered.is_empty(), named.is_empty()) {
        (false, _) => Ok(PortList::Numbered(numbered)),
        (true, false) => Ok(PortList::Named(named)),
        (true, true) => Err(PortsError::Empty),
    }
}

/// Numbers by name, for whole names and for cut ones where no other port may be meant.
pub(crate) fn numbers(ports: &[Port]) -> BTreeMap<String, PortNo> {
    let mut cut: BTreeMap<&str, BTreeSet<PortNo>> = BTreeMap::new();
    for port in ports {
        cut.entry(cut_name(&port.name)).or_default().insert(port.ofport);
    }
    let only = |(name, numbers): (&str, BTreeSet<PortNo>)| {
        let mut numbers = numbers.into_iter();
        numbers.next().filter(|_| numbers.next().is_none()).map(|number| (name.to_owned(), number))
    };
    let mut names: BTreeMap<String, PortNo> = cut.into_iter().filter_map(only).collect();
    names.extend(ports.iter().map(|port| (port.name.clone(), port.ofport)));
    names
}

#[cfg(test)]
mod tests;
