//! What a `ct()` asks of connection tracking.
//!
//! Invariant: mark and label are what the actions of `exec()` leave, and only the bits that they wrote.
//!
//! Source: ovs-actions(7), "ct".

use super::write;
use crate::{
    conntrack::CtRequest,
    flow::{Action, Ct, Zone},
};
use flowproof_packet::{Field, FlowKey, key::low_bits};

/// What a `ct()` asks of connection tracking, for a packet with this key.
pub(super) fn of(ct: &Ct, key: &FlowKey) -> CtRequest {
    let mut key = key.clone();
    let (mut mark, mut label) = (0, 0);
    for action in &ct.exec {
        let (field, mask) = match action {
            Action::Set { field, value, mask, form } => {
                write::set(&mut key, *field, *value, *mask, *form);
                (*field, *mask)
            }
            Action::Move { src, dst } if write::copy(&mut key, *src, *dst) => {
                (dst.field, low_bits(dst.width) << dst.start)
            }
            _ => continue,
        };
        match field {
            Field::CtMark => mark |= mask as u32,
            Field::CtLabel => label |= mask,
            _ => {}
        }
    }
    let zone = match ct.zone {
        Zone::Const(zone) => zone,
        Zone::Field(part) => (write::read(&key, part) & 0xffff) as u16,
    };
    CtRequest {
        zone,
        commit: ct.commit,
        force: ct.force,
        mark: (key.get(Field::CtMark) as u32 & mark, mark),
        label: (key.get(Field::CtLabel) & label, label),
        nat: ct.nat,
        alg: ct.alg,
    }
}
