//! What a real Open vSwitch 3.1 did, packet by packet, is what the userspace profile does.
//!
//! The fixtures are written by `tests/fixtures/ovs/make_conntrack.py`, which describes their columns.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

use flowproof_switch::{
    conntrack::{Before, Conntrack, CtInfo, CtRequest, Profile, Unknown, state},
    flow::{Action, Nat, ParseOptions, parse_flows},
};
use std::{fmt::Write as _, fs, path::Path};

/// What is going on while a fixture is replayed.
struct Replay {
    tracker: Conntrack,
    experiment: String,
    /// The bytes behind the Ethernet addresses of every packet of the experiment.
    packets: Vec<Vec<u8>>,
    entries: String,
    /// Whether something that is not known happened, so that there is nothing to compare any more.
    lost: bool,
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn number(text: &str) -> u128 {
    match text.strip_prefix("0x") {
        Some(digits) => u128::from_str_radix(digits, 16).unwrap(),
        None => text.parse().unwrap(),
    }
}

fn masked(text: &str) -> (u128, u128) {
    let (value, mask) = text.split_once('/').unwrap();
    (number(value), number(mask))
}

/// As it would stand in a flow.
fn nat(text: &str) -> Nat {
    let version = if text.contains("fd00") { "ipv6" } else { "ip" };
    let flow = format!("{version},actions=ct(commit,{text})");
    match &parse_flows(&flow, &ParseOptions::default()).unwrap().flows[0].actions[..] {
        [Action::Ct(ct)] => ct.nat.unwrap(),
        other => panic!("{other:?}"),
    }
}

fn request(text: &str) -> CtRequest {
    let mut request = CtRequest::default();
    for word in text.split(',') {
        match word.split_once('=').unwrap_or((word, "")) {
            ("zone", zone) => request.zone = zone.parse().unwrap(),
            ("commit", _) => request.commit = true,
            ("force", _) => request.force = true,
            ("mark", mark) => request.mark = (masked(mark).0 as u32, masked(mark).1 as u32),
            ("label", label) => request.label = masked(label),
            ("nat" | "nat(src" | "nat(dst" | "nat(src)" | "nat(dst)", _) => request.nat = Some(nat(word)),
            _ => panic!("`{text}`"),
        }
    }
    request
}

/// `STATE/MARK/LABEL` and the original tuple, as the fixture writes them. The flows show the tuple of IPv4 packets
/// of four protocols, and only with a state of `new`, `est` or `rpl` may a flow copy it.
fn shown(info: &CtInfo) -> String {
    let mut text = format!("{:x}/{:x}/{:x}", info.state, info.mark, info.label & 0xffff);
    let visible = info.state & 0x0b != 0;
    if let Some(t) = info.orig.filter(|t| visible && !t.ipv6 && [1, 6, 17, 132].contains(&t.proto)) {
        write!(text, "/{:x},{:x},{:x},{:x},{:x}", t.src, t.dst, t.proto, t.tp_src, t.tp_dst).unwrap();
    }
    text
}

/// Runs a frame through a chain of `ct()` actions.
fn run(tracker: &mut Conntrack, frame: &[u8], requests: &str) -> Vec<(Vec<u8>, CtInfo)> {
    let mut packets: Vec<(Vec<u8>, Option<Before>)> = vec![(frame.to_vec(), None)];
    for text in requests.split(';') {
        if text == "ct_clear" {
            let known = |before: &Before| before.info.unknown.is_none();
            packets.iter_mut().for_each(|(_, before)| *before = before.filter(|before| !known(before)));
            continue;
        }
        let request = request(text);
        let rewritten = request.nat.is_some();
        let zone = request.zone;
        packets = packets
            .into_iter()
            .flat_map(|(frame, before)| match before {
                None => tracker.execute(&frame, &request),
                Some(before) if before.info.unknown.is_some() => vec![(frame, before.info)],
                Some(before) => tracker.execute_again(&frame, &request, &before),
            })
            .map(|(frame, info)| (frame, Some(Before { zone, info, rewritten })))
            .collect();
    }
    packets.into_iter().map(|(frame, before)| (frame, before.unwrap().info)).collect()
}

impl Replay {
    fn option(&mut self, key: &str, value: &str) {
        let options = &mut self.tracker.options;
        match key {
            "tcp-seq-chk" => options.check_sequence = value != "off",
            "min-frag-v4" => options.min_fragment_v4 = value.parse().unwrap(),
            "min-frag-v6" => options.min_fragment_v6 = value.parse().unwrap(),
            "maxconns" => options.max_connections = value.parse().unwrap(),
            "zone-limit" => {
                let (zone, limit) = value.split_once(' ').unwrap();
                self.tracker.set_limit(Some(zone.parse().unwrap()), limit.parse().unwrap());
            }
            _ => panic!("`{key}`"),
        }
    }

