//! One pass through the tables: from a key to a list of things to do.
//!
//! What it means: actions run left to right; `resubmit` is a call that returns; a pass that exceeds a limit does
//! nothing at all, not even what it had already listed. Invariant: calls stand on a stack of our own, so no table
//! can exhaust the machine's; so do copies, buckets and branches (see [`super::nest`]). Deliberately absent: frames (see
//! [`super::run`]).
//!
//! Source: ovs-actions(7); limits and corners by experiment with Open vSwitch 3.1.

use super::{
    DropReason, Limits, Meters, World,
    fields::clear_tracked,
    nest::End,
    normal, request, sets,
    start::{NOT_GIVEN, Open},
    write,
};
use crate::{
    conntrack::CtRequest,
    flow::{Action, Ct, Extent, Subfield, extent},
    table::{FlowId, Lookup},
    trace::{Event, Recorder},
};
use flowproof_packet::{Field, FlowKey, MacAddr, PortNo, port, wire};
use std::sync::Arc;

/// `actset_output` where the action set has no output.
pub(super) const UNSET: u128 = 0xfff7;

/// What a packet takes along from one pass to the next, apart from its key.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    pub(super) stack: Vec<u128>,
    pub(super) set: Vec<Action>,
    pub(super) open: Open,
}

/// What is unknown of a frame with a tag that meets [`Action::RetagUnclear`].
const UNCLEAR: &str = "mod_vlan of a dump: whether it changes the tag or adds one";

/// Something to do with the packet, in order. `at` is the index of the packet's key at that moment.
#[derive(Debug)]
pub(super) enum Op {
    Output {
        port: PortNo,
        at: usize,
        cut: Option<Cut>,
    },
    Normal {
        vlan: u16,
        at: usize,
        ports: Vec<(PortNo, usize)>,
    },
    Controller {
        at: usize,
    },
    Track {
        request: CtRequest,
        table: Option<u8>,
        at: usize,
        kept: Kept,
        flow: FlowId,
    },
    Untrack,
    Opaque {
        flow: FlowId,
        text: String,
    },
    /// Done with a copy of the packet.
    Copy(Vec<Op>),
    /// One list for packets that are longer than so many bytes, one for the others.
    ByLength {
        than: u16,
        at: usize,
        larger: Vec<Op>,
        other: Vec<Op>,
    },
}

/// A frame of which only so many bytes leave. They are counted in the frame as it was last put out; what headers have grown
/// by since then leaves too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) max_len: u32,
    pub(super) at: usize,
}

/// What a pass comes to.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) ops: Vec<Op>,
    /// The keys the packet had; the first is the one it came with.
    pub(super) keys: Vec<FlowKey>,
    /// The key as it is now.
    pub(super) key: Box<FlowKey>,
    /// Why nothing would come out, if nothing does.
    pub(super) reason: DropReason,
    /// The lists of actions that are being carried out; none at the end.
    pub(super) calls: Vec<Call>,
    /// The key as it was when the frame was last made for somebody.
    pub(super) committed: usize,
    /// What `push` put there.
    pub(super) stack: Vec<u128>,
    /// What `write_actions` wrote, in that order.
    pub(super) set: Vec<Action>,
}

impl Plan {
    /// Nothing yet, in the room of an earlier plan where there is one.
    fn begin(spare: &mut Vec<Self>, table: u8, key: &FlowKey) -> Self {
        let reason = DropReason::Miss { table };
        let mut plan = spare.pop().unwrap_or_else(|| Self {
            ops: Vec::new(),
            keys: Vec::new(),
            key: Box::default(),
            reason,
            calls: Vec::new(),
            committed: 0,
            stack: Vec::new(),
            set: Vec::new(),
        });
        plan.ops.clear();
        plan.keys.clear();
        plan.calls.clear();
        plan.committed = 0;
        plan.stack.clear();
        plan.set.clear();
        plan.keys.push(key.clone());
        plan.key.as_mut().clone_from(key);
        plan.reason = reason;
        plan
    }
}

