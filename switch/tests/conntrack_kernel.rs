//! The kernel profiles, row by row of what is known of them. `conntrack_judge.rs` holds `kernel` to a running kernel;
//! nothing judges `kernel-2016`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

#[path = "conntrack_support/frames.rs"]
mod frames;

use Way::{Back, There};
use flowproof_packet::wire;
use flowproof_switch::conntrack::{Before, Conntrack, CtRequest, Profile, state};
use frames::{Way, icmp, icmp6, ipv4, tcp, udp, udp_segment};

const COMMIT: CtRequest =
    CtRequest { zone: 0, commit: true, force: false, mark: (0, 0), label: (0, 0), nat: None, alg: None };
const LOOK: CtRequest = CtRequest { commit: false, ..COMMIT };
const KERNELS: [Profile; 2] = [Profile::Kernel, Profile::Kernel2016];

fn words(bits: u32) -> String {
    let names = [
        (state::NEW, "new"),
        (state::EST, "est"),
        (state::REL, "rel"),
        (state::RPL, "rpl"),
        (state::INV, "inv"),
    ];
    let found: Vec<_> = names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    assert_ne!(bits & state::TRK, 0);
    found.join("+")
}

/// What `ct()` says of one frame, or `none` if nothing comes out.
fn ask(tracker: &mut Conntrack, frame: &[u8], request: &CtRequest) -> String {
    match tracker.execute(frame, request)[..] {
        [] => "none".to_owned(),
        [(_, info)] => words(info.state),
        _ => panic!("more than one frame"),
    }
}

/// Commits frames one after the other, each with what must come of it.
#[track_caller]
fn check(profile: Profile, name: &str, steps: &[(Vec<u8>, &str)]) -> Conntrack {
    let mut tracker = Conntrack::new(profile);
    for (at, (frame, expected)) in steps.iter().enumerate() {
        assert_eq!(ask(&mut tracker, frame, &COMMIT), *expected, "{profile:?}, {name}, step {at}");
    }
    tracker
}

/// A segment: way, flags, sequence number, acknowledgement, bytes of data, what is expected.
type Segment = (Way, &'static str, u32, u32, usize, &'static str);

const SYN: Segment = (There, "S", 100, 0, 0, "new");
const SYN_ACK: Segment = (Back, "SA", 500, 101, 0, "est+rpl");
const OPENED: Segment = (There, "A", 101, 501, 0, "est");

