//! `ct(…)` and `nat(…)`.
//!
//! Source: ovs-actions(7), "The ct action"; experiments with `ovs-ofctl parse-flows` 3.1.

use super::action::{Outer, Reader, actions, table_number};
use super::fault::{Parsed, fault};
use super::items::{Item, Items};
use super::nat::nat;
use super::subfield::subfield;
use super::value::{fitting, number};
use crate::flow::names::ipproto;
use crate::flow::{Action, Ct, Helper, Nat, Zone};

fn zone<'a>(reader: &Reader<'_, '_>, item: Item<'a>, text: &'a str) -> Parsed<'a, Zone> {
    if let Some(zone) = number(text).and_then(|n| u16::try_from(n).ok()) {
        return Ok(Zone::Const(zone));
    }
    let part = subfield(text)?;
    if part.width != 16 {
        return fault(text, "a zone is 16 bits wide");
    }
    reader.needs(part.field, item)?;
    Ok(Zone::Field(part))
}

fn helper(text: &str) -> Parsed<'_, Helper> {
    match Helper::NAMED.iter().find(|(name, _)| *name == text) {
        Some((_, helper)) => Ok(*helper),
        None => match fitting::<u16>(text, "alg")? {
            0 => fault(text, "invalid alg"),
            port => Ok(Helper(port)),
        },
    }
}

/// Reads `ct(…)` and checks it against the match.
pub(crate) fn ct<'a>(reader: &mut Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, Action> {
    let mut found = Ct {
        commit: false,
        force: false,
        table: None,
        zone: Zone::Const(0),
        exec: Vec::new(),
        nat: None,
        alg: None,
    };
    for argument in Items::of(item.value) {
        match argument.key {
            "commit" => found.commit = true,
            "force" => found.force = true,
            "table" => match table_number(argument.value, reader.names.tables) {
                Some(255) => return fault(argument.whole, "invalid table 255"),
                Some(table) => found.table = Some(table),
                None => return fault(argument.whole, "unknown table"),
            },
            "zone" => found.zone = zone(reader, item, argument.value)?,
            "alg" => found.alg = Some(helper(argument.value)?),
            "nat" => found.nat = Some(nat(argument, reader.context.headers.dl_type)?),
            "exec" => {
                let mut inner = reader.context.clone();
                found.exec = actions(
                    argument.value,
                    reader.names,
                    &mut inner,
                    Outer::Ct,
                    reader.depth.saturating_add(1),
                )?;
                reader.context.protocols = inner.protocols;
            }
            _ => return fault(argument.whole, format!("invalid argument to `ct` action: {}", argument.key)),
        }
    }
    if found.force && !found.commit {
        return fault(item.whole, "`force` requires `commit`");
    }
    check(reader, &found, item)?;
    Ok(Action::Ct(Box::new(found)))
}

fn check<'a>(reader: &mut Reader<'_, '_>, found: &Ct, item: Item<'a>) -> Parsed<'a, ()> {
    let headers = reader.context.headers;
    let helps = |helper| found.alg == Some(helper);
    if found.commit && headers.is_invalid() {
        return fault(item.whole, "ct(commit) in a flow that matches invalid packets");
    }
    if helps(Helper::FTP) && headers.nw_proto != ipproto::TCP
        || helps(Helper::TFTP) && headers.nw_proto != ipproto::UDP
    {
        return fault(item.whole, "the match lacks the protocol that the helper needs");
    }
    if !found.commit && (matches!(found.nat, Some(Nat::New(_))) || found.alg.is_some()) {
        return fault(item.whole, "`alg`, and `nat` with arguments, require `commit`");
    }
    if !headers.is_ip() {
        reader.context.remarks.ct_without_ip = true;
    }
    Ok(())
}
