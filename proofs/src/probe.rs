//! Probes: constructs that nobody models, put before the actions of which symbolic execution says too little.
//!
//! Execution tells which packets come to a probe, and with which key; what the action behind it asks is read from the
//! flow. Invariants: a probe changes neither packets nor the places of flows; flows that are alike stay so. Deliberately
//! absent: what is made of it.

use crate::{symkey::SymKey, tables::Tables};
use flowproof_switch::{
    flow::{Action, Ct, Flow, Zone},
    table::FlowId,
};

/// What a probe's text begins with; the place of its flow follows, or of the first that is like it, and that of the action in it.
const PROBE: &str = "flowproof probe ";

/// What every text begins with that is put into tables here, and in no table of a switch.
pub(crate) const OURS: &str = "flowproof ";

/// The tables with a probe before each action that is `telling`.
pub(crate) fn probed(tables: &Tables, telling: impl Fn(&Action) -> bool) -> Tables {
    let with_probes = |(place, flow): (usize, &Flow)| {
        let place = tables.like(FlowId(place as u32)).0;
        let actions = flow.actions.iter().enumerate().flat_map(|(at, action)| {
            let probe = telling(action).then(|| Action::Opaque(format!("{PROBE}{place} {at}")));
            probe.into_iter().chain([action.clone()])
        });
        Flow { actions: actions.collect(), ..flow.clone() }
    };
    Tables::new(tables.flows().iter().enumerate().map(with_probes).collect())
}

/// Whether a text is a probe's.
pub(crate) fn is_probe(text: &str) -> bool {
    text.starts_with(PROBE)
}

/// The action that a probe stands before.
pub(crate) fn behind<'f>(flows: &'f [Flow], text: &str) -> Option<&'f Action> {
    let (flow, action) = text.strip_prefix(PROBE)?.split_once(' ')?;
    flows.get(flow.parse::<usize>().ok()?)?.actions.get(action.parse::<usize>().ok()?)
}

/// The zone of a `ct()` of packets with this key; nothing if that is not a constant.
pub(crate) fn zone(ct: &Ct, key: &SymKey) -> Option<u16> {
    match ct.zone {
        Zone::Const(zone) => Some(zone),
        Zone::Field(part) => key.constant(part).and_then(|zone| u16::try_from(zone).ok()),
    }
}
