//! Laws of connection tracking that hold in every profile and need no real switch to judge them.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]

#[path = "conntrack_support/frames.rs"]
mod frames;

use flowproof_switch::conntrack::{Before, Conntrack, CtRequest, Profile, state};
use frames::{Way, icmp, icmp6, ipv4, ipv6, tcp, udp, udp_segment};
use proptest::{collection::vec, prelude::*, sample::select};
use std::collections::BTreeSet;

const COMMIT: CtRequest =
    CtRequest { zone: 0, commit: true, force: false, mark: (0, 0), label: (0, 0), nat: None, alg: None };
const NEW: u32 = state::TRK | state::NEW;
const EST: u32 = state::TRK | state::EST;
const REPLY: u32 = EST | state::RPL;

/// Every state that `ct()` can give a packet, without address translation and helpers.
const LEGAL: [u32; 7] = [
    state::TRK | state::INV,
    NEW,
    EST,
    REPLY,
    state::TRK | state::REL,
    state::TRK | state::REL | state::RPL,
    // A fragment that waited too long in the userspace datapath.
    state::INV,
];

fn states(tracker: &mut Conntrack, frame: &[u8], request: &CtRequest) -> Vec<u32> {
    tracker.execute(frame, request).iter().map(|(_, info)| info.state).collect()
}

/// The entries without their protocol's state.
fn keys(tracker: &Conntrack) -> BTreeSet<String> {
    let line = |text: String| text.split(",protoinfo").next().unwrap().to_owned();
    tracker.entries().map(|entry| line(entry.to_string())).collect()
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let way = || select(vec![Way::There, Way::Back]);
    let flags = select(vec!["S", "SA", "A", "PA", "FA", "R", "RA", "", "F", "SFU"]);
    let segment = (way(), flags, 0..4_u32, 0..4_u32, vec(any::<u8>(), 0..3));
    let error = (way(), select(vec![3_u8, 11, 5]), way());
    let about = |way| [&[0; 4], &udp(way, 53)[14..]].concat();
    prop_oneof![
        (way(), select(vec![53, 0])).prop_map(|(way, port)| udp(way, port)),
        segment.prop_map(|(way, flags, seq, ack, data)| tcp(way, flags, seq, ack, &data)),
        (way(), select(vec![0, 8, 13, 14, 17, 18]), 0..2_u8)
            .prop_map(|(way, kind, code)| icmp(way, kind, code, &[0; 4])),
        error.prop_map(move |(way, kind, quoted)| icmp(way, kind, 0, &about(quoted))),
        (way(), select(vec![128, 129, 135, 136, 143, 1])).prop_map(|(way, kind)| icmp6(way, kind, &[0; 20])),
        (way(), any::<u8>(), vec(any::<u8>(), 0..24))
            .prop_map(|(way, proto, body)| ipv4(way, proto, 0, &body)),
        (way(), any::<u8>(), vec(any::<u8>(), 0..24)).prop_map(|(way, proto, body)| ipv6(way, proto, &body)),
        (way(), any::<bool>()).prop_map(|(way, last)| {
            let whole = udp_segment(way, 53, &[0; 1400]);
            let (from, to, flags) = if last { (1200, 1408, 0) } else { (0, 1200, 1 << 13) };
            ipv4(way, 17, flags | (from / 8) as u16, &whole[from..to])
        }),
    ]
}

/// A frame with a byte changed, or cut off; now and then.
fn worn() -> impl Strategy<Value = Vec<u8>> {
    let spoil = |(mut frame, at, bit): (Vec<u8>, usize, u8)| {
        let at = at % frame.len();
        frame[at] ^= 1 << bit;
        frame
    };
    prop_oneof![
        4 => frame(),
        1 => (frame(), any::<usize>(), 0..8_u8).prop_map(spoil),
        1 => (frame(), any::<usize>()).prop_map(|(frame, at)| frame[..at % frame.len()].to_vec()),
    ]
}

fn request() -> impl Strategy<Value = CtRequest> {
    (0..2_u16, 0..4_u8, 0..3_u32).prop_map(|(zone, kind, mark)| CtRequest {
        zone,
        commit: kind > 0,
        force: kind == 3,
        mark: (mark, if mark == 0 { 0 } else { 3 }),
        label: (0, 0),
        nat: None,
        alg: None,
    })
}

fn profile() -> impl Strategy<Value = Profile> {
    select(Profile::ALL.to_vec())
}

