//! The bit vectors of a query, and which of them a variable is a bit of.
//!
//! Invariant: equal terms have equal names, so that two encoders that name one term mean one constant of Z3.

use crate::vars::{self, Var};
use flowproof_packet::Field;

/// A bit vector of the formula: a field as sent, the protocol a fragment shows, or an answer of `ct()`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Term {
    /// A field of the datagram as it was sent.
    Sent(Field),
    /// The protocol that a fragment shows.
    FragmentProto,
    /// What the `ct()` at a nesting depth left in a field.
    Tracked(u16, Field),
}

impl Term {
    /// The vector that a variable is a bit of, and which bit, from the least significant.
    pub(crate) fn of(var: Var) -> (Self, u16) {
        let inside = |mut run: Box<dyn Iterator<Item = Var>>| run.position(|v| v == var).map(|at| at as u16);
        if usize::from(var.0) < flowproof_packet::key::BITS {
            let owner = Field::all().find(|field| {
                let spec = field.spec();
                spec.is_slot_owner() && (spec.offset..spec.offset + spec.width).contains(&var.0)
            });
            let field = owner.unwrap_or(Field::DpHash);
            return (
                Self::Sent(field),
                field.spec().width.wrapping_sub(1).wrapping_sub(var.0 - field.spec().offset),
            );
        }
        if let Some(at) = inside(Box::new(vars::fragment_proto())) {
            return (Self::FragmentProto, 7 - at);
        }
        for depth in 0..vars::CT_LEVELS {
            for field in vars::tracked_fields() {
                if let Some(at) = inside(Box::new(vars::tracked(depth, field))) {
                    return (Self::Tracked(depth, field), field.spec().width - 1 - at);
                }
            }
        }
        (Self::FragmentProto, 0)
    }

    /// How many bits it has.
    pub(crate) fn width(self) -> u16 {
        match self {
            Self::Sent(field) | Self::Tracked(_, field) => field.spec().width,
            Self::FragmentProto => 8,
        }
    }

    /// Its name in a query.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Sent(Field::VlanTpid) => "vlan_tpid".to_owned(),
            Self::Sent(field) => field.spec().name.to_owned(),
            Self::FragmentProto => "fragment_nw_proto".to_owned(),
            Self::Tracked(depth, field) => format!("{}_{depth}", field.spec().name),
        }
    }
}