const TCP: &[(&str, &[Segment])] = &[
    ("SYN", &[SYN]),
    ("ACK midway", &[(There, "A", 100, 500, 0, "new")]),
    ("data midway", &[(There, "PA", 100, 500, 5, "new")]),
    ("picked up and answered", &[(There, "A", 100, 500, 0, "new"), (Back, "A", 500, 100, 0, "est+rpl")]),
    ("FIN without an entry", &[(There, "FA", 100, 500, 0, "inv")]),
    ("RST without an entry", &[(There, "R", 100, 0, 0, "inv"), (There, "RA", 100, 500, 0, "inv")]),
    ("SYN+ACK without an entry", &[(There, "SA", 100, 500, 0, "inv")]),
    ("FIN alone", &[(There, "F", 100, 0, 0, "inv")]),
    ("no flags", &[(There, "", 100, 0, 0, "inv")]),
    ("SYN+FIN", &[(There, "SF", 100, 0, 0, "inv")]),
    ("SYN+RST", &[(There, "SR", 100, 0, 0, "inv")]),
    ("Christmas tree", &[(There, "FPU", 100, 0, 0, "inv")]),
    ("SYN again", &[SYN, SYN]),
    ("ACK of the sender alone", &[SYN, (There, "A", 101, 1, 0, "inv")]),
    ("data of the sender alone", &[SYN, (There, "PA", 101, 1, 5, "inv")]),
    ("FIN of the sender alone", &[SYN, (There, "FA", 101, 1, 0, "inv")]),
    ("RST of the sender alone", &[SYN, (There, "R", 101, 0, 0, "new"), (Back, "SA", 500, 101, 0, "inv")]),
    (
        "handshake",
        &[SYN, SYN_ACK, OPENED, (There, "PA", 101, 501, 5, "est"), (Back, "A", 501, 106, 0, "est+rpl")],
    ),
    ("plain ACK answers SYN", &[SYN, (Back, "A", 500, 101, 0, "est+rpl")]),
    ("simultaneous open", &[SYN, (Back, "S", 500, 0, 0, "est+rpl"), (There, "SA", 100, 501, 0, "est")]),
    ("RST refuses", &[SYN, (Back, "RA", 0, 101, 0, "est+rpl"), (There, "S", 200, 0, 0, "new")]),
    (
        "outside the window",
        &[
            SYN,
            SYN_ACK,
            OPENED,
            (There, "PA", 101 + 200_000, 501, 5, "inv"),
            (There, "PA", 101, 501 + 200_000, 5, "inv"),
            (There, "PA", 101, 501, 5, "est"),
        ],
    ),
    ("SYN inside", &[SYN, SYN_ACK, OPENED, (There, "S", 101, 0, 0, "est")]),
    (
        "closed by FIN",
        &[
            SYN,
            SYN_ACK,
            OPENED,
            (There, "FA", 101, 501, 0, "est"),
            (Back, "A", 501, 102, 0, "est+rpl"),
            (Back, "FA", 501, 102, 0, "est+rpl"),
            (There, "A", 102, 502, 0, "est"),
            (There, "A", 102, 502, 0, "est"),
            (There, "S", 9000, 0, 0, "new"),
        ],
    ),
    (
        "closed by RST",
        &[SYN, SYN_ACK, OPENED, (There, "R", 101, 0, 0, "est"), (Back, "A", 501, 101, 0, "est+rpl")],
    ),
    (
        "SYN after own RST",
        &[SYN, SYN_ACK, OPENED, (There, "R", 101, 0, 0, "est"), (There, "S", 900, 0, 0, "new")],
    ),
    ("RST below what is acknowledged", &[SYN, SYN_ACK, OPENED, (Back, "R", 400, 0, 0, "inv")]),
];

#[test]
fn tcp_goes_by_the_kernels_table() {
    for profile in KERNELS {
        for (name, segments) in TCP {
            let steps: Vec<_> = segments
                .iter()
                .map(|(way, flags, seq, ack, data, expected)| {
                    (tcp(*way, flags, *seq, *ack, &vec![b'x'; *data]), *expected)
                })
                .collect();
            check(profile, name, &steps);
        }
    }
}

#[test]
fn a_server_may_reopen_only_in_newer_kernels() {
    let closed = [
        (tcp(There, "S", 100, 0, &[]), "new"),
        (tcp(Back, "SA", 500, 101, &[]), "est+rpl"),
        (tcp(There, "A", 101, 501, &[]), "est"),
        (tcp(There, "FA", 101, 501, &[]), "est"),
        (tcp(Back, "FA", 501, 102, &[]), "est+rpl"),
        (tcp(There, "A", 102, 502, &[]), "est"),
    ];
    for (profile, expected) in [(Profile::Kernel, "new"), (Profile::Kernel2016, "inv")] {
        let mut tracker = check(profile, "closed", &closed);
        assert_eq!(ask(&mut tracker, &tcp(Back, "S", 900, 0, &[]), &COMMIT), expected, "{profile:?}");
    }
}

#[test]
fn late_segments_pass_only_in_newer_kernels() {
    for (profile, expected) in [(Profile::Kernel, "est"), (Profile::Kernel2016, "inv")] {
        let late = (tcp(There, "PA", 0u32.wrapping_sub(200_000), 501, b"x"), expected);
        let syn = (tcp(There, "S", 100, 0, &[]), "new");
        check(profile, "late", &[syn, (tcp(Back, "SA", 500, 101, &[]), "est+rpl"), late]);
    }
}

