//! Actions: one row a kind, each with what it needs and how it is written.
//!
//! Invariant: [`kind`] names a row of [`ACTIONS`] for every action that there is; a new variant of [`Action`] does not
//! compile before it has one. Deliberately absent: what actions do.
//!
//! Source: ovs-actions(7).

use super::fields::{self, Ground};
use crate::Choices;
use flowproof_packet::{Field, Prerequisite, key::low_bits};
use flowproof_switch::flow::{Action, ast::SetForm};

/// Who writes the actions of a flow.
#[derive(Debug)]
pub struct Writer<'a, 'c> {
    /// Where choices come from.
    pub choices: &'a mut Choices<'c>,
    /// The table that the flow stands in.
    pub table: usize,
    /// What the flow is about.
    pub ground: Ground,
    /// What is known of what was written, for flows behind.
    pub written: &'a mut Vec<(Field, u128)>,
    /// A field that the next action that can should write or read.
    pub goal: Option<Field>,
    /// How deep in other actions.
    pub depth: usize,
}

/// One kind of action.
#[derive(Clone, Copy)]
pub struct Production {
    /// Its name; for those that are kept as text, the word that the text begins with.
    pub name: &'static str,
    /// How often, among all that fit.
    pub weight: usize,
    /// What the packet must have.
    pub needs: Option<Prerequisite>,
    /// Writes one.
    pub write: fn(&mut Writer<'_, '_>) -> String,
}

impl std::fmt::Debug for Production {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const fn row(
    name: &'static str,
    weight: usize,
    needs: Option<Prerequisite>,
    write: fn(&mut Writer<'_, '_>) -> String,
) -> Production {
    Production { name, weight, needs, write }
}

impl Writer<'_, '_> {
    fn port(&mut self) -> String {
        match *self.choices.pick(&fields::PORTS) {
            0xfffe => "LOCAL".to_owned(),
            number => number.to_string(),
        }
    }

    /// A table behind this one, or seldom any.
    fn later(&mut self) -> usize {
        if self.choices.chance(3) {
            self.choices.below(self.table + 1)
        } else {
            self.table + 1 + self.choices.below(2)
        }
    }

    fn small(&mut self) -> usize {
        1 + self.choices.below(3)
    }

    /// A field for which `fits`: the goal, if it is one.
    fn field(&mut self, fits: impl Fn(Field) -> bool) -> Field {
        let ground = self.ground;
        let fits = |field: &Field| fits(*field) && ground.allows(*field);
        if let Some(goal) = self.goal.filter(fits) {
            return goal;
        }
        let usual = [Field::Reg0, Field::Reg1, Field::Metadata, Field::InPort, Field::VlanTci, Field::TunId];
        let all: Vec<Field> = if self.choices.chance(45) {
            usual.into_iter().filter(fits).collect()
        } else {
            Field::all().filter(fits).collect()
        };
        if all.is_empty() { Field::Reg0 } else { *self.choices.pick(&all) }
    }

    fn note(&mut self, field: Field, value: u128) {
        self.written.push((field, value & low_bits(field.spec().width)));
    }

    /// `F[a..b]`, and how wide it is; `width` bits if that is given.
    fn part(&mut self, field: Field, width: Option<u16>) -> (String, u16, u16) {
        let all = field.spec().width;
        let name = self.choices.pick(field.spec().nxm);
        let width = width.unwrap_or_else(|| {
            if self.choices.chance(60) { all } else { 1 + self.choices.below(usize::from(all)) as u16 }
        });
        let start = self.choices.below(usize::from(all.saturating_sub(width)) + 1) as u16;
        let text = match width {
            _ if width == all => format!("{name}[]"),
            1 => format!("{name}[{start}]"),
            _ => format!("{name}[{start}..{}]", start + width - 1),
        };
        (text, start, width)
    }

    fn any_actions(&mut self, fits: impl Fn(&Production) -> bool + Copy) -> String {
        self.depth += 1;
        let count = 1 + self.choices.below(2);
        let found: Vec<String> = (0..count).filter_map(|_| self.draw(fits)).collect();
        self.depth -= 1;
        if found.is_empty() { "note:00".to_owned() } else { found.join(",") }
    }

    /// An action of a kind that fits.
    pub fn draw(&mut self, fits: impl Fn(&Production) -> bool) -> Option<String> {
        let (ground, depth) = (self.ground, self.depth);
        let possible = |row: &&Production| {
            row.needs.is_none_or(|needs| ground.has.contains(&needs))
                && (depth < 2 || !row.name.starts_with("clone"))
        };
        let rows: Vec<&Production> = ACTIONS.iter().filter(possible).filter(|row| fits(row)).collect();
        let total: usize = rows.iter().map(|row| row.weight).sum();
        let mut left = self.choices.below(total);
        let row = rows.iter().find(|row| match left.checked_sub(row.weight) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        })?;
        Some((row.write)(self))
    }
}

