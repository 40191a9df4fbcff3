//! `NXM_NX_REG6[0..15]`, `reg6[]`, `ct_mark`: a run of bits of a field.

use super::fault::{Parsed, fault};
use super::value::number;
use crate::flow::{Subfield, names};

/// The subfield at the start of `text`, up to `->` or the end, and what follows it.
pub(crate) fn subfield_prefix(text: &str) -> Parsed<'_, (Subfield, &str)> {
    let end = text.find(['[', '-', '=']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let Some(field) = names::field(name) else {
        return fault(text, format!("unknown field `{name}`"));
    };
    let whole = Subfield::whole(field);
    let Some(inside) = rest.strip_prefix('[') else { return Ok((whole, rest)) };
    let Some((inside, rest)) = inside.split_once(']') else {
        return fault(text, "expected `[]`, `[bit]` or `[first..last]`");
    };
    if inside.is_empty() {
        return Ok((whole, rest));
    }
    let (first, last) = inside.split_once("..").unwrap_or((inside, inside));
    let bits =
        (number(first).and_then(|n| u16::try_from(n).ok()), number(last).and_then(|n| u16::try_from(n).ok()));
    let (Some(first), Some(last)) = bits else {
        return fault(text, "expected `[]`, `[bit]` or `[first..last]`");
    };
    if first > last {
        return fault(text, format!("first bit {first} is after last bit {last}"));
    }
    if last >= whole.width {
        return fault(text, format!("bit {last} is not in a field of {} bits", whole.width));
    }
    Ok((Subfield { field, start: first, width: last - first + 1 }, rest))
}

/// A subfield and nothing else.
pub(crate) fn subfield(text: &str) -> Parsed<'_, Subfield> {
    match subfield_prefix(text)? {
        (found, "") => Ok(found),
        (_, rest) => fault(rest, "trailing garbage after a field"),
    }
}
