//! A host with its policy and its history: frames come in, the rules change, connections end.
//!
//! Who receives a frame is decided by network and destination MAC, never by address: the port with that MAC; every
//! other port of the network and the other hosts for a group address; other hosts otherwise.

use crate::crossing::{Crossing, End, Law, Standing};
use crate::frame::Frame;
use crate::history::{Delivery, History, Place, Route, Tracking, Tuple};
use crate::policy::{Change, Ethertype, Fault, NetworkId, Policy, Port, PortId};
use crate::semantics::judge;
use crate::switches::Switches;
use crate::verdict::{Outcome, Refusal};
use std::net::IpAddr;

/// Where a frame comes in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A port of this host sent it.
    Port(PortId),
    /// It came from another host, in this network.
    Network(NetworkId),
    /// It came from another host under a VLAN that is no network here.
    Unprovisioned,
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A frame comes in.
    Frame {
        /// Where.
        origin: Origin,
        /// Which.
        frame: Frame,
        /// What connection tracking has against it.
        tracking: Tracking,
    },
    /// The policy changes.
    Change(Change),
    /// A connection is over.
    Expired(Tuple),
    /// The agent has updated a port, and so made the host forget its revoked connections.
    PortUpdated(PortId),
}

/// A host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// What was asked for.
    pub policy: Policy,
    /// How its words are meant.
    pub switches: Switches,
    /// What has been admitted.
    pub history: History,
}

impl World {
    /// A host on which nothing has happened yet.
    #[must_use]
    pub fn new(policy: Policy, switches: Switches) -> Self {
        Self { policy, switches, history: History::default() }
    }

    /// Lets something happen; deliveries if it is a frame.
    ///
    /// # Errors
    /// If the policy would not be well-formed after a change; it is then as it was.
    pub fn apply(&mut self, event: Event) -> Result<Vec<Delivery>, Vec<Fault>> {
        match event {
            Event::Frame { origin, frame, tracking } => return Ok(self.receive(&origin, &frame, tracking)),
            Event::Change(change) => self.policy.apply(change)?,
            Event::Expired(tuple) => self.history.expire(&tuple),
            Event::PortUpdated(id) => self.forget_revoked(&id),
        }
        Ok(Vec::new())
    }

    /// What would become of a frame now, at each receiver. What a port sends to itself is judged, and refused; a
    /// copy of what it sends to a group does not come back to it.
    #[must_use]
    pub fn judge(&self, origin: &Origin, frame: &Frame, tracking: Tracking) -> Vec<Delivery> {
        let Some((network, sender)) = self.entrance(origin) else {
            let outcome = Outcome::refused(Refusal::OtherNetwork);
            return vec![Delivery { to: Place::Elsewhere, outcome }];
        };
        let receivers = self.receivers(network, sender, frame).into_iter();
        receivers
            .map(|receiver| {
                let (from, to) = (place(sender), place(receiver));
                let route = Route { network, sender: &from, receiver: &to };
                let standing = self.history.standing(&self.switches, frame, route, tracking);
                let outcome = self.judge_between(Some(network), frame, (sender, receiver), standing);
                Delivery { to, outcome }
            })
            .collect()
    }

    /// What becomes of a frame between two ends, whoever would receive it.
    #[must_use]
    pub fn judge_between(
        &self,
        network: Option<&NetworkId>,
        frame: &Frame,
        (sender, receiver): (End<'_>, End<'_>),
        standing: Standing<'_>,
    ) -> Outcome {
        let law = Law { policy: &self.policy, switches: &self.switches };
        judge(law, &Crossing { frame, network, sender, receiver, standing })
    }

    fn receive(&mut self, origin: &Origin, frame: &Frame, tracking: Tracking) -> Vec<Delivery> {
        let deliveries = self.judge(origin, frame, tracking);
        let Some((network, sender)) = self.entrance(origin) else { return deliveries };
        let (network, from) = (network.clone(), place(sender));
        self.history.observe(&self.switches, frame, (&network, &from), &deliveries);
        deliveries
    }

    /// The network a frame is in, and who sent it.
    fn entrance<'a>(&'a self, origin: &'a Origin) -> Option<(&'a NetworkId, End<'a>)> {
        match origin {
            Origin::Unprovisioned => None,
            Origin::Network(network) => Some((network, End::Elsewhere)),
            Origin::Port(id) => self.policy.ports.get(id).map(|port| (&port.network, End::Port(port))),
        }
    }

    /// Who is there to receive a frame. A MAC that several ports may use as an address pair is each one's.
    fn receivers<'a>(&'a self, network: &NetworkId, sender: End<'a>, frame: &Frame) -> Vec<End<'a>> {
        let ports: Vec<&Port> =
            self.policy.local_ports().map(|(port, _)| port).filter(|port| port.network == *network).collect();
        let having = |has: fn(&Port, &Frame) -> bool| {
            ports.iter().filter(|port| has(port, frame)).map(|port| End::Port(port)).collect::<Vec<_>>()
        };
        let own = having(|port, frame| port.mac == frame.dst);
        let paired = having(|port, frame| port.address_pairs.iter().any(|pair| pair.mac == frame.dst));
        let everybody = || ports.iter().map(|port| End::Port(port)).chain([End::Elsewhere]).collect();
        let candidates = match (frame.dst.is_group(), own.is_empty(), paired.is_empty()) {
            (true, ..) => everybody(),
            (false, false, _) => own,
            (false, true, false) => paired,
            (false, true, true) => vec![End::Elsewhere],
        };
        let comes_back = |end: &End<'_>| *end == sender && (frame.dst.is_group() || *end == End::Elsewhere);
        candidates.into_iter().filter(|end| !comes_back(end)).collect()
    }

    fn forget_revoked(&mut self, id: &PortId) {
        let Some(port) = self.policy.ports.get(id) else { return };
        let own = |ip: &IpAddr| port.pairs(Ethertype::of(ip)).any(|pair| pair.prefix.contains(ip));
        self.history.forget_revoked(&port.network, own);
    }
}

fn place(end: End<'_>) -> Place {
    match end {
        End::Port(port) => Place::Port(port.id.clone()),
        End::Elsewhere => Place::Elsewhere,
    }
}
