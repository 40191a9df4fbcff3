//! `ct(nat)` and helpers: what is known is said, and what is not lasts.

use super::run;

fn field(name: &str) -> String {
    format!("tests/fixtures/field/{name}")
}

/// A SYN from port 1 and what answers it at port 2.
fn asked_and_answered(flows: &str, answered: &str) -> super::Run {
    let there = "tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2,tp_src=1000,tp_dst=21,tcp_flags=+syn";
    let back = format!("tcp,nw_src=10.0.0.2,nw_dst={answered},tp_src=21,tp_dst=1000,tcp_flags=+syn+ack");
    run(&["trace", &field(flows), "--in-port", "1", "--packet", there, "--in-port", "2", "--packet", &back])
}

/// A real Open vSwitch 3.1 delivers both.
#[test]
fn the_answer_to_a_translated_connection_finds_it() {
    let run = asked_and_answered("unknown-lasts/nat.flows", "10.0.0.9");
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.out.contains("= leaves by 2: TCP 10.0.0.9:1000 > 10.0.0.2:21 [SYN]"), "{}", run.out);
    assert!(run.out.contains("= leaves by 1: unchanged"), "{}", run.out);
}

#[test]
fn what_a_helper_may_have_opened_is_unknown_for_later_packets() {
    let run = asked_and_answered("unknown-lasts/helper.flows", "10.0.0.1");
    assert_eq!(run.code, Some(3), "{run:?}");
    let [_, second] = run.out.split("packet 2,").collect::<Vec<_>>()[..] else { panic!("{}", run.out) };
    assert!(second.contains("= unknown:") && !second.contains("dropped"), "{second}");
}

#[test]
fn what_is_behind_a_bare_nat_is_reached() {
    for name in ["nat.flows", "natc.flows"] {
        let run = run(&["lint", &field(&format!("behind-nat/{name}"))]);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(!run.out.contains("unreached") && !run.out.contains("not modelled"), "{}", run.out);
    }
}
