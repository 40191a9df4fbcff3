//! `flowproof trace`: packets through the tables, one after the other, with connection state kept between them.

use crate::console::{Console, Style};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::flows::{FlowOptions, Flows, PORTS_HELP, tool};
use crate::input;
use crate::script::{Arrival, Door, Script};
use crate::text::{hanging, list};
use clap::{Args, ValueEnum};
use flowproof_packet::summary::summary;
use flowproof_packet::{MacAddr, PortNo, pcap, port, wire};
use flowproof_switch::conntrack::{Entry, Profile};
use flowproof_switch::flow::{key_to_text, ports};
use flowproof_switch::pipeline::{
    DropReason, Effect, NOT_GIVEN, Outcome, PortConfig, Switch, SwitchConfig, Unlisted,
};
use flowproof_switch::table::{FlowId, Tables};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Options of `trace`.
#[derive(Debug, Args)]
#[command(after_help = format!("Examples:
  flowproof trace examples/mitaka-2016/flows.txt --in-port 13 \\
    --packet arp,dl_src=fa:16:3e:e9:f9:c8,arp_spa=10.0.1.8,arp_tpa=10.0.1.7
  flowproof trace flows.txt --in-port 1 --packet tcp,…,tp_dst=22 \\
    --in-port 13 --packet tcp,…,tp_src=22,tcp_flags=+syn+ack
  flowproof trace flows.txt --ports ports.json --in-port tap1 --pcap in.pcap

Packets go in as they stand on the command line. With -v each comes with all its
fields, and after it stands what the switch remembers: tracked connections and
how long they last, learned addresses. A packet in flow syntax has
TTL 64, SYN, echo request, ARP request and arp_sha=dl_src where it does not say
otherwise, and zeroes elsewhere. Tunnel fields and pkt_mark that it was not
given are zero; where a flow asks for them and the port may be a tunnel's, the
answer is unknown.

Exit codes: 0 all packets traced, 2 wrong usage or input, 3 something that is
not modelled had a part in it.

{PORTS_HELP}
Without it every port is taken for a trunk, which only NORMAL looks at."))]
pub(crate) struct Options {
    #[command(flatten)]
    flows: FlowOptions,
    #[command(flatten)]
    script: Script,
    /// Table in which packets begin
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=254))]
    table: u8,
    /// Whose connection tracking
    #[arg(long, value_name = "PROFILE", default_value = Profile::Userspace31.name(), value_parser = profile)]
    datapath: Profile,
    /// Write what left the switch to a capture
    #[arg(long, value_name = "FILE")]
    pcap_out: Option<PathBuf>,
    /// How to print the traces
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn profile(name: &str) -> Result<Profile, String> {
    let known = Profile::ALL.into_iter().find(|profile| profile.name() == name);
    known.ok_or_else(|| format!("the datapaths are {}", list(Profile::ALL.map(Profile::name))))
}

/// A packet and what became of it.
struct Traced {
    arrival: Arrival,
    outcome: Outcome,
    /// For `-v` only: to list it after each of many packets takes long.
    memory: Option<Memory>,
}

/// What the switch remembers after a packet.
struct Memory {
    /// Connections, as `ovs-appctl dpctl/dump-conntrack` prints them, and how long each lasts without a packet.
    connections: Vec<(String, Duration)>,
    /// Where `NORMAL` has seen which address: port, VLAN, address.
    addresses: Vec<(PortNo, u16, MacAddr)>,
}

impl Memory {
    fn of(switch: &Switch) -> Self {
        let tracking = switch.conntrack();
        let left = |entry: &Entry| Duration::from_millis(entry.expires().saturating_sub(tracking.now()));
        let mut connections: Vec<_> =
            tracking.entries().map(|entry| (entry.to_string(), left(&entry))).collect();
        connections.sort_unstable();
        Self { connections, addresses: switch.fdb().entries() }
    }

    /// A line for each, for `-v`.
    fn text(&self) -> String {
        let mut out = String::new();
        for (entry, left) in &self.connections {
            out.push_str(&hanging("  tracked: ", &format!("{entry}, for {}s", left.as_secs())));
        }
        for (port, vlan, mac) in &self.addresses {
            let _infallible = writeln!(out, "  learned: {mac} in VLAN {vlan} on port {}", port_name(*port));
        }
        if out.is_empty() {
            out.push_str("  nothing is tracked, no address is learned\n");
        }
        out
    }

    fn json(&self) -> Value {
        let connection = |(entry, left): &(String, Duration)| json!({"entry": entry, "expires_in_ms": left.as_millis() as u64});
        let address = |(port, vlan, mac): &(PortNo, u16, MacAddr)| json!({"port": port_name(*port), "vlan": vlan, "mac": mac.to_string()});
        json!({
            "connections": self.connections.iter().map(connection).collect::<Vec<Value>>(),
            "addresses": self.addresses.iter().map(address).collect::<Vec<Value>>(),
        })
    }
}

