//! Writes the seeds of all fuzz targets and the dictionaries of those that read text, from the fixtures of the tests.
//!
//! `cargo run -p flowproof-fuzz --example seeds -- DIRECTORY`, from the root of the repository; `make fuzz-seeds`.
//! Invariant: the same fixtures give the same files. A seed earns its place by something that no earlier one has.

use flowproof_compiler::Layout;
use flowproof_fuzz::campaign::{Subject, bytes_of, case};
use flowproof_fuzz::choices::bytes;
use flowproof_fuzz::coverage::Template;
use flowproof_fuzz::scenario::BYTES;
use flowproof_lockstep::{parse_with, run};
use flowproof_packet::pcap::Writer;
use flowproof_packet::{Field, wire};
use flowproof_switch::conntrack::Profile;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Error};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Cases among which those of the agreement targets are chosen.
const CASES: u64 = 300;

/// Words of flow text besides the names of fields.
const FLOW_WORDS: &[&str] = &[
    "table=",
    "priority=",
    "cookie=0x1",
    "idle_timeout=",
    "actions=",
    "drop",
    "output:",
    "NORMAL",
    "IN_PORT",
    "resubmit(,",
    "goto_table:",
    "ct(commit,zone=",
    "ct(table=",
    "exec(load:",
    "->NXM_NX_CT_MARK[]",
    "nat(src=",
    "ct_clear",
    "strip_vlan",
    "push_vlan:0x8100",
    "set_field:",
    "load:0x",
    "move:NXM_OF_ETH_SRC[]->",
    "NXM_NX_REG0[0..15]",
    "conjunction(1,1/2)",
    "conj_id=",
    "learn(table=",
    "ct_state=+trk-new",
    "+est",
    "+inv",
    "tcp",
    "udp6",
    "icmp6",
    "arp",
    "sctp",
    "ip",
    "ipv6",
    "/0xffff",
    "note:00",
    "group:1",
    "write_actions(",
    "reset_counts",
    "controller",
    "fa:16:3e:00:00:01",
    "10.0.0.0/24",
    "fd00::1",
    "in_port=",
    "reg5=0x1",
];

/// Words of scenarios.
const SCENARIO_WORDS: &[&str] = &[
    "layout ",
    "neutron",
    "strict",
    "mitaka",
    "datapath ",
    "switch ",
    "network ",
    " vlan ",
    " vxlan ",
    "physnet1",
    "uplink ",
    "provider",
    "tunnel",
    "option ",
    "group ",
    "  rule ",
    "ingress ",
    "egress ",
    "IPv4 ",
    "IPv6 ",
    " with group ",
    " with addresses ",
    "port ",
    " mac ",
    " ofport ",
    " ip ",
    " pair ",
    " owner ",
    "unfiltered",
    "addresses ",
    "packet ",
    " > ",
    "hex ",
    "error ",
    "add-rule ",
    "remove-rule ",
    "add-group ",
    "remove-group ",
    "add-member ",
    "remove-member ",
    "set-addresses ",
    "remove-port ",
    "update-port ",
    "advance 30s",
    "flush",
    "  expect ",
    "delivered ",
    "dropped",
    "  divergence ",
    "flows\n",
    "seq=",
    "ack=",
    "payload=",
    "fragment=",
    "icmp-id=",
    "bad-checksum",
];

/// Words of intents.
const INTENT_WORDS: &[&str] = &[
    "\"networks\"",
    "\"security_groups\"",
    "\"security_group_rules\"",
    "\"address_groups\"",
    "\"ports\"",
    "\"host\"",
    "\"bindings\"",
    "\"uplinks\"",
    "\"options\"",
    "\"id\"",
    "\"direction\"",
    "\"ingress\"",
    "\"egress\"",
    "\"ethertype\"",
    "\"IPv4\"",
    "\"IPv6\"",
    "\"protocol\"",
    "\"tcp\"",
    "\"port_range_min\"",
    "\"port_range_max\"",
    "\"remote_ip_prefix\"",
    "\"remote_group_id\"",
    "\"remote_address_group_id\"",
    "\"mac_address\"",
    "\"fixed_ips\"",
    "\"ip_address\"",
    "\"allowed_address_pairs\"",
    "\"port_security_enabled\"",
    "\"device_owner\"",
    "\"network_id\"",
    "\"provider:network_type\"",
    "\"provider:segmentation_id\"",
    "\"port_id\"",
    "\"ofport\"",
    "\"vlan\"",
    "null",
];

fn main() -> io::Result<()> {
    let root = std::env::args_os().nth(1).map(PathBuf::from);
    let root = root.ok_or_else(|| Error::other("usage: seeds DIRECTORY"))?;
    write(&root, "flow_text", flow_lines()?)?;
    let frames = frames()?;
    write(&root, "pcap", captures(&frames)?)?;
    write(&root, "frame", frames)?;
    write(&root, "intent_json", files("tests/fixtures/intents", "json")?)?;
    write(&root, "scenario_text", files("tests/scenarios", "scn")?)?;
    for (target, layout) in [
        ("agreement_mitaka", Layout::Mitaka),
        ("agreement_neutron", Layout::Neutron),
        ("agreement_strict", Layout::Strict),
        ("stateful", Layout::Strict),
    ] {
        write(&root, target, cases(layout))?;
    }
    for target in ["symbolic", "engines", "fast_classifier", "diff"] {
        write(&root, target, (0..12).map(|seed| bytes(seed, 1500)).collect())?;
    }
    write(&root, "real_switch", (0..6).map(|seed| bytes(seed, BYTES)).collect())?;
    let names = Field::all().map(|field| format!("{}=", field.spec().name)).collect::<Vec<_>>();
    let names: Vec<&str> = names.iter().map(String::as_str).chain(FLOW_WORDS.iter().copied()).collect();
    dictionary(&root, "flow_text", &names)?;
    dictionary(&root, "scenario_text", SCENARIO_WORDS)?;
    dictionary(&root, "intent_json", INTENT_WORDS)
}

