//! Flows as a newer Open vSwitch takes them.

use crate::{error::EnvError, guard::program};
use flowproof_packet::{Field, wire::ethertype};
use flowproof_switch::flow::{Action, Flow};
use std::process::Command;

/// The versions of OpenFlow that between them can say everything.
const VERSIONS: [&str; 3] = ["OpenFlow10", "OpenFlow15", "OpenFlow13"];

/// Why `ovs-ofctl parse-flow` takes a flow for none, whatever the version of OpenFlow; nothing if it takes it.
///
/// # Errors
///
/// The program is not installed, or does not run.
pub fn refused_by_the_tool(line: &str) -> Result<Option<String>, EnvError> {
    let mut why = String::new();
    for version in VERSIONS {
        let mut command = Command::new(program("ovs-ofctl")?);
        command.args(["-O", version, "parse-flow", line]).env("LC_ALL", "C");
        let output = command.output().map_err(EnvError::io("cannot run `ovs-ofctl`"))?;
        if output.status.success() && String::from_utf8_lossy(&output.stdout).contains("FLOW_MOD") {
            return Ok(None);
        }
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        why = errors.lines().find(|line| line.starts_with("ovs-ofctl")).unwrap_or("refused").to_owned();
    }
    Ok(Some(why))
}

/// Replaces each flow that has `ct()` without matching on the Ethernet type, which Open vSwitch refuses since 2.6,
/// by one copy for IPv4 and one for IPv6, in its place.
///
/// The tables mean the same for IP packets. Another packet that matched such a flow, which can only be if the flow
/// does not ask for a tracked packet, now falls through to flows of lower priority.
#[must_use]
pub fn split_untyped_ct(flows: &[Flow]) -> Vec<Flow> {
    let mut split = Vec::with_capacity(flows.len());
    for flow in flows {
        let tracks = flow.actions.iter().any(|action| matches!(action, Action::Ct(_)));
        if tracks && !flow.matching.looks_at(Field::DlType) && !flow.matching.looks_at(Field::PacketType) {
            for version in [ethertype::IPV4, ethertype::IPV6] {
                let mut copy = flow.clone();
                copy.matching.set(Field::DlType, u128::from(version), u128::MAX);
                split.push(copy);
            }
        } else {
            split.push(flow.clone());
        }
    }
    split
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowproof_switch::flow::{ParseOptions, parse_flows};

    #[track_caller]
    fn check(line: &str, expected: &[&str]) {
        let flows = |text: &str| parse_flows(text, &ParseOptions::default()).unwrap().flows;
        let split: Vec<String> = split_untyped_ct(&flows(line)).iter().map(ToString::to_string).collect();
        let expected: Vec<String> =
            expected.iter().flat_map(|line| flows(line)).map(|flow| flow.to_string()).collect();
        assert_eq!(split, expected);
    }

    #[test]
    fn only_flows_with_ct_and_without_a_type_are_split() {
        check(
            "table=82,priority=40,ct_state=+est,reg5=1 actions=ct(commit,zone=NXM_NX_REG6[0..15])",
            &[
                "table=82,priority=40,ct_state=+est,ip,reg5=1 actions=ct(commit,zone=NXM_NX_REG6[0..15])",
                "table=82,priority=40,ct_state=+est,ipv6,reg5=1 actions=ct(commit,zone=NXM_NX_REG6[0..15])",
            ],
        );
        check("ip actions=ct(table=1)", &["ip actions=ct(table=1)"]);
        check("ct_state=+est actions=drop", &["ct_state=+est actions=drop"]);
    }
}
