//! The fuzz targets without a fuzzer: seeds and old findings pass their oracles, and hostile input is refused in time.

use flowproof_compiler::Layout;
use flowproof_fuzz::Choices;
use flowproof_fuzz::campaign::{Subject, draw};
use flowproof_fuzz::oracles::{self, Held, Verdict};
use flowproof_fuzz::real::hear;
use flowproof_lockstep::run;
use flowproof_ovs::{Answer, Judge};
use flowproof_packet::{Field, MacAddr};
use flowproof_proofs::diagram::Host;
use flowproof_proofs::ports::{Pair, Port};
use flowproof_proofs::properties::{self, Property};
use flowproof_proofs::tables::Tables;
use flowproof_switch::conntrack::Profile;
use flowproof_switch::flow::{ParseOptions, parse_flows};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An oracle over bytes.
type Oracle = fn(&[u8]) -> Verdict;

/// Each fuzz target with its oracle, and how many of its seeds are tried: some oracles are slow.
const TARGETS: &[(&str, Oracle, usize)] = &[
    ("flow_text", oracles::flow_text, usize::MAX),
    ("frame", oracles::frame, usize::MAX),
    ("pcap", oracles::pcap, usize::MAX),
    ("intent_json", oracles::intent_json, usize::MAX),
    ("scenario_text", oracles::scenario_text, usize::MAX),
    ("agreement_mitaka", |bytes| oracles::Mitaka::of(bytes).check(), 20),
    ("agreement_neutron", |bytes| oracles::Neutron::of(bytes).check(), 20),
    ("agreement_strict", |bytes| oracles::Strict::of(bytes).check(), 20),
    ("stateful", |bytes| oracles::Stateful::of(bytes).check(), 20),
    ("symbolic", oracles::symbolic, 2),
    ("engines", oracles::engines, 1),
    ("diff", oracles::diff, 4),
    ("fast_classifier", oracles::fast_classifier, 4),
    ("real_switch", real_switch, 6),
];

/// Nothing to ask where no Open vSwitch is installed.
fn real_switch(bytes: &[u8]) -> Verdict {
    match Judge::summon() {
        Err(error) if error.is_missing() => {
            eprintln!("SKIPPED: real_switch: {error}");
            Ok(())
        }
        _ => oracles::real_switch(bytes),
    }
}

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

/// The files of a directory, by name.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_fuzz_target_is_listed_has_an_oracle_and_seeds() {
    let stems: Vec<String> = files(&directory("fuzz_targets"))
        .iter()
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let mut names: Vec<&str> = TARGETS.iter().map(|(name, ..)| *name).collect();
    names.sort_unstable();
    assert_eq!(stems, names);
    let manifest = fs::read_to_string(directory("Cargo.toml")).unwrap();
    for name in names {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        assert!(!files(&directory("seeds").join(name)).is_empty(), "{name} has no seeds: `make fuzz-seeds`");
        let lines = fs::read_to_string(directory("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(lines.lines().count() <= 15, "{name} is more than glue");
    }
}

#[test]
fn seeds_and_old_findings_pass_their_oracles() {
    for (name, oracle, most) in TARGETS {
        let seeds = files(&directory("seeds").join(name)).into_iter().take(*most);
        for path in seeds.chain(files(&directory("regressions").join(name))) {
            let verdict = oracle(&fs::read(&path).unwrap());
            assert!(verdict.is_ok(), "{}: {verdict:?}", path.display());
        }
    }
}

/// Processor time of this thread; the clock's where the system does not say. Other work on the machine does not count.
fn spent(began: Instant) -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split(' ').next().and_then(|number| number.parse().ok());
    first.map_or_else(|| began.elapsed(), Duration::from_nanos)
}

/// Scenarios of today's layout in a switch that lacks the flows for TCP ports: one of them shows it.
#[test]
fn a_real_switch_that_is_not_told_everything_is_noticed() {
    let mut judge = match Judge::summon() {
        Err(error) if error.is_missing() => return eprintln!("SKIPPED: a real switch: {error}"),
        summoned => summoned.unwrap().withholding(|flow| flow.matching.looks_at(Field::TcpDst)),
    };
    let subject = Subject::Compiled(Layout::Neutron, Profile::Userspace31);
    let differs = (0..60).any(|number| {
        let run = run(&draw(&subject, 1, number).unwrap().scenario, subject.layout()).unwrap();
        matches!(hear(&mut judge, &run).unwrap(), (Answer::Differs(_), _))
    });
    assert!(differs);
}

/// An input and what makes it hostile; each is judged by its oracle in less time than anybody would notice.
#[track_caller]
fn check_in_time(name: &str, input: &[u8]) {
    let (_, oracle, _) = TARGETS.iter().find(|(known, ..)| *known == name).unwrap();
    let began = Instant::now();
    let before = spent(began);
    let verdict = oracle(input);
    assert!(verdict.is_ok(), "{verdict:?}");
    let took = spent(began).saturating_sub(before);
    assert!(took < Duration::from_secs(2), "{name}: {took:?}");
}

