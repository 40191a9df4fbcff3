//! One flow: everything before `actions=`, then the actions.
//!
//! Source: ovs-ofctl(8) "Flow Syntax"; experiments with `ovs-ofctl parse-flows` 3.1.

use super::action::{Names, Outer, actions, table_number};
use super::check::{Context, Headers, Remarks};
use super::fault::{Parsed, fault};
use super::items::{Item, Items};
use super::matches::{Kept, field_item, set, subfield_item};
use super::protocols::Protocols;
use super::value::{Masked, fitting, number};
use super::{Era, PortNames};
use crate::flow::lint::LintKind;
use crate::flow::matching::Bits;
use crate::flow::names::{Meta, Word, is_tun_metadata, word};
use crate::flow::normalise::normalise;
use crate::flow::{Action, Flow, Match, print};
use flowproof_packet::Field;
use memchr::memmem::Finder;
use smallvec::SmallVec;
use std::{collections::BTreeMap, sync::LazyLock};

/// Priority of a flow that names none.
pub(crate) const DEFAULT_PRIORITY: u16 = 32768;

/// Remarks about one flow; nearly always none.
pub(crate) type Kinds = SmallVec<[LintKind; 1]>;

/// Splits a line at `actions=`, `action=` and what else starts with `action` and goes on to `=`.
pub(crate) fn split_actions(text: &str) -> Option<(&str, &str)> {
    static ACTION: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("action"));
    let (matching, rest) = text.split_at_checked(ACTION.find(text.as_bytes())?)?;
    let (_, actions) = rest.split_once('=')?;
    Some((matching, actions))
}

/// The flow being read, and what is not part of it.
struct Draft {
    flow: Flow,
    table: Option<u8>,
    protocols: Protocols,
    kinds: Kinds,
}

fn meta<'a>(draft: &mut Draft, which: Meta, item: Item<'a>, names: Names<'_>) -> Parsed<'a, ()> {
    let flow = &mut draft.flow;
    match which {
        Meta::SendFlowRem => flow.flags.send_flow_rem = true,
        Meta::CheckOverlap => flow.flags.check_overlap = true,
        Meta::ResetCounts => flow.flags.reset_counts = true,
        Meta::NoPacketCounts => flow.flags.no_packet_counts = true,
        Meta::NoByteCounts => flow.flags.no_byte_counts = true,
        Meta::Ignored => {}
        Meta::Query => {
            return fault(item.whole, format!("unknown keyword {}: only queries have it", item.key));
        }
        _ if item.value.is_empty() => return fault(item.whole, format!("field {} missing value", item.key)),
        Meta::Statistic => {}
        Meta::Counter(which) => flow.counters.note(which, item.value),
        Meta::Table => match table_number(item.value, names.tables) {
            Some(table) => draft.table = Some(table).filter(|table| *table != u8::MAX),
            None => return fault(item.whole, "unknown table"),
        },
        Meta::Priority => flow.priority = fitting(item.value, "priority")?,
        Meta::IdleTimeout => flow.idle_timeout = fitting(item.value, "idle_timeout")?,
        Meta::HardTimeout => flow.hard_timeout = fitting(item.value, "hard_timeout")?,
        Meta::Importance => flow.importance = fitting(item.value, "importance")?,
        Meta::Cookie if item.value.contains('/') => {
            return fault(item.whole, "flow additions cannot use a cookie mask");
        }
        Meta::Cookie => flow.cookie = fitting(item.value, "cookie")?,
    }
    draft.protocols = draft.protocols.and(match which {
        Meta::NoPacketCounts | Meta::NoByteCounts => Protocols::OF13_UP,
        _ => Protocols::ANY,
    });
    Ok(())
}

