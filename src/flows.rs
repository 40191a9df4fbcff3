//! The options that name a flow file, and the file itself.

use crate::console::Console;
use crate::failure::Failure;
use crate::input;
use crate::ports::{Port, parse_ports};
use crate::text::cut;
use clap::Args;
use flowproof_switch::flow::{FlowFile, Groups, ParseOptions};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Options of every subcommand that reads flows.
#[derive(Clone, Debug, Args)]
pub(crate) struct FlowOptions {
    /// What `ovs-ofctl dump-flows` prints or `add-flows` reads; `-` is standard input
    #[arg(value_name = "FLOWS")]
    pub(crate) flows: PathBuf,
    /// Join flows wrapped over several lines, and pass over prose
    #[arg(long)]
    pub(crate) lenient: bool,
    /// Names, numbers and VLANs of the ports, as JSON that ovs-vsctl printed (see below)
    #[arg(long, value_name = "FILE")]
    pub(crate) ports: Option<PathBuf>,
    /// The groups that flows name: what `ovs-ofctl dump-groups` prints
    #[arg(long, value_name = "FILE")]
    pub(crate) groups: Option<PathBuf>,
}

/// How to make the file that `--ports` wants.
pub(crate) const PORTS_HELP: &str = "FILE of --ports is what this prints:
  ovs-vsctl --format=json --columns=name,tag list Port -- \\
            --columns=name,ofport list Interface";

/// A flow file that has been read.
#[derive(Debug)]
pub(crate) struct Flows {
    /// Its name in messages.
    pub(crate) name: String,
    /// What is in it.
    pub(crate) file: FlowFile,
    /// The ports that `--ports` names; none without that option.
    pub(crate) ports: Option<Vec<Port>>,
    sha256: String,
}

impl FlowOptions {
    /// Reads the files, and remarks on what was passed over.
    pub(crate) fn read(&self, console: &Console) -> Result<Flows, Failure> {
        input::only_one_stdin(self.ports.iter().chain(&self.groups).chain([&self.flows]))?;
        let ports = self.ports.as_deref().map(read_ports).transpose()?;
        let names = ports.iter().flatten().map(|port| (port.name.clone(), port.ofport)).collect();
        let options = ParseOptions { lenient: self.lenient, ports: names, ..ParseOptions::default() };
        let (mut file, sha256) = input::read_flows(&self.flows, &options)?;
        if let Some(path) = &self.groups {
            read_groups(path, &options)?.resolve(&mut file.flows);
        }
        let name = input::name(&self.flows);
        for (line, text) in &file.skipped {
            console.remark(&format!("{name}:{line}: passed over: {}", cut(&input::printable(text), 60)));
        }
        Ok(Flows { name, file, ports, sha256 })
    }
}

fn read_groups(path: &Path, options: &ParseOptions) -> Result<Groups, Failure> {
    let name = input::name(path);
    let text = String::from_utf8(input::read_bytes(path)?)
        .map_err(|error| Failure::input([format!("{name}: not text: {}", error.utf8_error())]))?;
    Groups::parse(&text, &options.ports)
        .map_err(|error| Failure::input([format!("{name}: {}", input::printable(&error.to_string()))]))
}

fn read_ports(path: &Path) -> Result<Vec<Port>, Failure> {
    let name = input::name(path);
    let text = String::from_utf8(input::read_bytes(path)?)
        .map_err(|error| Failure::input([format!("{name}: not text: {}", error.utf8_error())]))?;
    parse_ports(&text)
        .map_err(|error| Failure::input([format!("{name}:{}", input::printable(&error.to_string()))]))
}

impl Flows {
    /// What reports say of the input.
    pub(crate) fn json(&self) -> Value {
        let count = self.file.flows.len();
        json!({"file": self.name, "sha256": self.sha256, "parsed": count, "total": count})
    }
}

/// What reports say of this program.
pub(crate) fn tool() -> Value {
    json!({"name": "flowproof", "version": env!("CARGO_PKG_VERSION")})
}
