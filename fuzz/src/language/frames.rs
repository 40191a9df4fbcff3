//! Frames, bytes first: layer on layer, with lengths that lie, then cut off or broken anywhere.
//!
//! Values are those of the pools that flows have theirs from, or what some flows ask for. Invariant: a frame has at least
//! an Ethernet header, and no drop-eligible bit in its first tag. Deliberately absent: sequences of packets.

use super::fields::{MACS, NUMBERS, PORTS, PROTOCOLS, TYPES, V4, V6};
use crate::Choices;
use flowproof_packet::{
    Field, FlowKey, PortNo,
    build::{BadChecksum, ComposeOptions, FragmentExtension, FragmentOptions, compose, fragment_with},
    wire,
};
use flowproof_switch::flow::{Action, Flow};

/// Bytes of an Ethernet header, which every frame has.
const HEADER: usize = 14;

fn low<const N: usize>(value: u128) -> [u8; N] {
    value.to_be_bytes().last_chunk().copied().unwrap_or([0; N])
}

/// What a frame should have, as far as it can: the headers that some flows ask for, over values of the pools.
pub fn key(choices: &mut Choices<'_>, flows: &[Flow]) -> (FlowKey, PortNo) {
    let mut key = FlowKey::default();
    let mut in_port = *choices.pick(&PORTS) as PortNo;
    key.set(Field::DlSrc, *choices.pick(&MACS));
    key.set(Field::DlDst, *choices.pick(&MACS));
    key.set(Field::DlType, *choices.pick(&TYPES));
    if choices.chance(35) {
        key.set(Field::VlanTci, 0x1000 | *choices.pick(&[0, 1, 5, 0x6005, 0xfff]));
    }
    pools(choices, &mut key);
    for _ in 0..1 + choices.below(2) {
        let Some(flow) = aimed(choices, flows) else { continue };
        for field in
            Field::all().filter(|field| field.spec().is_slot_owner() && flow.matching.looks_at(*field))
        {
            let (value, mask) = flow.matching.get(field);
            let value = if choices.chance(4) { value ^ 1 << choices.below(8) } else { value };
            key.set_masked(field, value, mask);
        }
        if let Some(port) = flow.matching.exact(Field::InPort) {
            in_port = port as PortNo;
        }
    }
    if key.get(Field::VlanTci) & 0x1000 == 0 {
        key.set(Field::VlanTci, 0);
    } else {
        key.set(Field::VlanTpid, *choices.pick(&[0x8100, 0x8100, 0x88a8]));
    }
    let known = PORTS.iter().any(|port| *port == u128::from(in_port)) && in_port != 7;
    (key, if known { in_port } else { 1 })
}

/// A flow to aim at: mostly one that frames come to first.
fn aimed<'f>(choices: &mut Choices<'_>, flows: &'f [Flow]) -> Option<&'f Flow> {
    let first: Vec<&Flow> = flows.iter().filter(|flow| flow.table == 0).collect();
    let clauses = |flow: &&Flow| matches!(flow.actions.first(), Some(Action::Conjunction(_)));
    let soft: Vec<&Flow> = flows.iter().filter(clauses).collect();
    if !soft.is_empty() && choices.chance(35) {
        return Some(*choices.pick(&soft));
    }
    if !first.is_empty() && choices.chance(55) {
        return Some(*choices.pick(&first));
    }
    if flows.is_empty() { None } else { Some(choices.pick(flows)) }
}

