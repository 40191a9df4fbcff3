//! Actions that do more than write a field: queues, stacks, copies, action sets, MPLS, the controller.
//!
//! Source: ovs-actions(7); experiments with `ovs-ofctl parse-flows` 3.1.

use super::action::{Outer, Reader, actions, split_arrow};
use super::fault::{Parsed, fault};
use super::items::{Item, Items};
use super::opaque::hex_bytes;
use super::protocols::Protocols;
use super::subfield::subfield;
use super::value::{PortNames, fitting, port_number};
use super::{Era, learn};
use crate::flow::ast::{Controller, SetForm};
use crate::flow::group::GroupRef;
use crate::flow::names::ethertype;
use crate::flow::{Action, names};
use flowproof_packet::{Field, key::low_bits, port};

/// Reasons for sending a packet to a controller.
const REASONS: &[&str] = &["no_match", "action", "invalid_ttl", "action_set", "group", "packet_out"];

/// `controller`, with what follows the name.
pub(crate) fn controller(item: Item<'_>, era: Era) -> Parsed<'_, Action> {
    let mut found = Controller::plain(Controller::WHOLE_PACKET);
    if !item.value.is_empty() && item.value.bytes().all(|b| b.is_ascii_digit()) {
        found.max_len = fitting(item.value, "max_len")?;
        return Ok(Action::Controller(Box::new(found)));
    }
    for argument in Items::of(item.value) {
        match argument.key {
            "max_len" => found.max_len = fitting(argument.value, "max_len")?,
            "id" => found.id = fitting(argument.value, "id")?,
            "pause" => found.pause = true,
            "meter_id" => found.meter = Some(fitting::<u32>(argument.value, "meter_id")?),
            // The switch's own flows, as `bridge/dump-flows` prints them.
            "reason" if argument.value.is_empty() && era == Era::Any => found.reason = Some(""),
            "reason" => match REASONS.iter().find(|known| **known == argument.value) {
                Some(reason) => found.reason = Some(*reason).filter(|reason| *reason != "action"),
                None => return fault(argument.whole, "unknown reason"),
            },
            "userdata" => match hex_bytes(argument.value) {
                Some(bytes) => found.userdata = bytes,
                None => return fault(argument.whole, "bad hex digit in `userdata`"),
            },
            _ => return fault(argument.whole, "unknown key in controller action"),
        }
    }
    Ok(Action::Controller(Box::new(found)))
}

/// Least length that a packet can be cut to.
const ETHERNET_HEADER: u32 = 14;
/// First number that is not an ordinary port.
const FIRST_RESERVED: u16 = 0xff00;

/// `output(port=P,max_len=N)`
pub(crate) fn output_truncated<'a>(text: &'a str, ports: PortNames<'_>) -> Parsed<'a, Action> {
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
    Ok(Action::OutputTruncated { port, max_len })
}

fn enqueue<'a>(reader: &Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, Action> {
    let Some((port_text, queue)) = item.value.split_once([':', 'q', ',']) else {
        return fault(item.whole, "`enqueue` syntax is `enqueue:PORT:QUEUE` or `enqueue(PORT,QUEUE)`");
    };
    match port_number(port_text, reader.names.ports) {
        Some(port) if port < FIRST_RESERVED || matches!(port, port::LOCAL | port::IN_PORT) => {
            Ok(Action::Enqueue { port, queue: fitting(queue, "queue")? })
        }
        _ => fault(port_text, "enqueue to unknown port"),
    }
}

fn push<'a>(reader: &Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, Action> {
    if names::is_tun_metadata(item.value.split('[').next().unwrap_or("")) {
        return Ok(Action::Opaque(format!("push:{}", item.value)));
    }
    let part = subfield(item.value)?;
    reader.needs(part.field, item)?;
    Ok(Action::Push(part))
}

fn pop<'a>(reader: &Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, Action> {
    if names::is_tun_metadata(item.value.split('[').next().unwrap_or("")) {
        return Ok(Action::Opaque(format!("pop:{}", item.value)));
    }
    let part = subfield(item.value)?;
    reader.needs_writable(part, item)?;
    Ok(Action::Pop(part))
}

/// `set_mpls_…`: a number in parentheses, as wide as the field.
fn set_mpls<'a>(
    reader: &mut Reader<'_, '_>,
    name: &'static str,
    field: Field,
    item: Item<'a>,
) -> Parsed<'a, Action> {
    if item.value.is_empty() {
        return fault(item.whole, format!("{name} expects a number"));
    }
    let value = u128::from(fitting::<u32>(item.value, name)?);
    let mask = low_bits(field.spec().width);
    if value & !mask != 0 {
        return fault(item.whole, format!("not a valid number for {name}"));
    }
    mpls(reader, name);
    Ok(Action::Set { field, value, mask, form: SetForm::Mpls })
}

/// Notes that an action needs an MPLS header.
fn mpls(reader: &mut Reader<'_, '_>, name: &'static str) {
    if !reader.context.headers.is_mpls() {
        reader.context.inconsistent(name);
    }
}

