//! Laws that hold for all frames.

use super::named_frame;
use super::real::{FLOWS, rows};
use crate::build::tests::{options, well_formed_keys};
use crate::build::{BadChecksum, ComposeOptions, compose};
use crate::{Field, FlowKey, wire};
use proptest::prelude::*;

/// Any bytes, or a frame of the real switch's with some of its bytes and its length changed.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<Vec<u8>> = rows(FLOWS).map(|[name, ..]| named_frame(name)).collect();
    let bent = (
        prop::sample::select(known),
        prop::collection::vec((any::<usize>(), any::<u8>()), 0..6),
        any::<usize>(),
    );
    let bent = bent.prop_map(|(mut frame, edits, cut)| {
        for (at, byte) in edits {
            let at = at % frame.len();
            frame[at] = byte;
        }
        frame.truncate(frame.len() - (cut % 8).min(frame.len()));
        frame
    });
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..200), 4 => bent]
}

/// Fields that `set_field` may write and that a frame holds.
const WRITABLE: &[Field] = &[
    Field::DlSrc,
    Field::DlDst,
    Field::NwSrc,
    Field::NwDst,
    Field::NwTos,
    Field::NwTtl,
    Field::Ipv6Src,
    Field::Ipv6Dst,
    Field::Ipv6Label,
    Field::TcpSrc,
    Field::TcpDst,
    Field::NdTarget,
    Field::NdSll,
    Field::NdTll,
    Field::ArpOp,
    Field::ArpSha,
    Field::MplsLabel,
    Field::MplsTtl,
];

/// A change to one of those fields, or to the VLAN tag.
fn change(base: &FlowKey, which: usize, value: u128) -> FlowKey {
    let mut now = base.clone();
    match WRITABLE.get(which) {
        Some(field) => now.set(*field, value),
        None => {
            now.set(Field::VlanTci, value | 0x1000);
            now.set(Field::VlanTpid, 0x8100);
        }
    }
    now
}