const fn is_header(field: Field) -> bool {
    !matches!(field, Field::CtMark | Field::CtLabel | Field::ActsetOutput)
}

fn load(writer: &mut Writer<'_, '_>) -> String {
    let field =
        writer.field(|field| field.spec().writable && !field.spec().nxm.is_empty() && is_header(field));
    let value = fields::value(writer.choices, field);
    let (part, start, width) = writer.part(field, None);
    let value = value >> start & low_bits(width).min(u64::MAX.into());
    writer.note(field, value << start);
    format!("load:{value:#x}->{part}")
}

/// Fields that `set_field` writes whatever the version of OpenFlow: `dl_vlan` has no name there, and `vlan_tci` becomes another
/// action in some.
pub(super) fn by_name(field: Field) -> bool {
    field.spec().writable
        && field.spec().is_matchable()
        && is_header(field)
        && !matches!(field, Field::InPort | Field::VlanTci | Field::VlanVid | Field::VlanPcp)
}

fn set_field(writer: &mut Writer<'_, '_>) -> String {
    let field = writer.field(by_name);
    let value = fields::value(writer.choices, field);
    writer.note(field, value);
    let mask = if writer.choices.chance(25) {
        let shape = *writer.choices.pick(fields::Shape::of(field));
        shape.mask(writer.choices, field.spec().width)
    } else {
        low_bits(field.spec().width)
    };
    let text = fields::text(writer.choices, field, value, mask);
    format!("set_field:{text}->{}", fields::name(writer.choices, field))
}

fn move_bits(writer: &mut Writer<'_, '_>) -> String {
    let goal = writer.goal;
    let named = |field: Field| !field.spec().nxm.is_empty() && is_header(field);
    let target = |field: Field| named(field) && field.spec().writable;
    let from_goal = goal.is_some_and(|goal| !target(goal)) || writer.choices.chance(40);
    let (src, dst) = if from_goal {
        let src = writer.field(named);
        writer.goal = None;
        (src, writer.field(target))
    } else {
        let dst = writer.field(target);
        writer.goal = None;
        (writer.field(named), dst)
    };
    writer.goal = goal;
    let most = src.spec().width.min(dst.spec().width);
    let width =
        if writer.choices.chance(60) { most } else { 1 + writer.choices.below(usize::from(most)) as u16 };
    let (from, ..) = writer.part(src, Some(width));
    let (to, ..) = writer.part(dst, Some(width));
    let value = fields::value(writer.choices, src);
    writer.note(dst, value);
    format!("move:{from}->{to}")
}

fn modify(writer: &mut Writer<'_, '_>) -> String {
    let rows: [(&str, Field); 9] = [
        ("mod_dl_src", Field::DlSrc),
        ("mod_dl_dst", Field::DlDst),
        ("mod_nw_src", Field::NwSrc),
        ("mod_nw_dst", Field::NwDst),
        ("mod_nw_tos", Field::NwTos),
        ("mod_nw_ecn", Field::NwEcn),
        ("mod_nw_ttl", Field::NwTtl),
        ("mod_tp_src", Field::TcpSrc),
        ("mod_tp_dst", Field::TcpDst),
    ];
    let goal = writer.goal;
    let (name, field) = match rows.into_iter().find(|(_, field)| goal == Some(*field)) {
        Some(row) => row,
        None => *writer.choices.pick(&rows),
    };
    let mut value = fields::value(writer.choices, field);
    if field == Field::NwTos {
        value &= 0xfc;
    }
    writer.note(field, value);
    let all = low_bits(field.spec().width);
    format!("{name}:{}", fields::text(writer.choices, field, value, all))
}

fn zone(writer: &mut Writer<'_, '_>) -> Option<String> {
    match writer.choices.below(4) {
        0 => None,
        1..3 => Some(format!("zone={}", writer.small())),
        _ => {
            let field = *writer.choices.pick(&[Field::Reg0, Field::Reg1, Field::InPort, Field::VlanTci]);
            let (part, ..) = writer.part(field, Some(field.spec().width.min(16)));
            Some(format!("zone={part}"))
        }
    }
}

