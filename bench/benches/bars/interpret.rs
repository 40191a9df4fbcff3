//! Packets through the tables: ours against `ofproto/trace` of a real switch, stateless and without a trace.

use crate::{host::Generated, measure::Bench, root};
use anyhow::{Context, Result};
use flowproof_ovs::{RealSwitch, TraceRequest, split_untyped_ct};
use flowproof_packet::{
    Field, FlowKey, PortNo,
    build::{ComposeOptions, compose},
    wire,
};
use flowproof_switch::{
    flow::{Flow, ParseOptions, parse_flows},
    pipeline::{PortConfig, Stateless, SwitchConfig},
    table::{Search, Tables, TieBreak},
};
use std::{collections::BTreeSet, fs, sync::Arc, time::Duration};

/// Packets of one measurement.
const PACKETS: usize = 500;

/// Packets that a host's flows speak of, from the ports that they speak of.
fn packets(flows: &[Flow]) -> Vec<(PortNo, Vec<u8>)> {
    let ports = ports(flows);
    let step = flows.len().div_ceil(PACKETS).max(1);
    let mut from = ports.iter().cycle();
    let packet = |flow: &Flow| {
        let mut key = FlowKey::default();
        for part in flow.matching.words() {
            key.set_word(usize::from(part.word), part.value, part.mask);
        }
        let own = flow.matching.exact(Field::InPort).and_then(|port| PortNo::try_from(port).ok());
        let port = own.or_else(|| from.next().copied()).unwrap_or_default();
        (port, compose(&key, &ComposeOptions::default()))
    };
    let all: Vec<_> = flows.iter().step_by(step).map(packet).collect();
    all.iter().cycle().take(PACKETS).cloned().collect()
}

fn ports(flows: &[Flow]) -> BTreeSet<PortNo> {
    let named = flows.iter().filter_map(|flow| flow.matching.exact(Field::InPort));
    named.filter_map(|port| PortNo::try_from(port).ok()).filter(|port| *port > 0 && *port < 0xff00).collect()
}

fn config(flows: &[Flow]) -> SwitchConfig {
    SwitchConfig::new(ports(flows).into_iter().map(PortConfig::trunk).collect())
}

fn each(time: Duration) -> Option<Duration> {
    Some(time.div_f64(PACKETS as f64))
}

/// One host: keys, whole frames, and the real switch.
fn host(bench: &mut Bench, name: &str, flows: Vec<Flow>, real: bool) -> Result<Duration> {
    let (packets, config) = (packets(&flows), config(&flows));
    let keys: Vec<FlowKey> = packets.iter().map(|(port, frame)| wire::extract(frame, *port)).collect();
    let tables = Arc::new(Tables::new(flows.clone()));
    let mut switch = Stateless::new(Arc::clone(&tables), config.clone());
    let work = format!("a packet through {name}");
    let time =
        Bench::shortest(|| keys.iter().map(|key| switch.run(key, &[], &[]).effects.len()).sum::<usize>());
    bench.row(&work, "flowproof, key only", each(time), None);
    let pass = |(port, frame): &(PortNo, Vec<u8>)| {
        switch.run(&wire::extract(frame, *port), frame, &[]).effects.len()
    };
    let mut pass = pass;
    let frames = Bench::shortest(|| packets.iter().map(&mut pass).sum::<usize>());
    bench.row(&work, "flowproof, with its frame", each(frames), None);
    let scanned = Arc::new(tables.as_ref().clone().searched_by(Search::Scan));
    let mut slow = Stateless::new(scanned, config.clone());
    let scan =
        Bench::shortest(|| keys.iter().map(|key| slow.run(key, &[], &[]).effects.len()).sum::<usize>());
    bench.row(&work, "flowproof, scanning (the oracle)", each(scan), None);
    if real {
        let mut real = RealSwitch::start(&config.ports)?;
        real.load(&split_untyped_ct(&flows))?;
        let request = |(in_port, frame): &'_ (PortNo, Vec<u8>)| TraceRequest {
            in_port: *in_port,
            // A slice of what lives as long as the requests do.
            frame: Box::leak(frame.clone().into_boxed_slice()),
            ct_next: &[],
        };
        let requests: Vec<TraceRequest<'_>> = packets.iter().map(request).collect();
        real.traces(&requests).context("tracing in the real switch")?;
        let theirs = Bench::shortest(|| real.traces(&requests).is_ok());
        bench.row(&work, "ofproto/trace", each(theirs), None);
    }
    Ok(time.div_f64(PACKETS as f64))
}

/// The rows and curves of interpreting.
pub(crate) fn measure(bench: &mut Bench, hosts: &[Generated]) -> Result<()> {
    let seed = fs::read_to_string(root().join("examples/mitaka-2016/flows.txt"))?;
    let options = ParseOptions::default();
    host(bench, "the seed's tables", parse_flows(&seed, &options)?.flows, true)?;
    for generated in hosts {
        let flows = parse_flows(&generated.text, &options)?.flows;
        let time = host(bench, &generated.name(), flows.clone(), false)?;
        bench.point("flows", "a packet", generated.count as f64, time);
        let compile = bench.time(|| {
            let tables = Tables::new(flows.clone());
            let found = tables
                .numbers()
                .filter(|table| tables.lookup(*table, &FlowKey::default(), TieBreak::First).flow.is_some());
            found.count()
        })?;
        bench.row(&format!("compile {} for lookups", generated.name()), "flowproof", Some(compile), None);
    }
    Ok(())
}
