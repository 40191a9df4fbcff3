//! The kernel profile against the kernel that runs: every row of what is known of it, and sequences at random.
//!
//! Where the machine allows no private network namespace, or has no nftables, this says so and passes, unless
//! `FLOWPROOF_KERNEL_JUDGE` is set. `FLOWPROOF_SOAK=N` plays N random connections, `FLOWPROOF_SEED` chooses them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

#[path = "conntrack_support/frames.rs"]
#[expect(dead_code, reason = "these stories have packets of their own")]
mod frames;
mod kernel;

use Way::{Back, There};
use flowproof_packet::wire::checksum;
use flowproof_switch::conntrack::CtRequest;
use frames::{Way, icmp6, ipv4, ipv6, tcp, udp_segment};
use kernel::{
    compare::{COMMIT, Step, compare, step},
    packets::{Tcp, fragment6, icmp, identified, packet, sctp, udp},
    process::Judge,
    rng::Rng,
};
use std::{
    io::{Write, stderr},
    sync::{Mutex, PoisonError},
};

/// Stories with their names.
type Stories = Vec<(String, Vec<Step>)>;

fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |text| text.parse().unwrap())
}

/// Plays all stories; none may show a difference.
#[track_caller]
fn judge(stories: Stories) {
    // Namespaces share the processors' queues, where a frame may be lost when many send.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut judge = match Judge::start() {
        Ok(judge) => judge,
        Err(why) => {
            let _nobody_listens = writeln!(stderr(), "NOT JUDGED by this kernel's conntrack: {why}");
            assert!(std::env::var_os("FLOWPROOF_KERNEL_JUDGE").is_none(), "{why}");
            return;
        }
    };
    let packets: usize = stories.iter().map(|(_, steps)| steps.len()).sum();
    let differences: Vec<String> =
        stories.iter().filter_map(|(name, steps)| compare(&mut judge, name, steps)).collect();
    let release = &judge.release;
    let _nobody_listens = writeln!(
        stderr(),
        "Linux {release}: {} stories, {packets} packets, {} differences",
        stories.len(),
        differences.len()
    );
    let shown = differences.iter().take(12).cloned().collect::<Vec<_>>().join("\n");
    assert!(differences.is_empty(), "{} differences with Linux {release}\n{shown}", differences.len());
}

/// Segments that bring a connection into a state: way, flags, sequence number, acknowledgement, bytes of data.
type Prefix = &'static [(Way, &'static str, u32, u32, usize)];

const PREFIXES: &[(&str, Prefix)] = &[
    ("nothing", &[]),
    ("SYN", &[(There, "S", 100, 0, 0)]),
    ("SYN, SYN", &[(There, "S", 100, 0, 0), (Back, "S", 500, 0, 0)]),
    ("SYN, SYN+ACK", &[(There, "S", 100, 0, 0), (Back, "SA", 500, 101, 0)]),
    ("opened", &[(There, "S", 100, 0, 0), (Back, "SA", 500, 101, 0), (There, "A", 101, 501, 0)]),
    ("picked up", &[(There, "PA", 100, 500, 1)]),
    ("picked up, answered", &[(There, "A", 101, 501, 0), (Back, "A", 501, 101, 0)]),
    (
        "FIN there",
        &[
            (There, "S", 100, 0, 0),
            (Back, "SA", 500, 101, 0),
            (There, "A", 101, 501, 0),
            (There, "FA", 101, 501, 0),
        ],
    ),
    (
        "FIN back",
        &[
            (There, "S", 100, 0, 0),
            (Back, "SA", 500, 101, 0),
            (There, "A", 101, 501, 0),
            (Back, "FA", 501, 101, 0),
        ],
    ),
    (
        "FIN there, acknowledged",
        &[
            (There, "S", 100, 0, 0),
            (Back, "SA", 500, 101, 0),
            (There, "A", 101, 501, 0),
            (There, "FA", 101, 501, 0),
            (Back, "A", 501, 102, 0),
        ],
    ),
    (
        "FIN both ways",
        &[
            (There, "S", 100, 0, 0),
            (Back, "SA", 500, 101, 0),
            (There, "A", 101, 501, 0),
            (There, "FA", 101, 501, 0),
            (Back, "FA", 501, 102, 0),
        ],
    ),
    (
        "closed",
        &[
            (There, "S", 100, 0, 0),
            (Back, "SA", 500, 101, 0),
            (There, "A", 101, 501, 0),
            (There, "FA", 101, 501, 0),
            (Back, "FA", 501, 102, 0),
            (There, "A", 102, 502, 0),
        ],
    ),
    (
        "reset there",
        &[
            (There, "S", 100, 0, 0),
            (Back, "SA", 500, 101, 0),
            (There, "A", 101, 501, 0),
            (There, "R", 101, 0, 0),
        ],
    ),
    (
        "reset back",
        &[
            (There, "S", 100, 0, 0),
            (Back, "SA", 500, 101, 0),
            (There, "A", 101, 501, 0),
            (Back, "RA", 501, 101, 0),
        ],
    ),
    ("refused", &[(There, "S", 100, 0, 0), (Back, "RA", 0, 101, 0)]),
];

