//! A real Open vSwitch 3.1 beside the interpreter: the same flows, the same frames, and no difference allowed.
//!
//! `FLOWPROOF_SOAK=N` makes N comparisons in each suite instead of a few thousand, with a seed of the hour;
//! `FLOWPROOF_SEED` sets it. Without Open vSwitch the suites say so and pass, except where `CI` is set.
//!
//! What the interpreter leaves out on purpose, and where it is kept out of the comparisons:
//!
//! | abstraction | why | kept out by |
//! |---|---|---|
//! | ties between flows of one priority | OpenFlow leaves the winner open; the trace says so | packets that meet one are not compared; if both do the same, either may be named |
//! | order among the ports of a flood | the switch floods in the order of a hash table | outputs are compared port by port |
//! | endless recirculation | `ofproto/trace` follows it for ever, the datapath stops | such packets are not traced, but sent |
//! | answers for a list with several `ct(table=…)` | the interpreter follows a copy to its end before the next one, `ofproto/trace` goes level by level | packets for which that is not the same are not traced, but sent |
//! | fragments that wait in a later pass | each pass gathers trains of its own, and the switch numbers passes anew when it has dropped what it had cached | a scenario ends when one waits there |
//! | fragments that wait too long, and come to a further `ct()` | it was seen to take some of them in and not others | a scenario ends when one comes there |
//! | order among fragments that go on together, some of them invalid, or come in by several ports | the switch takes those last whose flow it has just cached | such frames are compared as a set |
//! | payload of later IPv4 fragments, when an address is written | the switch takes it for a TCP or UDP header and corrects a checksum in it | the two bytes are not compared |
//! | DEI behind a flood | a port that the flood reaches behind an access port gets a new tag, without the bit | frames have no DEI |
//! | the cleaner of fragments | a thread drops held fragments of 25 seconds, about once a minute | scenarios with fragments last 25 seconds |

mod abstractions;
mod expectations;
mod found;
mod fragments;
mod packets;
mod random_tables;
mod rng;
mod scenario;
mod speed;
mod stateful;
mod stateless;
mod translation;
mod world;

