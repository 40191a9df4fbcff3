//! Flow text to flows: what `ovs-ofctl dump-flows` prints, of any OpenFlow version, and what `add-flows` reads.
//!
//! Invariant: every line is a flow, a header, blank, a comment, an error, or listed as passed over; nothing is
//! dropped in silence and no input makes this panic. Memory is bounded by the input's size.
//!
//! Source: ovs-ofctl(8) "Flow Syntax"; experiments with `ovs-ofctl parse-flows` 3.1.

mod action;
mod check;
mod commands;
mod construct;
mod ct;
mod fault;
mod file;
mod furniture;
mod instructions;
mod items;
mod learn;
mod lenient;
mod line;
mod matches;
mod nat;
mod numbering;
mod opaque;
mod parallel;
mod protocols;
mod select;
mod subfield;
mod unknown;
mod value;

pub use file::{FlowFile, ParseError, ParseErrors, parse_bytes, parse_flows, parse_reader, read_text};
pub(crate) use line::{DEFAULT_PRIORITY, bucket_actions, match_only};
pub use numbering::{Numbering, number_names};
pub(crate) use value::{PortNames, UNSET_PORT, number, port_number};

use flowproof_packet::PortNo;
use std::collections::BTreeMap;

/// Which Open vSwitch the text is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Era {
    /// Any since 2.5: what newer ones refuse is accepted with a lint.
    #[default]
    Any,
    /// Open vSwitch 3.1: what it refuses is an error.
    Strict31,
}

/// How flow text is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParseOptions {
    /// Join flows that are wrapped over several lines and pass over prose.
    pub lenient: bool,
    /// Which Open vSwitch the text is for.
    pub era: Era,
    /// Names of ports, as `--names` prints them.
    pub ports: BTreeMap<String, PortNo>,
    /// Names of tables, as `--names` prints them.
    pub tables: BTreeMap<String, u8>,
}

/// The items of a list: key, value, and both as they stand.
pub(crate) fn whole_items(text: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    items::Items::of(text).map(|item| (item.key, item.value, item.whole))
}

/// The items of a list: key and value.
pub(crate) fn items(text: &str) -> impl Iterator<Item = (&str, &str)> {
    whole_items(text).map(|(key, value, _)| (key, value))
}
