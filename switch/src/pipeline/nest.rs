//! Copies, buckets and branches: lists of actions after which the packet is again what it was before.
//!
//! What it means: `clone` works on a copy, with a copy of the stack and of the action set, which is carried out at its end;
//! a bucket works on a copy of the packet alone. What stands behind `check_pkt_larger` is carried out twice, for packets that
//! are longer and for those that are not, and only the list that it stands in knows the answer.
//!
//! Invariant: whatever ends such a list, the end is seen once, and puts back what it must.
//!
//! Source: ovs-actions(7); the rest by experiment with Open vSwitch 3.1: that `exit` in a copy ends the original too, in a
//! bucket only the bucket, and behind `check_pkt_larger` its callers if it ends the longer packets; that the action set is
//! carried out in the branch of the longer packets and empty in the other.

use super::{
    pass::{Cut, Op, Pass, UNSET},
    sets, write,
};
use crate::{
    flow::{Action, Group, GroupKind, GroupRef, Learn, Subfield},
    table::FlowId,
    trace::Event,
};
use flowproof_packet::{Field, FlowKey, PortNo, port};
use std::sync::Arc;

/// What happens when a list of actions is done.
#[derive(Debug)]
pub(super) enum End {
    /// The caller goes on.
    Nothing,
    /// The copy carries out its action set.
    Copied(Box<Before>),
    /// The copy is forgotten.
    Forget(Box<Before>),
    /// The next of these buckets begins.
    Bucket { key: Box<FlowKey>, rest: Vec<Arc<[Action]>> },
    /// The branch carries out the action set.
    Branch(Box<Branch>),
    /// The other branch begins, or both are done.
    Branched(Box<Branch>),
}

/// A packet as it was.
#[derive(Debug)]
pub(super) struct Before {
    key: FlowKey,
    stack: Vec<u128>,
    set: Vec<Action>,
    /// What was listed to be done with it.
    ops: Vec<Op>,
}

/// Where a list stands that is carried out twice.
#[derive(Debug)]
pub(super) struct Branch {
    before: Before,
    actions: Arc<[Action]>,
    than: u16,
    at: usize,
    dst: Subfield,
    /// What the longer packets do, and whether that ends all; nothing as long as it is open.
    larger: Option<(Vec<Op>, bool)>,
}

impl Pass<'_, '_> {
    fn before(&mut self) -> Before {
        Before {
            key: FlowKey::clone(&self.plan.key),
            stack: self.plan.stack.clone(),
            set: self.plan.set.clone(),
            ops: std::mem::take(&mut self.plan.ops),
        }
    }

    /// Puts back the packet; what was done since then.
    fn put_back(&mut self, before: Before) -> Vec<Op> {
        *self.plan.key = before.key;
        (self.plan.stack, self.plan.set) = (before.stack, before.set);
        std::mem::replace(&mut self.plan.ops, before.ops)
    }

    /// `clone(…)`
    pub(super) fn copy(&mut self, flow: FlowId, table: u8, actions: &[Action]) {
        let before = Box::new(self.before());
        self.note(|| Event::Copied);
        self.begin(flow, table, Some(actions.into()), End::Copied(before));
    }

    /// Only a port with a number of its own can be meant, or `LOCAL`.
    pub(super) fn output_truncated(&mut self, port: PortNo, max_len: u32) {
        if port == self.in_port() || self.world.port(port).is_none() {
            return self.note(|| Event::Skipped("no output of a part to this port"));
        }
        let cut = Some(Cut { max_len, at: self.plan.committed });
        let at = self.commit();
        self.plan.ops.push(Op::Output { port, at, cut });
        self.note(|| Event::Output(port));
    }

    /// What `write_actions` adds to the set; the way out that it then has can be matched.
    pub(super) fn write_actions(&mut self, actions: &[Action]) {
        for action in actions.iter().filter(|_| !self.set_has_group) {
            match action {
                Action::Output(port) => self.plan.key.set(Field::ActsetOutput, u128::from(*port)),
                Action::Controller(_) => {
                    self.plan.key.set(Field::ActsetOutput, u128::from(port::CONTROLLER));
                }
                Action::Group(_) => {
                    self.plan.key.set(Field::ActsetOutput, UNSET);
                    self.set_has_group = true;
                    break;
                }
                _ => {}
            }
        }
        self.plan.set.extend_from_slice(actions);
    }

    pub(super) fn clear_actions(&mut self) {
        self.plan.set.clear();
        self.set_has_group = false;
        self.plan.key.set(Field::ActsetOutput, UNSET);
    }

    pub(super) fn push(&mut self, part: Subfield) {
        self.plan.stack.push(write::read(&self.plan.key, part));
    }

    /// What is taken from an empty stack changes nothing.
    pub(super) fn pop(&mut self, part: Subfield) {
        let Some(value) = self.plan.stack.pop() else {
            return self.note(|| Event::Skipped("the stack is empty"));
        };
        write::pop(&mut self.plan.key, part, value);
        let value = write::read(&self.plan.key, part);
        self.note(|| Event::Write { part, value });
    }

    /// `group:N`
    pub(super) fn group(&mut self, flow: FlowId, table: u8, named: &GroupRef) {
        let Some(group) = &named.group else { return self.opaque(flow, named.to_string()) };
        if self.is_too_deep() {
            return;
        }
        let mut rest: Vec<Arc<[Action]>> = self.chosen(named.id, group);
        rest.reverse();
        let key = Box::new(FlowKey::clone(&self.plan.key));
        self.next_bucket(flow, table, key, rest);
    }