fn pools(choices: &mut Choices<'_>, key: &mut FlowKey) {
    let rows: [(Field, &[u128]); 17] = [
        (Field::NwSrc, &V4),
        (Field::NwDst, &V4),
        (Field::Ipv6Src, &V6),
        (Field::Ipv6Dst, &V6),
        (Field::NwProto, &PROTOCOLS),
        (Field::TcpSrc, &NUMBERS),
        (Field::TcpDst, &NUMBERS),
        (Field::ArpSha, &MACS),
        (Field::ArpTha, &MACS),
        (Field::NdTarget, &V6),
        (Field::NwTtl, &[64, 64, 1, 0, 255]),
        (Field::TcpFlags, &[2, 0x12, 0x10, 0x11]),
        (Field::MplsLabel, &[1, 2, 3, 0]),
        (Field::MplsTtl, &[64, 1, 0]),
        (Field::NwTos, &[0, 4, 0xb9]),
        (Field::Ipv6Label, &[0, 1, 0xfffff]),
        (Field::NshSpi, &[1, 2, 3]),
    ];
    for (field, pool) in rows {
        key.set(field, *choices.pick(pool));
    }
    key.set(Field::MplsBos, u128::from(choices.chance(60)));
    for field in [Field::NshSi, Field::NshC1, Field::NshC2, Field::NshNp] {
        key.set(field, 1 + choices.below(3) as u128);
    }
    key.set(Field::NshMdtype, 1 + u128::from(choices.chance(25)));
    key.set(Field::NshTtl, 63);
    if matches!(key.get(Field::DlType), 0x806 | 0x8035) {
        key.set(Field::NwProto, *choices.pick(&[1, 2, 1, 2, 0, 9]));
    }
    if choices.chance(50) {
        let icmp = if key.get(Field::DlType) == 0x86dd { 58 } else { 1 };
        if key.get(Field::NwProto) == icmp {
            key.set(Field::TcpSrc, *choices.pick(&[8, 0, 128, 129, 135, 136, 3, 1, 11, 134]));
            key.set(Field::TcpDst, *choices.pick(&[0, 0, 0, 1]));
        }
    }
}

/// What a frame of this key would be on the wire, in one of several ways; fragments seldom.
pub fn bytes(choices: &mut Choices<'_>, key: &FlowKey, fragments: bool) -> Vec<u8> {
    let mut key = key.clone();
    // What is a fragment is one because its key says so.
    if !fragments {
        key.set(Field::NwFrag, 0);
    }
    let mut frame =
        if choices.chance(60) { composed(choices, &key) } else { layered(choices, &key, fragments) };
    if choices.chance(35) {
        damage(choices, &mut frame);
    }
    finish(frame)
}

/// At least an Ethernet header, nothing of ours, and no drop-eligible bit where a flood would lose it.
fn finish(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(frame.len().max(HEADER), 0);
    let outer = frame
        .get(12..14)
        .map(|at| u16::from_be_bytes([at.first().copied().unwrap_or(0), at.get(1).copied().unwrap_or(0)]));
    if matches!(outer, Some(0x8100 | 0x88a8)) {
        frame.iter_mut().skip(14).take(1).for_each(|byte| *byte &= !0x10);
    }
    // The type of the harness's own sentinel.
    if outer == Some(0x88b5) {
        frame.iter_mut().skip(13).take(1).for_each(|byte| *byte = 0xb6);
    }
    frame
}

fn composed(choices: &mut Choices<'_>, key: &FlowKey) -> Vec<u8> {
    let bad = match choices.below(12) {
        0 => BadChecksum::IpHeader,
        1 => BadChecksum::Upper,
        _ => BadChecksum::None,
    };
    let options = ComposeOptions {
        payload_len: choices.below(24),
        min_frame_len: *choices.pick(&[60, 0, 0, 64]),
        bad_checksum: bad,
        icmp_id: 1 + choices.below(2) as u16,
        fragment_offset: *choices.pick(&[8, 16, 1480]),
        more_fragments: choices.chance(50),
        ..ComposeOptions::default()
    };
    compose(key, &options)
}

/// The frame of a datagram as one fragment of it: the first or the second, with the datagram.
pub fn fragment(choices: &mut Choices<'_>, key: &FlowKey, later: bool) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut key = key.clone();
    key.set(Field::NwFrag, 0);
    let whole = compose(&key, &ComposeOptions { payload_len: 1600, ..ComposeOptions::default() });
    let extension = match choices.below(4) {
        0 => Some(FragmentExtension::DestinationOptions),
        1 => Some(FragmentExtension::Routing),
        _ => None,
    };
    let two = |first| fragment_with(&whole, &FragmentOptions { extension, ..FragmentOptions::two(first) });
    let mut parts = [1400, 24, 8].into_iter().find_map(two)?;
    let at = usize::from(later);
    (at < parts.len()).then(|| (finish(whole.clone()), finish(parts.swap_remove(at))))
}

