//! Actions: what stands after `actions=`.
//!
//! Invariant: everything ovs-ofctl 3.1 accepts becomes an [`Action`]; what it refuses is a fault at the offending text.
//!
//! Source: ovs-actions(7); experiments with `ovs-ofctl parse-flows` 3.1.

use super::check::Context;
use super::fault::{Parsed, fault};
use super::items::{Item, Items};
use super::protocols::Protocols;
use super::subfield::{subfield, subfield_prefix};
use super::unknown::{Unknown, unquoted};
use super::value::{PortNames, field_value, fitting, number, number_prefix, port_number};
use super::{Era, ParseOptions, construct, ct, instructions, opaque};
use crate::flow::ast::{Controller, SetForm};
use crate::flow::{Action, Conjunction, Subfield, names};
use flowproof_packet::{Field, Maskable, PortNo, key::low_bits, port};
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// What actions are read with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names<'a> {
    /// Names of ports.
    pub(crate) ports: PortNames<'a>,
    /// Names of tables.
    pub(crate) tables: TableNames<'a>,
    /// Which Open vSwitch the text is for.
    pub(crate) era: Era,
}

impl<'a> Names<'a> {
    /// The names that `options` give, and where to keep the others.
    pub(crate) const fn of(options: &'a ParseOptions, unknown: Option<&'a Unknown>) -> Self {
        Self {
            ports: PortNames { known: &options.ports, unknown },
            tables: TableNames { known: &options.tables, unknown },
            era: options.era,
        }
    }
}

/// Where table names come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableNames<'a> {
    /// Names the caller knows.
    pub(crate) known: &'a BTreeMap<String, u8>,
    /// Where names are kept that nobody knows.
    pub(crate) unknown: Option<&'a Unknown>,
}

/// Inside which action a list stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outer {
    /// In a flow.
    Flow,
    /// In `ct(exec(…))`.
    Ct,
    /// In `clone(…)`.
    Clone,
    /// In `write_actions(…)`.
    WriteActions,
    /// In a bucket of a group.
    Bucket,
}

/// The bits of a VLAN TCI that hold the VLAN.
const VID_BITS: u16 = 0x0fff;
/// The bits of a VLAN TCI that hold the priority.
const PCP_BITS: u16 = 0xe000;

/// How deep actions may nest; Open vSwitch's own limit.
const MAX_DEPTH: u8 = 100;

/// Reads a list of actions.
pub(crate) fn actions<'a>(
    text: &'a str,
    names: Names<'_>,
    context: &mut Context,
    outer: Outer,
    depth: u8,
) -> Parsed<'a, Vec<Action>> {
    if depth >= MAX_DEPTH {
        return fault(text, "actions nest too deeply");
    }
    // Counted before it is kept: lists are many and short.
    let mut found: SmallVec<[Action; 6]> = SmallVec::new();
    let mut drop = None;
    let mut reader = Reader { names, context, outer, depth };
    for item in Items::of(text) {
        if item.key.eq_ignore_ascii_case("drop") {
            drop = Some(item);
            continue;
        }
        let action = reader.action(item)?;
        instructions::nesting(&action, outer, item)?;
        found.push(action);
    }
    if let Some(drop) = drop.filter(|_| !found.is_empty()) {
        return fault(drop.whole, "`drop` must not be accompanied by any other action");
    }
    instructions::order(&found, outer, text)?;
    Ok(found.into_vec())
}

/// A table's number or name; 255 means none.
pub(crate) fn table_number(text: &str, tables: TableNames<'_>) -> Option<u8> {
    let bare = unquoted(text);
    let known = text.parse().ok().or_else(|| tables.known.get(bare).copied());
    known.or_else(|| tables.unknown.and_then(|unknown| unknown.target_table(text)))
}

/// `value->field`, at the first arrow.
pub(crate) fn split_arrow(text: &str) -> Parsed<'_, (&str, &str)> {
    match text.split_once("->") {
        Some((_, "")) => fault(text, "missing field name following `->`"),
        Some(parts) => Ok(parts),
        None => fault(text, "missing `->`"),
    }
}

pub(crate) struct Reader<'n, 'c> {
    pub(crate) names: Names<'n>,
    pub(crate) context: &'c mut Context,
    pub(crate) outer: Outer,
    pub(crate) depth: u8,
}