#[test]
fn an_uncommitted_syn_leaves_no_trace() {
    for profile in KERNELS {
        let mut tracker = Conntrack::new(profile);
        assert_eq!(ask(&mut tracker, &tcp(There, "S", 100, 0, &[]), &LOOK), "new");
        assert_eq!(ask(&mut tracker, &tcp(Back, "SA", 500, 101, &[]), &LOOK), "inv");
    }
}

#[test]
fn sequence_numbers_matter_only_if_they_are_checked() {
    let far = tcp(There, "PA", 101 + 200_000, 501, b"x");
    let mut tracker = Conntrack::new(Profile::Kernel);
    tracker.options.check_sequence = false;
    for frame in [tcp(There, "S", 100, 0, &[]), tcp(Back, "SA", 500, 101, &[])] {
        tracker.execute(&frame, &COMMIT);
    }
    assert_eq!(ask(&mut tracker, &far, &COMMIT), "est");
}

#[test]
fn icmp_queries_of_four_types_and_any_code_are_tracked() {
    for profile in KERNELS {
        for (ask_kind, answer) in [(8, 0), (13, 14), (15, 16), (17, 18)] {
            for code in [0, 1] {
                let query = icmp(There, ask_kind, code, &[0, 1, 0, 1]);
                let reply = icmp(Back, answer, code, &[0, 1, 0, 9]);
                let stray = icmp(Back, answer, code, &[0, 2, 0, 1]);
                check(profile, "query", &[(query, "new"), (stray, "inv"), (reply, "est+rpl")]);
            }
        }
        for kind in [0, 3, 4, 5, 9, 10, 11, 12, 14, 16, 18, 40] {
            check(profile, "no query", &[(icmp(There, kind, 0, &[0; 8]), "inv")]);
        }
    }
}

#[test]
fn neighbour_discovery_is_never_tracked() {
    for (profile, expected) in [(Profile::Kernel, "inv"), (Profile::Kernel2016, "new")] {
        for kind in [130, 131, 132, 133, 134, 135, 136, 143] {
            let tracker = check(profile, "nd", &[(icmp6(There, kind, &[0; 20]), expected)]);
            assert_eq!(tracker.entries().count(), 0, "{profile:?}, {kind}");
        }
        check(profile, "redirect", &[(icmp6(There, 137, &[0; 20]), "inv")]);
        let request = icmp6(There, 128, &[0, 1, 0, 1]);
        check(profile, "echo", &[(request, "new"), (icmp6(Back, 129, &[0, 1, 0, 1]), "est+rpl")]);
    }
}

#[test]
fn errors_are_related_by_what_they_quote() {
    let quoted = |way| [&[0; 4], &udp(way, 53)[14..42]].concat();
    for profile in KERNELS {
        for kind in [3, 4, 5, 11, 12] {
            let steps = [
                (udp(There, 53), "new"),
                (icmp(Back, kind, 0, &quoted(There)), "rel+rpl"),
                (icmp(There, kind, 0, &quoted(Back)), "rel"),
                (icmp(Back, kind, 0, &quoted(There)[..27]), "inv"),
                (icmp(Back, kind, 0, &[&[0; 4], &udp(There, 54)[14..]].concat()), "inv"),
            ];
            check(profile, "error", &steps);
        }
    }
    // Only newer kernels ask whether the error goes to whom it concerns.
    for (profile, expected) in [(Profile::Kernel, "inv"), (Profile::Kernel2016, "rel+rpl")] {
        let astray = icmp(There, 3, 3, &quoted(There));
        check(profile, "astray", &[(udp(There, 53), "new"), (astray, expected)]);
    }
}

#[test]
fn other_protocols_are_known_by_their_addresses() {
    for profile in KERNELS {
        for proto in [47, 50, 2, 89, 112] {
            let there = ipv4(There, proto, 0, &[0; 16]);
            check(
                profile,
                "generic",
                &[(there.clone(), "new"), (ipv4(Back, proto, 0, &[0; 16]), "est+rpl"), (there, "est")],
            );
        }
    }
}