const FLAGS: [&str; 16] =
    ["S", "SA", "A", "PA", "F", "FA", "R", "RA", "", "SF", "SR", "FR", "FPU", "U", "AU", "SU"];

fn prefix(segments: Prefix) -> Vec<Step> {
    let frame = |(way, flags, seq, ack, data): &(Way, &str, u32, u32, usize)| {
        step(*way, tcp(*way, flags, *seq, *ack, &vec![b'x'; *data]))
    };
    segments.iter().map(frame).collect()
}

/// After each beginning, each segment: in its place, again, far ahead, far behind; then what both sides say next.
#[test]
fn tcp_segments_mean_in_each_state_what_the_kernel_says() {
    let mut stories = Stories::new();
    for (beginning, segments) in PREFIXES {
        for way in [There, Back] {
            let (seq, ack): (u32, u32) = if way == There { (102, 502) } else { (502, 102) };
            for flags in FLAGS {
                for (place, seq, ack) in [
                    ("next", seq, ack),
                    ("again", seq - 1, ack - 1),
                    ("ahead", seq + 200_000, ack),
                    ("behind", seq.wrapping_sub(200_000), ack),
                    ("acknowledges too much", seq, ack + 200_000),
                ] {
                    let mut steps = prefix(segments);
                    let sent = if flags.contains('A') { ack } else { 0 };
                    steps.push(step(way, tcp(way, flags, seq, sent, &[])));
                    steps.push(step(There, tcp(There, "A", 102, 502, &[])));
                    steps.push(step(Back, tcp(Back, "PA", 502, 102, b"x")));
                    steps.push(step(There, tcp(There, "S", 9000, 0, &[])));
                    steps.push(step(Back, tcp(Back, "S", 8000, 0, &[])));
                    stories.push((format!("{beginning}, then {way:?} `{flags}` {place}"), steps));
                }
            }
        }
    }
    judge(stories);
}

#[test]
fn tcp_opens_over_ipv6_and_with_options() {
    let scale: &[u8] = &[3, 3, 7, 1];
    let options: [&[u8]; 5] =
        [&[], scale, &[3, 3, 15, 0], &[4, 2, 3, 3, 7, 0, 0, 0], &[2, 4, 5, 180, 3, 200, 1, 1]];
    let mut stories = Stories::new();
    for ipv6 in [false, true] {
        for (at, mine) in options.iter().enumerate() {
            for (to, yours) in options.iter().enumerate() {
                let segment = |way, flags, seq, ack, options, data| {
                    let tcp = Tcp { way, ipv6, flags, seq, ack, window: 1000, options, data };
                    step(way, tcp.frame())
                };
                let steps = vec![
                    segment(There, 2, 100, 0, *mine, 0),
                    segment(Back, 18, 500, 101, *yours, 0),
                    segment(There, 16, 101, 501, &[], 0),
                    segment(Back, 24, 501, 101, &[], 1000),
                    segment(There, 16, 101, 501, &[5, 10, 0, 0, 5, 0, 0, 0, 5, 9, 1, 1], 0),
                    segment(There, 24, 70_101, 501, &[], 10),
                    segment(There, 24, 120_000, 501, &[], 10),
                    segment(Back, 24, 90_000, 101, &[], 10),
                ];
                stories.push((format!("options {at} and {to}, IPv6 {ipv6}"), steps));
            }
        }
    }
    judge(stories);
}

