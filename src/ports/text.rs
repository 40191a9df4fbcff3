//! Ports as `ovs-vsctl show`, `ovs-ofctl show`, `ovs-ofctl dump-ports-desc` and `ovs-appctl dpif/show` print them.
//!
//! Invariant: a line that is none of theirs is passed over; one that is and cannot be read is an error.
//!
//! Source: what Open vSwitch 2.5 to 3.1 prints.

use super::{Columns, PortsError, Rows};
use flowproof_packet::port;
use flowproof_switch::pipeline::PortKind;

/// What `ovs-vsctl show` has said so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    bridge: String,
    tag: Option<u16>,
    /// Interfaces of the port that is being told of.
    interfaces: Vec<(String, Columns)>,
}

impl Reader {
    /// Reads one line.
    pub(super) fn line(&mut self, number: usize, line: &str, rows: &mut Rows) -> Result<(), PortsError> {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("Bridge ") {
            self.finish(rows);
            self.bridge = bare(name).to_owned();
        } else if line.starts_with("Port ") || line.starts_with("ovs_version:") {
            self.finish(rows);
        } else if let Some(name) = line.strip_prefix("Interface ") {
            let kind = Some(PortKind::System);
            let columns = Columns { kind, bridge: self.bridge.clone(), ..Columns::default() };
            self.interfaces.push((bare(name).to_owned(), columns));
        } else if let Some(tag) = line.strip_prefix("tag: ") {
            self.tag = Some(small(number, tag, "a VLAN is a number up to 4095", 4095)?);
        } else if let Some((_, columns)) = self.interfaces.last_mut() {
            match line.split_once(": ") {
                Some(("type", name)) => columns.kind = Some(PortKind::of_type(bare(name))),
                Some(("error", _)) => columns.broken = true,
                _ => {}
            }
        } else {
            described(number, line, rows)?;
        }
        Ok(())
    }

    /// The end of what is said of a port of `ovs-vsctl show`.
    pub(super) fn finish(&mut self, rows: &mut Rows) {
        let tag = self.tag.take();
        for (name, columns) in self.interfaces.drain(..) {
            rows.add(&name, Columns { tag, ..columns });
        }
    }
}

/// ` 1(tap0): addr:…` of `ovs-ofctl`, `tap0 1/2: (system)` of `dpif/show`.
fn described(number: usize, line: &str, rows: &mut Rows) -> Result<(), PortsError> {
    if let Some((head, _)) = line.split_once("): addr:") {
        let Some((ofport, name)) = head.split_once('(') else { return Ok(()) };
        return add(number, ofport, name, None, rows);
    }
    let Some((head, kind)) = line.split_once(": (") else { return Ok(()) };
    let Some((name, numbers)) = head.rsplit_once(' ') else { return Ok(()) };
    let Some((ofport, _)) = numbers.split_once('/') else { return Ok(()) };
    let kind = kind.split([':', ')']).next().unwrap_or("");
    add(number, ofport, name, Some(PortKind::of_type(kind)), rows)
}

fn add(
    line: usize,
    ofport: &str,
    name: &str,
    kind: Option<PortKind>,
    rows: &mut Rows,
) -> Result<(), PortsError> {
    let ofport = match ofport.trim() {
        "LOCAL" => port::LOCAL,
        text => small(line, text, "no OpenFlow port number", u16::MAX)?,
    };
    rows.add(bare(name), Columns { ofport: Some(ofport), kind, ..Columns::default() });
    Ok(())
}

/// A name without quotes.
fn bare(name: &str) -> &str {
    let name = name.trim();
    name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name)
}

fn small(line: usize, text: &str, message: &str, most: u16) -> Result<u16, PortsError> {
    let number = text.trim().parse().ok().filter(|number| *number <= most);
    let wrong =
        || PortsError::Text { line, message: message.to_owned(), text: text.chars().take(80).collect() };
    number.ok_or_else(wrong)
}
