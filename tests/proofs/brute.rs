//! The third engine against the other two: every packet of small spaces, in every state, one after the other.
//!
//! What disagrees is written down: the tables, the packet and the seed, in the directory for tests' files.

use super::{
    hosts::{self, CORPUS, SEED},
    rng::Rng,
};
use flowproof_fuzz::oracles::{self, Scale, Tally};
use flowproof_proofs::{diagram::Host, properties};
use flowproof_switch::conntrack::Profile;

/// Random tables; `FLOWPROOF_ROUNDS` is another number of them, and then more packets of each.
const TABLES: usize = 200;
const SMALL: Scale = Scale { spaces: 2, bits: 3 };
const LARGE: Scale = Scale { spaces: 3, bits: 6 };

/// How many tables, and how much of each.
fn rounds() -> (usize, Scale) {
    std::env::var("FLOWPROOF_ROUNDS").map_or((TABLES, SMALL), |rounds| (rounds.parse().unwrap(), LARGE))
}

fn sum(into: &mut Tally, more: Tally) {
    into.packets += more.packets;
    into.violations += more.violations;
    into.asked += more.asked;
}

/// Fails with a reproducer, of which a file is kept.
#[track_caller]
fn agreed(what: &str, told: Result<Tally, oracles::Objection>) -> Tally {
    told.unwrap_or_else(|objection| {
        let file = format!("{}/disagreement-{what}.txt", env!("CARGO_TARGET_TMPDIR"));
        std::fs::write(&file, format!("{what}\n{objection}\n")).unwrap();
        panic!("{what}, kept in {file}: {objection}")
    })
}

#[test]
fn engines_say_of_every_packet_what_the_interpreter_does_with_it() {
    let (tables, scale) = rounds();
    let halves = [0, 1].map(|half| {
        std::thread::spawn(move || {
            hosts::deep(move || {
                let mut all = Tally::default();
                for seed in (0..tables as u64).filter(|seed| seed % 2 == half) {
                    let told = oracles::brute_force(&mut Rng::new(2026 + seed), scale);
                    sum(&mut all, agreed(&format!("random-{seed}"), told));
                }
                all
            })
        })
    });
    let mut all = Tally::default();
    for half in halves {
        sum(&mut all, half.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
    }
    println!("{tables} random tables: {all:?}");
    assert!(all.packets > 50 * tables && all.violations > tables && all.asked > tables / 2, "{all:?}");
}

#[test]
fn engines_say_of_drivers_tables_what_the_interpreter_does_with_each_packet() {
    let mut all = Tally::default();
    let properties: Vec<_> = properties::SENDER.iter().collect();
    for (place, (name, text)) in CORPUS.iter().copied().chain([("seed", SEED)]).enumerate() {
        let Host { tables, mut ports, tags } = hosts::host(text);
        let first = place % ports.len();
        ports.rotate_left(first);
        let host = Host { tables, ports, tags };
        let profile = Profile::ALL[place % Profile::ALL.len()];
        let told = oracles::enumerate_packets(&mut Rng::new(7), &host, profile, &properties, OF_HOSTS);
        sum(&mut all, agreed(&name.replace('/', "-"), told));
    }
    println!("tables of drivers: {all:?}");
    assert!(all.packets > 5_000 && all.violations > 50 && all.asked > CORPUS.len(), "{all:?}");
}

const OF_HOSTS: Scale = Scale { spaces: 8, bits: 4 };
