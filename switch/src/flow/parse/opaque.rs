//! Actions that are accepted and printed but not modelled.
//!
//! Invariant: the text kept is what ovs-ofctl would print; reading it again gives it again.
//!
//! Source: ovs-actions(7); experiments with `ovs-ofctl parse-flows` 3.1.

use super::action::{Outer, Reader, actions, split_arrow};
use super::fault::{Parsed, fault};
use super::items::{Item, Items};
use super::protocols::Protocols;
use super::subfield::subfield;
use super::value::{PortNames, fitting, port_number};
use super::{learn, select};
use crate::flow::names::{ethertype, ipproto};
use crate::flow::print::{actions_text, port_name, subfield_text};
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

/// Reasons for sending a packet to a controller.
const REASONS: &[&str] = &["no_match", "action", "invalid_ttl", "action_set", "group", "packet_out"];
/// Bytes of a packet that a controller gets unless told otherwise: all.
const WHOLE_PACKET: u16 = u16::MAX;

/// `controller`, kept as what follows the name.
pub(crate) fn controller(item: Item<'_>) -> Parsed<'_, Action> {
    let mut max_len = WHOLE_PACKET;
    let (mut reason, mut id, mut userdata, mut pause, mut meter) = (None, 0_u16, None, false, None);
    if !item.value.is_empty() && item.value.bytes().all(|b| b.is_ascii_digit()) {
        max_len = fitting(item.value, "max_len")?;
    } else {
        for argument in Items::of(item.value) {
            match argument.key {
                "max_len" => max_len = fitting(argument.value, "max_len")?,
                "id" => id = fitting(argument.value, "id")?,
                "pause" => pause = true,
                "meter_id" => meter = Some(fitting::<u32>(argument.value, "meter_id")?),
                "reason" if REASONS.contains(&argument.value) => {
                    reason = Some(argument.value).filter(|reason| *reason != "action");
                }
                "reason" => return fault(argument.whole, "unknown reason"),
                "userdata" => match hex_bytes(argument.value) {
                    Some(bytes) => userdata = Some(bytes),
                    None => return fault(argument.whole, "bad hex digit in `userdata`"),
                },
                _ => return fault(argument.whole, "unknown key in controller action"),
            }
        }
    }
    let plain = reason.is_none() && id == 0 && userdata.is_none() && !pause && meter.is_none();
    if plain {
        return Ok(Action::Controller(format!(":{max_len}")));
    }
    let mut parts = Vec::new();
    parts.extend(reason.map(|reason| format!("reason={reason}")));
    parts.extend((max_len != WHOLE_PACKET).then(|| format!("max_len={max_len}")));
    parts.extend((id != 0).then(|| format!("id={id}")));
    parts.extend(
        userdata.filter(|data| !data.is_empty()).map(|data| format!("userdata={}", dotted_hex(&data))),
    );
    parts.extend(pause.then(|| "pause".to_owned()));
    parts.extend(meter.map(|meter| format!("meter_id={meter}")));
    Ok(Action::Controller(format!("({})", parts.join(","))))
}

/// Least length that a packet can be cut to.
const ETHERNET_HEADER: u32 = 14;
/// First number that is not an ordinary port.
const FIRST_RESERVED: u16 = 0xff00;

/// `output(port=P,max_len=N)`
pub(crate) fn output_truncated<'a>(text: &'a str, ports: PortNames<'_>) -> Parsed<'a, String> {
    let (mut port, mut max_len) = (0, 0);
    for item in Items::of(text) {
        match item.key {
            "port" => match port_number(item.value, ports) {
                Some(number) if number <= FIRST_RESERVED || matches!(number, port::LOCAL | port::IN_PORT) => {
                    port = number;
                }
                Some(_) => return fault(item.whole, "output to unsupported truncate port"),
                None => return fault(item.whole, "output to unknown truncate port"),
            },
            "max_len" => {
                max_len = fitting::<u32>(item.value, "max_len")?;
                if max_len < ETHERNET_HEADER {
                    return fault(item.whole, format!("max_len is less than {ETHERNET_HEADER}"));
                }
            }
            _ => return fault(item.whole, "invalid key in output argument"),
        }
    }
    Ok(format!("output(port={},max_len={max_len})", port_name(port)))
}

fn enqueue<'a>(reader: &Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, String> {
    let Some((port_text, queue)) = item.value.split_once([':', 'q', ',']) else {
        return fault(item.whole, "`enqueue` syntax is `enqueue:PORT:QUEUE` or `enqueue(PORT,QUEUE)`");
    };
    match port_number(port_text, reader.names.ports) {
        Some(number) if number < FIRST_RESERVED || matches!(number, port::LOCAL | port::IN_PORT) => {
            let queue = fitting::<u32>(queue, "queue")?;
            Ok(format!("enqueue:{}:{queue}", port_name(number)))
        }
        _ => fault(port_text, "enqueue to unknown port"),
    }
}

