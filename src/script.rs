//! The packets on the command line, in the order in which they stand there.
//!
//! `--in-port` holds for the packets after it (the first one also for those before it), `--advance` lets time pass
//! where it stands. Clap sorts options by name; their order comes from their indices.

use crate::failure::Failure;
use crate::input;
use crate::ports::Port;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use flowproof_packet::build::{ComposeOptions, compose};
use flowproof_packet::wire::{self, ethertype, proto};
use flowproof_packet::{Field, FlowKey, PortNo, pcap, port};
use flowproof_switch::flow::Match;
use flowproof_switch::flow::text::parse_match_with;
use flowproof_switch::pipeline::{PortKind, Start, is_metadata, tunnel_fields};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The options as clap collects them.
#[derive(Debug, Args)]
struct Collected {
    /// Port by which the packets that follow come in: a number, LOCAL, or a name from --ports
    #[arg(long, value_name = "PORT")]
    in_port: Vec<String>,
    /// A packet in flow syntax, with tun_id=, reg5=, ct_state= and the like; or what ofproto/trace prints after `Flow:`
    #[arg(long, value_name = "FLOW")]
    packet: Vec<String>,
    /// A packet as hexadecimal digits of the Ethernet frame
    #[arg(long, value_name = "HEX")]
    hex: Vec<String>,
    /// All packets of a capture (pcap or pcapng, Ethernet), at the times it gives
    #[arg(long, value_name = "FILE")]
    pcap: Vec<PathBuf>,
    /// Let time pass before the packets that follow, in milliseconds
    #[arg(long, value_name = "MS")]
    advance: Vec<u64>,
}

/// One step.
#[derive(Clone, Debug)]
enum Step {
    InPort(String),
    Packet(String),
    Hex(String),
    Pcap(PathBuf),
    Advance(u64),
}

/// The steps in order.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    steps: Vec<Step>,
}

impl FromArgMatches for Script {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let collected = Collected::from_arg_matches(matches)?;
        let mut steps: Vec<(usize, Step)> = Vec::new();
        let mut add = |name: &str, new: Vec<Step>| {
            steps.extend(matches.indices_of(name).into_iter().flatten().zip(new));
        };
        add("in_port", collected.in_port.into_iter().map(Step::InPort).collect());
        add("packet", collected.packet.into_iter().map(Step::Packet).collect());
        add("hex", collected.hex.into_iter().map(Step::Hex).collect());
        add("pcap", collected.pcap.into_iter().map(Step::Pcap).collect());
        add("advance", collected.advance.into_iter().map(Step::Advance).collect());
        steps.sort_by_key(|(index, _)| *index);
        Ok(Self { steps: steps.into_iter().map(|(_, step)| step).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Script {
    fn augment_args(command: Command) -> Command {
        Collected::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Collected::augment_args_for_update(command)
    }
}

/// A packet that comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// By which port.
    pub(crate) in_port: PortNo,
    /// What.
    pub(crate) frame: Vec<u8>,
    /// What it brings with it besides its bytes, and the table it begins in.
    pub(crate) start: Start,
    /// How long after the packet before it, in milliseconds.
    pub(crate) delay: u64,
}

/// What packets meet at the door.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Door<'p> {
    /// Numbers of ports by name.
    pub(crate) numbers: &'p BTreeMap<String, PortNo>,
    /// The ports that somebody has described.
    pub(crate) ports: &'p [Port],
    /// The table that packets begin in.
    pub(crate) table: u8,
}

impl Door<'_> {
    /// How a packet that was given `given` begins. What comes by a tunnel, or by a port that nobody has described, may
    /// bring tunnel fields with it, and the kernel's mark.
    fn start(&self, in_port: PortNo, given: Match) -> Start {
        // A list may be of several bridges, where one number is that of several ports.
        let mut kinds =
            self.ports.iter().filter(|port| port.ofport == in_port).map(|port| port.kind).peekable();
        let undescribed = kinds.peek().is_none() && in_port != port::LOCAL;
        let tunnel = undescribed || kinds.any(|kind| kind.is_none_or(PortKind::may_bring_tunnel_fields));
        let open = if tunnel { tunnel_fields().chain([Field::PktMark]).collect() } else { Vec::new() };
        Start { table: self.table, given, open }
    }
}

