//! Small tables out of the tables of fields and actions: a few flows, few tables, values that meet.
//!
//! A table has a goal: a field and a kind of action that must stand in it together, taken in turn, so that so many tables
//! have every pair. Invariant: the flows are text that our parser took; what it refused is kept beside them, for who
//! wants to ask the real tool. Deliberately absent: templates of any pipeline.

use super::actions::{ACTIONS, Production, Writer};
use super::fields::{self, GROUNDS, Ground};
use crate::Choices;
use flowproof_packet::Field;
use flowproof_switch::flow::{Flow, Groups, ParseOptions, parse_flows};
use std::collections::BTreeMap;

/// The groups that flows may name: each does the same to every packet, or writes first.
const GROUPS: &str = "group_id=1,type=all,bucket=actions=output:2,bucket=actions=output:3
group_id=2,type=indirect,bucket=actions=load:0x5->NXM_NX_REG0[],output:2
group_id=3,type=all,bucket=actions=mod_dl_src:02:00:00:00:00:02,output:3,bucket=actions=resubmit(,3)";

/// Tables that flows stand in.
const TABLES: usize = 4;

/// What the flows of one table are to be, besides being small.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// The pair of field and action that must be there, by its number; any if there is none.
    pub goal: Option<usize>,
    /// Names of actions that must not be there.
    pub without: &'static [&'static str],
    /// Whether table 0 lets pass what port 1 may send, and nothing else comes further.
    pub guarded: bool,
}

/// Flows as text.
#[derive(Clone, Debug, Default)]
pub struct Drawn {
    /// The flows that our parser takes, one a line.
    pub lines: Vec<String>,
    /// The same, parsed.
    pub flows: Vec<Flow>,
    /// Those that it does not take.
    pub refused: Vec<String>,
}

/// Fields and actions that can stand together, in turn.
#[must_use]
pub fn goal(number: usize) -> (Field, &'static Production) {
    let fields: Vec<Field> = fields::matchable().collect();
    // Neighbours differ in both, so that a short run has a bit of everything.
    let (width, height) = (fields.len(), ACTIONS.len());
    let number = number.wrapping_mul(7919) % (width * height).max(1);
    let field = fields.get(number % width.max(1)).copied().unwrap_or(Field::Reg0);
    let action = ACTIONS.get(number / width.max(1)).or(ACTIONS.first());
    (field, action.unwrap_or(&NOTHING))
}

/// What stands for a row where there is none.
const NOTHING: Production =
    Production { name: "note", weight: 0, needs: None, write: |_| "note:00".to_owned() };

/// How many pairs of field and action there are.
#[must_use]
pub fn goals() -> usize {
    fields::matchable().count() * ACTIONS.len()
}

struct Draft<'a, 'c> {
    choices: &'a mut Choices<'c>,
    wish: Wish,
    written: Vec<(Field, u128)>,
    drawn: Drawn,
}

/// A line, if our parser takes it.
fn parsed(line: &str) -> Option<Vec<Flow>> {
    parse_flows(line, &ParseOptions::default()).ok().map(|file| file.flows)
}

impl Draft<'_, '_> {
    fn keep(&mut self, line: String) -> bool {
        match parsed(&line) {
            Some(flows) => {
                self.drawn.flows.extend(flows);
                self.drawn.lines.push(line);
                true
            }
            None => {
                self.drawn.refused.push(line);
                false
            }
        }
    }

    fn ground(&mut self, field: Option<Field>, action: Option<&Production>) -> Option<Ground> {
        let first = self.choices.below(GROUNDS.len());
        let turned = GROUNDS.iter().cycle().skip(first).take(GROUNDS.len());
        let mut fitting = turned.filter(|ground| {
            let allows = |field: Field| ground.allows(field);
            let gives = |row: &Production| row.needs.is_none_or(|needs| ground.has.contains(&needs));
            field.is_none_or(allows) && action.is_none_or(gives)
        });
        fitting.next().copied()
    }

