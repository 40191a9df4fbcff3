//! `flowproof compile`: a policy's flow tables.

mod apply;

use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input;
use clap::{Args, ValueEnum};
use flowproof_compiler::{Layout, PortMasks, compile, text};
use flowproof_model::policy::Policy;
use std::path::PathBuf;

/// Options of `compile`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  flowproof compile intent.json
  flowproof compile ports.json groups.json host.json --layout strict --annotate
  flowproof compile intent.json --output flows.txt && \\
    ovs-ofctl -O OpenFlow13 --bundle replace-flows br-int flows.txt
  flowproof compile intent.json --layout strict --apply br-int

INTENT is Neutron's own JSON, with a `host` that binds ports to their OpenFlow
numbers and VLANs. `mitaka` is for study: today's switches refuse some of its
flows.

--apply shows what would change in a bridge and what that means for packets (of
a few thousand flows at most), asks, and replaces its flows in one bundle: all of
them or none.

Exit codes: 0 compiled; 1 the bridge does not hold what was put into it; 2 wrong
usage or input, nothing was written. Rules that the layout cannot express are
listed on standard error.")]
pub(crate) struct Options {
    /// Networks, groups, ports and the host; several files are merged; `-` is standard input
    #[arg(value_name = "INTENT", required = true)]
    intents: Vec<PathBuf>,
    /// Which tables
    #[arg(long, value_enum, default_value = "neutron")]
    layout: Tables,
    /// Say what each run of flows is for, as comments
    #[arg(long)]
    annotate: bool,
    /// With `mitaka`: port ranges as masks that cover the range and no more
    #[arg(long)]
    exact_ports: bool,
    /// Write to a file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show what changes, ask, and make these the flows of a bridge
    #[arg(long, value_name = "BRIDGE", conflicts_with = "output")]
    apply: Option<String>,
    /// With --apply: ask nobody
    #[arg(long, requires = "apply")]
    yes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tables {
    Mitaka,
    Neutron,
    Strict,
}

impl From<Tables> for Layout {
    fn from(tables: Tables) -> Self {
        match tables {
            Tables::Mitaka => Self::Mitaka,
            Tables::Neutron => Self::Neutron,
            Tables::Strict => Self::Strict,
        }
    }
}

/// Reads, compiles, prints.
pub(crate) fn run(options: &Options, console: &Console) -> Result<Exit, Failure> {
    check_apply(options)?;
    let policy = read(&options.intents)?;
    let Some(host) = &policy.host else {
        let names: Vec<_> = options.intents.iter().map(|path| input::name(path)).collect();
        return Err(Failure::input([format!("{}: no `host`: which ports are on it?", names.join(", "))]));
    };
    let choices = flowproof_compiler::Options {
        port_masks: if options.exact_ports { PortMasks::Corrected } else { PortMasks::AsReleased },
    };
    let compiled = compile(&policy, host, options.layout.into(), &choices);
    for unsupported in &compiled.unsupported {
        console.remark(&input::printable(&format!("unsupported: {unsupported}")));
    }
    if let Some(bridge) = &options.apply {
        return apply::apply(apply::Apply { bridge, yes: options.yes }, &text(&compiled, false), console);
    }
    let text = text(&compiled, options.annotate);
    match &options.output {
        Some(path) => std::fs::write(path, text).map_err(|error| input::io_failure(path, &error))?,
        None => console.print(text.as_bytes())?,
    }
    Ok(Exit::Holds)
}

/// What cannot be applied, whatever the intent.
fn check_apply(options: &Options) -> Result<(), Failure> {
    if options.apply.is_none() {
        return Ok(());
    }
    if options.layout == Tables::Mitaka {
        return Err(Failure::input([
            "`mitaka` is for study and is not applied: today's switches refuse its `ct()` flows without `ip` or `ipv6`, and its `strip_vlan`"
                .to_owned(),
        ]));
    }
    let stdin = options.intents.iter().any(|path| path.as_os_str() == "-");
    if stdin && !options.yes {
        return Err(Failure::input([
            "with INTENT `-` nobody can be asked: `--apply` needs `--yes`".to_owned()
        ]));
    }
    Ok(())
}

/// The policy that several files describe together.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Policy, Failure> {
    input::only_one_stdin(paths.iter())?;
    let mut documents = Vec::new();
    for path in paths {
        let name = input::name(path);
        let text = String::from_utf8(input::read_bytes(path)?)
            .map_err(|error| Failure::input([format!("{name}: not text: {}", error.utf8_error())]))?;
        documents.push((name, text));
    }
    Policy::merge(documents.iter().map(|(name, text)| (name.as_str(), text.as_str())))
        .map_err(|error| Failure::input(error.to_string().lines().map(input::printable).collect::<Vec<_>>()))
}
