//! Actions that are accepted and printed but not modelled.
//!
//! Invariant: the text kept is what ovs-ofctl would print; reading it again gives it again.
//!
//! Source: ovs-actions(7); experiments with `ovs-ofctl parse-flows` 3.1.

use super::action::Reader;
use super::fault::{Parsed, fault};
use super::items::{Item, Items};
use super::protocols::Protocols;
use super::select;
use super::value::{fitting, port_number};
use crate::flow::names::{ethertype, ipproto};
use crate::flow::print::port_name;
use crate::flow::{Action, names};
use flowproof_packet::port;

/// Bytes written as hexadecimal digits in pairs, with dots or blanks between them.
pub(crate) fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    let gap = |text| str::trim_start_matches(text, ['.', ' ']);
    let mut rest = gap(text);
    let mut bytes = Vec::new();
    while !rest.is_empty() {
        let (pair, next) = rest.split_at_checked(2)?;
        if !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(pair, 16).ok()?);
        rest = gap(next);
    }
    Some(bytes)
}

/// `00.11.22`
pub(crate) fn dotted_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(".")
}

/// The digits at the start of `text`, as C's `atoi` takes them; 0 without digits.
pub(crate) fn leading_decimal(text: &str) -> u64 {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn fin_timeout<'a>(reader: &mut Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, String> {
    let (mut idle, mut hard) = (0_u16, 0_u16);
    for argument in Items::of(item.value) {
        match argument.key {
            "idle_timeout" => idle = fitting(argument.value, "idle_timeout")?,
            "hard_timeout" => hard = fitting(argument.value, "hard_timeout")?,
            _ => return fault(argument.whole, "invalid key in `fin_timeout`"),
        }
    }
    if reader.context.headers.nw_proto != ipproto::TCP {
        reader.context.inconsistent("fin_timeout");
    }
    let numbers = [("idle_timeout", idle), ("hard_timeout", hard)];
    let parts: Vec<_> =
        numbers.iter().filter(|(_, n)| *n != 0).map(|(name, number)| format!("{name}={number}")).collect();
    Ok(format!("fin_timeout({})", parts.join(",")))
}

fn sample<'a>(reader: &Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, String> {
    let mut probability = 0_u16;
    let mut numbers = [("collector_set_id", 0_u32), ("obs_domain_id", 0), ("obs_point_id", 0)];
    let (mut sampling_port, mut direction) = (None, None);
    for argument in Items::of(item.value) {
        if let Some((name, number)) = numbers.iter_mut().find(|(name, _)| *name == argument.key) {
            *number = fitting(argument.value, name)?;
            continue;
        }
        match argument.key {
            "probability" => probability = fitting(argument.value, "probability")?,
            "sampling_port" => match port_number(argument.value, reader.names.ports) {
                Some(number) => sampling_port = Some(number).filter(|number| *number != port::NONE),
                None => return fault(argument.whole, "unknown port"),
            },
            "ingress" | "egress" => direction = Some(argument.key),
            _ => return fault(argument.whole, "invalid key in `sample`"),
        }
    }
    if probability == 0 {
        return fault(item.whole, "`sample` needs a `probability` that is not zero");
    }
    let mut parts = vec![format!("probability={probability}")];
    parts.extend(numbers.iter().map(|(name, number)| format!("{name}={number}")));
    parts.extend(sampling_port.map(|number| format!("sampling_port={}", port_name(number))));
    parts.extend(direction.map(str::to_owned));
    Ok(format!("sample({})", parts.join(",")))
}

/// Packet types that `encap` can put around a packet.
const ENCAPSULATIONS: &[(&str, u32)] = &[
    ("ethernet", 0),
    ("nsh", 1 << 16 | ethertype::NSH as u32),
    ("mpls", 1 << 16 | ethertype::MPLS as u32),
    ("mpls_mc", 1 << 16 | ethertype::MPLSM as u32),
];

fn encap<'a>(reader: &mut Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, String> {
    let Some(header) = Items::of(item.value).next() else { return fault(item.whole, "missing encap header") };
    let Some((name, kind)) = ENCAPSULATIONS.iter().find(|(name, _)| *name == header.key) else {
        return fault(item.whole, "encap header not supported");
    };
    let headers = &mut reader.context.headers;
    headers.packet_type = *kind;
    if *kind != 0 {
        headers.dl_type = (*kind & 0xffff) as u16;
    }
    if !headers.is_ip() {
        headers.nw_proto = 0;
    }
    reader.context.protocols = reader.context.protocols.and(Protocols::OF13_UP);
    let properties = if header.value.is_empty() { String::new() } else { format!("({})", header.value) };
    Ok(format!("encap({name}{properties})"))
}

fn decap<'a>(reader: &mut Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, String> {
    let headers = &mut reader.context.headers;
    if headers.packet_type == 0 {
        headers.packet_type = 1 << 16 | u32::from(headers.dl_type);
    } else {
        headers.packet_type = u32::MAX;
        headers.dl_type = u16::MAX;
    }
    let Some(argument) = Items::of(item.value).next() else { return Ok("decap()".to_owned()) };
    if argument.key != "packet_type" {
        return fault(argument.whole, "invalid decap argument");
    }
    let mut parts = Items::of(argument.value);
    let (ns, kind) = (parts.next(), parts.next());
    let Some(ns) = ns.filter(|part| part.key == "ns") else {
        return fault(argument.whole, "missing packet_type attribute ns");
    };
    let Some(kind) = kind.filter(|part| part.key == "type") else {
        return fault(argument.whole, "missing packet_type attribute type");
    };
    let (ns, kind) = (fitting::<u16>(ns.value, "ns")?, fitting::<u16>(kind.value, "type")?);
    Ok(format!("decap(packet_type(ns={ns},type={kind:#x}))"))
}

fn delete_field(item: Item<'_>) -> Parsed<'_, String> {
    if names::is_tun_metadata(item.value) {
        return Ok(format!("delete_field:{}", item.value));
    }
    fault(item.whole, "only tunnel metadata can be deleted")
}

fn dec_nsh_ttl(reader: &mut Reader<'_, '_>) -> String {
    if reader.context.headers.dl_type != ethertype::NSH {
        reader.context.inconsistent("dec_nsh_ttl");
    }
    "dec_nsh_ttl".to_owned()
}

/// The opaque action with this name, or nothing if there is none.
pub(crate) fn action<'a>(
    reader: &mut Reader<'_, '_>,
    name: &str,
    item: Item<'a>,
) -> Parsed<'a, Option<Action>> {
    let text = match name {
        "bundle" => select::bundle(reader, item, false)?,
        "bundle_load" => select::bundle(reader, item, true)?,
        "multipath" => select::multipath(reader, item)?,
        "dec_nsh_ttl" => dec_nsh_ttl(reader),
        "delete_field" => delete_field(item)?,
        "encap" => encap(reader, item)?,
        "decap" => decap(reader, item)?,
        "debug_recirc" | "debug_slow" => name.to_owned(),
        "fin_timeout" => fin_timeout(reader, item)?,
        "sample" => sample(reader, item)?,
        "nat" => return fault(item.whole, "cannot have NAT action outside of `ct` action"),
        _ => return Ok(None),
    };
    Ok(Some(Action::Opaque(text)))
}
