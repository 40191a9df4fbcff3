//! What the tools of Open vSwitch say, in their own words, and bytes as they take them.
//!
//! Source: ovs-vswitchd(8), `dpif/show`, `fdb/show`.

use crate::switch::Learned;
use flowproof_packet::{PortNo, port};
use std::collections::BTreeMap;

pub(crate) fn sorted_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// Bytes as the control socket takes them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// `    p1 1/2: (dummy)`: OpenFlow port 1 is the datapath's port 2.
pub(crate) fn datapath_ports(text: &str) -> BTreeMap<u32, PortNo> {
    let port = |line: &str| {
        let (numbers, _) = line.split_whitespace().nth(1)?.split_once(':')?;
        let (ofport, own) = numbers.split_once('/')?;
        Some((own.parse().ok()?, ofport.parse().ok()?))
    };
    text.lines().filter_map(port).collect()
}

/// `    1     0  00:00:00:00:00:01    0`: port, VLAN, address, age.
pub(crate) fn fdb_entry(line: &str) -> Option<Learned> {
    let mut words = line.split_whitespace();
    let (number, vlan, mac) = (words.next()?, words.next()?, words.next()?);
    let number = if number == "LOCAL" { port::LOCAL } else { number.parse().ok()? };
    Some((number, vlan.parse().ok()?, mac.parse().ok()?))
}
