//! Actions as text, in the words of one OpenFlow version.

use super::Dialect;
use super::value::{Hex, field_value, port_name, put_subfield};
use crate::flow::ast::SetForm;
use crate::flow::names::{self, ipproto};
use crate::flow::parse::{number as names_number, reread_actions};
use crate::flow::{Action, Ct, Match, Subfield, Zone};
use flowproof_packet::{Field, PortNo, key::low_bits};
use std::fmt::{self, Write};

/// First number that is a reserved port.
const FIRST_RESERVED: PortNo = 0xff00;
/// Bits that one `load` carries on the wire.
const WIRE_LOAD: u16 = 64;
/// The bit that says that there is a VLAN.
const VLAN_PRESENT: u128 = 0x1000;

struct Printer {
    out: String,
    dialect: Dialect,
    /// Whether the packet is known to have a VLAN tag.
    tagged: bool,
    nw_proto: u8,
}

/// A value and the bits of a field it goes to.
#[derive(Clone, Copy)]
struct Assignment {
    field: Field,
    value: u128,
    mask: u128,
}

impl Assignment {
    const fn is_whole(&self) -> bool {
        self.mask == low_bits(self.field.spec().width)
    }

    /// The runs of bits that are written, lowest first, none longer than `longest`.
    fn runs(&self, longest: u16) -> impl Iterator<Item = (Subfield, u128)> + use<> {
        let Self { field, value, mut mask } = *self;
        std::iter::from_fn(move || {
            if mask == 0 {
                return None;
            }
            let start = mask.trailing_zeros() as u16;
            let width = ((mask >> start).trailing_ones() as u16).min(longest);
            mask &= !(low_bits(width) << start);
            Some((Subfield { field, start, width }, value >> start & low_bits(width)))
        })
    }
}

/// The word for setting a whole field in OpenFlow 1.0.
const MODIFIERS: &[(Field, &str)] = &[
    (Field::DlSrc, "mod_dl_src"),
    (Field::DlDst, "mod_dl_dst"),
    (Field::NwSrc, "mod_nw_src"),
    (Field::NwDst, "mod_nw_dst"),
    (Field::NwTos, "mod_nw_tos"),
    (Field::NwEcn, "mod_nw_ecn"),
    (Field::NwTtl, "mod_nw_ttl"),
    (Field::TcpSrc, "mod_tp_src"),
    (Field::TcpDst, "mod_tp_dst"),
    (Field::UdpSrc, "mod_tp_src"),
    (Field::UdpDst, "mod_tp_dst"),
];

fn modifier(field: Field) -> Option<&'static str> {
    MODIFIERS.iter().find(|(of, _)| *of == field).map(|(_, name)| *name)
}

impl Printer {
    fn load(&mut self, what: Assignment) -> fmt::Result {
        let longest = if self.dialect == Dialect::AsRead { 128 } else { WIRE_LOAD };
        for (n, (part, value)) in what.runs(longest).enumerate() {
            write!(self.out, "{}load:{}->", if n == 0 { "" } else { "," }, Hex(value))?;
            put_subfield(&mut self.out, part)?;
        }
        Ok(())
    }

    fn set_field(&mut self, what: Assignment) -> fmt::Result {
        let text = field_value(what.field, what.value, what.mask);
        write!(self.out, "set_field:{text}->{}", names::action_name(what.field))
    }

    fn modify(&mut self, name: &str, what: Assignment) -> fmt::Result {
        write!(self.out, "{name}:{}", field_value(what.field, what.value, low_bits(what.field.spec().width)))
    }

    /// `mod_…` where OpenFlow 1.2 and later have `set_field`.
    fn modify_later(&mut self, name: &str, what: Assignment) -> fmt::Result {
        let field = match (what.field, self.nw_proto) {
            (Field::NwTtl, _) => return self.modify(name, what),
            (Field::NwTos, _) => {
                let field = Field::IpDscp;
                return self.set_field(Assignment { field, value: what.value >> 2, mask: 0x3f });
            }
            (Field::TcpSrc, ipproto::UDP) => Field::UdpSrc,
            (Field::TcpDst, ipproto::UDP) => Field::UdpDst,
            (Field::TcpSrc, ipproto::SCTP) => Field::SctpSrc,
            (Field::TcpDst, ipproto::SCTP) => Field::SctpDst,
            (field, _) => field,
        };
        self.set_field(Assignment { field, ..what })
    }