#[test]
fn hostile_text_is_refused_in_time() {
    let long = "x".repeat(10 << 20);
    for name in ["flow_text", "intent_json", "scenario_text"] {
        check_in_time(name, long.as_bytes());
        check_in_time(name, "\n".repeat(1 << 20).as_bytes());
        check_in_time(name, "((((".repeat(1 << 16).as_bytes());
    }
    for action in ["clone(", "write_actions(", "ct(commit,exec(", "learn(", "encap(", "check_pkt_larger("] {
        check_in_time("flow_text", format!("actions={}", action.repeat(20_000)).as_bytes());
    }
    check_in_time("flow_text", format!("actions={}", "output:1,".repeat(5_000)).as_bytes());
    check_in_time("flow_text", "ip,nw_src=10.0.0.1 actions=drop\n".repeat(5_000).as_bytes());
    for nesting in ["[", "{\"a\":", "{\"ports\":["] {
        check_in_time("intent_json", nesting.repeat(100_000).as_bytes());
    }
    check_in_time("scenario_text", "group g\n".repeat(20_000).as_bytes());
    let groups: String = (0..3_000).map(|number| format!("group g{number}\n")).collect();
    check_in_time("scenario_text", format!("layout strict\n{groups}").as_bytes());
    let events = "advance 1s\n".repeat(20_000);
    check_in_time("scenario_text", format!("layout strict\n{events}").as_bytes());
    check_in_time("scenario_text", format!("{}\n", "\"".repeat(1 << 20)).as_bytes());
}

#[test]
fn captures_that_lie_about_lengths_are_refused_in_time() {
    let header: Vec<u8> = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, u32::MAX, 1].map(u32::to_le_bytes).concat();
    for length in [0, 1, 16, 65_535, 262_144, 262_145, 0x7fff_ffff, 0x8000_0000, u32::MAX - 15, u32::MAX] {
        let record = [0, 0, length, length].map(u32::to_le_bytes).concat();
        check_in_time("pcap", &[header.clone(), record.clone(), vec![7; 20]].concat());
        let block = [6, length, 0, 0, 0, length, length].map(u32::to_le_bytes).concat();
        let section =
            [0x0a0d_0d0a_u32, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28].map(u32::to_le_bytes).concat();
        check_in_time("pcap", &[section, block, vec![7; 40]].concat());
    }
    check_in_time("pcap", &[header.clone(), vec![0; 8 << 20]].concat());
}

/// A port, alone with these tables.
fn host(text: &str) -> Host {
    let mac = MacAddr::from_bits(0x0200_0000_0001);
    let pair = Pair { mac, address: 0x0a00_0001, mask: 0xffff_ffff };
    let port =
        Port { ofport: 1, macs: [mac].into(), pairs4: [pair].into(), network: Some(5), ..Port::default() };
    let flows = parse_flows(text, &ParseOptions::default()).unwrap().flows;
    Host { tables: Tables::new(flows), ports: vec![port], tags: std::collections::BTreeMap::new() }
}

/// Claims about the tables, and what packets say of them: how many the claims forbid, or an objection.
#[track_caller]
fn check_claims(text: &str, claims: &[&str], objects: bool) {
    let proved: Vec<&Property> = claims.iter().map(|name| properties::by_name(name).unwrap()).collect();
    let mut forbidden = 0;
    for seed in 0..20 {
        let host = host(text);
        let profile = Profile::Userspace31;
        let held = Held { host: &host, sender: &host.ports[0], profile, proved: &proved };
        match oracles::hold_packets(&mut Choices::new(seed), &held, |_| {}) {
            Ok(count) => forbidden += count,
            Err(objection) => {
                assert!(objects, "{objection}");
                return;
            }
        }
    }
    assert!(!objects && forbidden > 20, "{forbidden} packets that {claims:?} forbid on\n{text}");
}

#[test]
fn packets_refute_claims_that_are_wrong_and_no_others() {
    let own = "priority=9,in_port=1,dl_src=02:00:00:00:00:01,ip,nw_src=10.0.0.1 actions=NORMAL\n";
    let any = "priority=9,in_port=1,ip actions=ct(table=1)\ntable=1,ct_state=+est actions=NORMAL\n\
               table=1,ct_state=+new actions=ct(commit),output:2\n";
    check_claims(own, &["spoofed-mac", "spoofed-ipv4", "spoofed-ipv6", "spoofed-arp"], false);
    check_claims(any, &["spoofed-mac"], true);
    check_claims(any, &["spoofed-ipv6", "spoofed-ipv4"], true);
    check_claims(any, &["spoofed-ipv6", "spoofed-arp"], false);
}
