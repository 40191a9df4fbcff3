//! Laws of reading and writing captures.

use super::*;
use proptest::prelude::*;

fn le(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn be(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

const FRAME: [u8; 4] = [0xde, 0xad, 0xbe, 0xef];

/// A classic file of one record, words in the given byte order.
fn classic_file(
    order: fn(&[u32]) -> Vec<u8>,
    magic: u32,
    version: u32,
    link: u32,
    record: &[u32; 4],
) -> Vec<u8> {
    [order(&[magic, version, 0, 0, 65535, link]), order(record), FRAME.to_vec()].concat()
}

/// A pcapng block in the given byte order.
fn block(order: fn(&[u32]) -> Vec<u8>, kind: u32, body: &[u8]) -> Vec<u8> {
    let length = (12 + body.len()) as u32;
    [order(&[kind, length]), body.to_vec(), order(&[length])].concat()
}

fn section(order: fn(&[u32]) -> Vec<u8>) -> Vec<u8> {
    let version = order(&[if order(&[1]) == be(&[1]) { 0x0001_0000 } else { 0x0000_0001 }]);
    block(order, SECTION, &[order(&[0x1a2b_3c4d]), version, vec![0xff; 8]].concat())
}

/// An interface description; `options` as they stand in the file.
fn interface(order: fn(&[u32]) -> Vec<u8>, link: u16, options: &[u8]) -> Vec<u8> {
    let link = order(&[if order(&[1]) == be(&[1]) { u32::from(link) << 16 } else { u32::from(link) }]);
    block(order, 1, &[link, order(&[65535]), options.to_vec()].concat())
}

fn enhanced(order: fn(&[u32]) -> Vec<u8>, interface: u32, ticks: u64, length: u32) -> Vec<u8> {
    let words = [interface, (ticks >> 32) as u32, ticks as u32, length, length];
    block(order, 6, &[order(&words), FRAME.to_vec()].concat())
}

#[track_caller]
fn frames(file: &[u8]) -> Vec<(Duration, Vec<u8>, u32)> {
    let records = read(file).unwrap().map(|record| record.unwrap());
    records.map(|record| (record.timestamp, record.frame.to_vec(), record.original_len)).collect()
}

#[track_caller]
fn check_error(file: &[u8], expected: &str) {
    let error = read(file).and_then(|records| records.collect::<Result<Vec<_>, _>>()).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn both_byte_orders_and_both_resolutions_of_classic_files_are_read() {
    let micros = Duration::new(7, 5_000);
    let nanos = Duration::new(7, 5);
    let record = [7, 5, 4, 60];
    for (order, version) in [(le as fn(&[u32]) -> Vec<u8>, 0x0004_0002), (be, 0x0002_0004)] {
        for (magic, time) in [(0xa1b2_c3d4, micros), (0xa1b2_3c4d, nanos)] {
            let file = classic_file(order, magic, version, 1, &record);
            assert_eq!(frames(&file), [(time, FRAME.to_vec(), 60)]);
            assert!(read(&file).unwrap().all(|record| record.unwrap().is_cut()));
        }
    }
}

#[test]
fn a_link_type_with_a_frame_check_sequence_length_is_still_ethernet() {
    assert_eq!(frames(&classic_file(le, 0xa1b2_c3d4, 0x0004_0002, 0x4400_0001, &[0, 0, 4, 4])).len(), 1);
}

#[test]
fn both_byte_orders_of_pcapng_are_read_even_in_one_file() {
    let part = |order| [section(order), interface(order, 1, &[]), enhanced(order, 0, 1_000_007, 4)].concat();
    let expected = (Duration::new(1, 7_000), FRAME.to_vec(), 4);
    assert_eq!(frames(&part(le)), vec![expected.clone(); 1]);
    assert_eq!(frames(&part(be)), vec![expected.clone(); 1]);
    assert_eq!(frames(&[part(le), part(be), part(le)].concat()), vec![expected; 3]);
}

#[test]
fn times_are_in_units_of_the_interface() {
    let file = |order: fn(&[u32]) -> Vec<u8>, options: &[u8], ticks| {
        frames(&[section(order), interface(order, 1, options), enhanced(order, 0, ticks, 4)].concat())[0].0
    };
    assert_eq!(file(le, &[9, 0, 1, 0, 9, 0, 0, 0], 1_000_000_002), Duration::new(1, 2), "nanoseconds");
    assert_eq!(file(le, &[9, 0, 1, 0, 0, 0, 0, 0], 5), Duration::new(5, 0), "seconds");
    assert_eq!(file(le, &[9, 0, 1, 0, 0x81, 0, 0, 0], 3), Duration::new(1, 500_000_000), "halves");
    assert_eq!(file(le, &[9, 0, 1, 0, 0x7f, 0, 0, 0], 3), Duration::ZERO, "10 to the -127");
    let offset = [14, 0, 8, 0, 100, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(file(le, &offset, 1_000_000), Duration::new(101, 0));
    let offset = [0, 14, 0, 8, 0, 0, 0, 0, 0, 0, 0, 100];
    assert_eq!(file(be, &offset, 1_000_000), Duration::new(101, 0));
    let offset = [14, 0, 8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(file(le, &offset, 3_000_000), Duration::new(2, 0), "one second back");
}

#[test]
fn simple_packets_have_no_time_and_other_blocks_are_passed_over() {
    let simple = block(le, 3, &[le(&[4]), FRAME.to_vec()].concat());
    let statistics = block(le, 5, &le(&[0, 0, 0]));
    let unknown = block(le, 0x4000_0001, &[1, 2, 3, 4]);
    let file = [section(le), interface(le, 1, &[]), statistics, unknown, simple].concat();
    assert_eq!(frames(&file), [(Duration::ZERO, FRAME.to_vec(), 4)]);
}

#[test]
fn a_capture_that_a_switch_wrote_is_read() {
    let records = frames(include_bytes!("../../tests/fixtures/switch.pcap"));
    let lines: Vec<_> = records.iter().map(|(_, frame, _)| (frame[12], frame[13], frame.len())).collect();
    assert_eq!(lines, [(0x08, 0x00, 54), (0x08, 0x06, 42), (0x86, 0xdd, 86)]);
}

#[test]
fn empty_captures_have_no_frames() {
    assert!(frames(&le(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1])).is_empty());
    assert!(frames(&section(be)).is_empty());
}

#[test]
fn errors_say_what_is_wrong_and_where() {
    check_error(b"", "not a pcap or pcapng file: it begins with ``");
    check_error(b"GIF89a", "not a pcap or pcapng file: it begins with `47494638`");
    let good = classic_file(le, 0xa1b2_c3d4, 0x0004_0002, 1, &[0, 0, 4, 4]);
    check_error(&good[..23], "byte 0: the file ends in the middle of a pcap header: 1 bytes are missing");
    check_error(&good[..39], "byte 24: the file ends in the middle of a packet record: 1 bytes are missing");
    check_error(&good[..42], "byte 24: the file ends in the middle of a packet record: 2 bytes are missing");
    let other = classic_file(le, 0xa1b2_c3d4, 0x0004_0002, 113, &[0, 0, 4, 4]);
    check_error(&other, "byte 0: link type `113` is not Ethernet (1)");
    let old = classic_file(le, 0xa1b2_c3d4, 0x0004_0001, 1, &[0, 0, 4, 4]);
    check_error(&old, "byte 0: malformed pcap header");
    let lying = classic_file(le, 0xa1b2_c3d4, 0x0004_0002, 1, &[0, 0, u32::MAX, 4]);
    check_error(&lying, "byte 24: a packet record cannot be `4294967295` bytes long");
}

#[test]
fn no_frame_is_longer_than_the_longest() {
    let file = |length: u32| {
        let start = classic_file(le, 0xa1b2_c3d4, 0x0004_0002, 1, &[0, 0, length, length]);
        [start, vec![0; length as usize - FRAME.len()]].concat()
    };
    assert_eq!(frames(&file(LONGEST_FRAME))[0].1.len(), LONGEST_FRAME as usize);
    check_error(&file(LONGEST_FRAME + 1), "byte 24: a packet record cannot be `262145` bytes long");
}

#[test]
fn pcapng_errors_say_what_is_wrong_and_where() {
    let start = [section(le), interface(le, 1, &[])].concat();
    let check = |more: &[u8], expected: &str| check_error(&[&start, more].concat(), expected);
    assert_eq!(start.len(), 48);
    let packet = enhanced(le, 0, 0, 4);
    check(&packet[..11], "byte 48: the file ends in the middle of a pcapng block: 1 bytes are missing");
    check(&packet[..30], "byte 48: the file ends in the middle of a pcapng block: 6 bytes are missing");
    check(&le(&[6, 8, 8]), "byte 48: a pcapng block cannot be `8` bytes long");
    check(&le(&[6, 13, 8]), "byte 48: a pcapng block cannot be `13` bytes long");
    check(
        &le(&[6, 0x7fff_fffc, 8]),
        "byte 48: the file ends in the middle of a pcapng block: 2147483632 bytes are missing",
    );
    check(&enhanced(le, 0, 0, 9), "byte 48: malformed pcapng block");
    check(&enhanced(le, 3, 0, 4), "byte 48: interface `3` has no description");
    check(
        &block(le, 3, &[le(&[40]), FRAME.to_vec()].concat()),
        "byte 48: a packet record cannot be `40` bytes long",
    );
    check(&block(le, 2, &[0; 24]), "byte 48: malformed packet: block type 2 is obsolete");
    check(&block(be, 0x0a0d_0d0a, &[0; 16]), "byte 48: malformed pcapng section header");
    check(&le(&[5, 12, 16]), "byte 48: malformed pcapng block");
    let wireless = [section(le), interface(le, 105, &[]), packet].concat();
    check_error(&wireless, "byte 48: link type `105` is not Ethernet (1)");
}

#[test]
fn nothing_follows_an_error() {
    let file = classic_file(le, 0xa1b2_c3d4, 0x0004_0002, 1, &[0, 0, u32::MAX, 4]);
    let mut records = read(&file).unwrap();
    assert!(records.next().unwrap().is_err());
    assert_eq!(records.next(), None);
}

#[test]
fn what_the_format_cannot_hold_is_refused() {
    let mut writer = Writer::new(Vec::new()).unwrap();
    assert!(writer.write(Duration::from_secs(1 << 32), &[]).is_err());
    assert!(writer.write(Duration::ZERO, &vec![0; LONGEST_FRAME as usize + 1]).is_err());
    assert_eq!(writer.into_inner().len(), CLASSIC_HEADER, "nothing was begun");
}

fn captures() -> impl Strategy<Value = Vec<(Duration, Vec<u8>)>> {
    let time = (any::<u32>(), 0..1_000_000_000u32).prop_map(|(s, ns)| Duration::new(u64::from(s), ns));
    prop::collection::vec((time, prop::collection::vec(any::<u8>(), 0..100)), 0..20)
}

proptest! {
    #[test]
    fn reading_after_writing_is_the_identity(capture in captures()) {
        let mut writer = Writer::new(Vec::new()).unwrap();
        for (time, frame) in &capture {
            writer.write(*time, frame).unwrap();
        }
        let file = writer.into_inner();
        let read: Vec<_> = frames(&file).into_iter().map(|(time, frame, _)| (time, frame)).collect();
        prop_assert_eq!(read, capture);
    }

    #[test]
    fn reading_never_panics_and_never_makes_more_than_there_is(
        kind in 0..4usize, at in 0..200usize, junk in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut file = match kind {
            0 => classic_file(le, 0xa1b2_c3d4, 0x0004_0002, 1, &[0, 0, 4, 4]),
            1 => classic_file(be, 0xa1b2_3c4d, 0x0002_0004, 1, &[0, 0, 4, 4]),
            2 => [section(le), interface(le, 1, &[9, 0, 1, 0, 9, 0, 0, 0]), enhanced(le, 0, 1, 4)].concat(),
            _ => [section(be), interface(be, 1, &[]), enhanced(be, 0, 1, 4), section(le)].concat(),
        };
        let at = at.min(file.len());
        let end = (at + junk.len()).min(file.len());
        file.splice(at..end, junk);
        if let Ok(records) = read(&file) {
            let held: usize = records.flatten().map(|record| record.frame.len()).sum();
            prop_assert!(held <= file.len());
        }
    }
}
