//! What Open vSwitch's own suite expects, of the interpreter and of the real switch alike.
//!
//! `expectations.txt` has the cases as text. What is expected there comes from what the upstream tests check, never
//! from what either switch did here.

use flowproof_ovs::{RealSwitch, split_untyped_ct};
use flowproof_packet::{
    Field, FlowKey, PortNo,
    build::{ComposeOptions, FragmentOptions, IcmpError, compose, fragment_with, icmp_error},
    port,
};
use flowproof_switch::{
    flow::{Flow, ParseOptions, parse_flows, text::parse_match},
    pipeline::{PortConfig, Switch, SwitchConfig},
    table::Tables,
};
use std::{collections::BTreeSet, sync::Arc};

const TEXT: &str = include_str!("expectations.txt");
const PORTS: std::ops::RangeInclusive<PortNo> = 1..=15;

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    /// Frames come in, and leave like this.
    Frames(PortNo, Vec<Vec<u8>>, String),
    Wait(u64),
    /// So many connections are known.
    Connections(usize),
}

#[derive(Debug)]
struct Case {
    name: String,
    ports: Vec<PortConfig>,
    flows: Vec<Flow>,
    steps: Vec<Step>,
}

/// Either switch.
trait Subject {
    fn send(&mut self, in_port: PortNo, frame: &[u8]) -> Vec<(PortNo, Vec<u8>)>;
    fn wait(&mut self, ms: u64);
    fn connections(&mut self) -> usize;
}

impl Subject for Switch {
    fn send(&mut self, in_port: PortNo, frame: &[u8]) -> Vec<(PortNo, Vec<u8>)> {
        self.receive(in_port, frame).delivered()
    }

    fn wait(&mut self, ms: u64) {
        self.advance(ms);
    }

    fn connections(&mut self) -> usize {
        self.conntrack().entries().count()
    }
}

impl Subject for RealSwitch {
    fn send(&mut self, in_port: PortNo, frame: &[u8]) -> Vec<(PortNo, Vec<u8>)> {
        Self::send(self, in_port, frame).unwrap()
    }

    fn wait(&mut self, ms: u64) {
        self.advance(ms).unwrap();
    }

    fn connections(&mut self) -> usize {
        self.conntrack().unwrap().len()
    }
}

fn number(text: &str) -> PortNo {
    if text == "LOCAL" { port::LOCAL } else { text.parse().unwrap_or_else(|_| panic!("no port: `{text}`")) }
}

/// `tcp,nw_src=…; seq=5 len=10`
fn packet(text: &str) -> Vec<u8> {
    let (matching, words) = text.split_once(';').unwrap_or((text, ""));
    let matching = parse_match(matching.trim()).unwrap_or_else(|error| panic!("`{text}`: {error}"));
    let mut key = FlowKey::default();
    for field in Field::all() {
        let (value, mask) = matching.get(field);
        if mask != 0 && field != Field::InPort {
            key.set_masked(field, value, mask);
        }
    }
    if key.get(Field::VlanTci) != 0 {
        key.set(Field::VlanTci, key.get(Field::VlanTci) | 0x1000);
        key.set(Field::VlanTpid, 0x8100);
    }
    if key.get(Field::NwTtl) == 0 {
        key.set(Field::NwTtl, 64);
    }
    let mut options = ComposeOptions { payload_len: 8, ..ComposeOptions::default() };
    if key.get(Field::NwProto) == 6 {
        options.payload_len = 0;
    }
    let mut poke = None;
    for word in words.split_whitespace() {
        let (name, value) = word.split_once('=').unwrap();
        let amount = || value.parse::<u32>().unwrap();
        match name {
            "len" => options.payload_len = amount() as usize,
            "pad" => options.min_frame_len = amount() as usize,
            "seq" => options.seq = amount(),
            "ack" => options.ack = amount(),
            "window" => options.window = amount() as u16,
            "poke" => poke = value.split_once(':'),
            _ => panic!("`{word}`"),
        }
    }
    let mut frame = compose(&key, &options);
    if let Some((at, byte)) = poke {
        frame[at.parse::<usize>().unwrap()] = u8::from_str_radix(byte, 16).unwrap();
    }
    frame
}