/// Connections of which both ends speak at random, near enough to the truth to get somewhere.
#[test]
fn random_tcp_connections_go_as_in_the_kernel() {
    let seed = number("FLOWPROOF_SEED", 1);
    let mut stories = Stories::new();
    for story in 0..number("FLOWPROOF_SOAK", 400) {
        let mut rng = Rng((seed as u64) << 32 | story as u64);
        let mut next = [100u32, 500];
        let mut steps = Vec::new();
        for _ in 0..4 + rng.below(14) {
            let at = rng.below(2);
            let way = [There, Back][at];
            let flags = rng.pick(&[2, 2, 18, 18, 16, 16, 16, 24, 24, 17, 17, 4, 20, 1, 0, 3, 50, 48, 66]);
            let far = |rng: &mut Rng, value: u32| match rng.below(12) {
                0 => value.wrapping_sub(1),
                1 => value.wrapping_add(rng.below(3000) as u32),
                2 => value.wrapping_sub(rng.below(3000) as u32),
                3 => value.wrapping_add(rng.below(200_000) as u32),
                4 => value.wrapping_sub(rng.below(200_000) as u32),
                _ => value,
            };
            let data = if rng.chance(40) { rng.below(1400) } else { 0 };
            let (seq, ack) = (far(&mut rng, next[at]), far(&mut rng, next[1 - at]));
            let ack = if flags & 16 != 0 || rng.chance(10) { ack } else { 0 };
            let window = rng.pick(&[0, 1, 1000, 1000, 8000, 65535]);
            let options = rng.pick(&[&[][..], &[], &[], &[3, 3, 7, 1], &[4, 2, 3, 3, 2, 0, 0, 0]]);
            let tcp = Tcp { way, ipv6: false, flags, seq, ack, window, options, data };
            steps.push(step(way, tcp.frame()));
            let moved = u32::from(flags & 3 != 0) + data as u32;
            if rng.chance(85) && seq == next[at] {
                next[at] = next[at].wrapping_add(moved);
            }
        }
        stories.push((format!("seed {seed}, connection {story}"), steps));
    }
    judge(stories);
}

#[test]
fn udp_is_known_by_its_ports() {
    let mut stories = Stories::new();
    for ipv6 in [false, true] {
        for (src, dst) in [(1000, 53), (0, 53), (1000, 0), (0, 0), (53, 53)] {
            let (there, back) = (udp(There, ipv6, src, dst, b"x"), udp(Back, ipv6, dst, src, b"y"));
            let story = [There, There, Back, There, Back, Back]
                .map(|way| step(way, if way == There { there.clone() } else { back.clone() }));
            stories.push((format!("UDP {src} to {dst}, IPv6 {ipv6}"), story.to_vec()));
        }
        let good = udp(There, ipv6, 1000, 53, b"four");
        let header = if ipv6 { 54 } else { 34 };
        for (name, at, value) in [
            ("no checksum", 6, [0, 0]),
            ("bad checksum", 6, [1, 2]),
            ("short length", 4, [0, 7]),
            ("less than there is", 4, [0, 10]),
            ("more than there is", 4, [0, 13]),
            ("no length", 4, [0, 0]),
        ] {
            let mut frame = good.clone();
            frame[header + at..header + at + 2].copy_from_slice(&value);
            stories.push((format!("UDP, {name}, IPv6 {ipv6}"), vec![step(There, frame)]));
        }
    }
    judge(stories);
}

#[test]
fn icmp_types_mean_what_the_kernel_says() {
    let mut stories = Stories::new();
    for ipv6 in [false, true] {
        for kind in 0..=255 {
            for code in [0, 1] {
                let message = icmp(There, ipv6, kind, code, &[0, 1, 0, 1, 0, 0, 0, 0]);
                let story = vec![step(There, message.clone()), step(There, message)];
                stories.push((format!("type {kind}, code {code}, IPv6 {ipv6}"), story));
            }
            let answer = icmp(Back, ipv6, kind, 0, &[0, 1, 0, 9]);
            let asks: &[u8] = if ipv6 { &[128, 139] } else { &[8, 13, 15, 17] };
            for ask in asks {
                let query = icmp(There, ipv6, *ask, 0, &[0, 1, 0, 1]);
                let other = icmp(Back, ipv6, kind, 0, &[0, 2, 0, 1]);
                let story = [
                    step(There, query.clone()),
                    step(Back, other),
                    step(Back, answer.clone()),
                    step(There, query),
                ];
                stories.push((format!("query {ask}, answer {kind}, IPv6 {ipv6}"), story.to_vec()));
            }
        }
    }
    judge(stories);
}