fn push_mpls<'a>(reader: &mut Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, Action> {
    let kind = fitting::<u16>(item.value, "push_mpls")?;
    if !matches!(kind, ethertype::MPLS | ethertype::MPLSM) {
        return fault(item.whole, "not an MPLS ethertype");
    }
    if reader.context.headers.packet_type != 0 {
        reader.context.inconsistent("push_mpls");
    }
    reader.context.headers.dl_type = kind;
    reader.context.headers.nw_proto = 0;
    Ok(Action::PushMpls(kind))
}

fn pop_mpls<'a>(reader: &mut Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, Action> {
    let kind = fitting::<u16>(item.value, "pop_mpls")?;
    mpls(reader, "pop_mpls");
    reader.context.headers.dl_type = kind;
    Ok(Action::PopMpls(kind))
}

fn check_pkt_larger<'a>(reader: &Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, Action> {
    let (length, target) = split_arrow(item.value)?;
    let length = fitting::<u16>(length.trim_end_matches(')'), "length")?;
    let dst = subfield(target)?;
    if dst.width != 1 {
        return fault(item.whole, "only a destination of one bit is allowed");
    }
    reader.needs_writable(dst, item)?;
    Ok(Action::CheckPktLarger { length, dst })
}

fn write_metadata<'a>(reader: &mut Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, Action> {
    let (value, mask) = item.value.split_once('/').unwrap_or((item.value, "0xffffffffffffffff"));
    let (value, mask) = (fitting::<u64>(value, "metadata")?, fitting::<u64>(mask, "mask")?);
    reader.context.protocols = reader.context.protocols.and(Protocols::NXM_OF11_UP);
    let (value, mask) = (value.into(), mask.into());
    Ok(Action::Set { field: Field::Metadata, value, mask, form: SetForm::Metadata })
}

/// The actions inside `clone(…)` and `write_actions(…)`.
fn nested<'a>(reader: &mut Reader<'_, '_>, outer: Outer, item: Item<'a>) -> Parsed<'a, Vec<Action>> {
    let mut inner = reader.context.clone();
    let found = actions(item.value, reader.names, &mut inner, outer, reader.depth.saturating_add(1))?;
    reader.context.remarks = inner.remarks;
    if outer == Outer::Clone {
        reader.context.protocols = inner.protocols;
    }
    Ok(found)
}

/// `set_tunnel` and `set_tunnel64`: the name tells how wide the number is.
fn set_tunnel(item: Item<'_>, wide: bool) -> Parsed<'_, Action> {
    let id = fitting::<u64>(item.value, "tunnel id")?;
    let form = if wide || u32::try_from(id).is_err() { SetForm::Tunnel64 } else { SetForm::Tunnel };
    Ok(Action::Set { field: Field::TunId, value: id.into(), mask: u64::MAX.into(), form })
}

fn meter<'a>(reader: &mut Reader<'_, '_>, item: Item<'a>) -> Parsed<'a, Action> {
    let up = if reader.outer == Outer::Flow { Protocols::OF13_UP } else { Protocols::OF15_UP };
    reader.context.protocols = reader.context.protocols.and(up);
    match fitting::<u32>(item.value, "meter")? {
        0 | 0xffff_0001.. => fault(item.whole, "invalid meter"),
        meter => Ok(Action::Meter(meter)),
    }
}

/// The construct with this name, or nothing if there is none.
pub(crate) fn action<'a>(
    reader: &mut Reader<'_, '_>,
    name: &str,
    item: Item<'a>,
) -> Parsed<'a, Option<Action>> {
    Ok(Some(match name {
        "group" => Action::Group(GroupRef::new(fitting(item.value, "group")?)),
        "enqueue" => enqueue(reader, item)?,
        "push" => push(reader, item)?,
        "pop" => pop(reader, item)?,
        "set_mpls_label" => set_mpls(reader, "set_mpls_label", Field::MplsLabel, item)?,
        "set_mpls_tc" => set_mpls(reader, "set_mpls_tc", Field::MplsTc, item)?,
        "set_mpls_ttl" => set_mpls(reader, "set_mpls_ttl", Field::MplsTtl, item)?,
        "dec_mpls_ttl" => {
            mpls(reader, "dec_mpls_ttl");
            Action::DecMplsTtl
        }
        "push_mpls" => push_mpls(reader, item)?,
        "pop_mpls" => pop_mpls(reader, item)?,
        "set_tunnel" => set_tunnel(item, false)?,
        "set_tunnel64" => set_tunnel(item, true)?,
        "set_queue" => Action::SetQueue(fitting(item.value, "queue")?),
        "pop_queue" => Action::PopQueue,
        "exit" => Action::Exit,
        "clear_actions" => Action::ClearActions,
        "learn" => learn::learn(reader, item)?,
        "clone" => Action::Clone(nested(reader, Outer::Clone, item)?),
        "write_actions" => Action::WriteActions(nested(reader, Outer::WriteActions, item)?),
        "check_pkt_larger" => check_pkt_larger(reader, item)?,
        "meter" => meter(reader, item)?,
        "write_metadata" => write_metadata(reader, item)?,
        _ => return Ok(None),
    }))
}