/// Layers by hand, with what senders may get wrong.
fn layered(choices: &mut Choices<'_>, key: &FlowKey, fragments: bool) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(low::<6>(key.get(Field::DlDst)));
    frame.extend(low::<6>(key.get(Field::DlSrc)));
    let tci = key.get(Field::VlanTci);
    let tags = if tci == 0 { 0 } else { 1 + [0, 0, 1, 2].get(choices.below(4)).copied().unwrap_or(0) };
    for tag in 0..tags {
        frame.extend(low::<2>(*choices.pick(&[0x8100, 0x8100, 0x88a8, 0x9100])));
        let bits = if tag == 0 { tci & 0xefff } else { *choices.pick(&[0, 5, 1, 0x6003]) };
        frame.extend(low::<2>(bits));
    }
    let dl_type = key.get(Field::DlType) as u16;
    if dl_type == 0x05ff || choices.chance(3) {
        return llc(choices, frame, key, dl_type);
    }
    frame.extend(dl_type.to_be_bytes());
    let body = body(choices, key, dl_type, fragments);
    frame.extend(body);
    if choices.chance(40) {
        frame.resize(frame.len().max(60), 0);
    }
    frame
}

/// A length instead of a type; LLC, or SNAP with a type inside.
fn llc(choices: &mut Choices<'_>, mut frame: Vec<u8>, key: &FlowKey, dl_type: u16) -> Vec<u8> {
    let inner =
        if dl_type == 0x05ff { *choices.pick(&[0x800u16, 0x806, 0x86dd, 0x05ff, 3]) } else { dl_type };
    let body = body(choices, key, inner, false);
    let mut payload = match choices.below(4) {
        0 => vec![0x42, 0x42, 0x03],
        1 => vec![0xaa, 0xaa, 0x03, 0, 0, 1],
        _ => vec![0xaa, 0xaa, 0x03, 0, 0, 0],
    };
    if payload.len() == 6 {
        payload.extend(inner.to_be_bytes());
    }
    payload.extend(body);
    let length = if choices.chance(80) { payload.len().min(1500) } else { choices.below(1536) };
    frame.extend((length as u16).to_be_bytes());
    frame.extend(payload);
    frame
}

fn body(choices: &mut Choices<'_>, key: &FlowKey, dl_type: u16, fragments: bool) -> Vec<u8> {
    match dl_type {
        0x800 => ipv4(choices, key, fragments),
        0x86dd => ipv6(choices, key, fragments),
        0x806 | 0x8035 => arp(choices, key),
        0x8847 | 0x8848 => mpls(choices, key),
        0x894f => nsh(choices, key),
        _ => choices.blob(40),
    }
}

fn arp(choices: &mut Choices<'_>, key: &FlowKey) -> Vec<u8> {
    let (hardware, protocol) =
        (*choices.pick(&[1u16, 1, 1, 6]), *choices.pick(&[0x800u16, 0x800, 0x800, 0x86dd]));
    let lengths = *choices.pick(&[[6u8, 4], [6, 4], [6, 4], [8, 4], [6, 16], [0, 0]]);
    let mut out = [hardware.to_be_bytes(), protocol.to_be_bytes()].concat();
    out.extend(lengths);
    let op = key.get(Field::ArpOp) as u16 | if choices.chance(5) { 0x100 } else { 0 };
    out.extend(op.to_be_bytes());
    out.extend(low::<6>(key.get(Field::ArpSha)));
    out.extend(low::<4>(key.get(Field::ArpSpa)));
    out.extend(low::<6>(key.get(Field::ArpTha)));
    out.extend(low::<4>(key.get(Field::ArpTpa)));
    out
}

fn mpls(choices: &mut Choices<'_>, key: &FlowKey) -> Vec<u8> {
    let mut out = Vec::new();
    let depth = 1 + choices.below(4);
    for at in 1..=depth {
        let bottom = if at == depth { key.get(Field::MplsBos) } else { 0 };
        let label = if at == 1 { key.get(Field::MplsLabel) } else { 7 };
        let entry = label << 12 | key.get(Field::MplsTc) << 9 | bottom << 8 | key.get(Field::MplsTtl);
        out.extend(low::<4>(entry));
    }
    out.extend(ipv4(choices, key, false));
    out
}

