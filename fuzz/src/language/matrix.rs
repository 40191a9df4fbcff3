//! What was generated and what was reached: field × action × (matched, written, read after it was written).
//!
//! Invariant: merging is the union, in any order. Deliberately absent: judgement.

use super::actions::{self, ACTIONS, Production};
use super::fields::{self, GROUNDS};
use flowproof_packet::Field;
use flowproof_switch::flow::{Action, Flow, Zone};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// What a field has to do with an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A flow with the action matches on the field.
    Matched,
    /// The action writes the field.
    Written,
    /// The action writes the field, and a flow that may come behind looks at it.
    ReadAfterWrite,
}

/// One cell.
pub type Cell = (Field, &'static str, Role);

/// The cells that were met, each with how often packets were there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matrix {
    cells: BTreeMap<Cell, u64>,
}

/// What an action writes.
#[must_use]
pub fn writes(action: &Action) -> Vec<Field> {
    match action {
        Action::Set { field, .. } => vec![*field],
        Action::Move { dst, .. } => vec![dst.field],
        Action::ModVlanVid(_) | Action::RetagUnclear { .. } => vec![Field::VlanVid, Field::VlanTci],
        Action::ModVlanPcp(_) => vec![Field::VlanPcp, Field::VlanTci],
        Action::StripVlan | Action::PushVlan(_) => vec![Field::VlanTci],
        Action::DecTtl(_) => vec![Field::NwTtl],
        Action::Ct(ct) => ct.exec.iter().flat_map(writes).collect(),
        Action::Pop(part) | Action::CheckPktLarger { dst: part, .. } => vec![part.field],
        Action::DecMplsTtl => vec![Field::MplsTtl],
        Action::Opaque(text) if text == "dec_nsh_ttl" => vec![Field::NshTtl],
        Action::Opaque(_)
        | Action::Output(_)
        | Action::OutputField(_)
        | Action::OutputTruncated { .. }
        | Action::Enqueue { .. }
        | Action::Controller(_)
        | Action::Resubmit { .. }
        | Action::GotoTable(_)
        | Action::CtClear
        | Action::Conjunction(_)
        | Action::Note(_)
        | Action::Push(_)
        | Action::Clone(_)
        | Action::Exit
        | Action::SetQueue(_)
        | Action::PopQueue
        | Action::Group(_)
        | Action::Meter(_)
        | Action::Learn(_)
        | Action::PushMpls(_)
        | Action::PopMpls(_)
        | Action::WriteActions(_)
        | Action::ClearActions
        | Action::Begin(_)
        | Action::End => Vec::new(),
    }
}

/// What an action reads.
fn reads(action: &Action) -> Option<Field> {
    match action {
        Action::Move { src, .. } => Some(src.field),
        Action::OutputField(part) | Action::Push(part) => Some(part.field),
        Action::Ct(ct) => match ct.zone {
            Zone::Field(part) => Some(part.field),
            Zone::Const(_) => None,
        },
        _ => None,
    }
}

fn looks_at(flow: &Flow, field: Field) -> bool {
    flow.matching.looks_at(field) || flow.actions.iter().filter_map(reads).any(|read| read.overlaps(field))
}

impl Matrix {
    /// Takes note of a table.
    pub fn generated(&mut self, flows: &[Flow]) {
        for flow in flows {
            for cell in cells(flow, flows) {
                self.cells.entry(cell).or_default();
            }
        }
    }

    /// Takes note of the flows that one packet hit, in order.
    pub fn reached(&mut self, path: &[&Flow]) {
        let mut rest = path;
        while let Some((flow, behind)) = rest.split_first() {
            rest = behind;
            for action in &flow.actions {
                let kind = actions::kind(action);
                for field in fields::matchable().filter(|field| flow.matching.looks_at(*field)) {
                    *self.cells.entry((field, kind, Role::Matched)).or_default() += 1;
                }
                for field in writes(action) {
                    *self.cells.entry((field, kind, Role::Written)).or_default() += 1;
                    if behind.iter().any(|flow| looks_at(flow, field)) {
                        *self.cells.entry((field, kind, Role::ReadAfterWrite)).or_default() += 1;
                    }
                }
            }
        }
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        for (cell, count) in &other.cells {
            *self.cells.entry(*cell).or_default() += count;
        }
    }

    /// The cells that the language has and nothing filled.
    #[must_use]
    pub fn empty(&self) -> Vec<Cell> {
        language().filter(|cell| !self.cells.contains_key(cell)).collect()
    }

