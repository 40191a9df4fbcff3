//! What stands around flows in mails, logs, web pages and pastes, and is none of theirs.
//!
//! What it means: [`clean`] takes away escape sequences, entities, tags, odd blanks, and at both ends of a line quote
//! marks, bullets, line numbers, time stamps and quotes. Invariant: what is taken away is never part of a flow: a
//! flow has no `<`, no escape sequence and no control character, and begins with a letter. Deliberately absent:
//! words of prose before a flow on the same line; such a line is prose.
//!
//! Source: dumps in bug reports, mailing lists, job logs and pastebins.

use std::borrow::Cow;

/// A line without what is not its own.
#[derive(Clone, Debug)]
pub(super) struct Clean {
    /// What is left.
    pub(super) text: String,
    /// The line with everything that stands at its ends.
    pub(super) framed: String,
    /// How many numbers, dates and times stood before it.
    pub(super) numbers: usize,
}

/// Entities with names that flows can need.
const ENTITIES: &[(&str, char)] =
    &[("gt", '>'), ("lt", '<'), ("amp", '&'), ("quot", '"'), ("apos", '\''), ("nbsp", ' ')];
/// Longest entity that is looked for.
const LONGEST_ENTITY: usize = 10;
/// What may stand before a flow, one after the other.
const MARKS: &[char] = &['>', '|', '*', '•', '·', '◦', '–', '—', '`', '"', '\'', '‘', '“'];
/// What may stand behind a flow.
const END_MARKS: &[char] = &['`', '\'', '’', '”'];
/// Names of months in logs.
const MONTHS: &[&str] = &["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The lines that one line of the input holds: more than one where line ends are written as `\n` in a string.
pub(super) fn lines(raw: &str) -> Vec<Cow<'_, str>> {
    let plain = without_escapes(raw);
    if plain.contains("\\n") && plain.contains("actions=") {
        let parts = plain.split("\\n").filter(|part| !part.trim().is_empty());
        return parts.map(|part| Cow::Owned(part.trim_end_matches("\\r").to_owned())).collect();
    }
    vec![plain]
}

/// The line without what is not its own; at most so many numbers, dates and times before it go.
pub(super) fn clean(line: &str, most: usize) -> Clean {
    let text = without_tags(&entities(&entities(line)));
    let text: String = text.chars().filter_map(blank).collect();
    let text = if text.contains('\\') { unescaped(&text) } else { text };
    let framed = text.trim();
    let (start, numbers) = begin(framed, most);
    Clean { text: end(start).to_owned(), framed: framed.to_owned(), numbers }
}

/// Blanks of all kinds as blanks, and nothing for what has no width.
const fn blank(c: char) -> Option<char> {
    match c {
        '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' => None,
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' | '\t' => Some(' '),
        other => Some(other),
    }
}

/// Without the sequences that colour text on a terminal (ECMA-48: CSI, OSC, and two-byte escapes).
fn without_escapes(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('[') => {
                let _final_byte = chars.find(|c| matches!(c, '\u{40}'..='\u{7e}'));
            }
            Some(']') => {
                let _bell = chars.find(|c| matches!(c, '\u{7}' | '\u{9c}'));
            }
            _ => {}
        }
    }
    Cow::Owned(out)
}