impl Reader<'_, '_> {
    fn action<'a>(&mut self, item: Item<'a>) -> Parsed<'a, Action> {
        let lower;
        let name = if item.key.bytes().any(|b| b.is_ascii_uppercase()) {
            lower = item.key.to_ascii_lowercase();
            lower.as_str()
        } else {
            item.key
        };
        match name {
            "output" | "output_reg" => self.output(item),
            "resubmit" => self.resubmit(item),
            "goto_table" => self.goto_table(item),
            "load" => self.load(item),
            "set_field" => self.set_field(item),
            "move" => self.move_bits(item),
            "conjunction" => conjunction(item).map(Action::Conjunction),
            "ct" => ct::ct(self, item),
            "ct_clear" => Ok(Action::CtClear),
            "mod_vlan_vid" | "set_vlan_vid" => self.vlan_vid(item, name == "mod_vlan_vid"),
            "mod_vlan_pcp" | "set_vlan_pcp" => self.vlan_pcp(item, name == "mod_vlan_pcp"),
            "strip_vlan" | "pop_vlan" => Ok(self.strip_vlan()),
            "push_vlan" => self.push_vlan(item),
            "dec_ttl" => self.dec_ttl(item),
            "note" => note(item),
            "controller" => construct::controller(item, self.names.era),
            "mod_dl_src" => self.modify(item, Field::DlSrc),
            "mod_dl_dst" => self.modify(item, Field::DlDst),
            "mod_nw_src" => self.modify(item, Field::NwSrc),
            "mod_nw_dst" => self.modify(item, Field::NwDst),
            "mod_nw_tos" => self.modify(item, Field::NwTos),
            "mod_nw_ecn" => self.modify(item, Field::NwEcn),
            "mod_nw_ttl" | "set_nw_ttl" => self.modify(item, Field::NwTtl),
            "mod_tp_src" => self.modify(item, Field::TcpSrc),
            "mod_tp_dst" => self.modify(item, Field::TcpDst),
            "apply_actions" => fault(item.whole, "apply_actions is the default instruction"),
            _ => {
                let found = match construct::action(self, name, item)? {
                    Some(construct) => Some(construct),
                    None => opaque::action(self, name, item)?,
                };
                found.map_or_else(|| self.bare_port(item), Ok)
            }
        }
    }

    fn bare_port<'a>(&self, item: Item<'a>) -> Parsed<'a, Action> {
        // A word alone is an action, not a name that nobody knows: switches print `output:NAME`.
        let known = PortNames { unknown: None, ..self.names.ports };
        let number = port_number(item.key, known);
        if let (Some(unknown), Some(number)) = (self.names.ports.unknown, number) {
            unknown.literal(number);
        }
        match number {
            // Unlike `output:65533` and `controller`, a bare number asks for no bytes of the packet.
            Some(port::CONTROLLER) => Ok(Action::Controller(Box::new(Controller::plain(0)))),
            Some(number) => output_port(number, item),
            None => fault(item.whole, format!("unknown action {}", item.key)),
        }
    }

    fn output<'a>(&self, item: Item<'a>) -> Parsed<'a, Action> {
        let text = item.value;
        if text.contains("port") && text.contains("max_len") {
            return construct::output_truncated(text, self.names.ports);
        }
        if let Some(number) = port_number(text, self.names.ports) {
            return output_port(number, item);
        }
        match subfield(text) {
            Ok(part) => {
                self.needs(part.field, item)?;
                Ok(Action::OutputField(part))
            }
            Err(_) => fault(item.whole, "output to unknown port"),
        }
    }

    fn resubmit<'a>(&mut self, item: Item<'a>) -> Parsed<'a, Action> {
        let mut parts = item.value.splitn(3, ',');
        let (port_text, table_text) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let port = match port_text {
            "" => None,
            text => match port_number(text, self.names.ports) {
                Some(number) => Some(number).filter(|number| *number != port::IN_PORT),
                None => return fault(text, "resubmit to unknown port"),
            },
        };
        let table = match table_text {
            "" => None,
            text => match table_number(text, self.names.tables) {
                Some(table) => Some(table).filter(|table| *table != u8::MAX),
                None => return fault(text, "resubmit to unknown table"),
            },
        };
        let ct = match parts.next() {
            None | Some("") => false,
            Some("ct") => true,
            Some(other) => return fault(other, "unknown parameter of resubmit"),
        };
        if ct && !self.context.headers.is_tracked() {
            return fault(item.whole, "resubmit with ct needs a match on a valid connection");
        }
        if port.is_none() && table.is_none() {
            return fault(item.whole, "at least one `in_port` or `table` must be specified on resubmit");
        }
        // Whoever is called may leave another tag.
        self.context.headers.untagged = false;
        Ok(Action::Resubmit { port, table, ct })
    }

    fn goto_table<'a>(&self, item: Item<'a>) -> Parsed<'a, Action> {
        match table_number(item.value, self.names.tables) {
            None => fault(item.whole, "unknown table"),
            Some(255) => fault(item.whole, "there is no table 255"),
            Some(to) if self.context.table.is_some_and(|here| to <= here) => {
                fault(item.whole, "goto_table must go to a higher table")
            }
            Some(to) => Ok(Action::GotoTable(to)),
        }
    }

    /// Refuses `item` unless the packet has `field`.
    pub(crate) fn needs<'a>(&self, field: Field, item: Item<'a>) -> Parsed<'a, ()> {
        if self.context.headers.has(field) {
            return Ok(());
        }
        fault(item.whole, format!("the match lacks the prerequisites of {}", field.spec().name))
    }

    /// Refuses `item` unless actions may write `part`.
    pub(crate) fn needs_writable<'a>(&self, part: Subfield, item: Item<'a>) -> Parsed<'a, ()> {
        if !part.field.spec().writable {
            return fault(item.whole, format!("{} is read-only", part.field.spec().name));
        }
        self.needs(part.field, item)
    }

    /// Refuses to set `vlan_vid` where there may be no tag; `move` may do so.
    fn needs_tag<'a>(&self, field: Field, item: Item<'a>) -> Parsed<'a, ()> {
        let untagged = field == Field::VlanVidOxm && self.context.headers.tags == 0;
        if untagged { fault(item.whole, "the match lacks the prerequisites of vlan_vid") } else { Ok(()) }
    }

    fn load<'a>(&self, item: Item<'a>) -> Parsed<'a, Action> {
        let (text, target) = split_arrow(item.value)?;
        if names::is_tun_metadata(target.split('[').next().unwrap_or("")) {
            return Ok(Action::Opaque(format!("load:{}", item.value)));
        }
        let part = subfield(target)?;
        let Some((bits, _)) = number_prefix(text) else {
            return fault(text, "cannot parse integer value");
        };
        if bits > low_bits(part.width) {
            return fault(item.whole, format!("value does not fit into {} bits", part.width));
        }
        self.needs_tag(part.field, item)?;
        self.needs_writable(part, item)?;
        let (value, mask) = (bits << part.start, low_bits(part.width) << part.start);
        Ok(Action::Set { field: part.field, value, mask, form: SetForm::Load })
    }

    fn set_field<'a>(&mut self, item: Item<'a>) -> Parsed<'a, Action> {
        let (text, name) = split_arrow(item.value)?;
        if names::is_tun_metadata(name) {
            return Ok(Action::Opaque(format!("set_field:{}", item.value)));
        }
        let Some(names::Word::Field(field)) = names::word(name) else {
            return fault(name, "not a valid field name for set_field");
        };
        let spec = field.spec();
        if !spec.writable {
            return fault(name, format!("{name} is read-only"));
        }
        // No version of OpenFlow has these names: what is sent reads as another field's (experiment: `in_port`).
        if matches!(name, "dl_vlan" | "dl_vlan_pcp") {
            return Ok(Action::Opaque(format!("set_field:{}", item.value)));
        }
        let wanted = field_value(field, text, self.names.ports)?;
        let whole = low_bits(spec.width);
        let (mask, value) = (wanted.mask & whole, wanted.value & wanted.mask);
        let limit = match field {
            Field::NwTos => 0xfc,
            Field::InPort => 0xffff,
            _ => whole,
        };
        if value & !limit != 0 || spec.maskable == Maskable::No && mask != whole {
            return fault(text, format!("not a valid value for field {name}"));
        }
        self.context.protocols = self.context.protocols.and(Protocols::of_field(field));
        self.needs_tag(field, item)?;
        self.needs(field, item)?;
        if field == Field::VlanTci {
            self.context.headers.tags = u8::from(value & 0x1000 != 0);
        }
        Ok(Action::Set { field, value, mask, form: SetForm::SetField })
    }

    fn modify<'a>(&mut self, item: Item<'a>, field: Field) -> Parsed<'a, Action> {
        let wanted = field_value(field, item.value, self.names.ports)?;
        let bits = field.spec().width;
        let mask = if field == Field::NwTos { 0xfc } else { low_bits(bits) };
        if wanted.mask != u128::MAX {
            return fault(item.value, "wildcards not allowed here");
        }
        if wanted.value & !mask != 0 {
            return fault(item.whole, format!("not a valid {}", field.spec().name));
        }
        let headers = &self.context.headers;
        let fits = match field {
            Field::TcpSrc | Field::TcpDst => headers.has_ports(),
            _ => headers.has(field),
        };
        if !fits && !matches!(field, Field::DlSrc | Field::DlDst) {
            self.context.inconsistent(field_word(field));
        }
        Ok(Action::Set { field, value: wanted.value, mask, form: SetForm::Mod })
    }

    fn move_bits<'a>(&self, item: Item<'a>) -> Parsed<'a, Action> {
        let (source, target) = split_arrow(item.value)?;
        if [source, target].iter().any(|t| names::is_tun_metadata(t.split('[').next().unwrap_or(""))) {
            return Ok(Action::Opaque(format!("move:{}", item.value)));
        }
        let (src, rest) = subfield_prefix(source)?;
        if !rest.is_empty() {
            return fault(rest, "trailing garbage after a field");
        }
        let dst = subfield(target)?;
        if src.width != dst.width {
            return fault(
                item.whole,
                format!("source is {} bits wide, destination {}", src.width, dst.width),
            );
        }
        self.needs(src.field, item)?;
        self.needs_writable(dst, item)?;
        Ok(Action::Move { src, dst })
    }

    fn vlan_vid<'a>(&mut self, item: Item<'a>, pushes: bool) -> Parsed<'a, Action> {
        let vid = fitting::<u16>(item.value, "VLAN VID")?;
        if vid > 0xfff {
            return fault(item.whole, "not a valid VLAN VID");
        }
        let unclear = pushes && self.is_unclear();
        let there = self.tagged(pushes, "set_vlan_vid");
        Ok(if unclear {
            Action::RetagUnclear { bits: vid, mask: VID_BITS }
        } else if pushes || there {
            Action::ModVlanVid(vid)
        } else {
            Action::Opaque(format!("set_vlan_vid:{vid}"))
        })
    }

    fn vlan_pcp<'a>(&mut self, item: Item<'a>, pushes: bool) -> Parsed<'a, Action> {
        let pcp = fitting::<u8>(item.value, "VLAN PCP")?;
        if pcp > 7 {
            return fault(item.whole, "not a valid VLAN PCP");
        }
        let unclear = pushes && self.is_unclear();
        let there = self.tagged(pushes, "set_vlan_pcp");
        Ok(if unclear {
            Action::RetagUnclear { bits: u16::from(pcp) << 13, mask: PCP_BITS }
        } else if pushes || there {
            Action::ModVlanPcp(pcp)
        } else {
            Action::Opaque(format!("set_vlan_pcp:{pcp}"))
        })
    }

    /// Whether a dump does not tell a change of a tag from another tag around it.
    fn is_unclear(&self) -> bool {
        let headers = &self.context.headers;
        self.context.dumped && self.outer == Outer::Flow && headers.tags == 0 && !headers.untagged
    }

    /// Notes that the packet has a tag from here on; returns whether it was known to have one before.
    fn tagged(&mut self, pushes: bool, name: &'static str) -> bool {
        let there = self.context.headers.tags > 0;
        if !there && !pushes {
            self.context.inconsistent(name);
        }
        self.context.headers.tags = self.context.headers.tags.max(1);
        there
    }

    fn strip_vlan(&mut self) -> Action {
        if self.context.headers.tags == 0 {
            self.context.inconsistent("strip_vlan");
        }
        self.context.headers.tags = self.context.headers.tags.saturating_sub(1);
        self.context.headers.untagged = self.context.headers.tags == 0;
        Action::StripVlan
    }

    fn push_vlan<'a>(&mut self, item: Item<'a>) -> Parsed<'a, Action> {
        let tpid = fitting::<u16>(item.value, "ethertype")?;
        if !matches!(tpid, names::ethertype::VLAN | names::ethertype::SVLAN) {
            return fault(item.whole, "not a valid VLAN ethertype");
        }
        if self.context.headers.tags >= 2 {
            return fault(item.whole, "more VLAN tags than Open vSwitch supports");
        }
        self.context.headers.tags += 1;
        self.context.protocols = self.context.protocols.and(Protocols::OF11_UP);
        Ok(Action::PushVlan(tpid))
    }

    fn dec_ttl<'a>(&mut self, item: Item<'a>) -> Parsed<'a, Action> {
        if !self.context.headers.is_ip() {
            self.context.inconsistent("dec_ttl");
        }
        if item.value.is_empty() {
            return Ok(Action::DecTtl(String::new()));
        }
        let ids: Vec<_> = item
            .value
            .split([',', ' '])
            .filter(|id| !id.is_empty())
            .map(|id| (opaque::leading_decimal(id) & 0xffff).to_string())
            .collect();
        if ids.is_empty() {
            return fault(item.whole, "dec_ttl: expected at least one controller id");
        }
        Ok(Action::DecTtl(ids.join(",")))
    }
}