/// Sends the packets through, prints.
pub(crate) fn run(options: &Options, console: &Console) -> Result<Exit, Failure> {
    let inputs = [&options.flows.flows].into_iter().chain(&options.flows.ports).chain(options.script.files());
    input::only_one_stdin(inputs)?;
    let flows = options.flows.read(console)?;
    let known = flows.ports.as_deref().unwrap_or_default();
    let door = Door { numbers: &flows.numbers, ports: known, table: options.table };
    let arrivals = options.script.arrivals(door)?;
    let ports = port_configs(&flows, &arrivals);
    let assumptions = assumptions(options, &flows, &ports);
    let tables = Arc::new(Tables::new(flows.file.flows.clone()));
    let mut switch = Switch::new(
        Arc::clone(&tables),
        SwitchConfig { profile: options.datapath, ..SwitchConfig::new(ports) },
    )
    .with_unlisted(if flows.ports.is_none() { Unlisted::There } else { Unlisted::Absent });
    let traced: Vec<_> =
        arrivals.into_iter().map(|arrival| trace(&mut switch, arrival, console.verbose)).collect();
    if let Some(path) = &options.pcap_out {
        write_capture(path, &traced)?;
    }
    let text = match options.format {
        Format::Text => text(&tables, &traced, console),
        Format::Json => json(options, &flows, &assumptions, &tables, &traced),
    };
    if options.format == Format::Text {
        assumptions.iter().for_each(|assumption| console.remark(assumption));
    }
    console.print(text.as_bytes())?;
    let opaque = traced.iter().any(|traced| traced.outcome.is_opaque());
    Ok(if opaque { Exit::Inconclusive } else { Exit::Holds })
}

fn trace(switch: &mut Switch, arrival: Arrival, verbose: bool) -> Traced {
    switch.advance(arrival.delay);
    let outcome = switch.receive_from(arrival.in_port, &arrival.frame, &arrival.start);
    Traced { arrival, outcome, memory: verbose.then(|| Memory::of(switch)) }
}

/// The ports of `--ports`, and those that the flows and the packets mention.
fn port_configs(flows: &Flows, arrivals: &[Arrival]) -> Vec<PortConfig> {
    let known = flows.ports.iter().flatten();
    let mut configs: Vec<_> =
        known.map(|port| PortConfig { access_vlan: port.tag, ..PortConfig::trunk(port.ofport) }).collect();
    let mut mentioned: BTreeSet<PortNo> = arrivals.iter().map(|arrival| arrival.in_port).collect();
    if flows.ports.is_none() {
        mentioned.extend(ports::named(&flows.file.flows).into_iter().filter(|number| *number != port::LOCAL));
    }
    mentioned
        .retain(|number| *number != port::LOCAL && configs.iter().all(|config| config.ofport != *number));
    configs.extend(mentioned.into_iter().map(PortConfig::trunk));
    configs
}

fn assumptions(options: &Options, flows: &Flows, ports: &[PortConfig]) -> Vec<String> {
    let mut assumptions = Vec::new();
    if flows.ports.is_none() {
        let numbers = list(ports.iter().map(|config| config.ofport.to_string()));
        assumptions.push(format!(
            "assumed: the ports are {numbers} and LOCAL, all of them trunks (--ports says otherwise)"
        ));
    }
    if !options.datapath.is_validated() {
        assumptions.push(format!("unvalidated: no experiment has judged `{}`", options.datapath.name()));
    }
    assumptions
}

/// What left the switch, at the times of its clock, which begins at zero.
fn write_capture(path: &Path, traced: &[Traced]) -> Result<(), Failure> {
    let mut writer = pcap::Writer::new(Vec::new())?;
    let mut now = Duration::ZERO;
    for Traced { arrival, outcome, .. } in traced {
        now = now.saturating_add(Duration::from_millis(arrival.delay));
        for (_, frame) in outcome.delivered() {
            writer.write(now, &frame)?;
        }
    }
    std::fs::write(path, writer.into_inner()).map_err(|error| input::io_failure(path, &error))
}

fn port_name(number: PortNo) -> String {
    if number == port::LOCAL { "LOCAL".to_owned() } else { number.to_string() }
}

fn text(tables: &Tables, traced: &[Traced], console: &Console) -> String {
    let (mut out, style) = (String::new(), console.style);
    for (at, Traced { arrival, outcome, memory }) in traced.iter().enumerate() {
        let label = format!("packet {}, port {}: ", at + 1, port_name(arrival.in_port));
        let heading = hanging(&label, &summary(&arrival.frame));
        let separator = if at == 0 { "" } else { "\n" };
        let _infallible = write!(out, "{separator}{}", style.strong(heading.trim_end()));
        out.push('\n');
        if console.verbose {
            out.push_str(&hanging("  fields: ", &fields(arrival)));
        }
        if let Some(trace) = &outcome.trace {
            out.push_str(&trace.render(tables));
        }
        out.push_str(&ending(tables, arrival, outcome, style));
        out.push_str(&memory.as_ref().map_or_else(String::new, Memory::text));
    }
    out
}