impl Script {
    /// The files it names.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.steps.iter().filter_map(|step| match step {
            Step::Pcap(path) => Some(path),
            Step::InPort(_) | Step::Packet(_) | Step::Hex(_) | Step::Advance(_) => None,
        })
    }

    /// The packets, all of them or none.
    pub(crate) fn arrivals(&self, door: Door<'_>) -> Result<Vec<Arrival>, Failure> {
        let first = self.steps.iter().find_map(|step| match step {
            Step::InPort(name) => Some(name),
            Step::Packet(_) | Step::Hex(_) | Step::Pcap(_) | Step::Advance(_) => None,
        });
        let mut in_port = first.map(|name| port_number(name, door)).transpose()?;
        let mut delay = 0;
        let mut arrivals = Vec::new();
        for step in &self.steps {
            let new = match step {
                Step::InPort(name) => {
                    in_port = Some(port_number(name, door)?);
                    continue;
                }
                Step::Advance(ms) => {
                    delay = u64::saturating_add(delay, *ms);
                    continue;
                }
                Step::Packet(flow) => vec![described(flow, in_port, door)?],
                Step::Hex(hex) => vec![(in_port, bytes_of(hex)?, Match::default(), 0)],
                Step::Pcap(path) => {
                    let frames = captured(path)?.into_iter();
                    frames.map(|(frame, wait)| (in_port, frame, Match::default(), wait)).collect()
                }
            };
            for (in_port, frame, given, wait) in new {
                let in_port =
                    in_port.ok_or_else(|| Failure::input(["which port? give --in-port".to_owned()]))?;
                let start = door.start(in_port, given);
                arrivals.push(Arrival { in_port, frame, start, delay: u64::saturating_add(delay, wait) });
                delay = 0;
            }
        }
        if arrivals.is_empty() {
            return Err(Failure::input(["no packet: give --packet, --hex or --pcap".to_owned()]));
        }
        Ok(arrivals)
    }
}

/// A packet: its port if it says so, its bytes, what else was said of it, and how long after the one before it.
type Described = (Option<PortNo>, Vec<u8>, Match, u64);

fn port_number(text: &str, door: Door<'_>) -> Result<PortNo, Failure> {
    let named = door.numbers.get(text).copied();
    let reserved = || text.eq_ignore_ascii_case("LOCAL").then_some(port::LOCAL);
    let number = || text.parse().ok().filter(|number| *number > 0 && *number < port::IN_PORT);
    named.or_else(reserved).or_else(number).ok_or_else(|| {
        Failure::input([format!(
            "--in-port: `{}` is no port number and no name from --ports",
            input::printable(text)
        )])
    })
}

/// What a packet has where the match leaves it open: the field, its value, and the ethertype and protocol it is for.
const DEFAULTS: &[(Field, u128, u16, Option<u8>)] = &[
    (Field::NwTtl, 64, ethertype::IPV4, None),
    (Field::NwTtl, 64, ethertype::IPV6, None),
    // SYN.
    (Field::TcpFlags, 2, ethertype::IPV4, Some(proto::TCP)),
    (Field::TcpFlags, 2, ethertype::IPV6, Some(proto::TCP)),
    // Echo request.
    (Field::Icmpv4Type, 8, ethertype::IPV4, Some(proto::ICMP)),
    (Field::Icmpv6Type, 128, ethertype::IPV6, Some(proto::ICMPV6)),
    // Request.
    (Field::ArpOp, 1, ethertype::ARP, None),
    (Field::ArpOp, 3, ethertype::RARP, None),
];

/// The packet that a match describes: the bits that it names, [`DEFAULTS`], and zero for the others.
fn completed(matching: &Match) -> FlowKey {
    let mut key = FlowKey::default();
    for part in matching.words() {
        key.set_word(usize::from(part.word), part.value, part.mask);
    }
    let (dl_type, nw_proto) = (key.get(Field::DlType), key.get(Field::NwProto));
    for (field, value, for_type, for_proto) in DEFAULTS {
        let applies =
            u128::from(*for_type) == dl_type && for_proto.is_none_or(|proto| u128::from(proto) == nw_proto);
        if applies && !matching.looks_at(*field) {
            key.set(*field, *value);
        }
    }
    if matches!(dl_type as u16, ethertype::ARP | ethertype::RARP) && !matching.looks_at(Field::ArpSha) {
        key.set(Field::ArpSha, key.get(Field::DlSrc));
    }
    key
}

/// Items that `ofproto/trace` prints under other names than it takes, or that have no other value in a frame.
const PRINTED: &[(&str, &str)] =
    &[("gtpu_flags=", "tun_gtpu_flags="), ("gtpu_msgtype=", "tun_gtpu_msgtype="), ("eth,", "")];

/// Fields whose zero differs from what a packet has by default.
const ZERO_COUNTS: &[&str] =
    &["nw_ttl", "tcp_flags", "icmp_type", "icmp_code", "icmpv6_type", "arp_op", "arp_sha", "in_port"];

