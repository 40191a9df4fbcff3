//! Trains of fragments that repeat, overlap and interleave, through several `ct()` of one pass and of several.
//!
//! The other suites send fragments now and then; here nothing else is sent.

use super::{
    Budget, Findings,
    rng::Rng,
    scenario::{Pair, Step, Verdict},
    stateful,
    world::{self, World},
};
use flowproof_ovs::RealSwitch;
use flowproof_packet::{
    Field, FlowKey,
    build::{BadChecksum, ComposeOptions, FragmentOptions, compose, fragment_with},
    wire::{FRAG_ANY, FRAG_LATER, ethertype, proto},
};
use std::sync::Arc;

/// What the tables do with fragments, one of these each; `IP` stands for both versions.
const PIPELINES: [&str; 10] = [
    "IP actions=ct(zone=1),ct(zone=3),output:2",
    "IP actions=ct(zone=1),ct(zone=1),output:2",
    "IP actions=ct(zone=1),ct(table=1,zone=3),output:3\ntable=1 actions=output:2",
    "IP actions=ct(table=1,zone=1)\ntable=1,IP actions=ct(table=2,zone=1)\ntable=2 actions=output:2",
    "IP,in_port=1 actions=ct(zone=3),output:2\nIP,in_port=2 actions=ct(zone=1),ct(zone=3),output:1",
    "IP actions=ct(commit,zone=1),ct(table=1,zone=1)\ntable=1,ct_state=+inv actions=output:3\ntable=1,priority=1 actions=output:2",
    "IP,nw_frag=first actions=ct(table=1,zone=1)\nIP,nw_frag=later actions=ct(zone=1),ct(table=1,zone=3)\ntable=1 actions=output:2",
    "IP,in_port=1 actions=ct(table=1,zone=1)\nIP,in_port=2 actions=ct(table=2,zone=1)\ntable=1 actions=output:2\ntable=2 actions=output:1",
    "IP actions=ct(table=1,zone=1),ct(table=2,zone=1)\ntable=1,IP actions=ct(table=2,zone=3)\ntable=2 actions=output:2",
    "IP actions=ct(zone=1),ct_clear,ct(table=1,zone=1)\ntable=1,ct_state=+trk,IP actions=ct(zone=3),ct_clear,ct(zone=1),output:2\ntable=1,priority=1 actions=output:3",
];

fn text(pipeline: &str) -> String {
    let both = |line: &str| {
        let versions = if line.contains("IP") { vec!["ip", "ipv6"] } else { vec![""] };
        versions.into_iter().map(|version| line.replace("IP", version)).collect::<Vec<_>>()
    };
    pipeline.lines().flat_map(both).collect::<Vec<_>>().join("\n")
}

/// The datagrams' common header.
fn header(v6: bool) -> FlowKey {
    let mut key = FlowKey::default();
    key.set(Field::DlSrc, 0x0200_0000_0001);
    key.set(Field::DlDst, 0x0200_0000_0002);
    let (dl_type, src, dst) = if v6 {
        (ethertype::IPV6, (Field::Ipv6Src, 0xfd00 << 112 | 1), (Field::Ipv6Dst, 0xfd00 << 112 | 2))
    } else {
        (ethertype::IPV4, (Field::NwSrc, 0x0a00_0001), (Field::NwDst, 0x0a00_0002))
    };
    key.set(Field::DlType, u128::from(dl_type));
    key.set(src.0, src.1);
    key.set(dst.0, dst.1);
    key.set(Field::NwProto, u128::from(proto::UDP));
    key.set(Field::NwTtl, 64);
    key.set(Field::UdpSrc, 5);
    key.set(Field::UdpDst, 6);
    key
}

/// A whole train, in any order, perhaps not all of it.
fn train(v6: bool, id: u32, rng: &mut Rng) -> Vec<Vec<u8>> {
    let bad_checksum = if rng.chance(10) { BadChecksum::Upper } else { BadChecksum::None };
    let payload_len = *rng.pick(&[1800, 2900, 4000, 4800]);
    let whole =
        compose(&header(v6), &ComposeOptions { payload_len, id, bad_checksum, ..ComposeOptions::default() });
    let first = *rng.pick(&[1232, 1240, 1280, 1480, 2000]);
    let options = FragmentOptions { id, next_payload: Some(1280), ..FragmentOptions::two(first) };
    let mut pieces = fragment_with(&whole, &options).unwrap_or_default();
    for last in (1..pieces.len()).rev() {
        if rng.chance(50) {
            pieces.swap(last, rng.below(last + 1));
        }
    }
    pieces
}

