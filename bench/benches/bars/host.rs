//! Hosts of any size: an intent drawn from a fixed sequence, compiled by the `neutron` layout.

use anyhow::{Context, Result};
use flowproof_compiler::{Layout, Options, compile, text};
use flowproof_model::policy::Policy;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A sequence of numbers that is the same in every run (SplitMix64).
pub(crate) struct Sequence(pub(crate) u64);

impl Sequence {
    /// The next number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % limit.max(1)
    }
}

/// A host with its flows.
pub(crate) struct Generated {
    /// How many filtered ports it has.
    pub(crate) ports: u16,
    /// Its flows, as `ovs-ofctl add-flows` reads them.
    pub(crate) text: String,
    /// The file that holds them.
    pub(crate) flows: PathBuf,
    /// The file that holds the intent.
    pub(crate) intent: PathBuf,
    /// How many flows they are.
    pub(crate) count: usize,
}

impl Generated {
    /// A host of `ports` ports whose groups have `rules` rules each; its files are written to `room`.
    pub(crate) fn new(ports: u16, rules: u16, room: &Path) -> Result<Self> {
        let intent = intent(ports, rules).to_string();
        let policy = Policy::from_json(&intent)?;
        let host = policy.host.as_ref().context("the intent names no host")?;
        let compiled = compile(&policy, host, Layout::Neutron, &Options::default());
        let text = text(&compiled, false);
        let name = |kind: &str| room.join(format!("{ports}.{kind}"));
        fs::write(name("flows"), &text)?;
        fs::write(name("json"), &intent)?;
        let count = compiled.flows.len();
        Ok(Self { ports, text, flows: name("flows"), intent: name("json"), count })
    }

    /// What the rows of the table call it.
    pub(crate) fn name(&self) -> String {
        format!("{} ports, {} flows", self.ports, self.count)
    }
}

fn rule(group: &str, at: u16, direction: &str, fields: Value) -> Value {
    let mut rule = json!({
        "id": format!("{group}-rule-{at}"), "security_group_id": group, "direction": direction,
        "ethertype": "IPv4", "protocol": null, "port_range_min": null, "port_range_max": null,
        "remote_ip_prefix": null, "remote_group_id": null, "remote_address_group_id": null,
    });
    if let (Value::Object(rule), Value::Object(fields)) = (&mut rule, fields) {
        rule.extend(fields);
    }
    rule
}

fn drawn(draw: &mut Sequence) -> Value {
    let remote = (draw.below(3) > 0).then(|| format!("10.{}.{}.0/24", draw.below(256), draw.below(256)));
    let first = 1 + draw.below(60_000);
    let last = if draw.below(3) == 0 { first + 100 } else { first };
    match draw.below(5) {
        0 => json!({"protocol": "icmp", "port_range_min": draw.below(20), "remote_ip_prefix": remote}),
        1 => json!({"protocol": "udp", "port_range_min": first, "port_range_max": first,
                    "remote_ip_prefix": remote}),
        _ => json!({"protocol": "tcp", "port_range_min": first, "port_range_max": last,
                    "remote_ip_prefix": remote}),
    }
}

fn group(id: &str, rules: u16, draw: &mut Sequence) -> Value {
    let mut all = vec![rule(id, 0, "egress", json!({})), rule(id, 1, "egress", json!({"ethertype": "IPv6"}))];
    all.extend((2..rules.max(2)).map(|at| rule(id, at, "ingress", drawn(draw))));
    json!({"id": id, "name": id, "stateful": true, "security_group_rules": all})
}

/// Ten ports share a group; four networks.
fn intent(ports: u16, rules: u16) -> Value {
    let mut draw = Sequence(u64::from(ports));
    let networks: Vec<Value> = (1..=4_u16)
        .map(|net| {
            let (id, segment) = (format!("net{net}"), 1000 + net);
            json!({"id": id, "provider:network_type": "vxlan", "provider:segmentation_id": segment})
        })
        .collect();
    let groups: Vec<Value> =
        (0..ports.div_ceil(10)).map(|at| group(&format!("sg{at}"), rules, &mut draw)).collect();
    let port = |at: u16| {
        let [high, low] = (at + 2).to_be_bytes();
        json!({
            "id": format!("port{at}"), "mac_address": format!("fa:16:3e:00:{high:02x}:{low:02x}"),
            "network_id": format!("net{}", at % 4 + 1), "fixed_ips": [{"ip_address": format!("10.20.{high}.{low}")}],
            "allowed_address_pairs": [], "security_groups": [format!("sg{}", at / 10)],
            "port_security_enabled": true, "device_owner": "compute:nova",
        })
    };
    let binding = |at: u16| json!({"port_id": format!("port{at}"), "ofport": at + 10, "vlan": at % 4 + 1});
    json!({
        "networks": networks, "security_groups": groups, "address_groups": [],
        "ports": (0..ports).map(port).collect::<Vec<_>>(),
        "host": {"bindings": (0..ports).map(binding).collect::<Vec<_>>(), "uplinks": []},
    })
}
