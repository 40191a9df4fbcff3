//! Which actions may stand together, and in which order.
//!
//! Source: ovs-actions(7), "Instructions"; experiments with `ovs-ofctl parse-flows` 3.1.

use super::action::Outer;
use super::fault::{Parsed, fault};
use super::items::Item;
use crate::flow::Action;
use crate::flow::ast::SetForm;
use flowproof_packet::Field;

/// OpenFlow 1.1's instructions, in the order in which they must stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Instruction {
    Meter,
    ApplyActions,
    ClearActions,
    WriteActions,
    WriteMetadata,
    GotoTable,
}

const fn instruction(action: &Action) -> Instruction {
    match action {
        Action::Meter(_) => Instruction::Meter,
        Action::ClearActions => Instruction::ClearActions,
        Action::WriteActions(_) => Instruction::WriteActions,
        Action::Set { form: SetForm::Metadata, .. } => Instruction::WriteMetadata,
        Action::GotoTable(_) => Instruction::GotoTable,
        _ => Instruction::ApplyActions,
    }
}

const fn name(instruction: Instruction) -> &'static str {
    match instruction {
        Instruction::Meter => "meter",
        Instruction::ApplyActions => "apply_actions",
        Instruction::ClearActions => "clear_actions",
        Instruction::WriteActions => "write_actions",
        Instruction::WriteMetadata => "write_metadata",
        Instruction::GotoTable => "goto_table",
    }
}

/// The field that an action writes.
fn written(action: &Action) -> Option<Field> {
    match action {
        Action::Set { field, .. } => Some(*field),
        Action::Move { dst, .. } => Some(dst.field),
        _ => None,
    }
}

const fn connection_field(field: Field) -> bool {
    matches!(field, Field::CtMark | Field::CtLabel)
}

/// Whether `action` may stand inside `outer`.
pub(crate) fn nesting<'a>(action: &Action, outer: Outer, item: Item<'a>) -> Parsed<'a, ()> {
    let field = written(action);
    if outer != Outer::Ct {
        let inside = matches!(outer, Outer::Clone | Outer::WriteActions);
        return match field {
            Some(field) if connection_field(field) => {
                fault(item.whole, "cannot set CT fields outside of ct action")
            }
            _ if inside && instruction(action) == Instruction::Meter => {
                fault(item.whole, "meter cannot be nested")
            }
            _ => Ok(()),
        };
    }
    match field {
        None => fault(item.whole, format!("ct action doesn't support nested action {}", item.key)),
        Some(field) if !connection_field(field) => fault(
            item.whole,
            format!("ct action doesn't support nested modification of {}", field.spec().name),
        ),
        Some(_) => Ok(()),
    }
}

/// Whether the actions stand in an order that instructions allow, and conjunctions apart from everything else.
pub(crate) fn order<'a>(found: &[Action], outer: Outer, text: &'a str) -> Parsed<'a, ()> {
    let conjunctions = found.iter().any(|action| matches!(action, Action::Conjunction(_)));
    if conjunctions {
        let alone = |action: &Action| matches!(action, Action::Conjunction(_) | Action::Note(_));
        return match found.iter().find(|action| !alone(action)) {
            None => Ok(()),
            Some(_) => fault(text, "`conjunction` may stand with `note` but with no other action"),
        };
    }
    let mut last = None;
    for action in found {
        let next = instruction(action);
        let Some(before) = last.replace(next) else {
            nested(next, outer, text)?;
            continue;
        };
        if next < before {
            return fault(text, format!("{} must appear before {}", name(next), name(before)));
        }
        if next == before && next != Instruction::ApplyActions {
            return fault(text, format!("duplicate {} instruction not allowed", name(next)));
        }
        nested(next, outer, text)?;
    }
    Ok(())
}

fn nested(found: Instruction, outer: Outer, text: &str) -> Parsed<'_, ()> {
    let allowed = outer == Outer::Flow || matches!(found, Instruction::ApplyActions | Instruction::Meter);
    if allowed { Ok(()) } else { fault(text, format!("{} instruction not allowed here", name(found))) }
}