fn exec(writer: &mut Writer<'_, '_>) -> String {
    let value = writer.small();
    (*writer.choices.pick(&[
        format!("exec(load:{value:#x}->NXM_NX_CT_MARK[])"),
        format!("exec(set_field:{value:#x}/0x3->ct_mark)"),
        format!("exec(set_field:{value:#x}->ct_label)"),
        "exec(move:NXM_NX_REG0[]->NXM_NX_CT_MARK[])".to_owned(),
        format!("exec(load:{value:#x}->NXM_NX_CT_MARK[0..7],load:0x1->NXM_NX_CT_LABEL[5])"),
    ]))
    .clone()
}

fn ct(writer: &mut Writer<'_, '_>) -> String {
    let mut parts = Vec::new();
    let commit = writer.choices.chance(35);
    if commit {
        parts.push("commit".to_owned());
        if writer.choices.chance(10) {
            parts.push("force".to_owned());
        }
    }
    if !commit || writer.choices.chance(50) {
        parts.push(format!("table={}", writer.later()));
    }
    parts.extend(zone(writer));
    if commit && writer.choices.chance(40) {
        parts.push(exec(writer));
    }
    format!("ct({})", parts.join(","))
}

fn ct_nat(writer: &mut Writer<'_, '_>) -> String {
    let v6 = writer.ground.has.contains(&Prerequisite::Ipv6);
    let (one, two) = if v6 { ("fd00::9", "[fd00::8]:90-99") } else { ("10.0.0.9", "10.0.0.8:90-99") };
    let nat = match writer.choices.below(5) {
        0 => "table=@,nat".to_owned(),
        1 => format!("commit,table=@,nat(src={one})"),
        2 => format!("commit,table=@,nat(dst={one})"),
        3 => format!("commit,nat(dst={two})"),
        _ => "commit,table=@,nat".to_owned(),
    };
    let zone = zone(writer).map_or_else(String::new, |zone| format!(",{zone}"));
    format!("ct({}{zone})", nat.replace('@', &writer.later().to_string()))
}

fn learn(writer: &mut Writer<'_, '_>) -> String {
    let table = writer.later();
    let body = *writer.choices.pick(&[
        "NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]",
        "NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15]",
        "NXM_OF_VLAN_TCI[0..11],load:0x1->NXM_NX_REG1[]",
    ]);
    format!("learn(table={table},priority=9,{body})")
}

fn write_metadata(writer: &mut Writer<'_, '_>) -> String {
    let value = writer.small() as u128;
    writer.note(Field::Metadata, value);
    if writer.choices.chance(40) {
        format!("write_metadata:{value:#x}/0xf")
    } else {
        format!("write_metadata:{value:#x}")
    }
}

fn stack(name: &str, writer: &mut Writer<'_, '_>) -> String {
    let writes = name == "pop";
    let field = writer.field(|field| {
        !field.spec().nxm.is_empty() && is_header(field) && (!writes || field.spec().writable)
    });
    let (part, ..) = writer.part(field, None);
    if writes {
        let value = fields::value(writer.choices, field);
        writer.note(field, value);
    }
    format!("{name}:{part}")
}

fn resubmit(writer: &mut Writer<'_, '_>) -> String {
    let table = writer.later();
    match writer.choices.below(8) {
        0 => format!("resubmit({},{table})", writer.port()),
        1 => format!("resubmit(IN_PORT,{table})"),
        _ => format!("resubmit(,{table})"),
    }
}

fn output(writer: &mut Writer<'_, '_>) -> String {
    let port = writer.port();
    if port == "LOCAL" { port } else { format!("output:{port}") }
}

fn output_field(writer: &mut Writer<'_, '_>) -> String {
    let field = writer.field(|field| !field.spec().nxm.is_empty() && is_header(field));
    let width = (field.spec().width > 16 && writer.choices.chance(70)).then_some(16);
    let (part, ..) = writer.part(field, width);
    format!("output:{part}")
}

fn check_larger(writer: &mut Writer<'_, '_>) -> String {
    let field =
        writer.field(|field| field.spec().writable && !field.spec().nxm.is_empty() && is_header(field));
    let (part, ..) = writer.part(field, Some(1));
    let larger = u128::from(writer.choices.chance(50));
    writer.note(field, larger);
    let length = *writer.choices.pick(&[60, 100, 64, 1500]);
    format!("check_pkt_larger({length})->{part}")
}

/// In `clone(…)` anything may stand but what ends a flow.
fn inner(row: &Production) -> bool {
    !matches!(
        row.name,
        "conjunction" | "goto_table" | "write_actions" | "clear_actions" | "write_metadata" | "meter"
    )
}

fn in_set(row: &Production) -> bool {
    matches!(
        row.name,
        "output"
            | "load"
            | "set_field"
            | "mod"
            | "push_vlan"
            | "strip_vlan"
            | "group"
            | "set_queue"
            | "dec_ttl"
    )
}