/// Two fragments in the way that the word asks for.
fn split(word: &str, first: &str, whole: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces = fragment_with(whole, &FragmentOptions::two(first.parse().unwrap())).unwrap();
    assert_eq!(pieces.len(), 2);
    match word {
        "split" => {}
        "split-back" => pieces.reverse(),
        "split-first" => pieces.truncate(1),
        // The second begins eight bytes earlier: the offset counts in eights.
        "split-over" => {
            let second = &mut pieces[1];
            let offset = u16::from_be_bytes([second[20], second[21]]) - 1;
            second[20..22].copy_from_slice(&offset.to_be_bytes());
            let sum = u16::from_be_bytes([second[24], second[25]]) + 1;
            second[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        _ => panic!("`{word}`"),
    }
    pieces
}

/// A case as it is read, line by line.
struct Reading {
    case: Case,
    flows: String,
    last: (PortNo, Vec<u8>),
}

impl Reading {
    fn new(name: &str) -> Self {
        let ports = PORTS.map(PortConfig::trunk).collect();
        let case = Case { name: name.to_owned(), ports, flows: Vec::new(), steps: Vec::new() };
        Self { case, flows: String::new(), last: (0, Vec::new()) }
    }

    fn port(&mut self, ofport: &str) -> &mut PortConfig {
        let ofport = number(ofport);
        self.case.ports.iter_mut().find(|port| port.ofport == ofport).unwrap()
    }

    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["port", ofport, "access", vlan] => {
                self.port(ofport).access_vlan = Some(vlan.parse().unwrap());
            }
            ["port", ofport, "no-flood"] => self.port(ofport).no_flood = true,
            ["wait", ms] => self.case.steps.push(Step::Wait(ms.parse().unwrap())),
            ["connections", count] => self.case.steps.push(Step::Connections(count.parse().unwrap())),
            ["chain", from, to, way] => self.chain(number(from), number(to), *way == "backwards"),
            ["double", from, to] => {
                for at in number(from)..=number(to) {
                    let next = at + 1;
                    self.flows
                        .push_str(&format!("in_port={at} actions=resubmit:{next},resubmit:{next},local\n"));
                }
            }
            _ => match line.split_once(" -> ") {
                Some((sent, left)) => self.send(sent, left),
                None => self.flows.push_str(&format!("{line}\n")),
            },
        }
    }

    fn chain(&mut self, from: PortNo, to: PortNo, backwards: bool) {
        for table in from.min(to)..=from.max(to) {
            let next = if backwards { table - 1 } else { table + 1 };
            self.flows.push_str(&format!("table={table} actions=resubmit(,{next})\n"));
        }
    }

    fn send(&mut self, sent: &str, left: &str) {
        let (first, rest) = sent.split_once(' ').unwrap_or((sent, ""));
        let mut parts = rest.splitn(3, ' ');
        let mut part = || parts.next().unwrap_or_default();
        let (in_port, frames) = match first {
            "again" => (self.last.0, vec![self.last.1.clone()]),
            "error" => {
                let (in_port, from) = (number(part()), part().parse::<std::net::Ipv4Addr>().unwrap());
                let error = IcmpError::new(3, 3, u128::from(u32::from(from)));
                (in_port, vec![icmp_error(&self.last.1, &error).unwrap()])
            }
            word if word.starts_with("split") => {
                let (in_port, size) = (number(part()), part());
                (in_port, split(word, size, &packet(part())))
            }
            in_port => {
                self.last = (number(in_port), packet(rest));
                (self.last.0, vec![self.last.1.clone()])
            }
        };
        self.case.steps.push(Step::Frames(in_port, frames, left.trim().to_owned()));
    }

    fn done(mut self) -> Case {
        let parsed = parse_flows(&self.flows, &ParseOptions::default());
        self.case.flows = parsed.unwrap_or_else(|error| panic!("{}: {error}", self.case.name)).flows;
        self.case
    }
}

fn cases() -> Vec<Case> {
    let mut readings: Vec<Reading> = Vec::new();
    for line in TEXT.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("case ") {
            Some(name) => readings.push(Reading::new(name)),
            None => readings.last_mut().unwrap().line(line),
        }
    }
    readings.into_iter().map(Reading::done).collect()
}

/// `2:10 3`: by ascending port, `LOCAL` last.
fn told(mut frames: Vec<(PortNo, Vec<u8>)>) -> String {
    frames.sort_by_key(|(number, _)| *number);
    let one = |(number, frame): &(PortNo, Vec<u8>)| {
        let name = if *number == port::LOCAL { "LOCAL".to_owned() } else { number.to_string() };
        match flowproof_packet::wire::extract(frame, 0).get(Field::VlanTci) & 0xfff {
            0 => name,
            vid => format!("{name}:{vid}"),
        }
    };
    let all: Vec<String> = frames.iter().map(one).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(" ") }
}

