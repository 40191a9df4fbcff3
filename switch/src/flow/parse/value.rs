//! Numbers, addresses, flags and ports, as `ovs-ofctl` reads them.
//!
//! Invariant: a value and mask returned here hold what was written, not yet cut to the width of a field.
//!
//! Source: ovs-fields(7); experiments with `ovs-ofctl parse-flows` 3.1 (octal, negative numbers, `0x` with blanks).

use super::fault::{Parsed, fault};
use super::unknown::{Unknown, unquoted};
use crate::flow::names;
use flowproof_packet::{Field, Format, MacAddr, Maskable, PortNo, key::low_bits, port};
use std::{collections::BTreeMap, net::Ipv6Addr};

/// Where port names come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PortNames<'a> {
    /// Names the caller knows.
    pub(crate) known: &'a BTreeMap<String, PortNo>,
    /// Where names are kept that nobody knows.
    pub(crate) unknown: Option<&'a Unknown>,
}

/// The number at the start of `text` and what follows it: hexadecimal with `0x`, octal with `0`, or decimal.
pub(crate) fn number_prefix(text: &str) -> Option<(u128, &str)> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, text.get(1..)?),
        [b'+', ..] => (false, text.get(1..)?),
        _ => (false, text),
    };
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (radix, body) = match hex {
        Some(body) => (16, body),
        None if digits.starts_with('0') => (8, digits),
        None => (10, digits),
    };
    let mut short = 0_u64;
    let digit = |b: u8| (b as char).to_digit(radix);
    let mut end = 0;
    for digit in body.bytes().map_while(digit) {
        short = short.wrapping_mul(u64::from(radix)).wrapping_add(u64::from(digit));
        end += 1;
    }
    let (body, rest) = body.split_at_checked(end)?;
    let value = match body.len() {
        0 => return None,
        // Sixteen digits fit 64 bits in any of the bases.
        1..=16 => u128::from(short),
        _ => u128::from_str_radix(body, radix).ok()?,
    };
    let value = if negative { u128::from(u64::try_from(value).ok()?.wrapping_neg()) } else { value };
    Some((value, rest))
}

/// A whole text that is one number.
pub(crate) fn number(text: &str) -> Option<u128> {
    number_prefix(text).filter(|(_, rest)| rest.is_empty()).map(|(value, _)| value)
}

/// A number that fits `T`.
pub(crate) fn fitting<'a, T: TryFrom<u128>>(text: &'a str, what: &str) -> Parsed<'a, T> {
    match number(text).and_then(|value| T::try_from(value).ok()) {
        Some(value) => Ok(value),
        None => fault(text, format!("invalid {what}")),
    }
}

/// Value and mask of a field, as far as its text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Masked {
    /// The value; may have bits outside the mask, and more bits than the field.
    pub(crate) value: u128,
    /// The bits that matter.
    pub(crate) mask: u128,
}

impl Masked {
    const fn exact(value: u128) -> Self {
        Self { value, mask: u128::MAX }
    }
}

/// Bytes that a number for this field may fill before ovs-ofctl calls it too large.
pub(crate) fn storage_bits(field: Field) -> u16 {
    match field.spec().width {
        _ if field == Field::ArpOp => 16,
        0..=8 => 8,
        9..=16 => 16,
        17..=32 => 32,
        33..=48 => 48,
        49..=64 => 64,
        _ => 128,
    }
}

fn integer<'a>(field: Field, text: &'a str) -> Parsed<'a, Masked> {
    let bits = low_bits(storage_bits(field));
    let name = field.spec().name;
    let Some((value, rest)) = number_prefix(text) else {
        return fault(text, format!("bad syntax for the value of {name}"));
    };
    let mask = match rest.strip_prefix('/') {
        Some(mask) => match number(mask) {
            Some(mask) => mask,
            None => return fault(text, format!("bad syntax for the mask of {name}")),
        },
        None if rest.is_empty() => bits,
        None => return fault(text, format!("bad syntax for the value of {name}")),
    };
    if value > bits || mask > bits {
        return fault(text, format!("number too large for {name}"));
    }
    Ok(Masked { value, mask: if mask == bits { u128::MAX } else { mask } })
}