/// Every kind of action that a flow may have.
pub const ACTIONS: &[Production] = {
    use Prerequisite::{Ip, Mpls, Nsh, Tcp};
    &[
        row("output", 60, None, output),
        row("normal", 18, None, |_| "NORMAL".to_owned()),
        row("in_port", 8, None, |_| "IN_PORT".to_owned()),
        row("flood", 5, None, |_| "FLOOD".to_owned()),
        row("all", 5, None, |_| "ALL".to_owned()),
        row("output_field", 10, None, output_field),
        row("controller", 3, None, |w| {
            (*w.choices.pick(&["CONTROLLER:65535", "controller(max_len=128,id=7)"])).to_owned()
        }),
        row("controller_pause", 1, None, |_| "controller(pause)".to_owned()),
        row("output_truncated", 1, None, |w| format!("output(port={},max_len=64)", 1 + w.choices.below(4))),
        row("resubmit", 60, None, resubmit),
        row("resubmit_ct", 2, Some(Ip), |w| format!("resubmit(,{},ct)", w.later())),
        row("goto_table", 8, None, |w| format!("goto_table:{}", w.table + 1 + w.choices.below(2))),
        row("load", 45, None, load),
        row("set_field", 30, None, set_field),
        row("mod", 20, None, modify),
        row("move", 30, None, move_bits),
        row("mod_vlan_vid", 8, None, |w| format!("mod_vlan_vid:{}", *w.choices.pick(&[5, 1, 0, 4095]))),
        row("mod_vlan_pcp", 5, None, |w| format!("mod_vlan_pcp:{}", w.choices.below(8))),
        row("strip_vlan", 8, None, |w| (*w.choices.pick(&["strip_vlan", "pop_vlan"])).to_owned()),
        row("push_vlan", 8, None, |w| {
            (*w.choices.pick(&["push_vlan:0x8100", "push_vlan:0x88a8"])).to_owned()
        }),
        row("dec_ttl", 5, None, |w| (*w.choices.pick(&["dec_ttl", "dec_ttl(1,2)"])).to_owned()),
        row("ct", 50, Some(Ip), ct),
        row("ct_nat", 4, Some(Ip), ct_nat),
        row("ct_clear", 3, None, |_| "ct_clear".to_owned()),
        row("conjunction", 0, None, |w| format!("conjunction({},{}/2)", w.small(), 1 + w.choices.below(2))),
        row("note", 2, None, |_| "note:00.01".to_owned()),
        row("group", 2, None, |w| format!("group:{}", w.small())),
        row("meter", 2, None, |w| format!("meter:{}", w.small())),
        row("learn", 2, None, learn),
        row("write_metadata", 6, None, write_metadata),
        row("push", 5, None, |w| stack("push", w)),
        row("pop", 5, None, |w| stack("pop", w)),
        row("clone", 5, None, |w| format!("clone({})", w.any_actions(inner))),
        row("exit", 3, None, |_| "exit".to_owned()),
        row("set_tunnel", 4, None, |w| {
            let value = w.small() as u128;
            w.note(Field::TunId, value);
            format!("{}:{value:#x}", w.choices.pick(&["set_tunnel", "set_tunnel64"]))
        }),
        row("set_queue", 2, None, |w| format!("set_queue:{}", w.choices.below(3))),
        row("pop_queue", 1, None, |_| "pop_queue".to_owned()),
        row("enqueue", 1, None, |w| format!("enqueue:{}:1", 1 + w.choices.below(4))),
        row("check_pkt_larger", 3, None, check_larger),
        row("write_actions", 3, None, |w| format!("write_actions({})", w.any_actions(in_set))),
        row("clear_actions", 1, None, |_| "clear_actions".to_owned()),
        row("push_mpls", 3, None, |w| {
            (*w.choices.pick(&["push_mpls:0x8847", "push_mpls:0x8848"])).to_owned()
        }),
        row("pop_mpls", 5, Some(Mpls), |w| {
            (*w.choices.pick(&["pop_mpls:0x0800", "pop_mpls:0x86dd", "pop_mpls:0x8847"])).to_owned()
        }),
        row("set_mpls_label", 3, Some(Mpls), |w| format!("set_mpls_label:{}", w.small())),
        row("set_mpls_tc", 2, Some(Mpls), |w| format!("set_mpls_tc:{}", w.small())),
        row("set_mpls_ttl", 2, Some(Mpls), |w| format!("set_mpls_ttl:{}", *w.choices.pick(&[64, 1, 0]))),
        row("dec_mpls_ttl", 3, Some(Mpls), |_| "dec_mpls_ttl".to_owned()),
        row("bundle", 1, None, |_| "bundle(eth_src,0,hrw,ofport,members:1,2)".to_owned()),
        row("bundle_load", 1, None, |_| {
            "bundle_load(eth_src,0,hrw,ofport,NXM_NX_REG0[0..15],members:1,2)".to_owned()
        }),
        row("multipath", 1, None, |_| "multipath(eth_src,50,modulo_n,1,0,NXM_NX_REG0[0..3])".to_owned()),
        row("fin_timeout", 1, Some(Tcp), |_| "fin_timeout(idle_timeout=5)".to_owned()),
        row("sample", 1, None, |_| "sample(probability=12345,collector_set_id=1)".to_owned()),
        row("encap", 1, None, |w| {
            (*w.choices.pick(&["encap(nsh(md_type=1))", "encap(ethernet)", "encap(mpls)"])).to_owned()
        }),
        row("decap", 1, None, |_| "decap()".to_owned()),
        row("dec_nsh_ttl", 2, Some(Nsh), |_| "dec_nsh_ttl".to_owned()),
        row("delete_field", 1, None, |_| "delete_field:tun_metadata0".to_owned()),
    ]
};