/// Goes through a case; what is not as expected.
fn play(case: &Case, subject: &mut impl Subject) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, step) in case.steps.iter().enumerate() {
        let (expected, got) = match step {
            Step::Wait(ms) => {
                subject.wait(*ms);
                continue;
            }
            Step::Connections(count) => (count.to_string(), subject.connections().to_string()),
            Step::Frames(in_port, frames, left) => {
                let all = frames.iter().flat_map(|frame| subject.send(*in_port, frame)).collect();
                (left.clone(), told(all))
            }
        };
        if expected != got {
            wrong.push(format!("{}, step {}: expected {expected}, got {got}", case.name, at + 1));
        }
    }
    wrong
}

fn check_all(cases: &[Case]) {
    let interpreted = |case: &Case| {
        let tables = Arc::new(Tables::new(split_untyped_ct(&case.flows)));
        play(case, &mut Switch::new(tables, SwitchConfig::new(case.ports.clone())))
    };
    let wrong: Vec<String> = cases.iter().flat_map(interpreted).collect();
    assert!(wrong.is_empty(), "interpreter: {wrong:#?}");
    let mut wrong: Vec<String> = Vec::new();
    let mut running: Option<(Vec<PortConfig>, RealSwitch)> = None;
    for case in cases {
        if running.as_ref().is_none_or(|(ports, _)| *ports != case.ports) {
            drop(running.take());
            match RealSwitch::start(&case.ports) {
                Ok(real) => running = Some((case.ports.clone(), real)),
                Err(error) if error.is_missing() && std::env::var_os("CI").is_none() => {
                    super::say(&format!("NOT COMPARED with a real switch: {error}"));
                    return;
                }
                Err(error) => panic!("{error}"),
            }
        }
        let Some((_, real)) = &mut running else { return };
        real.load(&split_untyped_ct(&case.flows)).unwrap();
        real.reset().unwrap();
        wrong.extend(play(case, real));
        // Held fragments would come out in another case.
        if case.name.contains("ragment") || case.name.contains("half") {
            running = None;
        }
    }
    assert!(wrong.is_empty(), "real switch: {wrong:#?}");
}

#[test]
fn both_switches_do_what_the_upstream_suite_expects() {
    let cases = cases();
    assert!(cases.len() > 45, "{} cases", cases.len());
    check_all(&cases);
}

#[test]
fn every_case_is_in_the_table_of_the_document_and_nothing_else() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openvswitch-expectations.md");
    let document = std::fs::read_to_string(path).unwrap();
    let listed: BTreeSet<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | taken").map(|(name, _)| name))
        .collect();
    let all = cases();
    let expected: BTreeSet<&str> =
        all.iter().filter_map(|case| Some(case.name.split_once(" | ")?.1)).chain(CONJUNCTIONS).collect();
    assert_eq!(listed, expected);
}

/// The tests about conjunctions; each is a loop over addresses below.
const CONJUNCTIONS: [&str; 4] = [
    "classifier.at: single conjunctive match",
    "classifier.at: multiple conjunctive match",
    "classifier.at: conjunctive match priority fallback",
    "classifier.at: conjunctive match and other actions",
];

/// Packets by the last digits of their addresses, and where they leave.
fn conjunction(name: &str, flows: &str, packets: impl Iterator<Item = (String, PortNo)>) -> Case {
    let mut reading = Reading::new(name);
    flows.lines().for_each(|line| reading.line(line));
    packets.for_each(|(packet, out)| reading.send(&format!("15 {packet}"), &out.to_string()));
    reading.done()
}

fn pairs(sources: std::ops::Range<u16>, targets: std::ops::Range<u16>) -> impl Iterator<Item = (u16, u16)> {
    sources.flat_map(move |source| targets.clone().map(move |target| (source, target)))
}

const SINGLE: &str = "conj_id=1 actions=output:3
priority=100,ip,nw_src=10.0.0.1 actions=conjunction(1,1/2)
priority=100,ip,nw_src=10.0.0.4 actions=conjunction(1,1/2)
priority=100,ip,nw_dst=10.0.0.2 actions=conjunction(1,2/2)
priority=100,ip,nw_dst=10.0.0.5 actions=conjunction(1,2/2)
priority=100,ip,nw_src=10.0.0.1,nw_dst=10.0.0.4 actions=output:4
priority=100,ip,nw_src=10.0.0.3,nw_dst=10.0.0.5 actions=output:5
priority=0 actions=output:2";

