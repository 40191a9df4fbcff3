//! `learn(…)`: read, checked and printed; not modelled.
//!
//! Source: ovs-actions(7), "The learn action"; experiments with `ovs-ofctl parse-flows` 3.1.

use super::action::{Reader, table_number};
use super::check::Headers;
use super::fault::{Parsed, fault};
use super::items::{Item, Items};
use super::line::DEFAULT_PRIORITY;
use super::matches::{field_item, set};
use super::opaque::leading_decimal;
use super::subfield::{subfield, subfield_prefix};
use super::value::{Masked, field_value, number, number_prefix};
use crate::flow::names::{action_name, field};
use crate::flow::print::{field_text, subfield_text};
use crate::flow::{Match, Subfield};
use flowproof_packet::{Field, key::low_bits};

/// What the action says so far.
struct Learn {
    table: u8,
    /// Numbers that are printed where they are not zero, in their order.
    numbers: [(&'static str, u64); 4],
    priority: u16,
    send_flow_rem: bool,
    delete_learned: bool,
    cookie: u128,
    limit: u64,
    result: Option<Subfield>,
    /// The match of the flows to be learned.
    learned: Match,
    specs: Vec<String>,
}

/// Fields without an NXM or OXM number that `learn` could carry.
fn carried(part: Subfield, item: Item<'_>) -> Parsed<'_, Subfield> {
    if matches!(
        part.field,
        Field::ActsetOutput | Field::PacketType | Field::NdReserved | Field::NdOptionsType
    ) {
        return fault(item.whole, format!("field {} cannot be learned", part.field.spec().name));
    }
    Ok(part)
}

fn load<'a>(learn: &mut Learn, reader: &Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, ()> {
    let Some((source, target)) = item.value.split_once("->") else {
        return fault(item.whole, "missing `->`");
    };
    if source.is_empty() {
        return fault(item.whole, "missing source before `->`");
    }
    let target = carried(subfield(target)?, item)?;
    if !target.field.spec().writable {
        return fault(item.whole, format!("{} is read-only", target.field.spec().name));
    }
    let source = match number_prefix(source) {
        Some((value, "")) if value <= low_bits(target.width) => format!("{value:#x}"),
        Some((_, "")) => return fault(item.whole, format!("value does not fit into {} bits", target.width)),
        Some(_) => return fault(item.whole, "garbage before `->`"),
        None => {
            let part = subfield(source)?;
            if part.width != target.width {
                return fault(item.whole, "source and destination differ in width");
            }
            reader.needs(part.field, item)?;
            subfield_text(part)
        }
    };
    learn.specs.push(format!("load:{source}->{}", subfield_text(target)));
    Ok(())
}

/// `field=value`: an exact value for the flow to be learned.
fn immediate<'a>(
    learn: &mut Learn,
    reader: &Reader<'_, '_>,
    part: Subfield,
    item: Item<'a>,
) -> Parsed<'a, String> {
    if part == Subfield::whole(part.field) {
        let wanted = field_value(part.field, item.value, reader.names.ports)?;
        if wanted.mask != u128::MAX {
            return fault(item.whole, "wildcards not allowed here");
        }
        field_item(&mut learn.learned, part.field, item.value, reader.names.ports)?;
        let bits = low_bits(part.field.spec().width);
        return Ok(format!(
            "{}={}",
            action_name(part.field),
            field_text(part.field, wanted.value & bits, bits)
        ));
    }
    match number(item.value) {
        Some(value) if value <= low_bits(part.width) => {
            let (old, _) = learn.learned.get(part.field);
            set(&mut learn.learned, part.field, Masked { value: old | value << part.start, mask: u128::MAX });
            Ok(format!("{}={value:#x}", subfield_text(part)))
        }
        _ => fault(item.whole, format!("value does not fit into {} bits", part.width)),
    }
}