/// Reads match items into `matching`; what is not a match item goes to `other`.
fn match_item<'a>(
    matching: &mut Match,
    opaque: &mut Vec<String>,
    item: Item<'a>,
    ports: PortNames<'_>,
    other: impl FnOnce(Meta) -> Parsed<'a, ()>,
) -> Parsed<'a, Kept> {
    match word(item.key) {
        Some(Word::Field(field)) => return field_item(matching, field, item.value, ports),
        Some(Word::Protocol(dl_type, proto)) => {
            let exact = |value| Masked { value, mask: u128::MAX };
            set(matching, Field::DlType, exact(u128::from(dl_type)));
            if let Some(proto) = proto {
                set(matching, Field::NwProto, exact(u128::from(proto)));
            }
        }
        Some(Word::Meta(which)) => other(which)?,
        Some(Word::TunMetadata) => tun_metadata(opaque, item)?,
        None if item.key.contains('[') => {
            if is_tun_metadata(item.key.split('[').next().unwrap_or("")) {
                opaque.push(item.whole.to_owned());
            } else {
                return subfield_item(matching, item.key, item.value);
            }
        }
        None if item.value.is_empty() => {
            return fault(item.whole, format!("field {} missing value", item.key));
        }
        None => return fault(item.whole, format!("unknown keyword {}", item.key)),
    }
    Ok(Kept::All)
}

/// The number in the name of a tunnel metadata field.
fn tun_metadata_index(item: &str) -> u8 {
    let digits = item.strip_prefix("tun_metadata").unwrap_or(item);
    digits.split(['=', '[']).next().and_then(|digits| digits.parse().ok()).unwrap_or(u8::MAX)
}

/// Keeps `tun_metadata…` as ovs-ofctl prints it: hexadecimal, no mask where it covers the bytes, by number.
fn tun_metadata<'a>(opaque: &mut Vec<String>, item: Item<'a>) -> Parsed<'a, ()> {
    let hex = |n: u128| if n == 0 { "0".to_owned() } else { format!("{n:#x}") };
    let bytes = |n: u128| (128 - n.leading_zeros()).div_ceil(8);
    let (value, mask) = item.value.split_once('/').unwrap_or((item.value, ""));
    let text = match (value, number(value), mask, number(mask)) {
        ("", ..) => item.key.to_owned(),
        (_, Some(value), "", _) => format!("{}={}", item.key, hex(value)),
        (_, Some(value), _, Some(mask)) if mask == low_bytes(bytes(value)) => {
            format!("{}={}", item.key, hex(value))
        }
        (_, Some(value), _, Some(mask)) => format!("{}={}/{}", item.key, hex(value & mask), hex(mask)),
        _ => return fault(item.value, "bad syntax for tunnel metadata"),
    };
    opaque.push(text);
    opaque.sort_by_key(|item| tun_metadata_index(item));
    Ok(())
}

/// So many bytes of ones.
const fn low_bytes(count: u32) -> u128 {
    flowproof_packet::key::low_bits((count * 8) as u16)
}

/// The actions of a group's bucket, which no match goes with; else what is wrong, and where.
pub(crate) fn bucket_actions(text: &str, ports: PortNames<'_>) -> Result<Vec<Action>, (String, String)> {
    let tables = BTreeMap::new();
    let names = Names { ports, tables: &tables };
    let (headers, remarks) = (Headers::trusted(), Remarks::default());
    let mut context = Context { headers, protocols: Protocols::ANY, table: None, remarks };
    actions(text, names, &mut context, Outer::Bucket, 0)
        .map_err(|fault| (fault.message.into_owned(), fault.at.to_owned()))
}

fn widened(flow: &mut Flow, written: &str, kinds: &mut Kinds) {
    let dropped = normalise(&mut flow.matching);
    if !dropped.is_empty() {
        kinds.push(LintKind::Widened {
            fields: dropped.iter().map(|field| field.spec().name).collect(),
            before: written.trim_matches([',', ' ', '\t']).to_owned(),
            after: print::match_text(&flow.matching),
        });
    }
}

/// The fields that no version of OpenFlow can carry; see [`Protocols::of_field`].
const UNSENDABLE: [Field; 3] = [Field::SkbPriority, Field::TunTtl, Field::TunTos];
static UNSENDABLE_BITS: LazyLock<Bits> = LazyLock::new(|| Bits::of(&UNSENDABLE));

/// The first of some fields that a match looks at.
fn first_of(fields: &[Field], bits: &Bits, matching: &Match) -> Option<Field> {
    let mut looked_at = fields.iter().filter(|field| matching.looks_at(**field));
    matching.looks_at_any(bits).then(|| looked_at.next()).flatten().copied()
}

