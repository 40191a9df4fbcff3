//! A battery of frames behind each proof: what is proved of what a VM sends, no frame may refute.
//!
//! The interpreter reads tables in other words than the engines do; where both are wrong alike a proof is wrong, but where only
//! one is, a frame shows it. Frames are aimed at the flows of the host, those of the port first, with the port's own addresses or
//! others; some are cut off, or have half a tag, or one too many. Invariants: the number of frames is that of the host, however
//! many ports it has; a proof that a frame refutes is a contradiction, never a verdict. Deliberately absent: sequences of packets,
//! fragments, and the rows that compare.
//!
//! Source of the numbers: SplitMix64 (Steele, Lea, Flood 2014).

use crate::{
    check::{Finding, Judgement, Task},
    diagram::Host,
    ports::Port,
    properties::{Judge, Property},
    replay::{Aim, Case, Sent, Stage, violates},
    symkey::Form,
};
use flowproof_packet::{
    Field, FlowKey, Origin, PortNo,
    build::{ComposeOptions, compose},
    wire,
};
use flowproof_switch::{conntrack::Profile, flow::Flow, table::TieBreak};
use std::collections::BTreeMap;

/// Frames behind the proofs of a host, unless somebody wants another number.
pub const USUAL: usize = 4000;

/// Bytes of an Ethernet header, which every frame has.
const HEADER: usize = 14;

/// Numbers that a seed determines.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        ((self.next() >> 11) % bound.max(1) as u64) as usize
    }

    fn pick<'p, T>(&mut self, pool: &'p [T]) -> Option<&'p T> {
        pool.get(self.below(pool.len()))
    }
}

/// The flows of a host, those of each port at hand.
struct Aims<'a> {
    all: Vec<&'a Flow>,
    of: BTreeMap<PortNo, Vec<&'a Flow>>,
}

impl<'a> Aims<'a> {
    fn new(host: &'a Host) -> Self {
        let mut of: BTreeMap<PortNo, Vec<&Flow>> = BTreeMap::new();
        for flow in host.tables.flows() {
            let named =
                [Field::InPort, Field::Reg5].into_iter().filter_map(|field| flow.matching.exact(field));
            for port in named.filter_map(|port| PortNo::try_from(port).ok()) {
                of.entry(port).or_default().push(flow);
            }
        }
        Self { all: host.tables.flows().iter().collect(), of }
    }

    fn draw(&self, numbers: &mut Numbers, port: PortNo) -> Option<&'a Flow> {
        let own = self.of.get(&port).filter(|_| numbers.below(4) > 0);
        numbers.pick(own.unwrap_or(&self.all)).copied()
    }
}

/// The port's own addresses, as far as it has some.
fn own_addresses(numbers: &mut Numbers, key: &mut FlowKey, port: &Port) {
    let macs: Vec<u128> = port.macs.iter().map(|mac| mac.to_bits().into()).collect();
    let pairs4: Vec<_> = port.pairs4.iter().collect();
    let pairs6: Vec<_> = port.pairs6.iter().collect();
    if let Some(mac) = numbers.pick(&macs) {
        key.set(Field::DlSrc, *mac);
        key.set(Field::ArpSha, *mac);
    }
    if let Some(pair) = numbers.pick(&pairs4) {
        key.set(Field::DlSrc, pair.mac.to_bits().into());
        key.set(Field::NwSrc, pair.address);
    }
    if let Some(pair) = numbers.pick(&pairs6) {
        key.set(Field::Ipv6Src, pair.address);
    }
}