/// `&gt;` and its kin as what they stand for.
fn entities(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let name = after.split_once(';').filter(|(name, _)| name.len() <= LONGEST_ENTITY);
        match name.and_then(|(name, tail)| Some((entity(name)?, tail))) {
            Some((c, tail)) => {
                out.push(c);
                rest = tail;
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn entity(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let hex = number.strip_prefix(['x', 'X']);
        let code = hex.map_or_else(|| number.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok());
        return code.and_then(char::from_u32).filter(|c| !c.is_control());
    }
    ENTITIES.iter().find(|(known, _)| *known == name).map(|(_, c)| *c)
}

/// Without `<br>`, `</span>` and the like; an arrow's `>` has no `<` before it.
fn without_tags(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        out.push_str(before);
        let is_tag = after.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
        match after.split_once('>').filter(|_| is_tag) {
            Some((_, tail)) => rest = tail,
            None => {
                out.push('<');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// A string's `\"`, `\\`, `\t` and `\u003e` as what they stand for.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let rest = chars.as_str();
        let code = rest.strip_prefix('u').and_then(|rest| rest.get(..4));
        match code.and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32) {
            Some(c) => {
                out.push(c);
                chars = rest.get(5..).unwrap_or("").chars();
            }
            None => match chars.next() {
                Some('t' | 'r') => out.push(' '),
                Some(c @ ('"' | '\\' | '/' | '\'')) => out.push(c),
                Some(c) => out.extend(['\\', c]),
                None => out.push('\\'),
            },
        }
    }
    out
}

/// What is left of a line behind quote marks, bullets, numbers and times; and how many numbers and times there were.
fn begin(text: &str, most: usize) -> (&str, usize) {
    let (mut rest, mut numbers) = (text.trim(), 0);
    loop {
        let before = rest;
        rest = rest.trim_start_matches(MARKS).trim_start();
        rest = rest.strip_prefix("- ").or_else(|| rest.strip_prefix("+ ")).unwrap_or(rest).trim_start();
        rest = rest.strip_prefix("u\"").or_else(|| rest.strip_prefix("u'")).unwrap_or(rest).trim_start();
        rest = member(rest).or_else(|| label(rest)).unwrap_or(rest).trim_start();
        if numbers < most
            && let Some(after) = number(rest).or_else(|| log_time(rest))
        {
            (rest, numbers) = (after.trim_start(), numbers + 1);
        }
        if rest == before {
            return (rest, numbers);
        }
    }
}

/// `"stdout": …` before a string.
fn member(text: &str) -> Option<&str> {
    let (name, rest) = text.split_once("\": \"")?;
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_').then_some(rest)
}

/// `controller | …` behind a time: the host that a job's log tells of.
fn label(text: &str) -> Option<&str> {
    let (name, rest) = text.split_once(" | ")?;
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    name.bytes().all(word).then_some(rest)
}

/// A line number, a date or a time, and what follows it: digits and what stands between them, then a blank or a mark.
fn number(text: &str) -> Option<&str> {
    let text = text.strip_prefix('[').unwrap_or(text).trim_start();
    let of_times = |c: char| c.is_ascii_digit() || matches!(c, '-' | ':' | '.' | '/' | '+' | ',' | 'T' | 'Z');
    let end = text.find(|c| !of_times(c)).unwrap_or(text.len());
    let (stamp, rest) = text.split_at_checked(end)?;
    let closed = rest.strip_prefix([']', ')']).unwrap_or(rest);
    let apart = closed.is_empty()
        || closed.starts_with([' ', '|'])
        || stamp.ends_with(':')
        || closed.len() < rest.len();
    // What stands alone on its line may be the end of a line that was cut.
    let more = !closed.trim().is_empty();
    (stamp.starts_with(|c: char| c.is_ascii_digit()) && apart && more).then_some(closed)
}

/// `Nov  1 12:00:01 host ovs[12]: …`
fn log_time(text: &str) -> Option<&str> {
    let after = MONTHS.iter().find_map(|month| text.strip_prefix(month))?;
    let after = number(after.trim_start()).and_then(|after| number(after.trim_start()))?;
    match after.split_once(": ") {
        Some((source, rest)) if source.split_whitespace().count() <= 2 && !source.contains('=') => Some(rest),
        _ => Some(after),
    }
}

/// A line without the end of the string or the quotation that it is.
fn end(text: &str) -> &str {
    let mut text = text.trim_end();
    if text.matches('"').count() % 2 == 1 {
        let bare = text.trim_end_matches([',', ']', '}', ' ']);
        text = bare.strip_suffix('"').unwrap_or(text);
    }
    let bare = text.trim_end_matches([',', ' ']);
    let cut = bare.trim_end_matches(END_MARKS);
    if cut.len() < bare.len() { cut } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: &str = "cookie=0x1, table=0, priority=3,in_port=1 actions=load:0x1->NXM_NX_REG5[]";

    #[track_caller]
    fn check(before: &str, after: &str) {
        let line = format!("{before}{FLOW}{after}");
        let found: Vec<String> = lines(&line).iter().map(|line| clean(line, usize::MAX).text).collect();
        assert_eq!(found, [FLOW], "{line}");
    }

    #[test]
    fn what_stands_around_a_flow_is_taken_away() {
        check("", "");
        check("> ", "");
        check("> > | ", "  ");
        check("- ", "");
        check("* ", "");
        check("     1\t ", "");
        check("12: ", "");
        check("12) ", "");
        check("[12] ", "");
        check("12. ", "");
        check("2026-11-01 12:00:01.123456 |  ", "");
        check("2026-11-01T12:00:01.123Z controller |  ", "");
        check("Nov  1 12:00:01 host ovs[12]: ", "");
        check("    \" ", "\",");
        check("    u' ", "',");
        check("\"stdout\": \"", "\"");
        check("`", "`");
        check("<p>", "</p>");
        check("\u{1b}[01;31m\u{1b}[K", "\u{1b}[m\u{1b}[K");
        check("\u{a0}", "\u{a0}");
        check("\u{feff}", "\r");
    }

    #[test]
    fn entities_and_escapes_are_what_they_stand_for() {
        let text = |line: &str| clean(line, usize::MAX).text;
        for arrow in ["-&gt;", "-&#62;", "-&#x3e;", "-&amp;gt;", "-\\u003e", "->"] {
            assert_eq!(text(&FLOW.replace("->", arrow)), FLOW, "{arrow}");
        }
        assert_eq!(text("\" in_port=\\\"tap1\\\" actions=drop\","), "in_port=\"tap1\" actions=drop");
        assert_eq!(
            text("in_port=\"tap1\" actions=output:\"tap2\""),
            "in_port=\"tap1\" actions=output:\"tap2\""
        );
    }

    #[test]
    fn one_string_may_hold_many_lines() {
        let found: Vec<_> = lines("\"stdout\": \"a=1 actions=drop\\nb=2\\r\\n\"")
            .iter()
            .map(|l| clean(l, usize::MAX).text)
            .collect();
        assert_eq!(found, ["a=1 actions=drop", "b=2", ""]);
    }

    #[test]
    fn the_rest_of_a_word_is_no_line_number() {
        assert_eq!(clean("0 actions=drop", 0).text, "0 actions=drop");
        assert_eq!(clean("  5)", usize::MAX).text, "5)");
        assert_eq!(
            clean("5535,dl_vlan=4095 actions=drop", usize::MAX).text,
            "5535,dl_vlan=4095 actions=drop"
        );
    }
}