/// Four decimal octets.
fn dotted_quad(text: &str) -> Option<u32> {
    let mut octets = [0_u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then(|| u32::from_be_bytes(octets))
}

/// The prefix length after the slash, or a mask in the form of an address.
fn address<'a>(
    text: &'a str,
    width: u8,
    what: &str,
    read: impl Fn(&str) -> Option<u128>,
) -> Parsed<'a, Masked> {
    let (value, mask) = text.split_once('/').map_or((text, None), |(value, mask)| (value, Some(mask)));
    let Some(value) = read(value) else {
        return fault(text, format!("invalid {what} address"));
    };
    let Some(mask) = mask else { return Ok(Masked::exact(value)) };
    // The tool takes what begins with a digit for a length (experiment).
    let length = width == 128 && mask.starts_with(|first: char| first.is_ascii_digit());
    if let Some(mask) = read(mask).filter(|_| !length) {
        let full = low_bits(u16::from(width));
        return Ok(Masked { value, mask: if mask == full { u128::MAX } else { mask } });
    }
    match mask.parse::<u8>() {
        Ok(length) if length == width => Ok(Masked::exact(value)),
        Ok(length) if length < width => {
            Ok(Masked { value, mask: low_bits(u16::from(width)) & !low_bits(u16::from(width - length)) })
        }
        _ => fault(text, format!("{what} prefix length not between 0 and {width}")),
    }
}

/// An IPv4 address, with or without mask.
pub(crate) fn ipv4(text: &str) -> Parsed<'_, Masked> {
    address(text, 32, "IPv4", |t| dotted_quad(t).map(u128::from))
}

/// An IPv6 address, with or without mask.
pub(crate) fn ipv6(text: &str) -> Parsed<'_, Masked> {
    address(text, 128, "IPv6", |t| t.parse::<Ipv6Addr>().ok().map(u128::from))
}

fn mac(text: &str) -> Option<u128> {
    text.parse::<MacAddr>().ok().map(|mac| u128::from(mac.to_bits()))
}

/// An Ethernet address, with or without mask.
pub(crate) fn ethernet(text: &str) -> Parsed<'_, Masked> {
    let (value, mask) = text.split_once('/').map_or((text, None), |(value, mask)| (value, Some(mask)));
    match (mac(value), mask.map(mac)) {
        (Some(value), None) => Ok(Masked::exact(value)),
        (Some(value), Some(Some(mask))) => {
            Ok(Masked { value, mask: if mask == low_bits(48) { u128::MAX } else { mask } })
        }
        _ => fault(text, "invalid Ethernet address"),
    }
}

fn flag_bit(names: &[&str], name: &str) -> Option<u128> {
    names.iter().position(|known| *known == name).map(|bit| 1 << bit)
}

/// Flags in one of three forms: `+a-b`, `a|b` (all bits), `value/mask`.
pub(crate) fn flags<'a>(text: &'a str, names: &[&str], what: &str) -> Parsed<'a, Masked> {
    let allowed = low_bits(u16::try_from(names.len()).unwrap_or(u16::MAX));
    let unknown = |at| fault(at, format!("unknown {what} flag"));
    if let Some((value, mask)) = text.split_once('/') {
        return match (number(value), number(mask)) {
            (Some(value), Some(mask)) if (value | mask) & !allowed == 0 => Ok(Masked { value, mask }),
            _ => unknown(text),
        };
    }
    let mut found = Masked { value: 0, mask: 0 };
    if text.starts_with(['+', '-']) {
        let mut rest = text;
        while let Some(sign) = rest.chars().next() {
            let after = rest.get(1..).unwrap_or("");
            let (name, next) = after.split_at(after.find(['+', '-']).unwrap_or(after.len()));
            let Some(bit) = flag_bit(names, name) else { return unknown(text) };
            if found.mask & bit != 0 {
                return fault(text, format!("each {what} flag can be specified only once"));
            }
            found.mask |= bit;
            found.value |= if sign == '+' { bit } else { 0 };
            rest = next;
        }
        return Ok(found);
    }
    for name in text.split('|') {
        match flag_bit(names, name).or_else(|| number(name)) {
            Some(bits) if bits & !allowed == 0 => found.value |= bits,
            _ => return unknown(text),
        }
    }
    Ok(Masked::exact(found.value))
}