/// What `ofproto/trace` prints behind `Flow:`, as a packet: it names every field, also those that the packet does not
/// have, and they are zero.
fn printed_flow(text: &str) -> Option<String> {
    let line = text.trim().strip_prefix("Flow:")?.trim();
    let line = PRINTED.iter().fold(line.to_owned(), |line, (printed, taken)| line.replace(printed, taken));
    let nsh = line.contains("nsh_");
    let is_zero = |value: &str| {
        let digits = value.strip_prefix("0x").unwrap_or(value);
        value == "no" || !digits.is_empty() && digits.chars().all(|c| matches!(c, '0' | ':' | '.'))
    };
    let counts = |item: &&str| match item.split_once('=') {
        Some((name, value)) if is_zero(value) => ZERO_COUNTS.contains(&name) && !(nsh && name == "nw_ttl"),
        _ => true,
    };
    Some(line.split(',').filter(counts).collect::<Vec<_>>().join(","))
}

/// A packet in flow syntax: the match of a flow, or what `ofproto/trace` prints.
fn described(text: &str, in_port: Option<PortNo>, door: Door<'_>) -> Result<Described, Failure> {
    let printed = printed_flow(text);
    let text = printed.as_deref().unwrap_or(text);
    let complaint = |column: u32, message: &str, text: &str| {
        Failure::input([format!("--packet:1:{column}: {message}: `{}`", input::printable(text))])
    };
    let matching = parse_match_with(text, door.numbers)
        .map_err(|error| complaint(error.column, &error.message, &error.text))?;
    let key = completed(&matching);
    let own = PortNo::try_from(key.get(Field::InPort)).ok().filter(|port| *port != 0);
    let in_port = own.or(in_port);
    let frame = compose(&key, &ComposeOptions::default());
    let real = wire::extract(&frame, in_port.unwrap_or_default());
    let missing = Field::all().filter(|field| !is_metadata(*field)).find(|field| {
        let (value, mask) = matching.get(*field);
        real.get(*field) & mask != value
    });
    match missing {
        None => Ok((in_port, frame, matching, 0)),
        Some(field) => {
            let message = format!("no such frame can come in, because of {}", field.spec().name);
            Err(complaint(1, &message, text))
        }
    }
}

/// The frames of a capture, each with the time since the one before it in milliseconds.
fn captured(path: &Path) -> Result<Vec<(Vec<u8>, u64)>, Failure> {
    let name = input::name(path);
    let bytes = input::read_bytes(path)?;
    let complaint =
        |what: &dyn Display| Failure::input([format!("{name}: {}", input::printable(&what.to_string()))]);
    let mut frames = Vec::new();
    let mut last: Option<Duration> = None;
    for record in pcap::read(&bytes).map_err(|error| complaint(&error))? {
        let record = record.map_err(|error| complaint(&error))?;
        if record.is_cut() {
            let (held, length) = (record.frame.len(), record.original_len);
            let position = record.position;
            return Err(complaint(&format!(
                "byte {position}: only {held} of the frame's {length} bytes were captured"
            )));
        }
        let wait = last.map_or(Duration::ZERO, |last| record.timestamp.saturating_sub(last));
        last = Some(record.timestamp);
        frames.push((record.frame.to_vec(), u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
    }
    Ok(frames)
}

/// The bytes of a frame in hexadecimal; blanks, colons and a leading `0x` do not matter.
fn bytes_of(hex: &str) -> Result<Vec<u8>, Failure> {
    let place = |column: usize| format!("--hex:1:{column}");
    let digits = hex.strip_prefix("0x").unwrap_or(hex);
    let skipped = hex.chars().count() - digits.chars().count();
    let mut nibbles = Vec::with_capacity(digits.len());
    for (at, digit) in digits.chars().enumerate().filter(|(_, c)| !c.is_whitespace() && *c != ':') {
        let value = digit.to_digit(16).ok_or_else(|| {
            let digit = input::printable(&digit.to_string());
            Failure::input([format!("{}: not a hexadecimal digit: `{digit}`", place(skipped + at + 1))])
        })?;
        nibbles.push(value as u8);
    }
    let (pairs, rest) = nibbles.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Failure::input([format!("{}: an odd number of digits", place(hex.chars().count()))]));
    }
    const SHORTEST: usize = 14;
    if pairs.len() < SHORTEST {
        let count = pairs.len();
        return Err(Failure::input([format!("{}: {count} bytes are no Ethernet frame", place(1))]));
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}
