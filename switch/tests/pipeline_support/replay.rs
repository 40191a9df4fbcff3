//! Replays a fixture that `tests/fixtures/ovs/semantics.py` or `scenarios.py` wrote.

use flowproof_packet::{PortNo, port, wire};
use flowproof_switch::{
    conntrack::{CtInfo, state},
    flow::{Groups, ParseOptions, parse_flows},
    pipeline::{Effect, Outcome, PortConfig, Switch, SwitchConfig, trace_stateless},
    table::Tables,
};
use std::{collections::BTreeMap, fmt::Write, sync::Arc};

/// The flows of the host of 2016.
const HOST: &str = include_str!("../../../examples/mitaka-2016/flows.txt");

struct Replay {
    case: String,
    groups: String,
    flows: String,
    loading: bool,
    ports: Vec<PortConfig>,
    switch: Switch,
    frames: usize,
    last: Option<Outcome>,
    expected: Vec<String>,
    complaints: String,
}

/// Replays all cases; `frames` is how many the fixture has at least, so that a broken reader cannot pass.
#[track_caller]
pub(crate) fn check(fixture: &str, frames: usize) {
    let mut replay = Replay {
        case: String::new(),
        groups: String::new(),
        flows: String::new(),
        loading: false,
        ports: Vec::new(),
        switch: fresh(Vec::new()),
        frames: 0,
        last: None,
        expected: Vec::new(),
        complaints: String::new(),
    };
    let mut lines = fixture.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let fields: Vec<&str> = line.split('\t').collect();
        let next = lines.peek().map_or("", |(_, line)| line.split('\t').next().unwrap_or(""));
        replay.step(number + 1, &fields, next);
    }
    assert!(replay.frames >= frames, "only {} frames", replay.frames);
    let wrong = replay.complaints.matches("\n-- ").count();
    assert!(wrong == 0, "{wrong} of {} frames and dumps differ:{}", replay.frames, replay.complaints);
}

fn fresh(ports: Vec<PortConfig>) -> Switch {
    Switch::new(Arc::new(Tables::default()), SwitchConfig::new(ports))
}

impl Replay {
    fn step(&mut self, number: usize, fields: &[&str], next: &str) {
        if fields[0] != "flow" {
            self.loading = false;
        }
        match fields {
            ["case", name] => {
                self.case = (*name).to_owned();
                self.ports.clear();
                self.groups.clear();
            }
            ["group", text] => {
                self.groups.push_str(text);
                self.groups.push('\n');
            }
            ["ports", list] => {
                self.ports = list.split(' ').map(read_port).collect();
                self.switch = fresh(self.ports.clone());
            }
            ["flow", text] => {
                if !self.loading {
                    self.flows.clear();
                }
                self.loading = true;
                self.flows.push_str(text);
                self.flows.push('\n');
                if next != "flow" {
                    self.load();
                }
            }
            ["file", except] => {
                let kept = HOST.lines().filter(|line| *except == "-" || !line.contains(except));
                self.flows = kept.collect::<Vec<_>>().join("\n");
                self.load();
            }
            ["empty"] => self.switch.replace_tables(Arc::new(Tables::default())),
            ["warp", ms] => self.switch.advance(ms.parse().unwrap()),
            ["flush"] => {
                self.switch.conntrack_mut().flush(None);
                self.switch.flush_fdb();
            }
            ["limit", bytes] => {
                self.switch.conntrack_mut().options.min_fragment_v4 = bytes.parse().unwrap();
            }
            ["in", port, frame, outputs] => self.receive(number, port.parse().unwrap(), frame, outputs),
            ["trace", port, frame, scripts @ ..] => {
                for script in scripts {
                    self.trace(number, port.parse().unwrap(), &unhex(frame), script);
                }
            }
            [dump @ ("ct" | "fdb"), text] => {
                self.expected.push((*text).to_owned());
                if next != *dump {
                    self.dump(number, dump);
                }
            }
            other => panic!("line {number}: {other:?}"),
        }
    }

    fn load(&mut self) {
        let mut file = parse_flows(&self.flows, &ParseOptions::default())
            .unwrap_or_else(|error| panic!("{}: {error}", self.case));
        Groups::parse(&self.groups, &BTreeMap::new()).unwrap().resolve(&mut file.flows);
        self.switch.replace_tables(Arc::new(Tables::new(file.flows)));
    }