/// An SCTP packet with a right CRC32c: tag, then chunks of type and value.
fn sctp(way: Way, tag: u32, chunks: &[(u8, &[u8])]) -> Vec<u8> {
    let (src, dst) = if way == There { (1000_u16, 36412_u16) } else { (36412, 1000) };
    let mut packet = [src.to_be_bytes(), dst.to_be_bytes()].concat();
    packet.extend(tag.to_be_bytes());
    packet.extend([0; 4]);
    for (kind, value) in chunks {
        packet.extend([*kind, 0]);
        packet.extend(((4 + value.len()) as u16).to_be_bytes());
        packet.extend(*value);
    }
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 },
        )
    };
    let crc = !packet.iter().fold(u32::MAX, step);
    packet[8..12].copy_from_slice(&crc.to_le_bytes());
    ipv4(way, 132, 0, &packet)
}

#[test]
fn sctp_begins_with_init_and_not_with_data() {
    let init = |tag: u32| [&tag.to_be_bytes()[..], &[0; 12]].concat();
    let (a, b) = (7, 9);
    for profile in KERNELS {
        check(profile, "data", &[(sctp(There, a, &[(0, &[0; 12])]), "inv")]);
        check(profile, "abort", &[(sctp(There, a, &[(6, &[])]), "inv")]);
        let steps = [
            (sctp(There, 0, &[(1, &init(a))]), "new"),
            (sctp(Back, a, &[(2, &init(b))]), "est+rpl"),
            (sctp(There, b, &[(10, &[1; 8])]), "est"),
            (sctp(Back, a, &[(11, &[])]), "est+rpl"),
            (sctp(There, b, &[(0, &[0; 12])]), "est"),
            (sctp(There, b + 1, &[(0, &[0; 12])]), "inv"),
            (sctp(There, b, &[(7, &[0; 4])]), "est"),
            (sctp(Back, a, &[(8, &[])]), "est+rpl"),
            (sctp(There, b, &[(14, &[])]), "est"),
        ];
        let tracker = check(profile, "association", &steps);
        let states: Vec<_> = tracker.entries().map(|entry| entry.state().unwrap()).collect();
        assert_eq!(states, ["CLOSED"], "{profile:?}");
    }
}

#[test]
fn what_is_broken_is_invalid_and_what_is_odd_is_not() {
    let spoiled = |mut frame: Vec<u8>, at: usize| {
        frame[at] ^= 1;
        frame
    };
    let cases = [
        ("tcp checksum", spoiled(tcp(There, "S", 1, 0, &[]), 14 + 20 + 16), "inv"),
        ("udp checksum", spoiled(udp(There, 53), 14 + 20 + 6), "inv"),
        ("icmp checksum", spoiled(icmp(There, 8, 0, &[0; 4]), 14 + 20 + 2), "inv"),
        ("ip checksum", spoiled(udp(There, 53), 14 + 10), "new"),
        ("port 0", udp(There, 0), "new"),
        ("truncated tcp", ipv4(There, 6, 0, &[0; 19]), "inv"),
        ("truncated udp", ipv4(There, 17, 0, &[0; 7]), "inv"),
        ("padding", [tcp(There, "S", 1, 0, &[]), vec![0; 6]].concat(), "new"),
    ];
    for profile in KERNELS {
        for (name, frame, expected) in &cases {
            check(profile, name, &[(frame.clone(), expected)]);
        }
    }
}

