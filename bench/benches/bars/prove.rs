//! Whole hosts: `flowproof prove` as a process, with each engine and with the intent, against `dump-flows`.

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

fn prove(flows: &Path, words: &[&str], intent: Option<&Path>) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.arg("prove").arg(flows).args(words);
    if let Some(intent) = intent {
        command.arg("--intent").arg(intent);
    }
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
        row(bench, "prove the seed", engine, || prove(&seed, &["--engine", engine], None))?;
    }
    let mut z3_keeps_up = true;
    for host in hosts {
        let work = format!("prove {}", host.name());
        let switch = Dumping::start(host)?;
        let dump = bench.time(|| process(&mut switch.command(), &[0]).is_ok())?;
        bench.row(&work, "(ovs-ofctl dump-flows, printing it)", Some(dump), None);
        drop(switch);
        bench.point("ports", "dump-flows", f64::from(host.ports), dump);
        let diagram = row(bench, &work, "diagram", || prove(&host.flows, &["--engine", "diagram"], None))?;
        let intent = row(bench, &work, "diagram, with the intent", || {
            prove(&host.flows, &["--engine", "diagram"], Some(&host.intent))
        })?;
        let z3 = match z3_keeps_up {
            true => row(bench, &work, "z3", || prove(&host.flows, &["--engine", "z3"], None))?,
            false => None,
        };
        z3_keeps_up &= z3.is_some();
        for (name, time) in [("diagram", diagram), ("diagram, with intent", intent), ("z3", z3)] {
            if let Some(time) = time {
                bench.point("ports", name, f64::from(host.ports), time);
            }
        }
    }
    Ok(())
}