/// The beginning of a packet as an ICMP error quotes it, behind four bytes of its own.
fn quoted(frame: &[u8], most: usize) -> Vec<u8> {
    let packet = &frame[14..];
    [&[0; 4], &packet[..packet.len().min(most)]].concat()
}

#[test]
fn icmp_errors_are_related_to_what_they_quote() {
    let mut stories = Stories::new();
    for ipv6 in [false, true] {
        let kinds: &[u8] = if ipv6 { &[1, 2, 3, 4] } else { &[3, 4, 5, 11, 12] };
        let query = if ipv6 { 128 } else { 8 };
        let syn =
            |way| Tcp { way, ipv6, flags: 2, seq: 100, ack: 0, window: 1000, options: &[], data: 0 }.frame();
        let known = |way| match way {
            There => udp(There, ipv6, 1000, 53, b"four"),
            Back => udp(Back, ipv6, 53, 1000, b"four"),
        };
        for kind in kinds {
            let error = |way, body: &[u8]| icmp(way, ipv6, *kind, 1, body);
            let mut story = |name: &str, steps: &[Step]| {
                stories.push((format!("error {kind}, {name}, IPv6 {ipv6}"), steps.to_vec()));
            };
            let begun = step(There, known(There));
            for most in [0, 19, 20, 27, 28, 39, 40, 47, 48, 60, 100] {
                let body = quoted(&known(There), most);
                story(&format!("{most} bytes quoted"), &[begun.clone(), step(Back, error(Back, &body))]);
                let body = quoted(&syn(There), most);
                let opened = step(There, syn(There));
                story(&format!("{most} bytes of TCP quoted"), &[opened, step(Back, error(Back, &body))]);
            }
            let (there, back) = (quoted(&known(There), 100), quoted(&known(Back), 100));
            story("to the sender", &[begun.clone(), step(Back, error(Back, &there)), begun.clone()]);
            story("to the receiver", &[begun.clone(), step(There, error(There, &back))]);
            story(
                "astray",
                &[begun.clone(), step(There, error(There, &there)), step(Back, error(Back, &back))],
            );
            story(
                "after an answer",
                &[begun.clone(), step(Back, known(Back)), step(Back, error(Back, &there))],
            );
            story("of nothing known", &[step(Back, error(Back, &there))]);
            let stranger = quoted(&udp(There, ipv6, 1000, 54, b"four"), 100);
            story("of a stranger", &[begun.clone(), step(Back, error(Back, &stranger))]);
            let nested = quoted(&error(There, &back), 100);
            story("of an error", &[begun.clone(), step(Back, error(Back, &nested))]);
            let echo = |way, kind| icmp(way, ipv6, kind, 0, &[0, 1, 0, 1]);
            let asked = step(There, echo(There, query));
            story("of a query", &[asked.clone(), step(Back, error(Back, &quoted(&echo(There, query), 100)))]);
            let answer = if ipv6 { 129 } else { 0 };
            let quote = quoted(&echo(Back, answer), 100);
            story("of an answer", &[asked, step(There, error(There, &quote))]);
            let mut spoiled = error(Back, &there);
            *spoiled.last_mut().unwrap() ^= 1;
            story("with a bad checksum", &[begun.clone(), step(Back, spoiled)]);
            let generic = packet(There, ipv6, 50, &[0; 16]);
            let about = step(Back, error(Back, &quoted(&generic, 100)));
            story("of another protocol", &[step(There, generic), about]);
        }
    }
    judge(stories);
}