proptest! {
    #[test]
    fn no_bytes_are_too_odd(profile in profile(), frames in vec(vec(any::<u8>(), 0..80), 0..8)) {
        let mut tracker = Conntrack::new(profile);
        for frame in frames {
            for (out, info) in tracker.execute(&frame, &COMMIT) {
                prop_assert_eq!(&out, &frame);
                prop_assert!(LEGAL.contains(&info.state), "{:#x}", info.state);
            }
        }
    }

    #[test]
    fn states_are_legal_and_rest_on_an_entry(
        profile in profile(),
        steps in vec((worn(), request(), 0..40_000_u64), 0..24),
    ) {
        let mut tracker = Conntrack::new(profile);
        for (frame, request, time) in steps {
            let before: Vec<u16> = tracker.entries().map(|entry| entry.zone()).collect();
            for (_, info) in tracker.execute(&frame, &request) {
                prop_assert!(LEGAL.contains(&info.state), "{:#x}", info.state);
                if info.state & (state::EST | state::REL | state::RPL) != 0 {
                    prop_assert!(before.contains(&request.zone), "{:#x} without an entry", info.state);
                    prop_assert!(info.orig.is_some());
                }
            }
            tracker.advance(time);
        }
    }

    #[test]
    fn only_a_commit_adds_an_entry(profile in profile(), past in vec((frame(), request()), 0..12), last in worn(), zone in 0..2_u16) {
        let mut tracker = Conntrack::new(profile);
        for (frame, request) in past {
            tracker.execute(&frame, &request);
        }
        let before = keys(&tracker);
        tracker.execute(&last, &CtRequest { zone, ..CtRequest::default() });
        prop_assert!(keys(&tracker).is_subset(&before));
    }

    #[test]
    fn zones_do_not_see_each_other(profile in profile(), steps in vec((frame(), request()), 0..24)) {
        // Fragments that waited too long come out in whatever zone is asked next: no time passes here.
        let mut both = Conntrack::new(profile);
        let mut alone = Conntrack::new(profile);
        for (frame, request) in steps {
            let seen = both.execute(&frame, &request);
            if request.zone == 0 {
                prop_assert_eq!(seen, alone.execute(&frame, &request));
            }
        }
        let zone = both.entries().filter(|entry| entry.zone() == 0).count();
        prop_assert_eq!(zone, alone.entries().count());
    }

    #[test]
    fn a_second_look_says_the_same(profile in profile(), past in vec((frame(), request()), 0..12), last in frame(), zone in 0..2_u16) {
        let mut tracker = Conntrack::new(profile);
        for (frame, request) in past {
            tracker.execute(&frame, &request);
        }
        let look = CtRequest { zone, ..CtRequest::default() };
        for (frame, info) in tracker.execute(&last, &look) {
            let fragment = frame[12..14] == [8, 0] && (frame[20] & 0x3f, frame[21]) != (0, 0);
            if !fragment {
                let again = tracker.execute_again(&frame, &look, &Before { zone, info, rewritten: false });
                prop_assert_eq!(again, vec![(frame, info)]);
            }
        }
    }

    #[test]
    fn time_adds_up(profile in profile(), steps in vec((frame(), request()), 0..12), a in 0..70_000_u64, b in 0..70_000_u64) {
        let mut once = Conntrack::new(profile);
        for (frame, request) in steps {
            once.execute(&frame, &request);
        }
        let mut twice = once.clone();
        once.advance(a + b);
        twice.advance(a);
        twice.advance(b);
        prop_assert_eq!(keys(&once), keys(&twice));
    }
}

#[test]
fn udp_is_established_by_a_reply_to_a_committed_packet() {
    let (there, back) = (udp(Way::There, 53), udp(Way::Back, 53));
    for profile in Profile::ALL {
        let mut tracker = Conntrack::new(profile);
        assert_eq!(states(&mut tracker, &there, &CtRequest::default()), [NEW], "{profile:?}");
        assert_eq!(tracker.entries().count(), 0, "{profile:?}");
        assert_eq!(states(&mut tracker, &there, &COMMIT), [NEW], "{profile:?}");
        assert_eq!(states(&mut tracker, &back, &CtRequest::default()), [REPLY], "{profile:?}");
        assert_eq!(states(&mut tracker, &there, &COMMIT), [EST], "{profile:?}");
        let lines: Vec<String> = tracker.entries().map(|entry| entry.to_string()).collect();
        let line = "udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1000,dport=53),\
                    reply=(src=10.0.0.2,dst=10.0.0.1,sport=53,dport=1000)";
        assert_eq!(lines, [line], "{profile:?}");
    }
}

#[test]
fn marked_entries_of_a_zone_can_be_deleted() {
    for profile in Profile::ALL {
        let mut tracker = Conntrack::new(profile);
        for (zone, mark) in [(0, 1), (0, 2), (1, 1)] {
            let port = 53 + zone + mark;
            tracker.execute(&udp(Way::There, port), &CtRequest { zone, mark: (mark.into(), 0xff), ..COMMIT });
        }
        assert_eq!(tracker.delete_marked(0, 1), 1, "{profile:?}");
        let left: BTreeSet<_> = tracker.entries().map(|entry| (entry.zone(), entry.mark())).collect();
        assert_eq!(left, BTreeSet::from([(0, 2), (1, 1)]), "{profile:?}");
    }
}

/// As `dpctl/ct-set-limits` and `dpctl/dump-conntrack` of a real Open vSwitch 3.1 showed.
#[test]
fn userspace_limits_count_what_was_made_under_them() {
    let mut tracker = Conntrack::new(Profile::Userspace31);
    let commit = |tracker: &mut Conntrack, zone, port| {
        assert_eq!(states(tracker, &udp(Way::There, port), &CtRequest { zone, ..COMMIT }), [NEW]);
        tracker.entries().count()
    };
    assert_eq!(commit(&mut tracker, 5, 1), 1);
    tracker.set_limit(Some(5), 1);
    assert_eq!(commit(&mut tracker, 5, 2), 2, "the older entry does not count");
    assert_eq!(commit(&mut tracker, 5, 3), 2);
    tracker.set_limit(Some(6), 0);
    assert_eq!(commit(&mut tracker, 6, 2), 2, "0 lets nothing in");
    tracker.set_limit(None, 2);
    assert_eq!(commit(&mut tracker, 0, 11), 3);
    assert_eq!(commit(&mut tracker, 0, 12), 4);
    tracker.remove_limit(Some(6));
    assert_eq!(commit(&mut tracker, 6, 21), 4, "zones share the default limit");
    tracker.flush(Some(0));
    assert_eq!(commit(&mut tracker, 6, 22), 3);
}
