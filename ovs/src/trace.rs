//! What `ofproto/trace` prints, read back.
//!
//! Source: ovs-vswitchd(8), "OFPROTO COMMANDS"; the output of Open vSwitch 3.1.

use crate::{error::EnvError, said::hex};
use flowproof_packet::PortNo;
use flowproof_switch::conntrack::state;
use std::collections::BTreeMap;

/// A packet to trace.
#[derive(Clone, Copy, Debug)]
pub struct TraceRequest<'a> {
    /// Where it comes in.
    pub in_port: PortNo,
    /// Its bytes.
    pub frame: &'a [u8],
    /// What `ct_state` it has after each `ct(table=…)`, in order; `+trk+new` when they run out.
    pub ct_next: &'a [u32],
}

impl TraceRequest<'_> {
    pub(crate) fn arguments(&self, bridge: &str) -> Vec<String> {
        let next = self.ct_next.iter().flat_map(|state| ["--ct-next".to_owned(), state_words(*state)]);
        let flow = format!("in_port={}", self.in_port);
        next.chain([bridge.to_owned(), flow, hex(self.frame)]).collect()
    }
}

/// `ct_state` as the command takes it: `trk,est,rpl`.
fn state_words(bits: u32) -> String {
    const NAMES: [(u32, &str); 8] = [
        (state::TRK, "trk"),
        (state::NEW, "new"),
        (state::EST, "est"),
        (state::REL, "rel"),
        (state::RPL, "rpl"),
        (state::INV, "inv"),
        (state::SNAT, "snat"),
        (state::DNAT, "dnat"),
    ];
    let words: Vec<&str> = NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    words.join(",")
}

/// A flow that applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealRule {
    /// Its match, as the switch prints it.
    pub matching: String,
    /// Its priority.
    pub priority: u16,
    /// Its cookie.
    pub cookie: u64,
}

/// One lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealStep {
    /// The table.
    pub table: u8,
    /// The flow that applied; none matched otherwise.
    pub rule: Option<RealRule>,
}

/// Something that the datapath is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatapathAction {
    /// Output to an OpenFlow port.
    Output(PortNo),
    /// `ct(…)`, with its arguments; empty without any.
    Ct(String),
    /// The packet starts again in the tables, as the next pass.
    Recirculate,
    /// A copy for the controller.
    Controller,
    /// `push_vlan(…)`, `pop_vlan`, `set(…)` and other changes of the packet, as printed.
    Change(String),
    /// `ct_clear`
    CtClear,
    /// `drop`, the explicit one.
    Drop,
}

/// One pass through the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RealPass {
    /// The lookups in order.
    pub steps: Vec<RealStep>,
    /// What the datapath is told.
    pub actions: Vec<DatapathAction>,
}

/// All passes of a packet, in the order in which the switch took them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RealTrace {
    /// The passes.
    pub passes: Vec<RealPass>,
    /// What the switch printed.
    pub text: String,
}

const ACTIONS: &str = "Datapath actions: ";

pub(crate) fn parse(text: &str, ports: &BTreeMap<u32, PortNo>) -> Result<RealTrace, EnvError> {
    let mut passes = Vec::new();
    let mut pass = RealPass::default();
    for line in text.lines() {
        if let Some(list) = line.strip_prefix(ACTIONS) {
            let actions = split(list).into_iter().map(|action| datapath_action(action, ports));
            pass.actions = actions.collect::<Option<_>>().ok_or_else(|| EnvError::answer(line))?;
            passes.push(std::mem::take(&mut pass));
        } else if let Some(step) = step(line) {
            pass.steps.push(step);
        }
    }
    if passes.is_empty() || !pass.steps.is_empty() {
        return Err(EnvError::answer(text));
    }
    Ok(RealTrace { passes, text: text.to_owned() })
}

/// ` 0. ip,in_port=1, priority 10, cookie 0x5` or ` 0. No match.`
fn step(line: &str) -> Option<RealStep> {
    let (number, rest) = line.trim_start().split_once(". ")?;
    let table = number.parse().ok()?;
    if rest == "No match." {
        return Some(RealStep { table, rule: None });
    }
    let (matching, rest) = match rest.strip_prefix("priority ") {
        Some(rest) => ("", rest),
        None => rest.split_once(", priority ")?,
    };
    let (priority, cookie) = rest.split_once(", cookie 0x").unwrap_or((rest, "0"));
    let rule = RealRule {
        matching: matching.to_owned(),
        priority: priority.parse().ok()?,
        cookie: u64::from_str_radix(cookie, 16).ok()?,
    };
    Some(RealStep { table, rule: Some(rule) })
}

/// The parts between commas that stand in no parenthesis.
fn split(list: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    let outside = |c: char| {
        depth = match c {
            '(' => depth + 1,
            ')' => depth.saturating_sub(1),
            _ => depth,
        };
        c == ',' && depth == 0
    };
    list.split(outside).collect()
}

fn datapath_action(text: &str, ports: &BTreeMap<u32, PortNo>) -> Option<DatapathAction> {
    let (name, arguments) = text.split_once('(').unwrap_or((text, ")"));
    Some(match name {
        "ct" => DatapathAction::Ct(arguments.strip_suffix(')')?.to_owned()),
        "recirc" => DatapathAction::Recirculate,
        "userspace" => DatapathAction::Controller,
        "ct_clear" => DatapathAction::CtClear,
        "drop" => DatapathAction::Drop,
        _ => match name.parse::<u32>() {
            Ok(number) => DatapathAction::Output(*ports.get(&number)?),
            Err(_) => DatapathAction::Change(text.to_owned()),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_of_the_real_switch_is_read_whole() {
        let text = "Flow: udp,in_port=1\n\nbridge(\"br0\")\n-------------\n 0. ip,in_port=1, priority 10, cookie 0x5\n    \
                    load:0x7->NXM_NX_REG0[]\n    resubmit(,1)\n     1. No match.\n            drop\n\n\
                    Final flow: unchanged\nDatapath actions: ct(commit,zone=3,mark=0x1/0xffffffff),recirc(0x1),\
                    push_vlan(vid=5,pcp=0),10\n\n===\n    thaw\n        Resuming from table 2\n 2. priority 32768\n    \
                    drop\n\nDatapath actions: drop\n";
        let ports = BTreeMap::from([(10, 7)]);
        let rule = |matching: &str, priority, cookie| {
            Some(RealRule { matching: matching.to_owned(), priority, cookie })
        };
        let first = RealPass {
            steps: vec![
                RealStep { table: 0, rule: rule("ip,in_port=1", 10, 5) },
                RealStep { table: 1, rule: None },
            ],
            actions: vec![
                DatapathAction::Ct("commit,zone=3,mark=0x1/0xffffffff".to_owned()),
                DatapathAction::Recirculate,
                DatapathAction::Change("push_vlan(vid=5,pcp=0)".to_owned()),
                DatapathAction::Output(7),
            ],
        };
        let second = RealPass {
            steps: vec![RealStep { table: 2, rule: rule("", 32768, 0) }],
            actions: vec![DatapathAction::Drop],
        };
        assert_eq!(parse(text, &ports).unwrap().passes, [first, second]);
        assert!(parse("", &ports).is_err());
        assert!(parse(text, &BTreeMap::new()).is_err(), "an unknown port is not passed over");
    }

    #[test]
    fn states_are_written_in_words() {
        assert_eq!(state_words(state::TRK | state::EST | state::RPL), "trk,est,rpl");
    }
}