    fn receive(&mut self, number: usize, in_port: PortNo, frame: &str, outputs: &str) {
        let frame = unhex(frame);
        let before = self.switch.fdb().clone();
        let outcome = self.switch.receive_traced(in_port, &frame);
        let mut delivered = outcome.delivered();
        let controller = outcome.effects.iter().any(|effect| matches!(effect, Effect::Controller { .. }));
        assert_eq!(outcome.dropped.is_none(), controller || !delivered.is_empty(), "{}", self.case);
        delivered.sort_by_key(|(port, _)| *port);
        let cells: Vec<String> = delivered
            .iter()
            .map(|(port, out)| format!("{port}:{}", if *out == frame { "=".to_owned() } else { hex(out) }))
            .collect();
        let got = if cells.is_empty() { "-".to_owned() } else { cells.join(" ") };
        self.frames += 1;
        if got != outputs {
            let trace = outcome.trace.as_ref().map(|trace| trace.render(self.switch.tables()));
            let _ = write!(
                self.complaints,
                "\n-- {} (line {number})\nin   {in_port} {}\nwant {outputs}\ngot  {got}\nfdb {:?}\n{}",
                self.case,
                hex(&frame),
                before.entries(),
                trace.unwrap_or_default()
            );
        }
        self.last = Some(outcome);
    }

    /// Without memory of connections, with the frame and with its key alone; breadth or depth first is all the same.
    fn trace(&mut self, number: usize, in_port: PortNo, frame: &[u8], script: &str) {
        let (states, ports) = script.split_once('=').unwrap();
        let answers: Vec<CtInfo> = states.split(';').map(read_state).collect();
        let mut want: Vec<PortNo> = ports.split('+').filter_map(|port| port.parse().ok()).collect();
        want.sort_unstable();
        let key = wire::extract(frame, in_port);
        for frame in [frame, &[]] {
            let (tables, config) = (self.switch.tables(), self.switch.config());
            let outcome = trace_stateless(tables, config, &key, frame, &answers);
            let mut got: Vec<PortNo> = outcome.delivered().iter().map(|(port, _)| *port).collect();
            got.sort_unstable();
            self.frames += 1;
            if got != want {
                let trace = outcome.trace.unwrap().render(tables);
                let _ = write!(
                    self.complaints,
                    "\n-- {} (line {number}) {states}\nwant {want:?}\ngot  {got:?}\n{trace}",
                    self.case
                );
            }
        }
    }

    fn dump(&mut self, number: usize, kind: &str) {
        let mut got: Vec<String> = match kind {
            "ct" => self.switch.conntrack().entries().map(|entry| entry.to_string()).collect(),
            _ => {
                let name = |ofport: PortNo| {
                    if ofport == port::LOCAL { "LOCAL".to_owned() } else { ofport.to_string() }
                };
                let row = |(ofport, vlan, mac)| format!("{} {vlan} {mac}", name(ofport));
                self.switch.fdb().entries().into_iter().map(row).collect()
            }
        };
        got.sort();
        if got.is_empty() {
            got.push("-".to_owned());
        }
        self.expected.sort();
        if got != self.expected {
            let _ = write!(
                self.complaints,
                "\n-- {} (line {number}), {kind}\nwant {:#?}\ngot {got:#?}",
                self.case, self.expected
            );
        }
        self.expected.clear();
    }
}

fn read_port(text: &str) -> PortConfig {
    let no_flood = text.ends_with('!');
    let text = text.trim_end_matches('!');
    let (number, vlan) = text.split_once(':').map_or((text, None), |(number, vlan)| (number, Some(vlan)));
    PortConfig {
        ofport: number.parse().unwrap(),
        access_vlan: vlan.map(|vlan| vlan.parse().unwrap()),
        no_flood,
    }
}

fn read_state(text: &str) -> CtInfo {
    let bit = |name| match name {
        "trk" => state::TRK,
        "new" => state::NEW,
        "est" => state::EST,
        "rel" => state::REL,
        "rpl" => state::RPL,
        "inv" => state::INV,
        other => panic!("no state `{other}`"),
    };
    CtInfo { state: text.split(',').map(bit).sum(), ..CtInfo::default() }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