fn match_spec<'a>(
    learn: &mut Learn,
    reader: &Reader<'_, '_>,
    part: Subfield,
    item: Item<'a>,
) -> Parsed<'a, ()> {
    let part = carried(part, item)?;
    if !Headers::of(&learn.learned).has(part.field) {
        return fault(
            item.whole,
            format!("the learned match lacks the prerequisites of {}", part.field.spec().name),
        );
    }
    let from = if item.value.is_empty() { Some(part) } else { subfield(item.value).ok() };
    let text = match from {
        None => immediate(learn, reader, part, item)?,
        Some(from) if from.width != part.width => return fault(item.whole, "bit widths differ"),
        Some(from) => {
            reader.needs(from.field, item)?;
            let same = from.field == part.field && from.start == part.start;
            let name = subfield_text(part);
            if same { name } else { format!("{name}={}", subfield_text(from)) }
        }
    };
    learn.specs.push(text);
    Ok(())
}

fn argument<'a>(learn: &mut Learn, reader: &Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, ()> {
    let small = leading_decimal(item.value);
    if let Some((_, number)) = learn.numbers.iter_mut().find(|(name, _)| *name == item.key) {
        *number = small & 0xffff;
        return Ok(());
    }
    match item.key {
        "table" => match table_number(item.value, reader.names.tables) {
            Some(255) | None => return fault(item.whole, "invalid table in `learn`"),
            Some(table) => learn.table = table,
        },
        "priority" => learn.priority = (small & 0xffff) as u16,
        "send_flow_rem" => learn.send_flow_rem = true,
        "delete_learned" => learn.delete_learned = true,
        "cookie" => learn.cookie = number_prefix(item.value).map_or(0, |(value, _)| value),
        "limit" => learn.limit = small & 0xffff_ffff,
        "result_dst" => {
            let part = subfield(item.value)?;
            if !part.field.spec().writable {
                return fault(item.whole, format!("{} is read-only", part.field.spec().name));
            }
            if part.width != 1 {
                return fault(item.whole, "result_dst must be a single bit");
            }
            learn.result = Some(part);
        }
        "load" => return load(learn, reader, item),
        "output" => {
            let part = subfield(item.value)?;
            reader.needs(part.field, item)?;
            learn.specs.push(format!("output:{}", subfield_text(part)));
        }
        // A subfield's brackets belong to its name.
        _ if field(item.key.split('[').next().unwrap_or("")).is_some() => {
            let (part, rest) = subfield_prefix(item.key)?;
            if !rest.is_empty() {
                return fault(rest, "trailing garbage after a field");
            }
            return match_spec(learn, reader, part, item);
        }
        _ => return fault(item.whole, format!("unknown keyword {}", item.key)),
    }
    Ok(())
}

impl Learn {
    fn text(&self) -> String {
        let mut parts = vec![format!("table={}", self.table)];
        let set = self.numbers.iter().filter(|(_, number)| *number != 0);
        parts.extend(set.map(|(name, number)| format!("{name}={number}")));
        if self.priority != DEFAULT_PRIORITY {
            parts.push(format!("priority={}", self.priority));
        }
        let flags = [(self.send_flow_rem, "send_flow_rem"), (self.delete_learned, "delete_learned")];
        parts.extend(flags.iter().filter(|(on, _)| *on).map(|(_, name)| (*name).to_owned()));
        if self.cookie != 0 {
            parts.push(format!("cookie={:#x}", self.cookie));
        }
        if self.limit != 0 {
            parts.push(format!("limit={}", self.limit));
        }
        parts.extend(self.result.map(|part| format!("result_dst={}", subfield_text(part))));
        parts.extend(self.specs.iter().cloned());
        format!("learn({})", parts.join(","))
    }
}

/// Reads `learn(…)` and prints it as ovs-ofctl does.
pub(crate) fn learn<'a>(reader: &Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, String> {
    let mut learn = Learn {
        table: 1,
        numbers: [("idle_timeout", 0), ("hard_timeout", 0), ("fin_idle_timeout", 0), ("fin_hard_timeout", 0)],
        priority: DEFAULT_PRIORITY,
        send_flow_rem: false,
        delete_learned: false,
        cookie: 0,
        limit: 0,
        result: None,
        learned: Match::default(),
        specs: Vec::new(),
    };
    for item in Items::of(item.value) {
        argument(&mut learn, reader, item)?;
    }
    Ok(learn.text())
}