/// Reads one flow.
pub(crate) fn flow<'a>(text: &'a str, names: Names<'_>, era: Era) -> Parsed<'a, (Flow, Kinds)> {
    let Some((head, action_text)) = split_actions(text) else {
        return fault(text.trim(), NO_ACTIONS);
    };
    let mut draft = Draft {
        flow: Flow { priority: DEFAULT_PRIORITY, ..Flow::default() },
        table: None,
        protocols: Protocols::ANY,
        kinds: Kinds::new(),
    };
    let (mut matching, mut opaque) = (Match::default(), Vec::new());
    for item in Items::of(head) {
        let kept = match_item(&mut matching, &mut opaque, item, names.ports, |which| {
            meta(&mut draft, which, item, names)
        })?;
        if kept == Kept::LowBits {
            draft.kinds.push(LintKind::Truncated { text: item.whole.to_owned() });
        }
    }
    let Draft { mut flow, table, protocols, mut kinds } = draft;
    (flow.matching, flow.opaque_match) = (matching, opaque);
    if let Some(field) = first_of(&UNSENDABLE, &UNSENDABLE_BITS, &flow.matching) {
        return fault(head, format!("no version of OpenFlow can match {}", field.spec().name));
    }
    flow.table = table.unwrap_or(0);
    // The checks see the match as written, before its normalisation.
    let headers = Headers::of(&flow.matching);
    widened(&mut flow, head, &mut kinds);
    if flow.matching.looks_at_any(&CONNECTION_BITS) {
        let mut looked_at = CONNECTION.iter().filter(|field| flow.matching.looks_at(**field));
        if let Some(field) = looked_at.find(|field| !headers.has(**field)) {
            return fault(head, format!("the match lacks the prerequisites of {}", field.spec().name));
        }
    }
    let mut context = Context { headers, protocols, table: Some(flow.table), remarks: Remarks::default() };
    flow.actions = actions(action_text, names, &mut context, Outer::Flow, 0)?;
    // What came over OpenFlow 1.0 is dumped over later versions with `reset_counts`, which 1.0 itself cannot say.
    let resets = flow.flags.reset_counts && era == Era::Strict31;
    let protocols = if resets { context.protocols.and(Protocols::OF12_UP) } else { context.protocols };
    if protocols.is_empty() {
        return fault(action_text, "no version of OpenFlow takes these actions with this match");
    }
    remark(context.remarks, era, action_text, &mut kinds)?;
    Ok((flow, kinds))
}

/// Fields of a connection's original direction; a switch refuses them where the match may find none.
const CONNECTION: &[Field] = &[
    Field::CtNwProto,
    Field::CtNwSrc,
    Field::CtNwDst,
    Field::CtIpv6Src,
    Field::CtIpv6Dst,
    Field::CtTpSrc,
    Field::CtTpDst,
];

static CONNECTION_BITS: LazyLock<Bits> = LazyLock::new(|| Bits::of(CONNECTION));

/// What a line without actions is told.
pub(crate) const NO_ACTIONS: &str = "must specify an action";

fn remark<'a>(remarks: Remarks, era: Era, actions: &'a str, kinds: &mut Kinds) -> Parsed<'a, ()> {
    if remarks.ct_without_ip {
        if era == Era::Strict31 {
            return fault(actions, "ct() needs ip or ipv6 in the match");
        }
        kinds.push(LintKind::CtWithoutIp);
    }
    if let Some(action) = remarks.openflow10_only {
        kinds.push(LintKind::OpenFlow10Only { action: action.to_owned() });
    }
    Ok(())
}

/// Reads a match alone: no actions, no table, no priority.
pub(crate) fn match_only<'a>(text: &'a str, ports: PortNames<'_>) -> Parsed<'a, Match> {
    let mut matching = Match::default();
    let mut opaque = Vec::new();
    for item in Items::of(text) {
        let refuse = |which| match which {
            Meta::Ignored => Ok(()),
            _ => fault(item.whole, format!("{} is not a match field", item.key)),
        };
        match_item(&mut matching, &mut opaque, item, ports, refuse)?;
        if !opaque.is_empty() {
            return fault(item.whole, "tunnel metadata is not modelled");
        }
    }
    Ok(matching)
}
