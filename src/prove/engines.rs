//! What the two engines have to say of each other: where Z3 could not finish, and what to do where they disagree.

use super::{Options, Report};
use crate::failure::Failure;
use crate::text::{count, list};
use flowproof_proofs::check::{Finding, Findings, Judgement, Task};
use flowproof_switch::flow::Flow;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

/// Properties that are named in a sentence.
const NAMED: usize = 6;

/// On how many verdicts of what properties Z3 has no answer; nothing if it was not asked, or always answered.
pub(super) fn unfinished(report: &Report) -> Option<String> {
    let open: Vec<_> = report.rows().filter(|row| row.engines.get("z3") == Some(&"unknown")).collect();
    let names: BTreeSet<&str> = open.iter().map(|row| row.property).collect();
    let named = match names.len() {
        0 => return None,
        few if few <= NAMED => list(names),
        many => format!("{many} properties"),
    };
    Some(format!("Z3 could not finish {named}: {} by diagrams alone", count(open.len(), "verdict")))
}

/// Writes down what contradicts itself, one file for each: the tables, and the command that shows it.
pub(super) fn write_down(
    options: &Options,
    task: &Task<'_>,
    found: &Findings,
    flows: &[Flow],
) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for finding in &found.findings {
        let Judgement::Contradiction(why) = &finding.judgement else { continue };
        let Some(port) = task.ports.get(finding.port) else { continue };
        let name = format!(
            "flowproof-contradiction-{}-port{}-{}.flows",
            finding.property.name,
            port.ofport,
            finding.profile.name()
        );
        let path = PathBuf::from(name);
        super::write(&path, reproducer(options, finding, port.ofport, why, &path, flows).as_bytes())?;
        files.push(path);
    }
    Ok(files)
}

fn reproducer(
    options: &Options,
    finding: &Finding,
    port: u16,
    why: &str,
    path: &std::path::Path,
    flows: &[Flow],
) -> String {
    let (property, datapath) = (finding.property.name, finding.profile.name());
    let intent: String = options.intent.iter().map(|file| format!(" --intent {}", file.display())).collect();
    let mut text = String::new();
    for line in why.lines() {
        let _infallible = writeln!(text, "# {}", crate::input::printable(line));
    }
    let _infallible = writeln!(
        text,
        "# flowproof {} prove {} --property {property} --port {port} --datapath {datapath}{intent}",
        env!("CARGO_PKG_VERSION"),
        path.display()
    );
    for flow in flows {
        let _infallible = writeln!(text, "{}", flow.to_string().trim());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use flowproof_proofs::properties;
    use flowproof_switch::conntrack::Profile;
    use flowproof_switch::flow::parse::{ParseOptions, parse_flows};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    /// What is written down is a table again, and says how it came about.
    #[test]
    fn a_reproducer_is_a_table_with_its_command() {
        let line = Line::try_parse_from(["prove", "flows.txt", "--intent", "ports.json"]).unwrap();
        let text = "priority=5,tcp,in_port=3,tp_dst=80 actions=resubmit(,7)\ntable=7 actions=NORMAL\n";
        let flows = parse_flows(text, &ParseOptions::default()).unwrap().flows;
        let finding = Finding {
            property: properties::by_name("spoofed-mac").unwrap(),
            port: 0,
            profile: Profile::Kernel,
            judgement: Judgement::Contradiction(String::new()),
            diagram: None,
            z3: None,
        };
        let why = "the engines disagree:\ndiagrams say proved, Z3 says refuted";
        let written = reproducer(&line.options, &finding, 3, why, std::path::Path::new("x.flows"), &flows);
        let command = "prove x.flows --property spoofed-mac --port 3 --datapath kernel --intent ports.json\n";
        assert!(written.starts_with("# the engines disagree:\n# diagrams say proved"), "{written}");
        assert!(written.contains(command), "{written}");
        let again = parse_flows(&written, &ParseOptions::default()).unwrap().flows;
        let plain = |flows: &[Flow]| flows.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(plain(&again), plain(&flows));
    }
}