/// Whether a packet of this key has the field, so that an action may write it.
fn has(key: &FlowKey, field: Field) -> bool {
    let dl_type = key.get(Field::DlType) as u16;
    let (v4, v6) = (dl_type == 0x0800, dl_type == 0x86dd);
    let proto = key.get(Field::NwProto);
    let first = key.get(Field::NwFrag) & 2 == 0;
    let nd = v6 && first && proto == 58 && key.get(Field::Icmpv6Code) == 0;
    match field {
        Field::NwSrc | Field::NwDst => v4,
        Field::NwTos | Field::NwTtl => v4 || v6,
        Field::Ipv6Src | Field::Ipv6Dst | Field::Ipv6Label => v6,
        Field::TcpSrc | Field::TcpDst => (v4 || v6) && first && matches!(proto, 6 | 17 | 132),
        Field::NdTarget => nd && matches!(key.get(Field::Icmpv6Type), 135 | 136),
        Field::NdSll => nd && key.get(Field::Icmpv6Type) == 135 && key.get(field) != 0,
        Field::NdTll => {
            nd && key.get(Field::Icmpv6Type) == 136 && key.get(field) != 0 && key.get(Field::NdSll) == 0
        }
        Field::ArpOp | Field::ArpSha => dl_type == 0x0806 && key.get(Field::ArpOp) != 0,
        Field::MplsLabel | Field::MplsTtl => matches!(dl_type, 0x8847 | 0x8848),
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn extraction_takes_any_bytes(frame in frames(), port: u16) {
        let key = wire::extract(&frame, port);
        prop_assert_eq!(key.get(Field::InPort), u128::from(port));
        let seen = wire::lookup_key(&key);
        prop_assert_eq!(wire::lookup_key(&seen), seen);
    }

    #[test]
    fn the_layers_lie_inside_the_frame(frame in frames()) {
        if let Some(l3) = wire::l3(&frame) {
            prop_assert!(l3.offset + l3.total_len() <= frame.len());
            let held = &frame[l3.offset..l3.offset + l3.total_len()];
            prop_assert!(held.starts_with(l3.header) && held.ends_with(l3.payload));
            // None of these may panic either.
            let _ = (wire::l4_checksum_ok(&l3), wire::sctp_checksum_ok(&l3), wire::ipv4_header_checksum_ok(&l3));
            let _ = (wire::tcp(l3.payload), wire::udp(l3.payload), wire::sctp(l3.payload), wire::nd(l3.payload));
            if let Some(message) = wire::icmp(l3.payload) {
                let inner = wire::inner_l3(l3.version, message.body);
                prop_assert!(inner.total_len() <= message.body.len());
            }
        }
    }

    #[test]
    fn committing_nothing_changes_nothing(frame in frames()) {
        let key = wire::extract(&frame, 1);
        prop_assert_eq!(wire::commit(&frame, &key, &key), frame);
    }

    #[test]
    fn committing_takes_any_bytes_and_any_change(frame in frames(), which in 0..=WRITABLE.len(), value: u128) {
        let base = wire::extract(&frame, 1);
        let now = change(&base, which, value);
        let out = wire::commit(&frame, &base, &now);
        let grown = if which == WRITABLE.len() && base.get(Field::VlanTci) == 0 { 4 } else { 0 };
        prop_assert_eq!(out.len(), frame.len() + grown);
    }

    #[test]
    fn extract_after_commit_gives_the_changed_key(
        key in well_formed_keys(), opts in options(), which in 0..=WRITABLE.len(), value: u128,
    ) {
        let frame = compose(&key, &opts);
        let base = wire::extract(&frame, 0);
        let value = value | 1;
        if !WRITABLE.get(which).is_none_or(|field| has(&base, *field)) || base.get(Field::DlType) == 0x05ff {
            return Ok(());
        }
        // A tag in front of what was no tag for want of bytes makes one.
        if matches!(base.get(Field::DlType), 0x8100 | 0x88a8) {
            return Ok(());
        }
        let now = change(&base, which, value);
        let out = wire::commit(&frame, &base, &now);
        prop_assert_eq!(wire::extract(&out, 0), now);
    }

    #[test]
    fn commit_keeps_right_checksums_right_and_wrong_ones_wrong(
        key in well_formed_keys(), opts in options(), which in 0..WRITABLE.len(), value: u128,
        bad in prop::sample::select(vec![BadChecksum::None, BadChecksum::IpHeader, BadChecksum::Upper]),
    ) {
        let frame = compose(&key, &ComposeOptions { bad_checksum: bad, ..opts });
        let base = wire::extract(&frame, 0);
        if WRITABLE.get(which).is_none_or(|field| !has(&base, *field)) {
            return Ok(());
        }
        let out = wire::commit(&frame, &base, &change(&base, which, value));
        let verdict = |frame: &[u8]| {
            wire::l3(frame).map(|l3| {
                (wire::ipv4_header_checksum_ok(&l3), wire::l4_checksum_ok(&l3), wire::sctp_checksum_ok(&l3))
            })
        };
        prop_assert_eq!(verdict(&out), verdict(&frame));
    }

    #[test]
    fn an_absent_udp_checksum_stays_absent(key in well_formed_keys(), opts in options(), which in 0..WRITABLE.len(), value: u128) {
        let mut frame = compose(&key, &opts);
        let at = wire::l3(&frame).filter(|l3| l3.protocol == 17 && !l3.is_later_fragment()).map(|l3| l3.payload_offset());
        let Some(at) = at else { return Ok(()) };
        frame[at + 6..at + 8].fill(0);
        let base = wire::extract(&frame, 0);
        if has(&base, WRITABLE[which]) {
            let out = wire::commit(&frame, &base, &change(&base, which, value));
            prop_assert_eq!(&out[at + 6..at + 8], &[0, 0]);
        }
    }
}
