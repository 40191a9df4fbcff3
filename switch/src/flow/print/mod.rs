//! Flows to text, as `ovs-ofctl` 3.1 prints them.
//!
//! Invariant: reading a flow printed [`Dialect::AsRead`] gives the flow again; the other dialects say the same in the
//! words that an OpenFlow version has.
//!
//! Source: ovs-ofctl(8), ovs-actions(7); experiments with `ovs-ofctl parse-flows` and `dump-flows` 3.1.

mod action;
mod matching;
mod value;

pub(crate) use matching::match_text;
pub(crate) use value::{address_text, port_name, subfield_text};

use super::parse::DEFAULT_PRIORITY;
use super::{Action, Flow, Match};
use std::fmt::{self, Write};

/// Whose line it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// `ovs-ofctl --no-stats dump-flows`, with its leading blank.
    #[default]
    Dump,
    /// `ovs-ofctl parse-flows`, from `ADD` on.
    ParseFlows,
}

/// Whose words the actions are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// The words the flow was written in.
    #[default]
    AsRead,
    /// OpenFlow 1.0 with Nicira extensions: `load`, `mod_…`, `resubmit`.
    Nxm,
    /// OpenFlow 1.2 to 1.4: `set_field` for whole fields, `load` for parts.
    OpenFlow13,
    /// OpenFlow 1.5: `set_field` for everything.
    OpenFlow15,
}

/// A flow with a way to print it.
#[derive(Clone, Copy, Debug)]
pub struct Printed<'a> {
    flow: &'a Flow,
    style: Style,
    dialect: Dialect,
}

impl Flow {
    /// The flow in the style of one command and the words of one OpenFlow version.
    #[must_use]
    pub const fn printed(&self, style: Style, dialect: Dialect) -> Printed<'_> {
        Printed { flow: self, style, dialect }
    }

    /// What the flow matches, priority excluded.
    #[must_use]
    pub fn match_text(&self) -> String {
        matching::with_opaque(&self.matching, &self.opaque_match)
    }

    /// What the flow does, after `actions=`.
    #[must_use]
    pub fn actions_text(&self, dialect: Dialect) -> String {
        action::list(&self.actions, &self.matching, dialect)
    }

    fn put_flags(&self, out: &mut String, dialect: Dialect) {
        let flags = self.flags;
        let named = [
            (flags.send_flow_rem, "send_flow_rem "),
            (flags.check_overlap, "check_overlap "),
            (flags.reset_counts && dialect != Dialect::Nxm, "reset_counts "),
            (flags.no_packet_counts, "no_packet_counts "),
            (flags.no_byte_counts, "no_byte_counts "),
        ];
        named.iter().filter(|(on, _)| *on).for_each(|(_, name)| out.push_str(name));
    }

    /// Priority and match, with a blank behind unless both are missing.
    fn put_match(&self, out: &mut String) -> fmt::Result {
        let start = out.len();
        if self.priority != DEFAULT_PRIORITY {
            write!(out, "priority={},", self.priority)?;
        }
        out.push_str(&self.match_text());
        if out.ends_with(',') {
            out.pop();
        }
        if out.len() > start {
            out.push(' ');
        }
        Ok(())
    }

    fn put_dump(&self, out: &mut String, dialect: Dialect) -> fmt::Result {
        if self.cookie != 0 {
            write!(out, "cookie={:#x}, ", self.cookie)?;
        }
        if self.table != 0 {
            write!(out, "table={}, ", self.table)?;
        }
        let numbers = [("idle_timeout", self.idle_timeout), ("hard_timeout", self.hard_timeout)];
        for (name, number) in numbers.iter().filter(|(_, number)| *number != 0) {
            write!(out, "{name}={number}, ")?;
        }
        self.put_flags(out, dialect);
        if self.importance != 0 {
            write!(out, "importance={}, ", self.importance)?;
        }
        self.put_match(out)
    }

    fn put_parse_flows(&self, out: &mut String, dialect: Dialect) -> fmt::Result {
        out.push_str("ADD ");
        if self.table != 0 {
            write!(out, "table:{} ", self.table)?;
        }
        self.put_match(out)?;
        if self.cookie != 0 {
            write!(out, "cookie:{:#x} ", self.cookie)?;
        }
        let importance =
            if matches!(dialect, Dialect::OpenFlow15 | Dialect::AsRead) { self.importance } else { 0 };
        let numbers = [("idle", self.idle_timeout), ("hard", self.hard_timeout), ("importance", importance)];
        for (name, number) in numbers.iter().filter(|(_, number)| *number != 0) {
            write!(out, "{name}:{number} ")?;
        }
        self.put_flags(out, dialect);
        Ok(())
    }
}

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::with_capacity(256);
        match self.style {
            Style::Dump => {
                out.push(' ');
                self.flow.put_dump(&mut out, self.dialect)?;
            }
            Style::ParseFlows => self.flow.put_parse_flows(&mut out, self.dialect)?,
        }
        out.push_str("actions=");
        out.push_str(&self.flow.actions_text(self.dialect));
        f.write_str(&out)
    }
}

/// The dump style without its leading blank, in the words the flow was written in.
impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.printed(Style::Dump, Dialect::AsRead).to_string().trim_start())
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match_text(self))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&action::list(std::slice::from_ref(self), &Match::default(), Dialect::AsRead))
    }
}
