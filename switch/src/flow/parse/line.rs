//! One flow: everything before `actions=`, then the actions.
//!
//! Source: ovs-ofctl(8) "Flow Syntax"; experiments with `ovs-ofctl parse-flows` 3.1.

use super::action::{Names, Outer, TableNames, actions, table_number};
use super::check::{Context, Headers, Remarks};
use super::fault::{Parsed, fault};
use super::items::{Item, Items};
use super::matches::{Kept, field_item, set, subfield_item};
use super::protocols::Protocols;
use super::value::{Masked, fitting, number, port_number};
use super::{Era, PortNames};
use crate::flow::lint::LintKind;
use crate::flow::matching::Bits;
use crate::flow::names::{Meta, Word, ethertype, is_tun_metadata, word};
use crate::flow::normalise::normalise;
use crate::flow::{Action, Flow, Match, print};
use flowproof_packet::{Field, PortNo, key::low_bits, port};
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
    cookie_mask: u64,
    /// Whether it has statistics, as a switch prints them.
    dumped: bool,
    modifies: bool,
    protocols: Protocols,
    kinds: Kinds,
}

/// A flow that changes others, or is added where there are none.
pub(super) struct Change {
    /// The flow.
    pub(super) flow: Flow,
    /// Remarks about it.
    pub(super) kinds: Kinds,
    /// The table it names; all tables where it names none.
    pub(super) table: Option<u8>,
    /// The bits of the cookie that it wants; none where it sets a cookie.
    pub(super) cookie_mask: u64,
}

/// What `delete` wants of the flows that go.
#[derive(Debug, Default)]
pub(super) struct Criteria {
    /// Their match, or more than it.
    pub(super) matching: Match,
    /// Their table; any where there is none.
    pub(super) table: Option<u8>,
    /// Their priority, for `delete_strict`.
    pub(super) priority: u16,
    /// Value and mask of their cookie.
    pub(super) cookie: (u64, u64),
    /// A port that they put out to.
    pub(super) out_port: Option<PortNo>,
    /// A group that they use.
    pub(super) out_group: Option<u32>,
}

/// The table of a flow: a number or a name, and nothing for 255.
fn own_table<'a>(item: Item<'a>, names: Names<'_>) -> Parsed<'a, Option<u8>> {
    if item.key == "table_id" && names.era == Era::Strict31 {
        return fault(item.whole, "unknown keyword table_id");
    }
    let known = TableNames { unknown: None, ..names.tables };
    let number = table_number(item.value, known);
    if let (Some(number), Some(unknown)) = (number, names.tables.unknown) {
        unknown.own_table(number);
    }
    let named = || names.tables.unknown.and_then(|unknown| unknown.own_table_name(item.value));
    match number.or_else(named) {
        Some(table) => Ok(Some(table).filter(|table| *table != u8::MAX)),
        None => fault(item.whole, "unknown table"),
    }
}

/// Value and mask of a cookie.
fn cookie(text: &str) -> Parsed<'_, (u64, u64)> {
    match text.split_once('/') {
        None => Ok((fitting(text, "cookie")?, u64::MAX)),
        Some((value, mask)) => {
            // `-1` is a common mask.
            let mask = number(mask).map(|mask| mask as u64);
            match (fitting(value, "cookie")?, mask) {
                (value, Some(mask)) => Ok((value, mask)),
                (_, None) => fault(text, "invalid cookie mask"),
            }
        }
    }
}

/// Reads what `delete` stands before.
pub(super) fn criteria<'a>(text: &'a str, names: Names<'_>, strict: bool) -> Parsed<'a, Criteria> {
    let mut wanted = Criteria { priority: DEFAULT_PRIORITY, ..Criteria::default() };
    let (mut matching, mut opaque) = (Match::default(), Vec::new());
    for item in Items::of(text) {
        match_item(&mut matching, &mut opaque, item, names.ports, |which| {
            criterion(&mut wanted, which, item, names, strict)
        })?;
        if !opaque.is_empty() {
            return fault(item.whole, "which flows match tunnel metadata is not modelled");
        }
    }
    normalise(&mut matching);
    wanted.matching = matching;
    Ok(wanted)
}