fn nsh(choices: &mut Choices<'_>, key: &FlowKey) -> Vec<u8> {
    let md1 = key.get(Field::NshMdtype) == 1;
    let length = if choices.chance(85) { if md1 { 6 } else { 2 } } else { choices.below(8) as u128 };
    let first = key.get(Field::NshFlags) << 28 | key.get(Field::NshTtl) << 22 | length << 16;
    let mut out = low::<4>(first | key.get(Field::NshMdtype) << 8 | key.get(Field::NshNp)).to_vec();
    out.extend(low::<4>(key.get(Field::NshSpi) << 8 | key.get(Field::NshSi)));
    if md1 {
        for field in [Field::NshC1, Field::NshC2, Field::NshC3, Field::NshC4] {
            out.extend(low::<4>(key.get(field)));
        }
    }
    out.extend(choices.blob(30));
    out
}

/// The upper layer, cut or not, with checksums that are wrong more often than not: `compose` has right ones.
fn upper(choices: &mut Choices<'_>, key: &FlowKey, protocol: u8, v6: bool) -> Vec<u8> {
    let (src, dst) = (low::<2>(key.get(Field::TcpSrc)), low::<2>(key.get(Field::TcpDst)));
    let mut out = Vec::new();
    match protocol {
        6 => {
            out.extend(src);
            out.extend(dst);
            out.extend([0, 0, 0, 1, 0, 0, 0, 0]);
            let offset = *choices.pick(&[5u16, 5, 5, 8, 15, 0]);
            out.extend((offset << 12 | key.get(Field::TcpFlags) as u16).to_be_bytes());
            out.extend([0xff, 0xff, 0, 0, 0, 0]);
            out.extend(choices.blob(24));
        }
        17 => {
            out.extend(src);
            out.extend(dst);
            let length = *choices.pick(&[8u16, 8, 12, 0, 7]);
            out.extend(length.to_be_bytes());
            out.extend([0, 0]);
            out.extend(choices.blob(16));
        }
        132 => {
            out.extend(src);
            out.extend(dst);
            out.extend([0; 8]);
            out.extend(choices.blob(12));
        }
        1 | 58 => {
            out.extend([key.get(Field::TcpSrc) as u8, key.get(Field::TcpDst) as u8, 0, 0]);
            out.extend([0, 0, 0, 0]);
            if v6 && matches!(key.get(Field::TcpSrc) & 0xff, 135 | 136) {
                out.extend(key.get(Field::NdTarget).to_be_bytes());
                for _ in 0..choices.below(3) {
                    out.extend([1 + choices.below(3) as u8, *choices.pick(&[1, 1, 1, 0, 2])]);
                    out.extend(low::<6>(key.get(Field::ArpSha)));
                }
            } else if choices.chance(40) {
                // An error that quotes a packet the other way.
                let mut quoted = if v6 {
                    vec![0x60, 0, 0, 0, 0, 8, 17, 64]
                } else {
                    vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0]
                };
                let (a, b) = if v6 { (Field::Ipv6Dst, Field::Ipv6Src) } else { (Field::NwDst, Field::NwSrc) };
                for field in [a, b] {
                    let bytes = key.get(field).to_be_bytes();
                    quoted.extend(bytes.iter().skip(if v6 { 0 } else { 12 }));
                }
                quoted.extend([0, 81, 0, 80, 0, 8, 0, 0]);
                out.extend(quoted);
            } else {
                out.extend(choices.blob(12));
            }
        }
        _ => out.extend(choices.blob(24)),
    }
    out
}

fn ipv4(choices: &mut Choices<'_>, key: &FlowKey, fragments: bool) -> Vec<u8> {
    let protocol = key.get(Field::NwProto) as u8;
    let upper = upper(choices, key, protocol, false);
    let options = 4 * [0, 0, 0, 1, 3, 10].get(choices.below(6)).copied().unwrap_or(0usize);
    let header = 20 + options;
    let words = if choices.chance(92) { (header / 4) as u8 } else { choices.below(16) as u8 };
    let version = if choices.chance(97) { 4 } else { choices.below(16) as u8 };
    let length = match choices.below(14) {
        0 => choices.below(80),
        1 => header,
        2 => header + upper.len() + 4,
        _ => header + upper.len(),
    };
    let fragment = if fragments {
        *choices.pick(&[0x2000u16, 0x0001, 0x2001, 0x0100])
    } else {
        *choices.pick(&[0, 0, 0x4000, 0x8000])
    };
    let mut out = vec![version << 4 | words, key.get(Field::NwTos) as u8];
    out.extend((length as u16).to_be_bytes());
    out.extend([0, 1]);
    out.extend(fragment.to_be_bytes());
    out.extend([key.get(Field::NwTtl) as u8, protocol, 0, 0]);
    out.extend(low::<4>(key.get(Field::NwSrc)));
    out.extend(low::<4>(key.get(Field::NwDst)));
    out.extend(std::iter::repeat_n(1, options));
    let sum = sum(&out);
    out.iter_mut().skip(10).zip(sum.to_be_bytes()).for_each(|(at, byte)| *at = byte);
    out.extend(upper);
    out
}

