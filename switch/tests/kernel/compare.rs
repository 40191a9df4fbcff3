//! One story told to the kernel and to the profile.

use super::process::{Judge, Seen};
use crate::frames::Way;
use flowproof_packet::wire;
use flowproof_switch::conntrack::{Before, Conntrack, CtRequest, Entry, Profile, state};
use std::net::IpAddr;

/// A frame, where it comes from, and what `ct()` is to do with it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) way: Way,
    pub(crate) frame: Vec<u8>,
    pub(crate) request: CtRequest,
}

/// Creates the connection, in zone 0.
pub(crate) const COMMIT: CtRequest =
    CtRequest { zone: 0, commit: true, force: false, mark: (0, 0), label: (0, 0), nat: None, alg: None };

/// A frame that is committed in zone 0.
pub(crate) fn step(way: Way, frame: Vec<u8>) -> Step {
    Step { way, frame, request: COMMIT }
}

/// A connection as both show it: protocol, addresses, ports or ICMP type and code, zone, mark, state of TCP.
type Row = (u8, IpAddr, IpAddr, u16, u16, u16, u32, Option<String>);

/// Tells a story; the first difference, if there is one. A busy machine may lose a frame, so a difference must show
/// twice.
pub(crate) fn compare(judge: &mut Judge, name: &str, steps: &[Step]) -> Option<String> {
    tell(judge, name, steps).and_then(|_| tell(judge, name, steps))
}

fn tell(judge: &mut Judge, name: &str, steps: &[Step]) -> Option<String> {
    judge.flush();
    let mut tracker = Conntrack::new(Profile::Kernel);
    for (at, Step { way, frame, request }) in steps.iter().enumerate() {
        let theirs = judge.ask(*way, frame, request);
        let ours = ask(&mut tracker, frame, request);
        let theirs = Seen { state: theirs.state.replace("untracked", "inv"), ..theirs };
        if ours != theirs {
            return Some(format!(
                "{name}, step {at}: the kernel says {theirs:?}, the profile {ours:?}\n{steps:02x?}"
            ));
        }
    }
    let theirs = judge.entries()?;
    entries(&tracker, &theirs).map(|text| format!("{name}: {text}\n{steps:02x?}"))
}

/// What `ct(table=1)` says of a frame, after which `ct(commit)` is done if it is asked for.
fn ask(tracker: &mut Conntrack, frame: &[u8], request: &CtRequest) -> Seen {
    let look = CtRequest { commit: false, mark: (0, 0), ..*request };
    let output = tracker.execute(frame, &look);
    assert!(output.len() < 2, "the kernel puts fragments together");
    let Some((frame, info)) = output.first() else {
        return Seen { state: "none".to_owned(), mark: 0, bytes: 0 };
    };
    if request.commit {
        tracker.execute_again(frame, request, &Before { zone: request.zone, info: *info, rewritten: false });
    }
    Seen { state: words(info.state), mark: info.mark, bytes: length(frame) }
}

fn words(bits: u32) -> String {
    let names = [
        (state::NEW, "new"),
        (state::EST, "est"),
        (state::REL, "rel"),
        (state::INV, "inv"),
        (state::RPL, "rpl"),
    ];
    let found: Vec<_> = names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    found.join("+")
}

/// Bytes of IP in a frame, without padding.
fn length(frame: &[u8]) -> usize {
    wire::l3(frame).map_or(0, |l3| l3.header.len() + l3.payload.len())
}

/// How the connections differ.
fn entries(tracker: &Conntrack, lines: &[String]) -> Option<String> {
    let mut theirs: Vec<(Row, u64)> = lines.iter().map(|line| parse(line)).collect();
    let mut ours: Vec<(Row, u64)> = tracker.entries().map(|entry| row(tracker, &entry)).collect();
    theirs.sort();
    ours.sort();
    // The kernel's clock runs while it is asked.
    let same =
        |((a, there), (b, here)): (&(Row, u64), &(Row, u64))| a == b && (*there..there + 5).contains(here);
    let agree = theirs.len() == ours.len() && theirs.iter().zip(&ours).all(same);
    (!agree).then(|| format!("the kernel has {theirs:?}, the profile {ours:?}"))
}

fn row(tracker: &Conntrack, entry: &Entry) -> (Row, u64) {
    let orig = entry.orig();
    let address = |bits: u128| {
        if orig.ipv6 { IpAddr::V6(bits.into()) } else { IpAddr::V4((bits as u32).into()) }
    };
    let state = entry.state().filter(|_| orig.proto == wire::proto::TCP).map(str::to_owned);
    let row = (
        orig.proto,
        address(orig.src),
        address(orig.dst),
        orig.tp_src,
        orig.tp_dst,
        entry.zone(),
        entry.mark(),
        state,
    );
    (row, (entry.expires() - tracker.now()) / 1000)
}

/// Reads a line of `/proc/net/nf_conntrack`.
fn parse(line: &str) -> (Row, u64) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let value = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let number = |name: &str| value(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    let address = |name: &str| value(name).unwrap().parse().unwrap();
    let proto = words[3].parse().unwrap();
    let state = (proto == wire::proto::TCP).then(|| shown(words[5]).to_owned());
    let (from, to) = if value("sport").is_some() { ("sport", "dport") } else { ("type", "code") };
    let row = (
        proto,
        address("src"),
        address("dst"),
        number(from),
        number(to),
        number("zone"),
        u32::from(number("mark")),
        state,
    );
    (row, words[4].parse().unwrap())
}

/// The name that Open vSwitch shows for a state of the kernel's TCP.
fn shown(state: &str) -> &str {
    match state {
        "SYN_SENT2" => "SYN_SENT",
        "SYN_RECV" => "ESTABLISHED",
        "FIN_WAIT" => "FIN_WAIT_1",
        "CLOSE" => "CLOSING",
        other => other,
    }
}