    /// What the buckets do that a packet is given to.
    fn chosen(&mut self, id: u32, group: &Group) -> Vec<Arc<[Action]>> {
        let up = |port| self.world.port(port).is_some();
        let alive: Vec<usize> = (0..)
            .zip(&group.buckets)
            .filter(|(_, bucket)| bucket.watch_port.is_none_or(up))
            .map(|(at, _)| at)
            .collect();
        let weighed = |at: &usize| group.buckets.get(*at).is_some_and(|bucket| bucket.weight > 0);
        let chosen: Vec<usize> = match group.kind {
            GroupKind::All => (0..group.buckets.len()).collect(),
            GroupKind::Indirect => alive.first().copied().into_iter().collect(),
            GroupKind::FastFailover => alive.first().copied().into_iter().collect(),
            GroupKind::Select => {
                let some = alive.iter().any(weighed);
                let open: Vec<usize> = alive.into_iter().filter(|at| !some || weighed(at)).collect();
                let choice = (self.world.setup.choices.bucket as usize).checked_rem(open.len());
                choice.and_then(|at| open.get(at)).copied().into_iter().collect()
            }
        };
        if let (GroupKind::Select, Some(at)) = (group.kind, chosen.first().copied()) {
            let of = group.buckets.len();
            self.note(|| Event::Chosen { group: id, bucket: at, of });
        }
        chosen
            .iter()
            .filter_map(|at| group.buckets.get(*at))
            .map(|bucket| sets::ordered(&bucket.actions))
            .collect()
    }

    fn next_bucket(&mut self, flow: FlowId, table: u8, key: Box<FlowKey>, mut rest: Vec<Arc<[Action]>>) {
        if let Some(actions) = rest.pop() {
            self.depth += 1;
            self.note(|| Event::Copied);
            self.begin(flow, table, Some(actions), End::Bucket { key, rest });
        }
    }

    /// `check_pkt_larger(…)`: what stands behind it in its list.
    pub(super) fn by_length(&mut self, than: u16, dst: Subfield) {
        let Some(call) = self.plan.calls.last_mut() else { return };
        let (flow, table, next) = (call.flow, call.table, call.next);
        let own = call.actions.clone();
        let (given, learned) = (self.world.given, self.world.learned.clone());
        let tables = learned.as_deref().unwrap_or(given);
        let list = match &own {
            Some(list) => &**list,
            None => tables.flow(flow).map_or(&[][..], |flow| flow.actions.as_slice()),
        };
        let actions: Arc<[Action]> = list.get(next..).unwrap_or_default().into();
        call.next = list.len();
        let at = self.commit();
        let before = self.before();
        write::pop(&mut self.plan.key, dst, 1);
        self.note(|| Event::Longer { than, longer: true });
        let branch = Branch { before, actions: Arc::clone(&actions), than, at, dst, larger: None };
        self.begin(flow, table, Some(actions), End::Branch(Box::new(branch)));
    }

    /// The end of a list of actions.
    pub(super) fn ended(&mut self, flow: FlowId, table: u8, end: End) {
        match end {
            End::Nothing => {}
            End::Copied(before) => {
                self.begin_set(flow, table, End::Forget(before));
            }
            End::Forget(before) => {
                self.note(|| Event::Uncopied);
                let done = self.put_back(*before);
                if !done.is_empty() {
                    self.plan.ops.push(Op::Copy(done));
                }
            }
            End::Bucket { key, rest } => {
                self.depth -= 1;
                self.note(|| Event::Uncopied);
                *self.plan.key = FlowKey::clone(&key);
                self.exit = false;
                self.next_bucket(flow, table, key, rest);
            }
            End::Branch(branch) => {
                self.begin_set(flow, table, End::Branched(branch));
            }
            End::Branched(branch) => self.branched(flow, table, *branch),
        }
    }

    fn branched(&mut self, flow: FlowId, table: u8, mut branch: Branch) {
        let Some((larger, ends)) = branch.larger.take() else {
            let ends = std::mem::take(&mut self.exit);
            branch.larger = Some((std::mem::take(&mut self.plan.ops), ends));
            *self.plan.key = branch.before.key.clone();
            self.plan.stack.clone_from(&branch.before.stack);
            write::pop(&mut self.plan.key, branch.dst, 0);
            let than = branch.than;
            self.note(|| Event::Longer { than, longer: false });
            let actions = Some(Arc::clone(&branch.actions));
            return self.begin(flow, table, actions, End::Branch(Box::new(branch)));
        };
        let (than, at) = (branch.than, branch.at);
        let other = self.put_back(branch.before);
        self.plan.ops.push(Op::ByLength { than, at, larger, other });
        self.exit = ends;
    }

    /// `learn(…)`: later passes find the flow.
    pub(super) fn learn(&mut self, flow: FlowId, learn: &Learn) {
        let learned = super::learn::flow(learn, &self.plan.key);
        let text = learned.to_string();
        let room = !self.world.learn || self.world.coming().learn(learned, learn.limit, flow);
        self.note(|| Event::Learn { flow: text, room });
        if let Some(part) = learn.result {
            write::pop(&mut self.plan.key, part, u128::from(room));
        }
    }
}