fn criterion<'a>(
    wanted: &mut Criteria,
    which: Meta,
    item: Item<'a>,
    names: Names<'_>,
    strict: bool,
) -> Parsed<'a, ()> {
    match which {
        Meta::Ignored => {}
        _ if item.value.is_empty() => return fault(item.whole, format!("field {} missing value", item.key)),
        Meta::Statistic | Meta::Counter(_) => {}
        Meta::Table => wanted.table = own_table(item, names)?,
        Meta::Priority if strict => wanted.priority = fitting(item.value, "priority")?,
        Meta::Cookie => {
            if !item.value.contains('/') {
                return fault(
                    item.whole,
                    "`delete` looks at a cookie only under a mask, as in cookie=0x5/-1",
                );
            }
            wanted.cookie = cookie(item.value)?;
        }
        Meta::Query if item.key == "out_port" => match port_number(item.value, names.ports) {
            Some(port) => wanted.out_port = Some(port).filter(|port| *port != port::NONE),
            None => return fault(item.whole, "unknown port"),
        },
        Meta::Query => wanted.out_group = Some(fitting(item.value, "out_group")?),
        _ => return fault(item.whole, format!("`delete` has no {}", item.key)),
    }
    Ok(())
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
        Meta::Counter(which) => {
            draft.dumped = true;
            flow.counters.note(which, item.value);
        }
        Meta::Statistic => draft.dumped = true,
        Meta::Table => draft.table = own_table(item, names)?,
        Meta::Importance if draft.modifies => return fault(item.whole, "`modify` has no importance"),
        Meta::Priority => flow.priority = fitting(item.value, "priority")?,
        Meta::IdleTimeout => flow.idle_timeout = fitting(item.value, "idle_timeout")?,
        Meta::HardTimeout => flow.hard_timeout = fitting(item.value, "hard_timeout")?,
        Meta::Importance => flow.importance = fitting(item.value, "importance")?,
        Meta::Cookie if item.value.contains('/') => {
            if !draft.modifies {
                return fault(item.whole, "flow additions cannot use a cookie mask");
            }
            (flow.cookie, draft.cookie_mask) = cookie(item.value)?;
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
    let tables = TableNames { known: &tables, unknown: None };
    let names = Names { ports, tables, era: Era::Any };
    let (headers, remarks) = (Headers::trusted(), Remarks::default());
    let mut context = Context { headers, protocols: Protocols::ANY, table: None, remarks, dumped: false };
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

/// In a dump over OpenFlow 1.3 of a flow that came over OpenFlow 1.0, which `reset_counts` tells: what is printed as
/// another tag is a change of the one that may be there.
fn retag(actions: &mut Vec<Action>, mut tags: u8) {
    let whole = |field: Field| low_bits(field.spec().width);
    let mut read: Vec<Action> = Vec::with_capacity(actions.len());
    for action in actions.drain(..) {
        let set = match (&action, read.last()) {
            (
                Action::Set { field: Field::VlanVidOxm, value, mask, .. },
                Some(Action::PushVlan(ethertype::VLAN)),
            ) if *mask == whole(Field::VlanVidOxm) && tags == 1 => {
                Some(Action::ModVlanVid((*value & 0xfff) as u16))
            }
            (Action::Set { field: Field::VlanPcp, value, .. }, Some(Action::PushVlan(ethertype::VLAN)))
                if tags == 1 =>
            {
                Some(Action::ModVlanPcp((*value & 7) as u8))
            }
            _ => None,
        };
        match action {
            Action::PushVlan(_) => tags += 1,
            Action::StripVlan => tags = tags.saturating_sub(1),
            _ => {}
        }
        if let Some(set) = set {
            read.pop();
            read.push(set);
        } else {
            read.push(action);
        }
    }
    *actions = read;
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
pub(crate) fn flow<'a>(text: &'a str, names: Names<'_>) -> Parsed<'a, (Flow, Kinds)> {
    change(text, names, false).map(|change| (change.flow, change.kinds))
}

/// Reads what stands before the actions.
fn head_of<'a>(head: &'a str, names: Names<'_>, modifies: bool) -> Parsed<'a, Draft> {
    let mut draft = Draft {
        flow: Flow { priority: DEFAULT_PRIORITY, ..Flow::default() },
        table: None,
        cookie_mask: 0,
        dumped: false,
        modifies,
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
    (draft.flow.matching, draft.flow.opaque_match) = (matching, opaque);
    draft.flow.table = draft.table.unwrap_or(0);
    if let (None, Some(unknown)) = (draft.table, names.tables.unknown) {
        unknown.own_table(0);
    }
    if let Some(field) = first_of(&UNSENDABLE, &UNSENDABLE_BITS, &draft.flow.matching) {
        return fault(head, format!("no version of OpenFlow can match {}", field.spec().name));
    }
    Ok(draft)
}

/// Reads a flow that is added, or that changes others.
pub(super) fn change<'a>(text: &'a str, names: Names<'_>, modifies: bool) -> Parsed<'a, Change> {
    let Some((head, action_text)) = split_actions(text) else {
        return fault(text.trim(), NO_ACTIONS);
    };
    let draft = head_of(head, names, modifies)?;
    let Draft { mut flow, table, cookie_mask, dumped, protocols, mut kinds, .. } = draft;
    // The checks see the match as written, before its normalisation.
    let headers = Headers::of(&flow.matching);
    widened(&mut flow, head, &mut kinds);
    if flow.matching.looks_at_any(&CONNECTION_BITS) {
        let mut looked_at = CONNECTION.iter().filter(|field| flow.matching.looks_at(**field));
        if let Some(field) = looked_at.find(|field| !headers.has(**field)) {
            return fault(head, format!("the match lacks the prerequisites of {}", field.spec().name));
        }
    }
    // `bridge/dump-flows`, which has a comma before the actions, prints what the switch has.
    let dumped = dumped && !head.ends_with(',');
    let mut context =
        Context { headers, protocols, table: Some(flow.table), remarks: Remarks::default(), dumped };
    flow.actions = actions(action_text, names, &mut context, Outer::Flow, 0)?;
    if dumped && flow.flags.reset_counts {
        retag(&mut flow.actions, headers.tags);
    }
    // What came over OpenFlow 1.0 is dumped over later versions with `reset_counts`, which 1.0 itself cannot say.
    let resets = flow.flags.reset_counts && names.era == Era::Strict31;
    let protocols = if resets { context.protocols.and(Protocols::OF12_UP) } else { context.protocols };
    if protocols.is_empty() {
        return fault(action_text, "no version of OpenFlow takes these actions with this match");
    }
    remark(context.remarks, names.era, action_text, &mut kinds)?;
    Ok(Change { flow, kinds, table, cookie_mask })
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