    /// What OpenFlow 1.0 has for `set_field`.
    fn set_field_nxm(&mut self, what: Assignment) -> fmt::Result {
        let Assignment { field, value, .. } = what;
        if !what.is_whole() {
            return self.load(what);
        }
        match field {
            Field::VlanTci if value & VLAN_PRESENT == 0 => self.out.write_str("strip_vlan"),
            Field::VlanTci => write!(self.out, "mod_vlan_vid:{},mod_vlan_pcp:{}", value & 0xfff, value >> 13),
            Field::VlanVidOxm => write!(self.out, "mod_vlan_vid:{}", value & 0xfff),
            Field::VlanPcp => write!(self.out, "mod_vlan_pcp:{value}"),
            Field::VlanVid => self.set_field(what),
            Field::IpDscp => write!(self.out, "mod_nw_tos:{}", value << 2),
            Field::NwEcn | Field::NwTtl => self.load(what),
            _ => match modifier(field) {
                Some(name) => self.modify(name, what),
                None => self.load(what),
            },
        }
    }

    fn set(&mut self, what: Assignment, form: SetForm) -> fmt::Result {
        let name = modifier(what.field).unwrap_or("");
        match (self.dialect, form) {
            (Dialect::AsRead, SetForm::Mod) => self.modify(name, what),
            (Dialect::AsRead | Dialect::Nxm | Dialect::OpenFlow13, SetForm::Load) => self.load(what),
            (Dialect::AsRead, SetForm::SetField) => self.set_field(what),
            (Dialect::Nxm, SetForm::Mod) if matches!(what.field, Field::NwEcn | Field::NwTtl) => {
                self.load(what)
            }
            (Dialect::Nxm, SetForm::Mod) => self.modify(name, what),
            (Dialect::Nxm, SetForm::SetField) => self.set_field_nxm(what),
            (Dialect::OpenFlow13 | Dialect::OpenFlow15, SetForm::Mod) => self.modify_later(name, what),
            (Dialect::OpenFlow13, SetForm::SetField) if !what.is_whole() => self.load(what),
            (Dialect::OpenFlow13 | Dialect::OpenFlow15, _) => self.set_field(what),
        }
    }

    /// `mod_vlan_vid` and `mod_vlan_pcp`, with the tag that they push where OpenFlow 1.1 wants it said.
    fn vlan(&mut self, name: &str, number: u16, field: Field) -> fmt::Result {
        if matches!(self.dialect, Dialect::AsRead | Dialect::Nxm) {
            return write!(self.out, "{name}:{number}");
        }
        if !self.tagged {
            self.out.push_str("push_vlan:0x8100,");
        }
        self.tagged = true;
        let present = if field == Field::VlanVidOxm { VLAN_PRESENT } else { 0 };
        let value = u128::from(number) | present;
        self.set_field(Assignment { field, value, mask: low_bits(field.spec().width) })
    }

    fn resubmit(&mut self, port: Option<PortNo>, table: Option<u8>, ct: bool) -> fmt::Result {
        if let (Some(port), None) = (port, table) {
            return write!(self.out, "resubmit:{}", port_name(port));
        }
        let port = port.map(port_name).unwrap_or_default();
        let table = table.map(|table| table.to_string()).unwrap_or_default();
        write!(self.out, "resubmit({port},{table}{})", if ct { ",ct" } else { "" })
    }

    fn ct(&mut self, ct: &Ct) -> fmt::Result {
        self.out.push_str("ct(");
        let start = self.out.len();
        if ct.commit {
            self.out.push_str("commit,");
        }
        if ct.force {
            self.out.push_str("force,");
        }
        if let Some(table) = ct.table {
            write!(self.out, "table={table},")?;
        }
        match ct.zone {
            Zone::Const(0) => {}
            Zone::Const(zone) => write!(self.out, "zone={zone},")?,
            Zone::Field(part) => {
                self.out.push_str("zone=");
                put_subfield(&mut self.out, part)?;
                self.out.push(',');
            }
        }
        if let Some(nat) = &ct.nat {
            write!(self.out, "{nat},")?;
        }
        if !ct.exec.is_empty() {
            self.out.push_str("exec(");
            self.list(&ct.exec)?;
            self.out.push_str("),");
        }
        for other in &ct.other {
            write!(self.out, "{other},")?;
        }
        if self.out.len() > start {
            self.out.pop();
        }
        self.out.push(')');
        Ok(())
    }

