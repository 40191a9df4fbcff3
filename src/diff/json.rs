//! Differences as JSON.

use super::Report;
use super::text::danger;
use crate::flows::{Flows, tool};
use flowproof_packet::summary::summary;
use flowproof_packet::wire;
use flowproof_proofs::difference::{Example, Told};
use flowproof_proofs::symkey::Form;
use flowproof_switch::flow::key_to_text;
use flowproof_switch::trace::state_text;
use serde_json::{Value, json};

/// The whole report.
pub(super) fn render(report: &Report<'_>, [a, b]: [&Flows; 2]) -> String {
    let classes: Vec<Value> = report.told.iter().map(|told| class(report, told)).collect();
    let whole = json!({
        "schema": 1,
        "tool": tool(),
        "inputs": {"a": a.json(), "b": b.json()},
        "datapaths": report.datapath.0.iter().map(|profile| profile.name()).collect::<Vec<_>>(),
        "verdict": report.verdict(),
        "classes": classes,
        "more": report.hidden(),
        "notes": report.notes(),
    });
    format!("{whole:#}\n")
}

fn class(report: &Report<'_>, told: &Told) -> Value {
    let [a, b] = &told.sides;
    let packets: Vec<Value> = told
        .boxes
        .iter()
        .map(|(items, shown)| json!({"match": items, "example": shown.as_ref().map(|shown| example(report, shown))}))
        .collect();
    json!({"change": danger(told.danger), "a": a, "b": b, "packets": packets, "more": told.more})
}

fn example(report: &Report<'_>, example: &Example) -> Value {
    let flows = |at: usize| -> Vec<Value> {
        let (side, tables) = (example.sides.get(at), report.tables.get(at));
        let flows = side.into_iter().flat_map(|side| &side.flows);
        let flows = flows.filter_map(|id| tables.and_then(|tables| tables.flow(*id)));
        flows.map(|flow| json!({"line": flow.span.line, "flow": flow.to_string().trim()})).collect()
    };
    let hex: String = example.frame.iter().map(|byte| format!("{byte:02x}")).collect();
    let form = match example.form {
        Form::Whole => "whole",
        Form::First => "first fragment",
        Form::Later => "later fragment",
    };
    let answers: Vec<String> = example.answers.iter().map(state_text).collect();
    json!({
        "in_port": example.in_port,
        "hex": hex,
        "flow": key_to_text(&wire::extract(&example.frame, example.in_port)),
        "summary": summary(&example.frame),
        "form": form,
        "datapath": example.profile.name(),
        "ct": answers,
        "flows": {"a": flows(0), "b": flows(1)},
    })
}