/// Everything that flows can match on of a packet as it comes in.
fn fields(arrival: &Arrival) -> String {
    let mut key = wire::extract(&arrival.frame, arrival.in_port);
    arrival.start.put(&mut key);
    key_to_text(&key)
}

/// What became of the packet, in a few lines.
fn ending(tables: &Tables, arrival: &Arrival, outcome: &Outcome, style: Style) -> String {
    let mut out = String::new();
    for (ports, frame) in grouped(outcome.delivered()) {
        let changed = if frame == arrival.frame { "unchanged".to_owned() } else { summary(&frame) };
        let ports = list(ports.into_iter().map(port_name));
        let line = hanging("= ", &format!("leaves by {ports}: {changed}"));
        out.push_str(&style.good(line.trim_end()));
        out.push('\n');
    }
    for effect in &outcome.effects {
        let line = match effect {
            Effect::Controller { .. } => "= a copy goes to the controller".to_owned(),
            Effect::Opaque { flow, text } => hanging("= ", &unknown(tables, *flow, text)),
            Effect::Output { .. } | Effect::Normal { .. } => continue,
        };
        let _infallible = writeln!(out, "{}", style.bad(line.trim_end()));
    }
    if let Some(reason) = outcome.dropped {
        let line = hanging("= ", &format!("dropped: {}", because(tables, reason)));
        let _infallible = writeln!(out, "{}", style.bad(line.trim_end()));
    }
    out
}

/// Why it is unknown what becomes of a packet.
fn unknown(tables: &Tables, flow: FlowId, text: &str) -> String {
    let place = place(tables, flow);
    match text.strip_prefix(NOT_GIVEN) {
        Some(fields) => format!("unknown: {place} asks for {fields}, which the packet was not given"),
        None => format!("unknown: `{text}` of {place} is not modelled"),
    }
}

/// Deliveries of the same frame together, in the order of the first.
fn grouped(deliveries: Vec<(PortNo, Vec<u8>)>) -> Vec<(Vec<PortNo>, Vec<u8>)> {
    let mut groups: Vec<(Vec<PortNo>, Vec<u8>)> = Vec::new();
    for (number, frame) in deliveries {
        match groups.iter_mut().find(|(_, other)| *other == frame) {
            Some((numbers, _)) => numbers.push(number),
            None => groups.push((vec![number], frame)),
        }
    }
    groups
}

fn place(tables: &Tables, id: FlowId) -> String {
    let line = tables.flow(id).map_or(0, |flow| flow.span.line);
    format!("line {line}")
}

fn because(tables: &Tables, reason: DropReason) -> String {
    match reason {
        DropReason::Flow(id) => format!("{} sends it nowhere", place(tables, id)),
        other => other.to_string(),
    }
}

fn json(
    options: &Options,
    flows: &Flows,
    assumptions: &[String],
    tables: &Tables,
    traced: &[Traced],
) -> String {
    let report = json!({
        "schema": 1,
        "tool": tool(),
        "inputs": {"flows": flows.json()},
        "assumptions": assumptions,
        "datapath": options.datapath.name(),
        "packets": traced.iter().map(|traced| packet_json(tables, traced)).collect::<Vec<Value>>(),
    });
    format!("{report:#}\n")
}

fn packet_json(tables: &Tables, Traced { arrival, outcome, memory }: &Traced) -> Value {
    let step = |(table, id): (u8, FlowId)| {
        let flow = tables.flow(id);
        json!({"table": table, "line": flow.map(|flow| flow.span.line), "flow": flow.map(ToString::to_string)})
    };
    let output = |(number, frame): &(PortNo, Vec<u8>)| json!({"port": port_name(*number), "hex": hex(frame), "summary": summary(frame)});
    let unknown = outcome.effects.iter().filter_map(|effect| match effect {
        Effect::Opaque { flow, text } => {
            Some(json!({"line": tables.flow(*flow).map(|flow| flow.span.line), "text": text}))
        }
        Effect::Output { .. } | Effect::Normal { .. } | Effect::Controller { .. } => None,
    });
    let path = outcome.trace.iter().flat_map(|trace| trace.path());
    let mut report = json!({
        "packet": {
            "in_port": port_name(arrival.in_port),
            "hex": hex(&arrival.frame),
            "flow": fields(arrival),
            "summary": summary(&arrival.frame),
        },
        "path": path.map(step).collect::<Vec<Value>>(),
        "outputs": outcome.delivered().iter().map(output).collect::<Vec<Value>>(),
        "controller": outcome.effects.iter().any(|effect| matches!(effect, Effect::Controller { .. })),
        "dropped": outcome.dropped.map(|reason| because(tables, reason)),
        "unknown": unknown.collect::<Vec<Value>>(),
    });
    if let (Some(report), Some(memory)) = (report.as_object_mut(), memory) {
        report.insert("memory".to_owned(), memory.json());
    }
    report
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
