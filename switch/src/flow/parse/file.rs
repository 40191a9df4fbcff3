//! A whole file: lines, their places, what is joined and what is passed over.

use super::action::Names;
use super::commands::{self, Command, command};
use super::fault::{Fault, Parsed};
use super::line::{Change, Criteria, NO_ACTIONS, change, criteria};
use super::unknown::Unknown;
use super::{Era, ParseOptions, lenient, parallel};
use crate::flow::lint::Lint;
use crate::flow::{Flow, Match, Span};
use memchr::{memchr, memchr_iter};
use std::fmt;
use std::io::{self, Read};

/// Longest line that is looked at, in bytes.
pub(super) const MAX_LINE: usize = 1 << 20;
/// Largest input that [`parse_reader`] takes, in bytes.
pub(super) const MAX_INPUT: usize = 1 << 28;
/// Errors that are collected before reading stops.
const MAX_ERRORS: usize = 20;
/// Characters of offending text that an error repeats.
const MAX_QUOTE: usize = 80;

/// What a file of flows says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowFile {
    /// The flows, in the order of the file.
    pub flows: Vec<Flow>,
    /// Remarks about them.
    pub lints: Vec<Lint>,
    /// Lines that were passed over as prose, with their numbers.
    pub skipped: Vec<(u32, String)>,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}: `{text}`")]
pub struct ParseError {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// The offending text, shortened if it is long.
    pub text: String,
    /// What is wrong with it.
    pub message: String,
}

/// Everything that is wrong with an input, up to a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ParseErrors {
    /// The errors, in the order of the file; at least one.
    pub errors: Vec<ParseError>,
    /// Whether there may be more.
    pub truncated: bool,
    /// Whether `--lenient` might help.
    pub try_lenient: bool,
}

impl fmt::Display for ParseErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.errors.iter().enumerate() {
            write!(f, "{}{error}", if n == 0 { "" } else { "\n" })?;
        }
        if self.truncated {
            f.write_str("\nmore errors follow")?;
        }
        if self.try_lenient {
            f.write_str("\nsome lines are no flows, or flows are wrapped: `--lenient` joins them and passes over prose")?;
        }
        Ok(())
    }
}

/// A line of the input, without its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    pub(super) number: u32,
    pub(super) start: usize,
    /// Characters before `text` on the same line.
    pub(super) indent: usize,
    pub(super) text: &'a str,
}

pub(super) struct Reader<'o> {
    pub(super) options: &'o ParseOptions,
    unknown: Option<&'o Unknown>,
    file: FlowFile,
    errors: ParseErrors,
    /// Flows that commands were held against.
    work: usize,
}

