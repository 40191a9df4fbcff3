//! Match items: what `field=value`, `field[a..b]=value` and the protocol words do to a match.
//!
//! Invariant: later items override earlier ones bit for bit, as in ovs-ofctl; prerequisites are not looked at here
//! (see `normalise`).
//!
//! Source: ovs-fields(7); experiments with `ovs-ofctl parse-flows` 3.1.

use super::fault::{Parsed, fault};
use super::subfield::subfield;
use super::value::{Masked, PortNames, field_value, number};
use crate::flow::Match;
use flowproof_packet::{Field, key::low_bits};

/// The bit of a VLAN TCI that says there is a tag.
pub(crate) const VLAN_PRESENT: u128 = 0x1000;
/// `dl_vlan=` this: no tag.
const NO_VLAN: u128 = 0xffff;
/// The bits of `ct_state` that a packet can have.
pub(crate) const CT_STATE_BITS: u128 = 0xff;

/// What setting a field did besides setting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// All bits that were written.
    All,
    /// The value lost high bits.
    LowBits,
}

/// The widest number that a field keeps.
const fn kept_bits(field: Field) -> u16 {
    match field {
        Field::VlanTci | Field::VlanVidOxm => 16,
        _ => field.spec().width,
    }
}

fn set_vlan(matching: &mut Match, field: Field, Masked { value, mask }: Masked) {
    let (old_value, old_mask) = matching.get(Field::VlanTci);
    let (bits, value) = match field {
        Field::VlanVid if value == NO_VLAN => (0xffff, 0),
        Field::VlanVid => (0x1fff, value & 0xfff | VLAN_PRESENT),
        Field::VlanPcp => (0xf000, value << 13 & 0xe000 | VLAN_PRESENT),
        _ => (0x1fff, value & 0x1fff),
    };
    let wanted = if field == Field::VlanVidOxm { mask & bits } else { bits };
    if mask == 0 {
        let keep = if field == Field::VlanPcp { 0x1fff } else { 0xe000 };
        matching.set(Field::VlanTci, old_value & keep, old_mask & keep);
    } else {
        matching.set(Field::VlanTci, old_value & !wanted | value & wanted, old_mask | wanted);
    }
}

/// Replaces what `matching` says about `field`.
pub(crate) fn set(matching: &mut Match, field: Field, wanted: Masked) -> Kept {
    let Masked { value, mask } = wanted;
    match field {
        Field::VlanVid | Field::VlanVidOxm | Field::VlanPcp => set_vlan(matching, field, wanted),
        Field::CtState => matching.set(field, value & CT_STATE_BITS, mask & CT_STATE_BITS),
        Field::NwTos => matching.set(field, value & 0xfc, mask & 0xfc),
        Field::PacketType if value == 0 => matching.set(field, 0, 0),
        // Open vSwitch keeps ICMP type and code where ports are, sixteen bits wide.
        Field::Icmpv4Type | Field::Icmpv6Type => matching.set(Field::TcpSrc, value & 0xff, mask),
        Field::Icmpv4Code | Field::Icmpv6Code => matching.set(Field::TcpDst, value & 0xff, mask),
        _ => matching.set(field, value, mask),
    }
    let untagged = field == Field::VlanVid && value == NO_VLAN;
    let bits = low_bits(kept_bits(field));
    let lost = value & mask & !bits & low_bits(super::value::storage_bits(field));
    let tos = field == Field::NwTos && value & 3 != 0;
    if tos || lost != 0 && !untagged { Kept::LowBits } else { Kept::All }
}

/// `field=value`; a field without value matches nothing in particular.
pub(crate) fn field_item<'a>(
    matching: &mut Match,
    field: Field,
    text: &'a str,
    ports: PortNames<'_>,
) -> Parsed<'a, Kept> {
    if text.is_empty() {
        return match field_value(field, "0/0", ports) {
            Ok(_) => Ok(Kept::All),
            Err(_) => fault(text, format!("field {} missing value", field.spec().name)),
        };
    }
    let wanted = field_value(field, text, ports)?;
    if field == Field::Ipv6Label && wanted.value > 0xf_ffff {
        return fault(text, "flow label does not fit in 20 bits");
    }
    Ok(set(matching, field, wanted))
}

/// `field[a..b]=value`: the other bits of the field stay as they are.
pub(crate) fn subfield_item<'a>(matching: &mut Match, name: &'a str, text: &'a str) -> Parsed<'a, Kept> {
    let part = subfield(name)?;
    let Some(bits) = number(text) else { return fault(text, "cannot parse integer value") };
    if bits > low_bits(part.width) {
        return fault(text, format!("value does not fit into {} bits", part.width));
    }
    let run = low_bits(part.width) << part.start;
    let (value, mask) = matching.get(part.field);
    let mask = mask | run;
    let whole = low_bits(part.field.spec().width);
    let wanted = Masked {
        value: value & !run | bits << part.start,
        mask: if mask == whole { u128::MAX } else { mask },
    };
    let maskable = part.field.spec().maskable == flowproof_packet::Maskable::Bitwise;
    if !maskable && wanted.mask != u128::MAX {
        return fault(name, format!("field {} cannot be matched in part", part.field.spec().name));
    }
    Ok(set(matching, part.field, wanted))
}
