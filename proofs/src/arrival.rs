//! What comes in with a frame beside its bytes.
//!
//! A tunnel tells its key, the host's network stack its mark and what it has tracked (ovs-fields(7)): fields of which a table may
//! ask, and which a frame from an ordinary port has at zero. Nobody may take them for zero who does not know that the port is an
//! ordinary one.
//!
//! Invariant: each [`Arrival`] is at least all that its ports can hand in. What the datapath computes is anything everywhere.
//! Deliberately absent: what a particular kind of tunnel cannot tell.

use crate::predicate::Predicate;
use flowproof_packet::{Field, Origin};
use flowproof_switch::conntrack::state;

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
}

impl Arrival {
    /// All that may come in by a port of which nothing is known.
    pub const ANY: [Self; 2] = [Self::Untracked, Self::Tracked];

    /// Whether a field of this origin may be anything.
    pub(crate) const fn frees(self, field: Field) -> bool {
        match (field.spec().origin, self) {
            (Origin::Frame | Origin::Datapath, _) => true,
            (Origin::Port | Origin::Flows, _) | (Origin::Tunnel | Origin::Host, Self::Ordinary) => false,
            (Origin::Tunnel, _) => true,
            (Origin::Host, Self::Tracked) => true,
            (Origin::Host, Self::Untracked) => matches!(field, Field::PktMark | Field::SkbPriority),
        }
    }

    /// What is true of all that comes in so. A packet of another type than Ethernet has no Ethernet header. A tracked packet is
    /// IP, and of its state the kernel says what netfilter has seen (openvswitch/conntrack.c, `ovs_ct_fill_key`).
    #[must_use]
    pub fn premise(self) -> Predicate {
        let none = [Field::DlSrc, Field::DlDst, Field::VlanTci].map(|field| Predicate::is(field, 0u8));
        let bare = Predicate::All(none.to_vec()).and(Predicate::Is(Field::PacketType, 1 << 16, 0xffff_0000));
        let typed = Predicate::is(Field::PacketType, 0u8).or(bare);
        match self {
            Self::Ordinary => Predicate::always(),
            Self::Untracked => typed,
            Self::Tracked => typed.and(tracked()),
        }
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