/// The internet checksum (RFC 1071).
fn sum(header: &[u8]) -> u16 {
    let words = header.chunks(2).map(|pair| {
        let byte = |at: usize| u32::from(pair.get(at).copied().unwrap_or(0));
        byte(0) << 8 | byte(1)
    });
    let mut total: u32 = words.sum();
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

fn ipv6(choices: &mut Choices<'_>, key: &FlowKey, fragments: bool) -> Vec<u8> {
    let protocol = key.get(Field::NwProto) as u8;
    let mut kinds: Vec<u8> = (0..choices.below(3)).map(|_| *choices.pick(&[0u8, 43, 60, 51, 135])).collect();
    if fragments {
        kinds.push(44);
    }
    let mut chain = Vec::new();
    for at in 0..kinds.len() {
        let next = kinds.get(at + 1).copied().unwrap_or(protocol);
        match kinds.get(at) {
            Some(44) => {
                chain.extend([next, 0]);
                chain.extend(choices.pick(&[1u16, 8, 9, 0]).to_be_bytes());
                chain.extend([0, 0, 0, 1]);
            }
            _ => {
                let words = if choices.chance(90) { 0 } else { choices.below(4) as u8 };
                chain.extend([next, words, 1, 4, 0, 0, 0, 0]);
            }
        }
    }
    let upper = upper(choices, key, protocol, true);
    let body = chain.len() + upper.len();
    let length = match choices.below(14) {
        0 => choices.below(60),
        1 => body + 4,
        2 => 0,
        _ => body,
    };
    let first = 6 << 28 | key.get(Field::NwTos) << 20 | key.get(Field::Ipv6Label);
    let mut out = low::<4>(first).to_vec();
    out.extend((length as u16).to_be_bytes());
    out.extend([kinds.first().copied().unwrap_or(protocol), key.get(Field::NwTtl) as u8]);
    out.extend(key.get(Field::Ipv6Src).to_be_bytes());
    out.extend(key.get(Field::Ipv6Dst).to_be_bytes());
    out.extend(chain);
    out.extend(upper);
    out
}

/// Breaks bytes: cut off anywhere behind the addresses, longer, a tag more, half a tag, other bytes.
fn damage(choices: &mut Choices<'_>, frame: &mut Vec<u8>) {
    match choices.below(8) {
        0..3 => frame.truncate(HEADER + choices.below(frame.len().saturating_sub(HEADER) + 1)),
        3 => frame.extend(choices.blob(20)),
        4 => {
            let tag = [0x81, 0x00, 0x00, choices.below(6) as u8];
            frame.splice(12..12, tag);
        }
        5 => {
            frame.truncate(12);
            frame.extend([*choices.pick(&[0x81, 0x88]), 0, 0, 5]);
            frame.iter_mut().skip(12).take(2).filter(|byte| **byte == 0x88).for_each(|_| {});
            frame.truncate(14 + choices.below(3));
        }
        _ => {
            for _ in 0..1 + choices.below(2) {
                let at = 12 + choices.below(frame.len().min(90).saturating_sub(12));
                let bit = 1u8 << choices.below(8);
                if let Some(byte) = frame.get_mut(at) {
                    *byte ^= bit;
                }
            }
        }
    }
}

/// Whether a frame is a fragment, and a later one.
#[must_use]
pub fn fragmented(frame: &[u8]) -> (bool, bool) {
    let frag = wire::extract(frame, 0).get(Field::NwFrag);
    (frag & 1 != 0, frag & 2 != 0)
}