#[test]
fn other_protocols_are_known_by_their_addresses() {
    let mut stories = Stories::new();
    // IPv6 has extension headers among these numbers; ICMP and its like have stories of their own.
    for proto in 0..=255 {
        for ipv6 in [false, true] {
            let special = [1, 2, 6, 17, 58, 132].contains(&proto);
            if special || ipv6 && [0, 43, 44, 51, 59, 60, 135, 139, 140, 253, 254].contains(&proto) {
                continue;
            }
            let (there, back) = (packet(There, ipv6, proto, &[0; 24]), packet(Back, ipv6, proto, &[0; 24]));
            let story = [step(There, there.clone()), step(Back, back), step(There, there)];
            stories.push((format!("protocol {proto}, IPv6 {ipv6}"), story.to_vec()));
        }
    }
    for proto in [1, 2, 6, 17, 33, 47, 58, 132, 136] {
        for length in [0, 3, 4, 7, 8, 11, 12, 19, 20] {
            for ipv6 in [false, true] {
                let frame = packet(There, ipv6, proto, &vec![0; length]);
                stories.push((
                    format!("{length} bytes of protocol {proto}, IPv6 {ipv6}"),
                    vec![step(There, frame)],
                ));
            }
        }
    }
    judge(stories);
}

#[test]
fn sctp_begins_with_init_and_not_with_data() {
    let init = |tag: u32| [&tag.to_be_bytes()[..], &[0; 12]].concat();
    let (a, b) = (7, 9);
    let association = [
        step(There, sctp(There, 0, &[(1, &init(a))])),
        step(Back, sctp(Back, a, &[(2, &init(b))])),
        step(There, sctp(There, b, &[(10, &[1; 8])])),
        step(Back, sctp(Back, a, &[(11, &[])])),
        step(There, sctp(There, b, &[(0, &[0; 12])])),
        step(There, sctp(There, b, &[(7, &[0; 4])])),
        step(Back, sctp(Back, a, &[(8, &[])])),
        step(There, sctp(There, b, &[(14, &[])])),
    ];
    let mut stories = Stories::new();
    for length in 0..=association.len() {
        for kind in 0..=15 {
            for way in [There, Back] {
                for tag in [0, a, b, 99] {
                    let mut steps = association[..length].to_vec();
                    let value = if [1, 2].contains(&kind) { init(5) } else { vec![0; 12] };
                    steps.push(step(way, sctp(way, tag, &[(kind, &value)])));
                    steps.push(step(There, sctp(There, b, &[(0, &[0; 12])])));
                    stories.push((format!("SCTP {length} chunks, then {way:?} {kind} tag {tag}"), steps));
                }
            }
        }
    }
    judge(stories);
}

#[test]
fn zones_and_marks_are_kept_apart() {
    let request = |zone, commit, mark| CtRequest { zone, commit, mark: (mark, u32::MAX), ..COMMIT };
    let ask = |way, request: CtRequest| {
        let frame = match way {
            There => udp(There, false, 1000, 53, b"x"),
            Back => udp(Back, false, 53, 1000, b"x"),
        };
        let mark = if request.mark.0 == 0 { (0, 0) } else { request.mark };
        Step { way, frame, request: CtRequest { mark, ..request } }
    };
    let look = |way, zone| ask(way, request(zone, false, 0));
    let stories = [
        ("uncommitted", vec![look(There, 0), look(There, 0), look(Back, 0)]),
        (
            "zones",
            vec![
                ask(There, request(1, true, 0)),
                look(Back, 2),
                look(Back, 1),
                look(Back, 0),
                look(There, 1),
                look(There, 2),
            ],
        ),
        (
            "marks",
            vec![
                ask(There, request(1, true, 3)),
                look(There, 1),
                look(Back, 1),
                ask(Back, request(1, true, 5)),
                look(There, 1),
                ask(There, request(1, true, 0)),
                look(There, 1),
                look(There, 2),
            ],
        ),
    ];
    judge(stories.into_iter().map(|(name, steps)| (name.to_owned(), steps)).collect());
}

/// The first eight bytes of a piece, the first ones behind it, and whether more pieces follow.
type Piece = (usize, usize, bool);

