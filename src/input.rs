//! Reading files and standard input, within bounds.
//!
//! Invariant: memory stays bounded whatever the input is, and text that comes out holds no control characters but
//! tabs and line ends, so that quoting it in a message cannot disturb a terminal.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Bytes a line may have. The longest flow that OpenFlow can carry is 64 KiB, and its text some ten times that.
const LONGEST_LINE: usize = 1 << 20;
/// Bytes an input may have; four million flows fit.
const LARGEST_INPUT: u64 = 1 << 30;

/// Why an input could not be read.
#[derive(Debug, Error)]
pub(crate) enum InputError {
    /// The operating system refused.
    #[error("{name}: {}", plain(.source))]
    Io {
        /// The file.
        name: String,
        /// Its reason.
        source: io::Error,
    },
    /// Larger than we are willing to hold.
    #[error("{name}: larger than {} MiB", LARGEST_INPUT >> 20)]
    TooLarge {
        /// The file.
        name: String,
    },
    /// A line that no flow can have.
    #[error("{name}:{line}:{LONGEST_LINE}: line longer than {} KiB: `{start}…`", LONGEST_LINE >> 10)]
    LongLine {
        /// The file.
        name: String,
        /// The line, from 1.
        line: usize,
        /// How the line begins.
        start: String,
    },
    /// A byte that is no part of a text.
    #[error("{name}:{line}:{column}: byte `0x{byte:02x}` after `{before}` is not text")]
    NotText {
        /// The file.
        name: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// The byte.
        byte: u8,
        /// What stands before it on its line.
        before: String,
    },
}

/// The operating system's message as other tools print it, without the number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// Whether `path` means standard input.
pub(crate) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The name of an input in messages and reports.
pub(crate) fn name(path: &Path) -> String {
    if is_stdin(path) { "<stdin>".to_owned() } else { path.display().to_string() }
}

fn open(path: &Path) -> Result<Box<dyn Read>, InputError> {
    if is_stdin(path) {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path).map_err(|source| InputError::Io { name: name(path), source })?;
    Ok(Box::new(file))
}

/// All bytes of a file or of standard input.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, InputError> {
    let mut bytes = Vec::new();
    let read = open(path)?.take(LARGEST_INPUT + 1).read_to_end(&mut bytes);
    read.map_err(|source| InputError::Io { name: name(path), source })?;
    if bytes.len() as u64 > LARGEST_INPUT {
        return Err(InputError::TooLarge { name: name(path) });
    }
    Ok(bytes)
}

/// The text of a file or of standard input.
pub(crate) fn read_text(path: &Path) -> Result<String, InputError> {
    text_of(BufReader::with_capacity(1 << 16, open(path)?), &name(path))
}

fn text_of(mut reader: impl BufRead, name: &str) -> Result<String, InputError> {
    let mut bytes: Vec<u8> = Vec::new();
    let (mut line, mut line_start) = (1, 0);
    loop {
        let chunk = match reader.fill_buf() {
            Ok([]) => return checked(bytes, name),
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(InputError::Io { name: name.to_owned(), source }),
        };
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            bytes.extend_from_slice(piece);
            if bytes.len() - line_start > LONGEST_LINE {
                let start = bytes.get(line_start..line_start + 64).unwrap_or_default();
                let start = excerpt(&String::from_utf8_lossy(start));
                return Err(InputError::LongLine { name: name.to_owned(), line, start });
            }
            if piece.ends_with(b"\n") {
                (line, line_start) = (line + 1, bytes.len());
            }
        }
        if bytes.len() as u64 > LARGEST_INPUT {
            return Err(InputError::TooLarge { name: name.to_owned() });
        }
        let length = chunk.len();
        reader.consume(length);
    }
}

/// `bytes` as text, or a complaint about the first byte that is none.
fn checked(bytes: Vec<u8>, name: &str) -> Result<String, InputError> {
    let is_control = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\n' | b'\r' | b'\t');
    match String::from_utf8(bytes) {
        Ok(text) => match text.as_bytes().iter().position(is_control) {
            None => Ok(text),
            Some(at) => Err(not_text(text.as_bytes(), at, name)),
        },
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let at = error.as_bytes().iter().take(valid).position(is_control).unwrap_or(valid);
            Err(not_text(error.as_bytes(), at, name))
        }
    }
}

fn not_text(bytes: &[u8], at: usize, name: &str) -> InputError {
    let before = bytes.get(..at).map(String::from_utf8_lossy).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    let length = line.chars().count();
    InputError::NotText {
        name: name.to_owned(),
        line: 1 + before.matches('\n').count(),
        column: 1 + length,
        byte: bytes.get(at).copied().unwrap_or_default(),
        before: excerpt(&line.chars().skip(length.saturating_sub(EXCERPT)).collect::<String>()),
    }
}

/// Characters of an excerpt in a message.
const EXCERPT: usize = 48;

/// At most the first characters of `text`, printable.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Whether standard input is asked for more than once: it can be read only once.
pub(crate) fn stdin_twice<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> bool {
    paths.into_iter().filter(|path| is_stdin(path)).count() > 1
}
