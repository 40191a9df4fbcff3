//! Lines as words with their places.
//!
//! A word is a run of characters without blanks, or anything between double quotes, in which `\"` and `\\` stand for
//! themselves. Invariant: a name that [`quoted`] prints reads back as one word of the same text.

use super::error::ParseError;
use std::fmt::Display;

/// A word and its column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) column: u32,
}

/// The rest of a line, word by word.
#[derive(Debug)]
pub(crate) struct Words<'a> {
    pub(crate) line: u32,
    text: &'a str,
    words: std::collections::VecDeque<Word>,
    /// Where the line ends.
    end: u32,
}

fn column(text: &str, offset: usize) -> u32 {
    let chars = text.get(..offset).unwrap_or(text).chars().count();
    u32::try_from(chars + 1).unwrap_or(u32::MAX)
}

impl<'a> Words<'a> {
    /// The words of a line.
    pub(crate) fn of(line: u32, text: &'a str) -> Result<Self, ParseError> {
        let mut words = std::collections::VecDeque::new();
        let mut chars = text.char_indices().zip(1_u32..).peekable();
        while let Some(((start, first), column)) = chars.next() {
            if first.is_whitespace() {
                continue;
            }
            let mut word = String::new();
            let mut quoted = first == '"';
            if !quoted {
                word.push(first);
            }
            while let Some(((_, c), _)) = chars.next_if(|((_, c), _)| quoted || !c.is_whitespace()) {
                match c {
                    '"' if quoted => {
                        quoted = false;
                        break;
                    }
                    '\\' if quoted => word.extend(chars.next().map(|((_, escaped), _)| escaped)),
                    _ => word.push(c),
                }
            }
            if quoted {
                let rest = text.get(start..).unwrap_or_default();
                return Err(ParseError::new(line, column, rest, "a quotation mark is missing"));
            }
            words.push_back(Word { text: word, column });
        }
        let end = column(text, text.trim_end().len());
        Ok(Self { line, text, words, end })
    }

    /// The next word, if there is one.
    pub(crate) fn next(&mut self) -> Option<Word> {
        self.words.pop_front()
    }

    /// Whether no word is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The next word, if it is such a one.
    pub(crate) fn next_if(&mut self, is: impl FnOnce(&str) -> bool) -> Option<Word> {
        if self.words.front().is_some_and(|next| is(&next.text)) { self.words.pop_front() } else { None }
    }

    /// The next word, if it is this one.
    pub(crate) fn skip(&mut self, word: &str) -> bool {
        let found = self.words.front().is_some_and(|next| next.text == word);
        if found {
            self.words.pop_front();
        }
        found
    }

    /// The next word, which has to be there.
    pub(crate) fn need(&mut self, what: &str) -> Result<Word, ParseError> {
        self.words.pop_front().ok_or_else(|| {
            ParseError::new(self.line, self.end, self.text.trim(), format!("{what} is missing at the end"))
        })
    }

    /// The next word, read as something.
    pub(crate) fn read<T>(
        &mut self,
        what: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, ParseError> {
        let word = self.need(what)?;
        read(&word.text).ok_or_else(|| self.complaint(&word, format!("this is not {what}")))
    }

    /// An error unless the line is at its end.
    pub(crate) fn finish(&mut self) -> Result<(), ParseError> {
        match self.words.pop_front() {
            None => Ok(()),
            Some(word) => Err(self.complaint(&word, "nothing more is expected here")),
        }
    }

    /// What is wrong with a word.
    pub(crate) fn complaint(&self, word: &Word, message: impl Display) -> ParseError {
        ParseError::new(self.line, word.column, &word.text, message.to_string())
    }

    /// What is wrong with the whole line.
    pub(crate) fn whole(&self, message: impl Display) -> ParseError {
        let indent = self.text.len() - self.text.trim_start().len();
        ParseError::new(self.line, column(self.text, indent), self.text.trim(), message.to_string())
    }
}

/// A name as one word: in quotation marks if it would not read back otherwise.
pub(crate) fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:".contains(c);
    if !name.is_empty() && name.chars().all(plain) {
        return name.to_owned();
    }
    let escaped = name.replace('\\', "\\\\").replace('"', "\\\"");
    // A line break cannot be said; nobody names things so.
    format!("\"{}\"", escaped.replace(['\n', '\r'], " "))
}
