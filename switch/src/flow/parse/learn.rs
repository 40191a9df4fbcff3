//! `learn(…)`
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
use crate::flow::names::field;
use crate::flow::{Action, Learn, LearnSource, LearnSpec, Match, Subfield};
use flowproof_packet::{Field, key::low_bits};

/// What the action says so far.
struct Draft {
    learn: Learn,
    /// The match of the flows to be learned.
    learned: Match,
}

/// The timeouts in their order.
const TIMEOUTS: [&str; 4] = ["idle_timeout", "hard_timeout", "fin_idle_timeout", "fin_hard_timeout"];

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

fn load<'a>(draft: &mut Draft, reader: &Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, ()> {
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
    let src = match number_prefix(source) {
        Some((value, "")) if value <= low_bits(target.width) => LearnSource::Value(value),
        Some((_, "")) => return fault(item.whole, format!("value does not fit into {} bits", target.width)),
        Some(_) => return fault(item.whole, "garbage before `->`"),
        None => {
            let part = subfield(source)?;
            if part.width != target.width {
                return fault(item.whole, "source and destination differ in width");
            }
            reader.needs(part.field, item)?;
            LearnSource::Field(part)
        }
    };
    draft.learn.specs.push(LearnSpec::Load { dst: target, src });
    Ok(())
}

/// `field=value`: an exact value for the flow to be learned.
fn immediate<'a>(
    draft: &mut Draft,
    reader: &Reader<'_, '_>,
    part: Subfield,
    item: Item<'a>,
) -> Parsed<'a, u128> {
    if part == Subfield::whole(part.field) {
        let wanted = field_value(part.field, item.value, reader.names.ports)?;
        if wanted.mask != u128::MAX {
            return fault(item.whole, "wildcards not allowed here");
        }
        field_item(&mut draft.learned, part.field, item.value, reader.names.ports)?;
        return Ok(wanted.value & low_bits(part.width));
    }
    match number(item.value) {
        Some(value) if value <= low_bits(part.width) => {
            let (old, _) = draft.learned.get(part.field);
            set(&mut draft.learned, part.field, Masked { value: old | value << part.start, mask: u128::MAX });
            Ok(value)
        }
        _ => fault(item.whole, format!("value does not fit into {} bits", part.width)),
    }
}

fn match_spec<'a>(
    draft: &mut Draft,
    reader: &Reader<'_, '_>,
    part: Subfield,
    item: Item<'a>,
) -> Parsed<'a, ()> {
    let part = carried(part, item)?;
    if !Headers::of(&draft.learned).has(part.field) {
        return fault(
            item.whole,
            format!("the learned match lacks the prerequisites of {}", part.field.spec().name),
        );
    }
    let from = if item.value.is_empty() { Some(part) } else { subfield(item.value).ok() };
    let src = match from {
        None => LearnSource::Value(immediate(draft, reader, part, item)?),
        Some(from) if from.width != part.width => return fault(item.whole, "bit widths differ"),
        Some(from) => {
            reader.needs(from.field, item)?;
            LearnSource::Field(from)
        }
    };
    draft.learn.specs.push(LearnSpec::Match { dst: part, src });
    Ok(())
}

fn argument<'a>(draft: &mut Draft, reader: &Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, ()> {
    let small = leading_decimal(item.value);
    let learn = &mut draft.learn;
    let mut timeouts = TIMEOUTS.iter().zip(&mut learn.timeouts);
    if let Some((_, number)) = timeouts.find(|(name, _)| **name == item.key) {
        *number = (small & 0xffff) as u16;
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
        "cookie" => learn.cookie = number_prefix(item.value).map_or(0, |(value, _)| saturated(value)),
        "limit" => learn.limit = (small & 0xffff_ffff) as u32,
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
        "load" => return load(draft, reader, item),
        "output" => {
            let part = subfield(item.value)?;
            reader.needs(part.field, item)?;
            learn.specs.push(LearnSpec::Output(part));
        }
        // A subfield's brackets belong to its name.
        _ if field(item.key.split('[').next().unwrap_or("")).is_some() => {
            let (part, rest) = subfield_prefix(item.key)?;
            if !rest.is_empty() {
                return fault(rest, "trailing garbage after a field");
            }
            return match_spec(draft, reader, part, item);
        }
        _ => return fault(item.whole, format!("unknown keyword {}", item.key)),
    }
    Ok(())
}

fn saturated(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Reads `learn(…)`.
pub(crate) fn learn<'a>(reader: &Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, Action> {
    let learn = Learn {
        table: 1,
        timeouts: [0; 4],
        priority: DEFAULT_PRIORITY,
        send_flow_rem: false,
        delete_learned: false,
        cookie: 0,
        limit: 0,
        result: None,
        specs: Vec::new(),
    };
    let mut draft = Draft { learn, learned: Match::default() };
    for item in Items::of(item.value) {
        argument(&mut draft, reader, item)?;
    }
    Ok(Action::Learn(Box::new(draft.learn)))
}