/// A list of actions that is being carried out.
#[derive(Debug)]
pub(super) struct Call {
    /// The flow that it belongs to.
    pub(super) flow: FlowId,
    pub(super) table: u8,
    /// The list, where it is not the flow's own.
    pub(super) actions: Option<Arc<[Action]>>,
    /// The action to come.
    pub(super) next: usize,
    pub(super) deepens: bool,
    /// What happens when it is done.
    pub(super) end: End,
}

/// A pass on its way.
pub(super) struct Pass<'a, 'w> {
    pub(super) world: &'a mut World<'w>,
    recorder: &'a mut Recorder,
    level: u8,
    /// The table that it began in.
    table: u8,
    pub(super) plan: Plan,
    pub(super) depth: u32,
    resubmits: u32,
    error: Option<DropReason>,
    /// Nothing more is to be done, in all lists up to the next one that minds it.
    pub(super) exit: bool,
    /// Whether a group is in the action set.
    pub(super) set_has_group: bool,
    /// What nobody has said of the packet.
    open: Open,
}

impl<'a, 'w> Pass<'a, 'w> {
    /// Sends a packet with this key through the tables, beginning in `table`.
    pub(super) fn plan(
        world: &'a mut World<'w>,
        recorder: &'a mut Recorder,
        level: u8,
        table: u8,
        key: &FlowKey,
        start: &Kept,
    ) -> Plan {
        let mut plan = Plan::begin(world.spare, table, key);
        plan.key.set(Field::ActsetOutput, UNSET);
        let mut pass = Pass {
            world,
            recorder,
            level,
            table,
            plan,
            depth: 0,
            resubmits: 0,
            error: None,
            exit: false,
            set_has_group: false,
            open: start.open.clone(),
        };
        for action in start.set.iter() {
            pass.write_actions(std::slice::from_ref(action));
        }
        pass.plan.stack.extend_from_slice(&start.stack);
        let in_port = pass.in_port();
        pass.note(|| Event::Pass { level, table, in_port });
        pass.call(table, None, false);
        pass.run();
        pass.finish()
    }

    fn run(&mut self) {
        let (given, learned) = (self.world.given, self.world.learned.clone());
        let tables = learned.as_deref().unwrap_or(given);
        while self.error.is_none() {
            let Some(call) = self.plan.calls.last_mut() else {
                if self.exit || !self.begin_set(FlowId(u32::MAX), self.table, End::Nothing) {
                    break;
                }
                continue;
            };
            let (flow, table, next) = (call.flow, call.table, call.next);
            call.next += 1;
            if self.exit {
                self.leave();
                continue;
            }
            let own = call.actions.clone();
            let list = match &own {
                Some(list) => Some(&**list),
                None => tables.flow(flow).map(|flow| flow.actions.as_slice()),
            };
            match list.and_then(|list| list.get(next)) {
                Some(action) => self.act(flow, table, action),
                None => self.leave(),
            }
        }
    }

    fn finish(mut self) -> Plan {
        if let Some(error) = self.error {
            self.plan.calls.clear();
            self.world.next.clone_from(&self.world.learned);
            self.note(|| Event::Dropped(error));
            self.plan.ops.clear();
            self.plan.reason = error;
        }
        self.plan
    }

    pub(super) fn note(&mut self, event: impl FnOnce() -> Event) {
        self.recorder.note(usize::from(self.level) + self.plan.calls.len(), event);
    }

    pub(super) fn in_port(&self) -> PortNo {
        write::small(&self.plan.key, Field::InPort)
    }

    /// The index of the key as it is now.
    fn snapshot(&mut self) -> usize {
        if self.plan.keys.last() != Some(&*self.plan.key) {
            self.plan.keys.push(FlowKey::clone(&self.plan.key));
        }
        self.plan.keys.len() - 1
    }

    /// The same, where a frame is made for somebody.
    pub(super) fn commit(&mut self) -> usize {
        self.plan.committed = self.snapshot();
        self.plan.committed
    }

    /// The end of a list of actions.
    fn leave(&mut self) {
        if let Some(call) = self.plan.calls.pop() {
            self.depth -= u32::from(call.deepens);
            let (flow, table) = (call.flow, call.table);
            self.ended(flow, table, call.end);
        }
    }

