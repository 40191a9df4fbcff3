//! Reading flows: ours against `ovs-ofctl parse-flows`, of a file and of what a switch dumps.

use crate::{
    host::Generated,
    measure::{Bench, process},
};
use anyhow::{Context, Result};
use flowproof_ovs::RealSwitch;
use flowproof_switch::flow::{ParseOptions, parse_flows};
use std::{ffi::OsStr, fs, path::PathBuf, process::Command};

/// A real switch that holds flows, and the socket by which it is asked for them.
pub(crate) struct Dumping {
    _switch: RealSwitch,
    socket: PathBuf,
}

impl Dumping {
    /// Loads a host's flows into a private switch. It needs no ports to hold flows.
    pub(crate) fn start(host: &Generated) -> Result<Self> {
        let mut switch = RealSwitch::start(&[])?;
        let flows = parse_flows(&host.text, &ParseOptions::default())?.flows;
        switch.load(&flows)?;
        let mut files = fs::read_dir(switch.directory())?.filter_map(Result::ok).map(|entry| entry.path());
        let socket = files.find(|path| path.extension() == Some(OsStr::new("mgmt")));
        Ok(Self { _switch: switch, socket: socket.context("the switch has no socket")? })
    }

    /// The command that prints its flows.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("ovs-ofctl");
        command.arg("dump-flows").arg(format!("unix:{}", self.socket.display()));
        command
    }
}

/// The rows and curves of reading.
pub(crate) fn measure(bench: &mut Bench, hosts: &[Generated]) -> Result<()> {
    let options = ParseOptions::default();
    for host in hosts {
        let time = bench.time(|| parse_flows(&host.text, &options).map(|file| file.flows.len()))?;
        bench.point("flows", "parse (ours)", host.count as f64, time);
        let command = || {
            let mut command = Command::new("ovs-ofctl");
            command.arg("parse-flows").arg(&host.flows);
            command
        };
        let theirs = process(&mut command(), &[0])?;
        let their_time = bench.time(|| process(&mut command(), &[0]).is_ok())?;
        bench.point("flows", "parse (ovs-ofctl)", host.count as f64, their_time);
        let work = format!("parse {}", host.name());
        bench.row(&work, "flowproof", Some(time), None);
        bench.row(&work, "ovs-ofctl parse-flows", Some(their_time), theirs.memory);
    }
    let Some(largest) = hosts.last() else { return Ok(()) };
    let switch = Dumping::start(largest)?;
    let dump = String::from_utf8(switch.command().output()?.stdout)?;
    let file = largest.flows.with_extension("dump");
    // `parse-flows` knows no headlines, and takes what OpenFlow 1.0 added no more once it is dumped with this flag.
    let flows = dump.lines().filter(|line| !line.contains("_FLOW reply"));
    let dump = flows.fold(String::new(), |all, line| all + &line.replace("reset_counts ", "") + "\n");
    fs::write(&file, &dump)?;
    process(Command::new("ovs-ofctl").arg("parse-flows").arg(&file), &[0])?;
    let time = bench.time(|| parse_flows(&dump, &options).map(|file| file.flows.len()))?;
    let work = format!("parse the dump of {}", largest.name());
    bench.row(&work, "flowproof", Some(time), None);
    let theirs =
        bench.time(|| process(Command::new("ovs-ofctl").arg("parse-flows").arg(&file), &[0]).is_ok())?;
    bench.row(&work, "ovs-ofctl parse-flows", Some(theirs), None);
    let printed = bench.time(|| process(&mut switch.command(), &[0]).is_ok())?;
    bench.row(&work, "(ovs-ofctl dump-flows, printing it)", Some(printed), None);
    Ok(())
}