/// The row that an action is of.
#[must_use]
pub fn kind(action: &Action) -> &'static str {
    use flowproof_packet::port;
    match action {
        Action::Output(port::NORMAL) => "normal",
        Action::Output(port::IN_PORT) => "in_port",
        Action::Output(port::FLOOD) => "flood",
        Action::Output(port::ALL) => "all",
        Action::Output(_) => "output",
        Action::OutputField(_) => "output_field",
        Action::OutputTruncated { .. } => "output_truncated",
        Action::Enqueue { .. } => "enqueue",
        Action::Controller(controller) if controller.pause => "controller_pause",
        Action::Controller(_) => "controller",
        Action::Resubmit { ct: true, .. } => "resubmit_ct",
        Action::Resubmit { ct: false, .. } => "resubmit",
        Action::GotoTable(_) => "goto_table",
        Action::Set { form, field, .. } => written_as(*form, *field),
        Action::Move { .. } => "move",
        // Only a dump has the second, and what is generated is none.
        Action::ModVlanVid(_) | Action::RetagUnclear { .. } => "mod_vlan_vid",
        Action::ModVlanPcp(_) => "mod_vlan_pcp",
        Action::StripVlan => "strip_vlan",
        Action::PushVlan(_) => "push_vlan",
        Action::DecTtl(_) => "dec_ttl",
        Action::Ct(ct) if ct.nat.is_some() => "ct_nat",
        Action::Ct(_) => "ct",
        Action::CtClear => "ct_clear",
        Action::Conjunction(_) => "conjunction",
        Action::Note(_) => "note",
        Action::Push(_) => "push",
        Action::Pop(_) => "pop",
        Action::Clone(_) => "clone",
        Action::Exit => "exit",
        Action::SetQueue(_) => "set_queue",
        Action::PopQueue => "pop_queue",
        Action::Group(_) => "group",
        Action::Meter(_) => "meter",
        Action::Learn(_) => "learn",
        Action::PushMpls(_) => "push_mpls",
        Action::PopMpls(_) => "pop_mpls",
        Action::DecMplsTtl => "dec_mpls_ttl",
        Action::CheckPktLarger { .. } => "check_pkt_larger",
        Action::WriteActions(_) => "write_actions",
        Action::ClearActions => "clear_actions",
        // No text says these.
        Action::Begin(_) | Action::End => "nested",
        Action::Opaque(text) => named(text),
    }
}

/// The row of an action that writes a constant.
const fn written_as(form: SetForm, field: Field) -> &'static str {
    match (form, field) {
        (SetForm::Load, _) => "load",
        (SetForm::SetField, _) => "set_field",
        (SetForm::Mod, _) => "mod",
        (SetForm::Metadata, _) => "write_metadata",
        (SetForm::Tunnel | SetForm::Tunnel64, _) => "set_tunnel",
        (SetForm::Mpls, Field::MplsLabel) => "set_mpls_label",
        (SetForm::Mpls, Field::MplsTc) => "set_mpls_tc",
        (SetForm::Mpls, _) => "set_mpls_ttl",
    }
}

/// The row whose name an action's text begins with.
fn named(text: &str) -> &'static str {
    let word = text.split([':', '(', '-']).next().unwrap_or_default();
    ACTIONS.iter().find(|row| row.name == word).map_or("other", |row| row.name)
}