#[test]
fn fragments_come_out_as_one_packet() {
    let whole = udp_segment(There, 53, &[b'y'; 80]);
    let (first, last) = (ipv4(There, 17, 1 << 13, &whole[..48]), ipv4(There, 17, 48 / 8, &whole[48..]));
    for profile in KERNELS {
        for pair in [[&first, &last], [&last, &first]] {
            let mut tracker = Conntrack::new(profile);
            assert!(tracker.execute(pair[0], &COMMIT).is_empty());
            let out = tracker.execute(pair[1], &COMMIT);
            assert_eq!(out.len(), 1, "{profile:?}");
            assert_eq!(words(out[0].1.state), "new");
            let l3 = wire::l3(&out[0].0).unwrap();
            assert!(l3.faults.is_none() && l3.fragment.is_none() && wire::ipv4_header_checksum_ok(&l3));
            assert_eq!(l3.payload, whole);
        }
        let mut tracker = Conntrack::new(profile);
        tracker.execute(&first, &COMMIT);
        tracker.advance(30_000);
        assert!(tracker.execute(&last, &COMMIT).is_empty(), "{profile:?}: too late");
    }
}

#[test]
fn beyond_a_limit_a_packet_is_dropped() {
    let mut tracker = Conntrack::new(Profile::Kernel);
    tracker.set_limit(Some(0), 1);
    assert_eq!(ask(&mut tracker, &udp(There, 53), &COMMIT), "new");
    assert_eq!(ask(&mut tracker, &udp(There, 54), &COMMIT), "none");
    assert_eq!(ask(&mut tracker, &udp(There, 54), &LOOK), "new");
    assert_eq!(ask(&mut tracker, &udp(There, 53), &COMMIT), "new");
}

#[test]
fn force_turns_a_connection_round() {
    let force = CtRequest { force: true, ..COMMIT };
    let mut tracker = check(Profile::Kernel, "udp", &[(udp(There, 53), "new")]);
    assert_eq!(ask(&mut tracker, &udp(Back, 53), &force), "new");
    assert_eq!(ask(&mut tracker, &udp(There, 53), &COMMIT), "est+rpl");
}

#[test]
fn entries_live_as_long_as_their_state_says() {
    let syn = || tcp(There, "S", 100, 0, &[]);
    let open = || vec![syn(), tcp(Back, "SA", 500, 101, &[]), tcp(There, "A", 101, 501, &[])];
    let then = |mut frames: Vec<Vec<u8>>, more: &[Vec<u8>]| {
        frames.extend_from_slice(more);
        frames
    };
    let reset = then(open(), &[tcp(There, "R", 101, 0, &[])]);
    let fin = then(open(), &[tcp(There, "FA", 101, 501, &[])]);
    let cases = [
        ("syn", vec![syn()], 120),
        ("established", open(), 432_000),
        ("reset", reset, 10),
        // A FIN that is not acknowledged yet.
        ("fin", fin, 120),
        ("udp", vec![udp(There, 53)], 30),
        ("icmp", vec![icmp(There, 8, 0, &[0; 4])], 30),
        ("generic", vec![ipv4(There, 50, 0, &[0; 8])], 600),
    ];
    for profile in KERNELS {
        for (name, frames, seconds) in &cases {
            let mut tracker = Conntrack::new(profile);
            for frame in frames {
                tracker.execute(frame, &COMMIT);
            }
            assert!(tracker.advance(1000 * seconds - 1).is_empty(), "{profile:?}, {name}: too early");
            assert_eq!(tracker.advance(1).len(), 1, "{profile:?}, {name}: too late");
        }
    }
}

#[test]
fn a_reset_that_kills_its_connection_still_belongs_to_it() {
    for profile in KERNELS {
        let mut tracker = check(profile, "syn", &[(tcp(There, "S", 100, 0, &[]), "new")]);
        let out = tracker.execute(&tcp(There, "R", 101, 0, &[]), &LOOK);
        assert_eq!((words(out[0].1.state), tracker.entries().count()), ("new".to_owned(), 0));
        let before = Before { zone: 0, info: out[0].1, rewritten: false };
        assert_eq!(tracker.execute_again(&out[0].0, &COMMIT, &before), out, "{profile:?}");
        assert_eq!(tracker.entries().count(), 0, "{profile:?}");
    }
}