fn stack<'a>(reader: &Reader<'_, '_>, name: &str, item: Item<'a>) -> Parsed<'a, String> {
    if names::is_tun_metadata(item.value.split('[').next().unwrap_or("")) {
        return Ok(format!("{name}:{}", item.value));
    }
    let part = subfield(item.value)?;
    if name == "pop" {
        reader.needs_writable(part, item)?;
    } else {
        reader.needs(part.field, item)?;
    }
    Ok(format!("{name}:{}", subfield_text(part)))
}

/// `set_mpls_…`: a number in parentheses, of so many bits.
fn set_mpls<'a>(
    reader: &mut Reader<'_, '_>,
    name: &'static str,
    bits: u32,
    item: Item<'a>,
) -> Parsed<'a, String> {
    if item.value.is_empty() {
        return fault(item.whole, format!("{name} expects a number"));
    }
    let value = fitting::<u32>(item.value, name)?;
    if value >> bits != 0 {
        return fault(item.whole, format!("not a valid number for {name}"));
    }
    mpls(reader, name);
    Ok(format!("{name}({value})"))
}

/// Notes that an action needs an MPLS header.
fn mpls(reader: &mut Reader<'_, '_>, name: &'static str) {
    if !reader.context.headers.is_mpls() {
        reader.context.inconsistent(name);
    }
}

fn push_mpls<'a>(reader: &mut Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, String> {
    let kind = fitting::<u16>(item.value, "push_mpls")?;
    if !matches!(kind, ethertype::MPLS | ethertype::MPLSM) {
        return fault(item.whole, "not an MPLS ethertype");
    }
    if reader.context.headers.packet_type != 0 {
        reader.context.inconsistent("push_mpls");
    }
    reader.context.headers.dl_type = kind;
    reader.context.headers.nw_proto = 0;
    Ok(format!("push_mpls:{kind:#06x}"))
}

fn pop_mpls<'a>(reader: &mut Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, String> {
    let kind = fitting::<u16>(item.value, "pop_mpls")?;
    mpls(reader, "pop_mpls");
    reader.context.headers.dl_type = kind;
    Ok(format!("pop_mpls:{kind:#06x}"))
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

fn check_pkt_larger<'a>(reader: &Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, String> {
    let (length, target) = split_arrow(item.value)?;
    let length = fitting::<u16>(length.trim_end_matches(')'), "length")?;
    let part = subfield(target)?;
    if part.width != 1 {
        return fault(item.whole, "only a destination of one bit is allowed");
    }
    reader.needs_writable(part, item)?;
    Ok(format!("check_pkt_larger({length})->{}", subfield_text(part)))
}

