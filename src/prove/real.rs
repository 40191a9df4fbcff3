//! `--ovs`: every refutation under the userspace datapath, repeated in a private real switch.
//!
//! Invariant: what a real switch does not do is no verdict on the tables but a contradiction.

use super::{Replays, intent::Outcome};
use crate::failure::Failure;
use crate::real;
use flowproof_ovs::{Answer, Event, Judge, OTHER_DATAPATH, Story};
use flowproof_packet::PortNo;
use flowproof_proofs::check::{Finding, Judgement};
use flowproof_proofs::diagram::Host;
use flowproof_proofs::ports::Port;
use flowproof_proofs::replay::{Replay, Sent, ports};
use flowproof_switch::conntrack::Profile;
use flowproof_switch::pipeline::PortConfig;
use std::collections::BTreeMap;

/// Which refutation: property, port, and in section D direction and peer.
type Name = (&'static str, PortNo, Option<&'static str>, Option<&'static str>);

/// A real switch, and what it said so far.
pub(super) struct Real {
    judge: Judge,
    /// Nothing if the same happened, else why it could not be asked.
    told: BTreeMap<Name, Option<&'static str>>,
}

impl Real {
    /// Fails where no Open vSwitch can be started: better before the proofs than behind them.
    pub(super) fn summon() -> Result<Self, Failure> {
        Ok(Self { judge: real::summon()?, told: BTreeMap::new() })
    }

    /// Repeats one finding, if it is a refutation under the userspace datapath; one that does not happen turns into a
    /// contradiction. `between` are direction and peer of section D.
    pub(super) fn hear(
        &mut self,
        host: &Host,
        port: &Port,
        finding: &mut Finding,
        between: Option<(&'static str, &'static str)>,
    ) -> Result<(), Failure> {
        let Judgement::Refuted(replay) = &finding.judgement else { return Ok(()) };
        if finding.profile != Profile::Userspace31 {
            return Ok(());
        }
        let name = (
            finding.property.name,
            port.ofport,
            between.map(|(direction, _)| direction),
            between.map(|(_, peer)| peer),
        );
        let told = match confirm(&mut self.judge, host, port, replay)? {
            Answer::Same => None,
            Answer::Open(why) => Some(why),
            Answer::Differs(difference) => {
                let version = self.judge.version();
                let why = format!("Open vSwitch {version} does not repeat it: {}", real::words(&difference));
                finding.judgement = Judgement::Contradiction(why);
                return Ok(());
            }
        };
        self.told.insert(name, told);
        Ok(())
    }

    /// Writes into the results what the switch said.
    pub(super) fn annotate(&self, results: &mut [Outcome]) -> Replays {
        let version = self.judge.version().to_owned();
        let mut replays = Replays { version, confirmed: 0, counterexamples: 0 };
        for outcome in results {
            let Outcome::Verdict(row) = outcome else { continue };
            let Some(story) = &mut row.counterexample else { continue };
            replays.counterexamples += 1;
            let userspace = row.datapath.contains(&Profile::Userspace31.name());
            let name = (row.property, row.port, row.direction, row.peer);
            match self.told.get(&name).filter(|_| userspace) {
                Some(None) => {
                    story.replayed.switch = Some(true);
                    replays.confirmed += 1;
                }
                Some(Some(why)) => story.replayed.note = Some(why),
                None => story.replayed.note = Some(OTHER_DATAPATH),
            }
        }
        replays
    }
}

/// Why the real switch is not asked.
const BESIDE: &str = "not asked: what comes in with the packet, beside its bytes, no dummy port can hand in";

/// Tells a counterexample to the real switch; what it says of the first part that it does not do.
fn confirm(judge: &mut Judge, host: &Host, port: &Port, replay: &Replay) -> Result<Answer, Failure> {
    let mut ports = ports(host, port);
    for sent in &replay.events {
        if !ports.iter().any(|port| port.ofport == sent.in_port) {
            ports.push(PortConfig::trunk(sent.in_port));
        }
    }
    if replay.events.iter().any(|sent| sent.beside.is_some()) {
        return Ok(Answer::Open(BESIDE));
    }
    for story in replay.stories() {
        let events = story.into_iter().enumerate().flat_map(|(at, sent)| {
            let exchanged = replay.is_exchanged_before(at).then(|| Event::Flows(host.tables.flows()));
            exchanged.into_iter().chain([event(sent)])
        });
        let told = Story {
            ports: &ports,
            flows: replay.first_flows(host),
            tie: replay.tie,
            events: events.collect(),
        };
        match judge.hear(&told).map_err(|error| real::failed(&error))? {
            Answer::Same => {}
            other => return Ok(other),
        }
    }
    Ok(Answer::Same)
}

fn event(sent: &Sent) -> Event<'_> {
    Event::Frame { in_port: sent.in_port, frame: &sent.frame, claimed: sent.outcome.delivered() }
}
