//! A whole file: lines, their places, what is joined and what is passed over.

use super::action::Names;
use super::fault::Fault;
use super::line::{NO_ACTIONS, flow, split_actions};
use super::{ParseOptions, PortNames, parallel};
use crate::flow::lint::Lint;
use crate::flow::names::word;
use crate::flow::{Flow, Span};
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
struct Line<'a> {
    number: u32,
    start: usize,
    /// Characters before `text` on the same line.
    indent: usize,
    text: &'a str,
}

/// A flow that is wrapped over several lines.
struct Wrapped<'a> {
    text: String,
    /// Where in `text` each line begins.
    pieces: Vec<(usize, Line<'a>)>,
}

struct Reader<'o, 'a> {
    options: &'o ParseOptions,
    file: FlowFile,
    errors: ParseErrors,
    wrapped: Option<Wrapped<'a>>,
}

fn quote(text: &str) -> String {
    let short: String = text.chars().take(MAX_QUOTE).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
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

/// Whether the line begins as a flow does: a keyword with a value.
fn begins_flow(text: &str) -> bool {
    let first = text.split([',', ' ', '\t']).next().unwrap_or("");
    let name = first.split(['=', '[']).next().unwrap_or("");
    first.contains('=') && word(name).is_some()
        || text.starts_with("actions=")
        || split_actions(text).is_some()
}

/// Whether the actions go on in the next line.
fn goes_on(text: &str) -> bool {
    let open = text.bytes().filter(|b| *b == b'(').count();
    let closed = text.bytes().filter(|b| *b == b')').count();
    text.ends_with([',', '(', '>', '=']) || open > closed
}

impl<'a> Wrapped<'a> {
    fn start(line: Line<'a>) -> Self {
        Self { text: line.text.to_owned(), pieces: vec![(0, line)] }
    }

    fn push(&mut self, line: Line<'a>) {
        self.text.push(' ');
        self.pieces.push((self.text.len(), line));
        self.text.push_str(line.text);
    }

    /// The line and the offset in it of an offset in the joined text.
    fn place(&self, offset: usize) -> Option<(Line<'a>, usize)> {
        let (start, line) = self.pieces.iter().rev().find(|(start, _)| *start <= offset)?;
        Some((*line, offset - start))
    }

    fn span(&self) -> Span {
        let first = self.pieces.first().map(|(_, line)| *line);
        let last = self.pieces.last().map(|(_, line)| *line);
        let end = last.map_or(0, |line| line.start + line.text.len());
        first.map_or_else(Span::default, |line| Span { line: line.number, start: line.start, end })
    }
}

impl<'a> Reader<'_, 'a> {
    fn names(&self) -> Names<'_> {
        Names { ports: PortNames { known: &self.options.ports }, tables: &self.options.tables }
    }

    fn complain(&mut self, line: Line<'_>, offset: usize, text: &str, message: String) {
        if self.errors.errors.len() >= MAX_ERRORS {
            self.errors.truncated = true;
            return;
        }
        let before = line.text.get(..offset).unwrap_or("");
        let column =
            u32::try_from(line.indent + before.chars().count()).unwrap_or(u32::MAX).saturating_add(1);
        self.errors.errors.push(ParseError { line: line.number, column, text: quote(text), message });
    }

    fn is_full(&self) -> bool {
        self.errors.truncated
    }

    fn add(&mut self, mut flow: Flow, kinds: super::line::Kinds, span: Span) {
        flow.span = span;
        self.file.flows.push(flow);
        self.file.lints.extend(kinds.into_iter().map(|kind| Lint { line: span.line, kind }));
    }

    fn fail(&mut self, line: Line<'_>, base: &str, fault: &Fault<'_>) {
        let offset = (fault.at.as_ptr() as usize).saturating_sub(base.as_ptr() as usize);
        if fault.message == NO_ACTIONS {
            self.errors.try_lenient = !self.options.lenient;
        }
        self.complain(line, offset, fault.at, fault.message.clone().into_owned());
    }

    fn flow_line(&mut self, line: Line<'_>) {
        let era = self.options.era;
        match flow(line.text, self.names(), era) {
            Ok((flow, kinds)) => {
                self.add(flow, kinds, span(line.number, line.start, line.text));
            }
            Err(fault) => self.fail(line, line.text, &fault),
        }
    }

    fn close_wrapped(&mut self) {
        let Some(wrapped) = self.wrapped.take() else { return };
        match flow(&wrapped.text, self.names(), self.options.era) {
            Ok((flow, kinds)) => self.add(flow, kinds, wrapped.span()),
            Err(fault) => {
                let offset = (fault.at.as_ptr() as usize).saturating_sub(wrapped.text.as_ptr() as usize);
                if let Some((line, offset)) = wrapped.place(offset) {
                    self.complain(line, offset, fault.at, fault.message.into_owned());
                }
            }
        }
    }

    fn line(&mut self, number: u32, start: usize, raw: &'a str) {
        let text = without_comment(raw);
        let blank = text.len() - text.trim_start().len();
        let indent = text.get(..blank).map_or(0, |blank| blank.chars().count());
        let line = Line { number, start: start + blank, indent, text: text.trim() };
        if line.text.is_empty() || is_header(line.text) {
            return;
        }
        if self.options.lenient {
            self.lenient_line(line);
        } else {
            self.flow_line(line);
        }
    }

    /// A wrapped flow begins with a keyword and lacks actions; it goes on in the next line that is not blank, not a
    /// comment, and not the beginning of a flow with a cookie of its own.
    fn lenient_line(&mut self, line: Line<'a>) {
        if let Some(wrapped) = &mut self.wrapped {
            let fits = wrapped.text.len() + line.text.len() < MAX_LINE;
            if fits && !line.text.starts_with("cookie=") {
                wrapped.push(line);
                if split_actions(&wrapped.text).is_some() && !goes_on(&wrapped.text) {
                    self.close_wrapped();
                }
                return;
            }
            self.close_wrapped();
        }
        if !begins_flow(line.text) {
            self.file.skipped.push((line.number, line.text.to_owned()));
        } else if split_actions(line.text).is_none() || goes_on(line.text) {
            self.wrapped = Some(Wrapped::start(line));
        } else {
            self.flow_line(line);
        }
    }

    fn refuse_line(&mut self, number: u32, bytes: &[u8]) {
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

    fn finish(mut self) -> Result<FlowFile, ParseErrors> {
        self.close_wrapped();
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
    parallel::read(bytes, options).map_or_else(|| line_by_line(bytes, options), Ok)
}

/// [`parse_bytes`] for any input: one line after the other.
pub(super) fn line_by_line(bytes: &[u8], options: &ParseOptions) -> Result<FlowFile, ParseErrors> {
    let errors = ParseErrors { errors: Vec::new(), truncated: false, try_lenient: false };
    let mut reader = Reader { options, file: FlowFile::default(), errors, wrapped: None };
    let (mut start, mut number) = (0, 0_u32);
    let ends = memchr_iter(b'\n', bytes).map(|at| at + 1);
    for end in ends.chain([bytes.len()]) {
        let Some(line) = bytes.get(start..end).filter(|line| !line.is_empty()) else { continue };
        number = number.saturating_add(1);
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        match std::str::from_utf8(text) {
            Ok(text) if text.len() <= MAX_LINE && memchr(0, text.as_bytes()).is_none() => {
                reader.line(number, start, text)
            }
            _ => reader.refuse_line(number, text),
        }
        if reader.is_full() {
            break;
        }
        start += line.len();
    }
    reader.finish()
}

/// Reads flows from a stream, and stops early where it is too large to be flow text.
///
/// # Errors
/// What the stream says, or everything that is wrong with the text.
pub fn parse_reader(
    mut input: impl Read,
    options: &ParseOptions,
) -> io::Result<Result<FlowFile, ParseErrors>> {
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
    Ok(parse_bytes(&bytes, options))
}
