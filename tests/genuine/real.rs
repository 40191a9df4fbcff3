//! Counterexamples in a real switch: the same packets, and what comes out of it must be what came out of the
//! interpreter, byte for byte and port for port.

use flowproof_ovs::{RealSwitch, split_untyped_ct};
use flowproof_packet::PortNo;
use flowproof_proofs::{
    check::{Finding, Judgement},
    diagram::Host,
    replay::{Sent, ports},
};
use flowproof_switch::{conntrack::Profile, table::TieBreak};
use std::{
    env,
    io::{Write, stderr},
};

/// A frame with the port it enters or leaves by.
type Framed = (PortNo, Vec<u8>);

/// Whether a real switch can be started; one must be where `CI` is set.
pub(super) fn available() -> bool {
    match RealSwitch::start(&[]) {
        Ok(_) => true,
        Err(error) if error.is_missing() && env::var_os("CI").is_none() => {
            let _nobody_listens = writeln!(stderr(), "NOT CONFIRMED by a real switch: {error}");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

/// Repeats every refutation under `userspace-3.1`: how many happened, and those that did not.
pub(super) fn confirm(host: &Host, findings: &[Finding]) -> (usize, Vec<String>) {
    let (mut confirmed, mut denied) = (0, Vec::new());
    if !available() {
        return (confirmed, denied);
    }
    for sender in 0..host.ports.len() {
        let mut real = RealSwitch::start(&ports(host, &host.ports[sender])).unwrap();
        real.load(&split_untyped_ct(host.tables.flows())).unwrap();
        for finding in findings.iter().filter(|finding| finding.port == sender) {
            let Judgement::Refuted(replay) = &finding.judgement else { continue };
            // Which of two overlapping flows wins is open: the real switch need not choose the later one.
            if finding.profile != Profile::Userspace31 || replay.tie == TieBreak::Last {
                continue;
            }
            let (prelude, telling) = replay.events.split_at(replay.prelude);
            let whole = replay.whole.as_ref().map(|whole| prelude.iter().chain([whole]).collect());
            let stories = [Some(prelude.iter().chain(telling).collect::<Vec<_>>()), whole];
            match stories.into_iter().flatten().find_map(|story| difference(&mut real, &story)) {
                None => confirmed += 1,
                Some(text) => denied.push(format!("{}: {text}", finding.property.name)),
            }
        }
    }
    (confirmed, denied)
}

/// What the real switch does otherwise than the interpreter with these packets, the first one on a fresh switch.
fn difference(real: &mut RealSwitch, story: &[&Sent]) -> Option<String> {
    real.reset().unwrap();
    story.iter().find_map(|sent| {
        let left = real.send(sent.in_port, &sent.frame).unwrap();
        let expected = by_port(sent.outcome.delivered());
        (left != expected)
            .then(|| format!("{:02x?} into {}: {left:02x?}, not {expected:02x?}", sent.frame, sent.in_port))
    })
}

/// Frames by ascending port, each port's in order.
fn by_port(mut frames: Vec<Framed>) -> Vec<Framed> {
    frames.sort_by_key(|(port, _)| *port);
    frames
}
