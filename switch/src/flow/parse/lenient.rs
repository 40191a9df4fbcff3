//! Flows in documents: wrapped, quoted, numbered, with prose between them.
//!
//! What it means: a line is a flow, or the beginning of one, if what stands before its actions is what flows have
//! there: items with `=`, known words, separated by commas; a blank-separated word that no flow knows makes it prose,
//! which is listed. Invariant: what begins as a flow and cannot be read is an error, not prose. A flow goes on until
//! it has its actions, and longer where a parenthesis is open or where the line was cut at the width of a terminal.
//! Deliberately absent: guessing at flows inside sentences.
//!
//! Source: dumps in bug reports, mailing lists, job logs and pastebins.

use super::commands::{Command, whole_command};
use super::fault::Fault;
use super::file::{Line, MAX_LINE, Raw, Reader, Said, is_header, mark_len, raw_lines, said, without_comment};
use super::furniture::{self, Clean};
use super::line::split_actions;
use crate::flow::Span;
use crate::flow::names::word;
use std::borrow::Cow;

/// Narrowest window in which a line is taken for cut.
const NARROWEST: usize = 40;
/// Lines that one flow is wrapped over.
const MOST_LINES: usize = 1000;

/// A line of a document.
struct Piece<'a> {
    raw: Raw<'a>,
    /// The line as it stands there, for its errors.
    shown: &'a str,
    /// What the line holds, before it is cleaned.
    source: Cow<'a, str>,
    clean: Clean,
    /// Whether it is as wide as the widest, and so may have been cut.
    full: bool,
}

/// Pieces of a flow put together.
struct Joined {
    text: String,
    /// Where each piece begins.
    starts: Vec<usize>,
}

impl Piece<'_> {
    /// Where in the input its text begins and ends, as far as it still looks as it does there.
    fn extent(&self) -> (usize, usize) {
        let first = self.clean.text.split(' ').next().unwrap_or("");
        let blank = self.shown.find(first).unwrap_or(0);
        let end = without_comment(self.shown).trim_end().len();
        (self.raw.start + blank, self.raw.start + end)
    }
}

/// Whether the line is prose: it has a word of its own that no flow knows.
fn is_prose(head: &str) -> bool {
    let stranger = |chunk: &str| {
        let item = chunk.trim_end_matches(',');
        !item.is_empty() && !item.contains(['=', ',']) && word(item).is_none()
    };
    head.split_whitespace().any(stranger)
}

/// Whether a line begins as a flow does; of one that was `cut` the last word may be half a word.
fn begins_flow(text: &str, cut: bool) -> bool {
    match whole_command(text) {
        Some((Command::Delete { .. }, rest)) => return !is_prose(rest) && !rest.trim().is_empty(),
        Some((_, rest)) => return begins_flow(rest.trim_start(), cut),
        None => {}
    }
    let first = text.split([',', ' ']).next().unwrap_or("");
    let name = first.split(['=', '[']).next().unwrap_or("");
    match split_actions(text) {
        Some((head, _)) if head.trim().is_empty() => text.starts_with("actions=") || said_well(text),
        Some((head, _)) => !is_prose(head),
        None => {
            let whole = if cut { text.rsplit_once(' ').map_or("", |(whole, _)| whole) } else { text };
            first.contains('=') && word(name).is_some() && !is_prose(whole)
        }
    }
}

/// Whether `action=…` alone is a flow: logs say that too.
fn said_well(text: &str) -> bool {
    let none = super::ParseOptions::default();
    said(text, super::action::Names::of(&none, None)).is_ok()
}

/// Whether the actions go on in the next line.
fn goes_on(text: &str) -> bool {
    let open = text.bytes().filter(|b| *b == b'(').count();
    let closed = text.bytes().filter(|b| *b == b')').count();
    text.ends_with([',', '(', '>', '=', ':']) || open > closed
}

fn is_whole(text: &str) -> bool {
    split_actions(text).is_some() && !goes_on(text)
        || matches!(whole_command(text), Some((Command::Delete { .. }, _)))
}

