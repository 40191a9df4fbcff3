//! Whom an event's packets reach: a port of this host, or the world beyond it.
//!
//! Invariant: `NORMAL` and floods go by the input port as it is when they are carried out.

use super::*;

impl Judge<'_> {
    /// Those of `packets` that an event may bring to the target. `NORMAL` brings a frame to every port of its VLAN.
    pub(super) fn arrives(&mut self, event: &Event<Bdd>, packets: Bdd, target: Target) -> Bdd {
        let none = self.sets.none();
        match (&event.emit, target) {
            (Emit::Port(port), Target::Local(ofport, _)) => {
                if *port == ofport {
                    packets
                } else {
                    none
                }
            }
            (Emit::Port(port), Target::Remote) => {
                if self.site.at(*port).is_none() {
                    packets
                } else {
                    none
                }
            }
            (Emit::Normal, Target::Remote) => packets,
            (Emit::Normal, Target::Local(ofport, vlan)) => {
                let packets = self.switched(event, packets, vlan);
                self.elsewhere(event, packets, ofport)
            }
            (Emit::Flood, Target::Local(ofport, _)) => self.elsewhere(event, packets, ofport),
            (Emit::Flood, Target::Remote) => packets,
            (Emit::InPort | Emit::Limit | Emit::Controller, _) => none,
            (Emit::UnknownPort | Emit::Opaque(_), _) => packets,
        }
    }

    /// Those of `packets` that `NORMAL` may bring to ports of a VLAN. It goes by the input port as it is then.
    pub(super) fn switched(&mut self, event: &Event<Bdd>, packets: Bdd, vlan: u16) -> Bdd {
        match self.comes_from(event) {
            Some(Some(access)) if access == vlan => packets,
            Some(Some(_)) => self.sets.none(),
            Some(None) => {
                let event = Event { packets, ..event.clone() };
                select(&mut self.sets, &event, &tagged(vlan))
            }
            None => packets,
        }
    }

    /// The access VLAN of the port that a packet is taken to come from, `None` for a trunk; nothing where that is not known.
    pub(super) fn comes_from(&self, event: &Event<Bdd>) -> Option<Option<u16>> {
        let number = event.key.constant(Subfield::whole(Field::InPort));
        let ofport = PortNo::try_from(number?).ok()?;
        if ofport == self.entrance.ofport { Some(self.entrance.access) } else { self.host.vlan_of(ofport) }
    }

    /// Those of `packets` whose input port, as it is then, is not this one.
    pub(super) fn elsewhere(&mut self, event: &Event<Bdd>, packets: Bdd, ofport: PortNo) -> Bdd {
        let mut own = Match::default();
        own.set(Field::InPort, ofport.into(), u128::MAX);
        let own = select(&mut self.sets, &Event { packets, ..event.clone() }, &own);
        self.sets.minus(packets, own)
    }

    /// Those of an event's packets that really leave.
    pub(super) fn leaving(&mut self, event: &Event<Bdd>) -> Bdd {
        let access = matches!(self.comes_from(event), Some(Some(_)));
        frames::escaping(&mut self.sets, event, access)
    }
}