const FALLBACK: &str = "conj_id=1 actions=output:1
conj_id=3 actions=output:3
priority=5,ip,nw_src=10.0.0.1 actions=conjunction(1,1/2)
priority=5,ip,nw_src=10.0.0.2 actions=conjunction(1,1/2)
priority=5,ip,nw_dst=10.0.0.1 actions=conjunction(1,2/2)
priority=5,ip,nw_dst=10.0.0.2 actions=conjunction(1,2/2)
priority=5,ip,nw_dst=10.0.0.3 actions=conjunction(1,2/2)
priority=4,ip,nw_src=10.0.0.3,nw_dst=10.0.0.2 actions=output:2
priority=3,ip,nw_src=10.0.0.1 actions=conjunction(3,1/2)
priority=3,ip,nw_src=10.0.0.3 actions=conjunction(3,1/2)
priority=3,ip,nw_dst=10.0.0.2 actions=conjunction(3,2/2)
priority=3,ip,nw_dst=10.0.0.3 actions=conjunction(3,2/2)
priority=3,ip,nw_dst=10.0.0.4 actions=conjunction(3,2/2)
priority=2,ip,nw_dst=10.0.0.1 actions=output:4
priority=1,ip,nw_src=10.0.0.1,nw_dst=10.0.0.5 actions=output:5
priority=0 actions=output:6";

const MULTIPLE: &str = "conj_id=1 actions=output:1
conj_id=2 actions=output:2
conj_id=3 actions=output:3
priority=5,ip,nw_src=20.0.0.0/8 actions=conjunction(1,1/2),conjunction(2,1/2)
priority=5,ip,nw_src=10.1.0.0/16 actions=conjunction(1,1/2),conjunction(3,2/3)
priority=5,ip,nw_dst=20.0.0.0/8 actions=conjunction(1,2/2)
priority=5,ip,nw_dst=30.0.0.0/8 actions=conjunction(2,2/2),conjunction(3,1/3)
priority=5,tcp,tp_dst=80 actions=conjunction(3,3/3)
priority=5,tcp,tp_src=443 actions=conjunction(3,3/3)
priority=0 actions=output:4";

#[test]
fn conjunctions_are_matched_as_the_upstream_suite_expects() {
    let packet = |source, target| format!("ip,nw_src=10.0.0.{source},nw_dst=10.0.0.{target}");
    let single = pairs(0..8, 0..8).map(|(source, target)| {
        let out = match (source, target) {
            (1, 4) => 4,
            (3, 5) => 5,
            (1 | 4, 2 | 5) => 3,
            _ => 2,
        };
        (packet(source, target), out)
    });
    let fallback = pairs(0..4, 0..6).map(|(source, target)| {
        let out = match (source, target) {
            (1 | 2, 1..=3) => 1,
            (3, 2) => 2,
            (1 | 3, 2..=4) => 3,
            (_, 1) => 4,
            (1, 5) => 5,
            _ => 6,
        };
        (packet(source, target), out)
    });
    let sources =
        [("20.0.0.1", [true, true, false]), ("10.1.0.1", [true, false, true]), ("1.2.3.4", [false; 3])];
    let targets =
        [("20.0.0.1", [true, false, false]), ("30.0.0.1", [false, true, true]), ("1.2.3.4", [false; 3])];
    let mut multiple = Vec::new();
    for (source, first) in sources {
        for (target, second) in targets {
            for (from, to) in [(443, 80), (443, 8080), (8080, 80), (8080, 8080)] {
                let ports = [true, true, from == 443 || to == 80];
                let id = (0..3).find(|id| first[*id] && second[*id] && ports[*id]);
                let text = format!("tcp,nw_src={source},nw_dst={target},tp_src={from},tp_dst={to}");
                multiple.push((text, id.map_or(4, |id| id as PortNo + 1)));
            }
        }
    }
    check_all(&[
        conjunction(CONJUNCTIONS[0], SINGLE, single),
        conjunction(CONJUNCTIONS[1], MULTIPLE, multiple.into_iter()),
        conjunction(CONJUNCTIONS[2], FALLBACK, fallback),
    ]);
}

#[test]
fn a_conjunction_goes_with_notes_only() {
    let parses =
        |actions: &str| parse_flows(&format!("ip actions={actions}"), &ParseOptions::default()).is_ok();
    assert!(parses("conjunction(3,1/2),note:41.42.43"));
    assert!(parses("note:41.42.43,conjunction(3,1/2)"));
    assert!(!parses("output:1,conjunction(3,1/2)"));
    assert!(!parses("conjunction(3,1/2),output:1"));
}
