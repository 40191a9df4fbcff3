//! The options that name a flow file, and the file itself.
//!
//! What it means: names of ports and tables, as a terminal shows them, get numbers: from `--ports`, from what the flows
//! say, or free ones; which, is remarked once. Invariant: files that are compared are numbered together.

use crate::console::Console;
use crate::failure::Failure;
use crate::input;
use crate::ports::{Port, PortList, Unnumbered, cut_name, numbers, parse_ports};
use crate::text::{count, cut, list};
use clap::Args;
use flowproof_packet::PortNo;
use flowproof_switch::flow::{
    Action, Flow, FlowFile, Groups, Numbering, ParseOptions, number_names, parse_bytes,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

/// Options of every subcommand that reads flows.
#[derive(Clone, Debug, Args)]
pub(crate) struct FlowOptions {
    /// What `ovs-ofctl dump-flows` prints or `add-flows` reads, gzipped or not; `-` is standard input
    #[arg(value_name = "FLOWS")]
    pub(crate) flows: PathBuf,
    /// Read flows out of mails, logs and web pages: join those wrapped over several lines, pass over prose
    #[arg(long)]
    pub(crate) lenient: bool,
    /// Names, numbers and VLANs of the ports, as Open vSwitch's tools print them (see below)
    #[arg(long, value_name = "FILE")]
    pub(crate) ports: Option<PathBuf>,
    /// The groups that flows name: what `ovs-ofctl dump-groups` prints
    #[arg(long, value_name = "FILE")]
    pub(crate) groups: Option<PathBuf>,
}

/// How to make the file that `--ports` wants.
pub(crate) const PORTS_HELP: &str = "FILE of --ports is what this prints:
  ovs-vsctl --format=json --columns=name,tag list Port -- \\
            --columns=name,ofport,type list Interface
or this, which knows fewer names of long ports:
  ovs-ofctl show BRIDGE; ovs-vsctl show";

/// A flow file that has been read.
#[derive(Debug)]
pub(crate) struct Flows {
    /// Its name in messages.
    pub(crate) name: String,
    /// What is in it.
    pub(crate) file: FlowFile,
    /// The ports that `--ports` names; none without that option.
    pub(crate) ports: Option<Vec<Port>>,
    /// Numbers of ports by name: those of `--ports`, and those that names in the flows got.
    pub(crate) numbers: BTreeMap<String, PortNo>,
    /// What was made of names that nobody gave numbers to.
    numbering: Numbering,
    sha256: String,
}

/// Flows that have been read, but not yet understood.
struct Text {
    name: String,
    bytes: Vec<u8>,
    sha256: String,
}

impl FlowOptions {
    /// Reads the files, and remarks on what was passed over.
    pub(crate) fn read(&self, console: &Console) -> Result<Flows, Failure> {
        self.read_beside(None, console).map(|(flows, _)| flows)
    }

    /// The same, with other flows that may name the same ports.
    pub(crate) fn read_beside(
        &self,
        other: Option<&Path>,
        console: &Console,
    ) -> Result<(Flows, Option<Flows>), Failure> {
        input::only_one_stdin(self.ports.iter().chain(&self.groups).chain([&self.flows]))?;
        let list = self.ports.as_deref().map(read_ports).transpose()?;
        let text = Text::read(&self.flows)?;
        let other = other.map(Text::read).transpose()?;
        let both: Vec<&Text> = [&text].into_iter().chain(&other).collect();
        let mut named = Named::of(self, list, &both)?;
        if let Some(remark) = named.remark() {
            console.remark(&remark);
        }
        let groups = self.groups.as_deref().map(|path| read_groups(path, &named.options)).transpose()?;
        let mut first = named.parse(&text, console)?;
        let mut second = other.as_ref().map(|other| named.parse(other, console)).transpose()?;
        if let Some(groups) = &groups {
            [&mut first]
                .into_iter()
                .chain(&mut second)
                .for_each(|flows| groups.resolve(&mut flows.file.flows));
        }
        Ok((first, second))
    }
}

fn read_groups(path: &Path, options: &ParseOptions) -> Result<Groups, Failure> {
    let name = input::name(path);
    let text = String::from_utf8(input::read_bytes(path)?)
        .map_err(|error| Failure::input([format!("{name}: not text: {}", error.utf8_error())]))?;
    Groups::parse(&text, &options.ports)
        .map_err(|error| Failure::input([format!("{name}: {}", input::printable(&error.to_string()))]))
}

impl Text {
    fn read(path: &Path) -> Result<Self, Failure> {
        let (bytes, sha256) = input::read_flow_text(path)?;
        Ok(Self { name: input::name(path), bytes, sha256 })
    }

    /// Where a name stands first: line and column.
    fn place(&self, name: &str) -> (usize, usize) {
        let text = String::from_utf8_lossy(&self.bytes);
        let mut lines = text.lines().enumerate();
        let found =
            lines.find_map(|(at, line)| Some((at + 1, line.get(..line.find(name)?)?.chars().count() + 1)));
        found.unwrap_or((1, 1))
    }
}

/// How the names in flows are to be read.
struct Named {
    options: ParseOptions,
    ports: Option<Vec<Port>>,
    numbering: Numbering,
    /// What was read on the way, where that is all there is to read.
    read: VecDeque<FlowFile>,
}

impl Named {
    fn of(flows: &FlowOptions, ports: Option<PortList>, texts: &[&Text]) -> Result<Self, Failure> {
        let mut options = ParseOptions { lenient: flows.lenient, ..ParseOptions::default() };
        let (mut numbered, mut unnumbered) = (None, Vec::new());
        match ports {
            None => {}
            Some(PortList::Numbered(ports)) => {
                options.ports = numbers(&ports);
                numbered = Some(ports);
            }
            Some(PortList::Named(ports)) => unnumbered = ports,
        }
        // What reads well has no names that are unknown.
        let read: Result<VecDeque<_>, _> =
            texts.iter().map(|text| parse_bytes(&text.bytes, &options)).collect();
        let mut numbering = Numbering::default();
        if read.is_err() {
            let all: Vec<&[u8]> = texts.iter().map(|text| text.bytes.as_slice()).collect();
            numbering = number_names(&all.join(&b'\n'), &options);
        }
        if let Some(ports) = &mut numbered {
            ambiguous(&numbering, ports, texts)?;
            // The switch itself named them, so they are there, whatever the list says.
            let more = numbering.derived.iter().chain(&numbering.given);
            ports.extend(more.map(|(name, ofport)| Port {
                name: name.clone(),
                ofport: *ofport,
                tag: None,
                kind: None,
            }));
            ports.sort_by_key(|port| port.ofport);
        }
        options
            .ports
            .extend(numbering.derived.iter().chain(&numbering.given).map(|(name, n)| (name.clone(), *n)));
        options.tables.clone_from(&numbering.tables);
        if let (false, Some(path)) = (unnumbered.is_empty(), &flows.ports) {
            numbered = Some(with_numbers(unnumbered, &mut options.ports, path)?);
        }
        Ok(Self { options, ports: numbered, numbering, read: read.unwrap_or_default() })
    }

    /// Reads flows whose names are known.
    fn parse(&mut self, text: &Text, console: &Console) -> Result<Flows, Failure> {
        let parsed = self.read.pop_front().map_or_else(|| parse_bytes(&text.bytes, &self.options), Ok);
        let file = parsed.map_err(|errors| input::flow_failure(&text.name, &errors))?;
        for (line, passed) in &file.skipped {
            let passed = cut(&input::printable(passed), 60);
            console.remark(&format!("{}:{line}: passed over: {passed}", text.name));
        }
        if let Some(remark) = unclear(&file) {
            console.remark(&format!("{}:{remark}", text.name));
        }
        Ok(Flows {
            name: text.name.clone(),
            file,
            ports: self.ports.clone(),
            numbers: self.options.ports.clone(),
            numbering: self.numbering.clone(),
            sha256: text.sha256.clone(),
        })
    }

    /// Which numbers were made up for names.
    fn remark(&self) -> Option<String> {
        let Numbering { derived, given, tables } = &self.numbering;
        let of = |numbers: &BTreeMap<String, PortNo>| {
            list(numbers.iter().map(|(name, number)| format!("{} is {number}", input::printable(name))))
        };
        let tables = tables.iter().map(|(name, number)| format!("{} is {number}", input::printable(name)));
        let parts = [
            ("as the flows say ", of(derived)),
            ("with a number of its own ", of(given)),
            ("tables in their order ", list(tables)),
        ];
        let parts: Vec<_> = parts
            .into_iter()
            .filter(|(_, what)| !what.is_empty())
            .map(|(how, what)| format!("{how}{what}"))
            .collect();
        (!parts.is_empty()).then(|| {
            let known =
                if self.ports.is_some() { "--ports does not say theirs" } else { "--ports says the ports'" };
            format!("names without numbers were numbered ({known}): {}", parts.join("; "))
        })
    }
}

/// What a dump does not tell of frames with a tag, and in which flow it does not so first.
fn unclear(file: &FlowFile) -> Option<String> {
    let is_unclear =
        |flow: &&Flow| flow.actions.iter().any(|action| matches!(action, Action::RetagUnclear { .. }));
    let mut flows = file.flows.iter().filter(is_unclear);
    let (first, more) = (flows.next()?, flows.count());
    let others = if more == 0 { String::new() } else { format!(" (and in {})", count(more, "other flow")) };
    Some(format!(
        "{}: `mod_vlan` in a dump over OpenFlow 1.0 changes a frame's tag or adds another{others}: what becomes of \
         frames with a tag there is unknown; -O OpenFlow13 tells",
        first.span.line
    ))
}

/// Complains about cut names that more than one of the listed ports may have.
fn ambiguous(numbering: &Numbering, ports: &[Port], texts: &[&Text]) -> Result<(), Failure> {
    let mut messages = Vec::new();
    for name in numbering.derived.keys().chain(numbering.given.keys()) {
        let mut meant = ports.iter().map(|port| port.name.as_str()).filter(|port| cut_name(port) == name);
        let (Some(one), Some(other)) = (meant.next(), meant.next()) else { continue };
        let text = texts.iter().find(|text| text.place(name) != (1, 1)).or(texts.first());
        let place = text.map_or_else(String::new, |text| {
            let (line, column) = text.place(name);
            format!("{}:{line}:{column}", text.name)
        });
        messages.push(format!(
            "{place}: the name is cut to 15 characters, and may be `{}` or `{}`: `{}`",
            input::printable(one),
            input::printable(other),
            input::printable(name)
        ));
    }
    if messages.is_empty() { Ok(()) } else { Err(Failure::input(messages)) }
}

/// The ports of a list that has no numbers, of the bridge that the flows are of, with the numbers that the flows' names
/// got; others of the bridge get free ones.
fn with_numbers(
    ports: Vec<Unnumbered>,
    numbers: &mut BTreeMap<String, PortNo>,
    path: &Path,
) -> Result<Vec<Port>, Failure> {
    let number = |name: &str, numbers: &BTreeMap<String, PortNo>| {
        numbers.get(name).or_else(|| numbers.get(cut_name(name))).copied()
    };
    let mut bridges: BTreeMap<&str, usize> = BTreeMap::new();
    for port in &ports {
        *bridges.entry(&port.bridge).or_default() += usize::from(number(&port.name, numbers).is_some());
    }
    let most = bridges.iter().max_by_key(|(_, count)| **count);
    let Some(bridge) = most.filter(|(_, count)| **count > 0).map(|(bridge, _)| (*bridge).to_owned()) else {
        return Err(Failure::input([format!(
            "{}:1:1: it has no OpenFlow port numbers, and the flows name none of its ports: \
             add what `ovs-ofctl show BRIDGE` prints",
            input::name(path)
        )]));
    };
    let mut known = Vec::new();
    let mut owners: BTreeMap<PortNo, String> = BTreeMap::new();
    for Unnumbered { name, tag, kind, .. } in ports.into_iter().filter(|port| port.bridge == bridge) {
        let Some(ofport) = number(&name, numbers) else { continue };
        if let Some(one) = owners.insert(ofport, name.clone()) {
            let cut = cut_name(&name);
            return Err(Failure::input([format!(
                "{}:1:1: `{cut}` is cut to 15 characters and may be `{one}` or `{name}`",
                input::name(path)
            )]));
        }
        numbers.insert(name.clone(), ofport);
        known.push(Port { name, ofport, tag, kind });
    }
    known.sort_by_key(|port| port.ofport);
    Ok(known)
}

fn read_ports(path: &Path) -> Result<PortList, Failure> {
    let name = input::name(path);
    let text = String::from_utf8(input::read_bytes(path)?)
        .map_err(|error| Failure::input([format!("{name}: not text: {}", error.utf8_error())]))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    parse_ports(text)
        .map_err(|error| Failure::input([format!("{name}:{}", input::printable(&error.to_string()))]))
}

impl Flows {
    /// What reports say of the input.
    pub(crate) fn json(&self) -> Value {
        let count = self.file.flows.len();
        let mut report = json!({"file": self.name, "sha256": self.sha256, "parsed": count, "total": count});
        if let (false, Some(report)) = (self.numbering.is_empty(), report.as_object_mut()) {
            let Numbering { derived, given, tables } = &self.numbering;
            report.insert("names".to_owned(), json!({"derived": derived, "given": given, "tables": tables}));
        }
        report
    }
}

/// What reports say of this program.
pub(crate) fn tool() -> Value {
    json!({"name": "flowproof", "version": env!("CARGO_PKG_VERSION")})
}
