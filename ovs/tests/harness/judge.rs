//! The judge: true claims, false ones, and those that are open.

use super::suite::{flows, udp};
use flowproof_ovs::{Answer, Event, Framed, Judge, LoadError, Story};
use flowproof_packet::PortNo;
use flowproof_switch::{pipeline::PortConfig, table::TieBreak};
use std::{
    env,
    io::{self, Write},
};

const PORTS: [PortConfig; 3] = [PortConfig::trunk(1), PortConfig::trunk(2), PortConfig::trunk(3)];

fn summon() -> Option<Judge> {
    match Judge::summon() {
        Ok(judge) => Some(judge),
        Err(error) if error.is_missing() && env::var_os("CI").is_none() => {
            let _nobody_listens = writeln!(io::stderr(), "NOT TESTED against a real switch: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// One UDP datagram into a port, said to leave by those.
fn claim(in_port: PortNo, frame: &[u8], out: &[PortNo]) -> Event<'static> {
    let frame: &'static [u8] = Vec::leak(frame.to_vec());
    let claimed: Vec<Framed> = out.iter().map(|port| (*port, frame.to_vec())).collect();
    Event::Frame { in_port, frame, claimed }
}

#[track_caller]
fn hear(judge: &mut Judge, text: &str, tie: TieBreak, events: Vec<Event<'_>>) -> Answer {
    judge.hear(&Story { ports: &PORTS, flows: &flows(text), tie, events }).unwrap()
}

#[test]
fn true_claims_are_told_from_open_ones() {
    let Some(mut judge) = summon() else { return };
    assert!(judge.version().starts_with(|c: char| c.is_ascii_digit()));
    let frame = udp();
    let plain = "in_port=1 actions=output:3,output:2";
    assert_eq!(hear(&mut judge, plain, TieBreak::First, vec![claim(1, &frame, &[2, 3])]), Answer::Same);
    let open = |answer| matches!(answer, Answer::Open(_));
    assert!(open(hear(&mut judge, plain, TieBreak::First, vec![claim(9, &frame, &[2])])), "no such port");
    let group = "in_port=1 actions=group:1";
    let opaque = judge.hear(&Story {
        ports: &PORTS,
        flows: &flows(group),
        tie: TieBreak::First,
        events: vec![claim(1, &frame, &[])],
    });
    // A group that does not exist may be refused; it is never a difference.
    assert!(matches!(opaque, Ok(Answer::Open(_)) | Err(LoadError::Refused { .. })), "{opaque:?}");
}

#[test]
fn a_claim_that_the_interpreter_does_not_make_is_open_and_not_a_difference() {
    let Some(mut judge) = summon() else { return };
    let answer = hear(&mut judge, "actions=output:2", TieBreak::First, vec![claim(1, &udp(), &[3])]);
    assert!(matches!(answer, Answer::Open(_)), "{answer:?}");
}

/// Whichever of two overlapping flows is said to win: the switch is loaded so that it should. It mostly does; where it does
/// not, which OpenFlow leaves to it, that is no difference.
#[test]
fn a_tie_that_goes_the_other_way_is_open_and_not_a_difference() {
    let Some(mut judge) = summon() else { return };
    let tied = "priority=5,udp actions=output:2\npriority=5,in_port=1 actions=output:3\n";
    for (tie, port) in [(TieBreak::First, 2), (TieBreak::Last, 3)] {
        match hear(&mut judge, tied, tie, vec![claim(1, &udp(), &[port])]) {
            Answer::Same => {}
            Answer::Open(why) => assert!(why.contains("equal priority"), "{tie:?}: {why}"),
            Answer::Differs(difference) => panic!("{tie:?}: {difference:?}"),
        }
    }
}

/// Connections, time, changed flows and flushes happen to both; nothing of a story is left in the next.
#[test]
fn stories_have_a_past_of_their_own() {
    let Some(mut judge) = summon() else { return };
    let text = "in_port=1,udp actions=ct(commit,zone=4,exec(set_field:1->ct_mark)),output:2\n\
                in_port=3,udp actions=ct(table=1,zone=4)\n\
                table=1,ct_mark=1 actions=output:2\n";
    let frame = udp();
    let (open, known, unknown) = (claim(1, &frame, &[2]), claim(3, &frame, &[2]), claim(3, &frame, &[]));
    let other = flows("actions=output:1");
    let stories = [
        vec![open.clone(), known.clone(), Event::Advance(61_000), unknown.clone()],
        vec![unknown.clone()],
        vec![open.clone(), Event::Flush, unknown.clone()],
        vec![open.clone(), Event::ForgetMarked(5), known.clone(), Event::ForgetMarked(4), unknown],
        vec![open, Event::Flows(&other), claim(3, &frame, &[1])],
    ];
    for events in stories {
        assert_eq!(hear(&mut judge, text, TieBreak::First, events), Answer::Same);
    }
}
