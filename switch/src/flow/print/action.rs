//! Actions as text, in the words of one OpenFlow version.

use super::Dialect;
use super::value::{Hex, field_value, port_name, put_subfield, subfield_text};
use crate::flow::ast::{Nest, SetForm};
use crate::flow::names::{self, ipproto};
use crate::flow::parse::DEFAULT_PRIORITY;
use crate::flow::{Action, Controller, Ct, Learn, LearnSource, LearnSpec, Match, Subfield, Zone};
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

    /// `write_metadata`, which all versions have; a mask only where it leaves something out.
    fn write_metadata(&mut self, what: Assignment) -> fmt::Result {
        write!(self.out, "write_metadata:{}", Hex(what.value))?;
        if what.is_whole() { Ok(()) } else { write!(self.out, "/{}", Hex(what.mask)) }
    }

    /// `set_mpls_…`; there is no `set_field` that has the name of a time to live.
    fn set_mpls(&mut self, what: Assignment, later: bool) -> fmt::Result {
        if later && what.field != Field::MplsTtl {
            return self.set_field(what);
        }
        write!(self.out, "set_{}({})", what.field.spec().name, what.value)
    }

    fn set(&mut self, what: Assignment, form: SetForm) -> fmt::Result {
        let name = modifier(what.field).unwrap_or("");
        let later = matches!(self.dialect, Dialect::OpenFlow13 | Dialect::OpenFlow15);
        match (self.dialect, form) {
            (_, SetForm::Metadata) => self.write_metadata(what),
            (_, SetForm::Mpls) => self.set_mpls(what, later),
            (_, SetForm::Tunnel) if !later => write!(self.out, "set_tunnel:{}", Hex(what.value)),
            (_, SetForm::Tunnel64) if !later => write!(self.out, "set_tunnel64:{}", Hex(what.value)),
            (_, SetForm::Tunnel | SetForm::Tunnel64) => self.set_field(what),
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
        if let Some(nat) = ct.nat {
            write!(self.out, "{nat},")?;
        }
        if !ct.exec.is_empty() {
            self.out.push_str("exec(");
            self.list(&ct.exec)?;
            self.out.push_str("),");
        }
        if let Some(alg) = ct.alg {
            write!(self.out, "{alg},")?;
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
            Action::OutputTruncated { port, max_len } => {
                write!(self.out, "output(port={},max_len={max_len})", port_name(*port))
            }
            Action::Enqueue { port, queue } => self.enqueue(*port, *queue),
            Action::Controller(controller) => write!(self.out, "{controller}"),
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
            Action::RetagUnclear { bits, mask: 0x0fff } => {
                self.vlan("mod_vlan_vid", *bits, Field::VlanVidOxm)
            }
            Action::RetagUnclear { bits, .. } => self.vlan("mod_vlan_pcp", *bits >> 13, Field::VlanPcp),
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
            Action::Push(part) => self.named("push:", *part),
            Action::Pop(part) => self.named("pop:", *part),
            Action::Clone(actions) => self.clone(actions),
            Action::Exit => self.out.write_str("exit"),
            Action::SetQueue(queue) => write!(self.out, "set_queue:{queue}"),
            Action::PopQueue => self.out.write_str("pop_queue"),
            Action::Group(group) => write!(self.out, "{group}"),
            // Neither meters nor an action set have a place in OpenFlow 1.0.
            Action::Meter(_) | Action::WriteActions(_) | Action::ClearActions
                if self.dialect == Dialect::Nxm =>
            {
                Ok(())
            }
            Action::Meter(meter) => write!(self.out, "meter:{meter}"),
            Action::Learn(learn) => write!(self.out, "{learn}"),
            Action::PushMpls(kind) => write!(self.out, "push_mpls:{kind:#06x}"),
            Action::PopMpls(kind) => write!(self.out, "pop_mpls:{kind:#06x}"),
            Action::DecMplsTtl => self.out.write_str("dec_mpls_ttl"),
            Action::CheckPktLarger { length, dst } => {
                self.named(&format!("check_pkt_larger({length})->"), *dst)
            }
            // An empty instruction is not sent.
            Action::WriteActions(actions) if actions.is_empty() && later => Ok(()),
            Action::WriteActions(actions) => {
                self.out.push_str("write_actions(");
                self.inside(actions)
            }
            Action::ClearActions => self.out.write_str("clear_actions"),
            Action::Begin(_) | Action::End => Ok(()),
            Action::Opaque(text) => self.opaque(text),
        }
    }

    fn named(&mut self, what: &str, part: Subfield) -> fmt::Result {
        self.out.push_str(what);
        put_subfield(&mut self.out, part)
    }

    /// Actions kept as text, where a version has other words for them.
    fn opaque(&mut self, text: &str) -> fmt::Result {
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        let whole = |field: Field, value| Assignment { field, value, mask: low_bits(field.spec().width) };
        match (self.dialect, name, value.parse::<u16>()) {
            (Dialect::Nxm, "set_vlan_vid" | "set_vlan_pcp", _) => {
                write!(self.out, "{}", text.replacen("set", "mod", 1))
            }
            (Dialect::AsRead | Dialect::Nxm, ..) => self.out.write_str(text),
            (_, "set_vlan_vid", Ok(vid)) => {
                self.set_field(whole(Field::VlanVidOxm, u128::from(vid) | VLAN_PRESENT))
            }
            (_, "set_vlan_pcp", Ok(pcp)) => self.set_field(whole(Field::VlanPcp, pcp.into())),
            _ => self.out.write_str(text),
        }
    }

    /// OpenFlow 1.1 has no `enqueue`.
    fn enqueue(&mut self, port: PortNo, queue: u32) -> fmt::Result {
        if matches!(self.dialect, Dialect::AsRead | Dialect::Nxm) {
            return write!(self.out, "enqueue:{}:{queue}", port_name(port));
        }
        write!(self.out, "set_queue:{queue},")?;
        self.action(&Action::Output(port))?;
        self.out.write_str(",pop_queue")
    }

    fn clone(&mut self, actions: &[Action]) -> fmt::Result {
        self.out.push_str("clone(");
        let tagged = self.tagged;
        self.inside(actions)?;
        self.tagged = tagged;
        Ok(())
    }

    /// A list inside parentheses, of which the first is written already; `drop` where there is nothing.
    fn inside(&mut self, actions: &[Action]) -> fmt::Result {
        let start = self.out.len();
        self.list(actions)?;
        self.out.push_str(if self.out.len() == start { "drop)" } else { ")" });
        Ok(())
    }

    fn list(&mut self, actions: &[Action]) -> fmt::Result {
        let start = self.out.len();
        let mut hidden = 0;
        for action in actions {
            if self.bracket(action, &mut hidden)? {
                continue;
            }
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

    /// Whether an action is a bracket, or is `hidden` so many brackets deep in a group, whose buckets a flow does not say.
    fn bracket(&mut self, action: &Action, hidden: &mut u32) -> Result<bool, fmt::Error> {
        match action {
            Action::Begin(_) if *hidden > 0 => *hidden += 1,
            Action::End if *hidden > 0 => *hidden -= 1,
            Action::Begin(Nest::Group(id)) => {
                write!(self.out, "group:{id},")?;
                *hidden = 1;
            }
            Action::Begin(_) => self.out.push_str("clone("),
            Action::End => {
                let last = self.out.pop();
                self.out.push_str(if last == Some(',') { ")," } else { "(drop)," });
            }
            _ => return Ok(*hidden > 0),
        }
        Ok(true)
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

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::plain(self.max_len) {
            return write!(f, "CONTROLLER:{}", self.max_len);
        }
        let mut parts = Vec::new();
        parts.extend(self.reason.map(|reason| format!("reason={reason}")));
        parts.extend((self.max_len != Self::WHOLE_PACKET).then(|| format!("max_len={}", self.max_len)));
        parts.extend((self.id != 0).then(|| format!("id={}", self.id)));
        let userdata: Vec<String> = self.userdata.iter().map(|byte| format!("{byte:02x}")).collect();
        parts.extend((!userdata.is_empty()).then(|| format!("userdata={}", userdata.join("."))));
        parts.extend(self.pause.then(|| "pause".to_owned()));
        parts.extend(self.meter.map(|meter| format!("meter_id={meter}")));
        write!(f, "controller({})", parts.join(","))
    }
}

impl fmt::Display for Learn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const TIMEOUTS: [&str; 4] = ["idle_timeout", "hard_timeout", "fin_idle_timeout", "fin_hard_timeout"];
        write!(f, "learn(table={}", self.table)?;
        for (name, seconds) in TIMEOUTS.iter().zip(self.timeouts).filter(|(_, seconds)| *seconds != 0) {
            write!(f, ",{name}={seconds}")?;
        }
        if self.priority != DEFAULT_PRIORITY {
            write!(f, ",priority={}", self.priority)?;
        }
        f.write_str(if self.send_flow_rem { ",send_flow_rem" } else { "" })?;
        f.write_str(if self.delete_learned { ",delete_learned" } else { "" })?;
        if self.cookie != 0 {
            write!(f, ",cookie={:#x}", self.cookie)?;
        }
        if self.limit != 0 {
            write!(f, ",limit={}", self.limit)?;
        }
        if let Some(part) = self.result {
            write!(f, ",result_dst={}", subfield_text(part))?;
        }
        self.specs.iter().try_for_each(|spec| write!(f, ",{spec}"))?;
        f.write_str(")")
    }
}

impl fmt::Display for LearnSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = subfield_text;
        match *self {
            Self::Match { dst, src: LearnSource::Value(value) } if dst == Subfield::whole(dst.field) => {
                let value = field_value(dst.field, value, low_bits(dst.width));
                write!(f, "{}={value}", names::action_name(dst.field))
            }
            Self::Match { dst, src: LearnSource::Value(value) } => write!(f, "{}={}", text(dst), Hex(value)),
            Self::Match { dst, src: LearnSource::Field(src) } if src == dst => f.write_str(&text(dst)),
            Self::Match { dst, src: LearnSource::Field(src) } => write!(f, "{}={}", text(dst), text(src)),
            Self::Load { dst, src: LearnSource::Value(value) } => {
                write!(f, "load:{}->{}", Hex(value), text(dst))
            }
            Self::Load { dst, src: LearnSource::Field(src) } => {
                write!(f, "load:{}->{}", text(src), text(dst))
            }
            Self::Output(src) => write!(f, "output:{}", text(src)),
        }
    }
}
