//! Actions that are accepted and printed but not modelled.
//!
//! Invariant: the text kept is what ovs-ofctl would print, as far as it is known; reading it again gives it again.
//!
//! Source: ovs-actions(7); experiments with `ovs-ofctl parse-flows` 3.1.

use super::action::Reader;
use super::fault::{Parsed, fault};
use super::items::{Item, Items};
use super::value::{PortNames, fitting, port_number};
use crate::flow::Action;

/// Bytes written as hexadecimal digits in pairs, with dots or blanks between them.
pub(crate) fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    let mut rest = text.trim_start_matches(['.', ' ']);
    let mut bytes = Vec::new();
    while !rest.is_empty() {
        let (pair, next) = rest.split_at_checked(2)?;
        if !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(pair, 16).ok()?);
        rest = next.trim_start_matches(['.', ' ']);
    }
    Some(bytes)
}

/// `00.11.22`
pub(crate) fn dotted_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(".")
}

/// `controller`, kept as what follows the name.
pub(crate) fn controller(item: Item<'_>) -> Parsed<'_, Action> {
    Ok(Action::Controller(match (item.value, item.paren) {
        ("", _) => ":65535".to_owned(),
        (value, true) => format!("({value})"),
        (value, false) => format!(":{value}"),
    }))
}

/// `output(port=P,max_len=N)`
pub(crate) fn output_truncated<'a>(text: &'a str, ports: PortNames<'_>) -> Parsed<'a, String> {
    let (mut port, mut max_len) = (0, 0);
    for item in Items::of(text) {
        match item.key {
            "port" => match port_number(item.value, ports) {
                Some(number) => port = number,
                None => return fault(item.whole, "output to unknown truncate port"),
            },
            "max_len" => max_len = fitting::<u32>(item.value, "max_len")?,
            _ => return fault(item.whole, "invalid key in output argument"),
        }
    }
    Ok(format!("output(port={port},max_len={max_len})"))
}

/// `nat…` inside `ct`.
pub(crate) fn nat(item: Item<'_>, _dl_type: u16) -> Parsed<'_, String> {
    Ok(if item.value.is_empty() { "nat".to_owned() } else { format!("nat({})", item.value) })
}

const NAMES: &[&str] = &[
    "group",
    "enqueue",
    "bundle",
    "bundle_load",
    "push",
    "pop",
    "set_mpls_label",
    "set_mpls_tc",
    "set_mpls_ttl",
    "dec_mpls_ttl",
    "push_mpls",
    "pop_mpls",
    "dec_nsh_ttl",
    "delete_field",
    "encap",
    "decap",
    "set_tunnel",
    "set_tunnel64",
    "set_queue",
    "pop_queue",
    "fin_timeout",
    "learn",
    "multipath",
    "exit",
    "sample",
    "clone",
    "check_pkt_larger",
    "meter",
    "clear_actions",
    "write_actions",
    "write_metadata",
];

/// The opaque action with this name, or nothing if there is none.
pub(crate) fn action<'a>(
    _reader: &mut Reader<'_, '_>,
    name: &str,
    item: Item<'a>,
) -> Parsed<'a, Option<Action>> {
    Ok(NAMES.contains(&name).then(|| Action::Opaque(item.whole.to_owned())))
}