fn field_word(field: Field) -> &'static str {
    match field {
        Field::NwSrc => "mod_nw_src",
        Field::NwDst => "mod_nw_dst",
        Field::NwTos => "mod_nw_tos",
        Field::NwEcn => "mod_nw_ecn",
        Field::NwTtl => "mod_nw_ttl",
        Field::TcpSrc => "mod_tp_src",
        _ => "mod_tp_dst",
    }
}

/// First number that is not an ordinary port.
const FIRST_RESERVED: PortNo = 0xff00;

fn output_port(number: PortNo, item: Item<'_>) -> Parsed<'_, Action> {
    match number {
        port::CONTROLLER => Ok(Action::Controller(Box::new(Controller::plain(Controller::WHOLE_PACKET)))),
        port::NONE => fault(item.whole, "output to no port"),
        FIRST_RESERVED..port::IN_PORT => fault(item.whole, "output to a reserved port number"),
        _ => Ok(Action::Output(number)),
    }
}

fn conjunction(item: Item<'_>) -> Parsed<'_, Conjunction> {
    const SYNTAX: &str = "`conjunction` syntax is `conjunction(id,i/n)`";
    let Some((id, share)) = item.value.split_once(',') else { return fault(item.whole, SYNTAX) };
    let Some((clause, clauses)) = share.split_once('/') else { return fault(item.whole, SYNTAX) };
    let id = number(id.trim()).and_then(|n| u32::try_from(n).ok());
    let clause = number(clause.trim()).and_then(|n| u8::try_from(n).ok());
    let clauses = number(clauses.trim()).and_then(|n| u8::try_from(n).ok());
    let (Some(id), Some(clause), Some(clauses)) = (id, clause, clauses) else {
        return fault(item.whole, SYNTAX);
    };
    match (clause, clauses) {
        (_, ..2) => fault(item.whole, "conjunction must have at least 2 clauses"),
        (_, 65..) => fault(item.whole, "conjunction must have at most 64 clauses"),
        (0, _) => fault(item.whole, "clause index must be positive"),
        _ if clause > clauses => fault(item.whole, "clause index must not exceed the number of clauses"),
        _ => Ok(Conjunction { id, clause, clauses }),
    }
}

/// Bytes after the header of a note fill up to a multiple of eight.
fn note(item: Item<'_>) -> Parsed<'_, Action> {
    match opaque::hex_bytes(item.value) {
        Some(mut bytes) => {
            let padded = (bytes.len() + 2).next_multiple_of(8) - 2;
            bytes.resize(padded.max(6), 0);
            Ok(Action::Note(opaque::dotted_hex(&bytes)))
        }
        None => fault(item.whole, "bad hex digit in `note`"),
    }
}
