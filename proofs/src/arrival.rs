//! What comes in with a frame beside its bytes.
//!
//! A tunnel tells its key, the host's network stack its mark and what it has tracked (ovs-fields(7)): fields of which a table may
//! ask, and which a frame from an ordinary port has at zero. Nobody may take them for zero who does not know that the port is an
//! ordinary one.
//!
//! Invariant: each [`Arrival`] is at least all that its ports can hand in. What the datapath computes is anything everywhere.
//! Deliberately absent: what a particular kind of tunnel cannot tell.

use crate::{predicate::Predicate, vars};
use flowproof_packet::{Field, Origin};
use flowproof_switch::{
    conntrack::state,
    flow::{Action, Flow},
};

/// What a port may hand in with a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arrival {
    /// Nothing: a virtual machine's port, or a network card.
    #[default]
    Ordinary,
    /// What a tunnel, or another bridge, may tell, and any mark; not tracked.
    Untracked,
    /// The same, and the host has tracked the packet already: internal ports.
    Tracked,
    /// The same as untracked, and the packet has no Ethernet header: some tunnels, on bridges whose flows ask for `packet_type`. On
    /// others the switch adds one as it comes in.
    Bare,
}

impl Arrival {
    /// All that may come in by a port of which nothing is known.
    pub const ANY: [Self; 3] = [Self::Untracked, Self::Tracked, Self::Bare];

    /// Those of them that these flows can tell from an untracked packet with an Ethernet header, and that one.
    #[must_use]
    pub fn told_apart<'f>(flows: impl IntoIterator<Item = &'f Flow>) -> Vec<Self> {
        let (mut tracked, mut bare) = (false, false);
        for flow in flows {
            let reads = |field: Field| {
                flow.matching.looks_at(field) || flow.actions.iter().any(|action| read(action) == Some(field))
            };
            tracked |= !tracked && vars::tracked_fields().chain([Field::CtZone]).any(reads);
            bare |= reads(Field::PacketType);
        }
        let told = [(Self::Untracked, true), (Self::Tracked, tracked), (Self::Bare, bare)];
        told.into_iter().filter(|(_, told)| *told).map(|(arrival, _)| arrival).collect()
    }

    /// Whether a field of this origin may be anything.
    pub(crate) fn frees(self, field: Field) -> bool {
        match field.spec().origin {
            Origin::Frame | Origin::Datapath => true,
            Origin::Port | Origin::Flows => false,
            Origin::Tunnel if field == Field::PacketType => self == Self::Bare,
            Origin::Tunnel => self != Self::Ordinary,
            Origin::Host if [Field::PktMark, Field::SkbPriority].contains(&field) => self != Self::Ordinary,
            Origin::Host => self == Self::Tracked,
        }
    }

    /// What is true of all that comes in so. A tracked packet is IP, and of its state the kernel says what netfilter has seen
    /// (openvswitch/conntrack.c, `ovs_ct_fill_key`).
    #[must_use]
    pub fn premise(self) -> Predicate {
        match self {
            Self::Ordinary | Self::Untracked => Predicate::always(),
            Self::Tracked => tracked(),
            Self::Bare => {
                let none =
                    [Field::DlSrc, Field::DlDst, Field::VlanTci].map(|field| Predicate::is(field, 0u8));
                Predicate::All(none.to_vec()).and(Predicate::Is(Field::PacketType, BARE, BARE_BITS))
            }
        }
    }
}

/// The namespace of Ethernet types in `packet_type` (OpenFlow 1.5, 7.2.3.11).
const BARE: u128 = 1 << 16;
const BARE_BITS: u128 = 0xffff_0000;

/// The field that an action reads.
const fn read(action: &Action) -> Option<Field> {
    if let Action::Move { src: part, .. } | Action::OutputField(part) = action {
        Some(part.field)
    } else {
        None
    }
}

fn tracked() -> Predicate {
    const KINDS: u32 = state::TRK | state::NEW | state::EST | state::REL | state::INV;
    let nat = u128::from(state::SNAT | state::DNAT);
    let kind = |flag: u32, free: u32| {
        let mask = u128::from(!free) & !nat;
        Predicate::Is(Field::CtState, u128::from((state::TRK | flag) & KINDS), mask)
    };
    let ip = Predicate::one_of(Field::DlType, [0x0800u16, 0x86dd]);
    ip.and(kind(state::NEW, 0).or(kind(state::EST, state::RPL)).or(kind(state::REL, state::RPL)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_flows_and_ports_decide_what_no_arrival_leaves_open() {
        for field in Field::all() {
            let decided = matches!(field.spec().origin, Origin::Port | Origin::Flows);
            assert_eq!(Arrival::ANY.iter().any(|arrival| arrival.frees(field)), !decided, "{field:?}");
        }
    }

    #[test]
    fn an_ordinary_port_hands_in_the_frame_and_what_the_datapath_computes() {
        let free: Vec<Field> = Field::all()
            .filter(|field| Arrival::Ordinary.frees(*field) && field.spec().origin != Origin::Frame)
            .collect();
        assert_eq!(free, [Field::DpHash]);
    }
}