#[test]
fn fragments_are_put_together() {
    let mut stories = Stories::new();
    let mut id = 100;
    let whole = udp_segment(There, 53, &[b'y'; 80]);
    // In the order they are sent.
    let orders: &[(&str, &[Piece])] = &[
        ("in order", &[(0, 6, true), (6, 11, false)]),
        ("turned round", &[(6, 11, false), (0, 6, true)]),
        ("three", &[(3, 6, true), (6, 11, false), (0, 3, true)]),
        ("the first again", &[(0, 6, true), (0, 6, true), (6, 11, false)]),
        ("the last again", &[(6, 11, false), (6, 11, false), (0, 6, true)]),
        ("overlapping", &[(0, 6, true), (5, 11, false), (6, 11, false)]),
        ("inside another", &[(0, 6, true), (2, 4, true), (6, 11, false)]),
        ("two ends", &[(6, 11, false), (6, 10, false), (0, 6, true)]),
        ("beyond the end", &[(0, 3, true), (3, 6, false), (6, 11, false)]),
        ("after the end", &[(0, 6, true), (6, 11, false), (6, 11, false)]),
        ("whole and more", &[(0, 11, true)]),
        ("an empty last", &[(0, 11, true), (11, 11, false)]),
    ];
    for (name, pieces) in orders {
        for ipv6 in [false, true] {
            id += 1;
            let cut = |(from, to, more): &Piece| {
                let piece = &whole[8 * from..(8 * to).min(whole.len())];
                step(
                    There,
                    if ipv6 {
                        fragment6(There, 17, id, 8 * *from as u16, *more, piece)
                    } else {
                        identified(ipv4(There, 17, u16::from(*more) << 13 | *from as u16, piece), id as u16)
                    },
                )
            };
            stories.push((format!("fragments {name}, IPv6 {ipv6}"), pieces.iter().map(cut).collect()));
        }
    }
    let good = udp(There, true, 1000, 53, &[b'z'; 40]);
    let body = &good[54..];
    for (name, frames) in [
        (
            "over IPv6",
            vec![
                fragment6(There, 17, 6, 0, true, &body[..16]),
                fragment6(There, 17, 6, 16, false, &body[16..]),
            ],
        ),
        ("not of eights", vec![fragment6(There, 17, 7, 0, true, &body[..15])]),
    ] {
        stories.push((name.to_owned(), frames.into_iter().map(|frame| step(There, frame)).collect()));
    }
    judge(stories);
}

#[test]
fn what_is_broken_is_invalid_and_what_is_odd_is_not() {
    let spoiled = |mut frame: Vec<u8>, at: usize| {
        frame[at] ^= 1;
        frame
    };
    let syn = tcp(There, "S", 1, 0, &[]);
    let option = |bytes: [u8; 4]| {
        let mut frame = udp(There, false, 1000, 53, b"x");
        frame[14] = 0x46;
        frame.splice(34..34, bytes);
        let length = frame.len() as u16 - 14;
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        frame[24..26].copy_from_slice(&[0, 0]);
        let sum = checksum(&frame[14..38]).to_be_bytes();
        frame[24..26].copy_from_slice(&sum);
        frame
    };
    let mut same = packet(There, false, 17, &udp_segment(There, 53, b"x"));
    same.copy_within(26..30, 30);
    // The header's checksum, and none for the datagram.
    same[40..42].copy_from_slice(&[0, 0]);
    let same = identified(same, 1);
    let hop_by_hop = {
        let datagram = udp(There, true, 1000, 53, b"x");
        ipv6(There, 0, &[&[17, 0, 1, 4, 0, 0, 0, 0], &datagram[54..]].concat())
    };
    let cases = [
        ("TCP checksum", spoiled(syn.clone(), 14 + 20 + 16)),
        ("TCP data offset", spoiled(syn.clone(), 14 + 20 + 12)),
        ("TCP header longer than the segment", {
            let mut frame = syn.clone();
            frame[46] = 0xf0;
            frame
        }),
        ("TCP header too short", {
            let mut frame = syn.clone();
            frame[46] = 0x40;
            frame
        }),
        ("ICMP checksum", spoiled(icmp(There, false, 8, 0, &[0; 4]), 14 + 20 + 2)),
        ("ICMPv6 checksum", spoiled(icmp6(There, 128, &[0; 4]), 14 + 40 + 2)),
        ("SCTP checksum", spoiled(sctp(There, 0, &[(1, &[7; 16])]), 14 + 20 + 8)),
        ("padding", [syn.clone(), vec![0; 6]].concat()),
        ("options", option([1, 1, 1, 0])),
        ("hop-by-hop", hop_by_hop),
        ("from itself to itself", same),
    ];
    judge(cases.into_iter().map(|(name, frame)| (name.to_owned(), vec![step(There, frame)])).collect());
}
