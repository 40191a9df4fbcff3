//! Which layout tables are of, which policy switches it is proved against, and what of an intent it cannot express.

use super::{UNSUPPORTED_RULE, site::Site};
use flowproof_compiler::{Layout, Options, Unsupported, compile};
use flowproof_model::{policy::Policy, switches::Switches};
use flowproof_switch::flow::{Flow, Match};
use rustc_hash::FxHashSet;

/// What the tables of an intent are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recognised {
    /// The layout.
    pub layout: Layout,
    /// What it cannot express of the intent.
    pub unsupported: Vec<Unsupported>,
}

/// How a layout means the API's words.
#[must_use]
pub fn switches(layout: Layout) -> Switches {
    match layout {
        Layout::Mitaka => Switches::mitaka(),
        Layout::Neutron => Switches::neutron(),
        Layout::Strict => Switches::strict(),
    }
}

/// The layout whose tables for the intent have the most matches in common with `flows`; of several, the newest of Neutron's.
#[must_use]
pub fn recognise(site: &Site, flows: &[Flow]) -> Recognised {
    let empty = flowproof_model::policy::Host::default();
    let host = site.policy.host.as_ref().unwrap_or(&empty);
    let mut best: Option<(usize, Recognised)> = None;
    for layout in [Layout::Neutron, Layout::Mitaka, Layout::Strict] {
        let compiled = compile(&site.policy, host, layout, &Options::default());
        let common = common(compiled.flows.iter().map(|annotated| &annotated.flow), flows);
        if best.as_ref().is_none_or(|(most, _)| common > *most) {
            best = Some((common, Recognised { layout, unsupported: compiled.unsupported }));
        }
    }
    best.map_or(Recognised { layout: Layout::Neutron, unsupported: Vec::new() }, |(_, recognised)| recognised)
}

fn common<'a>(ours: impl Iterator<Item = &'a Flow>, theirs: &'a [Flow]) -> usize {
    type Place<'m> = (u8, u16, &'m Match);
    let place = |flow: &'a Flow| -> Place<'a> { (flow.table, flow.priority, &flow.matching) };
    let places: FxHashSet<Place<'a>> = theirs.iter().map(place).collect();
    ours.filter(|flow| places.contains(&place(flow))).count()
}

/// Binds an intent to the tables: recognises their layout, and takes its switches.
#[must_use]
pub fn bind(policy: Policy, flows: &[Flow]) -> (Site, Recognised, Vec<String>) {
    let (site, inferred) = Site::new(policy, Switches::neutron(), flows);
    let recognised = recognise(&site, flows);
    let site = Site { switches: switches(recognised.layout), ..site };
    (site, recognised, inferred)
}

/// What `unsupported-rule` says, in a sentence.
#[must_use]
pub fn listed(recognised: &Recognised) -> String {
    let name = recognised.layout.name();
    if recognised.unsupported.is_empty() {
        return format!("{UNSUPPORTED_RULE}: the layout `{name}` can express every rule of the intent");
    }
    let all: Vec<String> = recognised.unsupported.iter().map(ToString::to_string).collect();
    format!("{} that the layout `{name}` cannot express: {}", all.len(), all.join("; "))
}
