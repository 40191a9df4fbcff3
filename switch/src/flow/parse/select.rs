//! `multipath(…)` and `bundle(…)`: choose a link by a hash; read, checked and printed, not modelled.
//!
//! Source: ovs-actions(7), "multipath", "bundle"; experiments with `ovs-ofctl parse-flows` 3.1.

use super::action::Reader;
use super::fault::{Parsed, fault};
use super::items::Item;
use super::opaque::leading_decimal;
use super::subfield::subfield;
use super::value::port_number;
use crate::flow::Subfield;
use crate::flow::print::{port_name, subfield_text};
use flowproof_packet::Field;

/// What the hash is over.
const HASHED: &[&str] =
    &["eth_src", "symmetric_l4", "symmetric_l3l4", "symmetric_l3l4+udp", "nw_src", "nw_dst", "symmetric_l3"];
/// How `multipath` picks a link.
const MULTIPATH: &[&str] = &["modulo_n", "hash_threshold", "hrw", "iter_hash"];
/// How `bundle` picks a member.
const BUNDLE: &[&str] = &["active_backup", "hrw"];

fn known<'a>(text: &'a str, names: &[&'static str], what: &str) -> Parsed<'a, &'static str> {
    match names.iter().find(|name| name.eq_ignore_ascii_case(text)) {
        Some(name) => Ok(name),
        None => fault(text, format!("unknown {what}")),
    }
}

fn destination<'a>(reader: &Reader<'_, '_>, text: &'a str, item: Item<'a>) -> Parsed<'a, Subfield> {
    let part = subfield(text)?;
    if part.field == Field::ActsetOutput {
        return fault(text, "field cannot be used here");
    }
    reader.needs_writable(part, item)?;
    Ok(part)
}

/// Reads `multipath(…)` and prints it as ovs-ofctl does.
pub(crate) fn multipath<'a>(reader: &Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, String> {
    let parts: Vec<&str> = item.value.split([',', ' ']).filter(|part| !part.is_empty()).collect();
    let [fields, basis, algorithm, links, argument, target, ..] = parts.as_slice() else {
        return fault(item.whole, "not enough arguments to multipath action");
    };
    let fields = known(fields, HASHED, "fields")?;
    let algorithm = known(algorithm, MULTIPATH, "algorithm")?;
    let count = leading_decimal(links);
    if !(1..=65536).contains(&count) {
        return fault(links, "number of links is not in 1 to 65536");
    }
    let target = destination(reader, target, item)?;
    if target.width < 16 && count > 1 << target.width {
        return fault(links, format!("{} bits cannot tell so many links apart", target.width));
    }
    let (basis, argument) = (leading_decimal(basis) & 0xffff, leading_decimal(argument) & 0xffff_ffff);
    Ok(format!("multipath({fields},{basis},{algorithm},{count},{argument},{})", subfield_text(target)))
}

/// Reads `bundle(…)` or `bundle_load(…)` and prints it as ovs-ofctl does.
pub(crate) fn bundle<'a>(reader: &Reader<'_, '_>, item: Item<'a>, loads: bool) -> Parsed<'a, String> {
    let is_gap = |c: char| matches!(c, ',' | ' ');
    let split = item.value.find(':').unwrap_or(item.value.len());
    let (head, members) = item.value.split_at(split);
    let parts: Vec<&str> = head.split(is_gap).filter(|part| !part.is_empty()).collect();
    let (arguments, target, delimiter) = match (parts.as_slice(), loads) {
        ([a, b, c, d, target, delimiter], true) => ([*a, *b, *c, *d], Some(*target), *delimiter),
        ([a, b, c, d, delimiter], false) => ([*a, *b, *c, *d], None, *delimiter),
        _ => return fault(item.whole, "wrong number of arguments to bundle action"),
    };
    if !matches!(delimiter, "members" | "slaves") {
        return fault(delimiter, "missing member delimiter, expected `members`");
    }
    let [fields, basis, algorithm, kind] = arguments;
    let fields = known(fields, HASHED, "fields")?;
    let algorithm = known(algorithm, BUNDLE, "algorithm")?;
    known(kind, &["ofport"], "member type")?;
    let target = match target {
        Some(text) => format!("{},", subfield_text(destination(reader, text, item)?)),
        None => String::new(),
    };
    let mut ports = Vec::new();
    for member in members.split([',', ' ', '[', ']', ':']).filter(|member| !member.is_empty()) {
        match port_number(member, reader.names.ports) {
            Some(number) => ports.push(port_name(number)),
            None => return fault(member, "bad port number"),
        }
    }
    let name = if loads { "bundle_load" } else { "bundle" };
    let basis = leading_decimal(basis) & 0xffff;
    Ok(format!("{name}({fields},{basis},{algorithm},ofport,{target}members:{})", ports.join(",")))
}
