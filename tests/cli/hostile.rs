//! Inputs that are not what they should be: each is refused with its place, in bounded memory, and nothing is written.

use super::{check_refused, example, flowproof, run, run_with, scratch};
use std::io::Write;
use std::process::{Command, Stdio};

/// A flow file that is in order.
const GOOD: &str =
    " cookie=0x1, duration=1.5s, table=0, n_packets=0, n_bytes=0, priority=1,in_port=1 actions=drop\n";

/// `flowproof lint` on a text that must be refused.
#[track_caller]
fn check(input: &[u8], words: &[&str]) {
    check_refused(&run_with(&["lint", "-"], input), words);
}

#[test]
fn a_good_file_is_not_refused() {
    assert_eq!(run_with(&["lint", "-"], GOOD.as_bytes()).code, Some(0));
}

#[test]
fn a_truncated_line_is_refused() {
    check(format!("{GOOD} cookie=0x1, table=0, priority=1,in_port=2\n").as_bytes(), &["<stdin>:2:"]);
    check(b"ip actions=ct(commit,zone=NXM_NX_REG6[0..15\n", &["<stdin>:1:", "NXM_NX_REG6[0..15"]);
    check(b"table=0,in_port=1 actions=load:0x1->NXM_NX_\n", &["<stdin>:1:", "NXM_NX_"]);
}

#[test]
fn a_garbage_byte_is_refused() {
    let mut input = GOOD.as_bytes().to_vec();
    input.extend(b"table=0,in_port=\xff2 actions=drop\n");
    check(&input, &["<stdin>:2:17", "UTF-8", "2 actions=drop"]);
    check(b"table=0,in_port=\x001 actions=drop\n", &["<stdin>:1:17", "NUL"]);
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let run = run_with(&["lint", "-"], b"table=0,in_port=\x1b[31m1 actions=drop\n");
    check_refused(&run, &["<stdin>:1:", "[31m1"]);
    assert!(!run.err.contains('\x1b'), "{run:?}");
}

#[test]
fn an_unknown_field_is_refused() {
    check(format!("{GOOD}in_prot=1 actions=drop\n").as_bytes(), &["<stdin>:2:1", "in_prot"]);
}

#[test]
fn an_unknown_action_is_refused() {
    check(b"in_port=1 actions=explode\n", &["<stdin>:1:", "explode"]);
}

#[test]
fn a_huge_number_is_refused() {
    check(
        b"table=99999999999999999999999999,in_port=1 actions=drop\n",
        &["<stdin>:1:", "99999999999999999999999999"],
    );
    check(b"priority=65536,in_port=1 actions=drop\n", &["<stdin>:1:", "65536"]);
}

#[test]
fn an_empty_file_is_refused() {
    check(b"", &["<stdin>", "no flow"]);
    check(b"\n\n  \n", &["<stdin>", "no flow"]);
}

#[test]
fn a_directory_is_refused() {
    check_refused(&run(&["lint", "examples"]), &["examples: is a directory"]);
}

#[test]
fn a_missing_file_is_refused() {
    check_refused(&run(&["lint", "no/such/file"]), &["no/such/file: no such file or directory"]);
}

#[test]
fn a_binary_file_is_refused() {
    let path = scratch("hostile-binary", b"\x7fELF\x02\x01\x01\0\0\xff\xfe");
    check_refused(&run(&["lint", path.to_str().unwrap()]), &["hostile-binary:1:8", "NUL"]);
}

#[test]
fn a_very_long_line_is_refused_early() {
    let mut line = b"in_port=1 actions=".to_vec();
    line.resize(64 << 20, b'a');
    check(&line, &["<stdin>:1:", "longer than", "aaaa"]);
}

/// A gigabyte on one line, within 300 MB of address space.
#[test]
fn endless_input_is_refused_in_bounded_memory() {
    let script = format!("ulimit -v 300000 && exec {} lint -", env!("CARGO_BIN_EXE_flowproof"));
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            let block = vec![b'a'; 1 << 20];
            (0..1024).try_for_each(|_| stdin.write_all(&block))
        });
        child.wait_with_output().unwrap()
    });
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("longer than"), "{output:?}");
}

/// Every way to have a file read: `FILE` is the hostile one, `FLOWS` a host's flows.
const READERS: &[&[&str]] = &[
    &["lint", "FILE"],
    &["trace", "FILE", "--in-port", "1", "--packet", "ip"],
    &["trace", "FLOWS", "--in-port", "1", "--pcap", "FILE"],
    &["prove", "FILE"],
    &["prove", "FLOWS", "--intent", "FILE"],
    &["prove", "FLOWS", "--ports", "FILE"],
    &["prove", "FLOWS", "--expect", "FILE"],
    &["compile", "FILE"],
    &["run", "FILE"],
    &["explore", "--flows", "FILE"],
    &["explore", "--flows", "FLOWS", "--intent", "FILE"],
    &["explore", "--cases", "1", "--state", "FILE"],
];

/// Refused by every reader within 400 MB of address space, and without a stack that overflows.
#[track_caller]
fn check_by_all(name: &str, input: &[u8]) {
    let (path, flows) = (scratch(name, input), example("flows.txt"));
    for reader in READERS {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -v 400000 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_flowproof")]);
        command.args(reader.iter().map(|word| match *word {
            "FILE" => path.to_str().unwrap(),
            "FLOWS" => flows.as_str(),
            word => word,
        }));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{reader:?}: {text}");
        assert!(text.contains(name) && text.len() < 10_000, "{reader:?}: {text}");
    }
}

#[test]
fn long_lines_are_refused_by_every_reader() {
    check_by_all("hostile-line", &vec![b'a'; 10 << 20]);
    check_by_all("hostile-quote", &[&b"[\""[..], &vec![b'\\'; 10 << 20]].concat());
}

#[test]
fn nesting_is_refused_by_every_reader() {
    for (name, opening) in
        [("hostile-lists", "["), ("hostile-objects", "{\"ports\":["), ("hostile-calls", "clone(")]
    {
        check_by_all(name, opening.repeat(200_000).as_bytes());
    }
}

/// A record that says that it is four gigabytes long.
#[test]
fn captures_that_lie_about_lengths_are_refused_by_every_reader() {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let header = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, u32::MAX, 1]);
    check_by_all("hostile-classic", &[header, words(&[0, 0, u32::MAX, u32::MAX])].concat());
    let section = words(&[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28]);
    check_by_all("hostile-blocks", &[section, words(&[6, u32::MAX - 3, 0])].concat());
}

#[test]
fn wrapped_flows_need_lenient_and_the_message_says_so() {
    check_refused(&run(&["lint", &example("document.txt")]), &["document.txt:1:", "--lenient"]);
}

#[test]
fn a_closed_input_is_an_empty_one() {
    let output = flowproof().args(["lint", "-"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
