//! Compiled flows into a bridge: what would change is shown, somebody says yes, all of it happens at once or nothing.
//!
//! Invariant: the bridge is changed by one bundle (OpenFlow 1.4, an extension of 1.3), which the switch takes whole or
//! refuses whole; what it holds afterwards is read back and compared. A change is shown flow by flow, and, of a few thousand
//! flows at most, as what it means for packets under the kernel's datapath.
//!
//! Source: ovs-ofctl(8), `replace-flows` and `--bundle`.

use crate::console::Console;
use crate::diff;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input;
use crate::text::count;
use flowproof_switch::flow::{Action, Flow, FlowFile, Match, ParseOptions, parse_flows};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, Write as _};
use std::process::{Command, Stdio};

/// Versions that have bundles and everything that the layouts use.
const VERSIONS: &str = "OpenFlow13,OpenFlow14,OpenFlow15";
/// Changes of each kind that are shown without `-v`.
const SHOWN: usize = 20;

/// Where to, and whether to ask first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Apply<'a> {
    /// The bridge, as ovs-ofctl takes it.
    pub(super) bridge: &'a str,
    /// Nobody is asked.
    pub(super) yes: bool,
}

/// Makes the flows of the bridge those of `text`.
pub(super) fn apply(to: Apply<'_>, text: &str, console: &Console) -> Result<Exit, Failure> {
    let wanted = parsed("what was compiled", text)?;
    let there = read(to.bridge)?;
    let changes = Changes::between(&there, &wanted);
    if changes.is_empty() {
        let held = count(wanted.flows.len(), "flow");
        console.print(format!("{}: nothing to change, {held}\n", to.bridge).as_bytes())?;
        return Ok(Exit::Holds);
    }
    console.print(changes.text(to.bridge, console).as_bytes())?;
    console.print(diff::meaning(&there.flows, &wanted.flows, console).as_bytes())?;
    if !to.yes && !agreed(to.bridge) {
        return Err(Failure::input([format!("{}: nothing was changed: nobody said yes", to.bridge)]));
    }
    ofctl(&["--bundle", "-O", VERSIONS, "replace-flows", "--", to.bridge, "-"], text)?;
    let there = read(to.bridge)?;
    let left = Changes::between(&there, &wanted);
    if left.is_empty() {
        console.print(format!("{}: {} now\n", to.bridge, count(wanted.flows.len(), "flow")).as_bytes())?;
        return Ok(Exit::Holds);
    }
    let others = "it does not hold what was put into it (does somebody else change its flows?)";
    console.remark(&format!("{}: {others}", to.bridge));
    console.print(left.text(to.bridge, console).as_bytes())?;
    Ok(Exit::Refuted)
}

/// Whether somebody says yes.
fn agreed(bridge: &str) -> bool {
    let _closed =
        write!(io::stderr(), "Replace the flows of {bridge}? [y/N] ").and_then(|()| io::stderr().flush());
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

fn read(bridge: &str) -> Result<FlowFile, Failure> {
    let text = ofctl(&["-O", VERSIONS, "--no-stats", "--no-names", "dump-flows", "--", bridge], "")?;
    if text.lines().all(|line| line.trim().is_empty() || line.contains("_FLOW reply")) {
        return Ok(FlowFile::default());
    }
    parsed(bridge, &text)
}

fn parsed(name: &str, text: &str) -> Result<FlowFile, Failure> {
    parse_flows(text, &ParseOptions::default()).map_err(|errors| input::flow_failure(name, &errors))
}

/// Runs ovs-ofctl to its end; what it prints.
fn ofctl(arguments: &[&str], text: &str) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::input([format!("cannot run `ovs-ofctl`: {error}")]);
    let mut child = Command::new("ovs-ofctl")
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let pipe = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // It reads everything before it answers, or fails and says why; a closed pipe is the latter.
        scope.spawn(move || pipe.map(|mut pipe| pipe.write_all(text.as_bytes())));
        child.wait_with_output()
    });
    let output = output.map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::input(said.lines().map(input::printable).collect::<Vec<_>>()))
}

type Place<'a> = (u8, u16, &'a Match);

/// What of a bridge's flows would not stay.
struct Changes<'a> {
    added: Vec<&'a Flow>,
    removed: Vec<&'a Flow>,
    changed: Vec<(&'a Flow, &'a Flow)>,
}

impl<'a> Changes<'a> {
    /// Flows are the same if they do the same: cookies are for those who write them.
    fn between(there: &'a FlowFile, wanted: &'a FlowFile) -> Self {
        let places = |file: &'a FlowFile| -> BTreeMap<Place<'a>, &'a Flow> {
            file.flows.iter().map(|flow| ((flow.table, flow.priority, &flow.matching), flow)).collect()
        };
        let (before, after) = (places(there), places(wanted));
        let missing = |from: &BTreeMap<Place<'a>, &'a Flow>, of: &BTreeMap<Place<'a>, &'a Flow>| {
            from.iter().filter(|(place, _)| !of.contains_key(*place)).map(|(_, flow)| *flow).collect()
        };
        let both = after.iter().filter_map(|(place, flow)| Some((*before.get(place)?, *flow)));
        Self {
            added: missing(&after, &before),
            removed: missing(&before, &after),
            changed: both.filter(|(old, new)| actions(old) != actions(new)).collect(),
        }
    }

    const fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    fn text(&self, bridge: &str, console: &Console) -> String {
        let shown = if console.verbose { usize::MAX } else { SHOWN };
        let mut lines: Vec<(char, &Flow)> = Vec::new();
        lines.extend(self.removed.iter().take(shown).map(|flow| ('-', *flow)));
        lines.extend(self.changed.iter().take(shown).flat_map(|(old, new)| [('-', *old), ('+', *new)]));
        lines.extend(self.added.iter().take(shown).map(|flow| ('+', *flow)));
        let mut out = format!(
            "{bridge}: {} to remove, {} to change, {} to add\n",
            count(self.removed.len(), "flow"),
            self.changed.len(),
            self.added.len()
        );
        for (sign, flow) in lines {
            let flow = Flow { cookie: 0, ..flow.clone() }.to_string();
            let line = format!("{sign}{}", flow.trim());
            let line = if sign == '-' { console.style.bad(&line) } else { console.style.good(&line) };
            let _infallible = writeln!(out, "{line}");
        }
        let all = [self.removed.len(), self.changed.len(), self.added.len()];
        let hidden: usize = all.iter().map(|count| count.saturating_sub(shown)).sum();
        if hidden > 0 {
            let _infallible = writeln!(out, "… and {hidden} more (-v lists them)");
        }
        out
    }
}

/// What a flow does; dropping has two spellings.
fn actions(flow: &Flow) -> &[Action] {
    &flow.actions
}
