//! How many inputs a second each oracle judges on one processor, without sanitizer: seeds, each with a byte changed.
//!
//!     cargo run --release -p flowproof-fuzz --example rates -- [SECONDS] [TARGET...]
//!
//! Seconds are those that the process was given (`/proc/self/schedstat`), so other work on the machine does not count.

use flowproof_fuzz::campaign::{Subject, case};
use flowproof_fuzz::{Choices, oracles};
use flowproof_switch::conntrack::Profile;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs, io};

type Oracle = fn(&[u8]) -> oracles::Verdict;

const TARGETS: &[(&str, Oracle)] = &[
    ("flow_text", oracles::flow_text),
    ("frame", oracles::frame),
    ("pcap", oracles::pcap),
    ("intent_json", oracles::intent_json),
    ("scenario_text", oracles::scenario_text),
    ("agreement_mitaka", |bytes| oracles::Mitaka::of(bytes).check()),
    ("agreement_neutron", |bytes| oracles::Neutron::of(bytes).check()),
    ("agreement_strict", |bytes| oracles::Strict::of(bytes).check()),
    ("stateful", |bytes| oracles::Stateful::of(bytes).check()),
    ("symbolic", oracles::symbolic),
    ("engines", oracles::engines),
    ("diff", oracles::diff),
    ("fast_classifier", oracles::fast_classifier),
    ("real_switch", oracles::real_switch),
];

/// Processor time of this process; the clock's where the system does not say.
fn spent(began: Instant) -> Duration {
    let text = fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let first = text.split(' ').next().and_then(|number| number.parse().ok());
    first.map_or_else(|| began.elapsed(), Duration::from_nanos)
}

/// How often `once` happens in a second, and how many bytes or steps it says it took.
fn rate(seconds: u64, mut once: impl FnMut(u64) -> u64) -> (f64, f64) {
    let (began, before) = (Instant::now(), spent(Instant::now()));
    let (mut runs, mut sum) = (0, 0);
    while began.elapsed() < Duration::from_secs(seconds) {
        sum += once(runs);
        runs += 1;
    }
    let took = spent(began).saturating_sub(before).as_secs_f64().max(0.001);
    (runs as f64 / took, sum as f64 / took)
}

fn seeds(target: &str) -> io::Result<Vec<Vec<u8>>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let mut paths: Vec<_> =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    paths.into_iter().map(fs::read).collect()
}

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(5);
    let wanted: Vec<String> = arguments.collect();
    let asked = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    for (name, oracle) in TARGETS.iter().filter(|(name, _)| asked(name)) {
        let seeds = seeds(name)?;
        let mut choices = Choices::new(1);
        let (runs, bytes) = rate(seconds, |_| {
            let mut input = choices.pick(&seeds).clone();
            let at = choices.below(input.len());
            if let Some(byte) = input.get_mut(at) {
                *byte = choices.byte();
            }
            if let Err(objection) = oracle(&input) {
                println!("{name}: {objection}");
            }
            input.len() as u64
        });
        println!("{name}: {runs:.0} inputs/s, {:.1} MB/s", bytes / 1e6);
    }
    for layout in flowproof_compiler::Layout::ALL.into_iter().filter(|one| asked(one.name())) {
        let (cases, steps) = rate(seconds, |number| {
            case(&Subject::Compiled(layout, Profile::Userspace31), 1, number).counts.steps
        });
        println!("explore {}: {cases:.0} cases/s, {steps:.0} steps/s", layout.name());
    }
    Ok(())
}
