//! How security groups become flow tables: one module a layout, no evaluation at all.
//!
//! [`compile`] turns a policy and a host's bindings into flows, each with the reason it is there. Invariant: the same
//! input gives the same flows in the same order, no two of them with the same table, priority and match. A rule that
//! a layout cannot express is listed in [`Compiled::unsupported`], whatever the layout does with it. Deliberately
//! absent: what a rule means and what a flow does; this crate knows the syntax of both and the semantics of neither.
//!
//! Source: the flows that Neutron's Open vSwitch firewall driver writes (releases 8.1.0 and 29.0.0), ovs-fields(7),
//! ovs-actions(7).

pub mod masks;

mod host;
mod mitaka;
mod neutron;
mod strict;
mod template;
mod text;
mod unsupported;

pub use masks::PortMasks;
pub use text::text;
pub use unsupported::{Consequence, Unsupported};

use flowproof_model::policy::{Host, Policy};
use flowproof_switch::flow::{Flow, Match};
use std::collections::HashMap;

/// Which tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// What Neutron 8.1.0 (April 2016) wrote, defects included; for study.
    Mitaka,
    /// What Neutron writes today (the same flows from 25.0.0 to 29.0.0).
    Neutron,
    /// Our own proposal: what the policy means and no more.
    Strict,
}

impl Layout {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mitaka, Self::Neutron, Self::Strict];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mitaka => "mitaka",
            Self::Neutron => "neutron",
            Self::Strict => "strict",
        }
    }
}

/// Choices that the intent does not make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How port ranges become masks.
    pub port_masks: PortMasks,
}

/// A flow with the reason it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnotatedFlow {
    /// The flow.
    pub flow: Flow,
    /// The rule, port or infrastructure behind it.
    pub why: String,
}

/// What a layout makes of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// The flows; no two with the same table, priority and match.
    pub flows: Vec<AnnotatedFlow>,
    /// What the layout cannot express, and what it does instead.
    pub unsupported: Vec<Unsupported>,
}

/// The flows of `layout` for the ports that `host` binds. Where the layout's release wrote two flows with one match,
/// the later replaced the earlier, as it does in a switch.
#[must_use]
pub fn compile(policy: &Policy, host: &Host, layout: Layout, options: &Options) -> Compiled {
    let compiled = match layout {
        Layout::Mitaka => mitaka::compile(policy, host, options),
        Layout::Neutron => neutron::compile(policy, host, options),
        Layout::Strict => strict::compile(policy, host),
    };
    Compiled { flows: settle(compiled.flows), ..compiled }
}

/// One flow for each table, priority and match: the last one written, at the place of the first.
fn settle(flows: Vec<AnnotatedFlow>) -> Vec<AnnotatedFlow> {
    let mut places: HashMap<(u8, u16, Match), usize> = HashMap::new();
    let mut settled: Vec<AnnotatedFlow> = Vec::with_capacity(flows.len());
    for new in flows {
        let key = (new.flow.table, new.flow.priority, new.flow.matching.clone());
        let place = *places.entry(key).or_insert(settled.len());
        match settled.get_mut(place) {
            Some(old) if old.flow == new.flow => {
                if !old.why.split("; ").any(|why| why == new.why) {
                    old.why = format!("{}; {}", old.why, new.why);
                }
            }
            Some(old) => *old = new,
            None => settled.push(new),
        }
    }
    settled
}