use flowproof_ovs::RealSwitch;
use flowproof_switch::pipeline::PortConfig;
use rng::Rng;
use std::{
    env,
    io::{Write, stderr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use world::World;

/// How much to compare.
#[derive(Clone, Debug)]
struct Budget {
    suite: &'static str,
    count: usize,
    seed: u64,
    soak: bool,
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}: `{text}` is no number")))
}

impl Budget {
    fn of(suite: &'static str, usual: usize) -> Self {
        let soak = number("FLOWPROOF_SOAK");
        let hour = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
        let seed = number("FLOWPROOF_SEED").unwrap_or_else(|| if soak.is_some() { hour() } else { 1 });
        Self { suite, count: soak.map_or(usual, |count| count as usize), seed, soak: soak.is_some() }
    }
}

/// What was compared, and what differed.
#[derive(Debug, Default)]
struct Findings {
    compared: usize,
    differences: usize,
    shown: Vec<String>,
    /// Of those compared, packets that were sent instead of traced.
    sent: usize,
    reached: (usize, usize),
    spent: Duration,
    /// Whether there is no real switch.
    missing: bool,
}

impl Findings {
    const SHOWN: usize = 5;

    fn count(&mut self, comparisons: usize) {
        self.compared += comparisons;
    }

    fn report(&mut self, text: impl FnOnce() -> String) {
        self.differences += 1;
        if self.shown.len() < Self::SHOWN {
            self.shown.push(text());
        }
    }

    fn add(&mut self, other: Self, round: usize) {
        self.compared += other.compared;
        self.sent += other.sent;
        self.differences += other.differences;
        self.shown.extend(other.shown.into_iter().map(|text| format!("round {round}: {text}")));
        self.reached(other.reached.0, other.reached.1);
    }

    fn reached(&mut self, hit: usize, all: usize) {
        self.reached.0 += hit;
        self.reached.1 += all;
    }
}

/// Says something that the test harness does not swallow.
fn say(text: &str) {
    let _nobody_listens = writeln!(stderr(), "{text}");
}

/// A frame in digits; the middle of a long run of the same pattern is left out, with its length in brackets.
fn hex(frame: &[u8]) -> String {
    const PATTERN: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
    let mut text = String::new();
    let mut rest = frame;
    while let Some((first, behind)) = rest.split_first() {
        let run = rest.iter().zip(PATTERN.iter().cycle().skip_while(|letter| *letter != first));
        let length = if PATTERN.contains(first) { run.take_while(|(a, b)| a == b).count() } else { 0 };
        if length > 2 * PATTERN.len() {
            text.push_str(&format!("[{}..{length}]", *first as char));
            rest = &rest[length..];
        } else {
            text.push_str(&format!("{first:02x}"));
            rest = behind;
        }
    }
    text
}

/// A switch for this world; `None` where Open vSwitch is not installed and need not be.
fn start(world: &World) -> Option<RealSwitch> {
    match RealSwitch::start(&world.ports) {
        Ok(switch) => Some(switch),
        Err(error) if error.is_missing() && env::var_os("CI").is_none() => {
            say(&format!("NOT COMPARED with a real switch: {error}"));
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Compares about so many of a world's packets in a switch, which comes back.
trait Compare: for<'w> Fn(RealSwitch, &'w World, &mut Rng, usize, &mut Findings) -> RealSwitch + Sync {}

impl<F> Compare for F where
    F: for<'w> Fn(RealSwitch, &'w World, &mut Rng, usize, &mut Findings) -> RealSwitch + Sync
{
}

/// Runs `compare` over genuine tables in turn, then over as many random ones, until the budget is spent.
fn over_worlds(budget: &Budget, unit: &str, compare: impl Compare) {
    /// Worlds of each kind in a short run.
    const WORLDS: usize = 10;
    const LONG_VISIT: usize = 5000;
    let genuine: Vec<Arc<World>> = world::genuine().into_iter().map(Arc::new).collect();
    let stride = if budget.soak { 1 } else { genuine.len().div_ceil(WORLDS) };
    let visit = if budget.soak { LONG_VISIT } else { budget.count.div_ceil(2 * WORLDS) };
    let world = |round: usize, rng: &mut Rng| {
        let (turn, at) = (round / WORLDS, round % WORLDS);
        if turn % 2 == 0 {
            Arc::clone(&genuine[(turn / 2 * WORLDS + at) * stride % genuine.len()])
        } else {
            Arc::new(world::random(rng.next() >> 32))
        }
    };
    in_rounds(budget, unit, visit, world, compare);
}

/// Runs `compare` in worlds of a series until the budget is spent; in soaks, a worker for each core does. The seed and the
/// number of a round determine what happens in it.
fn in_rounds(
    budget: &Budget,
    unit: &str,
    visit: usize,
    world: impl Fn(usize, &mut Rng) -> Arc<World> + Sync,
    compare: impl Compare,
) {
    let only = env::var("FLOWPROOF_WORLD").ok();
    let (findings, next) = (Mutex::new(Findings::default()), AtomicUsize::new(0));
    let is_done = |findings: &Findings| {
        findings.missing || findings.compared >= budget.count || findings.shown.len() >= Findings::SHOWN
    };
    let work = || {
        let mut running: Option<(Vec<PortConfig>, RealSwitch)> = None;
        while !is_done(&findings.lock().unwrap()) {
            let round = next.fetch_add(1, Ordering::Relaxed);
            let mut rng = Rng::new(budget.seed.wrapping_add((round as u64) << 40));
            let world = world(round, &mut rng);
            if only.as_ref().is_some_and(|only| !world.name.contains(only)) {
                continue;
            }
            let old = running.take().filter(|(ports, _)| *ports == world.ports).map(|(_, switch)| switch);
            let Some(switch) = old.or_else(|| start(&world)) else {
                findings.lock().unwrap().missing = true;
                return;
            };
            let mut found = Findings::default();
            running = Some((world.ports.clone(), compare(switch, &world, &mut rng, visit, &mut found)));
            findings.lock().unwrap().add(found, round);
        }
    };
    let began = Instant::now();
    let workers = if budget.soak { thread::available_parallelism().map_or(1, usize::from) } else { 1 };
    thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    let mut findings = findings.into_inner().unwrap();
    findings.spent = began.elapsed();
    if !findings.missing {
        conclude(budget, unit, findings);
    }
}

/// Prints what was compared, and fails if something differed.
fn conclude(budget: &Budget, unit: &str, findings: Findings) {
    let Findings { compared, differences, reached: (hit, all), spent, sent, .. } = findings;
    let rate = compared as f64 / spent.as_secs_f64().max(0.001);
    let unit = if sent == 0 { unit.to_owned() } else { format!("{unit} ({sent} sent)") };
    let coverage = if all == 0 { String::new() } else { format!(", {hit} of {all} flows reached") };
    say(&format!(
        "{}: {compared} {unit} compared, seed {}, {rate:.0}/s{coverage}, {differences} differences",
        budget.suite, budget.seed
    ));
    let text = findings.shown.join("\n\n");
    assert!(differences == 0, "{differences} differences, seed {}\n{text}", budget.seed);
}
