//! Whom an event's packets reach.
//!
//! Invariant: `NORMAL`, `IN_PORT` and floods go by the input port as it is when they are carried out. What is not modelled may go
//! anywhere.

use super::*;

impl Engine<'_> {
    /// How what reaches a port comes there: by whatever way, with which VLAN bits. `NORMAL` leaves an access port none.
    pub(super) fn delivered(&self, event: &Event<Bdd>, receiver: &Port) -> Exit {
        let known = self.scene.host.tags.get(&receiver.ofport);
        let is_access = known.map_or(receiver.network, |tag| *tag).is_some();
        let (emit, mut vlan) = exit(event);
        if emit == Emit::Normal && is_access {
            vlan.fill(Bit::Known(false));
        }
        let emit = if emit.is_modelled() { Emit::Port(receiver.ofport) } else { emit };
        (emit, vlan)
    }

    /// Those of an event's packets that really leave. `NORMAL` looks at the input port as it is then.
    pub(super) fn leaving(&mut self, event: &Event<Bdd>) -> Bdd {
        let ingress = self.scene.ingress(self.sender, &event.key);
        match (&event.emit, ingress) {
            (Emit::Normal, Ingress::Nowhere) => self.sets.none(),
            _ => frames::escaping(&mut self.sets, event, matches!(ingress, Ingress::Access(_))),
        }
    }

    /// The packets of an event that reach a filtered port. What is not modelled may go anywhere.
    pub(super) fn arrives(&mut self, event: &Event<Bdd>, receiver: &Port) -> Bdd {
        match &event.emit {
            Emit::Port(port) if *port == receiver.ofport => event.packets,
            Emit::InPort => self.showing(event, Field::InPort, receiver.ofport),
            Emit::UnknownPort => self.put_out(event, receiver.ofport),
            Emit::Opaque(_) => event.packets,
            Emit::Flood => self.elsewhere(event, event.packets, receiver.ofport),
            Emit::Normal => {
                let packets = self.switched(event, receiver);
                self.elsewhere(event, packets, receiver.ofport)
            }
            Emit::Port(_) | Emit::Controller | Emit::Limit => self.sets.none(),
        }
    }

    /// What `NORMAL` may bring to a port, its own frames too.
    pub(super) fn switched(&mut self, event: &Event<Bdd>, receiver: &Port) -> Bdd {
        let known = self.scene.host.tags.get(&receiver.ofport);
        let vlan = known.map_or(receiver.network, |tag| *tag);
        match (vlan, self.scene.ingress(self.sender, &event.key)) {
            (_, Ingress::Nowhere) => self.sets.none(),
            (None, _) | (_, Ingress::Open) => event.packets,
            (Some(vlan), Ingress::Access(access)) if vlan == access => event.packets,
            (Some(_), Ingress::Access(_)) => self.sets.none(),
            (Some(vlan), Ingress::Trunk) => {
                let mut tagged = Match::default();
                tagged.set(Field::VlanTci, 0x1000 | u128::from(vlan), 0x1fff);
                frames::select(&mut self.sets, event, &tagged)
            }
        }
    }

    /// Those of an event's packets whose key shows this number.
    pub(super) fn showing(&mut self, event: &Event<Bdd>, field: Field, number: PortNo) -> Bdd {
        let mut wanted = Match::default();
        wanted.set(field, number.into(), u128::MAX);
        frames::select(&mut self.sets, event, &wanted)
    }

    /// Those of `packets` whose input port is not this one.
    pub(super) fn elsewhere(&mut self, event: &Event<Bdd>, packets: Bdd, ofport: PortNo) -> Bdd {
        let own = self.showing(event, Field::InPort, ofport);
        self.sets.minus(packets, own)
    }

    /// What an output whose port is not a constant may bring to a port: any such output on the way may have been it.
    pub(super) fn put_out(&mut self, event: &Event<Bdd>, ofport: PortNo) -> Bdd {
        let mut parts: Vec<Subfield> = Vec::new();
        for flow in flows_of(&event.path).into_iter().filter_map(|id| self.scene.host.tables.flow(id)) {
            let put_out = |action: &Action| {
                if let Action::OutputField(part) = action { Some(*part) } else { None }
            };
            parts.extend(flow.all_actions().filter_map(put_out));
        }
        let mut packets = self.sets.none();
        for part in parts {
            let mut wanted = Match::default();
            let fits = u128::from(ofport) & !low_bits(part.width) == 0;
            wanted.set(part.field, u128::from(ofport) << part.start, low_bits(part.width) << part.start);
            if fits {
                let some = frames::select(&mut self.sets, event, &wanted);
                packets = self.sets.or(packets, some);
            }
        }
        packets
    }
}