    /// Whether nothing may go deeper; a pass that tries does nothing at all.
    pub(super) fn is_too_deep(&mut self) -> bool {
        if self.depth >= Limits::DEPTH {
            self.error = Some(DropReason::TooDeep);
        }
        self.error.is_some()
    }

    /// `resubmit` and `goto_table`: limits first, then the call. One that finds no flow counts too.
    fn resubmit(&mut self, from: u8, table: u8, port: Option<PortNo>, original_tuple: bool) {
        if self.is_too_deep() {
            return;
        }
        if self.resubmits >= Limits::RESUBMITS {
            self.error = Some(DropReason::TooManyResubmits);
        } else {
            let calls = self.plan.calls.len();
            self.resubmits += 1;
            self.call(table, port, original_tuple);
            if let Some(call) = self.plan.calls.get_mut(calls) {
                call.deepens = table <= from;
                self.depth += u32::from(call.deepens);
            }
        }
    }

    /// Looks the packet up in `table` and begins the flow's actions.
    fn call(&mut self, table: u8, port: Option<PortNo>, original_tuple: bool) {
        let Some(found) = self.find(table, port, original_tuple) else {
            return self.note(|| Event::Skipped("the packet has no original tuple"));
        };
        self.note(|| Event::Lookup { table, found });
        if let Some(flow) = self.open.rival(self.world.tables(), table, &self.plan.key, &found) {
            return self.undecided(flow);
        }
        if let Some(flow) = found.opaque {
            let items = self.world.tables().flow(flow).map(|flow| flow.opaque_match.join(","));
            return self.opaque(flow, items.unwrap_or_default());
        }
        let Some(flow) = found.flow else {
            self.plan.reason = DropReason::Miss { table };
            return;
        };
        self.plan.reason = DropReason::Flow(flow);
        self.begin(flow, table, None, End::Nothing);
    }

    /// Begins a list of actions: the flow's own, or another.
    pub(super) fn begin(&mut self, flow: FlowId, table: u8, actions: Option<Arc<[Action]>>, end: End) {
        self.plan.calls.push(Call { flow, table, actions, next: 0, deepens: false, end });
    }

    /// Begins the action set, which is empty then; false if there is nothing to do.
    pub(super) fn begin_set(&mut self, flow: FlowId, table: u8, end: End) -> bool {
        let set = std::mem::take(&mut self.plan.set);
        let actions = sets::ordered(&set);
        let some = !actions.is_empty();
        if some {
            self.note(|| Event::Header("the action set"));
        }
        if some || !matches!(end, End::Nothing) {
            self.begin(flow, table, Some(actions), end);
        }
        some
    }

    /// A flow asks for what the packet was not given.
    fn undecided(&mut self, id: FlowId) {
        let asked = self.world.tables().flow(id).map(|flow| self.open.asked_by(&flow.matching));
        self.opaque(id, format!("{NOT_GIVEN}{}", asked.unwrap_or_default().join(", ")));
    }

    /// What a lookup finds, as if the packet had come in by `port`; nothing where an original tuple is missing.
    fn find(&self, table: u8, port: Option<PortNo>, original_tuple: bool) -> Option<Lookup> {
        let tie = self.world.setup.config.tie;
        let own = port.is_none_or(|port| port == port::IN_PORT || port == self.in_port());
        let whole = self.plan.key.get(Field::NwFrag) == 0;
        // The key as it is, nearly always: a copy costs more than the lookup.
        if own && whole && !original_tuple {
            return Some(self.world.tables().lookup(table, &self.plan.key, tie));
        }
        let swapped = original_tuple.then(|| write::with_original_tuple(&self.plan.key));
        let mut key = match swapped {
            Some(swapped) => wire::lookup_key(&swapped?),
            None => wire::lookup_key(&self.plan.key),
        };
        if let Some(port) = port.filter(|_| !own) {
            key.set(Field::InPort, u128::from(port));
        }
        Some(self.world.tables().lookup(table, &key, tie))
    }

    /// Something that is not modelled: unless it surely leaves the packet alone, nobody knows what becomes of it, and the pass ends.
    pub(super) fn opaque(&mut self, flow: FlowId, text: String) {
        self.note(|| Event::Opaque { flow, text: text.clone() });
        self.exit |= extent(&text) != Extent::Beside;
        self.plan.ops.push(Op::Opaque { flow, text });
    }

