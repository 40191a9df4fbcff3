//! Laws of connection tracking that need no real switch to judge them.

#![expect(clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]

use flowproof_switch::conntrack::{Conntrack, CtRequest, Profile, state};

const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [10, 0, 0, 2];

fn sum(data: &[u8]) -> u16 {
    let mut total = 0_u32;
    for pair in data.chunks(2) {
        total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while total > 0xffff {
        total = (total >> 16) + (total & 0xffff);
    }
    !(total as u16)
}

fn ipv4(src: [u8; 4], dst: [u8; 4], proto: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, proto, 0, 0];
    header.extend(src);
    header.extend(dst);
    let total = (20 + payload.len()) as u16;
    header[2..4].copy_from_slice(&total.to_be_bytes());
    let check = sum(&header);
    header[10..12].copy_from_slice(&check.to_be_bytes());
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend(header);
    frame.extend(payload);
    frame
}

/// A UDP packet without a checksum.
fn udp(src: ([u8; 4], u16), dst: ([u8; 4], u16)) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.extend(src.1.to_be_bytes());
    payload.extend(dst.1.to_be_bytes());
    payload.extend([0, 9, 0, 0, b'x']);
    ipv4(src.0, dst.0, 17, &payload)
}

fn states(tracker: &mut Conntrack, frame: &[u8], request: &CtRequest) -> Vec<u32> {
    tracker.execute(frame, request).iter().map(|(_, info)| info.state).collect()
}

const NEW: u32 = state::TRK | state::NEW;
const EST: u32 = state::TRK | state::EST;
const REPLY: u32 = EST | state::RPL;

#[test]
fn udp_is_established_by_a_reply_to_a_committed_packet() {
    let commit = CtRequest { commit: true, ..CtRequest::default() };
    let there = udp((CLIENT, 1000), (SERVER, 53));
    let back = udp((SERVER, 53), (CLIENT, 1000));
    for profile in Profile::ALL {
        let mut tracker = Conntrack::new(profile);
        assert_eq!(states(&mut tracker, &there, &CtRequest::default()), [NEW], "{profile:?}");
        assert_eq!(tracker.entries().count(), 0, "{profile:?}");
        assert_eq!(states(&mut tracker, &there, &commit), [NEW], "{profile:?}");
        assert_eq!(states(&mut tracker, &back, &CtRequest::default()), [REPLY], "{profile:?}");
        assert_eq!(states(&mut tracker, &there, &commit), [EST], "{profile:?}");
        let lines: Vec<String> = tracker.entries().map(|entry| entry.to_string()).collect();
        let line = "udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1000,dport=53),\
                    reply=(src=10.0.0.2,dst=10.0.0.1,sport=53,dport=1000)";
        assert_eq!(lines, [line], "{profile:?}");
    }
}