/// A flow's pieces so far, with what they are without marks and the like.
type Pieces<'p, 'a> = Vec<(&'p Piece<'a>, Cow<'p, str>)>;

/// Puts pieces together. Where a line was cut and neither side has a comma or a blank there, the cut is inside a word
/// if the line is as wide as the widest; with `cut` the other way about, if it is not.
fn join(pieces: &[(&Piece<'_>, Cow<'_, str>)], cut: bool) -> Joined {
    let (mut text, mut starts) = (String::new(), Vec::new());
    let mut before: Option<&Piece<'_>> = None;
    for (piece, part) in pieces {
        if let Some(before) = before {
            let apart = part.starts_with("actions=");
            let edge = before.source.ends_with(' ') || before.source.ends_with('\u{a0}');
            if !text.ends_with(',') && (apart || edge || before.full != cut) {
                text.push(' ');
            }
        }
        starts.push(text.len());
        text.push_str(part);
        before = Some(piece);
    }
    Joined { text, starts }
}

/// Reads a document.
pub(super) fn read(reader: &mut Reader<'_>, bytes: &[u8]) {
    let mut pieces = Vec::new();
    for raw in raw_lines(bytes, mark_len(bytes, reader.options)) {
        let Some(shown) = raw.text() else {
            reader.refuse_line(raw.number, raw.bytes);
            return;
        };
        let sources = furniture::lines(shown.trim_end_matches('\r'));
        pieces.extend(sources.into_iter().map(|source| {
            let clean = furniture::clean(without_comment(&source), usize::MAX);
            Piece { raw, shown, source, clean, full: false }
        }));
    }
    let width = widest(&pieces);
    pieces.iter_mut().for_each(|piece| piece.full = Some(piece.source.chars().count()) == width);
    pieces.retain(|piece| !piece.clean.text.is_empty() && !is_header(&piece.clean.text));
    let mut rest = pieces.as_slice();
    while let Some((first, after)) = rest.split_first() {
        if reader.is_full() {
            return;
        }
        if begins_flow(&first.clean.text, first.full) {
            rest = flow(reader, first, after);
        } else {
            reader.skip(first.raw.number, without_comment(first.shown).trim());
            rest = after;
        }
    }
}

/// The width at which lines were cut: that of the widest, where there are two of them or more.
fn widest(pieces: &[Piece<'_>]) -> Option<usize> {
    let widths = || pieces.iter().map(|piece| piece.source.chars().count());
    let width = widths().max().filter(|width| *width >= NARROWEST)?;
    (widths().filter(|other| *other == width).count() >= 2).then_some(width)
}

/// The piece's text as the continuation of a flow: what stands at its ends is none of it only if the flow's first line
/// has such things, and of numbers as many as that line has.
fn continuation<'a>(first: &Piece<'_>, piece: &'a Piece<'_>) -> Cow<'a, str> {
    if first.clean.text == first.clean.framed {
        Cow::Borrowed(&piece.clean.framed)
    } else if piece.clean.numbers <= first.clean.numbers {
        Cow::Borrowed(&piece.clean.text)
    } else {
        Cow::Owned(furniture::clean(without_comment(&piece.source), first.clean.numbers).text)
    }
}

/// Reads the flow that begins with `first`; what follows it.
fn flow<'p, 'a>(reader: &mut Reader<'_>, first: &'p Piece<'a>, after: &'p [Piece<'a>]) -> &'p [Piece<'a>] {
    let mut texts: Pieces<'p, 'a> = vec![(first, Cow::Borrowed(&first.clean.text))];
    let mut rest = after;
    let mut joined = join(&texts, true);
    while let Some((next, after)) = rest.split_first() {
        let whole = is_whole(&joined.text);
        let cut = texts.last().is_some_and(|(last, _)| last.full);
        let text = continuation(first, next);
        let new = text.starts_with("cookie=") || whole && (!cut || begins_flow(&text, next.full));
        if new || texts.len() >= MOST_LINES || joined.text.len() + text.len() >= MAX_LINE {
            break;
        }
        texts.push((next, text));
        let longer = join(&texts, true);
        if whole && said(&longer.text, reader.names()).is_err() {
            texts.pop();
            break;
        }
        (joined, rest) = (longer, after);
    }
    close(reader, &texts, joined);
    rest
}

/// Reads the pieces of a flow: as they were most likely cut, or else the other way.
fn close(reader: &mut Reader<'_>, texts: &[(&Piece<'_>, Cow<'_, str>)], joined: Joined) {
    let other = join(texts, false);
    let names = reader.names();
    match (said(&joined.text, names), said(&other.text, names)) {
        (Ok(read), _) => keep(reader, texts, read, &joined),
        (Err(_), Ok(read)) => keep(reader, texts, read, &other),
        (Err(fault), Err(_)) => complain(reader, texts, &joined, &fault),
    }
}

fn keep(reader: &mut Reader<'_>, texts: &[(&Piece<'_>, Cow<'_, str>)], read: Said, joined: &Joined) {
    let (Some((first, _)), Some((last, _))) = (texts.first(), texts.last()) else { return };
    let (start, _) = first.extent();
    let (_, end) = last.extent();
    let span = Span { line: first.raw.number, start, end };
    if let Err(message) = reader.take(read, span, &joined.text) {
        let line = Line { number: first.raw.number, start: first.raw.start, indent: 0, text: first.shown };
        reader.complain(line, 0, &joined.text, message);
    }
}

/// An error in the line in which its text stands.
fn complain(
    reader: &mut Reader<'_>,
    texts: &[(&Piece<'_>, Cow<'_, str>)],
    joined: &Joined,
    fault: &Fault<'_>,
) {
    let offset = (fault.at.as_ptr() as usize).saturating_sub(joined.text.as_ptr() as usize);
    let at = joined.starts.iter().rposition(|start| *start <= offset).unwrap_or(0);
    let Some((piece, _)) = texts.get(at) else { return };
    let line = Line { number: piece.raw.number, start: piece.raw.start, indent: 0, text: piece.shown };
    let offset = piece.shown.find(fault.at).unwrap_or(0);
    reader.complain(line, offset, fault.at, fault.message.clone().into_owned());
}