    fn act(&mut self, flow: FlowId, table: u8, action: &Action) {
        match action {
            Action::Output(port) => self.output(table, *port),
            Action::OutputField(part) => match u16::try_from(write::read(&self.plan.key, *part)) {
                Ok(port) => self.output(table, port),
                Err(_) => self.note(|| Event::Skipped("no port has this number")),
            },
            Action::OutputTruncated { port, max_len } => self.output_truncated(*port, *max_len),
            Action::Enqueue { port, .. } => self.output(table, *port),
            Action::Controller(controller) => {
                self.controller();
                self.exit |= controller.pause;
            }
            Action::Resubmit { port, table: to, ct } => {
                self.resubmit(table, to.unwrap_or(table), *port, *ct);
            }
            Action::GotoTable(to) => self.resubmit(table, *to, None, false),
            Action::Set { field, value, mask, form } => {
                let done = write::set(&mut self.plan.key, *field, *value, *mask, *form);
                self.open.written(*field, *mask);
                self.written(done, *field, *mask);
            }
            Action::Move { src, dst } => {
                let done = write::copy(&mut self.plan.key, *src, *dst);
                self.open.copied(*src, *dst);
                self.written(done, dst.field, flowproof_packet::key::low_bits(dst.width) << dst.start);
            }
            Action::ModVlanVid(vid) => self.vlan(|key| write::modify_vlan(key, *vid, 0x0fff), "mod_vlan_vid"),
            Action::ModVlanPcp(pcp) => {
                self.vlan(|key| write::modify_vlan(key, u16::from(*pcp) << 13, 0xe000), "mod_vlan_pcp");
            }
            Action::RetagUnclear { bits, mask } => {
                if write::is_tagged(&self.plan.key) {
                    self.opaque(flow, UNCLEAR.to_owned());
                }
                self.vlan(|key| write::modify_vlan(key, *bits, *mask), "mod_vlan");
            }
            Action::StripVlan => self.vlan(write::pop_vlan, "strip_vlan"),
            Action::PushVlan(tpid) => self.vlan(|key| write::push_vlan(key, *tpid), "push_vlan"),
            Action::DecTtl(controllers) => self.decrement_ttl(controllers),
            Action::Ct(ct) => self.track(flow, ct),
            Action::CtClear => {
                self.plan.ops.push(Op::Untrack);
                self.untrack();
            }
            Action::Conjunction(_) | Action::Note(_) => {}
            Action::SetQueue(_) | Action::PopQueue => {}
            Action::Push(part) => self.push(*part),
            Action::Pop(part) => self.pop(*part),
            Action::Clone(actions) => self.copy(flow, table, actions),
            Action::Exit => self.exit = true,
            Action::Group(named) => self.group(flow, table, named),
            Action::Meter(_) => self.exit |= self.world.setup.choices.meters == Meters::Drop,
            Action::Learn(learn) => self.learn(flow, learn),
            Action::CheckPktLarger { length, dst } => self.by_length(*length, *dst),
            Action::WriteActions(actions) => self.write_actions(actions),
            Action::ClearActions => self.clear_actions(),
            Action::PushMpls(_)
            | Action::PopMpls(_)
            | Action::DecMplsTtl
            | Action::Begin(_)
            | Action::End => {
                self.opaque(flow, action.to_string());
            }
            Action::Opaque(text) => self.opaque(flow, text.clone()),
        }
    }

    fn written(&mut self, done: bool, field: Field, mask: u128) {
        if !done {
            return self.note(|| Event::Skipped("the packet does not have this field"));
        }
        let mask = mask & flowproof_packet::key::low_bits(field.spec().width);
        let (start, end) = (mask.trailing_zeros(), 128 - mask.leading_zeros());
        let part = match (u16::try_from(start), u16::try_from(end.saturating_sub(start))) {
            (Ok(start), Ok(width)) if mask != 0 => Subfield { field, start, width },
            _ => Subfield::whole(field),
        };
        let value = write::read(&self.plan.key, part);
        self.note(|| Event::Write { part, value });
    }

