//! Whole hosts: `flowproof prove` and `lint` as processes, section by section, against `dump-flows` and Z3 alone.

use crate::{
    binary,
    host::Generated,
    measure::{Bench, Needed, process},
    parse::Dumping,
    root,
};
use anyhow::Result;
use std::{path::Path, process::Command, time::Duration};

/// Exit codes of `prove` that are verdicts.
const VERDICTS: [i32; 3] = [0, 1, 3];

/// The sections that `prove` has, by the letters that the properties have in the specification: what a VM sends, what
/// reaches it, tables and intent; and the properties of each, as `--property` selects them.
const SECTIONS: [(&str, &[&str]); 3] = [
    ("A", SENDS),
    ("B", &["network-isolation", "default-deny", "ingress*", "untracked-exceptions", "port-independence"]),
    ("D", &["intent*", "unsupported-rule"]),
];
const SENDS: &[&str] =
    &["spoofed*", "router*", "dhcp*", "vlan-escape", "unknown-ethertype", "fragment-escape"];

fn prove(flows: &Path, engine: &str, section: Option<&[&str]>, intent: Option<&Path>) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.arg("prove").arg(flows).args(["--engine", engine]);
    for pattern in section.unwrap_or_default() {
        command.args(["--property", pattern]);
    }
    if let Some(intent) = intent {
        command.arg("--intent").arg(intent);
    }
    Ok(command)
}

fn lint(flows: &Path) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.arg("lint").arg(flows);
    Ok(command)
}

fn row(
    bench: &mut Bench,
    work: &str,
    who: &str,
    make: impl Fn() -> Result<Command>,
) -> Result<Option<Duration>> {
    let Needed { time, memory } = process(&mut make()?, &VERDICTS)?;
    let time = match time {
        Some(_) => {
            Some(bench.time(|| make().and_then(|mut command| process(&mut command, &VERDICTS)).is_ok())?)
        }
        None => None,
    };
    bench.row(work, who, time, memory);
    Ok(time)
}

/// The rows and curves of proving.
pub(crate) fn measure(bench: &mut Bench, hosts: &[Generated]) -> Result<()> {
    let seed = root().join("examples/mitaka-2016/flows.txt");
    for engine in ["diagram", "z3", "both"] {
        row(bench, "prove the seed", engine, || prove(&seed, engine, None, None))?;
    }
    row(bench, "lint the seed", "diagram", || lint(&seed))?;
    let mut z3_keeps_up = true;
    for host in hosts {
        let work = format!("prove {}", host.name());
        let switch = Dumping::start(host)?;
        let dump = bench.time(|| process(&mut switch.command(), &[0]).is_ok())?;
        bench.row(&work, "(ovs-ofctl dump-flows, printing it)", Some(dump), None);
        drop(switch);
        bench.point("ports", "dump-flows", f64::from(host.ports), dump);
        for (section, names) in SECTIONS {
            let intent = (section == "D").then_some(host.intent.as_path());
            let who = format!("section {section}");
            let time = row(bench, &work, &who, || prove(&host.flows, "diagram", Some(names), intent))?;
            curve(bench, &who, host, time);
        }
        let time = row(bench, &work, "section E (lint)", || lint(&host.flows))?;
        curve(bench, "section E", host, time);
        let (who, names) = ("section A, Z3 alone", SENDS);
        let z3 = match z3_keeps_up {
            true => row(bench, &work, who, || prove(&host.flows, "z3", Some(names), None))?,
            false => None,
        };
        z3_keeps_up &= z3.is_some();
        curve(bench, who, host, z3);
    }
    Ok(())
}

/// A point of a curve, where the work came to its end.
fn curve(bench: &mut Bench, name: &str, host: &Generated, time: Option<Duration>) {
    if let Some(time) = time {
        bench.point("ports", name, f64::from(host.ports), time);
    }
}
