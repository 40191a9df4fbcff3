//! What exploring the tables found, as remarks about flows.

use super::{Finding, Severity};
use crate::text::{count, list};
use flowproof_proofs::hygiene::{self, Counted, Death, Hygiene};
use flowproof_proofs::tables::Tables;
use flowproof_switch::table::FlowId;

/// Shadowing flows that are named.
const NAMED: usize = 6;

/// One remark for each undefined choice, each flow that no packet hits, and each limit that is exceeded.
pub(super) fn findings<'a>(tables: &'a Tables, hygiene: &Hygiene) -> Vec<Finding<'a>> {
    let rivals = hygiene.rivals.iter().filter_map(|(first, second)| rivalry(tables, *first, *second));
    let dead = hygiene.dead.iter().filter_map(|(id, death)| dead(tables, *id, death));
    let counted = hygiene::counted(tables, hygiene);
    let counted: Vec<Finding<'a>> =
        counted.iter().filter_map(|(id, packets, says)| witness(tables, *id, *packets, says)).collect();
    rivals.chain(dead).chain(counted).chain(unjudged(tables, hygiene)).chain(limits(hygiene)).collect()
}

/// What has been seen to hit a flow that nothing is found to hit.
fn witness<'a>(tables: &'a Tables, id: FlowId, packets: u64, says: &Counted) -> Option<Finding<'a>> {
    let flow = tables.flow(id)?;
    let hit = format!("its own counter says that {} hit it", count(packets as usize, "packet"));
    let (severity, name, message) = match says {
        Counted::Contradicts => {
            let why = "no flow that may explain it is younger: flowproof contradicts itself here, unless flows are gone since";
            (
                Severity::Contradiction,
                CONTRADICTION,
                format!("no packet is found to hit it, and {hit}; {why}"),
            )
        }
        Counted::Before(other) => {
            let line = tables.flow(*other).map_or(0, |flow| flow.span.line);
            (Severity::Note, "counted", format!("{hit}: that was before the flow on line {line} was there"))
        }
        Counted::Gone => {
            (Severity::Note, "counted", format!("{hit}: flows that led to its table then are gone"))
        }
        Counted::Undated => (
            Severity::Note,
            "counted",
            format!("{hit}: since when flows are there is not said, so other flows may have been there then"),
        ),
    };
    Some(Finding { severity, name, message, line: flow.span.line, flow: Some(flow) })
}

/// What a counter that contradicts is called.
pub(super) const CONTRADICTION: &str = "contradiction";

/// Things that are not modelled of which so many are named.
const NAMED_CAUSES: usize = 3;

/// Flows that are not judged, and because of what.
fn unjudged<'a>(tables: &'a Tables, hygiene: &Hygiene) -> Vec<Finding<'a>> {
    let cause = |(id, text): &(FlowId, String)| {
        let line = tables.flow(*id).map_or(0, |flow| flow.span.line);
        format!("`{text}` on line {line}")
    };
    let mut causes: Vec<String> = hygiene.unknown.iter().take(NAMED_CAUSES).map(cause).collect();
    let more = hygiene.unknown.len().saturating_sub(NAMED_CAUSES);
    causes.extend((more > 0).then(|| format!("{more} more")));
    let message = format!("packets may hit it behind what is not modelled: {}", list(causes));
    let finding = |id: &FlowId| {
        let flow = tables.flow(*id)?;
        let (severity, line) = (Severity::Note, flow.span.line);
        Some(Finding { severity, name: "not-judged", message: message.clone(), line, flow: Some(flow) })
    };
    hygiene.unjudged.iter().filter_map(finding).collect()
}

fn rivalry(tables: &Tables, first: FlowId, second: FlowId) -> Option<Finding<'_>> {
    let (first, second) = (tables.flow(first)?, tables.flow(second)?);
    Some(Finding {
        severity: Severity::Defect,
        name: "ambiguous",
        message: format!(
            "overlaps the flow on line {}, of equal priority, and does something else",
            first.span.line
        ),
        line: second.span.line,
        flow: Some(second),
    })
}

fn dead<'a>(tables: &'a Tables, id: FlowId, death: &Death) -> Option<Finding<'a>> {
    let flow = tables.flow(id)?;
    let (severity, name, message) = match death {
        Death::Shadowed(by) => {
            (Severity::Defect, "dead", format!("no packet hits it: {} all its packets", taken(tables, by)))
        }
        Death::Orphaned => (Severity::Defect, "orphaned", "no packet completes its conjunction".to_owned()),
        Death::Unreached => {
            (Severity::Note, "unreached", "nothing that it matches ever comes to its table".to_owned())
        }
    };
    Some(Finding { severity, name, message, line: flow.span.line, flow: Some(flow) })
}

fn taken(tables: &Tables, by: &[FlowId]) -> String {
    let lines: Vec<String> =
        by.iter().filter_map(|id| tables.flow(*id)).map(|flow| flow.span.line.to_string()).collect();
    match lines.as_slice() {
        [line] => format!("the flow on line {line} takes"),
        few if few.len() <= NAMED => format!("the flows on lines {} take", few.join(", ")),
        many => format!("{} flows before it take", many.len()),
    }
}

fn limits<'a>(hygiene: &Hygiene) -> Option<Finding<'a>> {
    let (name, message) = if hygiene.exceeds_limits {
        let what = "some packet is passed on more than 64 deep or 4096 times; the switch drops it with all its outputs";
        ("endless", what)
    } else if hygiene.complete {
        return None;
    } else {
        (
            "unexplored",
            "the tables are too large to explore, or track frames with two tags, which is not modelled: dead and ambiguous flows are not known",
        )
    };
    let severity = if hygiene.exceeds_limits { Severity::Defect } else { Severity::Note };
    Some(Finding { severity, name, message: message.to_owned(), line: 0, flow: None })
}
