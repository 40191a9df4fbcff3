//! A large file whose every line is well: its flows are read by all cores at once.
//!
//! Invariant: what is read is what reading line by line reads. Where anything is wrong, nothing is returned and the
//! input is read again line by line, so that errors are the same, in the same order and up to the same limit.
//! Deliberately absent: wrapped lines and prose (`lenient`), which depend on the lines before them.

use super::file::{FlowFile, MAX_LINE, is_header, is_hidden, mark_len, span, without_comment};
use super::line::{Kinds, flow};
use super::{ParseOptions, action::Names};
use crate::flow::{Flow, lint::Lint};
use memchr::{memchr, memchr_iter};
use rayon::prelude::*;
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// Inputs below so many bytes are read before threads have woken up.
const LARGE: usize = 1 << 16;
/// Lines that are worth waking a thread for.
const BATCH: usize = 256;

/// A line that should be a flow: its number, its offset and what is left of it.
struct Line<'a> {
    number: u32,
    start: usize,
    text: &'a str,
}

/// The lines from `start` on that are neither blank nor headers; nothing where one is too long.
fn lines(text: &str, mut start: usize) -> Option<Vec<Line<'_>>> {
    let mut lines = Vec::with_capacity(text.len() / 128);
    let mut number = 0_u32;
    for end in memchr_iter(b'\n', text.as_bytes()).chain([text.len()]) {
        number = number.saturating_add(1);
        let raw = text.get(start..end).filter(|raw| raw.len() <= MAX_LINE)?;
        let line = without_comment(raw);
        let begun = line.trim_start();
        let text = begun.trim_end();
        if !text.is_empty() && !is_header(text) {
            lines.push(Line { number, start: start + (line.len() - begun.len()), text });
        }
        start = end + 1;
    }
    Some(lines)
}

/// What a large input says, if nothing is wrong with it.
pub(super) fn read(bytes: &[u8], options: &ParseOptions) -> Option<FlowFile> {
    if bytes.len() < LARGE || options.lenient || memchr(0, bytes).is_some() {
        return None;
    }
    let lines = lines(std::str::from_utf8(bytes).ok()?, mark_len(bytes, options))?;
    let names = Names::of(options, None);
    let (failed, remarks) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let one = |line: &Line<'_>| match flow(line.text, names) {
        Ok((mut flow, kinds)) if !is_hidden(&flow, line.text) => {
            flow.span = span(line.number, line.start, line.text);
            if !kinds.is_empty() {
                remarks.lock().unwrap_or_else(PoisonError::into_inner).push((line.number, kinds));
            }
            flow
        }
        _ => {
            failed.store(true, Relaxed);
            Flow::default()
        }
    };
    let flows: Vec<Flow> = lines.par_iter().with_min_len(BATCH).map(one).collect();
    if failed.into_inner() || flows.is_empty() {
        return None;
    }
    let mut remarks: Vec<(u32, Kinds)> = remarks.into_inner().unwrap_or_else(PoisonError::into_inner);
    remarks.sort_by_key(|(line, _)| *line);
    let lints =
        remarks.into_iter().flat_map(|(line, kinds)| kinds.into_iter().map(move |kind| Lint { line, kind }));
    Some(FlowFile { flows, lints: lints.collect(), skipped: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::super::file::line_by_line;
    use super::*;
    use proptest::prelude::*;

    /// Lines that are flows, with and without remarks, and lines that are not.
    const LINES: &[&str] = &[
        "priority=1,actions=drop",
        "  table=3,ip,nw_src=10.0.0.0/8,reg5=7 actions=load:1->NXM_NX_REG0[],resubmit(,5)",
        "cookie=0x1, table=0, n_packets=0, priority=5,in_port=3 actions=NORMAL\r",
        "tcp,tp_dst=80,actions=ct(commit,zone=5,exec(load:1->NXM_NX_CT_MARK[])),output:3",
        "nw_src=10.0.0.1,actions=drop # nw_src needs ip",
        "\u{a0}dl_vlan=3,actions=strip_vlan",
        "# actions=drop",
        "",
        "NXST_FLOW reply (xid=0x4):",
        "OFPST_FLOW_reply actions=drop",
        "table_id=3, duration=1s, priority=2,actions=drop",
        "table_id=254, duration=1s, priority=2,recirc_id=0,actions=drop",
        "add priority=3,ip,actions=drop",
        "delete_strict priority=3,ip",
    ];
    /// Lines that are wrong.
    const WRONG: &[&str] = &["ip,actions=bad", "ip", "é=1,actions=drop", "priority=70000,actions=drop", "\0"];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn many_threads_read_what_one_reads(
            picks in proptest::collection::vec(0..LINES.len(), 200),
            wrong in proptest::collection::vec((0_usize..4000, 0..WRONG.len()), 0..30),
            all_right in any::<bool>(),
            last in any::<bool>(),
        ) {
            let mut lines: Vec<&str> = picks.iter().cycle().take(4000).map(|pick| LINES[*pick]).collect();
            if !all_right {
                wrong.iter().for_each(|(at, which)| lines[*at] = WRONG[*which]);
            }
            let text = lines.join("\n") + if last { "\n" } else { "" };
            let options = ParseOptions::default();
            let expected = line_by_line(text.as_bytes(), &options, None);
            let clean = !picks.iter().any(|pick| [9, 11, 12, 13].contains(pick)) && (all_right || wrong.is_empty());
            prop_assert_eq!(read(text.as_bytes(), &options).is_some(), clean && text.len() >= LARGE);
            prop_assert_eq!(super::super::parse_bytes(text.as_bytes(), &options), expected);
        }
    }
}
