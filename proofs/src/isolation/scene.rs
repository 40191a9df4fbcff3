//! What of a host section B reads off its flows: miss entries, registers, and whose rules decide on a path.

use super::{
    admit,
    world::{Sender, World},
};
use crate::{
    bdd::Bdd,
    diagram::Host,
    intent::site::Site,
    replay::Stage,
    symbolic::{Emit, Event, flows_of},
    symkey::SymKey,
    tables,
};
use flowproof_model::policy::Direction;
use flowproof_packet::{Field, PortNo, key::masked_words, port};
use flowproof_switch::{
    flow::{Action, Subfield},
    table::FlowId,
};

/// What is asked about: a host, who can send to it, and what was asked for, if that is known.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The host.
    pub host: &'a Host,
    /// Who can send.
    pub world: &'a World,
    /// The intent.
    pub site: Option<&'a Site>,
    /// Where packets are tried.
    pub stage: &'a Stage,
}

/// The network that a write into the network register or the port register stands for: nothing known for what is no constant;
/// `None` for any other action, and for ports of no known network.
pub(super) fn registers(host: &Host, action: &Action) -> Option<Option<u16>> {
    if let Action::Set { field: Field::Reg6, value, .. } = action {
        Some(u16::try_from(*value).ok())
    } else if let Action::Set { field: Field::Reg5, value, .. } = action {
        let port = host.ports.iter().find(|port| u128::from(port.ofport) == *value)?;
        port.network.map(Some)
    } else if let Action::Move { dst, .. } = action {
        matches!(dst.field, Field::Reg5 | Field::Reg6).then_some(None)
    } else {
        None
    }
}

/// Where `NORMAL` takes a packet to come from: by the input port as it is then, which actions may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ingress {
    /// An access port of this VLAN.
    Access(u16),
    /// A trunk.
    Trunk,
    /// A number that no port has.
    Nowhere,
    /// It is not known which port.
    Open,
}

/// Whether a port can have this number (ovs-vswitchd.conf.db(5), `ofport_request`).
fn is_number(number: u128) -> bool {
    (1..0xff00).contains(&number) || number == u128::from(port::LOCAL)
}

impl Scene<'_> {
    /// Where `NORMAL` takes a packet of `sender` with this key to come from.
    pub(super) fn ingress(&self, sender: &Sender, key: &SymKey) -> Ingress {
        let at = |port: &Sender| port.access.map_or(Ingress::Trunk, Ingress::Access);
        let number = key.constant(Subfield::whole(Field::InPort));
        let as_sent =
            || masked_words(Field::InPort, 0, u128::MAX).all(|part| key.is_as_sent(part.word, part.mask));
        match number {
            Some(number) if number == u128::from(sender.ofport) => at(sender),
            Some(number) if !is_number(number) => Ingress::Nowhere,
            Some(number) => {
                let vlan = PortNo::try_from(number).ok().and_then(|number| self.host.vlan_of(number));
                vlan.map_or(Ingress::Open, |vlan| vlan.map_or(Ingress::Trunk, Ingress::Access))
            }
            None if as_sent() => at(sender),
            None => Ingress::Open,
        }
    }

    /// Whether a port has rules of a direction: by the intent, or else by the tables.
    #[must_use]
    pub fn has_rules(&self, ofport: PortNo, direction: Direction) -> bool {
        match self.site.and_then(|site| Some((site, site.at(ofport)?.0))) {
            Some((site, port)) => site.policy.rules_of(port).any(|rule| rule.direction == direction),
            None => self.world.ruled.contains(&(ofport, direction)),
        }
    }

    /// Whether packets leave by a table-miss flow: one of priority 0 that matches everything (OpenFlow 1.3, 5.4).
    pub(super) fn is_miss(&self, event: &Event<Bdd>) -> bool {
        let last = flows_of(&event.path).last().copied();
        last.is_some_and(|id| self.is_miss_flow(id))
    }

    /// Whether a flow is a table's miss entry.
    #[must_use]
    pub fn is_miss_flow(&self, id: FlowId) -> bool {
        self.host.tables.flow(id).is_some_and(tables::is_miss)
    }

    /// Whether a rule of a port that is not among `ends` decides on the way: see [`Scene::thirds`].
    pub(super) fn is_third(&self, event: &Event<Bdd>, ends: &[PortNo]) -> bool {
        let path = flows_of(&event.path);
        let left_for = event.key.constant(Subfield::whole(Field::Reg5));
        let registered = left_for.and_then(|port| PortNo::try_from(port).ok());
        let stays = registered.is_some_and(|port| !ends.contains(&port) && self.is_filtered(port));
        let by_number = matches!(event.emit, Emit::Port(port) if self.is_filtered(port));
        by_number && stays || !self.thirds(&path, &event.emit, ends).is_empty()
    }

    fn is_filtered(&self, ofport: PortNo) -> bool {
        self.host.ports.iter().any(|port| port.ofport == ofport)
    }

    /// The flows of a path that hold rules of third ports, or rules that name no port at all, and that decide. A flow that
    /// was hit after the one that puts the packet out, or after the one that loads the port register with its receiver,
    /// belongs to a call that has returned; unless it changed the packet it decides nothing.
    #[must_use]
    pub fn thirds(&self, path: &[FlowId], emit: &Emit, ends: &[PortNo]) -> Vec<FlowId> {
        let flow = |id: &FlowId| self.host.tables.flow(*id);
        let last = |wanted: &dyn Fn(&Action) -> bool| {
            path.iter().rposition(|id| flow(id).is_some_and(|flow| flow.actions.iter().any(wanted)))
        };
        let output = if let Emit::Port(port) = emit { Some(*port) } else { None };
        let output = output.or((*emit == Emit::Normal).then_some(port::NORMAL));
        let emits = last(&|action| matches!((action, output), (Action::Output(a), Some(b)) if *a == b));
        let loads = last(&|action| {
            matches!((action, emit), (Action::Set { field: Field::Reg5, value, .. }, Emit::Port(port))
                if *value == u128::from(*port))
        });
        let end = path.len().saturating_sub(1);
        let cut = emits.unwrap_or(end).min(loads.unwrap_or(end));
        let decides = |(at, id): &(usize, &FlowId)| {
            let Some(flow) = flow(id) else { return false };
            let holds_rules = admit::RULES.iter().any(|(_, table)| *table == flow.table);
            // Whose call a flow without an owner was hit in, it does not say.
            let (foreign, cut) = match admit::owner(flow) {
                Some(port) => (!ends.contains(&port) && self.is_filtered(port), cut),
                None => (holds_rules && !flow.actions.is_empty(), emits.unwrap_or(end)),
            };
            foreign && (*at <= cut || admit::changes(flow))
        };
        path.iter().enumerate().filter(decides).map(|(_, id)| *id).collect()
    }
}