fn quote(text: &str) -> String {
    let short: String = text.chars().take(MAX_QUOTE).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

/// What one line says.
pub(super) enum Said {
    /// There is this flow.
    Add(Change),
    /// Flows that are there get other actions.
    Modify {
        /// Which, and what they do then.
        change: Change,
        /// Only the flow with this match and priority.
        strict: bool,
    },
    /// Flows go.
    Delete {
        /// Which.
        criteria: Criteria,
        /// Only the flow with this match and priority.
        strict: bool,
    },
}

/// Reads a line that is a flow, with or without a command before it.
pub(super) fn said<'a>(text: &'a str, names: Names<'_>) -> Parsed<'a, Said> {
    match command(text) {
        None => change(text, names, false).map(Said::Add),
        Some((Command::Add, rest)) => change(rest, names, false).map(Said::Add),
        Some((Command::Modify { strict }, rest)) => {
            Ok(Said::Modify { change: change(rest, names, true)?, strict })
        }
        Some((Command::Delete { strict }, rest)) => {
            Ok(Said::Delete { criteria: criteria(rest, names, strict)?, strict })
        }
    }
}

/// The part of a line before a comment.
pub(super) fn without_comment(text: &str) -> &str {
    memchr(b'#', text.as_bytes()).and_then(|at| text.get(..at)).unwrap_or(text)
}

/// `NXST_FLOW reply (xid=0x4):` and its kin.
pub(super) fn is_header(text: &str) -> bool {
    let after = text.strip_prefix("NXST_FLOW").or_else(|| text.strip_prefix("OFPST_FLOW"));
    after.is_some_and(|after| (after.is_empty() || after.starts_with(' ')) && text.contains("reply"))
}

/// The place of a flow that is not wrapped.
pub(super) const fn span(line: u32, start: usize, text: &str) -> Span {
    Span { line, start, end: start + text.len() }
}

/// Bytes of the mark with which some editors begin a file.
pub(super) fn mark_len(bytes: &[u8], options: &ParseOptions) -> usize {
    const MARK: &[u8] = "\u{feff}".as_bytes();
    if options.era == Era::Any && bytes.starts_with(MARK) { MARK.len() } else { 0 }
}

/// Whether the flow is one of the switch's own, which `bridge/dump-flows` prints and `dump-flows` does not.
pub(super) fn is_hidden(flow: &Flow, text: &str) -> bool {
    const INTERNAL: u8 = 254;
    flow.table == INTERNAL && text.contains("table_id=")
}

impl<'o> Reader<'o> {
    pub(super) const fn new(options: &'o ParseOptions, unknown: Option<&'o Unknown>) -> Self {
        let errors = ParseErrors { errors: Vec::new(), truncated: false, try_lenient: false };
        let file = FlowFile { flows: Vec::new(), lints: Vec::new(), skipped: Vec::new() };
        Self { options, unknown, file, errors, work: 0 }
    }

    pub(super) const fn names(&self) -> Names<'o> {
        Names::of(self.options, self.unknown)
    }

    pub(super) fn complain(&mut self, line: Line<'_>, offset: usize, text: &str, message: String) {
        if self.errors.errors.len() >= MAX_ERRORS {
            self.errors.truncated = true;
            return;
        }
        let before = line.text.get(..offset).unwrap_or("");
        let column =
            u32::try_from(line.indent + before.chars().count()).unwrap_or(u32::MAX).saturating_add(1);
        self.errors.errors.push(ParseError { line: line.number, column, text: quote(text), message });
    }

    pub(super) const fn is_full(&self) -> bool {
        self.errors.truncated
    }

    /// Keeps what a line says.
    pub(super) fn take(&mut self, said: Said, span: Span, text: &str) -> Result<(), String> {
        match said {
            Said::Add(change) => self.add(change, span, text),
            Said::Modify { change, strict } => {
                self.work(&change.flow.matching)?;
                let changed = commands::modify(&mut self.file.flows, change, strict);
                if let Some(change) =
                    changed.map_err(|table| format!("goto_table must go to a table above {table}"))?
                {
                    self.add(change, span, text);
                }
            }
            Said::Delete { criteria, strict } => {
                self.work(&criteria.matching)?;
                let gone = commands::delete(&mut self.file.flows, &criteria, strict);
                self.file.lints.retain(|lint| !gone.contains(&lint.line));
            }
        }
        Ok(())
    }

    fn add(&mut self, Change { mut flow, kinds, .. }: Change, span: Span, text: &str) {
        if is_hidden(&flow, text) {
            return self.skip(span.line, text);
        }
        flow.span = span;
        self.file.flows.push(flow);
        self.file.lints.extend(kinds.into_iter().map(|kind| Lint { line: span.line, kind }));
    }

    /// Each command looks at all flows so far: a bound on that.
    fn work(&mut self, wanted: &Match) -> Result<(), String> {
        const MOST: usize = 1 << 31;
        let parts = wanted.words().len() + 1;
        self.work = self.work.saturating_add(self.file.flows.len().saturating_mul(parts));
        if self.work > MOST { Err("too many commands for so many flows".to_owned()) } else { Ok(()) }
    }

    /// Lists a line that was passed over.
    pub(super) fn skip(&mut self, line: u32, text: &str) {
        self.file.skipped.push((line, text.to_owned()));
    }

    fn fail(&mut self, line: Line<'_>, fault: &Fault<'_>) {
        let offset = (fault.at.as_ptr() as usize).saturating_sub(line.text.as_ptr() as usize);
        if fault.message == NO_ACTIONS {
            self.errors.try_lenient = !self.options.lenient;
        }
        self.complain(line, offset, fault.at, fault.message.clone().into_owned());
    }

    fn line(&mut self, number: u32, start: usize, raw: &str) {
        let text = without_comment(raw);
        let blank = text.len() - text.trim_start().len();
        let indent = text.get(..blank).map_or(0, |blank| blank.chars().count());
        let line = Line { number, start: start + blank, indent, text: text.trim() };
        if line.text.is_empty() || is_header(line.text) {
            return;
        }
        match said(line.text, self.names()) {
            Ok(said) => {
                if let Err(message) = self.take(said, span(number, line.start, line.text), line.text) {
                    self.complain(line, 0, line.text, message);
                }
            }
            Err(fault) => self.fail(line, &fault),
        }
    }

    pub(super) fn refuse_line(&mut self, number: u32, bytes: &[u8]) {
        let (offset, message) = match bytes.iter().position(|b| *b == 0) {
            _ if bytes.len() > MAX_LINE => (MAX_LINE, format!("line longer than {MAX_LINE} bytes")),
            Some(at) => (at, "NUL byte: this is not flow text".to_owned()),
            None => (
                std::str::from_utf8(bytes).map_or_else(|e| e.valid_up_to(), str::len),
                "invalid UTF-8".to_owned(),
            ),
        };
        let before = String::from_utf8_lossy(bytes.get(..offset).unwrap_or(bytes)).into_owned();
        let rest = bytes.get(offset..).unwrap_or_default();
        let rest = String::from_utf8_lossy(rest.get(..16).unwrap_or(rest)).into_owned();
        let line = Line { number, start: 0, indent: 0, text: &before };
        self.complain(line, before.len(), rest.trim_end_matches('\0'), message);
    }

    pub(super) fn finish(mut self) -> Result<FlowFile, ParseErrors> {
        if self.errors.errors.is_empty() && self.file.flows.is_empty() {
            let line = Line { number: 1, start: 0, indent: 0, text: "" };
            self.complain(line, 0, "", "no flow in the input".to_owned());
        }
        if self.errors.errors.is_empty() { Ok(self.file) } else { Err(self.errors) }
    }
}