fn write_metadata<'a>(reader: &mut Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, String> {
    let (value, mask) = item.value.split_once('/').unwrap_or((item.value, "0xffffffffffffffff"));
    let (value, mask) = (fitting::<u64>(value, "metadata")?, fitting::<u64>(mask, "mask")?);
    reader.context.protocols = reader.context.protocols.and(Protocols::NXM_OF11_UP);
    let hex = |n: u64| if n == 0 { "0".to_owned() } else { format!("{n:#x}") };
    let mask = if mask == u64::MAX { String::new() } else { format!("/{}", hex(mask)) };
    Ok(format!("write_metadata:{}{mask}", hex(value)))
}

/// `clone(…)` and `write_actions(…)`: their actions are read, and kept as text.
fn nested<'a>(reader: &mut Reader<'_, '_>, name: &str, outer: Outer, item: Item<'a>) -> Parsed<'a, String> {
    let mut inner = reader.context.clone();
    let found = actions(item.value, reader.names, &mut inner, outer, reader.depth.saturating_add(1))?;
    reader.context.remarks = inner.remarks;
    if outer == Outer::Clone {
        reader.context.protocols = inner.protocols;
    }
    Ok(format!("{name}({})", actions_text(&found)))
}

/// `set_tunnel` and `set_tunnel64`: the name tells how wide the number is.
fn set_tunnel(item: Item<'_>, wide: bool) -> Parsed<'_, String> {
    let id = fitting::<u64>(item.value, "tunnel id")?;
    let name = if wide || u32::try_from(id).is_err() { "set_tunnel64" } else { "set_tunnel" };
    Ok(if id == 0 { format!("{name}:0") } else { format!("{name}:{id:#x}") })
}

fn meter<'a>(reader: &mut Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, String> {
    let up = if reader.outer == Outer::Flow { Protocols::OF13_UP } else { Protocols::OF15_UP };
    reader.context.protocols = reader.context.protocols.and(up);
    match fitting::<u32>(item.value, "meter")? {
        0 | 0xffff_0001.. => fault(item.whole, "invalid meter"),
        meter => Ok(format!("meter:{meter}")),
    }
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
        "group" => format!("group:{}", fitting::<u32>(item.value, "group")?),
        "enqueue" => enqueue(reader, item)?,
        "bundle" => select::bundle(reader, item, false)?,
        "bundle_load" => select::bundle(reader, item, true)?,
        "multipath" => select::multipath(reader, item)?,
        "push" | "pop" => stack(reader, name, item)?,
        "set_mpls_label" => set_mpls(reader, "set_mpls_label", 20, item)?,
        "set_mpls_tc" => set_mpls(reader, "set_mpls_tc", 3, item)?,
        "set_mpls_ttl" => set_mpls(reader, "set_mpls_ttl", 8, item)?,
        "dec_mpls_ttl" => {
            mpls(reader, "dec_mpls_ttl");
            "dec_mpls_ttl".to_owned()
        }
        "push_mpls" => push_mpls(reader, item)?,
        "pop_mpls" => pop_mpls(reader, item)?,
        "dec_nsh_ttl" => dec_nsh_ttl(reader),
        "delete_field" => delete_field(item)?,
        "encap" => encap(reader, item)?,
        "decap" => decap(reader, item)?,
        "set_tunnel" => set_tunnel(item, false)?,
        "set_tunnel64" => set_tunnel(item, true)?,
        "set_queue" => format!("set_queue:{}", fitting::<u32>(item.value, "queue")?),
        "pop_queue" | "exit" | "clear_actions" | "debug_recirc" | "debug_slow" => name.to_owned(),
        "fin_timeout" => fin_timeout(reader, item)?,
        "learn" => learn::learn(reader, item)?,
        "sample" => sample(reader, item)?,
        "clone" => nested(reader, name, Outer::Clone, item)?,
        "write_actions" => nested(reader, name, Outer::WriteActions, item)?,
        "check_pkt_larger" => check_pkt_larger(reader, item)?,
        "meter" => meter(reader, item)?,
        "write_metadata" => write_metadata(reader, item)?,
        "nat" => return fault(item.whole, "cannot have NAT action outside of `ct` action"),
        _ => return Ok(None),
    };
    Ok(Some(Action::Opaque(text)))
}
