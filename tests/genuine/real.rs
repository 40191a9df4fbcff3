//! Counterexamples in a real switch: the same packets, and what comes out of it must be what came out of the
//! interpreter, byte for byte and port for port.

use flowproof_ovs::{Answer, Event, Judge, Story};
use flowproof_proofs::{
    check::{Finding, Judgement},
    diagram::Host,
    replay::{Replay, Sent, ports},
};
use flowproof_switch::{conntrack::Profile, pipeline::PortConfig};
use std::{
    env,
    io::{Write, stderr},
};

/// A real switch to ask; there must be one where `CI` is set.
fn summon() -> Option<Judge> {
    match Judge::summon() {
        Ok(judge) => Some(judge),
        Err(error) if error.is_missing() && env::var_os("CI").is_none() => {
            let _nobody_listens = writeln!(stderr(), "NOT CONFIRMED by a real switch: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Whether a real switch can be started.
pub(super) fn available() -> bool {
    summon().is_some()
}

/// Repeats every refutation under `userspace-3.1`: how many happened, and those that did not.
pub(super) fn confirm<'a>(
    host: &Host,
    findings: impl Iterator<Item = &'a Finding> + Clone,
) -> (usize, Vec<String>) {
    let (mut confirmed, mut denied) = (0, Vec::new());
    let Some(mut judge) = summon() else { return (confirmed, denied) };
    // By sender: each has a switch of its own.
    for sender in 0..host.ports.len() {
        for finding in findings.clone().filter(|finding| finding.port == sender) {
            let Judgement::Refuted(replay) = &finding.judgement else { continue };
            if finding.profile != Profile::Userspace31 {
                continue;
            }
            match objection(&mut judge, host, sender, replay) {
                None => confirmed += 1,
                Some(text) => denied.push(format!("{}: {text}", finding.property.name)),
            }
        }
    }
    (confirmed, denied)
}

/// What keeps the real switch from saying the same.
fn objection(judge: &mut Judge, host: &Host, sender: usize, replay: &Replay) -> Option<String> {
    let mut ports = ports(host, &host.ports[sender]);
    for sent in &replay.events {
        if ports.iter().all(|port| port.ofport != sent.in_port) {
            ports.push(PortConfig::trunk(sent.in_port));
        }
    }
    // A dummy port cannot hand in more than bytes.
    if replay.events.iter().any(|sent| sent.beside.is_some()) {
        return None;
    }
    replay.stories().into_iter().find_map(|story| {
        let events = story.into_iter().enumerate().flat_map(|(at, sent)| {
            let exchanged = replay.is_exchanged_before(at).then(|| Event::Flows(host.tables.flows()));
            exchanged.into_iter().chain([entered(sent)])
        });
        let events = events.collect();
        let told = Story { ports: &ports, flows: replay.first_flows(host), tie: replay.tie, events };
        match judge.hear(&told).unwrap() {
            Answer::Same => None,
            Answer::Open(why) => Some(why.to_owned()),
            Answer::Differs(difference) => Some(format!("{difference:02x?}")),
        }
    })
}

fn entered(sent: &Sent) -> Event<'_> {
    Event::Frame { in_port: sent.in_port, frame: &sent.frame, claimed: sent.outcome.delivered() }
}