/// Reads flows from text.
///
/// # Errors
/// Everything that is wrong with it, up to a limit.
pub fn parse_flows(text: &str, options: &ParseOptions) -> Result<FlowFile, ParseErrors> {
    parse_bytes(text.as_bytes(), options)
}

/// Reads flows from bytes, which need not be text.
///
/// # Errors
/// Everything that is wrong with them, up to a limit.
pub fn parse_bytes(bytes: &[u8], options: &ParseOptions) -> Result<FlowFile, ParseErrors> {
    parallel::read(bytes, options).map_or_else(|| line_by_line(bytes, options, None), Ok)
}

/// [`parse_bytes`] for any input: one line after the other; names that nobody knows are kept in `unknown`.
pub(super) fn line_by_line(
    bytes: &[u8],
    options: &ParseOptions,
    unknown: Option<&Unknown>,
) -> Result<FlowFile, ParseErrors> {
    let mut reader = Reader::new(options, unknown);
    if options.lenient {
        lenient::read(&mut reader, bytes);
        return reader.finish();
    }
    for raw in raw_lines(bytes, mark_len(bytes, options)) {
        match raw.text() {
            Some(text) => reader.line(raw.number, raw.start, text),
            None => reader.refuse_line(raw.number, raw.bytes),
        }
        if reader.is_full() {
            break;
        }
    }
    reader.finish()
}

/// A line as it stands in the input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<'a> {
    /// Its number, from 1.
    pub(super) number: u32,
    /// Its offset.
    pub(super) start: usize,
    /// The line, without its end.
    pub(super) bytes: &'a [u8],
}

impl<'a> Raw<'a> {
    /// The line as text; nothing where it cannot be.
    pub(super) fn text(self) -> Option<&'a str> {
        let text = std::str::from_utf8(self.bytes).ok()?;
        (text.len() <= MAX_LINE && memchr(0, text.as_bytes()).is_none()).then_some(text)
    }
}

/// The lines of an input from `start` on.
pub(super) fn raw_lines(bytes: &[u8], mut start: usize) -> impl Iterator<Item = Raw<'_>> {
    let (mark, mut number) = (start, 0_u32);
    let ends = memchr_iter(b'\n', bytes.get(start..).unwrap_or_default()).map(move |at| mark + at + 1);
    ends.chain([bytes.len()]).filter_map(move |end| {
        let line = bytes.get(start..end).filter(|line| !line.is_empty())?;
        number = number.saturating_add(1);
        let raw = Raw { number, start, bytes: line.strip_suffix(b"\n").unwrap_or(line) };
        start = end;
        Some(raw)
    })
}

/// Reads flows from a stream, and stops early where it is too large to be flow text.
///
/// # Errors
/// What the stream says, or everything that is wrong with the text.
pub fn parse_reader(input: impl Read, options: &ParseOptions) -> io::Result<Result<FlowFile, ParseErrors>> {
    Ok(read_text(input)?.and_then(|bytes| parse_bytes(&bytes, options)))
}

/// The bytes of a stream, for [`parse_bytes`]: no more of them than show that it is too large to be flow text.
///
/// # Errors
/// What the stream says, or that it is too large.
pub fn read_text(mut input: impl Read) -> io::Result<Result<Vec<u8>, ParseErrors>> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 1 << 16];
    let mut line_start = 0;
    loop {
        let count = input.read(&mut chunk)?;
        let Some(new) = chunk.get(..count).filter(|new| !new.is_empty()) else { break };
        let before = bytes.len();
        bytes.extend_from_slice(new);
        if let Some(at) = new.iter().rposition(|b| *b == b'\n') {
            line_start = before + at + 1;
        }
        // What has been read shows the error; the rest is not needed.
        if bytes.len() - line_start > MAX_LINE {
            break;
        }
        if bytes.len() > MAX_INPUT {
            let message = format!("input larger than {MAX_INPUT} bytes");
            let error = ParseError { line: 1, column: 1, text: String::new(), message };
            return Ok(Err(ParseErrors { errors: vec![error], truncated: true, try_lenient: false }));
        }
    }
    Ok(Ok(bytes))
}