    /// Cells that were filled, that packets reached, and that there are.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let all: Vec<Cell> = language().collect();
        let filled = all.iter().filter(|cell| self.cells.contains_key(cell));
        let reached = all.iter().filter(|cell| self.cells.get(cell).is_some_and(|count| *count > 0));
        (filled.count(), reached.count(), all.len())
    }

    /// A row a field, a column an action, three marks a cell: `#` where a packet was, `o` where only flows are, `.` where
    /// nothing is, and a blank where the language has nothing.
    #[must_use]
    pub fn render(&self) -> String {
        let all: BTreeSet<Cell> = language().collect();
        let mut out = String::new();
        let named: Vec<String> = (1..).zip(ACTIONS).map(|(at, row)| format!("{at} {}", row.name)).collect();
        let _infallible = writeln!(out, "columns: {}", named.join(", "));
        for field in fields::matchable() {
            let mut line = format!("{:16}", field.spec().name);
            for row in ACTIONS {
                line.push(' ');
                for role in [Role::Matched, Role::Written, Role::ReadAfterWrite] {
                    let cell = (field, row.name, role);
                    line.push(match (self.cells.get(&cell), all.contains(&cell)) {
                        (Some(0), _) => 'o',
                        (Some(_), _) => '#',
                        (None, true) => '.',
                        (None, false) => ' ',
                    });
                }
            }
            let _infallible = writeln!(out, "{}", line.trim_end());
        }
        out
    }
}

fn cells(flow: &Flow, all: &[Flow]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for action in &flow.actions {
        let kind = actions::kind(action);
        let matched = fields::matchable().filter(|field| flow.matching.looks_at(*field));
        cells.extend(matched.map(|field| (field, kind, Role::Matched)));
        for field in writes(action) {
            cells.push((field, kind, Role::Written));
            if all.iter().any(|other| looks_at(other, field)) {
                cells.push((field, kind, Role::ReadAfterWrite));
            }
        }
    }
    cells
}

/// Kinds of action that stand in no flow with a match of their own, and why.
const APART: &[(&str, &str)] = &[("other", "what no row names")];

/// Whether a flow may match on the field and have such an action.
fn goes_with(field: Field, row: &Production) -> bool {
    let both = |needs| GROUNDS.iter().any(|ground| ground.allows(field) && ground.has.contains(&needs));
    row.needs.map_or_else(|| GROUNDS.iter().any(|ground| ground.allows(field)), both)
        && APART.iter().all(|(name, _)| *name != row.name)
}

/// Whether such an action may write the field.
fn writes_field(field: Field, name: &str) -> bool {
    let spec = field.spec();
    let general = spec.writable && !matches!(field, Field::CtMark | Field::CtLabel);
    match name {
        "load" | "move" | "pop" | "check_pkt_larger" => general && !spec.nxm.is_empty(),
        "set_field" => actions::by_name(field),
        "mod" => matches!(
            field,
            Field::DlSrc
                | Field::DlDst
                | Field::NwSrc
                | Field::NwDst
                | Field::NwTos
                | Field::NwEcn
                | Field::NwTtl
                | Field::TcpSrc
                | Field::TcpDst
        ),
        "mod_vlan_vid" => matches!(field, Field::VlanVid | Field::VlanTci),
        "mod_vlan_pcp" => matches!(field, Field::VlanPcp | Field::VlanTci),
        "strip_vlan" | "push_vlan" => field == Field::VlanTci,
        "dec_ttl" => field == Field::NwTtl,
        "ct" => matches!(field, Field::CtMark | Field::CtLabel),
        "write_metadata" => field == Field::Metadata,
        "set_tunnel" => field == Field::TunId,
        "set_mpls_label" => field == Field::MplsLabel,
        "set_mpls_tc" => field == Field::MplsTc,
        "set_mpls_ttl" | "dec_mpls_ttl" => field == Field::MplsTtl,
        "dec_nsh_ttl" => field == Field::NshTtl,
        _ => false,
    }
}

/// The cells that the language has.
pub fn language() -> impl Iterator<Item = Cell> {
    fields::matchable().flat_map(|field| {
        ACTIONS.iter().flat_map(move |row| {
            let matched = goes_with(field, row).then_some((field, row.name, Role::Matched));
            let written = writes_field(field, row.name);
            let roles = [Role::Written, Role::ReadAfterWrite].into_iter().filter(move |_| written);
            matched.into_iter().chain(roles.map(move |role| (field, row.name, role)))
        })
    })
}