/// A frame for a port: kind and addresses at random, over them what one or two flows ask for.
fn frame(numbers: &mut Numbers, aims: &Aims<'_>, port: &Port) -> Vec<u8> {
    const TYPES: [u128; 8] = [0x800, 0x86dd, 0x806, 0x800, 0x86dd, 0x8035, 0x894f, 0x9000];
    const PROTOCOLS: [u128; 6] = [6, 17, 1, 58, 132, 2];
    const NUMBERS: [u128; 12] = [67, 68, 546, 547, 134, 135, 136, 137, 80, 8, 128, 0];
    const STRANGER: u128 = 0x0200_0000_0099;
    let mut key = FlowKey::default();
    let mut put = |key: &mut FlowKey, field, pool: &[u128]| {
        key.set(field, numbers.pick(pool).copied().unwrap_or_default());
    };
    put(&mut key, Field::DlType, &TYPES);
    put(&mut key, Field::NwProto, &PROTOCOLS);
    put(&mut key, Field::TcpSrc, &NUMBERS);
    put(&mut key, Field::TcpDst, &NUMBERS);
    put(&mut key, Field::VlanTci, &[0, 0, 0, 0x1000, 0x1001, 0x3005]);
    put(&mut key, Field::DlDst, &[0xffff_ffff_ffff, STRANGER, 0x0100_5e00_0001]);
    key.set(Field::DlSrc, STRANGER);
    key.set(Field::ArpOp, 1);
    key.set(Field::NwTtl, 64);
    if numbers.below(4) > 0 {
        own_addresses(numbers, &mut key, port);
    }
    for _ in 0..1 + numbers.below(2) {
        let Some(flow) = aims.draw(numbers, port.ofport) else { continue };
        let of_frame = |field: &Field| field.spec().is_slot_owner() && field.spec().origin == Origin::Frame;
        for field in Field::all().filter(of_frame).filter(|field| *field != Field::NwFrag) {
            let (value, mask) = flow.matching.get(field);
            key.set_masked(field, value, mask);
        }
    }
    if numbers.below(3) == 0 {
        let fields =
            [Field::DlSrc, Field::NwSrc, Field::Ipv6Src, Field::ArpSha, Field::NdTarget, Field::NdSll];
        if let Some(field) = numbers.pick(&fields) {
            key.set(*field, key.get(*field) ^ 1 << numbers.below(16));
        }
    }
    if key.get(Field::VlanTci) & 0x1000 == 0 {
        key.set(Field::VlanTci, 0);
    }
    key.set(Field::NwFrag, 0);
    broken(numbers, compose(&key, &ComposeOptions::default()))
}

/// One in four is cut off, or has half a tag, or a tag more.
fn broken(numbers: &mut Numbers, mut frame: Vec<u8>) -> Vec<u8> {
    match numbers.below(12) {
        0 => frame.truncate(HEADER + numbers.below(frame.len().saturating_sub(HEADER) + 1)),
        1 => {
            frame.splice(12..12, [0x81, 0, 0, 5]);
            frame.truncate(HEADER + 2 * numbers.below(2));
        }
        2 => drop(frame.splice(12..12, [0x81, 0, 0, numbers.below(6) as u8])),
        _ => {}
    }
    frame
}

/// Whether a frame alone shows that a property does not hold.
fn is_of_frames(property: &Property) -> bool {
    property.forms.contains(&Form::Whole) && !matches!(property.judge, Judge::FragmentsLikeWholes)
}

/// Makes a contradiction of what is proved and the frame refutes.
fn refute(case: &Case<'_>, one: &[Sent], finding: &mut Finding) {
    let Some(sent) = one.first().filter(|_| matches!(finding.judgement, Judgement::Proved(_))) else {
        return;
    };
    if violates(case, one, &sent.frame, None) {
        let hex: String = sent.frame.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!("proved, and a frame of the battery violates it: hex {} {hex}", sent.in_port);
        finding.judgement = Judgement::Contradiction(text);
    }
}

/// Sends about so many frames, over all ports and datapaths of which something is proved; what a frame refutes becomes a
/// contradiction. How many were sent.
pub fn hold(task: &Task<'_>, findings: &mut [Finding], frames: usize) -> usize {
    let mut proved: BTreeMap<(usize, Profile), Vec<usize>> = BTreeMap::new();
    for (at, finding) in findings.iter().enumerate() {
        if matches!(finding.judgement, Judgement::Proved(_)) && is_of_frames(finding.property) {
            proved.entry((finding.port, finding.profile)).or_default().push(at);
        }
    }
    if proved.is_empty() || frames == 0 {
        return 0;
    }
    let (aims, stage) = (Aims::new(task.host), Stage::default());
    let each = (frames / proved.len()).max(1);
    // Where there are more ports than frames, so many of them, evenly.
    let stride = proved.len().div_ceil(frames);
    let mut sent = 0;
    for ((port, profile), claims) in proved.into_iter().step_by(stride) {
        let Some(sender) = task.ports.get(port).copied() else { continue };
        let mut numbers = Numbers(u64::from(sender.ofport) << 8 | profile as u64);
        let mut switch = stage.switch(task.host, sender, None, (profile, TieBreak::First));
        for _ in 0..each {
            let frame = frame(&mut numbers, &aims, sender);
            let outcome = switch.receive(sender.ofport, &frame);
            sent += 1;
            if outcome.is_opaque() || wire::extract(&frame, 0).get(Field::NwFrag) != 0 {
                continue;
            }
            let one = [Sent { in_port: sender.ofport, frame, beside: None, outcome }];
            for at in &claims {
                let Some(finding) = findings.get_mut(*at) else { continue };
                let (host, property) = (task.host, finding.property);
                let case = Case { host, port: sender, property, profile, aim: Aim::Violates, stage: &stage };
                refute(&case, &one, finding);
            }
        }
    }
    sent
}