    fn vlan(&mut self, change: impl FnOnce(&mut FlowKey), action: &'static str) {
        change(&mut self.plan.key);
        self.note(|| Event::Header(action));
    }

    /// `dec_ttl(controllers)`: a packet without hops left goes to each of the controllers instead.
    fn decrement_ttl(&mut self, controllers: &str) {
        if write::decrement_ttl(&mut self.plan.key) {
            self.note(|| Event::Header("dec_ttl"));
        } else {
            self.note(|| Event::Skipped("no hops left: the flow's other actions are not carried out"));
            controllers.split(',').for_each(|_| self.controller());
            self.leave();
        }
    }

    fn controller(&mut self) {
        let at = self.commit();
        self.plan.ops.push(Op::Controller { at });
        self.note(|| Event::Controller);
    }

    fn output(&mut self, table: u8, port: PortNo) {
        match port {
            port::NORMAL => self.normal(),
            port::FLOOD => self.flood(true),
            port::ALL => self.flood(false),
            port::IN_PORT => self.emit(self.in_port()),
            port::CONTROLLER => self.controller(),
            port::TABLE => self.resubmit(table, 0, None, false),
            port::NONE => {}
            port if port == self.in_port() => {
                self.plan.reason = DropReason::InputPort(port);
                self.note(|| Event::Skipped("output to the input port; only IN_PORT does that"));
            }
            port => self.emit(port),
        }
    }

    fn emit(&mut self, port: PortNo) {
        if !self.world.has_port(port) {
            self.plan.reason = DropReason::UnknownPort(port);
            return self.note(|| Event::Dropped(DropReason::UnknownPort(port)));
        }
        let at = self.commit();
        self.plan.ops.push(Op::Output { port, at, cut: None });
        self.note(|| Event::Output(port));
    }

    fn flood(&mut self, respect_no_flood: bool) {
        let in_port = self.in_port();
        let wanted =
            |port: &&super::PortConfig| port.ofport != in_port && !(respect_no_flood && port.no_flood);
        let setup = self.world.setup;
        setup.ports.iter().filter(wanted).for_each(|port| self.emit(port.ofport));
    }

    fn normal(&mut self) {
        let (learn, now) = (self.world.learn, self.world.now);
        let forward = normal::forward(&self.world.setup.ports, self.world.fdb, now, learn, &self.plan.key);
        let (vlan, decision) = (forward.vlan, forward.decision);
        let port = self.in_port();
        let src = MacAddr::from_bits(self.plan.key.get(Field::DlSrc) as u64);
        if learn && forward.learned {
            self.note(|| Event::Learned { vlan, mac: src, port });
        }
        self.note(|| {
            let ports = forward.outputs.iter().map(|port| port.ofport).collect();
            Event::Normal { vlan, decision, ports }
        });
        if let normal::Decision::Drop(why) = decision {
            self.plan.reason = DropReason::Normal(why);
        }
        let at = self.commit();
        let mut known = [None; 2];
        let mut ports = Vec::with_capacity(forward.outputs.len());
        for port in &forward.outputs {
            let [trunk, access] = &mut known;
            let place = if port.access_vlan.is_some() { access } else { trunk };
            let at = *place.get_or_insert_with(|| {
                let key = forward.leaving(&self.plan.key, port);
                if self.plan.keys.get(at) == Some(&key) {
                    return at;
                }
                self.plan.keys.push(key);
                self.plan.keys.len() - 1
            });
            ports.push((port.ofport, at));
        }
        self.plan.ops.push(Op::Normal { vlan, at, ports });
    }

    fn track(&mut self, flow: FlowId, ct: &Ct) {
        let request = request::of(ct, &self.plan.key);
        let at = self.commit();
        self.note(|| Event::Track { request, table: ct.table });
        let kept = match ct.table {
            Some(_) => {
                Kept { stack: self.plan.stack.clone(), set: self.plan.set.clone(), open: self.open.clone() }
            }
            None => Kept::default(),
        };
        self.plan.ops.push(Op::Track { request, table: ct.table, at, kept, flow });
        self.untrack();
    }

    /// The rest of the pass sees an untracked packet.
    fn untrack(&mut self) {
        clear_tracked(&mut self.plan.key);
        self.note(|| Event::Untracked);
    }
}