    fn action(&mut self, action: &Action) -> fmt::Result {
        let later = matches!(self.dialect, Dialect::OpenFlow13 | Dialect::OpenFlow15);
        match action {
            Action::Output(port) if *port < FIRST_RESERVED => write!(self.out, "output:{port}"),
            Action::Output(port) => self.out.write_str(&port_name(*port)),
            Action::OutputField(part) => {
                self.out.push_str("output:");
                put_subfield(&mut self.out, *part)
            }
            Action::Controller(text) if text.starts_with(':') => write!(self.out, "CONTROLLER{text}"),
            Action::Controller(text) => write!(self.out, "controller{text}"),
            Action::Resubmit { port, table, ct } => self.resubmit(*port, *table, *ct),
            Action::GotoTable(table) if self.dialect == Dialect::Nxm => {
                write!(self.out, "resubmit(,{table})")
            }
            Action::GotoTable(table) => write!(self.out, "goto_table:{table}"),
            Action::Set { field, value, mask, form } => {
                self.set(Assignment { field: *field, value: *value, mask: *mask }, *form)
            }
            Action::Move { src, dst } => {
                self.out.push_str("move:");
                put_subfield(&mut self.out, *src)?;
                self.out.push_str("->");
                put_subfield(&mut self.out, *dst)
            }
            Action::ModVlanVid(vid) => self.vlan("mod_vlan_vid", *vid, Field::VlanVidOxm),
            Action::ModVlanPcp(pcp) => self.vlan("mod_vlan_pcp", u16::from(*pcp), Field::VlanPcp),
            Action::StripVlan => {
                self.tagged = false;
                self.out.write_str(if later { "pop_vlan" } else { "strip_vlan" })
            }
            Action::PushVlan(tpid) => {
                self.tagged = true;
                if self.dialect == Dialect::Nxm { Ok(()) } else { write!(self.out, "push_vlan:{tpid:#06x}") }
            }
            Action::DecTtl(ids) if ids.is_empty() => self.out.write_str("dec_ttl"),
            Action::DecTtl(ids) => write!(self.out, "dec_ttl({ids})"),
            Action::Ct(ct) => self.ct(ct),
            Action::CtClear => self.out.write_str("ct_clear"),
            Action::Conjunction(part) => {
                write!(self.out, "conjunction({},{}/{})", part.id, part.clause, part.clauses)
            }
            Action::Note(text) => write!(self.out, "note:{text}"),
            Action::Opaque(text) => self.opaque(text),
        }
    }

    /// Actions kept as text, where a version has other words for them.
    fn opaque(&mut self, text: &str) -> fmt::Result {
        let (name, value) = text.split_once([':', '(']).unwrap_or((text, ""));
        let value = value.strip_suffix(')').unwrap_or(value);
        let number = names_number(value);
        let whole = |field: Field, value| Assignment { field, value, mask: low_bits(field.spec().width) };
        match (self.dialect, name, number) {
            (Dialect::AsRead, ..) => self.out.write_str(text),
            (_, "clone", _) => self.clone(value),
            // An action set has no place in OpenFlow 1.0.
            (Dialect::Nxm, "write_actions" | "clear_actions" | "meter", _) => Ok(()),
            (Dialect::Nxm, "set_vlan_vid" | "set_vlan_pcp", _) => {
                write!(self.out, "{}", text.replacen("set", "mod", 1))
            }
            (Dialect::Nxm, ..) => self.out.write_str(text),
            (_, "set_tunnel" | "set_tunnel64", Some(id)) => self.set_field(whole(Field::TunId, id)),
            (_, "enqueue", _) => self.enqueue(value),
            (_, "set_mpls_label", Some(label)) => self.set_field(whole(Field::MplsLabel, label)),
            (_, "set_mpls_tc", Some(class)) => self.set_field(whole(Field::MplsTc, class)),
            (_, "set_vlan_vid", Some(vid)) => self.set_field(whole(Field::VlanVidOxm, vid | VLAN_PRESENT)),
            (_, "set_vlan_pcp", Some(pcp)) => self.set_field(whole(Field::VlanPcp, pcp)),
            _ => self.out.write_str(text),
        }
    }

    /// OpenFlow 1.1 has no `enqueue`.
    fn enqueue(&mut self, value: &str) -> fmt::Result {
        let (port, queue) = value.rsplit_once(':').unwrap_or((value, "0"));
        let output = if port.bytes().all(|b| b.is_ascii_digit()) { "output:" } else { "" };
        write!(self.out, "set_queue:{queue},{output}{port},pop_queue")
    }

    fn clone(&mut self, inner: &str) -> fmt::Result {
        self.out.push_str("clone(");
        let tagged = self.tagged;
        match reread_actions(inner, self.tagged) {
            Some(actions) if actions.is_empty() => self.out.push_str("drop"),
            Some(actions) => self.list(&actions)?,
            None => self.out.push_str(inner),
        }
        self.tagged = tagged;
        self.out.push(')');
        Ok(())
    }

    fn list(&mut self, actions: &[Action]) -> fmt::Result {
        let start = self.out.len();
        for action in actions {
            let before = self.out.len();
            self.action(action)?;
            if self.out.len() > before {
                self.out.push(',');
            }
        }
        if self.out.len() > start {
            self.out.pop();
        }
        Ok(())
    }
}

/// A list of actions beside a match; `drop` if there is none.
pub(crate) fn list(actions: &[Action], matching: &Match, dialect: Dialect) -> String {
    let tagged = matching.get(Field::VlanTci).0 & VLAN_PRESENT != 0;
    let nw_proto = (matching.get(Field::NwProto).0 & 0xff) as u8;
    let mut printer = Printer { out: String::new(), dialect, tagged, nw_proto };
    let written = printer.list(actions);
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
    if printer.out.is_empty() { "drop".to_owned() } else { printer.out }
}