    #[track_caller]
    fn packet(&mut self, place: &str, words: &[&str]) {
        let [label, requests, frame, expected, entries] = *words else { panic!("{place}: {words:?}") };
        if self.lost {
            return;
        }
        let frame = hex(frame);
        self.packets.push(frame[12..].to_vec());
        let outputs = run(&mut self.tracker, &frame, requests);
        let mut lines: Vec<String> = self.tracker.entries().map(|entry| entry.to_string()).collect();
        lines.sort();
        if entries != "=" {
            self.entries = entries.to_owned();
        }
        let which = |frame: &[u8]| self.packets.iter().rposition(|packet| *packet == frame[12..]);
        // Where packets change, the fixture has their bytes.
        let bytes = |frame: &[u8]| frame[12..].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let in_full = expected.len() > 60 * outputs.len().max(1);
        let named = |frame: &[u8]| match which(frame).filter(|_| !in_full) {
            Some(which) => which.to_string(),
            None => bytes(frame),
        };
        let found: Vec<_> =
            outputs.iter().map(|(frame, info)| format!("{}@{}", shown(info), named(frame))).collect();
        let context = format!("{place}, experiment `{}`, packet `{label}`, {requests}", self.experiment);
        let known = outputs.iter().all(|(_, info)| info.unknown.is_none());
        assert!(known || outputs.iter().all(|(_, info)| info.unknown != Some(Unknown::Helper)), "{context}");
        if known {
            assert_eq!(found.join(" "), expected, "{context}");
        }
        let related = |info: &CtInfo| info.state & state::REL != 0;
        self.lost |= outputs.iter().any(|(_, info)| info.unknown.is_some() && !related(info));
        if !self.lost {
            assert_eq!(lines.join(";"), self.entries, "{context}");
        }
    }

    #[track_caller]
    fn event(&mut self, place: &str, line: &str) {
        let words: Vec<&str> = line.split('\t').collect();
        match words[..] {
            ["experiment", name] => {
                *self = Self {
                    tracker: Conntrack::new(Profile::Userspace31),
                    experiment: name.to_owned(),
                    packets: Vec::new(),
                    entries: String::new(),
                    lost: false,
                };
            }
            ["option", key, value] => self.option(key, value),
            ["advance", time] => drop(self.tracker.advance(time.parse().unwrap())),
            ["flush", "-"] => self.tracker.flush(None),
            ["flush", zone] => self.tracker.flush(Some(zone.parse().unwrap())),
            ["packet", ..] => self.packet(place, &words[1..]),
            _ => panic!("{place}: `{line}`"),
        }
    }
}

/// Replays a fixture; how many experiments and packets it has.
#[track_caller]
fn replay(name: &str) -> (usize, usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/ovs").join(name);
    let text = fs::read_to_string(&path).unwrap();
    let mut replay = Replay {
        tracker: Conntrack::new(Profile::Userspace31),
        experiment: String::new(),
        packets: Vec::new(),
        entries: String::new(),
        lost: false,
    };
    for (index, line) in text.lines().enumerate() {
        replay.event(&format!("{name}:{}", index + 1), line);
    }
    let count = |kind: &str| text.lines().filter(|line| line.starts_with(kind)).count();
    (count("experiment\t"), count("packet\t"))
}

#[test]
fn every_experiment_with_a_real_switch_comes_out_the_same() {
    let (experiments, packets) = replay("conntrack-userspace-3.1.tsv");
    assert!(experiments >= 66 && packets >= 425, "{experiments} experiments, {packets} packets");
}

#[test]
fn random_traffic_through_a_real_switch_comes_out_the_same() {
    let (experiments, packets) = replay("conntrack-userspace-3.1-random.tsv");
    assert!(experiments >= 100 && packets >= 2500, "{experiments} experiments, {packets} packets");
}

#[test]
fn random_fragments_through_a_real_switch_come_out_the_same() {
    let (experiments, packets) = replay("conntrack-userspace-3.1-fragments.tsv");
    assert!(experiments >= 12 && packets >= 80, "{experiments} experiments, {packets} packets");
}

#[test]
fn translation_by_a_real_switch_comes_out_the_same_to_the_byte() {
    let (experiments, packets) = replay("conntrack-userspace-3.1-nat.tsv");
    assert!(experiments >= 40 && packets >= 900, "{experiments} experiments, {packets} packets");
}