/// Replaces the seeds of a target.
fn write(root: &Path, target: &str, seeds: Vec<Vec<u8>>) -> io::Result<()> {
    let directory = root.join(target);
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::create_dir_all(&directory)?,
    }
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(directory.join(format!("{number:03}")), seed)?;
    }
    Ok(())
}

fn dictionary(root: &Path, target: &str, words: &[&str]) -> io::Result<()> {
    let line = |word: &&str| {
        format!("\"{}\"\n", word.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\x0a"))
    };
    fs::write(root.join(format!("{target}.dict")), words.iter().map(line).collect::<String>())
}

/// The contents of all files of a directory, by name.
fn files(directory: &str, extension: &str) -> io::Result<Vec<Vec<u8>>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|it| it == extension));
    paths.sort();
    paths.iter().map(fs::read).collect()
}

/// A line of each shape: what is left of genuine flows without their numbers.
fn flow_lines() -> io::Result<Vec<Vec<u8>>> {
    let mut releases: Vec<PathBuf> = fs::read_dir("tests/fixtures/corpus")?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    releases.sort();
    let (mut shapes, mut lines) = (BTreeSet::new(), Vec::new());
    for release in releases {
        for kind in ["flows", "dump"] {
            for file in files(&release.to_string_lossy(), kind)? {
                for line in String::from_utf8_lossy(&file).lines() {
                    let shape: String =
                        line.chars().filter(|c| !c.is_ascii_hexdigit() && *c != ':').collect();
                    if shapes.insert(shape) {
                        lines.push(line.as_bytes().to_vec());
                    }
                }
            }
        }
    }
    // Many in one file: what is true of each line is true of all.
    let all = lines.chunks(12).map(|chunk| chunk.join(&b'\n'));
    Ok(all.collect())
}

/// A frame of each kind that the scenarios send.
fn frames() -> io::Result<Vec<Vec<u8>>> {
    let (mut kinds, mut frames) = (BTreeSet::new(), Vec::new());
    for text in files("tests/scenarios", "scn")? {
        let beside = &mut |file: &str| {
            fs::read_to_string(Path::new("tests/scenarios").join(file)).map_err(|error| error.to_string())
        };
        let scenario = parse_with(&String::from_utf8_lossy(&text), beside).map_err(Error::other)?;
        let layout = scenario.layouts().first().copied().flatten();
        let played = run(&scenario, layout).map_err(Error::other)?;
        for frame in played.observations().flat_map(|(_, seen)| &seen.arrival.frames) {
            let key = wire::extract(frame, 0);
            let kind = [
                Field::DlType,
                Field::NwProto,
                Field::NwFrag,
                Field::TcpFlags,
                Field::VlanTpid,
                Field::Icmpv6Type,
            ]
            .map(|field| key.get(field));
            if kinds.insert(kind) {
                frames.push(frame.clone());
            }
        }
    }
    Ok(frames)
}

/// The frames as captures: short ones of either byte order and resolution, and a long one.
fn captures(frames: &[Vec<u8>]) -> io::Result<Vec<Vec<u8>>> {
    let capture = |frames: &[Vec<u8>]| {
        let mut writer = Writer::new(Vec::new())?;
        for (number, frame) in frames.iter().enumerate() {
            writer.write(Duration::from_millis(number as u64), frame)?;
        }
        Ok::<_, Error>(writer.into_inner())
    };
    let few = frames.get(..2).unwrap_or(frames);
    let short = capture(few)?;
    let mut captures = vec![capture(frames)?, short.clone()];
    for magic in [[0xd4, 0xc3, 0xb2, 0xa1], [0xa1, 0xb2, 0xc3, 0xd4], [0xa1, 0xb2, 0x3c, 0x4d]] {
        captures.push(magic.into_iter().chain(short.iter().skip(4).copied()).collect());
    }
    captures.push(next_generation(few));
    Ok(captures)
}

/// A pcapng file: section header, one interface, enhanced packets.
fn next_generation(frames: &[Vec<u8>]) -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let padded = body.len().next_multiple_of(4);
        let length = (padded as u32 + 12).to_le_bytes();
        let mut all = [&kind.to_le_bytes()[..], &length, body].concat();
        all.resize(8 + padded, 0);
        [all, length.to_vec()].concat()
    };
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut file = block(0x0a0d_0d0a, &words(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]));
    file.extend(block(1, &words(&[1, 65_535])));
    for frame in frames {
        let length = frame.len() as u32;
        file.extend(block(6, &[words(&[0, 0, 1, length, length]), frame.clone()].concat()));
    }
    file
}

/// What a case has reached.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    Reason(&'static str),
    Template(Template),
    Known(&'static str),
}

/// Cases that reach something that no earlier one has.
fn cases(layout: Layout) -> Vec<Vec<u8>> {
    let mut reached = BTreeSet::new();
    let mut seeds = Vec::new();
    for number in 0..CASES {
        let coverage = case(&Subject::Compiled(layout, Profile::Userspace31), 1, number).coverage;
        let before = reached.len();
        reached.extend(coverage.reasons.into_iter().map(Reached::Reason));
        let hit = coverage.templates.into_iter().filter(|(_, hit)| *hit);
        reached.extend(hit.map(|(template, _)| Reached::Template(template)));
        reached.extend(coverage.known.into_keys().map(Reached::Known));
        if reached.len() > before {
            seeds.push(bytes_of(1, number));
        }
    }
    seeds
}
