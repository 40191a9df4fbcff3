//! Values of fields as text.

use crate::flow::Subfield;
use crate::flow::names;
use crate::flow::parse::UNSET_PORT;
use flowproof_packet::{Field, Format, MacAddr, PortNo, key::low_bits, port};
use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A number with `0x`, but a bare `0`, as C's `%#x` has it.
pub(crate) struct Hex(pub(crate) u128);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_str("0") } else { write!(f, "{:#x}", self.0) }
    }
}

/// A port's number, or its name if it is reserved.
pub(crate) fn port_name(number: PortNo) -> String {
    let name = match number {
        port::NONE => Some("ANY"),
        UNSET_PORT => Some("UNSET"),
        _ => port::NAMES.iter().find(|(_, known)| *known == number).map(|(name, _)| *name),
    };
    name.map_or_else(|| number.to_string(), str::to_owned)
}

/// The length of the prefix that `mask` is, if it is one.
pub(crate) fn prefix_length(mask: u128, width: u16) -> Option<u32> {
    let missing = low_bits(width) & !mask;
    (missing & missing.wrapping_add(1) == 0).then(|| u32::from(width) - missing.count_ones())
}

/// An IPv4 address, with its mask unless that is full.
pub(crate) fn put_ipv4(out: &mut impl Write, value: u128, mask: u128) -> fmt::Result {
    let quad = |bits: u128| Ipv4Addr::from((bits & 0xffff_ffff) as u32);
    write!(out, "{}", quad(value))?;
    match prefix_length(mask, 32) {
        Some(32) => Ok(()),
        Some(length) => write!(out, "/{length}"),
        None => write!(out, "/{}", quad(mask)),
    }
}

/// An IPv6 address as inet_ntop(3) writes it: the last 32 bits dotted behind 96 zero bits.
fn put_ipv6_address(out: &mut impl Write, bits: u128) -> fmt::Result {
    if bits >> 32 == 0 && bits >> 16 != 0 {
        return write!(out, "::{}", Ipv4Addr::from((bits & 0xffff_ffff) as u32));
    }
    write!(out, "{}", Ipv6Addr::from(bits))
}

/// An IPv6 address, with its mask unless that is full.
pub(crate) fn put_ipv6(out: &mut impl Write, value: u128, mask: u128) -> fmt::Result {
    put_ipv6_address(out, value)?;
    match prefix_length(mask, 128) {
        Some(128) => Ok(()),
        Some(length) => write!(out, "/{length}"),
        None => {
            out.write_char('/')?;
            put_ipv6_address(out, mask)
        }
    }
}

/// An Ethernet address, with its mask unless that is full.
pub(crate) fn put_ethernet(out: &mut impl Write, value: u128, mask: u128) -> fmt::Result {
    let mac = |bits: u128| MacAddr::from_bits((bits & low_bits(48)) as u64);
    write!(out, "{}", mac(value))?;
    if mask == low_bits(48) { Ok(()) } else { write!(out, "/{}", mac(mask)) }
}

/// `+a-b`, or `a|b` where all the `width` bits matter.
pub(crate) fn put_flags(
    out: &mut impl Write,
    names: &[&str],
    value: u128,
    mask: u128,
    width: u16,
) -> fmt::Result {
    let set = |bit: usize, of: u128| of >> bit & 1 == 1;
    if mask == low_bits(width) {
        if value == 0 {
            return out.write_char('0');
        }
        let on = names.iter().enumerate().filter(|(bit, _)| set(*bit, value));
        for (n, (_, name)) in on.enumerate() {
            write!(out, "{}{name}", if n == 0 { "" } else { "|" })?;
        }
        return Ok(());
    }
    for (bit, name) in names.iter().enumerate().filter(|(bit, _)| set(*bit, mask)) {
        write!(out, "{}{name}", if set(bit, value) { '+' } else { '-' })?;
    }
    Ok(())
}

/// A value as `set_field` writes it.
pub(crate) fn field_value(field: Field, value: u128, mask: u128) -> String {
    let mut out = String::new();
    let spec = field.spec();
    let whole = mask == low_bits(spec.width);
    let written = match spec.format {
        Format::Ethernet => put_ethernet(&mut out, value, mask),
        Format::Ipv4 => put_ipv4(&mut out, value, mask),
        Format::Ipv6 => put_ipv6(&mut out, value, mask),
        Format::TcpFlags => put_flags(&mut out, names::TCP_FLAGS, value, mask, spec.width),
        Format::TunFlags => put_flags(&mut out, names::TUN_FLAGS, value, mask, 1),
        Format::Port if whole => out.write_str(&port_name((value & 0xffff) as PortNo)),
        Format::Hex if field != Field::VlanVidOxm => write!(out, "{}", Hex(value)),
        Format::Hex
        | Format::Decimal
        | Format::Port
        | Format::Frag
        | Format::CtState
        | Format::PacketType => {
            write!(out, "{value}")
        }
    };
    let numeric = !matches!(
        spec.format,
        Format::Ethernet | Format::Ipv4 | Format::Ipv6 | Format::TcpFlags | Format::TunFlags
    );
    if numeric && !whole {
        out.push('/');
        out.push_str(&Hex(mask).to_string());
    }
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
    out
}

/// `NXM_NX_REG0[0..15]`
pub(crate) fn put_subfield(out: &mut impl Write, part: Subfield) -> fmt::Result {
    out.write_str(names::nxm_name(part.field))?;
    match part.width {
        _ if part == Subfield::whole(part.field) => out.write_str("[]"),
        1 => write!(out, "[{}]", part.start),
        width => write!(out, "[{}..{}]", part.start, part.start + width - 1),
    }
}

/// As [`put_subfield`], on its own.
pub(crate) fn subfield_text(part: Subfield) -> String {
    let mut out = String::new();
    let written = put_subfield(&mut out, part);
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
    out
}

/// An IPv6 address as inet_ntop(3) writes it.
pub(crate) fn address_text(address: Ipv6Addr) -> String {
    let mut out = String::new();
    let written = put_ipv6_address(&mut out, u128::from(address));
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
    out
}