    /// Items of a match on this ground: some of what was written before, some of anything.
    fn items(&mut self, ground: Ground, goal: Option<Field>) -> Vec<String> {
        let mut items: Vec<String> = Vec::new();
        let mut named: Vec<Field> = Vec::new();
        let mut add = |choices: &mut Choices<'_>, field: Field, value: u128| {
            let beside = fields::beside(field).is_some_and(|text| text.contains("ct_state"));
            let clashes = named.iter().any(|other| {
                other.overlaps(field) || beside && matches!(other, Field::CtState | Field::CtNwProto)
            });
            if !clashes {
                named.push(field);
                named.extend([Field::CtState, Field::CtNwProto].into_iter().filter(|_| beside));
                items.extend(fields::beside(field).map(str::to_owned));
                items.push(fields::item(choices, field, value));
            }
        };
        if let Some(field) = goal {
            let value = fields::value(self.choices, field);
            add(self.choices, field, value);
        }
        if !self.written.is_empty() && self.choices.chance(55) {
            let (field, value) = *self.choices.pick(&self.written);
            if field.spec().is_matchable() && ground.allows(field) {
                add(self.choices, field, value);
            }
        }
        let usual = [Field::InPort, Field::Reg0, Field::VlanTci, Field::DlSrc, Field::DlDst, Field::CtState];
        for _ in 0..self.choices.below(3) {
            let field = match self.choices.chance(50) {
                true => *self.choices.pick(&usual),
                false => {
                    let all: Vec<Field> = fields::matchable().filter(|field| ground.allows(*field)).collect();
                    *self.choices.pick(&all)
                }
            };
            let value = fields::value(self.choices, field);
            add(self.choices, field, value);
        }
        items
    }

    fn actions(
        &mut self,
        table: usize,
        ground: Ground,
        goal: (Option<Field>, Option<&Production>),
    ) -> Vec<String> {
        let without = self.wish.without;
        let count = 1 + self.choices.below(4);
        let mut writer = Writer {
            choices: self.choices,
            table,
            ground,
            written: &mut self.written,
            goal: goal.0,
            depth: 0,
        };
        let mut found: Vec<String> = Vec::new();
        let wanted = goal.1.map(|row| (row.write)(&mut writer));
        if goal.1.is_some_and(|row| row.name == "conjunction") {
            return wanted.into_iter().collect();
        }
        writer.goal = None;
        let at = writer.choices.below(count);
        for place in 0..count {
            if place == at {
                found.extend(wanted.clone());
            }
            let last = place + 1 == count;
            let fits = |row: &Production| !without.contains(&row.name) && (last || row.name != "goto_table");
            found.extend(writer.draw(fits));
        }
        found
    }

    /// A flow; drawn again a few times where the parser does not take it.
    fn flow(&mut self, table: usize, goal: Option<(Field, &Production)>) {
        let (field, action) = goal.map_or((None, None), |(field, row)| (Some(field), Some(row)));
        for _ in 0..4 {
            let Some(ground) = self.ground(field, action).or_else(|| self.ground(None, action)) else {
                return;
            };
            let field = field.filter(|field| ground.allows(*field));
            let before = self.written.len();
            let matches = self.items(ground, field);
            let actions = self.actions(table, ground, (field, action));
            let mut parts =
                vec![format!("table={table}"), format!("priority={}", 1 + self.choices.below(60))];
            parts.extend(Some(ground.text.to_owned()).filter(|text| !text.is_empty()));
            parts.extend(matches);
            if self.keep(format!("{} actions={}", parts.join(","), actions.join(","))) {
                return;
            }
            self.written.truncate(before);
        }
    }

    /// Clauses of a conjunction, with what goes wrong with conjunctions, and the flow they lead to.
    fn conjunction(&mut self, table: usize) {
        let (id, clauses) = (1 + self.choices.below(3), 2 + self.choices.below(2));
        let priority = 1 + self.choices.below(60);
        let ground = if self.choices.chance(70) { "ip" } else { "ipv6" };
        for clause in 1..=clauses {
            for _ in 0..1 + self.choices.below(2) {
                let mut dimensions = vec![Field::InPort, Field::DlSrc, Field::DlDst, Field::Reg0];
                dimensions.push(if ground == "ip" { Field::NwSrc } else { Field::Ipv6Src });
                dimensions.push(if ground == "ip" { Field::NwDst } else { Field::Ipv6Dst });
                let field = *self.choices.pick(&dimensions);
                let value = fields::value(self.choices, field);
                let item = fields::item(self.choices, field, value);
                // Clauses of another number, at another priority, or two in one flow.
                let of = if self.choices.chance(12) { 5 - clauses } else { clauses };
                let clause = if clause > of { of } else { clause };
                let at = if self.choices.chance(12) { 1 + self.choices.below(60) } else { priority };
                let mut actions = vec![format!("conjunction({id},{clause}/{of})")];
                if self.choices.chance(20) {
                    let other = 1 + clause % of;
                    actions.push(format!("conjunction({id},{other}/{of})"));
                }
                if self.choices.chance(10) {
                    actions.push(format!("conjunction({},{clause}/{of})", id + 1));
                }
                self.keep(format!(
                    "table={table},priority={at},{ground},{item} actions={}",
                    actions.join(",")
                ));
            }
        }
        let last =
            *self.choices.pick(&["output:2", "output:3,resubmit(,2)", "resubmit(,3)", "drop", "NORMAL"]);
        let at = 1 + self.choices.below(60);
        self.keep(format!("table={table},priority={at},conj_id={id},{ground} actions={last}"));
    }

    fn bottom(&mut self, table: usize) {
        let next = table + 1;
        let ways =
            [format!("resubmit(,{next})"), "NORMAL".to_owned(), "output:2".to_owned(), "drop".to_owned()];
        let way =
            if table == 0 && self.choices.chance(70) { ways.first() } else { Some(self.choices.pick(&ways)) };
        if let Some(way) = way.cloned() {
            self.keep(format!("table={table},priority=0 actions={way}"));
        }
        if table == 0 && self.choices.chance(35) {
            let zone = *self.choices.pick(&["", ",zone=1"]);
            self.keep(format!("table=0,priority=1,ip actions=ct(table=1{zone})"));
            self.keep(format!("table=0,priority=1,ipv6 actions=ct(table=1{zone})"));
        }
    }

    /// Only what port 1 may send goes on from table 0.
    fn guard(&mut self) {
        let own = "in_port=1,dl_src=02:00:00:00:00:01";
        let flows = [
            format!(
                "table=0,priority=90,{own},arp,arp_spa=10.0.0.1,arp_sha=02:00:00:00:00:01 actions=resubmit(,1)"
            ),
            format!("table=0,priority=90,{own},ip,nw_src=10.0.0.1 actions=resubmit(,1)"),
            format!("table=0,priority=90,{own},ipv6,ipv6_src=fd00::1 actions=resubmit(,1)"),
            "table=0,priority=80,in_port=1 actions=drop".to_owned(),
        ];
        for flow in flows {
            if self.choices.chance(85) {
                self.keep(flow);
            }
        }
    }
}

/// Draws flows.
#[must_use]
pub fn draw(choices: &mut Choices<'_>, wish: Wish) -> Drawn {
    let mut draft = Draft { choices, wish, written: Vec::new(), drawn: Drawn::default() };
    if wish.guarded {
        draft.guard();
    }
    let goal_table = draft.choices.below(2);
    let tables = 1 + draft.choices.below(TABLES);
    for table in 0..tables {
        let goal = wish.goal.filter(|_| table == goal_table.min(tables - 1)).map(goal);
        if let Some(goal) = goal.filter(|(_, row)| !wish.without.contains(&row.name)) {
            draft.flow(table, Some(goal));
        }
        for _ in 0..1 + draft.choices.below(3) {
            draft.flow(table, None);
        }
        if draft.choices.chance(18) {
            draft.conjunction(table);
        }
        if draft.choices.chance(75) {
            draft.bottom(table);
        }
    }
    if let Ok(groups) = Groups::parse(GROUPS, &BTreeMap::new()) {
        groups.resolve(&mut draft.drawn.flows);
    }
    draft.drawn
}
