//! What the tables alone make of packets: no connections, nothing learned.
//!
//! Invariant: packets do not influence each other. Deliberately absent: a tracker; answers are given.
//!
//! Source: ovs-vswitchd(8), `ofproto/trace`.

use super::{Fdb, Outcome, Scripted, Setup, SwitchConfig, World, pass::Plan, start, start::Open};
use crate::{
    conntrack::CtInfo,
    table::Tables,
    trace::{Recorder, Trace},
};
use flowproof_packet::FlowKey;
use std::sync::Arc;

/// [`trace_stateless`] for many packets and without a trace: what it needs is made once and kept, so that a packet
/// that goes nowhere asks for no memory.
#[derive(Debug)]
pub struct Stateless {
    tables: Arc<Tables>,
    setup: Setup,
    spare: Vec<Plan>,
}

impl Stateless {
    /// These tables in a switch like this.
    #[must_use]
    pub fn new(tables: Arc<Tables>, config: SwitchConfig) -> Self {
        Self { tables, setup: Setup::new(config), spare: Vec::new() }
    }

    /// What becomes of a packet; see [`trace_stateless`].
    pub fn run(&mut self, key: &FlowKey, frame: &[u8], ct_next: &[CtInfo]) -> Outcome {
        self.go(Recorder::default(), key, frame, ct_next)
    }

    /// How a packet of which there is only a key goes through the tables.
    pub fn trace(&mut self, key: &FlowKey, ct_next: &[CtInfo]) -> Trace {
        self.go(Recorder::on(), key, &[], ct_next).trace.unwrap_or_default()
    }

    fn go(&mut self, recorder: Recorder, key: &FlowKey, frame: &[u8], ct_next: &[CtInfo]) -> Outcome {
        let (fdb, spare) = (&mut Fdb::default(), &mut self.spare);
        let (given, learned, next) = (&*self.tables, None, None);
        let world = World { given, learned, next, setup: &self.setup, fdb, spare, now: 0, learn: false };
        start(world, &mut Scripted::new(ct_next), recorder, (key, frame), (0, Open::default())).0
    }
}

/// What the tables alone make of a packet: no connections, no learning, nothing learned. Each `ct(table=…)` takes the
/// next of `ct_next`, and `+trk+new` when they run out, as ofproto/trace does with `--ct-next`.
///
/// With an empty `frame` only the key goes through the tables, and the frames of the outcome are empty. Otherwise
/// the key should be what [`wire::extract`](flowproof_packet::wire::extract) says of the frame, metadata apart.
#[must_use]
pub fn trace_stateless(
    tables: &Tables,
    config: &SwitchConfig,
    key: &FlowKey,
    frame: &[u8],
    ct_next: &[CtInfo],
) -> Outcome {
    let (fdb, spare) = (&mut Fdb::default(), &mut Vec::new());
    let setup = &Setup::new(config.clone());
    let (learned, next) = (None, None);
    let world = World { given: tables, learned, next, setup, fdb, spare, now: 0, learn: false };
    start(world, &mut Scripted::new(ct_next), Recorder::on(), (key, frame), (0, Open::default())).0
}
