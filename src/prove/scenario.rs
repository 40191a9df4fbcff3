//! Counterexamples as scenarios: what `flowproof run` replays without the proof.
//!
//! Invariant: a scenario is given only if it reads back, plays, and shows the divergence that the row is about.
//! Deliberately absent: tables so large that nobody would want them in a report, and choices between flows of equal
//! priority, of which a scenario has one.

use super::intent::{Intent, Outcome};
use flowproof_lockstep::scenario::{Contents, Event, Extras, Packet, Scenario, Sender, Step, Tables};
use flowproof_lockstep::{Difference, parse, run};
use flowproof_model::policy::Policy;
use flowproof_model::switches::Switches;
use flowproof_packet::build::{defragment, fragment};
use flowproof_packet::{PortNo, wire};
use flowproof_proofs::intent::{COMMIT, COMPLETE, DELIVERY, MARK};
use flowproof_proofs::report::{EventRow, Row};
use flowproof_switch::conntrack::Profile;
use flowproof_switch::flow::Flow;

/// Flows of the largest tables that are written into a scenario.
const MOST_FLOWS: usize = 2000;

/// Rows that somebody's getting too much does not show.
const OTHERS: [&str; 4] = [COMPLETE.name, COMMIT.name, DELIVERY.name, MARK.name];

/// Writes into the results what replays them.
pub(super) fn annotate(results: &mut [Outcome], intent: &Intent, flows: &[Flow]) {
    if flows.len() > MOST_FLOWS {
        return;
    }
    let lines: Vec<String> = flows.iter().map(|flow| flow.to_string().trim().to_owned()).collect();
    for outcome in results {
        let Outcome::Verdict(row) = outcome else { continue };
        let text = scenario(row, intent, &lines).map(|scenario| scenario.to_string());
        let text = text.filter(|text| shows(row, text));
        if let Some(story) = &mut row.counterexample {
            story.scenario = text;
        }
    }
}

fn scenario(row: &Row, intent: &Intent, lines: &[String]) -> Option<Scenario> {
    let story = row.counterexample.as_ref().filter(|story| !story.depends_on_tie)?;
    let name = row.datapath.first()?;
    let policy = &intent.site.policy;
    let mut scenario = Scenario::new(policy.clone(), Vec::new());
    scenario.notes = vec![format!("{}: {}", row.property, row.explanation)];
    scenario.tables = Tables::Inline(lines.to_vec());
    scenario.datapath = Profile::ALL.into_iter().find(|profile| profile.name() == *name)?;
    let usual = Switches::default().settings();
    let unusual = intent.site.switches.settings().into_iter().filter(|one| !usual.contains(one));
    scenario.switches = unusual.map(|(name, setting)| (name.to_owned(), setting.to_owned())).collect();
    scenario.steps =
        datagrams(&story.events)?.into_iter().map(|one| step(policy, one)).collect::<Option<_>>()?;
    Some(scenario)
}

/// A datagram: what it is, where it comes in, its frame or those of its fragments.
struct Datagram<'r> {
    summary: &'r str,
    in_port: PortNo,
    frames: Vec<Vec<u8>>,
}

/// The packets, those that are fragments of one datagram together: alone a fragment tells nobody what it is part of.
fn datagrams(events: &[EventRow]) -> Option<Vec<Datagram<'_>>> {
    let mut all: Vec<Datagram<'_>> = Vec::new();
    for EventRow { packet, .. } in events {
        let frame = bytes(&packet.hex)?;
        let is_fragment = |frame: &Vec<u8>| wire::l3(frame).is_some_and(|l3| l3.is_partial());
        let begun = |last: &&mut Datagram<'_>| {
            let partial = last.in_port == packet.in_port && last.frames.iter().all(is_fragment);
            partial && is_fragment(&frame) && defragment(&last.frames).is_none()
        };
        match all.last_mut().filter(begun) {
            Some(last) => last.frames.push(frame),
            None => {
                let (summary, in_port) = (packet.summary.as_str(), packet.in_port);
                all.push(Datagram { summary, in_port, frames: vec![frame] });
            }
        }
    }
    Some(all)
}

fn step(policy: &Policy, datagram: Datagram<'_>) -> Option<Step> {
    let Datagram { summary, in_port, frames } = datagram;
    let mut extras = Extras::default();
    let whole = match frames.as_slice() {
        [one] => one.clone(),
        many => {
            let whole = defragment(many)?;
            let sizes = (8..u16::try_from(whole.len()).ok()?).step_by(8);
            let first = sizes
                .into_iter()
                .find(|size| fragment(&whole, usize::from(*size)).is_some_and(|cut| cut == many))?;
            extras.fragment = Some(first);
            whole
        }
    };
    let from = sender(policy, in_port)?;
    let packet = Packet { from, to: None, contents: Contents::Raw(whole), extras };
    let comments = vec![summary.to_owned()];
    Some(Step { comments, ..Step::new(Event::Packet(packet)) })
}

/// Who is behind a port of the switch; nobody that a scenario could name if the intent does not.
fn sender(policy: &Policy, number: PortNo) -> Option<Sender> {
    let host = policy.host.as_ref()?;
    let bound = host.bindings.iter().find(|(_, binding)| binding.ofport == number);
    let uplink = host.uplinks.iter().find(|uplink| uplink.ofport == number);
    bound.map(|(id, _)| Sender::Port(id.clone())).or(uplink.map(|uplink| Sender::Uplink(uplink.ofport)))
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Whether the text plays, and shows first what the row is about.
fn shows(row: &Row, text: &str) -> bool {
    let Some(run) = parse(text).ok().and_then(|scenario| run(&scenario, None).ok()) else { return false };
    let Some((_, seen)) = run.first_divergence() else { return false };
    seen.differences.iter().any(|one| match one {
        Difference::OverPermitted { .. } => !OTHERS.contains(&row.property),
        Difference::OverBlocked { .. } | Difference::Altered { .. } => row.property == COMPLETE.name,
        Difference::Committed { .. } => row.property == COMMIT.name,
        Difference::NotCommitted { .. } => row.property == DELIVERY.name,
        Difference::Mark { .. } => row.property == MARK.name,
        _ => false,
    })
}