/// A piece that fits nothing.
fn piece(v6: bool, id: u32, rng: &mut Rng) -> Vec<u8> {
    let mut key = header(v6);
    let later = rng.chance(80);
    key.set(Field::NwFrag, u128::from(FRAG_ANY | if later { FRAG_LATER } else { 0 }));
    let options = ComposeOptions {
        id,
        payload_len: *rng.pick(&[8, 640, 1232, 1280, 1280, 1288, 2560]),
        fragment_offset: 8 * *rng.pick(&[1, 80, 154, 155, 160, 161, 185, 250, 314, 315, 320]),
        more_fragments: rng.chance(60),
        ..ComposeOptions::default()
    };
    compose(&key, &options)
}

fn steps(rng: &mut Rng) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut patience = stateful::FRAGMENT_PATIENCE;
    while steps.len() < 24 {
        let (v6, id, port) = (rng.chance(60), 1 + rng.below(2) as u32, 1 + rng.below(2) as u16);
        match rng.below(20) {
            0..8 => {
                let mut frames = train(v6, id, rng);
                if rng.chance(30) {
                    frames.truncate(2);
                }
                if rng.chance(30) {
                    frames.insert(rng.below(frames.len() + 1), piece(v6, id, rng));
                }
                steps.extend(frames.into_iter().map(|frame| Step::Frame(port, frame)));
            }
            8..14 => steps.push(Step::Frame(port, piece(v6, id, rng))),
            14..16 => {
                // A frame; another wait would be one too many.
                if let Some(again @ Step::Frame(..)) = steps.get(rng.below(steps.len().max(1))) {
                    steps.push(again.clone());
                }
            }
            16 => steps.push(Step::Frame(port, compose(&header(v6), &ComposeOptions::default()))),
            _ => {
                let time = *rng.pick(&[7, 2_700, 7_700, 15_700]);
                if time <= patience {
                    patience -= time;
                    steps.push(Step::Wait(time));
                }
            }
        }
    }
    steps
}

/// Compares about `count` frames in one world.
fn compare(
    real: RealSwitch,
    world: &World,
    rng: &mut Rng,
    count: usize,
    findings: &mut Findings,
) -> RealSwitch {
    let mut pair = Pair::new(world, real);
    while findings.compared < count && findings.shown.len() < Findings::SHOWN {
        pair.reset();
        let steps = steps(rng);
        for (at, step) in steps.iter().enumerate() {
            match pair.step(step, false).unwrap() {
                Verdict::Same => findings.count(usize::from(matches!(step, Step::Frame(..)))),
                Verdict::Open => break,
                Verdict::Different { ours, theirs } => {
                    stateful::report(world, &steps[..=at], &ours, &theirs, findings);
                    pair = Pair::new(world, super::start(world).unwrap());
                    break;
                }
            }
        }
        pair.drain();
    }
    pair.real
}

#[test]
fn trains_of_fragments_leave_as_they_leave_the_real_switch() {
    let mut budget = Budget::of("fragments", 2000);
    if budget.soak {
        // Trains are slow: nearly every scenario is drained.
        budget.count /= 20;
    }
    let worlds: Vec<Arc<World>> =
        PIPELINES.iter().map(|pipeline| Arc::new(world::given(&text(pipeline)))).collect();
    let world = |round: usize, _: &mut Rng| Arc::clone(&worlds[round % worlds.len()]);
    super::in_rounds(&budget, "fragments", 200, world, compare);
}

/// A switch's cleaner drops what has waited for 25 seconds, when it comes by: no comparison may depend on it.
#[test]
fn no_scenario_waits_for_the_cleaner_of_fragments() {
    for seed in 0..2000 {
        let waited = |step: &Step| if let Step::Wait(ms) = step { *ms } else { 0 };
        let total: u64 = steps(&mut Rng::new(seed)).iter().map(waited).sum();
        assert!(total <= stateful::FRAGMENT_PATIENCE, "seed {seed}: {total} ms");
    }
}