/// First and last 32-bit numbers that OpenFlow 1.1 and later give to the reserved ports.
const RESERVED_32: std::ops::RangeInclusive<u32> = 0xffff_ff00..=0xffff_ffff;

/// An OpenFlow port: number, reserved name, or a name the caller knows.
pub(crate) fn port_number(text: &str, names: PortNames<'_>) -> Option<PortNo> {
    if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
        let wide = text.parse::<u32>().ok()?;
        let narrow = if RESERVED_32.contains(&wide) { wide & 0xffff } else { wide };
        let number = PortNo::try_from(narrow).ok();
        if let (Some(unknown), Some(number)) = (names.unknown, number) {
            unknown.literal(number);
        }
        return number;
    }
    let reserved = port::NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    if let Some((_, number)) = reserved {
        return Some(*number);
    }
    let known = names.known.get(unquoted(text)).copied();
    known.or_else(|| names.unknown.and_then(|unknown| unknown.port(text)))
}

fn fragment(text: &str) -> Parsed<'_, Masked> {
    match names::FRAGMENTS.iter().find(|(name, ..)| name.eq_ignore_ascii_case(text)) {
        Some(&(_, value, mask)) => Ok(Masked { value, mask }),
        None => fault(text, "unknown fragment type: `no`, `yes`, `first`, `later`, `not_later`"),
    }
}

fn packet_type(text: &str) -> Parsed<'_, Masked> {
    let inner = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')).and_then(|t| t.split_once(','));
    match inner.map(|(ns, kind)| (fitting::<u16>(ns, "ns"), fitting::<u16>(kind, "type"))) {
        Some((Ok(ns), Ok(kind))) => Ok(Masked::exact(u128::from(ns) << 16 | u128::from(kind))),
        _ => fault(text, "bad syntax for packet type, `(ns,type)` expected"),
    }
}

/// OpenFlow's value for "no output port yet".
const UNSET: &str = "unset";
/// The number that stands for it.
pub(crate) const UNSET_PORT: PortNo = port::UNSET;

fn port_value<'a>(field: Field, text: &'a str, names: PortNames<'_>) -> Parsed<'a, Masked> {
    if field == Field::ActsetOutput && text.eq_ignore_ascii_case(UNSET) {
        return Ok(Masked::exact(u128::from(UNSET_PORT)));
    }
    match port_number(text, names) {
        Some(number) => Ok(Masked::exact(u128::from(number))),
        None => fault(text, format!("invalid or unknown port for {}", field.spec().name)),
    }
}

/// The value and mask that `text` gives `field`.
pub(crate) fn field_value<'a>(field: Field, text: &'a str, ports: PortNames<'_>) -> Parsed<'a, Masked> {
    if text == "*" {
        return Ok(Masked { value: 0, mask: 0 });
    }
    let spec = field.spec();
    let found = match spec.format {
        Format::Decimal | Format::Hex => integer(field, text),
        Format::Ethernet => ethernet(text),
        Format::Ipv4 => ipv4(text),
        Format::Ipv6 => ipv6(text),
        Format::Port => port_value(field, text, ports),
        Format::Frag => return fragment(text),
        Format::CtState => flags(text, names::CT_STATE, "ct_state"),
        Format::TcpFlags => flags(text, names::TCP_FLAGS, "TCP"),
        Format::TunFlags => flags(text, names::TUN_FLAGS, "tunnel"),
        Format::PacketType => packet_type(text),
    }?;
    if spec.maskable == Maskable::No && found.mask != 0 && found.mask != u128::MAX {
        return fault(text, format!("invalid mask for field {}", spec.name));
    }
    Ok(found)
}
