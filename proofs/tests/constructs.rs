//! What a real switch did with a frame is among what proofs say may become of it; and no more, where nothing is left open.
//!
//! The tables, the frames and what came out: `tests/fixtures/ovs/constructs.py`.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use flowproof_packet::{Field, PortNo, port, wire};
use flowproof_proofs::{
    bdd::Bdds,
    frames,
    set::PacketSets,
    symbolic::{self, Emit},
    symkey::Form,
    tables::Tables,
    vars,
};
use flowproof_switch::{
    conntrack::Profile,
    flow::{Groups, ParseOptions, parse_flows},
};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
struct Case {
    name: String,
    ports: BTreeSet<PortNo>,
    groups: String,
    flows: String,
    frames: Vec<(PortNo, Vec<u8>, BTreeSet<PortNo>)>,
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in include_str!("../../tests/fixtures/ovs/constructs.tsv").lines() {
        let parts: Vec<&str> = line.split('\t').collect();
        if let ["case", name] = parts.as_slice() {
            cases.push(Case { name: (*name).to_owned(), ..Case::default() });
        }
        let case = cases.last_mut().unwrap();
        match parts.as_slice() {
            ["ports", ports] => case.ports = ports.split(' ').map(|port| port.parse().unwrap()).collect(),
            ["group", text] => case.groups += &format!("{text}\n"),
            ["flow", text] => case.flows += &format!("{text}\n"),
            ["in", port, frame, out] => {
                let out = out.split(' ').filter_map(|one| one.split_once(':')?.0.parse().ok()).collect();
                case.frames.push((port.parse().unwrap(), bytes(frame), out));
            }
            _ => {}
        }
        case.ports.insert(port::LOCAL);
    }
    cases
}

impl Case {
    fn tables(&self) -> Tables {
        let mut flows = parse_flows(&self.flows, &ParseOptions::default()).unwrap().flows;
        Groups::parse(&self.groups, &BTreeMap::new()).unwrap().resolve(&mut flows);
        Tables::new(flows)
    }

    /// Connections are not looked at here.
    fn is_stateless(&self) -> bool {
        !self.flows.contains("ct(") && !self.groups.contains("ct(")
    }

    /// Whether more than one thing may happen, or something that is not followed.
    fn is_open(&self) -> bool {
        let open = ["check_pkt_larger", "write_actions", "learn(", "max_len", "dec_ttl"];
        let groups = ["type=select", "type=ff"];
        open.iter().any(|word| self.flows.contains(word) || self.groups.contains(word))
            || groups.iter().any(|word| self.groups.contains(word))
    }

    /// The ports by which a frame may leave; nothing where that is not known.
    fn predicted(&self, tables: &Tables, in_port: PortNo, frame: &[u8]) -> Option<BTreeSet<PortNo>> {
        let (mut sets, key) = (Bdds::with_limit(1 << 20), wire::extract(frame, in_port));
        let mut start = frames::sendable(&mut sets, Form::Whole);
        for field in Field::all().filter(|field| field.spec().is_slot_owner()) {
            let value = key.get(field);
            let bits = vars::sent(field).rev().enumerate();
            let literals: Vec<_> = bits.map(|(at, var)| (var, value >> at & 1 == 1)).collect();
            let these = sets.cube(&literals);
            start = sets.and(start, these);
        }
        assert!(!sets.is_empty(start), "{}: nobody could send this", self.name);
        let profile = Profile::Userspace31;
        let run = symbolic::execute(&mut sets, tables, profile, Form::Whole, in_port, start);
        let mut ports = BTreeSet::new();
        for event in run.events {
            match event.emit {
                Emit::Port(port) => ports.extend(self.ports.get(&port)),
                Emit::InPort => ports.extend([in_port]),
                Emit::Flood => ports.extend(self.ports.iter().filter(|port| **port != in_port)),
                Emit::Controller | Emit::Limit => {}
                Emit::Normal | Emit::UnknownPort | Emit::Opaque(_) => return None,
            }
        }
        Some(ports)
    }
}

#[test]
fn what_a_real_switch_does_with_constructs_is_predicted() {
    let (mut exact, mut wrong) = (0, Vec::new());
    for case in cases().iter().filter(|case| case.is_stateless()) {
        let tables = case.tables();
        for (in_port, frame, out) in &case.frames {
            let Some(predicted) = case.predicted(&tables, *in_port, frame) else {
                assert!(
                    case.is_open() || case.flows.contains("pop:OXM_OF_VLAN"),
                    "{} is not followed",
                    case.name
                );
                continue;
            };
            exact += usize::from(!case.is_open());
            let fits = if case.is_open() { out.is_subset(&predicted) } else { *out == predicted };
            if !fits {
                wrong.push(format!("{} from {in_port}: {out:?}, predicted {predicted:?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(exact >= 24, "only {exact} decided");
}
